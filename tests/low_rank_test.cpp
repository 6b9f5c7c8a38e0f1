// SPDX-License-Identifier: MIT
// Weights as products of two thin matrices: against the two layers one by one.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/complaint.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/layer/low_rank.hpp>
#include <polymac/polymac.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

using namespace polymac;
using policy::low_rank;
using polymac_test::complaint;

namespace {

using bytes = std::vector<std::byte>;
using i8 = std::int8_t;

template <std::size_t R>
void check_linear(std::size_t columns, std::size_t depth, std::size_t rows) {
  INFO("rank " << R << " of " << columns << " x " << depth << ", " << rows << " rows");
  POLYMAC_RANDOM(random, R + rows);
  const auto v = polymac_test::uniform<i8>(random, R * depth), u = polymac_test::uniform<i8>(random, columns * R),
             x = polymac_test::uniform<i8>(random, rows * depth);
  const auto bias = polymac_test::small_integers<std::int32_t>(random, columns, -1000, 1000);
  const matrix_view<const i8> vv(v.data(), R, depth), uu(u.data(), columns, R);
  const auto middle = requantize(0.001, 7);
  const auto last = requantize(0.002, -3);
  const layer::quantization<mac::int8> q{.activation_zero_point = 5}, q_middle{.activation_zero_point = 7};
  const auto layer = linear<mac::int8, low_rank<R>>(vv, uu, bias, middle, last, q, q_middle);
  CHECK(!layer.is_folded());
  CHECK(layer.macs() == (columns + depth) * R);

  std::vector<i8> between(rows * R), expected(rows * columns);
  REQUIRE(
      linear<mac::int8>(vv, std::vector<int>(), middle, q)({x.data(), rows, depth}, {between.data(), rows, R}).ok());
  REQUIRE(
      linear<mac::int8>(uu, bias, last, q_middle)({between.data(), rows, R}, {expected.data(), rows, columns}).ok());

  for (const auto where : polymac_test::both_placements) {
    polymac_test::guarded_buffer<std::byte> ws(layer.workspace_bytes(rows), where);
    polymac_test::guarded_buffer<i8> from(x, where), y(expected.size(), where);
    status s;
    {
      const polymac_test::no_allocation trap;
      s = layer({from.data(), rows, depth}, {y.data(), rows, columns}, {ws.data(), ws.size()});
    }
    REQUIRE(s.ok());
    CHECK(y.values() == expected);
  }
  CHECK(layer.workspace_bytes(rows) <= layer.workspace_bytes());
  // Ranges of rows; nothing else is written.
  bytes ws(layer.workspace_bytes());
  std::vector<i8> y(expected.size(), 77);
  const std::size_t cut = rows / 3;
  REQUIRE(layer({x.data(), rows, depth}, {y.data(), rows, columns}, workspace(ws), {cut, rows}).ok());
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == (i < cut * columns ? 77 : expected[i]));
  REQUIRE(layer({x.data(), rows, depth}, {y.data(), rows, columns}, workspace(ws), {0, cut}).ok());
  CHECK(y == expected);
}

template <std::size_t R>
void check_conv(const layer::convolution& c, extent2d size, std::size_t channels, std::size_t outputs, extent2d kernel,
                std::size_t batch) {
  INFO("rank " << R << " on " << size.height << " x " << size.width << " x " << channels);
  POLYMAC_RANDOM(random, R + size.width);
  const std::size_t depth = kernel.height * kernel.width * channels;
  const auto v = polymac_test::uniform<i8>(random, R * depth), u = polymac_test::uniform<i8>(random, outputs * R),
             x = polymac_test::uniform<i8>(random, batch * size.height * size.width * channels);
  const auto bias = polymac_test::small_integers<std::int32_t>(random, outputs, -1000, 1000);
  const image_view<const i8> vv(v.data(), R, kernel.height, kernel.width, channels);
  const matrix_view<const i8> uu(u.data(), outputs, R);
  const auto middle = requantize(0.001, 7);
  const auto last = requantize(0.002, -3);
  const layer::quantization<mac::int8> q{.activation_zero_point = 5}, q_middle{.activation_zero_point = 7};
  const auto layer = conv2d<mac::int8, low_rank<R>>(c, vv, uu, bias, middle, last, q, q_middle);
  const auto first = conv2d<mac::int8>(c, vv, std::vector<int>(), middle, q);
  const extent2d out = layer.output_size(size);
  REQUIRE(out == first.output_size(size));
  const std::size_t pixels = batch * out.height * out.width;
  std::vector<i8> between(pixels * R), expected(pixels * outputs);
  bytes whole(first.workspace_bytes(size));
  REQUIRE(first({x.data(), batch, size.height, size.width, channels}, {between.data(), batch, out.height, out.width, R},
                workspace(whole))
              .ok());
  REQUIRE(linear<mac::int8>(uu, bias, last, q_middle)({between.data(), pixels, R}, {expected.data(), pixels, outputs})
              .ok());

  for (const auto where : polymac_test::both_placements)
    for (const std::size_t size_of_workspace : {layer.workspace_bytes(), layer.workspace_bytes(size)}) {
      polymac_test::guarded_buffer<std::byte> ws(size_of_workspace, where);
      polymac_test::guarded_buffer<i8> from(x, where), y(expected.size(), where);
      const auto s = layer({from.data(), batch, size.height, size.width, channels},
                           {y.data(), batch, out.height, out.width, outputs}, {ws.data(), ws.size()});
      INFO(std::string(s.text()));
      REQUIRE(s.ok());
      CHECK(y.values() == expected);
    }
  bytes ws(layer.workspace_bytes());
  std::vector<i8> y(expected.size(), 77);
  const std::size_t cut = pixels / 2 + 1;
  for (const row_range rows : {row_range{cut, pixels}, row_range{0, cut}})
    REQUIRE(layer({x.data(), batch, size.height, size.width, channels},
                  {y.data(), batch, out.height, out.width, outputs}, workspace(ws), rows)
                .ok());
  CHECK(y == expected);
}

}  // namespace

TEST_CASE("linear: the bits of two layers, in blocks of any number of rows") {
  for (const std::size_t rows : {std::size_t{1}, std::size_t{5}, std::size_t{64}, std::size_t{250}}) {
    check_linear<3>(17, 30, rows);
    check_linear<16>(70, 64, rows);
    check_linear<80>(33, 20, rows);  // blocks of 204 rows; more products than dense
  }
}

TEST_CASE("convolutions: the bits of two layers, in blocks of lines and of parts of lines") {
  check_conv<4>({.padding = same}, {9, 11}, 5, 12, {3, 3}, 2);
  check_conv<16>({.stride = {2, 2}, .padding = same}, {21, 33}, 3, 20, {3, 3}, 1);
  check_conv<64>({.padding = {1, 1, 1, 1}}, {4, 300}, 4, 6, {3, 3}, 1);  // a block is less than a line
  check_conv<64>({.dilation = {2, 1}, .padding = {3, 2, 1, 0}}, {40, 30}, 4, 6, {3, 5}, 1);
  check_conv<8>({}, {7, 7}, 24, 9, {1, 1}, 3);
}

TEST_CASE("floats: multiplied out where that is no more products, else the sums of two layers") {
  POLYMAC_RANDOM(random, 5);
  const std::size_t columns = 12, depth = 10, rows = 9;
  const auto v = polymac_test::uniform<float>(random, 6 * depth), u = polymac_test::uniform<float>(random, columns * 6),
             x = polymac_test::uniform<float>(random, rows * depth),
             bias = polymac_test::uniform<float>(random, columns);
  std::vector<float> between(rows * 6), expected(rows * columns), y(rows * columns);
  const auto chained = [&](auto rank) {
    const matrix_view<const float> vv(v.data(), rank, depth), uu(u.data(), columns, rank);
    REQUIRE(linear<mac::float32>(vv, std::vector<float>())({x.data(), rows, depth}, {between.data(), rows, rank}).ok());
    REQUIRE(linear<mac::float32>(uu, bias)({between.data(), rows, rank}, {expected.data(), rows, columns}).ok());
    return linear<mac::float32, low_rank<rank>>(vv, uu, bias);
  };
  const auto thin = chained(std::integral_constant<std::size_t, 5>{});  // 110 of 120 products
  CHECK(!thin.is_folded());
  bytes ws(thin.workspace_bytes());
  REQUIRE(thin({x.data(), rows, depth}, {y.data(), rows, columns}, workspace(ws)).ok());
  CHECK(y == expected);

  const auto folded = chained(std::integral_constant<std::size_t, 6>{});  // 132
  CHECK(folded.is_folded());
  CHECK(folded.macs() == 120);
  CHECK(folded.workspace_bytes() == 0);
  CHECK(folded.explain().view().find("multiplied out") != std::string_view::npos);
  REQUIRE(folded({x.data(), rows, depth}, {y.data(), rows, columns}).ok());
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == Approx(expected[i]).margin(1e-5));

  // The same weights as filters of 1 x 2 on an image of 9 x 2.
  const auto conv = conv2d<mac::float32, low_rank<6>>({}, image_view<const float>(v.data(), 6, 1, 2, 5),
                                                      matrix_view<const float>(u.data(), columns, 6), bias);
  CHECK(conv.is_folded());
  std::vector<float> z(rows * columns);
  bytes more(conv.workspace_bytes({9, 2}));
  REQUIRE(conv({x.data(), 1, 9, 2, 5}, {z.data(), 1, 9, 1, columns}, workspace(more)).ok());
  CHECK(z == y);
}

TEST_CASE("what does not fit is refused, and explain says what the rank saves") {
  const std::vector<i8> w(64 * 64, 1);
  const std::vector<int> bias(64);
  const matrix_view<const i8> thin(w.data(), 4, 64), tall(w.data(), 64, 4), wrong(w.data(), 64, 5);
  const auto to8 = requantize(0.1, 0);
  CHECK(complaint([&] {
          static_cast<void>(linear<mac::int8, low_rank<4>>(thin, wrong, bias, to8, to8));
        }).find("expected V of 4 x depth and U of columns x 4, got V of 4 rows and U of 5 columns") !=
        std::string::npos);
  CHECK(complaint([&] {
          static_cast<void>(linear<mac::int8, low_rank<4>>(thin, tall, std::vector<int>(3), to8, to8));
        }).find("bias") != std::string::npos);
  const image_view<const i8> filters(w.data(), 4, 3, 3, 7);
  CHECK(complaint([&] {
          static_cast<void>(conv2d<mac::int8, low_rank<4>>({.padding = {0, 3, 0, 0}}, filters, tall, bias, to8, to8));
        }).find("padding of fewer pixels") != std::string::npos);
  CHECK(complaint([&] {
          static_cast<void>(conv2d<mac::int8, low_rank<4>>({.groups = 2}, filters, tall, bias, to8, to8));
        }).find("one group") != std::string::npos);
  const auto layer = linear<mac::int8, low_rank<4>>(thin, tall, bias, to8, to8);
  std::vector<i8> x(64), y(64, 77);
  const auto s = layer({x.data(), 1, 64}, {y.data(), 1, 64});
  CHECK(s.code() == errc::short_buffer);
  CHECK(s.text().find("expected a workspace of " + std::to_string(layer.workspace_bytes(1))) != std::string_view::npos);
  bytes ws(layer.workspace_bytes());
  CHECK(layer({x.data(), 1, 63}, {y.data(), 1, 64}, workspace(ws)).code() == errc::shape);
  CHECK(y == std::vector<i8>(64, 77));
  CHECK(layer.explain().view().find("12 % of the products, predicted") != std::string_view::npos);
  const auto fat = linear<mac::int8, low_rank<40>>(matrix_view<const i8>(w.data(), 40, 64),
                                                   matrix_view<const i8>(w.data(), 64, 40), bias, to8, to8);
  CHECK(fat.explain().view().find("125 % of the products, slower than a dense layer") != std::string_view::npos);
}
