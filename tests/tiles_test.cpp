// SPDX-License-Identifier: MIT
// Products on matrix registers against the scalar atom: every edge of rows, columns and depth, depths in pieces, ranges
// of rows, all ways in which a convolution finds its rows; operands beside unmapped pages. Where the flags or the
// operating system know no tiles, the same products run on the vector atom.
#include "catch.hpp"
#include "polymac/epilogue/clamp.hpp"
#include "polymac/epilogue/requantize.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/mac/int8.hpp"
#include "support/between_guards.hpp"
#include "support/random.hpp"

#include <cstdint>
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

auto stages(std::size_t columns) {
  std::vector<double> scales(columns);
  for (std::size_t c = 0; c < columns; ++c) scales[c] = 0.00031 + 0.00001 * static_cast<double>(c % 97);
  return pm::requantize(std::span<const double>(scales), -3) | pm::clamp(-100, 110);
}

template <class M>
struct product {
  std::size_t rows, columns, depth;
  std::vector<typename M::activation> x;
  std::vector<std::int8_t> w;
  std::vector<std::int32_t> bias;

  product(random_source& random, std::size_t r, std::size_t c, std::size_t d)
      : rows(r),
        columns(c),
        depth(d),
        x(uniform<typename M::activation>(random, r * d)),
        w(uniform<std::int8_t>(random, c * d)),
        bias(c) {
    for (auto& b : bias) b = static_cast<std::int32_t>(random.integer(-100000, 100000));
  }

  template <class I, class Stages>
  auto layer(const Stages& s) const {
    return pm::layer::linear<M, Stages, I>(matrix_view<const std::int8_t>(w.data(), columns, depth),
                                           std::span<const std::int32_t>(bias), s);
  }
};

template <class M>
void check_product(random_source& random, std::size_t rows, std::size_t columns, std::size_t depth) {
  CAPTURE(M::name, rows, columns, depth);
  const product<M> p(random, rows, columns, depth);
  const auto run = [&](const auto& layer, auto& y) {
    using output = typename std::remove_cvref_t<decltype(layer)>::output;
    return layer(matrix_view<const typename M::activation>(p.x.data(), rows, depth),
                 matrix_view<output>(y.data(), rows, columns));
  };
  const auto scalar = p.template layer<pm::isa::scalar>(pm::epilogue::identity{});
  const auto native = p.template layer<pm::isa::native>(pm::epilogue::identity{});
  std::vector<std::int32_t> expected(rows * columns), got(rows * columns), parts(rows * columns);
  REQUIRE(run(scalar, expected).ok());
  REQUIRE(run(native, got).ok());
  CHECK(got == expected);
  // Two ranges of rows, as two threads would do them.
  const auto cut = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(rows)));
  const matrix_view<const typename M::activation> x(p.x.data(), rows, depth);
  REQUIRE(native(x, matrix_view<std::int32_t>(parts.data(), rows, columns), {cut, rows}).ok());
  for (std::size_t i = 0; i < cut * columns; ++i) REQUIRE(parts[i] == 0);
  REQUIRE(native(x, matrix_view<std::int32_t>(parts.data(), rows, columns), {0, cut}).ok());
  CHECK(parts == expected);

  // No bias; rows of the output with a gap between them, which stays as it is, as do the rows of others.
  const pm::layer::linear<M, pm::epilogue::identity, pm::isa::native> plain(
      matrix_view<const std::int8_t>(p.w.data(), columns, depth), std::span<const std::int32_t>{}, {});
  const std::size_t stride = columns + 5;
  std::vector<std::int32_t> gaps(rows * stride, 7);
  REQUIRE(plain(x, matrix_view<std::int32_t>(gaps.data(), rows, columns, stride), {0, cut}).ok());
  for (std::size_t i = cut * stride; i < gaps.size(); ++i) REQUIRE(gaps[i] == 7);
  REQUIRE(plain(x, matrix_view<std::int32_t>(gaps.data(), rows, columns, stride), {cut, rows}).ok());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < stride; ++c)
      REQUIRE(gaps[r * stride + c] == (c < columns ? expected[r * columns + c] - p.bias[c] : 7));

  std::vector<std::int8_t> quantised(rows * columns), same(rows * columns);
  REQUIRE(run(p.template layer<pm::isa::scalar>(stages(columns)), quantised).ok());
  REQUIRE(run(p.template layer<pm::isa::native>(stages(columns)), same).ok());
  CHECK(quantised == same);
}

template <class M>
void check_guarded(random_source& random, std::size_t rows, std::size_t columns, std::size_t depth) {
  CAPTURE(M::name, rows, columns, depth);
  const product<M> p(random, rows, columns, depth);
  check_between_guards<std::int8_t>(
      p.template layer<pm::isa::native>(stages(columns)), p.x, rows * columns,
      [&](const auto& layer, const typename M::activation* x, std::int8_t* y, pm::workspace) {
        return layer(matrix_view<const typename M::activation>(x, rows, depth),
                     matrix_view<std::int8_t>(y, rows, columns));
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
  const auto x = uniform<activation>(random, c.batch * c.height * c.width * c.channels);
  const auto w = uniform<std::int8_t>(random, c.out * c.kernel.height * c.kernel.width * (c.channels / c.groups));
  std::vector<std::int32_t> bias(c.out);
  for (auto& b : bias) b = static_cast<std::int32_t>(random.integer(-100000, 100000));
  const pm::layer::convolution how{c.kernel, c.stride, c.dilation, c.padding, c.groups};
  const image_view<const std::int8_t> weights(w.data(), c.out, c.kernel.height, c.kernel.width, c.channels / c.groups);
  pm::layer::quantization<M> q;
  q.activation_zero_point = static_cast<activation>(random.integer(0, 100));
  using stages_type = decltype(stages(1));
  const pm::layer::conv2d<M, stages_type, pm::isa::scalar> scalar(how, weights, std::span<const std::int32_t>(bias),
                                                                  stages(c.out), q);
  const pm::layer::conv2d<M, stages_type, pm::isa::native> native(how, weights, std::span<const std::int32_t>(bias),
                                                                  stages(c.out), q);
  const auto o = scalar.output_size({c.height, c.width});
  const std::size_t pixels = c.batch * o.height * o.width;
  REQUIRE(pixels > 0);
  const image_view<const activation> in(x.data(), c.batch, c.height, c.width, c.channels);
  std::vector<std::int8_t> expected(pixels * c.out);
  std::vector<std::byte> memory(scalar.workspace_bytes());
  REQUIRE(scalar(in, image_view<std::int8_t>(expected.data(), c.batch, o.height, o.width, c.out), pm::workspace(memory))
              .ok());
  // The fewest bytes of workspace (windows are copied) and those for this image (it is framed).
  for (const std::size_t bytes : {native.workspace_bytes(), native.workspace_bytes({c.height, c.width})}) {
    CAPTURE(bytes);
    std::vector<std::byte> lent(bytes, std::byte{0xEE});
    std::vector<std::int8_t> got(expected.size(), 99), parts(expected.size(), 99);
    REQUIRE(
        native(in, image_view<std::int8_t>(got.data(), c.batch, o.height, o.width, c.out), pm::workspace(lent)).ok());
    CHECK(got == expected);
    const auto cut = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(pixels)));
    for (const pm::row_range range : {pm::row_range{cut, pixels}, pm::row_range{0, cut}})
      REQUIRE(native(in, image_view<std::int8_t>(parts.data(), c.batch, o.height, o.width, c.out), pm::workspace(lent),
                     range)
                  .ok());
    CHECK(parts == expected);
    // Beside unmapped pages, with just these bytes.
    struct sized {
      const decltype(native)& layer;
      std::size_t size;
      std::size_t workspace_bytes() const { return size; }
    };
    check_between_guards<std::int8_t>(sized{native, bytes}, x, expected.size(),
                                      [&](const sized& s, const activation* from, std::int8_t* to, pm::workspace ws) {
                                        return s.layer(
                                            image_view<const activation>(from, c.batch, c.height, c.width, c.channels),
                                            image_view<std::int8_t>(to, c.batch, o.height, o.width, c.out), ws);
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
  }
}

TEST_CASE("an image that is read in place needs no memory for a copy") {
  random_source random(6);
  constexpr std::size_t height = 30, width = 33, channels = 64, out = 40, apart = channels + 16;
  const auto w = uniform<std::int8_t>(random, out * channels);
  const auto x = uniform<std::int8_t>(random, height * width * apart);
  const auto build = [&]<class I>(I) {
    return pm::layer::conv2d<mac::int8, decltype(stages(1)), I>({}, image_view(w.data(), out, 1, 1, channels),
                                                                std::span<const std::int32_t>{}, stages(out));
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
#if defined(__AMX_TILE__) && defined(__AMX_INT8__)
  const bool permitted = pm::cpu::permits_tiles();
  CHECK((words.find("tiles of 32 rows") != std::string::npos) == permitted);
  CHECK((words.find("not permitted") != std::string::npos) != permitted);
#else
  CHECK(words.find("tiles of 32 rows") == std::string::npos);
#endif
}
