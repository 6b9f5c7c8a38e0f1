// SPDX-License-Identifier: MIT
// bfloat16: the upper half of an IEEE single. 8 bits of exponent, 8 of precision.
//
// A plain pair of bytes that may cross translation units, so it lives outside of the ISA-tagged namespace.
#pragma once

#include "polymac/core/config.hpp"

#include <bit>
#include <cstdint>
#include <type_traits>

namespace polymac {

/// A number of 16 bits: sign, 8 bits of exponent, 7 of mantissa; the same range as float. Becomes a float exactly and by
/// itself; a float becomes one by rounding to nearest, ties to even, and only where one asks for it: beyond the largest
/// finite value (about 3.39e38) it is an infinity, NaN stays a quiet NaN with its sign and upper bits, subnormals are
/// kept. The memory of std::bfloat16_t, Eigen::bfloat16 and oneDNN's bf16. Not initialised unless asked for
/// (`bfloat16{}` is +0).
struct bfloat16 {
  std::uint16_t bits;

  bfloat16() noexcept = default;
  constexpr POLYMAC_INLINE explicit bfloat16(float value) noexcept : bits(rounded(value)) {}
  static constexpr POLYMAC_INLINE bfloat16 from_bits(std::uint16_t bits) noexcept {
    bfloat16 b{};
    b.bits = bits;
    return b;
  }
  constexpr POLYMAC_INLINE operator float() const noexcept {  // NOLINT: implicit by design, it loses nothing
    return std::bit_cast<float>(std::uint32_t{bits} << 16);
  }
  /// The same bits? So NaN equals itself, and -0 is not 0. Other comparisons are those of floats.
  friend constexpr POLYMAC_INLINE bool operator==(bfloat16 a, bfloat16 b) noexcept { return a.bits == b.bits; }

 private:
  static constexpr POLYMAC_INLINE std::uint16_t rounded(float value) noexcept {
    const auto all = std::bit_cast<std::uint32_t>(value);
    // The upper bits of a NaN may be all that made it one.
    if ((all & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>(all >> 16 | 0x40u);
    // Half a unit less one, and one more where the last bit that stays is odd; a carry into the exponent is right, up
    // to the infinity.
    return static_cast<std::uint16_t>((all + 0x7FFFu + (all >> 16 & 1u)) >> 16);
  }
};

static_assert(sizeof(bfloat16) == 2 && std::is_trivially_copyable_v<bfloat16> &&
              std::is_trivially_default_constructible_v<bfloat16>);

}  // namespace polymac
