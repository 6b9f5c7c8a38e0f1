// SPDX-License-Identifier: MIT
// Piecewise linear activations of real values (or of raw sums, whose zero is 0). A quantised value has another zero:
// there the activation is `clamp(zero_point, ...)`.
#pragma once

#include "polymac/epilogue/epilogue.hpp"

#include <concepts>
#include <cstddef>

POLYMAC_BEGIN
namespace epilogue {

/// max(value, 0). NaN passes through.
struct relu_stage : stage {
  constexpr status check(std::size_t) const noexcept { return {}; }
  template <class V>
  constexpr V operator()(V value, std::size_t, std::size_t) const noexcept {
    return value < V{0} ? V{0} : value;
  }
  constexpr relu_stage view() const noexcept { return *this; }
  template <class Block>
  requires requires(Block block) { block.clamp_below(typename Block::value{}); }
  POLYMAC_INLINE Block lanes(Block block, place) const noexcept {
    block.clamp_below(typename Block::value{});
    return block;
  }
};

/// min(max(value, 0), 6) of a float.
struct relu6_stage : stage {
  constexpr status check(std::size_t) const noexcept { return {}; }
  template <std::floating_point V>
  constexpr V operator()(V value, std::size_t, std::size_t) const noexcept {
    return value < V{0} ? V{0} : value > V{6} ? V{6} : value;
  }
  constexpr relu6_stage view() const noexcept { return *this; }
  template <class Block>
  requires std::floating_point<typename Block::value> POLYMAC_INLINE Block lanes(Block block, place)
  const noexcept {
    block.clamp(0.0f, 6.0f);
    return block;
  }
};

/// value >= 0 ? value : slope * value of a float; the slope is any finite number.
struct leaky_relu_stage : stage {
  float slope;
  constexpr explicit leaky_relu_stage(float slope_) noexcept : slope(slope_) {}
  constexpr status check(std::size_t) const noexcept {
    return slope - slope == 0.0f ? status{} : status::make(errc::parameter, "leaky_relu: expected a finite slope");
  }
  template <std::floating_point V>
  constexpr V operator()(V value, std::size_t, std::size_t) const noexcept {
    return value < V{0} ? value * static_cast<V>(slope) : value;
  }
};

inline constexpr relu_stage relu{};
inline constexpr relu6_stage relu6{};
constexpr leaky_relu_stage leaky_relu(float slope) noexcept { return leaky_relu_stage(slope); }

}  // namespace epilogue

using epilogue::leaky_relu;
using epilogue::relu;
using epilogue::relu6;

POLYMAC_END
