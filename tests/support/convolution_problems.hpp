// SPDX-License-Identifier: MIT
// The shapes on which implementations of convolution are known to go wrong: kh != kw, k = 1, 2, 5, H != W, Ho != Wo,
// unequal padding, a stride that leaves a remainder, odd depth, columns that do not fill a tile, one channel, one
// output column.
#pragma once

#include "support/reference.hpp"

#include <polymac/core/view.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>

#include <cstddef>
#include <ostream>
#include <vector>

namespace polymac_test {

/// A convolution: image, output channels, window.
struct problem {
  image_shape in;
  std::size_t out_channels = 1;
  window w;

  image_shape out() const { return w.output(in, out_channels); }
  std::size_t taps() const { return w.kernel_height * w.kernel_width; }
  std::size_t weights() const { return out_channels * taps() * (in.channels / w.groups); }

  polymac::layer::convolution convolution() const {
    return {{w.kernel_height, w.kernel_width},
            {w.stride_height, w.stride_width},
            {w.dilation_height, w.dilation_width},
            {w.pad_top, w.pad_left, w.pad_bottom, w.pad_right},
            w.groups};
  }
  /// The window alone, for depthwise convolution.
  polymac::layer::depthwise_convolution depthwise(std::size_t multiplier) const {
    const polymac::layer::convolution c = convolution();
    return {c.kernel, c.stride, c.dilation, c.padding, multiplier};
  }
  /// Views of the weights: OHWI, and HWC for depthwise convolution.
  template <class T>
  polymac::image_view<T> weight_view(T* data) const {
    return {data, out_channels, w.kernel_height, w.kernel_width, in.channels / w.groups};
  }
  template <class T>
  polymac::image_view<T> depthwise_weight_view(T* data) const {
    return {data, 1, w.kernel_height, w.kernel_width, out_channels};
  }
};

inline std::ostream& operator<<(std::ostream& o, const problem& p) {
  return o << p.in.batch << 'x' << p.in.height << 'x' << p.in.width << 'x' << p.in.channels << " -> " << p.out_channels
           << ", kernel " << p.w.kernel_height << 'x' << p.w.kernel_width << ", stride " << p.w.stride_height << 'x'
           << p.w.stride_width << ", dilation " << p.w.dilation_height << 'x' << p.w.dilation_width << ", padding "
           << p.w.pad_top << ' ' << p.w.pad_left << ' ' << p.w.pad_bottom << ' ' << p.w.pad_right << ", groups "
           << p.w.groups;
}

inline window make_window(std::size_t kh, std::size_t kw, std::size_t sh, std::size_t sw, std::size_t dh,
                          std::size_t dw, std::size_t top, std::size_t left, std::size_t bottom, std::size_t right,
                          std::size_t groups = 1) {
  window w;
  w.kernel_height = kh, w.kernel_width = kw;
  w.stride_height = sh, w.stride_width = sw;
  w.dilation_height = dh, w.dilation_width = dw;
  w.pad_top = top, w.pad_left = left, w.pad_bottom = bottom, w.pad_right = right;
  w.groups = groups;
  return w;
}

/// Dense, grouped and depthwise ones.
inline std::vector<problem> problems() {
  return {
      {{1, 1, 1, 1}, 1, make_window(1, 1, 1, 1, 1, 1, 0, 0, 0, 0)},
      {{2, 5, 7, 3}, 5, make_window(1, 1, 1, 1, 1, 1, 0, 0, 0, 0)},
      {{1, 9, 4, 16}, 33, make_window(1, 1, 2, 3, 1, 1, 0, 0, 0, 0)},  // 1 x 1 with strides, 33 = 2 x 16 + 1 columns
      {{1, 6, 5, 64}, 17, make_window(1, 1, 1, 1, 1, 1, 1, 2, 0, 1)},  // 1 x 1 with padding
      {{2, 7, 6, 1}, 4, make_window(3, 3, 1, 1, 1, 1, 1, 1, 1, 1)},    // one input channel
      {{1, 8, 6, 5}, 1, make_window(3, 3, 1, 1, 1, 1, 1, 1, 1, 1)},    // one output channel
      {{1, 6, 9, 4}, 16, make_window(3, 2, 1, 1, 1, 1, 1, 0, 0, 1)},   // kh != kw, unequal padding
      {{1, 9, 6, 3}, 7, make_window(2, 5, 1, 1, 1, 1, 0, 2, 1, 2)},
      {{1, 10, 7, 3}, 9, make_window(5, 5, 2, 2, 1, 1, 2, 2, 2, 2)},    // odd depth 75
      {{1, 11, 8, 2}, 3, make_window(2, 2, 3, 2, 1, 1, 0, 0, 0, 0)},    // both strides leave a remainder
      {{1, 8, 8, 4}, 6, make_window(3, 3, 2, 2, 1, 1, 0, 0, 1, 1)},     // TensorFlow's SAME at stride 2
      {{1, 9, 12, 3}, 5, make_window(3, 3, 1, 1, 2, 3, 2, 3, 2, 3)},    // dilation
      {{1, 12, 11, 2}, 4, make_window(3, 2, 2, 3, 3, 2, 1, 4, 5, 0)},   // everything at once
      {{1, 13, 4, 8}, 12, make_window(4, 4, 1, 1, 1, 1, 0, 0, 0, 0)},   // Wo = 1
      {{1, 3, 20, 6}, 10, make_window(3, 1, 1, 1, 1, 1, 0, 0, 0, 0)},   // Ho = 1
      {{1, 1, 30, 4}, 8, make_window(1, 7, 1, 2, 1, 1, 0, 3, 0, 3)},    // a signal
      {{3, 5, 5, 8}, 8, make_window(3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 2)},  // groups
      {{1, 6, 7, 6}, 9, make_window(2, 3, 1, 2, 1, 1, 1, 0, 0, 2, 3)},
      {{1, 7, 7, 5}, 10, make_window(3, 3, 2, 1, 1, 2, 1, 2, 1, 2, 5)},  // depthwise with multiplier 2
      {{1, 2, 2, 3}, 2, make_window(3, 3, 1, 1, 1, 1, 2, 2, 2, 2)},      // a kernel larger than the image
      {{1, 3, 3, 4}, 4, make_window(1, 1, 1, 1, 1, 1, 3, 3, 3, 3)},      // outputs that see padding only
      {{1, 5, 26, 32}, 40, make_window(3, 3, 1, 1, 1, 1, 1, 1, 1, 1)},   // 130 rows: tiles of 12 and a rest of 10
      {{1, 4, 5, 20}, 65, make_window(3, 3, 1, 1, 1, 1, 1, 1, 1, 1)},
  };
}

/// A dense view of an image.
template <class T>
polymac::image_view<T> view_of(T* data, const image_shape& s) {
  return {data, s.batch, s.height, s.width, s.channels};
}

}  // namespace polymac_test
