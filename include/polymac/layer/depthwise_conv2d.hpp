// SPDX-License-Identifier: MIT
// Depthwise two-dimensional convolution over NHWC images, with a channel multiplier.
#pragma once

#include "polymac/kernel/depthwise.hpp"
#include "polymac/layer/conv2d.hpp"

#include <cstddef>
#include <span>

POLYMAC_BEGIN
namespace layer {

/// How a depthwise convolution slides; see layer::convolution.
struct depthwise_convolution {
  extent2d kernel{0, 0};
  extent2d stride{1, 1};
  extent2d dilation{1, 1};
  window_padding padding{};
  std::size_t multiplier = 1;  ///< output channels per input channel
};

/// y[n][oy][ox][o] = epilogue(bias[o] + sum over ky, kx of
///                            (x[n][oy * sh + ky * dh - top][ox * sw + kx * dw - left][o / multiplier] - zero_point) *
///                            w[ky][kx][o])
/// Pixels outside of x count as zero_point.
///
///   M, E, I  as in layer::linear
///   Shape    extents<kernel height, kernel width, output channels>, each static or dynamic
///
/// Weights are checked and packed once, at construction. Running is noexcept and allocates nothing; threads as in
/// conv2d.
template <Mac M, epilogue::Stage E = epilogue::identity, Isa I = isa::native,
          class Shape = extents<dynamic, dynamic, dynamic>>
class depthwise_conv2d {
 public:
  using mac = M;
  using activation = typename M::activation;
  using sum = typename mac_traits<M>::sum;
  using output = epilogue::output_of<E, sum>;

  /// weights: 1 x kernel height x kernel width x output channels (TFLite's layout), of any integer type for integer
  /// arithmetics; bias: one for each output channel, or none. Throws polymac::error (or sets `status()` where
  /// exceptions are off) on what does not fit.
  template <class Weights, class Bias>
  constexpr depthwise_conv2d(const depthwise_convolution& c, const Weights& weights, std::span<const Bias> bias,
                             E stages = {}, const quantization<M>& q = {})
      : multiplier_(c.multiplier), zero_point_(q.activation_zero_point), epilogue_(std::move(stages)) {
    status_ = construct(c, weights, bias, q);
    polymac::detail::raise_unless_ok(status_);
  }

  constexpr const polymac::status& status() const noexcept { return status_; }
  constexpr std::size_t in_channels() const noexcept { return weights_.channels() / multiplier_; }
  constexpr std::size_t out_channels() const noexcept { return weights_.channels(); }
  constexpr std::size_t weight_bytes() const noexcept { return weights_.bytes(); }
  /// Bytes of workspace a run needs, whatever the size of the image.
  constexpr std::size_t workspace_bytes() const noexcept { return weights_.scratch().bytes(); }
  constexpr extent2d output_size(extent2d input) const noexcept { return output_extent(window_, input); }
  /// Multiply-accumulates for one image of that size, padding counted in (as the field counts).
  constexpr std::size_t macs(extent2d input) const noexcept {
    const extent2d o = output_size(input);
    return o.height * o.width * out_channels() * weights_.taps();
  }

  /// Computes the output pixels of `rows` (all by default). x: n x h x w x in_channels; y: n x oh x ow x out_channels;
  /// they must not overlap. `ws` needs workspace_bytes().
  constexpr polymac::status operator()(image_view<const activation> x, image_view<output> y, workspace ws = {},
                                       row_range rows = {}) const noexcept {
    if (!status_.ok()) return status_;
    window_geometry geometry{};
    if (auto s = detail::check_images("depthwise_conv2d", window_, x, y, in_channels(), out_channels(), geometry);
        !s.ok())
      return s;
    return run(geometry, x, y, ws, rows);
  }
  /// The same for a part of an image; see conv2d::on_part.
  constexpr polymac::status on_part(image_view<const activation> x, image_view<output> y, const padding2d& padding,
                                    workspace ws = {}) const noexcept {
    if (!status_.ok()) return status_;
    window_geometry geometry{};
    if (auto s = detail::check_part_of_image("depthwise_conv2d", window_, x, y, padding, in_channels(), out_channels(),
                                             geometry);
        !s.ok())
      return s;
    return run(geometry, x, y, ws, {});
  }

  /// Arithmetic, instruction set and memory of this layer, in words.
  constexpr text<511> explain() const noexcept {
    return text<511>::join("depthwise_conv2d<", M::name, "> ", window_.kernel.height, " x ", window_.kernel.width,
                           " x ", out_channels(), ": ", weights_.form(), I::name, ", weights ", weight_bytes(),
                           " bytes", weights_.wide_sums() ? ", sums in 64 bits" : "", ", workspace ", workspace_bytes(),
                           " bytes");
  }

 private:
  friend struct detail::insides;

  /// Computes windows that fit.
  constexpr polymac::status run(const window_geometry& geometry, const image_view<const activation>& x,
                                const image_view<output>& y, workspace ws, row_range rows) const noexcept {
    const kernel::convolution_source<activation, 1> source{x,
                                                           geometry.output,
                                                           window_.kernel,
                                                           window_.stride,
                                                           window_.dilation,
                                                           geometry.padding.top,
                                                           geometry.padding.left,
                                                           padding_row_.data(),
                                                           x.channels};
    return kernel::with_scratch<activation>("depthwise_conv2d", weights_.scratch(), ws,
                                            [&](kernel::scratch<activation> memory) {
                                              kernel::depthwise<M, I>(weights_, source, multiplier_, epilogue_,
                                                                      kernel::image_rows<output>(y), memory, rows);
                                            });
  }

  template <class Weights, class Bias>
  constexpr polymac::status construct(const depthwise_convolution& c, const Weights& w, std::span<const Bias> bias,
                                      const quantization<M>& q) noexcept {
    auto s = Shape::check("depthwise_conv2d", {w.height, w.width, w.channels},
                          {"kernel lines", "kernel columns", "output channels"});
    if (s.ok() && w.batch != 1)
      s = polymac::status::make(errc::shape,
                                "depthwise_conv2d: expected weights of 1 x height x width x channels, got ", w.batch);
    if (s.ok())
      s = detail::resolve_window("depthwise_conv2d", {c.kernel, c.stride, c.dilation, c.padding, 1}, w.height, w.width,
                                 window_);
    if (s.ok())
      s = detail::check_weights("depthwise_conv2d", q, w.channels, w.height * w.width, bias, detail::has_data(w.data));
    if (s.ok() && (multiplier_ == 0 || w.channels % multiplier_ != 0))
      s = polymac::status::make(errc::shape, "depthwise_conv2d: expected a multiplier that divides ", w.channels,
                                " output channels, got ", multiplier_);
    if (s.ok()) s = epilogue_.check(w.channels);
    if (s.ok()) s = padding_row_.resize(w.channels / multiplier_);
    if (!s.ok()) {
      multiplier_ = 1;
      return s;
    }
    for (std::size_t i = 0; i < padding_row_.size(); ++i) padding_row_[i] = zero_point_;

    const auto reader = detail::make_weight_reader<M>(
        [&](std::size_t o, std::size_t k) { return w(0, k / w.width, k % w.width, o); }, q.weight_zero_points);
    const std::size_t taps = w.height * w.width;
    std::size_t terms = 1;
    if (s = reader.count_terms("depthwise_conv2d", w.channels, taps, terms); !s.ok()) return s;
    return weights_.pack(
        window_, w.channels, terms,
        [&](std::size_t o, std::size_t term, std::size_t tap) { return reader.term_of(o, term, tap); },
        [&](std::size_t o) {
          using wide = typename mac_traits<M>::wide;
          return bias.empty() ? wide{} : static_cast<wide>(bias[o]);
        },
        zero_point_, multiplier_, epilogue_);
  }

  window window_{};
  std::size_t multiplier_ = 1;
  activation zero_point_{};
  kernel::depthwise_weights<M, I, Shape> weights_;
  buffer<activation, Shape::at(2)> padding_row_;
  E epilogue_;
  polymac::status status_;
};

}  // namespace layer

/// Builds a layer::depthwise_conv2d: `depthwise_conv2d<mac::int8>({.padding = same}, weights, bias, stages)`. See
/// there.
template <Mac M, Isa I = isa::native, class Weights, class Bias, epilogue::Stage E = epilogue::identity>
constexpr auto depthwise_conv2d(const layer::depthwise_convolution& c, const Weights& weights, const Bias& bias,
                                E stages = {}, const layer::quantization<M>& q = {}) {
  return layer::depthwise_conv2d<M, E, I>(c, weights, std::span(std::data(bias), std::size(bias)), std::move(stages),
                                          q);
}

POLYMAC_END
