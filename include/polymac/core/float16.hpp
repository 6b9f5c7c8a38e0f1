// SPDX-License-Identifier: MIT
// float16: the IEEE half. 5 bits of exponent, 11 of precision.
//
// A plain pair of bytes that may cross translation units, so it lives outside of the ISA-tagged namespace.
#pragma once

#include "polymac/core/config.hpp"
#include "polymac/core/float_code.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace polymac {

namespace float_code {

/// The bits of the nearest half.
template <class Float>
constexpr POLYMAC_INLINE std::uint16_t nearest_half(Float value) noexcept {
  using word = word_of<Float>;
  constexpr int digits = std::numeric_limits<Float>::digits - 1;
  constexpr word sign_bit = word{1} << (sizeof(word) * 8 - 1);
  constexpr word infinity = std::bit_cast<word>(std::numeric_limits<Float>::infinity());
  const word all = std::bit_cast<word>(value), magnitude = all & ~sign_bit;
  const auto sign = static_cast<std::uint32_t>(all >> (sizeof(word) * 8 - 16) & 0x8000u);
  std::uint32_t code = 0x7C00u;
  // The upper bits of a NaN may be all that made it one: it becomes quiet.
  if (magnitude > infinity)
    code = 0x7E00u | static_cast<std::uint32_t>(magnitude >> (digits - 10) & 0x3FFu);
  else if (magnitude < std::bit_cast<word>(Float{65520}))
    code = static_cast<std::uint32_t>(nearest<10, 15, Float>(magnitude));
  return static_cast<std::uint16_t>(sign | code);
}

}  // namespace float_code

/// A number of 16 bits: sign, 5 bits of exponent (bias 15), 10 of mantissa: IEEE 754 binary16. Largest 65504, least
/// normal 2^-14, least subnormal 2^-24. Becomes a float exactly and by itself; a float becomes one by rounding to
/// nearest, ties to even, and only where one asks for it: from 65520 on it is an infinity, NaN becomes a quiet NaN with
/// its sign and upper bits, subnormals are kept: what vcvtps2ph and vcvtph2ps do. The memory of _Float16, __fp16,
/// Eigen::half and oneDNN's f16. Not initialised unless asked for (`float16{}` is +0).
struct float16 {
  std::uint16_t bits;

  float16() noexcept = default;
  constexpr POLYMAC_INLINE explicit float16(float value) noexcept : bits(float_code::nearest_half(value)) {}
  static constexpr POLYMAC_INLINE float16 from_bits(std::uint16_t bits) noexcept {
    float16 h{};
    h.bits = bits;
    return h;
  }
  /// The nearest of a double, in one rounding.
  static constexpr POLYMAC_INLINE float16 from_double(double value) noexcept {
    return from_bits(float_code::nearest_half(value));
  }
  constexpr POLYMAC_INLINE operator float() const noexcept {  // NOLINT: implicit by design, it loses nothing
    const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16, magnitude = bits & 0x7FFFu;
    if (magnitude < 0x400u) {
      const float subnormal = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f;
      return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(subnormal));
    }
    std::uint32_t word = (magnitude << 13) + 0x38000000u;
    if (magnitude >= 0x7C00u) word = magnitude << 13 | (magnitude > 0x7C00u ? 0x7FC00000u : 0x7F800000u);
    return std::bit_cast<float>(sign | word);
  }
  /// The same bits? So NaN equals itself, and -0 is not 0. Other comparisons are those of floats.
  friend constexpr POLYMAC_INLINE bool operator==(float16 a, float16 b) noexcept { return a.bits == b.bits; }
};

static_assert(sizeof(float16) == 2 && std::is_trivially_copyable_v<float16> &&
              std::is_trivially_default_constructible_v<float16>);

/// a * w + c of halves in one rounding: what vfmadd*ph of AVX512-FP16 and FMLA of Arm's FP16 do.
///
/// The product is exact in 22 bits, a multiple of 2^-48. Its sum with c is rounded to double and then to half, which is
/// the same as rounding once:
///   - |c| >= |a w|: the sum has more than 53 bits only where |a w| < 2^-30 |c|. Then both the exact sum and the double
///     are so near to c, which is a half, that they round to it.
///   - |a w| > |c|: c is a multiple of 2^-24, so that a sum with more than 53 bits is above 2^28: infinity both ways.
/// Everywhere else the double is exact.
constexpr POLYMAC_INLINE float16 fused_multiply_add(float16 a, float16 w, float16 c) noexcept {
  const double product = static_cast<double>(static_cast<float>(a)) * static_cast<double>(static_cast<float>(w));
  return float16::from_double(product + static_cast<double>(static_cast<float>(c)));
}

/// Two halves in one word of 32 bits, the even one in the lower half: the SIMD word of microcontrollers. Of a row, two
/// neighbouring k.
struct float16_pair {
  using value_type = float16;
  static constexpr std::size_t size = 2;

  float16 even, odd;

  float16_pair() noexcept = default;
  constexpr POLYMAC_INLINE float16_pair(float16 even_, float16 odd_) noexcept : even(even_), odd(odd_) {}
  /// The number, rounded, in the even lane; 0 in the odd one: how a bias enters the sums of mac::fp16_sum16.
  constexpr POLYMAC_INLINE explicit float16_pair(float value) noexcept : even(value), odd(float16::from_bits(0)) {}
  /// even + odd, as float.
  constexpr POLYMAC_INLINE explicit operator float() const noexcept {
    return static_cast<float>(even) + static_cast<float>(odd);
  }
  /// The same bits?
  friend constexpr POLYMAC_INLINE bool operator==(float16_pair a, float16_pair b) noexcept {
    return a.even == b.even && a.odd == b.odd;
  }
};

static_assert(sizeof(float16_pair) == 4 && std::is_trivially_copyable_v<float16_pair> &&
              std::is_trivially_default_constructible_v<float16_pair>);

}  // namespace polymac
