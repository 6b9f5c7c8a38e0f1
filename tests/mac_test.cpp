// SPDX-License-Identifier: MIT
// The laws of the arithmetics: zero absorbs, the product is linear, and max_depth is the last safe depth.
#include "catch.hpp"
#include "polymac/mac/bf16.hpp"
#include "polymac/mac/bit_weights.hpp"
#include "polymac/mac/dfp.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/fp16.hpp"
#include "polymac/mac/fp8.hpp"
#include "polymac/mac/int16x8.hpp"
#include "polymac/mac/int8.hpp"
#include "polymac/mac/l_mul.hpp"
#include "polymac/mac/power.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ratio>
#include <tuple>
#include <type_traits>
#include <vector>

namespace mac = polymac::mac;

namespace {

using integer_macs =
    std::tuple<mac::int8, mac::uint8, mac::int16x8, mac::dfp<std::int8_t>, mac::bit_weights<polymac::ternary_bits>,
               mac::bit_weights<3, polymac::digits::en_t>, mac::bit_weights<8, polymac::digits::naf>>;
using chained_macs = std::tuple<mac::dfp<std::int16_t>, mac::dfp<std::int16_t, 3>>;
using float_macs = std::tuple<mac::float32, mac::bf16, mac::fp16, mac::fp8<polymac::e4m3fn>, mac::fp8<polymac::e5m2>>;
using approximate_macs =
    std::tuple<mac::l_mul<>, mac::l_mul_on<polymac::bfloat16>, mac::l_mul_on<polymac::e4m3fn>, mac::l_mul_literal<>,
               mac::power<std::ratio<1, 2>>, mac::power<std::ratio<13, 20>, 4>>;
using inexact_macs = decltype(std::tuple_cat(float_macs{}, chained_macs{}));
using all_macs = decltype(std::tuple_cat(integer_macs{}, inexact_macs{}, approximate_macs{}));

static_assert(mac::int8::multiply_add(1, -128, -128) == 16385);
static_assert(mac::int8::multiply_add(-5, 127, -128) == -16261);
static_assert(mac::uint8::multiply_add(0, 255, -128) == -32640);
static_assert(mac::uint8::multiply_add(0, 128, 1) == 128);  // 128, not -128
static_assert(mac::int16x8::multiply_add(7, -32768, -128) == 4194311);
static_assert(mac::int16x8::multiply_add(0, 32767, 127) == 4161409);
static_assert(mac::float32::multiply_add(1.0f, 0.5f, -4.0f) == -1.0f);
static_assert(mac::int8::max_depth == 131071 && mac::uint8::max_depth == 65793 && mac::int16x8::max_depth == 511);

/// The smallest and the largest weight: of the type, or of the arithmetic's codes.
template <class M>
constexpr auto least_weight() {
  if constexpr (requires { M::weight_min; })
    return M::weight_min;
  else
    return std::numeric_limits<typename M::weight>::min();
}
template <class M>
constexpr auto largest_weight() {
  if constexpr (requires { M::weight_max; })
    return M::weight_max;
  else
    return std::numeric_limits<typename M::weight>::max();
}

/// All values of an integer type, or every `step`-th.
template <class T>
std::vector<T> values(int step = 1) {
  std::vector<T> all;
  for (int v = std::numeric_limits<T>::min(); v <= std::numeric_limits<T>::max(); v += step)
    all.push_back(static_cast<T>(v));
  all.push_back(std::numeric_limits<T>::max());
  return all;
}

/// All bytes; of words every 257th and the last; of floats those that are finite in T.
template <class T>
std::vector<T> operands() {
  if constexpr (!std::is_integral_v<T>) {
    std::vector<T> finite;
    for (const float v :
         {0.0f, -0.0f, 1.0f, -1.5f, 3.0e-39f, 0x1p-126f, 0x1p-16f, -0x1p-24f, 448.0f, -57344.0f, -1.0e30f, 0x1.fep127f})
      if (std::isfinite(static_cast<float>(T(v)))) finite.push_back(T(v));
    return finite;
  } else {
    return values<T>(sizeof(T) == 1 ? 1 : 257);
  }
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("A zero activation or weight adds nothing", "[mac]", all_macs) {
  using M = TestType;
  using accumulator = typename M::accumulator;
  using limit = std::numeric_limits<accumulator>;
  for (const accumulator c : {accumulator{0}, accumulator{1}, accumulator{-77}, limit::lowest(), limit::max()}) {
    std::size_t changed = 0;
    for (const auto a : operands<typename M::activation>()) changed += M::multiply_add(c, a, typename M::weight{}) != c;
    for (const auto w : operands<typename M::weight>()) changed += M::multiply_add(c, typename M::activation{}, w) != c;
    REQUIRE(changed == 0);
  }
}

TEMPLATE_LIST_TEST_CASE("The golden model is the integer product", "[mac]", integer_macs) {
  using M = TestType;
  std::size_t wrong = 0;
  for (const auto a : operands<typename M::activation>())
    for (const auto w : operands<typename M::weight>())
      for (const std::int64_t c : {-1000, 0, 999})
        wrong += M::multiply_add(static_cast<typename M::accumulator>(c), a, w) != c + std::int64_t{a} * w;
  REQUIRE(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("An arithmetic that calls itself linear is", "[mac]", integer_macs) {
  using M = TestType;
  using activation = typename M::activation;
  using weight = typename M::weight;
  STATIC_REQUIRE(M::linear);
  STATIC_REQUIRE(M::exact);
  // Exhaustive for bytes: every pair of activations whose sum is an activation, with the weights at powers of two,
  // their neighbours and the ends (a linear function of the weight is known by its values there); words at every
  // 257th.
  std::vector<weight> weights = {std::numeric_limits<weight>::min(), std::numeric_limits<weight>::max(), 0};
  for (int bit = 1; bit < 128; bit *= 2)
    for (const int w : {bit - 1, bit, bit + 1, -bit}) weights.push_back(static_cast<weight>(w));
  std::size_t wrong = 0;
  const auto f = [](activation a, weight w) { return M::multiply_add(0, a, w); };
  for (const activation a : operands<activation>())
    for (const activation b : operands<activation>()) {
      const int sum = a + b;
      if (sum < std::numeric_limits<activation>::min() || sum > std::numeric_limits<activation>::max()) continue;
      for (const weight w : weights) wrong += f(static_cast<activation>(sum), w) != f(a, w) + f(b, w);
    }
  for (const weight v : operands<weight>())  // linear in the weight: exhaustive over pairs of weights
    for (const weight w : operands<weight>()) {
      const int sum = v + w;
      if (sum < std::numeric_limits<weight>::min() || sum > std::numeric_limits<weight>::max()) continue;
      for (const activation a : {std::numeric_limits<activation>::min(), activation{1}, activation{3},
                                 std::numeric_limits<activation>::max()})
        wrong += f(a, static_cast<weight>(sum)) != f(a, v) + f(a, w);
    }
  REQUIRE(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("max_depth products fit the accumulator, one more need not", "[mac]", integer_macs) {
  using M = TestType;
  using limit = std::numeric_limits<typename M::accumulator>;
  std::int64_t largest = 0;
  std::int64_t smallest = 0;
  for (const std::int64_t a :
       {std::numeric_limits<typename M::activation>::min(), std::numeric_limits<typename M::activation>::max()})
    for (const std::int64_t w : {least_weight<M>(), largest_weight<M>()}) {
      largest = std::max(largest, a * w);
      smallest = std::min(smallest, a * w);
    }
  const auto depth = static_cast<std::int64_t>(M::max_depth);
  REQUIRE(depth * largest <= limit::max());
  REQUIRE(depth * smallest >= limit::min());
  // The bound holds for the magnitude, so that a sum may also be negated: one more product leaves [-max, max].
  const std::int64_t magnitude = std::max(largest, -smallest);
  REQUIRE((depth + 1) * magnitude > limit::max());

  // The golden model itself at the bound: the compiler's checks of overflow (UBSan) see every step.
  const bool negative = -smallest > largest;
  const auto w = least_weight<M>();
  const auto a = negative ? std::numeric_limits<typename M::activation>::max()
                          : std::numeric_limits<typename M::activation>::min();
  typename M::accumulator sum = 0;
  for (std::int64_t k = 0; k < depth; ++k) sum = M::multiply_add(sum, a, w);
  REQUIRE(sum == depth * a * w);
}

TEMPLATE_LIST_TEST_CASE("An inexact arithmetic keeps its error bound", "[mac]", inexact_macs) {
  using M = TestType;
  INFO(M::name);
  POLYMAC_RANDOM(random, 5);
  for (const std::size_t depth : {1u, 2u, 17u, 1000u, 20000u}) {
    const auto a = polymac_test::uniform<typename M::activation>(random, depth);
    const auto w = polymac_test::uniform<typename M::weight>(random, depth);
    float sum = 0.25f;
    double exact = 0.25, magnitudes = 0.25;
    for (std::size_t k = 0; k < depth; ++k) {
      sum = M::multiply_add(sum, a[k], w[k]);
      exact += static_cast<double>(a[k]) * static_cast<double>(w[k]);
      magnitudes += std::abs(static_cast<double>(a[k]) * static_cast<double>(w[k]));
    }
    const double bound = M::error_bound(depth, magnitudes);
    INFO("depth " << depth << ": " << static_cast<double>(sum) - exact << ", bound " << bound);
    REQUIRE(std::abs(static_cast<double>(sum) - exact) <= bound);
    REQUIRE(bound <= 1.3e-7 * static_cast<double>(depth + 1) * magnitudes);  // and the bound says something
  }
}
