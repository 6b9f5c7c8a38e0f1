// SPDX-License-Identifier: MIT
// Floats of 8, 6 and 4 bits: OCP's FP8 and the element types of its block formats.
//
// Plain bytes that may cross translation units, so they live outside of the ISA-tagged namespace.
//
//                  bias  least normal  least subnormal  largest   above it               -0
//     e4m3fn          7      2^-6          2^-9            448    NaN (0x7F), no Inf     yes
//     e5m2           15      2^-14         2^-16         57344    Inf, three NaN         yes
//     e4m3fnuz        8      2^-7          2^-10           240    NaN is the code of -0  no
//     e5m2fnuz       16      2^-15         2^-17         57344    NaN is the code of -0  no
//     e3m2            3      2^-2          2^-4             28    neither                yes
//     e2m3            1      1             2^-3            7.5    neither                yes
//     e2m1            1      1             2^-1              6    neither                yes
//
// Sources: OCP 8-bit Floating Point Specification (OFP8) 1.0; OCP Microscaling Formats (MX) 1.0, section 5.3; for the
// fnuz types Noune et al., arXiv 2206.02915.
#pragma once

#include "polymac/core/config.hpp"
#include "polymac/core/float_code.hpp"

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace polymac {

/// Which codes of a small float are no numbers.
enum class special_codes : unsigned char {
  ieee,           ///< the largest exponent: infinity with mantissa 0, else NaN
  one_nan,        ///< all ones behind the sign: NaN ("fn": finite)
  negative_zero,  ///< the code of -0 is the only NaN, and there is no -0 ("fnuz": finite, unsigned zero)
  none,           ///< every code is a finite number
};

namespace float_code {

/// The bits of the nearest number of Format, see minifloat::encode.
template <class Format, class Float>
constexpr POLYMAC_INLINE std::uint8_t nearest_minifloat(Float value, overflow mode) noexcept {
  using word = word_of<Float>;
  constexpr word infinity = std::bit_cast<word>(std::numeric_limits<Float>::infinity());
  constexpr auto largest = Format::largest_code;
  constexpr bool signed_zero = Format::special != special_codes::negative_zero;
  const word all = std::bit_cast<word>(value), magnitude = all & ~(word{1} << (sizeof(word) * 8 - 1));
  const auto sign = static_cast<unsigned>(all >> (sizeof(word) * 8 - 1)) << (Format::width - 1);
  // Of the formats with NaN: with all bits of the exponent and the mantissa's upper one, or all bits, or the one code.
  constexpr unsigned nan =
      Format::special == special_codes::ieee ? largest + 1u + (1u << (Format::mantissa_bits - 1)) : largest + 1u;
  if (magnitude > infinity && Format::has_nan) return static_cast<std::uint8_t>(signed_zero ? sign | nan : nan);
  word code = largest + word{1};
  if (magnitude < infinity) code = nearest<Format::mantissa_bits, Format::bias, Float>(magnitude);
  if (code > largest) {
    if (mode == overflow::ieee && Format::has_infinity) return static_cast<std::uint8_t>(sign | (largest + 1u));
    if (mode == overflow::ieee && Format::has_nan) return static_cast<std::uint8_t>(signed_zero ? sign | nan : nan);
    code = largest;
  }
  if (!signed_zero && code == 0) return 0;
  return static_cast<std::uint8_t>(sign | static_cast<unsigned>(code));
}

}  // namespace float_code

/// A float of 1 + ExponentBits + MantissaBits bits, at most 8, in the lower bits of a byte; the bits above are 0.
/// Becomes a float exactly and by itself. A float becomes one by rounding to nearest, ties to even, subnormals included,
/// and only where one asks for it; by constructor it saturates, see encode(). Not initialised unless asked for
/// (`e4m3fn{}` is +0).
template <int ExponentBits, int MantissaBits, int Bias, special_codes Special>
struct minifloat {
  static_assert(ExponentBits >= 2 && MantissaBits >= 1 && ExponentBits + MantissaBits <= 7,
                "polymac: a minifloat has 2 bits of exponent, 1 of mantissa and 8 altogether at most");
  static constexpr int exponent_bits = ExponentBits, mantissa_bits = MantissaBits, bias = Bias;
  static constexpr special_codes special = Special;
  /// Bits of a code.
  static constexpr int width = 1 + ExponentBits + MantissaBits;
  /// The code of the largest finite number.
  static constexpr std::uint8_t largest_code =
      static_cast<std::uint8_t>((1 << (ExponentBits + MantissaBits)) - 1 -
                                (Special == special_codes::ieee      ? 1 << MantissaBits
                                 : Special == special_codes::one_nan ? 1
                                                                     : 0));
  static constexpr bool has_nan = Special != special_codes::none;
  static constexpr bool has_infinity = Special == special_codes::ieee;
  /// floor(log2(largest)): the exponent of the largest number.
  static constexpr int max_exponent = (largest_code >> MantissaBits) - Bias;
  static constexpr int min_exponent = 1 - Bias;  ///< of the least normal number

  std::uint8_t bits;

  minifloat() noexcept = default;
  constexpr POLYMAC_INLINE explicit minifloat(float value) noexcept : bits(rounded(value, overflow::saturate)) {}
  static constexpr POLYMAC_INLINE minifloat from_bits(std::uint8_t bits) noexcept {
    minifloat m{};
    m.bits = bits;
    return m;
  }
  /// The nearest number, ties to even. What rounds to more than the largest number, and an infinity: with
  /// overflow::saturate the largest one; with overflow::ieee an infinity where there is one, else a NaN where there is one,
  /// else the largest one. NaN stays NaN, quiet and with its sign where NaN have one; where there is none it becomes the
  /// largest number. Where there is no -0 it becomes 0.
  static constexpr POLYMAC_INLINE minifloat encode(float value, overflow mode = overflow::saturate) noexcept {
    return from_bits(rounded(value, mode));
  }
  /// The same in one rounding from a double.
  static constexpr POLYMAC_INLINE minifloat encode(double value, overflow mode = overflow::saturate) noexcept {
    return from_bits(rounded(value, mode));
  }
  /// The largest number.
  static constexpr POLYMAC_INLINE float max() noexcept { return from_bits(largest_code); }

  constexpr POLYMAC_INLINE operator float() const noexcept {  // NOLINT: implicit by design, it loses nothing
    const std::uint32_t magnitude = bits & magnitude_mask;
    std::uint32_t word = (magnitude << (23 - MantissaBits)) + (std::uint32_t{127 - Bias} << 23);
    if (magnitude < 1u << MantissaBits)
      word = std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(magnitude)) *
                                          float_code::power_of_two(1 - Bias - MantissaBits));
    if constexpr (Special == special_codes::negative_zero) {
      if (bits == sign_bit) word = quiet_nan;
    } else if constexpr (Special != special_codes::none) {
      if (magnitude > largest_code) word = has_infinity && magnitude == largest_code + 1u ? 0x7F800000u : quiet_nan;
    }
    return std::bit_cast<float>(word | std::uint32_t{bits & sign_bit} << (32 - width));
  }
  /// The same bits? So NaN equals itself, and -0 is not 0. Other comparisons are those of floats.
  friend constexpr POLYMAC_INLINE bool operator==(minifloat a, minifloat b) noexcept { return a.bits == b.bits; }

 private:
  static constexpr std::uint32_t sign_bit = 1u << (width - 1), magnitude_mask = sign_bit - 1, quiet_nan = 0x7FC00000u;

  static constexpr POLYMAC_INLINE std::uint8_t rounded(float value, overflow mode) noexcept {
    return float_code::nearest_minifloat<minifloat>(value, mode);
  }
  static constexpr POLYMAC_INLINE std::uint8_t rounded(double value, overflow mode) noexcept {
    return float_code::nearest_minifloat<minifloat>(value, mode);
  }
};

using e4m3fn = minifloat<4, 3, 7, special_codes::one_nan>;
using e5m2 = minifloat<5, 2, 15, special_codes::ieee>;
using e4m3fnuz = minifloat<4, 3, 8, special_codes::negative_zero>;
using e5m2fnuz = minifloat<5, 2, 16, special_codes::negative_zero>;
using e3m2 = minifloat<3, 2, 3, special_codes::none>;
using e2m3 = minifloat<2, 3, 1, special_codes::none>;
using e2m1 = minifloat<2, 1, 1, special_codes::none>;

/// Is T one of the small floats?
template <class T>
inline constexpr bool is_minifloat = false;
template <int E, int M, int B, special_codes S>
inline constexpr bool is_minifloat<minifloat<E, M, B, S>> = true;

/// The usual name of an element type of fp8 and the block formats.
template <class T>
inline constexpr const char* element_name = "minifloat";
template <>
inline constexpr const char* element_name<e4m3fn> = "e4m3fn";
template <>
inline constexpr const char* element_name<e5m2> = "e5m2";
template <>
inline constexpr const char* element_name<e4m3fnuz> = "e4m3fnuz";
template <>
inline constexpr const char* element_name<e5m2fnuz> = "e5m2fnuz";
template <>
inline constexpr const char* element_name<e3m2> = "e3m2";
template <>
inline constexpr const char* element_name<e2m3> = "e2m3";
template <>
inline constexpr const char* element_name<e2m1> = "e2m1";

static_assert(sizeof(e4m3fn) == 1 && std::is_trivially_copyable_v<e4m3fn> &&
              std::is_trivially_default_constructible_v<e4m3fn>);

}  // namespace polymac
