// SPDX-License-Identifier: MIT
// Views of signed 4-bit values, as TFLite and CMSIS-NN store int4 weights.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>
#include <cstdint>

namespace polymac {

/// Value `index` of a row of signed nibbles, two per byte, the low nibble first. Range [-8, 7].
constexpr std::int8_t int4_at(const std::uint8_t* data, std::size_t index) noexcept {
  const unsigned nibble = (data[index / 2] >> (index % 2 * 4)) & 15u;
  return static_cast<std::int8_t>(static_cast<int>(nibble ^ 8u) - 8);
}

/// Rows x columns int4 values without gaps: an odd row ends within a byte. Needs (rows * columns + 1) / 2 bytes.
struct int4_matrix_view {
  const std::uint8_t* data = nullptr;
  std::size_t rows = 0;
  std::size_t columns = 0;
  constexpr std::int8_t operator()(std::size_t r, std::size_t c) const noexcept {
    return int4_at(data, r * columns + c);
  }
};

/// Batch x height x width x channels int4 values without gaps.
struct int4_image_view {
  const std::uint8_t* data = nullptr;
  std::size_t batch = 0;
  std::size_t height = 0;
  std::size_t width = 0;
  std::size_t channels = 0;
  constexpr std::int8_t operator()(std::size_t n, std::size_t y, std::size_t x, std::size_t c) const noexcept {
    return int4_at(data, ((n * height + y) * width + x) * channels + c);
  }
};

}  // namespace polymac
