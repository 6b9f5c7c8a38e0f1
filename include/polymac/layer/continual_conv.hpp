// SPDX-License-Identifier: MIT
// Convolution over time, one slice at a time: one dimension (a linear over the last steps), or images and time.
#pragma once

#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/slice_ring.hpp"
#include "polymac/layer/view_check.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace layer {

/// How a convolution slides over images and time.
struct continual_convolution {
  convolution space{};         ///< of each slice; one group
  policy::time_window time{};  ///< `kernel` images of the weights make up a filter
};

namespace detail {

/// Filters of time x height x width x channels as those of a conv2d over time * channels channels, the oldest slice
/// first: what a pixel of a ring holds. `weights` has batch = output channels * taps.
template <class Weights>
struct filters_over_time {
  const Weights& weights;
  std::size_t taps;
  std::size_t batch, height, width, channels;
  decltype(std::declval<const Weights&>().data) data;

  constexpr filters_over_time(const Weights& w, std::size_t taps_in_time) noexcept
      : weights(w),
        taps(taps_in_time),
        batch(taps > 0 ? w.batch / taps : 0),
        height(w.height),
        width(w.width),
        channels(w.channels * taps),
        data(w.data) {}
  constexpr auto operator()(std::size_t o, std::size_t y, std::size_t x, std::size_t c) const noexcept {
    return weights(o * taps + c / weights.channels, y, x, c % weights.channels);
  }
};

}  // namespace detail

/// y of step t = epilogue(bias[o] + sum over j, ky, kx, c of
///                        (x of step t - (kernel - 1 - j) * dilation)[..ky..][..kx..][c] * w[o][j][ky][kx][c])
/// as a conv2d, or a linear, over the `kernel` last slices (layer/slice_ring.hpp). Steps before the first count as zero
/// points. Each step computes its output once: a clip of T steps that slides by one would cost T times as much.
///
///   Inner  layer::conv2d or layer::linear, with any arithmetic, epilogue, instruction set and policy of weights
///
/// With floats, padding in time is multiplied as zeros; that differs from leaving it out where a weight is not finite.
template <class Inner>
class continual_conv {
 public:
  using mac = typename Inner::mac;
  using activation = typename Inner::activation;
  using output = typename Inner::output;
  using state_type = continual_state<activation>;

 private:
  static constexpr bool is_linear = requires(const Inner& l) { l.columns(); };

 public:
  /// Images and time. weights: output channels * kernel x height x width x channels, the slices of a filter one after
  /// the other, the oldest first (OTHWI); bias, stages, q as in layer::conv2d. Throws polymac::error (or sets
  /// `status()` where exceptions are off) on what does not fit.
  template <class Weights, class Bias, class Stages>
  continual_conv(const continual_convolution& c, const Weights& weights, std::span<const Bias> bias, Stages stages,
                 const quantization<mac>& q) requires(!is_linear)
      : time_(c.time),
        zero_point_(q.activation_zero_point),
        status_(check(c.time, weights.batch, c.space.groups)),
        inner_(c.space, detail::filters_over_time<Weights>(weights, c.time.kernel), bias, std::move(stages), q),
        channels_(weights.channels) {
    sign(weights.batch, weights.height, weights.width, weights.channels,
         [&](std::size_t o, std::size_t y, std::size_t x, std::size_t i) { return weights(o, y, x, i); });
  }
  /// One dimension. weights: columns x (kernel * channels), the oldest slice first.
  template <class Weights, class Bias, class Stages>
  continual_conv(const policy::time_window& time, const Weights& weights, std::span<const Bias> bias, Stages stages,
                 const quantization<mac>& q) requires(is_linear)
      : time_(time),
        zero_point_(q.activation_zero_point),
        status_(check(time, weights.columns, 1)),
        inner_(weights, bias, std::move(stages), q),
        channels_(time.kernel > 0 ? weights.columns / time.kernel : 0) {
    sign(weights.rows, 1, 1, weights.columns,
         [&](std::size_t o, std::size_t, std::size_t, std::size_t i) { return weights(o, i); });
  }

  const polymac::status& status() const noexcept { return status_.ok() ? inner_.status() : status_; }
  const policy::time_window& time() const noexcept { return time_; }
  std::size_t receptive_field() const noexcept { return policy::receptive_field(time_); }
  /// Steps from an input to the first output of which it is the first slice.
  std::size_t delay() const noexcept { return policy::delay(time_); }
  std::size_t in_channels() const noexcept { return channels_; }
  std::size_t weight_bytes() const noexcept { return inner_.weight_bytes(); }
  /// The layer that computes an output from a whole window.
  const Inner& inner() const noexcept { return inner_; }
  /// Bytes of workspace a step needs; with those for slices of a size it is fastest.
  std::size_t workspace_bytes() const noexcept {
    if constexpr (is_linear)
      return 0;
    else
      return inner_.workspace_bytes();
  }
  std::size_t workspace_bytes(extent2d slice) const noexcept {
    if constexpr (is_linear)
      return 0;
    else
      return inner_.workspace_bytes(slice);
  }
  /// Multiply-accumulates of a step that gives an output, for slices of that size.
  std::size_t macs(extent2d slice = {1, 1}) const noexcept {
    if constexpr (is_linear)
      return inner_.columns() * inner_.depth();
    else
      return inner_.macs(slice);
  }

  /// The past of a stream of slices of that size, or of `batch` streams that run in step. Allocates; throws
  /// polymac::error (or the state says why not in `status()`).
  state_type make_state(extent2d slice = {1, 1}, std::size_t batch = 1) const {
    auto why_not = status();
    if (is_linear && why_not.ok() && slice != extent2d{1, 1})
      why_not = polymac::status::make(errc::shape, "continual_conv: expected slices of 1 x 1 for one dimension, got ",
                                      slice.height, " x ", slice.width);
    auto s = detail::ring_access::make<activation>(time_, time_.kernel, batch, slice, channels_, zero_point_,
                                                   signature_, why_not);
    polymac::detail::raise_unless_ok(s.status());
    return s;
  }

  /// Takes the next slice. y is written if state.has_output() afterwards: from step delay() on, each `stride` steps;
  /// else it is left alone, and may be empty. x: batch x height x width x channels; y: batch x output; they must not
  /// overlap. `ws` as in the inner layer. Fails on views, a state or a workspace that do not fit, and then the state is
  /// as it was.
  polymac::status operator()(image_view<const activation> x, image_view<output> y, state_type& state,
                             workspace ws = {}) const noexcept {
    auto s = check(state);
    if (s.ok()) s = detail::ring_access::check_slice(who, state, x);
    if (s.ok() && !detail::has_data(x.data))
      s = polymac::status::make(errc::parameter, who, ": the view x has no data");
    if (s.ok() && !detail::strides_fit(x))
      s = polymac::status::make(errc::shape, who, ": the strides of x are smaller than its extents");
    return s.ok() ? step(x, y, state, ws) : s;
  }
  /// The same in one dimension: a slice is a row of x for each stream.
  polymac::status operator()(matrix_view<const activation> x, matrix_view<output> y, state_type& state,
                             workspace ws = {}) const noexcept {
    return (*this)(as_image(x), as_image(y), state, ws);
  }
  /// A step of padding: at the end of a stream `time().padding` of them give the outputs that a padded clip ends with.
  polymac::status flush(image_view<output> y, state_type& state, workspace ws = {}) const noexcept {
    const auto s = check(state);
    return s.ok() ? step({}, y, state, ws) : s;
  }
  polymac::status flush(matrix_view<output> y, state_type& state, workspace ws = {}) const noexcept {
    return flush(as_image(y), state, ws);
  }

  /// A whole clip from the beginning, flushed at its end: x: steps x height x width x channels; y: output_length x
  /// output. The state is of one stream; it is reset first, and afterwards as the steps left it.
  polymac::status forward(image_view<const activation> x, image_view<output> y, state_type& state,
                          workspace ws = {}) const noexcept {
    auto s = check(state);
    if (s.ok() && state.batch() != 1)
      s = polymac::status::make(errc::shape, who, ": expected the state of one stream, got ", state.batch());
    if (s.ok() && y.batch != policy::output_length(time_, x.batch))
      s = polymac::status::make(errc::shape, who, ": expected ", policy::output_length(time_, x.batch),
                                " outputs for a clip of ", x.batch, " steps, got ", y.batch);
    if (!s.ok()) return s;
    state.reset();
    auto slice = x;
    slice.batch = 1;
    auto out = y;
    for (std::size_t t = 0; t < x.batch + (x.batch > 0 ? time_.padding : 0) && s.ok(); ++t) {
      out.batch = detail::ring_access::gives_output(state) ? 1 : 0;
      s = t < x.batch ? (*this)(slice, out, state, ws) : flush(out, state, ws);
      slice.data += t + 1 < x.batch ? x.image_stride : 0;
      if (s.ok() && state.has_output()) out.data += y.image_stride;
    }
    return s;
  }

  /// Window and ring, and the inner layer, in words.
  text<767> explain() const noexcept {
    if (!status().ok()) return text<767>::join(status().text());
    return text<767>::join("continual_conv: ", time_.kernel, " taps in time, stride ", time_.stride, ", dilation ",
                           time_.dilation, ", receptive field ", receptive_field(), ", delay ", delay(),
                           " steps, ring of ", time_.dilation * (2 * time_.kernel - 1), " slices, then ",
                           inner_.explain().view());
  }

 private:
  static constexpr const char* who = "continual_conv";

  static polymac::status check(const policy::time_window& time, std::size_t filters, std::size_t groups) {
    auto s = policy::check(who, time);
    if (s.ok() && (filters == 0 || filters % time.kernel != 0))
      s = polymac::status::make(errc::shape, who, ": expected weights for ", time.kernel, " slices of a window, got ",
                                filters, is_linear ? " k" : " slices");
    if (s.ok() && groups != 1) s = polymac::status::make(errc::unsupported, who, ": expected one group, got ", groups);
    polymac::detail::raise_unless_ok(s);
    return s;
  }
  polymac::status check(const state_type& state) const noexcept {
    if (!status().ok()) return status();
    return detail::ring_access::check(who, state, time_, channels_, zero_point_, signature_);
  }
  template <class WeightOf>
  void sign(std::size_t filters, std::size_t height, std::size_t width, std::size_t channels,
            const WeightOf& weight_of) {
    if (!status().ok()) return;
    detail::signature s;
    for (std::size_t o = 0; o < filters; ++o)
      for (std::size_t y = 0; y < height; ++y)
        for (std::size_t x = 0; x < width; ++x)
          for (std::size_t c = 0; c < channels; ++c) s.add(weight_of(o, y, x, c));
    signature_ = s.value();
  }

  polymac::status step(const image_view<const activation>& x, const image_view<output>& y, state_type& state,
                       workspace ws) const noexcept {
    const bool gives = detail::ring_access::gives_output(state);
    detail::ring_access::write(state, x);
    if (gives) {
      const auto past = detail::ring_access::window(state);
      polymac::status s;
      if constexpr (is_linear) {
        if (y.height != 1 || y.width != 1)
          s = polymac::status::make(errc::shape, who, ": expected y of 1 x 1 pixels, got ", y.height, " x ", y.width);
        else
          s = inner_(matrix_view<const activation>(past.data, past.batch, past.channels, past.image_stride),
                     matrix_view<output>(y.data, y.batch, y.channels, y.image_stride));
      } else {
        s = inner_(past, y, ws);
      }
      if (!s.ok()) return s;
    }
    detail::ring_access::commit(state);
    return {};
  }

  policy::time_window time_;
  activation zero_point_;
  polymac::status status_;
  Inner inner_;
  std::size_t channels_;
  std::uint64_t signature_ = 0;
};

}  // namespace layer

/// Builds a layer::continual_conv over images and time:
/// `conv2d<mac::int8, policy::continual>({.space = {.padding = same}, .time = {.kernel = 3}}, weights, bias, stages)`.
template <Mac M, std::same_as<policy::continual> P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto conv2d(const layer::continual_convolution& c, const Weights& weights, const Bias& bias, E stages = {},
            const layer::quantization<M>& q = {}) {
  return layer::continual_conv<layer::conv2d<M, E, I>>(c, weights, std::span(std::data(bias), std::size(bias)),
                                                       std::move(stages), q);
}
/// The same in one dimension: `linear<mac::int8, policy::continual>({.kernel = 3}, weights, bias, stages)`.
template <Mac M, std::same_as<policy::continual> P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto linear(const policy::time_window& time, const Weights& weights, const Bias& bias, E stages = {},
            const layer::quantization<M>& q = {}) {
  return layer::continual_conv<layer::linear<M, E, I>>(time, weights, std::span(std::data(bias), std::size(bias)),
                                                       std::move(stages), q);
}

POLYMAC_END
