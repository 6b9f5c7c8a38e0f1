// SPDX-License-Identifier: MIT
// Rounding of IEEE numbers to the codes of small float formats. One rounding, written once, for fp16, fp8, fp6 and fp4.
#pragma once

#include "polymac/core/config.hpp"

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace polymac {

/// What becomes of a number beyond the largest finite one.
enum class overflow : unsigned char {
  saturate,  ///< the largest finite number of its sign, also of an infinity
  ieee,      ///< an infinity where the format has one, else a NaN where it has that, else the largest number
};

/// Helpers of the number types, outside of the ISA-tagged namespace as they are.
namespace float_code {

template <class Float>
using word_of = std::conditional_t<sizeof(Float) == 4, std::uint32_t, std::uint64_t>;

/// The code nearest to a finite magnitude (sign bit 0) of a format with `Mantissa` bits of mantissa and this bias,
/// whose exponent has no end upwards: exponent << Mantissa | mantissa, exponent 0 for subnormals. Ties go to the even
/// code. It grows with the magnitude, so what is beyond the largest finite code has overflowed. Integers only, so that
/// the mode of the thread does not matter.
template <int Mantissa, int Bias, class Float>
constexpr POLYMAC_INLINE word_of<Float> nearest(word_of<Float> magnitude) noexcept {
  using word = word_of<Float>;
  constexpr int digits = std::numeric_limits<Float>::digits - 1, bias = std::numeric_limits<Float>::max_exponent - 1;
  static_assert(Mantissa < digits && Bias < bias);
  // Where the numbers of the format are normal, the exponent is moved and the mantissa is cut.
  constexpr word least = bias + 1 - Bias;
  constexpr int cut = digits - Mantissa;
  const word exponent = magnitude >> digits;
  word kept = magnitude - ((least - 1) << digits);
  int shift = cut;
  if (exponent < least) {
    // Below, units are as large as at its least normal number. What is below half of the least subnormal is 0; shifts
    // stay shorter than the word.
    const word below = least - exponent;
    if (below > Mantissa + 1) return 0;
    kept = (magnitude & ((word{1} << digits) - 1)) | word{1} << digits;
    shift = cut + static_cast<int>(below);
  }
  // Half a unit less one, and one more where the last bit that stays is odd; a carry into the exponent is right.
  return (kept + ((word{1} << (shift - 1)) - 1) + (kept >> shift & 1u)) >> shift;
}

/// 2^exponent, exponent in [-126, 127].
constexpr POLYMAC_INLINE float power_of_two(int exponent) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}
/// 2^exponent, exponent in [-1022, 1023].
constexpr POLYMAC_INLINE double double_power_of_two(int exponent) noexcept {
  return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
}

/// A double rounded to float once; beyond the largest float an infinity, which the language leaves open.
constexpr POLYMAC_INLINE float to_float(double value) noexcept {
  if (value >= 0x1.ffffffp127) return std::numeric_limits<float>::infinity();
  if (value <= -0x1.ffffffp127) return -std::numeric_limits<float>::infinity();
  return static_cast<float>(value);
}

}  // namespace float_code
}  // namespace polymac
