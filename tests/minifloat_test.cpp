// SPDX-License-Identifier: MIT
// The floats of 8, 6 and 4 bits, code by code, against their definition; mac::fp8: exact products, codes that are no
// numbers, scales.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/core/bfloat16.hpp>
#include <polymac/core/minifloat.hpp>
#include <polymac/mac/bf16.hpp>
#include <polymac/mac/fp8.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

using namespace polymac;

namespace {

using formats = std::tuple<e4m3fn, e5m2, e4m3fnuz, e5m2fnuz, e3m2, e2m3, e2m1>;
using eights = std::tuple<e4m3fn, e5m2, e4m3fnuz, e5m2fnuz>;

/// The value of a code by the formula of the formats, exponents counted by hand.
template <class E>
double value_of(unsigned code) {
  const unsigned sign = code >> (E::width - 1), rest = code & ((1u << (E::width - 1)) - 1);
  const int exponent = static_cast<int>(rest >> E::mantissa_bits);
  const int mantissa = static_cast<int>(rest & ((1u << E::mantissa_bits) - 1)), one = 1 << E::mantissa_bits;
  const double v = exponent == 0 ? std::ldexp(mantissa, 1 - E::bias - E::mantissa_bits)
                                 : std::ldexp(one + mantissa, exponent - E::bias - E::mantissa_bits);
  return sign != 0 ? -v : v;
}

/// The value of a magnitude code, and what would come after the largest one.
template <class E>
double magnitude_of(unsigned code) {
  return code == 1u << (E::width - 1) ? std::ldexp(1.0, (1 << E::exponent_bits) - E::bias) : value_of<E>(code);
}

/// The nearest magnitude by trying all codes, ties to even; beyond the last one `largest_code + 1`.
template <class E>
unsigned nearest(double magnitude) {
  if (magnitude >= magnitude_of<E>(E::largest_code + 1u)) return E::largest_code + 1u;
  unsigned best = 0;
  double least = magnitude;
  for (unsigned code = 1; code <= E::largest_code + 1u; ++code) {
    const double distance = std::abs(magnitude - magnitude_of<E>(code));
    if (distance < least || (distance == least && code % 2 == 0)) best = code, least = distance;
  }
  return best;
}

template <class E>
unsigned encode(float v, overflow mode = overflow::saturate) {
  return E::encode(v, mode).bits;
}

static_assert(e4m3fn(1.0f).bits == 0x38 && float{e4m3fn::from_bits(0x7E)} == 448.0f && e4m3fn{}.bits == 0);
static_assert(e4m3fn::max() == 448.0f && e5m2::max() == 57344.0f && e4m3fnuz::max() == 240.0f &&
              e5m2fnuz::max() == 57344.0f && e3m2::max() == 28.0f && e2m3::max() == 7.5f && e2m1::max() == 6.0f);
static_assert(e4m3fn::max_exponent == 8 && e5m2::max_exponent == 15 && e3m2::max_exponent == 4 &&
              e2m3::max_exponent == 2 && e2m1::max_exponent == 2);
static_assert(e4m3fn::min_exponent == -6 && e5m2::min_exponent == -14);
static_assert(mac::fp8<e4m3fn>::multiply_add(1.0f, e4m3fn(0.5f), e4m3fn(-4.0f)) == -1.0f);
static_assert(mac_traits<mac::fp8<e5m2>>::group == 2);

}  // namespace

TEMPLATE_LIST_TEST_CASE("every code of a small float is what its format says, and comes back", "[minifloat]", formats) {
  using E = TestType;
  CAPTURE(element_name<E>);
  std::size_t wrong = 0, finite = 0, nans = 0, infinities = 0;
  for (unsigned code = 0; code < 1u << E::width; ++code) {
    const E e = E::from_bits(static_cast<std::uint8_t>(code));
    const float v = e;
    const unsigned magnitude = code & ((1u << (E::width - 1)) - 1), sign = code - magnitude;
    bool is_nan = false, is_infinite = false;
    if (E::special == special_codes::ieee) {
      is_infinite = magnitude == E::largest_code + 1u;
      is_nan = magnitude > E::largest_code + 1u;
    } else if (E::special == special_codes::one_nan) {
      is_nan = magnitude == (1u << (E::width - 1)) - 1;
    } else if (E::special == special_codes::negative_zero) {
      is_nan = code == 1u << (E::width - 1);
    }
    nans += is_nan, infinities += is_infinite, finite += !is_nan && !is_infinite;
    if (is_nan) {
      wrong += !std::isnan(v) || !std::isnan(static_cast<float>(E::encode(v)));
      continue;
    }
    wrong += std::signbit(v) != (sign != 0);
    if (is_infinite) {
      wrong += !std::isinf(v) || encode<E>(v, overflow::ieee) != code || encode<E>(v) != (sign | E::largest_code);
      continue;
    }
    wrong +=
        static_cast<double>(v) != value_of<E>(code) || encode<E>(v) != code || encode<E>(v, overflow::ieee) != code;
    wrong += E(v) != e || E::encode(static_cast<double>(v)) != e;
    // bfloat16 and so bf16's products hold every one of them.
    wrong += static_cast<float>(bfloat16(v)) != v;
  }
  CHECK(wrong == 0);
  if (std::is_same_v<E, e4m3fn>) CHECK((finite == 254 && nans == 2 && infinities == 0));
  if (std::is_same_v<E, e5m2>) CHECK((finite == 248 && nans == 6 && infinities == 2));
  if (E::special == special_codes::negative_zero) CHECK((finite == 255 && nans == 1 && infinities == 0));
  if (E::special == special_codes::none) CHECK(finite == 1u << E::width);
}

TEMPLATE_LIST_TEST_CASE("small floats are rounded to the nearest, ties to even", "[minifloat]", formats) {
  using E = TestType;
  CAPTURE(element_name<E>);
  std::size_t wrong = 0;
  const auto check = [&](double v) {
    const unsigned expected = nearest<E>(std::abs(v));
    const bool beyond = expected > E::largest_code;
    unsigned sign = std::signbit(v) ? 1u << (E::width - 1) : 0;
    unsigned saturated = beyond ? E::largest_code : expected;
    if (E::special == special_codes::negative_zero && saturated == 0) sign = 0;
    wrong += E::encode(v).bits != (sign | saturated);
    const E ieee = E::encode(v, overflow::ieee);
    if (!beyond || E::special == special_codes::none)
      wrong += ieee.bits != (sign | saturated);
    else if (E::has_infinity)
      wrong += ieee.bits != (sign | (E::largest_code + 1u));
    else
      wrong += !std::isnan(static_cast<float>(ieee));
    if (const auto f = static_cast<float>(v); static_cast<double>(f) == v)
      wrong += E::encode(f) != E::encode(v) || E::encode(f, overflow::ieee) != ieee;
  };
  for (unsigned code = 0; code <= E::largest_code; ++code) {
    const double here = value_of<E>(code), next = magnitude_of<E>(code + 1u);
    const double middle = (here + next) / 2;
    for (const double v : {here, middle}) {
      for (const double w : {v, std::nextafter(v, 0.0), std::nextafter(v, 1e9)}) check(w), check(-w);
      const auto f = static_cast<float>(v);
      for (const float w : {std::nextafter(f, 0.0f), std::nextafter(f, 1e9f)}) check(static_cast<double>(w));
    }
  }
  POLYMAC_RANDOM(random, 1);
  for (int i = 0; i < 5'000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random.bits());
    if ((bits & 0x7F800000u) != 0x7F800000u) check(static_cast<double>(std::bit_cast<float>(bits)));
    check(static_cast<double>(std::ldexp(random.unit(), static_cast<int>(random.integer(-20, 17)))));
  }
  for (const double v : {0.0, 1e-45, 1e-38, 1e-300, 1e30, 1e300}) check(v), check(-v);
  CHECK(wrong == 0);

  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const unsigned sign = 1u << (E::width - 1);
  CHECK(encode<E>(infinity) == E::largest_code);
  CHECK(encode<E>(-infinity) == (sign | E::largest_code));
  CHECK(std::isnan(static_cast<float>(E::encode(nan))) == E::has_nan);
  CHECK(std::isnan(static_cast<float>(E::encode(nan, overflow::ieee))) == E::has_nan);
  CHECK(std::isnan(static_cast<float>(E::encode(std::bit_cast<float>(0xFF800001u)))) == E::has_nan);
  if (!E::has_nan) CHECK(encode<E>(nan) == E::largest_code);
}

TEST_CASE("e4m3fn and e5m2 round as OFP8 says at their ends", "[minifloat]") {
  const auto value = []<class E>(E e) { return static_cast<float>(e); };
  const auto ieee = overflow::ieee;
  // e4m3fn
  CHECK(value(e4m3fn(464.0f)) == 448.0f);
  CHECK(encode<e4m3fn>(464.0f, ieee) == 0x7E);  // a tie
  CHECK(encode<e4m3fn>(std::nextafter(464.0f, 500.0f), ieee) == 0x7F);
  CHECK(encode<e4m3fn>(-std::nextafter(464.0f, 500.0f), ieee) == 0xFF);
  CHECK(encode<e4m3fn>(std::nextafter(464.0f, 500.0f)) == 0x7E);
  CHECK(encode<e4m3fn>(480.0f) == 0x7E);
  CHECK(encode<e4m3fn>(INFINITY, ieee) == 0x7F);
  CHECK(value(e4m3fn(0.0009765625f)) == 0.0f);  // 2^-10, a tie
  CHECK(value(e4m3fn(std::nextafter(0.0009765625f, 1.0f))) == 0.001953125f);
  CHECK(value(e4m3fn(0.0029296875f)) == 0.00390625f);
  CHECK(value(e4m3fn(1.0625f)) == 1.0f);
  CHECK(value(e4m3fn(1.1875f)) == 1.25f);
  CHECK(value(e4m3fn(17.5f)) == 18.0f);
  CHECK(value(e4m3fn(18.5f)) == 18.0f);
  CHECK(value(e4m3fn::from_bits(0x01)) == 0x1p-9f);
  CHECK(value(e4m3fn::from_bits(0x08)) == 0x1p-6f);
  CHECK(std::isnan(value(e4m3fn::from_bits(0x7F))));
  CHECK(std::isnan(value(e4m3fn::from_bits(0xFF))));
  // e5m2
  CHECK(value(e5m2(61440.0f)) == 57344.0f);
  CHECK(encode<e5m2>(61440.0f, ieee) == 0x7C);  // the tie goes up
  CHECK(encode<e5m2>(std::nextafter(61440.0f, 0.0f), ieee) == 0x7B);
  CHECK(encode<e5m2>(-1e30f, ieee) == 0xFC);
  CHECK(encode<e5m2>(-1e30f) == 0xFB);
  CHECK(value(e5m2(1.1875f)) == 1.25f);
  CHECK(value(e5m2(17.5f)) == 16.0f);
  CHECK(value(e5m2(18.5f)) == 20.0f);
  CHECK(value(e5m2(1e-5f)) == 0x1p-16f);
  CHECK(value(e5m2(0x1p-17f)) == 0.0f);
  CHECK(value(e5m2(-0x1p-17f)) == 0.0f);
  CHECK(encode<e5m2>(-0x1p-17f) == 0x80);
  CHECK(value(e5m2::from_bits(0x01)) == 0x1p-16f);
  CHECK(value(e5m2::from_bits(0x04)) == 0x1p-14f);
  CHECK(std::isinf(value(e5m2::from_bits(0x7C))));
  for (const unsigned code : {0x7Du, 0x7Eu, 0x7Fu, 0xFDu, 0xFEu, 0xFFu})
    CHECK(std::isnan(value(e5m2::from_bits(static_cast<std::uint8_t>(code)))));
  // fnuz: no -0, and its code is the NaN
  CHECK(encode<e4m3fnuz>(-0.0f) == 0);
  CHECK(encode<e5m2fnuz>(-1e-9f) == 0);
  CHECK(encode<e4m3fnuz>(1000.0f, ieee) == 0x80);
  CHECK(encode<e4m3fnuz>(-1000.0f, ieee) == 0x80);
  CHECK(encode<e4m3fnuz>(-1000.0f) == 0xFF);
  CHECK(value(e4m3fnuz::from_bits(0x40)) == 1.0f);
  CHECK(value(e5m2fnuz::from_bits(0x40)) == 1.0f);
  CHECK(value(e4m3fnuz::from_bits(0x01)) == 0x1p-10f);
  CHECK(value(e5m2fnuz::from_bits(0x01)) == 0x1p-17f);
  // the elements of block formats
  const float fours[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  for (unsigned code = 0; code < 8; ++code)
    CHECK(value(e2m1::from_bits(static_cast<std::uint8_t>(code))) == fours[code]);
  CHECK(value(e2m1(2.5f)) == 2.0f);
  CHECK(value(e2m1(5.0f)) == 4.0f);
  CHECK(value(e2m1(-0.25f)) == 0.0f);
  CHECK(value(e3m2::from_bits(0x01)) == 0.0625f);
  CHECK(value(e2m3::from_bits(0x01)) == 0.125f);
}

TEMPLATE_LIST_TEST_CASE("all products of fp8 are exact", "[fp8]", eights) {
  using M = mac::fp8<TestType>;
  CHECK(std::string_view(M::name) == std::string("fp8_") + element_name<TestType>);
  std::size_t wrong = 0;
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned w = 0; w < 256; ++w) {
      const auto x = TestType::from_bits(static_cast<std::uint8_t>(a)),
                 y = TestType::from_bits(static_cast<std::uint8_t>(w));
      const float product = M::multiply_add(0.0f, x, y);
      const double exact = static_cast<double>(static_cast<float>(x)) * static_cast<double>(static_cast<float>(y));
      wrong += std::isnan(exact) ? !std::isnan(product) : static_cast<double>(product) != exact;
      // The way by bf16 gives the same.
      const float by_bf16 =
          mac::bf16::multiply_add(0.0f, bfloat16(static_cast<float>(x)), bfloat16(static_cast<float>(y)));
      wrong += std::isnan(exact) ? !std::isnan(by_bf16) : by_bf16 != product;
    }
  CHECK(wrong == 0);
  CHECK(std::string_view(mac::fp8<e5m2, e4m3fn>::name) == "fp8_e5m2_e4m3fn");
  CHECK(mac::fp8<e5m2, e4m3fn>::multiply_add(1.0f, e5m2(-2.0f), e4m3fn(448.0f)) == -895.0f);
}

TEMPLATE_LIST_TEST_CASE("fp8 scales a tensor or a channel to its largest value", "[fp8]", eights) {
  using E = TestType;
  POLYMAC_RANDOM(random, 2);
  const std::size_t rows = 3, columns = 50;
  std::vector<float> values(rows * columns);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = (2.0f * random.unit() - 1.0f) * (i / columns == 1 ? 1e-20f : 1e10f);
  std::vector<E> codes(values.size());
  float scale = 0.0f;
  REQUIRE(mac::encode<E>(values, codes, scale).ok());
  const auto check_row = [&](std::size_t from, std::size_t to, float s) {
    float largest = 0.0f;
    for (std::size_t i = from; i < to; ++i) largest = std::max(largest, std::abs(values[i]));
    CHECK(s == largest / E::max());
    std::size_t wrong = 0, full = 0;
    for (std::size_t i = from; i < to; ++i) {
      const float decoded = mac::decode(codes[i], s);
      const float unit = std::ldexp(1.0f, -E::mantissa_bits - 1), least = static_cast<float>(E::from_bits(1)) * s / 2;
      wrong += std::abs(decoded - values[i]) > std::max(std::abs(values[i]) * unit, least) * 1.00001f;
      full += (codes[i].bits & 0x7F) == E::largest_code;
    }
    CHECK(wrong == 0);
    CHECK(full >= 1);
  };
  check_row(0, values.size(), scale);
  std::vector<float> scales(rows);
  REQUIRE(mac::encode_rows(matrix_view<const float>(values.data(), rows, columns),
                           matrix_view<E>(codes.data(), rows, columns), scales)
              .ok());
  for (std::size_t r = 0; r < rows; ++r) check_row(r * columns, (r + 1) * columns, scales[r]);
  CHECK(scales[1] < 1e-20f);

  CHECK(mac::scale_for<E>(0.0f) == 1.0f);
  CHECK(mac::scale_for<E>(1e-44f) == 0x1p-126f);
  CHECK(mac::scale_for<E>(E::max()) == 1.0f);

  // Refused, with nothing written.
  const auto before = codes;
  const float old = scale;
  values[70] = std::numeric_limits<float>::quiet_NaN();
  auto s = mac::encode<E>(values, codes, scale);
  CHECK(std::string(s.text()) == "fp8: encode: expected finite values, value 70 is NaN");
  values[70] = -INFINITY;
  s = mac::encode<E>(values, codes, scale);
  CHECK(std::string(s.text()) == "fp8: encode: expected finite values, value 70 is infinite");
  CHECK_FALSE(mac::encode_rows(matrix_view<const float>(values.data(), rows, columns),
                               matrix_view<E>(codes.data(), rows, columns), scales)
                  .ok());
  s = mac::encode<E>(std::span<const float>(values).first(5), std::span<E>(codes).first(4), scale);
  CHECK(std::string(s.text()) == "fp8: encode: expected as many codes as values, got 4 and 5");
  CHECK(codes == before);
  CHECK(scale == old);
}
