// SPDX-License-Identifier: MIT
// Linear attention with a state against its recurrence in double, one token after the other.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/compare.hpp"
#include "support/complaint.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/layer/linear_attention.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

using namespace polymac;
using polymac_test::complaint;
using polymac_test::difference;

namespace {

using floats = std::vector<float>;
using layer::linear_attention;
using view = heads_view<const float>;

/// Inputs of a call, dense by token, with what the rule reads.
struct problem {
  linear_attention_shape shape;
  update_rule rule = update_rule::linear;
  std::size_t batch = 1, tokens = 1, decays = 0;  ///< decays: 0 none, 1 or key_size numbers a head
  bool erases = false;
  floats query, key, value, decay, beta, erase, state;

  bool is_delta() const { return rule == update_rule::delta || rule == update_rule::gated_delta; }
  problem(polymac_test::random_source& random, const linear_attention_shape& s, update_rule r, std::size_t b,
          std::size_t t, bool by_key, bool with_erase)
      : shape(s), rule(r), batch(b), tokens(t) {
    const auto uniform = [&](std::size_t count) { return polymac_test::uniform<float>(random, count); };
    const std::size_t n = b * t, heads = s.key_heads;
    query = uniform(n * s.query_heads * s.key_size);
    key = uniform(n * heads * s.key_size);
    value = uniform(n * heads * s.value_size);
    state = uniform(b * heads * s.key_size * s.value_size);
    if (r == update_rule::gated || r == update_rule::gated_delta) decays = by_key ? s.key_size : 1;
    erases = with_erase && is_delta();
    for (std::size_t i = 0; i < n * heads; ++i) {  // of length 1
      double squares = 0;
      for (std::size_t k = 0; k < s.key_size; ++k) squares += std::pow(static_cast<double>(key[i * s.key_size + k]), 2);
      for (std::size_t k = 0; k < s.key_size; ++k) key[i * s.key_size + k] /= static_cast<float>(std::sqrt(squares));
    }
    decay = uniform(n * heads * decays);
    for (float& g : decay) g = -1.5f * std::abs(g);
    if (is_delta()) beta = uniform(n * heads);
    for (float& x : beta) x = std::abs(x);
    if (erases) erase = uniform(n * heads * s.key_size);
  }
  linear_attention_inputs inputs(std::size_t first = 0, std::size_t count = ~std::size_t{0}) const {
    count = std::min(count, tokens - first);
    const auto cut = [&](const floats& v, std::size_t heads, std::size_t size) {
      if (v.empty()) return view();
      auto all = view::by_token(v.data(), batch, tokens, heads, size);
      all.data += first * all.token_stride;
      all.tokens = count;
      return all;
    };
    const std::size_t heads = shape.key_heads;
    return {cut(query, shape.query_heads, shape.key_size),
            cut(key, heads, shape.key_size),
            cut(value, heads, shape.value_size),
            cut(decay, heads, decays),
            cut(beta, heads, 1),
            cut(erase, heads, shape.key_size)};
  }
  heads_view<float> states(floats& s) const {
    return heads_view<float>::by_head(s.data(), batch, shape.key_size, shape.key_heads, shape.value_size);
  }
  heads_view<float> outputs(floats& y) const {
    return heads_view<float>::by_token(y.data(), batch, tokens, shape.query_heads, shape.value_size);
  }
  std::size_t output_size() const { return batch * tokens * shape.query_heads * shape.value_size; }
  linear_attention<> layer(std::size_t chunk) const { return linear_attention<>(shape, {rule, 0.0f, chunk}); }
};

/// The recurrence of the operator's definition in double. Leaves the last state in `s`.
std::vector<double> by_definition(const problem& p, std::vector<double>& s) {
  const auto [query_heads, heads, keys, values] = p.shape;
  s.assign(p.state.begin(), p.state.end());
  std::vector<double> y(p.output_size());
  const auto real = [](float v) { return static_cast<double>(v); };
  for (std::size_t b = 0; b < p.batch; ++b)
    for (std::size_t h = 0; h < heads; ++h) {
      double* const state = s.data() + (b * heads + h) * keys * values;
      for (std::size_t t = 0; t < p.tokens; ++t) {
        const std::size_t at = (b * p.tokens + t) * heads + h;
        std::vector<double> u(p.value.begin() + static_cast<std::ptrdiff_t>(at * values),
                              p.value.begin() + static_cast<std::ptrdiff_t>((at + 1) * values));
        for (std::size_t k = 0; p.decays > 0 && k < keys; ++k)
          for (std::size_t c = 0; c < values; ++c)
            state[k * values + c] *= std::exp(real(p.decay[at * p.decays + (p.decays > 1 ? k : 0)]));
        if (p.is_delta()) {
          for (std::size_t c = 0; c < values; ++c) {
            double found = 0;
            for (std::size_t k = 0; k < keys; ++k)
              found +=
                  real(p.key[at * keys + k]) * (p.erases ? real(p.erase[at * keys + k]) : 1.0) * state[k * values + c];
            u[c] = real(p.beta[at]) * (u[c] - found);
          }
        }
        for (std::size_t k = 0; k < keys; ++k)
          for (std::size_t c = 0; c < values; ++c) state[k * values + c] += real(p.key[at * keys + k]) * u[c];
        for (std::size_t q = h * (query_heads / heads); q < (h + 1) * (query_heads / heads); ++q)
          for (std::size_t k = 0; k < keys; ++k) {
            const std::size_t row = (b * p.tokens + t) * query_heads + q;
            for (std::size_t c = 0; c < values; ++c)
              y[row * values + c] +=
                  real(p.query[row * keys + k]) * state[k * values + c] / std::sqrt(static_cast<double>(keys));
          }
      }
    }
  return y;
}

constexpr update_rule rules[] = {update_rule::linear, update_rule::gated, update_rule::delta, update_rule::gated_delta};

}  // namespace

TEST_CASE("linear attention: the recurrence in double, token by token and in chunks") {
  struct extents {
    linear_attention_shape shape;
    std::size_t batch, tokens;
  };
  const auto [shape, batch, tokens] =
      GENERATE(extents{{1, 1, 1, 1}, 1, 1}, extents{{4, 2, 8, 5}, 2, 37}, extents{{8, 1, 16, 100}, 1, 70},
               extents{{3, 3, 5, 33}, 1, 129}, extents{{2, 2, 24, 64}, 2, 3});
  const auto rule = GENERATE(from_range(std::begin(rules), std::end(rules)));
  CAPTURE(shape.query_heads, shape.key_heads, shape.key_size, shape.value_size, tokens, static_cast<int>(rule));
  POLYMAC_RANDOM(random, tokens + static_cast<std::size_t>(rule));
  for (const bool by_key : {false, true})
    for (const bool erases : {false, true}) {
      const problem p(random, shape, rule, batch, tokens, by_key, erases);
      std::vector<double> last;
      const auto expected = by_definition(p, last);
      for (const std::size_t chunk : {std::size_t{1}, std::size_t{2}, std::size_t{16}, std::size_t{64}}) {
        CAPTURE(by_key, erases, chunk);
        const auto layer = p.layer(chunk);
        for (const auto where : polymac_test::both_placements) {
          polymac_test::guarded_buffer<std::byte> ws(layer.workspace_bytes(tokens), where);
          polymac_test::guarded_buffer<float> state(p.state, where), y(p.output_size(), where);
          const auto in = p.inputs();
          const auto s =
              heads_view<float>::by_head(state.data(), batch, shape.key_size, shape.key_heads, shape.value_size);
          const auto out = heads_view<float>::by_token(y.data(), batch, tokens, shape.query_heads, shape.value_size);
          status done;
          {
            const polymac_test::no_allocation trap;
            done = layer(in, s, out, {ws.data(), ws.size()});
          }
          REQUIRE(done.text() == "");
          CHECK(difference(expected, y.values(), 1e-5, 1e-5) == "");
          CHECK(difference(last, state.values(), 1e-5, 1e-5) == "");
          CHECK(ws.slack_untouched());
        }
      }
    }
}

TEST_CASE("linear attention: tokens in several calls, heads by several threads, by head and by token") {
  const auto rule = GENERATE(from_range(std::begin(rules), std::end(rules)));
  const bool by_key = GENERATE(false, true);
  POLYMAC_RANDOM(random, 11 + static_cast<std::size_t>(rule));
  const problem p(random, {6, 3, 8, 20}, rule, 2, 50, by_key, true);
  for (const std::size_t chunk : {std::size_t{1}, std::size_t{10}}) {
    CAPTURE(static_cast<int>(rule), by_key, chunk);
    const auto layer = p.layer(chunk);
    std::vector<std::byte> ws(layer.workspace_bytes(p.tokens));
    floats state = p.state, y(p.output_size());
    REQUIRE(layer(p.inputs(), p.states(state), p.outputs(y), workspace(ws)).ok());
    // In calls of 20 and 30 tokens, whole chunks; the state saved and restored in between.
    floats parts_state = p.state, parts(y.size());
    auto out = p.outputs(parts);
    out.tokens = 20;
    REQUIRE(layer(p.inputs(0, 20), p.states(parts_state), out, workspace(ws)).ok());
    const floats saved = parts_state;
    std::fill(parts_state.begin(), parts_state.end(), -1.0f);
    parts_state = saved;
    out.data += 20 * out.token_stride;
    out.tokens = 30;
    REQUIRE(layer(p.inputs(20), p.states(parts_state), out, workspace(ws)).ok());
    CHECK(parts == y);
    CHECK(parts_state == state);
    // Of other lengths: equal but for rounding, and bit by bit where every token is a step.
    parts_state = p.state;
    for (std::size_t first = 0, count = 1; first < p.tokens;
         first += count, count = std::min<std::size_t>(13, 50 - first)) {
      out = p.outputs(parts);
      out.data += first * out.token_stride;
      out.tokens = count;
      REQUIRE(layer(p.inputs(first, count), p.states(parts_state), out, workspace(ws)).ok());
    }
    if (chunk == 1) {
      CHECK(parts == y);
      CHECK(parts_state == state);
    }
    CHECK(difference(y, parts, 1e-5, 1e-5) == "");
    CHECK(difference(state, parts_state, 1e-5, 1e-5) == "");
    // Ranges of heads; a range writes its states and outputs only.
    parts_state = p.state;
    parts.assign(parts.size(), -9.0f);
    REQUIRE(layer(p.inputs(), p.states(parts_state), p.outputs(parts), workspace(ws), {4, 99}).ok());
    for (std::size_t i = 0; i < 4 * 160; ++i) REQUIRE(parts_state[i] == p.state[i]);
    CHECK(parts[2 * 20] == -9.0f);
    REQUIRE(layer(p.inputs(), p.states(parts_state), p.outputs(parts), workspace(ws), {0, 4}).ok());
    CHECK(parts == y);
    CHECK(parts_state == state);
    // Values and outputs by head.
    floats value(p.value.size());
    const auto moved = heads_view<float>::by_head(value.data(), 2, 50, 3, 20);
    auto in = p.inputs();
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t t = 0; t < 50; ++t)
        for (std::size_t h = 0; h < 3; ++h) std::copy_n(in.value.at(b, t, h), 20, moved.at(b, t, h));
    in.value = moved;
    parts_state = p.state;
    const auto by_head = heads_view<float>::by_head(parts.data(), 2, 50, 6, 20);
    REQUIRE(layer(in, p.states(parts_state), by_head, workspace(ws)).ok());
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t t = 0; t < 50; ++t)
        for (std::size_t h = 0; h < 6; ++h)
          REQUIRE(std::equal(by_head.at(b, t, h), by_head.at(b, t, h) + 20, p.outputs(y).at(b, t, h)));
  }
}

TEST_CASE("linear attention: what is shared by a stride of 0") {
  POLYMAC_RANDOM(random, 12);
  problem p(random, {2, 2, 4, 6}, update_rule::delta, 1, 9, false, false);
  // One key for all tokens, one beta for all heads.
  for (std::size_t t = 0; t < 9; ++t) {
    std::copy_n(p.key.begin(), 8, p.key.begin() + static_cast<std::ptrdiff_t>(t * 8));
    p.beta[t * 2 + 1] = p.beta[t * 2];
  }
  const auto layer = p.layer(64);
  std::vector<std::byte> ws(layer.workspace_bytes(9));
  floats state = p.state, y(p.output_size()), shared_state = p.state, shared(y.size());
  REQUIRE(layer(p.inputs(), p.states(state), p.outputs(y), workspace(ws)).ok());
  auto in = p.inputs();
  in.key.token_stride = 0;
  in.beta.head_stride = 0;
  REQUIRE(layer(in, p.states(shared_state), p.outputs(shared), workspace(ws)).text() == "");
  CHECK(shared == y);
  CHECK(shared_state == state);
}

TEST_CASE("linear attention: what the rules are for") {
  // Keys that are unit vectors: the delta rule with beta 1 stores a value under its key and forgets the old one.
  const linear_attention_shape shape{1, 1, 3, 2};
  const floats key = {0, 1, 0, 0, 1, 0, 1, 0, 0}, value = {5, 6, 7, 8, 1, 2}, beta = {1, 1, 1},
               query = {0, 1, 0, 0, 1, 0, 0, 1, 0};
  const linear_attention_inputs in{view::by_token(query.data(), 1, 3, 1, 3),
                                   view::by_token(key.data(), 1, 3, 1, 3),
                                   view::by_token(value.data(), 1, 3, 1, 2),
                                   {},
                                   view::by_token(beta.data(), 1, 3, 1, 1)};
  for (const std::size_t chunk : {std::size_t{1}, std::size_t{64}}) {
    const linear_attention<> delta(shape, {update_rule::delta, 1.0f, chunk});
    std::vector<std::byte> ws(delta.workspace_bytes(3));
    floats state(6), y(6);
    const auto s = heads_view<float>::by_head(state.data(), 1, 3, 1, 2);
    const auto out = heads_view<float>::by_token(y.data(), 1, 3, 1, 2);
    REQUIRE(delta(in, s, out, workspace(ws)).ok());
    CHECK(y == floats{5, 6, 7, 8, 7, 8});
    CHECK(state == floats{1, 2, 7, 8, 0, 0});
    // Linear: values under one key add up.
    const linear_attention<> linear(shape, {update_rule::linear, 1.0f, chunk});
    state.assign(6, 0.0f);
    auto plain = in;
    plain.beta = {};
    REQUIRE(linear(plain, s, out, workspace(ws)).ok());
    CHECK(y == floats{5, 6, 12, 14, 12, 14});
    // A decay of -infinity, or of -1e30, forgets everything, in the middle of a chunk, too.
    for (const float forget : {-std::numeric_limits<float>::infinity(), -1e30f}) {
      const linear_attention<> gated(shape, {update_rule::gated, 1.0f, chunk});
      state.assign(6, 3.0f);
      const floats decay = {0.0f, forget, 0.0f};
      plain.decay = view::by_token(decay.data(), 1, 3, 1, 1);
      REQUIRE(gated(plain, s, out, workspace(ws)).ok());
      CHECK(y == floats{8, 9, 7, 8, 7, 8});
      CHECK(state == floats{1, 2, 7, 8, 0, 0});
    }
  }
}

TEST_CASE("linear attention: what is not finite does not reach tokens before it") {
  POLYMAC_RANDOM(random, 13);
  problem p(random, {2, 1, 4, 6}, update_rule::gated_delta, 1, 30, false, false);
  const auto layer = p.layer(16);
  std::vector<std::byte> ws(layer.workspace_bytes(30));
  floats state = p.state, clean(p.output_size());
  REQUIRE(layer(p.inputs(), p.states(state), p.outputs(clean), workspace(ws)).ok());
  p.value[20 * 6 + 2] = std::numeric_limits<float>::infinity();
  p.query[5 * 8] = std::numeric_limits<float>::quiet_NaN();  // head 0 of token 5
  state = p.state;
  floats y(p.output_size());
  REQUIRE(layer(p.inputs(), p.states(state), p.outputs(y), workspace(ws)).ok());
  for (std::size_t t = 0; t < 30; ++t)
    for (std::size_t h = 0; h < 2; ++h)
      for (std::size_t c = 0; c < 6; ++c) {
        CAPTURE(t, h, c);
        const float v = y[(t * 2 + h) * 6 + c];
        const bool broken = (t == 5 && h == 0) || (t >= 20 && c == 2);
        CHECK(std::isfinite(v) == !broken);
        if (!broken) CHECK(std::abs(v - clean[(t * 2 + h) * 6 + c]) < 1e-4f);
      }
}

TEST_CASE("linear attention: what does not fit is told, and nothing is written") {
  const auto make = [](const linear_attention_shape& s, const linear_attention_options& o = {}) {
    return complaint([&] { linear_attention<>(s, o); });
  };
  CHECK(make({4, 2, 8, 8}) == "");
  CHECK(make({4, 3, 8, 8}) == "linear_attention: expected a multiple of the key heads as query heads, got 4 and 3");
  CHECK(make({0, 0, 8, 8}) == "linear_attention: expected a multiple of the key heads as query heads, got 0 and 0");
  CHECK(make({4, 2, 8, 0}) ==
        "linear_attention: expected heads and sizes of 1 to 1048576, got 4 heads, keys of 8, values of 0");
  CHECK(make({4, 2, 8, 8}, {.scale = std::numeric_limits<float>::infinity()}) ==
        "linear_attention: expected a finite scale (0: 1 / sqrt(key_size))");
  CHECK(make({4, 2, 8, 8}, {.chunk = 1025}) == "linear_attention: expected chunks of at most 1024 tokens, got 1025");
  CHECK(make({4, 2, 8, 8}, {.rule = static_cast<update_rule>(4)}) ==
        "linear_attention: expected an update rule of 0 to 3, got 4");

  POLYMAC_RANDOM(random, 14);
  const problem p(random, {4, 2, 8, 6}, update_rule::gated_delta, 1, 5, false, true);
  const auto layer = p.layer(64);
  std::vector<std::byte> ws(layer.workspace_bytes(5));
  floats state = p.state, y(p.output_size(), 7.0f);
  const auto told = [&](const linear_attention_inputs& in, heads_view<float> s, heads_view<float> out, workspace w) {
    const auto done = layer(in, s, out, w);
    CHECK(!done.ok());
    return std::string(done.text());
  };
  const auto in = p.inputs();
  const auto s = p.states(state);
  const auto out = p.outputs(y);
  auto bad = in;
  bad.key.size = 7;
  CHECK(told(bad, s, out, workspace(ws)) ==
        "linear_attention: expected key of 1 x 5 tokens x 2 heads x 8, got 1 x 5 x 2 x 7");
  bad = in;
  bad.decay = {};
  CHECK(told(bad, s, out, workspace(ws)) == "linear_attention: a gated rule reads a decay, others do not, got none");
  bad = in;
  bad.beta = {};
  CHECK(told(bad, s, out, workspace(ws)) == "linear_attention: a delta rule reads a beta, others do not, got none");
  bad = in;
  bad.decay.size = 3;
  CHECK(told(bad, s, out, workspace(ws)) ==
        "linear_attention: expected decay of 1 x 5 tokens x 2 heads x 8, got 1 x 5 x 2 x 3");
  bad = in;
  bad.beta.heads = 1;
  CHECK(told(bad, s, out, workspace(ws)) ==
        "linear_attention: expected beta of 1 x 5 tokens x 2 heads x 1, got 1 x 5 x 1 x 1");
  bad = in;
  bad.value.data = nullptr;
  CHECK(told(bad, s, out, workspace(ws)) == "linear_attention: the view of the value has no data");
  auto bad_state = s;
  bad_state.tokens = 6;
  bad_state.size = 8;
  CHECK(told(in, bad_state, out, workspace(ws)) ==
        "linear_attention: expected state (key_size as tokens) of 1 x 8 tokens x 2 heads x 6, got 1 x 6 x 2 x 8");
  auto bad_y = out;
  bad_y.head_stride = 5;
  CHECK(told(in, s, bad_y, workspace(ws)) ==
        "linear_attention: the strides of the y (120, 24, 5) let vectors overlap, or lead out of the address space");
  CHECK(told(in, s, out, {ws.data(), ws.size() - 1}) == "linear_attention: expected a workspace of " +
                                                            std::to_string(ws.size()) + " bytes, got " +
                                                            std::to_string(ws.size() - 1));
  CHECK(linear_attention<>({4, 2, 8, 6}, {update_rule::linear})(in, s, out, workspace(ws)).text() ==
        "linear_attention: a gated rule reads a decay, others do not, got one");
  bad = in;
  bad.beta = {};
  CHECK(linear_attention<>({4, 2, 8, 6}, {update_rule::gated})(bad, s, out, workspace(ws)).text() ==
        "linear_attention: only delta rules read an erase gate");
  CHECK(state == p.state);
  CHECK(y == floats(y.size(), 7.0f));
  // Nothing to do.
  auto none = p.outputs(y);
  none.tokens = 0;
  CHECK(layer(p.inputs(5), s, none, workspace(ws)).ok());
  CHECK(layer(in, s, out, workspace(ws), {2, 2}).ok());
  CHECK(state == p.state);
  CHECK(y == floats(y.size(), 7.0f));
}
