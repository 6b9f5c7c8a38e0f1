// SPDX-License-Identifier: MIT
// Maxima of codes under a window, column by column.
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {

/// Rows that lie under a window: `lines` of `rows`.
struct window_rows {
  std::size_t lines = 0, line_stride = 0;  ///< elements between lines
  std::size_t rows = 0, row_stride = 0;    ///< elements between the rows of a line
};

/// find(from, under, columns, low, high, to): to[c] = the largest of from[l * line_stride + r * row_stride + c],
/// clamped to [low, high], for c < columns <= 64; low without any row. Specialised where a set has better than the
/// compiler's code.
template <class T, Isa I>
struct column_maxima;

namespace detail {
template <class T>
struct column_maxima_of {
  template <class I>
  using on = column_maxima<T, I>;
};
}  // namespace detail

template <class T, Isa I>
using best_column_maxima = typename detail::strongest<detail::column_maxima_of<T>::template on, I>::type;
template <class T, Isa I>
inline constexpr bool has_column_maxima = !std::is_void_v<best_column_maxima<T, I>>;

}  // namespace isa
POLYMAC_END
