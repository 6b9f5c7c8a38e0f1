// SPDX-License-Identifier: MIT
// A function of two 8-bit codes that is a rounded plane: the quantised sum without its three multiplications.
//
// Whether a plane gives the same codes as the arithmetic it stands for is decided by kernel/find_plane.hpp, which tries
// all 65,536 pairs. Here is what it computes, and how blocks of codes are computed with it.
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {

/// code(a, b) = clamp(zero_point + floor((value(a, b) + half) / 2^shift)), where
/// value(a, b) = origin + 256 (a high[0] + b high[1]) + floor((a low[0] + b low[1]) / 128).
/// A slope has 15 bits in `high` and 15 more in `low`: what 16-bit multipliers take. Codes are signed; no sum leaves
/// 32 bits for any pair of them.
struct plane {
  std::int32_t origin = 0;
  std::int16_t high[2] = {0, 0};
  std::int16_t low[2] = {0, 0};     ///< at least 0
  std::int32_t half[2] = {0, 0};    ///< about 2^(shift - 1): for values of at least 0, and below 0
  std::int32_t shift = 0;           ///< in [1, 28]
  std::int32_t zero_point = 0;      ///< in [-255, 255]
  std::int8_t least = 0, most = 0;  ///< the range of the codes

  constexpr std::int32_t value(std::int32_t a, std::int32_t b) const noexcept {
    return origin + 256 * (a * high[0] + b * high[1]) + ((a * low[0] + b * low[1]) >> 7);
  }
  constexpr std::int8_t operator()(std::int8_t a, std::int8_t b) const noexcept {
    const std::int32_t v = value(a, b);
    const std::int32_t code = ((v + (v < 0 ? half[1] : half[0])) >> shift) + zero_point;
    return code < least ? least : code > most ? most : static_cast<std::int8_t>(code);
  }
};

/// y[i] = p(a[i], b[i]) for i < count on instruction set I. `bias`: what is XORed to the codes in memory to make them
/// signed, 0 or -128 (for uint8). y may be a or b. Specialised where a set has better than the compiler's code.
template <Isa I>
struct plane_codes {
  static void run(const plane& p, std::int8_t bias, std::int8_t* y, const std::int8_t* a, const std::int8_t* b,
                  std::size_t count) noexcept {
    if constexpr (!std::is_void_v<typename I::base>) {
      plane_codes<typename I::base>::run(p, bias, y, a, b, count);
    } else {
      const plane local = p;  // stores of bytes could change what a reference leads to
      for (std::size_t i = 0; i < count; ++i)
        y[i] = static_cast<std::int8_t>(
            local(static_cast<std::int8_t>(a[i] ^ bias), static_cast<std::int8_t>(b[i] ^ bias)) ^ bias);
    }
  }
};

}  // namespace isa
POLYMAC_END
