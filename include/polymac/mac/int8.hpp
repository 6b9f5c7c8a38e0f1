// SPDX-License-Identifier: MIT
// Integer products with int8 weights: int8 or uint8 activations, 32-bit sums.
#pragma once

#include "polymac/core/concepts.hpp"

#include <cstdint>
#include <limits>

POLYMAC_BEGIN
namespace mac {

/// s8 x s8 -> s32, exact: the arithmetic of affine int8 networks (TFLite's quantisation specification).
/// Activations and weights in [-128, 127]. A sum of `max_depth` products fits 32 bits whatever the operands; the kernel
/// splits longer ones. Zero points are not part of the product: the layer folds them into the bias, as the product is
/// linear.
struct int8 {
  using activation = std::int8_t;
  using weight = std::int8_t;
  using accumulator = std::int32_t;
  static constexpr const char* name = "int8";
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  static constexpr bool exact = true;
  static constexpr int headroom_bits = 0;
  /// 131,071: one more product of -128 x -128 makes 2^31.
  static constexpr std::size_t max_depth = std::numeric_limits<accumulator>::max() / (128 * 128);
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept { return c + a * w; }
};

/// u8 x s8 -> s32, exact. Activations in [0, 255], weights in [-128, 127].
struct uint8 {
  using activation = std::uint8_t;
  using weight = std::int8_t;
  using accumulator = std::int32_t;
  static constexpr const char* name = "uint8";
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  static constexpr bool exact = true;
  static constexpr int headroom_bits = 0;
  /// 65,793 products of 255 x -128.
  static constexpr std::size_t max_depth = std::numeric_limits<accumulator>::max() / (255 * 128);
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept { return c + a * w; }
};

static_assert(Mac<int8> && Mac<uint8>);

}  // namespace mac
POLYMAC_END
