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
// At stride 2 a quad is a square of two lines and two columns instead, a0 b0 a1 b1, which is made in one go:
//
//     columns 0 2 ..  E  -> pairs  a0 b0  a2 b2 ..     quads   a0 b0 a1 b1   a2 b2 a3 b3 ..
//     columns 1 3 ..  O  -> pairs  a1 b1  a3 b3 ..
//
// A 3 x 3 window is four squares, with 9 of 16 weights. One of two lines of squares serves the next line of output.
//
//   depthwise_quads<M, I>
//     activation_offset                          as in atom; quads hold a + activation_offset
//     make_pairs(a, b, ahead, pairs, chunks)     of two lines, in chunks of 64 activations
//     make_quads(p, q, quads, chunks)
//     make_squares(a, b, squares, chunks, channels)
//                                                of two lines, in chunks of 128 activations
//     hold<Slots, Width, Rows, Panels>(source)   weights and start values in registers
//     products<Slots, Width, Adjacent>(sums, source, held, quads)
//                                                start values and products of Rows lines of output
//     codes<Out, Twice>(sums, slopes, addends, second)
//                                                of sums that are rounded lines (epilogue/rounded_line.hpp)
//
// Floats take a tap at a time, in the order of the taps:
//
//   depthwise_taps<M, I>
//     rows<Stride>, pixels<Stride>               of a tile
//     tile<Rows, Pixels, Stride, Whole>(lines, weights, starts, count, done)
//                                                start values and products of a 3 x 3 kernel
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

/// A line of activations that is read in chunks, `step` apart. Of a chunk of 128 the second half begins `half` behind
/// the first one.
struct quad_line {
  const void* at;
  std::size_t step;
  std::size_t half;
};

/// Where a block of products finds its operands.
struct quad_source {
  std::size_t pixel_step;      ///< bytes from one output pixel's quads to the next one's
  std::size_t tap_step;        ///< from one column of quads to the next
  std::ptrdiff_t slot_step;    ///< from a line of quads to the next one of the window
  std::size_t width;           ///< columns of quads in a window
  std::size_t slots;           ///< lines of quads in a window
  std::size_t terms;           ///< of the weights
  const std::int8_t* weights;  ///< [panel][line of output][term][slot][column of quads][16][4]
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
