// SPDX-License-Identifier: MIT
// Patterns of taps, unified and polarised weights: how weights are brought there, what is refused, and the sums.
#include "catch.hpp"
#include "support/complaint.hpp"
#include "support/random.hpp"

#include <polymac/sparsity.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

using namespace polymac;
using policy::polarised;
using policy::unified;
using polymac_test::complaint;

TEST_CASE("unified and polarised weights: goldens") {
  std::vector<std::int8_t> w{3, -1, 2, -2};
  policy::prune<unified<4>>(matrix_view<std::int8_t>(w.data(), 1, 4));
  CHECK(w == std::vector<std::int8_t>{2, -2, 2, -2});
  w = {3, -1, 2, -2};
  policy::prune<polarised<4>>(matrix_view<std::int8_t>(w.data(), 1, 4));
  CHECK(w == std::vector<std::int8_t>{3, 0, 2, 0});
  // A mean of 2.5 rounds to even, -128 has no counterpart, a sum of 0 is positive, a short block ends the row.
  w = {2, 3, -128, -128, -5, 5, 7};
  policy::prune<unified<2>>(matrix_view<std::int8_t>(w.data(), 1, 7));
  CHECK(w == std::vector<std::int8_t>{2, 2, -127, -127, -5, 5, 7});
  w = {-5, 5, -6, 5, 1};
  policy::prune<polarised<2>>(matrix_view<std::int8_t>(w.data(), 1, 5));
  CHECK(w == std::vector<std::int8_t>{0, 5, -6, 0, 1});
  std::vector<float> f{0.5F, -1.5F, 0, 0};
  policy::prune<unified<2>>(matrix_view<float>(f.data(), 1, 4));
  CHECK(f == std::vector<float>{1, -1, 0, 0});
}

TEST_CASE("unified and polarised weights: the nearest, once for all, and checked") {
  polymac_test::random_source random(1);
  std::vector<std::int8_t> w(6 * 3 * 3 * 10);
  for (auto& v : w) v = static_cast<std::int8_t>(random.integer(-128, 127));
  const image_view<std::int8_t> filters(w.data(), 6, 3, 3, 10);
  const std::vector<int> bias(6);
  const image_view<const std::int8_t> weights(filters);
  CHECK(complaint([&] {
          static_cast<void>(conv2d<mac::int8, unified<4>>({}, weights, bias));
        }).find("unified<4> expects weights of one magnitude in k 0 to 3 of column 0") != std::string::npos);
  CHECK(complaint([&] {
          static_cast<void>(conv2d<mac::int8, polarised<8>>({}, weights, bias));
        }).find("expects weights of one sign") != std::string::npos);
  const auto before = w;
  policy::prune<polarised<8>>(filters);
  for (std::size_t i = 0; i < w.size(); ++i) CHECK((w[i] == before[i] || w[i] == 0));
  auto once = w;
  policy::prune<polarised<8>>(filters);
  CHECK(w == once);
  CHECK(complaint([&] { static_cast<void>(conv2d<mac::int8, polarised<8>>({}, weights, bias)); }).empty());
  policy::prune<unified<4>>(filters);
  once = w;
  policy::prune<unified<4>>(filters);
  CHECK(w == once);
  const auto layer = conv2d<mac::int8, unified<4>>({}, weights, bias);
  CHECK(std::string(layer.explain().c_str()).find("kept dense") != std::string::npos);
}

TEST_CASE("patterns: at most so many, of so many taps, with the centre, and the best of them") {
  using P = policy::pattern<4, 3, 16>;
  polymac_test::random_source random(2);
  const std::size_t filters = 37, channels = 10;
  std::vector<std::int8_t> w(filters * 9 * channels);
  for (auto& v : w) v = static_cast<std::int8_t>(random.integer(-128, 127));
  const auto before = w;
  const auto set = policy::prune<P>(image_view<std::int8_t>(w.data(), filters, 3, 3, channels));
  REQUIRE((!set.empty() && set.size() <= 3));
  for (const auto p : set) CHECK((std::popcount(p) == 4 && (p & P::centre) != 0));
  std::set<unsigned> found;
  for (std::size_t o = 0; o < filters; o += 16)
    for (std::size_t i = 0; i < channels; i += 4) {
      std::vector<double> scores(9);
      unsigned live = 0;
      for (std::size_t t = 0; t < 9; ++t)
        for (std::size_t c = o; c < std::min(o + 16, filters); ++c)
          for (std::size_t k = i; k < std::min(i + 4, channels); ++k) {
            const std::size_t at = (c * 9 + t) * channels + k;
            CHECK((w[at] == before[at] || w[at] == 0));
            scores[t] += double(before[at]) * double(before[at]);
            if (w[at] != 0) live |= 1U << t;
          }
      found.insert(live);
      const auto kept = [&](unsigned p) {
        double sum = 0;
        for (std::size_t t = 0; t < 9; ++t) sum += (p >> t & 1U) != 0 ? scores[t] : 0;
        return sum;
      };
      for (const auto p : set) CHECK(kept(p) <= kept(live));
    }
  CHECK(found.size() <= set.size());

  const image_view<const std::int8_t> weights(w.data(), filters, 3, 3, channels);
  const std::vector<int> bias(filters, 3);
  const auto sparse = conv2d<mac::int8, policy::always<P>>({.padding = same}, weights, bias);
  const auto golden = conv2d<mac::int8, isa::scalar>({.padding = same}, weights, bias);
  std::vector<std::int8_t> x(6 * 7 * channels);
  for (auto& v : x) v = static_cast<std::int8_t>(random.integer(-128, 127));
  std::vector<int> y(6 * 7 * filters), expected(6 * 7 * filters);
  std::vector<std::byte> memory(std::max(sparse.workspace_bytes({6, 7}), golden.workspace_bytes({6, 7})));
  const image_view<const std::int8_t> picture(x.data(), 1, 6, 7, channels);
  REQUIRE(sparse(picture, {y.data(), 1, 6, 7, filters}, workspace(memory)).ok());
  REQUIRE(golden(picture, {expected.data(), 1, 6, 7, filters}, workspace(memory)).ok());
  CHECK(y == expected);
  CHECK(std::string(sparse.explain().c_str()).find("4 % of the products") != std::string::npos);  // 44 %

  // Connectivity: half of the kernels go, and need no pattern. What breaks the rule is refused.
  policy::prune<P>(image_view<std::int8_t>(w.data(), filters, 3, 3, channels), 0.5);
  CHECK(complaint([&] { static_cast<void>(conv2d<mac::int8, P>({}, weights, bias)); }).empty());
  w = before;
  CHECK(complaint([&] {
          static_cast<void>(conv2d<mac::int8, P>({}, weights, bias));
        }).find("expects at most 4 taps with the centre among them, got 9") != std::string::npos);
  CHECK(complaint([&] {
          static_cast<void>(
              conv2d<mac::int8, P>({}, image_view<const std::int8_t>(w.data(), 9, 2, 2, 5), std::vector<int>()));
        }).find("expects kernels of 3 x 3, got 4 taps") != std::string::npos);
}
