// SPDX-License-Identifier: MIT
// Attention with the products of every arithmetic that it knows, on the instruction set of the program, against the
// definition in double: errors within the stated bounds, hidden keys, NaN, blocks of zeros, keys far from 0, parts.
#include "catch.hpp"
#include "support/attention_reference.hpp"
#include "support/attention_run.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

#include <polymac/arithmetics.hpp>
#include <polymac/layer/attention.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace polymac_test;
using polymac::layer::attention_options;
using polymac::layer::attention_part;
using polymac::layer::attention_shape;
using polymac::layer::causal;
namespace mac = polymac::mac;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
using dfp16 = mac::dfp<std::int16_t>;
using l_mul4 = mac::l_mul<4>;

/// Of the normalised square error.
template <class M>
constexpr double bound = std::is_same_v<M, mac::float32>                            ? 1e-11
                         : std::is_same_v<M, mac::fp16> || std::is_same_v<M, dfp16> ? 1e-6
                         : std::is_same_v<M, mac::bf16>                             ? 5e-5
                         : std::is_same_v<M, mac::int8>                             ? 1e-3
                                                                                    : 1e-2;

template <class M>
struct problem {
  attention_shape shape;
  heads q, k, v;
  problem(random_source& random, const attention_shape& s, std::size_t queries, std::size_t keys)
      : shape(s),
        q(random, 1, queries, s.query_heads, s.key_size),
        k(random, 1, keys, s.key_heads, s.key_size),
        v(random, 1, keys, s.key_heads, s.value_size) {
    for (float& x : q.values) x *= 2.0f;
  }
  std::vector<float> y(const attention_options& o = {}, const call& c = {}) const {
    return run(polymac::layer::attention<M>(shape, o), q, k, v, c);
  }
  double error(const attention_options& o = {}, const call& c = {}) const {
    return normalised_error(attention_in_double(shape, o, q.view(), k.view(), v.view(), c.mask, c.counts), y(o, c));
  }
};

}  // namespace

#if POLYMAC_HAS_AMX_BF16  // those that have tiles
#define POLYMAC_ARITHMETICS "", mac::bf16, mac::int8
#elif defined(__aarch64__)  // in an emulator
#define POLYMAC_ARITHMETICS "", mac::float32, mac::int8
#else
#define POLYMAC_ARITHMETICS "", mac::float32, mac::bf16, mac::fp16, dfp16, mac::int8, l_mul4
#endif

TEMPLATE_TEST_CASE("attention stays within the error of its arithmetic", POLYMAC_ARITHMETICS) {
  POLYMAC_RANDOM(random, 1);
  std::vector<float> slopes(4), sinks{0.5f, 3.0f, -1.0f, 0.0f};
  polymac::layer::alibi_slopes(slopes);
  double worst = 0;
  for (const auto& [queries, keys] :
       {std::pair{1u, 1u}, std::pair{1u, 113u}, std::pair{3u, 33u}, std::pair{25u, 65u}, std::pair{3u, 530u}}) {
    CAPTURE(queries, keys);
    const problem<TestType> p(random, {4, 2, 40, 24}, queries, keys);
    const attention_options all{.scale = -0.2f,
                                .softcap = 5.0f,
                                .direction = causal::bottom_right,
                                .window = 50,
                                .slopes = slopes,
                                .sinks = sinks};
    std::vector<float> mask(queries * keys);
    for (float& m : mask) m = random.integer(0, 4) == 0 ? -std::numeric_limits<float>::infinity() : random.unit();
    for (const double e : {p.error(), p.error({.direction = causal::bottom_right, .sinks = sinks}), p.error(all),
                           p.error({.softcap = 1.0f}),  // keys that fill a tile would show
                           p.error(all, {.mask = {mask.data(), nullptr, 0, 0, keys}}),
                           p.error({.direction = causal::top_left}, {.counts = {keys - keys / 4}})}) {
      CHECK(e <= bound<TestType>);
      worst = std::max(worst, e);
    }
  }
  const problem<TestType> wide(random, {1, 1, 576, 512}, 1, 19);
  CHECK(wide.error() <= bound<TestType>);
  std::cout << polymac::layer::attention<TestType>({1, 1, 8, 8}).explain().c_str() << ": largest normalised error "
            << worst << '\n';
}

TEMPLATE_TEST_CASE("queries, heads and keys in parts", POLYMAC_ARITHMETICS) {
  POLYMAC_RANDOM(random, 2);
  std::vector<float> sinks{0.5f, 3.0f, -1.0f, 50.0f};
#if defined(POLYMAC_EMULATE_TILES)  // of one and of two panels of values
  const auto [key_size, value_size] = GENERATE(std::pair{32u, 8u}, std::pair{40u, 24u});
#else
  const std::size_t key_size = 8, value_size = 8;
#endif
  const problem<TestType> p(random, {4, 2, key_size, value_size}, 25, 530);
  for (const attention_options& o : {attention_options{.direction = causal::bottom_right, .sinks = sinks},
                                     attention_options{.softcap = 3.0f, .direction = causal::top_left, .window = 41}}) {
    const polymac::layer::attention<TestType> layer(p.shape, o);
    const auto whole = p.y(o);
    std::vector<float> joined(whole.size());
    for (const auto& rows : {polymac::row_range{0, 7}, polymac::row_range{7, 25}})
      for (std::size_t h = 0; h < 4; h += 3) {
        const auto some = p.y(o, {.part = {rows, {h, h + 3}, {}}});
        for (std::size_t e = 0; e < whole.size(); ++e)
          if (some[e] != 7.0f) joined[e] = some[e];
      }
    CHECK(same_bits(joined, whole));
    std::vector<polymac::kernel::softmax_sums> mine(100), others(100);
    heads y(1, 25, 4, value_size), other(1, 25, 4, value_size);
    y.values = p.y(o, {.part = {{}, {}, {0, 3}}, .sums = mine});
    for (const auto& keys : {polymac::row_range{3, 300}, polymac::row_range{300, 530}}) {
      other.values = p.y(o, {.part = {{}, {}, keys}, .sums = others});
      CHECK(layer.join(y.view(), {mine}, other.view(), {others}).text() == "");
    }
    CHECK(normalised_error(attention_in_double(p.shape, o, p.q.view(), p.k.view(), p.v.view()), y.values) <=
          bound<TestType>);
  }
}

TEMPLATE_TEST_CASE("NaN, keys that do not count, rows that see nothing, zeros", POLYMAC_ARITHMETICS) {
  POLYMAC_RANDOM(random, 3);
  problem<TestType> p(random, {2, 1, 32, 32}, 20, 90);
  // The last ten keys do not count.
  const call c{.counts = {80}};
  const auto y = p.y({}, c);
  std::fill_n(p.k.at(0, 80, 0), 10 * 32, not_a_number);
  std::fill_n(p.v.at(0, 80, 0), 10 * 32, not_a_number);
  CHECK(same_bits(p.y({}, c), y));
  p.q.at(0, 7, 1)[3] = not_a_number;
  auto poisoned = p.y({}, c);
  const auto row = poisoned.begin() + (7 * 2 + 1) * 32;
  CHECK(std::all_of(row, row + 32, [](float v) { return std::isnan(v); }));
  std::copy_n(y.begin() + (7 * 2 + 1) * 32, 32, row);
  CHECK(same_bits(poisoned, y));
  p.q.at(0, 7, 1)[3] = 0.0f;
  p.k.at(0, 60, 0)[3] = not_a_number;
  poisoned = p.y({}, c);
  CHECK(std::all_of(poisoned.begin(), poisoned.end(), [](float v) { return std::isnan(v); }));
  p.k.at(0, 60, 0)[3] = 0.0f;
  p.v.at(0, 60, 0)[3] = std::numeric_limits<float>::infinity();
  poisoned = p.y({}, c);
  CHECK(!std::isfinite(poisoned[3]));
  CHECK(std::isfinite(poisoned[4]));
  p.v.at(0, 60, 0)[3] = 0.0f;

  const problem<TestType> more(random, {2, 1, 32, 32}, 30, 20);
  const auto rows = more.y({.direction = causal::bottom_right});
  CHECK(std::all_of(rows.begin(), rows.begin() + 10 * 64, [](float v) { return v == 0.0f; }));
  CHECK(more.error({.direction = causal::bottom_right}) <= bound<TestType>);

  // Zeros in all queries, keys or values: nothing is divided by their scale.
  for (int which = 0; which < 3; ++which) {
    problem<TestType> zeros(random, {2, 1, 32, 32}, 20, 90);
    auto& all = which == 0 ? zeros.q.values : which == 1 ? zeros.k.values : zeros.v.values;
    std::fill(all.begin(), all.end(), 0.0f);
    CHECK(zeros.error() <= bound<TestType>);
  }
  // Values of 1 give 1 within the rounding of the weights; one key gives its value.
  problem<TestType> ones(random, {2, 1, 32, 32}, 20, 90);
  std::fill(ones.v.values.begin(), ones.v.values.end(), 1.0f);
  CHECK(ones.error() <= bound<TestType>);
}

TEMPLATE_TEST_CASE("scores of thousands", POLYMAC_ARITHMETICS) {
  POLYMAC_RANDOM(random, 6);
  // One key stands above all others, wherever roundings of its score fall: its value is the result, to the last code.
  const std::size_t keys = 40;
  for (int i = 0; i < 40; ++i) {
    problem<TestType> p(random, {1, 1, 32, 16}, 5, keys);
    for (float& x : p.q.values) x = std::fabs(x) * static_cast<float>(100 << (i % 8));
    const std::size_t best = static_cast<std::size_t>(i) % keys;
    for (std::size_t e = 0; e < 32; ++e) p.k.at(0, best, 0)[e] = 3.0f;
    const auto y = p.y();
    double difference = 0.0, all = 0.0;
    for (std::size_t t = 0; t < 5; ++t)
      for (std::size_t e = 0; e < 16; ++e) {
        const double expected = static_cast<double>(p.v.at(0, best, 0)[e]);
        difference += std::pow(static_cast<double>(y[t * 16 + e]) - expected, 2);
        all += expected * expected;
      }
    CAPTURE(i);
    CHECK(difference <= bound<TestType> * all);
  }
}

TEST_CASE("int8: the mean of the keys is no part of the error") {
  POLYMAC_RANDOM(random, 4);
  std::vector<float> sinks{0.0f, 1.0f};
  problem<mac::int8> p(random, {2, 2, 64, 64}, 40, 300);
  const std::vector<attention_options> all{
      {}, {.direction = causal::bottom_right}, {.direction = causal::top_left, .window = 64}};
  std::vector<double> without;
  for (const auto& o : all) without.push_back(p.error(o));
  // The offset is the same for all keys, of another size in every element; queries are small enough for it.
  for (std::size_t t = 0; t < 300; ++t)
    for (std::size_t h = 0; h < 2; ++h)
      for (std::size_t e = 0; e < 64; ++e) p.k.at(0, t, h)[e] += e % 2 == 0 ? 100.0f : -70.0f;
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i, without[i]);
    CHECK(p.error(all[i]) <= 1.5 * without[i]);
  }
  // What is not blind to it: a softcap and sinks take the scores as they are.
  for (float& x : p.q.values) x *= 0.002f;
  CHECK(p.error({.softcap = 2.0f}) <= 1e-3);
  CHECK(p.error({.sinks = sinks}) <= 1e-3);
}

#if defined(POLYMAC_EMULATE_TILES)
TEMPLATE_TEST_CASE("from 4 queries of a group on products run on tiles", POLYMAC_ARITHMETICS) {
  POLYMAC_RANDOM(random, 5);
  const auto products = [&](const attention_shape& shape, std::size_t queries) {
    const problem<TestType> p(random, shape, queries, 200);
    const std::size_t before = emulated_tile_unit::products;
    CHECK(p.error() <= bound<TestType>);
    return emulated_tile_unit::products - before;
  };
  const std::string words = polymac::layer::attention<TestType>({2, 2, 64, 64}).explain().c_str();
  CHECK(words.find("from 4 rows on by matrix registers") != std::string::npos);
  // Scores of 16 rows: 13 panels of keys, each 64 / 32 steps of bf16; values: 4 panels, 7 steps of 32 tokens.
  constexpr bool bytes = std::is_same_v<TestType, mac::int8>;
  CHECK(products({1, 1, 64, 64}, 16) == (bytes ? 13u * 1 + 4 * 4 : 13u * 2 + 4 * 7));
  CHECK(products({4, 1, 64, 64}, 1) == (bytes ? 13u * 1 + 4 * 4 : 13u * 2 + 4 * 7));
  CHECK(products({3, 1, 64, 64}, 1) == 0);
  CHECK(products({1, 1, 8, 64}, 16) == 0);  // most of a step would be zeros
  const std::string small = polymac::layer::attention<TestType>({1, 1, 8, 64}).explain().c_str();
  CHECK(small.find("matrix registers") == std::string::npos);
}
#endif
