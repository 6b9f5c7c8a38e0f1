// SPDX-License-Identifier: MIT
// Weights of which something is the same for a block of k: the magnitude (unified.hpp), or the sign (polarised.hpp). Rules
// that hardware and formats live on; on CPUs of today the dense kernel is the fastest there is for such weights.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/policy/policy.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace policy {

/// Nothing to know: such weights have no kernels of their own.
struct dense_atoms {};

namespace detail {

/// Calls f(column, first, last) for blocks of `size` k, which end with every run; stops where it returns false.
template <class Function>
constexpr bool for_each_block(std::size_t columns, std::size_t depth, std::size_t run, std::size_t size,
                              const Function& f) noexcept {
  for (std::size_t c = 0; c < columns; ++c)
    for (std::size_t k = 0; k < depth;) {
      const std::size_t last = polymac::detail::smaller(polymac::detail::smaller(k + size, (k / run + 1) * run), depth);
      if (!f(c, k, last)) return false;
      k = last;
    }
  return true;
}

template <class P>
struct of_blocks : policy {
  using atoms = dense_atoms;
  using weaker = void;
  static constexpr std::size_t channel_group = 1;
  /// Fails with the first block that breaks the rule.
  template <class WeightOf>
  static constexpr status check(const char* who, std::size_t columns, std::size_t depth, std::size_t run,
                                const WeightOf& weight_of) noexcept {
    status s;
    for_each_block(columns, depth, run, P::size, [&](std::size_t c, std::size_t first, std::size_t last) {
      const auto of_column = [&](std::size_t k) { return weight_of(c, k); };
      if (P::holds(first, last, of_column)) return true;
      s = status::make(errc::parameter, who, ": ", P::name, " expects weights of one ", P::rule, " in k ", first,
                       " to ", last - 1, " of column ", c);
      return false;
    });
    return s;
  }
};

}  // namespace detail

namespace detail {
template <class P>
concept OfBlocks = std::is_base_of_v<of_blocks<P>, P>;
}  // namespace detail

/// Brings columns x depth weights to the nearest that P allows, in place. P: unified or polarised. O(columns x depth).
template <detail::OfBlocks P, class W>
constexpr void prune(matrix_view<W> weights) noexcept {
  detail::for_each_block(weights.rows, weights.columns, weights.columns > 0 ? weights.columns : 1, P::size,
                         [&](std::size_t c, std::size_t first, std::size_t last) {
                           P::project(first, last, [&](std::size_t k) -> W& { return weights(c, k); });
                           return true;
                         });
}
/// The same of the weights of a convolution; blocks lie along the input channels of a tap.
template <detail::OfBlocks P, class W>
constexpr void prune(image_view<W> weights) noexcept {
  const std::size_t run = weights.channels, line = weights.width * run;
  if (run == 0) return;
  detail::for_each_block(
      weights.batch, weights.height * line, run, P::size, [&](std::size_t o, std::size_t first, std::size_t last) {
        P::project(first, last, [&](std::size_t k) -> W& { return weights(o, k / line, k % line / run, k % run); });
        return true;
      });
}

}  // namespace policy
POLYMAC_END
