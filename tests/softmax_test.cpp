// SPDX-License-Identifier: MIT
// Softmax: the fixed-point functions against libm, every type against the definition, mistakes. Goldens:
// softmax_data_test.
#include "catch.hpp"
#include "polymac/layer/softmax.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

namespace pm = polymac;
namespace fp = polymac::fixed_point;

static_assert(fp::exp_on_negative_values(0) == std::numeric_limits<std::int32_t>::max());

bool has(const pm::status& s, const std::string& words) {
  return std::string(s.text()).find(words) != std::string::npos;
}

/// The definition, on real values.
std::vector<double> softmax_of(const std::vector<double>& x, double beta) {
  std::vector<double> y;
  double sum = 0;
  const double most = *std::max_element(x.begin(), x.end());
  for (const double v : x) y.push_back(std::exp(beta * (v - most))), sum += y.back();
  for (double& v : y) v /= sum;
  return y;
}

/// Farthest code from the exact one over random rows.
template <class In, class Out>
double farthest(double scale, double beta, std::size_t channels, double unit, double zero) {
  polymac_test::random_source random(31);
  const pm::layer::softmax<In, Out> layer(pm::affine{static_cast<float>(scale), 0}, static_cast<float>(beta));
  double worst = 0;
  for (int row = 0; row < 60; ++row) {
    std::vector<In> x = polymac_test::uniform<In>(random, channels);
    if (row % 4 == 0) std::fill(x.begin(), x.end(), x[0]);
    std::vector<Out> y(channels);
    REQUIRE(layer(pm::matrix_view<const In>(x.data(), 1, channels), pm::matrix_view<Out>(y.data(), 1, channels)).ok());
    std::vector<double> real;
    for (const In v : x) real.push_back(static_cast<double>(static_cast<float>(scale)) * static_cast<double>(v));
    const auto exact = softmax_of(real, static_cast<double>(static_cast<float>(beta)));
    for (std::size_t c = 0; c < channels; ++c) {
      const double code = std::min(exact[c] / unit + zero, static_cast<double>(std::numeric_limits<Out>::max()));
      worst = std::max(worst, std::abs(static_cast<double>(y[c]) - code));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("exp in fixed point") {
  for (std::int64_t a = -(std::int64_t{1} << 31); a <= 0; a += 32749) {
    const double came = fp::exp_on_negative_values(static_cast<std::int32_t>(a)) * 0x1p-31;
    const double exact = std::exp(static_cast<double>(a) * 0x1p-26);
    if (std::abs(came - exact) > 3e-7) {
      CAPTURE(a, came, exact);
      REQUIRE(std::abs(came - exact) <= 3e-7);
    }
  }
  CHECK(fp::exp_on_negative_values(std::numeric_limits<std::int32_t>::min()) == 0);
}

TEST_CASE("the reciprocal in fixed point") {
  for (std::int64_t x = 1 << 19; x < (std::int64_t{1} << 31); x += 65521) {  // 1 and more in Q12.19
    const auto r = fp::reciprocal_of(static_cast<std::int32_t>(x), 12);
    const double came = r.scale * 0x1p-31 * std::exp2(-r.exponent);
    const double exact = 0x1p19 / static_cast<double>(x);
    if (std::abs(came / exact - 1) > 1e-7) {
      CAPTURE(x, came, exact);
      REQUIRE(std::abs(came / exact - 1) <= 1e-7);
    }
  }
}

TEST_CASE("softmax of codes lies within about a code of the exact one") {
  for (const double scale : {0.0146, 0.17, 1.0}) {
    CAPTURE(scale);
    CHECK(farthest<std::int8_t, std::int8_t>(scale, 1.0, 10, 1.0 / 256, -128) <= 0.51);
    CHECK(farthest<std::int8_t, std::int8_t>(scale, 2.0, 3, 1.0 / 256, -128) <= 0.51);
    CHECK(farthest<std::int8_t, std::int16_t>(scale, 1.0, 12, 1.0 / 65536, -32768) <= 1.0);
    // Two tables of 512 lines: the ends of a line are what limits it.
    CHECK(farthest<std::int16_t, std::int16_t>(scale / 64, 1.0, 10, 1.0 / 32768, 0) <= 20.0);
  }
  CHECK(farthest<std::int8_t, std::int8_t>(0.1, 1.0, 1, 1.0 / 256, -128) == 0);
}

TEST_CASE("the longest row of codes") {
  const std::size_t channels = 4095;
  const std::vector<std::int8_t> x(channels, 127);
  std::vector<std::int8_t> y(channels);
  const pm::layer::softmax<std::int8_t> layer(pm::affine{0.1f, 0});
  REQUIRE(layer(pm::matrix_view<const std::int8_t>(x.data(), 1, channels),
                pm::matrix_view<std::int8_t>(y.data(), 1, channels))
              .ok());
  CHECK(std::count(y.begin(), y.end(), std::int8_t{-128}) == 4095);  // 1/4095 rounds to 0
  const std::vector<std::int8_t> more(channels + 1, 0);
  std::vector<std::int8_t> z(channels + 1);
  CHECK(has(layer(pm::matrix_view<const std::int8_t>(more.data(), 1, channels + 1),
                  pm::matrix_view<std::int8_t>(z.data(), 1, channels + 1)),
            "expected at most 4095 channels, got 4096"));
  const std::vector<std::int16_t> wide(65535, 5);
  std::vector<std::int16_t> out(65535);
  const pm::layer::softmax<std::int16_t> wide_layer(pm::affine{0.001f, 0});
  REQUIRE(wide_layer(pm::matrix_view<const std::int16_t>(wide.data(), 1, 65535),
                     pm::matrix_view<std::int16_t>(out.data(), 1, 65535))
              .ok());
  for (const auto v : out) REQUIRE((v == 0 || v == 1));
}

TEST_CASE("extreme input scales") {
  CHECK(farthest<std::int8_t, std::int8_t>(15.0, 1.0, 10, 1.0 / 256, -128) <= 0.51);
  CHECK(farthest<std::int8_t, std::int8_t>(1000.0, 1.0, 10, 1.0 / 256, -128) <= 0.51);
  CHECK(farthest<std::int8_t, std::int8_t>(1e-6, 1.0, 10, 1.0 / 256, -128) <= 0.51);
}

TEST_CASE("softmax of floats") {
  polymac_test::random_source random(32);
  for (const std::size_t channels : {1u, 2u, 7u, 8u, 17u, 33u, 1000u}) {
    std::vector<float> x = polymac_test::uniform<float>(random, 3 * (channels + 2));
    for (float& v : x) v *= 30.0f;
    std::vector<float> y(x.size(), 9.0f);
    const pm::layer::softmax<float> layer(0.5f);
    REQUIRE(layer(pm::matrix_view<const float>(x.data(), 3, channels, channels + 2),
                  pm::matrix_view<float>(y.data(), 3, channels, channels + 2))
                .ok());
    for (std::size_t r = 0; r < 3; ++r) {
      const auto row = x.begin() + static_cast<std::ptrdiff_t>(r * (channels + 2));
      const auto exact = softmax_of(std::vector<double>(row, row + static_cast<std::ptrdiff_t>(channels)), 0.5);
      for (std::size_t c = 0; c < channels; ++c)
        REQUIRE(std::abs(static_cast<double>(y[r * (channels + 2) + c]) - exact[c]) <= 1e-6);
      REQUIRE(y[r * (channels + 2) + channels] == 9.0f);  // between the rows
    }
  }
  // The same value gives the same bits wherever it stands, and large values do not overflow.
  std::vector<float> same(19, 3e38f), out(19);
  REQUIRE(pm::layer::softmax<float>()(pm::matrix_view<const float>(same.data(), 1, 19),
                                      pm::matrix_view<float>(out.data(), 1, 19))
              .ok());
  for (const float v : out) REQUIRE(v == out[0]);
  CHECK(out[0] == Approx(1.0f / 19));
  // In place.
  std::vector<float> place{1.0f, 2.0f, 3.0f};
  REQUIRE(pm::layer::softmax<float>()(pm::matrix_view<const float>(place.data(), 1, 3),
                                      pm::matrix_view<float>(place.data(), 1, 3))
              .ok());
  CHECK(place[2] == Approx(0.66524096f));
}

TEST_CASE("mistakes of softmax are named") {
  const pm::layer::softmax<float> layer;
  std::vector<float> x(6), y(6, 5.0f);
  CHECK(has(layer(pm::matrix_view<const float>(x.data(), 2, 3), pm::matrix_view<float>(y.data(), 3, 2)),
            "expected output of 2 x 1 x 1 x 3, got 3 x 1 x 1 x 2"));
  CHECK(y[0] == 5.0f);
#if POLYMAC_HAS_EXCEPTIONS
  CHECK_THROWS_AS(pm::layer::softmax<float>(std::nanf("")), pm::error);
  CHECK_THROWS_AS(pm::layer::softmax<std::int8_t>(pm::affine{0.0f, 0}), pm::error);
  CHECK_THROWS_AS(pm::layer::softmax<std::int8_t>(pm::affine{0.1f, 0}, -1.0f), pm::error);
  CHECK_THROWS_AS(pm::layer::softmax<std::int8_t>(fp::factor{1 << 30, -1}), pm::error);
  CHECK_THROWS_AS(pm::layer::softmax<std::int8_t>(pm::affine{1e-20f, 0}), pm::error);
#endif
}
