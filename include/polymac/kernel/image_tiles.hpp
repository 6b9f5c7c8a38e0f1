// SPDX-License-Identifier: MIT
// The rows of a convolution as tiles: 16 rows that are equally far apart.
//
//   One row is one output pixel; its depth is kernel height x kernel width x channels. Three ways to read rows, the
//   first that fits:
//     in place   the windows are read from the image itself, one segment for each line of the kernel: no padding,
//                stride 1
//     framed     the image is copied once into the workspace, with its padding around it and its channels filled up to
//                whole groups; then as in place
//     copied     the windows of 16 pixels are copied into a block of the workspace, one line of the kernel after
//                another: from a frame if there is memory for one, else from the image, pixel by pixel where there is
//                padding
//
//   In place and framed, neighbouring pixels of a line are `stride` pixels apart. At the end of a line the distance is
//   another one, and a tile cannot turn round a corner, so rows are counted in pitches that keep tiles regular:
//     stride 1   pitch = width of the framed image: the distance to the next line is a multiple of a pixel. The rows
//                between the lines, kernel width - 1 of them, are computed and dropped
//     else       pitch = output width, rounded up to whole tiles; what lies behind the end of a line is dropped
//
// Costs of a frame: one load and store for 64 bytes of the image; of copied windows: the same for every tap, once for
// all columns.
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/kernel/contract_tiles.hpp"
#include "polymac/kernel/line_windows.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {

/// How the tiles of a convolution find their rows: everything that depends on the shapes alone.
struct image_layout {
  std::size_t pitch = 0;         ///< rows from line to line; 0: windows are copied
  bool framed = false;           ///< a copy of the image is read
  extent2d frame{};              ///< pixels of the image with its padding
  std::size_t frame_stride = 0;  ///< elements from line to line of it
  std::size_t block = 0;         ///< elements of workspace for copied windows; the frame lies behind them
  std::size_t elements = 0;      ///< of workspace in all

  /// Rows of one image as tiles count them, and the output row (pixel) at which one of them begins.
  constexpr std::size_t rows(const window_geometry& g) const noexcept {
    if (pitch == 0) return g.output.height * g.output.width;
    return g.output.height > 0 ? (g.output.height - 1) * pitch + g.output.width : 0;
  }
  constexpr std::size_t output_row(std::size_t row, const window_geometry& g) const noexcept {
    if (pitch == 0) return row;
    return row / pitch * g.output.width + polymac::detail::smaller(row % pitch, g.output.width);
  }
};

/// Windows over one NHWC image for the tile nest. `x` has one image and the channels of one group.
template <class Tiles>
class image_tiles {
  using activation = typename Tiles::activation;

 public:
  /// Elements of workspace that serve any image: a block of tiles of copied windows.
  static constexpr std::size_t least_elements(std::size_t columns, std::size_t row_depth) noexcept {
    return row_tiles_of_block(columns) * Tiles::rows * row_depth + Tiles::copy_excess;
  }
  /// channels: of the weights, those of the image filled up to whole groups; steps, row_depth: of the packed weights
  /// (packed_weights::steps, depth_of_tiles); available: elements of workspace, at least least_elements().
  static constexpr image_layout layout(const window& w, const window_geometry& g, extent2d image, std::size_t channels,
                                       bool dense_image, std::size_t columns, std::size_t steps, std::size_t row_depth,
                                       std::size_t available) noexcept {
    image_layout l;
    l.frame = {image.height + g.padding.top + g.padding.bottom, image.width + g.padding.left + g.padding.right};
    l.frame_stride = l.frame.width * channels;
    const std::size_t line = w.kernel.width * channels;
    const bool whole_lines = w.kernel.width == 1 || w.dilation.width == 1;
    const bool whole_steps =
        line % Tiles::depth == 0 && steps % w.kernel.height == 0 && w.kernel.height * line == row_depth;
    const std::size_t whole_tiles = polymac::detail::round_up(g.output.width, Tiles::rows);
    const bool linear = w.stride == extent2d{1, 1} && l.frame.width <= whole_tiles;
    const std::size_t rows = linear ? l.frame.width : whole_tiles;
    // Copying a window costs about as much as five pairs of panels do: more than half of the rows may be dropped only
    // where there are few columns, and then nothing here takes long.
    if (whole_lines && whole_steps && 2 * rows <= 5 * g.output.width) {
      l.framed = !(linear && dense_image && l.frame == image);
      if (l.framed)
        l.elements = l.frame.height * l.frame_stride + rows * w.stride.width * channels + Tiles::copy_excess;
      l.pitch = rows;
      if (l.elements <= available) return l;
    }
    l.pitch = 0;
    l.block = l.elements = least_elements(columns, row_depth);
    // A frame spares the windows at the border their pixel by pixel.
    const std::size_t framed = l.block + l.frame.height * l.frame_stride + Tiles::copy_excess;
    l.framed = l.frame != image && framed <= available;
    if (l.framed) l.elements = framed;
    return l;
  }

  /// `memory` holds l.elements; `channels` as in the layout; rows [begin, end) of the output are wanted, begin < end.
  image_tiles(const image_view<const activation>& x, const window& w, const window_geometry& geometry,
              const image_layout& l, std::size_t channels, std::size_t row_depth, activation zero_point,
              activation* memory, std::size_t begin, std::size_t end) noexcept
      : x_(x),
        window_(w),
        geometry_(geometry),
        layout_(l),
        zero_point_(zero_point),
        memory_(memory),
        image_(l.framed ? memory + l.block : x.data),
        channels_(channels),
        row_depth_(row_depth),
        line_(w.kernel.width * channels),
        begin_(begin),
        end_(end) {}

  /// Copies the lines of the image that the output rows read, if they are read from a frame.
  void frame() noexcept {
    if (!layout_.framed) return;
    image_frame(geometry_, {x_.height, x_.width}, channels_)
        .fill(x_, window_, geometry_, zero_point_, memory_ + layout_.block, begin_, end_);
  }

  /// The rows of the tiles that hold the output rows [begin_, end_): from a border of tiles where a line has whole
  /// ones.
  std::size_t begin() const noexcept {
    const std::size_t row = row_of(begin_);
    return whole_tiles() ? row / Tiles::rows * Tiles::rows : row;
  }
  std::size_t end() const noexcept { return row_of(end_ - 1) + 1; }
  std::size_t rows() const noexcept {
    if (layout_.pitch == 0) return geometry_.output.height * geometry_.output.width;
    // Tiles of whole lines may end beyond the last window: the frame goes on there. Others may not.
    if (whole_tiles()) return geometry_.output.height * layout_.pitch;
    return (geometry_.output.height - 1) * layout_.pitch + geometry_.output.width;
  }
  std::size_t row_stride() const noexcept { return layout_.pitch == 0 ? row_depth_ : window_.stride.width * channels_; }
  std::size_t segments() const noexcept { return layout_.pitch == 0 ? 1 : window_.kernel.height; }
  std::size_t segment_stride() const noexcept { return window_.dilation.height * layout_.frame_stride; }

  tile_view<activation> view(std::size_t row, std::size_t t) const noexcept {
    if (layout_.pitch == 0) return copied(row, t);
    const std::size_t line = row / layout_.pitch, x = row % layout_.pitch;
    return {image_ + line * window_.stride.height * layout_.frame_stride + x * window_.stride.width * channels_, line,
            x};
  }

  template <class Function>
  POLYMAC_INLINE void outputs(const tile_view<activation>& view, std::size_t skip, std::size_t count,
                              const Function& f) const noexcept {
    if (layout_.pitch == 0) return f(std::size_t{0}, count, view.position + skip);
    const std::size_t width = geometry_.output.width;
    std::size_t line = view.line, x = view.position + skip;
    for (std::size_t first = 0; first < count;) {
      for (; x >= layout_.pitch; x -= layout_.pitch) ++line;
      const std::size_t left = polymac::detail::smaller(layout_.pitch - x, count - first);
      const std::size_t run = x < width ? polymac::detail::smaller(width - x, left) : 0;
      const std::size_t output_row = line * width + x;
      // A tile of whole lines may begin before the rows that are wanted.
      const std::size_t early = output_row < begin_ ? polymac::detail::smaller(begin_ - output_row, run) : 0;
      if (run > early) f(first + early, run - early, output_row + early);
      first += left;
      x += left;
    }
  }

 private:
  bool whole_tiles() const noexcept { return layout_.framed && layout_.pitch != 0 && layout_.pitch % Tiles::rows == 0; }
  std::size_t row_of(std::size_t output_row) const noexcept {
    if (layout_.pitch == 0) return output_row;
    return output_row / geometry_.output.width * layout_.pitch + output_row % geometry_.output.width;
  }
  tile_view<activation> copied(std::size_t row, std::size_t t) const noexcept {
    std::size_t oy = row / geometry_.output.width, ox = row % geometry_.output.width;
    activation* const tile = memory_ + t * Tiles::rows * row_depth_;
    activation* to = tile;
    for (std::size_t r = 0; r < Tiles::rows; ++r, to += row_depth_) {
      copy_window(oy * window_.stride.height, ox * window_.stride.width, to);
      if (++ox < geometry_.output.width) continue;
      ox = 0;
      ++oy;
    }
    return {tile, 0, row};
  }

  /// y0, x0: corner of the window on the padded image. Behind every piece zeros are written; the next one overwrites
  /// them.
  POLYMAC_INLINE void copy_window(std::size_t y0, std::size_t x0, activation* to) const noexcept {
    if (layout_.framed) return copy_framed_window(image_ + y0 * layout_.frame_stride + x0 * channels_, to);
    // Unsigned: what lies above or left of the image becomes larger than any extent.
    const std::size_t top = y0 - geometry_.padding.top, left = x0 - geometry_.padding.left;
    const std::size_t right = left + (window_.kernel.width - 1) * window_.dilation.width;
    const bool whole_lines = (window_.kernel.width == 1 || window_.dilation.width == 1) && channels_ == x_.channels &&
                             (window_.kernel.width == 1 || x_.pixel_stride == x_.channels);
    const bool inside = left < x_.width && right < x_.width;
    for (std::size_t ky = 0; ky < window_.kernel.height; ++ky) {
      const std::size_t iy = top + ky * window_.dilation.height;
      if (inside && whole_lines && iy < x_.height) {
        Tiles::copy(to, x_.pixel(0, iy, left), line_);
        to += line_;
        continue;
      }
      for (std::size_t kx = 0; kx < window_.kernel.width; ++kx, to += channels_) {
        const std::size_t ix = left + kx * window_.dilation.width;
        if (iy < x_.height && ix < x_.width)
          Tiles::copy(to, x_.pixel(0, iy, ix), x_.channels);
        else
          Tiles::fill(to, zero_point_, channels_);
      }
    }
  }

  POLYMAC_INLINE void copy_framed_window(const activation* from, activation* to) const noexcept {
    const bool whole_lines = window_.kernel.width == 1 || window_.dilation.width == 1;
    const std::size_t pieces = whole_lines ? 1 : window_.kernel.width, piece = line_ / pieces;
    for (std::size_t ky = 0; ky < window_.kernel.height; ++ky, from += window_.dilation.height * layout_.frame_stride)
      for (std::size_t i = 0; i < pieces; ++i, to += piece)
        Tiles::copy(to, from + i * window_.dilation.width * channels_, piece);
  }

  image_view<const activation> x_;
  window window_;
  window_geometry geometry_;
  image_layout layout_;
  activation zero_point_;
  activation* memory_;
  const activation* image_;
  std::size_t channels_, row_depth_, line_, begin_, end_;
};

}  // namespace kernel
POLYMAC_END
