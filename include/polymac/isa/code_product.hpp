// SPDX-License-Identifier: MIT
// Products of int8 activations with weights of 1, 2 or 4 bits, by products of bytes.
//
//   one lane of a register of codes: 4 bytes, each of 8 / Bits codes; 4 bits:
//
//       byte       3         2         1         0
//       bits 7..4  k3        k2        k1        k0        the first group of four k
//       bits 3..0  k7        k6        k5        k4        the second
//
// With dot products (codes_on_top):
//   group j:  (codes << j Bits) & the upper Bits of every byte     a shift (none for the first) and an and
//
// The codes are two's complement, so a byte that holds one at its top is the weight times 2^(8 - Bits) as it stands: no
// table, no subtraction. Sums are as much too high and come down once, when they are stored. A code of one bit is a
// sign: (codes & 0x80) ^ 0x40 is +64 or -64, one vpternlogd.
//
//   price for 8 / Bits groups of a panel:  4 bits 3, 2 bits 7, 1 bit 15 instructions, beside as many groups x rows dot
//   products; they run on ports of their own (Zen) or share two (Intel: 12 rows 0.89, 0.87, 0.86 of the peak)
//
// Without, two products are added in 16 bits first (vpmaddubsw with saturation; smull and addp), which only weights that
// are small leave room for: 2 x 255 x 8. There V brings weights as they are: AVX2 looks them up (avx2_blocks.hpp), NEON
// shifts bytes with their sign.
//
// Weights are half, a quarter, an eighth of the bytes of int8: where they come from L3 or memory that is the gain, and
// without dot products their smallness is another.
#pragma once

#include "polymac/core/bit_codes.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/mac/int8.hpp"

#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Bits that a panel holds of the codes of mac::bit_weights; groups of one bit have two.
template <int Bits>
inline constexpr unsigned panel_bits = Bits == ternary_bits ? 2
                                       : Bits == 3          ? 4
                                                            : static_cast<unsigned>(Bits);

/// Weights at the top of their bytes. V: registers with `shift_left<n>` of bytes that stay in their 32-bit lane,
/// `upper_bits<n>` of every byte and `signs_as_64`.
template <class V>
struct codes_on_top : V {
  template <unsigned Bits>
  static constexpr int scale_bits = Bits == 1 ? 6 : 8 - Bits;
  template <unsigned Bits, unsigned Part>
  static POLYMAC_INLINE typename V::type weights_of(typename V::type codes) noexcept {
    if constexpr (Part > 0) codes = V::template shift_left<Part * Bits>(codes);
    if constexpr (Bits == 1)
      return V::signs_as_64(codes);
    else
      return V::template upper_bits<Bits>(codes);
  }
};

/// M: activations int8, weights that `Bits` bits hold (one bit: -1 and 1). Inner: a product of int8 whose weights are
/// registers of bytes. Codes: `scale_bits<Bits>`, and `weights_of<Bits, Part>(codes)`, which are so many bits too high.
template <class M, class Inner, class Codes, unsigned Bits>
struct code_product : Inner {
  static_assert(Bits == 1 || Bits == 2 || Bits == 4);
  using mac = M;
  using packed = std::uint8_t;
  using codes = typename Inner::weights;
  static constexpr std::size_t parts = 8 / Bits;
  static constexpr std::size_t depth = Inner::depth * parts;
  static constexpr int scale_bits = Codes::template scale_bits<Bits>;
  /// Sums that are too high by scale_bits: 255 x 128 fits 32 bits so many times.
  static constexpr std::size_t max_depth = scale_bits > 0 ? polymac::mac::uint8::max_depth : M::max_depth;
  /// Code 0.
  static constexpr std::int64_t padding_weight = Bits == 1 ? 1 : 0;
  template <std::size_t Lanes>
  static constexpr std::size_t register_elements = Inner::depth* Lanes;

  static POLYMAC_INLINE codes load(const packed* from) noexcept {
    return Inner::load(reinterpret_cast<const std::int8_t*>(from));
  }
  template <std::size_t Part>
  static POLYMAC_INLINE typename Inner::weights part(codes all) noexcept {
    return Codes::template weights_of<Bits, Part>(all);
  }

  template <std::size_t Columns>
  static constexpr void encode(const std::int8_t* group, packed* to) noexcept {
    constexpr std::size_t k = Inner::depth;
    for (std::size_t i = 0; i < k * Columns; ++i) {
      unsigned byte = 0;
      for (std::size_t j = 0; j < parts; ++j) {
        const int w = group[i / k * depth + j * k + i % k];
        const unsigned code = Bits == 1 ? (w < 0 ? 1u : 0u) : static_cast<unsigned>(w) & ((1u << Bits) - 1u);
        byte |= code << (8 - Bits * (j + 1));
      }
      to[i] = static_cast<packed>(byte);
    }
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
