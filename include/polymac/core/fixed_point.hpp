// SPDX-License-Identifier: MIT
// Fixed point: how an integer sum is scaled by a real factor without (or with very little) floating point.
//
// A real factor M is held as a 31-bit multiplier m and an exponent s: M = m * 2^(s - 31), m in [2^30, 2^31) or 0.
// Everything here is defined for every input: sums wrap where TFLite's wrap, and no shift is ever out of range.
// Sources: gemmlowp and TFLite (gemmlowp, half_up), ruy (half_up), XNNPACK (fp32_nearest_even, rndnu).
#pragma once

#include "polymac/core/config.hpp"

#include <bit>
#include <concepts>
#include <cstdint>
#include <limits>
#include <utility>

POLYMAC_BEGIN

/// How `sum * M` becomes an integer. The modes differ in about one of 400 results at most, by one; a net is only
/// reproduced bit for bit in the mode of the engine that made the reference.
enum class rounding : unsigned char {
  /// Rounds twice: doubling high product half up at bit 31, then the right shift half away from zero. TFLite's
  /// reference kernels of convolution, depthwise, add; TFLite Micro; CMSIS-NN by default.
  gemmlowp,
  /// Rounds once, half up: floor(sum * M + 1/2). TFLite's reference fully connected, ruy, CMSIS-NN single rounding.
  half_up,
  /// float(sum) * float(M), rounded to nearest even. XNNPACK's fp32 path. float(sum) is inexact for |sum| > 2^24.
  fp32_nearest_even,
  /// As half_up, but M has the 24 bits of a float. XNNPACK's rndnu path.
  rndnu,
};

namespace fixed_point {

/// M = multiplier * 2^(shift - 31). A positive shift is a left shift.
struct factor {
  std::int32_t multiplier = 0;
  std::int32_t shift = 0;
  friend constexpr bool operator==(const factor&, const factor&) = default;
};

/// The largest shift: 2^30 <= M would leave no rounding bit.
inline constexpr std::int32_t max_shift = 30;
/// The smallest shift; a smaller M is held as 0.
inline constexpr std::int32_t min_shift = -31;

/// `value`, or the nearest bound of `To`.
template <std::integral To, std::integral From>
constexpr To saturate_cast(From value) noexcept {
  if (std::cmp_less(value, std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
  if (std::cmp_greater(value, std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
  return static_cast<To>(value);
}

/// x * 2^shift modulo 2^32, shift in [0, 31].
constexpr std::int32_t wrapping_shift_left(std::int32_t x, std::int32_t shift) noexcept {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) << shift);
}

/// a + b modulo 2^32.
constexpr std::int32_t wrapping_add(std::int32_t a, std::int32_t b) noexcept {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}

/// round(a * b / 2^31), half up; INT32_MAX for INT32_MIN * INT32_MIN. Arm calls it SQRDMULH.
constexpr std::int32_t saturating_rounding_doubling_high_mul(std::int32_t a, std::int32_t b) noexcept {
  const std::int64_t product = static_cast<std::int64_t>(a) * b + (std::int64_t{1} << 30);
  // A logical shift gives the same low 32 bits as an arithmetic one and exists on every vector unit.
  const auto high = static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint64_t>(product) >> 31));
  constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min();
  return ((a == lowest) & (b == lowest)) ? std::numeric_limits<std::int32_t>::max() : high;
}

/// x / 2^exponent, rounded half away from zero; exponent in [0, 31].
constexpr std::int32_t rounding_divide_by_power_of_two(std::int32_t x, std::int32_t exponent) noexcept {
  const auto mask = static_cast<std::int32_t>((std::uint32_t{1} << exponent) - 1);
  const std::int32_t remainder = x & mask;
  const std::int32_t threshold = (mask >> 1) + static_cast<std::int32_t>(x < 0);
  return (x >> exponent) + static_cast<std::int32_t>(remainder > threshold);
}

/// x * M for the integer modes, |x * M| < 2^31 (a larger product wraps, as TFLite's does). shift in
/// [min_shift, max_shift]; multiplier >= 0, for gemmlowp any. In mode rndnu the multiplier comes from `encode<rndnu>`.
template <rounding Mode = rounding::gemmlowp>
  requires(Mode != rounding::fp32_nearest_even)
constexpr std::int32_t multiply_by_quantized_multiplier(std::int32_t x, std::int32_t multiplier,
                                                        std::int32_t shift) noexcept {
  if constexpr (Mode == rounding::gemmlowp) {
    const std::int32_t left = shift > 0 ? shift : 0;
    const std::int32_t right = shift > 0 ? 0 : -shift;
    return rounding_divide_by_power_of_two(
        saturating_rounding_doubling_high_mul(wrapping_shift_left(x, left), multiplier), right);
  } else {
    // |x * multiplier| <= 2^62 and the rounding term is at most 2^61: no overflow.
    const std::int64_t product = static_cast<std::int64_t>(x) * multiplier + (std::int64_t{1} << (30 - shift));
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(product >> (31 - shift)));
  }
}

/// The 16 leading bits of a multiplier >= 0, as TFLite takes them for sums of int16 activations.
constexpr std::int32_t reduced_multiplier(std::int32_t multiplier) noexcept {
  return multiplier < 0x7FFF0000 ? (multiplier + (1 << 15)) >> 16 : 0x7FFF;
}

/// floor(x * M + 1/2) for any 64-bit x, saturated to 32 bits; multiplier >= 0, shift in [min_shift, max_shift].
constexpr std::int32_t multiply_rounding_once(std::int64_t x, std::int32_t multiplier, std::int32_t shift) noexcept {
  // The product has up to 94 bits: high * 2^32 + low.
  const std::int64_t low_product = (x & 0xFFFFFFFF) * multiplier;          // below 2^63
  const std::int64_t high = (x >> 32) * multiplier + (low_product >> 32);  // |high| < 2^63
  const std::int64_t low = low_product & 0xFFFFFFFF;
  const std::int32_t right = 31 - shift;  // in [1, 62]
  if (right > 32) return saturate_cast<std::int32_t>((high + (std::int64_t{1} << (right - 33))) >> (right - 32));
  // Beyond this bound the result saturates, whatever `low` adds.
  constexpr std::int64_t bound = (std::int64_t{1} << 31) + 1;
  const std::int64_t bounded = high < -bound ? -bound : high > bound ? bound : high;
  return saturate_cast<std::int32_t>(bounded * (std::int64_t{1} << (32 - right)) +
                                     ((low + (std::int64_t{1} << (right - 1))) >> right));
}

/// x * M for 64-bit sums of int16 activations, saturated to 32 bits. Mode half_up: floor(x * M + 1/2), as TFLite's
/// reference fully connected. The other integer modes: one rounding, half up, with the 16-bit multiplier, as TFLite's
/// convolutions, TFLite Micro and CMSIS-NN; x outside [-2^47, 2^47) counts as the nearest bound.
template <rounding Mode = rounding::gemmlowp>
  requires(Mode != rounding::fp32_nearest_even)
constexpr std::int32_t multiply_by_quantized_multiplier(std::int64_t x, std::int32_t multiplier,
                                                        std::int32_t shift) noexcept {
  if constexpr (Mode == rounding::half_up) return multiply_rounding_once(x, multiplier, shift);
  constexpr std::int64_t bound = std::int64_t{1} << 47;
  const std::int64_t clamped = x < -bound ? -bound : x > bound - 1 ? bound - 1 : x;
  const std::int64_t product = clamped * reduced_multiplier(multiplier);  // |product| < 2^62
  if (shift < 15) {
    const std::int64_t rounded = (product + (std::int64_t{1} << (14 - shift))) >> (15 - shift);
    return saturate_cast<std::int32_t>(rounded);
  }
  const std::int64_t saturated = saturate_cast<std::int32_t>(product);
  return saturate_cast<std::int32_t>(saturated * (std::int64_t{1} << (shift - 15)));
}

/// The nearest integer, ties to even, saturating to 32 bits; assumes the default rounding mode of the CPU. Written as
/// an addition so that it is constexpr, vectorises, and survives -ffast-math.
constexpr std::int32_t round_to_nearest_even(float x) noexcept {
  constexpr float two_23 = 8388608.0f;
  constexpr float two_31 = 2147483648.0f;
  const float magnitude = x < 0 ? -x : x;
  std::int32_t integer = std::numeric_limits<std::int32_t>::max();
  if (magnitude < two_23)
    integer = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(magnitude + two_23) - 0x4B000000u);
  else if (magnitude < two_31)
    integer = static_cast<std::int32_t>(magnitude);
  else if (x < 0)
    return std::numeric_limits<std::int32_t>::min();
  return x < 0 ? -integer : integer;
}

/// The same where |x| <= 2^22 is known: one addition and one subtraction.
constexpr std::int32_t round_small_to_nearest_even(float x) noexcept {
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: one unit in the last place is 1
  return static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(x + magic) - 0x4B400000u);
}

/// sum * scale of mode fp32_nearest_even. XNNPACK clamps before it rounds; a clamp after it gives the same.
template <std::signed_integral Sum>
constexpr std::int32_t multiply_by_scale(Sum sum, float scale) noexcept {
  return round_to_nearest_even(static_cast<float>(sum) * scale);
}

/// M as multiplier and shift; the multiplier is rounded half away from zero. M below 2^-32 gives {0, 0}, M of 2^30 and
/// more the largest factor, {2^31 - 1, 30}; not a number gives {0, 0}. Negative factors mirror positive ones.
constexpr factor quantize_multiplier(double real) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(real);
  const bool negative = (bits >> 63) != 0;
  const auto exponent = static_cast<std::int32_t>((bits >> 52) & 0x7FF);
  const std::uint64_t fraction = bits & ((std::uint64_t{1} << 52) - 1);
  if (exponent == 0x7FF && fraction != 0) return {};
  // |M| = mantissa / 2^53 * 2^(exponent - 1022), mantissa in [2^52, 2^53); keep 31 of its 53 bits.
  const std::uint64_t mantissa = fraction | (std::uint64_t{1} << 52);
  std::uint64_t multiplier = (mantissa + (std::uint64_t{1} << 21)) >> 22;
  std::int32_t shift = exponent - 1022;
  if (multiplier == std::uint64_t{1} << 31) {
    multiplier >>= 1;
    ++shift;
  }
  if (shift < min_shift) return {};
  if (shift > max_shift) {
    multiplier = std::numeric_limits<std::int32_t>::max();
    shift = max_shift;
  }
  const auto magnitude = static_cast<std::int32_t>(multiplier);
  return {negative ? -magnitude : magnitude, shift};
}

/// M as the integer modes hold it: rndnu takes the 24 bits of a float, the others 31 bits.
template <rounding Mode>
  requires(Mode != rounding::fp32_nearest_even)
constexpr factor encode(double real) noexcept {
  return quantize_multiplier(Mode == rounding::rndnu ? static_cast<double>(static_cast<float>(real)) : real);
}

/// The real value of a factor; exact.
constexpr double decode(factor f) noexcept {
  const int exponent = f.shift - 31;  // in [-62, -1]
  const double unit = std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
  return static_cast<double>(f.multiplier) * unit;
}

}  // namespace fixed_point
POLYMAC_END
