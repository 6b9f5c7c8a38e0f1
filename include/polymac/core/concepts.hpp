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
struct sum_of {
  using type = typename M::accumulator;
};
template <class M>
requires requires { typename M::sum; }
struct sum_of<M> {
  using type = typename M::sum;
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
};

POLYMAC_END
