// SPDX-License-Identifier: MIT
// ONNX is channels first (NCHW, OIHW), polymac channels last: reordering of tensors, and ONNX's window attributes.
#pragma once

#include "support/onnx_cases.hpp"

#include <polymac/core/window.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace polymac_test::onnx {

using dims = std::vector<std::size_t>;

inline std::size_t product(const dims& d, std::size_t first, std::size_t last) {
  std::size_t n = 1;
  for (std::size_t i = first; i < last; ++i) n *= d[i];
  return n;
}

/// A batch of images. One-dimensional ones (N, C, L) have height 1.
struct image_dims {
  std::size_t batch, channels, height, width;

  explicit image_dims(const dims& d) {
    if (d.size() != 3 && d.size() != 4) throw case_error("expected a tensor of 3 or 4 axes");
    batch = d[0];
    channels = d[1];
    height = d.size() == 4 ? d[2] : 1;
    width = d.back();
  }
  std::size_t count() const { return batch * channels * height * width; }
};

/// NCHW -> NHWC, and OIHW -> OHWI.
template <class T>
std::vector<T> channels_last(const std::vector<T>& from, const image_dims& d) {
  std::vector<T> to(from.size());
  std::size_t i = 0;
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t c = 0; c < d.channels; ++c)
      for (std::size_t y = 0; y < d.height; ++y)
        for (std::size_t x = 0; x < d.width; ++x) to[((n * d.height + y) * d.width + x) * d.channels + c] = from[i++];
  return to;
}

/// NHWC -> NCHW.
template <class T>
std::vector<T> channels_first(const std::vector<T>& from, const image_dims& d) {
  std::vector<T> to(from.size());
  std::size_t i = 0;
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t y = 0; y < d.height; ++y)
      for (std::size_t x = 0; x < d.width; ++x)
        for (std::size_t c = 0; c < d.channels; ++c)
          to[((n * d.channels + c) * d.height + y) * d.width + x] = from[i++];
  return to;
}

/// rows x columns -> columns x rows.
template <class T>
std::vector<T> transposed(const std::vector<T>& from, std::size_t rows, std::size_t columns) {
  std::vector<T> to(from.size());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
  return to;
}

/// The window that a node slides over one or two axes.
inline polymac::window window_of(const onnx_node& n, std::size_t kernel_height, std::size_t kernel_width,
                                 bool one_axis) {
  const auto pair = [&](const char* name) {
    const auto v = n.integers(name, {});
    if (v.empty()) return polymac::extent2d{1, 1};
    if (v.size() != (one_axis ? 1u : 2u) || v.front() < 1 || v.back() < 1)
      throw case_error(n.op + "." + name + ": expected one number above 0 for each axis");
    return polymac::extent2d{one_axis ? 1 : static_cast<std::size_t>(v[0]), static_cast<std::size_t>(v.back())};
  };
  polymac::window w;
  w.kernel = {kernel_height, kernel_width};
  w.stride = pair("strides");
  w.dilation = pair("dilations");
  w.ceil_mode = n.integer("ceil_mode", 0) != 0;
  const std::string rule = n.text("auto_pad", "NOTSET");
  if (rule == "SAME_UPPER") {
    w.padding = polymac::same;
  } else if (rule == "SAME_LOWER") {
    w.padding = polymac::same_lower;
  } else if (rule == "NOTSET") {
    const auto v = n.integers("pads", std::vector<std::int64_t>(one_axis ? 2 : 4, 0));
    for (const std::int64_t p : v)
      if (p < 0) throw case_error(n.op + ".pads: expected numbers of at least 0");
    if (v.size() != (one_axis ? 2u : 4u)) throw case_error(n.op + ".pads: expected two numbers for each axis");
    const auto at = [&](std::size_t i) { return static_cast<std::size_t>(v[i]); };
    w.padding =
        one_axis ? polymac::window_padding(0, at(0), 0, at(1)) : polymac::window_padding(at(0), at(1), at(2), at(3));
  } else if (rule != "VALID") {
    throw case_error(n.op + ".auto_pad: unknown rule " + rule);
  }
  return w;
}

/// The real value of an IEEE half.
inline float half_to_float(std::uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const float sign = (h & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction != 0 ? std::nanf("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

/// Scales, stored as f32 or f16.
inline std::vector<double> scales_of(const case_tensor& t) {
  std::vector<double> scales;
  if (t.is("f16")) {
    for (std::size_t i = 0; i + 1 < t.bytes.size(); i += 2)
      scales.push_back(static_cast<double>(half_to_float(static_cast<std::uint16_t>(
          std::to_integer<unsigned>(t.bytes[i]) | std::to_integer<unsigned>(t.bytes[i + 1]) << 8))));
  } else {
    for (const float s : t.values<float>()) scales.push_back(static_cast<double>(s));
  }
  return scales;
}

/// Zero points of any integer type; one 0 where the input is left out.
inline std::vector<std::int32_t> zero_points_of(const case_tensor* t) {
  if (t == nullptr) return {0};
  const auto wide = t->integers();
  return std::vector<std::int32_t>(wide.begin(), wide.end());
}

}  // namespace polymac_test::onnx
