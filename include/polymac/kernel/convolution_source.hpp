// SPDX-License-Identifier: MIT
// The rows of a convolution as the loop nest reads them: nothing is unfolded, pointers go into the image.
//
//   One row is one output pixel; its depth is kernel height x kernel width x channels, in that order (OHWI weights).
//   Three ways to read the rows of a tile, the first that fits:
//     lines   every window lies inside the image and its pixels are contiguous: one stretch per kernel row
//     taps    channels are a multiple of the atom's depth (or there is one tap): one stretch per tap; taps that fall on
//             the padding point to a row of zero points
//     copies  the tile's rows are copied, padding filled in, into one block of the workspace. Where a line of the
//             kernel is no multiple of the atom's depth, each pixel is filled up to one by zeros, and so are the
//   weights Where padding adds nothing there is a fourth: convolution_strips.
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

/// The same windows, where taps on padding may be left out, for a product with zero adds nothing. Output pixels that
/// have the same taps on the image make up a rectangle, and that is a strip: no pointer is looked up, no product is
/// computed for nothing. Atoms take one k at a time.
///
///     3x3, one pixel of padding     a b b b c     a, c, g, i   2 x 2 taps
///     on an image of 5 x 4          d e e e f     b, h         2 x 3
///                                   d e e e f     d, f         3 x 2
///                                   g h h h i     e            all of them, one stretch for each line of the kernel
template <class Activation>
struct convolution_strips {
  static constexpr bool one_stretch = false;
  image_view<const Activation> x;
  extent2d output;
  window taps;
  std::size_t top = 0;
  std::size_t left = 0;

  constexpr std::size_t rows() const noexcept { return x.batch * output.height * output.width; }

  template <class Function>
  constexpr void strips(std::size_t begin, std::size_t end, const Function& f) const noexcept {
    const std::size_t pixels = output.height * output.width;
    while (begin < end) {
      const std::size_t n = begin / pixels, y = begin % pixels / output.width, column = begin % output.width;
      const std::size_t last = polymac::detail::smaller(end, (n + 1) * pixels);
      const std::size_t lines = (last - begin) / output.width;
      // The rest of a line that has begun, or whole lines, or the beginning of one.
      const std::size_t width = column > 0   ? polymac::detail::smaller(output.width - column, last - begin)
                                : lines == 0 ? last - begin
                                             : output.width;
      const std::size_t height = column > 0 || lines == 0 ? 1 : lines;
      part(n, {y, y + height}, {column, column + width}, f);
      begin += width * height;
    }
  }

 private:
  /// Output lines or columns, and the taps of the kernel that lie on the image for all of them.
  struct range {
    std::size_t begin, end;
    std::size_t first_tap = 0, last_tap = 0;
  };
  struct axis {
    std::size_t size, kernel, stride, dilation, padding;
    constexpr bool on_image(std::size_t o, std::size_t tap) const noexcept {
      // Unsigned: a pixel before the image becomes larger than any extent.
      return o * stride + tap * dilation - padding < size;
    }
    /// The outputs from `begin` on, before `end`, that have the taps of the first.
    constexpr range alike(std::size_t begin, std::size_t end) const noexcept {
      range r{begin, begin + 1};
      while (r.first_tap < kernel && !on_image(begin, r.first_tap)) ++r.first_tap;
      r.last_tap = r.first_tap;
      while (r.last_tap < kernel && on_image(begin, r.last_tap)) ++r.last_tap;
      while (r.end < end && same(r)) ++r.end;
      return r;
    }

   private:
    /// Has output r.end the taps of r? They are contiguous, so the ends of them and their neighbours tell.
    constexpr bool same(const range& r) const noexcept {
      if (r.first_tap == r.last_tap) {
        for (std::size_t tap = 0; tap < kernel; ++tap)
          if (on_image(r.end, tap)) return false;
        return true;
      }
      return on_image(r.end, r.first_tap) && on_image(r.end, r.last_tap - 1) &&
             (r.first_tap == 0 || !on_image(r.end, r.first_tap - 1)) &&
             (r.last_tap == kernel || !on_image(r.end, r.last_tap));
    }
  };

  template <class Function>
  constexpr void part(std::size_t n, range lines, range columns, const Function& f) const noexcept {
    const axis vertical{x.height, taps.kernel.height, taps.stride.height, taps.dilation.height, top};
    const axis horizontal{x.width, taps.kernel.width, taps.stride.width, taps.dilation.width, left};
    for (std::size_t y = lines.begin; y < lines.end;) {
      const range of_y = vertical.alike(y, lines.end);
      for (std::size_t at = columns.begin; at < columns.end;) {
        const range of_x = horizontal.alike(at, columns.end);
        f(rectangle(n, of_y, of_x));
        at = of_x.end;
      }
      y = of_y.end;
    }
  }

  constexpr strip<Activation> rectangle(std::size_t n, const range& lines, const range& columns) const noexcept {
    const auto distance = [](std::size_t d) { return static_cast<std::ptrdiff_t>(d); };
    const std::size_t on_lines = lines.last_tap - lines.first_tap, on_columns = columns.last_tap - columns.first_tap;
    strip<Activation> s;
    s.width = columns.end - columns.begin;
    s.rows = (lines.end - lines.begin) * s.width;
    s.output_row = (n * output.height + lines.begin) * output.width + columns.begin;
    s.output_gap = output.width - s.width;
    s.lines = s.taps = 0;
    if (on_lines == 0 || on_columns == 0) return s;
    s.first = x.pixel(n, lines.begin * taps.stride.height + lines.first_tap * taps.dilation.height - top,
                      columns.begin * taps.stride.width + columns.first_tap * taps.dilation.width - left);
    s.distance = distance(taps.stride.width * x.pixel_stride);
    s.next_line = distance(taps.stride.height * x.line_stride) - distance(s.width) * s.distance;
    if (s.next_line == 0 && s.output_gap == 0) s.width = s.rows;  // as one line
    const bool contiguous = on_columns == 1 || (taps.dilation.width == 1 && x.pixel_stride == x.channels);
    s.lines = on_lines;
    s.taps = contiguous ? 1 : on_columns;
    s.depth = contiguous ? on_columns * x.channels : x.channels;
    s.line_distance = distance(taps.dilation.height * x.line_stride);
    s.tap_distance = distance(taps.dilation.width * x.pixel_stride);
    s.skipped_before = (lines.first_tap * taps.kernel.width + columns.first_tap) * x.channels;
    s.skipped_between = (taps.kernel.width - on_columns) * x.channels;
    return s;
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
