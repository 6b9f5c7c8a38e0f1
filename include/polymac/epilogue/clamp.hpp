// SPDX-License-Identifier: MIT
// Clamp: the fused activation of quantised layers (ReLU is clamp(zero_point, 127)).
#pragma once

#include "polymac/core/fixed_point.hpp"
#include "polymac/epilogue/epilogue.hpp"

#include <concepts>
#include <cstddef>

POLYMAC_BEGIN
namespace epilogue {

/// min(max(value, low), high), in the type of the value. Needs low <= high, neither of them NaN. For integers a bound
/// outside of the value's type counts as the nearest value of that type. NaN passes through.
template <class T>
struct clamp : stage {
  T low;
  T high;

  constexpr clamp(T low_, T high_) noexcept : low(low_), high(high_) {}

  constexpr status check(std::size_t) const noexcept {
    if (low <= high) return {};
    if constexpr (std::integral<T>)
      return status::make(errc::parameter, "clamp: expected low <= high, got low ", low, " and high ", high);
    else
      return status::make(errc::parameter, "clamp: expected low <= high and no NaN");
  }
  template <class V>
  constexpr V operator()(V value, std::size_t, std::size_t) const noexcept {
    const V least = bound<V>(low);
    const V most = bound<V>(high);
    const V raised = value < least ? least : value;
    return raised > most ? most : raised;
  }
  constexpr clamp view() const noexcept { return *this; }
  template <class Block>
  requires requires(Block block, typename Block::value v) { block.clamp(v, v); }
  POLYMAC_INLINE Block lanes(Block block, place) const noexcept {
    block.clamp(bound<typename Block::value>(low), bound<typename Block::value>(high));
    return block;
  }

 private:
  template <class V>
  static constexpr V bound(T b) noexcept {
    if constexpr (std::signed_integral<T> && std::integral<V> && sizeof(V) < sizeof(T)) {
      // Without branches: what is done for every block of sums is done once then.
      constexpr T least = std::numeric_limits<V>::min(), most = std::numeric_limits<V>::max();
      const T raised = b < least ? least : b;
      return static_cast<V>(raised > most ? most : raised);
    } else if constexpr (std::integral<V> && std::integral<T>)
      return fixed_point::saturate_cast<V>(b);
    else
      return static_cast<V>(b);
  }
};

}  // namespace epilogue

using epilogue::clamp;

POLYMAC_END
