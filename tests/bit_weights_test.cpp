// SPDX-License-Identifier: MIT
// Digits, packed codes, weights of few bits and products of bits: each against the plain integers, exhaustively where
// that is possible.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/core/bit_codes.hpp>
#include <polymac/core/block.hpp>
#include <polymac/core/digits.hpp>
#include <polymac/mac/bit_planes.hpp>
#include <polymac/mac/bit_weights.hpp>
#include <polymac/mac/sign.hpp>
#include <polymac/mac/spike.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "support/test_code.hpp"

namespace digits = polymac::digits;
namespace mac = polymac::mac;
using polymac::bit_codes;
using polymac::bit_word;
using polymac::block_of;
using polymac::errc;
using polymac::matrix_view;
using polymac::ternary_bits;

namespace {

using encodings = std::tuple<digits::twos_complement, digits::sign_magnitude, digits::booth, digits::en_t, digits::naf>;

/// The highest digit first, as the literature writes them.
template <class E>
std::vector<int> written(int value, int bits = 8) {
  const auto d = E::expand(value, bits);
  std::vector<int> all(d.begin(), d.begin() + static_cast<std::ptrdiff_t>(E::count(bits)));
  std::reverse(all.begin(), all.end());
  return all;
}
using list = std::vector<int>;

template <int... Bits>
struct widths {};
using all_widths = widths<1, ternary_bits, 2, 3, 4, 8>;
template <class F, int... Bits>
void for_each_width(widths<Bits...>, F&& f) {
  (f.template operator()<Bits>(), ...);
}

constexpr float infinity = std::numeric_limits<float>::infinity();

}  // namespace

TEMPLATE_LIST_TEST_CASE("Digits are the value, for every int8 and every narrower code", "[digits]", encodings) {
  using E = TestType;
  INFO(E::name);
  for (int bits = 2; bits <= 8; ++bits)
    for (int v = -(1 << (bits - 1)); v < 1 << (bits - 1); ++v) {
      const auto d = E::expand(v, bits);
      std::size_t wrong = digits::value_of<E>(d) != v;
      for (std::size_t i = 0; i < d.size(); ++i) {
        wrong += i >= E::count(bits) && d[i] != 0;
        wrong += d[i] < (E::radix == 4 ? -2 : -1) || d[i] > (E::radix == 4 ? 2 : 1);
      }
      INFO(bits << " bits, " << v);
      REQUIRE(wrong == 0);
    }
}

TEST_CASE("Digits as they are published", "[digits]") {
  REQUIRE(written<digits::en_t>(91) == list{1, 2, -1, -1});
  REQUIRE(written<digits::en_t>(124) == list{2, 0, -1, 0});
  REQUIRE(written<digits::en_t>(-91) == list{-1, -2, 1, 1});
  REQUIRE(written<digits::en_t>(127) == list{2, 0, 0, -1});
  REQUIRE(written<digits::en_t>(2) == list{0, 0, 0, 2});
  REQUIRE(written<digits::booth>(2) == list{0, 0, 1, -2});
  REQUIRE(written<digits::en_t>(100) == list{1, 2, 1, 0});
  REQUIRE(written<digits::booth>(100) == list{2, -2, 1, 0});
  REQUIRE(written<digits::en_t>(85) == list{1, 1, 1, 1});
  REQUIRE(written<digits::en_t>(-86) == list{-1, -1, -1, -2});
  REQUIRE(written<digits::en_t>(-128) == list{-2, 0, 0, 0});
  REQUIRE(written<digits::en_t>(3) == list{0, 0, 1, -1});
  // The table of core/digits.hpp.
  REQUIRE(written<digits::twos_complement>(-91) == list{-1, 0, 1, 0, 0, 1, 0, 1});
  REQUIRE(written<digits::sign_magnitude>(-91) == list{0, -1, 0, -1, -1, 0, -1, -1});
  REQUIRE(written<digits::booth>(-91) == list{-1, -2, 1, 1});
  REQUIRE(written<digits::naf>(-91) == list{-1, 0, 1, 0, 0, 1, 0, 1});
  STATIC_REQUIRE(digits::count_of_non_zero(digits::naf::expand(127, 8)) == 2);
}

TEST_CASE("The non-adjacent form has no neighbours and no more digits than any other in -1, 0, 1", "[digits]") {
  for (int v = -128; v < 128; ++v) {
    const auto d = digits::naf::expand(v, 8);
    for (std::size_t i = 1; i < d.size(); ++i) REQUIRE(d[i] * d[i - 1] == 0);
    REQUIRE(digits::count_of_non_zero(d) <= digits::count_of_non_zero(digits::twos_complement::expand(v, 8)));
    REQUIRE(digits::count_of_non_zero(d) <= digits::count_of_non_zero(digits::sign_magnitude::expand(v, 8)));
  }
}

TEST_CASE("Packed codes come back, and values that are no codes are refused", "[bit_codes]") {
  for_each_width(all_widths{}, []<int Bits>() {
    using codes = bit_codes<Bits>;
    INFO(Bits << " bits");
    std::vector<std::int8_t> all;
    for (int v = codes::least; v <= codes::most; ++v)
      if (codes::contains(v)) all.push_back(static_cast<std::int8_t>(v));
    REQUIRE(all.size() == (Bits == 1 ? 2 : Bits == ternary_bits ? 3 : std::size_t{1} << Bits));
    const std::size_t distinct = all.size();
    for (std::size_t i = distinct; i < 300; ++i) all.push_back(all[(7 * i + i / 9) % distinct]);
    std::vector<std::uint8_t> packed(codes::bytes(all.size()), 0xA5);
    REQUIRE(codes::bytes(all.size()) == (all.size() * static_cast<std::size_t>(codes::stored_bits) + 7) / 8);
    REQUIRE(codes::pack(all, packed).ok());
    std::vector<std::int8_t> back(all.size());
    REQUIRE(codes::unpack(packed, back).ok());
    REQUIRE(back == all);
    codes::put(packed.data(), 101, codes::most);  // one alone
    back = all;
    back[101] = codes::most;
    for (std::size_t i = 0; i < all.size(); ++i) REQUIRE(codes::at(packed.data(), i) == back[i]);

    if (Bits != 8) {
      all[17] = static_cast<std::int8_t>(codes::most + 1);
      const auto s = codes::pack(all, packed);
      REQUIRE(s.code() == errc::parameter);
      REQUIRE(std::string(s.text()).find("code 17 is " + std::to_string(codes::most + 1)) != std::string::npos);
      REQUIRE(codes::at(packed.data(), 0) == back[0]);
    }
    REQUIRE(codes::pack(back, std::span(packed).first(packed.size() - 1)).code() == errc::short_buffer);
    REQUIRE(codes::unpack(std::span(packed).first(packed.size() - 1), back).code() == errc::short_buffer);
  });
  REQUIRE_FALSE(bit_codes<1>::contains(0));
}

TEMPLATE_LIST_TEST_CASE("Every product of a code is the integer product, also through its digits", "[bit_weights]",
                        encodings) {
  for_each_width(all_widths{}, []<int Bits>() {
    using M = mac::bit_weights<Bits, TestType>;
    INFO(M::name);
    std::size_t wrong = 0;
    for (int a = -128; a < 128; ++a)
      for (int w = M::weight_min; w <= M::weight_max; ++w) {
        const auto x = static_cast<std::int8_t>(a), y = static_cast<std::int8_t>(w);
        wrong += M::multiply_add(1000, x, y) != 1000 + a * w;
        wrong += M::multiply_add_by_digits(1000, x, y) != 1000 + a * w;
        wrong += M::check_weight(y) != (Bits != 1 || w != 0);
      }
    REQUIRE(wrong == 0);
    REQUIRE((Bits == 8 || !M::check_weight(static_cast<std::int8_t>(M::weight_max + 1))));
    REQUIRE((Bits == 8 || !M::check_weight(static_cast<std::int8_t>(M::weight_min - 1))));
    // The longest safe sum, with -128 on the other side.
    const std::int64_t most = std::int64_t{128} * -M::weight_min, limit = std::numeric_limits<std::int32_t>::max();
    REQUIRE(static_cast<std::int64_t>(M::max_depth) * most <= limit);
    REQUIRE((static_cast<std::int64_t>(M::max_depth) + 1) * most > limit);
  });
}

TEST_CASE("Names say bits, group and encoding", "[bit_weights]") {
  REQUIRE(std::string(mac::bit_weights<4>::name) == "w4_twos_complement");
  REQUIRE(std::string(mac::bit_weights<ternary_bits, digits::en_t, 64>::name) == "ternary_group64_en_t");
}

TEST_CASE("Blocks of weights: scale times the integer product, whatever the digits", "[bit_weights]") {
  POLYMAC_RANDOM(random, 21);
  for_each_width(all_widths{}, [&]<int Bits>() {
    using M = mac::bit_weights<Bits, digits::booth, 64>;
    using N = mac::bit_weights<Bits, digits::en_t, 64>;
    using codes = typename M::codes;
    INFO(M::name);
    for (int run = 0; run < 50; ++run) {
      typename M::activation a;
      typename M::weight w;
      w.scale = 0.125F * static_cast<float>(random.integer(1, 9));
      if (!codes::two_or_three_values)
        w.zero_point = static_cast<std::int8_t>(random.integer(codes::least, codes::most));
      int dot = 0;
      for (std::size_t k = 0; k < 64; ++k) {
        a[k] = static_cast<std::int8_t>(run == 0 ? -128 : random.integer(-128, 127));
        int q = run == 0 ? codes::least : static_cast<int>(random.integer(codes::least, codes::most));
        if (!codes::contains(q)) q = 1;
        w.set_code(k, q);
        REQUIRE(w.code(k) == q);
        dot += a[k] * (q - w.zero_point);
      }
      const float expected = 3.0F + w.scale * static_cast<float>(dot);
      REQUIRE(w.is_valid());
      REQUIRE(M::multiply_add(3.0F, a, w) == expected);
      REQUIRE(M::multiply_add_by_digits(3.0F, a, w) == expected);
      REQUIRE(N::multiply_add_by_digits(3.0F, a, w) == expected);
      REQUIRE(M::multiply_add(-7.0F, a, typename M::weight{}) == -7.0F);
      REQUIRE(M::multiply_add(-7.0F, typename M::activation{}, w) == -7.0F);
    }
  });
}

TEST_CASE("Scales and zero points that no quantiser makes are refused", "[bit_weights]") {
  using M = mac::bit_weights<4, digits::naf, 32>;
  M::weight w;
  REQUIRE_FALSE(M::check_weight(w));
  w.scale = 0.5F;
  REQUIRE(M::check_weight(w));
  for (const float s : {0.0F, -1.0F, infinity, std::numeric_limits<float>::quiet_NaN()}) {
    w.scale = s;
    REQUIRE_FALSE(M::check_weight(w));
  }
  w.scale = 0.5F;
  w.zero_point = 8;
  REQUIRE_FALSE(M::check_weight(w));
  mac::weight_group<ternary_bits, 32> t;
  t.scale = 1.0F;
  REQUIRE(t.is_valid());
  t.packed[5] = 0x20;  // the two bits of -2
  REQUIRE_FALSE(t.is_valid());
  t.packed[5] = 0x30;
  REQUIRE(t.is_valid());
  t.zero_point = 1;
  REQUIRE_FALSE(t.is_valid());
}

TEST_CASE("The quantisers, by hand", "[bit_weights]") {
  const std::vector<float> weights = {0.875F, -0.4375F, 0.0625F, 0.0F, -1.75F, 0.875F, 0.4375F, 0.4375F};
  const matrix_view<const float> w(weights.data(), 2, 4);
  std::vector<std::int8_t> codes(8);
  const matrix_view<std::int8_t> to(codes.data(), 2, 4);
  std::vector<float> scales(2);
  using list8 = std::vector<std::int8_t>;

  REQUIRE(mac::bit_weights<4>::encode(w, to, scales).ok());
  REQUIRE(codes == list8{7, -4, 0, 0, -7, 4, 2, 2});  // -3.5, 0.5 | 3.5, 1.75
  REQUIRE(scales == std::vector<float>{0.125F, 0.25F});
  REQUIRE(mac::bit_weights<ternary_bits>::encode(w, to, scales).ok());
  REQUIRE(codes == list8{1, -1, 0, 0, -1, 1, 0, 0});  // a half goes to the even 0
  REQUIRE(scales == std::vector<float>{0.34375F, 0.875F});
  REQUIRE(mac::bit_weights<1>::encode(w, to, scales).ok());
  REQUIRE(codes == list8{1, -1, 1, 1, -1, 1, 1, 1});
  REQUIRE(mac::bit_weights<2>::encode(w, to, scales).ok());
  REQUIRE(codes == list8{1, 0, 0, 0, -1, 0, 0, 0});  // a half
  REQUIRE(scales == std::vector<float>{0.875F, 1.75F});

  std::vector<float> one(1);  // for the whole matrix
  REQUIRE(mac::bit_weights<4>::encode(w, to, one).ok());
  REQUIRE(one[0] == 0.25F);
  REQUIRE(codes == list8{4, -2, 0, 0, -7, 4, 2, 2});

  REQUIRE(mac::bit_weights<4>::encode(w, to, std::span<float>{}).text() ==
          "bit_weights: expected 1 or 2 scales, got 0");
  REQUIRE(mac::bit_weights<4>::encode(w, matrix_view<std::int8_t>(codes.data(), 1, 8), scales).code() == errc::shape);

  std::vector<float> bad = weights;
  bad[6] = -infinity;
  REQUIRE(mac::bit_weights<4>::encode(matrix_view<const float>(bad.data(), 2, 4), to, scales).text() ==
          "bit_weights: expected finite weights, column 1, k 2 is -inf");
  bad.assign(8, 0.0F);
  bad[0] = 1.0F;
  REQUIRE(mac::bit_weights<3>::encode(matrix_view<const float>(bad.data(), 2, 4), to, scales).ok());
  REQUIRE((scales[1] == 1.0F && codes[7] == 0));
  REQUIRE(mac::bit_weights<1>::encode(matrix_view<const float>(bad.data(), 2, 4), to, scales).text() ==
          "bit_weights: one bit has no zero, and the weights of column 1 from k 0 on are zeros alone");
}

TEST_CASE("Quantised groups are as near as their scale allows", "[bit_weights]") {
  POLYMAC_RANDOM(random, 22);
  for_each_width(widths<2, 3, 4, 8>{}, [&]<int Bits>() {
    using M = mac::bit_weights<Bits, digits::booth, 32>;
    std::vector<float> weights(3 * 64), back(3 * 64);
    for (std::size_t i = 0; i < weights.size(); ++i)
      weights[i] = (random.unit() - (i < 64 ? 0.5F : i < 128 ? 0.25F : -0.5F)) * 3.0F;
    const matrix_view<const float> w(weights.data(), 3, 64);
    std::vector<typename M::weight> blocks(6);
    const matrix_view<typename M::weight> to(blocks.data(), 3, 2);
    for (const auto range : {mac::code_range::symmetric, mac::code_range::asymmetric}) {
      REQUIRE(M::encode(w, to, range).ok());
      REQUIRE(M::decode(matrix_view<const typename M::weight>(to), {back.data(), 3, 64}).ok());
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const auto& b = blocks[i / 32];
        REQUIRE(M::check_weight(b));
        REQUIRE((range == mac::code_range::asymmetric || b.zero_point == 0));
        // Half a unit; at the ends of an asymmetric range the rounded zero point costs up to another half.
        const double units = std::abs(static_cast<double>(back[i] - weights[i])) / static_cast<double>(b.scale);
        INFO(Bits << " bits, " << static_cast<double>(weights[i]) << " " << static_cast<double>(back[i]));
        REQUIRE(units <= (range == mac::code_range::asymmetric ? 1.001 : 0.501));
      }
    }
    // All of one sign: twice as fine with a zero point.
    REQUIRE(M::encode(w, to, mac::code_range::asymmetric).ok());
    const float fine = blocks[5].scale;
    REQUIRE(M::encode(w, to).ok());
    REQUIRE(fine < blocks[5].scale * (Bits == 2 ? 0.4F : 0.51F));
    REQUIRE(M::encode(matrix_view<const float>(weights.data(), 3, 40, 64), to).text() ==
            "bit_weights: groups of 32 do not divide a depth of 40");
    REQUIRE(M::encode(w, {blocks.data(), 2, 2}).code() == errc::shape);
    weights[100] = std::numeric_limits<float>::quiet_NaN();
    REQUIRE(M::encode(w, to).text() == "bit_weights: expected finite weights, column 1, k 36 is NaN");
  });
  // The smallest and the largest floats have scales, too.
  using M = mac::bit_weights<4, digits::booth, 32>;
  for (const float extreme : {std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min()}) {
    std::vector<float> weights(32, -extreme);
    weights[3] = extreme;
    M::weight b;
    for (const auto range : {mac::code_range::symmetric, mac::code_range::asymmetric}) {
      REQUIRE(M::encode({weights.data(), 1, 32}, {&b, 1, 1}, range).ok());
      REQUIRE(M::check_weight(b));
    }
  }
}

TEST_CASE("A sum of blocks keeps its error bound", "[bit_weights]") {
  POLYMAC_RANDOM(random, 23);
  using M = mac::bit_weights<4, digits::booth, 32>;
  for (const std::size_t depth : {1u, 5u, 300u}) {
    std::vector<float> weights(32 * depth);
    for (float& w : weights) w = random.unit() - 0.5F;
    std::vector<M::weight> blocks(depth);
    REQUIRE(M::encode({weights.data(), 1, 32 * depth}, {blocks.data(), 1, depth}, mac::code_range::asymmetric).ok());
    float sum = 0.25F;
    double exact = 0.25, magnitudes = 0.25;
    for (const auto& w : blocks) {
      M::activation a;
      for (auto& v : a.values) v = static_cast<std::int8_t>(random.bits());
      sum = M::multiply_add(sum, a, w);
      for (std::size_t k = 0; k < 32; ++k) {
        const double p = static_cast<double>(w.scale) * a[k] * (w.code(k) - w.zero_point);
        exact += p;
        magnitudes += std::abs(p);
      }
    }
    REQUIRE(std::abs(static_cast<double>(sum) - exact) <= M::error_bound(depth, magnitudes));
  }
}

TEST_CASE("A row of bytes is a row of blocks where it divides", "[block]") {
  std::vector<std::int8_t> values(2 * 96);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int8_t>(i);
  using group = block_of<std::int8_t, 32>;
  const auto rows = polymac::as_blocks<group>(matrix_view<const std::int8_t>(values.data(), 2, 64, 96));
  REQUIRE(rows.ok());
  REQUIRE((rows->rows == 2 && rows->columns == 2 && rows->stride == 3));
  REQUIRE((*rows)(1, 1)[5] == values[96 + 37]);
  const auto odd = polymac::as_blocks<group>(matrix_view<const std::int8_t>(values.data(), 2, 40, 96));
  REQUIRE(odd.status().code() == errc::shape);
  REQUIRE(odd.status().text() ==
          "as_blocks: expected rows of a multiple of 32 values, got 40 columns and a stride of 96");
  REQUIRE_FALSE(polymac::as_blocks<group>(matrix_view<const std::int8_t>(values.data(), 2, 32, 40)).ok());
  REQUIRE(polymac::as_blocks<group>(matrix_view<const std::int8_t>(values.data(), 1, 32, 40)).ok());
  const auto image = polymac::as_blocks<group>(polymac::image_view<std::int8_t>(values.data(), 1, 2, 3, 32));
  REQUIRE(image.ok());
  (*image)(0, 1, 2, 0)[31] = -9;
  REQUIRE(values.back() == -9);
  REQUIRE_FALSE(polymac::as_blocks<group>(polymac::image_view<std::int8_t>(values.data(), 1, 2, 2, 33)).ok());
}

TEST_CASE("AND and a count are the product of bits, and planes that of small integers", "[bit_planes]") {
  POLYMAC_RANDOM(random, 24);
  const auto check = [&]<class M>(M) {
    INFO(M::name);
    using A = typename M::activation;
    using W = typename M::weight;
    for (int run = 0; run < 200; ++run) {
      A a;
      W w;
      int dot = 5;
      for (std::size_t k = 0; k < 64; ++k) {
        const int x = static_cast<int>(run == 0 ? A::least : random.integer(A::least, A::most));
        const int y = static_cast<int>(run == 0 ? W::least : random.integer(W::least, W::most));
        a.set(k, x);
        w.set(k, y);
        REQUIRE((a[k] == x && w[k] == y));
        dot += x * y;
      }
      REQUIRE(M::multiply_add(5, a, w) == dot);
      REQUIRE((M::multiply_add(5, A{}, w) == 5 && M::multiply_add(5, a, W{}) == 5));
    }
    std::int64_t most = 0;
    for (const std::int64_t x : {A::least, A::most})
      for (const std::int64_t y : {W::least, W::most}) most = std::max(most, 64 * std::abs(x * y));
    REQUIRE(static_cast<std::int64_t>(M::max_depth) * most <= std::numeric_limits<std::int32_t>::max());
    REQUIRE((static_cast<std::int64_t>(M::max_depth) + 1) * most > std::numeric_limits<std::int32_t>::max());
  };
  check(mac::bit_planes<1, 1, false, false>{});
  check(mac::bit_planes<1, 2>{});
  check(mac::bit_planes<2, 1>{});
  check(mac::bit_planes<2, 2>{});
  check(mac::bit_planes<2, 2, true, true>{});
  check(mac::bit_planes<2, 2, true, false>{});
  check(mac::bit_planes<8, 4>{});
  REQUIRE(std::string(mac::bit_planes<2, 1, true, false>::name) == "bit_planes_s2_u1");

  for (int run = 0; run < 100; ++run) {
    const bit_word a = {random.bits()}, w = {random.bits()};
    int dot = -3;
    for (std::size_t k = 0; k < 64; ++k) dot += a[k] && w[k] ? 1 : 0;
    REQUIRE(mac::binary::multiply_add(-3, a, w) == dot);
    REQUIRE(mac::binary::encode([&](std::size_t k) { return a[k]; }) == a);
  }
  STATIC_REQUIRE(mac::binary::max_depth == 33554431);
}

TEST_CASE("Signs: agreeing less differing ones, tails add nothing", "[sign]") {
  POLYMAC_RANDOM(random, 25);
  for (const std::size_t n : {1u, 63u, 64u, 65u, 200u}) {
    std::vector<float> x(n), y(n);
    int dot = 0;
    for (std::size_t k = 0; k < n; ++k) {
      x[k] = random.unit() - 0.5F;
      y[k] = random.unit() - 0.5F;
      dot += (x[k] < 0) == (y[k] < 0) ? 1 : -1;
    }
    std::vector<mac::sign_word> a(mac::sign::words(n)), w(a.size());
    mac::sign::encode(x, a);
    mac::sign::encode(y, w);
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      REQUIRE(mac::sign::check_weight(w[i]));
      sum = mac::sign::multiply_add(sum, a[i], w[i]);
      REQUIRE(mac::sign::multiply_add(9, a[i], {}) == 9);
      REQUIRE(mac::sign::multiply_add(9, {}, w[i]) == 9);
    }
    REQUIRE(sum == dot);
    REQUIRE(a.back()[(n - 1) % 64] == (x[n - 1] < 0 ? -1 : 1));
    if (n % 64 != 0) REQUIRE(a.back()[n % 64] == 0);
  }
  REQUIRE_FALSE(mac::sign::check_weight({2, 1}));
  std::vector<mac::sign_word> zeros(1);
  mac::sign::encode(std::vector<float>{0.0F, -0.0F}, zeros);
  REQUIRE(zeros[0] == mac::sign_word{0, 3});
}

TEST_CASE("Spikes: the sum of the weights that they meet", "[spike]") {
  POLYMAC_RANDOM(random, 26);
  for (int run = 0; run < 100; ++run) {
    std::vector<std::uint8_t> spikes(64);
    mac::spike::weight w;
    int sum = 11;
    for (std::size_t k = 0; k < 64; ++k) {
      spikes[k] = static_cast<std::uint8_t>(random.integer(0, 1));
      w[k] = static_cast<std::int8_t>(random.bits());
      if (spikes[k] != 0) sum += w[k];
    }
    bit_word a;
    mac::spike::encode(spikes, {&a, 1});
    REQUIRE(mac::spike::multiply_add(11, a, w) == sum);
    REQUIRE((mac::spike::multiply_add(11, {}, w) == 11 && mac::spike::multiply_add(11, a, {}) == 11));
  }
  std::vector<bit_word> words(2);
  mac::spike::encode(std::vector<std::uint8_t>(65, 1), words);
  REQUIRE((words[0].bits == ~std::uint64_t{0} && words[1].bits == 1));
  STATIC_REQUIRE(mac::spike::max_depth == 262143);
}
