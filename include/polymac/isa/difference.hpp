// SPDX-License-Identifier: MIT
// Products of differences of bytes with the packed weights of int8 and uint8.
//
// What an activation adds to a sum when it changes is (new - old) * w, a signed byte as a rule. The atoms of vpdpbusd
// want unsigned activations; so here the operands change places: it is the weights that are made unsigned, as w + 128,
// which takes a vpxord beside every load of weights (Zen 4 has the ports), and the surplus is 128 times the sum of the
// differences of the row: one number for all columns, which whoever made the list of what has changed knows. The atoms
// elsewhere multiply signed bytes as they are.
#pragma once

#include "polymac/isa/all.hpp"

#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {
namespace detail {

template <class V>
struct byte_difference_product {
  using mac = polymac::mac::int8;
  using group = typename group_of<V>::type;
  static constexpr std::size_t depth = sizeof(group);
  static constexpr int activation_offset = 0;
  using weights = typename V::type;
  using activations = typename V::type;
  static POLYMAC_INLINE weights load(const std::int8_t* bytes) noexcept { return V::flip_top_bits(V::load(bytes)); }
  static POLYMAC_INLINE activations broadcast(const std::int8_t* group_of_row) noexcept {
    return V::broadcast(group_bytes<group>(group_of_row));
  }
  static POLYMAC_INLINE typename V::type bytes(typename V::type all) noexcept { return all; }
  static POLYMAC_INLINE activations factors(typename V::type some) noexcept { return some; }
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, activations a, weights w) noexcept {
    return V::add_dot_u8i8(sums, w, a);
  }
};

/// The atom for differences beside weights that Atom has packed, and what it multiplies too many of for each unit of
/// the row's sum of differences; `void` where there is none: others add up two rows, the new one and the old one.
template <class Atom>
struct difference_of {
  using type = void;
};
template <class Atom, class Type, int Surplus>
struct difference_atom : Type {
  static constexpr int surplus = Surplus;
  static_assert(std::is_same_v<packed_of<Type>, packed_of<Atom>> && Type::columns == Atom::columns &&
                Type::depth == Atom::depth);
};
template <class Atom>
inline constexpr bool multiplies_bytes =
    std::is_same_v<typename Atom::mac, mac::int8> || std::is_same_v<typename Atom::mac, mac::uint8>;

/// Is I this set, or one above it?
template <class I, class Wanted>
consteval bool reaches() {
  if constexpr (std::is_same_v<I, Wanted>)
    return true;
  else if constexpr (std::is_void_v<typename I::base>)
    return false;
  else
    return reaches<typename I::base, Wanted>();
}

template <class Atom>
requires(multiplies_bytes<Atom> && !encodes_weights<Atom> && !is_listed<Atom>) struct difference_of<Atom> {
  static constexpr auto find() {
    using I = typename Atom::isa;
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)
    if constexpr (reaches<I, avx512_vnni>() && Atom::columns == 8)
      return std::type_identity<
          difference_atom<Atom, narrow_avx512_vnni_tile<byte_difference_product<zmm_dot_halves>>, 128>>{};
    else if constexpr (reaches<I, avx512_vnni>())
      return std::type_identity<difference_atom<Atom, avx512_vnni_tile<byte_difference_product<zmm_dot>>, 128>>{};
    else
#endif
#if defined(__AVX2__) && defined(__FMA__) && defined(__AVXVNNI__)
        if constexpr (std::is_same_v<I, avx_vnni>)
      return std::type_identity<difference_atom<Atom, avx_vnni_tile<byte_difference_product<ymm_dot>>, 128>>{};
    else
#endif
      return std::type_identity<difference_atom<Atom, atom<mac::int8, I>, 0>>{};
  }
  using type = typename decltype(find())::type;
};

}  // namespace detail

template <class Atom>
using difference_of = typename detail::difference_of<Atom>::type;

}  // namespace isa
POLYMAC_END
