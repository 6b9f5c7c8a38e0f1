// SPDX-License-Identifier: MIT
// The rows of a convolution as strips: windows that all lie on the image, or on a copy of it.
//
//     the windows of a line       x x x          are `stride` pixels apart, and each is one stretch of kernel width x
//       of output pixels          x x x          channels for every line of the kernel (or one for each tap)
//                                 x x x
//
//   in place   there is no padding
//   framed     else the image is copied once into the workspace, with zero points around it (for tiles, its channels
//              filled up to whole groups)
//
// A strip is one line of output pixels; or as many lines as are multiples of four pixels long, of which tiles read
// fours of neighbours (lines of 8: 12, 12, 12, 12, 8, 8 rows of an image of 8 x 8, instead of eight times 8).
//
// Lines of the kernel that lie on padding for a whole line of output are left out. Their products with zero points are
// known when weights are packed (packed_weights::line_starts), so the sums begin with those. On 7 x 7 that is a tenth
// of all products. (Columns of padding are multiplied: to leave them out as well, the first and the last row of a tile
// would need loops of their own.)
//
// Stretches are whole groups of the atom. Where a line of the kernel is not (RGB), the weights are filled up with
// zeros, and the last group reaches into the next pixel. No tile needs a table of pointers. A frame costs a load and a
// store for every 64 bytes of the image: less than a hundredth of the products from 16 channels on. (3 x 3 x 16 -> 16
// on Zen 4: 176 GMAC/s; 71 with tables of pointers.)
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/pixels.hpp"
#include "polymac/kernel/tile_rows.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {

/// Windows without padding over the NHWC images `x`, each of them on the image.
template <class Activation>
struct line_windows {
  static constexpr bool one_stretch = false;
  /// A strip is rows of one line; the whole image, if its lines are one.
  static constexpr bool in_lines = true;
  image_view<const Activation> x;
  extent2d output;
  window taps;
  /// The taps of a line are one stretch of so many elements, more than the window has where the weights are filled up
  /// by zeros; 0: each tap is one.
  std::size_t line_depth;
  bool goes_on;  ///< tiles may go on in the next line, where that is long enough
  /// The lines of x that are no padding. Taps on others are left out, line by line of the kernel.
  std::size_t first_line, last_line;

  constexpr std::size_t rows() const noexcept { return x.batch * output.height * output.width; }

  template <class Function>
  constexpr void strips(std::size_t begin, std::size_t end, const Function& f) const noexcept {
    strip<Activation> s;
    s.distance = static_cast<std::ptrdiff_t>(taps.stride.width * x.pixel_stride);
    s.taps = line_depth > 0 ? 1 : taps.kernel.width;
    s.depth = line_depth > 0 ? line_depth : x.channels;
    s.line_distance = static_cast<std::ptrdiff_t>(taps.dilation.height * x.line_stride);
    s.tap_distance = static_cast<std::ptrdiff_t>(taps.dilation.width * x.pixel_stride);
    const std::size_t line_stride = taps.stride.height * x.line_stride,
                      line = output.width * taps.stride.width * x.pixel_stride;
    const bool skips = first_line > 0 || last_line < x.height, joins = line_stride == line;
    const bool one_image = !skips && (joins || output.height == 1);
    const bool one_line = one_image && (x.batch == 1 || x.image_stride == output.height * line);
    const bool fours = goes_on && output.width % 4 == 0 && !joins;
    if (fours) s.next_line = static_cast<std::ptrdiff_t>(line_stride) - static_cast<std::ptrdiff_t>(line);
    const std::size_t pixels = output.height * output.width;
    while (begin < end) {
      const std::size_t n = begin / pixels, y = begin % pixels / output.width, column = begin % output.width;
      const lines_of_kernel on_image = lines_of(y);
      std::size_t last = one_line ? end : one_image ? (n + 1) * pixels : (n * output.height + y + 1) * output.width;
      last = polymac::detail::smaller(last, end);
      s.width = static_cast<std::size_t>(-1);
      // As many whole lines as are alike; those of which a part is asked for, at both ends, by themselves.
      if (!one_image && column == 0 && (fours || joins))
        for (std::size_t next = y + 1; next < output.height && last + output.width <= end; ++next) {
          if (lines_of(next) != on_image) break;
          last += output.width;
          if (fours) s.width = output.width;
        }
      s.rows = last - begin;
      s.output_row = begin;
      s.lines = on_image.count;
      s.skipped_before = on_image.first * s.taps * s.depth;
      s.first = x.data + n * x.image_stride + y * line_stride + column * taps.stride.width * x.pixel_stride +
                static_cast<std::ptrdiff_t>(on_image.first) * s.line_distance;
      f(s);
      begin = last;
    }
  }

 private:
  struct lines_of_kernel {
    std::size_t first, count;
    friend constexpr bool operator==(const lines_of_kernel&, const lines_of_kernel&) = default;
  };
  /// Those that an output line needs: all, if none lies on the image.
  constexpr lines_of_kernel lines_of(std::size_t y) const noexcept {
    const std::size_t top = y * taps.stride.height;
    lines_of_kernel lines{0, taps.kernel.height};
    if (top >= first_line && top + (taps.kernel.height - 1) * taps.dilation.height < last_line) return lines;
    while (lines.count > 0 && top + lines.first * taps.dilation.height < first_line) {
      ++lines.first;
      --lines.count;
    }
    while (lines.count > 0 && top + (lines.first + lines.count - 1) * taps.dilation.height >= last_line) --lines.count;
    return lines.count > 0 ? lines : lines_of_kernel{0, taps.kernel.height};
  }
};

/// Is there at most about as much padding as image? More is cheaper to leave than to copy, and need not fit memory.
constexpr bool is_worth_a_frame(const window_geometry& g, extent2d image) noexcept {
  const auto fits = [](std::size_t before, std::size_t size, std::size_t after) {
    return before <= size + 16 && after <= size + 16 - before;
  };
  return fits(g.padding.top, image.height, g.padding.bottom) && fits(g.padding.left, image.width, g.padding.right);
}

/// A copy of an image with its padding: what it holds, and how it is made.
struct image_frame {
  extent2d extent{};         ///< pixels with padding
  std::size_t channels = 0;  ///< filled up
  std::size_t surplus = 0;   ///< elements behind the last line, which the last windows read

  constexpr image_frame(const window_geometry& g, extent2d image, std::size_t filled_channels,
                        std::size_t surplus_elements = 0) noexcept
      : extent{image.height + g.padding.top + g.padding.bottom, image.width + g.padding.left + g.padding.right},
        channels(filled_channels),
        surplus(surplus_elements) {}
  constexpr std::size_t line_elements() const noexcept { return extent.width * channels; }
  constexpr std::size_t elements() const noexcept { return extent.height * line_elements() + surplus; }

  /// Copies those lines of image x that the output pixels [begin, end) read; returns the frame as an image.
  template <class Activation>
  constexpr image_view<const Activation> fill(const image_view<const Activation>& x, const window& w,
                                              const window_geometry& g, Activation zero_point, Activation* memory,
                                              std::size_t begin, std::size_t end) const noexcept {
    const auto set = [&](Activation* to, std::size_t pixels) {
      for (std::size_t i = 0; i < pixels * channels; ++i) to[i] = zero_point;
      return to + pixels * channels;
    };
    const std::size_t first = begin / g.output.width * w.stride.height;
    const std::size_t reach = (w.kernel.height - 1) * w.dilation.height + 1;
    const std::size_t last =
        polymac::detail::smaller((end - 1) / g.output.width * w.stride.height + reach, extent.height);
    for (std::size_t i = 0; i < surplus; ++i) memory[last * line_elements() + i] = zero_point;
    for (std::size_t line = first; line < last; ++line) {
      Activation* to = memory + line * line_elements();
      const std::size_t y = line - g.padding.top;  // above the image: larger than any extent
      if (y >= x.height) {
        set(to, extent.width);
        continue;
      }
      to = set(to, g.padding.left);
      isa::copy_pixels(to, channels, x.pixel(0, y, 0), x.pixel_stride, x.channels, x.width);
      set(to + x.width * channels, g.padding.right);
    }
    return image_view<const Activation>(memory, 1, extent.height, extent.width, channels);
  }
};

}  // namespace kernel
POLYMAC_END
