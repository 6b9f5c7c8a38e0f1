// SPDX-License-Identifier: MIT
// N:M weights: pruning, what is refused, and the 2:4 form with nibbles.
#include "catch.hpp"
#include "support/complaint.hpp"
#include "support/random.hpp"

#include <polymac/sparsity.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

using namespace polymac;
using policy::n_of_m;
using policy::share;
using polymac_test::complaint;

namespace {

std::vector<std::int8_t> pruned(std::vector<std::int8_t> w) {
  policy::prune<n_of_m<2, 4>>(matrix_view<std::int8_t>(w.data(), 1, w.size()));
  return w;
}

// A dense layer has the atom, and with it every function, that it would have without policies.
static_assert(
    std::is_same_v<isa::policy_atom<mac::int8, isa::native, policy::dense>, isa::best_atom<mac::int8, isa::native>>);
static_assert(
    std::is_same_v<decltype(linear<mac::int8>(matrix_view<const std::int8_t>(), std::vector<int>())),
                   decltype(linear<mac::int8, policy::dense>(matrix_view<const std::int8_t>(), std::vector<int>()))>);

}  // namespace

TEST_CASE("the largest magnitudes are kept, of equals the lower k") {
  CHECK(pruned({1, 2, 3, 4}) == std::vector<std::int8_t>{0, 0, 3, 4});
  CHECK(pruned({0, 7, -9, 3}) == std::vector<std::int8_t>{0, 7, -9, 0});
  CHECK(pruned({5, -5, 5, -5}) == std::vector<std::int8_t>{5, -5, 0, 0});
  CHECK(pruned({-128, 127, 127, 127}) == std::vector<std::int8_t>{-128, 127, 0, 0});
  CHECK(pruned({1, 2, 3, 4, 9, 8, 7}) == std::vector<std::int8_t>{0, 0, 3, 4, 9, 8, 0});
  std::vector<float> f{-0.5F, 0.25F, 0.5F, 0.125F};
  policy::prune<n_of_m<1, 4>>(matrix_view<float>(f.data(), 1, 4));
  CHECK(f == std::vector<float>{-0.5F, 0, 0, 0});
}

TEST_CASE("what is kept of a group is the most that can be kept") {
  polymac_test::random_source random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::int8_t> w(8);
    for (auto& v : w) v = static_cast<std::int8_t>(random.integer(-128, 127));
    std::vector<int> magnitudes;
    for (const auto v : w) magnitudes.push_back(std::abs(int{v}));
    std::sort(magnitudes.rbegin(), magnitudes.rend());
    auto p = w;
    policy::prune<n_of_m<3, 8>>(matrix_view<std::int8_t>(p.data(), 1, 8));
    int kept = 0;
    for (std::size_t k = 0; k < 8; ++k) {
      CHECK((p[k] == 0 || p[k] == w[k]));
      kept += std::abs(int{p[k]});
    }
    CHECK(kept == magnitudes[0] + magnitudes[1] + magnitudes[2]);
  }
}

TEST_CASE("columns that share keep the k of the largest sums") {
  // Columns 0 to 3 share, 4 and 5 by themselves.
  std::vector<std::int8_t> w{9, 0, 0, 1, 9, 0, 0, 1, 0, 5, 0, 1, 0, 0, 4, 1, 1, 2, 3, 4, 4, 3, 2, 1};
  policy::prune<n_of_m<2, 4, share::four>>(matrix_view<std::int8_t>(w.data(), 6, 4));
  CHECK(w == std::vector<std::int8_t>{9, 0, 0, 0, 9, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 4, 3, 0, 0});
}

TEST_CASE("groups of a convolution lie along the channels of a tap") {
  std::vector<std::int8_t> w(2 * 1 * 2 * 6);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::int8_t>(i + 1);
  policy::prune<n_of_m<2, 4>>(image_view<std::int8_t>(w.data(), 2, 1, 2, 6));
  CHECK(w ==
        std::vector<std::int8_t>{0, 0, 3, 4, 5, 6, 0, 0, 9, 10, 11, 12, 0, 0, 15, 16, 17, 18, 0, 0, 21, 22, 23, 24});
}

TEST_CASE("weights that break their pattern are refused, and the message says where") {
  std::vector<std::int8_t> w(2 * 8, 0);
  w[8 + 4] = 1, w[8 + 5] = 2, w[8 + 7] = 3;
  const std::vector<int> bias(2);
  const matrix_view<const std::int8_t> view(w.data(), 2, 8);
  const auto text = complaint([&] { static_cast<void>(linear<mac::int8, n_of_m<2, 4>>(view, bias)); });
  CHECK(text.find("n_of_m<2, 4>") != std::string::npos);
  CHECK(text.find("k 4 to 7 of column 1") != std::string::npos);
  CHECK(text.find("got 3") != std::string::npos);
  CHECK(complaint([&] { static_cast<void>(linear<mac::int8, n_of_m<3, 4>>(view, bias)); }).empty());

  // Taps of 3 channels: a group that reached into the next one would have three.
  std::vector<std::int8_t> taps{1, 0, 0, 1, 1, 0};
  const image_view<const std::int8_t> good(taps.data(), 1, 1, 2, 3);
  CHECK(complaint([&] { static_cast<void>(conv2d<mac::int8, n_of_m<2, 4>>({}, good, std::vector<int>(1))); }).empty());
  taps[5] = 1;
  CHECK(complaint([&] {
          static_cast<void>(conv2d<mac::int8, n_of_m<2, 4>>({}, good, std::vector<int>(1)));
        }).find("k 3 to 5") != std::string::npos);

  // Columns that share.
  std::vector<std::int8_t> shared{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  const matrix_view<const std::int8_t> three(shared.data(), 3, 4);
  CHECK(complaint([&] { static_cast<void>(linear<mac::int8, n_of_m<2, 4>>(three, std::vector<int>(3))); }).empty());
  CHECK(complaint([&] {
          static_cast<void>(linear<mac::int8, n_of_m<2, 4, share::four>>(three, std::vector<int>(3)));
        }).find("columns 0 and those it shares with") != std::string::npos);
}

TEST_CASE("a weight is 0 less its zero point") {
  const std::vector<std::int8_t> w{5, 7, 5, 8};
  const std::vector<std::int32_t> zeros{5};
  const matrix_view<const std::int8_t> view(w.data(), 1, 4);
  CHECK(complaint([&] { static_cast<void>(linear<mac::int8, n_of_m<2, 4>>(view, std::vector<int>(1))); }) != "");
  const auto layer = linear<mac::int8, policy::always<n_of_m<2, 4>>>(view, std::vector<int>(1), {}, {0, zeros});
  const std::vector<std::int8_t> x{1, 2, 4, 8};
  int y = 0;
  REQUIRE(layer({x.data(), 1, 4}, {&y, 1, 1}).ok());
  CHECK(y == 2 * 2 + 8 * 3);
}

TEST_CASE("the sixteen nibbles") {
  // As PyTorch's converter has them: bit i of the index is weight i.
  constexpr unsigned expected[16] = {0b1110, 0b1100, 0b1101, 0b0100, 0b1110, 0b1000, 0b1001, 0b1000,
                                     0b1110, 0b1100, 0b1101, 0b0100, 0b1110, 0b1000, 0b1001, 0b1000};
  for (unsigned i = 0; i < 16; ++i)
    CHECK(policy::two_of_four::nibble((i & 1) != 0, (i & 2) != 0, (i & 4) != 0, (i & 8) != 0) == expected[i]);
  std::size_t first = 0, second = 0;
  int valid = 0;
  for (unsigned i = 0; i < 16; ++i) valid += policy::two_of_four::places_of(i, first, second) ? 1 : 0;
  CHECK(valid == 6);
}

TEST_CASE("2:4 weights become values and nibbles, and back") {
  polymac_test::random_source random(2);
  std::vector<std::int8_t> w(5 * 64);
  for (auto& v : w) v = static_cast<std::int8_t>(random.integer(-3, 3));
  policy::prune<n_of_m<2, 4>>(matrix_view<std::int8_t>(w.data(), 5, 64));
  std::vector<std::int8_t> values(5 * 32), back(5 * 64, 99);
  std::vector<std::uint8_t> nibbles(5 * 8);
  const matrix_view<std::uint8_t> n(nibbles.data(), 5, 8);
  REQUIRE(policy::two_of_four::write(matrix_view<const std::int8_t>(w.data(), 5, 64),
                                     matrix_view<std::int8_t>(values.data(), 5, 32), n)
              .ok());
  REQUIRE(policy::two_of_four::read(matrix_view<const std::int8_t>(values.data(), 5, 32),
                                    matrix_view<const std::uint8_t>(n), matrix_view<std::int8_t>(back.data(), 5, 64))
              .ok());
  CHECK(back == w);

  const std::vector<std::int8_t> golden{0, 7, -9, 3, 0, 0, 0, 0};
  auto two = pruned(golden);
  REQUIRE(policy::two_of_four::write(matrix_view<const std::int8_t>(two.data(), 1, 8),
                                     matrix_view<std::int8_t>(values.data(), 1, 4),
                                     matrix_view<std::uint8_t>(nibbles.data(), 1, 1))
              .ok());
  CHECK((values[0] == 7 && values[1] == -9 && (nibbles[0] & 15) == 0b1001));

  // Three of four: nothing is dropped silently. A nibble that names one place twice.
  const auto refused = policy::two_of_four::write(matrix_view<const std::int8_t>(golden.data(), 1, 8),
                                                  matrix_view<std::int8_t>(values.data(), 1, 4),
                                                  matrix_view<std::uint8_t>(nibbles.data(), 1, 1));
  CHECK(refused.code() == errc::parameter);
  nibbles[0] = 0xE5;
  const auto corrupt = policy::two_of_four::read(matrix_view<const std::int8_t>(values.data(), 1, 4),
                                                 matrix_view<const std::uint8_t>(nibbles.data(), 1, 1),
                                                 matrix_view<std::int8_t>(back.data(), 1, 8));
  CHECK(corrupt.code() == errc::corrupt);
  CHECK(policy::two_of_four::read(matrix_view<const std::int8_t>(values.data(), 1, 4),
                                  matrix_view<const std::uint8_t>(nibbles.data(), 1, 2),
                                  matrix_view<std::int8_t>(back.data(), 1, 8))
            .code() == errc::shape);
}

TEST_CASE("explain() says which kernel runs and why") {
  std::vector<std::int8_t> w(32 * 64, 0);
  const matrix_view<const std::int8_t> view(w.data(), 32, 64);
  const std::vector<int> bias(32);
  const auto says = [&](const auto& layer, const char* words) {
    return std::string(layer.explain().c_str()).find(words) != std::string::npos;
  };
  CHECK(says(linear<mac::int8, isa::scalar>(view, bias), "dense weights"));
  CHECK(says(linear<mac::int8, n_of_m<2, 4>, isa::scalar>(view, bias), "not written for this set"));
  CHECK(says(linear<mac::int8, policy::always<n_of_m<2, 4>>, isa::scalar>(view, bias),
             "2 of 4 products, generic kernel"));
  if constexpr (isa::is_compiled<isa::avx2>)
    CHECK(says(linear<mac::int8, n_of_m<1, 16>, isa::avx2>(view, bias), "1 of 4 products, predicted 2.40 x dense"));
}
