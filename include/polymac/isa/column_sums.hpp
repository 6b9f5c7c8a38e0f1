// SPDX-License-Identifier: MIT
// Sums of codes over rows, column by column: what averages are made of.
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {

/// Columns of one block.
inline constexpr std::size_t column_sums_block = 64;

/// add(from, stride, rows, columns, into): into[c] += from[r * stride + c] for r < rows, c < columns <= 64; into has 64
/// elements of 32 bits. Specialised where a set has better than the compiler's code.
template <class T, Isa I>
struct column_sums;

namespace detail {
template <class T>
struct column_sums_of {
  template <class I>
  using on = column_sums<T, I>;
};
}  // namespace detail

template <class T, Isa I>
using best_column_sums = typename detail::strongest<detail::column_sums_of<T>::template on, I>::type;
template <class T, Isa I>
inline constexpr bool has_column_sums = !std::is_void_v<best_column_sums<T, I>>;

}  // namespace isa
POLYMAC_END
