// SPDX-License-Identifier: MIT
// Which groups of k a contraction visits. The loop nest never counts them itself.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace policy {

/// Every group, in order. `visit(first, last, f)` calls f(group) for the groups of [first, last) that take part; the
/// panel of weights holds the visited groups one after another.
struct dense_k {
  template <class Function>
  constexpr POLYMAC_INLINE void visit(std::size_t first, std::size_t last, const Function& f) const noexcept {
    for (std::size_t group = first; group < last; ++group) f(group);
  }
};

}  // namespace policy
POLYMAC_END
