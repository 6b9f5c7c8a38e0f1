// SPDX-License-Identifier: MIT
// The two concepts everything above is written against: an arithmetic (Mac) and an instruction set (Isa).
#pragma once

#include "polymac/core/config.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN

/// An arithmetic: what one multiply-accumulate means. `multiply_add` is the golden model; every atom is tested against
/// it. Law: multiply_add(c, activation{}, w) == c == multiply_add(c, a, weight{}), so that panels can be padded.
template <class M>
concept Mac = requires {
  typename M::activation;
  typename M::weight;
  typename M::accumulator;
  { M::name } -> std::convertible_to<const char*>;
  { M::linear } -> std::convertible_to<bool>;  // f(a + b, w) == f(a, w) + f(b, w)
  { M::exact } -> std::convertible_to<bool>;   // any order of summation gives the same bits
}
&&requires(typename M::accumulator c, typename M::activation a, typename M::weight w) {
  { M::multiply_add(c, a, w) }
  noexcept->std::same_as<typename M::accumulator>;
};

/// An instruction set: a tag with a name and the weaker set it falls back to (`void` ends the chain).
template <class I>
concept Isa = requires {
  typename I::base;
  { I::name } -> std::convertible_to<const char*>;
};

namespace detail {

template <class M>
consteval std::size_t max_depth_of() {
  if constexpr (requires { M::max_depth; })
    return static_cast<std::size_t>(M::max_depth);
  else
    return std::numeric_limits<std::size_t>::max();
}

template <class M>
consteval bool weight_linear_of() {
  if constexpr (requires { M::weight_linear; })
    return M::weight_linear;
  else
    return false;
}

template <class M>
consteval std::size_t group_of() {
  if constexpr (requires { M::group; })
    return static_cast<std::size_t>(M::group);
  else
    return 1;
}

template <class M>
consteval bool one_by_one_of() {
  if constexpr (requires { M::one_by_one; })
    return M::one_by_one;
  else
    return false;
}

template <class M>
struct sum_of {
  using type = typename M::accumulator;
};
template <class M>
requires requires { typename M::sum; }
struct sum_of<M> {
  using type = typename M::sum;
};

template <class M>
struct chain_of {
  static constexpr std::size_t length = 0;
  using type = typename M::accumulator;
};
template <class M>
requires requires { typename M::chain_accumulator; }
struct chain_of<M> {
  static constexpr std::size_t length = M::chain;
  using type = typename M::chain_accumulator;
};

}  // namespace detail

/// What an arithmetic says of itself, with the defaults for what it leaves out.
template <Mac M>
struct mac_traits {
  using activation = typename M::activation;
  using weight = typename M::weight;
  using accumulator = typename M::accumulator;
  /// What the epilogue receives: `M::sum`, else the accumulator.
  using sum = typename detail::sum_of<M>::type;
  /// What long sums are gathered in: 64 bits for integers.
  using wide = std::conditional_t<std::is_integral_v<accumulator>, std::int64_t, accumulator>;
  /// Products that are safe in one accumulator, whatever the operands.
  static constexpr std::size_t max_depth = detail::max_depth_of<M>();
  /// f(a, v + w) == f(a, v) + f(a, w): weights may be split into terms. `M::weight_linear`, else no.
  static constexpr bool weight_linear = detail::weight_linear_of<M>();
  static constexpr bool integer = std::is_integral_v<accumulator>;
  /// Products that are added together, the last of them first: `M::group`, else one. Says what the order of a sum is
  /// where that matters; atoms of inexact arithmetics keep it.
  static constexpr std::size_t group = detail::group_of<M>();
  /// Products that are added in a type of their own, `M::chain_accumulator`, before M::spill adds what they are to the
  /// accumulator: `M::chain`, a multiple of the group; 0: there are no chains.
  static constexpr std::size_t chain = detail::chain_of<M>::length;
  using chain_accumulator = typename detail::chain_of<M>::type;
  /// Makes the generic atom one sum after the other, without products to fill up a tile: `M::one_by_one`, else no. For
  /// arithmetics that look at their products (probe/probed.hpp).
  static constexpr bool one_by_one = detail::one_by_one_of<M>();
};

/// What the epilogue gets of an accumulator that is finished: M::total(accumulator), else the accumulator itself.
template <Mac M>
constexpr POLYMAC_INLINE typename mac_traits<M>::sum total(const typename M::accumulator& c) noexcept {
  if constexpr (requires { M::total(c); })
    return M::total(c);
  else
    return static_cast<typename mac_traits<M>::sum>(c);
}

POLYMAC_END
