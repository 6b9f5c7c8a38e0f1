// SPDX-License-Identifier: MIT
// Activations of bytes that have changed, one by one: their list, and the products of their differences.
//
// A list of groups multiplies four k where one has changed. Where changes are scattered that is two to three times the
// work, and its weights, a group of every panel, come from L2. So here weights lie once more as rows of k, the columns
// side by side, and four rows that have changed are brought into the order of a dot product on the way:
//
//     row of k 17    a0 a1 a2 a3 ..                          a0 b0 c0 d0 | a1 b1 c1 d1 | ..  columns 0, 1 ..
//     row of k 23    b0 b1 b2 b3 ..     two unpackings  ->   and three more registers of columns
//     row of k 80    c0 c1 c2 c3 ..
//     row of k 81    d0 d1 d2 d3 ..                          times the four differences, in every lane
//
//   changed_bytes<I>
//     row_columns(columns)                       of a row of weights and of sums: filled up
//     put_weight(rows, depth, columns, column, k, weight)
//                                                rows: depth * row_columns(columns) bytes, beginning at a line of the cache
//     append(bits, a, b, count, place, places, differences)
//                                                brings b up to a where a bit is set, lists these bytes; returns false
//                                                where a difference does not fit a signed byte. Writes 16 entries more.
//     add(rows, depth, columns, stretches, count, sums)
//                                                sums += differences * weights, row_columns(columns) of them
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {

/// Changes that lie in one line of a kernel: where in the line of the image, and how much. k of the weights: place + first.
struct changed_stretch {
  const std::uint16_t* places = nullptr;
  const std::int8_t* differences = nullptr;
  std::size_t count = 0;
  std::ptrdiff_t first = 0;
};
/// Entries behind a list that may be written, too.
inline constexpr std::size_t change_slack = 16;

template <Isa I>
struct changed_bytes;

namespace detail {
template <class I>
using changed_bytes_on = changed_bytes<I>;
}  // namespace detail

/// That of I or of a weaker set, `void` where there is none.
template <Isa I>
using best_changed_bytes = typename detail::strongest<detail::changed_bytes_on, I>::type;

}  // namespace isa
POLYMAC_END
