// SPDX-License-Identifier: MIT
// Rows of activations of which each has a list of its own of the groups of k that are multiplied.
//
//     row 0   . a . . a a . .      list 1, 4, 5        sums = start values
//     row 1   a . . . . . . a           0, 7           for each entry: sums += activations * weights of that group
//     row 2   . . . a . . . .           3
//
// Lists come from the activations: those that are not 0 (policy::zero_skip), that differ from those of the last frame
// (policy::delta). No two rows share a list, so a tile is one row beside as many panels as its sums need to hide the
// latency of a product: weights are not shared by rows, and a product costs a load besides. From L1 that is as fast as
// AVX-512 multiplies on Zen 4, where a load of 64 bytes and a vpdpbusd take a cycle each; from L2 it takes two or three.
//
// The loop over k is this one, and not that of kernel/tile_sums.hpp, because nothing is left there to share: a tile of
// one row has no other rows, no segments, and no groups that follow each other.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/pack.hpp"
#include "polymac/kernel/tile_rows.hpp"
#include "polymac/policy/live_group.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

using policy::live_group;

/// A row and its list. `slot`: which row of the sums it makes.
template <class Activation>
struct listed_row {
  const Activation* first = nullptr;
  const live_group* groups = nullptr;
  std::uint32_t count = 0;
  std::uint32_t slot = 0;
};

/// Can this atom add up lists? Not where it wants rows prepared in another form, nor where what it has added up is no
/// number yet.
template <class Atom>
inline constexpr bool takes_lists = requires(typename Atom::template tile<1, 1>& t,
                                             const detail::row_pointers<typename Atom::activation, 1>& places,
                                             const isa::packed_of<Atom>* weights,
                                             const typename Atom::accumulator* starts) {
  Atom::start(t, starts, std::size_t{});
  Atom::step(t, places, std::size_t{}, weights, std::size_t{});
  requires std::is_arithmetic_v<typename Atom::accumulator>;
};

namespace detail {

template <class Atom>
struct listed_operands {
  const isa::packed_of<Atom>* weights;  ///< of the first panel
  std::size_t panel_stride;
  const typename Atom::accumulator* starts;
  std::size_t start_stride;
  std::size_t terms, term_groups;       ///< the list once more for each term of the weights
  const std::uint32_t* live = nullptr;  ///< of weights in lists: how many groups, and which
};

template <class Atom>
struct listed_sums {
  using activation = typename Atom::activation;
  using accumulator = typename Atom::accumulator;
  static constexpr std::size_t group_size = isa::group_elements<Atom>;
  static constexpr std::size_t chain_groups = isa::chain_groups_of<Atom>;

  static constexpr accumulator zeros[2 * Atom::columns]{};

  /// `count` rows, or pairs of rows that are `distance` apart and share a list; sums of slot s go to to + s * Rows *
  /// stride.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_NOINLINE constexpr void run(const listed_row<activation>* rows, std::size_t count,
                                             std::ptrdiff_t distance, const listed_operands<Atom>& of, accumulator* to,
                                             std::size_t stride) noexcept {
    for (; count > 0; --count, ++rows) {
      typename Atom::template tile<Rows, Panels> t;
      Atom::start(t, of.starts, of.start_stride);
      [[maybe_unused]] std::size_t chain_end = chain_groups;
      const auto take = [&](const live_group& g, std::size_t at, std::size_t number) POLYMAC_INLINE_LAMBDA {
        if constexpr (chain_groups > 0) {
          // A chain ends where it would with all groups: sums of floats have an order.
          for (; number >= chain_end; chain_end += chain_groups) Atom::spill(t);
        } else {
          static_cast<void>(number);
        }
        Atom::step(t, even_places<activation, Rows>(rows->first + g.activation, distance), 0,
                   of.weights + at * group_size, of.panel_stride);
      };
      const live_group* const end = rows->groups + rows->count;
      if constexpr (isa::is_listed<Atom>) {
        // What both lists have; they are sorted.
        const std::uint32_t* live = of.live + 1;
        const std::uint32_t* const live_end = live + of.live[0];
        std::size_t first = 0;
        for (std::size_t term = 0; term < of.terms; ++term, first += of.term_groups)
          for (const live_group* g = rows->groups; g != end && live != live_end;) {
            const std::size_t here = first + g->group, there = *live;
            if (here == there) take(*g, static_cast<std::size_t>(live - of.live - 1), here);
            g += here <= there;
            live += there <= here;
          }
      } else {
        // Every other group has sums of its own, where few panels would wait for theirs; integers have no order.
        constexpr bool splits = std::is_integral_v<accumulator> && Rows == 1 && Panels <= 2;
        [[maybe_unused]] typename Atom::template tile<Rows, Panels> others;
        if constexpr (splits) {
          Atom::start(others, &zeros[0], Atom::columns);
        }
        std::size_t first = 0;
        for (std::size_t term = 0; term < of.terms; ++term, first += of.term_groups) {
          const live_group* g = rows->groups;
          if constexpr (splits)
            for (; end - g >= 2; g += 2) {
              take(g[0], first + g[0].group, first + g[0].group);
              Atom::step(others, even_places<activation, Rows>(rows->first + g[1].activation, distance), 0,
                         of.weights + (first + g[1].group) * group_size, of.panel_stride);
            }
          for (; g != end; ++g) take(*g, first + g->group, first + g->group);
        }
        if constexpr (splits) {
          accumulator more[Panels * Atom::columns];
          accumulator* const sums = to + rows->slot * stride;
          Atom::store(t, sums, stride);
          Atom::store(others, &more[0], Panels * Atom::columns);
          using bits = std::make_unsigned_t<accumulator>;
          for (std::size_t c = 0; c < Panels * Atom::columns; ++c)
            sums[c] = static_cast<accumulator>(static_cast<bits>(sums[c]) + static_cast<bits>(more[c]));
          continue;
        }
      }
      Atom::store(t, to + rows->slot * Rows * stride, stride);
    }
  }
};

/// Panels that stay in L1 beside what else is read.
inline constexpr std::size_t near_panel_bytes = std::size_t{24} * 1024;

/// Panels of a tile of one row, at most.
template <class Atom>
inline constexpr std::size_t listed_panels = [] {
  if constexpr (requires { Atom::panels_for(std::size_t{1}); })
    return std::size_t{Atom::panels_for(std::size_t{1})};
  else
    return std::size_t{Atom::max_panels};
}();

template <class Atom, std::size_t Rows, std::size_t Panels>
constexpr void add_up_panels(const listed_row<typename Atom::activation>* rows, std::size_t count,
                             std::ptrdiff_t distance, listed_operands<Atom>& of, std::size_t list_stride,
                             std::size_t panels, std::size_t together, typename Atom::accumulator* to,
                             std::size_t stride) noexcept {
  constexpr std::size_t list_panels = [] {
    if constexpr (requires { Atom::list_panels; })
      return std::size_t{Atom::list_panels};
    else
      return std::size_t{1};
  }();
  for (; panels >= Panels && Panels <= together; panels -= Panels) {
    listed_sums<Atom>::template run<Rows, Panels>(rows, count, distance, of, to, stride);
    of.weights += Panels * of.panel_stride;
    of.starts += Panels * of.start_stride;
    if constexpr (isa::is_listed<Atom>) of.live += list_stride * polymac::detail::divide_up(Panels, list_panels);
    to += Panels * Atom::columns;
  }
  if constexpr (Panels > 1)
    if (panels > 0)
      add_up_panels<Atom, Rows, Panels / 2>(rows, count, distance, of, list_stride, panels, together, to, stride);
}

}  // namespace detail

/// Start values plus the products of the groups in each row's list, all columns of one set of the weights; `starts`:
/// other start values (columns filled up to whole panels), else those of the weights, in which zero points and surpluses
/// of whole rows are folded. Rows: 2 for pairs of rows, `distance` apart, that share a list. Sums of the row with slot s
/// begin at sums + s * Rows * stride; stride: panels x columns of the atom, at least. Groups are those of `Atom`, which
/// is the atom that the weights are packed for, or one of the same panels. Lists are in order of k.
template <class Atom, std::size_t Rows = 1, class Packed>
constexpr void add_up_rows(const Packed& weights, std::size_t set, const listed_row<typename Atom::activation>* rows,
                           std::size_t count, typename Atom::accumulator* sums, std::size_t stride,
                           const typename Atom::accumulator* starts = nullptr, std::ptrdiff_t distance = 0) noexcept {
  static_assert(takes_lists<Atom>);
  detail::listed_operands<Atom> of{weights.panel(set, 0),
                                   weights.panel_stride(),
                                   starts != nullptr ? starts : weights.starts(set, 0, 0),
                                   starts != nullptr ? Atom::columns : weights.start_stride(),
                                   weights.term_groups() > 0 ? weights.groups() / weights.term_groups() : 0,
                                   weights.term_groups()};
  std::size_t list_stride = 0;
  if constexpr (isa::is_listed<Atom>) {
    of.live = weights.list(set, 0);
    list_stride = weights.list_stride();
  }
  // Panels that share a list stay together.
  constexpr std::size_t half = Rows == 1 || isa::is_listed<Atom> ? 1 : 2;
  constexpr std::size_t most = detail::listed_panels<Atom> < half ? 1 : detail::listed_panels<Atom> / half;
  // Many rows go through panels that stay in L1 meanwhile, two if need be: the rows after this one hide the latency of
  // its products. Few read every panel once.
  std::size_t together = most;
  if constexpr (!isa::is_listed<Atom>) {
    const std::size_t bytes = weights.panel_stride() * sizeof(isa::packed_of<Atom>);
    if (count >= 8)
      while (together > 2 && together * bytes > detail::near_panel_bytes) together /= 2;
  }
  detail::add_up_panels<Atom, Rows, most>(rows, count, distance, of, list_stride, weights.panels(), together, sums,
                                          stride);
}

}  // namespace kernel
POLYMAC_END
