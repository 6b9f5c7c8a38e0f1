// SPDX-License-Identifier: MIT
// Weights of which something is the same for a block of k: the magnitude (unified.hpp), or the sign (polarised.hpp). Rules
// that hardware and formats live on; on CPUs of today the dense kernel is the fastest there is for such weights.
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/policy/blocks.hpp"
#include "polymac/policy/policy.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace policy {

/// Nothing to know: such weights have no kernels of their own.
struct dense_atoms {};

namespace detail {

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
    for_each_block(columns, 1, depth, run, P::size, [&](const block_range& b) {
      if (P::holds(b.k, b.k_end, [&](std::size_t k) { return weight_of(b.column, k); })) return true;
      s = status::make(errc::parameter, who, ": ", P::name, " expects weights of one ", P::rule, " in k ", b.k, " to ",
                       b.k_end - 1, " of column ", b.column);
      return false;
    });
    return s;
  }
};

template <class P>
concept OfBlocks = std::is_base_of_v<of_blocks<P>, P>;

/// Brings every block to the nearest that P allows.
template <class P, class At>
constexpr void project_blocks(std::size_t columns, std::size_t depth, std::size_t run, const At& at) noexcept {
  for_each_block(columns, 1, depth, run, P::size, [&](const block_range& b) {
    P::project(
        b.k, b.k_end, [&](std::size_t k) -> auto& { return at(b.column, k); });
    return true;
  });
}

}  // namespace detail

/// Brings columns x depth weights to the nearest that P allows, in place. P: unified or polarised. O(columns x depth).
template <detail::OfBlocks P, class W>
constexpr void prune(matrix_view<W> weights) noexcept {
  detail::for_each_product(weights, [](auto columns, auto depth, auto run, const auto& at) {
    detail::project_blocks<P>(columns, depth, run, at);
  });
}
/// The same of the weights of a convolution; blocks lie along the input channels of a tap.
template <detail::OfBlocks P, class W>
constexpr void prune(image_view<W> weights) noexcept {
  detail::for_each_product(weights, 1, [](auto columns, auto depth, auto run, const auto& at) {
    detail::project_blocks<P>(columns, depth, run, at);
  });
}

}  // namespace policy
POLYMAC_END
