// SPDX-License-Identifier: MIT
// Integer products of 16-bit activations and 8-bit weights, 64-bit sums.
#pragma once

#include "polymac/core/concepts.hpp"

#include <cstdint>
#include <limits>

POLYMAC_BEGIN
namespace mac {

/// s16 x s8 -> s64, exact: TFLite's 16x8 scheme. Activations in [-32768, 32767] (zero point 0 there), weights in
/// [-128, 127]. Registers hold 32-bit partial sums of at most `max_depth` products; the kernel adds those up in 64
/// bits, which is also what the epilogue receives.
struct int16x8 {
  using activation = std::int16_t;
  using weight = std::int8_t;
  using accumulator = std::int32_t;
  using sum = std::int64_t;
  static constexpr const char* name = "int16x8";
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  static constexpr bool exact = true;
  static constexpr int headroom_bits = 0;
  /// 511 products of -32768 x -128.
  static constexpr std::size_t max_depth = std::numeric_limits<accumulator>::max() / (32768 * 128);
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept { return c + a * w; }
};

static_assert(Mac<int16x8>);

}  // namespace mac
POLYMAC_END
