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
  matrix_view<const Activation> x;
  constexpr std::size_t rows() const noexcept { return x.rows; }
  constexpr kernel::row_access access(std::size_t, std::size_t) const noexcept { return {1, x.columns}; }
  constexpr void pointers(std::size_t row, std::size_t count, kernel::row_access,
                          const Activation** table) const noexcept {
    for (std::size_t r = 0; r < count; ++r) table[r] = x.row(row + r);
  }
  constexpr void gather(std::size_t row, std::size_t count, Activation* block, std::size_t stride) const noexcept {
    for (std::size_t r = 0; r < count; ++r)
      for (std::size_t k = 0; k < x.columns; ++k) block[r * stride + k] = x.row(row + r)[k];
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
std::size_t multiply_on_tiles(const Packed& weights, matrix_view<const Activation> x, const Epilogue& stages,
                              matrix_view<Output> y, row_range rows) noexcept {
  // A step may read beyond the end of a row, where the depth is no multiple of it: not on the last row.
  const std::size_t readable = weights.depth_of_tiles() <= x.columns ? x.rows : x.rows - 1;
  const std::size_t end = polymac::detail::smaller(rows.end, readable);
  if (rows.begin >= end || readable < 16 ||
      !kernel::prefers_tiles(end - rows.begin, weights.shape().columns, weights.shape().depth))
    return rows.begin;
  x.rows = readable;
  kernel::contract_tiles<Atom>(weights, 0, matrix_tiles<Activation>{x}, stages, y, rows.begin, end);
  return end;
}

/// y = epilogue(x * weights) for the rows of `rows`. `on_tiles`: may tiles be used?
template <class Atom, class Packed, class Activation, class Epilogue, class Output>
constexpr void multiply_rows(const Packed& weights, matrix_view<const Activation> x, const Epilogue& stages,
                             matrix_view<Output> y, row_range rows, bool on_tiles) noexcept {
  if constexpr (kernel::has_tiles<Atom>) {
    if (!std::is_constant_evaluated() && on_tiles) {
      rows.begin = multiply_on_tiles<Atom>(weights, x, stages, y, rows);
      if (rows.begin >= x.rows) return;
    }
  }
  const Activation* table[Atom::max_rows]{};
  kernel::contract<Atom>(weights, 0, matrix_source<Activation>{x}, stages, y, {table, nullptr}, rows);
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
