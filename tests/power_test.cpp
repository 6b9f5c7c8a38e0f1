// SPDX-License-Identifier: MIT
// PowerQuant: values of codes, codes of values, exact sums with exponent 1/2, noise on normal numbers.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/mac/power.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ratio>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

using namespace polymac;

namespace {

using mac::power;
using half = std::ratio<1, 2>;
using best = std::ratio<13, 20>;  // 0.65

static_assert(power<half>::value(-127) == -16129 && power<half>::value(3) == 9 && power<half, 4>::largest_value == 49);
static_assert(power<std::ratio<2, 4>>::exact && power<std::ratio<1>>::value(-5) == -5 && !power<best>::exact);
static_assert(power<half>::max_depth == 8 && std::is_same_v<mac_traits<power<half>>::sum, std::int64_t>);
static_assert(std::is_same_v<mac_traits<power<half, 4>>::sum, std::int32_t> && power<half, 4>::max_depth == 684784);
static_assert(power<half>::multiply_add(5, -3, 4) == 5 - 9 * 16);
static_assert(power<best>::multiply_add(1.0f, 0, 100) == 1.0f && power<best>::value(1) == 1.0f);
static_assert(power<half>::encode(1.0f, 4.0f) == 64 && power<half>::encode(-4.0f, 4.0f) == -127);

}  // namespace

TEST_CASE("the library's own logarithm and power are right", "[power]") {
  double worst_log = 0, worst_power = 0, worst_exp = 0;
  POLYMAC_RANDOM(random, 1);
  for (int i = 0; i < 20'000; ++i) {
    const double x = std::ldexp(1.0 + static_cast<double>(random.unit()), static_cast<int>(random.integer(-8, 8)));
    worst_log =
        std::max(worst_log, std::abs(mac::detail::natural_log(x) - std::log(x)) / (1.0 + std::abs(std::log(x))));
    const double y = (static_cast<double>(random.unit()) - 0.5) * 100.0;
    worst_exp = std::max(worst_exp, std::abs(mac::detail::natural_exp(y) / std::exp(y) - 1.0));
    const auto p = random.integer(1, 40), q = random.integer(5, 40);
    const double expected = std::pow(x, static_cast<double>(p) / static_cast<double>(q));
    worst_power = std::max(worst_power, std::abs(mac::detail::power_of(x, p, q) / expected - 1.0));
  }
  CHECK(worst_log < 4 * 0x1p-53);
  CHECK(worst_exp < 0x1p-48);
  CHECK(worst_power < 0x1p-45);
  CHECK(mac::detail::power_of(0.0, 3, 2) == 0.0);
  CHECK(mac::detail::power_of(127.0, 3, 1) == 2048383.0);
}

TEMPLATE_TEST_CASE("values of codes are powers, and multiply as powers do", "[power]", half, std::ratio<1>, best,
                   (std::ratio<7, 10>), (std::ratio<1, 3>), (std::ratio<1, 8>), (std::ratio<3, 1>)) {
  using M = power<TestType>;
  CAPTURE(M::name);
  const double inverse = static_cast<double>(TestType::den) / static_cast<double>(TestType::num);
  const double slack = M::exact ? 0.0 : 0x1.001p-12;
  std::size_t wrong = 0;
  for (int a = -127; a <= 127; ++a) {
    const auto code = static_cast<std::int8_t>(a);
    const double exact = std::copysign(std::pow(std::abs(a), inverse), a);
    wrong += std::abs(static_cast<double>(M::value(code)) - exact) > std::abs(exact) * slack;
    for (int w = -127; w <= 127; ++w) {
      // The product of values is the power of the product of codes, and exact.
      const auto product = static_cast<double>(M::multiply_add({}, code, static_cast<std::int8_t>(w)));
      const double power_of_product = std::copysign(std::pow(std::abs(a * w), inverse), a * w);
      wrong += std::abs(product - power_of_product) > std::abs(power_of_product) * (slack * 2.001 + 1e-14);
      wrong +=
          product != static_cast<double>(M::value(code)) * static_cast<double>(M::value(static_cast<std::int8_t>(w)));
    }
  }
  CHECK(wrong == 0);
  for (int q = -127; q <= 127; ++q) CHECK(M::check_weight(static_cast<std::int8_t>(q)));
  CHECK_FALSE(M::check_weight(-128));
}

TEMPLATE_TEST_CASE("codes of few bits have a range, and others do no harm", "[power]", half, best) {
  using M = power<TestType, 4>;
  CHECK(M::largest_code == 7);
  CHECK(M::check_weight(7));
  CHECK(M::check_weight(-7));
  CHECK_FALSE(M::check_weight(8));
  CHECK_FALSE(M::check_weight(-8));
  CHECK(std::isfinite(static_cast<double>(M::value(-128))));
  CHECK(std::isfinite(static_cast<double>(M::value(127))));
}

TEST_CASE("eight products of exponent 1/2 fit 32 bits", "[power]") {
  using M = power<half>;
  std::int32_t sum = 0;
  for (std::size_t k = 0; k < M::max_depth; ++k) sum = M::multiply_add(sum, -128, 127);
  CHECK(sum == -8 * 16384 * 16129);
  CHECK(std::int64_t{9} * 16384 * 16129 > std::numeric_limits<std::int32_t>::max());
  using F = power<half, 4>;
  CHECK(static_cast<std::int64_t>(F::max_depth) * 64 * 49 <= std::numeric_limits<std::int32_t>::max());
  CHECK(static_cast<std::int64_t>(F::max_depth + 1) * 64 * 49 > std::numeric_limits<std::int32_t>::max());
}

TEMPLATE_TEST_CASE("a value gets the code of the formula", "[power]", half, best, (std::ratio<1>), (std::ratio<3, 2>)) {
  using M = power<TestType>;
  CAPTURE(M::name);
  const double a = static_cast<double>(TestType::num) / static_cast<double>(TestType::den);
  POLYMAC_RANDOM(random, 2);
  std::size_t wrong = 0;
  const float largest = 3.7f;
  for (int i = 0; i < 20'000; ++i) {
    const float x = (2.0f * random.unit() - 1.0f) * largest * (i % 3 == 0 ? 0.01f : 1.0f);
    const double scaled = 127.0 * std::pow(std::abs(static_cast<double>(x)) / static_cast<double>(largest), a);
    const double expected = std::copysign(std::round(scaled), static_cast<double>(x));
    // Beside a threshold both codes are right.
    if (std::abs(scaled - std::floor(scaled) - 0.5) > 1e-9) wrong += M::encode(x, largest) != expected;
  }
  // Codes come back, also by their values.
  for (int q = -127; q <= 127; ++q) {
    const float scale = M::scale_for(largest);
    const auto code = static_cast<std::int8_t>(q);
    wrong += M::encode(M::decode(code, scale), largest) != code;
  }
  CHECK(wrong == 0);
  CHECK(M::encode(largest, largest) == 127);
  CHECK(M::encode(-2.0f * largest, largest) == -127);
  CHECK(M::encode(0.0f, largest) == 0);
  CHECK(M::encode(-0.0f, 0.0f) == 0);
  CHECK(M::decode(127, M::scale_for(largest)) == Approx(largest).epsilon(1e-6));
}

TEST_CASE("halves between codes go away from 0", "[power]") {
  CHECK(power<std::ratio<1>, 4>::encode(2.5f, 7.0f) == 3);
  CHECK(power<std::ratio<1>, 4>::encode(-2.5f, 7.0f) == -3);
  CHECK(power<half, 4>::encode(6.25f, 49.0f) == 3);
  CHECK(power<half, 4>::encode(-6.25f, 49.0f) == -3);
  CHECK(power<half, 4>::encode(6.2499f, 49.0f) == 2);
}

TEST_CASE("a tensor is encoded with its scale, or refused", "[power]") {
  using M = power<best, 4>;
  CHECK(std::string_view(M::name) == "power<13/20, 4>");
  CHECK(std::string_view(power<std::ratio<2, 4>>::name) == "power<1/2, 8>");
  std::vector<float> values = {0.5f, -2.0f, 0.0f, 1.0f};
  std::vector<std::int8_t> codes(4, 99);
  float scale = -1.0f;
  REQUIRE(M::encode(values, codes, scale).ok());
  CHECK(codes == std::vector<std::int8_t>{3, -7, 0, 4});  // 7 (1/4)^0.65 = 2.84, 7 (1/2)^0.65 = 4.46
  CHECK(M::decode(codes[1], scale) == -2.0f);
  values[2] = std::numeric_limits<float>::infinity();
  const auto before = codes;
  auto s = M::encode(values, codes, scale);
  CHECK(std::string(s.text()) == "power<13/20, 4>: expected finite values, value 2 is infinite");
  CHECK_FALSE(M::encode(std::span<const float>(values).first(3), codes, scale).ok());
  CHECK(codes == before);
  std::fill(values.begin(), values.end(), 0.0f);
  REQUIRE(M::encode(values, codes, scale).ok());
  CHECK(codes == std::vector<std::int8_t>(4, 0));
  CHECK(scale == 1.0f);
}

TEST_CASE("sums of other exponents keep their error bound", "[power]") {
  using M = power<best>;
  POLYMAC_RANDOM(random, 3);
  for (const std::size_t depth : {1u, 17u, 1000u}) {
    float sum = 0.25f;
    double exact = 0.25, magnitudes = 0.25;
    for (std::size_t k = 0; k < depth; ++k) {
      const auto a = static_cast<std::int8_t>(random.integer(-127, 127)),
                 w = static_cast<std::int8_t>(random.integer(-127, 127));
      sum = M::multiply_add(sum, a, w);
      const double product = static_cast<double>(M::value(a)) * static_cast<double>(M::value(w));
      exact += product, magnitudes += std::abs(product);
    }
    CHECK(std::abs(static_cast<double>(sum) - exact) <= M::error_bound(depth, magnitudes));
  }
}

namespace {

/// 65536 normal numbers, the largest of which is 4.40 as in the table: with absmax scales it decides by half a dB.
std::vector<float> normal_numbers() {
  polymac_test::random_source random(4);
  std::vector<float> values;
  while (values.size() < 65536) {
    const double x = 2.0 * static_cast<double>(random.unit()) - 1.0, y = 2.0 * static_cast<double>(random.unit()) - 1.0;
    const double s = x * x + y * y;
    if (s >= 1.0 || s == 0.0) continue;
    const double f = std::sqrt(-2.0 * std::log(s) / s);
    for (const double v : {x * f, y * f}) values.push_back(static_cast<float>(std::clamp(v, -4.40, 4.40)));
  }
  values[0] = 4.40f;
  return values;
}

template <int Bits>
void check_noise(const std::vector<float>& values, double plain, double seven, double optimum, double root) {
  const auto noise = [&]<class Exponent>(Exponent) {
    using M = power<Exponent, Bits>;
    std::vector<std::int8_t> codes(values.size());
    float scale = 0.0f;
    REQUIRE(M::encode(values, codes, scale).ok());
    double signal = 0, error = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto x = static_cast<double>(values[i]), y = static_cast<double>(M::decode(codes[i], scale));
      signal += x * x, error += (x - y) * (x - y);
    }
    return 10.0 * std::log10(signal / error);
  };
  CAPTURE(Bits);
  CHECK(noise(std::ratio<1>{}) == Approx(plain).margin(0.15));
  CHECK(noise(std::ratio<7, 10>{}) == Approx(seven).margin(0.15));
  CHECK(noise(best{}) == Approx(optimum).margin(0.15));
  CHECK(noise(half{}) == Approx(root).margin(0.15));
}

}  // namespace

TEST_CASE("noise of power codes on normal numbers", "[power]") {
  const auto values = normal_numbers();
  check_noise<3>(values, 7.47, 9.18, 9.19, 8.72);
  check_noise<4>(values, 14.84, 16.52, 16.59, 16.19);
  check_noise<5>(values, 21.45, 23.11, 23.20, 22.86);
  check_noise<6>(values, 27.75, 29.44, 29.48, 29.11);
  check_noise<8>(values, 39.99, 41.69, 41.75, 41.39);
}
