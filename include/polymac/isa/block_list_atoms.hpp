// SPDX-License-Identifier: MIT
// The atoms of weights in lists of blocks (policy/block_list.hpp): the tiles of dense weights, of as many panels as share
// a list.
//
//     16 columns    up to 24 rows x 1 panel     a load of weights, and for every row a broadcast and a product
//     32 columns    up to 12 rows x 2 panels    half the broadcasts for a product
//
// The list belongs to the loop over k (kernel/tile_sums.hpp): it moves the rows on by what is left out, four or six
// additions for 24 products.
#pragma once

#include "polymac/isa/all.hpp"
#include "polymac/isa/policy_atom.hpp"
#include "polymac/policy/block_list.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace policy {

/// Complete where the atoms are known.
struct block_list_atoms {};

}  // namespace policy
namespace isa {
namespace detail {

/// Tile: that of dense weights. `list_panels`: panels that share a list.
template <class Tile, class P>
struct listed_atom : Tile {
  using obeyed = P;
  static constexpr bool is_listed = true;
  /// At least. A list costs nothing to speak of: what is left out, which packing finds, is won.
  static constexpr double speed_up = 1.01;
  static constexpr bool finishes_tiles = false;
  static constexpr std::size_t list_panels =
      P::channels / Tile::columns < Tile::max_panels ? P::channels / Tile::columns : Tile::max_panels;
  static constexpr std::size_t max_panels = list_panels;
  static constexpr std::size_t max_rows = list_panels == 1 ? most_rows<Tile> : Tile::max_rows;
  static constexpr std::size_t tall_rows = max_rows;
  static constexpr std::size_t panels_for(std::size_t) noexcept { return list_panels; }
};

template <class P>
concept List = requires {
  typename P::atoms;
  requires std::is_same_v<typename P::atoms, policy::block_list_atoms>;
};

}  // namespace detail

/// Any arithmetic.
template <Mac M, detail::List P>
struct generic_sparse_atom<M, P> : detail::listed_atom<atom<M, scalar>, P> {};

#if defined(__AVX2__) && defined(__FMA__)
template <detail::Bytes M, detail::List P>
struct sparse_atom<M, avx2, P> : detail::listed_atom<detail::avx2_tile<detail::parity_product<M, detail::ymm>, 4>, P> {
};
#if defined(__AVXVNNI__)
template <detail::Bytes M, detail::List P>
struct sparse_atom<M, avx_vnni, P>
    : detail::listed_atom<detail::avx_vnni_tile<detail::byte_dot_product<M, detail::ymm_dot>>, P> {};
#endif
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)
template <detail::Bytes M, detail::List P>
struct sparse_atom<M, avx512_vnni, P>
    : detail::listed_atom<detail::avx512_vnni_tile<detail::byte_dot_product<M, detail::zmm_dot>>, P> {};
#endif

}  // namespace isa
POLYMAC_END
