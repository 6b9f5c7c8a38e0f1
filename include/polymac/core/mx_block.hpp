// SPDX-License-Identifier: MIT
// Blocks of OCP's Microscaling formats (MX 1.0): 32 codes of a few bits that share a power of two.
//
// Plain bytes that may cross translation units, so they live outside of the ISA-tagged namespace.
//
//     element   bits   numbers                       largest   block
//     e4m3fn     8     see core/minifloat.hpp           448    33 bytes    MXFP8
//     e5m2       8                                    57344    33 bytes    MXFP8
//     e3m2       6                                       28    25 bytes    MXFP6
//     e2m3       6                                      7.5    25 bytes    MXFP6
//     e2m1       4     0, 0.5, 1, 1.5, 2, 3, 4, 6         6    17 bytes    MXFP4
//     int8       8     -127/64 ... 127/64            127/64    33 bytes    MXINT8; the code -128 is -2, and left unused
//
// In memory: the scale, then the codes as a string of bits, the lowest bits first: code i fills the bits from i x width
// on, counted from the lowest bit of the first byte. Two nibbles to a byte, the low one first; four codes of 6 bits to
// three bytes. (The standard leaves the order in memory open.)
#pragma once

#include "polymac/core/config.hpp"
#include "polymac/core/float_code.hpp"
#include "polymac/core/minifloat.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace polymac {

/// How the scale 2^e of a block follows from its largest magnitude.
enum class mx_scale : unsigned char {
  floor,      ///< e = floor(log2 largest) - emax: the standard's. Up to 12.5 % (e4m3fn) or 25 % (e2m1) of it is cut off
  ceil,       ///< one more where the largest is no power of two: never cut off
  even,       ///< floor of the largest rounded to the mantissa of the elements (halves up)
  round_ceil  ///< RCEIL: the least e with which the largest needs no cutting: largest / 2^e <= largest element
};

/// What a block needs to know of its element type.
template <class Element>
struct mx_element {
  static_assert(is_minifloat<Element>,
                "polymac: elements of MX blocks are e4m3fn, e5m2, e3m2, e2m3, e2m1 or std::int8_t");
  static constexpr int width = Element::width, mantissa_bits = Element::mantissa_bits;
  static constexpr int max_exponent = Element::max_exponent;
  static constexpr const char* name = element_name<Element>;
  /// 4 and 6 bits: element = integer(element) * 2^unit. 448 at most.
  static constexpr bool is_integer = Element::width <= 6;
  static constexpr int unit = Element::min_exponent - Element::mantissa_bits;
  static constexpr POLYMAC_INLINE double max() noexcept { return static_cast<double>(Element::max()); }
  static constexpr POLYMAC_INLINE Element from_code(unsigned code) noexcept {
    return Element::from_bits(static_cast<std::uint8_t>(code));
  }
  static constexpr POLYMAC_INLINE unsigned code(Element e) noexcept { return e.bits; }
  static constexpr POLYMAC_INLINE float value(Element e) noexcept { return e; }
  static constexpr POLYMAC_INLINE std::int32_t integer(Element e) noexcept {
    return static_cast<std::int32_t>(static_cast<float>(e) * float_code::power_of_two(-unit));
  }
  /// To nearest, ties to even, saturating.
  static constexpr POLYMAC_INLINE Element encode(double value) noexcept { return Element::encode(value); }
};
template <>
struct mx_element<std::int8_t> {
  static constexpr int width = 8, mantissa_bits = 6, max_exponent = 0;
  static constexpr const char* name = "int8";
  static constexpr bool is_integer = true;
  static constexpr int unit = -6;
  static constexpr POLYMAC_INLINE double max() noexcept { return 127.0 / 64.0; }
  static constexpr POLYMAC_INLINE std::int8_t from_code(unsigned code) noexcept {
    return static_cast<std::int8_t>(static_cast<std::uint8_t>(code));
  }
  static constexpr POLYMAC_INLINE unsigned code(std::int8_t e) noexcept { return static_cast<std::uint8_t>(e); }
  static constexpr POLYMAC_INLINE float value(std::int8_t e) noexcept { return static_cast<float>(e) * 0x1p-6f; }
  static constexpr POLYMAC_INLINE std::int32_t integer(std::int8_t e) noexcept { return e; }
  static constexpr POLYMAC_INLINE std::int8_t encode(double value) noexcept {
    const double scaled = value * 64.0;
    if (!(scaled < 127.0)) return 127;
    if (scaled <= -127.0) return -127;
    const auto below = static_cast<int>(scaled);  // towards zero
    const double rest = scaled - below, distance = rest < 0.0 ? -rest : rest;
    const bool away = distance > 0.5 || (distance == 0.5 && below % 2 != 0);
    return static_cast<std::int8_t>(below + (away ? (rest < 0.0 ? -1 : 1) : 0));
  }
};

/// Thirty-two numbers 2^(scale - 127) x element. The value-initialised block is 32 zeros with the scale 2^-127. Scale 255
/// is NaN, and then so are all numbers. Not initialised unless asked for.
template <class Element>
struct mx_block {
  using element = Element;
  using traits = mx_element<Element>;
  static constexpr std::size_t size = 32;
  static constexpr std::size_t bytes = size * traits::width / 8;
  static constexpr std::uint8_t nan_scale = 255;

  std::uint8_t scale;  ///< E8M0: 2^(scale - 127), 255 is NaN
  std::uint8_t codes[bytes];

  constexpr POLYMAC_INLINE bool is_nan() const noexcept { return scale == nan_scale; }
  /// log2 of the scale.
  constexpr POLYMAC_INLINE int exponent() const noexcept { return int{scale} - 127; }
  constexpr POLYMAC_INLINE Element operator[](std::size_t i) const noexcept {
    constexpr unsigned mask = (1u << traits::width) - 1;
    const std::size_t at = i * traits::width;
    unsigned bits = codes[at / 8];
    if (traits::width == 6 && at % 8 > 2) bits |= unsigned{codes[at / 8 + 1]} << 8;
    return traits::from_code(bits >> (at % 8) & mask);
  }
  constexpr POLYMAC_INLINE void set(std::size_t i, Element e) noexcept {
    constexpr unsigned mask = (1u << traits::width) - 1;
    const std::size_t at = i * traits::width;
    const unsigned shift = at % 8, code = (traits::code(e) & mask) << shift, cleared = ~(mask << shift);
    codes[at / 8] = static_cast<std::uint8_t>((codes[at / 8] & cleared) | code);
    if (traits::width == 6 && shift > 2)
      codes[at / 8 + 1] = static_cast<std::uint8_t>((codes[at / 8 + 1] & (cleared >> 8)) | code >> 8);
  }
  /// Number i, rounded to float where it is subnormal there; infinite where it exceeds float.
  constexpr POLYMAC_INLINE float value(std::size_t i) const noexcept {
    if (is_nan()) return std::numeric_limits<float>::quiet_NaN();
    const float e = traits::value((*this)[i]);
    return float_code::to_float(static_cast<double>(e) * float_code::double_power_of_two(exponent()));
  }
  friend constexpr bool operator==(const mx_block&, const mx_block&) noexcept = default;

  /// e of the scale 2^e for numbers up to `largest` (finite, not negative), in [-127, 127]; -127 for 0.
  static constexpr int exponent_for(float largest, mx_scale mode) noexcept {
    if (largest == 0.0f) return -127;
    constexpr std::uint64_t one = std::uint64_t{1} << 52;
    const double exact = static_cast<double>(largest);  // normal, whatever the float was
    auto bits = std::bit_cast<std::uint64_t>(exact);
    if (mode == mx_scale::even) bits += one >> (traits::mantissa_bits + 1);
    int e = static_cast<int>(bits >> 52) - 1023 - traits::max_exponent;
    if (mode == mx_scale::ceil && (bits & (one - 1)) != 0) ++e;
    if (mode == mx_scale::round_ceil && exact > traits::max() * float_code::double_power_of_two(e)) ++e;
    return e < -127 ? -127 : e > 127 ? 127 : e;
  }
  /// The block of 32 values: each divided by the scale, exactly, and rounded to nearest even, beyond the largest element
  /// to that. With an infinity or NaN among them all of it is NaN.
  static constexpr mx_block encode(const float* values, mx_scale mode = mx_scale::round_ceil) noexcept {
    mx_block block{};
    std::uint32_t largest = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(values[i]) & 0x7FFFFFFFu;
      if (magnitude > largest) largest = magnitude;
    }
    if (largest >= 0x7F800000u) {
      block.scale = nan_scale;
      return block;
    }
    const int e = exponent_for(std::bit_cast<float>(largest), mode);
    block.scale = static_cast<std::uint8_t>(e + 127);
    const double reciprocal = float_code::double_power_of_two(-e);
    for (std::size_t i = 0; i < size; ++i) block.set(i, traits::encode(static_cast<double>(values[i]) * reciprocal));
    return block;
  }
};

static_assert(sizeof(mx_block<e4m3fn>) == 33 && sizeof(mx_block<e3m2>) == 25 && sizeof(mx_block<e2m1>) == 17 &&
              sizeof(mx_block<std::int8_t>) == 33);
static_assert(std::is_trivially_copyable_v<mx_block<e2m1>> &&
              std::is_trivially_default_constructible_v<mx_block<e2m1>>);

}  // namespace polymac
