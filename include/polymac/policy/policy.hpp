// SPDX-License-Identifier: MIT
// What a policy is: what of a contraction is left out, as a type.
#pragma once

#include "polymac/core/config.hpp"
#include "polymac/core/error.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace policy {

/// What every policy derives from.
struct policy {};

/// A policy of weights. It has a `name`, and check(who, columns, depth, run, weight_of): may these weights be used with
/// it? `run`: k that belong together, those of a tap of a kernel; weight_of(column, k).
/// `channel_group`: k of a tap are filled up to multiples of it.
template <class P>
concept Policy = std::derived_from<P, policy> && requires {
  { P::name } -> std::convertible_to<const char*>;
  { P::channel_group } -> std::convertible_to<std::size_t>;
};

/// What every policy of activations derives from. It has a `name`; a layer with one holds what it remembers between calls
/// in a state of its own, which the caller keeps (policy/README.md).
struct activation_policy {};
template <class P>
concept ActivationPolicy = std::derived_from<P, activation_policy> && requires {
  { P::name } -> std::convertible_to<const char*>;
};

/// Nothing is left out.
struct dense : policy {
  static constexpr const char* name = "dense";
  static constexpr std::size_t channel_group = 1;
  template <class WeightOf>
  static constexpr status check(const char*, std::size_t, std::size_t, std::size_t, const WeightOf&) noexcept {
    return {};
  }
};

/// The sparse kernel of P, even where a dense one is predicted to be faster: for tests and measurements. Of a policy of
/// activations: lists, whatever they cost.
template <class P>
requires(Policy<P> || ActivationPolicy<P>) struct always : P {
  static constexpr bool is_always = true;
};

namespace detail {

/// Sums of magnitudes: integers exactly.
template <class W>
constexpr auto magnitude_of(W w) noexcept {
  if constexpr (std::is_integral_v<W>) {
    const auto wide = static_cast<std::int64_t>(w);
    return wide < 0 ? -wide : wide;
  } else {
    const auto wide = static_cast<double>(w);
    return wide < 0 ? -wide : wide;
  }
}

template <class P>
struct stripped {
  using type = P;
  static constexpr bool always = false;
};
template <class P>
struct stripped<always<P>> {
  using type = P;
  static constexpr bool always = true;
};
}  // namespace detail

}  // namespace policy
POLYMAC_END
