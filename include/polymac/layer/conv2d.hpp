// SPDX-License-Identifier: MIT
// Two-dimensional convolution over NHWC images: any kernel, stride, dilation, groups and padding.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/int4.hpp"
#include "polymac/core/window.hpp"
#include "polymac/kernel/contract.hpp"
#include "polymac/kernel/convolution_source.hpp"
#include "polymac/kernel/scratch.hpp"
#include "polymac/layer/quantization.hpp"
#include "polymac/layer/view_bounds.hpp"

#include <cstddef>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace layer {

/// How a convolution slides: height and width each.
struct convolution {
  extent2d kernel{0, 0};     ///< as the weights have it; 0 x 0 takes theirs
  extent2d stride{1, 1};     ///< at least 1
  extent2d dilation{1, 1};   ///< at least 1
  window_padding padding{};  ///< pixels {top, left, bottom, right}, `same`, `same_lower` or `valid`
  std::size_t groups = 1;    ///< divides the input and the output channels
};

namespace detail {

/// The window that convolution c slides over an image, its kernel taken from the weights where c leaves it open.
constexpr status resolve_window(const char* who, const convolution& c, std::size_t kernel_height,
                                std::size_t kernel_width, window& out) noexcept {
  if (c.kernel != extent2d{0, 0} && c.kernel != extent2d{kernel_height, kernel_width})
    return status::make(errc::shape, who, ": the kernel is given as ", c.kernel.height, " x ", c.kernel.width,
                        ", but the weights have ", kernel_height, " x ", kernel_width);
  out = {{kernel_height, kernel_width}, c.stride, c.dilation, c.padding};
  return check(out);
}

/// Resolves the window on x and compares y with what comes out.
template <class X, class Y>
constexpr status check_images(const char* who, const window& w, const image_view<X>& x, const image_view<Y>& y,
                              std::size_t in_channels, std::size_t out_channels, window_geometry& geometry) noexcept {
  if (x.channels != in_channels)
    return status::make(errc::shape, who, ": expected x with ", in_channels, " channels, got ", x.channels);
  if (status s = resolve(w, {x.height, x.width}, geometry); !s.ok()) return s;
  if (y.batch != x.batch || y.height != geometry.output.height || y.width != geometry.output.width ||
      y.channels != out_channels)
    return status::make(errc::shape, who, ": expected y of ", x.batch, " x ", geometry.output.height, " x ",
                        geometry.output.width, " x ", out_channels, ", got ", y.batch, " x ", y.height, " x ", y.width,
                        " x ", y.channels);
  return x.batch == 0 ? status{} : check_memory(who, x, y);
}

}  // namespace detail

/// y[n][oy][ox][o] = epilogue(bias[o] + sum over ky, kx, c of
///                            (x[n][oy * sh + ky * dh - top][ox * sw + kx * dw - left][g * C + c] - zero_point) *
///                            w[o][ky][kx][c])
/// where g = o / (O / groups), C = input channels / groups, and pixels outside of x count as zero_point.
///
///   M, E, I  as in layer::linear
///   Shape    extents<output channels, kernel height, kernel width, input channels per group>, each static or dynamic
///
/// Activations are read in place (kernel/convolution_source.hpp says when a tile of rows is copied instead). Weights
/// are checked and packed once, at construction. Running is noexcept and allocates nothing; several threads may run it
/// at once, each with its own workspace, on different rows (output pixels, counted through the batch).
template <Mac M, epilogue::Stage E = epilogue::identity, Isa I = isa::native,
          class Shape = extents<dynamic, dynamic, dynamic, dynamic>>
class conv2d {
  static constexpr std::size_t static_depth =
      Shape::at(1) != dynamic && Shape::at(2) != dynamic && Shape::at(3) != dynamic
          ? Shape::at(1) * Shape::at(2) * Shape::at(3)
          : dynamic;

 public:
  using mac = M;
  using atom = isa::best_atom<M, I>;
  using activation = typename M::activation;
  using sum = typename mac_traits<M>::sum;
  using output = epilogue::output_of<E, sum>;

  /// weights: OHWI (batch = output channels, channels = input channels per group), of any integer type for integer
  /// arithmetics (`image_view`, `int4_image_view`); bias: one for each output channel, or none.
  /// Throws polymac::error (or sets `status()` where exceptions are off) on what does not fit. O(weights).
  template <class Weights, class Bias>
  constexpr conv2d(const convolution& c, const Weights& weights, std::span<const Bias> bias, E stages = {},
                   const quantization<M>& q = {})
      : groups_(c.groups), zero_point_(q.activation_zero_point), epilogue_(std::move(stages)) {
    status_ = construct(c, weights, bias, q);
    polymac::detail::raise_unless_ok(status_);
  }

  constexpr const polymac::status& status() const noexcept { return status_; }
  constexpr std::size_t in_channels() const noexcept { return channels_ * groups_; }
  constexpr std::size_t out_channels() const noexcept { return weights_.shape().columns * groups_; }
  constexpr std::size_t weight_bytes() const noexcept { return weights_.bytes(); }
  /// Bytes of workspace a run needs, whatever the size of the image.
  constexpr std::size_t workspace_bytes() const noexcept { return scratch_needed().bytes(); }
  /// Height and width of the output for an input of that size; {0, 0} where the window does not fit.
  constexpr extent2d output_size(extent2d input) const noexcept { return output_extent(window_, input); }
  /// Multiply-accumulates for one image of that size, padding counted in (as the field counts).
  constexpr std::size_t macs(extent2d input) const noexcept {
    const extent2d o = output_size(input);
    return o.height * o.width * out_channels() * weights_.shape().depth;
  }

  /// Computes the output pixels of `rows` (all by default). x: n x h x w x in_channels; y: n x oh x ow x out_channels;
  /// they must not overlap. `ws` needs workspace_bytes().
  constexpr polymac::status operator()(image_view<const activation> x, image_view<output> y, workspace ws = {},
                                       row_range rows = {}) const noexcept {
    if (!status_.ok()) return status_;
    window_geometry geometry{};
    if (auto s = detail::check_images("conv2d", window_, x, y, in_channels(), out_channels(), geometry); !s.ok())
      return s;
    return kernel::with_scratch<activation>("conv2d", scratch_needed(), ws, [&](kernel::scratch<activation> memory) {
      for (std::size_t g = 0; g < groups_; ++g) {
        image_view<const activation> group = x;
        group.data += g * channels_;
        group.channels = channels_;
        const kernel::convolution_source<activation, atom::depth> source{group,
                                                                         geometry.output,
                                                                         window_.kernel,
                                                                         window_.stride,
                                                                         window_.dilation,
                                                                         geometry.padding.top,
                                                                         geometry.padding.left,
                                                                         padding_row_.data(),
                                                                         zero_point_};
        kernel::contract<atom>(weights_, g, source, epilogue_, kernel::image_rows<output>(y), memory, rows);
      }
    });
  }

  /// Arithmetic, instruction set, tile and memory of this layer, in words.
  constexpr text<511> explain() const noexcept {
    return text<511>::join("conv2d<", M::name, "> ", out_channels(), " x ", window_.kernel.height, " x ",
                           window_.kernel.width, " x ", channels_, " in ", groups_,
                           groups_ == 1 ? " group: " : " groups: ", atom::isa::name, " atom, tile ", atom::max_rows,
                           " rows x ", atom::max_panels * atom::columns, " columns x ", atom::depth,
                           " deep, dense weights ", weight_bytes(), " bytes",
                           weights_.wide_sums() ? ", sums in 64 bits" : "", ", workspace ", workspace_bytes(), " bytes",
                           copies() ? ", rows at the border are copied" : ", activations read in place");
  }

 private:
  constexpr bool copies() const noexcept {
    return channels_ % atom::depth != 0 && window_.kernel.height * window_.kernel.width > 1;
  }
  constexpr kernel::scratch_extent<atom> scratch_needed() const noexcept {
    return {window_.kernel.height * window_.kernel.width, weights_.shape().depth, copies()};
  }

  template <class Weights, class Bias>
  constexpr polymac::status construct(const convolution& c, const Weights& w, std::span<const Bias> bias,
                                      const quantization<M>& q) noexcept {
    auto s = Shape::check("conv2d", {w.batch, w.height, w.width, w.channels},
                          {"output channels", "kernel lines", "kernel columns", "input channels per group"});
    if (s.ok()) s = detail::resolve_window("conv2d", c, w.height, w.width, window_);
    if (s.ok() && w.channels > std::numeric_limits<std::size_t>::max() / w.height / w.width)
      s = polymac::status::make(errc::shape, "conv2d: weights of ", w.height, " x ", w.width, " x ", w.channels,
                                " exceed the address space");
    if (s.ok())
      s = detail::check_weights("conv2d", q, w.batch, w.height * w.width * w.channels, bias, detail::has_data(w.data));
    if (s.ok() && (groups_ == 0 || w.batch % groups_ != 0))
      s = polymac::status::make(errc::shape, "conv2d: expected groups that divide ", w.batch, " output channels, got ",
                                groups_);
    if (s.ok()) s = epilogue_.check(w.batch);
    channels_ = w.channels;
    if (s.ok()) s = padding_row_.resize(channels_);
    if (!s.ok()) return s;
    for (std::size_t i = 0; i < channels_; ++i) padding_row_[i] = zero_point_;

    const std::size_t columns = w.batch / groups_, line = w.width * w.channels, depth = w.height * line;
    const auto reader = detail::make_weight_reader<M>(
        [&](std::size_t o, std::size_t k) { return w(o, k / line, k % line / w.channels, k % w.channels); },
        q.weight_zero_points);
    std::size_t terms = 1;
    if (s = reader.count_terms("conv2d", w.batch, depth, terms); !s.ok()) return s;
    return weights_.pack(
        {groups_, columns, depth, terms},
        [&](std::size_t g, std::size_t o, std::size_t term, std::size_t k) {
          return reader.term_of(g * columns + o, term, k);
        },
        [&](std::size_t g, std::size_t o) {
          using wide = typename mac_traits<M>::wide;
          return bias.empty() ? wide{} : static_cast<wide>(bias[g * columns + o]);
        },
        zero_point_);
  }

  window window_{};
  std::size_t groups_ = 1;
  std::size_t channels_ = 0;
  activation zero_point_{};
  kernel::packed_weights<M, atom, Shape::at(0), static_depth> weights_;
  buffer<activation, Shape::at(3)> padding_row_;
  E epilogue_;
  polymac::status status_;
};

}  // namespace layer

/// Builds a layer::conv2d: `conv2d<mac::int8>({.stride = {2, 2}, .padding = same}, weights, bias, stages)`. See there.
template <Mac M, Isa I = isa::native, class Weights, class Bias, epilogue::Stage E = epilogue::identity>
constexpr auto conv2d(const layer::convolution& c, const Weights& weights, const Bias& bias, E stages = {},
                      const layer::quantization<M>& q = {}) {
  return layer::conv2d<M, E, I>(c, weights, std::span(std::data(bias), std::size(bias)), std::move(stages), q);
}

POLYMAC_END
