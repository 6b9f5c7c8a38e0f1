// SPDX-License-Identifier: MIT
// L-Mul: bit-exact vectors, every special case, the tables of errors, the plain addition of prepared words where
// exponents are safe, and the bound of sums.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/mac/l_mul.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

using namespace polymac;

namespace {

using mac::l_mul;
using mac::l_mul_literal;
using mac::l_mul_on;

std::uint32_t bits_of(float v) { return std::bit_cast<std::uint32_t>(v); }
float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }
constexpr float infinity = std::numeric_limits<float>::infinity();

static_assert(mac::l_mul_offset(2) == 2 && mac::l_mul_offset(3) == 3 && mac::l_mul_offset(4) == 3 &&
              mac::l_mul_offset(5) == 4 && mac::l_mul_offset(23) == 4);
static_assert(l_mul<23>::offset_word == 0x3F780000u && l_mul<4>::offset_word == 0x3F700000u &&
              l_mul<2>::offset_word == 0x3F600000u && l_mul<23, 0>::offset_word == 0x3F800000u);
static_assert(l_mul<>::mask == 0xFFF80000u && l_mul<23>::mask == 0xFFFFFFFFu);
static_assert(l_mul<23>::product(1.75f, 1.75f) == 3.125f && l_mul_literal<23>::product(1.75f, 1.75f) == 2.5625f);
static_assert(l_mul<23>::multiply_add(0.75f, -2.0f, 3.0f) == -5.5f);

/// One number from a column of pairs: what is to be.
struct vector_of_bits {
  std::uint32_t a, w, product;
};

/// Statistics of relative errors.
struct error_statistics {
  double sum = 0, magnitudes = 0, squares = 0, least = 1e9, most = -1e9;
  std::size_t count = 0;
  void add(double approximate, double exact) {
    const double e = (approximate - exact) / exact;
    sum += e, magnitudes += std::abs(e), squares += e * e, ++count;
    least = std::min(least, e), most = std::max(most, e);
  }
  double mean() const { return sum / static_cast<double>(count); }
  double mae() const { return magnitudes / static_cast<double>(count); }
  double rms() const { return std::sqrt(squares / static_cast<double>(count)); }
};

/// All pairs of mantissas of m bits.
template <class M>
error_statistics on_grid(int bits) {
  error_statistics all;
  const int n = 1 << bits;
  for (int i = 0; i < n; ++i)
    for (int j = i; j < n; ++j) {
      const float x = 1.0f + static_cast<float>(i) / static_cast<float>(n),
                  y = 1.0f + static_cast<float>(j) / static_cast<float>(n);
      const auto product = static_cast<double>(M::product(x, y));
      for (int twice = 0; twice < (i == j ? 1 : 2); ++twice)
        all.add(product, static_cast<double>(x) * static_cast<double>(y));
    }
  return all;
}

/// Midpoints of a grid of 2048 x 2048: of every line 128, one of each 16 neighbours, another one on the next line.
template <class Product>
error_statistics on_reals(const Product& product) {
  constexpr unsigned n = 2048, step = 16;
  error_statistics all;
  for (unsigned i = 0; i < n; ++i)
    for (unsigned j = i * 5 % step; j < n; j += step) {
      const float x = 1.0f + (static_cast<float>(i) + 0.5f) / n, y = 1.0f + (static_cast<float>(j) + 0.5f) / n;
      all.add(static_cast<double>(product(x, y)), static_cast<double>(x) * static_cast<double>(y));
    }
  return all;
}

template <class M>
float truncated(float x, float y) {
  return M::product(x, y);
}

/// To the nearest of m bits of mantissa, ties to even.
float rounded(float v, int bits) {
  const double scaled = std::ldexp(static_cast<double>(v), bits);
  return static_cast<float>(std::ldexp(std::nearbyint(scaled), -bits));
}

}  // namespace

TEST_CASE("L-Mul of float32 words gives these bits", "[l_mul]") {
  const vector_of_bits vectors[] = {
      {0x3f800000, 0x3f800000, 0x3f880000}, {0x3fc00000, 0x3fc00000, 0x40080000}, {0x3fe00000, 0x3fe00000, 0x40480000},
      {0xc0000000, 0x40400000, 0xc0c80000}, {0x3fa00000, 0x3fa00000, 0x3fc80000}, {0x3f000000, 0x3f000000, 0x3e880000},
      {0x40490fdb, 0x402df854, 0x40ff082f}, {0x3dcccccd, 0xbe99999a, 0xbcee6667}, {0x3fffffff, 0x3fffffff, 0x4087fffe},
      {0x00800000, 0x3f800000, 0x00880000}, {0x60ad78ec, 0x5d5e0b6b, 0x7e938457}};
  using M = l_mul<23>;
  for (const auto& v : vectors) {
    CAPTURE(v.a, v.w);
    CHECK(M::product_word(v.a, v.w) == v.product);
    CHECK(M::product_word(v.w, v.a) == v.product);
    CHECK(bits_of(M::product(float_of(v.a), float_of(v.w))) == v.product);
    CHECK(M::product_word(v.a ^ 0x80000000u, v.w) == (v.product ^ 0x80000000u));
    CHECK(mac::l_mul_word(M::activation_word(float_of(v.a)), M::weight_word(float_of(v.w))) == v.product);
  }
  CHECK(l_mul<23>::product(1.0f, 1.0f) == 1.0625f);
  CHECK(l_mul<4>::product(1.0f, 1.0f) == 1.125f);
  CHECK(l_mul<3>::product(1.0f, 1.0f) == 1.125f);
  CHECK(l_mul<4>::product(1.0624f, -1.9375f) == -2.125f);  // the first one is cut to 1, t = 15/16 + 1/8 carries
}

TEST_CASE("L-Mul of bfloat16 words gives these bits, and bfloat16", "[l_mul]") {
  using M = l_mul_on<bfloat16>;
  static_assert(M::mantissa_bits == 7 && M::offset == 4);
  const vector_of_bits vectors[] = {{0x3f80, 0x3f80, 0x3f88},
                                    {0x3fc0, 0x3fc0, 0x4008},
                                    {0x4049, 0x402e, 0x40ff},
                                    {0xc000, 0x4040, 0xc0c8},
                                    {0x3dcd, 0xbe9a, 0xbcef}};
  for (const auto& v : vectors) {
    const auto product = M::product(bfloat16::from_bits(static_cast<std::uint16_t>(v.a)),
                                    bfloat16::from_bits(static_cast<std::uint16_t>(v.w)));
    CHECK(bits_of(product) == v.product << 16);
  }
  CHECK(static_cast<double>(M::product(bfloat16::from_bits(0x3dcd), bfloat16::from_bits(0xbe9a))) == -0.0291748046875);
  const bfloat16 huge(1e30f);
  CHECK(bits_of(M::product(huge, huge)) == 0x7F7F0000u);
  CHECK(l_mul_on<bfloat16, overflow::ieee>::product(huge, huge) == infinity);
  // With words of 16 bits the constant is 0x3F78, and the sum of words modulo 2^16 the same product.
  POLYMAC_RANDOM(random, 1);
  std::size_t wrong = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto word = [&] {
      return static_cast<std::uint16_t>(random.integer(0x2000, 0x5F00) | random.integer(0, 1) << 15);
    };
    const std::uint16_t a = word(), w = word();
    const auto sum = static_cast<std::uint16_t>(a + w - 0x3F78);
    wrong += bits_of(M::product(bfloat16::from_bits(a), bfloat16::from_bits(w))) != std::uint32_t{sum} << 16;
  }
  CHECK(wrong == 0);
}

TEST_CASE("L-Mul of float16 words adds the codes where numbers are normal", "[l_mul]") {
  using M = l_mul_on<float16>;
  static_assert(M::mantissa_bits == 10 && M::offset == 4);
  POLYMAC_RANDOM(random, 2);
  std::size_t wrong = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto word = [&] {
      return static_cast<std::uint16_t>(random.integer(0x2000, 0x5700) | random.integer(0, 1) << 15);
    };
    const std::uint16_t a = word(), w = word();
    const auto sum = static_cast<std::uint16_t>(a + w - 0x3BC0);
    wrong += M::product(float16::from_bits(a), float16::from_bits(w)) != static_cast<float>(float16::from_bits(sum));
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("L-Mul of fp8 words adds the codes", "[l_mul]", e4m3fn, e5m2) {
  using M = l_mul_on<TestType>;
  static_assert(M::mantissa_bits == TestType::mantissa_bits && M::offset == TestType::mantissa_bits);
  // The sum of codes less (bias << m) - 1, where both and the product are normal numbers of the format.
  const unsigned constant = (static_cast<unsigned>(TestType::bias) << TestType::mantissa_bits) - 1;
  CHECK(constant == (TestType::mantissa_bits == 3 ? 0x37u : 0x3Bu));
  std::size_t wrong = 0, normal = 0, specials = 0;
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned w = 0; w < 256; ++w) {
      const auto x = TestType::from_bits(static_cast<std::uint8_t>(a)),
                 y = TestType::from_bits(static_cast<std::uint8_t>(w));
      const float product = M::product(x, y), fx = x, fy = y;
      const unsigned sum = (a & 0x7F) + (w & 0x7F) - constant, least = 1u << TestType::mantissa_bits;
      wrong += bits_of(product) != bits_of(M::product(y, x));
      if ((a & 0x7F) >= least && (w & 0x7F) >= least && std::isfinite(fx) && std::isfinite(fy) && sum < 256 &&
          sum >= least && sum <= TestType::largest_code) {
        ++normal;
        wrong += product != static_cast<float>(TestType::from_bits(static_cast<std::uint8_t>(sum | ((a ^ w) & 0x80))));
      } else if (std::isfinite(fx) && std::isfinite(fy) && fx != 0 && fy != 0) {
        // Subnormals and the numbers beyond the format are normal floats.
        wrong += std::abs(product / (fx * fy) - 1.0f) > 0.2501f;
        wrong += (bits_of(product) & ~l_mul<TestType::mantissa_bits>::mask) != 0;  // on the grid
      } else {
        ++specials;
        const float ieee = fx * fy;
        wrong +=
            std::isnan(ieee) ? !std::isnan(product) : product != ieee || std::signbit(product) != std::signbit(ieee);
      }
    }
  CHECK(wrong == 0);
  CHECK(normal > 15'000);
  CHECK(specials > 1'000);
}

TEMPLATE_TEST_CASE("L-Mul has a rule for everything that is not a normal number", "[l_mul]", (l_mul<23>), (l_mul<4>),
                   (l_mul_literal<23>), (l_mul_literal<4>), (l_mul_on<bfloat16>)) {
  using M = TestType;
  using word = typename M::activation;
  const auto product = [](float a, float w) { return M::product(word(a), word(w)); };
  const float nan = std::numeric_limits<float>::quiet_NaN(), subnormal = 0x1p-130f, most = 0x1.8p127f;
  CAPTURE(M::name);
  const auto is = [](float v, float expected) { return v == expected && std::signbit(v) == std::signbit(expected); };
  // 0 and subnormals
  for (const float zero : {0.0f, subnormal})
    for (const float other : {0.5f, 1.0f, 3.0f, most, 0.0f, subnormal}) {
      CHECK(is(product(zero, other), 0.0f));
      CHECK(is(product(other, -zero), -0.0f));
      CHECK(is(product(-zero, -other), 0.0f));
    }
  // underflow
  CHECK(is(product(1e-30f, 1e-30f), 0.0f));
  CHECK(is(product(-1e-30f, 1e-30f), -0.0f));
  CHECK(is(product(0x1p-126f, 0.5f), 0.0f));
  CHECK(product(0x1p-126f, 1.0f) >= 0x1p-126f);
  CHECK(product(0x1p-63f, 0x1p-63f) >= 0x1p-126f);
  // overflow saturates, infinities stay
  const float largest = std::is_same_v<word, bfloat16> ? float_of(0x7F7F0000u) : std::numeric_limits<float>::max();
  CHECK(product(1e30f, 1e30f) == largest);
  CHECK(product(1e30f, -1e30f) == -largest);
  CHECK(product(most, 2.0f) == largest);
  CHECK(product(infinity, 1.0f) == infinity);
  CHECK(product(infinity, -most) == -infinity);
  CHECK(product(-infinity, -infinity) == infinity);
  CHECK(product(infinity, subnormal) == infinity);
  CHECK(std::isnan(product(infinity, 0.0f)));
  CHECK(std::isnan(product(-0.0f, infinity)));
  for (const float other : {0.0f, subnormal, 1.0f, infinity, nan}) {
    CHECK(std::isnan(product(nan, other)));
    CHECK(std::isnan(product(other, nan)));
  }
  CHECK(bits_of(product(-nan, 1.0f)) == 0x7FC00000u);
  // Sums
  CHECK(M::multiply_add(1.5f, word(0.0f), word(-7.0f)) == 1.5f);
  CHECK(std::isnan(M::multiply_add(1.5f, word(0.0f), word(infinity))));
}

TEST_CASE("a NaN whose bits truncation would cut away stays NaN; overflow may be IEEE's", "[l_mul]") {
  CHECK(std::isnan(l_mul<4>::product(float_of(0x7F800001u), 1.0f)));
  CHECK(std::isnan(l_mul_literal<4>::product(1.0f, float_of(0xFF800001u))));
  using M = l_mul<4, 3, float, overflow::ieee>;
  CHECK(M::product(1e30f, -1e30f) == -infinity);
  CHECK(M::product(1e30f, 1e8f) < infinity);
  using L = l_mul_literal<23, 4, float, overflow::ieee>;
  CHECK(L::product(1e30f, -1e30f) == -infinity);
  CHECK(L::product(0x1.8p127f, 1.0f) < infinity);
  // The last product that fits, and the next one: exponents 127 of a sum that carries no more.
  CHECK(l_mul<23, 4, float, overflow::ieee>::product(float_of(0x7F77FFFFu), 1.0f) == std::numeric_limits<float>::max());
  CHECK(l_mul<23, 4, float, overflow::ieee>::product(float_of(0x7F780000u), 1.0f) == infinity);
  CHECK(std::string_view(l_mul<>::name) == "l_mul<4, 3, float32>");
  CHECK(std::string_view(l_mul_on<bfloat16>::name) == "l_mul<7, 4, bf16>");
  CHECK(std::string_view(L::name) == "l_mul_literal<23, 4, float32, ieee>");
}

namespace {

struct row_of_table {
  double mean, mae, rms, least, most, literal_mean, literal_rms, plain_mean, plain_rms;
};

template <int Bits>
void check_table(const row_of_table& row) {
  CAPTURE(Bits);
  const auto integer = on_grid<l_mul<Bits>>(Bits);
  CHECK(integer.mean() == Approx(row.mean).margin(1e-6));
  CHECK(integer.mae() == Approx(row.mae).margin(1e-6));
  CHECK(integer.rms() == Approx(row.rms).margin(1e-6));
  CHECK(integer.least == Approx(row.least).margin(5.1e-5));
  CHECK(integer.most == Approx(row.most).margin(5.1e-5));
  const auto literal = on_grid<l_mul_literal<Bits>>(Bits);
  CHECK(literal.mean() == Approx(row.literal_mean).margin(1e-6));
  CHECK(literal.rms() == Approx(row.literal_rms).margin(1e-6));
  const auto plain = on_grid<l_mul<Bits, 0>>(Bits);
  CHECK(plain.mean() == Approx(row.plain_mean).margin(1e-6));
  CHECK(plain.rms() == Approx(row.plain_rms).margin(1e-6));
  // The bounds that error_bound is made of are true, and near.
  CHECK(integer.least >= l_mul<Bits>::errors_of_grid.low - 1e-15);  // both are quotients of doubles
  CHECK(integer.most <= l_mul<Bits>::errors_of_grid.high);
  CHECK(integer.least - l_mul<Bits>::errors_of_grid.low < 0.01);
  CHECK(literal.least >= l_mul_literal<Bits>::errors_of_grid.low);
  CHECK(literal.most <= l_mul_literal<Bits>::errors_of_grid.high);
  CHECK(plain.least >= l_mul<Bits, 0>::errors_of_grid.low);
  CHECK(plain.most <= 0.0);
}

}  // namespace

TEST_CASE("errors of all pairs of mantissas", "[l_mul]") {
  check_table<2>({+0.146736, 0.146736, 0.153409, +0.0667, 0.2500, +0.086390, 0.131990, -0.035720, 0.051527});
  check_table<3>({+0.049299, 0.052412, 0.060236, -0.0303, 0.1250, -0.009650, 0.081431, -0.037790, 0.049307});
  check_table<4>({+0.048728, 0.051408, 0.058713, -0.0321, 0.1250, -0.021834, 0.083449, -0.038313, 0.048649});
  check_table<5>({+0.004127, 0.026659, 0.031114, -0.0729, 0.0625, -0.058674, 0.092796, -0.038444, 0.048477});
  check_table<6>({+0.004093, 0.026574, 0.030991, -0.0729, 0.0625, -0.061398, 0.094451, -0.038477, 0.048434});
  check_table<7>({+0.004085, 0.026555, 0.030960, -0.0729, 0.0625, -0.062763, 0.095290, -0.038485, 0.048423});
  check_table<8>({+0.004082, 0.026550, 0.030952, -0.0729, 0.0625, -0.063447, 0.095713, -0.038487, 0.048421});
  check_table<9>({+0.004082, 0.026548, 0.030950, -0.0729, 0.0625, -0.063788, 0.095925, -0.038488, 0.048420});
  check_table<10>({+0.004082, 0.026548, 0.030950, -0.0729, 0.0625, -0.063959, 0.096031, -0.038488, 0.048420});
}

// A sixteenth of the table's grid; half a unit of its last digit is a third of the tolerance.
TEST_CASE("errors of products of real operands", "[l_mul]") {
  const auto check = [](const error_statistics& e, double mean, double mae, double rms) {
    if (mean < 1.0) CHECK(e.mean() == Approx(mean).margin(1.5e-4));
    if (mae < 1.0) CHECK(e.mae() == Approx(mae).margin(1.5e-4));
    CHECK(e.rms() == Approx(rms).margin(1.5e-4));
  };
  const double any = 1.0;
  check(on_reals(truncated<l_mul<2>>), -.0385, .0691, .0846);
  check(on_reals(truncated<l_mul<3>>), -.0385, .0483, .0596);
  check(on_reals(truncated<l_mul<4>>), +.0041, .0296, .0359);
  check(on_reals(truncated<l_mul<5>>), -.0174, .0275, .0358);
  check(on_reals(truncated<l_mul<6>>), -.0067, .0255, .0314);
  check(on_reals(truncated<l_mul<7>>), -.0013, .0257, .0306);
  check(on_reals(truncated<l_mul<8>>), +.0014, .0260, .0306);
  check(on_reals(truncated<l_mul<10>>), +.0034, .0264, .0308);
  check(on_reals(truncated<l_mul_literal<3>>), any, any, .1176);
  check(on_reals(truncated<l_mul_literal<4>>), any, any, .0975);
  check(on_reals(truncated<l_mul_literal<7>>), any, any, .0980);
  const auto nearest = []<int Bits>(std::integral_constant<int, Bits>) {
    return on_reals([](float x, float y) { return l_mul<Bits>::product(rounded(x, Bits), rounded(y, Bits)); });
  };
  check(nearest(std::integral_constant<int, 2>{}), any, any, .1692);
  check(nearest(std::integral_constant<int, 3>{}), any, any, .0694);
  check(nearest(std::integral_constant<int, 4>{}), any, any, .0612);
  check(nearest(std::integral_constant<int, 5>{}), any, any, .0322);
  check(nearest(std::integral_constant<int, 7>{}), any, any, .0310);
  check(nearest(std::integral_constant<int, 10>{}), any, any, .0310);
  // What it is compared with: exact products of fp8 and bfloat16.
  const auto fp8 = []<class E>(E) {
    return on_reals([](float x, float y) { return static_cast<float>(E(x)) * static_cast<float>(E(y)); });
  };
  check(fp8(e5m2{}), -.0026, .0586, .0719);
  check(fp8(e4m3fn{}), -.0007, .0293, .0361);
  check(fp8(bfloat16{}), 0.0, .0018, .0023);
  const auto rerounded = []<class E>(E) {
    return on_reals(
        [](float x, float y) { return static_cast<float>(E(static_cast<float>(E(x)) * static_cast<float>(E(y)))); });
  };
  check(rerounded(e5m2{}), -.0217, .0704, .0868);
  check(rerounded(e4m3fn{}), -.0061, .0352, .0435);
  // mean_error() is the mean over all reals: the table's, and that of the grid for other forms.
  static_assert(l_mul<3>::mean_error() < -0.03845 && l_mul<4>::mean_error() < 0.00415);
  CHECK(l_mul<2>::mean_error() == Approx(-.0385).margin(5e-5));
  CHECK(l_mul<3>::mean_error() == Approx(-.0385).margin(5e-5));
  CHECK(l_mul<4>::mean_error() == Approx(+.0041).margin(5e-5));
  CHECK(l_mul<5>::mean_error() == Approx(-.0174).margin(5e-5));
  CHECK(l_mul<6>::mean_error() == Approx(-.0067).margin(5e-5));
  CHECK(l_mul<7>::mean_error() == Approx(-.0013).margin(5e-5));
  CHECK(l_mul<8>::mean_error() == Approx(+.0014).margin(5e-5));
  const auto agrees = [](double mean, const error_statistics& e) { CHECK(mean == Approx(e.mean()).margin(1e-4)); };
  agrees(l_mul<1>::mean_error(), on_reals(truncated<l_mul<1>>));
  agrees(l_mul<4, 0>::mean_error(), on_reals(truncated<l_mul<4, 0>>));
  agrees(l_mul<4, 4>::mean_error(), on_reals(truncated<l_mul<4, 4>>));
  agrees(l_mul_literal<3>::mean_error(), on_reals(truncated<l_mul_literal<3>>));
  agrees(l_mul_literal<4>::mean_error(), on_reals(truncated<l_mul_literal<4>>));
  // Both claims of the paper.
  CHECK(on_reals(truncated<l_mul<4>>).rms() < 1.01 * fp8(e4m3fn{}).rms());
  CHECK(on_reals(truncated<l_mul<3>>).rms() < fp8(e5m2{}).rms());
}

namespace {

/// Standard normal numbers by the polar method.
class normal_numbers {
 public:
  explicit normal_numbers(std::uint64_t salt) : random_(salt) {}
  float operator()() {
    if (has_next_) return has_next_ = false, next_;
    for (;;) {
      const double x = 2.0 * static_cast<double>(random_.unit()) - 1.0,
                   y = 2.0 * static_cast<double>(random_.unit()) - 1.0;
      const double s = x * x + y * y;
      if (s >= 1.0 || s == 0.0) continue;
      const double f = std::sqrt(-2.0 * std::log(s) / s);
      next_ = static_cast<float>(y * f), has_next_ = true;
      return static_cast<float>(x * f);
    }
  }

 private:
  polymac_test::random_source random_;
  bool has_next_ = false;
  float next_ = 0.0f;
};

struct long_sums {
  static constexpr std::size_t depth = 1024, count = 1000;
  std::vector<float> x, y;
  std::vector<double> exact;
  explicit long_sums(bool positive) {
    normal_numbers normal(7);
    for (std::size_t i = 0; i < 64 * depth; ++i) {
      x.push_back(positive ? std::abs(normal()) : normal());
      y.push_back(positive ? std::abs(normal()) : normal());
    }
  }
  /// NSR = rms(error) / rms(exact), and the mean relative error, of sums over all pairs of rows as far as they go.
  template <class M>
  std::pair<double, double> run() const {
    double errors = 0, squares = 0, relative = 0;
    for (std::size_t n = 0; n < count; ++n) {
      const float *a = x.data() + n % 64 * depth, *b = y.data() + (n / 64 * 5 + n) % 64 * depth;
      double exact_sum = 0, sum = 0;
      for (std::size_t k = 0; k < depth; ++k) {
        exact_sum += static_cast<double>(a[k]) * static_cast<double>(b[k]);
        sum += static_cast<double>(M::product(a[k], b[k]));
      }
      errors += (sum - exact_sum) * (sum - exact_sum);
      squares += exact_sum * exact_sum;
      relative += (sum - exact_sum) / exact_sum;
    }
    return {std::sqrt(errors / squares), relative / static_cast<double>(count)};
  }
};

}  // namespace

// 1000 sums: the deviation of such an estimate is 3 %.
TEST_CASE("noise of sums of 1024 products", "[l_mul]") {
  const long_sums sums(false);
  const auto check = [](std::pair<double, double> got, double nsr) { CHECK(got.first == Approx(nsr).epsilon(0.09)); };
  check(sums.run<l_mul<2>>(), .0818);
  check(sums.run<l_mul<3>>(), .0577);
  check(sums.run<l_mul<4>>(), .0362);
  check(sums.run<l_mul<5>>(), .0349);
  check(sums.run<l_mul<7>>(), .0308);
  check(sums.run<l_mul<10>>(), .0313);
  check(sums.run<l_mul<23>>(), .0314);
  check(sums.run<l_mul<2, 0>>(), .1975);
  check(sums.run<l_mul<3, 0>>(), .1237);
  check(sums.run<l_mul<4, 0>>(), .0839);
  check(sums.run<l_mul<5, 0>>(), .0651);
  check(sums.run<l_mul<7, 0>>(), .0517);
  check(sums.run<l_mul<10, 0>>(), .0481);
  check(sums.run<l_mul<23, 0>>(), .0476);

  const long_sums positive(true);
  CHECK(positive.run<l_mul<4>>().second == Approx(0.0050).margin(0.0006));
  CHECK(positive.run<l_mul<7>>().second == Approx(-0.0008).margin(0.0006));
  CHECK(positive.run<l_mul<23>>().second == Approx(0.0046).margin(0.0006));
}

TEST_CASE("where exponents are safe, the sum of prepared words is the product", "[l_mul]") {
  const auto check = []<class M>(M, std::uint64_t salt) {
    CAPTURE(M::name);
    polymac_test::random_source random(salt);
    std::size_t wrong = 0, unsafe = 0;
    for (int i = 0; i < 100'000; ++i) {
      const auto some = [&](int exponent) {
        return std::ldexp(1.0f + random.unit(), exponent) * (random.integer(0, 1) == 0 ? 1.0f : -1.0f);
      };
      // Also at the ends of what is safe, with mantissas that carry twice.
      const int a = static_cast<int>(random.integer(-126, 127));
      const int end = random.integer(0, 1) == 0 ? -126 - a : 126 - a;
      const int w = std::clamp(end + static_cast<int>(random.integer(-2, 2)), -126, 127);
      float x = some(a), y = some(w);
      if (random.integer(0, 3) == 0)
        x = std::nextafter(std::ldexp(2.0f, a), 0.0f), y = std::nextafter(std::ldexp(2.0f, w), 0.0f);
      mac::exponent_range of_x, of_y;
      of_x.add(x), of_y.add(y);
      if (!M::exponents_are_safe(of_x, of_y)) {
        ++unsafe;
        continue;
      }
      const auto product = M::product_word(bits_of(x), bits_of(y));
      wrong += mac::l_mul_word(M::activation_word(x), M::weight_word(y)) != product;
      wrong += (product & 0x7F800000u) == 0 || float_of(product & 0x7FFFFFFFu) == std::numeric_limits<float>::max();
    }
    CHECK(wrong == 0);
    CHECK(unsafe > 10'000);
    CHECK(unsafe < 90'000);
  };
  check(l_mul<23>{}, 1);
  check(l_mul<4>{}, 2);
  check(l_mul<3>{}, 3);
  check(l_mul<7, 0>{}, 4);

  mac::exponent_range range;
  const auto with_ones = [](mac::exponent_range r) {
    mac::exponent_range ones;
    ones.add(1.0f);
    return l_mul<4>::exponents_are_safe(r, ones);
  };
  range.add(0.0f), range.add(-0x1p-127f);
  CHECK(with_ones(range));  // nothing but zeros
  range.add(3.0f), range.add(-0.1f);
  CHECK((range.least == -4 && range.most == 1));
  CHECK(with_ones(range));
  range.add(-infinity);
  CHECK_FALSE(with_ones(range));
  mac::exponent_range nan;
  nan.add(std::numeric_limits<float>::quiet_NaN());
  CHECK_FALSE(with_ones(nan));
}

TEMPLATE_TEST_CASE("sums of L-Mul keep their error bound", "[l_mul]", (l_mul<2>), (l_mul<3>), (l_mul<4>), (l_mul<7>),
                   (l_mul<23>), (l_mul<4, 0>), (l_mul_literal<4>), (l_mul_literal<23>), (l_mul_on<bfloat16>),
                   (l_mul_on<e4m3fn>), (l_mul_on<e5m2>), (l_mul_on<float16>)) {
  using M = TestType;
  using word = typename M::activation;
  CAPTURE(M::name);
  POLYMAC_RANDOM(random, 5);
  double nearest = 0;
  for (const std::size_t depth : {1u, 2u, 17u, 1000u})
    for (int repeat = 0; repeat < 200 / static_cast<int>(depth) + 3; ++repeat) {
      float sum = 0.25f;
      double exact = 0.25, magnitudes = 0.25;
      for (std::size_t k = 0; k < depth; ++k) {
        const word a(random.unit() * 4.0f + 0.1f), w(random.unit() * 4.0f + 0.1f);
        sum = M::multiply_add(sum, a, w);
        const double product = static_cast<double>(static_cast<float>(a)) * static_cast<double>(static_cast<float>(w));
        exact += product;
        magnitudes += product;
      }
      const double error = std::abs(static_cast<double>(sum) - exact), bound = M::error_bound(depth, magnitudes);
      CHECK(error <= bound);
      nearest = std::max(nearest, error / bound);
    }
  CHECK(nearest > 0.05);  // and the bound says something
  CHECK(M::error_bound(1, 1.0) < 0.5);
}
