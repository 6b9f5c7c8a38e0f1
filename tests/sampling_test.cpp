// SPDX-License-Identifier: MIT
// Tokens from logits: the largest, and draws whose frequencies are those of the softmax and of its nucleus.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/complaint.hpp"

#include <polymac/model/sampling.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string_view>
#include <vector>

using namespace polymac;
using model::sampler;

namespace {

/// Gives what it is told: the draw of a token is a function of 24 bits.
struct fixed {
  using result_type = std::uint32_t;
  result_type value;
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return 0xFFFFFFFFU; }
  result_type operator()() noexcept { return value; }
};

/// Where in [0, 1) the tokens are drawn, in 4096 steps.
std::vector<double> frequencies(const std::vector<float>& logits, const model::sampling& how) {
  sampler s(logits.size(), how);
  std::vector<double> found(logits.size());
  for (std::uint32_t i = 0; i < 4096; ++i) {
    fixed g{i << 12 | 0xAB000000U};
    const auto token = s(logits, g);
    REQUIRE(token.ok());
    found[static_cast<std::size_t>(*token)] += 1.0 / 4096;
  }
  return found;
}

}  // namespace

TEST_CASE("the most likely token is the first of the largest") {
  CHECK(*model::most_likely(std::vector<float>{1, 3, 2, 3}) == 1);
  CHECK(*model::most_likely(std::vector<float>{-5}) == 0);
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(*model::most_likely(std::vector<float>{-inf, 0, inf, 1}) == 2);
  CHECK(model::most_likely({}).status().code() == errc::shape);
  const auto refused = model::most_likely(std::vector<float>{1, 2, nan});
  CHECK(refused.status().text() == "sampling: expected numbers, logit 2 is NaN");
  sampler s(4, {});
  fixed g{0x123456};
  CHECK(*s(std::vector<float>{1, 3, 2, 3}, g) == 1);
}

TEST_CASE("draws have the frequencies of the softmax") {
  const std::vector<float> logits{0, std::log(2.0F), std::log(5.0F), -40, 0};
  const auto at_1 = frequencies(logits, {1, 1});
  for (std::size_t i = 0; i < 5; ++i)
    CHECK(std::abs(at_1[i] - std::vector<double>{1.0 / 9, 2.0 / 9, 5.0 / 9, 0, 1.0 / 9}[i]) < 1e-3);
  const auto at_half = frequencies(logits, {0.5F, 1});  // squares
  for (std::size_t i = 0; i < 5; ++i)
    CHECK(std::abs(at_half[i] - std::vector<double>{1.0 / 31, 4.0 / 31, 25.0 / 31, 0, 1.0 / 31}[i]) < 1e-3);
}

TEST_CASE("a nucleus is the fewest tokens that sum to top_p") {
  const std::vector<float> logits{0, std::log(2.0F), std::log(5.0F), -40, 0};
  const auto check = [&](float top_p, std::vector<double> expected) {
    INFO(top_p);
    const auto found = frequencies(logits, {1, top_p});
    for (std::size_t i = 0; i < 5; ++i) CHECK(std::abs(found[i] - expected[i]) < 1e-3);
  };
  check(0.5F, {0, 0, 1, 0, 0});
  check(0.6F, {0, 2.0 / 7, 5.0 / 7, 0, 0});
  check(0.8F, {1.0 / 8, 2.0 / 8, 5.0 / 8, 0, 0});  // of equal ones the first
  check(0.95F, {1.0 / 9, 2.0 / 9, 5.0 / 9, 0, 1.0 / 9});
  check(1e-6F, {0, 0, 1, 0, 0});
  const std::vector<float> equal(7, 1.0F);
  CHECK(frequencies(equal, {1, 0.01F})[0] == 1.0);  // the cut leaves the most likely one
  CHECK(frequencies({3.0F}, {1, 0.01F})[0] == 1.0);
}

TEST_CASE("an infinite logit is drawn always, -infinity never") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  CHECK(frequencies({0, inf, 1}, {1, 1})[1] == 1.0);
  CHECK(frequencies({0, inf, 1}, {1, 0.9F})[1] == 1.0);
  const auto found = frequencies({0, -inf, 0}, {2, 1});
  CHECK(found[0] == 0.5);
  CHECK(found[1] == 0.0);
}

TEST_CASE("a seed decides, and nothing is allocated") {
  std::vector<float> logits(100);
  for (std::size_t i = 0; i < 100; ++i) logits[i] = static_cast<float>(i % 17) * 0.3F;
  sampler s(100, {0.8F, 0.9F});
  std::mt19937 a(5), b(5), c(6);
  int different = 0;
  bool same = true;
  {
    const polymac_test::no_allocation none;
    for (int i = 0; i < 50; ++i) {
      const auto x = s(logits, a), y = s(logits, b), z = s(logits, c);
      same = same && *x == *y;
      different += *x != *z;
    }
  }
  CHECK(same);
  CHECK(different > 10);
}

TEST_CASE("what is no sampling is refused") {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float t : {-0.5F, inf, nan})
    CHECK(polymac_test::complaint([&] { sampler(3, {t, 1}); }) == "sampling: expected a temperature of at least 0");
  for (const float p : {0.0F, -1.0F, 1.5F, nan})
    CHECK(polymac_test::complaint([&] { sampler(3, {1, p}); }) == "sampling: expected a top_p above 0 and at most 1");
  sampler s(3, {1, 1});
  fixed g{0};
  CHECK(s(std::vector<float>{1, 2}, g).status().text() == "sampling: expected 3 logits, got 2");
  CHECK(s(std::vector<float>{1, nan, 2}, g).status().code() == errc::parameter);
}
