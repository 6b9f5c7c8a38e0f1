// SPDX-License-Identifier: MIT
// The rows of activations of one tile, ready to be read: through pointers, or equally far apart.
//
//     table_rows        rows anywhere, in segments: a table of pointers [segment][row]
//     even_rows         one stretch each, equally far apart
//     line_rows         several stretches each, rows of one line of an image, or fours of several lines
//     even_stretches    the same, and rows may go on in the next line
//
// A stretch that is no multiple of the atom's depth ends in a copy, `ends`, so that no atom reads past a view.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/all.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// Rows of activations that are equally far apart, and what they are multiplied with: all rows of a matrix, or a
/// rectangle of output pixels for which the same taps of a convolution lie on the image.
template <class Activation>
struct strip {
  const Activation* first = nullptr;  ///< where the first row begins
  std::ptrdiff_t distance = 0;        ///< of two rows, in activations
  std::size_t rows = 0;
  std::size_t output_row = 0;  ///< of the first row
  /// After so many rows the next line of pixels begins: `next_line` activations and `output_gap` output rows farther on
  /// than the next row would be. (Not for rows of one stretch; for sources `in_lines` a multiple of four, and no gap.)
  std::size_t width = static_cast<std::size_t>(-1);
  std::ptrdiff_t next_line = 0;
  std::size_t output_gap = 0;
  /// A row is `lines` x `taps` stretches of `depth` activations. More than one: depth is a multiple of the atom's.
  std::size_t lines = 1, taps = 1;
  std::ptrdiff_t line_distance = 0, tap_distance = 0;
  std::size_t depth = 0;
  /// k of the weights before the first stretch, and between the stretches of two lines.
  std::size_t skipped_before = 0, skipped_between = 0;
};

namespace detail {

// Where the rows of a tile are being read, the places: operator[](row) is a pointer, `move` goes on to other k, and
// `keep` makes compilers hold the places in registers as they stand.

/// A pointer for each row.
template <class Activation, std::size_t Rows>
struct row_pointers {
  const Activation* of[Rows];
  constexpr POLYMAC_INLINE const Activation* operator[](std::size_t r) const noexcept { return of[r]; }
  constexpr POLYMAC_INLINE void move(std::size_t activations) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) of[r] += activations;
  }
  constexpr POLYMAC_INLINE void keep() noexcept { isa::keep_pointers(of); }
};

/// A pointer for every four rows, which are equally far apart: x86 adds once, twice or (in a register of its own) three
/// times the distance in the address of a load. Twelve pointers leave g++ 12 no register for anything else: it needs
/// 250 instructions around the loops of a tile instead of 110, as much as 100 cycles.
template <class Activation, std::size_t Rows>
struct even_places {
  static constexpr std::size_t bases = (Rows + 3) / 4;
  const Activation* base[bases];
  std::ptrdiff_t apart[3];  ///< of rows 1, 2, 3 from the first of their four
  constexpr POLYMAC_INLINE even_places(const Activation* first, std::ptrdiff_t distance) noexcept
      : apart{distance, 2 * distance, 3 * distance} {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < bases; ++i) base[i] = first + static_cast<std::ptrdiff_t>(4 * i) * distance;
  }
  /// The first of every four rows is `ahead` of `first`.
  constexpr POLYMAC_INLINE even_places(const Activation* first, const std::ptrdiff_t* ahead,
                                       std::ptrdiff_t distance) noexcept
      : apart{distance, 2 * distance, 3 * distance} {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < bases; ++i) base[i] = first + ahead[i];
  }
  constexpr POLYMAC_INLINE const Activation* operator[](std::size_t r) const noexcept {
    return r % 4 == 0 ? base[r / 4] : base[r / 4] + apart[r % 4 - 1];
  }
  constexpr POLYMAC_INLINE void move(std::size_t activations) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < bases; ++i) base[i] += activations;
  }
  constexpr POLYMAC_INLINE void keep() noexcept { isa::keep_pointers(base); }
};

/// A group of k as the rows count them.
struct depth_position {
  std::size_t segment = 0, group = 0;
};

/// The stretches that the rows of a tile are read in.
template <class Atom>
struct stretches {
  using activation = typename Atom::activation;
  std::size_t segment_groups;  ///< groups of a segment, the short one at its end included
  std::size_t whole_groups;    ///< groups that can be read in place
  /// Is a group an integer?
  static constexpr bool shifts_ends = std::endian::native == std::endian::little && std::is_integral_v<activation> &&
                                      (sizeof(activation) * Atom::depth == 4 || sizeof(activation) * Atom::depth == 8);
  using group_word = std::conditional_t<sizeof(activation) * Atom::depth == 4, std::uint32_t, std::uint64_t>;
  /// The last, short group of every row, filled up with zeros.
  activation ends[isa::most_rows<Atom>][Atom::depth];

  /// One stretch of `depth` activations; that of row r begins at places[r].
  template <class Places>
  constexpr POLYMAC_INLINE void set(std::size_t count, std::size_t depth, const Places& places) noexcept {
    segment_groups = polymac::detail::divide_up(depth, Atom::depth);
    whole_groups = depth / Atom::depth;
    if (depth % Atom::depth != 0) copy_ends(count, depth, places);
  }

 private:
  /// Not in the way of rows that have no ends.
  template <class Places>
  POLYMAC_NOINLINE constexpr void copy_ends(std::size_t count, std::size_t depth, const Places& places) noexcept {
    const std::size_t rest = depth % Atom::depth;
    // As it is; g++ 12 for NEON doubts it.
    const std::size_t rows = polymac::detail::smaller(count, isa::most_rows<Atom>);
    if constexpr (shifts_ends) {
      if (!std::is_constant_evaluated() && whole_groups > 0) {
        // The last whole group that is there, moved down to what is left of it.
        for (std::size_t r = 0; r < rows; ++r) {
          group_word group;
          std::memcpy(&group, places[r] + depth - Atom::depth, sizeof(group));
          group >>= 8 * sizeof(activation) * (Atom::depth - rest);
          std::memcpy(ends[r], &group, sizeof(group));
        }
        return;
      }
    }
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t d = 0; d < Atom::depth; ++d)
        ends[r][d] = d < rest ? places[r][whole_groups * Atom::depth + d] : activation{};
  }
};

/// Rows that are found through a table of pointers.
template <class Atom>
struct table_rows : stretches<Atom> {
  using activation = typename Atom::activation;
  std::size_t segments;
  const activation* const* table;  ///< [segment][row]
  template <std::size_t Rows>
  constexpr POLYMAC_INLINE auto find(std::size_t segment, std::size_t offset) const noexcept {
    row_pointers<activation, Rows> places;
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) places.of[r] = table[segment * Rows + r] + offset;
    return places;
  }
  /// The rows of a segment.
  POLYMAC_INLINE const activation* const* from(std::size_t segment, std::size_t count) const noexcept {
    return table + segment * count;
  }
};

/// Rows of one stretch that are equally far apart.
template <class Atom>
struct even_rows : stretches<Atom> {
  using activation = typename Atom::activation;
  static constexpr std::size_t segments = 1;
  const activation* first;
  std::ptrdiff_t distance;
  /// As a table has it.
  constexpr const activation* operator[](std::size_t r) const noexcept {
    return first + static_cast<std::ptrdiff_t>(r) * distance;
  }
  template <std::size_t Rows>
  constexpr POLYMAC_INLINE auto find(std::size_t, std::size_t offset) const noexcept {
    return even_places<activation, Rows>(first + offset, distance);
  }
  POLYMAC_INLINE even_rows from(std::size_t, std::size_t) const noexcept { return *this; }
};

/// Rows of several stretches; every four of them are equally far apart, and all that lie in one line.
template <class Atom>
struct line_rows : stretches<Atom> {
  using activation = typename Atom::activation;
  std::size_t segments, taps;
  std::size_t skipped_before;  ///< k of the weights before the first segment
  const activation* first;
  std::ptrdiff_t distance, line_distance, tap_distance;
  std::ptrdiff_t ahead[(isa::most_rows<Atom> + 3) / 4];  ///< every fourth row, of the first
  /// Row number `row` of a strip and those behind it.
  constexpr POLYMAC_INLINE void place(const strip<activation>& of, std::size_t row, std::size_t count) noexcept {
    distance = of.distance;
    first = of.first + static_cast<std::ptrdiff_t>(row) * distance;
    std::size_t column = 0;
    if (of.width < of.rows) {
      column = row % of.width;
      first += static_cast<std::ptrdiff_t>(row / of.width) * of.next_line;
    }
    std::ptrdiff_t at = 0;
    for (std::size_t i = 0; 4 * i < count; ++i, at += 4 * distance, column += 4) {
      if (column >= of.width) {
        column -= of.width;
        at += of.next_line;
      }
      ahead[i] = at;
    }
  }
  constexpr POLYMAC_INLINE const activation* of_segment(std::size_t segment) const noexcept {
    const auto n = static_cast<std::ptrdiff_t>(segment), t = static_cast<std::ptrdiff_t>(taps);
    return first + (t == 1 ? n * line_distance : n / t * line_distance + n % t * tap_distance);
  }
  /// The rows of the first segment, as a table has them.
  constexpr const activation* operator[](std::size_t r) const noexcept {
    return first + ahead[r / 4] + static_cast<std::ptrdiff_t>(r % 4) * distance;
  }
  template <std::size_t Rows>
  constexpr POLYMAC_INLINE auto find(std::size_t segment, std::size_t offset) const noexcept {
    return even_places<activation, Rows>(of_segment(segment) + offset, ahead, distance);
  }
  struct segment_rows {
    const activation* first;
    const std::ptrdiff_t* ahead;
    std::ptrdiff_t distance;
    constexpr const activation* operator[](std::size_t r) const noexcept {
      return first + ahead[r / 4] + static_cast<std::ptrdiff_t>(r % 4) * distance;
    }
  };
  POLYMAC_INLINE segment_rows from(std::size_t segment, std::size_t) const noexcept {
    return {of_segment(segment), ahead, distance};
  }
};

/// The same, and rows may go on in the next line.
template <class Atom>
struct even_stretches : even_rows<Atom> {
  using activation = typename Atom::activation;
  std::size_t segments;
  const strip<activation>* of;
  std::size_t column;  ///< of the first row in its line
  template <std::size_t Rows>
  constexpr POLYMAC_INLINE auto find(std::size_t segment, std::size_t offset) const noexcept {
    const auto n = static_cast<std::ptrdiff_t>(segment), taps = static_cast<std::ptrdiff_t>(of->taps);
    const activation* place = this->first + offset;
    place += taps == 1 ? n * of->line_distance : n / taps * of->line_distance + n % taps * of->tap_distance;
    row_pointers<activation, Rows> places;
    places.of[0] = place;
    std::size_t at = column;
    POLYMAC_UNROLL
    for (std::size_t r = 1; r < Rows; ++r) {
      const bool wraps = ++at == of->width;
      place += wraps ? this->distance + of->next_line : this->distance;
      if (wraps) at = 0;
      places.of[r] = place;
    }
    return places;
  }
};

/// Moves a position on by groups of its own segment. A term repeats the same activations with other weights, so the end
/// is followed by the beginning.
template <class Rows>
constexpr void advance(const Rows& rows, depth_position& at, std::size_t groups) noexcept {
  at.group += groups;
  if (at.group < rows.segment_groups) return;
  at.group = 0;
  at.segment = at.segment + 1 == rows.segments ? 0 : at.segment + 1;
}

}  // namespace detail
}  // namespace kernel
POLYMAC_END
