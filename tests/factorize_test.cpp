// SPDX-License-Identifier: MIT
// The two thin matrices whose product is nearest to given weights.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/adapt/low_rank.hpp>

#include <cmath>
#include <cstddef>
#include <string_view>
#include <vector>

using namespace polymac;

TEST_CASE("factorize: weights of low rank come back, others as near as their singular values say") {
  const bool is_wide = GENERATE(false, true);
  const std::size_t columns = is_wide ? 11 : 14, depth = is_wide ? 14 : 11;
  POLYMAC_RANDOM(random, 8);
  const auto a = polymac_test::uniform<float>(random, columns * 3), b = polymac_test::uniform<float>(random, 3 * depth);
  std::vector<float> w(columns * depth), v(3 * depth), u(columns * 3);
  for (std::size_t c = 0; c < columns; ++c)
    for (std::size_t k = 0; k < depth; ++k)
      for (std::size_t r = 0; r < 3; ++r) w[c * depth + k] += a[c * 3 + r] * b[r * depth + k];
  const matrix_view<const float> view(w.data(), columns, depth);
  double error = 1;
  REQUIRE(adapt::factorize<3>(view, {v.data(), 3, depth}, {u.data(), columns, 3}, &error).ok());
  CHECK(error < 1e-6);
  const auto distance = [&](std::size_t rank) {
    double left = 0, all = 0;
    for (std::size_t c = 0; c < columns; ++c)
      for (std::size_t k = 0; k < depth; ++k) {
        double sum = static_cast<double>(w[c * depth + k]);
        all += sum * sum;
        for (std::size_t r = 0; r < rank; ++r)
          sum -= static_cast<double>(u[c * rank + r]) * static_cast<double>(v[r * depth + k]);
        left += sum * sum;
      }
    return std::sqrt(left / all);
  };
  CHECK(distance(3) < 1e-6);
  REQUIRE(adapt::factorize<2>(view, {v.data(), 2, depth}, {u.data(), columns, 2}, &error).ok());
  CHECK(distance(2) == Approx(error).margin(1e-6));
  CHECK(error > 0.01);
  // No other pair is nearer: those of two of the three terms are not.
  for (std::size_t left_out = 0; left_out < 3; ++left_out) {
    double left = 0, all = 0;
    for (std::size_t c = 0; c < columns; ++c)
      for (std::size_t k = 0; k < depth; ++k) {
        const double term = static_cast<double>(a[c * 3 + left_out]) * static_cast<double>(b[left_out * depth + k]);
        left += term * term;
        all += static_cast<double>(w[c * depth + k]) * static_cast<double>(w[c * depth + k]);
      }
    CHECK(error <= std::sqrt(left / all) + 1e-9);
  }
  // diag(4, 3): rank 1 keeps the 4, with its root on both sides.
  const std::vector<float> diagonal{3, 0, 0, 4};
  std::vector<float> v1(2), u1(2);
  REQUIRE(adapt::factorize<1>(image_view<const float>(diagonal.data(), 2, 1, 2, 1), {v1.data(), 1, 2},
                              {u1.data(), 2, 1}, &error)
              .ok());
  CHECK(error == Approx(0.6));
  CHECK(std::abs(v1[1]) == Approx(2));
  CHECK(v1[1] * u1[1] == Approx(4));
  CHECK(v1[0] * u1[0] == Approx(0).margin(1e-6));
  // A rank beyond the extents: the rest is zeros.
  std::vector<float> v3(3 * 2), u3(2 * 3);
  REQUIRE(
      adapt::factorize<3>(matrix_view<const float>(diagonal.data(), 2, 2), {v3.data(), 3, 2}, {u3.data(), 2, 3}, &error)
          .ok());
  CHECK(error < 1e-12);
  CHECK(v3[4] == 0);
  CHECK(v3[5] == 0);

  CHECK(adapt::factorize<2>(view, {v.data(), 3, depth}, {u.data(), columns, 2}).code() == errc::shape);
  w[5] = INFINITY;
  CHECK(adapt::factorize<2>(view, {v.data(), 2, depth}, {u.data(), columns, 2}).text().find("column 0, k 5") !=
        std::string_view::npos);
}
