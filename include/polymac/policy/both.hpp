// SPDX-License-Identifier: MIT
// Two policies in one type.
#pragma once

#include "polymac/core/text.hpp"
#include "polymac/policy/policy.hpp"

#include <type_traits>

POLYMAC_BEGIN
namespace policy {

namespace detail {

template <class P>
concept Weights = Policy<P>;
template <class P>
concept Delta = requires {
  P::threshold;
  P::updates;
};
template <class P>
concept ZeroSkip = requires {
  requires P::skips_zeros;
};
template <class P>
concept PixelsDrawn = requires {
  P::form;
  typename P::generator;
};

struct nothing {};

/// What a policy says of weights, of changes and of zeros; `nothing` where it says nothing of them.
template <class P>
struct parts_of {
  using weights = std::conditional_t<Weights<P>, P, nothing>;
  using delta = std::conditional_t<Delta<P>, P, nothing>;
  using zero_skip = std::conditional_t<ZeroSkip<P>, P, nothing>;
  using pixels = std::conditional_t<PixelsDrawn<P>, P, nothing>;
};
template <class A, class B>
struct one_of {
  static_assert(std::is_same_v<A, nothing> || std::is_same_v<B, nothing>,
                "polymac: policy::both<A, B> expects policies that leave out different things: one of weights, one of "
                "changes, one of zeros or one of pixels");
  using type = std::conditional_t<std::is_same_v<A, nothing>, B, A>;
};

}  // namespace detail

/// A policy of weights and one of activations, or two of those: both<n_of_m<2, 4>, delta<4>>, both<zero_skip, delta<0>>,
/// both<n_of_m<2, 4>, pixel_pruning<...>>, and again both of that and another one. Everything of the one is left out
/// that the other leaves. Refused at compile time: two of a kind; pixels that are drawn anew for every call beside delta,
/// which would find all of them changed, and beside zero_skip, whose time shows the data.
template <class A, class B>
requires((Policy<A> || ActivationPolicy<A>)&&(Policy<B> || ActivationPolicy<B>)) struct both : activation_policy {
  static constexpr bool is_both = true;

 private:
  using a = detail::parts_of<A>;
  using b = detail::parts_of<B>;
  static constexpr auto text_ = text<127>::join("both<", A::name, ", ", B::name, ">");

 public:
  using weights = typename detail::one_of<typename a::weights, typename b::weights>::type;
  using delta = typename detail::one_of<typename a::delta, typename b::delta>::type;
  using zero_skip = typename detail::one_of<typename a::zero_skip, typename b::zero_skip>::type;
  using pixels = typename detail::one_of<typename a::pixels, typename b::pixels>::type;
  static_assert(std::is_same_v<pixels, detail::nothing> || std::is_same_v<delta, detail::nothing>,
                "polymac: pixel_pruning draws other pixels for every call, so delta would find all of them changed");
  static_assert(std::is_same_v<pixels, detail::nothing> || std::is_same_v<zero_skip, detail::nothing>,
                "polymac: the time that zero_skip takes shows the data that pixel_pruning hides");
  static constexpr const char* name = text_.c_str();
};

namespace detail {
template <class P>
requires requires { requires P::is_both; }
struct parts_of<P> : P {};

/// The policy of weights in P: that of the layer that P's layer is built around.
template <class P>
using weights_of =
    std::conditional_t<std::is_same_v<typename parts_of<P>::weights, nothing>, dense, typename parts_of<P>::weights>;
}  // namespace detail

}  // namespace policy
POLYMAC_END
