// SPDX-License-Identifier: MIT
// Layers that map elements: add, mul, quantise, dequantise, rescale, map, pad, mean, concatenate, reshape.
#include "catch.hpp"
#include "polymac/epilogue/activation.hpp"
#include "polymac/epilogue/clamp.hpp"
#include "polymac/epilogue/requantize.hpp"
#include "polymac/layer/add.hpp"
#include "polymac/layer/concatenate.hpp"
#include "polymac/layer/map.hpp"
#include "polymac/layer/mean.hpp"
#include "polymac/layer/mul.hpp"
#include "polymac/layer/pad.hpp"
#include "polymac/layer/quantize.hpp"
#include "polymac/layer/reshape.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

namespace {

namespace pm = polymac;
using polymac_test::random_source;

bool has(const pm::status& s, const std::string& words) {
  return std::string(s.text()).find(words) != std::string::npos;
}

// TFLite's arithmetic, written from its definition with truncating division.
struct tflite_factor {
  std::int64_t multiplier = 0;
  int shift = 0;
};

tflite_factor factor_of(double real) {
  int shift = 0;
  auto m = static_cast<std::int64_t>(std::round(std::frexp(real, &shift) * 2147483648.0));
  if (m == std::int64_t{1} << 31) m /= 2, ++shift;
  return {m, shift};
}

std::int64_t scaled(std::int64_t x, const tflite_factor& f) {
  const std::int64_t left = f.shift > 0 ? std::int64_t{1} << f.shift : 1;
  const std::int64_t product = x * left * f.multiplier;
  const std::int64_t high =
      (product + (product >= 0 ? (std::int64_t{1} << 30) : 1 - (std::int64_t{1} << 30))) / (std::int64_t{1} << 31);
  if (f.shift >= 0) return high;
  const std::int64_t divisor = std::int64_t{1} << -f.shift;
  const std::int64_t magnitude = high < 0 ? -high : high;
  const std::int64_t rounded = (2 * magnitude + divisor) / (2 * divisor);
  return high < 0 ? -rounded : rounded;
}

template <class T>
T limited(std::int64_t v, std::int64_t low = std::numeric_limits<T>::min(),
          std::int64_t high = std::numeric_limits<T>::max()) {
  return static_cast<T>(std::clamp(v, low, high));
}

template <class T>
T added(T a, T b, const pm::affine& qa, const pm::affine& qb, const pm::affine& qy, std::int64_t low,
        std::int64_t high) {
  const int lift = sizeof(T) == 1 ? 20 : 15;
  const double twice = 2 * static_cast<double>(std::max(qa.scale, qb.scale));
  const std::int64_t sa =
      scaled((a - qa.zero_point) * (std::int64_t{1} << lift), factor_of(static_cast<double>(qa.scale) / twice));
  const std::int64_t sb =
      scaled((b - qb.zero_point) * (std::int64_t{1} << lift), factor_of(static_cast<double>(qb.scale) / twice));
  const double out = twice / (std::exp2(lift) * static_cast<double>(qy.scale));
  return limited<T>(scaled(sa + sb, factor_of(out)) + qy.zero_point, low, high);
}

template <class T>
T multiplied(T a, T b, const pm::affine& qa, const pm::affine& qb, const pm::affine& qy) {
  const float real = qa.scale * qb.scale / qy.scale;
  const std::int64_t product = std::int64_t{a - qa.zero_point} * (b - qb.zero_point);
  return limited<T>(scaled(product, factor_of(static_cast<double>(real))) + qy.zero_point);
}

template <class T>
pm::image_view<T> line(std::vector<T>& v) {
  return {v.data(), 1, 1, 1, v.size()};
}
template <class T>
pm::image_view<const T> line(const std::vector<T>& v) {
  return {v.data(), 1, 1, 1, v.size()};
}

constexpr std::array<std::int8_t, 3> added_at_compile_time() {
  const std::array<std::int8_t, 3> a{10, -20, 100}, b{1, 2, 100};
  std::array<std::int8_t, 3> y{};
  const pm::affine q{0.5f, 0};
  const pm::layer::add<std::int8_t> layer(q, q, q);
  static_cast<void>(layer(pm::matrix_view<const std::int8_t>(a.data(), 1, 3),
                          pm::matrix_view<const std::int8_t>(b.data(), 1, 3),
                          pm::matrix_view<std::int8_t>(y.data(), 1, 3)));
  return y;
}
static_assert(added_at_compile_time() == std::array<std::int8_t, 3>{11, -18, 127});

}  // namespace

TEST_CASE("int8 add and mul agree with TFLite's arithmetic for all pairs of codes") {
  std::vector<std::int8_t> a, b;
  for (int i = -128; i < 128; ++i)
    for (int j = -128; j < 128; ++j) a.push_back(static_cast<std::int8_t>(i)), b.push_back(static_cast<std::int8_t>(j));
  const pm::affine quantisations[][3] = {{{0.0393935516f, -128}, {0.104194961f, 4}, {0.0509456731f, -128}},
                                         {{0.1f, 3}, {0.1f, -7}, {0.2f, 0}},
                                         {{1.0f, -128}, {0.003f, 127}, {0.5f, 10}}};
  for (const auto& q : quantisations) {
    std::vector<std::int8_t> sum(a.size()), product(a.size());
    REQUIRE(pm::layer::add<std::int8_t>(q[0], q[1], q[2], {-100, 120})(line(std::as_const(a)), line(std::as_const(b)),
                                                                       line(sum))
                .ok());
    REQUIRE(pm::layer::mul<std::int8_t>(q[0], q[1], q[2])(line(std::as_const(a)), line(std::as_const(b)), line(product))
                .ok());
    for (std::size_t i = 0; i < a.size(); ++i) {
      const auto want_sum = added(a[i], b[i], q[0], q[1], q[2], -100, 120);
      const auto want_product = multiplied(a[i], b[i], q[0], q[1], q[2]);
      if (sum[i] != want_sum || product[i] != want_product) {
        CAPTURE(int{a[i]}, int{b[i]}, q[0].scale);
        REQUIRE(int{sum[i]} == int{want_sum});
        REQUIRE(int{product[i]} == int{want_product});
      }
    }
  }
}

TEMPLATE_TEST_CASE("add and mul of other codes", "", std::uint8_t, std::int16_t) {
  using T = TestType;
  random_source random(41);
  const auto a = polymac_test::uniform<T>(random, 20000), b = polymac_test::uniform<T>(random, 20000);
  std::vector<T> sum(a.size()), product(a.size());
  const bool wide = sizeof(T) == 2;
  const pm::affine qa{wide ? 0.001f : 0.3f, wide ? 0 : 128}, qb{wide ? 0.0007f : 0.2f, wide ? 0 : 3};
  const pm::affine qs{wide ? 0.0015f : 0.45f, wide ? 0 : 77}, qp{wide ? 0.03f : 7.0f, wide ? 0 : 50};
  REQUIRE(pm::layer::add<T>(qa, qb, qs)(line(a), line(b), line(sum)).ok());
  REQUIRE(pm::layer::mul<T>(qa, qb, qp)(line(a), line(b), line(product)).ok());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto low = std::numeric_limits<T>::min();
    const auto high = std::numeric_limits<T>::max();
    REQUIRE(int{sum[i]} == int{added(a[i], b[i], qa, qb, qs, low, high)});
    REQUIRE(int{product[i]} == int{multiplied(a[i], b[i], qa, qb, qp)});
  }
}

TEMPLATE_TEST_CASE("8-bit sums are exact for any quantisation and any length", "", std::int8_t, std::uint8_t) {
  using T = TestType;
  random_source random(43);
  constexpr int low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
  std::vector<T> a, b;
  for (int i = low; i <= high; ++i)
    for (int j = low; j <= high; ++j) a.push_back(static_cast<T>(i)), b.push_back(static_cast<T>(j));
  const auto between = [&random](double least, double most) {
    return least + (most - least) * (static_cast<double>(random.bits() % 65536) / 65536.0);
  };
  const auto zero = [&] { return static_cast<std::int32_t>(between(low, high + 1)); };
  for (int round = 0; round < 12; ++round) {
    const auto scale = [&] { return static_cast<float>(std::exp2(round % 3 == 0 ? -4.0 : between(-7, 2))); };
    const pm::affine qa{scale(), zero()}, qb{scale(), zero()}, qy{scale(), zero()};
    const auto least = static_cast<T>(round % 2 == 0 ? low : qy.zero_point);
    const pm::layer::add<T> layer(qa, qb, qy, {least, static_cast<T>(high)});
    std::vector<T> sum(a.size());
    REQUIRE(layer(line(std::as_const(a)), line(std::as_const(b)), line(sum)).ok());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < a.size(); ++i) wrong += sum[i] != added(a[i], b[i], qa, qb, qy, least, high);
    CAPTURE(qa.scale, qb.scale, qy.scale, qa.zero_point, qb.zero_point, qy.zero_point);
    REQUIRE(wrong == 0);
    // Short lengths, and nothing written behind them.
    for (std::size_t count = 1; count < 140; count += 1 + count / 8) {
      const std::size_t from = 40000 + count;
      std::vector<T> part(count + 1, T{77});
      REQUIRE(layer(pm::image_view<const T>(a.data() + from, 1, 1, 1, count),
                    pm::image_view<const T>(b.data() + from, 1, 1, 1, count),
                    pm::image_view<T>(part.data(), 1, 1, 1, count))
                  .ok());
      REQUIRE(std::equal(part.begin(), part.end() - 1, sum.begin() + static_cast<std::ptrdiff_t>(from)));
      REQUIRE(int{part[count]} == 77);
    }
  }
}

TEST_CASE("single rounding is another sum") {
  const pm::affine q{0.1f, 0}, y{0.4f, 0};
  const std::vector<std::int8_t> a{1, -1, 2, -2, 3}, b{1, -1, 0, 0, 3};
  std::vector<std::int8_t> two(5), one(5);
  REQUIRE(pm::layer::add<std::int8_t>(q, q, y)(line(a), line(b), line(two)).ok());
  REQUIRE(pm::layer::add<std::int8_t, pm::rounding::half_up>(q, q, y)(line(a), line(b), line(one)).ok());
  CHECK(two == std::vector<std::int8_t>{1, -1, 1, -1, 2});  // -1/2 goes away from zero
  CHECK(one == std::vector<std::int8_t>{1, 0, 1, 0, 2});    // -1/2 goes up
}

TEST_CASE("operands broadcast, step over gaps, and may be the output") {
  random_source random(42);
  const std::array<std::size_t, 4> full{2, 3, 4, 5};
  for (int mask = 0; mask < 16 * 16; ++mask) {
    std::array<std::size_t, 4> ea = full, eb = full, ey = full;
    for (std::size_t axis = 0; axis < 4; ++axis) {
      if ((mask >> axis) & 1) ea[axis] = 1;
      if ((mask >> (axis + 4)) & 1) eb[axis] = 1;
      ey[axis] = std::max(ea[axis], eb[axis]);
    }
    const auto view = [](float* data, const std::array<std::size_t, 4>& e, std::size_t gap) {
      const std::size_t pixel = e[3] + gap, row = e[2] * pixel + gap, image = e[1] * row + gap;
      return pm::image_view<float>(data, e[0], e[1], e[2], e[3], pixel, row, image);
    };
    std::vector<float> da = polymac_test::uniform<float>(random, 400), db = polymac_test::uniform<float>(random, 400),
                       dy(400, 9.0f);
    const auto a = view(da.data(), ea, mask % 3 == 0 ? 1 : 0), b = view(db.data(), eb, mask % 2 == 0 ? 1 : 0),
               y = view(dy.data(), ey, mask % 5 == 0 ? 1 : 0);
    const pm::layer::mul<float> layer({-0.5f, 0.5f});
    REQUIRE(layer(a, b, y).ok());
    std::size_t written = 0;
    for (std::size_t n = 0; n < ey[0]; ++n)
      for (std::size_t h = 0; h < ey[1]; ++h)
        for (std::size_t w = 0; w < ey[2]; ++w)
          for (std::size_t c = 0; c < ey[3]; ++c) {
            const auto at = [&](const pm::image_view<float>& v) {
              return v.pixel(v.batch == 1 ? 0 : n, v.height == 1 ? 0 : h,
                             v.width == 1 ? 0 : w)[v.channels == 1 ? 0 : c];
            };
            const float want = std::min(std::max(at(a) * at(b), -0.5f), 0.5f);
            if (y.pixel(n, h, w)[c] != want) {
              CAPTURE(mask, n, h, w, c);
              REQUIRE(y.pixel(n, h, w)[c] == want);
            }
            ++written;
          }
    REQUIRE(static_cast<std::size_t>(std::count(dy.begin(), dy.end(), 9.0f)) == dy.size() - written);
  }
  std::vector<float> x{1, 2, 3}, once{10};
  REQUIRE(pm::layer::add<float>()(line(x), line(once), line(x)).ok());
  CHECK(x == std::vector<float>{11, 12, 13});
}

TEST_CASE("mistakes of add and mul are named, and the output stays untouched") {
  std::vector<float> a(6, 1.0f), b(6, 1.0f), y(6, 9.0f);
  const pm::layer::add<float> layer;
  const auto s = layer(pm::matrix_view<const float>(a.data(), 2, 3), pm::matrix_view<const float>(b.data(), 3, 2),
                       pm::matrix_view<float>(y.data(), 2, 3));
  CHECK(has(s, "add: axis 0"));
  CHECK(has(s, "got 2 and 3 for an output of 2"));
  CHECK_FALSE(layer(pm::matrix_view<const float>(a.data(), 1, 3), pm::matrix_view<const float>(b.data(), 1, 3),
                    pm::matrix_view<float>(y.data(), 2, 3))
                  .ok());
  CHECK_FALSE(layer(pm::matrix_view<const float>(nullptr, 1, 3), pm::matrix_view<const float>(b.data(), 1, 3),
                    pm::matrix_view<float>(y.data(), 1, 3))
                  .ok());
  CHECK(y == std::vector<float>(6, 9.0f));
#if POLYMAC_HAS_EXCEPTIONS
  const pm::affine good{0.1f, 0};
  CHECK_THROWS_AS(pm::layer::add<std::int8_t>(pm::affine{0.0f, 0}, good, good), pm::error);
  CHECK_THROWS_AS(pm::layer::add<std::int8_t>(good, pm::affine{0.1f, 128}, good), pm::error);
  CHECK_THROWS_AS(pm::layer::add<std::int8_t>(good, good, good, {5, 4}), pm::error);
  CHECK_THROWS_AS(pm::layer::add<std::int8_t>(pm::layer::add_factors{.left_shift = 21}), pm::error);
  CHECK_THROWS_AS(pm::layer::mul<std::int16_t>(good, good, pm::affine{std::numeric_limits<float>::infinity(), 0}),
                  pm::error);
  CHECK_THROWS_AS(pm::layer::mul<float>({1.0f, std::nanf("")}), pm::error);
#endif
}

TEST_CASE("quantise and dequantise") {
  const pm::affine q{0.25f, -3};
  const std::vector<float> x{0.0f,
                             0.125f,
                             -0.125f,
                             0.124999f,
                             100.0f,
                             -100.0f,
                             3e38f,
                             -3e38f,
                             std::nanf(""),
                             std::numeric_limits<float>::infinity(),
                             0.24999999f * 0.5f};
  std::vector<std::int8_t> code(x.size());
  REQUIRE(pm::layer::quantize<std::int8_t>(q)(line(x), line(code)).ok());
  CHECK(code == std::vector<std::int8_t>{-3, -2, -4, -3, 127, -128, 127, -128, -3, 127, -3});
  random_source random(43);
  std::vector<float> many(5000);
  for (float& v : many) v = 40.0f * random.unit() - 20.0f;
  std::vector<std::int16_t> wide(many.size());
  REQUIRE(pm::layer::quantize<std::int16_t>({0.0037f, 11})(line(std::as_const(many)), line(wide)).ok());
  for (std::size_t i = 0; i < many.size(); ++i)
    REQUIRE(wide[i] == limited<std::int16_t>(static_cast<std::int64_t>(std::round(many[i] / 0.0037f)) + 11));
  std::vector<float> back(many.size());
  REQUIRE(pm::layer::dequantize<std::int16_t>({0.0037f, 11})(line(std::as_const(wide)), line(back)).ok());
  for (std::size_t i = 0; i < many.size(); ++i)
    REQUIRE(back[i] == static_cast<float>(static_cast<double>(0.0037f) * (wide[i] - 11)));
#if POLYMAC_HAS_EXCEPTIONS
  CHECK_THROWS_AS(pm::layer::quantize<std::int8_t>({-1.0f, 0}), pm::error);
  CHECK_THROWS_AS(pm::layer::dequantize<std::int32_t>({1.0f, 5}), pm::error);
#endif
}

TEST_CASE("codes of one quantisation become those of another") {
  std::vector<std::int8_t> x(256), y(256);
  std::iota(x.begin(), x.end(), std::int8_t{-128});
  const pm::affine from{0.1f, 5}, to{0.07f, -20};
  REQUIRE(pm::layer::rescale<std::int8_t>(from, to, {-20, 127})(line(std::as_const(x)), line(y)).ok());  // a ReLU
  const auto f = factor_of(static_cast<double>(0.1f) / static_cast<double>(0.07f));
  for (std::size_t i = 0; i < 256; ++i) REQUIRE(y[i] == limited<std::int8_t>(scaled(x[i] - 5, f) - 20, -20, 127));
}

TEST_CASE("a stage as a layer") {
  const std::vector<float> x{-1.0f, 2.0f, 9.0f};
  std::vector<float> y(3);
  REQUIRE(pm::layer::make_map<float>(pm::relu | pm::clamp(0.0f, 6.0f))(line(x), line(y)).ok());
  CHECK(y == std::vector<float>{0.0f, 2.0f, 6.0f});
  const std::vector<std::int32_t> sums{5, -5, 1000};
  std::vector<std::int8_t> codes(3);
  REQUIRE(pm::layer::make_map<std::int32_t>(pm::requantize(0.5, 1))(line(sums), line(codes)).ok());
  CHECK(codes == std::vector<std::int8_t>{4, -1, 127});  // 5/2 and -5/2 are rounded in the high product: half up
#if POLYMAC_HAS_EXCEPTIONS
  CHECK_THROWS_AS(pm::layer::make_map<float>(pm::clamp(1.0f, 0.0f)), pm::error);
#endif
}

TEST_CASE("pad") {
  const std::vector<std::int8_t> x{1, 2, 3, 4};
  std::vector<std::int8_t> y(2 * 4 * 5 * 3, 99);
  const pm::layer::pad<std::int8_t> layer({{0, 1, 2, 1}, {1, 1, 1, 1}}, -7);
  REQUIRE(
      layer(pm::image_view<const std::int8_t>(x.data(), 1, 2, 2, 1), pm::image_view<std::int8_t>(y.data(), 2, 4, 5, 3))
          .ok());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t c = i % 3, w = i / 3 % 5, h = i / 15 % 4, n = i / 60;
    const bool inside = n == 0 && h >= 1 && h < 3 && w >= 2 && w < 4 && c == 1;
    REQUIRE(int{y[i]} == (inside ? int{x[(h - 1) * 2 + (w - 2)]} : -7));
  }
  CHECK(has(
      layer(pm::image_view<const std::int8_t>(x.data(), 1, 2, 2, 1), pm::image_view<std::int8_t>(y.data(), 1, 4, 5, 3)),
      "expected output of 2 x 4 x 5 x 3, got 1 x 4 x 5 x 3"));
#if POLYMAC_HAS_EXCEPTIONS
  CHECK_THROWS_AS(pm::layer::pad<float>({{static_cast<std::size_t>(-1), 0, 0, 0}, {}}, 0.0f), pm::error);
#endif
}

TEST_CASE("mean over every set of axes") {
  random_source random(44);
  const std::array<std::size_t, 4> e{2, 5, 7, 67};
  const std::size_t count = e[0] * e[1] * e[2] * e[3];
  const auto codes = polymac_test::uniform<std::int8_t>(random, count);
  const auto reals = polymac_test::uniform<float>(random, count);
  const pm::affine qx{0.1f, 5}, qy{0.06f, -9};
  for (int mask = 0; mask < 16; ++mask) {
    const bool over[4] = {(mask & 1) != 0, (mask & 2) != 0, (mask & 4) != 0, (mask & 8) != 0};
    std::array<std::size_t, 4> o = e;
    std::int64_t divisor = 1;
    for (std::size_t axis = 0; axis < 4; ++axis)
      if (over[axis]) divisor *= static_cast<std::int64_t>(e[axis]), o[axis] = 1;
    std::vector<std::int64_t> sums(o[0] * o[1] * o[2] * o[3]);
    std::vector<double> real_sums(sums.size());
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at[4] = {i / (e[1] * e[2] * e[3]), i / (e[2] * e[3]) % e[1], i / e[3] % e[2], i % e[3]};
      std::size_t to = 0;
      for (std::size_t axis = 0; axis < 4; ++axis) to = to * o[axis] + (over[axis] ? 0 : at[axis]);
      sums[to] += codes[i];
      real_sums[to] += static_cast<double>(reals[i]);
    }
    const pm::layer::axes axes{over[0], over[1], over[2], over[3]};
    std::vector<std::int8_t> y(sums.size());
    std::vector<float> yf(sums.size());
    REQUIRE(pm::layer::mean<std::int8_t>(axes, qx, qy)(
                pm::image_view<const std::int8_t>(codes.data(), e[0], e[1], e[2], e[3]),
                pm::image_view<std::int8_t>(y.data(), o[0], o[1], o[2], o[3]))
                .ok());
    REQUIRE(pm::layer::mean<float>(axes)(pm::image_view<const float>(reals.data(), e[0], e[1], e[2], e[3]),
                                         pm::image_view<float>(yf.data(), o[0], o[1], o[2], o[3]))
                .ok());
    // TFLite folds 1/count into the multiplier, cut to 31 bits.
    auto f = factor_of(static_cast<double>(0.1f) / static_cast<double>(0.06f));
    const int bits = static_cast<int>(std::floor(std::log2(static_cast<double>(divisor))));
    f.multiplier = (f.multiplier << bits) / divisor;
    f.shift -= bits;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      REQUIRE(int{y[i]} == int{limited<std::int8_t>(scaled(sums[i] - divisor * 5, f) - 9)});
      const double exact = static_cast<double>(0.1f) / static_cast<double>(0.06f) *
                               (static_cast<double>(sums[i]) / static_cast<double>(divisor) - 5) -
                           9;
      REQUIRE(std::abs(static_cast<double>(y[i]) - std::clamp(exact, -128.0, 127.0)) <= 0.76);  // rounds twice
      REQUIRE(std::abs(static_cast<double>(yf[i]) - real_sums[i] / static_cast<double>(divisor)) <= 2e-6);
    }
  }
  std::vector<float> out(1);
  CHECK_FALSE(pm::layer::mean<float>({.height = true})(pm::image_view<const float>(reals.data(), 1, 0, 1, 1),
                                                       pm::image_view<float>(out.data(), 1, 1, 1, 1))
                  .ok());
}

TEST_CASE("concatenate along every axis") {
  using pm::layer::axis;
  random_source random(45);
  for (const axis along : {axis::batch, axis::height, axis::width, axis::channels}) {
    const auto joined = static_cast<std::size_t>(along);
    std::array<std::size_t, 4> ea{2, 3, 2, 3}, eb = ea, ey = ea;
    eb[joined] = 4;
    ey[joined] = ea[joined] + eb[joined];
    const auto size = [](const auto& e) { return e[0] * e[1] * e[2] * e[3]; };
    const auto da = polymac_test::uniform<std::int8_t>(random, size(ea)),
               db = polymac_test::uniform<std::int8_t>(random, size(eb));
    std::vector<std::int8_t> dy(size(ey));
    const pm::image_view<const std::int8_t> in[2] = {{da.data(), ea[0], ea[1], ea[2], ea[3]},
                                                     {db.data(), eb[0], eb[1], eb[2], eb[3]}};
    const pm::image_view<std::int8_t> y(dy.data(), ey[0], ey[1], ey[2], ey[3]);
    const pm::layer::concatenate<std::int8_t> layer(along);
    const pm::affine q[2] = {{0.1f, 5}, {0.3f, -1}};
    const auto f0 = factor_of(1.0), f1 = factor_of(static_cast<double>(0.3f) / static_cast<double>(0.1f));
    for (const bool rescales : {false, true}) {
      if (rescales)
        REQUIRE(layer(in, q, y, {0.1f, 5}).ok());
      else
        REQUIRE(layer(in, y).ok());
      for (std::size_t i = 0; i < dy.size(); ++i) {
        std::size_t at[4] = {i / (ey[1] * ey[2] * ey[3]), i / (ey[2] * ey[3]) % ey[1], i / ey[3] % ey[2], i % ey[3]};
        const bool second = at[joined] >= ea[joined];
        if (second) at[joined] -= ea[joined];
        const std::int8_t code = in[second].pixel(at[0], at[1], at[2])[at[3]];
        const std::int8_t want =
            !rescales ? code : limited<std::int8_t>(second ? scaled(code + 1, f1) + 5 : scaled(code - 5, f0) + 5);
        REQUIRE(int{dy[i]} == int{want});
      }
    }
    CHECK_FALSE(layer(std::span(in, 1), y).ok());
    const pm::image_view<const std::int8_t> thrice[3] = {in[0], in[1], in[1]};
    CHECK(has(layer(thrice, y), "do not add up to"));
    CHECK(has(layer(in, std::span(q, 1), y, {0.1f, 5}), "a quantisation for each of 2 inputs, got 1"));
  }
}

TEST_CASE("reshape keeps the order") {
  std::vector<float> x(60), y(80, -1.0f);
  std::iota(x.begin(), x.end(), 0.0f);
  const pm::layer::reshape<float> layer;
  // Dense to a view with gaps.
  const pm::image_view<float> gaps(y.data(), 1, 4, 5, 3, 3, 16, 64);
  REQUIRE(layer(pm::image_view<const float>(x.data(), 2, 3, 5, 2), gaps).ok());
  for (std::size_t i = 0; i < 60; ++i) REQUIRE(gaps.pixel(0, i / 15, i / 3 % 5)[i % 3] == x[i]);
  REQUIRE(std::count(y.begin(), y.end(), -1.0f) == 20);
  // Back, and in place.
  std::vector<float> z(60);
  REQUIRE(layer(pm::image_view<const float>(gaps), pm::matrix_view<float>(z.data(), 6, 10)).ok());
  CHECK(z == x);
  REQUIRE(layer(pm::image_view<const float>(z.data(), 1, 1, 1, 60), pm::image_view<float>(z.data(), 60, 1, 1, 1)).ok());
  CHECK(z == x);
  CHECK(has(layer(pm::image_view<const float>(x.data(), 1, 1, 1, 60), pm::image_view<float>(y.data(), 1, 1, 1, 61)),
            "60, got 61"));
}
