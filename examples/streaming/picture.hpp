// SPDX-License-Identifier: MIT
// Pictures of grey levels with a tint.
#pragma once

#include "polymac/core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace example {

/// A pixel has one of 64 grey levels and one of four tints: none, red, yellow, blue.
class picture {
 public:
  void resize(std::size_t height, std::size_t width) {
    height_ = height, width_ = width;
    pixels_.assign(height * width, std::uint8_t{63});
  }
  std::size_t height() const { return height_; }
  std::size_t width() const { return width_; }
  void set(std::size_t row, std::size_t column, std::uint8_t grey, unsigned tint) {
    pixels_[row * width_ + column] = static_cast<std::uint8_t>(grey / 4U + 64 * tint);
  }
  /// As a PNG file with a palette, not compressed.
  polymac::status write(const std::filesystem::path& path) const;

 private:
  std::size_t height_ = 0, width_ = 0;
  std::vector<std::uint8_t> pixels_;
};

}  // namespace example
