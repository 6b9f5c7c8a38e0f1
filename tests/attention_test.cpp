// SPDX-License-Identifier: MIT
// Attention in float32 against its definition in double: options, masks, shapes, views, parts, what NaN and hidden keys
// do, memory, mistakes. Other arithmetics: attention_arithmetics_test. Goldens: onnx_node_test.
#include "catch.hpp"
#include "support/attention_reference.hpp"
#include "support/attention_run.hpp"
#include "support/compare.hpp"
#include "support/complaint.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/layer/attention.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

using namespace polymac_test;
using polymac::heads_view;
using polymac::layer::attention_mask;
using polymac::layer::attention_options;
using polymac::layer::attention_part;
using polymac::layer::attention_shape;
using polymac::layer::causal;
using sums = std::vector<polymac::kernel::softmax_sums>;
using layer_type = polymac::layer::attention<>;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr double bound = 1e-11;

bool finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

/// One problem with random queries, keys and values.
struct problem {
  attention_shape shape;
  heads q, k, v;
  problem(random_source& random, const attention_shape& s, std::size_t queries, std::size_t keys, std::size_t batch = 1,
          order in = order::by_token)
      : shape(s),
        q(random, batch, queries, s.query_heads, s.key_size, in),
        k(random, batch, keys, s.key_heads, s.key_size, in),
        v(random, batch, keys, s.key_heads, s.value_size, in) {
    for (float& x : q.values) x *= 4.0f;  // weights that differ
  }
  double error(const attention_options& o = {}, const call& c = {}) const {
    const auto expected = attention_in_double(shape, o, q.view(), k.view(), v.view(), c.mask, c.counts);
    return normalised_error(expected, run(layer_type(shape, o), q, k, v, c));
  }
};

constexpr attention_shape four_by_two{4, 2, 32, 32};

}  // namespace

TEST_CASE("attention follows its definition, for any number of queries and keys") {
  POLYMAC_RANDOM(random, 1);
  for (const std::size_t keys : {1u, 17u, 31u, 33u, 75u, 113u, 512u})
    for (const std::size_t queries : {1u, 3u, 32u, 75u}) {
      CAPTURE(keys, queries);
      const problem p(random, four_by_two, queries, keys);
      CHECK(p.error() <= bound);
      CHECK(p.error({.softcap = 2.0f, .direction = causal::bottom_right}) <= bound);
      CHECK(p.error({.direction = causal::top_left, .window = 20}) <= bound);
    }
}

TEST_CASE("attention of heads in groups, and of sizes that differ") {
  POLYMAC_RANDOM(random, 2);
  for (const attention_shape& s :
       {attention_shape{1, 1, 40, 72}, attention_shape{6, 6, 64, 32}, attention_shape{12, 3, 24, 8},
        attention_shape{8, 1, 16, 16}, attention_shape{2, 2, 1, 1}, attention_shape{64, 1, 7, 5},
        attention_shape{2, 1, 576, 512}}) {
    CAPTURE(s.query_heads, s.key_heads, s.key_size, s.value_size);
    CHECK(problem(random, s, 5, 50, 2).error() <= bound);
    CHECK(problem(random, s, 1, 19).error({.direction = causal::bottom_right}) <= bound);
  }
}

TEST_CASE("scale and softcap") {
  POLYMAC_RANDOM(random, 3);
  const problem p(random, four_by_two, 9, 70);
  for (const float scale : {1.0f, 0.01f, -0.5f, -0.01f})
    for (const float cap : {0.0f, 0.5f, 30.0f}) {
      CAPTURE(scale, cap);
      CHECK(p.error({.scale = scale, .softcap = cap}) <= bound);
    }
}

TEST_CASE("directions and windows, with other numbers of queries than of keys") {
  POLYMAC_RANDOM(random, 4);
  for (const auto& [queries, keys] :
       {std::pair{40u, 40u}, std::pair{7u, 90u}, std::pair{90u, 33u}, std::pair{300u, 600u}})
    for (const causal direction : {causal::none, causal::top_left, causal::bottom_right})
      for (const std::size_t window : {0u, 1u, 5u, 64u, 1000u}) {
        CAPTURE(queries, keys, static_cast<int>(direction), window);
        if (queries == 300u && (window == 5 || window == 1)) continue;
        const problem p(random, {1, 1, 8, 8}, queries, keys);
        CHECK(p.error({.direction = direction, .window = window}) <= bound);
      }
}

TEST_CASE("masks that add and masks that keep, of one row or of one for each batch, head and query") {
  POLYMAC_RANDOM(random, 5);
  const std::size_t batch = 2, queries = 6, keys = 77;
  const problem p(random, four_by_two, queries, keys, batch);
  // Rows are further apart than they are long.
  const std::size_t row = keys + 3, count = batch * 4 * queries * row;
  std::vector<float> added(count);
  const std::unique_ptr<bool[]> kept(new bool[count]);
  for (std::size_t i = 0; i < count; ++i) {
    added[i] = random.integer(0, 3) == 0 ? -infinity : 2.0f * random.unit() - 1.0f;
    kept[i] = random.integer(0, 2) != 0;
  }
  for (const std::size_t of_batch : {std::size_t{0}, 4 * queries * row})
    for (const std::size_t of_head : {std::size_t{0}, queries * row})
      for (const std::size_t of_query : {std::size_t{0}, row})
        for (const float cap : {0.0f, 1.5f}) {
          CAPTURE(of_batch, of_head, of_query, cap);
          const attention_options o{.softcap = cap, .direction = cap > 0.0f ? causal::bottom_right : causal::none};
          CHECK(p.error(o, {.mask = {added.data(), nullptr, of_batch, of_head, of_query}}) <= bound);
          CHECK(p.error(o, {.mask = {nullptr, kept.get(), of_batch, of_head, of_query}}) <= bound);
        }
}

TEST_CASE("slopes of ALiBi") {
  std::vector<float> eight(8), twelve(12);
  polymac::layer::alibi_slopes(eight);
  polymac::layer::alibi_slopes(twelve);
  const std::vector<double> powers{0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625};
  CHECK(difference(powers, eight) == "");
  // 2^-0.5, 2^-1.5, 2^-2.5, 2^-3.5 between them.
  std::vector<double> all = powers;
  for (const double s : {0.70710678118654752, 0.35355339059327376, 0.17677669529663688, 0.08838834764831844})
    all.push_back(s);
  CHECK(difference(all, twelve, 1e-7, 0) == "");
  POLYMAC_RANDOM(random, 6);
  const problem p(random, {12, 3, 16, 16}, 20, 130);
  for (const causal direction : {causal::none, causal::top_left, causal::bottom_right}) {
    CHECK(p.error({.direction = direction, .slopes = twelve}) <= bound);
    CHECK(p.error({.softcap = 3.0f, .direction = direction, .window = 9, .slopes = twelve}) <= bound);
  }
}

TEST_CASE("sinks take weight and give no value") {
  POLYMAC_RANDOM(random, 7);
  const problem p(random, four_by_two, 11, 40);
  for (const float height : {-infinity, -200.0f, 0.0f, 5.0f, 80.0f}) {
    CAPTURE(height);
    const std::vector<float> sinks{height, 0.25f, -1.0f, height};
    CHECK(p.error({.direction = causal::bottom_right, .sinks = sinks}) <= bound);
    CHECK(p.error({.direction = causal::top_left, .window = 3, .sinks = sinks}) <= bound);
  }
  // 40 keys and 50 queries: the first ten see nothing but the sink.
  const problem q(random, four_by_two, 50, 40);
  const std::vector<float> sinks{1.0f, 2.0f, -300.0f, 300.0f};
  const attention_options o{.direction = causal::bottom_right, .sinks = sinks};
  CHECK(q.error(o) <= bound);
  const auto y = run(layer_type(q.shape, o), q.q, q.k, q.v);
  CHECK(std::all_of(y.begin(), y.begin() + 10 * 4 * 32, [](float v) { return v == 0.0f; }));
  // Options are copied with what they point to.
  std::vector<float> gone = sinks;
  auto first =
      std::make_unique<layer_type>(q.shape, attention_options{.direction = causal::bottom_right, .sinks = gone});
  const layer_type copy(*first);
  first.reset();
  std::fill(gone.begin(), gone.end(), not_a_number);
  CHECK(same_bits(run(copy, q.q, q.k, q.v), y));
}

TEST_CASE("layouts give the same bits; views may lie in larger ones and values in keys") {
  POLYMAC_RANDOM(random, 8);
  const problem p(random, four_by_two, 37, 53, 2);
  const attention_options o{.direction = causal::bottom_right, .window = 30};
  const layer_type layer(p.shape, o);
  const auto y = run(layer, p.q, p.k, p.v);
  CHECK(same_bits(
      run(layer, p.q.reordered(order::by_head), p.k.reordered(order::by_head), p.v.reordered(order::by_head)), y));

  // Queries, keys and values of one token beside each other, and something behind them.
  const std::size_t token = (4 + 2 + 2) * 32 + 5;
  std::vector<float> together(2 * 60 * token, not_a_number);
  const auto part = [&](std::size_t from, std::size_t tokens, std::size_t count) {
    return heads_view<float>(together.data() + from, 2, tokens, count, 32, 60 * token, token, 32);
  };
  const auto q = part(0, 37, 4), k = part(4 * 32, 53, 2), v = part(6 * 32, 53, 2);
  const auto copy = [](const heads& from, const heads_view<float>& to) {
    for (std::size_t n = 0; n < from.batch; ++n)
      for (std::size_t t = 0; t < from.tokens; ++t)
        for (std::size_t h = 0; h < from.count; ++h) std::copy_n(from.at(n, t, h), from.size, to.at(n, t, h));
  };
  copy(p.q, q), copy(p.k, k), copy(p.v, v);
  CHECK(same_bits(run(layer, q, k, v), y));

  // Results with gaps, which stay as they are; the order of heads turned about.
  std::vector<float> wide(2 * 37 * 4 * 40, 3.0f);
  const heads_view<float> out(wide.data() + 3, 2, 37, 4, 32, 37 * 160, 160, 40);
  with_workspace(layer.workspace_bytes(37, 53),
                 [&](polymac::workspace ws) { return layer(p.q.view(), p.k.view(), p.v.view(), out, ws); });
  std::vector<float> seen;
  for (std::size_t n = 0; n < 2; ++n)
    for (std::size_t t = 0; t < 37; ++t)
      for (std::size_t h = 0; h < 4; ++h) seen.insert(seen.end(), out.at(n, t, h), out.at(n, t, h) + 32);
  CHECK(same_bits(seen, y));
  CHECK(std::count(wide.begin(), wide.end(), 3.0f) == static_cast<std::ptrdiff_t>(wide.size() - y.size()));

  // Latent attention: the values are the first elements of the keys.
  const attention_shape latent{4, 1, 40, 24};
  const problem l(random, latent, 6, 45);
  heads_view<const float> values = l.k.view();
  values.size = 24;
  const auto expected = attention_in_double(latent, {}, l.q.view(), l.k.view(), values);
  CHECK(normalised_error(expected, run(layer_type(latent), l.q.view(), l.k.view(), values)) <= bound);
}

TEST_CASE("keys that do not count, ragged batches") {
  POLYMAC_RANDOM(random, 9);
  problem p(random, four_by_two, 10, 75, 4);
  const call c{.counts = {75, 1, 0, 33}};
  for (const causal direction : {causal::none, causal::top_left, causal::bottom_right})
    CHECK(p.error({.direction = direction}, c) <= bound);
  const layer_type layer(p.shape, {.direction = causal::bottom_right});
  const auto y = run(layer, p.q, p.k, p.v, c);
  for (std::size_t n = 0; n < 4; ++n)
    for (std::size_t t = c.counts[n]; t < 75; ++t)
      for (std::size_t h = 0; h < 2; ++h) {
        std::fill_n(p.k.at(n, t, h), 32, not_a_number);
        std::fill_n(p.v.at(n, t, h), 32, infinity);
      }
  CHECK(same_bits(run(layer, p.q, p.k, p.v, c), y));
}

TEST_CASE("no padded key ever gets weight") {
  // A softcap makes a score of -infinity finite: a key that is there only to fill a tile would show.
  POLYMAC_RANDOM(random, 10);
  for (const std::size_t keys : {113u, 1u, 15u, 257u})
    for (const std::size_t queries : {1u, 3u, 40u}) {
      CAPTURE(keys, queries);
      CHECK(problem(random, {1, 1, 64, 64}, queries, keys).error({.softcap = 1.0f}) <= bound);
    }
}

TEST_CASE("a row that sees nothing gives zeros") {
  POLYMAC_RANDOM(random, 11);
  const std::size_t queries = 20, keys = 300;
  const problem p(random, four_by_two, queries, keys);
  std::vector<float> added(queries * keys);
  const std::unique_ptr<bool[]> kept(new bool[queries * keys]);
  for (std::size_t i = 0; i < queries; ++i)
    for (std::size_t j = 0; j < keys; ++j) {
      const bool sees = i % 3 != 0 && (i != 4 || j == 299);
      added[i * keys + j] = sees ? 0.0f : -infinity;
      kept[i * keys + j] = sees;
    }
  for (const attention_mask& mask :
       {attention_mask{added.data(), nullptr, 0, 0, keys}, attention_mask{nullptr, kept.get(), 0, 0, keys}}) {
    const auto y = run(layer_type(p.shape), p.q, p.k, p.v, {.mask = mask});
    for (std::size_t i = 0; i < queries; ++i) {
      CAPTURE(i);
      const bool zeros =
          std::all_of(y.begin() + static_cast<std::ptrdiff_t>(i * 128),
                      y.begin() + static_cast<std::ptrdiff_t>((i + 1) * 128), [](float v) { return v == 0.0f; });
      CHECK(zeros == (i % 3 == 0));
    }
    CHECK(p.error({}, {.mask = mask}) <= bound);
    // All rows, no keys, keys 0 of it.
    const std::vector<float> nothing(keys, -infinity);
    const auto none = run(layer_type(p.shape), p.q, p.k, p.v, {.mask = {nothing.data(), nullptr, 0, 0, 0}});
    CHECK(same_bits(none, std::vector<float>(none.size())));
  }
  const auto none = run(layer_type(p.shape), p.q, p.k, p.v, {.counts = {0}});
  CHECK(same_bits(none, std::vector<float>(none.size())));
  const heads no_keys(1, 0, 2, 32);
  CHECK(same_bits(run(layer_type(p.shape), p.q, no_keys, no_keys), std::vector<float>(none.size())));
}

TEST_CASE("NaN of a query stays in its row, NaN of a key or value that counts is seen") {
  POLYMAC_RANDOM(random, 12);
  problem p(random, four_by_two, 60, 90);
  const layer_type layer(p.shape);
  const auto before = run(layer, p.q, p.k, p.v);
  const float kept = p.q.at(0, 31, 2)[5];
  for (const float poison : {not_a_number, infinity}) {
    p.q.at(0, 31, 2)[5] = poison;
    auto y = run(layer, p.q, p.k, p.v);
    const auto row = y.begin() + (31 * 4 + 2) * 32;
    CHECK(std::all_of(row, row + 32, [](float v) { return std::isnan(v); }));
    std::copy_n(before.begin() + (31 * 4 + 2) * 32, 32, row);
    CHECK(same_bits(y, before));
  }
  p.q.at(0, 31, 2)[5] = kept;
  p.k.at(0, 80, 1)[0] = not_a_number;
  auto y = run(layer, p.q, p.k, p.v);
  for (std::size_t i = 0; i < y.size(); ++i)
    if (i / 64 % 2 == 0 ? y[i] != before[i] : !std::isnan(y[i])) FAIL_CHECK("element " << i);
  p.k.at(0, 80, 1)[0] = 0.0f;
  p.v.at(0, 3, 0)[7] = not_a_number;
  y = run(layer, p.q, p.k, p.v);
  for (std::size_t i = 0; i < y.size(); ++i)
    if (std::isnan(y[i]) != (i / 64 % 2 == 0 && i % 32 == 7)) FAIL_CHECK("element " << i);
}

TEST_CASE("blocks of keys that no row sees are not touched") {
  POLYMAC_RANDOM(random, 13);
  const std::size_t keys = 1100;
  problem p(random, {2, 2, 16, 16}, 8, keys);
  std::vector<float> mask(keys);
  std::fill_n(mask.begin(), 520, -infinity);
  std::fill_n(mask.begin() + 760, 300, -infinity);
  const auto check = [&](std::size_t begin, std::size_t end, const attention_options& o, const call& c) {
    const layer_type layer(p.shape, o);
    const auto y = run(layer, p.q, p.k, p.v, c);
    heads k = p.k, v = p.v;
    for (std::size_t t = begin; t < end; ++t)
      for (std::size_t h = 0; h < 2; ++h)
        std::fill_n(k.at(0, t, h), 16, not_a_number), std::fill_n(v.at(0, t, h), 16, not_a_number);
    CHECK(finite(y));
    CHECK(same_bits(run(layer, p.q, k, v, c), y));
  };
  check(0, 512, {}, {.mask = {mask.data(), nullptr, 0, 0, 0}});
  check(768, 1024, {}, {.mask = {mask.data(), nullptr, 0, 0, 0}});
  check(64, keys, {.direction = causal::top_left}, {});                  // queries 0 to 7
  check(0, 1024, {.direction = causal::bottom_right, .window = 9}, {});  // keys from 1084 on
}

TEST_CASE("what softmax cannot see") {
  POLYMAC_RANDOM(random, 14);
  const problem p(random, four_by_two, 10, 300);
  const layer_type layer(p.shape);
  const auto y = run(layer, p.q, p.k, p.v);
  const auto expected = attention_in_double(p.shape, {}, p.q.view(), p.k.view(), p.v.view());
  SECTION("values of 1 give 1") {
    heads ones = p.v;
    std::fill(ones.values.begin(), ones.values.end(), 1.0f);
    CHECK(normalised_error(std::vector<double>(y.size(), 1.0), run(layer, p.q, p.k, ones)) <= 1e-12);
  }
  SECTION("one key gives its value") {
    const problem one(random, four_by_two, 5, 1);
    const auto got = run(layer_type(one.shape), one.q, one.k, one.v);
    std::vector<float> values;
    for (std::size_t i = 0; i < got.size(); ++i) values.push_back(one.v.values[i / 64 % 2 * 32 + i % 32]);
    CHECK(difference(values, got, 3e-7, 0) == "");  // its weight and the sum of the weights are the same number
  }
  SECTION("a number that is added to a row of scores") {
    for (const float shift : {16.0f, -1000.0f}) {
      const std::vector<float> mask(300, shift);
      CHECK(normalised_error(expected, run(layer, p.q, p.k, p.v, {.mask = {mask.data(), nullptr, 0, 0, 0}})) <= 1e-8);
    }
  }
  SECTION("the order of the keys") {
    std::vector<std::size_t> to(300);
    std::iota(to.begin(), to.end(), std::size_t{0});
    for (std::size_t i = 299; i > 0; --i)
      std::swap(to[i], to[static_cast<std::size_t>(random.integer(0, static_cast<int>(i)))]);
    heads k = p.k, v = p.v;
    for (std::size_t t = 0; t < 300; ++t)
      for (std::size_t h = 0; h < 2; ++h) {
        std::copy_n(p.k.at(0, t, h), 32, k.at(0, to[t], h));
        std::copy_n(p.v.at(0, t, h), 32, v.at(0, to[t], h));
      }
    CHECK(normalised_error(expected, run(layer, p.q, k, v)) <= bound);
  }
  SECTION("scores of any height") {
    problem high = p;
    for (float& x : high.q.values) x *= 500.0f;  // one key has all the weight
    CHECK(high.error() <= 1e-6);
    for (float& x : high.q.values) x *= 1e-30f;  // all have the same
    CHECK(high.error() <= bound);
  }
}

TEST_CASE("ranges of queries and heads give the bits of the whole") {
  POLYMAC_RANDOM(random, 15);
  std::vector<float> slopes(6), sinks{0.5f, 1.0f, -1.0f, 0.0f, 2.0f, 1.5f};
  polymac::layer::alibi_slopes(slopes);
  const problem p(random, {6, 2, 40, 24}, 70, 530, 2);
  for (const attention_options& o :
       {attention_options{}, attention_options{.direction = causal::top_left},
        attention_options{
            .softcap = 4.0f, .direction = causal::bottom_right, .window = 77, .slopes = slopes, .sinks = sinks}}) {
    const layer_type layer(p.shape, o);
    sums all(2 * 70 * 6), parts(all.size());
    const auto whole = run(layer, p.q, p.k, p.v, {.sums = all});
    for (const std::size_t step : {1u, 7u, 48u})
      for (const std::size_t some_heads : {1u, 2u, 4u, 6u}) {
        CAPTURE(step, some_heads);
        std::vector<float> y(whole.size(), not_a_number);
        for (std::size_t i = 0; i < 70; i += step) {
          if (step == 1 && i > 3 && i != 50) continue;
          for (std::size_t h = 0; h < 6; h += some_heads) {
            const attention_part part{{i, i + step}, {h, h + some_heads}, {}};
            const auto some = run(layer, p.q, p.k, p.v, {.part = part, .sums = parts});
            for (std::size_t e = 0; e < y.size(); ++e) {
              const std::size_t head = e / 24 % 6, query = e / 24 / 6 % 70;
              const bool inside = query >= i && query < i + step && head >= h && head < h + some_heads;
              if (inside)
                y[e] = some[e];
              else if (some[e] != 7.0f)
                FAIL_CHECK("query " << query << " of head " << head << " is not of this part");
            }
          }
        }
        if (step == 1)
          for (std::size_t e = 0; e < y.size(); ++e)
            if (std::isnan(y[e])) y[e] = whole[e];
        CHECK(same_bits(y, whole));
      }
    for (std::size_t i = 0; i < all.size(); ++i)
      if (all[i].maximum != parts[i].maximum || all[i].sum != parts[i].sum) FAIL_CHECK("sums " << i);
  }
  // Beyond the end: nothing.
  const layer_type layer(p.shape);
  const auto y = run(layer, p.q, p.k, p.v, {.part = {{70, 90}, {}, {}}});
  CHECK(same_bits(y, std::vector<float>(y.size(), 7.0f)));
  CHECK(same_bits(run(layer, p.q, p.k, p.v, {.part = {{}, {6, 9}, {}}}), y));
}

TEST_CASE("parts of the keys are joined by their sums") {
  POLYMAC_RANDOM(random, 16);
  std::vector<float> sinks{0.5f, 300.0f, -300.0f, -infinity}, slopes(4);
  polymac::layer::alibi_slopes(slopes);
  const problem p(random, four_by_two, 21, 600);
  for (const attention_options& o :
       {attention_options{}, attention_options{.sinks = sinks},
        attention_options{.direction = causal::top_left, .sinks = sinks},
        attention_options{.direction = causal::bottom_right, .window = 33, .slopes = slopes}}) {
    const layer_type layer(p.shape, o);
    const auto expected = attention_in_double(p.shape, o, p.q.view(), p.k.view(), p.v.view());
    for (const std::vector<std::size_t>& borders :
         {std::vector<std::size_t>{0, 300, 600}, {0, 1, 599, 600}, {0, 5, 21, 250, 251, 290, 590, 600, 700}}) {
      CAPTURE(borders);
      for (const bool backwards : {false, true}) {
        heads y(1, 21, 4, 32), other(1, 21, 4, 32);
        sums mine(84), others(84);
        for (std::size_t b = 0; b + 1 < borders.size(); ++b) {
          const std::size_t at = backwards ? borders.size() - 2 - b : b;
          const call c{.part = {{}, {}, {borders[at], borders[at + 1]}}, .sums = b == 0 ? mine : others};
          (b == 0 ? y : other).values = run(layer, p.q, p.k, p.v, c);
          if (b > 0) CHECK(layer.join(y.view(), {mine}, other.view(), {others}).text() == "");
        }
        CHECK(normalised_error(expected, y.values) <= bound);
      }
    }
  }
  // Two parts that see nothing.
  polymac::kernel::softmax_sums nothing, none;
  const auto shares = nothing.join(none);
  CHECK(shares.mine == 0.0f);
  CHECK(shares.others == 0.0f);
}

TEST_CASE("attention reads and writes nothing beside its views") {
  POLYMAC_RANDOM(random, 17);
  for (const auto& [queries, keys] : {std::pair{1u, 3u}, std::pair{5u, 33u}, std::pair{49u, 257u}}) {
    const problem p(random, {4, 2, 37, 19}, queries, keys);
    std::vector<float> mask(queries * keys);
    const layer_type layer(p.shape, {.direction = causal::bottom_right});
    const std::size_t bytes = layer.workspace_bytes(queries, keys);
    const auto y = run(layer, p.q, p.k, p.v, {.mask = {mask.data(), nullptr, 0, 0, keys}});
    for (const placement where : both_placements) {
      CAPTURE(queries, keys, where == placement::before_guard);
      const guarded_buffer<float> q(p.q.values, where), k(p.k.values, where), v(p.v.values, where), m(mask, where);
      guarded_buffer<float> out(y.size(), where);
      guarded_buffer<std::byte> scratch(bytes, where);
      std::fill(scratch.begin(), scratch.end(), std::byte{0xFF});
      using view = heads_view<const float>;
      const auto status =
          layer(view::by_token(q.data(), 1, queries, 4, 37), view::by_token(k.data(), 1, keys, 2, 37),
                view::by_token(v.data(), 1, keys, 2, 19), heads_view<float>::by_token(out.data(), 1, queries, 4, 19),
                polymac::workspace(scratch.data(), bytes), {m.data(), nullptr, 0, 0, keys});
      CHECK(status.text() == "");
      CHECK(same_bits(out.values(), y));
      CHECK(out.slack_untouched());
      CHECK(scratch.slack_untouched());
    }
  }
}

TEST_CASE("attention says what does not fit") {
  const auto make = [](const attention_shape& s, const attention_options& o = {}) {
    return complaint([&] { const layer_type layer(s, o); });
  };
  CHECK(
      make({0, 1, 8, 8}) ==
      "attention: expected heads and sizes above 0, and query heads a multiple of key heads, got 0 query heads, 1 key "
      "heads, sizes 8 and 8");
  CHECK(
      make({4, 3, 8, 9}) ==
      "attention: expected heads and sizes above 0, and query heads a multiple of key heads, got 4 query heads, 3 key "
      "heads, sizes 8 and 9");
  CHECK(make({4, 0, 8, 8}) != "");
  CHECK(make({4, 4, 0, 8}) != "");
  CHECK(make({4, 4, 8, 0}) != "");
  CHECK(make({1, 1, std::size_t{1} << 40, 8}) ==
        "attention: expected at most 1048576 heads and elements of a head, got 1 heads, sizes 1099511627776 and 8");
  CHECK(make({1, 1, 8, 8}, {.scale = not_a_number}) == "attention: expected a finite scale");
  CHECK(make({1, 1, 8, 8}, {.scale = infinity}) == "attention: expected a finite scale");
  CHECK(make({1, 1, 8, 8}, {.softcap = -1.0f}) == "attention: expected a finite softcap, at least 0");
  CHECK(make({1, 1, 8, 8}, {.softcap = infinity}) == "attention: expected a finite softcap, at least 0");
  const std::vector<float> three{1.0f, 2.0f, 3.0f}, bad{0.0f, infinity}, bad_sinks{0.0f, not_a_number};
  CHECK(make({2, 1, 8, 8}, {.slopes = three}) ==
        "attention: expected a slope for each of 2 query heads or none, got 3");
  CHECK(make({2, 1, 8, 8}, {.sinks = three}) == "attention: expected a sink for each of 2 query heads or none, got 3");
  CHECK(make({2, 1, 8, 8}, {.slopes = bad}) == "attention: expected finite slopes, head 1");
  CHECK(make({2, 1, 8, 8}, {.sinks = bad}) == "attention: expected sinks that are finite or -infinity, head 1");
  CHECK(make({2, 1, 8, 8}, {.sinks = bad_sinks}) == "attention: expected sinks that are finite or -infinity, head 1");

  const layer_type layer({4, 2, 8, 6});
  heads q(2, 5, 4, 8), k(2, 9, 2, 8), v(2, 9, 2, 6), y(2, 5, 4, 6);
  std::fill(y.values.begin(), y.values.end(), 7.0f);
  std::vector<std::byte> memory(layer.workspace_bytes(5, 9));
  const auto error = [&](const auto& change, std::size_t bytes = static_cast<std::size_t>(-1), const call& c = {}) {
    heads_view<const float> q_view = q.view(), k_view = k.view(), v_view = v.view();
    heads_view<float> y_view = y.view();
    change(q_view, k_view, v_view, y_view);
    const auto s =
        layer(q_view, k_view, v_view, y_view, polymac::workspace(memory.data(), std::min(bytes, memory.size())), c.mask,
              c.counts, c.part, {c.sums});
    CHECK(std::all_of(y.values.begin(), y.values.end(), [](float e) { return e == 7.0f; }));
    return std::string(s.text());
  };
  const auto as_is = [](auto&...) {};
  const std::string queries = "attention: expected q of batch x tokens x 4 x 8 and y of batch x tokens x 4 x 6, got ";
  CHECK(error([](auto& a, auto&, auto&, auto&) { a.size = 7; }) == queries + "2 x 5 x 4 x 7 and 2 x 5 x 4 x 6");
  CHECK(error([](auto& a, auto&, auto&, auto&) { a.heads = 2; }) == queries + "2 x 5 x 2 x 8 and 2 x 5 x 4 x 6");
  CHECK(error([](auto&, auto&, auto&, auto& d) { d.tokens = 4; }) == queries + "2 x 5 x 4 x 8 and 2 x 4 x 4 x 6");
  CHECK(error([](auto&, auto&, auto&, auto& d) { d.batch = 1; }) == queries + "2 x 5 x 4 x 8 and 1 x 5 x 4 x 6");
  CHECK(error([](auto&, auto&, auto&, auto& d) { d.size = 8; }) == queries + "2 x 5 x 4 x 8 and 2 x 5 x 4 x 8");
  const std::string keys = "attention: expected k of 2 x tokens x 2 x 8 and v of 2 x ";
  CHECK(error([](auto&, auto& b, auto&, auto&) { b.heads = 4; }) ==
        keys + "9 x 2 x 6, got 2 x 9 x 4 x 8 and 2 x 9 x 2 x 6");
  CHECK(error([](auto&, auto& b, auto&, auto&) { b.tokens = 8; }) ==
        keys + "8 x 2 x 6, got 2 x 8 x 2 x 8 and 2 x 9 x 2 x 6");
  CHECK(error([](auto&, auto& b, auto&, auto&) { b.batch = 1; }) ==
        keys + "9 x 2 x 6, got 1 x 9 x 2 x 8 and 2 x 9 x 2 x 6");
  CHECK(error([](auto&, auto&, auto& c, auto&) { c.size = 8; }) ==
        keys + "9 x 2 x 6, got 2 x 9 x 2 x 8 and 2 x 9 x 2 x 8");
  CHECK(error([](auto& a, auto&, auto&, auto&) { a.data = nullptr; }) ==
        "attention: the view of the queries has no data");
  CHECK(error([](auto&, auto& b, auto&, auto&) { b.data = nullptr; }) == "attention: the view of the keys has no data");
  CHECK(error([](auto&, auto&, auto& c, auto&) { c.data = nullptr; }) ==
        "attention: the view of the values has no data");
  CHECK(error([](auto&, auto&, auto&, auto& d) { d.data = nullptr; }) ==
        "attention: the view of the results has no data");
  CHECK(error(as_is, 100) == "attention: expected a workspace of " + std::to_string(memory.size()) + " bytes, got 100");
  CHECK(error(as_is, memory.size() - 1) != "");
  CHECK(error(as_is, memory.size(), {.counts = {9}}) ==
        "attention: expected a count of keys for each of 2 batches or none, got 1");
  CHECK(error(as_is, memory.size(), {.counts = {9, 10}}) == "attention: expected at most 9 keys, got 10 for batch 1");
  const float added[9]{};
  const bool kept[9]{};
  CHECK(error(as_is, memory.size(), {.mask = {added, kept, 0, 0, 0}}) ==
        "attention: expected a mask that adds or one that keeps, got both");
  sums few(39), many(40);
  CHECK(error(as_is, memory.size(), {.sums = few}) == "attention: expected 40 sums, got 39");
  heads other(2, 4, 4, 6);
  CHECK(std::string(layer.join(y.view(), {many}, other.view(), {many}).text()) ==
        "attention: expected two results of n x tokens x 4 x 6, got 5 x 4 x 6 and 4 x 4 x 6");
  CHECK(std::string(layer.join(y.view(), {many}, y.view(), {few}).text()) ==
        "attention: expected 40 sums for each part, got 40 and 39");
  CHECK(error([](auto&, auto&, auto&, auto& d) { d.head_stride = 5; }) ==
        "attention: the strides of the results (120, 24, 5) let vectors overlap, or lead out of the address space");
  CHECK(error([](auto&, auto& b, auto&, auto&) { b.token_stride = static_cast<std::size_t>(-1) / 64; }) ==
        "attention: the strides of the keys (144, 288230376151711743, 8) lead out of the address space");
  // No queries: nothing to do, nothing to read.
  CHECK(layer(heads(2, 0, 4, 8).view(), k.view(), v.view(), heads(2, 0, 4, 6).view(), polymac::workspace(memory))
            .text() == "");
}
