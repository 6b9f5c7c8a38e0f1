// SPDX-License-Identifier: MIT
// THE loop nest. Every layer that multiplies weights with activations runs here: for every arithmetic, instruction set,
// policy and epilogue.
//
//     for each block of panels that fits the cache beside the activations      (weights are read once per block ...
//       for each tile of rows                                                   ... and tile of rows)
//         find the activations of these rows: pointers into the input, else one block of copied rows
//         if the atom wants its activations prepared: write them as it wants, into L1
//         for each tile of panels: two beside many rows, up to eight beside few
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
  { s.rows() }
  noexcept->std::convertible_to<std::size_t>;
  { s.access(n, n) }
  noexcept->std::same_as<row_access>;
  { s.pointers(n, n, access, table) }
  noexcept;
  { s.gather(n, n, block, n) }
  noexcept;
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

/// Bytes of weights that are gone through for one pass over the rows: half of an L2 of 1 MiB, so that it stays there
/// while activations and outputs stream by.
inline constexpr std::size_t panel_block_bytes = std::size_t{512} * 1024;

/// Activations of more bytes than this do not wait in L2 for the next block of panels.
inline constexpr std::size_t near_bytes = std::size_t{512} * 1024;

/// The atom that does the steps: the one for prepared activations, where there is one.
template <class Atom>
struct stepping {
  using type = Atom;
};
template <class Atom>
requires requires { typename Atom::prepared; }
struct stepping<Atom> {
  using type = typename Atom::prepared;
};

template <class M, class Atom, class Packed, class Source, class Epilogue, class Output, class KSource>
class loop_nest {
  using traits = mac_traits<M>;
  using activation = typename traits::activation;
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using sum = typename traits::sum;
  using stepper = typename stepping<Atom>::type;
  static constexpr std::size_t group_size = Atom::columns * Atom::depth;
  static constexpr bool prepares = !std::is_same_v<stepper, Atom>;
  /// The sum type may be wider than the accumulator: then pack() has asked for wide sums always.
  static constexpr bool sums_fit = !traits::integer || sizeof(sum) <= sizeof(accumulator);
  /// Prepared rows of a tile: with the weights of a step or two well within L1.
  static constexpr std::size_t prepared_elements = Atom::max_rows * (1024 + 64);
  /// Panels whose sums wait in memory while the rows are prepared piece by piece.
  static constexpr std::size_t waiting_panels = 8;
  /// Groups of a row in a line of the cache.
  static constexpr std::size_t line_groups = 64 / sizeof(activation) / Atom::depth > 0
                                                 ? 64 / sizeof(activation) / Atom::depth
                                                 : 1;

  /// The rows of a tile, ready to be read.
  struct tile_rows {
    const activation* const* table;  ///< [segment][row]
    std::size_t segments;
    std::size_t segment_groups;                    ///< groups of a segment, the short one at its end included
    std::size_t whole_groups;                      ///< groups that can be read through the table
    activation ends[Atom::max_rows][Atom::depth];  ///< the last, short group of every row, filled up with zeros
  };
  /// A group of k as the rows count them.
  struct depth_position {
    std::size_t segment = 0, group = 0;
  };
  // Never copied as a whole: compilers do so by a load that is wider than the stores it reads from, and it waits until
  // they, and all that was stored before them, have reached L1.
  /// A piece of the depth: `groups` groups from `at` on, the first of them number `first` of the panel.
  struct piece {
    depth_position at;
    std::size_t first = 0, groups = 0;
    accumulator* waiting = nullptr;  ///< sums of the pieces before and of this one; none where it is the only one
    bool last = true;
    bool cold = false;  ///< the activations may be far away: this is the first tile that reads them
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
    if (range.begin >= last_row) return;
    const std::size_t panels = weights.panels();
    const std::size_t panel_bytes = weights.panel_stride() * sizeof(typename traits::weight);
    std::size_t block = panels;
    // Rows that make one tile read the weights once in any case. (No division where it can be avoided: it would take as
    // long as a small product.)
    if (last_row - range.begin > Atom::max_rows && panels * panel_bytes > panel_block_bytes) {
      block = panel_block_bytes / panel_bytes;
      block = block < Atom::max_panels ? Atom::max_panels : block / Atom::max_panels * Atom::max_panels;
    }
    bool far = false;
    if (!std::is_constant_evaluated())
      far = (last_row - range.begin) * weights.shape().depth > near_bytes / sizeof(activation);
    for (std::size_t p = 0; p < panels; p += block) {
      const std::size_t panel_end = polymac::detail::smaller(p + block, panels);
      if constexpr (traits::integer) {
        if (weights.wide_sums()) {
          wide_rows_from<Atom::max_rows>(range.begin, last_row, p, panel_end);
          continue;
        }
      }
      if constexpr (sums_fit) rows_from<Atom::max_rows>(range.begin, last_row, p, panel_end, far);
    }
  }

 private:
  static constexpr std::size_t panels_for(std::size_t rows) {
    if constexpr (requires { Atom::panels_for(rows); })
      return Atom::panels_for(rows);
    else
      return Atom::max_panels;
  }
  /// The next smaller tile: 12, 8, 4, 2, 1 rows, or 6, 4, 2, 1; 8, 4, 2, 1 panels, or 3, 2, 1. Each is compiled for
  /// every layer, hence so few.
  static constexpr std::size_t fewer_rows(std::size_t rows) {
    std::size_t fewer = 1;
    while (fewer * 2 < rows) fewer *= 2;
    return fewer;
  }
  static constexpr std::size_t fewer_panels(std::size_t panels) {
    return panels <= Atom::max_panels ? panels - 1 : panels / 2 > Atom::max_panels ? panels / 2 : Atom::max_panels;
  }

  /// Tiles of Rows rows as long as they fit, then smaller ones; two of equal height rather than a full and a flat one.
  template <std::size_t Rows>
  constexpr void rows_from(std::size_t row, std::size_t last_row, std::size_t panel, std::size_t panel_end,
                           bool far) const noexcept {
    constexpr std::size_t fewer = fewer_rows(Rows);
    for (; row + Rows <= last_row && (2 * fewer <= Rows || row + 2 * fewer != last_row); row += Rows)
      row_tile<Rows>(row, panel, panel_end, far);
    if constexpr (Rows > 1)
      if (row < last_row) rows_from<fewer>(row, last_row, panel, panel_end, far);
  }
  /// The same for sums in 64 bits, which spend their time elsewhere: fewer heights, for the sake of the compiler.
  template <std::size_t Rows>
  constexpr void wide_rows_from(std::size_t row, std::size_t last_row, std::size_t panel,
                                std::size_t panel_end) const noexcept {
    for (; row + Rows <= last_row; row += Rows) {
      tile_rows rows;
      find_rows(row, Rows, rows);
      wide_panels_from<Rows, Atom::max_panels>(row, rows, panel, panel_end);
    }
    if constexpr (Rows > 1)
      if (row < last_row) wide_rows_from<(Rows > 4 ? 4 : 1)>(row, last_row, panel, panel_end);
  }

  /// Where the activations of `count` rows from `row` on are.
  constexpr void find_rows(std::size_t row, std::size_t count, tile_rows& rows) const noexcept {
    const row_access access = source.access(row, count);
    rows.table = memory.pointers;
    if (access.segments > 0) {
      source.pointers(row, count, access, memory.pointers);
      rows.segments = access.segments;
      rows.segment_groups = polymac::detail::divide_up(access.segment_depth, Atom::depth);
      rows.whole_groups = access.segment_depth / Atom::depth;
      const std::size_t rest = access.segment_depth % Atom::depth;
      if (rest > 0)
        for (std::size_t r = 0; r < count; ++r)
          for (std::size_t d = 0; d < Atom::depth; ++d)
            rows.ends[r][d] = d < rest ? memory.pointers[r][rows.whole_groups * Atom::depth + d] : activation{};
    } else {
      const std::size_t depth = weights.shape().depth;
      const std::size_t stride = polymac::detail::round_up(depth, Atom::depth);
      source.gather(row, count, memory.block, stride);
      for (std::size_t r = 0; r < count; ++r) {
        for (std::size_t k = depth; k < stride; ++k) memory.block[r * stride + k] = activation{};
        memory.pointers[r] = memory.block + r * stride;
      }
      rows.segments = 1;
      rows.segment_groups = rows.whole_groups = stride / Atom::depth;
    }
  }

  template <std::size_t Rows>
  constexpr void row_tile(std::size_t row, std::size_t panel, std::size_t panel_end, bool far) const noexcept {
    tile_rows rows;
    find_rows(row, Rows, rows);
    if constexpr (prepares) {
      in_pieces<Rows>(row, rows, panel, panel_end);
    } else {
      piece all;
      all.groups = weights.groups();
      all.cold = far;
      panels_from<Rows, panels_for(Rows)>(row, rows, panel, panel_end, all);
    }
  }

  /// Prepares the activations, as much of the depth as the block holds, before the panels read them.
  template <std::size_t Rows>
  void in_pieces(std::size_t row, const tile_rows& rows, std::size_t panel, std::size_t panel_end) const noexcept {
    alignas(64) activation block[prepared_elements];
    const activation* table[Rows];
    constexpr std::size_t most_groups = (prepared_elements / Rows / 64 - 1) * 64 / Atom::depth;
    const std::size_t term_groups = rows.segments * rows.segment_groups;
    tile_rows prepared;
    prepared.table = table;
    prepared.segments = 1;
    if (term_groups <= most_groups) {
      prepare<Rows>(rows, {}, term_groups, block, table);
      prepared.segment_groups = prepared.whole_groups = term_groups;
      piece all;
      all.groups = weights.groups();
      panels_from<Rows, panels_for(Rows)>(row, prepared, panel, panel_end, all);
      return;
    }
    accumulator waiting[waiting_panels * Rows * Atom::columns];
    for (; panel < panel_end; panel += waiting_panels) {
      depth_position at;
      piece part;
      for (std::size_t first = 0; first < weights.groups(); first += part.groups) {
        part.first = first;
        part.waiting = waiting;
        part.groups = polymac::detail::smaller(most_groups, weights.groups() - first);
        part.last = first + part.groups == weights.groups();
        at = prepare<Rows>(rows, at, part.groups, block, table);
        prepared.segment_groups = prepared.whole_groups = part.groups;
        panels_from<Rows, panels_for(Rows)>(row, prepared, panel,
                                            polymac::detail::smaller(panel + waiting_panels, panel_end), part);
      }
    }
  }

  /// Writes `groups` groups of every row, from `at` on, as the atom wants them; returns where the next ones begin.
  template <std::size_t Rows>
  POLYMAC_INLINE depth_position prepare(const tile_rows& rows, depth_position at, std::size_t groups, activation* block,
                                        const activation** table) const noexcept {
    // Whole registers are written; rows of a stride that is a power of two would share a few sets of L1.
    const std::size_t stride = polymac::detail::round_up(groups * Atom::depth, std::size_t{64}) + 64;
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) table[r] = block + r * stride;
    for (std::size_t left = groups; left > 0;) {
      const std::size_t end = polymac::detail::smaller(at.group + left, rows.segment_groups);
      const std::size_t whole = polymac::detail::smaller(end, rows.whole_groups) - at.group;
      Atom::prepare(rows.table + at.segment * Rows, Rows, at.group * Atom::depth, whole * Atom::depth, block, stride);
      block += whole * Atom::depth;
      if (end > rows.whole_groups) {
        const activation* ends[Rows];
        for (std::size_t r = 0; r < Rows; ++r) ends[r] = rows.ends[r];
        Atom::prepare(ends, Rows, 0, Atom::depth, block, stride);
        block += Atom::depth;
      }
      left -= end - at.group;
      advance(rows, at, end - at.group);
    }
    return at;
  }
  /// A term repeats the same activations with other weights, so the end is followed by the beginning.
  static constexpr void advance(const tile_rows& rows, depth_position& at, std::size_t groups) noexcept {
    at.group += groups;
    if (at.group < rows.segment_groups) return;
    at.group = 0;
    at.segment = at.segment + 1 == rows.segments ? 0 : at.segment + 1;
  }

  template <std::size_t Rows, std::size_t Panels>
  constexpr void panels_from(std::size_t row, const tile_rows& rows, std::size_t panel, std::size_t panel_end,
                             piece& part) const noexcept {
    for (; panel + Panels <= panel_end; panel += Panels) {
      tile<Rows, Panels>(row, rows, panel, part);
      if constexpr (prepares) {
        if (part.waiting != nullptr) part.waiting += Rows * Panels * Atom::columns;
      }
      part.cold = false;
    }
    if constexpr (Panels > 1)
      if (panel < panel_end) panels_from<Rows, fewer_panels(Panels)>(row, rows, panel, panel_end, part);
  }
  template <std::size_t Rows, std::size_t Panels>
  constexpr void wide_panels_from(std::size_t row, const tile_rows& rows, std::size_t panel,
                                  std::size_t panel_end) const noexcept {
    for (; panel + Panels <= panel_end; panel += Panels) wide_tile<Rows, Panels>(row, rows, panel);
    if constexpr (Panels > 1)
      if (panel < panel_end) wide_panels_from<Rows, Panels - 1>(row, rows, panel, panel_end);
  }

  template <std::size_t Rows, std::size_t Panels>
  POLYMAC_NOINLINE constexpr void tile(std::size_t row, const tile_rows& rows, std::size_t panel,
                                       const piece& part) const noexcept {
    typename stepper::template tile<Rows, Panels> t;
    if constexpr (prepares) {
      if (part.first > 0)
        stepper::resume(t, part.waiting);
      else
        stepper::start(t, weights.starts(set, panel, 0), weights.start_stride());
    } else {
      stepper::start(t, weights.starts(set, panel, 0), weights.start_stride());
    }
    accumulate<stepper, Rows, Panels>(t, rows, panel, part.at, part.first, part.groups, part.cold);
    if constexpr (prepares) {
      if (!part.last) return stepper::store(t, part.waiting);
    }
    accumulator sums[Rows * Panels * Atom::columns];
    stepper::store(t, sums);
    finish<Rows, Panels>(row, panel, sums);
  }

  template <std::size_t Rows, std::size_t Panels>
  constexpr void wide_tile(std::size_t row, const tile_rows& rows, std::size_t panel) const noexcept {
    constexpr std::size_t width = Panels * Atom::columns;
    accumulator sums[Rows * width];
    wide totals[Rows * width];
    const wide* const bias = weights.bias(set, panel);
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < width; ++c) totals[r * width + c] = bias[c];
    depth_position at;
    for (std::size_t chunk = 0; chunk < weights.chunks(); ++chunk) {
      const std::size_t first = chunk * Packed::chunk_groups();
      const std::size_t last = polymac::detail::smaller(first + Packed::chunk_groups(), weights.groups());
      typename Atom::template tile<Rows, Panels> t;
      Atom::start(t, weights.starts(set, panel, chunk), weights.start_stride());
      at = accumulate<Atom, Rows, Panels>(t, rows, panel, at, first, last - first, false);
      Atom::store(t, sums);
      for (std::size_t i = 0; i < Rows * width; ++i) totals[i] += static_cast<wide>(sums[i]);
    }
    sum results[Rows * width];
    for (std::size_t i = 0; i < Rows * width; ++i) results[i] = narrow<sum>(totals[i]);
    finish<Rows, Panels>(row, panel, results);
  }

  /// Adds the products of `left` groups, from number `first` of the panel and `at` in the rows on; returns where the
  /// next ones begin.
  template <class Steps, std::size_t Rows, std::size_t Panels>
  constexpr POLYMAC_INLINE depth_position accumulate(typename Steps::template tile<Rows, Panels>& t,
                                                     const tile_rows& rows, std::size_t panel, depth_position at,
                                                     std::size_t first, std::size_t left, bool cold) const noexcept {
    const std::size_t stride = weights.panel_stride();
    const typename traits::weight* w = weights.panel(set, panel) + first * group_size;
    while (left > 0) {
      const std::size_t end = polymac::detail::smaller(at.group + left, rows.segment_groups);
      const activation* pointers[Rows];
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) pointers[r] = rows.table[at.segment * Rows + r];
      const std::size_t whole = polymac::detail::smaller(end, rows.whole_groups);
      const std::size_t stretch = cold ? line_groups : whole;
      for (std::size_t g = at.group; g < whole; g += stretch) {
        const std::size_t to = polymac::detail::smaller(g + stretch, whole);
        if (cold) isa::fetch_ahead<Rows>(pointers, to * Atom::depth, to == whole);
        k_source.visit(g, to, [&](std::size_t group) POLYMAC_INLINE_LAMBDA {
          Steps::step(t, pointers, group * Atom::depth, w, stride);
          w += group_size;
        });
      }
      if constexpr (Atom::depth > 1) {
        if (end > rows.whole_groups) {
          POLYMAC_UNROLL
          for (std::size_t r = 0; r < Rows; ++r) pointers[r] = rows.ends[r];
          Steps::step(t, pointers, 0, w, stride);
          w += group_size;
        }
      }
      left -= end - at.group;
      advance(rows, at, end - at.group);
    }
    return at;
  }

  /// The same in code of constant extents, so that compilers keep the sums in registers; for rows that are equally far
  /// apart in the output.
  template <std::size_t Rows, std::size_t Panels, class Value>
  POLYMAC_INLINE void finish_in_lanes(std::size_t row, std::size_t panel, const Value* sums) const noexcept {
    constexpr std::size_t width = Panels * Atom::columns;
    constexpr std::size_t panels = Panels % 4 == 0 ? 4 : Panels % 2 == 0 ? 2 : 1;
    constexpr std::size_t rows = Rows % (4 / panels) == 0 ? 4 / panels : 1;
    const std::size_t columns = weights.shape().columns;
    const std::size_t first = set * columns + panel * Atom::columns;
    const std::size_t last = polymac::detail::smaller(columns - (panel + Panels - 1) * Atom::columns, Atom::columns);
    auto* out = output.row(row) + first;
    using output_type = std::remove_pointer_t<decltype(out)>;
    const std::size_t stride = row_stride(output);
    const auto stages = epilogue.view();
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; r += rows, out += rows * stride) {
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; p += panels) {
        output_type* to[rows];
        POLYMAC_UNROLL
        for (std::size_t i = 0; i < rows; ++i) to[i] = out + i * stride + p * Atom::columns;
        stages
            .lanes(isa::best_lanes<Value, typename Atom::isa, rows, panels>::load(sums + r * width + p * Atom::columns,
                                                                                  width),
                   {row + r, first + p * Atom::columns})
            .store(to, p + panels == Panels ? last : Atom::columns);
      }
    }
  }

  /// Hands the sums of a tile to the epilogue, without the columns that only fill up the last panel.
  template <std::size_t Rows, std::size_t Panels, class Value>
  constexpr POLYMAC_INLINE void finish(std::size_t row, std::size_t panel, const Value* sums) const noexcept {
    constexpr std::size_t width = Panels * Atom::columns;
    const std::size_t column = panel * Atom::columns;
    if constexpr (Atom::columns == isa::lane_columns && finishes_in_lanes<typename Atom::isa, Value, Epilogue>()) {
      if (!std::is_constant_evaluated() && regular_rows(output, row) >= Rows)
        return finish_in_lanes<Rows, Panels>(row, panel, sums);
    }
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
