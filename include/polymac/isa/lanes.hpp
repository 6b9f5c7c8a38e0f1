// SPDX-License-Identifier: MIT
// Finished sums in registers, for the epilogue: what a stage may do with 16 or more of them at once.
//
// A block is Rows x Panels groups of 16 sums that lie side by side, and everything a stage needs is a member of the
// block, so that stages themselves are written once and hold no intrinsics. Panels of 8 columns: a group is two rows.
//
//   best_lanes<T, I, Rows, Panels, Columns = 16>      T is float or std::int32_t
//     load(sums, stride)                  from memory; `stride` is the distance of two rows
//     store(rows, count)                  to memory; count: columns of the last panel, 16 unless it is cut off
//     load_all(sums), store_all(to)       the same of rows that lie side by side, Columns of 8 (one panel) too
//     clamp(low, high)                    NaN passes through
//     clamp_below(low), add<Uniform>(addends)
//   of float:         multiply<Uniform>(factors)
//   of std::int32_t:  to_float()
//     scale_to_nearest_even, scale_in_float, scale_rounding_twice, scale_rounding_once
//                                         the modes of requantisation, see epilogue/requantize.hpp
//     narrow<Out>(zero_point)             adds it, saturates: 8 or 16 bits an element, with clamp and store
//
// Parameters per column are arrays that can be read 16 at a time up to and beyond their last element
// (`lane_columns` more); Uniform means one parameter for all columns.
// An instruction set without blocks leaves the epilogue to the compiler: the scalar stages in a loop.
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace isa {

/// Columns of one group.
inline constexpr std::size_t lane_columns = 16;

template <class T, Isa I, std::size_t Rows, std::size_t Panels, std::size_t Columns = lane_columns>
struct lanes;

namespace detail {
template <class T, class I>
struct find_lanes : find_lanes<T, typename I::base> {};
template <class T>
struct find_lanes<T, void> {
  static constexpr bool found = false;
};
template <class T, class I>
requires requires { sizeof(lanes<T, I, 1, 1>); }
struct find_lanes<T, I> {
  static constexpr bool found = true;
  template <std::size_t Rows, std::size_t Panels, std::size_t Columns>
  using block = typename lanes<T, I, Rows, Panels, Columns>::type;
};
}  // namespace detail

/// Is there a block of sums of type T for I or a weaker set?
template <class T, Isa I>
inline constexpr bool has_lanes = detail::find_lanes<T, I>::found;

template <class T, Isa I, std::size_t Rows, std::size_t Panels, std::size_t Columns = lane_columns>
using best_lanes = typename detail::find_lanes<T, I>::template block<Rows, Panels, Columns>;

}  // namespace isa
POLYMAC_END
