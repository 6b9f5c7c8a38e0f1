// SPDX-License-Identifier: MIT
// The epilogue stages: requantise in every mode and granularity, clamp, activations, dequantise.
#include "polymac/epilogue/requantize.hpp"
#include "catch.hpp"
#include "polymac/epilogue/activation.hpp"
#include "polymac/epilogue/clamp.hpp"
#include "polymac/epilogue/dequantize.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

namespace pm = polymac;
namespace fp = polymac::fixed_point;
using pm::rounding;

// A whole chain in a constant expression, two channels without heap.
constexpr auto chain = pm::requantize(std::array{0.5, 0.25}, -3) | pm::clamp(-3, 100);
static_assert(chain.check(2).ok() && !chain.check(3).ok());
static_assert(chain(5, 0, 0) == 0 && chain(-100, 0, 1) == -3 && chain(1000, 0, 0) == 100);
static_assert(pm::requantize<rounding::fp32_nearest_even, std::uint8_t>(0.5, 128)(3, 0, 7) == 130);
static_assert(std::is_same_v<pm::epilogue::output_of<decltype(chain), std::int32_t>, std::int8_t>);
static_assert((pm::relu | pm::leaky_relu(0.5f))(-2.0f, 0, 0) == 0.0f);

template <rounding Mode>
struct mode {
  static constexpr rounding value = Mode;
};
using modes = std::tuple<mode<rounding::gemmlowp>, mode<rounding::half_up>, mode<rounding::fp32_nearest_even>,
                         mode<rounding::rndnu>>;

/// Wide, then saturated: what the stage has to give.
template <rounding Mode, class Out>
Out expected(std::int32_t sum, double scale, std::int32_t zero_point) {
  std::int64_t y = 0;
  if constexpr (Mode == rounding::fp32_nearest_even) {
    y = static_cast<std::int64_t>(
        std::nearbyint(static_cast<double>(static_cast<float>(sum) * static_cast<float>(scale))));
  } else {
    const fp::factor f = fp::encode<Mode>(scale);
    y = fp::multiply_by_quantized_multiplier<Mode>(sum, f.multiplier, f.shift);
  }
  y += zero_point;
  return static_cast<Out>(
      std::clamp<std::int64_t>(y, std::numeric_limits<Out>::min(), std::numeric_limits<Out>::max()));
}

bool has(const pm::status& s, const std::string& words) {
  return std::string(s.text()).find(words) != std::string::npos;
}

template <rounding Mode, class Out>
void sweep(std::int32_t zero_point) {
  polymac_test::random_source random(11);
  std::vector<double> scales;
  for (int c = 0; c < 37; ++c) scales.push_back(std::exp2(-14.0 + 15.0 * static_cast<double>(random.unit())));
  scales[5] = 0.0;
  scales[6] = 0.5;
  const auto stage = pm::requantize<Mode, Out>(scales, zero_point);
  REQUIRE(stage.check(37).ok());
  for (std::size_t c = 0; c < scales.size(); ++c) {
    const auto one = pm::requantize<Mode, Out>(scales[c], zero_point);
    REQUIRE(one.check(1).ok());
    REQUIRE(one.check(1000).ok());
    // The largest sums whose scaled value still fits 32 bits, and those near the output's range.
    for (int i = 0; i < 400; ++i) {
      const auto sum = static_cast<std::int32_t>(random.integer(-(1 << 28), 1 << 28) >> random.integer(0, 27));
      const Out want = expected<Mode, Out>(sum, scales[c], zero_point);
      if (stage(sum, 3, c) != want || one(sum, 3, c) != want) {
        CAPTURE(sum, c, scales[c], zero_point);
        REQUIRE(int{stage(sum, 3, c)} == int{want});
        REQUIRE(int{one(sum, 3, c)} == int{want});
      }
    }
    if (scales[c] > 0.01) {
      REQUIRE(stage(1 << 28, 0, c) == std::numeric_limits<Out>::max());
      REQUIRE(stage(-(1 << 28), 0, c) == std::numeric_limits<Out>::min());
    }
  }
  REQUIRE(int{stage(1 << 28, 0, 5)} == zero_point);  // a dead channel
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("requantise agrees with the wide computation", "", modes) {
  sweep<TestType::value, std::int8_t>(-128);
  sweep<TestType::value, std::int8_t>(5);
  sweep<TestType::value, std::int8_t>(127);
  sweep<TestType::value, std::uint8_t>(0);
  sweep<TestType::value, std::uint8_t>(255);
  sweep<TestType::value, std::int16_t>(0);
  sweep<TestType::value, std::int16_t>(-32768);
}

TEMPLATE_LIST_TEST_CASE("extreme sums saturate and do not wrap around", "", modes) {
  constexpr auto least = std::numeric_limits<std::int32_t>::min();
  constexpr auto most = std::numeric_limits<std::int32_t>::max();
  for (const std::int32_t zero : {-128, 0, 127}) {
    const auto stage = pm::requantize<TestType::value>(0.999, zero);
    CHECK(stage(most, 0, 0) == 127);
    CHECK(stage(least, 0, 0) == -128);
  }
}

TEMPLATE_LIST_TEST_CASE("fixed-point and real parameters give the same stage", "", modes) {
  const std::vector<std::int32_t> multipliers{1690499128, 1 << 30, 1610612736, 1605286977};
  const std::vector<std::int32_t> shifts{-6, 0, 1, -10};
  std::vector<double> scales;
  for (std::size_t c = 0; c < 4; ++c) scales.push_back(std::ldexp(static_cast<double>(multipliers[c]), shifts[c] - 31));
  const auto fixed = pm::requantize<TestType::value>(multipliers, shifts, 7);
  const auto real = pm::requantize<TestType::value>(scales, 7);
  REQUIRE(fixed.check(4).ok());
  for (std::size_t c = 0; c < 4; ++c)
    for (std::int32_t sum = -3000; sum < 3000; sum += 7) REQUIRE(fixed(sum, 0, c) == real(sum, 0, c));
}

TEST_CASE("64-bit sums") {
  const auto stage = pm::requantize<rounding::gemmlowp, std::int16_t>(std::vector<double>{.0123, .00073}, 0);
  const fp::factor f = fp::quantize_multiplier(.00073);
  for (const std::int64_t sum :
       {std::int64_t{0}, std::int64_t{123456}, std::int64_t{-9876543210}, std::int64_t{1} << 40})
    CHECK(stage(sum, 0, 1) ==
          fp::saturate_cast<std::int16_t>(fp::multiply_by_quantized_multiplier(sum, f.multiplier, f.shift)));
  CHECK(stage(std::numeric_limits<std::int64_t>::max(), 0, 0) == 32767);
  CHECK(stage(std::numeric_limits<std::int64_t>::min(), 0, 0) == -32768);
}

TEST_CASE("one scale can stand for many") {
  const std::array<double, 1> one{0.25};
  const auto stage = pm::epilogue::requantize_stage<>::from_scales(std::span<const double>(one), 1, 9);
  CHECK(stage.check(9).ok());
  CHECK(stage(8, 0, 8) == 3);
  const std::vector<float> floats{0.5f, 0.25f};
  CHECK(pm::requantize(floats, 0)(8, 0, 1) == 2);
}

TEST_CASE("mistakes of requantise are named") {
  const std::vector<double> three{0.5, 0.5, 0.5};
  CHECK(has(pm::requantize(three, 0).check(4), "expected 4 scales, one per column, got 3"));
  CHECK(has(pm::requantize(three, 128).check(3), "zero point in [-128, 127], got 128"));
  CHECK(has(pm::requantize<rounding::gemmlowp, std::uint8_t>(three, -1).check(3), "[0, 255], got -1"));
  for (const double bad :
       {-0.5, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 0x1p30}) {
    std::vector<double> scales{0.5, bad, bad};
    CHECK(has(pm::requantize(scales, 0).check(3), "finite scale in [0, 2^30), channel 1"));
    CHECK(has(pm::requantize<rounding::fp32_nearest_even>(scales, 0).check(3), "channel 1"));
  }
  const std::vector<std::int32_t> m{1 << 30, -1}, s{0, 0}, far{0, 31}, deep{-32, 0}, one{0};
  CHECK(has(pm::requantize(m, s, 0).check(2), "multiplier in [0, 2^31), channel 1"));
  CHECK(has(pm::requantize(s, far, 0).check(2), "shift in [-31, 30], channel 1"));
  CHECK(has(pm::requantize(s, deep, 0).check(2), "shift in [-31, 30], channel 0"));
  CHECK(has(pm::requantize(s, one, 0).check(2), "as many shifts as multipliers"));
  CHECK(pm::requantize(std::vector<double>{}, 0).check(1).code() == pm::errc::shape);
}

TEST_CASE("clamp") {
  const auto stage = pm::clamp(-5, 300);
  CHECK(stage.check(1).ok());
  CHECK(stage(std::int8_t{-128}, 0, 0) == -5);
  CHECK(stage(std::int8_t{127}, 0, 0) == 127);  // 300 is beyond int8
  CHECK(stage(std::int16_t{301}, 0, 0) == 300);
  CHECK(pm::clamp(0.0f, 6.0f)(7.5f, 0, 0) == 6.0f);
  CHECK(has(pm::clamp(3, 2).check(1), "low 3 and high 2"));
  CHECK_FALSE(pm::clamp(0.0f, std::nanf("")).check(1).ok());
}

TEST_CASE("activations") {
  CHECK(pm::relu(-3, 0, 0) == 0);
  CHECK(pm::relu(2.5f, 0, 0) == 2.5f);
  CHECK(pm::relu6(7.0f, 0, 0) == 6.0f);
  CHECK(pm::leaky_relu(0.25f)(-2.0f, 0, 0) == -0.5f);
  CHECK(std::isnan(pm::relu(std::nanf(""), 0, 0)));
  CHECK_FALSE(pm::leaky_relu(std::numeric_limits<float>::infinity()).check(1).ok());
}

TEST_CASE("dequantise") {
  const std::vector<float> scales{0.5f, 0.25f};
  const auto stage = pm::dequantize(scales);
  CHECK(stage.check(2).ok());
  CHECK(has(stage.check(3), "expected 3 scales"));
  CHECK(stage(-3, 0, 1) == -0.75f);
  CHECK(stage(std::int64_t{1} << 40, 0, 0) == 0x1p39f);
  CHECK(pm::dequantize(0.5f)(3, 0, 99) == 1.5f);
  CHECK_FALSE(pm::dequantize(std::nanf("")).check(1).ok());
  CHECK_FALSE(pm::dequantize(-1.0f).check(1).ok());
}
