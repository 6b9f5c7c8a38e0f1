// SPDX-License-Identifier: MIT
// Gated units: the epilogue of pairs against its scalar form and the definitions in double, for all activations; the
// layer in float32, bf16 and int8 against sums in double; ranges of rows, memory, NaN, mistakes. Goldens:
// onnx_node_test.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/compare.hpp"
#include "support/complaint.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/isa/all.hpp>
#include <polymac/layer/gated.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/mac/bf16.hpp>
#include <polymac/mac/float32.hpp>
#include <polymac/mac/int8.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

using namespace polymac_test;
using polymac::matrix_view;
using polymac::layer::gated_parameters;
namespace activation = polymac::activation;
namespace kernel = polymac::kernel;
namespace mac = polymac::mac;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

double exact(const activation::linear&, double x) { return x; }
double exact(const activation::relu&, double x) { return x < 0 ? 0 : x; }
double exact(const activation::sigmoid&, double x) { return 1 / (1 + std::exp(-x)); }
double exact(const activation::silu& f, double x) { return x / (1 + std::exp(-static_cast<double>(f.alpha) * x)); }
double exact(const activation::gelu&, double x) { return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5))); }
double exact(const activation::gelu_tanh&, double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
double exact(const activation::tanh&, double x) { return std::tanh(x); }

template <class F>
constexpr bool is_gelu = std::is_same_v<F, activation::gelu> || std::is_same_v<F, activation::gelu_tanh>;

}  // namespace

TEMPLATE_TEST_CASE("activations follow their definitions", "", activation::linear, activation::relu,
                   activation::sigmoid, activation::silu, activation::gelu, activation::gelu_tanh, activation::tanh) {
  const TestType f{};
  std::vector<float> x;
  for (int i = -4000; i <= 4000; ++i) x.push_back(static_cast<float>(i) * (i % 7 == 0 ? 0.02f : 0.001f));
  for (const float v : {-1e30f, -100.0f, 1e30f, 0x1p-130f, -0.0f}) x.push_back(v);
  std::vector<float> y(x.size());
  kernel::apply(f, x.data(), y.data(), x.size());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double e = exact(f, static_cast<double>(x[i]));
    const double allowed = is_gelu<TestType> ? 2e-7 * std::abs(static_cast<double>(x[i])) + 3e-7 * std::abs(e)
                                             : 3.1e-7 * std::abs(e) + 0x1p-126;
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - e) / (allowed + 0x1p-140));
    // One float alone, and one at the end of a row.
    if (i % 97 == 0) {
      CHECK(std::abs(static_cast<double>(f(x[i])) - e) <= 2 * allowed + 0x1p-126);
      float alone = x[i];
      kernel::apply(f, &alone, &alone, 1);
      CHECK(alone == y[i]);
    }
  }
  CHECK(worst <= 1.0);
  for (const float v : {not_a_number, infinity, -infinity}) {
    float vector = v;
    kernel::apply(f, &vector, &vector, 1);
    const float scalar = f(v);
    CHECK((std::isnan(vector) ? std::isnan(scalar) : vector == scalar));
    if (std::isnan(v)) CHECK(std::isnan(vector));
  }
}

TEMPLATE_TEST_CASE("the epilogue of pairs is its scalar form, wherever a pair stands", "", float, polymac::bfloat16) {
  POLYMAC_RANDOM(random, 1);
  const std::size_t rows = 11, stride = 192;
  const kernel::gate<activation::gelu, TestType> plain{activation::gelu{}};
  std::vector<float> scales, biases, row_scales;
  for (std::size_t c = 0; c < stride; ++c) scales.push_back(0.5f + random.unit()), biases.push_back(random.unit());
  for (std::size_t r = 0; r < rows; ++r) row_scales.push_back(random.unit() * 0.01f);
  const kernel::scaled_gate<activation::gelu, TestType> scaled{activation::gelu{}, scales.data(), biases.data(),
                                                               row_scales.data()};
  std::vector<float> sums(rows * stride);
  std::vector<std::int32_t> codes(rows * stride);
  for (float& s : sums) s = 8.0f * random.unit() - 4.0f;
  for (auto& s : codes) s = static_cast<std::int32_t>(random.integer(-400, 400));
  const auto check = [&](const auto& stage, const auto& from) {
    for (const std::size_t pairs : {1u, 3u, 7u, 8u, 12u, 16u, 24u, 32u, 64u, 70u, 96u})
      for (const std::size_t count : {1u, 4u, 9u}) {
        std::vector<TestType> y(rows * 100, TestType(7.0f));
        const matrix_view<TestType> out(y.data(), rows, 100);
        kernel::finish<polymac::isa::native>(stage, out, from.data(), stride, {2, count, 4, 2 * pairs, 0});
        std::vector<float> expected, got;
        bool outside_untouched = true;
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t c = 0; c < 100; ++c) {
            const bool inside = r >= 2 && r < 2 + count && c >= 2 && c < 2 + pairs;
            if (!inside) {
              outside_untouched = outside_untouched && out(r, c) == TestType(7.0f);
              continue;
            }
            const auto* const sum = from.data() + (r - 2) * stride + 2 * (c - 2);
            expected.push_back(stage(sum[0], sum[1], r, c));
            got.push_back(out(r, c));
          }
        CAPTURE(pairs, count);
        CHECK(outside_untouched);
        // A last bit of float may decide about one of bf16.
        CHECK(difference(expected, got, std::is_same_v<TestType, float> ? 2e-6 : 0x1p-7, 2e-6) == "");
      }
  };
  check(plain, sums);
  check(scaled, codes);
  using polymac::epilogue::JoinsMany;
  static_assert(polymac::epilogue::PairStage<decltype(plain)> && JoinsMany<decltype(plain), float, TestType> &&
                JoinsMany<decltype(scaled), std::int32_t, TestType>);
}

namespace {

/// w, v, x of one problem; y in double.
template <class W, class X = W>
struct problem {
  std::size_t columns, depth, rows;
  std::vector<W> w, v;
  std::vector<X> x;
  std::vector<float> b, c;

  problem(random_source& random, std::size_t columns_, std::size_t depth_, std::size_t rows_)
      : columns(columns_), depth(depth_), rows(rows_) {
    w = uniform<W>(random, columns * depth);
    v = uniform<W>(random, columns * depth);
    x = uniform<X>(random, rows * depth);
    b = uniform<float>(random, columns);
    c = uniform<float>(random, columns);
  }
  matrix_view<const W> matrix(const std::vector<W>& of) const { return {of.data(), columns, depth}; }
  /// real(row, k) of x; scale of the weights of a column.
  template <class F, class Real>
  std::vector<double> expected(const F& f, const Real& real, const std::vector<float>& w_scales,
                               const std::vector<float>& v_scales) const {
    std::vector<double> y;
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t o = 0; o < columns; ++o) {
        double first = 0, second = 0;
        for (std::size_t k = 0; k < depth; ++k) {
          first += real(r, k) * static_cast<double>(static_cast<float>(w[o * depth + k]));
          second += real(r, k) * static_cast<double>(static_cast<float>(v[o * depth + k]));
        }
        if (!w_scales.empty()) first *= static_cast<double>(w_scales[o]), second *= static_cast<double>(v_scales[o]);
        y.push_back((first + static_cast<double>(b[o])) * exact(f, second + static_cast<double>(c[o])));
      }
    return y;
  }
  double plain(std::size_t r, std::size_t k) const { return static_cast<double>(static_cast<float>(x[r * depth + k])); }
};

}  // namespace

TEST_CASE("SwiGLU in float32: one product, the bits of two and a gate") {
  POLYMAC_RANDOM(random, 2);
  using layer_type = polymac::layer::gated<mac::float32, activation::silu>;
  for (const std::size_t columns : {1u, 3u, 8u, 21u, 64u})
    for (const std::size_t rows : {1u, 5u, 29u}) {
      const problem<float> p(random, columns, 37, rows);
      const layer_type layer(p.matrix(p.w), p.matrix(p.v), {p.b, p.c, {}, {}}, {1.5f});
      CHECK(layer.columns() == columns);
      CHECK(layer.depth() == 37);
      for (const placement where : both_placements) {
        CAPTURE(columns, rows, where == placement::before_guard);
        const guarded_buffer<float> x(p.x, where);
        guarded_buffer<float> y(rows * columns, where);
        const matrix_view<const float> in(x.data(), rows, 37);
        {
          const no_allocation trap;
          CHECK(layer(in, matrix_view<float>(y.data(), rows, columns)).text() == "");
        }
        CHECK(y.slack_untouched());
        const auto real = [&](std::size_t r, std::size_t k) { return p.plain(r, k); };
        CHECK(difference(p.expected(activation::silu{1.5f}, real, {}, {}), y.values(), 1e-5, 1e-5) == "");
        if (where == placement::after_guard) continue;
        // The two products by themselves.
        std::vector<float> first(rows * columns), second(rows * columns);
        CHECK(polymac::linear<mac::float32>(p.matrix(p.w), p.b)(in, matrix_view<float>(first.data(), rows, columns))
                  .ok());
        CHECK(polymac::linear<mac::float32>(p.matrix(p.v), p.c)(in, matrix_view<float>(second.data(), rows, columns))
                  .ok());
        kernel::apply(activation::silu{1.5f}, second.data(), second.data(), second.size());
        for (std::size_t i = 0; i < first.size(); ++i) first[i] *= second[i];
        CHECK(difference(first, y.values()) == "");
        // Threads.
        std::vector<float> parts(rows * columns, 7.0f);
        for (const polymac::row_range part : {polymac::row_range{4, 99}, polymac::row_range{0, 4}})
          CHECK(layer(in, matrix_view<float>(parts.data(), rows, columns), part).ok());
        CHECK(difference(y.values(), parts) == "");
      }
    }
}

TEST_CASE("gates of other arithmetics") {
  POLYMAC_RANDOM(random, 3);
  SECTION("bf16, which gives bf16") {
    const problem<polymac::bfloat16> p(random, 21, 34, 7);
    const polymac::layer::gated<mac::bf16, activation::sigmoid, polymac::isa::scalar, polymac::bfloat16> layer(
        p.matrix(p.w), p.matrix(p.v), {p.b, p.c, {}, {}});
    std::vector<polymac::bfloat16> y(7 * 21);
    CHECK(
        layer(matrix_view<const polymac::bfloat16>(p.x.data(), 7, 34), matrix_view<polymac::bfloat16>(y.data(), 7, 21))
            .text() == "");
    const auto real = [&](std::size_t r, std::size_t k) { return p.plain(r, k); };
    CHECK(difference(p.expected(activation::sigmoid{}, real, {}, {}), std::vector<float>(y.begin(), y.end()), 0x1p-8,
                     1e-5) == "");
  }
  SECTION("int8 of floats and of codes") {
    const std::size_t columns = 21, depth = 45, rows = 9;
    problem<std::int8_t, float> p(random, columns, depth, rows);
    std::vector<float> w_scales, v_scales;
    for (std::size_t o = 0; o < columns; ++o)
      w_scales.push_back(0.005f + random.unit() * 0.01f), v_scales.push_back(0.005f + random.unit() * 0.01f);
    for (std::size_t k = 0; k < depth; ++k) p.x[4 * depth + k] = 0.0f;
    const polymac::layer::gated<mac::int8, activation::gelu> layer(p.matrix(p.w), p.matrix(p.v),
                                                                   {p.b, p.c, w_scales, v_scales});
    // What the codes of a row are, from the definition.
    std::vector<float> row_scales;
    std::vector<std::int8_t> codes;
    for (std::size_t r = 0; r < rows; ++r) {
      float most = 0;
      for (std::size_t k = 0; k < depth; ++k) most = std::max(most, std::abs(p.x[r * depth + k]));
      row_scales.push_back(most / 127.0f);
      for (std::size_t k = 0; k < depth; ++k)
        codes.push_back(static_cast<std::int8_t>(most > 0 ? std::round(p.x[r * depth + k] * (127.0f / most)) : 0.0f));
    }
    const auto real = [&](std::size_t r, std::size_t k) {
      return static_cast<double>(codes[r * depth + k]) * static_cast<double>(row_scales[r]);
    };
    const auto expected = p.expected(activation::gelu{}, real, w_scales, v_scales);
    const std::size_t bytes = layer.workspace_bytes(rows);
    for (const placement where : both_placements) {
      const guarded_buffer<float> x(p.x, where);
      guarded_buffer<float> y(rows * columns, where), of_codes(rows * columns, where);
      guarded_buffer<std::byte> memory(bytes, where);
      const matrix_view<const float> in(x.data(), rows, depth);
      {
        const no_allocation trap;
        CHECK(layer(in, matrix_view<float>(y.data(), rows, columns), polymac::workspace(memory.data(), memory.size()))
                  .text() == "");
        CHECK(layer(matrix_view<const std::int8_t>(codes.data(), rows, depth), row_scales,
                    matrix_view<float>(of_codes.data(), rows, columns))
                  .text() == "");
      }
      CHECK(y.slack_untouched());
      CHECK(memory.slack_untouched());
      CHECK(difference(expected, y.values(), 2e-6, 2e-6) == "");
      CHECK(difference(y.values(), of_codes.values()) == "");
      std::vector<float> parts(rows * columns, 7.0f);
      for (const polymac::row_range part : {polymac::row_range{6, 99}, polymac::row_range{0, 6}})
        CHECK(layer(in, matrix_view<float>(parts.data(), rows, columns),
                    polymac::workspace(memory.data(), memory.size()), part)
                  .ok());
      CHECK(difference(y.values(), parts) == "");
    }
    std::vector<float> y(rows * columns, 7.0f);
    std::vector<std::byte> memory(bytes);
    const matrix_view<float> out(y.data(), rows, columns);
    const matrix_view<const float> in(p.x.data(), rows, depth);
    CHECK(layer(in, out, polymac::workspace(memory.data(), bytes - 1)).text() ==
          "gated: expected a workspace of " + std::to_string(bytes) + " bytes for 9 rows, got " +
              std::to_string(bytes - 1));
    CHECK(layer(matrix_view<const std::int8_t>(codes.data(), rows, depth), std::vector<float>(3), out).text() ==
          "gated: expected a scale for each of 9 rows or none, got 3");
    CHECK(y == std::vector<float>(rows * columns, 7.0f));
    // NaN and infinity make the whole row NaN, and no other.
    p.x[2 * depth + 5] = not_a_number;
    p.x[7 * depth + 5] = infinity;
    CHECK(layer(in, out, polymac::workspace(memory)).ok());
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t o = 0; o < columns; ++o) CHECK(std::isnan(out(r, o)) == (r == 2 || r == 7));
  }
}

TEST_CASE("gated says what is wrong") {
  using layer_type = polymac::layer::gated<mac::float32, activation::silu>;
  const std::vector<float> w(12, 1.0f), three(3, 1.0f);
  std::vector<float> x(8, 1.0f), y(6, 7.0f);
  const matrix_view<const float> weights(w.data(), 3, 4);
  const layer_type layer(weights, weights);
  const matrix_view<const float> in(x.data(), 2, 4);
  CHECK(layer(in, matrix_view<float>(y.data(), 2, 2)).text() ==
        "gated: expected x of n x 4 and y of n x 3, got 2 x 4 and 2 x 2");
  CHECK(layer(in, matrix_view<float>(nullptr, 2, 3)).text() == "gated: the view y has no data");
  CHECK(layer(in, matrix_view<float>(y.data(), 2, 3, 2)).code() == polymac::errc::shape);
  CHECK(y == std::vector<float>(6, 7.0f));
  x[5] = not_a_number;
  CHECK(layer(in, matrix_view<float>(y.data(), 2, 3)).ok());
  for (std::size_t i = 0; i < 6; ++i) CHECK(std::isnan(y[i]) == (i >= 3));

  const auto refuses = [&](const matrix_view<const float>& a, const matrix_view<const float>& b,
                           const gated_parameters& parameters) {
    return complaint([&] { layer_type(a, b, parameters); });
  };
  CHECK(refuses(weights, {w.data(), 4, 3}, {}) == "gated: expected w and v of one shape, got 3 x 4 and 4 x 3");
  CHECK(refuses({w.data(), 0, 3}, {w.data(), 0, 3}, {}) != "");
  CHECK(refuses(weights, {nullptr, 3, 4}, {}) == "gated: the view v has no data");
  CHECK(refuses(weights, weights, {.gate_bias = w}) ==
        "gated: expected a bias for each of 3 columns or none, got 0 and 12");
  CHECK(refuses(weights, weights, {.scales = three}) == "gated: expected no scales, for sums of float32 are reals");
  const std::vector<std::int8_t> codes(12);
  const matrix_view<const std::int8_t> of_codes(codes.data(), 3, 4);
  const auto refuses_codes = [&](const gated_parameters& parameters) {
    return complaint([&] { polymac::gated<mac::int8, activation::gelu>(of_codes, of_codes, parameters); });
  };
  CHECK(refuses_codes({}) == "gated: expected a scale for each of 3 columns or one, got 0 and 0");
  CHECK(refuses_codes({.scales = three, .gate_scales = w}) ==
        "gated: expected a scale for each of 3 columns or one, got 3 and 12");
  const std::vector<float> bad = {1, 0, 1};
  CHECK(refuses_codes({.scales = three, .gate_scales = bad}) == "gated: expected finite scales above 0, column 1 of v");
  CHECK(refuses_codes({.scales = three, .gate_scales = three}) == "");
}
