// SPDX-License-Identifier: MIT
// Decoders of small seeded nets against plain loops in double; blocks of tokens against one by one; what is refused.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/complaint.hpp"
#include "support/random.hpp"

#include <polymac/model/decoder.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace polymac;
using model::decoder_shape;
using model::decoder_weights;
using polymac_test::complaint;

namespace {

using decoder = model::decoder<mac::float32>;
using ids = std::vector<std::int32_t>;
using row = std::vector<double>;

decoder_weights seeded(const decoder_shape& shape, bool tied) {
  decoder_weights w;
  w.shape = shape;
  w.values.resize(model::parameters(shape, tied));
  polymac_test::random_source random(3);
  for (float& v : w.values) v = random.unit() * 2.0F - 1.0F;
  model::set_views(w, tied);
  return w;
}

row times(const matrix_view<const float>& w, const row& x) {
  row y(w.rows);
  for (std::size_t o = 0; o < w.rows; ++o)
    for (std::size_t i = 0; i < w.columns; ++i) y[o] += static_cast<double>(w(o, i)) * x[i];
  return y;
}
row normed(const row& x, std::span<const float> weight, double epsilon) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  row y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    y[i] = x[i] / std::sqrt(squares / static_cast<double>(x.size()) + epsilon) * static_cast<double>(weight[i]);
  return y;
}
void rotate(row& x, std::size_t size, std::size_t position, double base) {
  for (std::size_t i = 0; i < x.size(); i += 2) {
    const double angle =
        static_cast<double>(position) * std::pow(base, -static_cast<double>(i % size) / static_cast<double>(size));
    const double a = x[i], b = x[i + 1];
    x[i] = a * std::cos(angle) - b * std::sin(angle);
    x[i + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
}
void add(row& x, const row& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

/// Logits after every token.
std::vector<row> reference(const decoder_weights& w, const ids& tokens) {
  const decoder_shape& s = w.shape;
  const std::size_t size = s.head_size(), group = s.heads / s.key_heads;
  const auto epsilon = static_cast<double>(s.epsilon), base = static_cast<double>(s.rope_base);
  std::vector<std::vector<row>> keys(s.layers), values(s.layers);
  std::vector<row> logits;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const float* const vector = w.embedding.row(static_cast<std::size_t>(tokens[t]));
    row x(vector, vector + s.width);
    for (std::size_t l = 0; l < s.layers; ++l) {
      const auto& of = w.layers[l];
      row h = normed(x, of.attention_norm, epsilon);
      row q = times(of.query, h), k = times(of.key, h);
      rotate(q, size, t, base);
      rotate(k, size, t, base);
      keys[l].push_back(k);
      values[l].push_back(times(of.value, h));
      row attended(s.width);
      for (std::size_t head = 0; head < s.heads; ++head) {
        row weights(t + 1);
        double sum = 0;
        for (std::size_t j = 0; j <= t; ++j) {
          double score = 0;
          for (std::size_t i = 0; i < size; ++i) score += q[head * size + i] * keys[l][j][head / group * size + i];
          sum += weights[j] = std::exp(score / std::sqrt(static_cast<double>(size)));
        }
        for (std::size_t j = 0; j <= t; ++j)
          for (std::size_t i = 0; i < size; ++i)
            attended[head * size + i] += weights[j] / sum * values[l][j][head / group * size + i];
      }
      add(x, times(of.output, attended));
      h = normed(x, of.feed_forward_norm, epsilon);
      row gate = times(of.gate, h);
      const row up = times(of.up, h);
      for (std::size_t i = 0; i < s.hidden; ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      add(x, times(of.down, gate));
    }
    logits.push_back(times(w.classifier, normed(x, w.final_norm, epsilon)));
  }
  return logits;
}

/// A decoder with its workspace.
struct running {
  decoder of;
  std::vector<std::byte> memory;
  explicit running(const decoder_weights& w, const model::decoder_options& o = {})
      : of(w, o), memory(of.workspace_bytes() + 1) {}
  /// The last `count` rows of logits, from memory at an odd address.
  std::vector<float> operator()(const ids& tokens, std::size_t count) {
    std::vector<float> logits(count * of.shape().vocabulary);
    const status s =
        of(tokens, {logits.data(), count, of.shape().vocabulary}, workspace(memory.data() + 1, memory.size() - 1));
    INFO(std::string(s.text()));
    REQUIRE(s.ok());
    return logits;
  }
};

constexpr decoder_shape small{12, 10, 2, 6, 3, 11, 24};
const ids sequence{1, 5, 10, 0, 7, 7, 3, 2, 9, 4, 8, 6, 1, 0, 5, 3, 10, 2, 2, 6};

double largest_difference(const std::vector<float>& got, const std::vector<row>& expected) {
  const std::size_t columns = expected[0].size();
  REQUIRE(got.size() == expected.size() * columns);
  double most = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    most = std::max(most, std::abs(static_cast<double>(got[i]) - expected[i / columns][i % columns]));
  return most;
}

}  // namespace

TEST_CASE("logits are those of plain loops in double") {
  // Heads of 2 and 8, groups of 1, 2 and 4, widths that fill no panel, a classifier of its own.
  const decoder_shape shapes[] = {small, {8, 7, 1, 4, 4, 5, 24}, {32, 40, 3, 4, 1, 37, 24, 1e-3F, 500.0F}};
  for (const decoder_shape& shape : shapes)
    for (const bool tied : {true, false}) {
      INFO(shape.width << ", tied: " << tied);
      const decoder_weights w = seeded(shape, tied);
      ids tokens = sequence;
      for (std::int32_t& t : tokens) t %= static_cast<std::int32_t>(shape.vocabulary);
      const std::vector<row> expected = reference(w, tokens);
      double scale = 0;
      for (const double v : expected.back()) scale = std::max(scale, std::abs(v));
      running r(w, {.block = 7});
      CHECK(largest_difference(r(tokens, tokens.size()), expected) < 3e-5 * scale);
      CHECK(r.of.tokens() == tokens.size());
    }
}

TEST_CASE("blocks of tokens give what tokens one by one give") {
  const decoder_weights w = seeded(small, true);
  running alone(w, {.block = 1});
  std::vector<float> expected;
  for (const std::int32_t t : sequence) {
    const auto logits = alone({t}, 1);
    expected.insert(expected.end(), logits.begin(), logits.end());
  }
  const auto close = [&](const std::vector<float>& got) {
    const std::size_t first = expected.size() - got.size();
    float most = 0;
    for (std::size_t i = 0; i < got.size(); ++i) most = std::max(most, std::abs(got[i] - expected[first + i]));
    return most < 2e-5F;
  };
  for (const std::size_t block : {2u, 5u, 16u, 64u}) {
    INFO(block);
    running r(w, {.block = block});
    CHECK(close(r(sequence, sequence.size())));
    // Logits of the last tokens only, which begin within a block.
    for (const std::size_t last : {1u, 3u, 9u}) {
      r.of.clear();
      CHECK(r.of.tokens() == 0);
      CHECK(close(r(sequence, last)));
    }
    // A prompt, none of whose logits are wanted, and the rest one by one.
    r.of.clear();
    r(ids(sequence.begin(), sequence.end() - 4), 0);
    for (std::size_t i = 4; i > 1; --i) r({sequence[sequence.size() - i]}, 0);
    CHECK(close(r({sequence.back()}, 1)));
  }
}

TEST_CASE("a sequence can be cut off and go on") {
  const decoder_weights w = seeded(small, true);
  running r(w);
  const auto whole = r(sequence, 1);
  REQUIRE(r.of.truncate(13).ok());
  CHECK(r.of.tokens() == 13);
  r({1, 2, 3}, 0);
  REQUIRE(r.of.truncate(13).ok());
  CHECK(r(ids(sequence.begin() + 13, sequence.end()), 1) == whole);
  CHECK(r.of.truncate(21).text() == "decoder: expected at most the 20 tokens that are held, got 21");
  CHECK(r.of.tokens() == 20);
}

TEST_CASE("a token takes no heap") {
  const decoder_weights w = seeded(small, true);
  decoder d(w);
  std::vector<std::byte> memory(d.workspace_bytes());
  std::vector<float> logits(small.vocabulary);
  bool good = true;
  {
    const polymac_test::no_allocation none;
    good = d(std::span(sequence).first(9), {}, workspace(memory)).ok();
    for (std::size_t i = 9; i < sequence.size(); ++i)
      good = good && d(std::span(sequence).subspan(i, 1), {logits.data(), 1, small.vocabulary}, workspace(memory)).ok();
    d.clear();
  }
  CHECK(good);
}

TEST_CASE("what does not fit is refused, and nothing is lost") {
  const decoder_weights w = seeded(small, true);
  running r(w);
  r(ids(sequence.begin(), sequence.begin() + 18), 0);
  std::vector<float> logits(30 * small.vocabulary, -1.0F);
  const matrix_view<float> one(logits.data(), 1, small.vocabulary);
  const workspace ws(r.memory);
  const auto refused = [&](const ids& tokens, const matrix_view<float>& y, const workspace& lent,
                           const std::string& words) {
    const status s = r.of(tokens, y, lent);
    INFO(std::string(s.text()));
    CHECK_FALSE(s.ok());
    CHECK(s.text().find(words) != std::string_view::npos);
    CHECK(r.of.tokens() == 18);
    CHECK(std::all_of(logits.begin(), logits.end(), [](float v) { return v == -1.0F; }));
  };
  refused({1, 2, 11}, one, ws, "expected ids in [0, 11), id number 2 is 11");
  refused({-1}, one, ws, "expected ids in [0, 11), id number 0 is -1");
  refused({0, 1, 2, 3, 4, 5, 6}, one, ws, "expected at most 6 tokens, for which there is room behind 18, got 7");
  refused({1}, {logits.data(), 2, 11}, ws, "expected logits of at most 1 x 11, got 2 x 11");
  refused({1}, {logits.data(), 1, 10}, ws, "got 1 x 10");
  refused({1}, {nullptr, 1, 11}, ws, "has no data");
  refused({1, 2}, {logits.data(), 2, 11, 3}, ws, "strides");
  refused({1}, one, {}, "expected a workspace of");
  refused({1}, one, {r.memory.data(), r.of.workspace_bytes() - 1}, "expected a workspace of");
  CHECK(r.of({}, {nullptr, 0, 0}, {}).ok());  // nothing to do
  // It goes on as if nothing had been asked.
  running other(w);
  const auto expected = other(sequence, 1);
  const auto got = r({sequence[18], sequence[19]}, 1);
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::abs(got[i] - expected[i]) < 2e-5F);
  r(ids(4, 0), 0);  // full
  CHECK(r.of(ids{0}, {}, ws).code() == errc::short_buffer);
}

TEST_CASE("weights and options that make no decoder are refused") {
  const auto complains = [&](const auto& change, const std::string& words, const model::decoder_options& o = {}) {
    decoder_weights w = seeded(small, true);
    change(w);
    const std::string said = complaint([&] { decoder d(w, o); });
    INFO(said);
    CHECK(said.find(words) != std::string::npos);
  };
  complains([](auto& w) { w.shape.width = 0; }, "a width of 1 to");
  complains([](auto& w) { w.shape.layers = 5000; }, "a number of layers of 1 to 4096");
  complains([](auto& w) { w.shape.heads = 5; }, "heads that divide the width");
  complains([](auto& w) { w.shape.heads = 12; }, "even parts");
  complains([](auto& w) { w.shape.key_heads = 4; }, "key heads that divide the 6 heads, got 4");
  complains([](auto& w) { w.shape.epsilon = 0; }, "an epsilon");
  complains([](auto& w) { w.shape.rope_base = 1; }, "a base of the rotation");
  complains([](auto& w) { w.layers.pop_back(); }, "the weights of 2 layers, got 1");
  complains([](auto& w) { w.layers[1].key = w.layers[1].query; }, "keys of 6 x 12, got 12 x 12");
  complains([](auto& w) { w.final_norm = {}; }, "a final norm of 1 x 12, got 1 x 0");
  complains([](auto&) {}, "blocks of 1 to 4096 tokens, got 0", {.block = 0});
  complains([](auto&) {}, "a context of at most 24 tokens, got 25", {.context = 25});
  const decoder_weights w = seeded(small, true);
  CHECK(decoder(w, {.context = 5}).capacity() == 5);
  CHECK(decoder(w).capacity() == 24);
}

TEST_CASE("sizes are what they are") {
  const decoder_weights tied = seeded(small, true), untied = seeded(small, false);
  const decoder d(tied);
  CHECK(d.weight_bytes() >= tied.values.size() * sizeof(float));
  CHECK(d.embedding_bytes() == 0);  // looked up in the classifier
  CHECK(decoder(untied).embedding_bytes() == 11 * 12 * sizeof(float));
  CHECK(d.cache_bytes_per_token() == 2 * 3 * 4 * sizeof(float));
}
