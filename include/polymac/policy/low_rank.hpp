// SPDX-License-Identifier: MIT
// Weights as a product of two thin matrices.
#pragma once

#include "polymac/core/config.hpp"

#include <concepts>
#include <cstddef>

POLYMAC_BEGIN
namespace policy {

/// What structures of weights derive from: weights that are given as several matrices.
struct structure {};

/// W = U V, columns x R times R x depth: two chained contractions of (columns + depth) * R products instead of
/// columns * depth. layer::low_rank runs it; adapt::factorize finds the U and V that are nearest to a W.
template <std::size_t R>
struct low_rank : structure {
  static_assert(R > 0, "polymac: low_rank: expected a rank of at least 1");
  static constexpr const char* name = "low_rank";
  static constexpr std::size_t rank = R;
};

template <class P>
concept LowRank = std::derived_from<P, structure> && requires {
  { P::rank } -> std::convertible_to<std::size_t>;
};

/// Are two contractions at least as many products as one? Then W = U V is better multiplied out.
constexpr bool is_worth_folding(std::size_t columns, std::size_t rank, std::size_t depth) noexcept {
  return (columns + depth) * rank >= columns * depth;
}

}  // namespace policy
POLYMAC_END
