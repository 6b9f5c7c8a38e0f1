// SPDX-License-Identifier: MIT
// THE loop nest. Every layer that multiplies weights with activations runs here: for every arithmetic, instruction set,
// policy and epilogue.
//
//     for each block of panels that fits the cache beside the activations      (weights are read once per block ...
//       for each strip of rows that are equally far apart, or all rows
//         for each tile of rows                                                 ... and tile of rows)
//           find the activations of these rows: pointers into the input, else one block of copied rows
//           if the atom wants its activations prepared: write them as it wants, into L1
//           for each tile of panels: two beside many rows, up to eight beside few
//             sums = start values                                               in registers
//             for each segment of the rows, for each group of k the k-source visits
//               sums += activations[rows][group] * weights[group][columns]      Atom::step
//             output[rows][columns] = epilogue(sums)
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
#include "polymac/kernel/tile_rows.hpp"
#include "polymac/kernel/tile_sums.hpp"
#include "polymac/policy/k_source.hpp"

#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace kernel {

/// How the activations of a tile of rows can be read: as `segments` contiguous stretches of `segment_depth` k each,
/// through pointers, or (0 segments) only by copying the rows.
/// A stretch that is no multiple of the atom's depth is allowed where there is one segment; its end is copied then.
struct row_access {
  std::size_t segments = 0;
  std::size_t segment_depth = 0;
};

/// Rows of activations that come in strips.
///   one_stretch             is every row one stretch?
///   in_lines                optional: true where strips leave no weights out, and those of more than one line can be
///                           cut into fours of neighbours
///   one_strip               optional: true where strips() makes one of all rows
///   strips(begin, end, f)   calls f(strip) for strips that make up rows [begin, end)
template <class S, class M>
concept StripSource = requires(const S& s, std::size_t n, void (&f)(const strip<typename M::activation>&)) {
  { s.rows() }
  noexcept->std::convertible_to<std::size_t>;
  { s.strips(n, n, f) }
  noexcept;
  { S::one_stretch } -> std::convertible_to<bool>;
};

/// Rows of activations of which several may share memory, and one may lie in pieces.
///   access(row, count)                    how rows [row, row + count) can be read
///   pointers(row, count, access, table)   table[segment * count + r] = start of that stretch of row `row + r`
///   gather(row, count, block, stride)     copies the rows: depth activations each, `stride` apart
template <class S, class M>
concept ScatteredSource = requires(const S& s, std::size_t n, row_access access, const typename M::activation** table,
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

/// What a contraction reads: `rows()` rows of activations.
template <class S, class M>
concept SourceFor = StripSource<S, M> || ScatteredSource<S, M>;

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
      : pointers(max_rows * segments),
        block(copies ? max_rows * polymac::detail::greater(polymac::detail::round_up(depth, Atom::depth),
                                                           polymac::detail::round_up(depth, narrow::depth))
                     : 0) {
    if (block < least_block) block = least_block;
  }
  /// Bytes of workspace that hold both at any alignment.
  constexpr std::size_t bytes() const noexcept {
    using activation = typename Atom::activation;
    return pointers * sizeof(const activation*) + alignof(const activation*) +
           (block > 0 ? block * sizeof(activation) + block_alignment : 0);
  }
  static constexpr std::size_t block_alignment = 64;

 private:
  using narrow = narrow_atom<Atom>;
  static constexpr std::size_t max_rows = polymac::detail::greater(Atom::max_rows, narrow::max_rows);
};

/// Which heights of tiles there are. Each is compiled for every layer, hence as few as the rows of a source allow.
enum class tile_cuts {
  matrix,     ///< powers of two below the highest
  lines,      ///< 8, 7, 6, 4, 2, 1: a line of an image is cut by itself
  rectangle,  ///< 8, 6, 5, 4, 3, 2, 1: the middle and the borders of small images
  table,      ///< 4 and 1: the way of those who lend no memory for a frame
  few,        ///< the tall one and powers of two: of an atom that is rarely needed
};

/// The heights of tiles of at most MaxRows rows, and how many rows are best cut into them.
/// Tall: rows of the highest tile where there is but one panel (MaxRows: there is none).
template <std::size_t MaxRows, tile_cuts Cuts, std::size_t Tall = MaxRows>
struct tile_heights {
  static constexpr std::size_t fewer(std::size_t rows) noexcept {
    if (rows > MaxRows && Cuts == tile_cuts::few) return MaxRows;
    if (rows > MaxRows) return rows * 2 / 3 > MaxRows ? rows * 2 / 3 : MaxRows;
    if (rows == 1) return 0;
    if (Cuts == tile_cuts::rectangle) return rows > 8 ? 8 : rows > 6 ? 6 : rows - 1;
    if (Cuts == tile_cuts::table) return rows > 4 ? 4 : 1;
    if (Cuts == tile_cuts::lines && rows > 6) return rows > 8 ? 8 : rows - 1;
    std::size_t power = 1;
    while (power * 2 < rows) power *= 2;
    return power;
  }
  /// Is a multiple of four rows cut at multiples of four? Then tiles may go on in the next line, if lines are too.
  static constexpr bool keeps_fours =
      (Cuts == tile_cuts::lines || Cuts == tile_cuts::few) && MaxRows % 4 == 0 && Tall % 4 == 0;
  /// The height of the next tile where so many rows are left.
  static constexpr std::size_t next(std::size_t left) noexcept { return plan.next[left < cut ? left : cut]; }
  /// The same beside one panel.
  static constexpr std::size_t next_tall(std::size_t left) noexcept {
    return tall_plan.next[left < tall_cut ? left : tall_cut];
  }

 private:
  static constexpr std::size_t cut = 2 * MaxRows, tall_cut = 2 * Tall;
  /// What a tile costs, in rows of the highest: one of few rows waits for its sums.
  static constexpr std::size_t price_of_tile(std::size_t rows) noexcept { return (rows < 5 ? 5 : rows) + 2; }
  template <std::size_t Highest>
  struct best_cuts {
    std::size_t price[2 * Highest + 1] = {}, next[2 * Highest + 1] = {};
    constexpr best_cuts() noexcept {
      for (std::size_t rows = 1; rows <= 2 * Highest; ++rows) {
        for (std::size_t height = Highest; height > 0; height = fewer(height)) {
          if (height > rows || (keeps_fours && rows % 4 == 0 && height % 4 != 0)) continue;
          const std::size_t all = price_of_tile(height) + price[rows - height];
          if (next[rows] != 0 && all >= price[rows]) continue;
          price[rows] = all;
          next[rows] = height;
        }
      }
    }
  };
  static constexpr best_cuts<MaxRows> plan{};
  static constexpr best_cuts<Tall> tall_plan{};
};

/// May the tiles of a line_windows source go on in the next line?
template <class Atom>
inline constexpr bool tiles_keep_fours =
    tile_heights<Atom::max_rows, tile_cuts::lines, isa::most_rows<Atom>>::keeps_fours &&
    (!has_narrow<Atom> ||
     tile_heights<narrow_atom<Atom>::max_rows, tile_cuts::few, isa::most_rows<narrow_atom<Atom>>>::keeps_fours);
/// And may they leave out lines of the kernel?
template <class Atom>
inline constexpr bool tiles_leave_lines_out =
    mac_traits<typename Atom::mac>::integer && !isa::is_listed<Atom> && !requires {
  typename Atom::prepared;
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

template <class Nest>
struct tile_table;

template <class M, class Atom, class Packed, class Source, class Epilogue, class Output, class KSource>
class loop_nest {
  using traits = mac_traits<M>;
  using activation = typename traits::activation;
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using sum = typename traits::sum;
  using stepper = typename stepping<Atom>::type;
  static_assert(std::is_same_v<isa::packed_of<Atom>, isa::packed_of<stepper>>);
  /// What steps read: activations as they are, or as they have been prepared.
  using step_activation = typename stepper::activation;
  static constexpr std::size_t group_size = isa::group_elements<Atom>;
  static constexpr bool prepares = !std::is_same_v<stepper, Atom>;
  static constexpr bool is_narrow = Packed::may_be_narrow && std::is_same_v<Atom, typename Packed::narrow>;
  static constexpr std::size_t max_rows = Atom::max_rows;
  /// The sum type may be wider than the accumulator: then pack() has asked for wide sums always.
  static constexpr bool sums_fit = !traits::integer || sizeof(sum) <= sizeof(accumulator);
  /// Are sums the output as they are? Then tiles store them there.
  static constexpr bool hands_on_sums =
      std::is_same_v<Epilogue, epilogue::identity> && std::is_same_v<sum, accumulator> &&
      std::is_same_v<std::remove_cvref_t<decltype(*std::declval<const Output&>().row(0))>, accumulator>;
  /// Does the output hold sums that the products are added to? (kernel/panel_range.hpp)
  static constexpr bool goes_on = requires { requires Output::adds_to_sums; };
  static_assert(!goes_on || hands_on_sums, "polymac: sums are added to where they are handed on as they are");
  /// Is the accumulator something else than what the epilogue takes?
  static constexpr bool has_totals = requires(const accumulator& c) { M::total(c); };
  /// Is it that as a float?
  static constexpr bool totals_are_floats = requires { requires M::totals_are_floats; };
  /// Is a panel half a group of lanes? Then two rows are one, and a tile finishes eight at a time.
  static constexpr bool halves_lanes = is_narrow && Atom::columns * 2 == isa::lane_columns && Atom::max_panels == 1;
  /// Rows of sums in memory.
  static constexpr std::size_t held_rows(std::size_t rows) { return halves_lanes ? (rows + 7) / 8 * 8 : rows; }
  /// Rows of the highest tile of such sums. Where hardly any layer has them, fewer, for the sake of the compiler.
  static constexpr std::size_t wide_rows = sums_fit && max_rows > 4 ? 4 : max_rows;
  /// Prepared rows of a tile: with the weights of a step or two well within L1.
  static constexpr std::size_t prepared_depth = [] {
    if constexpr (requires { Atom::prepared_depth; })
      return std::size_t{Atom::prepared_depth};
    else
      return std::size_t{sizeof(step_activation) == 1 ? 1024 : 4608 / sizeof(step_activation)};
  }();
  /// Elements behind a prepared row that may be written, too: whole registers.
  static constexpr std::size_t prepared_slack = sizeof(step_activation) <= 8 ? 64 : 1;
  static constexpr std::size_t prepared_elements = Atom::max_rows * (prepared_depth + prepared_slack);
  /// Groups that fit it in any case.
  static constexpr std::size_t least_groups = prepared_depth / Atom::depth;
  /// Panels whose sums wait in memory while the rows are prepared piece by piece.
  static constexpr std::size_t waiting_panels = 8;
  static constexpr bool has_strips = StripSource<Source, M>;
  static constexpr bool one_stretch = [] {
    if constexpr (has_strips)
      return Source::one_stretch;
    else
      return false;
  }();
  /// Are all rows one strip, of one stretch?
  static constexpr bool one_strip = one_stretch && requires { requires Source::one_strip; };
  /// Are strips rows of one line, or of several with fours of neighbours, and all of the weights taken?
  static constexpr bool in_lines = [] {
    if constexpr (requires { Source::in_lines; })
      return Source::in_lines;
    else
      return false;
  }();
  /// Else outputs may be anywhere, and some of the weights be left out.
  static constexpr bool several_stretches = has_strips && !one_stretch && !in_lines;
  /// May lines of a kernel be left out, on padding? Prepared rows have them.
  static constexpr bool leaves_lines_out = in_lines && !prepares && traits::integer;
  using strip_rows = std::conditional_t<one_stretch, even_rows<Atom>,
                                        std::conditional_t<in_lines, line_rows<Atom>, even_stretches<Atom>>>;
  using source_rows = std::conditional_t<has_strips, strip_rows, table_rows<Atom>>;
  // Never copied as a whole: compilers do so by a load that is wider than the stores it reads from, and it waits until
  // they, and all that was stored before them, have reached L1.
  /// The part of the depth that a tile of prepared rows adds up.
  struct piece {
    std::size_t first = 0, groups = 0;  ///< the groups that the rows hold, and the number of the first in the panel
    accumulator* waiting = nullptr;     ///< sums of the pieces before and of this one; none where it is the only one
    bool last = true;
    std::size_t mode = 0;  ///< of the atom's steps
  };
  /// All of it.
  struct whole_depth {
    bool cold = false;  ///< the activations may be far away: this is the first tile that reads them
  };
  using part_of_depth = std::conditional_t<prepares, piece, whole_depth>;
  using tile_rows = std::conditional_t<prepares, even_rows<stepper>, source_rows>;
  using sums_of_tile = tile_sums<stepper, tile_rows, KSource>;
  using k_source_type = KSource;

 public:
  /// May sums need 64 bits?
  static constexpr bool may_be_wide =
      traits::integer && (!is_narrow || Packed::may_be_narrow_and_wide) && !requires { requires Packed::never_wide; };

  const Packed& weights;
  std::size_t set;
  const Source& source;
  const Epilogue& epilogue;
  const Output& output;
  KSource k_source;
  scratch<activation> memory;

  /// Computes rows that are one tile, with none of the loops but the one over panels: a small product takes no longer
  /// than what those need. False: there are others.
  constexpr POLYMAC_INLINE bool run_one_tile(std::size_t first_row, std::size_t last_row) const noexcept {
    if constexpr (one_strip && !prepares && sums_fit) {
      const std::size_t rows = last_row - first_row, panels = weights.panels();
      if (rows > tall_rows || panels == 0 || weights.wide_sums()) return false;
      const tiles_of_height& tiles = tile_table<loop_nest>::tiles.of[rows];
      if (tiles.rows == 0 || (rows > max_rows && panels != 1)) return false;
      source.strips(first_row, last_row, [&](const strip<activation>& all) POLYMAC_INLINE_LAMBDA {
        tile_of_rows(tiles, all, 0, 0, panels, is_far(rows));
      });
      return true;
    } else {
      return false;
    }
  }
  constexpr POLYMAC_INLINE void run(std::size_t first_row, std::size_t last_row) const noexcept {
    const bool far = is_far(last_row - first_row);
    for_each_block(first_row, last_row,
                   [&](const strip<activation>& rows, std::size_t panel, std::size_t panel_end) POLYMAC_INLINE_LAMBDA {
                     if constexpr (sums_fit) rows_from(rows, panel, panel_end, far);
                   });
  }
  /// The same for sums in 64 bits.
  constexpr POLYMAC_INLINE void run_wide(std::size_t first_row, std::size_t last_row) const noexcept {
    for_each_block(first_row, last_row,
                   [&](const strip<activation>& rows, std::size_t panel, std::size_t panel_end)
                       POLYMAC_INLINE_LAMBDA { wide_rows_from<wide_rows>(rows, 0, panel, panel_end); });
  }

 private:
  friend tile_table<loop_nest>;

  /// Are so many rows of activations too much to be near?
  constexpr POLYMAC_INLINE bool is_far(std::size_t rows) const noexcept {
    if (std::is_constant_evaluated() || several_stretches || in_lines)
      return false;  // windows share most of what they read
    return rows * weights.shape().depth > near_bytes / sizeof(activation);
  }

  /// Calls f(strip, panel, panel_end) for strips of rows and, of the panels, as many at a time as fit the cache.
  template <class Function>
  constexpr POLYMAC_INLINE void for_each_block(std::size_t first_row, std::size_t last_row,
                                               const Function& f) const noexcept {
    const std::size_t panels = weights.panels();
    const std::size_t panel_bytes = weights.panel_stride() * sizeof(isa::packed_of<Atom>);
    std::size_t block = panels;
    // Rows that make one tile read the weights once in any case. (No division where it can be avoided: it would take as
    // long as a small product.)
    if (last_row - first_row > Atom::max_rows && panels * panel_bytes > panel_block_bytes) {
      block = panel_block_bytes / panel_bytes;
      block = block < Atom::max_panels ? Atom::max_panels : block / Atom::max_panels * Atom::max_panels;
    }
    for (std::size_t p = 0; p < panels; p += block) {
      const std::size_t panel_end = polymac::detail::smaller(p + block, panels);
      if constexpr (has_strips) {
        source.strips(first_row, last_row,
                      [&](const strip<activation>& rows) POLYMAC_INLINE_LAMBDA { f(rows, p, panel_end); });
      } else {
        strip<activation> all;
        all.rows = last_row - first_row;
        all.output_row = first_row;
        f(all, p, panel_end);
      }
    }
  }

  static constexpr std::size_t panels_for(std::size_t rows) {
    if constexpr (requires { Atom::panels_for(rows); })
      return Atom::panels_for(rows);
    else
      return Atom::max_panels;
  }
  /// The next smaller tile: 8, 4, 2, 1 panels, or 3, 2, 1.
  static constexpr std::size_t fewer_panels(std::size_t panels) {
    return panels <= Atom::max_panels ? panels - 1 : panels / 2 > Atom::max_panels ? panels / 2 : Atom::max_panels;
  }

  /// Of tiles beside one panel. Not where rows are prepared, for which there is room for max_rows only, and not where
  /// each has a pointer: those fill the registers.
  static constexpr std::size_t tall_rows =
      (one_stretch || in_lines) && !prepares ? isa::most_rows<Atom> : Atom::max_rows;
  using heights = tile_heights<Atom::max_rows,
                               is_narrow           ? tile_cuts::few
                               : one_stretch       ? tile_cuts::matrix
                               : in_lines          ? tile_cuts::lines
                               : several_stretches ? tile_cuts::rectangle
                                                   : tile_cuts::table,
                               tall_rows>;
  using tiles_of_height = typename tile_table<loop_nest>::tiles_of_height;
  /// Panels of the widest tile.
  static constexpr std::size_t most_panels = [] {
    std::size_t most = 1;
    for (std::size_t rows = 1; rows <= max_rows; ++rows) most = polymac::detail::greater(most, panels_for(rows));
    return most;
  }();
  /// Of the largest tile, and what finish() reads behind its last row, 16 sums at a time.
  static constexpr std::size_t most_sums = [] {
    std::size_t most = held_rows(tall_rows);
    for (std::size_t rows = 1; rows <= max_rows; ++rows)
      most = polymac::detail::greater(most, held_rows(rows) * panels_for(rows));
    return (most - 1) * Atom::columns + polymac::detail::round_up(Atom::columns, isa::lane_columns);
  }();

  constexpr POLYMAC_INLINE void rows_from(const strip<activation>& of, std::size_t panel, std::size_t panel_end,
                                          bool far) const noexcept {
    const tiles_of_height* tiles = nullptr;
    const bool tall = tall_rows > max_rows && panel_end - panel == 1;
    for (std::size_t row = 0; row < of.rows; row += tiles->rows) {
      const std::size_t left = of.rows - row;
      tiles = &tile_table<loop_nest>::tiles.of[tall ? heights::next_tall(left) : heights::next(left)];
      tile_of_rows(*tiles, of, row, panel, panel_end, far);
    }
  }
  /// Rows of one tile, from row number `row` of the strip on.
  constexpr POLYMAC_INLINE void tile_of_rows(const tiles_of_height& tiles, const strip<activation>& of, std::size_t row,
                                             std::size_t panel, std::size_t panel_end, bool far) const noexcept {
    source_rows rows;
    find_rows(of, row, tiles.rows, rows);
    const std::size_t output_row =
        of.output_row + row + (several_stretches ? row / of.width * of.output_gap : std::size_t{0});
    if constexpr (prepares) {
      in_pieces(tiles, output_row, rows, panel, panel_end);
    } else {
      whole_depth all{far};
      panels_from(tiles, output_row, rows, panel, panel_end, all);
    }
  }
  /// The same for sums in 64 bits, which spend their time elsewhere: fewer heights, for the sake of the compiler.
  template <std::size_t Rows>
  POLYMAC_NOINLINE constexpr void wide_rows_from(const strip<activation>& of, std::size_t row, std::size_t panel,
                                                 std::size_t panel_end) const noexcept {
    for (; row + Rows <= of.rows; row += Rows) {
      source_rows rows;
      find_rows(of, row, Rows, rows);
      wide_panels_from<Rows, Atom::max_panels>(of.output_row + row, rows, panel, panel_end);
    }
    if constexpr (Rows > 1)
      if (row < of.rows) wide_rows_from<(Rows > 4 ? 4 : 1)>(of, row, panel, panel_end);
  }

  /// Where the activations of `count` rows from row number `row` of a strip on are.
  constexpr POLYMAC_INLINE void find_rows(const strip<activation>& of, std::size_t row, std::size_t count,
                                          even_rows<Atom>& rows) const noexcept {
    rows.first = of.first + static_cast<std::ptrdiff_t>(row) * of.distance;
    rows.distance = of.distance;
    rows.set(count, of.depth, rows);
  }
  constexpr POLYMAC_INLINE void find_rows(const strip<activation>& of, std::size_t row, std::size_t count,
                                          even_stretches<Atom>& rows) const noexcept {
    find_rows(of, row, count, static_cast<even_rows<Atom>&>(rows));
    rows.segments = of.lines * of.taps;
    rows.of = &of;
    rows.column = row % of.width;
    rows.first += static_cast<std::ptrdiff_t>(row / of.width) * of.next_line;
  }
  constexpr POLYMAC_INLINE void find_rows(const strip<activation>& of, std::size_t row, std::size_t count,
                                          line_rows<Atom>& rows) const noexcept {
    rows.place(of, row, count);
    rows.taps = of.taps;
    rows.skipped_before = of.skipped_before;
    rows.segments = of.lines * of.taps;
    rows.line_distance = of.line_distance;
    rows.tap_distance = of.tap_distance;
    rows.set(count, of.depth, rows);
  }
  constexpr void find_rows(const strip<activation>& of, std::size_t row, std::size_t count,
                           table_rows<Atom>& rows) const noexcept {
    row += of.output_row;
    const row_access access = source.access(row, count);
    rows.table = memory.pointers;
    if (access.segments > 0) {
      source.pointers(row, count, access, memory.pointers);
      rows.segments = access.segments;
      rows.set(count, access.segment_depth, memory.pointers);
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

  /// Prepares the activations, as much of the depth as the block holds, before the panels read them.
  POLYMAC_INLINE void in_pieces(const tiles_of_height& tiles, std::size_t row, const source_rows& rows,
                                std::size_t panel, std::size_t panel_end) const noexcept {
    alignas(64) step_activation block[prepared_elements];
    const std::size_t term_groups = rows.segments * rows.segment_groups;
    if (term_groups > least_groups) return piece_by_piece(tiles, row, rows, block, panel, panel_end);
    even_rows<stepper> prepared;
    piece part;
    prepare(rows, tiles.rows, {}, term_groups, block, prepared, part.mode);
    part.groups = weights.groups();
    panels_from(tiles, row, prepared, panel, panel_end, part);
  }
  POLYMAC_NOINLINE void piece_by_piece(const tiles_of_height& tiles, std::size_t row, const source_rows& rows,
                                       step_activation* block, std::size_t panel,
                                       std::size_t panel_end) const noexcept {
    constexpr std::size_t slack = prepared_slack;
    const std::size_t most_groups = (prepared_elements / tiles.rows / slack - 1) * slack / Atom::depth;
    const std::size_t term_groups = rows.segments * rows.segment_groups;
    even_rows<stepper> prepared;
    piece part;
    if (term_groups <= most_groups) {
      prepare(rows, tiles.rows, {}, term_groups, block, prepared, part.mode);
      part.groups = weights.groups();
      return panels_from(tiles, row, prepared, panel, panel_end, part);
    }
    accumulator waiting[waiting_panels * Atom::max_rows * Atom::columns];
    for (; panel < panel_end; panel += waiting_panels) {
      depth_position at;
      for (std::size_t first = 0; first < weights.groups(); first += part.groups) {
        part.first = first;
        part.waiting = waiting;
        part.groups = polymac::detail::smaller(most_groups, weights.groups() - first);
        part.last = first + part.groups == weights.groups();
        at = prepare(rows, tiles.rows, at, part.groups, block, prepared, part.mode);
        panels_from(tiles, row, prepared, panel, polymac::detail::smaller(panel + waiting_panels, panel_end), part);
      }
    }
  }

  /// Writes `groups` groups of `count` rows, from `at` on, as the atom wants them; returns where the next ones begin.
  /// `mode`: how the atom does its steps with these rows.
  POLYMAC_INLINE depth_position prepare(const source_rows& rows, std::size_t count, depth_position at,
                                        std::size_t groups, step_activation* block, even_rows<stepper>& prepared,
                                        std::size_t& mode) const noexcept {
    // Whole registers are written; rows of a stride that is a power of two would share a few sets of L1.
    const std::size_t stride = polymac::detail::round_up(groups * Atom::depth, prepared_slack) + prepared_slack;
    prepared.first = block;
    prepared.distance = static_cast<std::ptrdiff_t>(stride);
    prepared.segment_groups = prepared.whole_groups = groups;
    isa::summary_of<Atom> summary{};
    const auto write = [&](const auto& from, std::size_t offset, std::size_t depth) POLYMAC_INLINE_LAMBDA {
      if constexpr (isa::has_summary<Atom>)
        Atom::prepare(from, count, offset, depth, block, stride, weights.summary(), summary);
      else
        Atom::prepare(from, count, offset, depth, block, stride);
      block += depth;
    };
    for (std::size_t left = groups; left > 0;) {
      const std::size_t end = polymac::detail::smaller(at.group + left, rows.segment_groups);
      const std::size_t whole = polymac::detail::smaller(end, rows.whole_groups) - at.group;
      write(rows.from(at.segment, count), at.group * Atom::depth, whole * Atom::depth);
      if (end > rows.whole_groups) write(rows.ends, 0, Atom::depth);
      left -= end - at.group;
      advance(rows, at, end - at.group);
    }
    if constexpr (isa::has_summary<Atom>) mode = Atom::mode(weights.summary(), summary);
    return at;
  }

  constexpr POLYMAC_INLINE void panels_from(const tiles_of_height& tiles, std::size_t row, const tile_rows& rows,
                                            std::size_t panel, std::size_t panel_end,
                                            part_of_depth& part) const noexcept {
    tile_operands<stepper> of{weights.panel(set, panel), weights.panel_stride(), weights.starts(set, panel, 0),
                              weights.start_stride(), weights.groups()};
    static_assert(!isa::is_listed<Atom> || (!prepares && !several_stretches),
                  "polymac: rows whose weights are in lists are read as they are, and whole");
    if constexpr (isa::is_listed<Atom>) of.list = weights.list(set, panel);
    [[maybe_unused]] bool leaves_out = false;
    if constexpr (leaves_lines_out) {
      if (weights.lines() > 0 && rows.segments * rows.segment_groups != weights.groups()) {
        of.groups = rows.segments * rows.segment_groups;
        of.weights += rows.skipped_before / Atom::depth * group_size;
        leaves_out = true;
      }
    }
    if constexpr (prepares) {
      of.weights += part.first * group_size;
      of.groups = part.groups;
      of.mode = part.mode;
    } else {
      of.cold = part.cold;
      if constexpr (several_stretches) {
        of.weights += rows.of->skipped_before / Atom::depth * group_size;
        of.groups = rows.segments * rows.segment_groups;
      }
    }
    if constexpr (hands_on_sums) {
      if (goes_on || (!leaves_out && stores_in_place(tiles.rows, row, rows, part))) {
        // Nothing of the nest is asked between two tiles: they may have changed it, as far as the compiler knows.
        const std::size_t columns = weights.shape().columns, stride = row_stride(output);
        auto* to = output.row(row) + set * columns + panel * Atom::columns;
        const std::size_t last = polymac::detail::smaller(columns - (panel_end - 1) * Atom::columns, Atom::columns);
        return for_each_tile(tiles, panel_end - panel, of, [&](const auto& t, bool is_last) POLYMAC_INLINE_LAMBDA {
          of.last_columns = is_last ? last : Atom::columns;
          if constexpr (goes_on)
            t.more_sums(rows, of, k_source, to, stride);
          else
            t.sums(rows, of, k_source, to, stride);
          to += t.panels * Atom::columns;
        });
      }
    }
    if constexpr (prepares) {
      if (part.waiting != nullptr)
        return for_each_tile(tiles, panel_end - panel, of, [&](const auto& t, bool) POLYMAC_INLINE_LAMBDA {
          const std::size_t width = t.panels * Atom::columns;
          (part.first > 0 ? t.more_sums : t.sums)(rows, of, k_source, part.waiting, width);
          if (part.last) t.finish(*this, row, rows, panel, part.waiting);
          part.waiting += tiles.rows * width;
          panel += t.panels;
        });
    }
    alignas(64) accumulator sums[most_sums];
    [[maybe_unused]] alignas(64) accumulator starts[leaves_lines_out ? most_panels * Atom::columns : 1];
    for_each_tile(tiles, panel_end - panel, of, [&](const auto& t, bool) POLYMAC_INLINE_LAMBDA {
      if constexpr (leaves_lines_out) {
        if (leaves_out) {
          starts_without(rows.skipped_before, of.groups, panel, t.panels, starts);
          of.starts = starts;
          of.start_stride = Atom::columns;
        }
      }
      t.sums(rows, of, k_source, sums, t.panels * Atom::columns);
      t.finish(*this, row, rows, panel, sums);
      panel += t.panels;
    });
  }
  /// Calls f(tile, is it the last one) for tiles that make up so many panels, and moves the operands with them.
  template <class Function>
  constexpr POLYMAC_INLINE void for_each_tile(const tiles_of_height& tiles, std::size_t panels,
                                              tile_operands<stepper>& of, const Function& f) const noexcept {
    for (const auto* t = tiles.of;;) {
      while (t->panels > panels) ++t;
      panels -= t->panels;
      f(*t, panels == 0);
      if (panels == 0) return;
      of.cold = false;
      of.weights += t->panels * of.panel_stride;
      if constexpr (isa::is_listed<Atom>) of.list += weights.list_stride();
      of.starts += t->panels * of.start_stride;
    }
  }
  template <std::size_t Rows, std::size_t Panels>
  constexpr void wide_panels_from(std::size_t row, const source_rows& rows, std::size_t panel,
                                  std::size_t panel_end) const noexcept {
    for (; panel + Panels <= panel_end; panel += Panels) wide_tile<Rows, Panels>(row, rows, panel);
    if constexpr (Panels > 1)
      if (panel < panel_end) wide_panels_from<Rows, Panels - 1>(row, rows, panel, panel_end);
  }

  /// The start values of some panels where of all lines of the kernel only `groups` groups are added up.
  POLYMAC_NOINLINE constexpr void starts_without(std::size_t skipped_before, std::size_t groups, std::size_t panel,
                                                 std::size_t panels, accumulator* to) const noexcept {
    using unsigned_sum = std::make_unsigned_t<accumulator>;
    const std::size_t line = weights.shape().depth / weights.lines();
    const std::size_t first = skipped_before / line, last = first + groups * Atom::depth / line;
    for (std::size_t p = 0; p < panels; ++p, to += Atom::columns) {
      const accumulator* const all = weights.starts(set, panel + p, 0);
      for (std::size_t c = 0; c < Atom::columns; ++c) to[c] = all[c];
      for (std::size_t l = 0; l < weights.lines(); ++l) {
        if (l >= first && l < last) continue;
        const accumulator* const more = weights.line_starts(set, panel + p, l);
        for (std::size_t c = 0; c < Atom::columns; ++c)
          to[c] = static_cast<accumulator>(static_cast<unsigned_sum>(to[c]) + static_cast<unsigned_sum>(more[c]));
      }
    }
  }
  /// Can a tile store its sums where the output is?
  constexpr POLYMAC_INLINE bool stores_in_place(std::size_t count, std::size_t row, const tile_rows& rows,
                                                const part_of_depth& part) const noexcept {
    if constexpr (prepares)
      if (part.waiting != nullptr) return false;
    if constexpr (several_stretches && !prepares)
      if (rows.column + count > rows.of->width) return false;
    return (sums_of_tile::stores_parts || weights.shape().columns % Atom::columns == 0) &&
           regular_rows(output, row) >= count;
  }
  /// Brings the sums of a tile through the epilogue to the output.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_NOINLINE constexpr void finish_tile(const loop_nest& nest, std::size_t row, const tile_rows& rows,
                                                     std::size_t panel, const accumulator* sums) noexcept {
    if constexpr (several_stretches && !prepares) {
      if (rows.column + Rows > rows.of->width) return nest.template finish_lines<Rows, Panels>(row, rows, panel, sums);
    } else {
      static_cast<void>(rows);
    }
    nest.template finish<Rows, Panels>(row, panel, sums);
  }

  template <std::size_t Rows, std::size_t Panels>
  constexpr void wide_tile(std::size_t row, const source_rows& rows, std::size_t panel) const noexcept {
    constexpr std::size_t width = Panels * Atom::columns;
    accumulator sums[Rows * width];
    wide totals[Rows * width];
    const wide* const bias = weights.bias(set, panel);
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < width; ++c) totals[r * width + c] = bias[c];
    depth_position at;
    for (std::size_t chunk = 0; chunk < weights.chunks(); ++chunk) {
      const std::size_t first = chunk * weights.chunk_groups();
      const std::size_t last = polymac::detail::smaller(first + weights.chunk_groups(), weights.groups());
      const tile_operands<Atom> of{weights.panel(set, panel) + first * group_size, weights.panel_stride(),
                                   weights.starts(set, panel, chunk), weights.start_stride(), last - first};
      tile_sums<Atom, source_rows, KSource>::template run_from<Rows, Panels>(rows, at, of, k_source, sums, width);
      for (std::size_t left = last - first; left > 0;) {
        const std::size_t groups = polymac::detail::smaller(left, rows.segment_groups - at.group);
        advance(rows, at, groups);
        left -= groups;
      }
      for (std::size_t i = 0; i < Rows * width; ++i) totals[i] += static_cast<wide>(sums[i]);
    }
    sum results[held_rows(Rows) * width];
    for (std::size_t i = 0; i < Rows * width; ++i) results[i] = narrow<sum>(totals[i]);
    finish<Rows, Panels>(row, panel, results);
  }

  /// The same in code of constant extents, so that compilers keep the sums in registers; for rows that are equally far
  /// apart in the output.
  template <std::size_t Rows, std::size_t Panels, class Value>
  POLYMAC_INLINE void finish_in_lanes(std::size_t row, std::size_t panel, const Value* sums) const noexcept {
    constexpr std::size_t width = Panels * Atom::columns;
    constexpr std::size_t panels = Panels % 4 == 0 ? 4 : Panels % 2 == 0 ? 2 : 1;
    constexpr std::size_t rows = Rows < 4 / panels ? Rows : 4 / panels, rest = Rows % rows;
    const std::size_t columns = weights.shape().columns;
    const std::size_t first = set * columns + panel * Atom::columns;
    const std::size_t last = polymac::detail::smaller(columns - (panel + Panels - 1) * Atom::columns, Atom::columns);
    auto* const out = output.row(row) + first;
    using output_type = std::remove_pointer_t<decltype(out)>;
    const std::size_t stride = row_stride(output);
    const auto stages = epilogue.view();
    const auto finished = [&](auto count, std::size_t r, std::size_t p) POLYMAC_INLINE_LAMBDA {
      const auto block =
          isa::best_lanes<Value, typename Atom::isa, count, panels>::load(sums + r * width + p * Atom::columns, width);
      const epilogue::place at{row + r, first + p * Atom::columns};
      if constexpr (totals_are_floats && std::is_same_v<Value, accumulator>)
        return stages.lanes(block.to_float(), at);
      else
        return stages.lanes(block, at);
    };
    const auto store_rows = [&]<std::size_t... i>(std::index_sequence<i...>, const auto& block, std::size_t r,
                                                  std::size_t p) POLYMAC_INLINE_LAMBDA {
      output_type* const to[] = {out + (r + i) * stride + p * Atom::columns...};
      block.store(to, p + panels == Panels ? last : Atom::columns);
    };
    const auto store = [&](auto count, const auto& block, std::size_t r, std::size_t p)
                           POLYMAC_INLINE_LAMBDA { store_rows(std::make_index_sequence<count>{}, block, r, p); };
    constexpr std::integral_constant<std::size_t, rows> all_rows{};
    POLYMAC_UNROLL
    for (std::size_t r = 0; r + rows <= Rows; r += rows) {
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; p += panels) store(all_rows, finished(all_rows, r, p), r, p);
    }
    if constexpr (rest > 0) {
      constexpr std::integral_constant<std::size_t, rest> rest_rows{};
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; p += panels)
        store(rest_rows, finished(rest_rows, Rows - rest, p), Rows - rest, p);
    }
  }

  /// The same of rows of half a group, for all heights of tiles: `sums` can be read up to the next multiple of eight
  /// rows. Where the output is not dense, results go through memory: their stores are narrower than a register.
  template <class Value>
  POLYMAC_NOINLINE void finish_halves(std::size_t row, std::size_t rows, std::size_t panel,
                                      const Value* sums) const noexcept {
    constexpr std::size_t width = Atom::columns;
    const std::size_t columns = weights.shape().columns, first = set * columns + panel * width;
    const std::size_t count = polymac::detail::smaller(columns - panel * width, width);
    auto* out = output.row(row) + first;
    using output_type = std::remove_pointer_t<decltype(out)>;
    const std::size_t stride = row_stride(output);
    const auto stages = epilogue.view();
    for (std::size_t r = 0; r < rows; r += 8, sums += 8 * width, out += 8 * stride) {
      const auto results =
          stages.lanes(isa::best_lanes<Value, typename Atom::isa, 8, 1, width>::load_all(sums), {row + r, first});
      if (rows - r >= 8 && count == width && stride == width) {
        results.store_all(out);
        continue;
      }
      alignas(64) output_type held[8 * width];
      results.store_all(held);
      copy_columns(held, out, stride, polymac::detail::smaller(rows - r, std::size_t{8}), count);
    }
  }
  template <class Out>
  static POLYMAC_INLINE void copy_columns(const Out* from, Out* to, std::size_t stride, std::size_t rows,
                                          std::size_t columns) noexcept {
    constexpr std::size_t width = Atom::columns;
    for (std::size_t r = 0; r < rows; ++r, from += width, to += stride) {
      if (columns == width) {
        std::memcpy(to, from, width * sizeof(Out));
        continue;
      }
      std::size_t c = 0;
      if (columns & 4) std::memcpy(to, from, 4 * sizeof(Out)), c = 4;
      if (columns & 2) std::memcpy(to + c, from + c, 2 * sizeof(Out)), c += 2;
      if (columns & 1) to[c] = from[c];
    }
  }

  /// Hands the sums of a tile to the epilogue, without the columns that only fill up the last panel.
  template <std::size_t Rows, std::size_t Panels, class Value>
  constexpr POLYMAC_INLINE void finish(std::size_t row, std::size_t panel, const Value* sums) const noexcept {
    constexpr std::size_t width = Panels * Atom::columns;
    if constexpr (totals_are_floats && std::is_same_v<Value, accumulator> && Atom::columns == isa::lane_columns &&
                  finishes_in_lanes<typename Atom::isa, sum, Epilogue>()) {
      if (!std::is_constant_evaluated() && regular_rows(output, row) >= Rows)
        return finish_in_lanes<Rows, Panels>(row, panel, sums);
    }
    if constexpr (has_totals && std::is_same_v<Value, accumulator>) {
      alignas(64) sum totals[held_rows(Rows) * width];
      for (std::size_t i = 0; i < Rows * width; ++i) totals[i] = total<M>(sums[i]);
      finish_sums<Rows, Panels>(row, panel, &totals[0]);
    } else {
      finish_sums<Rows, Panels>(row, panel, sums);
    }
  }
  template <std::size_t Rows, std::size_t Panels, class Value>
  constexpr POLYMAC_INLINE void finish_sums(std::size_t row, std::size_t panel, const Value* sums) const noexcept {
    constexpr std::size_t width = Panels * Atom::columns;
    const std::size_t column = panel * Atom::columns;
    if constexpr (Atom::columns == isa::lane_columns && finishes_in_lanes<typename Atom::isa, Value, Epilogue>()) {
      if (!std::is_constant_evaluated() && regular_rows(output, row) >= Rows)
        return finish_in_lanes<Rows, Panels>(row, panel, sums);
    }
    if constexpr (halves_lanes && finishes_in_lanes<typename Atom::isa, Value, Epilogue>()) {
      static_assert(!several_stretches, "polymac: rows one by one would be read beyond the sums");
      if (!std::is_constant_evaluated() && regular_rows(output, row) >= Rows)
        return finish_halves(row, Rows, panel, sums);
    }
    kernel::finish<typename Atom::isa>(
        epilogue, output, sums, width,
        {row, Rows, column, polymac::detail::smaller(width, weights.shape().columns - column),
         set * weights.shape().columns});
  }
  /// Rows of several lines.
  template <std::size_t Rows, std::size_t Panels, class Value>
  constexpr POLYMAC_INLINE void finish_lines(std::size_t row, const even_stretches<Atom>& rows, std::size_t panel,
                                             const Value* sums) const noexcept {
    std::size_t at = rows.column;
    for (std::size_t r = 0; r < Rows; ++r, ++row) {
      finish<1, Panels>(row, panel, sums + r * Panels * Atom::columns);
      if (++at == rows.of->width) {
        row += rows.of->output_gap;
        at = 0;
      }
    }
  }
};

/// The tiles of a loop nest. Each is a function of its own, and what chooses among them is not: inlined
/// for every height, the way to the first product of a small matrix would take longer than all of its products.
template <class Nest>
struct tile_table {
  /// Adds up the sums of a tile; goes on with those of the pieces of depth before.
  using sum_function = void(const typename Nest::tile_rows&, const typename Nest::sums_of_tile::operands&,
                            typename Nest::k_source_type, typename Nest::accumulator*, std::size_t) noexcept;
  using finish_function = void(const Nest&, std::size_t row, const typename Nest::tile_rows&, std::size_t panel,
                               const typename Nest::accumulator*) noexcept;
  struct tile {
    std::size_t panels = 0;
    sum_function *sums = nullptr, *more_sums = nullptr;
    finish_function* finish = nullptr;
  };
  struct tiles_of_height {
    std::size_t rows = 0;
    tile of[5] = {};  ///< 8, 4, 3, 2, 1 panels at most
  };

 private:
  struct all_tiles {
    tiles_of_height of[Nest::tall_rows + 1];  ///< by their rows
  };
  template <std::size_t Rows, std::size_t Panels>
  static constexpr void add_panels(tiles_of_height& of, std::size_t at) {
    of.of[at].panels = Panels;
    if constexpr (!Nest::goes_on) of.of[at].sums = &Nest::sums_of_tile::template run<Rows, Panels>;
    if constexpr (Nest::prepares || Nest::goes_on) of.of[at].more_sums = &Nest::sums_of_tile::template go_on<Rows, Panels>;
    if constexpr (!Nest::goes_on) of.of[at].finish = &Nest::template finish_tile<Rows, Panels>;
    if constexpr (Panels > 1) add_panels<Rows, Nest::fewer_panels(Panels)>(of, at + 1);
  }
  template <std::size_t Rows>
  static constexpr void add(all_tiles& all) {
    all.of[Rows].rows = Rows;
    add_panels<Rows, Nest::panels_for(Rows)>(all.of[Rows], 0);
    if constexpr (Rows > 1) add<Nest::heights::fewer(Rows)>(all);
  }
  template <std::size_t Rows>
  static constexpr void add_tall(all_tiles& all) {
    if constexpr (Rows > Nest::max_rows) {
      all.of[Rows].rows = Rows;
      add_panels<Rows, 1>(all.of[Rows], 0);
      add_tall<Nest::heights::fewer(Rows)>(all);
    }
  }
  static constexpr all_tiles make() {
    all_tiles all;
    add<Nest::max_rows>(all);
    add_tall<Nest::tall_rows>(all);
    return all;
  }

 public:
  static constexpr all_tiles tiles = make();
};

/// The rows [first, last) of a nest.
template <class Nest, class Packed, class Source, class Epilogue, class Output, class Scratch, class KSource>
POLYMAC_NOINLINE constexpr void run_wide_nest(const Packed& weights, std::size_t set, const Source& source,
                                              const Epilogue& epilogue, const Output& output, std::size_t first,
                                              std::size_t last, const Scratch& memory, KSource k_source) noexcept {
  Nest{weights, set, source, epilogue, output, k_source, memory}.run_wide(first, last);
}
template <class Nest, class Packed, class Source, class Epilogue, class Output, class Scratch, class KSource>
POLYMAC_NOINLINE constexpr void run_nest(const Packed& weights, std::size_t set, const Source& source,
                                         const Epilogue& epilogue, const Output& output, std::size_t first,
                                         std::size_t last, const Scratch& memory, KSource k_source) noexcept {
  if constexpr (Nest::may_be_wide)
    if (weights.wide_sums())
      return run_wide_nest<Nest>(weights, set, source, epilogue, output, first, last, memory, k_source);
  Nest{weights, set, source, epilogue, output, k_source, memory}.run(first, last);
}

}  // namespace detail

/// Computes output row r = epilogue(source row r x weights) for the rows of `range`, one set of the weights, on the
/// atom that they are packed for.
///   Output: `row(r)` gives a pointer to the columns of row r of the whole output.
template <class Atom, class Packed, class Source, class Epilogue, class Output, class KSource = policy::dense_k>
constexpr POLYMAC_INLINE void contract(const Packed& weights, std::size_t set, const Source& source,
                                       const Epilogue& epilogue, const Output& output,
                                       scratch<typename Atom::activation> memory, row_range range,
                                       KSource k_source = {}) noexcept {
  using M = typename Atom::mac;
  static_assert(SourceFor<Source, M>);
  static_assert(epilogue::Stage<Epilogue>);
  const std::size_t last = polymac::detail::smaller(range.end, source.rows());
  if (range.begin >= last) return;
  // Each has a nest of its own: what a function out of line may see, compilers keep in memory.
  if constexpr (Packed::may_be_narrow) {
    using nest = detail::loop_nest<M, narrow_atom<Atom>, Packed, Source, Epilogue, Output, KSource>;
    if (weights.is_narrow()) {
      if (nest{weights, set, source, epilogue, output, k_source, memory}.run_one_tile(range.begin, last)) return;
      return detail::run_nest<nest>(weights, set, source, epilogue, output, range.begin, last, memory, k_source);
    }
  }
  if constexpr (!Packed::is_always_narrow) {
    using nest = detail::loop_nest<M, Atom, Packed, Source, Epilogue, Output, KSource>;
    if (nest{weights, set, source, epilogue, output, k_source, memory}.run_one_tile(range.begin, last)) return;
    detail::run_nest<nest>(weights, set, source, epilogue, output, range.begin, last, memory, k_source);
  }
}

}  // namespace kernel
POLYMAC_END
