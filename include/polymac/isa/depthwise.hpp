// SPDX-License-Identifier: MIT
// Atoms of the depthwise kernel: each lane is a channel, sums run over the taps of a window.
//
// Integers of 8 bits are multiplied four at a time where there is an instruction for it. A quad is the four taps of a
// channel in a column of four input lines:
//
//     line 0   a0 a1 a2 ...                        quads   a0 b0 c0 d0   a1 b1 c1 d1   a2 ..
//     line 1   b0 b1 b2 ...     -> pairs  a0 b0  a1 b1 ..
//     line 2   c0 c1 c2 ...     -> pairs  c0 d0  c1 d1 ..
//     line 3   d0 d1 d2 ...
//
// A column of quads serves every output pixel whose window holds it, and as many lines of output as fit the four lines
// (two for a kernel of 3 lines: weights 0 on the line that is not theirs). That is what pays for making it.
//
//   depthwise_quads<M, I>
//     activation_offset                          as in atom; quads hold a + activation_offset
//     make_pairs(a, a_step, b, b_step, ahead, pairs, chunks)
//                                                of two lines, in chunks of 64 activations
//     make_quads(p, q, quads, chunks)
//     hold<Width, Rows, Panels>(source)          weights and start values in registers
//     products<Width, Adjacent>(sums, source, held, quads)
//                                                start values and products of Rows lines of output
//     codes<Out, Twice>(sums, slopes, addends, second)
//                                                of sums that are rounded lines (epilogue/rounded_line.hpp)
//
// Floats take a tap at a time, in the order of the taps:
//
//   depthwise_taps<M, I>
//     tile<Stride>(sums, at, weights, starts)    start values and products of a 3 x 3 kernel
//     tap(sums, pixel, weights, count)           adds the products of one tap
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace isa {

template <Mac M, Isa I>
struct depthwise_quads;
template <Mac M, Isa I>
struct depthwise_taps;

/// Where a block of products finds its operands.
struct quad_source {
  std::size_t pixel_step;      ///< bytes from one output pixel's quads to the next one's
  std::size_t tap_step;        ///< from one kernel column to the next
  std::size_t slot_step;       ///< from four lines to the next four
  std::size_t width;           ///< kernel columns
  std::size_t slots;           ///< groups of four lines
  std::size_t terms;           ///< of the weights
  const std::int8_t* weights;  ///< [panel][line of output][term][slot][kernel column][16][4]
  std::size_t row_step;        ///< bytes from one line of output's weights to the next one's
  std::size_t panel_step;      ///< from one panel's to the next one's
  const std::int32_t* starts;  ///< 16 for each panel
};

namespace detail {
template <template <class, class> class Atom, class M, class I>
struct find_depthwise : find_depthwise<Atom, M, typename I::base> {};
template <template <class, class> class Atom, class M>
struct find_depthwise<Atom, M, void> {
  static constexpr bool found = false;
};
template <template <class, class> class Atom, class M, class I>
requires requires { sizeof(Atom<M, I>); }
struct find_depthwise<Atom, M, I> {
  static constexpr bool found = true;
  using type = Atom<M, I>;
};
}  // namespace detail

/// Are there quads, or taps, for I or a weaker set?
template <Mac M, Isa I>
inline constexpr bool has_depthwise_quads = detail::find_depthwise<depthwise_quads, M, I>::found;
template <Mac M, Isa I>
inline constexpr bool has_depthwise_taps = detail::find_depthwise<depthwise_taps, M, I>::found;

template <Mac M, Isa I>
using best_depthwise_quads = typename detail::find_depthwise<depthwise_quads, M, I>::type;
template <Mac M, Isa I>
using best_depthwise_taps = typename detail::find_depthwise<depthwise_taps, M, I>::type;

}  // namespace isa
POLYMAC_END
