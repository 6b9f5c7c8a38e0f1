// SPDX-License-Identifier: MIT
// Linear and gated layers on reals in arithmetics on codes: within what the encodings cost of loops in double.
#include "catch.hpp"
#include "support/complaint.hpp"
#include "support/random.hpp"

#include <polymac/isa/arithmetic_atoms.hpp>
#include <polymac/kernel/functions.hpp>
#include <polymac/layer/encoded_linear.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

using namespace polymac;

namespace {

struct problem {
  std::size_t rows, columns, depth;
  std::vector<float> x, w;
  matrix_view<const float> input() const { return {x.data(), rows, depth}; }
  matrix_view<const float> weights() const { return {w.data(), columns, depth}; }
};
problem seeded(std::size_t rows, std::size_t columns, std::size_t depth) {
  polymac_test::random_source random(11);
  problem p{rows, columns, depth, std::vector<float>(rows * depth), std::vector<float>(columns * depth)};
  for (float& v : p.x) v = random.unit() * 6.0F - 3.0F;
  for (float& v : p.w) v = random.unit() - 0.5F;
  return p;
}

/// Sum of products, and of their magnitudes.
std::array<double, 2> exact(const problem& p, std::size_t r, std::size_t c) {
  double sum = 0, magnitude = 0;
  for (std::size_t k = 0; k < p.depth; ++k) {
    const double product = static_cast<double>(p.x[r * p.depth + k]) * static_cast<double>(p.w[c * p.depth + k]);
    sum += product;
    magnitude += std::abs(product);
  }
  return {sum, magnitude};
}

/// `share`: error of the encodings and of the products as a part of the sum of magnitudes.
template <class M>
void check(double share) {
  INFO(M::name);
  for (const auto& p : {seeded(1, 40, 64), seeded(5, 19, 44), seeded(3, 3, 7)}) {
    // In two matrices of unequal size.
    const std::array<matrix_view<const float>, 2> parts{
        matrix_view<const float>{p.w.data(), 2, p.depth},
        matrix_view<const float>{p.w.data() + 2 * p.depth, p.columns - 2, p.depth}};
    const layer::encoded_linear<M> l(parts);
    CHECK(l.columns() == p.columns);
    CHECK(l.depth() == p.depth);
    std::vector<std::byte> memory(l.workspace_bytes(p.rows) + 1);
    std::vector<float> y(p.rows * (p.columns + 3), -7.0F);
    const matrix_view<float> to(y.data(), p.rows, p.columns, p.columns + 3);
    const workspace ws(memory.data() + 1, memory.size() - 1);
    const status s = l(p.input(), to, ws);
    INFO(std::string(s.text()));
    REQUIRE(s.ok());
    for (std::size_t r = 0; r < p.rows; ++r) {
      for (std::size_t c = 0; c < p.columns; ++c) {
        const auto [sum, magnitude] = exact(p, r, c);
        INFO(r << ", " << c << ": " << to(r, c) << " for " << sum);
        CHECK(std::abs(static_cast<double>(to(r, c)) - sum) <= share * magnitude + 1e-6);
      }
      for (std::size_t c = p.columns; c < to.stride; ++c) CHECK(y[r * to.stride + c] == -7.0F);
    }
    if constexpr (layer::encoded_linear<M>::reads_back) {
      std::vector<float> row(p.depth);
      l.read(p.columns - 1, row.data());
      for (std::size_t k = 0; k < p.depth; ++k)
        CHECK(std::abs(row[k] - p.w[(p.columns - 1) * p.depth + k]) <= static_cast<float>(share));
    }
    // NaN in a row is in all of its results, and in no other's.
    if (p.rows > 1) {
      std::vector<float> broken = p.x;
      broken[p.depth + 1] = std::numeric_limits<float>::quiet_NaN();
      REQUIRE(l({broken.data(), p.rows, p.depth}, to, ws).ok());
      for (std::size_t c = 0; c < p.columns; ++c) {
        CHECK(std::isnan(to(1, c)));
        CHECK_FALSE(std::isnan(to(0, c)));
      }
    }
    if (l.workspace_bytes(1) > 0) {
      const status short_one = l(p.input(), to, {memory.data(), l.workspace_bytes(p.rows) - 1});
      CHECK(short_one.code() == errc::short_buffer);
    }
    CHECK(l({p.x.data(), p.rows, p.depth - 1}, to, ws).code() == errc::shape);
  }
}

template <class M>
void check_gated(double share) {
  INFO(M::name);
  const problem p = seeded(3, 38, 44);
  const matrix_view<const float> gate(p.w.data(), 19, 44), up(p.w.data() + 19 * 44, 19, 44);
  const layer::encoded_gated<M, activation::silu> l(gate, up);
  CHECK(l.columns() == 19);
  std::vector<std::byte> memory(l.workspace_bytes(3));
  std::vector<float> y(3 * 19);
  const status s = l(p.input(), {y.data(), 3, 19}, workspace(memory));
  INFO(std::string(s.text()));
  REQUIRE(s.ok());
  for (std::size_t r = 0; r < 3; ++r)
    for (std::size_t c = 0; c < 19; ++c) {
      const auto [a, a_magnitude] = exact(p, r, c);
      const auto [b, b_magnitude] = exact(p, r, c + 19);
      // silu grows by at most 1.1 times what its argument does.
      const double bound =
          1.1 * share * a_magnitude * (std::abs(b) + share * b_magnitude) + std::abs(a) * share * b_magnitude + 1e-5;
      INFO(r << ", " << c);
      CHECK(std::abs(static_cast<double>(y[r * 19 + c]) - a / (1 + std::exp(-a)) * b) <= bound);
    }
}

using w4 = mac::bit_weights<4, digits::twos_complement, 32>;

}  // namespace

TEST_CASE("products of reals are within what their encoding costs") {
  check<mac::float32>(1e-6);
  check<mac::bf16>(0.009);
  check<mac::int8>(0.03);  // an activation of 3 / 127 / 2, where the mean is 1.5; a weight likewise
  check<mac::dfp<std::int16_t>>(0.001);
  check<mac::l_mul<4>>(0.12);
  check<w4>(0.2);
}

TEST_CASE("so are gated ones") {
  check_gated<mac::float32>(1e-6);
  check_gated<mac::int8>(0.03);
  check_gated<w4>(0.2);
}

TEST_CASE("matrices that are no weights are refused") {
  using layer_type = layer::encoded_linear<mac::int8>;
  const std::vector<float> v(64, 1.0F);
  const auto complaint_of = [&](std::vector<matrix_view<const float>> m) {
    return polymac_test::complaint([&] { layer_type l(m); });
  };
  CHECK(complaint_of({}) == "encoded_linear: expected weights of at least 1 x 1");
  CHECK(complaint_of({{v.data(), 0, 8}}) == "encoded_linear: expected weights of at least 1 x 1");
  CHECK(complaint_of({{v.data(), 2, 8}, {v.data(), 2, 7}}) ==
        "encoded_linear: expected matrices of one depth, got 8 and 7");
  CHECK(complaint_of({{nullptr, 2, 8}}).find("no data") != std::string::npos);
  std::vector<float> nan = v;
  nan[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(complaint_of({{nan.data(), 2, 8}}).find("column 0, k 3 is NaN") != std::string::npos);
}
