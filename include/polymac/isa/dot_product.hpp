// SPDX-License-Identifier: MIT
// Products of x86 with the dot-product instructions, for 256 and 512 bits.
//
// vpdpbusd takes unsigned activations. A signed one is turned into a + 128 by flipping its top bit; packing takes
// 128 * sum(w) off the start value of the column. All sums are modulo 2^32, so the surplus cannot do harm, and vpdpbusd
// adds its four products to the lane without saturation. vpdpwssd adds two products of signed words, again modulo 2^32:
// the results equal the golden model for every input.
#pragma once

#include "polymac/isa/widening.hpp"

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// s8 or u8 activations, s8 weights, 4 deep (8 in a group of 8 bytes). Prepared: signed activations have been flipped
/// before.
template <class M, class V, bool Prepared = false>
struct byte_dot_product {
  using mac = M;
  using group = typename group_of<V>::type;
  static constexpr std::size_t depth = sizeof(group);
  static constexpr int activation_offset = std::is_signed_v<typename M::activation> ? 128 : 0;
  using weights = typename V::type;
  using activations = typename V::type;

  static POLYMAC_INLINE weights load(const std::int8_t* bytes) noexcept { return V::load(bytes); }
  static POLYMAC_INLINE activations broadcast(const typename M::activation* group_of_row) noexcept {
    return bytes(V::broadcast(group_bytes<group>(group_of_row)));
  }
  /// What becomes of activations once they are in a register, and what of some of them multiply_add takes.
  static POLYMAC_INLINE typename V::type bytes(typename V::type all) noexcept {
    if constexpr (activation_offset == 128 && !Prepared)
      return V::flip_top_bits(all);
    else
      return all;
  }
  static POLYMAC_INLINE activations factors(typename V::type some) noexcept { return some; }
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, activations a, weights w) noexcept {
    return V::add_dot_u8i8(sums, a, w);
  }
};

/// Flipping costs an instruction on the ports of the dot products on Intel, a third of the time of a tile of two
/// panels: there it is done once for a tile of rows, not once for each step. AMD's Zen has ports to spare.
inline constexpr bool flipping_is_free = POLYMAC_IS_ZEN;

/// An atom of signed bytes: Tile flips them in its steps, Flipped takes them as they have been flipped before.
template <class V, class Tile, class Flipped, bool Prepares = !flipping_is_free>
struct flipping_atom : Tile {};
template <class V, class Tile, class Flipped>
struct flipping_atom<V, Tile, Flipped, true> : Tile {
  using prepared = Flipped;
  template <class Rows>
  static POLYMAC_INLINE void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count,
                                     std::int8_t* to, std::size_t stride) noexcept {
    V::flip_top_bits(rows, row_count, offset, count, to, stride);
  }
};
/// That of int8: Tile<Product> is the tile of the instruction set.
template <class M, class V, template <class> class Tile>
using signed_byte_atom = flipping_atom<V, Tile<byte_dot_product<M, V>>, Tile<byte_dot_product<M, V, true>>>;

/// s16 activations, s8 weights, 2 deep.
template <class V>
struct word_dot_product : word_product<V> {
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, typename V::type a,
                                                      typename V::type w) noexcept {
    return V::add_dot_i16(sums, a, w);
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
