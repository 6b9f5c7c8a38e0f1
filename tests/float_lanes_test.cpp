// SPDX-License-Identifier: MIT
// Registers of floats as the softmax of attention uses them (isa/float_lanes.hpp) and what is made of them
// (kernel/online_softmax.hpp), on the instruction set of the program: powers of two, rounding, NaN.
#include "catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

#include <polymac/isa/all.hpp>
#include <polymac/kernel/online_softmax.hpp>
#include <polymac/kernel/operands.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

using namespace polymac_test;
namespace isa = polymac::isa;
namespace kernel = polymac::kernel;
using native = polymac::isa::native;
using one = isa::float_lanes<isa::scalar>;
using many = isa::best_float_lanes<native>;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// f(registers of values), as many as there are.
template <class Lanes, class Out = float, class Function>
std::vector<Out> each(std::vector<float> values, const Function& f) {
  const std::size_t count = values.size();
  values.resize((count + Lanes::width - 1) / Lanes::width * Lanes::width);
  std::vector<Out> results(values.size());
  for (std::size_t i = 0; i < values.size(); i += Lanes::width) f(Lanes::load(values.data() + i), results.data() + i);
  results.resize(count);
  return results;
}
template <class Lanes, kernel::exponential Of>
std::vector<float> powers(const std::vector<float>& x) {
  return each<Lanes>(x, [](const auto& v, float* to) { Lanes::store(to, kernel::power_of_two<Of, Lanes>(v)); });
}

}  // namespace

TEMPLATE_TEST_CASE("powers of two keep their bounds, -infinity gives 0 and NaN NaN", "", one, many) {
  const auto check = [](const auto& of, double allowed) {
    using tag = std::decay_t<decltype(of)>;
    std::vector<float> x;
    for (int i = 0; i < 126 * 512; ++i) x.push_back(static_cast<float>(-i) / 512.0f + (i % 3 == 0 ? 0.0f : 1e-4f));
    for (int i = 0; i <= 1270; ++i) x.push_back(static_cast<float>(i) * 0.1f);
    const auto y = powers<TestType, tag::value>(x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp2(static_cast<double>(x[i]));
      worst = std::max(worst, std::abs(static_cast<double>(y[i]) - exact) / exact);
    }
    CHECK(worst <= allowed);
    CHECK(worst > 0);
    const auto ends = powers<TestType, tag::value>(
        {0.0f, -0.0f, -126.75f, -127.0f, -127.5f, -1e30f, -infinity, not_a_number, -125.75f, 1.0f, -1.0f});
    CHECK(ends[0] == 1.0f);
    CHECK(ends[1] == 1.0f);
    for (std::size_t i = 2; i < 7; ++i) CHECK(ends[i] == 0.0f);
    CHECK(std::isnan(ends[7]));
    CHECK(std::abs(ends[8] / std::exp2(-125.75f) - 1.0f) <= 1.2e-4f);
    CHECK(ends[9] == 2.0f);
    CHECK(ends[10] == 0.5f);
  };
  check(std::integral_constant<kernel::exponential, kernel::exponential::single>{}, 3e-7);
  check(std::integral_constant<kernel::exponential, kernel::exponential::coarse>{}, 1.2e-4);
}

TEMPLATE_TEST_CASE("what is stored is rounded to the nearest, ties to even", "", one, many) {
  POLYMAC_RANDOM(random, 1);
  const auto whole = [&]<class T>(T, float low, float high) {
    std::vector<float> x;
    for (float v = low; v <= high; v += (high - low) / 508.0f) x.push_back(v);
    for (float v = -3.5f; v <= 3.5f; v += 0.5f)
      if (v > low - 0.5f) x.push_back(v);
    for (const float v : {high - 0.5f, high - 1.5f, low, high, 0.49999997f, 1.5000001f, 2.4999998f}) x.push_back(v);
    const auto y = each<TestType, T>(x, [](const auto& v, T* to) { TestType::store(to, v); });
    std::vector<T> expected;
    for (const float v : x) expected.push_back(static_cast<T>(std::nearbyint(v)));
    CHECK(difference(expected, y) == "");
  };
  whole(std::uint8_t{}, 0.0f, 255.0f);
  whole(std::int8_t{}, -127.0f, 127.0f);
  whole(std::int16_t{}, -32767.0f, 32767.0f);

  const auto halves = [&]<class T>(T, double unit, float largest) {
    std::vector<float> x{0.0f, -0.0f, 1.0f, infinity, -infinity, largest, -largest};
    for (int i = 0; i < 3000; ++i)
      x.push_back(std::ldexp(2.0f * random.unit() - 1.0f, static_cast<int>(random.integer(-10, 10))));
    // Halfway between two, the even one below or above; and next to it.
    for (int i = 0; i < 6; ++i) {
      const auto tie = static_cast<float>(1.0 + (i + 0.5) * unit);
      for (const float v : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 9.0f), -tie}) x.push_back(v);
    }
    const auto y = each<TestType, T>(x, [](const auto& v, T* to) { TestType::store(to, v); });
    std::vector<float> got, expected;
    for (std::size_t i = 0; i < x.size(); ++i) {
      got.push_back(static_cast<float>(y[i]));
      const double v = static_cast<double>(x[i]);
      if (v == 0 || !std::isfinite(x[i])) {
        expected.push_back(x[i]);
        continue;
      }
      const double step = std::ldexp(unit, std::max(std::ilogb(v), unit > 0x1p-8 ? -126 : -14));
      expected.push_back(static_cast<float>(std::nearbyint(v / step) * step));
    }
    CHECK(difference(expected, got) == "");
    const auto bad = each<TestType, T>({not_a_number}, [](const auto& v, T* to) { TestType::store(to, v); });
    CHECK(std::isnan(static_cast<float>(bad[0])));
  };
  halves(polymac::bfloat16{}, 0x1p-7, 0x1.FEp127f);
  halves(polymac::float16{}, 0x1p-10, 65504.0f);
}

TEMPLATE_TEST_CASE("lanes: the larger, the smaller, sums, tanh", "", one, many) {
  POLYMAC_RANDOM(random, 2);
  const auto two = [](float a, float b, bool larger) {
    const auto x = TestType::broadcast(a), y = TestType::broadcast(b);
    std::vector<float> all(TestType::width);
    TestType::store(all.data(), larger ? TestType::larger(x, y) : TestType::smaller(x, y));
    return all.back();
  };
  CHECK(two(1.0f, 2.0f, true) == 2.0f);
  CHECK(two(1.0f, -infinity, true) == 1.0f);
  CHECK(two(not_a_number, 2.0f, true) == 2.0f);
  CHECK(std::isnan(two(2.0f, not_a_number, true)));
  CHECK(two(1.0f, 2.0f, false) == 1.0f);
  CHECK(two(not_a_number, 2.0f, false) == 2.0f);
  CHECK(std::isnan(two(2.0f, not_a_number, false)));

  const auto magnitude = [](float a, float b) {
    return TestType::largest_magnitude(TestType::larger_magnitude(TestType::broadcast(a), TestType::broadcast(b)));
  };
  CHECK(magnitude(1.0f, -2.0f) == 2.0f);
  CHECK(magnitude(-3.0f, 2.0f) == 3.0f);
  CHECK(magnitude(-infinity, 1.0f) == infinity);
  CHECK(std::isnan(magnitude(not_a_number, infinity)));
  CHECK(std::isnan(magnitude(1.0f, -not_a_number)));

  for (std::size_t at = 0; at < TestType::width; ++at) {
    std::vector<float> x(TestType::width, -3.0f);
    x[at] = 5.0f;
    CHECK(TestType::largest(TestType::load(x.data())) == 5.0f);
    CHECK(TestType::sum(TestType::load(x.data())) == 5.0f - 3.0f * static_cast<float>(TestType::width - 1));
    std::vector<std::int32_t> whole(TestType::width, -7);
    whole[at] = 123456789;
    TestType::store(x.data(), TestType::from_int(whole.data()));
    CHECK(x[at] == 123456792.0f);  // 24 bits
    CHECK(std::count(x.begin(), x.end(), -7.0f) == static_cast<std::ptrdiff_t>(TestType::width - 1));
  }
  std::vector<float> x;
  for (int i = -1200; i <= 1200; ++i) x.push_back(static_cast<float>(i) * 0.01f);
  const auto y = each<TestType>(x, [](const auto& v, float* to) { TestType::store(to, TestType::tanh(v)); });
  std::vector<double> expected;
  for (const float v : x) expected.push_back(std::tanh(static_cast<double>(v)));
  CHECK(difference(expected, y, 4e-7, 1e-12) == "");
  const auto ends = each<TestType>({infinity, -infinity, not_a_number, 1e30f},
                                   [](const auto& v, float* to) { TestType::store(to, TestType::tanh(v)); });
  CHECK(ends[0] == 1.0f);
  CHECK(ends[1] == -1.0f);
  CHECK(std::isnan(ends[2]));
  CHECK(ends[3] == 1.0f);
}

TEST_CASE("magnitudes and codes of rows of any length") {
  POLYMAC_RANDOM(random, 3);
  for (const std::size_t count : {1u, 3u, 7u, 8u, 15u, 16u, 17u, 40u, 67u}) {
    CAPTURE(count);
    std::vector<float> x = uniform<float>(random, count), offset = uniform<float>(random, count);
    float most = 0.0f, plain = 0.0f;
    for (std::size_t i = 0; i < count; ++i) {
      most = std::max(most, std::abs(x[i] - offset[i]));
      plain = std::max(plain, std::abs(x[i]));
    }
    CHECK(kernel::largest_magnitude<native>(x.data(), offset.data(), count) == most);
    CHECK(kernel::largest_magnitude<native>(x.data(), nullptr, count) == plain);
    // Rows with a gap between them, which does not count; and what is folded over them.
    const std::size_t stride = count + 1;
    std::vector<float> rows = uniform<float>(random, 5 * stride), sums(count + 1, 2.0f), magnitudes(count, 0.0f);
    float all = 0.0f;
    for (std::size_t r = 0; r < 5; ++r) {
      rows[r * stride + count] = 1e6f;
      for (std::size_t i = 0; i < count; ++i) all = std::max(all, std::abs(rows[r * stride + i] - offset[i]));
    }
    CHECK(kernel::largest_magnitude<native>(rows.data(), stride, 5, offset.data(), count) == all);
    kernel::fold_rows<native>(rows.data(), stride, 5, sums.data(), count,
                              []<class Lanes>(Lanes, const auto& a, const auto& b) { return Lanes::add(a, b); });
    kernel::fold_rows<native>(
        rows.data(), stride, 5, magnitudes.data(), count,
        []<class Lanes>(Lanes, const auto& a, const auto& b) { return Lanes::larger_magnitude(a, b); });
    for (std::size_t i = 0; i < count; ++i) {
      float sum = 2.0f, magnitude = 0.0f;
      for (std::size_t r = 0; r < 5; ++r) {
        sum += rows[r * stride + i];
        magnitude = std::max(magnitude, std::abs(rows[r * stride + i]));
      }
      CHECK(sums[i] == sum);
      CHECK(magnitudes[i] == magnitude);
    }
    CHECK(sums[count] == 2.0f);
    const float inverse = 127.0f / most;
    std::vector<std::int8_t> codes(count + 1, 99), expected;
    for (std::size_t i = 0; i < count; ++i)
      expected.push_back(static_cast<std::int8_t>(std::nearbyint((x[i] - offset[i]) * inverse)));
    expected.push_back(99);
    kernel::to_codes<native, true>(x.data(), offset.data(), &inverse, 127.0f, codes.data(), count);
    CHECK(difference(expected, codes) == "");
    // Beyond the limit: the limit.
    const float large = 1000.0f * inverse;
    kernel::to_codes<native, true>(x.data(), nullptr, &large, 127.0f, codes.data(), count);
    for (std::size_t i = 0; i < count; ++i) CHECK(std::abs(codes[i]) <= 127);
    std::vector<polymac::bfloat16> operands(count + 1, polymac::bfloat16(99.0f));
    kernel::to_operands<native>(x.data(), operands.data(), count);
    for (std::size_t i = 0; i < count; ++i) CHECK(operands[i] == polymac::bfloat16(x[i]));
    CHECK(operands[count] == polymac::bfloat16(99.0f));
    for (const float poison : {not_a_number, infinity, -infinity})
      for (std::size_t at = 0; at < count; ++at) {
        const float was = x[at];
        x[at] = poison;
        if (!std::isnan(kernel::largest_magnitude<native>(x.data(), offset.data(), count)))
          FAIL_CHECK(poison << " at " << at << " is not seen");
        x[at] = was;
      }
  }
}
