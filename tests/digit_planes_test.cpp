// SPDX-License-Identifier: MIT
// Digit planes: every model of the hardware sums what integers sum, in the cycles that a count of the digits gives; and
// how many digits normal data have.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/probe/digit_planes.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "support/test_code.hpp"

namespace digits = polymac::digits;
using polymac::matrix_view;
using polymac::probe::carry_save;
using polymac::probe::digit_planes;

namespace {

using encodings = std::tuple<digits::twos_complement, digits::sign_magnitude, digits::booth, digits::en_t, digits::naf>;

/// Probability of -128 .. 127: rounded N(0, sigma^2), others rejected; sigma 0: all alike.
std::array<double, 256> distribution(double sigma) {
  std::array<double, 256> p{};
  double total = 0;
  const auto below = [&](double x) { return 0.5 * std::erfc(-x / sigma / std::sqrt(2.0)); };
  for (int v = -128; v < 128; ++v) {
    double& q = p[static_cast<std::size_t>(v + 128)];
    q = sigma == 0 ? 1.0 : below(v + 0.5) - below(v - 0.5);
    total += q;
  }
  for (double& q : p) q /= total;
  return p;
}
template <class Count>
double mean(const std::array<double, 256>& p, const Count& count) {
  double sum = 0;
  for (int v = -128; v < 128; ++v) sum += p[static_cast<std::size_t>(v + 128)] * count(v);
  return sum;
}
template <class E>
int digits_of(int v) {
  return digits::count_of_non_zero(E::expand(v, 8));
}
template <class E>
std::array<double, 9> histogram(const std::array<double, 256>& p) {
  std::array<double, 9> h{};
  for (int v = -128; v < 128; ++v) h[static_cast<std::size_t>(digits_of<E>(v))] += p[static_cast<std::size_t>(v + 128)];
  return h;
}
/// Mean of the largest of `lanes` independent counts.
double mean_of_largest(const std::array<double, 9>& h, int lanes) {
  double below = 0, mean = 0, power_before = 0;
  for (std::size_t n = 0; n < h.size(); ++n) {
    below += h[n];
    const double power = std::pow(below, lanes);
    mean += static_cast<double>(n) * (power - power_before);
    power_before = power;
  }
  return mean;
}
int bits_of_magnitude(int v) {
  int bits = 0;
  for (int m = std::abs(v); m > 0; m /= 2) ++bits;
  return bits;
}

struct row {
  double sigma, en_t, booth, naf, twos_complement, sign_magnitude, zero;
  std::array<double, 4> largest;  ///< of 4, 8, 16 and 32 lanes in EN-T; 0: not in the table
  double bits;
};
constexpr row table[] = {
    {0, 2.918, 3.000, 2.777, 4.000, 3.504, .004, {}, 6.04},
    {5, 1.399, 1.547, 1.396, 3.823, 1.463, .080, {2.00, 2.16, 2.31, 2.53}, 2.30},
    {10, 1.762, 1.926, 1.731, 3.931, 1.890, .040, {2.47, 2.74, 2.93, 3.00}, 3.14},
    {20, 2.115, 2.294, 2.063, 3.976, 2.344, .020, {2.86, 3.08, 3.23, 3.40}, 4.04},
    {30, 2.335, 2.530, 2.259, 3.988, 2.619, .013, {3.14, 3.40, 3.65, 3.88}, 4.59},
    {40, 2.490, 2.673, 2.397, 3.993, 2.815, .010, {3.32, 3.61, 3.85, 3.98}, 4.98},
    {50, 2.605, 2.769, 2.500, 3.996, 2.968, .008, {3.45, 3.73, 3.93, 4.00}, 5.26},
};

}  // namespace

TEST_CASE("Average digits of normal and uniform bytes", "[digit_planes]") {
  // Exact expectations; the table has three decimals, two in its last columns.
  for (const row& r : table) {
    INFO("sigma " << r.sigma);
    const auto p = distribution(r.sigma);
    REQUIRE(std::abs(mean(p, digits_of<digits::en_t>) - r.en_t) < 0.005);
    REQUIRE(std::abs(mean(p, digits_of<digits::booth>) - r.booth) < 0.005);
    REQUIRE(std::abs(mean(p, digits_of<digits::naf>) - r.naf) < 0.005);
    REQUIRE(std::abs(mean(p, digits_of<digits::twos_complement>) - r.twos_complement) < 0.005);
    REQUIRE(std::abs(mean(p, digits_of<digits::sign_magnitude>) - r.sign_magnitude) < 0.005);
    REQUIRE(std::abs(p[128] - r.zero) < 0.005);
    REQUIRE(std::abs(mean(p, bits_of_magnitude) - r.bits) < 0.0051);
    const auto h = histogram<digits::en_t>(p);
    for (std::size_t i = 0; i < 4; ++i)
      if (r.largest[i] > 0) REQUIRE(std::abs(mean_of_largest(h, 4 << i) - r.largest[i]) < 0.0051);
  }
  const std::array<double, 5> en_t = {.020, .196, .450, .318, .016}, booth = {.020, .152, .399, .373, .057};
  const auto p = distribution(20);
  for (std::size_t n = 0; n < 5; ++n) {
    REQUIRE(std::abs(histogram<digits::en_t>(p)[n] - en_t[n]) < 0.001);
    REQUIRE(std::abs(histogram<digits::booth>(p)[n] - booth[n]) < 0.001);
  }
}

TEST_CASE("A carry-save accumulator is a sum modulo 2^bits", "[digit_planes]") {
  POLYMAC_RANDOM(random, 41);
  carry_save<32> wide;
  carry_save<14> narrow;
  std::uint32_t total = 0;
  std::int32_t exact = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto x = static_cast<std::int32_t>(random.bits());
    wide.add(x);
    total += static_cast<std::uint32_t>(x);
    REQUIRE(wide.value() == static_cast<std::int32_t>(total));
    const auto y = static_cast<std::int32_t>(random.integer(-256, 256));
    if (std::abs(exact + y) < 8192) {
      narrow.add(y);
      exact += y;
    }
    REQUIRE(narrow.value() == exact);
  }
}

TEMPLATE_LIST_TEST_CASE("All models give the integer sums, in the cycles that their digits take", "[digit_planes]",
                        encodings) {
  using E = TestType;
  using model = digit_planes<E>;
  INFO(E::name);
  POLYMAC_RANDOM(random, 42);
  const std::size_t planes = E::count(8);
  for (const std::size_t depth : {1u, 3u, 4u, 17u, 64u, 257u})
    for (const bool extreme : {false, true}) {
      constexpr std::size_t columns = 3;
      std::vector<std::int8_t> a(depth), b(columns * depth);
      for (auto* v : {&a, &b})
        for (auto& x : *v) x = static_cast<std::int8_t>(extreme ? -128 : random.integer(-128, 127));
      if (!extreme) a[depth / 2] = 0;
      std::vector<std::int32_t> expected(columns);
      for (std::size_t n = 0; n < columns; ++n)
        for (std::size_t k = 0; k < depth; ++k) expected[n] += a[k] * b[n * depth + k];
      // Cycles, counted from the digits.
      std::uint64_t sparse = 0, grouped = 0;
      for (std::size_t i = 0; i < planes; ++i) {
        std::vector<std::uint64_t> counts((depth + 3) / 4);
        for (std::size_t k = 0; k < depth; ++k) counts[k / 4] += E::expand(a[k], 8)[i] != 0;
        for (auto& c : counts) c = std::max<std::uint64_t>(c, 1);
        for (std::size_t g = 0; g < counts.size(); ++g) sparse += counts[g];
        for (std::size_t g = 0; g < counts.size(); g += 4)
          grouped += *std::max_element(counts.begin() + static_cast<std::ptrdiff_t>(g),
                                       counts.begin() + static_cast<std::ptrdiff_t>(std::min(g + 4, counts.size())));
      }
      const matrix_view<const std::int8_t> view(b.data(), columns, depth);
      const auto check = [&](auto run, std::uint64_t cycles, std::uint64_t encodings, std::uint64_t additions) {
        std::vector<std::int32_t> sums(columns, 77);
        const auto work = run(a, view, sums);
        REQUIRE(work.ok());
        REQUIRE(sums == expected);
        REQUIRE(work->cycles == cycles);
        REQUIRE(work->encodings == encodings);
        REQUIRE(work->additions == additions);
      };
      check(model::opt1, depth, depth * columns, columns);
      check(model::opt2, (depth + 15) / 16, depth * columns, columns);
      check(model::opt3, sparse, planes * depth * columns, planes * columns);
      check(model::opt4c, sparse, planes * depth, planes * columns);
      check(model::opt4e, grouped, planes * depth, planes * columns);
    }
}

TEST_CASE("The deepest sum of digit planes, and one too deep", "[digit_planes]") {
  using model = digit_planes<digits::booth>;
  std::vector<std::int8_t> a(model::max_depth, -128), b(model::max_depth, -128);
  std::vector<std::int32_t> sum(1);
  const matrix_view<const std::int8_t> view(b.data(), 1, b.size());
  REQUIRE(model::opt3(a, view, sum).ok());
  REQUIRE(sum[0] == 131071 * 16384);
  a.push_back(1);
  b.push_back(1);
  REQUIRE(model::opt3(a, matrix_view<const std::int8_t>(b.data(), 1, b.size()), sum).status().text() ==
          "digit_planes: expected a depth of at most 131071, got 131072");
  REQUIRE(model::opt1(a, view, sum).status().text() == "digit_planes: expected b of 1 x 131072, got 1 x 131071");
}

TEST_CASE("Sparse digits of normal data take the cycles of their expectation", "[digit_planes]") {
  // opt3 at sigma 20: at most 4 cycles for four k and a plane, on average what EN-T's table says, and a little more for
  // planes without any digit.
  POLYMAC_RANDOM(random, 43);
  const auto p = distribution(20);
  std::vector<std::int8_t> a(4096), b(4096, 1);
  for (auto& v : a) {
    double u = static_cast<double>(random.unit());
    int value = -128;
    while (value < 127 && u >= p[static_cast<std::size_t>(value + 128)])
      u -= p[static_cast<std::size_t>(value++ + 128)];
    v = static_cast<std::int8_t>(value);
  }
  std::vector<std::int32_t> sum(1);
  const auto work = digit_planes<digits::en_t>::opt3(a, {b.data(), 1, b.size()}, sum);
  double expected = 0;  // E[max(1, digits of four k)] for each plane
  for (std::size_t i = 0; i < 4; ++i) {
    const double some = mean(p, [&](int v) { return digits::en_t::expand(v, 8)[i] != 0 ? 1.0 : 0.0; });
    expected += 4 * some + std::pow(1 - some, 4);
  }
  REQUIRE(expected / 4 > 2.115);
  REQUIRE(std::abs(static_cast<double>(work->cycles) / 1024 - expected) < 0.15);
}
