// SPDX-License-Identifier: MIT
// Products of the rows of a matrix with packed weights, on the atom that suits their number.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/contract.hpp"
#include "polymac/kernel/contract_tiles.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Rows of a matrix, read in place.
template <class Activation>
struct matrix_source {
  static constexpr bool one_stretch = true;
  static constexpr bool one_strip = true;
  // Not copied: g++ 12 does so by loads that are wider than the stores of whoever made the view, and they wait for
  // those.
  const matrix_view<const Activation>& x;
  constexpr std::size_t rows() const noexcept { return x.rows; }
  template <class Function>
  constexpr POLYMAC_INLINE void strips(std::size_t begin, std::size_t end, const Function& f) const noexcept {
    kernel::strip<Activation> all;
    all.first = x.row(begin);
    all.distance = static_cast<std::ptrdiff_t>(x.stride);
    all.rows = end - begin;
    all.output_row = begin;
    all.depth = x.columns;
    f(all);
  }
};

/// Rows of a matrix as tiles, read in place.
template <class Activation>
struct matrix_tiles {
  matrix_view<const Activation> x;
  constexpr std::size_t rows() const noexcept { return x.rows; }
  constexpr std::size_t row_stride() const noexcept { return x.stride; }
  constexpr std::size_t segments() const noexcept { return 1; }
  constexpr std::size_t segment_stride() const noexcept { return 0; }
  constexpr kernel::tile_view<Activation> view(std::size_t row, std::size_t) const noexcept {
    return {x.row(row), 0, row};
  }
  template <class Function>
  void outputs(const kernel::tile_view<Activation>& view, std::size_t skip, std::size_t count,
               const Function& f) const noexcept {
    f(std::size_t{0}, count, view.position + skip);
  }
};

/// Computes on tiles what they are faster for; returns the first row that is left.
template <class Atom, class Packed, class Activation, class Epilogue, class Output>
std::size_t multiply_on_tiles(const Packed& weights, const matrix_view<const Activation>& x, const Epilogue& stages,
                              const matrix_view<Output>& y, row_range rows) noexcept {
  // A step may read beyond the end of a row, where the depth is no multiple of it: not on the last row.
  const std::size_t readable = weights.depth_of_tiles() <= x.columns ? x.rows : x.rows - 1;
  const std::size_t end = polymac::detail::smaller(rows.end, readable);
  if (rows.begin >= end || readable < 16 || !kernel::prefers_tiles(weights, end - rows.begin, readable))
    return rows.begin;
  kernel::contract_tiles<Atom>(weights, 0, matrix_tiles<Activation>{{x.data, readable, x.columns, x.stride}}, stages, y,
                               rows.begin, end);
  return end;
}

/// y = epilogue(x * weights) for the rows of `rows`. `on_tiles`: may tiles be used?
template <class Atom, class Packed, class Activation, class Epilogue, class Output>
constexpr void multiply_rows(const Packed& weights, const matrix_view<const Activation>& x, const Epilogue& stages,
                             const matrix_view<Output>& y, row_range rows, bool on_tiles) noexcept {
  if constexpr (kernel::has_tiles<Atom>) {
    if (!std::is_constant_evaluated() && on_tiles) {
      rows.begin = multiply_on_tiles<Atom>(weights, x, stages, y, rows);
      if (rows.begin >= x.rows) return;
    }
  }
  kernel::contract<Atom>(weights, 0, matrix_source<Activation>{x}, stages, y, {}, rows);
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
