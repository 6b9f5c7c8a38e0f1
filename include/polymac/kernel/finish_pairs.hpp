// SPDX-License-Identifier: MIT
// The way of pairs of sums through an epilogue that joins them (epilogue/pairs.hpp).
//
//   sums     f0 s0 f1 s1 f2 s2 ...                        a few rows of a tile
//   reals    f0 s0 f1 s1 f2 s2 ...        as floats, scaled where they are integers
//   apart    f0 f1 f2 ...  s0 s1 s2 ...   64 of each: rows of a tile one after the other
//   joined   y0 y1 y2 ...                 the expensive step (exp, erf), on whole registers whatever the tile is
//   output   half as many columns
//
// All of it is in L1 and in code of constant extents where a row has 8 or 16 pairs: moving them apart costs a cycle or
// two for 16 pairs, exp ten times as much.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/epilogue/pairs.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {
namespace detail {

/// Rows [row, row + rows) of the output, of which the columns [column, column + pairs) are made of the sums.
template <class Epilogue, class Sum, class Output>
struct pair_finisher {
  static constexpr std::size_t most = 64;
  const Epilogue& epilogue;
  const Output& output;
  const Sum* sums;
  std::size_t stride, row, rows, column, pairs;

  void many() const noexcept requires epilogue::JoinsMany<Epilogue, Sum> {
    for (std::size_t c = 0; c < pairs; c += most) {
      const std::size_t width = polymac::detail::smaller(pairs - c, most), at_once = most / width;
      for (std::size_t r = 0; r < rows; r += at_once) {
        const std::size_t count = polymac::detail::smaller(rows - r, at_once);
        width == 16  ? block<16>(r, count, c, width)
        : width == 8 ? block<8>(r, count, c, width)
                     : block<0>(r, count, c, width);
      }
    }
  }
  constexpr void one_by_one() const noexcept {
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < pairs; ++c)
        output.row(row + r)[column + c] =
            epilogue(sums[r * stride + 2 * c], sums[r * stride + 2 * c + 1], row + r, column + c);
  }

 private:
  /// Width: pairs of a row, 0: `width`.
  template <std::size_t Width>
  void block(std::size_t first_row, std::size_t count, std::size_t c, std::size_t width) const noexcept {
    if constexpr (Width > 0) width = Width;
    alignas(64) float first[most], second[most], both[2 * most];
    for (std::size_t r = 0; r < count; ++r) {
      epilogue.reals(sums + (first_row + r) * stride + 2 * c, 2 * width, row + first_row + r, 2 * (column + c), both);
      for (std::size_t i = 0; i < width; ++i) {
        first[r * width + i] = both[2 * i];
        second[r * width + i] = both[2 * i + 1];
      }
    }
    const std::size_t joined = count * width;
    for (std::size_t i = joined; i % 16 != 0; ++i) first[i] = second[i] = 0.0f;
    epilogue.join(first, second, joined);
    for (std::size_t r = 0; r < count; ++r) {
      auto* const out = output.row(row + first_row + r) + column + c;
      for (std::size_t i = 0; i < width; ++i) out[i] = epilogue.round(first[r * width + i]);
    }
  }
};

}  // namespace detail
}  // namespace kernel
POLYMAC_END
