// SPDX-License-Identifier: MIT
// The rows of a convolution as the loop nest reads them: nothing is unfolded, pointers go into the image.
//
//   One row is one output pixel; its depth is kernel height x kernel width x channels, in that order (OHWI weights).
//   Three ways to read the rows of a tile, the first that fits:
//     lines   every window lies inside the image and its pixels are contiguous: one stretch per kernel row
//     taps    channels are a multiple of the atom's depth (or there is one tap): one stretch per tap; taps that fall on
//             the padding point to a row of zero points
//     copies  the tile's rows are copied, padding filled in, into one block of the workspace. Where a line of the kernel is
//             no multiple of the atom's depth, each pixel is filled up to one, and so are the weights, by zeros
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/kernel/contract.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {

/// Windows over an NHWC image, for an atom that takes `AtomDepth` k at a time. `x` is limited to the channels of one
/// group; padding_row holds x.channels zero points.
template <class Activation, std::size_t AtomDepth>
struct convolution_source {
  image_view<const Activation> x;
  extent2d output;
  extent2d kernel;
  extent2d stride;
  extent2d dilation;
  std::size_t top = 0;
  std::size_t left = 0;
  const Activation* padding_row = nullptr;
  std::size_t weight_channels = 0;  ///< those of x, filled up where whole windows could not be read in groups

  constexpr std::size_t rows() const noexcept { return x.batch * output.height * output.width; }

  constexpr row_access access(std::size_t row, std::size_t count) const noexcept {
    const std::size_t line = kernel.width * x.channels;
    const bool contiguous = (kernel.width == 1 || (dilation.width == 1 && x.pixel_stride == x.channels)) &&
                            (line % AtomDepth == 0 || kernel.height == 1);
    if (weight_channels != x.channels) return {};
    if (contiguous && inside(row, count)) return {kernel.height, line};
    if (x.channels % AtomDepth == 0 || kernel.height * kernel.width == 1)
      return {kernel.height * kernel.width, x.channels};
    return {};
  }

  constexpr void pointers(std::size_t row, std::size_t count, row_access access,
                          const Activation** table) const noexcept {
    const bool lines = access.segments == kernel.height && access.segment_depth == kernel.width * x.channels;
    position p = at(row);
    for (std::size_t r = 0; r < count; ++r, advance(p)) {
      const std::size_t y0 = p.y * stride.height, x0 = p.x * stride.width;  // on the padded image
      if (lines && inside(p)) {
        const Activation* first = x.pixel(p.n, y0 - top, x0 - left);
        for (std::size_t ky = 0; ky < kernel.height; ++ky)
          table[ky * count + r] = first + ky * dilation.height * x.line_stride;
        continue;
      }
      for (std::size_t ky = 0; ky < kernel.height; ++ky) {
        // Unsigned: a pixel above or left of the image becomes larger than any extent.
        const std::size_t iy = y0 + ky * dilation.height - top;
        for (std::size_t kx = 0; kx < kernel.width; ++kx) {
          const std::size_t ix = x0 + kx * dilation.width - left;
          table[(ky * kernel.width + kx) * count + r] =
              iy < x.height && ix < x.width ? x.pixel(p.n, iy, ix) : padding_row;
        }
      }
    }
  }

  constexpr void gather(std::size_t row, std::size_t count, Activation* block,
                        std::size_t block_stride) const noexcept {
    const std::size_t channels = weight_channels;
    position p = at(row);
    for (std::size_t r = 0; r < count; ++r, advance(p)) {
      Activation* to = block + r * block_stride;
      const std::size_t y0 = p.y * stride.height, x0 = p.x * stride.width;
      for (std::size_t ky = 0; ky < kernel.height; ++ky) {
        const std::size_t iy = y0 + ky * dilation.height - top;
        for (std::size_t kx = 0; kx < kernel.width; ++kx, to += channels) {
          const std::size_t ix = x0 + kx * dilation.width - left;
          const bool on_image = iy < x.height && ix < x.width;
          const Activation* const from = on_image ? x.pixel(p.n, iy, ix) : padding_row;
          for (std::size_t c = 0; c < x.channels; ++c) to[c] = from[c];
          for (std::size_t c = x.channels; c < channels; ++c) to[c] = Activation{};
        }
      }
    }
  }

 private:
  struct position {
    std::size_t n, y, x;
  };
  constexpr position at(std::size_t row) const noexcept {
    const std::size_t line = row / output.width;
    return {line / output.height, line % output.height, row % output.width};
  }
  constexpr void advance(position& p) const noexcept {
    if (++p.x < output.width) return;
    p.x = 0;
    if (++p.y < output.height) return;
    p.y = 0;
    ++p.n;
  }
  /// Does the whole window of an output pixel lie on the image?
  constexpr bool inside(const position& p) const noexcept {
    const std::size_t y0 = p.y * stride.height, x0 = p.x * stride.width;
    return y0 >= top && x0 >= left && y0 - top + (kernel.height - 1) * dilation.height < x.height &&
           x0 - left + (kernel.width - 1) * dilation.width < x.width;
  }
  constexpr bool inside(std::size_t row, std::size_t count) const noexcept {
    position p = at(row);
    for (std::size_t r = 0; r < count; ++r, advance(p))
      if (!inside(p)) return false;
    return true;
  }
};

/// Output pixels of an NHWC image as the rows of a contraction.
template <class T>
struct image_rows {
  image_view<T> y;
  bool regular;  ///< all pixels are equally far apart

  constexpr explicit image_rows(const image_view<T>& view) noexcept
      : y(view),
        regular(view.line_stride == view.width * view.pixel_stride &&
                view.image_stride == view.height * view.line_stride) {}
  constexpr T* row(std::size_t r) const noexcept {
    if (regular) return y.data + r * y.pixel_stride;
    const std::size_t line = r / y.width;
    return y.pixel(line / y.height, line % y.height, r % y.width);
  }
  /// Pixels from row r on that are row_stride() apart: up to the end of its line, or all.
  constexpr std::size_t regular_rows(std::size_t r) const noexcept {
    return regular ? static_cast<std::size_t>(-1) : y.width - r % y.width;
  }
  constexpr std::size_t row_stride() const noexcept { return y.pixel_stride; }
};

}  // namespace kernel
POLYMAC_END
