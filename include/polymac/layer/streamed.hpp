// SPDX-License-Identifier: MIT
// A layer with a policy of activations: frame after frame, what has not changed or is zero is not multiplied.
//
//      x --compare with the reference--> pixels that have changed --dilate--> outputs that read one of them
//                |                          |                                        |
//      reference is brought up to x         groups of each that live or have         |
//                                           changed: a list, made once               |
//                                                   |               its window: the lists of its pixels, put together
//                                                   |                 |              |                  |
//                                                   +---------------->|              |                  |
//                                                                  empty:         few groups         many groups
//                                                                  a constant,    listed_rows        a tile of rows,
//                                                                  or nothing        |               THE loop nest
//                                                                     +--------------+------------------+
//                                                                      epilogue, scattered to the outputs in the state
//
// Without a policy of changes all outputs are looked at, and the reference is a copy of x. Which way a row goes is
// decided by what its list costs (row_costs.hpp), and gives the same sums (exact arithmetics: the same bits) in any case.
// A pixel's list is made once and read by all windows that hold it, nine of 3 x 3; comparing windows took half of the time
// of a call. Where there is code for it elements are listed instead of groups, once for a line.
//
//      streamed_layer.hpp     what follows from the dense layer and the policy
//      stream_reference.hpp   what of x is transmitted, and which pixels that changes
//      pixel_lists.hpp        the groups of a pixel that live or have changed
//      rows_by_groups.hpp, rows_by_elements.hpp, rows_by_windows.hpp   the three ways of computing a row
//      stream_memory.hpp, stream_state.hpp                             what is remembered from call to call
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/text.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/changes.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/pixel_lists.hpp"
#include "polymac/layer/rows_by_elements.hpp"
#include "polymac/layer/rows_by_groups.hpp"
#include "polymac/layer/rows_by_windows.hpp"
#include "polymac/layer/signature.hpp"
#include "polymac/layer/stream_reference.hpp"
#include "polymac/layer/stream_state.hpp"
#include "polymac/layer/streamed_layer.hpp"
#include "polymac/layer/view_check.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

POLYMAC_BEGIN
namespace layer {

/// Inner: a linear or conv2d, with or without a policy of weights. P: policy::delta, policy::zero_skip, or both of them.
/// Made by conv2d<M, P>(...) and linear<M, P>(...).
///
/// A call is noexcept and allocates nothing; the state is the caller's (make_state), and calls with different states may
/// run at once. The outputs are those of `inner()` on state.reference(), of which no element is farther from x than the
/// threshold.
template <class Inner, class P>
class streamed {
  using layer_type = detail::streamed_layer<Inner, P>;
  using memory = typename layer_type::memory;
  using by_windows = detail::rows_by_windows<layer_type>;
  using by_groups = detail::rows_by_groups<layer_type>;
  using by_elements = detail::rows_by_elements<layer_type>;
  using lists = detail::pixel_lists<layer_type>;
  using way = detail::way;
  static constexpr bool slides = layer_type::slides;

 public:
  using mac = typename Inner::mac;
  using atom = typename Inner::atom;
  using activation = typename Inner::activation;
  using sum = typename Inner::sum;
  using output = typename Inner::output;
  using accumulator = typename mac::accumulator;
  using state = stream_state<activation, output, accumulator>;

  template <class... Arguments>
  constexpr explicit streamed(std::uint64_t identity, Arguments&&... arguments)
      : layer_{Inner(std::forward<Arguments>(arguments)...)}, identity_(identity) {
    if (!layer_.inner.status().ok()) return;
    if constexpr (layer_type::may_list_elements) status_ = by_elements::prepare(layer_, arguments...);
    if (status_.ok()) status_ = by_windows::prepare_zero_row(layer_);
    polymac::detail::raise_unless_ok(status_);
  }

  constexpr const polymac::status& status() const noexcept {
    return layer_.inner.status().ok() ? status_ : layer_.inner.status();
  }
  /// The dense layer.
  constexpr const Inner& inner() const noexcept { return layer_.inner; }
  constexpr std::size_t workspace_bytes() const noexcept requires slides { return layer_.inner.workspace_bytes(); }
  constexpr std::size_t workspace_bytes(extent2d input) const noexcept requires slides {
    return layer_.inner.workspace_bytes(input);
  }
  constexpr extent2d output_size(extent2d input) const noexcept requires slides {
    return layer_.inner.output_size(input);
  }

  /// The state of `batch` images of that size. Throws polymac::error (or sets status()) where the window does not fit or
  /// memory fails.
  state make_state(extent2d input, std::size_t batch = 1) const requires slides {
    return make_state_of(input, batch, layer_.in_channels());
  }
  /// The state of a linear layer on so many rows.
  state make_state(std::size_t rows = 1) const requires(!slides) {
    return make_state_of({1, rows}, 1, layer_.in_channels());
  }

  /// Computes y from x: all of it; what has not changed is copied from the state. x: n x h x w x in_channels, y: n x oh x
  /// ow x out_channels. `ws` needs workspace_bytes().
  polymac::status operator()(const image_view<const activation>& x, const image_view<output>& y, state& s,
                             workspace ws = {}) const noexcept requires slides {
    const auto& h = s.memory_.shape;
    if (y.batch != h.batch || y.height != h.output.height || y.width != h.output.width || y.channels != h.out_channels)
      return polymac::status::make(errc::shape, "streamed conv2d: expected y of ", h.batch, " x ", h.output.height,
                                   " x ", h.output.width, " x ", h.out_channels, ", got ", y.batch, " x ", y.height,
                                   " x ", y.width, " x ", y.channels);
    if (auto wrong = detail::check_memory("streamed conv2d", x, y); !wrong.ok()) return wrong;
    if (auto wrong = run(x, s, ws); !wrong.ok()) return wrong;
    copy_outputs(s, y);
    return {};
  }
  /// The same for those who read state.output().
  polymac::status operator()(const image_view<const activation>& x, state& s,
                             workspace ws = {}) const noexcept requires slides {
    return run(x, s, ws);
  }
  /// x: rows x depth, y: rows x columns.
  polymac::status operator()(const matrix_view<const activation>& x, const matrix_view<output>& y,
                             state& s) const noexcept requires(!slides) {
    if (y.rows != s.memory_.shape.output.width || y.columns != s.memory_.shape.out_channels)
      return polymac::status::make(errc::shape, "streamed linear: expected y of ", s.memory_.shape.output.width, " x ",
                                   s.memory_.shape.out_channels, ", got ", y.rows, " x ", y.columns);
    if (auto wrong = detail::check_memory("streamed linear", x, y); !wrong.ok()) return wrong;
    if (auto wrong = run(line_of(x), s, {}); !wrong.ok()) return wrong;
    copy_outputs(s, line_of(y));
    return {};
  }
  polymac::status operator()(const matrix_view<const activation>& x, state& s) const noexcept requires(!slides) {
    return run(line_of(x), s, {});
  }

  /// Policy, the dense layer, and how rows are computed, in words.
  constexpr text<767> explain() const noexcept {
    return text<767>::join("streamed<", P::name, "> around ", layer_.inner.explain().view(), "; ",
                           !layer_type::lists ? "whole rows only, as this arithmetic's kernel takes no lists"
                           : layer_.weights().wide_sums() ? "whole rows only, as sums are gathered in 64 bits"
                           : !layer_.uses_lists()         ? "whole rows only, as groups of k are not of one pixel each"
                           : layer_.keeps_sums()          ? "rows by lists where those are shorter, sums are kept"
                           : layer_type::skips_zeros      ? "rows by lists where those are shorter"
                                                          : "whole rows",
                           "; a list is predicted to be faster below ", layer_.cost().break_even(),
                           " % of the groups, and all of it than the dense layer where less than ",
                           static_cast<std::size_t>(100 * layer_.cost().dense() / layer_.cost().whole()),
                           " % of the rows are computed");
  }

 private:
  template <class T>
  static image_view<T> line_of(const matrix_view<T>& m) noexcept {
    return {m.data, 1, 1, m.rows, m.columns, m.stride, m.rows * m.stride, m.rows * m.stride};
  }

  state make_state_of(extent2d input, std::size_t batch, std::size_t channels) const {
    state s;
    s.status_ = fill_state(s, input, batch, channels);
    polymac::detail::raise_unless_ok(s.status_);
    return s;
  }
  polymac::status fill_state(state& s, extent2d input, std::size_t batch, std::size_t channels) const noexcept {
    if (!status().ok()) return status();
    memory& m = s.memory_;
    window_geometry geometry{};
    if (input.width > 0 && batch > 0)
      if (auto wrong = resolve(layer_.taps(), input, geometry); !wrong.ok()) return wrong;
    m.shape = {batch, channels,        layer_.frame_channels(), layer_.out_channels(),
               input, geometry.output, geometry.padding};
    s.layer_ = identity_;
    if constexpr (layer_type::has_delta)
      m.threshold = static_cast<typename state::threshold_type>(layer_type::delta::threshold);
    const extent2d frame = m.frame_extent();
    const std::size_t pixels = frame.height * frame.width, rows = geometry.output.height * geometry.output.width;
    const std::size_t held = m.shape.frame_channels;
    constexpr std::size_t most = static_cast<std::uint32_t>(-1);
    if (pixels > most / (held > 0 ? held : 1) || rows > most)
      return polymac::status::make(errc::shape, "state: an image of ", input.height, " x ", input.width, " x ",
                                   channels, " has more than 2^32 activations");
    const std::size_t depth = layer_.window_elements(), stride = layer_.sum_stride();
    m.frames_size = batch * pixels * held;
    bool lists_elements = false;
    if constexpr (layer_type::may_list_elements)
      lists_elements = layer_.element_rows.size() > 0 && frame.width * channels <= 65535;
    auto result = m.frames.resize(m.frames_size * (layer_.keeps_sums() && !lists_elements ? 2 : 1));
    const auto resize = [&](auto& what, std::size_t count) {
      if (result.ok()) result = what.resize(count);
    };
    resize(m.outputs, batch * rows * layer_.out_channels());
    resize(m.marks, pixels + 8);
    resize(m.lines, frame.height);
    resize(m.joined, frame.width + 8);
    resize(m.dirty, geometry.output.width + 16);
    resize(m.pixels, rows + 8);
    resize(m.whole, layer_type::most_whole * depth);
    resize(m.row_outputs,
           polymac::detail::greater(layer_type::most_whole, layer_type::most_listed) * layer_.out_channels());
    if (layer_.keeps_sums()) resize(m.sums, batch * rows * stride);
    if constexpr (layer_type::may_list_elements)
      if (lists_elements) by_elements::reserve(layer_, m, resize);
    if (layer_.uses_lists() && (layer_.keeps_sums() || layer_type::skips_zeros)) by_groups::reserve(layer_, m, resize);
    if (layer_.uses_lists())
      resize(m.row_sums, polymac::detail::greater(layer_type::most_whole, 2 * layer_type::most_listed) *
                                 polymac::detail::greater(stride, layer_.columns()) +
                             16);
    if (!result.ok()) return result;
    const activation zero = detail::insides::zero_point(layer_.inner);
    for (std::size_t i = 0; i < m.frames.size(); ++i) m.frames[i] = i % held < channels ? zero : activation{};
    for (std::size_t i = 0; i < m.zero_pixel.size(); ++i) m.zero_pixel[i] = i < channels ? zero : activation{};
    return {};
  }

  static void copy_outputs(const state& s, const image_view<output>& y) noexcept {
    const auto from = s.output();
    const std::size_t line = from.width * from.channels;
    for (std::size_t n = 0; n < from.batch; ++n)
      for (std::size_t oy = 0; oy < from.height; ++oy) {
        if (y.pixel_stride == y.channels) {
          std::memcpy(static_cast<void*>(y.pixel(n, oy, 0)), from.pixel(n, oy, 0), line * sizeof(output));
          continue;
        }
        for (std::size_t ox = 0; ox < from.width; ++ox)
          std::memcpy(static_cast<void*>(y.pixel(n, oy, ox)), from.pixel(n, oy, ox), from.channels * sizeof(output));
      }
  }

  polymac::status check_call(const image_view<const activation>& x, const state& s) const noexcept {
    constexpr const char* who = slides ? "streamed conv2d" : "streamed linear";
    if (!status().ok()) return status();
    if (!s.status_.ok()) return s.status_;
    if (s.layer_ != identity_ || s.memory_.shape.out_channels != layer_.out_channels())
      return polymac::status::make(errc::parameter, who,
                                   ": this state was made by another layer (other weights or policies)");
    const auto& h = s.memory_.shape;
    if (x.batch != h.batch || x.height != h.input.height || x.width != h.input.width || x.channels != h.channels)
      return polymac::status::make(errc::shape, who, ": expected x of ", h.batch, " x ", h.input.height, " x ",
                                   h.input.width, " x ", h.channels, ", for which the state was made, got ", x.batch,
                                   " x ", x.height, " x ", x.width, " x ", x.channels);
    if (x.batch * x.height * x.width * x.channels > 0) return detail::check_view(who, "x", x);
    return {};
  }

  polymac::status run(const image_view<const activation>& x, state& s, workspace ws) const noexcept {
    if (auto wrong = check_call(x, s); !wrong.ok()) return wrong;
    memory& m = s.memory_;
    m.last = {};
    const extent2d frame = m.frame_extent(), out = m.shape.output;
    const std::size_t rows = out.height * out.width;
    m.last.of_rows = x.batch * rows;
    m.last.of_macs = m.last.of_rows * layer_.sets() * layer_.columns() * layer_.real_depth();
    if (m.last.of_rows == 0 || x.channels == 0) return {};
    if (s.dense_calls_ > 0) return run_dense_calls(x, s, ws);
    const bool all =
        !layer_type::has_delta || s.frames_ == 0 || (layer_type::refresh > 0 && s.frames_ % layer_type::refresh == 0);
    double cost = 0;  // of what lists do where sums are kept
    const bool looks_at_zeros = layer_type::skips_zeros && all && layer_.uses_lists();
    for (std::size_t n = 0; n < x.batch; ++n) {
      if constexpr (layer_type::may_list_elements)
        if (m.changed_places.size() > 0 && (!all || layer_type::skips_zeros)) {
          cost += by_elements::run(layer_, m, x, n, all);
          continue;
        }
      std::memset(m.lines.data(), 0, m.lines.size());
      std::memset(m.marks.data(), 0, m.marks.size());
      if (all)
        detail::transmit_all(x, n, m);
      else
        detail::transmit_changes<layer_type::grain>(x, n, m);
      way how = way::whole;
      if (looks_at_zeros)
        how = lists::list_zeros(layer_, m, n);
      else if (!all && layer_.keeps_sums())
        how = lists::list_changes(layer_, m, n);
      kernel::listed_pixel* end = m.pixels.data();
      if (all && (!looks_at_zeros || how == way::whole))
        end = kernel::list_all_outputs(frame, layer_.taps(), out, end);
      else
        end = kernel::list_outputs(m.marks.data(), m.lines.data(), frame, layer_.taps(), out, m.joined.data(),
                                   m.dirty.data(), end);
      const auto count = static_cast<std::size_t>(end - m.pixels.data());
      if (!layer_.keeps_sums() && whole_is_better(m, count, how)) {
        if (auto wrong = by_windows::run_dense(layer_, m, n, ws); !wrong.ok()) return wrong;
        m.last.rows += rows;
        m.last.macs += rows * layer_.sets() * layer_.columns() * layer_.real_depth();
        if (!all || !layer_type::has_delta) s.dense_calls_ = calls_without_looking;
      } else if (layer_.keeps_sums() && how == way::whole && count == rows) {
        m.last.rows += rows;
        if (auto wrong = by_windows::sum_up_all(layer_, m, n, ws); !wrong.ok()) return wrong;
      } else {
        m.last.rows += count;
        if (looks_at_zeros && count < rows) by_windows::fill_zero_rows(layer_, m, n);
        cost += by_groups::compute(layer_, m, n, count, how);
        if (how != way::whole) cost += by_groups::listing_cost(m);
      }
      if (layer_.keeps_sums()) detail::keep_reference(n, all, m);
    }
    ++s.frames_;
    if (!layer_type::forced && layer_.keeps_sums() && (!all || !layer_type::has_delta) &&
        cost > layer_.cost().dense() * static_cast<double>(m.last.of_rows))
      s.dense_calls_ = calls_without_looking;
    return {};
  }
  /// After a call that had better been the dense layer so many are it: all of x is transmitted, nothing is compared.
  static constexpr std::size_t calls_without_looking = 7;
  polymac::status run_dense_calls(const image_view<const activation>& x, state& s, workspace ws) const noexcept {
    memory& m = s.memory_;
    for (std::size_t n = 0; n < x.batch; ++n) {
      detail::transmit_all(x, n, m);
      if (auto wrong = by_windows::run_dense(layer_, m, n, ws); !wrong.ok()) return wrong;
    }
    m.last.rows = m.last.of_rows;
    m.last.macs = m.last.of_macs;
    if (--s.dense_calls_ == 0 && layer_.keeps_sums())
      s.frames_ = 0;  // sums are those of an older frame
    else
      ++s.frames_;
    return {};
  }
  /// Is the dense layer faster? Where nearly all rows are asked for; with zeros, by what lists of some rows cost.
  bool whole_is_better(const memory& m, std::size_t count, way how) const noexcept {
    if (layer_type::forced) return false;
    const double dense = layer_.cost().dense() * static_cast<double>(m.shape.output.height * m.shape.output.width);
    if (how == way::whole) return layer_.cost().whole() * static_cast<double>(count) >= 0.95 * dense;
    if (count == 0) return false;
    return by_groups::predicted_cost(layer_, m, count, how) + by_groups::listing_cost(m) >= 0.95 * dense;
  }

  layer_type layer_;
  std::uint64_t identity_ = 0;
  polymac::status status_;
};

namespace detail {

/// What tells layers apart: their policies and bias; weights are added.
template <class M, class P, class Bias>
signature identity_of(const Bias& bias) noexcept {
  signature s;
  s.add_text(M::name);
  s.add_text(P::name);
  for (const auto& b : bias) s.add(b);
  return s;
}

}  // namespace detail

}  // namespace layer

/// Builds a layer::streamed around a conv2d:
/// `conv2d<mac::uint8, policy::delta<4>>({.padding = same}, weights, bias, stages)`,
/// `conv2d<mac::int8, policy::both<policy::n_of_m<2, 4>, policy::delta<4>>>(...)`.
template <Mac M, policy::ActivationPolicy P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto conv2d(const layer::convolution& c, const Weights& weights, const Bias& bias, E stages = {},
            const layer::quantization<M>& q = {}) {
  using inner = layer::conv2d<M, E, I, extents<dynamic, dynamic, dynamic, dynamic>, kernel::owned_memory,
                              policy::detail::weights_of<P>>;
  auto identity = layer::detail::identity_of<M, P>(bias);
  if (layer::detail::has_data(weights.data))
    for (std::size_t o = 0; o < weights.batch; ++o)
      for (std::size_t y = 0; y < weights.height; ++y)
        for (std::size_t x = 0; x < weights.width; ++x)
          for (std::size_t i = 0; i < weights.channels; ++i) identity.add(weights(o, y, x, i));
  return layer::streamed<inner, P>(identity.value(), c, weights, std::span(std::data(bias), std::size(bias)),
                                   std::move(stages), q);
}
/// The same around a linear layer.
template <Mac M, policy::ActivationPolicy P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto linear(const Weights& weights, const Bias& bias, E stages = {}, const layer::quantization<M>& q = {}) {
  using inner = layer::linear<M, E, I, extents<dynamic, dynamic>, kernel::owned_memory, policy::detail::weights_of<P>>;
  auto identity = layer::detail::identity_of<M, P>(bias);
  if (layer::detail::has_data(weights.data))
    for (std::size_t c = 0; c < weights.rows; ++c)
      for (std::size_t k = 0; k < weights.columns; ++k) identity.add(weights(c, k));
  return layer::streamed<inner, P>(identity.value(), weights, std::span(std::data(bias), std::size(bias)),
                                   std::move(stages), q);
}

POLYMAC_END
