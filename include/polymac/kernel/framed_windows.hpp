// SPDX-License-Identifier: MIT
// Windows of a convolution, copied one by one from an image that has its padding around it.
#pragma once

#include "polymac/core/window.hpp"
#include "polymac/kernel/convolution_windows.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {

/// Copies windows as the packed weights want them: `line_depth` elements for each line of the kernel, in it
/// `filled_channels` for each pixel, of which `channels` come from the frame. What fills up is not written.
struct framed_windows {
  window taps;
  std::size_t pixel = 0, line = 0;  ///< of the frame, in elements
  std::size_t channels = 0, filled_channels = 0;
  std::size_t line_depth = 0;
  bool one_piece = false;  ///< are the taps of a line one stretch, there and here?

  constexpr framed_windows() noexcept = default;
  constexpr framed_windows(const window& w, std::size_t frame_width, std::size_t frame_channels,
                           std::size_t group_channels, std::size_t filled, std::size_t depth_of_line) noexcept
      : taps(w),
        pixel(frame_channels),
        line(frame_width * frame_channels),
        channels(group_channels),
        filled_channels(filled),
        line_depth(depth_of_line),
        one_piece((group_channels == frame_channels && filled == group_channels && w.dilation.width == 1) ||
                  w.kernel.width == 1) {}

  template <class Activation>
  POLYMAC_INLINE void copy(const Activation* from, Activation* to) const noexcept {
    const std::size_t down = taps.dilation.height * line, right = taps.dilation.width * pixel;
    for (std::size_t ky = 0; ky < taps.kernel.height; ++ky, from += down, to += line_depth) {
      if (one_piece)
        detail::copy_elements(to, from, taps.kernel.width * channels);
      else
        for (std::size_t kx = 0; kx < taps.kernel.width; ++kx)
          detail::copy_elements(to + kx * filled_channels, from + kx * right, channels);
    }
  }
};

}  // namespace kernel
POLYMAC_END
