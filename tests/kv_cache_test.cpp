// SPDX-License-Identifier: MIT
// Caches of keys and values in all formats: appending, attention over them against its definition in double, rotation,
// rings, truncation, saving, what damaged bytes and stale values do, mistakes.
#include "catch.hpp"
#include "support/attention_reference.hpp"
#include "support/attention_run.hpp"
#include "support/compare.hpp"
#include "support/complaint.hpp"
#include "support/random.hpp"

#include <polymac/layer/attention.hpp>
#include <polymac/layer/kv_cache.hpp>
#include <polymac/layer/rope.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

using namespace polymac_test;
using polymac::layer::attention_options;
using polymac::layer::attention_shape;
using polymac::layer::cache_form;
using polymac::layer::causal;
using polymac::layer::kv_cache_shape;
namespace mac = polymac::mac;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

using four_bits = mac::bit_weights<4>;
/// A format of the cache: the arithmetic that reads it, and the bounds of the error against the definition in double of
/// what was appended.
template <class M>
struct format {
  using reader = M;
};
template <>
struct format<mac::fp16> {
  using reader = mac::float32;
};
template <>
struct format<four_bits> {
  using reader = mac::int8;
};
template <class M>
constexpr double bound = std::is_same_v<M, mac::float32> ? 1e-11
                         : std::is_same_v<M, mac::fp16>  ? 1e-6
                         : std::is_same_v<M, mac::bf16>  ? 5e-5
                         : std::is_same_v<M, mac::int8>  ? 1e-3
                                                         : 5e-2;
template <class M>
using cache_of = polymac::layer::kv_cache<M>;
template <class M>
using reader_of = polymac::layer::attention<typename format<M>::reader>;

/// Tokens [begin, end) of a sequence.
polymac::heads_view<const float> tokens(const heads& of, std::size_t begin, std::size_t end) {
  auto view = of.view();
  view.data = of.at(0, begin, 0);
  view.tokens = end - begin;
  return view;
}
template <class Cache>
void append(Cache& cache, const heads& k, const heads& v, std::size_t begin, std::size_t end) {
  polymac::status status;
  {
    const no_allocation trap;
    status = cache.append(tokens(k, begin, end), tokens(v, begin, end));
  }
  CHECK(status.text() == "");
}
template <class Cache>
std::vector<std::byte> saved(const Cache& cache) {
  std::vector<std::byte> bytes(cache.saved_bytes());
  CHECK(cache.save(bytes).text() == "");
  return bytes;
}

constexpr attention_shape shape{8, 2, 40, 24};
constexpr kv_cache_shape room(std::size_t capacity, cache_form form = cache_form::growing) {
  return {2, 40, 24, capacity, form};
}

/// Keys and values of a sequence, and queries of its last tokens.
struct sequence {
  heads k, v;
  sequence(random_source& random, std::size_t count) : k(random, 1, count, 2, 40), v(random, 1, count, 2, 24) {
    for (float& x : k.values) x += 0.5f;  // as keys are: not about 0
  }
};
heads queries(random_source& random, std::size_t count, const attention_shape& s = shape) {
  heads q(random, 1, count, s.query_heads, s.key_size);
  for (float& x : q.values) x *= 3.0f;
  return q;
}

/// Attention of a cache that holds the tokens [begin, end) against the definition.
template <class M>
double error(const cache_of<M>& cache, const sequence& s, std::size_t begin, std::size_t end, const heads& q,
             const attention_options& o = {}, const call& c = {}) {
  const auto expected =
      attention_in_double(shape, o, q.view(), tokens(s.k, begin, end), tokens(s.v, begin, end), c.mask);
  return normalised_error(expected, run(reader_of<M>(shape, o), q, cache, c));
}

}  // namespace

#if defined(POLYMAC_EMULATE_TILES)  // those that tiles read
#define POLYMAC_CACHES "", mac::bf16, mac::int8, four_bits
#else
#define POLYMAC_CACHES "", mac::float32, mac::bf16, mac::fp16, mac::int8, four_bits
#endif

TEMPLATE_TEST_CASE("tokens appended one by one are those appended at once", POLYMAC_CACHES) {
  POLYMAC_RANDOM(random, 1);
  const sequence s(random, 90);
  const heads q = queries(random, 2);
  // Codes are taken of keys less the mean of the first call, where it brings 16 tokens.
  for (const std::size_t first : {20u, 1u}) {
    CAPTURE(first);
    cache_of<TestType> slow(room(100)), fast(room(100));
    append(slow, s.k, s.v, 0, first);
    append(fast, s.k, s.v, 0, first);
    for (std::size_t t = first; t < 90; ++t) append(slow, s.k, s.v, t, t + 1);
    append(fast, s.k, s.v, first, 90);
    CHECK(slow.size() == 90);
    CHECK(slow.first() == 0);
    CHECK((saved(slow) == saved(fast)));
    const reader_of<TestType> layer(shape, {.direction = causal::bottom_right});
    CHECK(same_bits(run(layer, q, slow), run(layer, q, fast)));
    append(fast, s.k, s.v, 0, 0);
    CHECK((saved(slow) == saved(fast)));
  }
}

TEMPLATE_TEST_CASE("attention over a cache follows its definition", POLYMAC_CACHES) {
  POLYMAC_RANDOM(random, 2);
  std::vector<float> slopes(8), sinks{0.5f, 1.0f, -1.0f, 0.0f, 2.0f, 1.5f, 9.0f, -9.0f};
  polymac::layer::alibi_slopes(slopes);
  for (const std::size_t count : {1u, 17u, 113u, 600u}) {
    const sequence s(random, count);
    cache_of<TestType> cache(room(count + 7));
    append(cache, s.k, s.v, 0, count);
    std::vector<float> mask(3 * count);
    for (float& m : mask) m = random.integer(0, 4) == 0 ? -std::numeric_limits<float>::infinity() : random.unit();
    const attention_options all{
        .softcap = 5.0f, .direction = causal::bottom_right, .window = 50, .slopes = slopes, .sinks = sinks};
    for (const std::size_t number : {1u, 3u, 14u}) {
      if (number > count) continue;
      CAPTURE(count, number);
      const heads q = queries(random, number);
      CHECK(error<TestType>(cache, s, 0, count, q) <= bound<TestType>);
      CHECK(error<TestType>(cache, s, 0, count, q, {.direction = causal::bottom_right, .window = 37}) <=
            bound<TestType>);
      CHECK(error<TestType>(cache, s, 0, count, q, all) <= bound<TestType>);
      if (number == 3)
        CHECK(error<TestType>(cache, s, 0, count, q, all, {.mask = {mask.data(), nullptr, 0, 0, count}}) <=
              bound<TestType>);
      // Softmax of a part of the heads and queries: the same bits.
      const reader_of<TestType> layer(shape, all);
      const auto whole = run(layer, q, cache);
      for (std::size_t h = 0; h < 8; h += 3) {
        auto part = run(layer, q, cache, {.part = {{number / 2, number}, {h, h + 3}, {}}});
        for (std::size_t e = 0; e < part.size(); ++e) {
          const bool inside = e / 24 / 8 >= number / 2 && e / 24 % 8 >= h && e / 24 % 8 < h + 3;
          if (std::bit_cast<std::uint32_t>(part[e]) != std::bit_cast<std::uint32_t>(inside ? whole[e] : 7.0f))
            FAIL_CHECK("element " << e << " of heads from " << h << ": " << part[e] << ", not " << whole[e]);
        }
      }
      // Parts of the tokens.
      std::vector<polymac::kernel::softmax_sums> mine(number * 8), others(number * 8);
      heads y(1, number, 8, 24), other(1, number, 8, 24);
      y.values = run(layer, q, cache, {.part = {{}, {}, {0, count / 3}}, .sums = mine});
      other.values = run(layer, q, cache, {.part = {{}, {}, {count / 3, count}}, .sums = others});
      CHECK(layer.join(y.view(), {mine}, other.view(), {others}).text() == "");
      const auto expected = attention_in_double(shape, all, q.view(), s.k.view(), s.v.view());
      CHECK(normalised_error(expected, y.values) <= bound<TestType>);
    }
  }
}

TEST_CASE("attention over a cache of floats is attention over the views") {
  POLYMAC_RANDOM(random, 3);
  const sequence s(random, 300);
  cache_of<mac::float32> cache(room(300));
  append(cache, s.k, s.v, 0, 300);
  const polymac::layer::attention<> layer(shape, {.direction = causal::bottom_right});
  for (const std::size_t count : {1u, 8u, 60u}) {
    const heads q = queries(random, count);
    const auto views = run(layer, q, s.k, s.v), cached = run(layer, q, cache);
    CHECK(normalised_error(std::vector<double>(views.begin(), views.end()), cached) <= 1e-12);
  }
}

TEST_CASE("a cache of halves serves products of floats and of halves") {
  POLYMAC_RANDOM(random, 12);
  const attention_shape of{4, 2, 64, 64};  // panels of floats are 4 KiB then, those of halves are not
  const heads k(random, 1, 530, 2, 64), v(random, 1, 530, 2, 64);
  cache_of<mac::fp16> cache({2, 64, 64, 540});
  append(cache, k, v, 0, 530);
  for (const std::size_t count : {1u, 7u, 40u}) {
    const heads q = queries(random, count, of);
    for (const attention_options& o :
         {attention_options{}, attention_options{.direction = causal::bottom_right, .window = 100}}) {
      const auto expected = attention_in_double(of, o, q.view(), k.view(), v.view());
      CHECK(normalised_error(expected, run(polymac::layer::attention<>(of, o), q, cache)) <= bound<mac::fp16>);
      CHECK(normalised_error(expected, run(polymac::layer::attention<mac::fp16>(of, o), q, cache)) <= bound<mac::fp16>);
    }
  }
}

TEMPLATE_TEST_CASE("keys are turned on their way into a cache", POLYMAC_CACHES) {
  POLYMAC_RANDOM(random, 4);
  const sequence s(random, 60);
  const polymac::layer::rope rope(40, 200, {.pairs = polymac::layer::rope_pairs::halves, .rotary = 32});
  heads turned(1, 60, 2, 40);
  REQUIRE(rope(s.k.view(), 0, turned.view()).text() == "");
  for (const cache_form form : {cache_form::growing, cache_form::ring}) {
    cache_of<TestType> one(room(60, form)), two(room(60, form));
    CHECK(one.append(tokens(s.k, 0, 25), tokens(s.v, 0, 25), rope).text() == "");
    CHECK(one.append(tokens(s.k, 25, 60), tokens(s.v, 25, 60), rope).text() == "");
    append(two, turned, s.v, 0, 25);
    append(two, turned, s.v, 25, 60);
    CHECK((saved(one) == saved(two)));
  }
  // Positions go on where a ring has wrapped.
  cache_of<TestType> one(room(20, cache_form::ring)), two(room(20, cache_form::ring));
  CHECK(one.append(tokens(s.k, 0, 60), tokens(s.v, 0, 60), rope).text() == "");
  append(two, turned, s.v, 0, 60);
  CHECK(one.first() == 40);
  CHECK((saved(one) == saved(two)));
}

TEMPLATE_TEST_CASE("a ring holds the last tokens", POLYMAC_CACHES) {
  POLYMAC_RANDOM(random, 5);
  std::vector<float> slopes(8);
  polymac::layer::alibi_slopes(slopes);
  for (const std::size_t capacity : {1u, 20u, 128u, 150u}) {
    CAPTURE(capacity);
    const sequence s(random, 500);
    cache_of<TestType> cache(room(capacity, cache_form::ring));
    std::size_t end = 0;
    for (const std::size_t count : {5u, 16u, 1u, 1u, 130u, 77u, 1u, 200u}) {
      append(cache, s.k, s.v, end, end + count);
      end += count;
      const std::size_t begin = end > capacity ? end - capacity : 0;
      CAPTURE(end);
      CHECK(cache.size() == end - begin);
      CHECK(cache.first() == begin);
      const heads q = queries(random, 3);
      CHECK(error<TestType>(cache, s, begin, end, q) <= bound<TestType>);
      CHECK(error<TestType>(cache, s, begin, end, q,
                            {.direction = causal::bottom_right, .window = 19, .slopes = slopes}) <= bound<TestType>);
      std::vector<float> mask(end - begin);
      for (float& m : mask) m = random.unit();
      CHECK(error<TestType>(cache, s, begin, end, queries(random, 1), {.softcap = 3.0f, .slopes = slopes},
                            {.mask = {mask.data(), nullptr, 0, 0, 0}}) <= bound<TestType>);
      if (count != 77) continue;
      // Saved in the middle, restored into one of another capacity, both go on.
      const auto bytes = saved(cache);
      cache_of<TestType> other(room(capacity + 30, cache_form::ring));
      CHECK(other.restore(bytes).text() == "");
      CHECK(other.first() == begin);
      CHECK(other.size() == end - begin);
      CHECK((saved(other) == bytes));
      append(other, s.k, s.v, end, end + 30);
      CHECK(other.size() == end - begin + 30);
      CHECK(error<TestType>(other, s, begin, end + 30, q) <= bound<TestType>);
      CHECK(error<TestType>(other, s, begin, end + 30, q, {.window = 40}) <= bound<TestType>);
    }
    CHECK(std::string(cache.truncate(0).text()) == "kv_cache: a ring forgets its oldest tokens only");
  }
}

TEMPLATE_TEST_CASE("a truncated cache goes on as if there had been nothing else", POLYMAC_CACHES) {
  POLYMAC_RANDOM(random, 6);
  const sequence s(random, 90);
  const heads q = queries(random, 2);
  const reader_of<TestType> layer(shape, {.direction = causal::bottom_right});
  for (const std::size_t kept : {16u, 17u, 19u, 33u, 64u}) {
    CAPTURE(kept);
    sequence wrong = s;
    for (std::size_t t = kept; t < 90; ++t)
      for (std::size_t h = 0; h < 2; ++h) {
        std::fill_n(wrong.k.at(0, t, h), 40, t % 2 == 0 ? not_a_number : 1e30f);
        std::fill_n(wrong.v.at(0, t, h), 24, t % 2 == 0 ? 1e30f : not_a_number);
      }
    cache_of<TestType> cache(room(90)), fresh(room(90));
    append(fresh, s.k, s.v, 0, 16);
    append(fresh, s.k, s.v, 16, kept);
    append(cache, wrong.k, wrong.v, 0, 16);
    append(cache, wrong.k, wrong.v, 16, 90);
    CHECK(cache.truncate(kept).text() == "");
    CHECK(cache.size() == kept);
    CHECK((saved(cache) == saved(fresh)));
    CHECK(same_bits(run(layer, q, cache), run(layer, q, fresh)));
    append(cache, s.k, s.v, kept, 90);
    append(fresh, s.k, s.v, kept, 90);
    CHECK((saved(cache) == saved(fresh)));
    CHECK(same_bits(run(layer, q, cache), run(layer, q, fresh)));
    CHECK(std::string(cache.truncate(91).text()) == "kv_cache: expected to keep at most 90 tokens, got 91");
    CHECK(cache.truncate(90).text() == "");
    CHECK(cache.size() == 90);
  }
  cache_of<TestType> cache(room(90)), fresh(room(90));
  for (const bool clears : {true, false}) {
    append(cache, s.k, s.v, 30, 80);
    if (clears)
      cache.clear();
    else
      CHECK(cache.truncate(0).text() == "");
    CHECK(cache.size() == 0);
    CHECK((saved(cache) == saved(fresh)));
  }
  CHECK(same_bits(run(reader_of<TestType>(shape), q, cache), std::vector<float>(2 * 8 * 24)));
  append(cache, s.k, s.v, 0, 90);
  append(fresh, s.k, s.v, 0, 90);
  CHECK((saved(cache) == saved(fresh)));
  CHECK(same_bits(run(layer, q, cache), run(layer, q, fresh)));
}

TEMPLATE_TEST_CASE("NaN and infinities of tokens that a ring has dropped do no harm, of others they show",
                   POLYMAC_CACHES) {
  POLYMAC_RANDOM(random, 7);
  for (const std::size_t capacity : {20u, 128u}) {
    sequence s(random, 320);
    for (const std::size_t bad : {3u, 17u, 140u})
      for (std::size_t h = 0; h < 2; ++h) {
        s.k.at(0, bad, h)[1] = not_a_number;
        s.v.at(0, bad, h)[2] = bad == 17 ? std::numeric_limits<float>::infinity() : not_a_number;
      }
    cache_of<TestType> cache(room(capacity, cache_form::ring));
    append(cache, s.k, s.v, 0, 150);
    const heads q = queries(random, 1);
    const auto y = run(reader_of<TestType>(shape), q, cache);
    CHECK(std::all_of(y.begin(), y.end(), [](float v) { return std::isnan(v); }));
    append(cache, s.k, s.v, 150, 141 + capacity);
    CHECK(cache.first() == 141);
    CHECK(error<TestType>(cache, s, 141, 141 + capacity, q) <= bound<TestType>);
    append(cache, s.k, s.v, 141 + capacity, 144 + capacity);
    CHECK(error<TestType>(cache, s, 144, 144 + capacity, q) <= bound<TestType>);
  }
  // One element of a value.
  sequence s(random, 40);
  s.v.at(0, 30, 1)[5] = not_a_number;
  cache_of<TestType> cache(room(50));
  append(cache, s.k, s.v, 0, 40);
  const auto y = run(reader_of<TestType>(shape), queries(random, 1), cache);
  for (std::size_t h = 4; h < 8; ++h) CHECK(std::isnan(y[h * 24 + 5]));
  CHECK(std::all_of(y.begin(), y.begin() + 4 * 24, [](float v) { return std::isfinite(v); }));
}

TEMPLATE_TEST_CASE("keys and values that are all zeros", POLYMAC_CACHES) {
  POLYMAC_RANDOM(random, 8);
  sequence s(random, 30);
  std::fill(s.k.values.begin(), s.k.values.end(), 0.0f);
  for (std::size_t t = 0; t < 30; t += 2) std::fill_n(s.v.at(0, t, 0), 48, 0.0f);
  cache_of<TestType> cache(room(30));
  append(cache, s.k, s.v, 0, 30);
  CHECK(error<TestType>(cache, s, 0, 30, queries(random, 1)) <= bound<TestType>);
  std::fill(s.v.values.begin(), s.v.values.end(), 0.0f);
  cache.clear();
  append(cache, s.k, s.v, 0, 30);
  const auto y = run(reader_of<TestType>(shape), queries(random, 1), cache);
  CHECK(same_bits(y, std::vector<float>(y.size())));
}

TEMPLATE_TEST_CASE("a cache is saved and restored", POLYMAC_CACHES) {
  POLYMAC_RANDOM(random, 9);
  const sequence s(random, 80);
  const heads q = queries(random, 2);
  cache_of<TestType> cache(room(80));
  append(cache, s.k, s.v, 0, 50);
  const auto bytes = saved(cache);
  const reader_of<TestType> layer(shape, {.direction = causal::bottom_right});
  const auto y = run(layer, q, cache);
  cache_of<TestType> other(room(64));
  append(other, s.k, s.v, 60, 80);
  const auto before = saved(other);
  const auto y_before = run(layer, q, other);

  // What cannot be restored changes nothing.
  const auto refuses = [&](const std::vector<std::byte>& from, const std::string& text) {
    CHECK(std::string(other.restore(from).text()) == text);
    if (other.size() != 20 || saved(other) != before) FAIL_CHECK("the cache has changed: " << text);
  };
  const auto changed = [&](std::size_t at, unsigned mask = 1) {
    auto damaged = bytes;
    damaged.at(at) ^= static_cast<std::byte>(mask);
    return damaged;
  };
  const std::string name(TestType::name), size = std::to_string(bytes.size());
  const std::string damage = "kv_cache: the saved bytes are damaged: their check sum differs";
  refuses({}, "kv_cache: expected at least 40 saved bytes, got 0");
  refuses({bytes.begin(), bytes.begin() + 39}, "kv_cache: expected at least 40 saved bytes, got 39");
  for (std::size_t i = 0; i < 8; ++i) {
    refuses(changed(i), "kv_cache: these bytes are no saved cache of this version of polymac");
    refuses(changed(8 + i),
            "kv_cache: expected a saved cache of " + name + ", 2 heads, sizes 40 and 24, got one of something else");
    refuses(changed(32 + i), damage);
    // Tokens and total of them.
    const std::uint64_t wrong = 50 ^ (std::uint64_t{1} << (8 * i));
    const std::string one =
        "kv_cache: expected at most 64 saved tokens, from the first one on unless the cache is a ring, got ";
    refuses(changed(16 + i), one + std::to_string(wrong) + " of 50");
    refuses(changed(24 + i), one + "50 of " + std::to_string(wrong));
    auto both = changed(16 + i);
    both[24 + i] ^= std::byte{1};
    if (i == 0)
      refuses(both, "kv_cache: expected " +
                        std::to_string(bytes.size() + (bytes.size() - cache_of<TestType>(room(1)).saved_bytes()) / 50) +
                        " saved bytes, got " + size);
    else
      refuses(both, one + std::to_string(wrong) + " of " + std::to_string(wrong));
  }
  for (std::size_t i = 40; i < bytes.size(); i += i < 60 || i + 60 > bytes.size() ? 1 : 577)
    refuses(changed(i, 0x80), damage);
  refuses({bytes.begin(), bytes.end() - 1},
          "kv_cache: expected " + size + " saved bytes, got " + std::to_string(bytes.size() - 1));
  auto longer = bytes;
  longer.push_back(std::byte{0});
  refuses(longer, "kv_cache: expected " + size + " saved bytes, got " + std::to_string(longer.size()));
  CHECK(same_bits(run(layer, q, other), y_before));
  std::vector<std::byte> buffer(bytes.size() - 1, std::byte{7});
  CHECK(std::string(cache.save(buffer).text()) ==
        "kv_cache: expected " + size + " bytes to save to, got " + std::to_string(bytes.size() - 1));
  CHECK(std::count(buffer.begin(), buffer.end(), std::byte{7}) == static_cast<std::ptrdiff_t>(buffer.size()));

  // Of another shape, capacity or arithmetic.
  const auto complaint_of = [&](auto&& into) { return std::string(into.restore(bytes).text()); };
  CHECK(complaint_of(cache_of<TestType>({2, 40, 25, 64})) ==
        "kv_cache: expected a saved cache of " + name + ", 2 heads, sizes 40 and 25, got one of something else");
  CHECK(complaint_of(cache_of<TestType>(room(49))).find("expected at most 49 saved tokens") != std::string::npos);
  CHECK(complaint_of(cache_of<TestType>(room(49, cache_form::ring))).find("expected at most 49") != std::string::npos);
  using different = std::conditional_t<std::is_same_v<TestType, mac::bf16>, mac::fp16, mac::bf16>;
  CHECK(complaint_of(cache_of<different>(room(64))) == "kv_cache: expected a saved cache of " +
                                                           std::string(different::name) +
                                                           ", 2 heads, sizes 40 and 24, got one of something else");
  CHECK(complaint_of(cache_of<TestType>(room(50, cache_form::ring))) == "");

  {
    const no_allocation trap;
    static_cast<void>(other.restore(bytes));
  }
  CHECK(other.size() == 50);
  CHECK((saved(other) == bytes));
  CHECK(same_bits(run(layer, q, other), y));
  append(other, s.k, s.v, 50, 64);
  append(cache, s.k, s.v, 50, 64);
  CHECK((saved(other) == saved(cache)));
  CHECK(same_bits(run(layer, q, other), run(layer, q, cache)));
  // A ring that has dropped tokens does not fit a cache that has them all.
  cache_of<TestType> ring(room(10, cache_form::ring));
  append(ring, s.k, s.v, 0, 50);
  CHECK(std::string(other.restore(saved(ring)).text()) ==
        "kv_cache: expected at most 64 saved tokens, from the first one on unless the cache is a ring, got 10 of 50");
  CHECK(other.size() == 64);
}

TEMPLATE_TEST_CASE("what does not fit a cache changes nothing", POLYMAC_CACHES) {
  POLYMAC_RANDOM(random, 10);
  const sequence s(random, 30);
  cache_of<TestType> cache(room(20));
  append(cache, s.k, s.v, 0, 12);
  const auto before = saved(cache);
  CHECK(std::string(cache.append(tokens(s.k, 12, 21), tokens(s.v, 12, 21)).text()) ==
        "kv_cache: expected at most 8 more tokens (capacity 20, 12 held), got 9");
  const auto error_of = [&](const auto& change) {
    auto k = tokens(s.k, 12, 15), v = tokens(s.v, 12, 15);
    change(k, v);
    const std::string text(cache.append(k, v).text());
    CHECK((saved(cache) == before));
    return text;
  };
  const std::string expected = "kv_cache: expected keys of 1 x tokens x 2 x 40 and values of 1 x tokens x 2 x 24, got ";
  CHECK(error_of([](auto& k, auto&) { k.size = 39; }) == expected + "1 x 3 x 2 x 39 and 1 x 3 x 2 x 24");
  CHECK(error_of([](auto& k, auto&) { k.batch = 2; }) == expected + "2 x 3 x 2 x 40 and 1 x 3 x 2 x 24");
  CHECK(error_of([](auto&, auto& v) { v.tokens = 2; }) == expected + "1 x 3 x 2 x 40 and 1 x 2 x 2 x 24");
  CHECK(error_of([](auto&, auto& v) { v.heads = 1; }) == expected + "1 x 3 x 2 x 40 and 1 x 3 x 1 x 24");
  CHECK(error_of([](auto& k, auto&) { k.data = nullptr; }) == "kv_cache: the view of the keys has no data");
  CHECK(error_of([](auto&, auto& v) { v.data = nullptr; }) == "kv_cache: the view of the values has no data");
  append(cache, s.k, s.v, 12, 20);
  CHECK(cache.size() == 20);
  const auto make = [](const kv_cache_shape& of) { return complaint([&] { const cache_of<TestType> c(of); }); };
  CHECK(make({0, 8, 8, 8}) ==
        "kv_cache: expected heads, sizes and capacity in [1, 2147483648], got 0 heads, sizes 8 and 8, capacity 8");
  CHECK(make({1, 0, 8, 8}) != "");
  CHECK(make({1, 8, 0, 8}) != "");
  CHECK(make({1, 8, 8, 0}) != "");
  CHECK(make({std::size_t{1} << 31, std::size_t{1} << 31, 8, std::size_t{1} << 31}) ==
        "kv_cache: 2147483648 tokens of 2147483648 heads, sizes 2147483648 and 8, exceed the address space");

  const reader_of<TestType> layer(shape, {.direction = causal::bottom_right});
  heads q(1, 3, 8, 40), y(1, 3, 8, 24);
  std::vector<std::byte> memory(layer.workspace_bytes(3, cache));
  const auto refused = [&](const auto& with, const auto& over, const heads& of, std::size_t bytes) {
    return std::string(with(of.view(), over, y.view(), polymac::workspace(memory.data(), bytes)).text());
  };
  CHECK(refused(layer, cache, q, memory.size() - 1) == "attention: expected a workspace of " +
                                                           std::to_string(memory.size()) + " bytes, got " +
                                                           std::to_string(memory.size() - 1));
  CHECK(refused(reader_of<TestType>(shape, {.direction = causal::top_left}), cache, q, memory.size()) ==
        "attention: the queries of a cache are its last tokens: expected causal::bottom_right or causal::none");
  CHECK(refused(layer, cache_of<TestType>({2, 40, 25, 8}), q, memory.size()) ==
        "attention: expected a cache of 2 heads, sizes 40 and 24, got 2, 40 and 25");
  CHECK(refused(layer, cache_of<TestType>(room(8)), q, memory.size()) ==
        "attention: expected at most 0 queries, as many as the cache has tokens, got 3");
}

TEST_CASE("bytes per token") {
  const auto extra = [](bool shifts) { return shifts ? std::size_t{4} : std::size_t{0}; };
  using atom = polymac::isa::best_atom<mac::int8, polymac::isa::native>;
  const bool shifts = atom::activation_offset != 0;
  constexpr kv_cache_shape s{3, 40, 24, 100};
  CHECK(cache_of<mac::float32>::bytes_per_token(s) == 768);
  CHECK(cache_of<mac::fp16>::bytes_per_token(s) == 384);
  CHECK(cache_of<mac::bf16>::bytes_per_token(s) == 384);
  CHECK(cache_of<mac::int8>::bytes_per_token(s) == 3 * (64 + 8 + extra(shifts)));
  CHECK(cache_of<four_bits>::bytes_per_token(s) == 3 * (32 + 8 + extra(shifts)));
  CHECK(cache_of<four_bits>::bytes_per_token({1, 3, 2, 1}) == 3 + 8 + extra(shifts));
  const cache_of<mac::float32> cache(s);
  CHECK(cache.bytes_per_token() == 768);
  CHECK(cache.bytes() >= 76800);
  CHECK(cache.bytes() < 140000);  // whole panels
  CHECK(cache.capacity() == 100);
}
