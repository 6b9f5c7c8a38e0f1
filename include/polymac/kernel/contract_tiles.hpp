// SPDX-License-Identifier: MIT
// The loop nest for matrix registers: the same product as contract.hpp, from the same packed weights, 32 rows at a time.
//
//     for each block of panels that fits L2                                    weights stay there while rows pass by
//       for each block of 32 rows: two tiles of 16 whose rows are equally far apart (of one panel alone: 64 rows)
//         for each piece of the depth that keeps its activations in L1
//           for each pair of panels
//             sums = start values, or those of the piece before
//             for each step: sums += tiles of activations x tiles of weights   Tiles::step
//               meanwhile: a few rows of the block before get their start values and go through the epilogue
//             sums stay in the tiles until the next block needs them, then -> memory in L1
//
// It is a nest of its own because a tile is no row of registers: rows are read by a base and a stride instead of pointers,
// sums can only be reached through memory, and the vector units are idle while tiles multiply, so that the epilogue of one
// block costs nothing if it is mixed into the steps of the next. Policies act on the vector nest: a tile has no groups of k
// to leave out.
//
// Costs: rows x columns x depth products in tiles of 16 x 16 x 64; weights are read rows / 32 times from L2.
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/finish.hpp"
#include "polymac/kernel/pack.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {

/// Where 16 rows of activations lie: row r, segment s at first + r * row_stride + s * segment_stride.
template <class Activation>
struct tile_view {
  const Activation* first = nullptr;
  std::size_t row_stride = 0;
  std::size_t segment_stride = 0;
  std::size_t line = 0, position = 0;  ///< of its first row, as the source counts
};

/// What the tile nest reads. Its rows may be more than those of the output: rows between the lines of an image are computed
/// and dropped, where that keeps all rows equally far apart.
///   rows()                       rows that can be read as tiles; at least 16
///   segments()                   contiguous stretches of a row, all of the same number of steps
///   view(row, t)                 the tile of rows [row, row + 16); t: its number in the block, below row_tiles_of_block()
///   outputs(view, skip, count, f)
///                                calls f(first, rows, output_row) for the runs of rows that are outputs, of the `count` rows
///                                behind the first `skip` ones of a tile
template <class S, class Activation>
concept TileSource = requires(const S& s, std::size_t n) {
  { s.rows() } noexcept -> std::convertible_to<std::size_t>;
  { s.segments() } noexcept -> std::convertible_to<std::size_t>;
  { s.view(n, n) } noexcept -> std::same_as<tile_view<Activation>>;
};

/// Is a product of this shape faster on tiles? Measured on a Xeon (Granite Rapids): configuring the tiles costs about
/// 80 ns, and a tile of 16 x 16 sums takes about 60 ns with its epilogue, however few k it adds up.
constexpr bool prefers_tiles(std::size_t rows, std::size_t columns, std::size_t depth) noexcept {
  return rows >= 16 && columns >= 8 && depth >= 8 && rows * columns * depth >= std::size_t{1} << 16;
}

/// Tiles of 16 rows in a block. One panel alone is given four: products that follow each other on the same sums wait.
constexpr std::size_t row_tiles_of_block(std::size_t columns) noexcept { return columns <= 16 ? 4 : 2; }

/// For explain(): whether rows run on tiles.
template <class Atom, class Packed>
constexpr const char* words_on_tiles(bool permitted, const Packed& weights) noexcept {
  if constexpr (has_tiles<Atom>)
    return permitted             ? ", tiles of 32 rows x 32 columns from 16 rows on"
           : weights.wide_sums() ? ", no tiles: sums in 64 bits"
                                 : ", no tiles: not permitted here";
  else
    return "";
}

namespace detail {

template <class Atom, class Packed, class Source, class Epilogue, class Output>
class tile_nest {
  using tiles = typename Atom::tiles;
  using activation = typename tiles::activation;
  using accumulator = typename tiles::accumulator;
  using weight = typename tiles::weight;
  static constexpr std::size_t tile_rows = tiles::rows;
  static constexpr std::size_t block_rows = 2 * tile_rows;
  static constexpr std::size_t block_columns = 2 * tiles::columns;
  /// Distance of two rows of sums: no power of two, so that 32 rows do not share a few sets of L1.
  static constexpr std::size_t sum_stride = block_columns + 16;
  /// Weights that are gone through for one pass over the rows: half of L2.
  static constexpr std::size_t panel_block_bytes = std::size_t{1} << 20;
  /// Steps of 64 k that keep the activations of a block (32 rows: 2 KiB a step) in L1 beside the weights that stream by.
  static constexpr std::size_t piece_steps = 12;
  /// Pairs of panels that share a piece of activations; their sums wait in memory for the next piece.
  static constexpr std::size_t group_pairs = 4;

  static constexpr std::size_t max_row_tiles = 4;

  struct rows_of_block {
    tile_view<activation> view[max_row_tiles];
    std::size_t skip[max_row_tiles];   ///< rows of each tile that another one has done
    std::size_t count[max_row_tiles];  ///< rows that count
  };

  /// A place in the depth: segment and step within it.
  struct depth_position {
    std::size_t first = 0, step = 0, segment = 0;
  };

 public:
  constexpr tile_nest(const Packed& weights, std::size_t set, const Source& source, const Epilogue& epilogue,
                      const Output& output) noexcept
      : weights_(weights),
        set_(set),
        source_(source),
        epilogue_(epilogue),
        output_(output),
        panel_stride_(weights.panel_stride()),
        step_weights_(weights.step_groups() * tiles::columns * tiles::depth),
        step_depth_(weights.step_groups() * tiles::depth),
        steps_(weights.steps()),
        segment_steps_(steps_ / source.segments()),
        pieces_(steps_ <= piece_steps + piece_steps / 2 ? 1 : polymac::detail::divide_up(steps_, piece_steps)),
        row_tiles_(pieces_ == 1 ? row_tiles_of_block(weights.shape().columns) : 2),
        sum_stride_(row_tiles_ == 4 ? tiles::columns : sum_stride),
        // All rows of a block must be out before the next one is stored; a call costs as much as a few rows do.
        rows_a_step_(polymac::detail::round_up(polymac::detail::divide_up(row_tiles_ * tile_rows, steps_ / pieces_), 8)) {}

  /// The rows [begin, end) of the source, at least 16 rows in the source.
  void run(std::size_t begin, std::size_t end) noexcept {
    tiles::configure(weights_.tile_configuration());
    const std::size_t panels = weights_.panels();
    const std::size_t panel_bytes = panel_stride_ * sizeof(weight);
    std::size_t block = panel_bytes > 0 ? panel_block_bytes / panel_bytes : panels;
    block = block < 2 * group_pairs ? 2 * group_pairs : block / 2 * 2;
    for (std::size_t p = 0; p < panels; p += block) {
      const std::size_t panel_end = polymac::detail::smaller(p + block, panels);
      for (std::size_t row = begin; row < end; row += row_tiles_ * tile_rows) {
        const rows_of_block& rows = rows_from(row, end);
        if (rows.count[2] > 0)
          whole<4, 1>(rows, p);
        else if (rows.count[1] > 0)
          row_block<2>(rows, p, panel_end);
        else
          row_block<1>(rows, p, panel_end);
      }
    }
    store_kept();
    drain(all_rows);
    take_stored();
    drain(all_rows);
    tiles::release();
  }

 private:
  static constexpr std::size_t all_rows = max_row_tiles * tile_rows;

  /// The tiles of a block from `row` on. A tile that would go beyond the end is moved up and repeats rows.
  const rows_of_block& rows_from(std::size_t row, std::size_t end) noexcept {
    rows_of_block& rows = rows_[next_rows_];
    next_rows_ = next_rows_ == 3 ? 0 : next_rows_ + 1;
    // Four places are enough: sums of at most three blocks of rows are on their way out.
    for (std::size_t t = 0; t < max_row_tiles; ++t) {
      rows.count[t] = 0;
      if (t >= row_tiles_ || row >= end) continue;
      const std::size_t count = polymac::detail::smaller(tile_rows, end - row);
      const std::size_t start = polymac::detail::smaller(row, source_.rows() - tile_rows);
      rows.view[t] = source_.view(start, t);
      rows.skip[t] = row - start;
      rows.count[t] = count;
      row += tile_rows;
    }
    if (rows.count[2] > 0 && rows.count[3] == 0) rows.view[3] = rows.view[2];
    return rows;
  }

  template <std::size_t RowTiles>
  POLYMAC_INLINE void row_block(const rows_of_block& rows, std::size_t panel, std::size_t panel_end) noexcept {
    if (pieces_ == 1) {
      for (; panel + 2 <= panel_end; panel += 2) whole<RowTiles, 2>(rows, panel);
      if (panel < panel_end) whole<RowTiles, 1>(rows, panel);
    } else {
      for (; panel < panel_end; panel += 2 * group_pairs)
        in_pieces<RowTiles>(rows, panel, polymac::detail::smaller(panel + 2 * group_pairs, panel_end));
    }
  }

  /// The whole depth for one or two panels.
  template <std::size_t RowTiles, std::size_t Panels>
  POLYMAC_INLINE void whole(const rows_of_block& rows, std::size_t panel) noexcept {
    depth_position at;
    multiply<RowTiles, Panels>(rows, panel, at, steps_);
    keep<RowTiles, Panels>(rows, panel);
  }

  /// The depth piece by piece for a group of panels; their sums wait in memory in between.
  template <std::size_t RowTiles>
  void in_pieces(const rows_of_block& rows, std::size_t panel, std::size_t panel_end) noexcept {
    depth_position from;
    for (std::size_t piece = 0; piece < pieces_; ++piece) {
      const std::size_t last = steps_ * (piece + 1) / pieces_;
      depth_position to;
      for (std::size_t p = panel; p < panel_end; p += 2) {
        to = from;
        if (p + 2 <= panel_end)
          part<RowTiles, 2>(rows, p, to, last, waiting_[(p - panel) / 2]);
        else
          part<RowTiles, 1>(rows, p, to, last, waiting_[(p - panel) / 2]);
      }
      from = to;
    }
  }

  template <std::size_t RowTiles, std::size_t Panels>
  POLYMAC_INLINE void part(const rows_of_block& rows, std::size_t panel, depth_position& at, std::size_t last,
                           accumulator* waiting) noexcept {
    if (at.first > 0) {
      store_kept();
      tiles::template resume<RowTiles, Panels>(waiting, sum_stride_);
    }
    multiply<RowTiles, Panels>(rows, panel, at, last);
    if (last == steps_)
      keep<RowTiles, Panels>(rows, panel);
    else
      tiles::template store<RowTiles, Panels>(waiting, sum_stride_);
  }

  /// The steps from `at` to `last`.
  template <std::size_t RowTiles, std::size_t Panels>
  POLYMAC_INLINE void multiply(const rows_of_block& rows, std::size_t panel, depth_position& at,
                               std::size_t last) noexcept {
    const weight* w = weights_.panel(set_, panel) + at.first * step_weights_;
    const activation* from[RowTiles];
    std::size_t strides[RowTiles], turns[RowTiles];
    POLYMAC_UNROLL
    for (std::size_t t = 0; t < RowTiles; ++t) {
      from[t] = rows.view[t].first + at.segment * rows.view[t].segment_stride + at.step * step_depth_;
      strides[t] = rows.view[t].row_stride;
      turns[t] = rows.view[t].segment_stride - segment_steps_ * step_depth_;
    }
    const auto go_on = [&]() POLYMAC_INLINE_LAMBDA {
      w += step_weights_;
      POLYMAC_UNROLL
      for (std::size_t t = 0; t < RowTiles; ++t) from[t] += step_depth_;
      if (pending_tile_ < max_row_tiles) drain(rows_a_step_);
    };
    std::size_t done = 0;
    if (at.first == 0) {
      accumulator* const slot = next_slot();
      tiles::template first_step<RowTiles, Panels>(from, strides, w, panel_stride_, slot, kept_places_, sum_stride_);
      go_on();
      done = 1;
    }
    while (at.first < last) {
      std::size_t run = polymac::detail::smaller(segment_steps_ - at.step, last - at.first);
      at.first += run;
      at.step += run;
      run -= done;
      done = 0;
      for (; run > 0; --run) {
        tiles::template step<RowTiles, Panels>(from, strides, w, panel_stride_);
        go_on();
      }
      if (at.step == segment_steps_) {
        at.step = 0;
        ++at.segment;
        POLYMAC_UNROLL
        for (std::size_t t = 0; t < RowTiles; ++t) from[t] += turns[t];
      }
    }
  }

  /// The sums of a block are complete. They stay in the tiles until the next block needs these.
  template <std::size_t RowTiles, std::size_t Panels>
  POLYMAC_INLINE void keep(const rows_of_block& rows, std::size_t panel) noexcept {
    kept_rows_ = &rows;
    kept_panel_ = panel;
    kept_places_ = tiles::template places_of<RowTiles, Panels>(sum_stride_);
  }

  /// Where the kept sums are to be stored now. The block that was stored before becomes the pending one; it is another one,
  /// because loads of what tiles have just stored would wait, and all that is behind them with them.
  POLYMAC_INLINE accumulator* next_slot() noexcept {
    if (pending_tile_ < max_row_tiles) drain(all_rows);
    take_stored();
    const std::size_t slot = pending_slot_ == 2 ? 0 : pending_slot_ + 1;
    slot_panel_[slot] = kept_panel_;
    slot_rows_[slot] = kept_rows_;
    stored_ = kept_rows_ != nullptr;
    kept_rows_ = nullptr;
    return finished_[slot];
  }
  POLYMAC_INLINE void store_kept() noexcept {
    if (kept_rows_ == nullptr) return;
    accumulator* const slot = next_slot();
    tiles::store_all(slot, kept_places_, sum_stride_);
  }

  /// The stored block becomes the pending one.
  POLYMAC_INLINE void take_stored() noexcept {
    if (!stored_) return;
    stored_ = false;
    pending_slot_ = pending_slot_ == 2 ? 0 : pending_slot_ + 1;
    pending_tile_ = pending_done_ = 0;
  }

  /// Sends up to `count` rows of the pending block through the epilogue.
  void drain(std::size_t count) noexcept {
    while (count > 0 && pending_tile_ < max_row_tiles) {
      const std::size_t tile = pending_tile_;
      const rows_of_block& block = *slot_rows_[pending_slot_];
      const std::size_t column = slot_panel_[pending_slot_] * tiles::columns;
      const std::size_t rows = polymac::detail::smaller(count, block.count[tile] - pending_done_);
      if (rows > 0) {
        const accumulator* const from =
            finished_[pending_slot_] + (tile * tile_rows + block.skip[tile] + pending_done_) * sum_stride_;
        source_.outputs(
            block.view[tile], block.skip[tile] + pending_done_, rows,
            [&](std::size_t first, std::size_t run, std::size_t output_row) POLYMAC_INLINE_LAMBDA {
              kernel::finish<typename Atom::isa>(
                  epilogue_, output_, from + first * sum_stride_, sum_stride_,
                  {output_row, run, column, polymac::detail::smaller(block_columns, weights_.shape().columns - column),
                   set_ * weights_.shape().columns},
                  weights_.tile_starts(set_, slot_panel_[pending_slot_]));
            });
      }
      count -= rows;
      pending_done_ += rows;
      if (pending_done_ == block.count[tile]) {
        ++pending_tile_;
        pending_done_ = 0;
      }
    }
  }

  const Packed& weights_;
  std::size_t set_;
  const Source& source_;
  const Epilogue& epilogue_;
  const Output& output_;
  const std::size_t panel_stride_, step_weights_, step_depth_;
  const std::size_t steps_, segment_steps_, pieces_, row_tiles_, sum_stride_, rows_a_step_;

  /// Sums on their way out: in the tiles, in memory, and of the block before what is left to do.
  // Plain values, never copied as a whole: see finish.hpp for the price.
  const rows_of_block* kept_rows_ = nullptr;  ///< of the sums in the tiles
  std::size_t kept_panel_ = 0;
  typename tiles::places kept_places_ = tiles::template places_of<2, 2>(sum_stride);
  std::size_t slot_panel_[3]{};
  const rows_of_block* slot_rows_[3]{};
  std::size_t pending_slot_ = 0;
  bool stored_ = false;
  std::size_t pending_tile_ = max_row_tiles;  ///< of which rows are left; 4: none
  std::size_t pending_done_ = 0;  ///< rows of that tile

  rows_of_block rows_[4];
  std::size_t next_rows_ = 0;
  alignas(64) accumulator finished_[3][block_rows * sum_stride];
  alignas(64) accumulator waiting_[group_pairs][block_rows * sum_stride];
};

}  // namespace detail

/// As contract(), on the tiles of Atom, for the rows [begin, end) of the source, which has at least 16. The process must be
/// permitted to use tiles (cpu/permission.hpp), and sums must fit an accumulator (no wide sums).
template <class Atom, class Packed, class Source, class Epilogue, class Output>
void contract_tiles(const Packed& weights, std::size_t set, const Source& source, const Epilogue& epilogue,
                    const Output& output, std::size_t begin, std::size_t end) noexcept {
  static_assert(TileSource<Source, typename Atom::activation>);
  detail::tile_nest<Atom, Packed, Source, Epilogue, Output>(weights, set, source, epilogue, output).run(begin, end);
}

}  // namespace kernel
POLYMAC_END
