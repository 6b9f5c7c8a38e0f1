// SPDX-License-Identifier: MIT
// bfloat16 against what it must be, code by code, and against Eigen's; mac::bf16's sums: the same bits on every
// instruction set, and what becomes of subnormals.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/adapt/eigen.hpp>
#include <polymac/core/bfloat16.hpp>
#include <polymac/isa/all.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/mac/bf16.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <tuple>
#include <vector>

using polymac::bfloat16;
using polymac::matrix_view;
namespace mac = polymac::mac;
namespace isa = polymac::isa;

namespace {

std::uint32_t bits_of(float v) { return std::bit_cast<std::uint32_t>(v); }
float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

static_assert(bfloat16(1.0f).bits == 0x3F80 && bfloat16(-2.5f).bits == 0xC020 && bfloat16{}.bits == 0);
static_assert(float{bfloat16(3.0f)} == 3.0f && bfloat16(1.0f) == bfloat16(1.0f));
// Halfway: to the even one.
static_assert(bfloat16(1.00390625f).bits == 0x3F80 && bfloat16(1.01171875f).bits == 0x3F82);
static_assert(mac::bf16::multiply_add(1.0f, bfloat16(0.5f), bfloat16(-4.0f)) == -1.0f);

/// The nearest bfloat16 by trying the two neighbours, ties to even: the definition.
std::uint16_t nearest(float v) {
  const std::uint32_t all = bits_of(v);
  const auto down = static_cast<std::uint16_t>(all >> 16);  // towards zero
  const auto up = static_cast<std::uint16_t>(down + 1);     // away from it; may be the infinity, as 2^128
  const auto value = [](std::uint16_t code) {
    if ((code & 0x7FFFu) == 0x7F80u) return std::copysign(0x1p128, code & 0x8000u ? -1.0 : 1.0);
    return static_cast<double>(float_of(std::uint32_t{code} << 16));
  };
  const double exact = static_cast<double>(v);
  const double below = std::abs(exact - value(down)), above = std::abs(value(up) - exact);
  if (below == above) return down % 2 == 0 ? down : up;
  return below < above ? down : up;
}

}  // namespace

TEST_CASE("every code of bfloat16 becomes its float and comes back", "[bfloat16]") {
  std::size_t wrong = 0;
  for (std::uint32_t code = 0; code < 65536; ++code) {
    const bfloat16 b = bfloat16::from_bits(static_cast<std::uint16_t>(code));
    const float v = b;
    const Eigen::bfloat16 theirs = Eigen::bfloat16_impl::raw_uint16_to_bfloat16(b.bits);
    wrong += bits_of(v) != code << 16 || bits_of(static_cast<float>(theirs)) != bits_of(v);
    // A signalling NaN becomes the quiet one.
    const bool is_nan = (code & 0x7FFFu) > 0x7F80u;
    wrong += bfloat16(v).bits != (is_nan ? code | 0x40u : code);
  }
  CHECK(wrong == 0);
}

TEST_CASE("floats are rounded to the nearest bfloat16, ties to even", "[bfloat16]") {
  std::size_t wrong = 0, differ = 0;
  const auto check = [&](std::uint32_t bits) {
    const float v = float_of(bits);
    const bfloat16 got(v);
    if (std::isnan(v)) {
      wrong += (got.bits & 0x7FC0u) != 0x7FC0u;  // quiet
      return;
    }
    wrong += got.bits != (std::isinf(v) ? static_cast<std::uint16_t>(bits >> 16) : nearest(v));
    differ += got.bits != Eigen::numext::bit_cast<std::uint16_t>(Eigen::bfloat16(v));
  };
  // All codes with the lower halves where rounding turns: subnormals, the largest and infinities are among them.
  for (std::uint32_t code = 0; code < 65536; ++code)
    for (const std::uint32_t low : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) check(code << 16 | low);
  POLYMAC_RANDOM(random, 1);
  for (int i = 0; i < 1'000'000; ++i) check(static_cast<std::uint32_t>(random.bits()));
  CHECK(wrong == 0);
  CHECK(differ == 0);
  CHECK(bfloat16(3.3961775e38f).bits == 0x7F80);  // halfway between the largest and 2^128
  CHECK(bfloat16(3.3961773e38f).bits == 0x7F7F);
  CHECK(bfloat16(-std::numeric_limits<float>::max()).bits == 0xFF80);
  CHECK(bfloat16(1.0e-40f).bits == 0x0001);
  CHECK(bfloat16(float_of(0x7F800001)).bits == 0x7FC0);
}

TEST_CASE("bfloat16 compares by bits with its like, and as a float with others", "[bfloat16]") {
  const bfloat16 nan = bfloat16::from_bits(0x7FC1), zero{}, minus_zero(-0.0f);
  CHECK(nan == nan);
  CHECK_FALSE(zero == minus_zero);
  CHECK(zero == -0.0f);
  CHECK(bfloat16(1.5f) < 1.75f);
}

TEST_CASE("matrices of Eigen::bfloat16 are views of bfloat16", "[bfloat16]") {
  using matrix = Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Index rows = 9, columns = 21, depth = 30;
  matrix x(rows, depth), w(columns, depth);
  polymac_test::random_source random(2);
  for (auto* m : {&x, &w})
    for (Eigen::Index i = 0; i < m->size(); ++i)
      m->data()[i] = Eigen::bfloat16(static_cast<float>(random.integer(-100, 100)));
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> y(rows, columns);
  const auto view = polymac::adapt::view(std::as_const(x));
  static_assert(std::is_same_v<decltype(view), const matrix_view<const bfloat16>>);
  CHECK(static_cast<const void*>(view.data) == x.data());
  const auto layer = polymac::linear<mac::bf16>(polymac::adapt::view(w), std::vector<float>{});
  REQUIRE(layer(view, polymac::adapt::view(y)).ok());
  CHECK(y == x.cast<float>() * w.cast<float>().transpose());  // whole numbers: exact
}

namespace {

template <class I>
std::vector<float> multiply(const std::vector<bfloat16>& x, const std::vector<bfloat16>& w, std::size_t rows,
                            std::size_t columns, const std::vector<float>& bias) {
  const std::size_t depth = x.size() / rows;
  const polymac::layer::linear<mac::bf16, polymac::epilogue::identity, I> layer(
      matrix_view<const bfloat16>(w.data(), columns, depth), std::span<const float>(bias));
  std::vector<float> y(rows * columns);
  REQUIRE(layer(matrix_view<const bfloat16>(x.data(), rows, depth), matrix_view<float>(y.data(), rows, columns)).ok());
  return y;
}

/// The sum in the order that mac::bf16 states.
float ordered_sum(const bfloat16* a, const bfloat16* w, std::size_t depth, float sum) {
  for (std::size_t k = 0; k < depth; k += 2) {
    if (k + 1 < depth) sum = mac::bf16::multiply_add(sum, a[k + 1], w[k + 1]);
    sum = mac::bf16::multiply_add(sum, a[k], w[k]);
  }
  return sum;
}

}  // namespace

// Few rows: vector registers, also where there are tiles.
TEMPLATE_LIST_TEST_CASE("sums of bf16 have the same bits on every instruction set", "[bf16]", isa::compiled) {
  POLYMAC_RANDOM(random, 3);
  for (const std::size_t rows : {1u, 4u, 13u})
    for (const std::size_t depth : {1u, 2u, 7u, 64u, 301u}) {
      const std::size_t columns = 37;
      CAPTURE(TestType::name, rows, depth);
      // Of very different sizes, so that the order shows.
      const auto some = [&](std::size_t count) {
        std::vector<bfloat16> values(count);
        for (auto& v : values)
          v = bfloat16(std::ldexp(2.0f * random.unit() - 1.0f, static_cast<int>(random.integer(-12, 12))));
        return values;
      };
      const auto x = some(rows * depth), w = some(columns * depth);
      std::vector<float> bias(columns);
      for (auto& b : bias) b = random.unit();
      const auto y = multiply<TestType>(x, w, rows, columns, bias);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < y.size(); ++i)
        wrong += bits_of(y[i]) != bits_of(ordered_sum(x.data() + i / columns * depth, w.data() + i % columns * depth,
                                                      depth, bias[i % columns]));
      CHECK(wrong == 0);
    }
}

TEMPLATE_LIST_TEST_CASE("subnormal numbers are kept, or count as zero on avx512_bf16", "[bf16]", isa::compiled) {
  using atom = isa::best_atom<mac::bf16, TestType>;
  const bool flushes = std::is_same_v<typename atom::isa, isa::avx512_bf16>;
  CAPTURE(TestType::name);
  const float tiny = 0x1p-130f, least = 0x1p-126f;
  const auto product = [](float a, float w, float start) {
    return multiply<TestType>({bfloat16(a)}, {bfloat16(w)}, 1, 1, {start})[0];
  };
  CHECK(product(tiny, 0x1p10f, 0.0f) == (flushes ? 0.0f : 0x1p-120f));              // an operand
  CHECK(product(0x1p-65f, 0x1p-65f, 0.0f) == (flushes ? 0.0f : tiny));              // a sum
  CHECK(product(least, 1.0f, tiny) == (flushes ? least : least + tiny));            // a start value
  CHECK(product(least, 1.0f, -1.5f * least) == (flushes ? -0.0f : -0.5f * least));  // a difference
  CHECK(product(least, 2.0f, 0.0f) == 2.0f * least);
}
