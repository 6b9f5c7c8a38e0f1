// SPDX-License-Identifier: MIT
// The sums of one tile: the innermost loops of the vector nest, over segments and groups of k.
//
// Each height and width of a tile is a function of its own, which knows nothing but an atom, a form of rows and a
// k-source: not the layer, not the epilogue. A tile's sums fill the register file; with an epilogue of eight more
// registers in the same function g++ 12 keeps sums on the stack and moves all 24 of them in and out every four steps
// (int8 with requantisation: 0.84 of the peak instead of 0.95, on Zen 4, at any depth). And one copy serves all layers.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/tile_rows.hpp"

#include <cstddef>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace kernel {
namespace detail {

/// What a tile adds up, beside its rows.
template <class Atom>
struct tile_operands {
  const isa::packed_of<Atom>* weights;       ///< of the first panel, the first group
  std::size_t panel_stride;                  ///< distance of two panels, in elements
  const typename Atom::accumulator* starts;  ///< of the first panel
  std::size_t start_stride;
  std::size_t groups;                        ///< of k, all segments and terms
  std::size_t last_columns = Atom::columns;  ///< of the last panel that are stored (all, if not stores_parts)
  bool cold = false;     ///< the activations may be far away: this is the first tile that reads them
  std::size_t mode = 0;  ///< of the atom's steps
  /// Of weights in lists: how many groups of the first panels, and which. `weights` holds no others.
  const std::uint32_t* list = nullptr;
};

template <class Atom, class TileRows, class KSource>
struct tile_sums {
  using activation = typename Atom::activation;
  using weight = isa::packed_of<Atom>;
  using accumulator = typename Atom::accumulator;
  using operands = tile_operands<Atom>;
  static constexpr std::size_t group_size = isa::group_elements<Atom>;
  /// Groups after which the atom spills its sums, 0: never.
  static constexpr std::size_t chain_groups = isa::chain_groups_of<Atom>;
  /// Groups of a row in a line of the cache.
  static constexpr std::size_t line_groups = 64 / sizeof(activation) / Atom::depth > 0
                                                 ? 64 / sizeof(activation) / Atom::depth
                                                 : 1;
  /// Groups that are left to Atom::finish, 0: there is none.
  static constexpr std::size_t last_groups = [] {
    if constexpr (requires { requires Atom::finishes_tiles && KSource::takes_all; })
      return std::size_t{2};
    else
      return std::size_t{0};
  }();
  static constexpr bool stores_parts = requires(const typename Atom::template tile<1, 1>& t, accumulator* to) {
    Atom::store_part(t, to, 0, 1);
  };
  static constexpr bool one_stretch = requires { std::bool_constant<TileRows::segments == 1>{}; };
  static constexpr bool leaves_out = requires(const TileRows& rows) { rows.of->skipped_between; };

  /// Start values plus the products of all groups: Rows rows of Panels x columns sums, `stride` apart, from `to` on.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_NOINLINE constexpr void run(const TileRows& rows, const operands& of, KSource k_source,
                                             accumulator* to, std::size_t stride) noexcept {
    in_mode_of(of, [&](auto mode)
                       POLYMAC_INLINE_LAMBDA { run_in<Rows, Panels, mode, false>(rows, of, k_source, to, stride); });
  }
  /// The same, begun with the sums that are there.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_NOINLINE constexpr void go_on(const TileRows& rows, const operands& of, KSource k_source,
                                               accumulator* to, std::size_t stride) noexcept {
    in_mode_of(
        of, [&](auto mode) POLYMAC_INLINE_LAMBDA { run_in<Rows, Panels, mode, true>(rows, of, k_source, to, stride); });
  }
  /// As run(), for a part of the depth that begins at `at`, anywhere in a segment.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_NOINLINE constexpr void run_from(const TileRows& rows, depth_position at, const operands& of,
                                                  KSource k_source, accumulator* to, std::size_t stride) noexcept {
    typename Atom::template tile<Rows, Panels> t;
    Atom::start(t, of.starts, of.start_stride);
    const weight* w = of.weights;
    std::size_t room = chain_groups;
    for (std::size_t left = of.groups; left > 0;) {
      const std::size_t end = polymac::detail::smaller(at.group + left, rows.segment_groups);
      add_up<Rows, Panels, 0>(t, rows, at.segment, at.group, end, w, of.panel_stride, false, k_source, room);
      left -= end - at.group;
      advance(rows, at, end - at.group);
    }
    Atom::store(t, to, stride);
  }

 private:
  /// One mode. Where there are several each is a function of its own, for the sake of its registers.
  template <std::size_t Rows, std::size_t Panels, std::size_t Mode, bool GoesOn>
  static constexpr POLYMAC_INLINE void sums_in(const TileRows& rows, const operands& of, KSource k_source,
                                               accumulator* to, std::size_t stride) noexcept {
    typename Atom::template tile<Rows, Panels> t;
    if constexpr (GoesOn)
      Atom::resume(t, to, stride);
    else
      Atom::start(t, of.starts, of.start_stride);
    add_up_all<Rows, Panels, Mode>(t, rows, of, k_source, to, stride);
  }
  template <std::size_t Rows, std::size_t Panels, std::size_t Mode, bool GoesOn>
  static POLYMAC_NOINLINE constexpr void sums_apart(const TileRows& rows, const operands& of, KSource k_source,
                                                    accumulator* to, std::size_t stride) noexcept {
    sums_in<Rows, Panels, Mode, GoesOn>(rows, of, k_source, to, stride);
  }
  template <std::size_t Rows, std::size_t Panels, std::size_t Mode, bool GoesOn>
  static constexpr POLYMAC_INLINE void run_in(const TileRows& rows, const operands& of, KSource k_source,
                                              accumulator* to, std::size_t stride) noexcept {
    if constexpr (Mode >= isa::tile_modes_of<Atom> && Rows * Panels > 1)
      one_by_one<Rows, Panels, Mode, GoesOn>(rows, of, k_source, to, stride);
    else if constexpr (isa::modes_of<Atom> > 1)
      sums_apart<Rows, Panels, Mode, GoesOn>(rows, of, k_source, to, stride);
    else
      sums_in<Rows, Panels, Mode, GoesOn>(rows, of, k_source, to, stride);
  }
  /// A mode that has no tiles: every row and panel by itself.
  template <std::size_t Rows, std::size_t Panels, std::size_t Mode, bool GoesOn>
  static constexpr void one_by_one(const TileRows& rows, const operands& of, KSource k_source, accumulator* to,
                                   std::size_t stride) noexcept {
    TileRows row = rows;
    for (std::size_t r = 0; r < Rows; ++r, row.first += row.distance) {
      operands panel = of;
      for (std::size_t p = 0; p < Panels; ++p) {
        sums_apart<1, 1, Mode, GoesOn>(row, panel, k_source, to + r * stride + p * Atom::columns, stride);
        panel.weights += of.panel_stride;
        panel.starts += of.start_stride;
      }
    }
  }
  /// Calls f(std::integral_constant) of the mode.
  template <std::size_t Mode = 0, class Function>
  static constexpr POLYMAC_INLINE void in_mode_of(const operands& of, const Function& f) noexcept {
    if constexpr (Mode + 1 < isa::modes_of<Atom>)
      if (of.mode != Mode) return in_mode_of<Mode + 1>(of, f);
    f(std::integral_constant<std::size_t, Mode>{});
  }
  template <std::size_t Mode, std::size_t Rows, std::size_t Panels, class Places>
  static constexpr POLYMAC_INLINE void step(typename Atom::template tile<Rows, Panels>& t, const Places& places,
                                            std::size_t offset, const weight* w, std::size_t stride) noexcept {
    if constexpr (isa::modes_of < Atom >> 1)
      Atom::template step_in<Mode>(t, places, offset, w, stride);
    else
      Atom::step(t, places, offset, w, stride);
  }
  template <std::size_t Count, class Function>
  static constexpr POLYMAC_INLINE void for_each_of(const Function& f) noexcept {
    [&]<std::size_t... i>(std::index_sequence<i...>) POLYMAC_INLINE_LAMBDA { (f(i), ...); }
    (std::make_index_sequence<Count>{});
  }
  /// Adds the products of groups [from, to) of a segment, with the weights from `w` on, and moves w behind them.
  template <std::size_t Rows, std::size_t Panels, std::size_t Mode>
  static constexpr POLYMAC_INLINE void add_up(typename Atom::template tile<Rows, Panels>& t, const TileRows& rows,
                                              std::size_t segment, std::size_t from, std::size_t to, const weight*& w,
                                              std::size_t stride, bool cold, KSource k_source,
                                              std::size_t& room) noexcept {
    if constexpr (chain_groups == 0) {
      add_up_run<Rows, Panels, Mode>(t, rows, segment, from, to, w, stride, cold, k_source);
    } else {
      while (from < to) {
        const std::size_t end = polymac::detail::smaller(from + room, to);
        add_up_run<Rows, Panels, Mode>(t, rows, segment, from, end, w, stride, cold, k_source);
        room -= end - from;
        from = end;
        if (room > 0) continue;
        Atom::spill(t);
        room = chain_groups;
      }
    }
  }
  /// The same, and no chain of products ends on the way.
  template <std::size_t Rows, std::size_t Panels, std::size_t Mode>
  static constexpr POLYMAC_INLINE void add_up_run(typename Atom::template tile<Rows, Panels>& t, const TileRows& rows,
                                                  std::size_t segment, std::size_t from, std::size_t to,
                                                  const weight*& w, std::size_t stride, bool cold,
                                                  KSource k_source) noexcept {
    const std::size_t whole = polymac::detail::smaller(to, rows.whole_groups);
    auto places = rows.template find<Rows>(segment, from * Atom::depth);
    for (std::size_t g = from, end = whole; g < whole; g = end) {
      isa::keep_value(cold);  // or there are two loops, and g++ 12 has no registers left for all of their sums
      if (cold) {
        end = polymac::detail::smaller(g + line_groups, whole);
        isa::fetch_ahead<Rows>(places, (end - g) * Atom::depth, (g - from) * Atom::depth, end == whole);
      }
      k_source.visit(g, end, [&](auto ahead, auto run) POLYMAC_INLINE_LAMBDA {
        for_each_of<run>([&](std::size_t i) POLYMAC_INLINE_LAMBDA {
          places.keep();
          step<Mode>(t, places, (ahead + i) * Atom::depth, w + i * group_size, stride);
        });
        places.move((ahead + run) * Atom::depth);
        w += run * group_size;
      });
    }
    if constexpr (Atom::depth > 1) {
      if (to > rows.whole_groups) {
        step<Mode>(t, even_places<activation, Rows>(rows.ends[0], Atom::depth), 0, w, stride);
        w += group_size;
      }
    }
  }
  /// The groups of a list, which goes through all segments, and once more for each term of the weights.
  template <std::size_t Rows, std::size_t Panels>
  static constexpr POLYMAC_INLINE void add_up_listed(typename Atom::template tile<Rows, Panels>& t,
                                                     const TileRows& rows, const operands& of) noexcept {
    const weight* w = of.weights;
    const std::uint32_t* at = of.list + 1;
    const std::uint32_t* const end = at + of.list[0];
    // A chain ends where it would with all groups: sums of floats have an order.
    [[maybe_unused]] std::size_t chain_end = chain_groups;
    const auto take = [&](const auto& places) POLYMAC_INLINE_LAMBDA {
      if constexpr (chain_groups > 0) {
        for (; *at >= chain_end; chain_end += chain_groups) Atom::spill(t);
      }
      step<0>(t, places, 0, w, of.panel_stride);
      w += group_size;
    };
    std::size_t first = 0, segment = 0;
    while (at != end) {
      auto places = rows.template find<Rows>(segment, 0);
      for (std::size_t here = first; at != end && *at < first + rows.whole_groups; ++at) {
        places.move((*at - here) * Atom::depth);
        here = *at;
        places.keep();
        take(places);
      }
      first += rows.segment_groups;
      if constexpr (Atom::depth > 1) {
        if (at != end && *at < first) {  // the short one
          take(even_places<activation, Rows>(rows.ends[0], Atom::depth));
          ++at;
        }
      }
      if (++segment == rows.segments) segment = 0;
    }
  }
  template <std::size_t Rows, std::size_t Panels>
  static constexpr POLYMAC_INLINE void store_sums(const typename Atom::template tile<Rows, Panels>& t,
                                                  const operands& of, accumulator* to, std::size_t stride) noexcept {
    if constexpr (stores_parts)
      if (of.last_columns != Atom::columns) return Atom::store_part(t, to, stride, of.last_columns);
    Atom::store(t, to, stride);
  }
  /// All segments, and once more for each term of the weights, and stores the sums.
  template <std::size_t Rows, std::size_t Panels, std::size_t Mode>
  static constexpr POLYMAC_INLINE void add_up_all(typename Atom::template tile<Rows, Panels>& t, const TileRows& rows,
                                                  const operands& of, KSource k_source, accumulator* to,
                                                  std::size_t stride) noexcept {
    if constexpr (isa::is_listed<Atom>) {
      static_cast<void>(k_source);
      add_up_listed<Rows, Panels>(t, rows, of);
      return store_sums<Rows, Panels>(t, of, to, stride);
    }
    // The products of the last groups and the stores are one; so nothing but whole groups may be left there.
    constexpr bool finishes_parts = Panels == 1 && stores_parts;
    const bool finishes = last_groups > 0 && rows.whole_groups == rows.segment_groups &&
                          rows.segment_groups >= last_groups && (finishes_parts || of.last_columns == Atom::columns);
    const std::size_t last_end = finishes ? rows.segment_groups - last_groups : rows.segment_groups;
    const weight* w = of.weights;
    std::size_t room = chain_groups;
    std::size_t segment = 0;
    for (std::size_t left = of.groups; left > 0; left -= rows.segment_groups) {
      const bool is_last = left == rows.segment_groups;
      add_up<Rows, Panels, Mode>(t, rows, segment, 0, is_last ? last_end : rows.segment_groups, w, of.panel_stride,
                                 of.cold, k_source, room);
      if (is_last) break;
      if constexpr (leaves_out) {
        if (rows.of->taps == 1 || (segment + 1) % rows.of->taps == 0)
          w += rows.of->skipped_between / Atom::depth * group_size;
      }
      if (++segment == rows.segments) segment = 0;
    }
    if constexpr (last_groups > 0) {
      if (finishes) {
        auto places = rows.template find<Rows>(segment, last_end * Atom::depth);
        places.keep();
        if constexpr (finishes_parts)
          if (of.last_columns != Atom::columns)
            return Atom::finish(t, places, 0, w, of.panel_stride, to, stride, of.last_columns);
        return Atom::finish(t, places, 0, w, of.panel_stride, to, stride, isa::detail::all_lanes{});
      }
    }
    store_sums<Rows, Panels>(t, of, to, stride);
  }
};

}  // namespace detail
}  // namespace kernel
POLYMAC_END
