// SPDX-License-Identifier: MIT
// Slow references that are right at a glance: plain loops over every index, every border tested where it is read, wide
// sums. They share no code with polymac and are what its kernels are compared with.
//
// Layouts: activations NHWC, convolution weights OHWI (I = channels of one group), depthwise weights HWC.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace polymac_test {

/// Extents of an image batch, NHWC.
struct image_shape {
  std::size_t batch = 1, height = 1, width = 1, channels = 1;

  std::size_t count() const { return batch * height * width * channels; }
  std::size_t at(std::size_t n, std::size_t y, std::size_t x, std::size_t c) const {
    return ((n * height + y) * width + x) * channels + c;
  }
};

/// How a kernel slides over an image. Padding is what is added around the image; it holds the zero point.
struct window {
  std::size_t kernel_height = 1, kernel_width = 1;
  std::size_t stride_height = 1, stride_width = 1;
  std::size_t dilation_height = 1, dilation_width = 1;
  std::size_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
  std::size_t groups = 1;

  /// floor((in + pads - dilation (kernel - 1) - 1) / stride) + 1, and 0 where the kernel is larger than the image.
  static std::size_t extent(std::size_t in, std::size_t pads, std::size_t kernel, std::size_t stride,
                            std::size_t dilation) {
    const std::size_t covered = dilation * (kernel - 1) + 1;
    return in + pads < covered ? 0 : (in + pads - covered) / stride + 1;
  }
  image_shape output(const image_shape& in, std::size_t out_channels) const {
    return {in.batch, extent(in.height, pad_top + pad_bottom, kernel_height, stride_height, dilation_height),
            extent(in.width, pad_left + pad_right, kernel_width, stride_width, dilation_width), out_channels};
  }
};

/// Calls visit(n, oy, ox, ky, kx, iy, ix) for every output pixel and every tap whose input pixel lies inside the image.
template <class Visit>
void for_each_tap(const image_shape& in, const image_shape& out, const window& w, Visit&& visit) {
  for (std::size_t n = 0; n < in.batch; ++n)
    for (std::size_t oy = 0; oy < out.height; ++oy)
      for (std::size_t ox = 0; ox < out.width; ++ox)
        for (std::size_t ky = 0; ky < w.kernel_height; ++ky)
          for (std::size_t kx = 0; kx < w.kernel_width; ++kx) {
            const auto iy = static_cast<std::ptrdiff_t>(oy * w.stride_height + ky * w.dilation_height) -
                            static_cast<std::ptrdiff_t>(w.pad_top);
            const auto ix = static_cast<std::ptrdiff_t>(ox * w.stride_width + kx * w.dilation_width) -
                            static_cast<std::ptrdiff_t>(w.pad_left);
            if (iy < 0 || ix < 0 || iy >= static_cast<std::ptrdiff_t>(in.height) ||
                ix >= static_cast<std::ptrdiff_t>(in.width))
              continue;
            visit(n, oy, ox, ky, kx, static_cast<std::size_t>(iy), static_cast<std::size_t>(ix));
          }
}

/// y[rows][columns] = sum_k (x[rows][k] - x_zero) * (w[columns][k] - w_zero), summed as Sum (std::int64_t or double).
template <class Sum, class X, class W>
std::vector<Sum> linear_reference(const std::vector<X>& x, const std::vector<W>& w, std::size_t rows,
                                  std::size_t columns, std::size_t depth, Sum x_zero = 0, Sum w_zero = 0) {
  assert(x.size() == rows * depth && w.size() == columns * depth);
  std::vector<Sum> y(rows * columns);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c)
      for (std::size_t k = 0; k < depth; ++k)
        y[r * columns + c] +=
            (static_cast<Sum>(x[r * depth + k]) - x_zero) * (static_cast<Sum>(w[c * depth + k]) - w_zero);
  return y;
}

/// Convolution sums, NHWC. Weights OHWI with I = channels / groups.
template <class Sum, class X, class W>
std::vector<Sum> conv2d_reference(const std::vector<X>& x, const image_shape& in, const std::vector<W>& weights,
                                  std::size_t out_channels, const window& w, Sum x_zero = 0, Sum w_zero = 0) {
  const std::size_t group_in = in.channels / w.groups;
  const std::size_t group_out = out_channels / w.groups;
  const image_shape out = w.output(in, out_channels);
  assert(x.size() == in.count() && weights.size() == out_channels * w.kernel_height * w.kernel_width * group_in);
  std::vector<Sum> y(out.count());
  for_each_tap(in, out, w, [&](auto n, auto oy, auto ox, auto ky, auto kx, auto iy, auto ix) {
    for (std::size_t o = 0; o < out_channels; ++o)
      for (std::size_t i = 0; i < group_in; ++i) {
        const X a = x[in.at(n, iy, ix, o / group_out * group_in + i)];
        const W b = weights[((o * w.kernel_height + ky) * w.kernel_width + kx) * group_in + i];
        y[out.at(n, oy, ox, o)] += (static_cast<Sum>(a) - x_zero) * (static_cast<Sum>(b) - w_zero);
      }
  });
  return y;
}

/// Depthwise sums, NHWC. Weights HWC with C = channels * multiplier; output channel o reads input o / multiplier.
template <class Sum, class X, class W>
std::vector<Sum> depthwise_conv2d_reference(const std::vector<X>& x, const image_shape& in,
                                            const std::vector<W>& weights, std::size_t multiplier, const window& w,
                                            Sum x_zero = 0, Sum w_zero = 0) {
  const std::size_t out_channels = in.channels * multiplier;
  const image_shape out = w.output(in, out_channels);
  assert(x.size() == in.count() && weights.size() == w.kernel_height * w.kernel_width * out_channels);
  std::vector<Sum> y(out.count());
  for_each_tap(in, out, w, [&](auto n, auto oy, auto ox, auto ky, auto kx, auto iy, auto ix) {
    for (std::size_t o = 0; o < out_channels; ++o)
      y[out.at(n, oy, ox, o)] += (static_cast<Sum>(x[in.at(n, iy, ix, o / multiplier)]) - x_zero) *
                                 (static_cast<Sum>(weights[(ky * w.kernel_width + kx) * out_channels + o]) - w_zero);
  });
  return y;
}

/// dX of a convolution: every product of the forward pass, sent back to the input it read.
template <class Y, class W>
std::vector<std::int64_t> conv2d_input_gradient(const std::vector<Y>& dy, const image_shape& in,
                                                const std::vector<W>& weights, std::size_t out_channels,
                                                const window& w) {
  const std::size_t group_in = in.channels / w.groups;
  const std::size_t group_out = out_channels / w.groups;
  const image_shape out = w.output(in, out_channels);
  assert(dy.size() == out.count());
  std::vector<std::int64_t> dx(in.count());
  for_each_tap(in, out, w, [&](auto n, auto oy, auto ox, auto ky, auto kx, auto iy, auto ix) {
    for (std::size_t o = 0; o < out_channels; ++o)
      for (std::size_t i = 0; i < group_in; ++i)
        dx[in.at(n, iy, ix, o / group_out * group_in + i)] +=
            static_cast<std::int64_t>(dy[out.at(n, oy, ox, o)]) *
            static_cast<std::int64_t>(weights[((o * w.kernel_height + ky) * w.kernel_width + kx) * group_in + i]);
  });
  return dx;
}

/// dW of a convolution: every product of the forward pass, sent back to the weight it used. OHWI.
template <class Y, class X>
std::vector<std::int64_t> conv2d_weight_gradient(const std::vector<Y>& dy, const std::vector<X>& x,
                                                 const image_shape& in, std::size_t out_channels, const window& w) {
  const std::size_t group_in = in.channels / w.groups;
  const std::size_t group_out = out_channels / w.groups;
  const image_shape out = w.output(in, out_channels);
  assert(dy.size() == out.count() && x.size() == in.count());
  std::vector<std::int64_t> dw(out_channels * w.kernel_height * w.kernel_width * group_in);
  for_each_tap(in, out, w, [&](auto n, auto oy, auto ox, auto ky, auto kx, auto iy, auto ix) {
    for (std::size_t o = 0; o < out_channels; ++o)
      for (std::size_t i = 0; i < group_in; ++i)
        dw[((o * w.kernel_height + ky) * w.kernel_width + kx) * group_in + i] +=
            static_cast<std::int64_t>(dy[out.at(n, oy, ox, o)]) *
            static_cast<std::int64_t>(x[in.at(n, iy, ix, o / group_out * group_in + i)]);
  });
  return dw;
}

/// Inner product <a, b> in 64 bits.
template <class A, class B>
std::int64_t inner_product(const std::vector<A>& a, const std::vector<B>& b) {
  assert(a.size() == b.size());
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<std::int64_t>(a[i]) * static_cast<std::int64_t>(b[i]);
  return sum;
}

}  // namespace polymac_test
