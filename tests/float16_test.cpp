// SPDX-License-Identifier: MIT
// float16 against what it must be, code by code, and against Eigen's; the fused product against integers of 128 bits;
// the sums of mac::fp16 and mac::fp16_sum16.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/core/float16.hpp>
#include <polymac/mac/fp16.hpp>

#include <Eigen/Core>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

using polymac::float16;
using polymac::float16_pair;
namespace mac = polymac::mac;

namespace {

std::uint32_t bits_of(float v) { return std::bit_cast<std::uint32_t>(v); }
float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }
constexpr float16 code(unsigned bits) { return float16::from_bits(static_cast<std::uint16_t>(bits)); }

static_assert(float16(1.0f).bits == 0x3C00 && float16(-2.5f).bits == 0xC100 && float16{}.bits == 0);
static_assert(float{float16(3.0f)} == 3.0f && float16(1.0f) == float16(1.0f));
static_assert(float16(0x1.002p0f).bits == 0x3C00 && float16(0x1.006p0f).bits == 0x3C02);  // halfway: to the even one
static_assert(float16(65504.0f).bits == 0x7BFF && float16(65519.996f).bits == 0x7BFF &&
              float16(65520.0f).bits == 0x7C00);
static_assert(float16(0x1p-24f).bits == 1 && float16(0x1p-25f).bits == 0 && float16(0x1.000002p-25f).bits == 1);
static_assert(float16(0x1.8p-24f).bits == 2 && float16(0x1.ff8p-15f).bits == 0x3FF &&
              float16(0x1.ffcp-15f).bits == 0x400);
static_assert(float16(-0x1p-149f).bits == 0x8000);
static_assert(mac::fp16::multiply_add(1.0f, float16(0.5f), float16(-4.0f)) == -1.0f);

/// The value of a code by its definition; an infinity counts as 2^16, where the next number would be.
double value_of(unsigned bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double v = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000u ? -v : v;
}

/// The nearest half by trying the two neighbours, ties to even.
unsigned nearest(double v) {
  const unsigned sign = std::signbit(v) ? 0x8000u : 0;
  const double magnitude = std::abs(v);
  if (magnitude >= 65520.0) return sign | 0x7C00u;
  unsigned below = 0, above = 0x7C00;  // codes grow with magnitudes
  while (above - below > 1) (value_of((below + above) / 2) <= magnitude ? below : above) = (below + above) / 2;
  const double down = magnitude - value_of(below), up = value_of(above) - magnitude;
  if (down == up) return sign | (below % 2 == 0 ? below : above);
  return sign | (down < up ? below : above);
}

}  // namespace

TEST_CASE("every code of float16 becomes its float and comes back", "[float16]") {
  std::size_t wrong = 0;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float16 h = code(bits);
    const float v = h;
    const bool is_nan = (bits & 0x7FFFu) > 0x7C00u, is_infinite = (bits & 0x7FFFu) == 0x7C00u;
    const auto theirs = static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(h.bits));
    if (is_nan) {
      wrong += !std::isnan(v) || !std::isnan(theirs) || std::signbit(v) != (bits >> 15 != 0);
      wrong += (bits_of(v) & 0x7FFFFFu) != (0x400000u | (bits & 0x3FFu) << 13);  // quiet, with its other bits
    } else {
      const double exact = is_infinite ? std::copysign(INFINITY, value_of(bits)) : value_of(bits);
      wrong += static_cast<double>(v) != exact || std::signbit(v) != (bits >> 15 != 0) || bits_of(v) != bits_of(theirs);
    }
    wrong += float16(v).bits != (is_nan ? bits | 0x200u : bits);
    wrong += float16::from_double(static_cast<double>(v)).bits != float16(v).bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("floats and doubles are rounded to the nearest float16, ties to even", "[float16]") {
  std::size_t wrong = 0, differ = 0;
  const auto check = [&](float v) {
    const float16 got(v);
    if (std::isnan(v)) {
      wrong += (got.bits & 0x7E00u) != 0x7E00u;
      return;
    }
    wrong += got.bits != nearest(static_cast<double>(v));
    wrong += got != float16::from_double(static_cast<double>(v));
    differ += got.bits != Eigen::numext::bit_cast<std::uint16_t>(Eigen::half(v));
  };
  // All upper halves of floats with the lower halves where rounding turns.
  for (std::uint32_t upper = 0; upper < 65536; ++upper)
    for (const std::uint32_t low : {0u, 1u, 0x0FFFu, 0x1000u, 0x1001u, 0x2000u, 0x3000u, 0xFFFFu})
      check(float_of(upper << 16 | low));
  // Around the midpoints of all neighbours, also in doubles, which a detour by float would round twice.
  for (unsigned below = 0; below < 0x7C00; ++below) {
    const double middle = (value_of(below) + value_of(below + 1)) / 2;
    for (const double v : {middle, std::nextafter(middle, 0.0), std::nextafter(middle, 1e9), -middle}) {
      wrong += float16::from_double(v).bits != nearest(v);
      check(static_cast<float>(v));
    }
  }
  POLYMAC_RANDOM(random, 1);
  for (int i = 0; i < 300'000; ++i) check(float_of(static_cast<std::uint32_t>(random.bits())));
  CHECK(wrong == 0);
  CHECK(differ == 0);
  CHECK(float16(-std::numeric_limits<float>::max()).bits == 0xFC00);
  CHECK(float16::from_double(1e300).bits == 0x7C00);
  CHECK(float16::from_double(-1e-300).bits == 0x8000);
  CHECK(float16::from_double(std::numeric_limits<double>::denorm_min()).bits == 0);
  CHECK(float16(float_of(0xFF800001)).bits == 0xFE00);
  CHECK(float16::from_double(std::bit_cast<double>(0x7FF0000000000001u)).bits == 0x7E00);
}

TEST_CASE("float16 compares by bits with its like, and as a float with others", "[float16]") {
  const float16 nan = code(0x7E01), zero{}, minus_zero(-0.0f);
  CHECK(nan == nan);
  CHECK_FALSE(zero == minus_zero);
  CHECK(zero == -0.0f);
  CHECK(float16(1.5f) < 1.75f);
}

#if defined(__SIZEOF_INT128__)
namespace {

__extension__ typedef __int128 wide;

/// A finite half in units of 2^-24.
wide units(float16 h) {
  const int exponent = h.bits >> 10 & 31, mantissa = h.bits & 1023;
  const wide v = exponent == 0 ? wide{mantissa} : wide{1024 + mantissa} << (exponent - 1);
  return h.bits & 0x8000u ? -v : v;
}

/// a * w + c in integers of units 2^-48, and the nearest half of that.
unsigned exact_fused(float16 a, float16 w, float16 c) {
  const wide sum = units(a) * units(w) + (units(c) << 24);
  const unsigned sign = sum < 0 ? 0x8000u : 0;
  const wide magnitude = sum < 0 ? -sum : sum;
  unsigned below = 0, above = 0x7C00;
  const auto value = [](unsigned bits) {
    return (bits == 0x7C00u ? wide{1} << 40 : units(code(bits))) << 24;  // the infinity: 2^16
  };
  if (magnitude >= value(0x7C00)) return sign | 0x7C00u;
  while (above - below > 1) (value((below + above) / 2) <= magnitude ? below : above) = (below + above) / 2;
  const wide down = magnitude - value(below), up = value(above) - magnitude;
  const unsigned chosen = down == up ? (below % 2 == 0 ? below : above) : down < up ? below : above;
  return sign | chosen;
}

}  // namespace

TEST_CASE("the fused product of halves is rounded once", "[float16]") {
  std::size_t wrong = 0, by_float = 0;
  const auto check = [&](float16 a, float16 w, float16 c) {
    const float16 got = polymac::fused_multiply_add(a, w, c);
    const unsigned expected = exact_fused(a, w, c);
    // Of a sum that is 0 the sign is that of IEEE's sums.
    if ((expected & 0x7FFFu) == 0 && static_cast<float>(a) * static_cast<float>(w) == -static_cast<float>(c))
      wrong += got.bits != bits_of(static_cast<float>(a) * static_cast<float>(w) + static_cast<float>(c)) >> 16;
    else
      wrong += got.bits != expected;
    by_float += float16(static_cast<float>(a) * static_cast<float>(w) + static_cast<float>(c)).bits != got.bits;
  };
  POLYMAC_RANDOM(random, 2);
  const auto some = [&] {
    for (;;)
      if (const auto h = float16::from_bits(static_cast<std::uint16_t>(random.bits())); (h.bits & 0x7C00u) != 0x7C00u)
        return h;
  };
  for (int i = 0; i < 300'000; ++i) {
    const float16 a = some(), w = some();
    check(a, w, some());
    // A sum beside the midpoint of two halves: c is near the product, or the product is tiny beside c.
    const float16 near(-static_cast<float>(a) * static_cast<float>(w));
    if (const auto c = code(static_cast<unsigned>(near.bits + random.integer(-3, 3))); (c.bits & 0x7C00u) != 0x7C00u)
      check(a, w, c);
  }
  // Products that are midpoints of halves (12 bits), with c from the least subnormal on.
  for (int i = 0; i < 100'000; ++i) {
    const float16 a(std::ldexp(static_cast<float>(random.integer(33, 63)), static_cast<int>(random.integer(-10, 4))));
    const float16 w(std::ldexp(static_cast<float>(random.integer(33, 63)), static_cast<int>(random.integer(-10, 4))));
    for (const unsigned c : {0x0001u, 0x8001u, 0x0200u, 0x8400u, 0x1001u}) check(a, w, code(c));
  }
  // Factors of the least and the largest magnitude with every exponent of c.
  for (const unsigned a : {0x0001u, 0x8001u, 0x03FFu, 0x0400u, 0x7BFFu, 0xFBFFu, 0x3C01u})
    for (const unsigned w : {0x0001u, 0x03FFu, 0x07FFu, 0x7BFFu, 0x3BFFu})
      for (unsigned c = 0; c < 65536; c += 31)
        if ((c & 0x7C00u) != 0x7C00u) check(code(a), code(w), code(c));
  CHECK(wrong == 0);
  CHECK(by_float > 0);  // rounding twice, by way of float, shows in these operands
}
#endif

TEST_CASE("the fused product of halves treats infinities and NaN as IEEE does", "[float16]") {
  const float16 infinity = code(0x7C00), nan = code(0x7E00), one(1.0f), zero{}, largest = code(0x7BFF);
  using polymac::fused_multiply_add;
  CHECK(fused_multiply_add(infinity, one, one) == infinity);
  CHECK(fused_multiply_add(infinity, float16(-1.0f), one).bits == 0xFC00);
  CHECK(std::isnan(static_cast<float>(fused_multiply_add(infinity, zero, one))));
  CHECK(std::isnan(static_cast<float>(fused_multiply_add(infinity, one, code(0xFC00)))));
  CHECK(std::isnan(static_cast<float>(fused_multiply_add(nan, zero, one))));
  CHECK(fused_multiply_add(largest, one, largest) == infinity);
  CHECK(fused_multiply_add(largest, largest, code(0xFC00)).bits == 0xFC00);
  CHECK(fused_multiply_add(float16(-0.0f), one, float16(-0.0f)).bits == 0x8000);
  CHECK(fused_multiply_add(float16(-0.0f), one, zero).bits == 0);
}

TEST_CASE("products of fp16 are exact in float32", "[fp16]") {
  POLYMAC_RANDOM(random, 3);
  std::size_t wrong = 0;
  for (int i = 0; i < 300'000; ++i) {
    const float16 a = code(static_cast<unsigned>(random.integer(0, 0x7BFF))),
                  w = code(static_cast<unsigned>(random.integer(0x8000, 0xFBFF)));
    wrong += static_cast<double>(mac::fp16::multiply_add(0.0f, a, w)) !=
             static_cast<double>(static_cast<float>(a)) * static_cast<double>(static_cast<float>(w));
  }
  CHECK(wrong == 0);
  CHECK(mac::fp16::multiply_add(0.0f, code(1), code(1)) == 0x1p-48f);
  CHECK(mac::fp16::multiply_add(0.0f, code(0x7BFF), code(0xFBFF)) == -65504.0f * 65504.0f);
}

TEST_CASE("fp16_sum16 sums even and odd k in lanes of halves", "[fp16]") {
  using M = mac::fp16_sum16;
  const auto pair = [](float even, float odd) { return float16_pair(float16(even), float16(odd)); };
  CHECK(sizeof(float16_pair) == 4);
  CHECK(float16_pair{} == pair(0.0f, 0.0f));
  CHECK(float16_pair(1.5f) == pair(1.5f, 0.0f));
  CHECK(M::multiply_add(pair(1.0f, -2.0f), pair(2.0f, 3.0f), pair(4.0f, 5.0f)) == pair(9.0f, 13.0f));
  CHECK(M::total(pair(2048.0f, 1.0f)) == 2049.0f);  // added as floats: no half is that
  // 2048 + 1 stays 2048, whatever the other lane does; one rounding to a product.
  CHECK(M::multiply_add(pair(2048.0f, 2048.0f), pair(1.0f, 3.0f), pair(1.0f, 1.0f)) == pair(2048.0f, 2052.0f));
  CHECK(M::multiply_add(pair(-1.0f, 0.0f), pair(1.0f + 0x1p-10f, 0.0f), pair(1.0f - 0x1p-10f, 0.0f)) ==
        pair(-0x1p-20f, 0.0f));  // fused: the product is not rounded
  CHECK(M::multiply_add(pair(65504.0f, 0.0f), pair(16.0f, 1.0f), pair(1.0f, 1.0f)) ==
        float16_pair(code(0x7C00), float16(1.0f)));

  // Zero adds nothing, whatever it meets that is finite.
  for (const float16_pair c : {pair(0.0f, -1.0f), pair(65504.0f, 0x1p-24f), pair(-3.5f, 0x1p-14f)})
    for (const float16_pair v : {pair(65504.0f, -65504.0f), pair(0x1p-24f, -0.0f), pair(1.5f, -2.0f)}) {
      const float16_pair by_weight = M::multiply_add(c, v, {}), by_activation = M::multiply_add(c, {}, v);
      CHECK(by_weight == c);
      CHECK(by_activation == c);
    }

  // A row of halves is a row of pairs: the even k in the lower half of a word.
  const float16 row[4] = {float16(1.0f), float16(2.0f), float16(3.0f), float16(4.0f)};
  const auto words = std::bit_cast<std::array<std::uint32_t, 2>>(row);
  CHECK(std::bit_cast<float16_pair>(words[1]) == pair(3.0f, 4.0f));
}

TEST_CASE("fp16_sum16 keeps its error bound", "[fp16]") {
  using M = mac::fp16_sum16;
  POLYMAC_RANDOM(random, 4);
  for (const float size : {1.0f, 0x1p-11f})  // the second one: subnormal products
    for (const std::size_t depth : {1u, 2u, 17u, 500u}) {
      float16_pair sum(0.25f * size);
      double exact = static_cast<double>(static_cast<float>(sum)), magnitudes = exact;
      for (std::size_t k = 0; k < depth; ++k) {
        const auto some = [&] { return float16(size * (2.0f * random.unit() - 1.0f)); };
        const float16_pair a(some(), some()), w(some(), some());
        sum = M::multiply_add(sum, a, w);
        for (const auto& [x, y] : {std::pair{a.even, w.even}, std::pair{a.odd, w.odd}}) {
          const double product =
              static_cast<double>(static_cast<float>(x)) * static_cast<double>(static_cast<float>(y));
          exact += product;
          magnitudes += std::abs(product);
        }
      }
      const double error = std::abs(static_cast<double>(M::total(sum)) - exact);
      CAPTURE(size, depth, error);
      CHECK(error <= M::error_bound(depth, magnitudes));
      CHECK(std::isfinite(M::error_bound(depth, magnitudes)));
    }
  CHECK(std::isinf(M::error_bound(2047, 1.0)));
}
