// SPDX-License-Identifier: MIT
// The lists of a window's pixels.
#pragma once

#include "polymac/kernel/framed_windows.hpp"
#include "polymac/policy/live_group.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

POLYMAC_BEGIN
namespace kernel {

/// Where the pixels of a window are in the frame, and what the window's list adds to the entries of theirs: the list of a
/// window is those of its pixels that have one, put together.
class window_lists {
 public:
  window_lists(const framed_windows& copy, std::size_t frame_width, std::size_t group_depth) noexcept
      : kernel_(copy.taps.kernel), down_(copy.taps.dilation.height * frame_width), right_(copy.taps.dilation.width) {
    const auto narrow = [](std::size_t v) { return static_cast<std::uint32_t>(v); };
    tap_ = {narrow(copy.taps.dilation.width * copy.pixel), narrow(copy.filled_channels / group_depth)};
    line_ = {narrow(copy.taps.dilation.height * copy.line), narrow(copy.line_depth / group_depth)};
    fits_ = kernel_.height * kernel_.width <= most_taps;
    for (std::size_t t = 0; fits_ && t < kernel_.height * kernel_.width; ++t) {
      const std::size_t ky = t / kernel_.width, kx = t % kernel_.width;
      pixel_of_[t] = ky * down_ + kx * right_;
      by_[t] = entry(ky, kx);
    }
  }
  /// Calls f(number of the pixel, what is added to entries of its list) for pixels of a window that are marked.
  template <class Function>
  POLYMAC_INLINE void for_each_live(const std::uint8_t* marks, std::size_t first, const Function& f) const noexcept {
    if (!fits_) {
      for (std::size_t ky = 0; ky < kernel_.height; ++ky)
        for (std::size_t kx = 0; kx < kernel_.width; ++kx)
          if (const std::size_t pixel = first + ky * down_ + kx * right_; marks[pixel]) f(pixel, entry(ky, kx));
      return;
    }
    // All taps as bits: one loop, of which the end is guessed wrong once.
    std::uint32_t live = 0;
    if (right_ == 1) {
      const std::uint32_t columns = (1u << kernel_.width) - 1;
      for (std::size_t ky = kernel_.height; ky-- > 0;)
        live = live << kernel_.width | (eight(marks + first + ky * down_) & columns);
    } else {
      for (std::size_t t = kernel_.height * kernel_.width; t-- > 0;) live = live << 1 | marks[first + pixel_of_[t]];
    }
    for (; live != 0; live &= live - 1) {
      const auto t = static_cast<std::size_t>(std::countr_zero(live));
      f(first + pixel_of_[t], by_[t]);
    }
  }

 private:
  static constexpr std::size_t most_taps = 32;
  /// Eight marks as eight bits.
  static POLYMAC_INLINE std::uint32_t eight(const std::uint8_t* marks) noexcept {
    std::uint64_t bytes;
    std::memcpy(&bytes, marks, 8);
    return static_cast<std::uint32_t>((bytes * 0x0102040810204080u) >> 56);
  }
  policy::live_group entry(std::size_t ky, std::size_t kx) const noexcept {
    const auto y = static_cast<std::uint32_t>(ky), x = static_cast<std::uint32_t>(kx);
    return {y * line_.activation + x * tap_.activation, y * line_.group + x * tap_.group};
  }
  extent2d kernel_;
  std::size_t down_, right_;
  policy::live_group tap_{}, line_{};
  bool fits_ = false;
  std::size_t pixel_of_[most_taps];
  policy::live_group by_[most_taps];
};

}  // namespace kernel
POLYMAC_END
