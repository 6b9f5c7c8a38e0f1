// SPDX-License-Identifier: MIT
// Embeddings and tied classifiers: rows bit by bit, logits against sums in double, ids out of range.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/compare.hpp"
#include "support/complaint.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/layer/embedding.hpp>
#include <polymac/mac/bf16.hpp>
#include <polymac/mac/float32.hpp>
#include <polymac/mac/int8.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

using namespace polymac_test;
using polymac::matrix_view;
using polymac::layer::embedding;
using polymac::layer::tied_embedding;

namespace {

template <class T>
std::vector<float> scales_for(std::size_t rows) {
  std::vector<float> scales;
  for (std::size_t r = 0; std::is_same_v<T, std::int8_t> && r < rows; ++r)
    scales.push_back(0.01f + static_cast<float>(r) * 0x1p-10f);
  return scales;
}
template <class T>
std::vector<float> real_row(const std::vector<T>& table, const std::vector<float>& scales, std::size_t row,
                            std::size_t size) {
  std::vector<float> y;
  for (std::size_t i = 0; i < size; ++i)
    y.push_back(static_cast<float>(table[row * size + i]) * (scales.empty() ? 1.0f : scales[row]));
  return y;
}

const std::vector<std::int32_t> ids = {6, 0, 36, 6, 17};

/// Rows must come back bit by bit.
template <class T, class Layer>
void check_rows(const Layer& layer, const std::vector<T>& table, const std::vector<float>& scales, std::size_t size) {
  for (const placement where : both_placements) {
    guarded_buffer<float> y(ids.size() * size, where);
    {
      const no_allocation trap;
      CHECK(layer(ids, matrix_view<float>(y.data(), ids.size(), size)).text() == "");
    }
    CHECK(y.slack_untouched());
    for (std::size_t i = 0; i < ids.size(); ++i)
      CHECK(difference(real_row(table, scales, static_cast<std::size_t>(ids[i]), size),
                       std::vector<float>(y.data() + i * size, y.data() + (i + 1) * size)) == "");
  }
}

}  // namespace

TEMPLATE_TEST_CASE("rows of a table", "", float, polymac::bfloat16, polymac::float16, std::int8_t) {
  POLYMAC_RANDOM(random, 1);
  const std::size_t tokens = 37, size = 21, stride = 24;
  const auto wide = uniform<TestType>(random, tokens * stride);
  std::vector<TestType> table;
  for (std::size_t r = 0; r < tokens; ++r)
    for (std::size_t i = 0; i < size; ++i) table.push_back(wide[r * stride + i]);
  const auto scales = scales_for<TestType>(tokens);
  const embedding<TestType> layer(matrix_view<const TestType>(wide.data(), tokens, size, stride), scales);
  CHECK(layer.bytes() == tokens * (size * sizeof(TestType) + (scales.empty() ? 0 : 4)));
  check_rows(layer, table, scales, size);
}

TEMPLATE_TEST_CASE("a classifier that shares the table", "", polymac::mac::float32, polymac::mac::bf16,
                   polymac::mac::int8) {
  using weight = typename TestType::weight;
  constexpr bool integer = std::is_integral_v<weight>;
  POLYMAC_RANDOM(random, 2);
  const std::size_t tokens = 37, size = 21, rows = 3;
  const auto table = uniform<weight>(random, tokens * size);
  const auto scales = scales_for<weight>(tokens);
  const tied_embedding<TestType> layer(matrix_view<const weight>(table.data(), tokens, size), scales);
  CHECK(layer.tokens() == tokens);
  CHECK(layer.size() == size);
  check_rows(layer, table, scales, size);

  using activation = typename tied_embedding<TestType>::activation;
  const auto x = uniform<activation>(random, rows * size);
  std::vector<float> y(rows * tokens);
  const matrix_view<const activation> in(x.data(), rows, size);
  const matrix_view<float> out(y.data(), rows, tokens);
  std::vector<std::byte> memory;
  if constexpr (integer) memory.resize(layer.classifier().workspace_bytes(in, out));
  {
    const no_allocation trap;
    CHECK(layer.classify(in, out, polymac::workspace(memory)).text() == "");
  }
  std::vector<double> expected;
  double bound = 0;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t t = 0; t < tokens; ++t) {
      const auto row = real_row(table, scales, t, size);
      double sum = 0, magnitudes = 0;
      for (std::size_t i = 0; i < size; ++i) {
        const double a = static_cast<double>(static_cast<float>(x[r * size + i])), w = static_cast<double>(row[i]);
        sum += a * w;
        magnitudes += std::abs(w);
      }
      expected.push_back(sum);
      // Codes of activations are off by half of 1/127 of the largest.
      bound = std::max(bound, integer ? magnitudes * 0.5 / 127.0 * 1.001 : magnitudes * 1e-5);
    }
  CHECK(difference(expected, y, 0, bound) == "");
}

TEST_CASE("embeddings say what is wrong") {
  const std::vector<float> table(12, 1.0f);
  const std::vector<std::int8_t> codes(12, 1);
  const embedding<float> layer(matrix_view<const float>(table.data(), 4, 3));
  const tied_embedding<polymac::mac::float32> tied(matrix_view<const float>(table.data(), 4, 3));
  std::vector<float> y(6, 7.0f);
  const matrix_view<float> out(y.data(), 2, 3);
  for (const std::int32_t bad : {4, -1, std::numeric_limits<std::int32_t>::min()}) {
    const std::vector<std::int32_t> given = {0, bad};
    const std::string words = "embedding: expected token ids in [0, 4), got " + std::to_string(bad) + " at 1";
    CHECK(layer(given, out).text() == words);
    CHECK(tied(given, out).text() == "tied_" + words);
  }
  const std::vector<std::int32_t> good = {0, 3, 1};
  CHECK(layer(good, out).text() == "embedding: expected y of 3 x 3, got 2 x 3");
  CHECK(layer(good, matrix_view<float>(nullptr, 3, 3)).text() == "embedding: the view y has no data");
  CHECK(layer(good, matrix_view<float>(y.data(), 3, 3, 2)).code() == polymac::errc::shape);
  CHECK(y == std::vector<float>(6, 7.0f));
  CHECK(layer({}, matrix_view<float>(nullptr, 0, 3)).ok());
  CHECK(tied.classify(matrix_view<const float>(table.data(), 4, 2), matrix_view<float>(y.data(), 1, 4)).code() ==
        polymac::errc::shape);

  using i8 = matrix_view<const std::int8_t>;
  CHECK(complaint([&] { embedding<std::int8_t>(i8(codes.data(), 4, 3)); }) ==
        "embedding: expected a scale for each of 4 rows of this type, got 0");
  CHECK(complaint([&] { embedding<float>(matrix_view<const float>(table.data(), 4, 3), table); }) ==
        "embedding: expected no scales for each of 4 rows of this type, got 12");
  const std::vector<float> scales = {1, 1, 0, 1};
  CHECK(complaint([&] { embedding<std::int8_t>(i8(codes.data(), 4, 3), scales); }) ==
        "embedding: expected finite scales above 0, row 2");
  CHECK(complaint([&] { embedding<float>(matrix_view<const float>(nullptr, 4, 3)); }) ==
        "embedding: the table has no data");
  CHECK(complaint([&] { embedding<float>(matrix_view<const float>(table.data(), 0, 3)); }) != "");
  CHECK(complaint([&] { tied_embedding<polymac::mac::float32>(matrix_view<const float>(table.data(), 4, 0)); }) != "");
}
