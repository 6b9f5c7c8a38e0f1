// SPDX-License-Identifier: MIT
// 64-bit sums as 32-bit sums.
#pragma once

#include "polymac/core/fixed_point.hpp"
#include "polymac/epilogue/epilogue.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace epilogue {

/// Saturates a sum to 32 bits. `narrow | requantize(...)` gives int16 activations the rounding of 32-bit sums, as the
/// convolutions of TFLite and CMSIS-NN do for a 32-bit bias; without it 64-bit sums are scaled by the reduced 16-bit
/// multiplier, as they do for a 64-bit bias.
struct narrow_stage : stage {
  constexpr status check(std::size_t) const noexcept { return {}; }
  template <std::signed_integral V>
  constexpr std::int32_t operator()(V value, std::size_t, std::size_t) const noexcept {
    return fixed_point::saturate_cast<std::int32_t>(value);
  }
};

inline constexpr narrow_stage narrow{};

}  // namespace epilogue

using epilogue::narrow;

POLYMAC_END
