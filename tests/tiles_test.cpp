// SPDX-License-Identifier: MIT
// Products on matrix registers against the scalar atom: every edge of rows, columns and depth, depths in pieces, ranges
// of rows, all ways in which a convolution finds its rows; operands beside unmapped pages. Where the flags or the
// operating system know no tiles, the same products run on the vector atom; tiles_test.amx_emulated runs them on a model
// of the registers (support/emulated_tiles.hpp).
//
// bf16 is given whole numbers whose sums are exact in float32: any order of summation gives the same bits.
#include "catch.hpp"
#include "polymac/epilogue/clamp.hpp"
#include "polymac/epilogue/requantize.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/mac/bf16.hpp"
#include "polymac/mac/int8.hpp"
#include "support/between_guards.hpp"
#include "support/random.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace pm = polymac;
namespace mac = polymac::mac;
using pm::image_view;
using pm::matrix_view;
using polymac_test::check_between_guards;
using polymac_test::random_source;
using polymac_test::uniform;

namespace {

template <class M>
using sum_of = typename pm::mac_traits<M>::sum;

/// An epilogue that works on blocks of finished sums.
template <class M>
auto stages(std::size_t columns) {
  if constexpr (pm::mac_traits<M>::integer) {
    std::vector<double> scales(columns);
    for (std::size_t c = 0; c < columns; ++c) scales[c] = 0.00031 + 0.00001 * static_cast<double>(c % 97);
    return pm::requantize(std::span<const double>(scales), -3) | pm::clamp(-100, 110);
  } else {
    return pm::clamp(-1000.0f, 1100.0f);
  }
}
template <class M>
using stages_of = decltype(stages<M>(1));
template <class M>
using finished = pm::epilogue::output_of<stages_of<M>, sum_of<M>>;

/// Every value of a byte; whole numbers in [-16, 16] of bf16.
template <class T>
std::vector<T> operands(random_source& random, std::size_t count) {
  if constexpr (std::is_integral_v<T>) {
    return uniform<T>(random, count);
  } else {
    std::vector<T> values(count);
    for (T& v : values) v = T(static_cast<float>(random.integer(-16, 16)));
    return values;
  }
}
template <class M>
std::vector<sum_of<M>> some_bias(random_source& random, std::size_t columns) {
  std::vector<sum_of<M>> bias(columns);
  for (auto& b : bias) b = static_cast<sum_of<M>>(random.integer(-100000, 100000));
  return bias;
}

template <class M>
struct product {
  using activation = typename M::activation;
  using weight = typename M::weight;
  using sum = sum_of<M>;
  std::size_t rows, columns, depth;
  std::vector<activation> x;
  std::vector<weight> w;
  std::vector<sum> bias;

  product(random_source& random, std::size_t r, std::size_t c, std::size_t d)
      : rows(r),
        columns(c),
        depth(d),
        x(operands<activation>(random, r * d)),
        w(operands<weight>(random, c * d)),
        bias(some_bias<M>(random, c)) {}

  template <class I, class Stages>
  auto layer(const Stages& s) const {
    return pm::layer::linear<M, Stages, I>(matrix_view<const weight>(w.data(), columns, depth),
                                           std::span<const sum>(bias), s);
  }
};

template <class M>
void check_product(random_source& random, std::size_t rows, std::size_t columns, std::size_t depth) {
  CAPTURE(M::name, rows, columns, depth);
  using sum = sum_of<M>;
  const product<M> p(random, rows, columns, depth);
  const auto run = [&](const auto& layer, auto& y) {
    using output = typename std::remove_cvref_t<decltype(layer)>::output;
    return layer(matrix_view<const typename M::activation>(p.x.data(), rows, depth),
                 matrix_view<output>(y.data(), rows, columns));
  };
  const auto scalar = p.template layer<pm::isa::scalar>(pm::epilogue::identity{});
  const auto native = p.template layer<pm::isa::native>(pm::epilogue::identity{});
  std::vector<sum> expected(rows * columns), got(rows * columns), parts(rows * columns);
  REQUIRE(run(scalar, expected).ok());
  REQUIRE(run(native, got).ok());
  CHECK(got == expected);
  // Two ranges of rows, as two threads would do them.
  const auto cut = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(rows)));
  const matrix_view<const typename M::activation> x(p.x.data(), rows, depth);
  REQUIRE(native(x, matrix_view<sum>(parts.data(), rows, columns), {cut, rows}).ok());
  for (std::size_t i = 0; i < cut * columns; ++i) REQUIRE(parts[i] == 0);
  REQUIRE(native(x, matrix_view<sum>(parts.data(), rows, columns), {0, cut}).ok());
  CHECK(parts == expected);

  // No bias; rows of the output with a gap between them, which stays as it is, as do the rows of others.
  const pm::layer::linear<M, pm::epilogue::identity, pm::isa::native> plain(
      matrix_view<const typename M::weight>(p.w.data(), columns, depth), std::span<const sum>{}, {});
  const std::size_t stride = columns + 5;
  std::vector<sum> gaps(rows * stride, 7);
  REQUIRE(plain(x, matrix_view<sum>(gaps.data(), rows, columns, stride), {0, cut}).ok());
  for (std::size_t i = cut * stride; i < gaps.size(); ++i) REQUIRE(gaps[i] == 7);
  REQUIRE(plain(x, matrix_view<sum>(gaps.data(), rows, columns, stride), {cut, rows}).ok());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < stride; ++c)
      REQUIRE(gaps[r * stride + c] == (c < columns ? expected[r * columns + c] - p.bias[c] : 7));

  std::vector<finished<M>> stored(rows * columns), same(rows * columns);
  REQUIRE(run(p.template layer<pm::isa::scalar>(stages<M>(columns)), stored).ok());
  REQUIRE(run(p.template layer<pm::isa::native>(stages<M>(columns)), same).ok());
  CHECK(stored == same);
}

template <class M>
void check_guarded(random_source& random, std::size_t rows, std::size_t columns, std::size_t depth) {
  CAPTURE(M::name, rows, columns, depth);
  using output = finished<M>;
  const product<M> p(random, rows, columns, depth);
  check_between_guards<output>(p.template layer<pm::isa::native>(stages<M>(columns)), p.x, rows * columns,
                               [&](const auto& layer, const typename M::activation* x, output* y, pm::workspace) {
                                 return layer(matrix_view<const typename M::activation>(x, rows, depth),
                                              matrix_view<output>(y, rows, columns));
                               });
}

struct image_case {
  std::size_t batch, height, width, channels, out;
  pm::extent2d kernel, stride, dilation;
  pm::window_padding padding;
  std::size_t groups;
};

template <class M>
void check_image(random_source& random, const image_case& c) {
  CAPTURE(M::name, c.batch, c.height, c.width, c.channels, c.out, c.kernel.height, c.kernel.width, c.stride.height,
          c.stride.width, c.dilation.width, c.groups);
  using activation = typename M::activation;
  using weight = typename M::weight;
  using output = finished<M>;
  const auto x = operands<activation>(random, c.batch * c.height * c.width * c.channels);
  const auto w = operands<weight>(random, c.out * c.kernel.height * c.kernel.width * (c.channels / c.groups));
  const auto bias = some_bias<M>(random, c.out);
  const pm::layer::convolution how{c.kernel, c.stride, c.dilation, c.padding, c.groups};
  const image_view<const weight> weights(w.data(), c.out, c.kernel.height, c.kernel.width, c.channels / c.groups);
  pm::layer::quantization<M> q;
  if constexpr (pm::mac_traits<M>::integer) q.activation_zero_point = static_cast<activation>(random.integer(0, 100));
  const pm::layer::conv2d<M, stages_of<M>, pm::isa::scalar> scalar(how, weights, std::span<const sum_of<M>>(bias),
                                                                   stages<M>(c.out), q);
  const pm::layer::conv2d<M, stages_of<M>, pm::isa::native> native(how, weights, std::span<const sum_of<M>>(bias),
                                                                   stages<M>(c.out), q);
  const auto o = scalar.output_size({c.height, c.width});
  const std::size_t pixels = c.batch * o.height * o.width;
  REQUIRE(pixels > 0);
  const image_view<const activation> in(x.data(), c.batch, c.height, c.width, c.channels);
  std::vector<output> expected(pixels * c.out);
  std::vector<std::byte> memory(scalar.workspace_bytes());
  REQUIRE(
      scalar(in, image_view<output>(expected.data(), c.batch, o.height, o.width, c.out), pm::workspace(memory)).ok());
  // The fewest bytes of workspace (windows are copied) and those for this image (it is framed).
  for (const std::size_t bytes : {native.workspace_bytes(), native.workspace_bytes({c.height, c.width})}) {
    CAPTURE(bytes);
    std::vector<std::byte> lent(bytes, std::byte{0xEE});
    std::vector<output> got(expected.size(), 99), parts(expected.size(), 99);
    REQUIRE(native(in, image_view<output>(got.data(), c.batch, o.height, o.width, c.out), pm::workspace(lent)).ok());
    CHECK(got == expected);
    const auto cut = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(pixels)));
    for (const pm::row_range range : {pm::row_range{cut, pixels}, pm::row_range{0, cut}})
      REQUIRE(
          native(in, image_view<output>(parts.data(), c.batch, o.height, o.width, c.out), pm::workspace(lent), range)
              .ok());
    CHECK(parts == expected);
    // Beside unmapped pages, with just these bytes.
    struct sized {
      const decltype(native)& layer;
      std::size_t size;
      std::size_t workspace_bytes() const { return size; }
    };
    check_between_guards<output>(sized{native, bytes}, x, expected.size(),
                                 [&](const sized& s, const activation* from, output* to, pm::workspace ws) {
                                   return s.layer(
                                       image_view<const activation>(from, c.batch, c.height, c.width, c.channels),
                                       image_view<output>(to, c.batch, o.height, o.width, c.out), ws);
                                 });
  }
}

}  // namespace

TEST_CASE("products on tiles: edges of rows, columns and depth") {
  random_source random(1);
  for (const std::size_t rows : {16u, 17u, 31u, 32u, 33u, 48u, 49u, 64u, 65u, 100u})
    for (const std::size_t columns : {8u, 16u, 17u, 33u, 64u, 81u})
      check_product<mac::int8>(random, rows, columns, static_cast<std::size_t>(random.integer(32, 200)));
  for (const std::size_t depth :
       {32u, 60u, 61u, 62u, 63u, 64u, 65u, 66u, 67u, 68u, 72u, 100u, 128u, 147u, 192u, 260u, 1000u})
    check_product<mac::uint8>(random, 37, 50, depth);
}

TEST_CASE("products of bf16 on tiles") {
  random_source random(7);
  for (const std::size_t rows : {16u, 31u, 33u, 64u, 100u})
    for (const std::size_t columns : {8u, 17u, 33u, 64u, 81u}) check_product<mac::bf16>(random, rows, columns, 128);
  for (const std::size_t depth : {16u, 31u, 32u, 34u, 64u, 66u, 72u, 147u, 576u, 1152u, 2304u})
    check_product<mac::bf16>(random, 37, 50, depth);
  check_product<mac::bf16>(random, 40, 300, 1152);
  for (const std::size_t depth : {64u, 72u, 147u, 1152u}) check_guarded<mac::bf16>(random, 45, 40, depth);
}

TEST_CASE("sums of bf16 keep their bound, and their bits whatever the partition") {
  random_source random(8);
  const std::size_t rows = 150, columns = 96, depth = 640;
  std::vector<pm::bfloat16> x(rows * depth), w(columns * depth);
  for (auto* values : {&x, &w})
    for (auto& v : *values) v = pm::bfloat16(2.0f * random.unit() - 1.0f);
  const matrix_view<const pm::bfloat16> in(x.data(), rows, depth);
  const pm::layer::linear<mac::bf16> layer(matrix_view<const pm::bfloat16>(w.data(), columns, depth),
                                           std::span<const float>{});
  std::vector<float> y(rows * columns), parts(rows * columns);
  REQUIRE(layer(in, matrix_view<float>(y.data(), rows, columns)).ok());
  double worst = 0.0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    double sum = 0.0, magnitudes = 0.0;
    for (std::size_t k = 0; k < depth; ++k) {
      const double p =
          static_cast<double>(x[i / columns * depth + k]) * static_cast<double>(w[i % columns * depth + k]);
      sum += p;
      magnitudes += std::abs(p);
    }
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - sum) / mac::bf16::error_bound(depth, magnitudes));
  }
  CHECK(worst <= 1.0);
  CHECK(worst > 0.0);
  // One row, one tile, one column of tiles by itself: alone they would not run on tiles.
  for (const std::size_t cut : {1u, 3u, 16u, 149u}) {
    CAPTURE(cut);
    for (const pm::row_range range : {pm::row_range{cut, rows}, pm::row_range{0, cut}})
      REQUIRE(layer(in, matrix_view<float>(parts.data(), rows, columns), range).ok());
    CHECK(std::memcmp(parts.data(), y.data(), y.size() * sizeof(float)) == 0);
  }
  for (const std::size_t column : {std::size_t{0}, std::size_t{32}, std::size_t{64}}) {
    const auto part = layer.part({column, column + 32});
    REQUIRE(part(in, matrix_view<float>(parts.data() + column, rows, 32, columns)).ok());
  }
  CHECK(std::memcmp(parts.data(), y.data(), y.size() * sizeof(float)) == 0);
}

TEST_CASE("what lies behind a row of bf16 is not read as if it were part of it") {
  // Zeros times what is not a number would spoil the sums.
  random_source random(9);
  for (const std::size_t depth : {33u, 63u, 64u, 94u, 100u, 147u}) {
    CAPTURE(depth);
    const std::size_t rows = 64, columns = 40, stride = depth + 32;
    std::vector<pm::bfloat16> x(rows * stride, pm::bfloat16(std::numeric_limits<float>::infinity()));
    const auto values = operands<pm::bfloat16>(random, rows * depth),
               w = operands<pm::bfloat16>(random, columns * depth);
    for (std::size_t i = 0; i < values.size(); ++i) x[i / depth * stride + i % depth] = values[i];
    const pm::layer::linear<mac::bf16> layer(matrix_view<const pm::bfloat16>(w.data(), columns, depth),
                                             std::span<const float>{});
    std::vector<float> y(rows * columns), dense(rows * columns);
    REQUIRE(layer(matrix_view<const pm::bfloat16>(x.data(), rows, depth, stride),
                  matrix_view<float>(y.data(), rows, columns))
                .ok());
    REQUIRE(layer(matrix_view<const pm::bfloat16>(values.data(), rows, depth),
                  matrix_view<float>(dense.data(), rows, columns))
                .ok());
    CHECK(y == dense);
  }
}

TEST_CASE("products on tiles: a depth in pieces, several blocks of panels") {
  random_source random(2);
  check_product<mac::int8>(random, 50, 300, 1153);
  check_product<mac::int8>(random, 33, 16, 4608);
  check_product<mac::uint8>(random, 70, 290, 2304);
  check_product<mac::int8>(random, 40, 700, 2048);
}

TEST_CASE("products on tiles read and write inside of their views") {
  random_source random(3);
  for (const std::size_t depth : {32u, 63u, 64u, 65u, 68u, 147u, 576u, 1300u}) {
    check_guarded<mac::int8>(random, 16, 32, depth * 4);
    check_guarded<mac::int8>(random, 45, 40, depth);
    check_guarded<mac::uint8>(random, 64, 17, depth);
  }
}

TEST_CASE("convolutions on tiles") {
  random_source random(4);
  const pm::window_padding one(1, 1, 1, 1), odd(2, 0, 1, 3);
  const image_case cases[] = {
      {1, 20, 20, 16, 16, {3, 3}, {1, 1}, {1, 1}, one, 1},
      {1, 20, 33, 16, 24, {3, 3}, {1, 1}, {1, 1}, odd, 1},
      {2, 12, 15, 32, 40, {3, 3}, {1, 1}, {1, 1}, pm::same, 1},
      {1, 30, 32, 16, 32, {3, 3}, {2, 2}, {1, 1}, one, 1},
      {1, 31, 29, 16, 32, {3, 3}, {2, 2}, {1, 1}, pm::same, 1},
      {1, 40, 40, 3, 16, {7, 7}, {2, 2}, {1, 1}, pm::same, 1},
      {1, 32, 32, 3, 16, {3, 3}, {1, 1}, {1, 1}, pm::same, 1},
      {2, 25, 5, 64, 64, {1, 1}, {1, 1}, {1, 1}, {}, 1},
      {1, 16, 16, 30, 33, {1, 1}, {2, 2}, {1, 1}, {}, 1},
      {1, 24, 24, 8, 16, {3, 3}, {1, 1}, {2, 2}, one, 1},
      {1, 24, 24, 8, 16, {3, 3}, {1, 1}, {2, 1}, one, 1},
      {1, 18, 18, 32, 32, {3, 3}, {1, 1}, {1, 1}, one, 2},
      {3, 9, 9, 64, 64, {3, 3}, {1, 1}, {1, 1}, {}, 1},
      {1, 7, 7, 128, 96, {3, 3}, {1, 1}, {1, 1}, one, 1},
      {1, 49, 10, 1, 64, {10, 4}, {2, 2}, {1, 1}, pm::same, 1},
      {1, 20, 20, 18, 20, {3, 2}, {1, 2}, {1, 1}, one, 1},
      {1, 5, 60, 24, 24, {5, 1}, {1, 1}, {1, 1}, pm::same, 1},
      {1, 1, 400, 40, 32, {1, 5}, {1, 1}, {1, 1}, pm::same, 1},
      {1, 14, 14, 200, 40, {3, 3}, {1, 1}, {1, 1}, pm::same, 1},
      {1, 17, 19, 5, 9, {4, 3}, {1, 3}, {1, 1}, odd, 1},
  };
  for (const image_case& c : cases) {
    check_image<mac::int8>(random, c);
    check_image<mac::uint8>(random, c);
    check_image<mac::bf16>(random, c);
  }
}

TEST_CASE("an image that is read in place needs no memory for a copy") {
  random_source random(6);
  constexpr std::size_t height = 30, width = 33, channels = 64, out = 40, apart = channels + 16;
  const auto w = uniform<std::int8_t>(random, out * channels);
  const auto x = uniform<std::int8_t>(random, height * width * apart);
  const auto build = [&]<class I>(I) {
    return pm::layer::conv2d<mac::int8, stages_of<mac::int8>, I>(
        {}, image_view(w.data(), out, 1, 1, channels), std::span<const std::int32_t>{}, stages<mac::int8>(out));
  };
  const auto native = build(pm::isa::native{});
  const std::size_t bytes = native.workspace_bytes({height, width});
  CHECK(bytes == native.workspace_bytes());
  // Nor does the same image with its pixels apart, whose windows are copied.
  for (const std::size_t stride : {channels, apart}) {
    const image_view<const std::int8_t> image(x.data(), 1, height, width, channels, stride, width * stride,
                                              height * width * stride);
    std::vector<std::int8_t> expected(height * width * out), got(expected.size());
    const auto scalar = build(pm::isa::scalar{});
    std::vector<std::byte> memory(scalar.workspace_bytes()), lent(bytes);
    REQUIRE(scalar(image, {expected.data(), 1, height, width, out}, pm::workspace(memory)).ok());
    REQUIRE(native(image, {got.data(), 1, height, width, out}, pm::workspace(lent)).ok());
    CHECK(got == expected);
  }
}

TEST_CASE("explain() says what becomes of tiles") {
  random_source random(5);
  const product<mac::int8> p(random, 32, 32, 64);
  const auto layer = p.layer<pm::isa::native>(pm::epilogue::identity{});
  const std::string words(layer.explain().c_str());
#if POLYMAC_HAS_AMX_INT8
  const bool permitted = pm::cpu::permits_tiles();
  CHECK((words.find("tiles of 32 rows") != std::string::npos) == permitted);
  CHECK((words.find("not permitted") != std::string::npos) != permitted);
#if defined(POLYMAC_EMULATE_TILES)
  CHECK(permitted);  // else this program tests nothing
  CHECK(layer.runs_on_tiles(32));
  const product<mac::bf16> q(random, 64, 64, 64), prime(random, 64, 64, 94);
  CHECK(q.layer<pm::isa::native>(pm::epilogue::identity{}).runs_on_tiles(64));
  CHECK(std::string(prime.layer<pm::isa::native>(pm::epilogue::identity{}).explain().c_str()).find("whole steps") !=
        std::string::npos);
#endif
#else
  CHECK(words.find("tiles of 32 rows") == std::string::npos);
#endif
}
