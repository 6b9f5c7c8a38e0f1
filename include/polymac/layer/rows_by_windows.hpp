// SPDX-License-Identifier: MIT
// Rows of a layer with a policy of activations that are computed whole: copied windows through THE loop nest, or all of an
// image by the dense layer. And how sums, whoever made them, become outputs.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/kernel/contract.hpp"
#include "polymac/kernel/contract_tiles.hpp"
#include "polymac/kernel/finish.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/streamed_layer.hpp"

#include <cstddef>
#include <cstring>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Copied windows as rows.
template <class Activation>
struct copied_rows {
  static constexpr bool one_stretch = true;
  static constexpr bool one_strip = true;
  const Activation* first;
  std::size_t count, depth;
  constexpr std::size_t rows() const noexcept { return count; }
  template <class Function>
  constexpr void strips(std::size_t begin, std::size_t end, const Function& f) const noexcept {
    kernel::strip<Activation> all;
    all.first = first + begin * depth;
    all.distance = static_cast<std::ptrdiff_t>(depth);
    all.rows = end - begin;
    all.output_row = begin;
    all.depth = depth;
    f(all);
  }
};

/// Layer: streamed_layer.
template <class Layer>
struct rows_by_windows {
  using memory = typename Layer::memory;
  using atom = typename Layer::atom;
  using activation = typename Layer::activation;
  using sum = typename Layer::sum;
  using output = typename Layer::output;
  using accumulator = typename Layer::accumulator;

  /// The sums and outputs of a window of zero points.
  static constexpr polymac::status prepare_zero_row(Layer& l) noexcept {
    if (auto s = l.zeros.resize(l.sum_stride()); !s.ok()) return s;
    if constexpr (Layer::skips_zeros) {
      const std::size_t stride = l.sum_stride();
      if (auto s = l.zero_sums.resize(l.sets() * stride); !s.ok()) return s;
      if (auto s = l.zero_outputs.resize(l.out_channels()); !s.ok()) return s;
      buffer<activation> row;
      if (auto s = row.resize(l.window_elements()); !s.ok()) return s;
      for (std::size_t k = 0; k < row.size(); ++k) row[k] = insides::zero_point(l.inner);
      const copied_rows<activation> source{row.data(), 1, row.size()};
      for (std::size_t g = 0; g < l.sets(); ++g) {
        kernel::contract<atom>(l.weights(), g, source, insides::stages(l.inner),
                               matrix_view<output>(l.zero_outputs.data(), 1, l.out_channels()), {}, {0, 1});
        if constexpr (Layer::lists)
          kernel::contract<atom>(
              l.weights(), g, source, epilogue::identity{},
              matrix_view<sum>(l.zero_sums.data() + g * (stride - l.columns()), 1, l.sets() * stride), {}, {0, 1});
      }
    }
    return {};
  }
  /// Sums and outputs of image n become those of such windows.
  static void fill_zero_rows(const Layer& l, memory& s, std::size_t n) noexcept {
    const std::size_t rows = s.shape.output.height * s.shape.output.width;
    output* to = s.outputs.data() + n * rows * l.out_channels();
    for (std::size_t r = 0; r < rows; ++r, to += l.out_channels())
      std::memcpy(static_cast<void*>(to), l.zero_outputs.data(), l.out_channels() * sizeof(output));
    if (l.keeps_sums())
      for (std::size_t r = n * rows; r < (n + 1) * rows; ++r)
        std::memcpy(static_cast<void*>(s.sums.data() + r * l.sum_stride()), l.zero_sums.data(),
                    l.sum_stride() * sizeof(accumulator));
  }

  /// All rows of image n by the dense layer, without sums.
  static polymac::status run_dense(const Layer& l, memory& s, std::size_t n, workspace ws) noexcept {
    const std::size_t rows = s.shape.output.height * s.shape.output.width;
    image_view<const activation> x = s.reference();
    output* const to = s.outputs.data() + n * rows * l.out_channels();
    if constexpr (Layer::slides) {
      x.data += n * x.image_stride;
      x.batch = 1;
      return l.inner(x, {to, 1, s.shape.output.height, s.shape.output.width, l.out_channels()}, ws);
    } else {
      return l.inner({x.data, rows, l.in_channels(), x.pixel_stride}, {to, rows, l.out_channels()});
    }
  }

  /// The sums of all rows, as the dense layer has them, and the outputs.
  static polymac::status sum_up_all(const Layer& l, memory& s, std::size_t n, workspace ws) noexcept {
    if constexpr (Layer::wants_sums || Layer::may_list_elements) {
      const extent2d out = s.shape.output;
      const std::size_t rows = out.height * out.width, stride = l.sum_stride();
      image_view<const activation> x = s.reference();
      accumulator* const sums = s.sums.data() + n * rows * stride;
      const auto raw = l.inner.raw_sums();
      polymac::status result;
      if constexpr (Layer::slides) {
        x.data += n * x.image_stride;
        x.batch = 1;
        result = raw(x, {sums, 1, out.height, out.width, l.columns(), stride, out.width * stride, rows * stride}, ws);
      } else {
        result = raw({x.data, rows, l.in_channels(), x.pixel_stride}, {sums, rows, l.columns(), stride});
      }
      if (!result.ok()) return result;
      finish_kept(l, s, n * rows, rows);
      s.last.macs += rows * l.columns() * l.real_depth();
    }
    return {};
  }
  /// The epilogue of rows side by side whose sums are kept.
  POLYMAC_NOINLINE static void finish_kept(const Layer& l, memory& s, std::size_t row, std::size_t count) noexcept {
    const std::size_t stride = l.sum_stride();
    kernel::finish<typename atom::isa>(
        insides::stages(l.inner),
        matrix_view<output>(s.outputs.data() + row * l.out_channels(), count, l.out_channels()),
        s.sums.data() + row * stride, stride, {0, count, 0, l.columns(), 0});
  }

  /// Sums of some rows, `stride` apart, through the stages to the outputs; they are kept where sums are.
  static void finish_sums(const Layer& l, memory& s, std::size_t g, const std::size_t* rows, std::size_t count,
                          const accumulator* sums, std::size_t stride) noexcept {
    if (l.keeps_sums())
      for (std::size_t i = 0; i < count; ++i)
        std::memcpy(static_cast<void*>(s.sums.data() + rows[i] * l.sum_stride()), sums + i * stride,
                    l.columns() * sizeof(accumulator));
    const matrix_view<output> to(s.row_outputs.data(), count, l.out_channels());
    kernel::finish<typename atom::isa>(insides::stages(l.inner), to, sums, stride,
                                       {0, count, 0, l.columns(), g * l.columns()});
    scatter(l, s, g, rows, count);
  }
  /// Brings row_outputs to where they belong.
  static void scatter(const Layer& l, memory& s, std::size_t g, const std::size_t* rows, std::size_t count) noexcept {
    const output* from = s.row_outputs.data() + g * l.columns();
    for (std::size_t i = 0; i < count; ++i, from += l.out_channels())
      std::memcpy(static_cast<void*>(s.outputs.data() + rows[i] * l.out_channels() + g * l.columns()), from,
                  l.columns() * sizeof(output));
  }
  /// Computes the windows that were copied to s.whole, and brings them to the outputs of `rows`.
  POLYMAC_NOINLINE static void finish_whole(const Layer& l, memory& s, std::size_t g, const std::size_t* rows,
                                            std::size_t count) noexcept {
    const std::size_t depth = l.window_elements();
    s.last.macs += count * l.columns() * l.real_depth();
    const copied_rows<activation> source{s.whole.data(), count, depth};
    if constexpr (Layer::lists) {
      if (l.keeps_sums()) {
        const std::size_t stride = l.sets() * l.columns();
        kernel::contract<atom>(l.weights(), g, source, epilogue::identity{},
                               matrix_view<sum>(s.row_sums.data(), count, stride), {}, {0, count});
        // Epilogues read whole registers of sums: rows go on behind the columns.
        finish_sums(l, s, g, rows, count, s.row_sums.data() + g * l.columns(), stride);
        return;
      }
    }
    const matrix_view<output> to(s.row_outputs.data(), count, l.out_channels());
    if constexpr (kernel::has_tiles<atom>) {
      if (g == 0 && l.sets() == 1) {
        detail::multiply_rows<atom>(l.weights(), matrix_view<const activation>(s.whole.data(), count, depth),
                                    insides::stages(l.inner), to, {0, count}, l.inner.runs_on_tiles(count));
        return scatter(l, s, g, rows, count);
      }
    }
    kernel::contract<atom>(l.weights(), g, source, insides::stages(l.inner), to, {}, {0, count});
    scatter(l, s, g, rows, count);
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
