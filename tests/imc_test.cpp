// SPDX-License-Identifier: MIT
// Arrays that compute in memory: without loss they give integer products whatever holds the signs; with loss, what the
// converter's transfer says, and the noise and the cycles that are known of them.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/mac/imc.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <vector>

#include "support/test_code.hpp"

namespace mac = polymac::mac;
using mac::adc;
using mac::adc_range;
using mac::adc_rounding;
using mac::cell_signs;
using mac::imc;
using mac::imc_options;

namespace {

template <class M>
typename M::weight random_weights(polymac_test::random_source& random) {
  typename M::weight w;
  for (auto& v : w.values) v = static_cast<std::int8_t>(random.integer(M::weight_min, M::weight_max));
  return w;
}
template <class M>
typename M::activation random_activations(polymac_test::random_source& random, int most) {
  typename M::activation a;
  for (auto& v : a.values) v = static_cast<std::uint8_t>(random.integer(0, most));
  return a;
}
template <class A, class W>
int dot(const A& a, const W& w) {
  int sum = 0;
  for (std::size_t k = 0; k < A::size; ++k) sum += a[k] * w[k];
  return sum;
}

/// Rounded N(0, sigma^2).
int rounded_normal(polymac_test::random_source& random, double sigma) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - static_cast<double>(random.unit())));
  return static_cast<int>(
      std::lround(sigma * radius * std::cos(2.0 * std::numbers::pi * static_cast<double>(random.unit()))));
}

}  // namespace

TEST_CASE("A converter's transfer", "[imc]") {
  constexpr adc linear{32, 4};  // LSB 32 / 15
  STATIC_REQUIRE(!linear.is_lossless());
  STATIC_REQUIRE(linear.top_code() == 15);
  REQUIRE(linear(0) == 0.0);
  REQUIRE(linear(1) == 0.0);                // 0.47 steps
  REQUIRE(linear(2) == linear.lsb());       // 0.94
  REQUIRE(linear(16) == 8 * linear.lsb());  // 7.5: to even
  REQUIRE(linear(32) == 32.0);
  constexpr adc floor{32, 4, adc_range::linear, adc_rounding::floor};
  REQUIRE(floor(2) == 0.0);
  REQUIRE(floor(3) == floor.lsb());
  REQUIRE(floor(31) == 14 * floor.lsb());
  constexpr adc clip{32, 4, adc_range::clip};
  REQUIRE((clip(3) == 3.0 && clip(15) == 15.0 && clip(16) == 15.0 && clip(32) == 15.0));
  STATIC_REQUIRE((linear.error_bound() == 16.0 / 15 && floor.error_bound() == 32.0 / 15 && clip.error_bound() == 17.0));
  // The identity from 2^bits - 1 = full scale on.
  for (const auto range : {adc_range::linear, adc_range::clip}) {
    const adc six{63, 6, range, adc_rounding::floor}, five{63, 5, range};
    REQUIRE((six.is_lossless() && !five.is_lossless()));
    for (int s = 0; s <= 63; ++s) REQUIRE(six(s) == s);
  }
  STATIC_REQUIRE(adc::lossless_bits(64) == 7);
  STATIC_REQUIRE(adc::lossless_bits(63) == 6);
  STATIC_REQUIRE(adc::lossless_bits(8 * 3) == 5);
  STATIC_REQUIRE(adc::lossless_bits(128 * 3) == 9);
  // No sum is farther off than the bound.
  for (const adc& a : {linear, floor, clip})
    for (int s = 0; s <= 32; ++s) REQUIRE(std::abs(a(s) - s) <= a.error_bound() + 1e-12);
}

TEST_CASE("Without loss an array gives the integer product, whatever holds the signs", "[imc]") {
  POLYMAC_RANDOM(random, 61);
  const auto check = [&]<class M>(M) {
    STATIC_REQUIRE(M::is_lossless);
    INFO(M::name);
    for (int run = 0; run < 20; ++run) {
      auto a = random_activations<M>(random, 255);
      auto w = random_weights<M>(random);
      if (run == 0) std::fill(std::begin(w.values), std::end(w.values), static_cast<std::int8_t>(M::weight_min));
      if (run < 2) std::fill(std::begin(a.values), std::end(a.values), std::uint8_t{255});
      REQUIRE(M::check_weight(w));
      REQUIRE(M::block_sum(a, w) == dot(a, w));
      REQUIRE(M::multiply_add(2.0F, a, w) == static_cast<float>(2 + dot(a, w)));
      REQUIRE(M::error_bound(1, 0.0) == 0.0);
    }
  };
  check(imc<128, 8>{});
  check(imc<20, 5>{});
  check(imc<64, 7, 1, imc_options{.signs = cell_signs::offset_column}>{});
  check(imc<64, 8, 2, imc_options{.signs = cell_signs::offset_column}>{});
  check(imc<64, 8, 2, imc_options{.signs = cell_signs::differential}>{});
  check(imc<16, 8, 3, imc_options{.weight_bits = 6, .signs = cell_signs::differential}>{});
  check(imc<16, 10, 1, imc_options{.dac_bits = 4, .range = adc_range::clip}>{});
  check(imc<16, 12, 3, imc_options{.dac_bits = 3, .signs = cell_signs::offset_column}>{});
}

TEST_CASE("With loss, zeros still add nothing and the bound holds", "[imc]") {
  POLYMAC_RANDOM(random, 62);
  const auto check = [&]<class M>(M) {
    STATIC_REQUIRE(!M::is_lossless);
    INFO(M::name);
    double worst = 0;
    for (int run = 0; run < 20; ++run) {
      const auto a = random_activations<M>(random, 255);
      const auto w = random_weights<M>(random);
      REQUIRE(M::multiply_add(-3.5F, a, {}) == -3.5F);
      REQUIRE(M::multiply_add(-3.5F, {}, w) == -3.5F);
      double magnitudes = 1000;
      for (std::size_t k = 0; k < M::group_size; ++k) magnitudes += std::abs(a[k] * w[k]);
      const double error = std::abs(static_cast<double>(M::multiply_add(1000.0F, a, w)) - (1000 + dot(a, w)));
      REQUIRE(error <= M::error_bound(1, magnitudes));
      worst = std::max(worst, error);
    }
    REQUIRE(worst > 0);
  };
  check(imc<64, 5>{});
  check(imc<64, 5, 1, imc_options{.rounding = adc_rounding::floor}>{});
  check(imc<64, 4, 1, imc_options{.range = adc_range::clip}>{});
  check(imc<64, 5, 2, imc_options{.signs = cell_signs::offset_column}>{});
  check(imc<64, 5, 2, imc_options{.dac_bits = 2, .signs = cell_signs::differential}>{});
}

TEST_CASE("One block by hand", "[imc]") {
  // Three rows, converter of one bit: 0 or 3, LSB 3. x = (1, 1, 2), w = (1, -2, 1) in two bits: planes 1: (1, 0, 1), 2:
  // (0, 1, 0).
  using M = imc<3, 1, 1, imc_options{.activation_bits = 2, .weight_bits = 2}>;
  M::activation a;
  M::weight w;
  a[0] = a[1] = 1, a[2] = 2;
  w[0] = w[2] = 1, w[1] = -2;
  // t = 0: plane 1 sees 1, plane 2 sees 1, both below half; t = 1: 1 and 0
  REQUIRE(M::block_sum(a, w) == 0.0);
  a[2] = 3;  // t = 0: plane 1 sees 2, which becomes 3
  REQUIRE(M::block_sum(a, w) == 3.0);
  REQUIRE(M::steps == 2);
  REQUIRE(M::cycles(10) == 20);
  REQUIRE(M::conversions(10) == 40);
  REQUIRE_FALSE(M::check_weight({{2, 0, 0}}));
  REQUIRE_FALSE(M::check_weight({{0, -3, 0}}));
  REQUIRE(std::string(M::name) == "imc_3_a2w2_adc1");
  REQUIRE(std::string(imc<64, 5, 2,
                          imc_options{.dac_bits = 2,
                                      .range = adc_range::clip,
                                      .rounding = adc_rounding::floor,
                                      .signs = cell_signs::differential}>::name) ==
          "imc_64_a8w8_adc5_clip_floor_cell2_dac2_differential");
}

TEST_CASE("CAP-RAM: lossless bit by bit, in steps of 448/127 all at once", "[imc]") {
  using serial = mac::cap_ram<>;
  using at_once = mac::cap_ram<4, 3>;
  STATIC_REQUIRE(serial::is_lossless);
  STATIC_REQUIRE(serial::steps == 3);
  STATIC_REQUIRE(!at_once::is_lossless);
  STATIC_REQUIRE(at_once::converter.full_scale == 448);
  STATIC_REQUIRE(at_once::steps == 1);
  REQUIRE(std::abs(at_once::converter.lsb() - 3.5276) < 1e-4);
  POLYMAC_RANDOM(random, 63);
  for (int run = 0; run < 20; ++run) {
    const auto a = random_activations<serial>(random, 7);
    const auto w = random_weights<serial>(random);
    REQUIRE(serial::block_sum(a, w) == dot(a, w));
    REQUIRE(std::abs(at_once::block_sum(a, w) - dot(a, w)) <= 15 * 448.0 / 127 / 2 + 1e-9);
  }
}

TEST_CASE("FORMS: one sign for a fragment, and as many cycles as its largest activation has bits", "[imc]") {
  POLYMAC_RANDOM(random, 64);
  using M = mac::forms<8>;
  STATIC_REQUIRE(M::converter.bits == 5);  // 8 * 3 = 24
  STATIC_REQUIRE(M::linear);
  for (int run = 0; run < 100; ++run) {
    M::activation a = random_activations<M>(random, (1 << random.integer(0, 8)) - 1);
    std::array<std::int8_t, 8> values{};
    const bool negative = random.integer(0, 1) == 1;
    int sum = 0, bits = 0;
    for (std::size_t k = 0; k < 8; ++k) {
      const auto v = static_cast<int>(random.integer(0, 127));
      values[k] = static_cast<std::int8_t>(negative ? -v - 1 : v);
      sum += values[k] * a[k];
      bits = std::max(bits, static_cast<int>(std::bit_width(unsigned{a[k]})));
    }
    const auto w = M::encode(values);
    REQUIRE(w.ok());
    REQUIRE(M::check_weight(*w));
    REQUIRE(M::multiply_add(5.0F, a, *w) == static_cast<float>(5 + sum));
    REQUIRE(M::effective_input_cycles(a) == bits);
    REQUIRE(M::project(values) == *w);
    REQUIRE(M::multiply_add(5.0F, a, {}) == 5.0F);
    REQUIRE(M::multiply_add(5.0F, {}, *w) == 5.0F);
    // Converters of fewer bits: planes above the highest bit change nothing, so cycles may be saved with loss as well.
    using lossy = mac::forms<8, 2, 4>;
    const float converted = lossy::multiply_add(0.0F, a, *w);
    REQUIRE(std::abs(converted - static_cast<float>(sum)) <= 24.0F / 15 / 2 * 255 * 85);
  }
  const std::array<std::int8_t, 8> mixed = {0, 3, 5, -4, 1, 0, 0, 0};
  REQUIRE(M::encode(mixed).status().text() == "forms: expected weights of one sign in a fragment, weight 3 is -4");
  const auto w = M::project(mixed);
  REQUIRE(w.sign == 1);
  REQUIRE(std::vector<int>(std::begin(w.magnitudes), std::end(w.magnitudes)) == std::vector{0, 3, 5, 0, 1, 0, 0, 0});
  M::weight broken;
  broken.magnitudes[2] = 1;
  REQUIRE_FALSE(M::check_weight(broken));
  broken.sign = 2;
  REQUIRE_FALSE(M::check_weight(broken));
  std::vector<M::activation> row(3);
  row[0][4] = 9;
  row[2][0] = 255;
  REQUIRE(M::cycles(row) == 12);
}

TEST_CASE("Effective input cycles of normal activations", "[imc]") {
  // E[max over the fragment of bits of |x|], exactly: rounded N(0, sigma^2), rejected outside of [-128, 127].
  struct row {
    double sigma;
    std::array<double, 5> cycles;
  };
  constexpr std::array<int, 5> fragments = {1, 4, 8, 16, 128};
  constexpr row table[] = {{5, {2.30, 3.37, 3.69, 3.93, 4.22}},
                           {10, {3.14, 4.32, 4.65, 4.90, 5.19}},
                           {20, {4.04, 5.29, 5.63, 5.88, 6.18}},
                           {30, {4.59, 5.86, 6.18, 6.42, 6.99}},
                           {50, {5.26, 6.53, 6.82, 6.97, 7.02}}};
  for (const row& r : table) {
    std::array<double, 9> p{};
    double total = 0;
    const auto below = [&](double x) { return 0.5 * std::erfc(-x / r.sigma / std::sqrt(2.0)); };
    for (int v = -128; v < 128; ++v) {
      const double q = below(v + 0.5) - below(v - 0.5);
      p[std::bit_width(static_cast<unsigned>(std::abs(v)))] += q;
      total += q;
    }
    for (std::size_t f = 0; f < fragments.size(); ++f) {
      double expected = 0, cumulative = 0, before = 0;
      for (std::size_t n = 0; n < p.size(); ++n) {
        cumulative += p[n] / total;
        const double power = std::pow(cumulative, fragments[f]);
        expected += static_cast<double>(n) * (power - before);
        before = power;
      }
      INFO("sigma " << r.sigma << ", fragment " << fragments[f]);
      REQUIRE(std::abs(expected - r.cycles[f]) < 0.02);
    }
  }
}

namespace {

/// A cell of the table: rows, bits, decibels.
struct sqnr {
  int rows, bits;
  double decibels;
};
constexpr sqnr sqnr_table[] = {{32, 4, 6.4},   {32, 5, 29.5},   {64, 4, 4.6},    {64, 5, 11.1},  {64, 6, 36.0},
                               {128, 4, 1.6},  {128, 5, 7.7},   {128, 6, 14.4},  {128, 7, 42.1}, {256, 5, 4.8},
                               {256, 6, 10.4}, {256, 7, 17.5},  {256, 8, 48.1},  {512, 7, 14.4}, {512, 8, 21.5},
                               {512, 9, 54.2}, {1024, 7, 11.3}, {1024, 8, 17.4}, {1024, 9, 24.4}};

/// One product of 1024 k, as words of planes: activations of four bits and weights of four.
struct planes {
  std::array<std::array<std::uint64_t, 16>, 4> x{}, w{};
};
double converted(const planes& p, const adc& converter, int rows) {
  double sum = 0;
  for (int t = 0; t < 4; ++t)
    for (int q = 0; q < 4; ++q)
      for (int first = 0; first < 1024; first += rows) {
        int count = 0;
        for (int k = first; k < first + rows; k += 32) {
          const auto i = static_cast<std::size_t>(k / 64);
          const std::uint64_t both = p.x[static_cast<std::size_t>(t)][i] & p.w[static_cast<std::size_t>(q)][i];
          count += std::popcount(static_cast<std::uint32_t>(both >> k % 64));
        }
        sum += (q == 3 ? -1.0 : 1.0) * static_cast<double>(1 << (t + q)) * converter(count);
      }
  return sum;
}

}  // namespace

TEST_CASE("Noise of converters", "[imc]") {
  // K = 1024, bit-serial, two's complement planes, full range [0, rows], nearest. The published table does not say what
  // data it is of, and its own steps show a sample of a few hundred products. Sampled here: 8000 products of
  // activations uniform in [0, 15] and weights rounded N(0, 2.6^2) in [-8, 7], which come nearest to all of it. Where
  // the converter lacks one code (2^bits = rows) data hardly matter: within 0.3 dB. Elsewhere within 1 dB (mean
  // deviation 0.2).
  POLYMAC_RANDOM(random, 65);
  constexpr int products = 8000;
  std::array<double, std::size(sqnr_table)> noise{};
  double signal = 0;
  for (int run = 0; run < products; ++run) {
    planes p;
    imc<64, 6, 1, imc_options{.activation_bits = 4, .weight_bits = 4}>::activation a[16];
    imc<64, 6, 1, imc_options{.activation_bits = 4, .weight_bits = 4}>::weight w[16];
    double exact = 0;
    for (std::size_t k = 0; k < 1024; ++k) {
      const int x = static_cast<int>(random.bits() & 15), v = std::clamp(rounded_normal(random, 2.6), -8, 7);
      exact += x * v;
      for (std::size_t b = 0; b < 4; ++b) {
        p.x[b][k / 64] |= std::uint64_t{static_cast<unsigned>(x) >> b & 1u} << k % 64;
        p.w[b][k / 64] |= std::uint64_t{static_cast<unsigned>(v) >> b & 1u} << k % 64;
      }
      a[k / 64][k % 64] = static_cast<std::uint8_t>(x);
      w[k / 64][k % 64] = static_cast<std::int8_t>(v);
    }
    signal += exact * exact;
    for (std::size_t i = 0; i < std::size(sqnr_table); ++i) {
      const sqnr& s = sqnr_table[i];
      const double e = converted(p, adc{s.rows, s.bits}, s.rows) - exact;
      noise[i] += e * e;
    }
    if (run < 10) {  // the arithmetic itself is what is measured
      double sum = 0;
      for (std::size_t i = 0; i < 16; ++i)
        sum += imc<64, 6, 1, imc_options{.activation_bits = 4, .weight_bits = 4}>::block_sum(a[i], w[i]);
      REQUIRE(std::abs(sum - converted(p, adc{64, 6}, 64)) < 1e-6);
      REQUIRE(converted(p, adc{64, 7}, 64) == exact);
    }
  }
  double deviation = 0;
  for (std::size_t i = 0; i < std::size(sqnr_table); ++i) {
    const sqnr& s = sqnr_table[i];
    const double decibels = 10 * std::log10(signal / noise[i]);
    INFO(s.rows << " rows, " << s.bits << " bits: " << decibels << " dB");
    deviation += std::abs(decibels - s.decibels) / std::size(sqnr_table);
    REQUIRE(std::abs(decibels - s.decibels) < ((1 << s.bits) == s.rows ? 0.3 : 1.0));
  }
  REQUIRE(deviation < 0.4);
}
