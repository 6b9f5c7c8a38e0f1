// SPDX-License-Identifier: MIT
// Integer requantisation as three float operations, proved equal column by column.
//
// A mode of requantisation is a step function R of the sum: it never falls, and within the range of the output it has
// at most 255 steps. Step q stands at T(q), the least sum with R(sum) >= q, which integer arithmetic gives exactly. The
// float form
//     gemmlowp           trunc(sum * (high + low) + copysign(offset, sum))
//     half_up, rndnu     floor(sum * (high + low) + offset)
// is a step function that never falls either: high, low >= 0, and every rounding is monotone. Two such functions are
// equal for every sum if they are equal at T(q) and T(q) - 1 for every q. So the proof is a loop over the steps. What
// makes it succeed:
//   - high + low holds 48 bits of the scale, and sums up to 2^24, where all steps must lie, are exact floats;
//   - the last addition rounds toward the direction of the conversion, and so never crosses an integer; the only error
//     left is that of `sum * low + offset`, below 2^-25 while its magnitude is below 1;
//   - the offset is put into the middle between the bounds that all steps set, which gemmlowp's second rounding asks
//     for anyway: it moves every step by half a unit of the first.
// A column whose bounds are too close, whose scale is 1 or more or too small, keeps its integers; nothing is assumed.
//
// Cost: one 64-bit division for each step, once, at construction. Needs additions with a rounding direction (AVX-512).
#pragma once

#include "polymac/core/fixed_point.hpp"

#include <bit>
#include <cstdint>

POLYMAC_BEGIN
namespace epilogue {
namespace detail {

/// The float form of one column.
struct float_form {
  float high = 0.0f;
  float low = 0.0f;
  float offset = 0.5f;
};

/// Has this target additions with a rounding direction of their own?
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
inline constexpr bool has_directed_rounding = true;
#else
inline constexpr bool has_directed_rounding = false;
#endif

/// a / b rounded up; b > 0.
constexpr std::int64_t divide_rounding_up(std::int64_t a, std::int64_t b) noexcept {
  const std::int64_t quotient = a / b;
  return quotient * b < a ? quotient + 1 : quotient;
}

/// A float not above the double x > 0.
constexpr float round_down(double x) noexcept {
  const auto f = static_cast<float>(x);
  return static_cast<double>(f) > x ? std::bit_cast<float>(std::bit_cast<std::uint32_t>(f) - 1) : f;
}

/// Finds the float form of factor f for results in [least, most] (at most 2^9 apart from zero); false where none is
/// proved.
template <rounding Mode>
requires(Mode != rounding::fp32_nearest_even) constexpr bool find_float_form(fixed_point::factor f, std::int32_t least,
                                                                             std::int32_t most,
                                                                             float_form& form) noexcept {
  constexpr bool twice = Mode == rounding::gemmlowp;
  form = {};
  if (f.multiplier == 0) return true;              // always 0, as trunc and floor of the offset 1/2 are
  if (f.shift > 0 || f.shift < -20) return false;  // scale 1 and more; steps beyond 2^24
  const int right = -f.shift;
  const std::int64_t multiplier = f.multiplier;
  const double scale = fixed_point::decode(f);
  form.high = round_down(scale);
  form.low = static_cast<float>(scale - static_cast<double>(form.high));  // exact: 31 bits in all
  const double held = static_cast<double>(form.high) + static_cast<double>(form.low);

  // The bounds of the offset, and how far from them it must keep: twice 2^-25 for the sum in float, and more than the
  // rounding of the doubles here.
  double lower = 0.0, upper = 1.0;
  constexpr double margin = 1.0 / (1 << 24);
  for (std::int64_t q = std::int64_t{least} + 1; q <= most; ++q) {
    std::int64_t step = 0;  // T(q)
    if constexpr (twice) {
      // x >= q * 2^right - 2^(right - 1), one more below zero, where x = floor((sum * multiplier + 2^30) / 2^31).
      const std::int64_t half = right > 0 ? std::int64_t{1} << (right - 1) : 0;
      const std::int64_t x = q * (std::int64_t{1} << right) - half + (q <= 0 && right > 0 ? 1 : 0);
      step = divide_rounding_up(x * (std::int64_t{1} << 31) - (std::int64_t{1} << 30), multiplier);
    } else {
      step = divide_rounding_up((2 * q - 1) * (std::int64_t{1} << (30 + right)), multiplier);
    }
    constexpr std::int64_t exact = std::int64_t{1} << 24;
    if (step <= -exact || step >= exact) return false;
    const double at = static_cast<double>(step) * held;
    const double before = static_cast<double>(step - 1) * held;
    const auto target = static_cast<double>(q);
    // Above zero (and for floor): at + offset >= q > before + offset. Below zero trunc rounds up:
    // at - offset > q - 1 >= before - offset.
    const bool falls = twice && q <= 0;
    const double low_bound = falls ? before - target + 1.0 : target - at;
    const double high_bound = falls ? at - target + 1.0 : target - before;
    lower = lower < low_bound ? low_bound : lower;
    upper = upper > high_bound ? high_bound : upper;
  }
  form.offset = static_cast<float>((lower + upper) / 2);
  const auto offset = static_cast<double>(form.offset);
  return lower + margin <= offset && offset <= upper - margin;
}

}  // namespace detail
}  // namespace epilogue
POLYMAC_END
