// SPDX-License-Identifier: MIT
// Windows of a picture as rows of a matrix.
#pragma once

#include <algorithm>
#include <cstddef>

namespace example {

/// A picture (height x width x channels), and the windows that a layer takes from it. A fully connected layer has a
/// picture of one pixel and one window.
struct windows {
  std::size_t height = 1, width = 1, channels = 1;
  std::size_t kernel_height = 1, kernel_width = 1, stride_height = 1, stride_width = 1;
  std::size_t top = 0, left = 0;  ///< pixels of padding, which are 0
  std::size_t out_height = 1, out_width = 1;

  constexpr std::size_t pixels() const noexcept { return height * width * channels; }
  constexpr std::size_t rows() const noexcept { return out_height * out_width; }
  constexpr std::size_t depth() const noexcept { return kernel_height * kernel_width * channels; }
};

/// Copies every window into a row of `stride` elements. What is padding, and what a row has beyond depth(), must be
/// T{} already.
template <class T>
void gather(const windows& w, const T* picture, T* rows, std::size_t stride) {
  for (std::size_t row = 0; row < w.rows(); ++row) {
    const std::size_t y0 = row / w.out_width * w.stride_height, x0 = row % w.out_width * w.stride_width;
    T* to = rows + row * stride;
    for (std::size_t ky = 0; ky < w.kernel_height; ++ky)
      for (std::size_t kx = 0; kx < w.kernel_width; ++kx, to += w.channels) {
        const std::size_t y = y0 + ky - w.top, x = x0 + kx - w.left;  // above or left of the picture: huge
        if (y < w.height && x < w.width) std::copy_n(picture + (y * w.width + x) * w.channels, w.channels, to);
      }
  }
}

}  // namespace example
