// SPDX-License-Identifier: MIT
// Dynamic fixed point: the exponent, the three roundings, sums of tensors, chains at their bound, and the noise of the
// codes. Numbers without a word beside them are worked out by hand from the definition.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/core/bfloat16.hpp>
#include <polymac/core/dynamic_fixed_point.hpp>
#include <polymac/epilogue/scale.hpp>
#include <polymac/mac/dfp.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

namespace dynamic_fixed_point = polymac::dynamic_fixed_point;
namespace mac = polymac::mac;
using dynamic_fixed_point::format;
using dynamic_fixed_point::rounding;
using polymac::errc;

namespace {

template <class Storage, int Shift = 0>
struct encoded {
  int exponent = 0;
  std::vector<int> codes;
};
template <class Storage, int Shift = 0>
encoded<Storage, Shift> encode(const std::vector<float>& values, rounding how = rounding::nearest_even) {
  std::vector<Storage> codes(values.size(), Storage{77});
  const auto exponent = format<Storage, Shift>::encode(values, codes, how);
  REQUIRE(exponent.ok());
  return {*exponent, {codes.begin(), codes.end()}};
}

/// N(0, 1) by Box and Muller.
std::vector<float> normal(polymac_test::random_source& random, std::size_t count) {
  std::vector<float> values;
  while (values.size() < count) {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - static_cast<double>(random.unit())));
    const double angle = 2.0 * std::numbers::pi * static_cast<double>(random.unit());
    values.push_back(static_cast<float>(radius * std::cos(angle)));
    values.push_back(static_cast<float>(radius * std::sin(angle)));
  }
  return values;
}
double decibels(double signal, double noise) { return 10.0 * std::log10(signal / noise); }

template <int Shift>
double sqnr_of_int16(const std::vector<float>& values) {
  using f = format<std::int16_t, Shift>;
  std::vector<std::int16_t> codes(values.size());
  std::vector<float> back(values.size());
  const auto exponent = f::encode(values, codes);
  REQUIRE(exponent.ok());
  REQUIRE(f::decode(codes, *exponent, back).ok());
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double v = static_cast<double>(values[i]), e = static_cast<double>(back[i]) - v;
    signal += v * v;
    noise += e * e;
  }
  return decibels(signal, noise);
}

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("The quantiser gives the paper's codes", "[dfp]") {
  const std::vector<float> a = {.5F, -.25F, .1F, .999F, -.3333333F, 1e-5F};
  const auto full = encode<std::int16_t>(a);
  REQUIRE(full.exponent == -15);
  REQUIRE(full.codes == std::vector{16384, -8192, 3277, 32735, -10923, 0});
  const auto shifted = encode<std::int16_t, 2>(a);
  REQUIRE(shifted.exponent == -13);
  REQUIRE(shifted.codes == std::vector{4096, -2048, 819, 8184, -2731, 0});
  const auto larger = encode<std::int16_t>({3, -1, 2.9999F, 1e-4F});
  REQUIRE(larger.exponent == -13);
  REQUIRE(larger.codes == std::vector{24576, -8192, 24575, 1});
  const auto bytes = encode<std::int8_t>({3, -1, 2.9999F, 1e-4F});
  REQUIRE(bytes.exponent == -5);
  REQUIRE(bytes.codes == std::vector{96, -32, 96, 0});
}

TEST_CASE("A maximum just below a power of two saturates and does not wrap", "[dfp]") {
  REQUIRE(encode<std::int16_t>({0.99999F, -0.99999F, 0.5F}).codes == std::vector{32767, -32767, 16384});
  REQUIRE(encode<std::int16_t, 2>({0.99999F, -0.99999F}).codes == std::vector{8191, -8191});
  REQUIRE(encode<std::int8_t>({-0.999F}).codes == std::vector{-127});
  const auto one = encode<std::int16_t>({1.0F});  // m = 1/2: the exponent is one more
  REQUIRE(one.exponent == -14);
  REQUIRE(one.codes == std::vector{16384});
}

TEST_CASE("Tensors of zeros, tiny and huge ones", "[dfp]") {
  const auto zeros = encode<std::int16_t>({0.0F, -0.0F, 0.0F});
  REQUIRE(zeros.exponent == 0);
  REQUIRE(zeros.codes == std::vector{0, 0, 0});
  REQUIRE(encode<std::int16_t>({}).exponent == 0);

  for (const float extreme : {std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max(),
                              -std::numeric_limits<float>::min(), 0x1.8p-140F}) {
    const auto e = encode<std::int16_t>({extreme});
    const float back = format<std::int16_t>::decode(static_cast<std::int16_t>(e.codes[0]), e.exponent);
    INFO(static_cast<double>(extreme) << " " << e.exponent << " " << e.codes[0]);
    REQUIRE(std::abs(static_cast<double>(back) / static_cast<double>(extreme) - 1) < 1e-4);
  }
}

TEST_CASE("Ties go to even or away from zero", "[dfp]") {
  // Bytes with the maximum 64: one unit.
  const std::vector<float> ties = {64, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, -2.5F, -5.75F};
  REQUIRE(encode<std::int8_t>(ties).codes == std::vector{64, 0, 2, 2, 0, -2, -2, -6});
  REQUIRE(encode<std::int8_t>(ties, rounding::half_away).codes == std::vector{64, 1, 2, 3, -1, -2, -3, -6});
}

TEST_CASE("Stochastic rounding is unbiased, and exact values stay", "[dfp]") {
  POLYMAC_RANDOM(random, 11);
  auto generator = [&] { return static_cast<std::uint32_t>(random.bits()); };
  const std::vector<float> values = {64, 0.25F, -0.75F, 3.0F, -17.0F, 0.0F};
  std::vector<double> mean(values.size());
  constexpr int runs = 20000;
  for (int i = 0; i < runs; ++i) {
    std::vector<std::int8_t> codes(values.size());
    REQUIRE(*format<std::int8_t>::encode(values, codes, generator) == 0);
    for (std::size_t k = 0; k < codes.size(); ++k) mean[k] += codes[k] / static_cast<double>(runs);
    REQUIRE((codes[0] == 64 && codes[3] == 3 && codes[4] == -17 && codes[5] == 0));
    REQUIRE((codes[1] == 0 || codes[1] == 1));
    REQUIRE((codes[2] == 0 || codes[2] == -1));
  }
  REQUIRE(std::abs(mean[1] - 0.25) < 0.02);  // six times the standard deviation
  REQUIRE(std::abs(mean[2] + 0.75) < 0.02);
  using f = format<std::int8_t>;
  REQUIRE((f::encode_stochastic(0.25F, 0, 0xFFFFFFFFu) == 0 && f::encode_stochastic(0.25F, 0, 0) == 1));
  REQUIRE((f::encode_stochastic(0.25F, 0, 0x3FFFFFFFu) == 1 && f::encode_stochastic(0.25F, 0, 0x40000000u) == 0));
  REQUIRE((f::encode_stochastic(5.0F, 0, 0xFFFFFFFFu) == 5 && f::encode_stochastic(5.0F, 0, 0) == 5));
}

TEST_CASE("NaN and infinities are refused, and the text says where", "[dfp]") {
  for (const float bad : {not_a_number, infinity, -infinity}) {
    const std::vector<float> values = {1, 2, bad, not_a_number};
    std::vector<std::int16_t> codes(4, 5);
    const auto r = mac::dfp<std::int16_t>::encode(values, codes);
    REQUIRE_FALSE(r.ok());
    REQUIRE(r.status().code() == errc::parameter);
    REQUIRE(std::string(r.status().text()) ==
            std::string("dynamic_fixed_point::encode: expected finite values, value 2 is ") + (bad != bad ? "NaN"
                                                                                               : bad > 0  ? "inf"
                                                                                                          : "-inf"));
    REQUIRE(codes == std::vector<std::int16_t>(4, 5));
  }
  std::vector<std::int16_t> three(3);
  std::vector<float> two(2);
  const std::vector<std::int32_t> sums(4);
  REQUIRE(format<std::int16_t>::encode(two, three).status().code() == errc::shape);
  REQUIRE(format<std::int16_t>::decode(three, 0, two).code() == errc::shape);
  REQUIRE(format<std::int16_t>::down_convert(sums, 0, three).status().code() == errc::shape);
  REQUIRE(format<std::int16_t>::add(three, 0, three, 0, std::span(three).first(2)).status().text() ==
          "dynamic_fixed_point::add: expected as many elements on both sides, got 3 and 2");
}

TEST_CASE("Sums in 32 bits become codes with a new exponent", "[dfp]") {
  const auto convert = [](std::vector<std::int32_t> sums) {
    std::vector<std::int16_t> codes(sums.size());
    const auto e = format<std::int16_t>::down_convert(sums, -20, codes);
    REQUIRE(e.ok());
    return std::pair{*e, codes};
  };
  using codes = std::vector<std::int16_t>;
  REQUIRE(convert({0, 0}) == std::pair{-20, codes{0, 0}});
  REQUIRE(convert({32767, -5}) == std::pair{-20, codes{32767, -5}});  // fits: nothing is lost
  REQUIRE(convert({32768, 1, -1, 3}) == std::pair{-19, codes{16384, 1, 0, 2}});
  REQUIRE(convert({65534, -65534}) == std::pair{-19, codes{32767, -32767}});
  REQUIRE(convert({65535, 4}) == std::pair{-18, codes{16384, 1}});  // (65535 + 1) >> 1 is 2^15: one bit more
  REQUIRE(convert({-65535, 4}) == std::pair{-19, codes{-32767, 2}});
  REQUIRE(convert({std::numeric_limits<std::int32_t>::max()}) == std::pair{-3, codes{16384}});
  REQUIRE(convert({std::numeric_limits<std::int32_t>::min()}) == std::pair{-3, codes{-16384}});

  const std::vector<std::int32_t> sums = {1000, -1000, 254, 255};
  std::vector<std::int8_t> bytes(4);
  REQUIRE(*format<std::int8_t>::down_convert(sums, 3, bytes) == 6);
  REQUIRE(bytes == std::vector<std::int8_t>{125, -125, 32, 32});
}

TEST_CASE("Sums in 32 bits keep their values to half a unit of the new exponent", "[dfp]") {
  POLYMAC_RANDOM(random, 12);
  for (int bits = 1; bits <= 31; ++bits) {
    std::vector<std::int32_t> sums(50);
    const std::int64_t most = (std::int64_t{1} << bits) - 1;
    for (auto& s : sums) s = static_cast<std::int32_t>(random.integer(-most, most));
    std::vector<std::int16_t> codes(50);
    const int e = *format<std::int16_t, 2>::down_convert(sums, 0, codes);
    REQUIRE(e >= 0);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      REQUIRE(std::abs(codes[i]) <= 8191);
      REQUIRE(std::abs(std::ldexp(codes[i], e) - sums[i]) <= (e == 0 ? 0.0 : std::ldexp(0.5, e)));
    }
  }
}

TEST_CASE("The sum of two tensors has the larger exponent, or one more", "[dfp]") {
  const auto add = [](std::vector<std::int16_t> a, int ea, std::vector<std::int16_t> b, int eb) {
    std::vector<std::int16_t> sum(a.size());
    const auto e = format<std::int16_t>::add(a, ea, b, eb, sum);
    REQUIRE(e.ok());
    return std::pair{*e, sum};
  };
  using codes = std::vector<std::int16_t>;
  REQUIRE(add({100, -7}, -10, {7, -7}, -12) == std::pair{-10, codes{101, -9}});  // 7 >> 2, -7 >> 2 = -2
  REQUIRE(add({7, -7}, -12, {100, -7}, -10) == std::pair{-10, codes{101, -9}});  // mirrored
  REQUIRE(add({5, 5}, 0, {32767, -32767}, -100) == std::pair{0, codes{5, 4}});
  REQUIRE(add({32767, 1}, 3, {32767, 1}, 3) == std::pair{4, codes{32767, 1}});
  REQUIRE(add({-32767, 1}, 3, {-32767, 0}, 3) == std::pair{4, codes{-32767, 1}});
  REQUIRE(add({}, 3, {}, 4) == std::pair{4, codes{}});
}

TEST_CASE("Guaranteed chains are the longest that fit, statistical ones wrap", "[dfp]") {
  STATIC_REQUIRE(mac::dfp<std::int16_t>::chain == 32);
  STATIC_REQUIRE(mac::dfp<std::int16_t, 3>::chain == 128);
  STATIC_REQUIRE(mac::dfp<std::int16_t, 1>::chain == 8);
  STATIC_REQUIRE(mac::dfp<std::int16_t, 0>::chain == 2);
  STATIC_REQUIRE(mac::dfp<std::int8_t>::chain == 131071);
  STATIC_REQUIRE(mac::dfp_statistical<std::int16_t>::chain == 256);
  STATIC_REQUIRE(!mac::dfp_statistical<std::int16_t>::is_guaranteed);
  STATIC_REQUIRE(32 * 8191 * 8191 == 2146959392);
  const auto fits = [](auto m) {
    using M = decltype(m);
    constexpr auto code = static_cast<typename M::weight>(M::format::limit);
    std::int32_t up = 0, down = 0;
    for (std::size_t k = 0; k < M::chain; ++k) {
      up = M::multiply_add(up, code, code);
      down = M::multiply_add(down, code, static_cast<typename M::weight>(-code));
    }
    REQUIRE(up == static_cast<std::int64_t>(M::chain) * code * code);
    REQUIRE(down == -up);
    REQUIRE(static_cast<std::int64_t>(M::chain + 1) * code * code >
            std::numeric_limits<std::int32_t>::max() - (std::int64_t{1} << 27));
  };
  fits(mac::dfp<std::int16_t>{});
  fits(mac::dfp<std::int16_t, 3>{});
  fits(mac::dfp<std::int16_t, 0>{});
  fits(mac::dfp<std::int8_t>{});
  // Bytes that are no codes are safe as well.
  std::int32_t sum = 0;
  for (std::size_t k = 0; k < mac::dfp<std::int8_t>::chain; ++k)
    sum = mac::dfp<std::int8_t>::multiply_add(sum, -128, -128);
  REQUIRE(sum == 131071 * 16384);
  // One more product than is safe wraps, in two's complement.
  using statistical = mac::dfp_statistical<std::int16_t>;
  sum = 0;
  for (int k = 0; k < 33; ++k) sum = statistical::multiply_add(sum, 8191, 8191);
  REQUIRE(sum == static_cast<std::int32_t>(33LL * 8191 * 8191 - (1LL << 32)));
  REQUIRE(statistical::multiply_add(std::int32_t{0}, -32768, -32768) == 1073741824);
}

TEST_CASE("A sum of chains keeps its error bound and the reals their scale", "[dfp]") {
  POLYMAC_RANDOM(random, 13);
  using M = mac::dfp<std::int16_t>;
  for (const std::size_t depth : {1u, 31u, 32u, 33u, 1000u, 5000u}) {
    const auto x = normal(random, depth + 1), y = normal(random, depth + 1);
    std::vector<std::int16_t> a(x.size()), w(y.size());
    const auto ea = M::encode(x, a), ew = M::encode(y, w);
    REQUIRE((ea.ok() && ew.ok()));
    float chained = 0.0F, single = 0.0F;
    std::int32_t chain = 0;
    double exact = 0, magnitudes = 0;
    for (std::size_t k = 0; k < depth; ++k) {
      REQUIRE(M::check_weight(w[k]));
      chain = M::multiply_add(chain, a[k], w[k]);
      if ((k + 1) % M::chain == 0 || k + 1 == depth) {
        chained = M::spill(chained, chain);
        chain = 0;
      }
      single = M::multiply_add(single, a[k], w[k]);
      exact += static_cast<double>(a[k]) * w[k];
      magnitudes += std::abs(static_cast<double>(a[k]) * w[k]);
    }
    const std::size_t chains = (depth + M::chain - 1) / M::chain;
    REQUIRE(std::abs(static_cast<double>(chained) - exact) <= M::error_bound(chains, magnitudes));
    REQUIRE(std::abs(static_cast<double>(single) - exact) <= M::error_bound(depth, magnitudes));
    // And in reals: the product of the reals, up to half a unit of each operand.
    double reals = 0, bound = 0;
    for (std::size_t k = 0; k < depth; ++k) {
      reals += static_cast<double>(x[k]) * static_cast<double>(y[k]);
      bound += std::ldexp(std::abs(static_cast<double>(x[k])) + 1e-3, *ew) +
               std::ldexp(std::abs(static_cast<double>(y[k])) + 1e-3, *ea);
    }
    const auto stage = polymac::epilogue::scale(M::scale(*ea, *ew));
    REQUIRE(stage.check(7).ok());
    REQUIRE(std::abs(static_cast<double>(stage(chained, 0, 0)) - reals) <= bound);
  }
  STATIC_REQUIRE(M::spill(0.0F, (1 << 24) + 1) == 16777216.0F);  // rounds once
  STATIC_REQUIRE(M::multiply_add(1.0F, 3, -4) == -11.0F);
  STATIC_REQUIRE(
      (!M::check_weight(8192) && M::check_weight(8191) && M::check_weight(-8191) && !M::check_weight(-8192)));
  REQUIRE(std::string(M::name) == "dfp16");
  REQUIRE(std::string(mac::dfp<std::int8_t>::name) == "dfp8");
  REQUIRE(std::string(mac::dfp<std::int16_t, 0>::name) == "dfp16_shift0");
  REQUIRE(std::string(mac::dfp_statistical<std::int16_t>::name) == "dfp16_statistical");
}

TEST_CASE("The scale of a product, and scales that are none", "[dfp]") {
  using polymac::epilogue::scale;
  STATIC_REQUIRE(dynamic_fixed_point::product_scale(-13, -12) == 0x1p-25F);
  STATIC_REQUIRE(dynamic_fixed_point::product_scale(-100, -49) == std::numeric_limits<float>::denorm_min());
  STATIC_REQUIRE(dynamic_fixed_point::product_scale(-100, -26) == std::numeric_limits<float>::min());
  STATIC_REQUIRE(dynamic_fixed_point::product_scale(100, 27) == 0x1p127F);
  REQUIRE(scale(0.5F).check(3).ok());
  REQUIRE(scale(0.5F)(3.0F, 0, 0) == 1.5F);
  const auto words = [](float s) { return std::string(scale(s).check(1).text()); };
  REQUIRE(words(dynamic_fixed_point::product_scale(-100, -50)) ==
          "scale: expected a finite scale above 0, channel 0 has 0");
  REQUIRE(words(dynamic_fixed_point::product_scale(100, 28)) ==
          "scale: expected a finite scale above 0, channel 0 has an infinite one");
  REQUIRE(words(not_a_number) == "scale: expected a finite scale above 0, channel 0 has NaN");
  REQUIRE(words(-1.0F) == "scale: expected a finite scale above 0, channel 0 has a negative one");
  const std::vector<float> three = {1, 2, 4};
  REQUIRE(scale(three).check(3).ok());
  REQUIRE(scale(three)(3.0F, 0, 2) == 12.0F);
  REQUIRE(scale(three).check(4).text() == "scale: expected 4 scales, one per column, got 3");
}

TEST_CASE("The noise of the codes is that of the paper", "[dfp]") {
  POLYMAC_RANDOM(random, 14);
  auto values = normal(random, 65536);
  values[0] = 4.375F;  // the maximum of the table's sample: the exponent follows from it
  for (float& v : values) v = std::clamp(v, -4.375F, 4.375F);
  REQUIRE(std::abs(sqnr_of_int16<0>(values) - 83.04) < 0.1);
  REQUIRE(std::abs(sqnr_of_int16<1>(values) - 77.01) < 0.1);
  REQUIRE(std::abs(sqnr_of_int16<2>(values) - 70.99) < 0.1);
  REQUIRE(std::abs(sqnr_of_int16<3>(values) - 64.99) < 0.1);
  // bfloat16 beside them: 55.59 by integration over the density, of which the table's sample has 55.68.
  double signal = 0, noise = 0;
  for (const float v : normal(random, std::size_t{1} << 20)) {
    const double e = static_cast<double>(static_cast<float>(polymac::bfloat16(v))) - static_cast<double>(v);
    signal += static_cast<double>(v) * static_cast<double>(v);
    noise += e * e;
  }
  REQUIRE(std::abs(decibels(signal, noise) - 55.68) < 0.12);
  REQUIRE(std::abs(decibels(signal, noise) - 55.59) < 0.05);
}

TEST_CASE("Chains of data: uniform operands overflow a statistical one, normal ones do not", "[dfp]") {
  POLYMAC_RANDOM(random, 15);
  using M = mac::dfp_statistical<std::int16_t>;
  std::vector<float> x(M::chain), y(M::chain);
  for (auto* v : {&x, &y})
    for (float& f : *v) f = random.unit();
  const auto largest = [](const std::vector<float>& v, const std::vector<float>& u) {
    std::vector<std::int16_t> a(v.size()), w(u.size());
    REQUIRE((M::encode(v, a).ok() && M::encode(u, w).ok()));
    std::int64_t sum = 0, most = 0;
    std::int32_t wrapped = 0;
    for (std::size_t k = 0; k < a.size(); ++k) {
      sum += std::int64_t{a[k]} * w[k];
      wrapped = M::multiply_add(wrapped, a[k], w[k]);
      most = std::max(most, std::abs(sum));
      REQUIRE(wrapped == static_cast<std::int32_t>(sum));
    }
    return std::log2(static_cast<double>(most));
  };
  REQUIRE(std::abs(largest(x, y) - 32.0) < 0.5);
  REQUIRE(largest(normal(random, M::chain), normal(random, M::chain)) < 29.0);
}
