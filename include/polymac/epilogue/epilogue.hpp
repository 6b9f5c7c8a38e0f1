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

/// Where the first element of a block of sums stands in the output.
struct place {
  std::size_t row = 0;
  std::size_t column = 0;
};

/// A stage maps the value of one output element to the next value. It is scalar and constexpr; the kernel inlines it
/// into its loop over the columns of a finished tile.
///   operator()(value, row, column) noexcept   value: the raw sum or what the stage before made of it;
///                                             row: output row (pixel) counted over the whole output; column: channel
///   check(columns) noexcept -> status         do the parameters fit a layer with so many columns? Called once, at
///                                             construction of the layer
///
/// A stage may also take a block of sums in registers (isa/lanes.hpp), where the instruction set has them:
///   view() noexcept                           its parameters by value: pointers and numbers, trivial to copy
///   view().lanes(block, place) noexcept       the same for Rows x Panels groups of 16; returns the next stage's block
/// and must give the same values. By value, because a store to the output might change parameters in memory, as far as
/// the compiler knows, and it would read them anew each time. Where one stage of a chain has no view, the scalar form
/// runs, as vector code by the compiler.
template <class S>
concept Stage = std::derived_from<std::remove_cvref_t<S>, stage> && requires(const std::remove_cvref_t<S>& s) {
  { s.check(std::size_t{}) } noexcept -> std::same_as<status>;
};

namespace detail {

template <class S, class V>
concept takes = requires(const S& s, V value) {
  s(value, std::size_t{}, std::size_t{});
};

template <class S, class V>
struct output_type {
  static_assert(
      Stage<S>,
      "polymac: an epilogue is made of stages: derive from epilogue::stage and give it check(columns) noexcept");
  static_assert(takes<S, V>,
                "polymac: this epilogue does not take the sums of the arithmetic: requantize needs integer sums, "
                "relu6 and leaky_relu need floats; put dequantize in between, or choose another arithmetic");
  using type = std::remove_cvref_t<decltype(std::declval<const S&>()(std::declval<V>(), std::size_t{}, std::size_t{}))>;
};

}  // namespace detail

/// Does S take a block of sums in registers?
template <class S, class Block>
concept TakesLanes = requires(const S& s, Block block, place p) {
  { s.view().lanes(block, p) }
  noexcept;
};

/// The output type of stage S for a sum of type V.
template <class S, class V>
using output_of = typename detail::output_type<S, V>::type;

/// Hands on the raw sums.
struct identity : stage {
  constexpr status check(std::size_t) const noexcept { return {}; }
  template <class V>
  constexpr V operator()(V value, std::size_t, std::size_t) const noexcept {
    return value;
  }
  constexpr identity view() const noexcept { return *this; }
  template <class Block>
  constexpr Block lanes(const Block& block, place) const noexcept {
    return block;
  }
};

namespace detail {
template <class First, class Second>
struct chain_view {
  First first;
  Second second;
  template <class Block>
  requires requires(const First& f, const Second& s, Block block, place p) { s.lanes(f.lanes(block, p), p); }
  constexpr POLYMAC_INLINE auto lanes(const Block& block, place p) const noexcept {
    return second.lanes(first.lanes(block, p), p);
  }
};
}  // namespace detail

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
  constexpr auto view() const noexcept requires requires(const First& f, const Second& s) {
    f.view();
    s.view();
  }
  { return detail::chain_view<decltype(first.view()), decltype(second.view())>{first.view(), second.view()}; }
};

/// Joins two stages: `bias | requantize | clamp`.
template <class First, class Second>
requires std::derived_from<std::remove_cvref_t<First>, stage> && std::derived_from<std::remove_cvref_t<Second>, stage>
constexpr auto operator|(First&& first, Second&& second) {
  static_assert(Stage<First> && Stage<Second>,
                "polymac: a stage needs check(columns) const noexcept -> status, which says whether it fits a layer");
  return chain<std::remove_cvref_t<First>, std::remove_cvref_t<Second>>(std::forward<First>(first),
                                                                        std::forward<Second>(second));
}

}  // namespace epilogue
POLYMAC_END
