// SPDX-License-Identifier: MIT
// Fixed point: goldens of every rounding mode, identities, corners, and how often the modes differ.
#include "catch.hpp"
#include "polymac/core/fixed_point.hpp"
#include "support/random.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

namespace {

namespace fp = polymac::fixed_point;
using polymac::rounding;

constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t highest = std::numeric_limits<std::int32_t>::max();

template <rounding Mode>
constexpr std::int32_t scaled(std::int32_t sum, double scale) {
  if constexpr (Mode == rounding::fp32_nearest_even) {
    return fp::multiply_by_scale(sum, static_cast<float>(scale));
  } else {
    const fp::factor f = fp::encode<Mode>(scale);
    return fp::multiply_by_quantized_multiplier<Mode>(sum, f.multiplier, f.shift);
  }
}

struct golden {
  std::int32_t sum;
  double scale;
  std::int32_t gemmlowp, half_up, fp32, rndnu;
};

constexpr golden goldens[] = {
    {5, .25, 2, 1, 1, 1},
    {7, 5.0 / 14, 3, 2, 2, 3},
    {1, .5, 1, 1, 0, 1},
    {-1, .5, 0, 0, 0, 0},
    {3, .5, 2, 2, 2, 2},
    {-3, .5, -1, -1, -2, -1},
    {-2, .25, -1, 0, 0, 0},
    {2, .25, 1, 1, 0, 1},
    {-6, .25, -2, -1, -2, -1},
    {6, .25, 2, 2, 2, 2},
    {123456, .00073, 90, 90, 90, 90},
    {-123456, .00073, -90, -90, -90, -90},
    {100, 1.5, 150, 150, 150, 150},
    {-101, 1.5, -151, -151, -152, -151},
};

constexpr bool all_goldens() {
  for (const golden& g : goldens)
    if (scaled<rounding::gemmlowp>(g.sum, g.scale) != g.gemmlowp ||
        scaled<rounding::half_up>(g.sum, g.scale) != g.half_up ||
        scaled<rounding::fp32_nearest_even>(g.sum, g.scale) != g.fp32 ||
        scaled<rounding::rndnu>(g.sum, g.scale) != g.rndnu)
      return false;
  return true;
}
static_assert(all_goldens(), "every mode runs in constant expressions");

static_assert(fp::quantize_multiplier(.0123) == fp::factor{1690499128, -6});
static_assert(fp::quantize_multiplier(.5) == fp::factor{1 << 30, 0});
static_assert(fp::quantize_multiplier(.25) == fp::factor{1 << 30, -1});
static_assert(fp::quantize_multiplier(1.5) == fp::factor{1610612736, 1});
static_assert(fp::quantize_multiplier(.00073) == fp::factor{1605286977, -10});
static_assert(fp::quantize_multiplier(0.0) == fp::factor{});
static_assert(fp::quantize_multiplier(1e-300) == fp::factor{});
static_assert(fp::quantize_multiplier(5e-324) == fp::factor{});
static_assert(fp::quantize_multiplier(1e300) == fp::factor{highest, 30});
static_assert(fp::quantize_multiplier(-.25) == fp::factor{-(1 << 30), -1});
static_assert(fp::saturate_cast<std::int8_t>(300) == 127 && fp::saturate_cast<std::int8_t>(-300) == -128);
static_assert(fp::saturate_cast<std::uint8_t>(-1) == 0 &&
              fp::saturate_cast<std::uint8_t>(std::int64_t{1} << 40) == 255);
static_assert(fp::saturate_cast<std::int16_t>(1234u) == 1234);

// The definitions, written another way.
std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - (a % b != 0 && (a % b < 0) != (b < 0) ? 1 : 0);
}

std::int32_t doubling_high_mul(std::int32_t a, std::int32_t b) {
  if (a == lowest && b == lowest) return highest;
  const std::int64_t product = std::int64_t{a} * b;
  const std::int64_t nudge = product >= 0 ? (std::int64_t{1} << 30) : 1 - (std::int64_t{1} << 30);
  return static_cast<std::int32_t>((product + nudge) / (std::int64_t{1} << 31));  // truncates
}

std::int32_t divide_half_away(std::int32_t x, int exponent) {
  const std::int64_t divisor = std::int64_t{1} << exponent;
  const std::int64_t magnitude = x < 0 ? -std::int64_t{x} : std::int64_t{x};
  const std::int64_t rounded = (2 * magnitude + divisor) / (2 * divisor);
  return static_cast<std::int32_t>(x < 0 ? -rounded : rounded);
}

const std::array<std::int32_t, 15> corners{lowest, lowest + 1,    -(1 << 30) - 1, -(1 << 30),  -65536, -2, -1, 0, 1, 2,
                                           65535,  (1 << 30) - 1, 1 << 30,        highest - 1, highest};

std::int32_t any_int(polymac_test::random_source& random) {
  return static_cast<std::int32_t>(random.integer(lowest, highest));
}

}  // namespace

TEST_CASE("goldens of the four modes") {
  for (const golden& g : goldens) {
    CAPTURE(g.sum, g.scale);
    CHECK(scaled<rounding::gemmlowp>(g.sum, g.scale) == g.gemmlowp);
    CHECK(scaled<rounding::half_up>(g.sum, g.scale) == g.half_up);
    CHECK(scaled<rounding::fp32_nearest_even>(g.sum, g.scale) == g.fp32);
    CHECK(scaled<rounding::rndnu>(g.sum, g.scale) == g.rndnu);
  }
}

TEST_CASE("a reported case: only the scale in float, rounded to even, gives -120") {
  const float x = .05296124517917633f, w = .024093778803944588f, y = .11484327912330627f;
  const double exact = double{x} * double{w} / double{y};
  const std::int32_t zero_point = -126;
  CHECK(scaled<rounding::gemmlowp>(585, exact) + zero_point == -119);
  CHECK(scaled<rounding::half_up>(585, exact) + zero_point == -119);
  CHECK(fp::multiply_by_scale(585, x * w / y) + zero_point == -120);
}

TEST_CASE("the doubling high product is the truncating division of its definition") {
  for (const std::int32_t a : corners)
    for (const std::int32_t b : corners) {
      CAPTURE(a, b);
      REQUIRE(fp::saturating_rounding_doubling_high_mul(a, b) == doubling_high_mul(a, b));
    }
  polymac_test::random_source random(1);
  for (int i = 0; i < 300000; ++i) {
    const std::int32_t a = any_int(random), b = any_int(random);
    if (fp::saturating_rounding_doubling_high_mul(a, b) != doubling_high_mul(a, b)) {
      CAPTURE(a, b, polymac_test::seed_note());
      REQUIRE(fp::saturating_rounding_doubling_high_mul(a, b) == doubling_high_mul(a, b));
    }
  }
}

TEST_CASE("the division by a power of two rounds half away from zero") {
  for (int exponent = 0; exponent <= 31; ++exponent) {
    for (const std::int32_t x : corners) {
      CAPTURE(x, exponent);
      REQUIRE(fp::rounding_divide_by_power_of_two(x, exponent) == divide_half_away(x, exponent));
    }
    for (std::int32_t x = -1100; x <= 1100; ++x)
      if (fp::rounding_divide_by_power_of_two(x, exponent) != divide_half_away(x, exponent)) {
        CAPTURE(x, exponent);
        REQUIRE(fp::rounding_divide_by_power_of_two(x, exponent) == divide_half_away(x, exponent));
      }
  }
}

TEST_CASE("one rounding is the floor of the product plus a half") {
  polymac_test::random_source random(2);
  for (int i = 0; i < 300000; ++i) {
    const auto m = static_cast<std::int32_t>(random.integer(1 << 30, highest));
    const auto s = static_cast<std::int32_t>(random.integer(-31, 30));
    const std::int64_t bound = s > 0 ? (std::int64_t{1} << (31 - s)) - 1 : highest;  // the result fits
    const auto x = static_cast<std::int32_t>(random.integer(-bound, bound));
    const std::int64_t unit = std::int64_t{1} << (31 - s);
    const std::int64_t expected = floor_divide(std::int64_t{x} * m + unit / 2, unit);
    const std::int32_t came = fp::multiply_by_quantized_multiplier<rounding::half_up>(x, m, s);
    if (came != expected) {
      CAPTURE(x, m, s, polymac_test::seed_note());
      REQUIRE(came == expected);
    }
  }
  CHECK(fp::multiply_by_quantized_multiplier<rounding::half_up>(lowest, highest, 0) == lowest + 1);
  CHECK(fp::multiply_by_quantized_multiplier<rounding::half_up>(highest, highest, -31) == 1);
  CHECK(fp::multiply_by_quantized_multiplier<rounding::half_up>(lowest, 1 << 30, -31) == 0);  // -1/2 goes up
}

TEST_CASE("two roundings are the composition of their definitions, and wrap where TFLite wraps") {
  polymac_test::random_source random(3);
  for (int i = 0; i < 300000; ++i) {
    const auto m = static_cast<std::int32_t>(random.integer(0, highest));
    const auto s = static_cast<std::int32_t>(random.integer(-31, 30));
    const std::int32_t x = any_int(random);
    const auto lifted = static_cast<std::int32_t>(static_cast<std::uint32_t>(x) * (1u << (s > 0 ? s : 0)));
    const std::int32_t expected = divide_half_away(doubling_high_mul(lifted, m), s < 0 ? -s : 0);
    const std::int32_t came = fp::multiply_by_quantized_multiplier(x, m, s);
    if (came != expected) {
      CAPTURE(x, m, s, polymac_test::seed_note());
      REQUIRE(came == expected);
    }
  }
}

TEST_CASE("64-bit sums take the 16-bit multiplier") {
  CHECK(fp::reduced_multiplier(1 << 30) == 1 << 14);
  CHECK(fp::reduced_multiplier(0x7FFEFFFF) == 0x7FFF);
  CHECK(fp::reduced_multiplier(0x7FFF0000) == 0x7FFF);
  CHECK(fp::reduced_multiplier(highest) == 0x7FFF);
  CHECK(fp::multiply_by_quantized_multiplier(std::int64_t{3}, 1 << 30, 0) == 2);  // 1.5 half up
  CHECK(fp::multiply_by_quantized_multiplier(std::int64_t{-3}, 1 << 30, 0) == -1);
  polymac_test::random_source random(4);
  for (int i = 0; i < 200000; ++i) {
    const auto m = static_cast<std::int32_t>(random.integer(1 << 30, highest));
    const auto s = static_cast<std::int32_t>(random.integer(-31, 7));
    const std::int64_t x = random.integer(-(std::int64_t{1} << 47), (std::int64_t{1} << 47) - 1);
    const std::int64_t unit = std::int64_t{1} << (15 - s);
    const std::int64_t m16 = m < 0x7FFF0000 ? (std::int64_t{m} + 32768) / 65536 : 32767;
    std::int64_t expected = floor_divide(x * m16 + unit / 2, unit);
    expected = expected < lowest ? lowest : expected > highest ? highest : expected;
    const std::int32_t came = fp::multiply_by_quantized_multiplier<rounding::rndnu>(x, m, s);
    if (came != expected) {
      CAPTURE(x, m, s, polymac_test::seed_note());
      REQUIRE(came == expected);
    }
  }
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  CHECK(fp::multiply_by_quantized_multiplier(most, highest, 30) == highest);
  CHECK(fp::multiply_by_quantized_multiplier(-most, highest, 30) == lowest);
  CHECK(fp::multiply_by_quantized_multiplier(std::int64_t{1}, 1 << 30, 16) == 1 << 15);
}

TEST_CASE("64-bit sums take the whole multiplier where one rounding is asked for") {
  const auto scaled_once = [](std::int64_t x, std::int32_t m, std::int32_t s) {
    return fp::multiply_by_quantized_multiplier<rounding::half_up>(x, m, s);
  };
  CHECK(scaled_once(3, 1 << 30, 0) == 2);
  CHECK(scaled_once(-3, 1 << 30, 0) == -1);
  // What LiteRT's fully connected gives for a sum of 600 * 32767 * 127 and scale 2^-20.
  CHECK(scaled_once(std::int64_t{600} * 32767 * 127, 1 << 30, -19) == 2381);
  polymac_test::random_source random(5);
  for (int i = 0; i < 200000; ++i) {
    const auto m = static_cast<std::int32_t>(random.integer(0, highest));
    const auto s = static_cast<std::int32_t>(random.integer(-31, 30));
    // A multiple of 2^31 leaves a product of 32 bits to round: what 64 bits can check, over the whole range of sums.
    const std::int64_t x = random.integer(lowest, highest);
    const std::int64_t unit = std::int64_t{1} << (s < 0 ? -s : 0);
    const std::int64_t product = x * m;
    std::int64_t expected = s < 0 ? floor_divide(product + unit / 2, unit) : product;
    for (int k = 0; k < s && expected <= highest && expected >= lowest; ++k) expected *= 2;
    expected = expected < lowest ? lowest : expected > highest ? highest : expected;
    const std::int32_t wide = scaled_once(x * (std::int64_t{1} << 31), m, s);
    // And a sum of 32 bits.
    const std::int64_t fine = std::int64_t{1} << (31 - s);
    std::int64_t narrow = floor_divide(product + fine / 2, fine);
    narrow = narrow < lowest ? lowest : narrow > highest ? highest : narrow;
    if (wide != expected || scaled_once(x, m, s) != narrow) {
      CAPTURE(x, m, s, polymac_test::seed_note());
      REQUIRE(wide == expected);
      REQUIRE(scaled_once(x, m, s) == narrow);
    }
  }
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  constexpr auto least = std::numeric_limits<std::int64_t>::min();
  CHECK(scaled_once(most, highest, 30) == highest);
  CHECK(scaled_once(least, highest, 30) == lowest);
  CHECK(scaled_once(least, highest, -1) == lowest);
  CHECK(scaled_once(most, 1 << 29, -31) == 1 << 30);
}

TEST_CASE("rounding a float to even") {
  for (const float x : {0.0f, -0.0f, 0.5f, -0.5f, 1.5f, 2.5f, -2.5f, 0.49999997f, 4194303.5f, -4194304.5f, 8388607.5f,
                        8388608.0f, 16777216.0f, 2147483520.0f, -2147483520.0f, -2147483648.0f}) {
    CAPTURE(x);
    CHECK(fp::round_to_nearest_even(x) == static_cast<std::int64_t>(std::nearbyint(x)));
  }
  CHECK(fp::round_to_nearest_even(2147483648.0f) == highest);
  CHECK(fp::round_to_nearest_even(-3e9f) == lowest);
  CHECK(fp::round_to_nearest_even(std::numeric_limits<float>::infinity()) == highest);
  CHECK(fp::round_to_nearest_even(-std::numeric_limits<float>::infinity()) == lowest);
  polymac_test::random_source random(5);
  for (int i = 0; i < 200000; ++i) {
    const std::int32_t sum = any_int(random) >> random.integer(0, 30);
    const float scale = random.unit();
    const auto expected = static_cast<std::int32_t>(std::nearbyint(static_cast<float>(sum) * scale));
    if (fp::multiply_by_scale(sum, scale) != expected) {
      CAPTURE(sum, scale);
      REQUIRE(fp::multiply_by_scale(sum, scale) == expected);
    }
    const float small = static_cast<float>(sum % 4000000) / 4.0f;
    if (fp::round_small_to_nearest_even(small) != static_cast<std::int32_t>(std::nearbyint(small))) {
      CAPTURE(small);
      REQUIRE(fp::round_small_to_nearest_even(small) == static_cast<std::int32_t>(std::nearbyint(small)));
    }
  }
  // A sum above 2^24 is rounded to a float first, to even.
  CHECK(fp::multiply_by_scale((1 << 24) + 1, 1.0f) == 1 << 24);
  CHECK(fp::multiply_by_scale((1 << 24) + 3, 1.0f) == (1 << 24) + 4);
}

TEST_CASE("factors") {
  polymac_test::random_source random(6);
  for (int i = 0; i < 20000; ++i) {
    const double real =
        std::ldexp(0.5 + 0.5 * static_cast<double>(random.unit()), static_cast<int>(random.integer(-31, 30)));
    int exponent = 0;
    auto m = static_cast<std::int64_t>(std::round(std::frexp(real, &exponent) * 2147483648.0));
    if (m == std::int64_t{1} << 31) {
      m /= 2;
      ++exponent;
    }
    const fp::factor f = fp::quantize_multiplier(real);
    REQUIRE(f.multiplier == m);
    REQUIRE(f.shift == exponent);
    REQUIRE(fp::decode(f) == std::ldexp(static_cast<double>(f.multiplier), f.shift - 31));
    REQUIRE(fp::encode<rounding::rndnu>(real).multiplier % 128 == 0);  // 24 bits
  }
  // Rounds up to a power of two.
  CHECK(fp::quantize_multiplier(1.0 - 0x1p-40) == fp::factor{1 << 30, 1});
  CHECK(fp::quantize_multiplier(0x1p-32) == fp::factor{1 << 30, -31});
  CHECK(fp::quantize_multiplier(0x1p-33) == fp::factor{});
  CHECK(fp::quantize_multiplier(std::numeric_limits<double>::quiet_NaN()) == fp::factor{});
  CHECK(fp::quantize_multiplier(std::numeric_limits<double>::infinity()) == fp::factor{highest, 30});
}

TEST_CASE("rndnu is XNNPACK's 24-bit form") {
  polymac_test::random_source random(7);
  for (int i = 0; i < 100000; ++i) {
    const float scale = std::ldexp(0.5f + 0.5f * random.unit(), static_cast<int>(random.integer(-20, 0)));
    const auto sum = static_cast<std::int32_t>(random.integer(-(1 << 26), 1 << 26));
    int exponent = 0;
    const auto m24 = static_cast<std::int64_t>(std::frexp(scale, &exponent) * 0x1p24f);
    const std::int64_t unit = std::int64_t{1} << (24 - exponent);
    if (scaled<rounding::rndnu>(sum, double{scale}) != floor_divide(sum * m24 + unit / 2, unit)) {
      CAPTURE(sum, scale);
      REQUIRE(scaled<rounding::rndnu>(sum, double{scale}) == floor_divide(sum * m24 + unit / 2, unit));
    }
  }
}

TEST_CASE("how often the modes differ") {
  polymac_test::random_source random(8);
  const int count = 400000;
  int two_one = 0, one_float = 0, one_rndnu = 0, ties = 0;
  int farthest = 0;
  for (int i = 0; i < count; ++i) {
    const auto sum = static_cast<std::int32_t>(random.integer(-(1 << 17), 1 << 17));
    const double scale = std::exp2(-12.0 + 6.0 * static_cast<double>(random.unit()));
    const std::int32_t two = scaled<rounding::gemmlowp>(sum, scale), one = scaled<rounding::half_up>(sum, scale);
    two_one += two != one;
    one_float += one != scaled<rounding::fp32_nearest_even>(sum, scale);
    one_rndnu += one != scaled<rounding::rndnu>(sum, scale);
    farthest = std::max(farthest, std::abs(two - one));
    const double power = std::exp2(static_cast<double>(random.integer(-12, -6)));
    ties += scaled<rounding::half_up>(sum, power) != scaled<rounding::fp32_nearest_even>(sum, power);
  }
  CHECK(farthest == 1);
  CHECK(two_one > 2.0e-3 * count);  // about 2.6e-3
  CHECK(two_one < 3.2e-3 * count);
  CHECK(one_float < 1e-4 * count);  // about 1.2e-5
  CHECK(one_rndnu < 5e-5 * count);  // about 3.5e-6
  CHECK(ties > 1.5e-3 * count);     // about 2.5e-3
  CHECK(ties < 3.5e-3 * count);
}
