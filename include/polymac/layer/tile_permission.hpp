// SPDX-License-Identifier: MIT
// May a layer run its products on tiles?
#pragma once

#include "polymac/cpu/permission.hpp"
#include "polymac/kernel/contract_tiles.hpp"
#include "polymac/kernel/pack.hpp"

#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// True where the atom has tiles, the sums of these packed weights fit them (32 bits, one term), and the process is
/// permitted to use them, which is asked for here the first time. Floats must not read beyond the depth, where there
/// may be infinities: `in_place` says that rows are read where the caller has them, with nothing behind them.
template <class Atom, class Packed>
constexpr bool may_use_tiles(const Packed& weights, bool in_place) noexcept {
  if constexpr (kernel::has_tiles<Atom>) {
    if (std::is_constant_evaluated()) return false;
    if (!mac_traits<typename Packed::mac>::integer &&
        (!kernel::fills_steps(weights) || (in_place && weights.depth_of_tiles() > weights.shape().depth)))
      return false;
    return !weights.wide_sums() && weights.shape().terms == 1 && cpu::permits_tiles();
  } else {
    return false;
  }
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
