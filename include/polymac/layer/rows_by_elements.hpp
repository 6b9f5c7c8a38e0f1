// SPDX-License-Identifier: MIT
// Rows of a layer with a policy of activations that are computed by elements: those of x that have changed are listed once
// for each line (kernel/changed_elements.hpp), and their products are added to the sums of the windows that read them.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/kernel/changed_elements.hpp"
#include "polymac/kernel/changes.hpp"
#include "polymac/kernel/framed_windows.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/quantization.hpp"
#include "polymac/layer/rows_by_windows.hpp"
#include "polymac/layer/streamed_layer.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Layer: streamed_layer that may list elements.
template <class Layer>
struct rows_by_elements {
  using memory = typename Layer::memory;
  using mac = typename Layer::mac;
  using activation = typename Layer::activation;
  using changed_bytes = typename Layer::changed_bytes;
  using costs = typename Layer::costs;
  using by_windows = rows_by_windows<Layer>;

  /// The weights once more, as rows of k; none where a product is not one of bytes.
  template <class Weights, class Bias, class Stages>
  static polymac::status prepare(Layer& l, const convolution&, const Weights& from, const Bias&, const Stages&,
                                 const quantization<mac>& q) noexcept {
    if (l.sets() != 1 || !l.uses_lists() || l.frame_channels() != l.in_channels() ||
        l.weights().groups() != l.weights().term_groups() || l.taps().dilation.width != 1)
      return {};
    const std::size_t taps_of_line = l.taps().kernel.width, channels = l.in_channels(), depth = l.real_depth();
    if (auto s = l.element_rows.resize(depth * changed_bytes::row_columns(l.columns())); !s.ok()) return s;
    const auto reader = detail::make_weight_reader<mac>(
        [&](std::size_t column, std::size_t k) {
          return from(column, k / channels / taps_of_line, k / channels % taps_of_line, k % channels);
        },
        q.weight_zero_points);
    for (std::size_t c = 0; c < changed_bytes::row_columns(l.columns()); ++c)
      for (std::size_t k = 0; k < depth; ++k)
        changed_bytes::put_weight(l.element_rows.data(), depth, l.columns(), c, k,
                                  c < l.columns() ? static_cast<std::int8_t>(reader.value(c, k)) : std::int8_t{0});
    return {};
  }

  /// The lists of a state whose memory has its shape; `resize`(buffer, elements).
  template <class Resize>
  static void reserve(const Layer& l, memory& s, const Resize& resize) noexcept {
    const std::size_t width = s.frame_extent().width, height = s.frame_extent().height;
    const std::size_t entries = kernel::changed_line_entries(width * s.shape.channels);
    resize(s.changed_places, height * entries);
    resize(s.changed_differences, height * entries);
    resize(s.changed_first, height * (width + 1));
    resize(s.changed_counts, s.shape.output.width);
    resize(s.changed_stretches, l.taps().kernel.height);  // new elements are 0: lines of padding stay so
  }
  static kernel::changed_line changes_of(memory& s, std::size_t line) noexcept {
    const extent2d frame = s.frame_extent();
    const std::size_t elements = kernel::changed_line_entries(frame.width * s.shape.channels);
    return {s.changed_places.data() + line * elements, s.changed_differences.data() + line * elements,
            s.changed_first.data() + line * (frame.width + 1)};
  }
  /// Lists the elements that have changed, and adds their products to the sums that read them. `all`: from an image of
  /// zero points on, of which the sums are known. Returns what that is predicted to cost.
  static double run(const Layer& l, memory& s, const image_view<const activation>& x, std::size_t n,
                    bool all) noexcept {
    const auto& h = s.shape;
    const extent2d frame = s.frame_extent();
    if constexpr (Layer::skips_zeros)
      if (all) {
        const std::size_t line = x.width * x.channels;
        for (std::size_t y = 0; y < x.height; ++y)
          kernel::detail::fill_elements(s.interior(n, y), insides::zero_point(l.inner), line);
        by_windows::fill_zero_rows(l, s, n);
      }
    for (std::size_t y = 0; y < x.height; ++y)
      kernel::list_changes<changed_bytes>(x.pixel(n, y, 0), x.pixel_stride, s.interior(n, y), x.width, x.channels,
                                          all ? 0 : s.threshold, h.padding.left, frame.width,
                                          changes_of(s, h.padding.top + y));
    return add(l, s, n);
  }
  static double add(const Layer& l, memory& s, std::size_t n) noexcept {
    const auto& h = s.shape;
    const extent2d frame = s.frame_extent();
    const window w = l.taps();
    const std::size_t stride = l.sum_stride(), depth = l.window_elements(), channels = h.channels;
    const auto line_depth = static_cast<std::ptrdiff_t>(w.kernel.width * channels);
    const auto copy = l.windows(frame);
    const activation* const image = s.frames.data() + n * frame.height * frame.width * channels;
    const std::size_t blocks = changed_bytes::row_columns(l.columns()) / 32;
    const double around = costs::around_elements(blocks), limit = l.cost().most_elements(blocks);
    const auto most = static_cast<std::uint32_t>(Layer::forced ? static_cast<double>(l.real_depth())
                                                 : limit > 0   ? limit
                                                               : 0);
    std::size_t wholes = 0, listed_rows = 0, elements = 0;
    std::size_t whole_rows[Layer::most_whole];
    std::size_t whole = 0;
    std::uint32_t* const counts = s.changed_counts.data();
    for (std::size_t oy = 0; oy < h.output.height; ++oy) {
      bool any = false;
      for (std::size_t ky = 0; ky < w.kernel.height; ++ky) {
        const std::uint32_t* const first = changes_of(s, oy * w.stride.height + ky * w.dilation.height).first;
        if (any && first[frame.width] == 0) continue;
        const std::uint32_t* const end = first + w.kernel.width;
        for (std::size_t ox = 0; ox < h.output.width; ++ox) {
          const std::size_t at = ox * w.stride.width;
          counts[ox] = (any ? counts[ox] : 0) + end[at] - first[at];
        }
        any = true;
      }
      const std::size_t first_row = (n * h.output.height + oy) * h.output.width;
      // Those that have changes, without a branch for each of the others.
      std::uint8_t* const dirty = s.dirty.data();
      for (std::size_t ox = 0; ox < h.output.width; ++ox) dirty[ox] = counts[ox] != 0 ? 1 : 0;
      kernel::listed_pixel* const end =
          kernel::list_dirty(dirty, h.output.width, 0, 0, w.stride.width, s.pixels.data());
      s.last.rows += static_cast<std::size_t>(end - s.pixels.data());
      std::size_t run = 0, run_end = 0;  // rows whose sums have changed and that wait for their epilogue
      const auto finish_run = [&] {
        if (run > 0) by_windows::finish_kept(l, s, first_row + run_end - run, run);
        run = 0;
      };
      for (const kernel::listed_pixel* pixel = s.pixels.data(); pixel != end; ++pixel) {
        const std::size_t ox = pixel->row, at = pixel->pixel;
        if (ox != run_end) finish_run();
        if (counts[ox] > most) {
          finish_run();
          ++wholes;
          copy.copy(image + (oy * w.stride.height * frame.width + at) * channels, s.whole.data() + whole * depth);
          whole_rows[whole++] = first_row + ox;
          if (whole == Layer::most_whole) by_windows::finish_whole(l, s, 0, whole_rows, std::exchange(whole, 0));
          continue;
        }
        for (std::size_t ky = 0; ky < w.kernel.height; ++ky) {
          const kernel::changed_line line = changes_of(s, oy * w.stride.height + ky * w.dilation.height);
          s.changed_stretches[ky] = {
              line.places + line.first[at], line.differences + line.first[at],
              line.first[at + w.kernel.width] - line.first[at],
              static_cast<std::ptrdiff_t>(ky) * line_depth - static_cast<std::ptrdiff_t>(at * channels)};
        }
        changed_bytes::add(l.element_rows.data(), l.real_depth(), l.columns(), s.changed_stretches.data(),
                           w.kernel.height, s.sums.data() + (first_row + ox) * stride);
        elements += counts[ox];
        ++listed_rows;
        ++run;
        run_end = ox + 1;
      }
      finish_run();
    }
    if (whole > 0) by_windows::finish_whole(l, s, 0, whole_rows, whole);
    s.last.macs += elements * l.columns();
    return l.cost().whole() * static_cast<double>(wholes) + around * static_cast<double>(listed_rows) +
           costs::element * static_cast<double>(elements * changed_bytes::row_columns(l.columns()) / 32);
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
