// SPDX-License-Identifier: MIT
// The atom of a layer with a policy: one that knows it, or the dense one where that is predicted to be faster.
#pragma once

#include "polymac/core/text.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/policy/policy.hpp"

#include <type_traits>

POLYMAC_BEGIN
namespace isa {

/// An atom that leaves out what policy P leaves out, written by hand for one instruction set. Beside what every atom has:
///   obeyed      the policy that it is made for: P, or a weaker one
///   speed_up    predicted ratio of the dense kernel's time to its own, where both read their operands from near caches
template <Mac M, Isa I, class P>
struct sparse_atom;

/// The same for any arithmetic, from its golden model. It is never chosen where it is not asked for.
template <Mac M, class P>
struct generic_sparse_atom;

namespace detail {

struct no_atom {};

template <class M, class I, class P>
struct find_sparse : find_sparse<M, typename I::base, P> {};
template <class M, class I, class P>
requires requires { sizeof(sparse_atom<M, I, P>); }
struct find_sparse<M, I, P> {
  using type = sparse_atom<M, I, P>;
};
template <class M, class I, class P>
requires(
    !requires { sizeof(sparse_atom<M, I, P>); } &&
    requires { sizeof(sparse_atom<typename M::computed_as, I, P>); }) struct find_sparse<M, I, P> {
  using type = renamed_atom<M, sparse_atom<typename M::computed_as, I, P>>;
};
template <class M, class P>
struct find_sparse<M, void, P> {
  using type = no_atom;
};

/// Written by hand, and for the set that the dense atom is of: one of a weaker set is not compared with it. Where P has none
/// that of a policy that P's weights obey, too.
template <class M, class I, class P>
struct sparse_by_hand {
  static constexpr auto find() {
    using found = typename find_sparse<M, I, P>::type;
    if constexpr (!std::is_same_v<found, no_atom>)
      if constexpr (std::is_same_v<typename found::isa, typename best_atom<M, I>::isa>)
        return std::type_identity<found>{};
      else
        return std::type_identity<no_atom>{};
    else if constexpr (!std::is_void_v<typename P::weaker>)
      return sparse_by_hand<M, I, typename P::weaker>::find();
    else
      return std::type_identity<no_atom>{};
  }
  using type = typename decltype(find())::type;
};

template <class M, class I, class Given>
struct policy_choice {
  using P = typename policy::detail::stripped<Given>::type;
  static constexpr bool forced = policy::detail::stripped<Given>::always;
  static_assert(
      requires { sizeof(typename P::atoms); },
      "polymac: the atoms of this policy are not known here: include polymac/sparsity.hpp");
  using found = typename sparse_by_hand<M, I, P>::type;
  static constexpr bool by_hand = !std::is_same_v<found, no_atom>;
  static constexpr double speed_up = [] {
    if constexpr (by_hand)
      return found::speed_up;
    else
      return 0.0;
  }();
  static constexpr bool sparse = forced || speed_up > 1.0;
  static constexpr auto atom_of() {
    if constexpr (!sparse) {
      return std::type_identity<best_atom<M, I>>{};
    } else if constexpr (by_hand) {
      return std::type_identity<found>{};
    } else {
      static_assert(
          requires { sizeof(generic_sparse_atom<M, P>); },
          "polymac: this arithmetic has no kernel for this policy: its chains or groups of products do not fit "
          "the groups of weights");
      return std::type_identity<generic_sparse_atom<M, P>>{};
    }
  }
  using type = typename decltype(atom_of())::type;
};
template <class M, class I>
struct policy_choice<M, I, policy::dense> {
  static constexpr bool sparse = false;
  using type = best_atom<M, I>;
};

}  // namespace detail

/// The atom that runs arithmetic M with policy P where instruction set I may be used.
template <Mac M, Isa I, policy::Policy P>
using policy_atom = typename detail::policy_choice<M, I, P>::type;

/// For explain(): the form of the weights, and why. Of lists: of so many groups `live` ones are multiplied.
template <Mac M, Isa I, policy::Policy P>
constexpr text<127> words_on_policy([[maybe_unused]] std::size_t live, [[maybe_unused]] std::size_t all) noexcept {
  using choice = detail::policy_choice<M, I, P>;
  if constexpr (std::is_same_v<P, policy::dense>) {
    return text<127>::join("dense weights ");
  } else {
    using given = typename choice::P;
    if constexpr (!choice::sparse) {
      return text<127>::join(given::name, " weights kept dense, as its kernel is ",
                             choice::by_hand ? "predicted to be no faster, " : "not written for this set, ");
    } else if constexpr (is_listed<typename choice::type>) {
      // A list of everything takes 3 % longer than none.
      const std::size_t percent = all > 0 ? 100 * live / all : 100, gain = live > 0 ? 97 * all / live : 100;
      return text<127>::join(given::name, " weights, ", percent, " % of the products, predicted ", gain / 100, ".",
                             gain / 10 % 10, gain % 10, " x dense, ");
    } else {
      using obeyed = typename choice::type::obeyed;
      constexpr auto percent = static_cast<std::size_t>(100.0 * choice::speed_up + 0.5);
      auto words = text<127>::join(given::name, " weights, ", obeyed::kept, " of ", obeyed::group, " products, ");
      if constexpr (choice::by_hand)
        words.append(
            text<127>::join("predicted ", percent / 100, ".", percent / 10 % 10, percent % 10, " x dense, ").view());
      else
        words.append("generic kernel, ");
      return words;
    }
  }
}

}  // namespace isa
POLYMAC_END
