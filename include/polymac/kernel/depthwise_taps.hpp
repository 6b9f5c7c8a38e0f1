// SPDX-License-Identifier: MIT
// The depthwise kernel for floats, activations read in place.
//
//   3 x 3 at stride 1 or 2: tiles of a few lines and pixels of output, 4 x 3 or as the instruction set says
//     for each few lines of output, for each few pixels
//       for each panel: 9 weights and all sums in registers, each activation loaded once, each sum finished and stored
//       as soon as it is complete
//   the rest: rows of 6 pixels
//     for each 6 pixels
//       for each panel, for each tap: 6 products
//
// Channels are innermost, so that a tile reads and writes whole stretches of memory, which the hardware fetches ahead:
// images that leave the second-level cache are bound by that, and take what a copy of them takes. Extents are cut into
// equal parts, so that tiles are nowhere half empty. Lines and columns beside the image are a row of zero points.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/depthwise_rectangle.hpp"
#include "polymac/kernel/finish.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {
namespace detail {

/// Pixels of a row at a time, for whose taps the runner needs a table.
inline constexpr std::size_t tap_row_pixels = 6;

/// Panels of 16 channels: weights [tap][16], start values.
template <class Weight, std::size_t Weights, std::size_t Columns>
class tap_weights {
 public:
  static constexpr std::size_t panel = 16;

  template <class WeightOf, class BiasOf>
  constexpr status pack(std::size_t channels, std::size_t taps, const WeightOf& weight_of,
                        const BiasOf& bias_of) noexcept {
    const std::size_t panels = polymac::detail::divide_up(channels, panel);
    panel_step_ = taps * panel;
    if (status s = weights_.resize(panels * panel_step_); !s.ok()) return s;
    if (status s = starts_.resize(panels * panel); !s.ok()) return s;
    for (std::size_t c = 0; c < channels; ++c) {
      starts_[c] = bias_of(c);
      for (std::size_t t = 0; t < taps; ++t)
        weights_[c / panel * panel_step_ + t * panel + c % panel] = weight_of(c, 0, t);
    }
    return {};
  }
  /// Those of the panel that begins with this channel.
  constexpr const Weight* taps(std::size_t channel) const noexcept {
    return weights_.data() + channel / panel * panel_step_;
  }
  constexpr const Weight* starts(std::size_t channel) const noexcept { return starts_.data() + channel; }
  constexpr std::size_t bytes() const noexcept { return (weights_.size() + starts_.size()) * sizeof(Weight); }

 private:
  std::size_t panel_step_ = 0;
  buffer<Weight, Weights> weights_;
  buffer<Weight, Columns> starts_;
};

template <class I, class Taps, class Weights, class Source, class Epilogue, class Output>
struct tap_runner {
  using output_type = std::remove_pointer_t<decltype(std::declval<const Output&>().row(0))>;
  static constexpr std::size_t panel = Weights::panel;

  const Weights& weights;
  const Source& source;
  std::size_t channels;
  const Epilogue& epilogue;
  const Output& output;
  const float** table;

  void run(row_range range) const noexcept {
    const extent2d three{3, 3}, one{1, 1}, two{2, 2};
    const bool tiles =
        source.kernel == three && source.dilation == one && (source.stride == one || source.stride == two);
    for_each_rectangle(range, source.x.batch, source.output, [&](const rectangle& r) {
      if (!tiles || r.height == 1 || r.width == 1)
        rows_of(r);
      else
        source.stride == one ? tiles_of<1>(r) : tiles_of<2>(r);
    });
  }

 private:
  std::size_t row_of(std::size_t n, std::size_t y, std::size_t x) const noexcept {
    return (n * source.output.height + y) * source.output.width + x;
  }

  template <std::size_t Stride>
  void tiles_of(const rectangle& r) const noexcept {
    const std::size_t whole = channels / panel * panel;
    for_each_part<Taps::template rows<Stride>>(r.y, r.height, [&]<std::size_t Rows>(std::size_t y) {
      for_each_part<Taps::template pixels<Stride>>(r.x, r.width, [&]<std::size_t Pixels>(std::size_t x) {
        constexpr std::size_t lines = (Rows - 1) * Stride + 3, columns = (Pixels - 1) * Stride + 3;
        // First line and column that the tile reads; beside the image they are beyond its extent, or wrap around.
        const std::size_t iy = y * Stride - source.top, ix = x * Stride - source.left;
        const auto& in = source.x;
        const bool inside =
            iy < in.height && iy + lines <= in.height && ix < in.width && ix + columns <= in.width && whole > 0;
        if (inside) {
          const auto bytes = [](std::size_t floats) { return static_cast<std::ptrdiff_t>(floats * sizeof(float)); };
          tile<Stride, Rows, Pixels, true>(r.n, y, x, 0, whole,
                                           pixel_lines{reinterpret_cast<const char*>(in.pixel(r.n, iy, ix)),
                                                       bytes(in.line_stride), bytes(in.pixel_stride)});
          if (whole == channels) return;
        }
        pixel_table<lines, columns> from;
        // A pixel's way from its line, or to padding that stands for all of them: choices instead of branches.
        std::size_t steps[columns];
        POLYMAC_UNROLL
        for (std::size_t c = 0; c < columns; ++c) steps[c] = (ix + c) * in.pixel_stride;
        POLYMAC_UNROLL
        for (std::size_t l = 0; l < lines; ++l) {
          const bool has_line = iy + l < in.height;
          const float* const image = in.pixel(r.n, has_line ? iy + l : 0, 0);
          POLYMAC_UNROLL
          for (std::size_t c = 0; c < columns; ++c)
            from.at[l][c] = (has_line & (ix + c < in.width)) ? image + steps[c] : source.padding_row;
        }
        if (!inside) tile<Stride, Rows, Pixels, true>(r.n, y, x, 0, whole, from.lines_of(0));
        if (whole < channels) tile<Stride, Rows, Pixels, false>(r.n, y, x, whole, channels, from.lines_of(whole));
      });
    });
  }

  /// Lines of pixels that are equally far apart, in bytes: so that few registers and the processor's address arithmetic
  /// reach all of them.
  struct pixel_lines {
    const char* at;
    std::ptrdiff_t line, column;
    POLYMAC_INLINE const float* pixel(std::size_t i) const noexcept {
      return reinterpret_cast<const float*>(at + static_cast<std::ptrdiff_t>(i) * column);
    }
    // Compilers would rather have a pointer for each line, which they then keep in memory.
    POLYMAC_INLINE void next_line() noexcept { at += line, isa::keep_value(at); }
    POLYMAC_INLINE void next_panel() noexcept { at += panel * sizeof(float); }
  };
  /// Pixels anywhere.
  template <std::size_t Lines, std::size_t Columns>
  struct pixel_table {
    const float* at[Lines][Columns];
    struct lines {
      const float* const (*at)[Columns];
      std::size_t channel;
      POLYMAC_INLINE const float* pixel(std::size_t i) const noexcept { return (*at)[i] + channel; }
      POLYMAC_INLINE void next_line() noexcept { ++at; }
      POLYMAC_INLINE void next_panel() noexcept { channel += panel; }
    };
    POLYMAC_INLINE lines lines_of(std::size_t channel) const noexcept { return {at, channel}; }
  };

  /// Channels [begin, end) in whole panels, or the beginning of one.
  template <std::size_t Stride, std::size_t Rows, std::size_t Pixels, bool Whole, class Lines>
  POLYMAC_INLINE void tile(std::size_t n, std::size_t y, std::size_t x, std::size_t begin, std::size_t end,
                           Lines from) const noexcept {
    // Values, because a store of floats may change any other, as far as a compiler knows.
    const float *const taps = weights.taps(0), *const starts = weights.starts(0);
    const std::size_t row = row_of(n, y, x), line = source.output.width, count = Whole ? panel : end - begin;
    output_type* const first = output.y.pixel(n, y, x);
    const std::size_t line_step = output.y.line_stride, step = output.y.pixel_stride;
    for (std::size_t c = begin; c < end; c += panel, from.next_panel()) {
      if constexpr (finishes_in_lanes<I, float, Epilogue>()) {
        output_type* to = first;
        Taps::template tile<Rows, Pixels, Stride, Whole>(
            from, taps + c * 9, starts + c, count,
            [&](std::size_t r, std::size_t i, const auto& sums) POLYMAC_INLINE_LAMBDA {
              if (r > 0 && i == 0) to += line_step, isa::keep_value(to);
              output_type* const pixel[1] = {to + i * step + c};
              epilogue.view().lanes(sums, {row + r * line + i, c}).store(pixel, count);
            });
      } else {
        float stored[Rows][Pixels * panel];
        Taps::template tile<Rows, Pixels, Stride, Whole>(from, taps + c * 9, starts + c, count,
                                                         [&](std::size_t r, std::size_t i, const auto& sums)
                                                             POLYMAC_INLINE_LAMBDA {
                                                               float* const pixel[1] = {stored[r] + i * panel};
                                                               sums.store(pixel, panel);
                                                             });
        for (std::size_t r = 0; r < Rows; ++r)
          kernel::finish<I>(epilogue, output, stored[r], panel, {row + r * line, Pixels, 0, count, c});
      }
    }
  }

  /// For any kernel. The pixels of a rectangle are neighbours also as rows.
  void rows_of(const rectangle& r) const noexcept {
    std::size_t row = row_of(r.n, r.y, r.x);
    const std::size_t end = row + r.height * r.width;
    for (; row + tap_row_pixels <= end; row += tap_row_pixels) pixels_of<tap_row_pixels>(row);
    for (; row + 2 <= end; row += 2) pixels_of<2>(row);
    if (row < end) pixels_of<1>(row);
  }
  template <std::size_t Pixels>
  POLYMAC_INLINE void pixels_of(std::size_t row) const noexcept {
    const std::size_t taps = source.kernel.height * source.kernel.width;
    source.pointers(row, Pixels, {taps, source.x.channels}, table);
    output_type* to[Pixels];
    for (std::size_t i = 0; i < Pixels; ++i) to[i] = output.row(row + i);
    for (std::size_t c = 0; c < channels; c += panel) {
      const std::size_t count = polymac::detail::smaller(channels - c, panel);
      const float *const w = weights.taps(c), *const *const pixels = table;
      auto sums = isa::best_lanes<float, I, Pixels, 1>::load(weights.starts(c), 0);
      for (std::size_t t = 0; t < taps; ++t)
        Taps::tap(
            sums, [&](std::size_t i) POLYMAC_INLINE_LAMBDA { return pixels[t * Pixels + i] + c; }, w + t * panel,
            count);
      finish_block(sums, row, to, c, count);
    }
  }

  /// Sums of pixels from `row` on, which lie at `to`; `count` channels from `channel` on.
  template <class Block, std::size_t Pixels>
  POLYMAC_INLINE void finish_block(const Block& sums, std::size_t row, output_type* const (&to)[Pixels],
                                   std::size_t channel, std::size_t count) const noexcept {
    if constexpr (finishes_in_lanes<I, float, Epilogue>()) {
      output_type* pixels[Pixels];
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Pixels; ++i) pixels[i] = to[i] + channel;
      epilogue.view().lanes(sums, {row, channel}).store(pixels, count);
    } else {
      float stored[Pixels * panel];
      float* pixels[Pixels];
      for (std::size_t i = 0; i < Pixels; ++i) pixels[i] = stored + i * panel;
      sums.store(pixels, panel);
      kernel::finish<I>(epilogue, output, stored, panel, {row, Pixels, 0, count, channel});
    }
  }
};

}  // namespace detail
}  // namespace kernel
POLYMAC_END
