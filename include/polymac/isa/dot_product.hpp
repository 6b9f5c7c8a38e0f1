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

/// s8 or u8 activations, s8 weights, 4 deep.
template <class M, class V>
struct byte_dot_product {
  using mac = M;
  static constexpr std::size_t depth = 4;
  static constexpr int activation_offset = std::is_signed_v<typename M::activation> ? 128 : 0;
  using weights = typename V::type;
  using activations = typename V::type;

  static POLYMAC_INLINE weights load(const std::int8_t* bytes) noexcept { return V::load(bytes); }
  static POLYMAC_INLINE activations broadcast(const typename M::activation* group) noexcept {
    const auto all = V::broadcast(four_bytes(group));
    if constexpr (activation_offset == 128)
      return V::flip_top_bits(all);
    else
      return all;
  }
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, activations a, weights w) noexcept {
    return V::add_dot_u8i8(sums, a, w);
  }
};

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
