// SPDX-License-Identifier: MIT
// rms_norm and layer_norm against their definitions in double, long rows, the fused residual, mistakes. Goldens:
// onnx_node_test.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/compare.hpp"
#include "support/complaint.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/layer/layer_norm.hpp>
#include <polymac/layer/rms_norm.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

using namespace polymac_test;
using polymac::matrix_view;
using polymac::layer::layer_norm;
using polymac::layer::rms_norm;

namespace {

/// The definition of one row.
template <class Layer>
std::vector<double> expected_row(const float* x, const std::vector<float>& weight, const std::vector<float>& bias,
                                 double epsilon) {
  constexpr bool centred = std::is_same_v<Layer, layer_norm>;
  const std::size_t n = weight.size();
  long double mean = 0, squares = 0;
  if (centred)
    for (std::size_t i = 0; i < n; ++i) mean += static_cast<long double>(x[i]) / static_cast<long double>(n);
  for (std::size_t i = 0; i < n; ++i) {
    const long double d = static_cast<long double>(x[i]) - mean;
    squares += d * d / static_cast<long double>(n);
  }
  std::vector<double> y(n);
  for (std::size_t i = 0; i < n; ++i)
    y[i] = static_cast<double>((static_cast<long double>(x[i]) - mean) /
                                   std::sqrt(squares + static_cast<long double>(epsilon)) *
                                   static_cast<long double>(weight[i]) +
                               (centred ? static_cast<long double>(bias[i]) : 0.0L));
  return y;
}
template <class Layer>
Layer make(const std::vector<float>& weight, const std::vector<float>& bias, float epsilon) {
  if constexpr (std::is_same_v<Layer, layer_norm>)
    return Layer(weight, bias, epsilon);
  else
    return Layer(weight, epsilon);
}

}  // namespace

TEMPLATE_TEST_CASE("norms follow their definitions, in place and with the residual too", "", rms_norm, layer_norm) {
  POLYMAC_RANDOM(random, 1);
  for (const std::size_t columns : {1u, 2u, 15u, 16u, 17u, 64u, 100u}) {
    const std::size_t rows = 3;
    const auto x = uniform<float>(random, rows * columns), more = uniform<float>(random, rows * columns);
    const auto weight = uniform<float>(random, columns), bias = uniform<float>(random, columns);
    const auto layer = make<TestType>(weight, bias, 1e-3f);
    for (const placement where : both_placements) {
      CAPTURE(columns, where == placement::before_guard);
      guarded_buffer<float> in(x, where), y(rows * columns, where);
      const matrix_view<float> in_view(in.data(), rows, columns), y_view(y.data(), rows, columns);
      {
        const no_allocation trap;
        CHECK(layer(in_view, y_view).text() == "");
      }
      for (std::size_t r = 0; r < rows; ++r)
        CHECK(difference(expected_row<TestType>(&x[r * columns], weight, bias, static_cast<double>(1e-3f)),
                         std::vector<float>(y.data() + r * columns, y.data() + (r + 1) * columns), 1e-6, 1e-6) == "");
      CHECK(y.slack_untouched());

      const auto alone = y.values();
      CHECK(layer(in_view, in_view).ok());
      CHECK(difference(alone, in.values()) == "");

      // The sum of both, and its norm.
      std::copy(x.begin(), x.end(), in.begin());
      guarded_buffer<float> addend(more, where);
      {
        const no_allocation trap;
        CHECK(layer.add(in_view, matrix_view<const float>(addend.data(), rows, columns), y_view).text() == "");
      }
      std::vector<float> sums(x.size()), norms(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) sums[i] = x[i] + more[i];
      CHECK(layer(matrix_view<const float>(sums.data(), rows, columns), matrix_view<float>(norms.data(), rows, columns))
                .ok());
      CHECK(difference(sums, in.values()) == "");
      CHECK(difference(norms, y.values()) == "");
      CHECK(in.slack_untouched());
      CHECK(y.slack_untouched());
    }
  }
}

TEMPLATE_TEST_CASE("norms of long rows stay accurate", "", rms_norm, layer_norm) {
  // A sum of floats, element by element, would be off by more than 1e-3 here.
  POLYMAC_RANDOM(random, 2);
  const std::size_t columns = 1u << 20;
  std::vector<float> x(columns), y(columns);
  for (float& v : x) v = 1000.0f + random.unit();
  const std::vector<float> weight(columns, 1.0f), bias(columns, 0.5f);
  CHECK(make<TestType>(weight, bias, 0.0f)(matrix_view<const float>(x.data(), 1, columns),
                                           matrix_view<float>(y.data(), 1, columns))
            .ok());
  // The differences are exact here, their mean is off by less than 1e-12.
  CHECK(difference(expected_row<TestType>(x.data(), weight, bias, 0.0), y, 5e-7, 5e-7) == "");
}

TEMPLATE_TEST_CASE("norms of ranges of rows, of rows apart, of NaN", "", rms_norm, layer_norm) {
  POLYMAC_RANDOM(random, 3);
  const std::size_t rows = 5, columns = 20, stride = 23;
  auto x = uniform<float>(random, rows * stride);
  const auto weight = uniform<float>(random, columns), bias = uniform<float>(random, columns);
  const auto layer = make<TestType>(weight, bias, 1e-5f);
  const matrix_view<const float> in(x.data(), rows, columns, stride);
  std::vector<float> y(rows * stride, 7.0f), parts(rows * stride, 7.0f);
  CHECK(layer(in, matrix_view<float>(y.data(), rows, columns, stride)).ok());
  for (const polymac::row_range part : {polymac::row_range{3, 99}, polymac::row_range{0, 3}, polymac::row_range{5, 6}})
    CHECK(layer(in, matrix_view<float>(parts.data(), rows, columns, stride), part).ok());
  CHECK(difference(y, parts) == "");
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = columns; c < stride; ++c) CHECK(y[r * stride + c] == 7.0f);

  x[stride + 3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(layer(in, matrix_view<float>(parts.data(), rows, columns, stride)).ok());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c)
      CHECK((r == 1 ? std::isnan(parts[r * stride + c]) : parts[r * stride + c] == y[r * stride + c]));

  const std::vector<float> zeros(columns);
  std::vector<float> of_zeros(columns, 7.0f);
  CHECK(
      layer(matrix_view<const float>(zeros.data(), 1, columns), matrix_view<float>(of_zeros.data(), 1, columns)).ok());
  CHECK(of_zeros == (std::is_same_v<TestType, layer_norm> ? bias : zeros));
}

TEMPLATE_TEST_CASE("norms say what is wrong", "", rms_norm, layer_norm) {
  const std::string name = std::is_same_v<TestType, layer_norm> ? "layer_norm" : "rms_norm";
  const std::vector<float> weight(4, 1.0f), bias(4);
  const auto layer = make<TestType>(weight, bias, 1e-5f);
  std::vector<float> x(12, 1.0f), y(12, 7.0f);
  const auto view = [](std::vector<float>& v, std::size_t rows, std::size_t columns) {
    return matrix_view<float>(v.data(), rows, columns);
  };
  CHECK(layer(view(x, 3, 4), view(y, 2, 4)).text() == name + ": expected x and y of n x 4, got 3 x 4 and 2 x 4");
  CHECK(layer(view(x, 4, 3), view(y, 4, 3)).code() == polymac::errc::shape);
  CHECK(layer(matrix_view<const float>(x.data(), 3, 4, 3), view(y, 3, 4)).code() == polymac::errc::shape);
  CHECK(layer(view(x, 3, 4), matrix_view<float>(nullptr, 3, 4)).text() == name + ": the view y has no data");
  CHECK(layer.add(view(x, 3, 4), view(x, 2, 4), view(y, 3, 4)).text() ==
        name + ": expected x and addend of n x 4, got 3 x 4 and 2 x 4");
  CHECK(layer.add(view(x, 3, 4), matrix_view<const float>(nullptr, 3, 4), view(y, 3, 4)).text() ==
        name + ": the view addend has no data");
  CHECK(x == std::vector<float>(12, 1.0f));
  CHECK(y == std::vector<float>(12, 7.0f));
  CHECK(layer(matrix_view<const float>(nullptr, 0, 4), matrix_view<float>(nullptr, 0, 4)).ok());

  CHECK(complaint([&] { make<TestType>({}, {}, 0.0f); }) == name + ": expected a weight for each column, got none");
  for (const float bad : {-1e-5f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    CHECK(complaint([&] { make<TestType>(weight, bias, bad); }) == name + ": expected a finite epsilon of at least 0");
  if constexpr (std::is_same_v<TestType, layer_norm>)
    CHECK(complaint([&] { layer_norm(weight, std::vector<float>(3)); }) ==
          "layer_norm: expected a bias for each of 4 columns or none, got 3");
}
