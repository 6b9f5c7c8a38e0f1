// SPDX-License-Identifier: MIT
// Products of x86 without dot-product instructions: bytes become words, vpmaddwd multiplies and adds pairs of words.
//
//   one lane, 4 deep      byte    3    2    1    0
//   as loaded                     k3   k2   k1   k0
//   odd:   >> 8 per word            k3        k1      1 shift
//   even:  << 8, >> 8               k2        k0      2 shifts
//   sum += odd_a . odd_w                              vpmaddwd, vpaddd
//   sum += even_a . even_w                            vpmaddwd, vpaddd
//
// Splitting by parity keeps all four bytes in the lane they were loaded to. vpmovsxbw would save shifts, but it
// spreads a column over two lanes: twice the sums (half the rows in 16 registers) and a horizontal addition per tile.
// And the panel stays the one that vpdpbusd reads, 16 columns x 4 deep, so packed weights serve both.
//
// vpmaddubsw, the usual choice, adds two products in 16 bits with saturation: 255 x 127 twice is already wrong. Here a
// product is at most 255 * 128 < 2^15, or 32768 * 128 = 2^22 for words; vpmaddwd adds two of them in 32 bits and wraps
// only for four factors of -32768, which no int8 weight is. Additions wrap like the golden model's modulus: equal for
// every input.
#pragma once

#include "polymac/mac/int16x8.hpp"
#include "polymac/mac/int8.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Arithmetics of bytes, of which there are hand-written products.
template <class M>
concept Bytes = std::is_same_v<M, mac::int8> || std::is_same_v<M, mac::uint8>;

/// The bytes that one group of a row holds, as an integer to broadcast. Reads exactly these bytes.
template <class Group, class Activation>
POLYMAC_INLINE Group group_bytes(const Activation* activations) noexcept {
  Group bytes;
  std::memcpy(&bytes, activations, sizeof(bytes));
  return bytes;
}
template <class Activation>
POLYMAC_INLINE std::int32_t four_bytes(const Activation* activations) noexcept {
  return group_bytes<std::int32_t>(activations);
}

/// What V broadcasts: the activations of a group, 4 bytes if it does not say otherwise.
template <class V>
struct group_of {
  using type = std::int32_t;
};
template <class V>
requires requires { typename V::group; }
struct group_of<V> {
  using type = typename V::group;
};

/// s8 or u8 activations, s8 weights, 4 deep.
template <class M, class V>
struct parity_product {
  using mac = M;
  static constexpr std::size_t depth = 4;
  static constexpr int activation_offset = 0;
  struct words {
    typename V::type even, odd;
  };
  using weights = words;
  using activations = words;

  static POLYMAC_INLINE words load(const std::int8_t* bytes) noexcept {
    const auto all = V::load(bytes);
    return {V::even_i8(all), V::odd_i8(all)};
  }
  static POLYMAC_INLINE words broadcast(const typename M::activation* group) noexcept {
    return factors(bytes(V::broadcast(four_bytes(group))));
  }
  /// What becomes of activations once they are in a register, and what of some of them multiply_add takes.
  static POLYMAC_INLINE typename V::type bytes(typename V::type all) noexcept { return all; }
  static POLYMAC_INLINE words factors(typename V::type some) noexcept {
    if constexpr (std::is_signed_v<typename M::activation>)
      return {V::even_i8(some), V::odd_i8(some)};
    else
      return {V::even_u8(some), V::odd_u8(some)};
  }
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, const words& a, const words& w) noexcept {
    return V::add(V::add(sums, V::multiply_pairs(a.odd, w.odd)), V::multiply_pairs(a.even, w.even));
  }
};

/// s16 activations, s8 weights, 2 deep (4 in a group of 8 bytes). Weights are widened once per step, for all rows.
template <class V>
struct word_product {
  using mac = polymac::mac::int16x8;
  using group = typename group_of<V>::type;
  static constexpr std::size_t depth = sizeof(group) / 2;
  static constexpr int activation_offset = 0;
  using weights = typename V::type;
  using activations = typename V::type;

  static POLYMAC_INLINE weights load(const std::int8_t* bytes) noexcept { return V::load_widened(bytes); }
  static POLYMAC_INLINE activations broadcast(const std::int16_t* activations) noexcept {
    return V::broadcast(group_bytes<group>(activations));
  }
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, activations a, weights w) noexcept {
    return V::add(sums, V::multiply_pairs(a, w));
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
