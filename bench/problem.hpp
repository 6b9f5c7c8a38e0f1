// SPDX-License-Identifier: MIT
// What is computed by polymac and by every peer: shapes, inputs, and the plain loops that each result is held against.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

namespace bench {

/// std::vector on cache lines, with some bytes behind it that a peer may read.
template <class T>
struct line_allocator {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};
  static constexpr std::size_t surplus = 64;
  line_allocator() = default;
  template <class U>
  line_allocator(const line_allocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T) + surplus, alignment)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, alignment); }
  bool operator==(const line_allocator&) const { return true; }
};
template <class T>
using lines = std::vector<T, line_allocator<T>>;

/// Reproducible values: floats in [-1, 1], integers over the whole of `low` to `high`.
template <class T>
lines<T> noise(std::size_t count, int low, int high, std::uint64_t seed) {
  lines<T> values(count);
  std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (T& v : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto bits = static_cast<std::uint32_t>(state >> 40);  // 24 of them
    if constexpr (!std::is_integral_v<T>)                       // float, and bfloat16 rounded from it
      v = static_cast<T>(static_cast<float>(bits) * 0x1p-23f - 1.0f);
    else
      v = static_cast<T>(low + static_cast<int>(bits % static_cast<std::uint32_t>(high - low + 1)));
  }
  return values;
}

/// What becomes of a sum.
enum class result {
  sums,         ///< as they are: 32 bits, or float32
  requantised,  ///< int8, one scale for each column, bias
};

template <class X>
using weight_for = std::conditional_t<std::is_integral_v<X>, std::int8_t, X>;
template <class X>
using bias_for = std::conditional_t<std::is_integral_v<X>, std::int32_t, float>;

/// Channels, their scales and bias: what a product and a convolution have in common. Scales spread the sums of noise
/// over a good part of int8.
template <class X>
struct channels {
  lines<bias_for<X>> bias;
  std::vector<double> scales;
  channels(std::size_t count, std::size_t depth) : bias(noise<bias_for<X>>(count, -5000, 5000, 3)), scales(count) {
    for (std::size_t c = 0; c < count; ++c)
      scales[c] = (1 + static_cast<double>(c % 7) / 50) * 40 / (5400 * std::sqrt(static_cast<double>(depth)));
  }
};

/// What a problem of some shape holds: activations, and weights of so many columns with so much depth each.
struct extent {
  std::size_t activations, columns, depth;
};

template <class X, class Shape>
struct problem {
  using activation = X;
  using weight = weight_for<X>;
  Shape shape;
  lines<X> x;
  lines<weight> w;
  channels<X> out;
  explicit problem(const Shape& s)
      : shape(s),
        x(noise<X>(s.holds().activations, -128, 127, 1)),
        w(noise<weight>(s.holds().columns * s.holds().depth, -127, 127, 2)),
        out(s.holds().columns, s.holds().depth) {}
};

/// One copy for everybody who computes it.
template <class X, class Shape>
const problem<X, Shape>& problem_of(const Shape& s) {
  static std::map<std::string, problem<X, Shape>> all;
  return all.try_emplace(s.text(), s).first->second;
}

// ---- matrix products ------------------------------------------------------------------------------------------------

/// x: rows x depth; w: columns x depth.
struct gemm_shape {
  std::size_t rows, columns, depth;
  extent holds() const { return {rows * depth, columns, depth}; }
  double macs() const { return static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(depth); }
  std::string text() const {
    return std::to_string(rows) + "x" + std::to_string(columns) + "x" + std::to_string(depth);
  }
};

template <class X>
using gemm_problem = problem<X, gemm_shape>;

/// How far the value that a peer gave may be from the exact one, and the exact one.
struct expectation {
  double value = 0.0, tolerance = 0.0;
};

/// The exact result of a dot product with the sum of its products' sizes; requantised codes may differ by one, since
/// libraries round in different places.
template <class X>
expectation expect(result kind, double sum, double sum_of_sizes, std::size_t depth, const channels<X>& out,
                   std::size_t column, bool relu) {
  if constexpr (std::is_integral_v<X>) {
    if (kind == result::sums) return {sum, 0.0};
    const double code = std::nearbyint((sum + out.bias[column]) * out.scales[column]);
    return {std::clamp(code, relu ? 0.0 : -128.0, 127.0), 1.0};
  } else {
    const double value = relu ? std::max(0.0, sum + out.bias[column]) : sum;
    return {value, static_cast<double>(depth + 1) * 0x1p-23 * (sum_of_sizes + 1)};
  }
}

/// At most this many results are compared with the plain loop, spread over all of them.
constexpr std::size_t checked_results = 4096;

/// Empty if y is the result, else what is wrong.
template <class X, class Y>
std::string compare(std::size_t count, const Y* y, const auto& expected_at) {
  const std::size_t step = std::max<std::size_t>(1, count / checked_results) | 1;  // odd: visits all columns
  for (std::size_t i = 0; i < count; i += step) {
    const expectation e = expected_at(i);
    const auto got = static_cast<double>(y[i]);
    if (!(std::abs(got - e.value) <= e.tolerance))
      return "wrong result: value " + std::to_string(i) + " is " + std::to_string(got) + ", expected " +
             std::to_string(e.value);
  }
  return {};
}

template <class X, class Y>
std::string check(const gemm_problem<X>& p, result kind, const Y* y) {
  const auto& s = p.shape;
  return compare<X>(s.rows * s.columns, y, [&](std::size_t i) {
    const std::size_t r = i / s.columns, c = i % s.columns;
    double sum = 0.0, sizes = 0.0;
    for (std::size_t k = 0; k < s.depth; ++k) {
      const double product = static_cast<double>(p.x[r * s.depth + k]) * static_cast<double>(p.w[c * s.depth + k]);
      sum += product;
      sizes += std::abs(product);
    }
    return expect(kind, sum, sizes, s.depth, p.out, c, false);
  });
}

// ---- convolutions ---------------------------------------------------------------------------------------------------

/// One image, NHWC; weights output x kernel x kernel x input, or kernel x kernel x output where depthwise.
struct conv_shape {
  std::string name;
  std::size_t height, width, inputs, outputs;
  std::size_t kernel_height, kernel_width, stride;
  std::size_t top, left, bottom, right;  ///< padding
  bool depthwise = false;                ///< every channel on its own; outputs == inputs

  const std::string& text() const { return name; }
  extent holds() const { return {height * width * inputs, outputs, depth()}; }
  std::size_t out_height() const { return (height + top + bottom - kernel_height) / stride + 1; }
  std::size_t out_width() const { return (width + left + right - kernel_width) / stride + 1; }
  std::size_t inputs_of_output() const { return depthwise ? 1 : inputs; }
  std::size_t depth() const { return kernel_height * kernel_width * inputs_of_output(); }
  /// Kernel positions that lie on the image, along one axis, over all output positions.
  static std::size_t taps(std::size_t out, std::size_t kernel, std::size_t stride, std::size_t before,
                          std::size_t size) {
    std::size_t n = 0;
    for (std::size_t o = 0; o < out; ++o)
      for (std::size_t k = 0; k < kernel; ++k) {
        const std::size_t at = o * stride + k;
        n += at >= before && at < before + size;
      }
    return n;
  }
  /// Multiply-accumulates on pixels of the image; those on padding are not counted.
  double macs() const {
    return static_cast<double>(taps(out_height(), kernel_height, stride, top, height) *
                               taps(out_width(), kernel_width, stride, left, width) * inputs_of_output() * outputs);
  }
};

/// With bias and relu.
template <class X>
using conv_problem = problem<X, conv_shape>;

template <class X, class Y>
std::string check(const conv_problem<X>& p, result kind, const Y* y) {
  const auto& s = p.shape;
  return compare<X>(s.out_height() * s.out_width() * s.outputs, y, [&](std::size_t i) {
    const std::size_t c = i % s.outputs, oy = i / s.outputs / s.out_width(), ox = i / s.outputs % s.out_width();
    double sum = 0.0, sizes = 0.0;
    for (std::size_t ky = 0; ky < s.kernel_height; ++ky)
      for (std::size_t kx = 0; kx < s.kernel_width; ++kx) {
        const std::size_t iy = oy * s.stride + ky - s.top, ix = ox * s.stride + kx - s.left;  // wraps where outside
        if (iy >= s.height || ix >= s.width) continue;
        const std::size_t tap = ky * s.kernel_width + kx;
        for (std::size_t k = 0; k < s.inputs_of_output(); ++k) {
          const std::size_t x = (iy * s.width + ix) * s.inputs + (s.depthwise ? c : k),
                            w = s.depthwise ? tap * s.outputs + c
                                            : (c * s.kernel_height * s.kernel_width + tap) * s.inputs + k;
          const double product = static_cast<double>(p.x[x]) * static_cast<double>(p.w[w]);
          sum += product;
          sizes += std::abs(product);
        }
      }
    return expect(kind, sum, sizes, s.depth(), p.out, c, true);
  });
}

}  // namespace bench
