// SPDX-License-Identifier: MIT
// An arithmetic that is watched: after each of its multiply-accumulates a probe is called.
//
//     using watched = probe::probed<mac::int8, probe::count>;
//     auto fc = linear<watched>(weights, bias, stages);        the layer, the sums, the output of mac::int8
//     probe::count work;
//     {
//       probe::scope<probe::count> here(work);                 products of this thread are counted from here on ...
//       fc(x, y);
//     }                                                        ... to here
//
// What is called, and when:
//   - Every layer and policy runs with it, on the generic atom alone, one sum after the other (mac_traits::one_by_one):
//     for each row, for each column, for each k that is executed. Not fast; it shows what is multiplied, not how fast.
//     depthwise_conv2d goes through the taps of a pixel for up to 64 channels at a time.
//   - What a policy leaves out is not multiplied, and not seen. N:M weights on policy::always<> are N products of every
//     M, those that fill up a group (weight 0) included; a list leaves out each k of a column whose weight is 0, which
//     is finer than the blocks of vector kernels.
//   - The padding of a convolution of integers is a product with the zero point, and seen; lines of a kernel that lie on
//     padding for a whole line of output are left out, and so is all padding of floats. Channels that are filled up to
//     groups (policies, arithmetics whose products are added in groups) are products with weight 0, and seen. A weight of
//     several terms is several products.
//   - Sums hold what the layer folds into their start: bias and zero points.
//   - A layer that is constructed within a scope calls the probe, too: zero points are folded by multiply_add.
//   - Constant evaluation calls nothing.
//
// Nothing in polymac includes this file: a layer without a probe is the same type with the same code as if there were none.
#pragma once

#include "polymac/core/concepts.hpp"
#include "polymac/core/text.hpp"

#include <cstddef>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace probe {

/// A probe of arithmetic M: called with the sum before, the sum after, the activation and the weight. It must not throw,
/// and should not allocate: layers promise not to.
template <class P, class M>
concept ProbeFor = Mac<M> &&
    requires(P& probe, typename M::accumulator c, typename M::activation a, typename M::weight w) {
  { probe(c, c, a, w) }
  noexcept;
};

/// Makes a probe the one that products of this thread are shown to, until the end of the scope; then the one before it
/// is again. Without a scope nothing is recorded. Each thread of a parallel layer needs its own.
template <class P>
class scope {
 public:
  explicit scope(P& probe) noexcept : outer_(std::exchange(active_, &probe)) {}
  scope(const scope&) = delete;
  scope& operator=(const scope&) = delete;
  ~scope() { active_ = outer_; }
  /// Null: there is none.
  static P* active() noexcept { return active_; }

 private:
  static inline constinit thread_local P* active_ = nullptr;
  P* outer_;
};

/// Arithmetic M, each product of which is shown to the P of the innermost scope<P>. The same sums, by the golden model;
/// all that a layer asks of M is M's, but for its atoms.
template <Mac M, class P>
struct probed {
  static_assert(ProbeFor<P, M>, "polymac: a probe is called with (sum, sum, activation, weight), and must be noexcept");
  /// What is watched.
  using watched = M;
  using traits = mac_traits<M>;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using accumulator = typename M::accumulator;
  using sum = typename traits::sum;
  using chain_accumulator = typename traits::chain_accumulator;

 private:
  static constexpr auto name_ = text<95>::join("probed ", M::name);

 public:
  static constexpr const char* name = name_.c_str();
  static constexpr bool linear = M::linear;
  static constexpr bool weight_linear = traits::weight_linear;
  static constexpr bool exact = M::exact;
  static constexpr bool one_by_one = true;
  static constexpr std::size_t max_depth = traits::max_depth;
  static constexpr std::size_t group = traits::group;
  static constexpr std::size_t chain = traits::chain;

  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept { return shown(c, a, w); }
  /// Of a chain.
  static constexpr chain_accumulator multiply_add(chain_accumulator c, activation a, weight w) noexcept
      requires(!std::is_same_v<chain_accumulator, accumulator>) {
    return shown(c, a, w);
  }
  static constexpr accumulator spill(accumulator c, chain_accumulator s) noexcept requires(chain > 0) {
    return M::spill(c, s);
  }
  // There where M has them: layers ask.
  static constexpr sum total(const accumulator& c) noexcept requires requires { M::total(c); }
  { return M::total(c); }
  static constexpr bool check_weight(const weight& w) noexcept requires requires { M::check_weight(w); }
  { return M::check_weight(w); }

 private:
  template <class Sum>
  static constexpr Sum shown(Sum c, const activation& a, const weight& w) noexcept {
    const Sum sum = M::multiply_add(c, a, w);
    if (!std::is_constant_evaluated())
      if (P* const probe = scope<P>::active(); probe != nullptr) {
        static_assert(noexcept((*probe)(c, sum, a, w)), "polymac: a probe must not throw, also not for sums of chains");
        (*probe)(c, sum, a, w);
      }
    return sum;
  }
};

}  // namespace probe
POLYMAC_END
