// SPDX-License-Identifier: MIT
// Weights cut into blocks of columns x k. A block ends where a run of k does, a tap of a kernel: none reaches into the next.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace policy {
namespace detail {

/// Columns and k of a block: [column, column_end) x [k, k_end).
struct block_range {
  std::size_t column, column_end, k, k_end;
};

/// Calls f(block) for blocks of `together` columns x `size` k, k after k, then column after column; stops where it returns
/// false.
template <class Function>
constexpr void for_each_block(std::size_t columns, std::size_t together, std::size_t depth, std::size_t run,
                              std::size_t size, const Function& f) {
  using polymac::detail::smaller;
  for (std::size_t c = 0; c < columns; c += together)
    for (std::size_t k = 0; k < depth;) {
      const block_range block{c, smaller(c + together, columns), k,
                              smaller(smaller(k + size, (k / run + 1) * run), depth)};
      if (!f(block)) return;
      k = block.k_end;
    }
}

/// Calls f(columns, depth, run, at) for columns x depth weights, of which at(column, k) is one.
template <class W, class Function>
constexpr void for_each_product(const matrix_view<W>& weights, const Function& f) {
  if (weights.columns > 0)
    f(weights.rows, weights.columns, weights.columns,
      [&](std::size_t c, std::size_t k) -> W& { return weights(c, k); });
}
/// The same for each group of a convolution: output channels x height x width x input channels, in `groups` groups.
template <class W, class Function>
constexpr void for_each_product(const image_view<W>& weights, std::size_t groups, const Function& f) {
  const std::size_t run = weights.channels, line = weights.width * run,
                    columns = groups > 0 ? weights.batch / groups : 0;
  for (std::size_t g = 0; g < groups && run > 0; ++g)
    f(columns, weights.height * line, run,
      [&](std::size_t c, std::size_t k) -> W& { return weights(g * columns + c, k / line, k % line / run, k % run); });
}

}  // namespace detail
}  // namespace policy
POLYMAC_END
