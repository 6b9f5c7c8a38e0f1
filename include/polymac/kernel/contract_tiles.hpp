// SPDX-License-Identifier: MIT
// The loop nest for matrix registers: the same product as contract.hpp, from the same packed weights, 32 rows at a
// time.
//
//     for each block of panels that fits L2                              weights stay there while rows pass by
//       for each block of 32 rows: two tiles of 16 whose rows are equally far apart (of one panel alone: 64 rows)
//         for each pair of panels
//           sums = start values
//           for each step: sums += tiles of activations x tiles of weights                 Tiles::step
//             in its middle: a few rows of the block before go through the epilogue
//           sums stay in the tiles until the next block needs them, then -> memory in L1, or straight to the output
//
// It is a nest of its own because a tile is no row of registers: rows are read by a base and a stride instead of
// pointers, and sums can only be reached through memory. Policies act on the vector nest: a tile has no groups of k to
// leave out.
//
// What was measured (Xeon, Granite Rapids class), and decides the form:
//   - the depth is never cut: activations and weights that stream from L2 beside tdpbssd cost less than sums that
//     wait in memory (196 x 256 x 2304: 0.67 of the peak whole, 0.58 in pieces that keep the activations in L1);
//   - raw sums go to the output by tilestored: 0.59 of the peak at 256^3. Copied from L1 by whole lines it is 0.46,
//     with prefetchw 0.33, past the caches 0.34;
//   - beside tdpbssd the float unit of port 5 is taken: conversions, multiplications and minima run once a cycle
//     instead of twice, integer additions are free. An epilogue costs what its float instructions cost, so stages avoid
//     them.
//
// Costs: rows x columns x depth products in tiles of 16 x 16 x 64; weights are read rows / 32 times from L2.
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/finish.hpp"
#include "polymac/kernel/pack.hpp"

#include <cstddef>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace kernel {

/// Where 16 rows of activations lie: row r, segment s at first + r * row_stride() + s * segment_stride() of the source.
template <class Activation>
struct tile_view {
  const Activation* first = nullptr;
  std::size_t line = 0, position = 0;  ///< of its first row, as the source counts
};

/// What the tile nest reads. Its rows may be more than those of the output: rows between the lines of an image are
/// computed and dropped, where that keeps all rows equally far apart.
///   rows()                       rows that can be read as tiles; at least 16
///   row_stride()                 elements from row to row of a tile
///   segments()                   contiguous stretches of a row, all of the same number of steps
///   segment_stride()             elements from one to the next
///   view(row, t)                 the tile of rows [row, row + 16); t: its number in the block, below
///                                row_tiles_of_block()
///   outputs(view, skip, count, f)
///                                calls f(first, rows, output_row) for the runs of rows that are outputs, of the
///                                `count` rows behind the first `skip` ones of a tile
template <class S, class Activation>
concept TileSource = requires(const S& s, std::size_t n) {
  { s.rows() }
  noexcept->std::convertible_to<std::size_t>;
  { s.row_stride() }
  noexcept->std::convertible_to<std::size_t>;
  { s.segments() }
  noexcept->std::convertible_to<std::size_t>;
  { s.segment_stride() }
  noexcept->std::convertible_to<std::size_t>;
  { s.view(n, n) }
  noexcept->std::same_as<tile_view<Activation>>;
};

/// Is a product of this shape faster on tiles? Measured on a Xeon (Granite Rapids): configuring the tiles costs about
/// 80 ns, and a tile of 16 x 16 sums takes about 60 ns with its epilogue, however few k it adds up.
constexpr bool prefers_tiles(std::size_t rows, std::size_t columns, std::size_t depth) noexcept {
  return rows >= 16 && columns >= 8 && depth >= 8 && rows * columns * depth >= std::size_t{1} << 16;
}

/// The same of `rows` of the `all` rows of a product with these weights. Inexact arithmetics give other bits on tiles:
/// there the whole product decides, so that a partition of its rows or columns does not matter.
template <class Packed>
constexpr bool prefers_tiles(const Packed& weights, std::size_t rows, std::size_t all) noexcept {
  const product_shape& s = weights.shape();
  if (Packed::mac::exact) return prefers_tiles(rows, s.columns, s.depth);
  return prefers_tiles(all, s.whole_columns > 0 ? s.whole_columns : s.columns, s.depth);
}

/// Do the steps of tiles end with the depth?
template <class Packed>
constexpr bool fills_steps(const Packed& weights) noexcept {
  return weights.step_groups() * weights.steps() == weights.groups();
}

/// Tiles of 16 rows in a block. One panel alone is given four: products that follow each other on the same sums wait.
constexpr std::size_t row_tiles_of_block(std::size_t columns) noexcept { return columns <= 16 ? 4 : 2; }

/// For explain(): whether rows run on tiles.
template <class Atom, class Packed>
constexpr const char* words_on_tiles(bool permitted, const Packed& weights) noexcept {
  if constexpr (has_tiles<Atom>)
    return permitted             ? ", tiles of 32 rows x 32 columns from 16 rows on"
           : weights.wide_sums() ? ", no tiles: sums in 64 bits"
           : !Packed::mac::exact && (!fills_steps(weights) || weights.depth_of_tiles() > weights.shape().depth)
               ? ", no tiles: the depth is not made of whole steps"
               : ", no tiles: not permitted here";
  else
    return "";
}

namespace detail {

template <class Atom, class Packed, class Source, class Epilogue, class Output>
class tile_nest {
  using isa = typename Atom::isa;
  using tiles = typename Atom::tiles;
  using activation = typename tiles::activation;
  using accumulator = typename tiles::accumulator;
  using weight = typename tiles::weight;
  using element = std::remove_reference_t<decltype(*std::declval<const Output&>().row(0))>;
  static constexpr std::size_t tile_rows = tiles::rows;
  static constexpr std::size_t block_rows = 2 * tile_rows;
  static constexpr std::size_t block_columns = 2 * tiles::columns;
  static constexpr std::size_t max_row_tiles = 4;
  /// Weights that are gone through for one pass over the rows: half of L2.
  static constexpr std::size_t panel_block_bytes = std::size_t{1} << 20;
  /// Up to so many steps (64 deep, 4 KiB of activations and weights) the sums of two blocks stay in L1 beside what
  /// passes by.
  static constexpr std::size_t l1_steps = 8;
  /// Does the output hold sums that the products are added to? (kernel/panel_range.hpp) Then it is made of whole tiles:
  /// rows [begin, end) in sixteens, whole panels.
  static constexpr bool goes_on = requires { requires Output::adds_to_sums; };
  /// Raw sums may be stored to the output as they are.
  static constexpr bool raw = std::is_same_v<Epilogue, epilogue::identity> && std::is_same_v<element, accumulator>;
  static constexpr bool in_lanes = finishes_in_lanes<isa, accumulator, Epilogue>();
  static_assert(!goes_on || raw, "polymac: sums are added to where they are handed on as they are");

  /// Rows of a block that are equally far apart in the output.
  struct row_run {
    element* to;
    std::size_t output_row;
    std::size_t first;  ///< row of the block
    std::size_t count;
  };
  struct rows_of_block {
    const activation* first[max_row_tiles];
    element* whole[max_row_tiles];  ///< output of a tile whose 16 rows are one run; else null
    std::size_t tiles = 0;
    std::size_t run_count = 0;
    row_run runs[max_row_tiles * tile_rows];
  };
  /// Where the sums of a slot belong.
  struct slot {
    const rows_of_block* rows = nullptr;
    std::size_t column = 0;
  };

 public:
  constexpr tile_nest(const Packed& weights, std::size_t set, const Source& source, const Epilogue& epilogue,
                      const Output& output) noexcept
      : weights_(weights),
        set_(set),
        source_(source),
        epilogue_(epilogue),
        output_(output),
        stages_(view_of(epilogue)),
        columns_(weights.shape().columns),
        offset_(set * columns_),
        output_stride_(row_stride(output)),
        panel_stride_(weights.panel_stride()),
        step_weights_(weights.step_groups() * tiles::columns * tiles::depth),
        step_depth_(weights.step_groups() * tiles::depth),
        segments_(source.segments()),
        segment_steps_(weights.steps() / segments_),
        turn_(source.segment_stride() - segment_steps_ * step_depth_),
        row_tiles_(row_tiles_of_block(columns_)),
        units_a_step_(polymac::detail::greater(
            std::size_t{2}, polymac::detail::divide_up(row_tiles_ * tile_rows / rows_of_unit(row_tiles_ == 4 ? 1 : 2),
                                                       weights.steps() - (weights.steps() > l1_steps ? 1 : 0)))),
        soon_(weights.steps() > l1_steps),
        starts_(weights.has_tile_starts() ? weights.tile_starts(set, 0) : nullptr) {}

  /// The rows [begin, end) of the source, at least 16 rows in the source. Tiles are configured already.
  void run(std::size_t begin, std::size_t end) noexcept {
    const std::size_t panels = weights_.panels();
    const std::size_t panel_bytes = panel_stride_ * sizeof(weight);
    std::size_t block = panel_bytes > 0 ? panel_block_bytes / panel_bytes : panels;
    block = block < 8 ? 8 : block / 2 * 2;
    for (std::size_t p = 0; p < panels; p += block) {
      const std::size_t panel_end = polymac::detail::smaller(p + block, panels);
      for (std::size_t row = begin; row < end; row += row_tiles_ * tile_rows) {
        const rows_of_block& rows = rows_from(begin, row, end);
        if (row_tiles_ == 4)
          one_panel(rows, p);
        else if (rows.tiles == 2)
          row_block<2>(rows, p, panel_end);
        else
          row_block<1>(rows, p, panel_end);
      }
    }
    take_stored();
    row_tiles_ == 4 ? drain_all<1>() : drain_all<2>();
    tiles::store_all(places_);
    stored_ = kept_;
    take_stored();
    row_tiles_ == 4 ? drain_all<1>() : drain_all<2>();
  }

 private:
  /// Rows that go through the epilogue at a time: 64 sums.
  static constexpr std::size_t rows_of_unit(std::size_t panels) noexcept { return panels == 2 ? 2 : 4; }

  static constexpr auto view_of(const Epilogue& epilogue) noexcept {
    if constexpr (in_lanes)
      return epilogue.view();
    else
      return 0;
  }

  /// The tiles of a block from `row` on, of the rows [first_row, end). A tile that would go beyond the end is moved up
  /// and repeats rows.
  const rows_of_block& rows_from(std::size_t first_row, std::size_t row, std::size_t end) noexcept {
    // Four places are enough: sums of at most three blocks of rows are on their way out.
    rows_of_block& rows = rows_[next_rows_];
    next_rows_ = next_rows_ == 3 ? 0 : next_rows_ + 1;
    rows.tiles = rows.run_count = 0;
    for (std::size_t t = 0; t < row_tiles_ && row < end; ++t, row += tile_rows) {
      const std::size_t count = polymac::detail::smaller(tile_rows, end - row);
      const std::size_t start = polymac::detail::smaller(row, source_.rows() - tile_rows);
      const tile_view<activation> view = source_.view(start, t);
      rows.first[t] = view.first;
      // Rows that are repeated may be stored again, if they are among those that are wanted: as raw sums in one piece.
      const bool again = raw && start >= first_row && start + tile_rows <= end;
      const std::size_t skip = again ? 0 : row - start;
      rows.whole[t] = nullptr;
      source_.outputs(view, skip, again ? tile_rows : count,
                      [&](std::size_t first, std::size_t run, std::size_t output_row) {
                        first += t * tile_rows + skip;
                        while (run > 0) {
                          const std::size_t regular = polymac::detail::smaller(regular_rows(output_, output_row), run);
                          element* const to = output_.row(output_row) + offset_;
                          if (regular == tile_rows) rows.whole[t] = to;
                          add_run(rows, {to, output_row, first, regular});
                          first += regular;
                          output_row += regular;
                          run -= regular;
                        }
                      });
      ++rows.tiles;
    }
    if (rows.tiles == 3) {
      rows.first[3] = rows.first[2];
      rows.whole[3] = nullptr;
    }
    return rows;
  }

  /// Rows that follow the last ones, in the block and in the output, lengthen their run.
  POLYMAC_INLINE void add_run(rows_of_block& rows, const row_run& run) const noexcept {
    if (rows.run_count > 0) {
      row_run& last = rows.runs[rows.run_count - 1];
      if (last.first + last.count == run.first && last.to + last.count * output_stride_ == run.to &&
          last.output_row + last.count == run.output_row) {
        last.count += run.count;
        return;
      }
    }
    rows.runs[rows.run_count++] = run;
  }

  POLYMAC_INLINE void one_panel(const rows_of_block& rows, std::size_t panel) noexcept {
    if (rows.tiles > 2)
      multiply<4, 1, 1>(rows, panel);
    else if (rows.tiles == 2)
      multiply<2, 1, 1>(rows, panel);
    else
      multiply<1, 1, 1>(rows, panel);
  }
  template <std::size_t RowTiles>
  POLYMAC_INLINE void row_block(const rows_of_block& rows, std::size_t panel, std::size_t panel_end) noexcept {
    for (; panel + 2 <= panel_end; panel += 2) multiply<RowTiles, 2, 2>(rows, panel);
    if (panel < panel_end) multiply<RowTiles, 1, 2>(rows, panel);
  }

  /// The whole depth for one or two panels. Units of rows that are pending have `UnitPanels` panels.
  template <std::size_t RowTiles, std::size_t Panels, std::size_t UnitPanels>
  POLYMAC_INLINE void multiply(const rows_of_block& rows, std::size_t panel) noexcept {
    const weight* w = weights_.panel(set_, panel);
    const activation* from[RowTiles];
    POLYMAC_UNROLL
    for (std::size_t t = 0; t < RowTiles; ++t) from[t] = rows.first[t];
    const std::size_t stride = source_.row_stride(), turn = turn_;
    const auto go_on = [&]() POLYMAC_INLINE_LAMBDA {
      w += step_weights_;
      POLYMAC_UNROLL
      for (std::size_t t = 0; t < RowTiles; ++t) from[t] += step_depth_;
    };
    const auto between = [&]() POLYMAC_INLINE_LAMBDA { drain<UnitPanels>(units_a_step_); };
    if (!soon_) take_stored();
    stored_ = kept_;
    if constexpr (goes_on) {
      typename tiles::places sums;
      find_places<RowTiles, Panels>(rows, panel * tiles::columns, sums);
      tiles::template first_step<RowTiles, Panels>(from, stride, w, panel_stride_, sums, places_, between);
    } else {
      const accumulator* const starts = starts_ == nullptr ? nullptr : starts_ + panel * tiles::columns;
      tiles::template first_step<RowTiles, Panels>(from, stride, w, panel_stride_, starts, places_, between);
    }
    if (soon_) take_stored();
    go_on();
    for (std::size_t segment = 0, step = 1;; step = 0) {
      for (; step < segment_steps_; ++step) {
        tiles::template step<RowTiles, Panels>(from, stride, w, panel_stride_, between);
        go_on();
      }
      if (++segment == segments_) break;
      POLYMAC_UNROLL
      for (std::size_t t = 0; t < RowTiles; ++t) from[t] += turn;
    }
    // The slot of this block is that of the pending one.
    if (pending_ != none) drain_all<UnitPanels>();
    keep<RowTiles, Panels>(rows, panel * tiles::columns);
  }

  /// The places of a block's tiles in the output; none where a tile of rows is no whole run of it.
  template <std::size_t RowTiles, std::size_t Panels>
  POLYMAC_INLINE void find_places(const rows_of_block& rows, std::size_t column,
                                  typename tiles::places& where) const noexcept {
    POLYMAC_UNROLL
    for (std::size_t t = 0; t < 4; ++t) {
      element* const to = t < RowTiles * Panels ? rows.whole[t / Panels] : nullptr;
      where.to[t] = to != nullptr ? to + column + t % Panels * tiles::columns : nullptr;
      where.stride[t] = output_stride_ * sizeof(accumulator);
    }
  }

  /// The sums of a block are complete. They stay in the tiles until the next block needs these.
  template <std::size_t RowTiles, std::size_t Panels>
  POLYMAC_INLINE void keep(const rows_of_block& rows, std::size_t column) noexcept {
    if constexpr (raw) {
      bool whole = column + Panels * tiles::columns <= columns_;
      for (std::size_t t = 0; t < RowTiles; ++t) whole = whole && rows.whole[t] != nullptr;
      if (goes_on || whole) {
        find_places<RowTiles, Panels>(rows, column, places_);
        kept_ = none;
        return;
      }
    }
    constexpr std::size_t stride = Panels * tiles::columns;
    kept_ = free_slot_;
    free_slot_ = 1 - free_slot_;
    accumulator* const sums = finished_[kept_];
    tiles::template place<RowTiles, Panels>(places_, sums, stride);
    slots_[kept_].rows = &rows;
    slots_[kept_].column = column;
  }

  /// The block that was stored becomes the pending one.
  POLYMAC_INLINE void take_stored() noexcept {
    pending_ = stored_;
    stored_ = none;
    next_run_ = 0;
    if (pending_ != none) take_run();
  }
  /// The next run of the pending block; without one, there is nothing pending.
  POLYMAC_INLINE void take_run() noexcept {
    const slot& of = slots_[pending_];
    if (next_run_ == of.rows->run_count) {
      pending_ = none;
      from_ = units_end_ = end_ = nullptr;
      return;
    }
    const row_run& run = of.rows->runs[next_run_++];
    const std::size_t columns = polymac::detail::smaller(columns_ - of.column, block_columns);
    const std::size_t panels = columns > tiles::columns ? 2 : 1, stride = panels * tiles::columns;
    const bool in_units = in_lanes && columns == (row_tiles_ == 4 ? tiles::columns : block_columns);
    column_ = offset_ + of.column;
    run_row_ = run.output_row;
    from_ = run_from_ = finished_[pending_] + run.first * stride;
    end_ = from_ + run.count * stride;
    units_end_ = in_units ? from_ + run.count / rows_of_unit(panels) * rows_of_unit(panels) * stride : from_;
    to_ = run.to + of.column;
  }

  /// Sends up to `units` units of rows of the pending block through the epilogue. Few instructions where they are
  /// there: scalar ones take ports from the epilogue, and room from the loads of the tiles to come.
  template <std::size_t Panels>
  POLYMAC_INLINE void drain(std::size_t units) noexcept {
    if constexpr (in_lanes) {
      constexpr std::size_t of_unit = rows_of_unit(Panels) * Panels * tiles::columns;
      if (units_end_ >= from_ + units * of_unit) [[likely]]
        return finish_units<Panels>(from_ + units * of_unit);
    }
    if (pending_ != none) drain_rest<Panels>();
  }
  /// Units up to `stop`, which is not from_.
  template <std::size_t Panels>
  POLYMAC_INLINE void finish_units(const accumulator* stop) noexcept {
    constexpr std::size_t unit = rows_of_unit(Panels), stride = Panels * tiles::columns;
    const std::size_t to_stride = output_stride_, column = column_;
    const auto stages = stages_;  // of their own: no store can change them
    const accumulator* from = from_;
    element* to = to_;
    do {
      const std::size_t row = run_row_ + static_cast<std::size_t>(from - run_from_) / stride;
      finish_in_lanes<isa, unit, Panels>(stages, from, stride, to, to_stride, {row, column}, tiles::columns);
      from += unit * stride;
      to += unit * to_stride;
    } while (from != stop);
    from_ = from;
    to_ = to;
  }
  /// What is left of the current run, then takes the next one.
  template <std::size_t Panels>
  POLYMAC_NOINLINE void drain_rest() noexcept {
    if constexpr (in_lanes)
      if (from_ != units_end_) finish_units<Panels>(units_end_);
    if (from_ != end_) {
      const std::size_t columns = polymac::detail::smaller(columns_ + offset_ - column_, block_columns);
      const std::size_t stride = columns > tiles::columns ? block_columns : tiles::columns;
      const auto row = run_row_ + static_cast<std::size_t>(from_ - run_from_) / stride;
      kernel::finish<isa>(epilogue_, output_, from_, stride,
                          {row, static_cast<std::size_t>(end_ - from_) / stride, column_ - offset_, columns, offset_});
    }
    take_run();
  }
  template <std::size_t Panels>
  POLYMAC_NOINLINE void drain_all() noexcept {
    while (pending_ != none) drain_rest<Panels>();
  }

  const Packed& weights_;
  const std::size_t set_;
  const Source& source_;
  const Epilogue& epilogue_;
  const Output& output_;
  const decltype(view_of(std::declval<const Epilogue&>())) stages_;
  const std::size_t columns_, offset_, output_stride_;
  const std::size_t panel_stride_, step_weights_, step_depth_, segments_, segment_steps_, turn_, row_tiles_,
      units_a_step_;
  const bool soon_;  ///< sums are finished while the very next block is made; else one block later, when no load has to
                     ///< wait for what tiles have just stored
  const accumulator* const starts_;

  // Sums on their way out: in the tiles, in memory, and of the block before what is left to do. Slots are named by
  // number, not copied: a load that is wider than the stores it reads from, as compilers make of a copy, waits until
  // they, and all tiles stored before them, have reached L1.
  static constexpr std::size_t none = 2;
  slot slots_[2];
  std::size_t kept_ = none, stored_ = none, pending_ = none, free_slot_ = 0;
  typename tiles::places places_;  ///< of the sums in the tiles
  // Of the pending block: the next run, and of the current one where it is, its whole units and all of its rows end.
  std::size_t next_run_ = 0, run_row_ = 0, column_ = 0;
  const accumulator *run_from_ = nullptr, *from_ = nullptr, *units_end_ = nullptr, *end_ = nullptr;
  element* to_ = nullptr;

  rows_of_block rows_[4];
  std::size_t next_rows_ = 0;
  alignas(64) accumulator finished_[2][block_rows * block_columns];
};

}  // namespace detail

/// The tile registers of this thread, configured for steps of whole tiles as long as the object lives: of several
/// contractions, which need not configure them one by one (82 ns each).
template <class Atom>
class tile_session {
 public:
  explicit tile_session(bool on) noexcept : on_(on) {
    if (on_) Atom::tiles::configure(Atom::tiles::whole_steps());
  }
  tile_session(const tile_session&) = delete;
  tile_session& operator=(const tile_session&) = delete;
  ~tile_session() {
    if (on_) Atom::tiles::release();
  }

 private:
  bool on_;
};

/// contract_tiles() within a session: the steps of `weights` are whole tiles.
template <class Atom, class Packed, class Source, class Epilogue, class Output>
void contract_in_session(const Packed& weights, std::size_t set, const Source& source, const Epilogue& epilogue,
                         const Output& output, std::size_t begin, std::size_t end) noexcept {
  static_assert(TileSource<Source, typename Atom::activation>);
  detail::tile_nest<Atom, Packed, Source, Epilogue, Output>(weights, set, source, epilogue, output).run(begin, end);
}

/// As contract(), on the tiles of Atom, for the rows [begin, end) of the source, which has at least 16. The process
/// must be permitted to use tiles (cpu/permission.hpp), and sums must fit an accumulator (no wide sums).
template <class Atom, class Packed, class Source, class Epilogue, class Output>
void contract_tiles(const Packed& weights, std::size_t set, const Source& source, const Epilogue& epilogue,
                    const Output& output, std::size_t begin, std::size_t end) noexcept {
  Atom::tiles::configure(weights.tile_configuration());
  contract_in_session<Atom>(weights, set, source, epilogue, output, begin, end);
  Atom::tiles::release();
}

}  // namespace kernel
POLYMAC_END
