// SPDX-License-Identifier: MIT
// The loop nest of every pooling layer: a window slides over an image, a reducer folds what lies under it.
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/avx512_column_maxima.hpp"  // alone: see isa/all.hpp
#include "polymac/isa/avx512_column_sums.hpp"    // likewise

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

namespace detail {

/// Taps of one axis that lie on the input, and how many lie on the padded input.
struct tap_range {
  std::size_t first = 0;   ///< index of the first tap on the input
  std::size_t count = 0;   ///< taps on the input
  std::size_t padded = 0;  ///< taps on the input or its padding
  std::size_t start = 0;   ///< input coordinate of the first tap
};

constexpr tap_range taps_of(std::size_t position, std::size_t stride, std::size_t dilation, std::size_t kernel,
                            std::size_t begin, std::size_t input, std::size_t end) noexcept {
  const std::size_t origin = position * stride;  // in coordinates of the padded input
  if (origin >= begin && origin + (kernel - 1) * dilation < begin + input) return {0, kernel, kernel, origin - begin};
  const auto below = [&](std::size_t limit) {  // taps whose coordinate is less than `limit`
    if (origin >= limit) return std::size_t{0};
    const std::size_t n = (limit - origin - 1) / dilation + 1;
    return n < kernel ? n : kernel;
  };
  tap_range t;
  t.first = below(begin);
  t.count = below(begin + input) - t.first;
  t.padded = below(begin + input + end);
  t.start = origin + t.first * dilation - begin;
  return t;
}

/// Folds `taps` pixels of one line, `stride` apart, into the accumulators of the channels.
template <class T, class Reducer>
constexpr void fold_line(const T* from, std::size_t stride, std::size_t taps, std::size_t channels,
                         const Reducer& reducer, typename Reducer::accumulator* into) noexcept {
  if constexpr (Reducer::sums && isa::has_column_sums<T, isa::native>)
    if (!std::is_constant_evaluated())
      return isa::best_column_sums<T, isa::native>::add(from, stride, taps, channels, into);
  for (std::size_t k = 0; k < taps; ++k, from += stride)
    for (std::size_t i = 0; i < channels; ++i) into[i] = reducer.fold(into[i], from[i]);
}

}  // namespace detail

/// y[n][oy][ox][c] = reducer.finish(fold over the taps of x[n][..][..][c], taps on the input, taps on the padded
/// input). The views fit the geometry (the layer checks). Channels are worked on in blocks that stay in L1.
///   Reducer: type `accumulator`; `accumulator start()`, `accumulator fold(accumulator, T)`, and `finish(inside,
///   padded)`, which gives what makes a T of an accumulator; all noexcept. One that sums has `sums = true`; one
///   that clamps the maximum to its `range` has `takes_maxima = true`.
template <class T, class Reducer>
constexpr void pool(const window& w, const window_geometry& g, image_view<const T> x, image_view<T> y,
                    const Reducer& reducer) noexcept {
  constexpr std::size_t block = isa::column_sums_block;
  constexpr bool maxima = Reducer::takes_maxima && isa::has_column_maxima<T, isa::native>;
  typename Reducer::accumulator sum[block]{};
  for (std::size_t n = 0; n < y.batch; ++n)
    for (std::size_t oy = 0; oy < y.height; ++oy) {
      const auto v = detail::taps_of(oy, w.stride.height, w.dilation.height, w.kernel.height, g.padding.top, x.height,
                                     g.padding.bottom);
      for (std::size_t ox = 0; ox < y.width; ++ox) {
        const auto h = detail::taps_of(ox, w.stride.width, w.dilation.width, w.kernel.width, g.padding.left, x.width,
                                       g.padding.right);
        for (std::size_t c = 0; c < x.channels; c += block) {
          const std::size_t channels = x.channels - c < block ? x.channels - c : block;
          if constexpr (maxima)
            if (!std::is_constant_evaluated()) {
              const isa::window_rows under{v.count, w.dilation.height * x.line_stride, h.count,
                                           w.dilation.width * x.pixel_stride};
              isa::best_column_maxima<T, isa::native>::find(x.pixel(n, v.start, h.start) + c, under, channels,
                                                            reducer.range.low, reducer.range.high,
                                                            y.pixel(n, oy, ox) + c);
              continue;
            }
          for (std::size_t i = 0; i < channels; ++i) sum[i] = reducer.start();
          for (std::size_t ky = 0; ky < v.count; ++ky)
            detail::fold_line(x.pixel(n, v.start + ky * w.dilation.height, h.start) + c,
                              w.dilation.width * x.pixel_stride, h.count, channels, reducer, sum);
          T* to = y.pixel(n, oy, ox) + c;
          const auto finished = reducer.finish(v.count * h.count, v.padded * h.padded);
          for (std::size_t i = 0; i < channels; ++i) to[i] = finished(sum[i]);
        }
      }
    }
}

}  // namespace kernel
POLYMAC_END
