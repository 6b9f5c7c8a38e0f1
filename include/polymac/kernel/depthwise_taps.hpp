// SPDX-License-Identifier: MIT
// The depthwise kernel for floats: 6 output pixels x 32 channels of sums in registers, activations read in place.
//
//     for each line of output
//       for each block of 32 channels
//         for each 6 pixels (3, 2, 1 at the end)
//           for each line of the kernel: weights in registers, each column of activations loaded once
//
// Lines and columns beside the image are a row of zero points.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/avx512_depthwise.hpp"
#include "polymac/isa/depthwise.hpp"
#include "polymac/kernel/depthwise_rectangle.hpp"
#include "polymac/kernel/finish.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {
namespace detail {

/// Panels of 16 channels, of an even number: weights [tap][16], start values.
template <class Weight, std::size_t Weights, std::size_t Columns>
class tap_weights {
 public:
  static constexpr std::size_t panel = 16;

  template <class WeightOf, class BiasOf>
  constexpr status pack(std::size_t channels, std::size_t taps, const WeightOf& weight_of,
                        const BiasOf& bias_of) noexcept {
    const std::size_t panels = 2 * polymac::detail::divide_up(channels, 2 * panel);
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
  /// Distance of two panels.
  constexpr std::size_t panel_step() const noexcept { return panel_step_; }
  constexpr const Weight* tap(std::size_t channel, std::size_t t) const noexcept {
    return weights_.data() + channel / panel * panel_step_ + t * panel;
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

  const Weights& weights;
  const Source& source;
  std::size_t channels;
  const Epilogue& epilogue;
  const Output& output;

  void run(row_range range) const noexcept {
    const bool narrow = source.kernel.width == 3 && source.dilation.width == 1;
    if (narrow && source.stride.width == 1)
      rectangles<3, 1>(range);
    else if (narrow && source.stride.width == 2)
      rectangles<3, 2>(range);
    else
      rectangles<0, 0>(range);
  }

 private:
  struct place {
    std::size_t n, y, row;  ///< row: output pixel at the begin of the line
    std::size_t channel, count;
  };

  /// Width, Stride: horizontally; 0: any.
  template <std::size_t Width, std::size_t Stride>
  void rectangles(row_range range) const noexcept {
    for_each_rectangle(range, source.x.batch, source.output, [this](const rectangle& r) {
      for (std::size_t y = r.y; y < r.y + r.height; ++y) {
        const std::size_t row = (r.n * source.output.height + y) * source.output.width;
        for (std::size_t c = 0; c < channels; c += 32) {
          const std::size_t left = channels - c;
          if (left > 16)
            line<Width, Stride, 2>(r, {r.n, y, row, c, polymac::detail::smaller(left - 16, 16)});
          else
            line<Width, Stride, 1>(r, {r.n, y, row, c, left});
        }
      }
    });
  }

  template <std::size_t Width, std::size_t Stride, std::size_t Panels>
  POLYMAC_INLINE void line(const rectangle& r, const place& p) const noexcept {
    const std::size_t end = r.x + r.width;
    std::size_t x = r.x;
    for (; x + 6 <= end; x += 6) block<Width, Stride, 6, Panels>(p, x);
    for (; x + 3 <= end; x += 3) block<Width, Stride, 3, Panels>(p, x);
    for (; x + 2 <= end; x += 2) block<Width, Stride, 2, Panels>(p, x);
    for (; x < end; ++x) block<Width, Stride, 1, Panels>(p, x);
  }

  template <std::size_t Width, std::size_t Stride, std::size_t Pixels, std::size_t Panels>
  POLYMAC_INLINE void block(const place& p, std::size_t x) const noexcept {
    // First and last column that the block reads; beside the image they are beyond its width.
    const std::size_t first = x * source.stride.width - source.left;
    const std::size_t last =
        first + (Pixels - 1) * source.stride.width + (source.kernel.width - 1) * source.dilation.width;
    if (first < source.x.width && last < source.x.width)
      lines<Width, Stride, Pixels, Panels, true>(p, x, first);
    else
      lines<Width, Stride, Pixels, Panels, false>(p, x, first);
  }

  template <std::size_t Width, std::size_t Stride, std::size_t Pixels, std::size_t Panels, bool Inside>
  POLYMAC_INLINE void lines(const place& p, std::size_t x, std::size_t first) const noexcept {
    auto sums = isa::best_lanes<float, I, Pixels, Panels>::load(weights.starts(p.channel), 0);
    const auto& in = source.x;
    const auto* const padding = source.padding_row + p.channel;
    for (std::size_t ky = 0; ky < source.kernel.height; ++ky) {
      const std::size_t iy = p.y * source.stride.height + ky * source.dilation.height - source.top;
      const bool on_image = iy < in.height;  // above the image the number wraps around
      const std::size_t step = on_image ? in.pixel_stride : 0;
      const auto* const from = on_image ? in.pixel(p.n, iy, 0) + p.channel : padding;
      const auto* const w = weights.tap(p.channel, ky * source.kernel.width);
      const auto column = [&](std::size_t ix) POLYMAC_INLINE_LAMBDA {
        if constexpr (Inside)
          return from + ix * step;
        else
          return ix < in.width ? from + ix * step : padding;
      };
      if constexpr (Width > 0) {
        Taps::template line<Width, Stride>(
            sums, [&](std::size_t c) POLYMAC_INLINE_LAMBDA { return column(first + c); }, w, weights.panel_step(),
            p.count);
      } else {
        for (std::size_t kx = 0; kx < source.kernel.width; ++kx)
          Taps::tap(
              sums,
              [&](std::size_t i) POLYMAC_INLINE_LAMBDA {
                return column(first + i * source.stride.width + kx * source.dilation.width);
              },
              w + kx * Weights::panel, weights.panel_step(), p.count);
      }
    }
    finish_block(sums, p, x);
  }

  template <class Block>
  POLYMAC_INLINE void finish_block(const Block& sums, const place& p, std::size_t x) const noexcept {
    const std::size_t row = p.row + x;
    if constexpr (finishes_in_lanes<I, float, Epilogue>()) {
      output_type* to[Block::rows];
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Block::rows; ++i) to[i] = output.row(row + i) + p.channel;
      lanes_of(epilogue).lanes(sums, {row, p.channel}).store(to, p.count);
    } else {
      float stored[Block::groups * 16];
      float* to[Block::rows];
      for (std::size_t i = 0; i < Block::rows; ++i) to[i] = stored + i * Block::panels * 16;
      sums.store(to, 16);
      kernel::finish<I>(epilogue, output, stored, Block::panels * 16,
                        {row, Block::rows, 0, (Block::panels - 1) * 16 + p.count, p.channel});
    }
  }
};

}  // namespace detail
}  // namespace kernel
POLYMAC_END
