// SPDX-License-Identifier: MIT
// THE loop nest. Every layer that multiplies weights with activations runs here: for every arithmetic, instruction set,
// policy and epilogue.
//
//     for each block of panels that fits the cache beside the activations      (weights are read once per block ...
//       for each tile of rows                                                   ... and tile of rows)
//         find the activations of these rows: pointers into the input, else one block of copied rows
//         for each one or two panels
//           sums = start values                                                 in registers
//           for each segment of the rows, for each group of k the k-source visits
//             sums += activations[rows][group] * weights[group][columns]        Atom::step
//           output[rows][columns] = epilogue(sums)
//
// Sums that could leave the accumulator are cut into chunks of groups and gathered in 64 bits.
//
// Costs: rows x columns x depth multiply-adds; weights are read rows / max_rows times, from L2 where a block fits
// there.
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/finish.hpp"
#include "polymac/kernel/pack.hpp"
#include "polymac/policy/k_source.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// How the activations of a tile of rows can be read: as `segments` contiguous stretches of `segment_depth` k each,
/// through pointers, or (0 segments) only by copying the rows.
/// A stretch that is no multiple of the atom's depth is allowed where there is one segment; its end is copied then.
struct row_access {
  std::size_t segments = 0;
  std::size_t segment_depth = 0;
};

/// What a contraction reads: `rows` rows of activations. Several rows may share memory, and one may lie in pieces.
///   access(row, count)                    how rows [row, row + count) can be read
///   pointers(row, count, access, table)   table[segment * count + r] = start of that stretch of row `row + r`
///   gather(row, count, block, stride)     copies the rows: depth activations each, `stride` apart
template <class S, class M>
concept SourceFor = requires(const S& s, std::size_t n, row_access access, const typename M::activation** table,
                             typename M::activation* block) {
  { s.rows() } noexcept -> std::convertible_to<std::size_t>;
  { s.access(n, n) } noexcept -> std::same_as<row_access>;
  { s.pointers(n, n, access, table) } noexcept;
  { s.gather(n, n, block, n) } noexcept;
};

/// Memory that a contraction needs beside its operands: a table of pointers and one block of rows.
template <class Activation>
struct scratch {
  const Activation** pointers = nullptr;
  Activation* block = nullptr;
  std::size_t block_elements = 0;
};

/// Entries of the table and elements of the block for rows of at most `segments` stretches and `depth` activations, of
/// which a source copies some when `copies` is set.
template <class Atom>
struct scratch_extent {
  std::size_t pointers = 0;
  std::size_t block = 0;
  /// `least_block`: elements that something else wants in the place of the block, never at the same time.
  constexpr scratch_extent(std::size_t segments, std::size_t depth, bool copies, std::size_t least_block = 0) noexcept
      : pointers(Atom::max_rows * segments),
        block(copies ? Atom::max_rows * polymac::detail::round_up(depth, Atom::depth) : 0) {
    if (block < least_block) block = least_block;
  }
  /// Bytes of workspace that hold both at any alignment.
  constexpr std::size_t bytes() const noexcept {
    using activation = typename Atom::activation;
    return pointers * sizeof(const activation*) + alignof(const activation*) +
           (block > 0 ? block * sizeof(activation) + block_alignment : 0);
  }
  static constexpr std::size_t block_alignment = 64;
};

namespace detail {

/// Bytes of weights that are gone through for one pass over the rows: half of a small L2, so that it stays there while
/// activations and outputs stream by.
inline constexpr std::size_t panel_block_bytes = std::size_t{256} * 1024;

template <class M, class Atom, class Packed, class Source, class Epilogue, class Output, class KSource>
class loop_nest {
  using traits = mac_traits<M>;
  using activation = typename traits::activation;
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using sum = typename traits::sum;
  static constexpr std::size_t group_size = Atom::columns * Atom::depth;

  /// The rows of a tile, ready to be read.
  template <std::size_t Rows>
  struct tile_rows {
    const activation* const* table;  ///< [segment][row]
    std::size_t segments;
    std::size_t segment_groups;    ///< groups of a segment, the short one at its end included
    std::size_t whole_groups;      ///< groups that can be read through the table
    const activation* ends[Rows];  ///< the last, short group of every row, filled up with zeros
  };

 public:
  const Packed& weights;
  std::size_t set;
  const Source& source;
  const Epilogue& epilogue;
  const Output& output;
  KSource k_source;
  scratch<activation> memory;

  constexpr void run(row_range range) const noexcept {
    const std::size_t last_row = polymac::detail::smaller(range.end, source.rows());
    const std::size_t panels = weights.panels();
    const std::size_t panel_bytes = weights.panel_stride() * sizeof(typename traits::weight);
    std::size_t block = panel_bytes > 0 ? panel_block_bytes / panel_bytes : panels;
    block = block < Atom::max_panels ? Atom::max_panels : block / Atom::max_panels * Atom::max_panels;
    for (std::size_t p = 0; p < panels; p += block) {
      const std::size_t panel_end = polymac::detail::smaller(p + block, panels);
      rows_from<Atom::max_rows>(range.begin, last_row, p, panel_end);
    }
  }

 private:
  /// Tiles of Rows rows as long as they fit, then smaller ones: 12, 6, 3, 1.
  template <std::size_t Rows>
  constexpr void rows_from(std::size_t row, std::size_t last_row, std::size_t panel,
                           std::size_t panel_end) const noexcept {
    for (; row + Rows <= last_row && row < last_row; row += Rows) row_tile<Rows>(row, panel, panel_end);
    if constexpr (Rows > 1)
      if (row < last_row) rows_from<Rows / 2>(row, last_row, panel, panel_end);
  }

  template <std::size_t Rows>
  constexpr void row_tile(std::size_t row, std::size_t panel, std::size_t panel_end) const noexcept {
    const row_access access = source.access(row, Rows);
    tile_rows<Rows> rows{};
    rows.table = memory.pointers;
    activation ends[Rows][Atom::depth]{};
    if (access.segments > 0) {
      source.pointers(row, Rows, access, memory.pointers);
      rows.segments = access.segments;
      rows.segment_groups = polymac::detail::divide_up(access.segment_depth, Atom::depth);
      rows.whole_groups = access.segment_depth / Atom::depth;
      const std::size_t rest = access.segment_depth % Atom::depth;
      for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t d = 0; d < rest; ++d) ends[r][d] = memory.pointers[r][rows.whole_groups * Atom::depth + d];
        rows.ends[r] = ends[r];
      }
    } else {
      const std::size_t depth = weights.shape().depth;
      const std::size_t stride = polymac::detail::round_up(depth, Atom::depth);
      source.gather(row, Rows, memory.block, stride);
      for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t k = depth; k < stride; ++k) memory.block[r * stride + k] = activation{};
        memory.pointers[r] = memory.block + r * stride;
      }
      rows.segments = 1;
      rows.segment_groups = rows.whole_groups = stride / Atom::depth;
    }
    panels_from<Rows, Atom::max_panels>(row, rows, panel, panel_end);
  }

  template <std::size_t Rows, std::size_t Panels>
  constexpr void panels_from(std::size_t row, const tile_rows<Rows>& rows, std::size_t panel,
                             std::size_t panel_end) const noexcept {
    for (; panel + Panels <= panel_end; panel += Panels) {
      if (weights.wide_sums())
        wide_tile<Rows, Panels>(row, rows, panel);
      else
        tile<Rows, Panels>(row, rows, panel);
    }
    if constexpr (Panels > 1)
      if (panel < panel_end) panels_from<Rows, Panels - 1>(row, rows, panel, panel_end);
  }

  template <std::size_t Rows, std::size_t Panels>
  constexpr void tile(std::size_t row, const tile_rows<Rows>& rows, std::size_t panel) const noexcept {
    accumulator sums[Rows * Panels * Atom::columns];
    if constexpr (traits::integer && sizeof(sum) > sizeof(accumulator)) {
      // The sum type is wider than the accumulator: pack() has asked for wide sums always.
      static_cast<void>(row), static_cast<void>(rows), static_cast<void>(panel);
    } else {
      accumulate<Rows, Panels>(rows, panel, 0, 0, weights.groups(), sums);
      finish<Rows, Panels>(row, panel, sums);
    }
  }

  template <std::size_t Rows, std::size_t Panels>
  constexpr void wide_tile(std::size_t row, const tile_rows<Rows>& rows, std::size_t panel) const noexcept {
    constexpr std::size_t width = Panels * Atom::columns;
    accumulator sums[Rows * width];
    wide totals[Rows * width];
    const wide* const bias = weights.bias(set, panel);
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < width; ++c) totals[r * width + c] = bias[c];
    for (std::size_t chunk = 0; chunk < weights.chunks(); ++chunk) {
      const std::size_t first = chunk * Packed::chunk_groups();
      const std::size_t last = polymac::detail::smaller(first + Packed::chunk_groups(), weights.groups());
      accumulate<Rows, Panels>(rows, panel, chunk, first, last, sums);
      for (std::size_t i = 0; i < Rows * width; ++i) totals[i] += static_cast<wide>(sums[i]);
    }
    sum results[Rows * width];
    for (std::size_t i = 0; i < Rows * width; ++i) results[i] = narrow<sum>(totals[i]);
    finish<Rows, Panels>(row, panel, results);
  }

  /// sums = start values of the chunk + products of the groups [first, last).
  template <std::size_t Rows, std::size_t Panels>
  constexpr POLYMAC_INLINE void accumulate(const tile_rows<Rows>& rows, std::size_t panel, std::size_t chunk,
                                           std::size_t first, std::size_t last, accumulator* sums) const noexcept {
    typename Atom::template tile<Rows, Panels> t;
    Atom::start(t, weights.starts(set, panel, chunk), weights.start_stride());
    const std::size_t stride = weights.panel_stride();
    const typename traits::weight* w = weights.panel(set, panel) + first * group_size;
    // A term repeats the same activations with other weights, hence the modulus.
    std::size_t segment = first / rows.segment_groups % rows.segments;
    std::size_t group = first % rows.segment_groups;
    for (std::size_t left = last - first; left > 0;) {
      const std::size_t end = polymac::detail::smaller(group + left, rows.segment_groups);
      const activation* pointers[Rows];
      for (std::size_t r = 0; r < Rows; ++r) pointers[r] = rows.table[segment * Rows + r];
      k_source.visit(group, polymac::detail::smaller(end, rows.whole_groups), [&](std::size_t g) POLYMAC_INLINE_LAMBDA {
        Atom::step(t, pointers, g * Atom::depth, w, stride);
        w += group_size;
      });
      if (end > rows.whole_groups) {
        Atom::step(t, rows.ends, 0, w, stride);
        w += group_size;
      }
      left -= end - group;
      group = 0;
      segment = segment + 1 == rows.segments ? 0 : segment + 1;
    }
    Atom::store(t, sums);
  }

  /// Hands the sums of a tile to the epilogue, without the columns that only fill up the last panel.
  template <std::size_t Rows, std::size_t Panels, class Value>
  constexpr POLYMAC_INLINE void finish(std::size_t row, std::size_t panel, const Value* sums) const noexcept {
    constexpr std::size_t width = Panels * Atom::columns;
    const std::size_t column = panel * Atom::columns;
    kernel::finish<typename Atom::isa>(
        epilogue, output, sums, width,
        {row, Rows, column, polymac::detail::smaller(width, weights.shape().columns - column),
         set * weights.shape().columns});
  }
};

}  // namespace detail

/// Computes output row r = epilogue(source row r x weights) for the rows of `range`, one set of the weights.
///   Output: `row(r)` gives a pointer to the columns of row r of the whole output.
template <class Atom, class Packed, class Source, class Epilogue, class Output, class KSource = policy::dense_k>
constexpr void contract(const Packed& weights, std::size_t set, const Source& source, const Epilogue& epilogue,
                        const Output& output, scratch<typename Atom::activation> memory, row_range range,
                        KSource k_source = {}) noexcept {
  using M = typename Atom::mac;
  static_assert(SourceFor<Source, M>);
  static_assert(epilogue::Stage<Epilogue>);
  detail::loop_nest<M, Atom, Packed, Source, Epilogue, Output, KSource>{weights, set,      source, epilogue,
                                                                        output,  k_source, memory}
      .run(range);
}

}  // namespace kernel
POLYMAC_END
