// SPDX-License-Identifier: MIT
// Blocks of the Microscaling formats: codes in memory, the four ways to a scale, encoding, noise; and mac::mx, the dot
// product of two blocks, against sums in double and integers.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/core/mx_block.hpp>
#include <polymac/mac/mx.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

using namespace polymac;

namespace {

using elements = std::tuple<e4m3fn, e5m2, e3m2, e2m3, e2m1, std::int8_t>;
constexpr mx_scale every_mode[] = {mx_scale::floor, mx_scale::even, mx_scale::ceil, mx_scale::round_ceil};

template <class E>
int scale_of(float largest, mx_scale mode) {
  return mx_block<E>::exponent_for(largest, mode);
}
template <class E>
std::vector<int> scales_of(float largest) {
  std::vector<int> all;
  for (const auto mode : every_mode) all.push_back(scale_of<E>(largest, mode));
  return all;
}

/// A block whose codes are random; of fp8 only finite ones.
template <class E>
mx_block<E> random_block(polymac_test::random_source& random, int least = -10, int most = 10) {
  mx_block<E> b{};
  b.scale = static_cast<std::uint8_t>(127 + random.integer(least, most));
  for (std::size_t k = 0; k < 32; ++k) {
    E e{};
    do e = mx_element<E>::from_code(static_cast<unsigned>(random.bits() & ((1u << mx_element<E>::width) - 1)));
    while (!std::isfinite(mx_element<E>::value(e)));
    b.set(k, e);
  }
  return b;
}

static_assert([] {  // all of it in constant expressions
  std::array<float, 32> values{};
  values[3] = -3.0f, values[31] = 6.0f;
  const auto block = mac::mx<e2m1>::encode(values);
  return block.exponent() == 0 && block.value(3) == -3.0f && block.value(31) == 6.0f && block.value(0) == 0.0f &&
         mac::mx<e2m1>::multiply_add(0.5f, block, block) == 45.5f;
}());

}  // namespace

TEMPLATE_LIST_TEST_CASE("codes of a block lie side by side, the lowest bits first", "[mx]", elements) {
  using E = TestType;
  using traits = mx_element<E>;
  using block = mx_block<E>;
  CAPTURE(traits::name);
  CHECK(sizeof(block) == 1 + 32 * traits::width / 8);
  POLYMAC_RANDOM(random, 1);
  block b{};
  std::array<unsigned, 32> codes{};
  for (int i = 0; i < 2000; ++i) {
    const auto at = static_cast<std::size_t>(random.integer(0, 31));
    codes[at] = static_cast<unsigned>(random.bits()) & ((1u << traits::width) - 1);
    b.set(at, traits::from_code(codes[at]));
    const auto k = static_cast<std::size_t>(random.integer(0, 31));
    CHECK((traits::code(b[k]) & ((1u << traits::width) - 1)) == codes[k]);
  }
  std::size_t wrong = 0;
  for (std::size_t k = 0; k < 32; ++k)
    for (std::size_t bit = 0; bit < traits::width; ++bit) {
      const std::size_t at = k * traits::width + bit;
      wrong += (codes[k] >> bit & 1u) != (unsigned{b.codes[at / 8]} >> (at % 8) & 1u);
    }
  CHECK(wrong == 0);
  CHECK(b.scale == 0);
  CHECK(block{} == block{});
  CHECK_FALSE(b == block{});
  for (std::size_t k = 0; k < 32; ++k) CHECK(block{}.value(k) == 0.0f);
}

TEST_CASE("integers of elements are exact, and no larger than promised", "[mx]") {
  const auto check = []<class E>(E, std::int32_t most, int unit) {
    using traits = mx_element<E>;
    CHECK(traits::is_integer);
    CHECK(traits::unit == unit);
    std::int32_t largest = 0;
    for (unsigned code = 0; code < 1u << traits::width; ++code) {
      const E e = traits::from_code(code);
      CHECK(std::ldexp(static_cast<double>(traits::integer(e)), unit) == static_cast<double>(traits::value(e)));
      largest = std::max(largest, std::abs(traits::integer(e)));
    }
    CHECK(largest == most);
    CHECK(32 * most * most < 1 << 24);
  };
  check(e2m1{}, 12, -1);
  check(e2m3{}, 60, -3);
  check(e3m2{}, 448, -4);
  check(std::int8_t{}, 128, -6);
  CHECK_FALSE(mx_element<e4m3fn>::is_integer);
}

TEST_CASE("scales of blocks in the four modes", "[mx]") {
  using v = std::vector<int>;  // floor, even, ceil, rceil
  CHECK(scales_of<e4m3fn>(1.8f) == v{-8, -8, -7, -7});
  CHECK(scales_of<e2m1>(1.8f) == v{-2, -1, -1, -1});
  CHECK(scales_of<e4m3fn>(150.0f) == v{-1, -1, 0, -1});
  CHECK(scales_of<e4m3fn>(480.0f) == v{0, 0, 1, 1});
  CHECK(scales_of<e2m1>(7.0f) == v{0, 1, 1, 1});  // EVEN: 1.75 of 1 bit is a tie and goes up
  CHECK(scales_of<e4m3fn>(500.0f) == v{0, 1, 1, 1});
  CHECK(scales_of<e4m3fn>(1.5f) == v{-8, -8, -7, -8});
  // The largest element itself, and a power of two.
  CHECK(scales_of<e4m3fn>(448.0f) == v{0, 0, 1, 0});
  CHECK(scales_of<e5m2>(57344.0f) == v{0, 0, 1, 0});
  CHECK(scales_of<e3m2>(28.0f) == v{0, 0, 1, 0});
  CHECK(scales_of<e2m3>(7.5f) == v{0, 0, 1, 0});
  CHECK(scales_of<e2m1>(6.0f) == v{0, 0, 1, 0});
  CHECK(scales_of<std::int8_t>(127.0f / 64.0f) == v{0, 0, 1, 0});
  CHECK(scales_of<std::int8_t>(1.999f) == v{0, 1, 1, 1});
  CHECK(scale_of<e4m3fn>(std::nextafter(448.0f, 500.0f), mx_scale::round_ceil) == 1);
  CHECK(scales_of<e4m3fn>(256.0f) == v{0, 0, 0, 0});
  CHECK(scales_of<e2m1>(4.0f) == v{0, 0, 0, 0});
  // The ends: zero, subnormal floats, the largest float.
  for (const auto mode : every_mode) {
    CHECK(scale_of<e4m3fn>(0.0f, mode) == -127);
    CHECK(scale_of<e4m3fn>(1e-45f, mode) == -127);
    CHECK(scale_of<std::int8_t>(1e-45f, mode) == -127);
  }
  const float most = std::numeric_limits<float>::max();
  CHECK(scales_of<e4m3fn>(most) == v{119, 120, 120, 120});
  CHECK(scales_of<std::int8_t>(most) == v{127, 127, 127, 127});
  CHECK(scales_of<std::int8_t>(0x1p-126f) == v{-126, -126, -126, -126});
  CHECK(scales_of<std::int8_t>(0x1p-130f) == v{-127, -127, -127, -127});
}

TEMPLATE_LIST_TEST_CASE("a block is its values divided by a power of two, to the nearest element", "[mx]", elements) {
  using E = TestType;
  using traits = mx_element<E>;
  CAPTURE(traits::name);
  POLYMAC_RANDOM(random, 2);
  std::size_t wrong = 0, cut = 0, kept_blocks = 0;
  for (int repeat = 0; repeat < 200; ++repeat) {
    const int size = static_cast<int>(random.integer(-140, 120));
    std::array<float, 32> values;
    float largest = 0.0f;
    for (float& x : values) {
      x = std::ldexp(2.0f * random.unit() - 1.0f, size - static_cast<int>(random.integer(0, 6)));
      largest = std::max(largest, std::abs(x));
    }
    for (const auto mode : every_mode) {
      const auto block = mx_block<E>::encode(values.data(), mode);
      wrong += block.exponent() != scale_of<E>(largest, mode);
      for (std::size_t k = 0; k < 32; ++k) {
        const double x = std::ldexp(static_cast<double>(values[k]), -block.exponent());
        const double got = static_cast<double>(traits::value(block[k]));
        // No element is nearer.
        double least = 1e300;
        for (unsigned code = 0; code < 1u << traits::width; ++code) {
          const auto v = static_cast<double>(traits::value(traits::from_code(code)));
          if (std::isfinite(v) && v >= -traits::max()) least = std::min(least, std::abs(v - x));
        }
        wrong += std::abs(got - x) != least;
        cut +=
            std::abs(x) > traits::max() && mode != mx_scale::floor && mode != mx_scale::even && block.exponent() > -127;
      }
      if (mode == mx_scale::round_ceil) {  // what is decoded is encoded to the same, unless the largest became less
        std::array<float, 32> decoded;
        mac::mx<E>::decode(block, decoded);
        const auto again = mac::mx<E>::encode(decoded);
        if (again.scale == block.scale && block.exponent() > -120) {
          ++kept_blocks;
          wrong += !(again == block);
        }
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(cut == 0);
  CHECK(kept_blocks > 100);
}

TEST_CASE("elements round to even, and int8 leaves -128 alone", "[mx]") {
  using traits = mx_element<std::int8_t>;
  CHECK(traits::encode(0.5 / 64) == 0);
  CHECK(traits::encode(1.5 / 64) == 2);
  CHECK(traits::encode(-2.5 / 64) == -2);
  CHECK(traits::encode(-3.5 / 64) == -4);
  CHECK(traits::encode(2.5000001 / 64) == 3);
  CHECK(traits::encode(126.5 / 64) == 126);
  CHECK(traits::encode(126.6 / 64) == 127);
  CHECK(traits::encode(-2.0) == -127);
  CHECK(traits::encode(-1e9) == -127);
  CHECK(traits::encode(1e9) == 127);
}

TEMPLATE_LIST_TEST_CASE("one infinity or NaN makes a block NaN", "[mx]", elements) {
  using E = TestType;
  using M = mac::mx<E>;
  std::array<float, 32> values;
  values.fill(1.0f);
  const auto ones = M::encode(values);
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    values[7] = bad;
    const auto block = M::encode(values);
    CHECK(block.scale == 255);
    for (std::size_t k = 0; k < 32; ++k) CHECK(std::isnan(block.value(k)));
    CHECK(std::isnan(M::multiply_add(1.0f, block, ones)));
    CHECK(std::isnan(M::multiply_add(1.0f, ones, block)));
  }
  values.fill(0.0f);
  CHECK(M::encode(values) == mx_block<E>{});
}

TEMPLATE_LIST_TEST_CASE("a tensor becomes blocks, or nothing", "[mx]", elements) {
  using M = mac::mx<TestType>;
  POLYMAC_RANDOM(random, 3);
  auto values = polymac_test::uniform<float>(random, 96);
  std::vector<typename M::activation> blocks(3);
  REQUIRE(M::encode(values, blocks).ok());
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(blocks[i] == M::encode(std::span<const float>(values).subspan(32 * i).template first<32>()));
  const auto before = blocks;
  auto s = M::encode(std::span<const float>(values).first(80), blocks);
  CHECK(std::string(s.text()) ==
        std::string(M::name) + ": expected 32 values for each block, got 80 values and 3 blocks");
  s = M::encode(std::span<const float>(values).first(64), blocks);
  CHECK_FALSE(s.ok());
  values[40] = -std::numeric_limits<float>::infinity();
  s = M::encode(values, blocks);
  CHECK(std::string(s.text()) == std::string(M::name) + ": expected finite values, value 40 is infinite");
  CHECK(blocks == before);
}

TEMPLATE_LIST_TEST_CASE("the product of two blocks is the sum of their products", "[mx]", elements) {
  using E = TestType;
  using M = mac::mx<E>;
  using traits = mx_element<E>;
  CAPTURE(M::name);
  CHECK(std::string_view(M::name) == std::string("mx_") + traits::name);
  POLYMAC_RANDOM(random, 4);
  std::size_t wrong = 0, fused_differs = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto a = random_block<E>(random), w = random_block<E>(random);
    const float c = std::ldexp(2.0f * random.unit() - 1.0f, static_cast<int>(random.integer(-10, 20)));
    const float got = M::multiply_add(c, a, w);
    // Exact: multiples of 2^-52 below 2^43 need 95 bits, so integers of the elements' own units.
    double exact = 0.0, magnitudes = 0.0;
    float in_pairs = 0.0f;
    for (std::size_t k = 0; k < 32; ++k) {
      const double product = static_cast<double>(traits::value(a[k])) * static_cast<double>(traits::value(w[k]));
      exact += product, magnitudes += std::abs(product);
      const std::size_t other = k ^ 1u;
      in_pairs += traits::value(a[other]) * traits::value(w[other]);
    }
    const float sum = M::block_sum(a, w);
    if (M::sums_integers)
      wrong += std::ldexp(static_cast<double>(sum), M::unit_exponent) != exact;
    else
      wrong += sum != in_pairs || std::abs(static_cast<double>(sum) - exact) > magnitudes * 32 * 0x1p-24;
    const int e = a.exponent() + w.exponent();
    wrong += got != c + std::ldexp(sum, e + M::unit_exponent);
    wrong += M::multiply_add(c, a, {}) != c || M::multiply_add(c, {}, w) != c;  // zero adds nothing
    // Where scales are safe, fused and by a float scale is the same.
    CHECK(M::scales_are_safe(-20, 20));
    fused_differs += got != std::fma(sum, std::ldexp(1.0f, e + M::unit_exponent), c);
  }
  CHECK(wrong == 0);
  CHECK(fused_differs == 0);

  // The largest of all.
  mx_block<E> most{};
  most.scale = 127;
  for (std::size_t k = 0; k < 32; ++k) most.set(k, traits::encode(traits::max()));
  CHECK(static_cast<double>(M::multiply_add(0.0f, most, most)) == 32 * traits::max() * traits::max());
}

TEST_CASE("products of blocks at the ends of their scales", "[mx]") {
  using M = mac::mx<e2m1>;
  std::array<float, 32> values{};
  values[0] = 0.5f;
  auto half = mx_block<e2m1>::encode(values.data(), mx_scale::round_ceil);
  half.scale = 0, half.codes[0] = 1;  // 2^-127 x 0.5
  CHECK(M::multiply_add(0.0f, half, half) == 0.0f);
  CHECK(M::multiply_add(1.5f, half, half) == 1.5f);
  auto large = half;
  large.scale = 254;  // 2^127 x 0.5
  CHECK(M::multiply_add(0.0f, half, large) == 0.25f);
  CHECK(M::multiply_add(0.0f, large, large) == std::numeric_limits<float>::infinity());
  large.codes[0] = 9;
  CHECK(M::multiply_add(0.0f, half, large) == -0.25f);
  const mx_block<e2m1> zero{};
  CHECK(M::multiply_add(0.0f, zero, large) == 0.0f);
  CHECK(M::multiply_add(2.0f, large, zero) == 2.0f);
  // Subnormal results are rounded once: 0.25 x 2^-147 = 2^-149; 0.75 of 2^-149 becomes it, too.
  half.scale = 0, large.scale = 127 - 20, large.codes[0] = 1;
  CHECK(M::multiply_add(0.0f, half, large) == 0x1p-149f);
  half.codes[0] = 3;  // 1.5
  large.scale = 127 - 22;
  CHECK(M::multiply_add(0.0f, half, large) == 0x1p-149f);
  CHECK_FALSE(M::scales_are_safe(-127 - 20, 0));
  CHECK_FALSE(M::scales_are_safe(0, 110));
  CHECK(M::scales_are_safe(-124, 105));
  CHECK(mac::mx<e5m2>::scales_are_safe(-94, 90));
  CHECK_FALSE(mac::mx<e5m2>::scales_are_safe(-95, 0));
  CHECK_FALSE(mac::mx<e5m2>::scales_are_safe(0, 91));

  // Codes of fp8 that are no numbers.
  using F = mac::mx<e5m2>;
  mx_block<e5m2> one{}, strange{};
  one.scale = strange.scale = 127;
  one.set(5, e5m2(1.0f));
  strange.set(5, e5m2::from_bits(0x7C));
  CHECK(F::multiply_add(0.0f, one, strange) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(F::multiply_add(0.0f, mx_block<e5m2>{}, strange)));
  strange.set(5, e5m2::from_bits(0x7D));
  CHECK(std::isnan(F::multiply_add(0.0f, one, strange)));
}

TEMPLATE_LIST_TEST_CASE("sums of blocks keep their error bound", "[mx]", elements) {
  using E = TestType;
  using M = mac::mx<E>;
  CAPTURE(M::name);
  POLYMAC_RANDOM(random, 5);
  for (const std::size_t depth : {1u, 2u, 30u, 300u}) {
    float sum = 0.25f;
    double exact = 0.25, magnitudes = 0.25;
    for (std::size_t i = 0; i < depth; ++i) {
      const auto a = random_block<E>(random, -3, 3), w = random_block<E>(random, -3, 3);
      sum = M::multiply_add(sum, a, w);
      for (std::size_t k = 0; k < 32; ++k) {
        const double product = static_cast<double>(a.value(k)) * static_cast<double>(w.value(k));
        exact += product, magnitudes += std::abs(product);
      }
    }
    const double error = std::abs(static_cast<double>(sum) - exact), bound = M::error_bound(depth, magnitudes);
    CHECK(error <= bound);
    CHECK(bound < 1.2e-7 * static_cast<double>(depth + 34) * magnitudes);
  }
}

namespace {

/// Signal to noise of blocks of normal numbers, dB.
class noise {
 public:
  noise() {
    polymac_test::random_source random(6);
    while (values_.size() < std::size_t{1} << 17) {
      const double x = 2.0 * static_cast<double>(random.unit()) - 1.0,
                   y = 2.0 * static_cast<double>(random.unit()) - 1.0;
      const double s = x * x + y * y;
      if (s >= 1.0 || s == 0.0) continue;
      const double f = std::sqrt(-2.0 * std::log(s) / s);
      values_.push_back(static_cast<float>(x * f));
      values_.push_back(static_cast<float>(y * f));
    }
  }
  template <class E>
  double mx(mx_scale mode) const {
    return of(32, [mode](const float* x, double* y) {
      const auto block = mx_block<E>::encode(x, mode);
      for (std::size_t k = 0; k < 32; ++k) y[k] = static_cast<double>(block.value(k));
    });
  }
  /// quantise(x) of values of blocks whose largest magnitude is brought to `most`.
  template <class Quantise>
  double scaled(std::size_t size, double most, const Quantise& quantise) const {
    return of(size, [&](const float* x, double* y) {
      double largest = 0;
      for (std::size_t k = 0; k < size; ++k) largest = std::max(largest, std::abs(static_cast<double>(x[k])));
      for (std::size_t k = 0; k < size; ++k)
        y[k] = quantise(static_cast<double>(x[k]) * most / largest) * largest / most;
    });
  }

 private:
  template <class Quantise>
  double of(std::size_t size, const Quantise& quantise) const {
    double signal = 0, error = 0;
    std::array<double, 32> y;
    for (std::size_t i = 0; i < values_.size(); i += size) {
      quantise(values_.data() + i, y.data());
      for (std::size_t k = 0; k < size; ++k) {
        const auto x = static_cast<double>(values_[i + k]);
        signal += x * x, error += (x - y[k]) * (x - y[k]);
      }
    }
    return 10.0 * std::log10(signal / error);
  }
  std::vector<float> values_;
};

}  // namespace

TEST_CASE("noise of block formats on normal numbers", "[mx]") {
  const noise n;
  const auto near = [](double decibel) { return Approx(decibel).margin(0.15); };
  CHECK(n.mx<e4m3fn>(mx_scale::floor) == near(30.63));
  CHECK(n.mx<e4m3fn>(mx_scale::round_ceil) == near(31.52));
  CHECK(n.mx<e5m2>(mx_scale::floor) == near(25.36));
  CHECK(n.mx<e2m3>(mx_scale::floor) == near(30.94));
  CHECK(n.mx<e3m2>(mx_scale::floor) == near(25.36));
  CHECK(n.mx<e2m1>(mx_scale::floor) == near(18.79));
  CHECK(n.mx<e2m1>(mx_scale::even) == near(19.03));
  CHECK(n.mx<e2m1>(mx_scale::round_ceil) == near(18.76));
  CHECK(n.mx<std::int8_t>(mx_scale::floor) == near(41.66));
  // What they are compared with: float scales from the largest magnitude of a block.
  CHECK(n.scaled(32, 127.0, [](double x) { return std::nearbyint(x); }) == near(45.42));
  CHECK(n.scaled(32, 7.0, [](double x) { return std::nearbyint(x); }) == near(20.25));
  CHECK(n.scaled(16, 6.0, [](double x) { return static_cast<double>(static_cast<float>(e2m1::encode(x))); }) ==
        near(20.53));
}
