// SPDX-License-Identifier: MIT
// Learning the hash function of hashed attention.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/adapt/hashing.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

using namespace polymac;

namespace {

constexpr std::size_t n = 60, size = 8, groups = 4;

/// Tokens in groups around four directions, of any length.
std::vector<float> grouped_tokens(polymac_test::random_source& random) {
  auto tokens = polymac_test::uniform<float>(random, n * size);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < size; ++k) tokens[i * size + k] *= 0.15f;
    tokens[i * size + i % groups] += 1.0f;
    for (std::size_t k = 0; k < size; ++k) tokens[i * size + k] *= 0.5f + static_cast<float>(i);
  }
  return tokens;
}

struct learnt {
  adapt::hash_learning how;
  std::vector<float> anchors, means, projection;
  adapt::hash_learning_report report;
  status done;
  learnt(const std::vector<float>& tokens, const adapt::hash_learning& h, unsigned seed)
      : how(h), anchors(h.anchors * size), means(h.anchors), projection(h.bits * h.anchors) {
    std::mt19937 random(seed);
    done = adapt::learn_hashing({tokens.data(), n, size}, h, random, anchors, means, projection, &report);
  }
  /// Mean h . h' of pairs of one group less that of pairs of two groups, by the layer's codes, as a share of `bits`.
  double contrast(const std::vector<float>& tokens) const {
    const layer::hashed_attention<> layer({1, size, 1, how.bits, how.anchors}, {anchors, means, projection});
    std::vector<std::int8_t> codes(n * how.bits);
    std::vector<std::byte> ws(layer.workspace_bytes());
    REQUIRE(layer
                .encode(heads_view<const float>::by_token(tokens.data(), 1, n, 1, size),
                        heads_view<std::int8_t>::by_token(codes.data(), 1, n, 1, how.bits), workspace(ws))
                .ok());
    double sum[2] = {}, pairs[2] = {};
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < i; ++j) {
        const bool same = i % groups == j % groups;
        for (std::size_t r = 0; r < how.bits; ++r) sum[same] += codes[i * how.bits + r] * codes[j * how.bits + r];
        pairs[same] += static_cast<double>(how.bits);
      }
    return sum[1] / pairs[1] - sum[0] / pairs[0];
  }
};

}  // namespace

TEST_CASE("learn_hashing: codes tell groups of tokens apart, better than random ones") {
  POLYMAC_RANDOM(random, 1);
  const auto tokens = grouped_tokens(random);
  const learnt trained(tokens, {.top = 15, .iterations = 100, .rate = 0.5}, 7), chance(tokens, {.iterations = 0}, 7);
  REQUIRE(trained.done.text() == "");
  REQUIRE(chance.done.text() == "");
  CHECK(chance.report.loss == chance.report.random_loss);
  CHECK(chance.report.improved_bits == 0);
  CHECK(trained.report.improved_bits > 0);
  CHECK(trained.report.loss < trained.report.random_loss);
  CHECK(trained.contrast(tokens) > chance.contrast(tokens));
  CHECK(trained.contrast(tokens) > 0.8);
}

TEST_CASE("learn_hashing: the same generator, the same numbers; never worse than chance") {
  POLYMAC_RANDOM(random, 2);
  const auto tokens = polymac_test::uniform<float>(random, n * size);
  const learnt a(tokens, {.bits = 8, .iterations = 20}, 3), b(tokens, {.bits = 8, .iterations = 20}, 3),
      other(tokens, {.bits = 8, .iterations = 20}, 4);
  REQUIRE(a.done.ok());
  CHECK(a.anchors == b.anchors);
  CHECK(a.means == b.means);
  CHECK(a.projection == b.projection);
  CHECK(a.anchors != other.anchors);
  CHECK(a.report.loss <= a.report.random_loss);
  // Anchors are tokens of length 1, all different where there are enough.
  for (std::size_t j = 0; j < 25; ++j) {
    double squares = 0;
    for (std::size_t k = 0; k < size; ++k) squares += std::pow(static_cast<double>(a.anchors[j * size + k]), 2);
    CHECK(std::abs(squares - 1) < 1e-6);
    for (std::size_t i = 0; i < j; ++i) CHECK(a.anchors[i * size] != a.anchors[j * size]);
  }
  // More anchors than tokens, tokens that are all 0.
  CHECK(learnt(tokens, {.bits = 2, .anchors = n + 7, .iterations = 2}, 5).done.ok());
  const learnt zeros(std::vector<float>(n * size), {.bits = 2, .iterations = 2}, 5);
  CHECK(zeros.done.ok());
  for (const float v : zeros.projection) CHECK(std::isfinite(v));
}

TEST_CASE("learn_hashing: what does not fit is told") {
  std::mt19937 random(1);
  std::vector<float> tokens(n * size, 1.0f), anchors(25 * size), means(25), projection(16 * 25);
  const matrix_view<const float> t(tokens.data(), n, size);
  const auto told = [&](const adapt::hash_learning& how, std::span<float> a) {
    return std::string(adapt::learn_hashing(t, how, random, a, means, projection).text());
  };
  CHECK(told({.bits = 64}, anchors) ==
        "learn_hashing: expected tokens, anchors and 1 to 63 bits, got 60 x 8 tokens, 25 anchors, 64 bits");
  CHECK(
      told({}, std::span(anchors).first(10)) ==
      "learn_hashing: expected room for 200 numbers of anchors, 25 of means and 400 of the projection, got 10, 25 and "
      "400");
  CHECK(told({.rate = 0}, anchors) == "learn_hashing: expected a finite rate above 0 and a momentum in [0, 1)");
  tokens[9] = std::numeric_limits<float>::infinity();
  CHECK(told({}, anchors) == "learn_hashing: token 1 is not finite");
  CHECK(anchors == std::vector<float>(anchors.size()));
}
