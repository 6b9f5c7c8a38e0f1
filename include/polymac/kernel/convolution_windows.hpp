// SPDX-License-Identifier: MIT
// The windows of a convolution as rows of one stretch each, for arithmetics to which padding is a value.
//
//   One row is one output pixel; its depth is kernel height x kernel width x channels, in that order (OHWI weights).
//   Three ways to read rows, the first that fits:
//     in place   a window is one stretch of the image, and none lies on padding: 1 x 1 kernels, for example
//     framed     the image is copied once into the workspace, with its padding around it; from there the windows of a
//                tile of rows, with one copy for each line of the kernel
//     clipped    without memory for a frame: windows are copied from the image, line by line, or pixel by pixel where
//                there is padding
//
// Costs of a window that is copied: loads and stores of at most 64 bytes, columns times less than its products. 3 x 3 x
// 16 -> 16, where it is dearest: 6 of 32 bytes beside 36 products of a register. What it saves: a tile has one loop,
// over rows that are equally far apart in L1, and never a table of pointers. Lines (line_windows.hpp) need no copies,
// but end tiles where they end: conv2d copies windows where an image is narrow and its kernel has many short lines.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/kernel/contract.hpp"
#include "polymac/kernel/line_windows.hpp"

#include <cstddef>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

namespace detail {

/// Copies `bytes` bytes by chunks, the last two of which may overlap. Chunk: the largest power of two up to 64 that is
/// not larger.
template <std::size_t Chunk>
POLYMAC_INLINE void copy_chunks(void* to, const void* from, std::size_t bytes) noexcept {
  auto* const t = static_cast<std::byte*>(to);
  const auto* const f = static_cast<const std::byte*>(from);
  if constexpr (Chunk == 64)
    for (std::size_t at = 0; at + Chunk < bytes; at += Chunk) std::memcpy(t + at, f + at, Chunk);
  else
    std::memcpy(t, f, Chunk);
  std::memcpy(t + bytes - Chunk, f + bytes - Chunk, Chunk);
}

/// Calls f(chunk) with the chunk that copies `bytes` bytes, at least one: a constant, so that a loop in f asks once.
template <class Function>
POLYMAC_INLINE void with_chunk_for(std::size_t bytes, const Function& f) noexcept {
  using std::integral_constant;
  if (bytes >= 64) return f(integral_constant<std::size_t, 64>{});
  if (bytes >= 32) return f(integral_constant<std::size_t, 32>{});
  if (bytes >= 16) return f(integral_constant<std::size_t, 16>{});
  if (bytes >= 8) return f(integral_constant<std::size_t, 8>{});
  if (bytes >= 4) return f(integral_constant<std::size_t, 4>{});
  if (bytes >= 2) return f(integral_constant<std::size_t, 2>{});
  f(integral_constant<std::size_t, 1>{});
}

template <class T>
constexpr void copy_elements(T* to, const T* from, std::size_t count) noexcept {
  if (std::is_constant_evaluated()) {
    for (std::size_t i = 0; i < count; ++i) to[i] = from[i];
  } else if (count > 0) {
    with_chunk_for(count * sizeof(T),
                   [&](auto chunk) POLYMAC_INLINE_LAMBDA { copy_chunks<chunk>(to, from, count * sizeof(T)); });
  }
}
template <class T>
constexpr void fill_elements(T* to, T value, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) to[i] = value;
}

}  // namespace detail

/// Windows over an NHWC image for tiles of MaxRows rows. `x` is limited to the channels of one group.
template <class Activation, std::size_t MaxRows>
class convolution_windows {
 public:
  static constexpr bool one_stretch = true;

  /// Elements of workspace for windows of rows that are so deep, filled up to whole groups, and, for a frame besides,
  /// of an image.
  static constexpr std::size_t block_elements(std::size_t rows, std::size_t filled_depth) noexcept {
    return rows * filled_depth;
  }
  static constexpr std::size_t framed_elements(const window_geometry& g, extent2d image, std::size_t channels,
                                               std::size_t rows, std::size_t filled_depth) noexcept {
    if (!is_worth_a_frame(g, image)) return block_elements(rows, filled_depth);
    return polymac::detail::round_up(block_elements(rows, filled_depth), alignment) +
           image_frame(g, image, channels).elements();
  }

  /// pixel_fill: elements from tap to tap of a row, more than x.channels where the weights want them filled up; depth,
  /// filled_depth: of the packed weights, and filled up to whole groups of them; rows: that are copied at a time.
  /// `memory` holds `available` elements, block_elements() at least if a window may have to be copied.
  constexpr convolution_windows(const image_view<const Activation>& x, const window& w, const window_geometry& g,
                                std::size_t pixel_fill, std::size_t depth, std::size_t rows, std::size_t filled_depth,
                                Activation zero_point, Activation* memory, std::size_t available) noexcept
      : x_(x),
        window_(w),
        geometry_(g),
        output_(g.output),
        padding_{g.padding.top, g.padding.left},
        pixel_fill_(pixel_fill),
        depth_(depth),
        copied_rows_(rows),
        row_stride_(filled_depth),
        zero_point_(zero_point),
        block_(memory) {
    const std::size_t line = w.kernel.width * x.channels;
    const bool lines_join = w.kernel.width == 1 || (w.dilation.width == 1 && x.pixel_stride == x.channels);
    const bool joins = w.kernel.height == 1 || (w.dilation.height == 1 && x.line_stride == line);
    in_place_ = lines_join && joins && depth == w.kernel.height * line && padding_.height == 0 && padding_.width == 0 &&
                (output_.height - 1) * w.stride.height + reach(w.kernel.height, w.dilation.height) <= x.height &&
                (output_.width - 1) * w.stride.width + reach(w.kernel.width, w.dilation.width) <= x.width;
    if (in_place_ || pixel_fill != x.channels) return;
    frame_extent_ = image_frame(g, {x.height, x.width}, x.channels).extent;
    if (is_worth_a_frame(g, {x.height, x.width}) &&
        framed_elements(g, {x.height, x.width}, x.channels, rows, filled_depth) <= available)
      frame_ = memory + polymac::detail::round_up(block_elements(rows, filled_depth), alignment);
  }

  constexpr std::size_t rows() const noexcept { return x_.batch * output_.height * output_.width; }

  template <class Function>
  constexpr void strips(std::size_t begin, std::size_t end, const Function& f) const noexcept {
    const std::size_t pixels = output_.height * output_.width;
    while (begin < end) {
      const std::size_t n = begin / pixels;
      const std::size_t last = polymac::detail::smaller(end, (n + 1) * pixels);
      if (in_place_)
        lines_of(n, n * pixels, begin, last, f);
      else
        copies_of(n, n * pixels, begin, last, f);
      begin = last;
    }
  }

 private:
  static constexpr std::size_t alignment = 64 / sizeof(Activation) > 0 ? 64 / sizeof(Activation) : 1;

  static constexpr std::size_t reach(std::size_t kernel, std::size_t dilation) noexcept {
    return (kernel - 1) * dilation + 1;
  }

  /// Rows [begin, end) of image n, whose first row is `first`, in place: line by line, or at once where the lines are
  /// as far apart as their pixels.
  template <class Function>
  constexpr void lines_of(std::size_t n, std::size_t first, std::size_t begin, std::size_t end,
                          const Function& f) const noexcept {
    strip<Activation> s;
    s.depth = depth_;
    const std::size_t distance = window_.stride.width * x_.pixel_stride;
    const std::size_t line_distance = window_.stride.height * x_.line_stride;
    const bool joined = output_.height == 1 || output_.width * distance == line_distance;
    s.distance = static_cast<std::ptrdiff_t>(distance);
    while (begin < end) {
      const std::size_t oy = (begin - first) / output_.width, ox = (begin - first) % output_.width;
      s.first = x_.pixel(n, 0, 0) + oy * line_distance + ox * distance;
      s.rows = joined ? end - begin : polymac::detail::smaller(output_.width - ox, end - begin);
      s.output_row = begin;
      f(s);
      begin += s.rows;
    }
  }

  /// The same, copied tile by tile.
  template <class Function>
  constexpr void copies_of(std::size_t n, std::size_t first, std::size_t begin, std::size_t end,
                           const Function& f) const noexcept {
    if (frame_ != nullptr) make_frame(n, begin - first, end - first);
    fill_ends();
    strip<Activation> s;
    s.first = block_;
    s.depth = row_stride_;
    s.distance = static_cast<std::ptrdiff_t>(s.depth);
    while (begin < end) {
      s.rows = copied_rows_ > MaxRows ? polymac::detail::smaller(end - begin, copied_rows_)
                                      : tile_heights<MaxRows, tile_cuts::matrix>::next(end - begin);
      s.output_row = begin;
      if (frame_ != nullptr)
        copy_framed(begin - first, s.rows);
      else
        copy_clipped(n, begin - first, s.rows);
      f(s);
      begin += s.rows;
    }
  }

  /// The lines that rows [begin, end) of image n read.
  constexpr POLYMAC_NOINLINE void make_frame(std::size_t n, std::size_t begin, std::size_t end) const noexcept {
    image_view<const Activation> one = x_;
    one.data += n * x_.image_stride;
    image_frame(geometry_, {x_.height, x_.width}, x_.channels)
        .fill(one, window_, geometry_, zero_point_, frame_, begin, end);
  }

  /// Windows from the frame.
  constexpr POLYMAC_NOINLINE void copy_framed(std::size_t row, std::size_t count) const noexcept {
    const std::size_t channels = x_.channels, stride = frame_extent_.width * channels;
    const std::size_t line = window_.kernel.width * channels, down = window_.dilation.height * stride;
    const std::size_t line_step = depth_ / window_.kernel.height;
    const std::size_t right = window_.stride.width * channels, row_step = row_stride_;
    const std::size_t next_line = window_.stride.height * stride - output_.width * right;
    std::size_t ox = row % output_.width;
    const Activation* at = frame_ + row / output_.width * window_.stride.height * stride + ox * right;
    const auto windows_of = [&](auto lines, const auto& copy) POLYMAC_INLINE_LAMBDA {
      Activation* to = block_;
      for (std::size_t r = 0; r < count; ++r, to += row_step) {
        const Activation* from = at;
        Activation* t = to;
        for (std::size_t ky = 0; ky < lines; ++ky, t += line_step, from += down) copy(t, from);
        at += right;
        if (++ox < output_.width) continue;
        ox = 0;
        at += next_line;
      }
    };
    const auto windows = [&](const auto& copy) POLYMAC_INLINE_LAMBDA {
      if (window_.kernel.height == 3)  // without a loop: up to 6 % of a convolution with few channels
        windows_of(std::integral_constant<std::size_t, 3>{}, copy);
      else
        windows_of(window_.kernel.height, copy);
    };
    const bool one_piece = window_.dilation.width == 1 || window_.kernel.width == 1;
    if (one_piece && !std::is_constant_evaluated()) {
      const std::size_t bytes = line * sizeof(Activation);
      detail::with_chunk_for(bytes, [&](auto chunk) POLYMAC_INLINE_LAMBDA {
        windows([&](Activation* to, const Activation* from)
                    POLYMAC_INLINE_LAMBDA { detail::copy_chunks<chunk>(to, from, bytes); });
      });
    } else {
      const std::size_t pieces = one_piece ? 1 : window_.kernel.width, piece = line / pieces;
      windows([&](Activation* to, const Activation* from) POLYMAC_INLINE_LAMBDA {
        for (std::size_t i = 0; i < pieces; ++i)
          detail::copy_elements(to + i * piece, from + i * window_.dilation.width * channels, piece);
      });
    }
  }
  /// Fills the rows of the block up to whole groups, and its lines up to those of the weights.
  constexpr void fill_ends() const noexcept {
    const std::size_t row_step = row_stride_, line = depth_ / window_.kernel.height;
    const std::size_t used = window_.kernel.width * pixel_fill_;
    for (std::size_t r = 0; line > used && r < copied_rows_; ++r)
      for (std::size_t at = r * row_step, end = at + depth_; at < end; at += line)
        detail::fill_elements(block_ + at + used, Activation{}, line - used);
    for (std::size_t r = 0; row_step > depth_ && r < copied_rows_; ++r)
      for (std::size_t k = depth_; k < row_step; ++k) block_[r * row_step + k] = Activation{};
  }

  /// Windows from the image itself.
  constexpr POLYMAC_NOINLINE void copy_clipped(std::size_t n, std::size_t row, std::size_t count) const noexcept {
    const std::size_t channels = x_.channels, row_step = row_stride_, line = depth_ / window_.kernel.height;
    const bool joined = pixel_fill_ == channels && window_.dilation.width == 1 && x_.pixel_stride == channels;
    std::size_t oy = row / output_.width, ox = row % output_.width;
    for (std::size_t r = 0; r < count; ++r) {
      Activation* const to = block_ + r * row_step;
      const std::size_t x0 = ox * window_.stride.width - padding_.width;  // left of the image: larger than any extent
      const std::size_t x1 = x0 + reach(window_.kernel.width, window_.dilation.width) - 1;
      for (std::size_t ky = 0; ky < window_.kernel.height; ++ky) {
        Activation* t = to + ky * line;
        const std::size_t y = oy * window_.stride.height + ky * window_.dilation.height - padding_.height;
        if (joined && y < x_.height && x0 < x_.width && x1 < x_.width) {
          detail::copy_elements(t, x_.pixel(n, y, x0), window_.kernel.width * channels);
        } else {
          for (std::size_t kx = 0; kx < window_.kernel.width; ++kx, t += pixel_fill_) {
            const std::size_t x = x0 + kx * window_.dilation.width;
            if (y < x_.height && x < x_.width)
              detail::copy_elements(t, x_.pixel(n, y, x), channels);
            else
              detail::fill_elements(t, zero_point_, channels);
            detail::fill_elements(t + channels, Activation{}, pixel_fill_ - channels);
          }
        }
      }
      if (++ox < output_.width) continue;
      ox = 0;
      ++oy;
    }
  }

  image_view<const Activation> x_;
  window window_;
  window_geometry geometry_;
  extent2d output_;
  extent2d padding_;  ///< above and left of the image
  std::size_t pixel_fill_, depth_;
  std::size_t copied_rows_;  ///< at a time
  std::size_t row_stride_;   ///< of copies, which are whole groups
  Activation zero_point_;
  Activation* block_;
  Activation* frame_ = nullptr;  ///< the image with its padding, if there is memory for it
  extent2d frame_extent_{};
  bool in_place_ = false;
};

}  // namespace kernel
POLYMAC_END
