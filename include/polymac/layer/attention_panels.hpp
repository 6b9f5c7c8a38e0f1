// SPDX-License-Identifier: MIT
// Keys and values as the panels of an atom.
//
//     keys     a panel holds Atom::columns keys, k their elements           scores = queries x keys
//     values   a panel holds Atom::columns elements, k the tokens           outputs = weights x values
//
//                key 0 ... key 15                 element 0 ... element 15
//       k = 0     .    ...   .          token 0     .       ...     .
//       k = 1     .    ...   .          token 1     .       ...     .
//
// So a new token is one column of the last panel of keys, and one row of every panel of values: nothing that is there
// moves when a sequence grows.
#pragma once

#include "polymac/core/concepts.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/isa/panels.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Panels of one atom.
template <class Atom>
struct operand_panels {
  using mac = typename Atom::mac;
  using weight = typename mac_traits<mac>::weight;
  using element = isa::packed_of<Atom>;
  using summary = isa::summary_of<Atom>;
  static constexpr std::size_t columns = Atom::columns, depth = Atom::depth;
  static constexpr std::size_t group = isa::group_elements<Atom>;
  static constexpr bool encodes = isa::encodes_weights<Atom>;

  /// Distance of two panels of so many k. Not a multiple of 4 KiB, or the same k of panels would share a set of L1.
  static constexpr std::size_t stride(std::size_t k) noexcept {
    const std::size_t elements = polymac::detail::divide_up(k, depth) * group;
    constexpr std::size_t page = 4096 / sizeof(element), line = 64 / sizeof(element);
    return elements % page == 0 && elements > 0 ? elements + line : elements;
  }
  static constexpr std::size_t panels(std::size_t of) noexcept { return polymac::detail::divide_up(of, columns); }

  /// A whole panel of `count` columns, `size` k each, from rows `row_stride` apart. Columns beyond become zeros, and so
  /// do k up to `held`, where that is more than `size` in whole groups (not for atoms that encode their weights).
  static void write_columns(element* panel, const weight* rows, std::size_t row_stride, std::size_t count,
                            std::size_t size, std::size_t held, summary& seen) noexcept {
    if constexpr (!encodes) {
      static_cast<void>(seen);
      isa::transpose_panel<typename Atom::isa, columns, depth>(panel, rows, row_stride, count, size);
      clear(panel, size, held);
    } else {
      static_cast<void>(held);
      for (std::size_t k = 0; k < size; k += depth, panel += group) {
        weight all[columns * depth]{};
        for (std::size_t c = 0; c < count; ++c)
          for (std::size_t d = 0; d < depth && k + d < size; ++d) all[c * depth + d] = rows[c * row_stride + k + d];
        encode(all, count, panel, seen);
      }
    }
  }
  /// `tokens` k of all panels of `size` columns; `panel`: where the first of these k stands in the first panel. Elements
  /// beyond the columns become zeros, and so do tokens up to a whole group.
  static void write_rows(element* panel, std::size_t panel_stride, const weight* rows, std::size_t row_stride,
                         std::size_t tokens, std::size_t size, summary& seen) noexcept {
    for (std::size_t c = 0; c < size; c += columns, panel += panel_stride) {
      const std::size_t count = polymac::detail::smaller(columns, size - c);
      if constexpr (!encodes) {
        static_cast<void>(seen);
        isa::interleave_panel<typename Atom::isa, columns, depth>(panel, rows + c, row_stride, count, tokens);
      } else {
        element* to = panel;
        for (std::size_t k = 0; k < tokens; k += depth, to += group) {
          weight all[columns * depth]{};
          for (std::size_t i = 0; i < count; ++i)
            for (std::size_t d = 0; d < depth && k + d < tokens; ++d)
              all[i * depth + d] = rows[(k + d) * row_stride + c + i];
          encode(all, count, to, seen);
        }
      }
    }
  }
  /// Makes the groups of a panel behind those of `first` k zeros, up to `last` k.
  static void clear(element* panel, std::size_t first, std::size_t last) noexcept {
    const std::size_t end = polymac::detail::divide_up(last, depth) * group;
    for (std::size_t i = polymac::detail::divide_up(first, depth) * group; i < end; ++i) panel[i] = element{};
  }

 private:
  static void encode(const weight* all, std::size_t count, element* to, summary& seen) noexcept {
    if constexpr (isa::has_summary<Atom>) {
      Atom::encode(all, count, to, seen);
    } else {
      static_cast<void>(count);
      static_cast<void>(seen);
      Atom::encode(all, to);
    }
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
