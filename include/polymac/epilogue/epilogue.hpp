// SPDX-License-Identifier: MIT
// Epilogue: what happens to a finished sum on its way to the output. Small stages, joined with `|`.
#pragma once

#include "polymac/core/error.hpp"

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace epilogue {

/// Base of every stage; makes `operator|` find it.
struct stage {};

/// A stage maps the value of one output element to the next value. It is scalar and constexpr; the kernel inlines it
/// into its loop over the columns of a finished tile.
///   operator()(value, row, column) noexcept   value: the raw sum or what the stage before made of it;
///                                             row: output row (pixel) counted over the whole output; column: channel
///   check(columns) noexcept -> status         do the parameters fit a layer with so many columns? Called once, at
///                                             construction of the layer
template <class S>
concept Stage = std::derived_from<std::remove_cvref_t<S>, stage> && requires(const std::remove_cvref_t<S>& s) {
  { s.check(std::size_t{}) } noexcept -> std::same_as<status>;
};

/// The output type of stage S for a sum of type V.
template <class S, class V>
using output_of = std::remove_cvref_t<decltype(std::declval<const S&>()(std::declval<V>(), std::size_t{}, std::size_t{}))>;

/// Hands on the raw sums.
struct identity : stage {
  constexpr status check(std::size_t) const noexcept { return {}; }
  template <class V>
  constexpr V operator()(V value, std::size_t, std::size_t) const noexcept {
    return value;
  }
};

/// First, then Second.
template <Stage First, Stage Second>
struct chain : stage {
  First first;
  Second second;

  constexpr chain(First f, Second s) : first(std::move(f)), second(std::move(s)) {}
  constexpr status check(std::size_t columns) const noexcept {
    const status s = first.check(columns);
    return s.ok() ? second.check(columns) : s;
  }
  template <class V>
  constexpr auto operator()(V value, std::size_t row, std::size_t column) const noexcept {
    return second(first(value, row, column), row, column);
  }
};

/// Joins two stages: `bias | requantize | clamp`.
template <class First, class Second>
  requires Stage<First> && Stage<Second>
constexpr auto operator|(First&& first, Second&& second) {
  return chain<std::remove_cvref_t<First>, std::remove_cvref_t<Second>>(std::forward<First>(first),
                                                                        std::forward<Second>(second));
}

}  // namespace epilogue
POLYMAC_END
