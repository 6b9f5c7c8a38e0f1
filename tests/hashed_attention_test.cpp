// SPDX-License-Identifier: MIT
// Attention on hash codes against what it stands for: all pairs of tokens, one by one.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/compare.hpp"
#include "support/complaint.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/layer/hashed_attention.hpp>
#include <polymac/mac/sign.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

using namespace polymac;
using polymac_test::complaint;
using polymac_test::difference;

namespace {

using i8 = std::int8_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using bytes = std::vector<std::byte>;
template <class T>
using by = heads_view<T>;

/// A hash function and the layer made of it.
struct hashing {
  hashed_attention_shape shape;
  std::vector<float> anchors, means, projection;
  hashing(polymac_test::random_source& random, const hashed_attention_shape& s)
      : shape(s),
        anchors(polymac_test::uniform<float>(random, s.heads * s.anchors * s.key_size)),
        means(polymac_test::uniform<float>(random, s.heads * s.anchors)),
        projection(polymac_test::uniform<float>(random, s.heads * s.bits * s.anchors)) {
    for (float& m : means) m = 0.55f + 0.1f * m;  // about the mean of exp(-1/2)
  }
  hashing_parameters learnt() const { return {anchors, means, projection}; }
};

/// s = h . h' + c, from the words of the arithmetic of signs.
i64 similarity(const i8* a, const i8* b, std::size_t bits) {
  mac::sign_word x, y;
  for (std::size_t r = 0; r < bits; ++r) {
    x.valid |= std::uint64_t{1} << r;
    y.valid |= std::uint64_t{1} << r;
    if (a[r] < 0) x.negative |= std::uint64_t{1} << r;
    if (b[r] < 0) y.negative |= std::uint64_t{1} << r;
  }
  return mac::sign::multiply_add(0, x, y) + static_cast<i64>(bits) + 1;
}

/// Numerators and denominators over all pairs of tokens, dense [token][head][...]: what the layer stands for.
template <class Value, class Sum>
std::vector<Sum> all_pairs(const std::vector<i8>& codes, const std::vector<Value>& v, std::size_t tokens,
                           std::size_t heads, std::size_t bits, std::size_t size, bool causal, bias_mode bias) {
  std::vector<Sum> y(tokens * heads * (size + 1));
  for (std::size_t i = 0; i < tokens; ++i)
    for (std::size_t h = 0; h < heads; ++h) {
      Sum* const to = y.data() + (i * heads + h) * (size + 1);
      for (std::size_t j = 0; j < (causal ? i + 1 : tokens); ++j) {
        const i64 s = similarity(codes.data() + (i * heads + h) * bits, codes.data() + (j * heads + h) * bits, bits);
        const i64 c = static_cast<i64>(bits) + 1;
        const auto weight = static_cast<Sum>(bias == bias_mode::normalised ? s : s - c);
        for (std::size_t k = 0; k < size; ++k) to[k] += weight * static_cast<Sum>(v[(j * heads + h) * size + k]);
        to[size] += static_cast<Sum>(s);
      }
      if (bias == bias_mode::reference_code)
        for (std::size_t k = 0; k < size; ++k)
          to[k] += static_cast<Sum>(bits + 1) * static_cast<Sum>(v[(i * heads + h) * size + k]);
    }
  return y;
}

std::vector<i8> random_codes(polymac_test::random_source& random, std::size_t count) {
  std::vector<i8> codes(count);
  for (i8& c : codes) c = random.integer(0, 1) != 0 ? i8{1} : i8{-1};
  return codes;
}

/// sign(A kappa) of one head in double, and how far from 0 that is.
std::vector<double> projections(const hashing& f, const std::vector<float>& qk, std::size_t tokens) {
  const auto& s = f.shape;
  std::vector<double> unit(qk.size()), distance(tokens * s.anchors), y(tokens * s.bits);
  double mean = 0;
  for (std::size_t i = 0; i < tokens; ++i) {
    double length = 0;
    for (std::size_t k = 0; k < s.key_size; ++k) length += std::pow(static_cast<double>(qk[i * s.key_size + k]), 2);
    for (std::size_t k = 0; k < s.key_size; ++k)
      unit[i * s.key_size + k] = length > 0 ? static_cast<double>(qk[i * s.key_size + k]) / std::sqrt(length) : 0.0;
    for (std::size_t j = 0; j < s.anchors; ++j) {
      double d = 0;
      for (std::size_t k = 0; k < s.key_size; ++k)
        d += std::pow(unit[i * s.key_size + k] - static_cast<double>(f.anchors[j * s.key_size + k]), 2);
      distance[i * s.anchors + j] = d;
      mean += d / static_cast<double>(tokens * s.anchors);
    }
  }
  for (std::size_t i = 0; i < tokens; ++i)
    for (std::size_t r = 0; r < s.bits; ++r)
      for (std::size_t j = 0; j < s.anchors; ++j)
        y[i * s.bits + r] += static_cast<double>(f.projection[r * s.anchors + j]) *
                             (std::exp(-distance[i * s.anchors + j] / (2 * mean)) - static_cast<double>(f.means[j]));
  return y;
}

const auto normalised = bias_mode::normalised, reference_code = bias_mode::reference_code;

}  // namespace

TEST_CASE("hashed attention: with int8 values all pairs of tokens, bit by bit") {
  struct problem {
    std::size_t tokens, heads, bits, size;
  };
  const auto [tokens, heads, bits, size] =
      GENERATE(problem{1, 2, 16, 5}, problem{3, 1, 1, 1}, problem{64, 1, 16, 64}, problem{65, 2, 63, 7},
               problem{300, 1, 16, 17}, problem{130, 3, 5, 3});
  CAPTURE(tokens, heads, bits, size);
  POLYMAC_RANDOM(random, tokens + bits);
  const auto codes = random_codes(random, tokens * heads * bits);
  const auto v = polymac_test::extremes<i8>(random, tokens * heads * size);
  const hashing f(random, {heads, 4, size, bits, 3});
  const auto h = by<const i8>::by_token(codes.data(), 1, tokens, heads, bits);
  const auto values = by<const i8>::by_token(v.data(), 1, tokens, heads, size);
  for (const bool causal : {false, true})
    for (const bias_mode bias : {normalised, reference_code}) {
      CAPTURE(causal, bias == normalised);
      const layer::hashed_attention<i8> layer(f.shape, f.learnt(), {.bias = bias, .causal = causal});
      const auto expected = all_pairs<i8, i64>(codes, v, tokens, heads, bits, size, causal, bias);
      for (const auto where : polymac_test::both_placements) {
        polymac_test::guarded_buffer<std::byte> ws(layer.workspace_bytes(), where);
        polymac_test::guarded_buffer<i32> state(layer.state_rows() * layer.state_columns() * heads, where);
        polymac_test::guarded_buffer<i64> y(expected.size(), where);
        const auto t = by<i32>::by_head(state.data(), 1, layer.state_rows(), heads, layer.state_columns());
        const auto out = by<i64>::by_token(y.data(), 1, tokens, heads, size + 1);
        const workspace memory(ws.data(), ws.size());
        status s;
        {
          const polymac_test::no_allocation trap;
          if (causal) {
            s = layer.advance(h, values, t, out, memory);
          } else {
            s = layer.accumulate(h, values, t, memory);
            if (s.ok()) s = layer.attend(h, values, by<const i32>(t), out, memory);
          }
        }
        REQUIRE(s.text() == "");
        CHECK(difference(expected, y.values()) == "");
        CHECK(ws.slack_untouched());
        // What a state is: row r the sum of h_r v, the last column of code r the sum of h_r, then sums and tokens.
        for (std::size_t head = 0; head < heads; ++head) {
          CHECK(t.at(0, bits, head)[size] == static_cast<i32>(tokens));
          i64 first = 0, ones = 0;
          for (std::size_t j = 0; j < tokens; ++j) {
            first += codes[(j * heads + head) * bits] * v[(j * heads + head) * size];
            ones += codes[(j * heads + head) * bits];
          }
          CHECK(t.at(0, 0, head)[0] == first);
          CHECK(t.at(0, 0, head)[size] == ones);
        }
      }
    }
}

TEST_CASE("hashed attention: weights are positive and sum up to 1") {
  // Values that are unit vectors give the weights themselves.
  constexpr std::size_t n = 20, bits = 16;
  POLYMAC_RANDOM(random, 1);
  const hashing f(random, {1, 4, n, bits, 3});
  auto codes = random_codes(random, n * bits);
  for (std::size_t r = 0; r < bits; ++r) codes[bits + r] = static_cast<i8>(-codes[r]);  // the least similar pair: 1
  std::vector<i8> v(n * n);
  for (std::size_t i = 0; i < n; ++i) v[i * n + i] = 1;
  const layer::hashed_attention<i8> layer(f.shape, f.learnt());
  bytes ws(layer.workspace_bytes());
  std::vector<i32> state(layer.state_rows() * layer.state_columns()), y(n * (n + 1));
  const auto h = by<const i8>::by_token(codes.data(), 1, n, 1, bits);
  const auto values = by<const i8>::by_token(v.data(), 1, n, 1, n);
  const auto t = by<i32>::by_token(state.data(), 1, layer.state_rows(), 1, layer.state_columns());
  REQUIRE(layer.accumulate(h, values, t, workspace(ws)).ok());
  REQUIRE(layer.attend(h, values, by<const i32>(t), by<i32>::by_token(y.data(), 1, n, 1, n + 1), workspace(ws)).ok());
  for (std::size_t i = 0; i < n; ++i) {
    i32 all = 0;
    for (std::size_t j = 0; j < n; ++j) {
      CHECK(y[i * (n + 1) + j] >= 1);
      CHECK(y[i * (n + 1) + j] <= static_cast<i32>(2 * bits + 1));
      all += y[i * (n + 1) + j];
    }
    CHECK(y[i * (n + 1) + n] == all);
    CHECK(y[i * (n + 1) + i] == static_cast<i32>(2 * bits + 1));
  }
  CHECK(y[1] == 1);
}

TEST_CASE("hashed attention: codes are the signs of the kernel's projections") {
  struct problem {
    std::size_t tokens, size, bits, anchors;
  };
  const auto [tokens, size, bits, anchors] =
      GENERATE(problem{1, 32, 16, 25}, problem{7, 3, 5, 25}, problem{300, 16, 16, 25}, problem{9, 1, 63, 1});
  CAPTURE(tokens, size, bits, anchors);
  POLYMAC_RANDOM(random, tokens * bits);
  const hashing f(random, {1, size, 2, bits, anchors});
  auto qk = polymac_test::uniform<float>(random, tokens * size);
  for (std::size_t k = 0; k < size && tokens > 1; ++k) qk[k] = 0.0f;  // a token of length 0
  const auto expected = projections(f, qk, tokens);
  const layer::hashed_attention<float> layer(f.shape, f.learnt());
  bytes ws(layer.workspace_bytes());
  std::vector<i8> codes(tokens * bits);
  const auto q = by<const float>::by_token(qk.data(), 1, tokens, 1, size);
  const auto h = by<i8>::by_token(codes.data(), 1, tokens, 1, bits);
  REQUIRE(layer.encode(q, h, workspace(ws)).text() == "");
  std::size_t near = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    REQUIRE((codes[i] == 1 || codes[i] == -1));
    if (std::abs(expected[i]) < 1e-4)
      ++near;
    else
      CHECK(codes[i] == (expected[i] < 0 ? -1 : 1));
  }
  CHECK(near <= codes.size() / 20 + 1);
  // Some tokens: the same codes, and no others are written.
  std::vector<i8> part(codes.size(), 9);
  const row_range range{tokens / 3, tokens - tokens / 4};
  REQUIRE(layer.encode(q, by<i8>::by_token(part.data(), 1, tokens, 1, bits), workspace(ws), {}, range).ok());
  for (std::size_t i = 0; i < part.size(); ++i)
    CHECK(part[i] == (i / bits >= range.begin && i / bits < range.end ? codes[i] : 9));
}

TEST_CASE("hashed attention: ties are +1, NaN is no code") {
  CHECK(layer::detail::sign_code(0.0f) == 1);
  CHECK(layer::detail::sign_code(-0.0f) == 1);
  CHECK(layer::detail::sign_code(1e-45f) == 1);
  CHECK(layer::detail::sign_code(-1e-45f) == -1);
  CHECK(layer::detail::sign_code(std::numeric_limits<float>::quiet_NaN()) == 0);
  // The same as the arithmetic of signs has it, for all that is a number.
  const float values[] = {0.0f, -0.0f, 1.0f, -1.0f, std::numeric_limits<float>::infinity()};
  mac::sign_word word;
  mac::sign::encode(values, {&word, 1});
  for (std::size_t k = 0; k < std::size(values); ++k) CHECK(word[k] == layer::detail::sign_code(values[k]));
}

TEST_CASE("hashed attention: tokens on all anchors, tokens of length 0") {
  constexpr std::size_t n = 6, size = 4;
  POLYMAC_RANDOM(random, 3);
  hashing f(random, {1, size, 2, 16, 5});
  for (std::size_t i = 0; i < f.anchors.size(); ++i) f.anchors[i] = 0.5f;  // of length 1, all the same
  const bool zeros = GENERATE(false, true);
  if (zeros) f.anchors.assign(f.anchors.size(), 0.0f);
  const std::vector<float> qk(n * size, zeros ? 0.0f : 3.0f), v = polymac_test::uniform<float>(random, n * 2);
  const layer::hashed_attention<float> layer(f.shape, f.learnt());
  bytes ws(layer.workspace_bytes(n));
  std::vector<i8> codes(n * 16);
  std::vector<float> y(n * 2);
  const auto q = by<const float>::by_token(qk.data(), 1, n, 1, size);
  REQUIRE(layer.encode(q, by<i8>::by_token(codes.data(), 1, n, 1, 16), workspace(ws)).ok());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    CHECK(codes[i] != 0);
    CHECK(codes[i] == codes[i % 16]);
  }
  REQUIRE(layer(q, by<const float>::by_token(v.data(), 1, n, 1, 2), by<float>::by_token(y.data(), 1, n, 1, 2),
                workspace(ws))
              .ok());
  // All weights are the same, so the output is the mean.
  for (std::size_t c = 0; c < 2; ++c) {
    double mean = 0;
    for (std::size_t i = 0; i < n; ++i) mean += static_cast<double>(v[i * 2 + c]) / n;
    for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(static_cast<double>(y[i * 2 + c]) - mean) < 1e-6);
  }
}

TEST_CASE("hashed attention: float values against all pairs in double") {
  constexpr std::size_t n = 333, heads = 2, size = 9, bits = 16;
  POLYMAC_RANDOM(random, 4);
  const hashing f(random, {heads, 4, size, bits, 3});
  const auto codes = random_codes(random, n * heads * bits);
  auto v = polymac_test::uniform<float>(random, n * heads * size);
  for (float& x : v) x += 100.0f;  // an offset that costs no digits
  for (const bool causal : {false, true})
    for (const bias_mode bias : {normalised, reference_code}) {
      CAPTURE(causal, bias == normalised);
      const layer::hashed_attention<float> layer(f.shape, f.learnt(), {.bias = bias, .causal = causal});
      const auto fractions = all_pairs<float, double>(codes, v, n, heads, bits, size, causal, bias);
      std::vector<double> expected;
      for (std::size_t i = 0; i < fractions.size(); i += size + 1)
        for (std::size_t c = 0; c < size; ++c) expected.push_back(fractions[i + c] / fractions[i + size]);
      bytes ws(layer.workspace_bytes());
      std::vector<float> state(layer.state_rows() * layer.state_columns() * heads), y(v.size());
      const auto h = by<const i8>::by_token(codes.data(), 1, n, heads, bits);
      const auto values = by<const float>::by_token(v.data(), 1, n, heads, size);
      const auto t = by<float>::by_head(state.data(), 1, layer.state_rows(), heads, layer.state_columns());
      const auto out = by<float>::by_token(y.data(), 1, n, heads, size);
      if (causal) {
        REQUIRE(layer.advance(h, values, t, out, workspace(ws)).ok());
      } else {
        REQUIRE(layer.accumulate(h, values, t, workspace(ws)).ok());
        REQUIRE(layer.attend(h, values, by<const float>(t), out, workspace(ws)).ok());
      }
      CHECK(difference(expected, y, 1e-6, bias == normalised ? 2e-5 : 2e-4) == "");
    }
}

TEST_CASE("hashed attention: a constant value comes out as it went in") {
  constexpr std::size_t n = 100, heads = 2, size = 3;
  POLYMAC_RANDOM(random, 5);
  const bool causal = GENERATE(false, true);
  const hashing f(random, {heads, 8, size, 16, 25});
  const auto qk = polymac_test::uniform<float>(random, n * heads * 8);
  const auto q = by<const float>::by_token(qk.data(), 1, n, heads, 8);
  const layer::hashed_attention<float> floats(f.shape, f.learnt(), {.causal = causal});
  for (const float constant : {0.1f, -3e8f, 1e-40f, 0.0f}) {
    const std::vector<float> v(n * heads * size, constant);
    std::vector<float> y(v.size());
    bytes ws(floats.workspace_bytes(n));
    REQUIRE(floats(q, by<const float>::by_token(v.data(), 1, n, heads, size),
                   by<float>::by_token(y.data(), 1, n, heads, size), workspace(ws))
                .ok());
    CHECK(y == v);
  }
  const layer::hashed_attention<i8> integers(f.shape, f.learnt(), {.causal = causal});
  for (const i8 constant : {i8{-128}, i8{-77}, i8{0}, i8{127}}) {
    const std::vector<i8> v(n * heads * size, constant);
    const auto values = by<const i8>::by_token(v.data(), 1, n, heads, size);
    std::vector<i8> rounded(v.size());
    std::vector<float> y(v.size());
    bytes ws(integers.workspace_bytes(n));
    REQUIRE(integers(q, values, by<float>::by_token(y.data(), 1, n, heads, size), workspace(ws)).ok());
    CHECK(y == std::vector<float>(v.size(), static_cast<float>(constant)));
    REQUIRE(integers(q, values, by<i8>::by_token(rounded.data(), 1, n, heads, size), workspace(ws)).ok());
    CHECK(rounded == v);
  }
}

TEST_CASE("hashed attention: layouts, batches, ranges, steps, the order of tokens") {
  constexpr std::size_t batch = 2, n = 150, heads = 3, keys = 8, size = 5, bits = 16;
  POLYMAC_RANDOM(random, 6);
  const bool causal = GENERATE(false, true);
  const hashing f(random, {heads, keys, size, bits, 25});
  const auto qk = polymac_test::uniform<float>(random, batch * n * heads * keys);
  const auto v = polymac_test::uniform<i8>(random, batch * n * heads * size);
  const layer::hashed_attention<i8> layer(f.shape, f.learnt(), {.causal = causal, .spread = 0.9f});
  polymac_test::guarded_buffer<std::byte> ws(layer.workspace_bytes(n), polymac_test::placement::before_guard);
  const workspace memory(ws.data(), ws.size());
  const auto q = by<const float>::by_token(qk.data(), batch, n, heads, keys);
  const auto values = by<const i8>::by_token(v.data(), batch, n, heads, size);
  using sums = std::vector<i32>;
  sums y(batch * n * heads * (size + 1));
  const auto out = by<i32>::by_token(y.data(), batch, n, heads, size + 1);
  status s;
  {
    const polymac_test::no_allocation trap;
    s = layer(q, values, out, memory);
  }
  REQUIRE(s.text() == "");
  CHECK(*std::max_element(y.begin(), y.end()) > 0);

  SECTION("by head") {
    std::vector<float> moved(qk.size());
    const auto mq = by<float>::by_head(moved.data(), batch, n, heads, keys);
    sums other(y.size());
    const auto my = by<i32>::by_head(other.data(), batch, n, heads, size + 1);
    for (std::size_t b = 0; b < batch; ++b)
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t h = 0; h < heads; ++h) std::copy_n(q.at(b, i, h), keys, mq.at(b, i, h));
    REQUIRE(layer(by<const float>(mq), values, my, memory).ok());
    for (std::size_t b = 0; b < batch; ++b)
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t h = 0; h < heads; ++h)
          CHECK(std::equal(my.at(b, i, h), my.at(b, i, h) + size + 1, out.at(b, i, h)));
  }
  SECTION("ranges of heads and queries write theirs and nothing else") {
    sums parts(y.size(), -1);
    const auto to = by<i32>::by_token(parts.data(), batch, n, heads, size + 1);
    REQUIRE(layer(q, values, to, memory, {1, 4}, {70, 131}).ok());
    for (std::size_t b = 0; b < batch; ++b)
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t h = 0; h < heads; ++h) {
          const bool mine = b * heads + h >= 1 && b * heads + h < 4 && i >= 70 && i < 131;
          for (std::size_t c = 0; c <= size; ++c) CHECK(to.at(b, i, h)[c] == (mine ? out.at(b, i, h)[c] : -1));
        }
  }
  SECTION("codes and states step by step, the tokens in pieces") {
    std::vector<i8> codes(batch * n * heads * bits);
    sums state(batch * heads * layer.state_rows() * layer.state_columns()), steps(y.size());
    const auto h = by<i8>::by_head(codes.data(), batch, n, heads, bits);
    const auto t = by<i32>::by_head(state.data(), batch, layer.state_rows(), heads, layer.state_columns());
    const auto to = by<i32>::by_token(steps.data(), batch, n, heads, size + 1);
    REQUIRE(layer.encode(q, h, memory, {0, 2}).ok());
    REQUIRE(layer.encode(q, h, memory, {2, 6}, {0, 100}).ok());
    REQUIRE(layer.encode(q, h, memory, {2, 6}, {100, n}).ok());
    const auto from = [](auto view, std::size_t first, std::size_t count) {
      view.data += first * view.token_stride;
      view.tokens = count;
      return view;
    };
    for (std::size_t first = 0, count = 1; first < n; first += count, count = std::min<std::size_t>(67, n - first)) {
      const auto hs = by<const i8>(from(h, first, count));
      const auto vs = from(values, first, count);
      if (causal)
        REQUIRE(layer.advance(hs, vs, t, from(to, first, count), memory).ok());
      else
        REQUIRE(layer.accumulate(hs, vs, t, memory).ok());
    }
    if (!causal) REQUIRE(layer.attend(by<const i8>(h), values, by<const i32>(t), to, memory, {}, {0, n}).ok());
    CHECK(steps == y);
    // A copy of the state goes on as the state does.
    if (causal) {
      const sums saved = state;
      sums one(batch * heads * (size + 1)), other(one.size());
      const auto hs = by<const i8>(from(h, 3, 1));
      REQUIRE(layer.advance(hs, from(values, 9, 1), t, by<i32>::by_token(one.data(), batch, 1, heads, size + 1), memory)
                  .ok());
      state = saved;
      REQUIRE(
          layer.advance(hs, from(values, 9, 1), t, by<i32>::by_token(other.data(), batch, 1, heads, size + 1), memory)
              .ok());
      CHECK(one == other);
    }
  }
  SECTION("another order of the tokens is another order of the rows") {
    if (causal) return;
    const auto other_order = [](std::size_t i) { return (i * 77 + 5) % n; };
    std::vector<float> mixed(qk.size());
    std::vector<i8> mixed_v(v.size());
    sums mixed_y(y.size());
    for (std::size_t b = 0; b < batch; ++b)
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t from = b * n + i, to = b * n + other_order(i);
        std::copy_n(qk.data() + from * heads * keys, heads * keys, mixed.data() + to * heads * keys);
        std::copy_n(v.data() + from * heads * size, heads * size, mixed_v.data() + to * heads * size);
      }
    REQUIRE(layer(by<const float>::by_token(mixed.data(), batch, n, heads, keys),
                  by<const i8>::by_token(mixed_v.data(), batch, n, heads, size),
                  by<i32>::by_token(mixed_y.data(), batch, n, heads, size + 1), memory)
                .ok());
    for (std::size_t b = 0; b < batch; ++b)
      for (std::size_t i = 0; i < n; ++i)
        CHECK(std::equal(y.data() + (b * n + i) * heads * (size + 1), y.data() + (b * n + i + 1) * heads * (size + 1),
                         mixed_y.data() + (b * n + other_order(i)) * heads * (size + 1)));
  }
}

TEST_CASE("hashed attention: one token is its value; quotients are rounded, or are quotients") {
  POLYMAC_RANDOM(random, 7);
  const hashing f(random, {1, 4, 3, 16, 25});
  const std::vector<float> q = {1.0f, 2.0f, -3.0f, 0.5f}, v = {0.3f, -7.0f, 1e20f};
  std::vector<float> y(3);
  const layer::hashed_attention<float> floats(f.shape, f.learnt());
  bytes ws(floats.workspace_bytes(1));
  REQUIRE(floats(by<const float>::by_token(q.data(), 1, 1, 1, 4), by<const float>::by_token(v.data(), 1, 1, 1, 3),
                 by<float>::by_token(y.data(), 1, 1, 1, 3), workspace(ws))
              .ok());
  CHECK(y == v);
  // Reference code: (b v + c v) / (b + c) for one token, too.
  const layer::hashed_attention<float> reference(f.shape, f.learnt(), {.bias = reference_code});
  REQUIRE(reference(by<const float>::by_token(q.data(), 1, 1, 1, 4), by<const float>::by_token(v.data(), 1, 1, 1, 3),
                    by<float>::by_token(y.data(), 1, 1, 1, 3), workspace(ws))
              .ok());
  CHECK(difference(v, y, 1e-6, 0.0) == "");

  constexpr std::size_t n = 50;
  const auto qk = polymac_test::uniform<float>(random, n * 4);
  const auto vi = polymac_test::uniform<i8>(random, n * 3);
  const layer::hashed_attention<i8> layer(f.shape, f.learnt());
  ws.resize(layer.workspace_bytes(n));
  const auto qs = by<const float>::by_token(qk.data(), 1, n, 1, 4);
  const auto vs = by<const i8>::by_token(vi.data(), 1, n, 1, 3);
  std::vector<i64> fractions(n * 4);
  std::vector<i8> rounded(n * 3);
  y.resize(n * 3);
  REQUIRE(layer(qs, vs, by<i64>::by_token(fractions.data(), 1, n, 1, 4), workspace(ws)).ok());
  REQUIRE(layer(qs, vs, by<i8>::by_token(rounded.data(), 1, n, 1, 3), workspace(ws)).ok());
  REQUIRE(layer(qs, vs, by<float>::by_token(y.data(), 1, n, 1, 3), workspace(ws)).ok());
  for (std::size_t i = 0; i < n * 3; ++i) {
    const double exact =
        static_cast<double>(fractions[i / 3 * 4 + i % 3]) / static_cast<double>(fractions[i / 3 * 4 + 3]);
    CHECK(static_cast<double>(rounded[i]) == std::round(exact));
    CHECK(y[i] == static_cast<float>(exact));
  }
}

TEST_CASE("hashed attention: states of many tokens need all digits") {
  POLYMAC_RANDOM(random, 8);
  constexpr std::size_t n = 70000, bits = 63;  // 128 n does not fit 24 bits
  const hashing f(random, {1, 2, 2, bits, 2});
  const layer::hashed_attention<i8> layer(f.shape, f.learnt());
  const auto codes = random_codes(random, bits);
  const std::vector<i8> v = {-128, 127};
  const by<const i8> h(codes.data(), 1, n, 1, bits, 0, 0, 0),
      values(v.data(), 1, n, 1, 2, 0, 0, 0);  // one token, often
  std::vector<i32> state(layer.state_rows() * layer.state_columns());
  const auto t = by<i32>::by_token(state.data(), 1, layer.state_rows(), 1, layer.state_columns());
  bytes ws(layer.workspace_bytes());
  REQUIRE(layer.accumulate(h, values, t, workspace(ws)).text() == "");
  auto one = h;
  one.tokens = 1;
  auto own = values;
  own.tokens = 1;
  std::vector<i64> y(3);
  REQUIRE(layer.attend(one, own, by<const i32>(t), by<i64>::by_token(y.data(), 1, 1, 1, 3), workspace(ws)).ok());
  CHECK(y ==
        std::vector<i64>{-128 * 127 * static_cast<i64>(n), 127 * 127 * static_cast<i64>(n), 127 * static_cast<i64>(n)});
  std::vector<i32> narrow(3);
  CHECK(layer.attend(one, own, by<const i32>(t), by<i32>::by_token(narrow.data(), 1, 1, 1, 3), workspace(ws)).ok());
  CHECK(narrow == std::vector<i32>(y.begin(), y.end()));
  state[bits * 3 + 2] = 200000;
  CHECK(layer.attend(one, own, by<const i32>(t), by<i32>::by_token(narrow.data(), 1, 1, 1, 3), workspace(ws)).text() ==
        "hashed_attention: numerators of 200000 tokens may leave 32 bits: ask for std::int64_t");
  state[bits * 3 + 2] = (1 << 23) - 1;
  CHECK(layer.accumulate(one, own, t, workspace(ws)).text() ==
        "hashed_attention: expected at most 8388607 tokens in a state, got 8388608");
  state[bits * 3 + 2] = -1;
  CHECK(layer.accumulate(one, own, t, workspace(ws)).code() == errc::corrupt);
}

TEST_CASE("hashed attention: what is not finite is seen by those that see it") {
  constexpr std::size_t n = 80;
  POLYMAC_RANDOM(random, 9);
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const hashing f(random, {2, 4, 2, 16, 5});
  const auto q0 = polymac_test::uniform<float>(random, n * 8), v0 = polymac_test::uniform<float>(random, n * 4);
  const auto run = [&](const hashed_attention_options& options, const std::vector<float>& q,
                       const std::vector<float>& v) {
    const layer::hashed_attention<float> layer(f.shape, f.learnt(), options);
    bytes ws(layer.workspace_bytes(n));
    std::vector<float> y(n * 4);
    REQUIRE(layer(by<const float>::by_token(q.data(), 1, n, 2, 4), by<const float>::by_token(v.data(), 1, n, 2, 2),
                  by<float>::by_token(y.data(), 1, n, 2, 2), workspace(ws))
                .ok());
    return y;
  };
  auto q = q0, v = v0;
  q[70 * 8] = nan;           // token 70, head 0
  v[71 * 4 + 3] = infinity;  // token 71, head 1, element 1
  const auto all = run({.spread = 0.5f}, q, v), causal = run({.causal = true, .spread = 0.5f}, q, v),
             clean = run({.causal = true, .spread = 0.5f}, q0, v0);
  for (std::size_t i = 0; i < n; ++i) {
    CAPTURE(i);
    for (const std::size_t c : {std::size_t{0}, std::size_t{1}}) {
      CHECK(std::isnan(all[i * 4 + c]));
      CHECK(std::isnan(causal[i * 4 + c]) == (i >= 70));
    }
    CHECK(std::isfinite(all[i * 4 + 2]));
    CHECK(!std::isfinite(all[i * 4 + 3]));
    CHECK(std::isfinite(causal[i * 4 + 2]));
    CHECK(std::isfinite(causal[i * 4 + 3]) == (i < 71));
    if (i < 70) CHECK(std::abs(causal[i * 4] - clean[i * 4]) < 1e-6f);
  }
  q = q0;
  q[3] = infinity;
  const auto mean_spread = run({}, q, v0);
  for (std::size_t i = 0; i < n; ++i) {
    CHECK(std::isnan(mean_spread[i * 4]));
    CHECK(std::isfinite(mean_spread[i * 4 + 2]));
  }
}

TEST_CASE("hashed attention: what does not fit is told, and nothing is written") {
  POLYMAC_RANDOM(random, 10);
  const hashing f(random, {2, 4, 3, 16, 5});
  using layer_type = layer::hashed_attention<float>;
  const auto make = [&](hashed_attention_shape s, hashing_parameters p, hashed_attention_options o = {}) {
    return complaint([&] { layer_type(s, p, o); });
  };
  CHECK(make(f.shape, f.learnt()) == "");
  auto shape = f.shape;
  shape.bits = 64;
  CHECK(make(shape, f.learnt()) == "hashed_attention: expected codes of 1 to 63 bits, got 64");
  shape.bits = 0;
  CHECK(make(shape, f.learnt()) == "hashed_attention: expected codes of 1 to 63 bits, got 0");
  shape = f.shape;
  shape.anchors = 0;
  CHECK(make(shape, f.learnt()) ==
        "hashed_attention: expected heads, sizes and anchors of at least 1, got 2 heads, keys of 4, values of 3, 0 "
        "anchors");
  shape.anchors = 6;
  CHECK(make(shape, f.learnt()) ==
        "hashed_attention: expected 48 numbers of anchors (heads x anchors x key_size), got 40");
  shape.anchors = ~std::size_t{0} / 4;
  CHECK(make(shape, f.learnt()).find("expected extents of at most 1048576") != std::string::npos);
  CHECK(make(f.shape, {f.anchors, f.means, {}}) ==
        "hashed_attention: expected 160 numbers of projection (heads x bits x anchors), got 0");
  CHECK(make(f.shape, {f.anchors, {}, f.projection}) == "");
  auto broken = f.means;
  broken[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK(make(f.shape, {f.anchors, broken, f.projection}) ==
        "hashed_attention: number 7 of means (heads x anchors) is not finite");
  CHECK(make(f.shape, f.learnt(), {.spread = -1.0f}) ==
        "hashed_attention: expected a finite spread of at least 0 (0: from the call)");

  const layer_type layer(f.shape, f.learnt());
  constexpr std::size_t n = 5;
  const std::vector<float> q(n * 8, 1.0f), v(n * 6, 1.0f);
  std::vector<float> y(n * 6, 7.0f);
  const auto untouched = y;
  bytes ws(layer.workspace_bytes(n));
  const auto qs = by<const float>::by_token(q.data(), 1, n, 2, 4);
  const auto vs = by<const float>::by_token(v.data(), 1, n, 2, 3);
  const auto ys = by<float>::by_token(y.data(), 1, n, 2, 3);
  auto bad = qs;
  bad.size = 3;
  CHECK(layer(bad, vs, ys, workspace(ws)).text() ==
        "hashed_attention: expected qk of 1 x 5 tokens x 2 heads x 4, got 1 x 5 x 2 x 3");
  auto bad_v = vs;
  bad_v.tokens = 4;
  CHECK(layer(qs, bad_v, ys, workspace(ws)).text() ==
        "hashed_attention: expected v of 1 x 5 tokens x 2 heads x 3, got 1 x 4 x 2 x 3");
  bad_v = vs;
  bad_v.data = nullptr;
  CHECK(layer(qs, bad_v, ys, workspace(ws)).text() == "hashed_attention: the view of the v has no data");
  auto bad_y = ys;
  bad_y.token_stride = 3;
  CHECK(layer(qs, vs, bad_y, workspace(ws)).text() ==
        "hashed_attention: the strides of the y (30, 3, 3) let vectors overlap, or lead out of the address space");
  CHECK(layer(qs, vs, ys, workspace(ws.data(), 100)).text() ==
        "hashed_attention: expected a workspace of " + std::to_string(ws.size()) + " bytes, got 100");
  CHECK(layer(qs, vs, ys, {}).code() == errc::short_buffer);
  std::vector<i8> codes(n * 32);
  CHECK(layer.encode(qs, by<i8>::by_token(codes.data(), 1, n, 2, 15), workspace(ws)).code() == errc::shape);
  std::vector<float> state(10);
  CHECK(layer
            .accumulate(by<const i8>::by_token(codes.data(), 1, n, 2, 16), vs,
                        by<float>::by_head(state.data(), 1, 17, 2, 4), workspace(ws))
            .text() == "hashed_attention: expected state of 1 x 18 tokens x 2 heads x 4, got 1 x 17 x 2 x 4");
  CHECK(y == untouched);
  // No tokens, no heads of the range: nothing to do.
  CHECK(layer(by<const float>::by_token(nullptr, 1, 0, 2, 4), by<const float>::by_token(nullptr, 1, 0, 2, 3),
              by<float>::by_token(nullptr, 1, 0, 2, 3), workspace(ws))
            .ok());
  CHECK(layer(qs, vs, ys, workspace(ws), {2, 9}).ok());
  CHECK(layer(qs, vs, ys, workspace(ws), {}, {5, 9}).ok());
  CHECK(y == untouched);
}

TEST_CASE("hashed attention: operations of PVTv2-B0 at 224 x 224") {
  using layer::attention_operations;
  using layer::hashed_attention_operations;
  using layer::operation_count;
  struct stage {
    std::uint64_t tokens, size, heads;
    operation_count softmax, hashed;
  };
  const stage stages[] = {{3136, 32, 1, {639242240, 629407744}, {1564864, 9683968}},
                          {784, 64, 2, {79905280, 78675968}, {782432, 4841984}},
                          {196, 160, 5, {12485200, 12293120}, {489020, 3026240}}};
  for (const stage& s : stages) {
    CHECK(attention_operations(s.tokens, s.size, s.heads) == s.softmax);
    CHECK(hashed_attention_operations(s.tokens, s.heads, s.size / s.heads) == s.hashed);
  }
  // 0.54 G and 0.56 G operations: 2.5 mJ.
  CHECK(std::abs(operation_count{540'000'000, 560'000'000}.picojoules() - 2.502e9) < 1e3);
  const auto first = stages[0];
  CHECK(first.softmax.picojoules() / first.hashed.picojoules() > 200);
  static_assert(hashed_attention_operations(1, 1, 1, 1, 1).additions == 2 + 1 + 2 + 2 + 1);
}
