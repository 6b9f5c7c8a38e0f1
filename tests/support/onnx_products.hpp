// SPDX-License-Identifier: MIT
// From an ONNX case to a polymac layer with weights: convolutions and matrix products.
#pragma once

#include "catch.hpp"
#include "support/compare.hpp"
#include "support/onnx_layout.hpp"

#include <polymac/epilogue/requantize.hpp>
#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/mac/float32.hpp>
#include <polymac/mac/int8.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <type_traits>

namespace polymac_test::onnx {

/// One unit of the last digit where all goldens were written down by hand with four or five decimals (their inputs are
/// rounded, too); else 0.
inline double printed_digit(const std::vector<float>& values) {
  for (const double unit : {1e-3, 1e-4, 1e-5}) {
    const auto is_multiple = [&](float v) {
      const double steps = static_cast<double>(v) / unit;
      return std::abs(steps - std::round(steps)) < 1e-6 * std::max(1.0, std::abs(steps));
    };
    if (std::all_of(values.begin(), values.end(), is_multiple)) return unit > 5e-4 ? 0 : unit;
  }
  return 0;
}

/// Integers must agree exactly; floats to 1e-5, near zero to 1e-6 of the largest expected value.
template <class T>
void compare(const case_tensor& expected, const std::vector<T>& y) {
  const auto values = expected.values<T>();
  if constexpr (std::is_floating_point_v<T>) {
    double absolute = printed_digit(values);
    for (const T v : values)
      if (std::isfinite(v)) absolute = std::max(absolute, 1e-6 * static_cast<double>(std::abs(v)));
    CHECK(difference(values, y, 1e-5, absolute) == "");
  } else {
    CHECK(difference(values, y) == "");
  }
}

/// The arithmetic whose activations are T.
template <class T>
using mac_of =
    std::conditional_t<std::is_same_v<T, float>, polymac::mac::float32,
                       std::conditional_t<std::is_same_v<T, std::uint8_t>, polymac::mac::uint8, polymac::mac::int8>>;

/// Weights of any 8-bit type; floats as they are.
template <class T>
auto weights_of(const case_tensor& t) {
  if constexpr (std::is_same_v<T, float>) {
    return t.values<float>();
  } else {
    const auto wide = t.integers();
    return std::vector<std::int16_t>(wide.begin(), wide.end());
  }
}

/// Requantisation of the QLinear operators: the real factor in float, rounded to nearest even.
template <class Out>
auto requantize_of(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& y,
                   std::size_t columns, std::int32_t zero_point) {
  if (x.size() != 1 || y.size() != 1 || (w.size() != 1 && w.size() != columns))
    throw case_error("expected one scale of the input and output, and one or one per column of the weights");
  std::vector<double> scales(columns);
  for (std::size_t i = 0; i < columns; ++i) scales[i] = x[0] * w[w.size() == 1 ? 0 : i] / y[0];
  return polymac::requantize<polymac::rounding::fp32_nearest_even, Out>(std::span<const double>(scales), zero_point);
}

/// Runs a convolution and checks it; depthwise ones on both layers.
template <class X, class Bias, class Stages>
void check_convolution(const onnx_case& c, const onnx_node& n, const case_tensor& x, const case_tensor& w,
                       const std::vector<Bias>& bias, const Stages& stages, std::int32_t zero_point,
                       const std::vector<std::int32_t>& weight_zero_points) {
  using M = mac_of<X>;
  const image_dims in(x.dims), kernel(w.dims), out(c.expected.at(0).dims);
  const auto window = window_of(n, kernel.height, kernel.width, x.dims.size() == 3);
  const auto input = channels_last(x.values<X>(), in);
  const auto weights = channels_last(weights_of<X>(w), kernel);
  const polymac::layer::quantization<M> q{static_cast<X>(zero_point), weight_zero_points};
  const auto run = [&](const auto& layer) {
    std::vector<typename std::decay_t<decltype(layer)>::output> y(out.count());
    std::vector<std::byte> memory(layer.workspace_bytes());
    const auto status = layer(polymac::image_view(input.data(), in.batch, in.height, in.width, in.channels),
                              polymac::image_view(y.data(), out.batch, out.height, out.width, out.channels),
                              polymac::workspace(memory));
    CHECK(status.text() == "");
    compare(c.expected[0], channels_first(y, out));
  };
  const auto groups = static_cast<std::size_t>(n.integer("group", 1));
  const auto [taps, stride, dilation, padding, ceil_mode] = window;
  run(polymac::conv2d<M>(
      {taps, stride, dilation, padding, groups},
      polymac::image_view(weights.data(), kernel.batch, kernel.height, kernel.width, kernel.channels), bias, stages,
      q));
  if (groups == in.channels && kernel.channels == 1) {
    const auto hwc = transposed(weights, kernel.batch, kernel.height * kernel.width);
    run(polymac::depthwise_conv2d<M>(
        {taps, stride, dilation, padding, out.channels / in.channels},
        polymac::image_view(hwc.data(), std::size_t{1}, kernel.height, kernel.width, out.channels), bias, stages, q));
  }
}

/// Conv: floats, bias optional.
inline void run_conv(const onnx_case& c, const onnx_node& n) {
  const case_tensor* bias = c.input(n, 2);
  check_convolution<float>(c, n, c.need(n, 0), c.need(n, 1),
                           bias != nullptr ? bias->values<float>() : std::vector<float>{},
                           polymac::epilogue::identity{}, 0, {});
}

/// ConvInteger: 8-bit codes with zero points, 32-bit sums.
template <class X>
void run_conv_integer(const onnx_case& c, const onnx_node& n) {
  check_convolution<X>(c, n, c.need(n, 0), c.need(n, 1), std::vector<std::int32_t>{}, polymac::epilogue::identity{},
                       zero_points_of(c.input(n, 2)).at(0), zero_points_of(c.input(n, 3)));
}

/// QLinearConv: inputs x, its scale and zero point, w the same, y the same, bias.
template <class X, class Y>
void run_qlinear_conv(const onnx_case& c, const onnx_node& n) {
  const case_tensor* bias = c.input(n, 8);
  const auto stages = requantize_of<Y>(scales_of(c.need(n, 1)), scales_of(c.need(n, 4)), scales_of(c.need(n, 6)),
                                       c.need(n, 3).dims.at(0), zero_points_of(c.input(n, 7)).at(0));
  check_convolution<X>(c, n, c.need(n, 0), c.need(n, 3),
                       bias != nullptr ? bias->values<std::int32_t>() : std::vector<std::int32_t>{}, stages,
                       zero_points_of(c.input(n, 2)).at(0), zero_points_of(c.input(n, 5)));
}

/// Extents of numpy's matmul: a vector counts as one row (or column), leading axes are broadcast.
struct product_dims {
  std::size_t rows, depth, columns;
  dims batch;  ///< leading axes of the result
  dims a_batch, b_batch;

  product_dims(dims a, dims b) {
    if (a.size() == 1) a.insert(a.begin(), 1);
    if (b.size() == 1) b.push_back(1);
    if (a.size() < 2 || b.size() < 2) throw case_error("matrix product of a scalar");
    rows = a[a.size() - 2];
    depth = a.back();
    columns = b.back();
    if (b[b.size() - 2] != depth) throw case_error("matrix product: the inner extents differ");
    a_batch.assign(a.begin(), a.end() - 2);
    b_batch.assign(b.begin(), b.end() - 2);
    const std::size_t axes = std::max(a_batch.size(), b_batch.size());
    a_batch.insert(a_batch.begin(), axes - a_batch.size(), 1);
    b_batch.insert(b_batch.begin(), axes - b_batch.size(), 1);
    for (std::size_t i = 0; i < axes; ++i) {
      if (a_batch[i] != b_batch[i] && a_batch[i] != 1 && b_batch[i] != 1)
        throw case_error("matrix product: leading axes that do not broadcast");
      batch.push_back(std::max(a_batch[i], b_batch[i]));
    }
  }
  std::size_t products() const { return product(batch, 0, batch.size()); }
  /// Which matrix of an operand belongs to product `index`.
  std::size_t matrix_of(std::size_t index, const dims& operand) const {
    std::size_t result = 0, step = 1;
    for (std::size_t i = batch.size(); i-- > 0;) {
      const std::size_t coordinate = index % batch[i];
      index /= batch[i];
      if (operand[i] != 1) result += coordinate * step;
      step *= operand[i];
    }
    return result;
  }
};

/// y = stages(a x b) for every pair of matrices; row by row where the rows of a have zero points of their own.
template <class A, class Stages>
auto matrix_product(const case_tensor& a, const case_tensor& b, const Stages& stages,
                    const std::vector<std::int32_t>& a_zero, const std::vector<std::int32_t>& b_zero) {
  using M = mac_of<A>;
  using layer_type = polymac::layer::linear<M, Stages>;
  const product_dims d(a.dims, b.dims);
  const auto x = a.values<A>();
  const auto all_weights = weights_of<A>(b);
  if ((a_zero.size() != 1 && a_zero.size() != d.rows) || (b_zero.size() != 1 && b_zero.size() != d.columns))
    throw case_error("matrix product: expected one zero point, or one for each row or column");
  std::vector<typename layer_type::output> y(d.products() * d.rows * d.columns);
  for (std::size_t p = 0; p < d.products(); ++p) {
    const std::size_t from_a = d.matrix_of(p, d.a_batch) * d.rows * d.depth;
    const auto from_b =
        all_weights.begin() + static_cast<std::ptrdiff_t>(d.matrix_of(p, d.b_batch) * d.depth * d.columns);
    const std::vector matrix(from_b, from_b + static_cast<std::ptrdiff_t>(d.depth * d.columns));
    const auto weights = transposed(matrix, d.depth, d.columns);
    const std::size_t rows_at_once = a_zero.size() == 1 ? d.rows : 1;
    for (std::size_t r = 0; r < d.rows; r += rows_at_once) {
      const auto layer = polymac::linear<M>(polymac::matrix_view(weights.data(), d.columns, d.depth),
                                            std::vector<typename polymac::mac_traits<M>::sum>{}, stages,
                                            {static_cast<A>(a_zero[a_zero.size() == 1 ? 0 : r]),
                                             std::span(b_zero).first(std::is_same_v<A, float> ? 0 : b_zero.size())});
      const auto status = layer(polymac::matrix_view(x.data() + from_a + r * d.depth, rows_at_once, d.depth),
                                polymac::matrix_view(y.data() + (p * d.rows + r) * d.columns, rows_at_once, d.columns));
      CHECK(status.text() == "");
    }
  }
  return y;
}

inline void run_matmul(const onnx_case& c, const onnx_node& n) {
  compare(c.expected.at(0), matrix_product<float>(c.need(n, 0), c.need(n, 1), polymac::epilogue::identity{}, {0}, {0}));
}

template <class A>
void run_matmul_integer(const onnx_case& c, const onnx_node& n) {
  compare(c.expected.at(0), matrix_product<A>(c.need(n, 0), c.need(n, 1), polymac::epilogue::identity{},
                                              zero_points_of(c.input(n, 2)), zero_points_of(c.input(n, 3))));
}

/// QLinearMatMul: a, its scale and zero point, b the same, y the same.
template <class A, class Y>
void run_qlinear_matmul(const onnx_case& c, const onnx_node& n) {
  const auto stages = requantize_of<Y>(scales_of(c.need(n, 1)), scales_of(c.need(n, 4)), scales_of(c.need(n, 6)),
                                       c.need(n, 3).dims.back(), zero_points_of(c.input(n, 7)).at(0));
  compare(c.expected.at(0), matrix_product<A>(c.need(n, 0), c.need(n, 3), stages, zero_points_of(c.input(n, 2)),
                                              zero_points_of(c.input(n, 5))));
}

/// alpha * sum + beta * c[row][column], c broadcast to the output: the epilogue of Gemm, as a user would write one.
struct gemm_stage : polymac::epilogue::stage {
  float alpha = 1, beta = 1;
  const float* c = nullptr;
  std::size_t row_stride = 0, column_stride = 0;
  constexpr polymac::status check(std::size_t) const noexcept { return {}; }
  constexpr float operator()(float sum, std::size_t row, std::size_t column) const noexcept {
    return alpha * sum + (c != nullptr ? beta * c[row * row_stride + column * column_stride] : 0.0f);
  }
};

inline void run_gemm(const onnx_case& c, const onnx_node& n) {
  const case_tensor &a = c.need(n, 0), &b = c.need(n, 1);
  const bool a_is_transposed = n.integer("transA", 0) != 0, b_is_transposed = n.integer("transB", 0) != 0;
  const std::size_t rows = a.dims.at(a_is_transposed ? 1 : 0), depth = a.dims.at(a_is_transposed ? 0 : 1);
  const std::size_t columns = b.dims.at(b_is_transposed ? 0 : 1);
  const auto x = a_is_transposed ? transposed(a.values<float>(), depth, rows) : a.values<float>();
  const auto weights = b_is_transposed ? b.values<float>() : transposed(b.values<float>(), depth, columns);
  gemm_stage stage;
  stage.alpha = n.real("alpha", 1);
  stage.beta = n.real("beta", 1);
  std::vector<float> addend;
  if (const case_tensor* t = c.input(n, 2); t != nullptr) {
    addend = t->values<float>();
    dims d = t->dims;
    d.insert(d.begin(), 2 - std::min<std::size_t>(2, d.size()), 1);
    if (d.size() != 2 || (d[0] != 1 && d[0] != rows) || (d[1] != 1 && d[1] != columns))
      throw case_error("Gemm: C does not broadcast to the output");
    stage.c = addend.data();
    stage.row_stride = d[0] == 1 ? 0 : d[1];
    stage.column_stride = d[1] == 1 ? 0 : 1;
  }
  std::vector<float> y(rows * columns);
  const auto layer = polymac::linear<polymac::mac::float32>(polymac::matrix_view(weights.data(), columns, depth),
                                                            std::vector<float>{}, stage);
  const auto status = layer(polymac::matrix_view(x.data(), rows, depth), polymac::matrix_view(y.data(), rows, columns));
  CHECK(status.text() == "");
  compare(c.expected.at(0), y);
}

}  // namespace polymac_test::onnx
