// SPDX-License-Identifier: MIT
// exp(x) for x <= 0 and 1/x in fixed point, bit for bit as gemmlowp defines them: what TFLite's int8 softmax is made
// of. "Qi.f" is a 32-bit number with i integer bits, f = 31 - i fraction bits.
#pragma once

#include "polymac/core/fixed_point.hpp"

#include <bit>
#include <cstdint>
#include <limits>

POLYMAC_BEGIN
namespace fixed_point {

/// x * 2^exponent, saturating; exponent in [0, 31].
constexpr std::int32_t saturating_shift_left(std::int32_t x, int exponent) noexcept {
  return saturate_cast<std::int32_t>(static_cast<std::int64_t>(x) * (std::int64_t{1} << exponent));
}

namespace detail {

constexpr std::int32_t one_q0 = std::numeric_limits<std::int32_t>::max();  // the largest Q0.31 stands for 1

/// exp(a) of a Q0.31 in [-1/4, 0): Taylor polynomial of degree 4 around -1/8.
constexpr std::int32_t exp_of_small(std::int32_t a) noexcept {
  constexpr std::int32_t exp_of_minus_eighth = 1895147668;
  constexpr std::int32_t third = 715827883;
  const auto product = [](std::int32_t p, std::int32_t q) { return saturating_rounding_doubling_high_mul(p, q); };
  const std::int32_t x = a + (1 << 28);  // a + 1/8, in [-1/8, 1/8)
  const std::int32_t x2 = product(x, x);
  const std::int32_t x3 = product(x2, x);
  const std::int32_t x4 = product(x2, x2);
  const std::int32_t x4_quarter = rounding_divide_by_power_of_two(x4, 2);
  const std::int32_t tail = rounding_divide_by_power_of_two(product(x4_quarter + x3, third) + x2, 1);
  return exp_of_minus_eighth + product(exp_of_minus_eighth, x + tail);
}

}  // namespace detail

/// exp(a) as Q0.31 of a Q5.26 number a <= 0 (a in [-32, 0]).
constexpr std::int32_t exp_on_negative_values(std::int32_t a) noexcept {
  constexpr int fraction_bits = 26;
  constexpr std::int32_t quarter = 1 << (fraction_bits - 2);
  // a = (a mod 1/4 - 1/4) - remainder: the first goes through the polynomial, each bit of the second is one factor.
  const std::int32_t small = (a & (quarter - 1)) - quarter;
  const std::int32_t remainder = small - a;  // in [0, 2^31)
  std::int32_t y = detail::exp_of_small(saturating_shift_left(small, 5));
  // exp(-2^k) as Q0.31 for k = -2 ... 4
  constexpr std::int32_t factors[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
  int bit = fraction_bits - 2;
  for (const std::int32_t f : factors) {
    if (((remainder >> bit) & 1) != 0) y = saturating_rounding_doubling_high_mul(y, f);
    ++bit;
  }
  return a == 0 ? detail::one_q0 : y;
}

/// 1 / (1 + a) as Q0.31 of a Q0.31 number a in [0, 1): three Newton steps.
constexpr std::int32_t one_over_one_plus(std::int32_t a) noexcept {
  constexpr std::int32_t q2_48_over_17 = 1515870810;
  constexpr std::int32_t q2_minus_32_over_17 = -1010580540;
  constexpr std::int32_t q2_one = 1 << 29;
  const auto product = [](std::int32_t p, std::int32_t q) { return saturating_rounding_doubling_high_mul(p, q); };
  const std::int64_t sum = static_cast<std::int64_t>(a) + detail::one_q0;
  const auto half_denominator = static_cast<std::int32_t>((sum + (sum >= 0 ? 1 : -1)) / 2);
  std::int32_t x = q2_48_over_17 + product(half_denominator, q2_minus_32_over_17);
  for (int step = 0; step < 3; ++step) {
    const std::int32_t rest = q2_one - product(half_denominator, x);
    x += saturating_shift_left(product(x, rest), 2);
  }
  return saturating_shift_left(x, 1);
}

/// A positive number's reciprocal: 1/x = scale / 2^31 * 2^-exponent.
struct reciprocal {
  std::int32_t scale = 0;
  int exponent = 0;
};

/// 1/x of a positive fixed-point number with `integer_bits` integer bits.
constexpr reciprocal reciprocal_of(std::int32_t x, int integer_bits) noexcept {
  const auto bits = static_cast<std::uint32_t>(x);
  const int headroom = std::countl_zero(bits);
  const auto above_one = static_cast<std::int32_t>((bits << headroom) - (std::uint32_t{1} << 31));
  return {one_over_one_plus(above_one), integer_bits - headroom};
}

}  // namespace fixed_point
POLYMAC_END
