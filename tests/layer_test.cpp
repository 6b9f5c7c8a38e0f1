// SPDX-License-Identifier: MIT
// layer::linear against the golden model: every arithmetic on every instruction set, one body.
#include "catch.hpp"
#include "support/arithmetic_data.hpp"
#include "support/arithmetics.hpp"
#include "support/golden.hpp"
#include "support/guarded_buffer.hpp"
#include "support/strided.hpp"

#include <polymac/core/int4.hpp>
#include <polymac/epilogue/clamp.hpp>
#include <polymac/epilogue/requantize.hpp>
#include <polymac/layer/linear.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "support/test_code.hpp"

using namespace polymac_test;
using polymac::matrix_view;
using polymac::layer::quantization;

namespace {

template <class M, class I>
using raw_linear = polymac::layer::linear<M, polymac::epilogue::identity, I>;

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// Runs one layer on random data; empty where all is as it must be, else what is not.
template <class M, class I>
std::string run_case(random_source& random, std::size_t rows, std::size_t columns, std::size_t depth) {
  using sum = typename polymac::mac_traits<M>::sum;
  using wide = typename polymac::mac_traits<M>::wide;
  const auto weights = random_weights<M>(random, columns * depth);
  const auto bias = random_bias<M>(random, columns);
  const zero_points<M> zeros(random, columns);
  const matrix_view<const typename M::weight> w(weights.data(), columns, depth);
  strided_matrix<typename M::activation> x(rows, depth, static_cast<std::size_t>(random.integer(0, 3)));
  x.assign(random_activations<M>(random, rows * depth));
  strided_matrix<sum> y(rows, columns, static_cast<std::size_t>(random.integer(0, 2)));

  const raw_linear<M, I> layer(w, std::span<const wide>(bias), {}, quantization<M>{zeros.activation, zeros.weights});
  if (const auto s = layer(x.view(), y.view()); !s.ok()) return std::string(s.text());
  const auto expected = golden_linear<M>(x.view(), w, golden_terms<M>{bias, zeros.activation, zeros.weights});
  std::string wrong = disagreement(expected, [&](std::size_t i) { return y[i]; });
  if (!y.gaps_untouched()) wrong += " wrote between the rows of y";

  // The same rows in two parts: the same bits. Rows outside of the range: not written.
  const auto cut = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(rows)));
  strided_matrix<sum> parts(rows, columns, 1);
  if (!layer(x.view(), parts.view(), {cut, rows}).ok()) wrong += " refused a range of rows";
  for (std::size_t i = 0; i < cut * columns; ++i)
    if (!parts.untouched(i)) return wrong + " wrote a row before the range";
  for (std::size_t i = cut * columns; i < rows * columns; ++i)
    if (!same_bits(parts[i], y[i])) return wrong + " a range of rows gives other bits";
  if (!layer(x.view(), parts.view(), {0, cut}).ok()) wrong += " refused a range of rows";
  for (std::size_t i = 0; i < rows * columns; ++i)
    if (!same_bits(parts[i], y[i])) return wrong + " two ranges of rows give other bits";
  return wrong;
}

const std::size_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 63, 64, 65};

}  // namespace

TEMPLATE_LIST_TEST_CASE("linear equals its golden model", "[linear]", all_cells) {
  using M = typename TestType::mac;
  using I = typename TestType::isa;
  POLYMAC_RANDOM(random, 1);
  const auto any_size = [&] { return sizes[static_cast<std::size_t>(random.integer(0, 18))]; };
  const auto check = [&](std::size_t rows, std::size_t columns, std::size_t depth) {
    const std::string wrong = run_case<M, I>(random, rows, columns, depth);
    INFO(M::name << " on " << I::name << ": " << rows << " rows, " << columns << " columns, " << depth << " deep");
    CHECK(wrong == "");
  };
  for (std::size_t rows = 1; rows <= 30; ++rows) {
    check(rows, any_size(), any_size());
    check(rows, 33, 5);
    // One tile of rows has a way of its own: a part of a panel, a panel, and panels that need several tiles, with whole
    // groups and without.
    for (const std::size_t columns : {8u, 16u, 131u})
      for (const std::size_t depth : {4u, 7u, 8u}) check(rows, columns, depth);
  }
  for (const std::size_t columns : sizes) {
    check(static_cast<std::size_t>(random.integer(1, 30)), columns, any_size());
    check(13, columns, 7);
  }
  for (const std::size_t depth : sizes) check(static_cast<std::size_t>(random.integer(1, 30)), any_size(), depth);
  for (const std::size_t depth : {127u, 128u, 129u, 255u, 256u, 257u, 1023u, 1024u, 1025u}) check(7, 18, depth);
}

namespace {

/// Deep sums of one product everywhere, and their golden value.
template <class M, class I>
void check_deep(std::size_t columns, typename M::activation a, typename M::weight w, std::size_t depth,
                std::int64_t bias, typename M::activation zero) {
  using sum = typename polymac::mac_traits<M>::sum;
  const std::size_t rows = 4;
  const std::vector<typename M::activation> x(rows * depth, a);
  const std::vector<typename M::weight> weights(columns * depth, w);
  const std::vector<std::int64_t> biases(columns, bias);
  std::vector<sum> y(rows * columns);
  const raw_linear<M, I> layer(matrix_view<const typename M::weight>(weights.data(), columns, depth),
                               std::span<const std::int64_t>(biases), {}, quantization<M>{zero, {}});
  CHECK(
      layer(matrix_view<const typename M::activation>(x.data(), rows, depth), matrix_view<sum>(y.data(), rows, columns))
          .ok());
  const std::int64_t exact = bias + static_cast<std::int64_t>(depth) * (static_cast<std::int64_t>(a) - zero) * w;
  const std::int64_t low = std::numeric_limits<sum>::min(), high = std::numeric_limits<sum>::max();
  const auto expected = static_cast<sum>(exact < low ? low : exact > high ? high : exact);
  INFO(M::name << " on " << I::name << ": " << depth << " products of " << +a << " x " << +w << ", bias " << bias);
  CHECK(std::count(y.begin(), y.end(), expected) == static_cast<std::ptrdiff_t>(y.size()));
}
/// For many columns and for few.
template <class M, class I>
void check_deep(typename M::activation a, typename M::weight w, std::size_t depth, std::int64_t bias,
                typename M::activation zero = {}) {
  check_deep<M, I>(17, a, w, depth, bias, zero);
  check_deep<M, I>(3, a, w, depth, bias, zero);
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("sums at and beyond max_depth are exact, and saturate", "[linear]", tested_isas) {
  using polymac::mac::int16x8;
  using polymac::mac::int8;
  using polymac::mac::uint8;
  static_assert(int8::max_depth == 131071 && uint8::max_depth == 65793 && int16x8::max_depth == 511);
  const std::int64_t most = std::numeric_limits<std::int32_t>::max();

  check_deep<int8, TestType>(-128, -128, 131071, 0);  // 2147467264
  check_deep<int8, TestType>(-128, -128, 131071, most - 2147467264);
  check_deep<int8, TestType>(-128, -128, 131071, most - 2147467264 + 1);
  check_deep<int8, TestType>(-128, -128, 131072, 0);
  check_deep<int8, TestType>(-128, -128, 131072, -1);
  check_deep<int8, TestType>(-128, -128, 131072, -most);
  check_deep<int8, TestType>(-128, -128, 131068, -4'000'000'000);  // both the bias and the products leave 32 bits
  check_deep<int8, TestType>(-128, -128, 300000, 0);
  check_deep<int8, TestType>(-128, -128, 300000, -4'000'000'000);
  check_deep<int8, TestType>(127, -128, 300000, 3'000'000'000);
  check_deep<int8, TestType>(127, -128, 300000, 0, -128);
  check_deep<int8, TestType>(-128, 127, 7, std::numeric_limits<std::int32_t>::min());
  check_deep<int8, TestType>(127, 127, 7, most);
  check_deep<int8, TestType>(-128, 127, 7, 3 * most, 127);

  check_deep<uint8, TestType>(255, -128, 65793, 0);
  check_deep<uint8, TestType>(255, -128, 65793, -7'776);
  check_deep<uint8, TestType>(255, -128, 65794, 0);
  check_deep<uint8, TestType>(255, -128, 65794, 3'000'000'000);
  check_deep<uint8, TestType>(255, 127, 140000, -4'000'000'000);
  check_deep<uint8, TestType>(0, -128, 140000, 0, 255);

  for (const std::size_t depth : {510u, 511u, 512u, 513u, 1022u, 1023u, 5000u})
    for (const std::int64_t bias : {std::int64_t{0}, std::int64_t{1} << 40, -(std::int64_t{1} << 60)})
      check_deep<int16x8, TestType>(-32768, -128, depth, bias);
  check_deep<int16x8, TestType>(32767, -128, 5000, 5, -32768);
}

TEST_CASE("a bias does not carry the sums of an arithmetic that is not linear out of 32 bits", "[linear]") {
  // The bound of its products is known from max_depth alone.
  const std::size_t depth = 50;
  const std::vector<std::int8_t> x(depth, -128), weights(depth, -128);
  for (const std::int32_t bias :
       {std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int32_t>::max() - 2048 * 50,
        std::numeric_limits<std::int32_t>::max() - 2048 * 50 + 1}) {
    std::int32_t y = 0;
    const raw_linear<truncated, polymac::isa::native> layer(matrix_view<const std::int8_t>(weights.data(), 1, depth),
                                                            std::span<const std::int32_t>(&bias, 1));
    REQUIRE(layer(matrix_view<const std::int8_t>(x.data(), 1, depth), matrix_view<std::int32_t>(&y, 1, 1)).ok());
    CHECK(y == std::min<std::int64_t>(std::int64_t{bias} + 2048 * 50, std::numeric_limits<std::int32_t>::max()));
  }
}

TEMPLATE_LIST_TEST_CASE("deep float sums stay within their bound", "[linear]", tested_isas) {
  using M = polymac::mac::float32;
  POLYMAC_RANDOM(random, 2);
  CHECK(run_case<M, TestType>(random, 3, 19, 100'000) == "");
  // Sums of ones are exact up to 2^24.
  const std::size_t depth = (1u << 24) / 16;
  const std::vector<float> x(depth, 16.0f), w(depth, 1.0f);
  float y = 0.0f;
  const raw_linear<M, TestType> layer(matrix_view<const float>(w.data(), 1, depth), std::span<const float>{});
  REQUIRE(layer(matrix_view<const float>(x.data(), 1, depth), matrix_view<float>(&y, 1, 1)).ok());
  CHECK(y == 16777216.0f);
}

TEMPLATE_LIST_TEST_CASE("linear takes weights of other integer types", "[linear]", tested_isas) {
  using M = polymac::mac::int8;
  POLYMAC_RANDOM(random, 3);
  const std::size_t rows = 5, columns = 19, depth = 37;  // odd rows of int4 begin within a byte
  const auto x = uniform<std::int8_t>(random, rows * depth);
  const matrix_view<const std::int8_t> x_view(x.data(), rows, depth);
  const auto check = [&](const auto& w, std::span<const std::int32_t> weight_zeros) {
    std::vector<std::int32_t> y(rows * columns);
    const raw_linear<M, TestType> layer(w, std::span<const std::int64_t>{}, {}, quantization<M>{-128, weight_zeros});
    CHECK(layer(x_view, matrix_view<std::int32_t>(y.data(), rows, columns)).ok());
    CHECK(disagreement(golden_linear<M>(x_view, w, golden_terms<M>{{}, -128, weight_zeros}),
                       [&](std::size_t i) { return y[i]; }) == "");
  };
  const auto nibbles = uniform<std::uint8_t>(random, (columns * depth + 1) / 2);
  check(polymac::int4_matrix_view{nibbles.data(), columns, depth}, {});
  const std::int32_t eight[] = {8};
  check(polymac::int4_matrix_view{nibbles.data(), columns, depth}, eight);
  const auto bytes = uniform<std::uint8_t>(random, columns * depth);
  for (const std::int32_t zero : {128, 0, 255, 17})  // 1, 3, 2 and 2 terms
    check(matrix_view<const std::uint8_t>(bytes.data(), columns, depth), std::span(&zero, 1));
  const auto words = small_integers<std::int32_t>(random, columns * depth, -128, 127);
  check(matrix_view<const std::int32_t>(words.data(), columns, depth), {});
}

TEST_CASE("the epilogue is told the row and the column of every sum", "[linear]") {
  struct place : polymac::epilogue::stage {
    polymac::status check(std::size_t) const noexcept { return {}; }
    double operator()(std::int32_t sum, std::size_t row, std::size_t column) const noexcept {
      return sum + 1000.0 * static_cast<double>(row) + 1e6 * static_cast<double>(column);
    }
  };
  const std::size_t rows = 29, columns = 37;
  const std::vector<std::int8_t> x(rows * 3, 1), w(columns * 3, 2);
  std::vector<double> y(rows * columns);
  const auto layer = polymac::linear<polymac::mac::int8>(matrix_view<const std::int8_t>(w.data(), columns, 3),
                                                         std::vector<std::int32_t>{}, place{});
  REQUIRE(layer(matrix_view<const std::int8_t>(x.data(), rows, 3), matrix_view<double>(y.data(), rows, columns)).ok());
  bool right = true;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c)
      right = right && y[r * columns + c] == 6.0 + 1000.0 * static_cast<double>(r) + 1e6 * static_cast<double>(c);
  CHECK(right);
}

// Atoms for few columns have panels, tiles and an epilogue of their own: rows end beside an unmapped page, results begin
// behind one, and every stage is the scalar one.
TEMPLATE_TEST_CASE("few columns, requantised, with nothing behind the rows", "[linear]", polymac::mac::int8,
                   polymac::mac::uint8) {
  using M = TestType;
  using activation = typename M::activation;
  POLYMAC_RANDOM(random, 5);
  for (std::size_t columns = 1; columns <= 9; ++columns)
    for (std::size_t depth = 1; depth <= 40; ++depth) {
      const auto rows = static_cast<std::size_t>(random.integer(1, depth % 8 == 0 ? 60 : 30));
      const std::size_t gap = depth % 3;
      CAPTURE(M::name, rows, columns, depth, gap);
      const bool extreme = depth % 5 == 0;
      const auto values =
          extreme ? extremes<activation>(random, rows * depth) : uniform<activation>(random, rows * depth);
      const auto weights =
          extreme ? extremes<std::int8_t>(random, columns * depth) : uniform<std::int8_t>(random, columns * depth);
      std::vector<std::int32_t> bias(columns);
      std::vector<double> scales(columns);
      for (std::size_t c = 0; c < columns; ++c) {
        bias[c] = static_cast<std::int32_t>(random.integer(-20000, 20000));
        scales[c] = 0.0005 * static_cast<double>(random.integer(1, 20));
      }
      const auto stages = polymac::requantize<polymac::rounding::gemmlowp>(std::span<const double>(scales), 3) |
                          polymac::clamp(-100, 90);
      const auto layer =
          polymac::linear<M>(matrix_view<const std::int8_t>(weights.data(), columns, depth), bias, stages);
      const guarded_buffer<activation> x(values, placement::before_guard);
      guarded_buffer<std::int8_t> y(rows * (columns + gap) - gap, placement::before_guard);
      std::fill(y.begin(), y.end(), std::int8_t{111});
      matrix_view<std::int8_t> out(y.data(), rows, columns);
      out.stride = columns + gap;
      REQUIRE(layer(matrix_view<const activation>(x.data(), rows, depth), out).ok());
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        const std::size_t r = i / (columns + gap), c = i % (columns + gap);
        std::int32_t sum = c < columns ? bias[c] : 0;
        for (std::size_t k = 0; c < columns && k < depth; ++k)
          sum = M::multiply_add(sum, values[r * depth + k], weights[c * depth + k]);
        wrong += y[i] != (c < columns ? stages(sum, r, c) : 111);
      }
      CHECK(wrong == 0);
      CHECK(y.slack_untouched());
    }
}

TEMPLATE_TEST_CASE_SIG("a layer with static extents equals the one with dynamic extents", "[linear]",
                       ((std::size_t Columns), Columns), 21, 5) {
  using M = polymac::mac::int8;
  POLYMAC_RANDOM(random, 4);
  const auto weights = uniform<std::int8_t>(random, Columns * 30);
  const auto x = uniform<std::int8_t>(random, 8 * 30);
  const std::vector<std::int32_t> bias(Columns, 77);
  const matrix_view<const std::int8_t> w(weights.data(), Columns, 30), x_view(x.data(), 8, 30);
  std::vector<std::int32_t> first(8 * Columns), second(8 * Columns);
  const polymac::layer::linear<M, polymac::epilogue::identity, polymac::isa::native, polymac::extents<Columns, 30>>
      fixed(w, std::span<const std::int32_t>(bias), {}, quantization<M>{-128, {}});
  const polymac::layer::linear<M> free(w, std::span<const std::int32_t>(bias), {}, quantization<M>{-128, {}});
  REQUIRE(fixed(x_view, matrix_view<std::int32_t>(first.data(), 8, Columns)).ok());
  REQUIRE(free(x_view, matrix_view<std::int32_t>(second.data(), 8, Columns)).ok());
  CHECK(first == second);
  CHECK(fixed.weight_bytes() == free.weight_bytes());
}
