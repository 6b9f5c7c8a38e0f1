// SPDX-License-Identifier: MIT
// Which groups of k a contraction visits. The loop nest never counts them itself.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace policy {

/// Every group, in order. `visit(first, last, f)` calls f(ahead, run) for the groups of [first, last) that take part:
/// `ahead` groups are passed over, then `run` groups, a constant, are taken. The panel of weights holds the visited
/// groups one after another.
struct dense_k {
  /// Nothing is left out: the loop nest may take some groups in one piece.
  static constexpr bool takes_all = true;
  template <class Function>
  constexpr POLYMAC_INLINE void visit(std::size_t first, std::size_t last, const Function& f) const noexcept {
    constexpr std::integral_constant<std::size_t, 0> none;
    // Four at a time: pointers to the rows are moved once for all of them.
    for (; first + 4 <= last; first += 4) f(none, std::integral_constant<std::size_t, 4>{});
    for (; first < last; ++first) f(none, std::integral_constant<std::size_t, 1>{});
  }
};

}  // namespace policy
POLYMAC_END
