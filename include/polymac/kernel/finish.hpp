// SPDX-License-Identifier: MIT
// The way of finished sums through the epilogue to the output.
//
//   sums, `stride` apart:    row 0   s s s s s ... | . . .        whole panels are there, columns beyond the last one
//                            row 1   s s s s s ... | . . .        only fill up
//
// Where the instruction set has blocks of sums (isa/lanes.hpp) and every stage takes them, 64 sums are finished at a
// time: 4 x 16, 2 x 32 or 1 x 64, because packing to bytes costs the same for one register as for four. Else the scalar
// stages run in loops of constant length that compilers turn into vector code. Stages that join pairs of columns
// (epilogue/pairs.hpp) finish a row of a tile at a time, and write half as many columns.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/epilogue/pairs.hpp"
#include "polymac/isa/all.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// The part of the output that a tile of sums makes: rows [row, row + rows), columns [column, column + columns) of one
/// set of weights, whose columns begin at `offset` in the output and for the epilogue.
struct output_block {
  std::size_t row = 0;
  std::size_t rows = 0;
  std::size_t column = 0;
  std::size_t columns = 0;
  std::size_t offset = 0;
};

namespace detail {

/// How many rows from `row` on are equally far apart in the output, and how far. An output may say so; a matrix is
/// regular.
template <class Output>
constexpr POLYMAC_INLINE std::size_t regular_rows(const Output& output, std::size_t row) noexcept {
  if constexpr (requires { output.regular_rows(row); })
    return output.regular_rows(row);
  else
    return static_cast<std::size_t>(-1);
}
template <class Output>
constexpr POLYMAC_INLINE std::size_t row_stride(const Output& output) noexcept {
  if constexpr (requires { output.row_stride(); })
    return output.row_stride();
  else
    return output.stride;
}

template <class I, class Sum, class Epilogue>
consteval bool finishes_in_lanes() {
  if constexpr (isa::has_lanes<Sum, I>)
    return epilogue::TakesLanes<Epilogue, isa::best_lanes<Sum, I, 1, 1>>;
  else
    return false;
}

/// Rows x Panels groups of 16 sums, `stride` apart, through the stages to rows of the output that are `out_stride`
/// apart. `at`: of the first one; last: columns of the last panel.
template <Isa I, std::size_t Rows, std::size_t Panels, class Stages, class Sum, class Out>
POLYMAC_INLINE void finish_in_lanes(const Stages& stages, const Sum* sums, std::size_t stride, Out* to,
                                    std::size_t out_stride, const epilogue::place& at, std::size_t last) noexcept {
  Out* rows[Rows];
  POLYMAC_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) rows[r] = to + r * out_stride;
  stages.lanes(isa::best_lanes<Sum, I, Rows, Panels>::load(sums, stride), at).store(rows, last);
}

template <class I, class Sum, class Epilogue, class Output>
struct finisher {
  const Epilogue& epilogue;
  const Output& output;
  const Sum* sums;
  std::size_t stride;
  output_block place;

  POLYMAC_INLINE void in_lanes() const noexcept {
    const auto stages = epilogue.view();
    for (std::size_t row = 0; row < place.rows;) {
      const std::size_t count = polymac::detail::smaller(regular_rows(output, place.row + row), place.rows - row);
      run_of_rows(stages, row, count);
      row += count;
    }
  }

  constexpr void one_by_one() const noexcept {
    constexpr std::size_t width = 16;
    for (std::size_t r = 0; r < place.rows; ++r) {
      auto* const out = output.row(place.row + r) + place.offset + place.column;
      const Sum* const row = sums + r * stride;
      std::size_t c = 0;
      for (; c + width <= place.columns; c += width) few<width>(r, c, width, row + c, out + c);
      if (c + width / 2 <= place.columns) {  // a constant number again
        few<width / 2>(r, c, width / 2, row + c, out + c);
        c += width / 2;
      }
      if (c < place.columns) few<width / 2>(r, c, place.columns - c, row + c, out + c);
    }
  }

 private:
  /// Rows of the output that are equally far apart.
  template <class Stages>
  POLYMAC_INLINE void run_of_rows(const Stages& stages, std::size_t row, std::size_t count) const noexcept {
    constexpr std::size_t width = isa::lane_columns;
    auto* const out = output.row(place.row + row) + place.offset + place.column;
    const std::size_t out_stride = row_stride(output);
    const Sum* const from = sums + row * stride;
    std::size_t c = 0;
    if (count == 1)
      for (; c + 4 * width <= place.columns; c += 4 * width)
        rows_of<1, 4>(stages, row, count, from, out, out_stride, c, width);
    for (; c + 2 * width <= place.columns; c += 2 * width)
      rows_of<2, 2>(stages, row, count, from, out, out_stride, c, width);
    if (c + width <= place.columns) {
      rows_of<4, 1>(stages, row, count, from, out, out_stride, c, width);
      c += width;
    }
    if (c < place.columns) rows_of<4, 1>(stages, row, count, from, out, out_stride, c, place.columns - c);
  }

  template <std::size_t Rows, std::size_t Panels, class Stages, class Out>
  POLYMAC_INLINE void rows_of(const Stages& stages, std::size_t row, std::size_t count, const Sum* from, Out* out,
                              std::size_t out_stride, std::size_t column, std::size_t last) const noexcept {
    from += column;
    out += column;
    const auto at = [&]() POLYMAC_INLINE_LAMBDA {
      return epilogue::place{place.row + row, place.offset + place.column + column};
    };
    for (; count >= Rows; count -= Rows, row += Rows, from += Rows * stride, out += Rows * out_stride)
      finish_in_lanes<I, Rows, Panels>(stages, from, stride, out, out_stride, at(), last);
    if constexpr (Rows > 1)
      for (; count > 0; --count, ++row, from += stride, out += out_stride)
        finish_in_lanes<I, 1, Panels>(stages, from, stride, out, out_stride, at(), last);
  }

  template <std::size_t Width, class Out>
  constexpr POLYMAC_INLINE void few(std::size_t row, std::size_t column, std::size_t count, const Sum* from,
                                    Out* out) const noexcept {
    // The results are gathered in an array of their own: a store to `out` might change the stages' parameters, as far
    // as the compiler knows, and it would read them anew for every element.
    Out results[Width];
    for (std::size_t c = 0; c < count; ++c)
      results[c] = epilogue(from[c], place.row + row, place.offset + place.column + column + c);
    for (std::size_t c = 0; c < count; ++c) out[c] = results[c];
  }
};

/// Pairs of sums through a stage that joins them.
template <class Epilogue, class Sum, class Output>
constexpr void finish_pairs(const Epilogue& epilogue, const Output& output, const Sum* sums, std::size_t stride,
                            const output_block& place) noexcept {
  const std::size_t column = (place.offset + place.column) / 2, pairs = place.columns / 2;
  for (std::size_t r = 0; r < place.rows; ++r, sums += stride) {
    auto* const out = output.row(place.row + r) + column;
    if constexpr (epilogue::JoinsMany<Epilogue, Sum, std::remove_pointer_t<decltype(output.row(0))>>)
      epilogue.many(sums, pairs, place.row + r, column, out);
    else
      for (std::size_t c = 0; c < pairs; ++c)
        out[c] = epilogue(sums[2 * c], sums[2 * c + 1], place.row + r, column + c);
  }
}

}  // namespace detail

/// output[row][column] = epilogue(sums[row][column]) for the elements of `place`. `sums` can be read up to the end of
/// the last panel of 16 columns.
template <Isa I, class Sum, class Epilogue, class Output>
constexpr void finish(const Epilogue& epilogue, const Output& output, const Sum* sums, std::size_t stride,
                      const output_block& place) noexcept {
  if constexpr (epilogue::PairStage<Epilogue>) {
    detail::finish_pairs(epilogue, output, sums, stride, place);
  } else {
    const detail::finisher<I, Sum, Epilogue, Output> f{epilogue, output, sums, stride, place};
    if constexpr (detail::finishes_in_lanes<I, Sum, Epilogue>()) {
      if (!std::is_constant_evaluated()) return f.in_lanes();
    }
    f.one_by_one();
  }
}

}  // namespace kernel
POLYMAC_END
