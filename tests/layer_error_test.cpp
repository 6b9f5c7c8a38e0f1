// SPDX-License-Identifier: MIT
// What the layers with weights refuse, and in which words. Built twice: with exceptions a constructor throws, without
// them the layer keeps a status and does not run.
#include "catch.hpp"
#include "support/arithmetics.hpp"

#include <polymac/core/int4.hpp>
#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

using namespace polymac_test;
using polymac::errc;
using polymac::image_view;
using polymac::matrix_view;
using polymac::isa::scalar;
using polymac::layer::quantization;
using polymac::mac::float32;
using polymac::mac::int8;

namespace {

const std::vector<std::int8_t> zeros(4096);
const std::vector<float> float_zeros(4096);
constexpr std::size_t most = std::numeric_limits<std::size_t>::max();

template <class T = std::int8_t>
std::vector<T> nothing() {
  return {};
}
matrix_view<const std::int8_t> matrix(std::size_t rows, std::size_t columns) { return {zeros.data(), rows, columns}; }
image_view<const std::int8_t> image(std::size_t n, std::size_t h, std::size_t w, std::size_t c) {
  return {zeros.data(), n, h, w, c};
}

/// The status a constructor ends with. A layer that is not ok must not run, and must leave y as it is.
template <class Make>
polymac::status made(const Make& make) {
#if POLYMAC_HAS_EXCEPTIONS
  try {
    const auto layer = make();
    return layer.status();
  } catch (const polymac::error& e) {
    if (std::string_view(e.what()) != e.status().text()) FAIL_CHECK("what() is not the text of the status");
    return e.status();
  }
#else
  const auto layer = make();
  if (!layer.status().ok()) {
    using layer_type = std::remove_cvref_t<decltype(layer)>;
    std::array<typename layer_type::activation, 64> x{};
    std::array<typename layer_type::output, 64> y{};
    y.fill(static_cast<typename layer_type::output>(77));
    std::array<std::byte, 4096> memory{};
    polymac::status s;
    if constexpr (requires { layer.columns(); }) {
      s = layer(matrix_view<const typename layer_type::activation>(x.data(), 2, 2),
                matrix_view<typename layer_type::output>(y.data(), 2, 2));
    } else {
      s = layer(image_view<const typename layer_type::activation>(x.data(), 1, 2, 2, 2),
                image_view<typename layer_type::output>(y.data(), 1, 2, 2, 2), polymac::workspace(memory));
      static_cast<void>(layer.workspace_bytes());
      static_cast<void>(layer.in_channels());
      static_cast<void>(layer.out_channels());
      static_cast<void>(layer.macs({2, 2}));
    }
    CHECK(s.code() == layer.status().code());
    CHECK(s.text() == layer.status().text());
    for (const auto v : y) CHECK(v == static_cast<typename layer_type::output>(77));
    static_cast<void>(layer.explain());
  }
  return layer.status();
#endif
}

void expect(const polymac::status& s, errc code, std::string_view text) {
  CHECK(s.code() == code);
  CHECK(std::string(s.text()) == std::string(text));
}

}  // namespace

TEST_CASE("linear: what its constructor refuses", "[error]") {
  const auto with = [](std::size_t columns, std::size_t depth, std::size_t bias) {
    return made([=] { return polymac::linear<int8, scalar>(matrix(columns, depth), std::vector<std::int32_t>(bias)); });
  };
  CHECK(with(3, 4, 0).ok());
  CHECK(with(3, 4, 3).ok());
  expect(with(0, 4, 0), errc::shape, "linear: expected weights of at least 1 x 1, got 0 columns x 4 deep");
  expect(with(3, 0, 0), errc::shape, "linear: expected weights of at least 1 x 1, got 3 columns x 0 deep");
  expect(with(3, 4, 4), errc::shape, "linear: expected a bias for each of 3 columns or none, got 4");
  expect(with(3, 4, 1), errc::shape, "linear: expected a bias for each of 3 columns or none, got 1");
  expect(made([] { return polymac::linear<int8, scalar>(matrix_view<const std::int8_t>(nullptr, 3, 4), nothing()); }),
         errc::parameter, "linear: the view of the weights has no data");
  expect(made([] {
           return polymac::linear<int8, scalar>(polymac::int4_matrix_view{nullptr, 3, 4}, nothing());
         }),
         errc::parameter, "linear: the view of the weights has no data");

  const auto quantized = [](std::vector<std::int32_t> z) {
    return made([&] {
      return polymac::linear<int8, scalar>(matrix(3, 4), nothing(), polymac::epilogue::identity{},
                                           quantization<int8>{5, z});
    });
  };
  CHECK(quantized({}).ok());
  CHECK(quantized({256}).ok());
  CHECK(quantized({1, 2, -256}).ok());
  expect(quantized({1, 2}), errc::shape, "linear: expected 0, 1 or 3 weight zero points, got 2");
  expect(quantized({257}), errc::parameter, "linear: expected weight zero points in [-256, 256], got 257");
  expect(quantized({0, 0, -257}), errc::parameter, "linear: expected weight zero points in [-256, 256], got -257");

  const std::vector<std::int64_t> large{0, 0, (std::int64_t{1} << 62) + 1};
  expect(made([&] { return polymac::linear<int8, scalar>(matrix(3, 4), large); }), errc::parameter,
         "linear: expected a bias in [-4611686018427387904, 4611686018427387904], got 4611686018427387905");
  const std::vector<std::int64_t> lowest{std::numeric_limits<std::int64_t>::min(), 0, 0};
  CHECK_FALSE(made([&] { return polymac::linear<int8, scalar>(matrix(3, 4), lowest); }).ok());
}

TEST_CASE("linear: weights that the arithmetic cannot hold", "[error]") {
  const auto with = [](auto mac, std::vector<std::int32_t> w, std::vector<std::int32_t> z = {}) {
    using M = decltype(mac);
    return made([&] {
      return polymac::linear<M, scalar>(matrix_view<const std::int32_t>(w.data(), 1, w.size()), nothing(),
                                        polymac::epilogue::identity{}, quantization<M>{{}, z});
    });
  };
  CHECK(with(int8{}, {3 * 127, -3 * 128}).ok());
  expect(with(int8{}, {3 * 127 + 1}), errc::parameter,
         "linear: expected weights less their zero points in [-384, 381] for int8, got values in [0, 382]");
  expect(with(int8{}, {-3 * 128}, {1}), errc::parameter,
         "linear: expected weights less their zero points in [-384, 381] for int8, got values in [-385, 0]");
  CHECK_FALSE(with(int8{}, {std::numeric_limits<std::int32_t>::min()}, {256}).ok());
  // A power of two is not linear in its code: no terms.
  CHECK(with(power_of_two{}, {8, -8}).ok());
  expect(with(power_of_two{}, {128}), errc::parameter,
         "linear: expected weights less their zero points in [-128, 127] for power_of_two, got values in [0, 128]");
  CHECK(with(unsigned_bytes{}, {255, 0, 300}).ok());
  expect(with(unsigned_bytes{}, {-1, 255}), errc::parameter,
         "linear: expected weights less their zero points in [0, 765] for unsigned_bytes, got values in [-1, 255]");
}

TEST_CASE("zero points need an integer arithmetic that is linear", "[error]") {
  const matrix_view<const float> w(float_zeros.data(), 3, 4);
  const std::vector<std::int32_t> one{1};
  const auto floats = [&](const quantization<float32>& q) {
    return made(
        [&] { return polymac::linear<float32, scalar>(w, nothing<float>(), polymac::epilogue::identity{}, q); });
  };
  CHECK(floats({}).ok());
  expect(floats({1.0f, {}}), errc::parameter,
         "linear: zero points need an integer arithmetic that is linear, float32 is not");
  expect(floats({0.0f, one}), errc::parameter,
         "linear: zero points need an integer arithmetic that is linear, float32 is not");
  expect(made([] {
           return polymac::linear<truncated, scalar>(matrix(3, 4), nothing(), polymac::epilogue::identity{},
                                                     quantization<truncated>{1, {}});
         }),
         errc::parameter, "linear: zero points need an integer arithmetic that is linear, truncated is not");
}

TEST_CASE("a stage that does not fit the columns is reported by the layer", "[error]") {
  struct three_columns : polymac::epilogue::stage {
    polymac::status check(std::size_t columns) const noexcept {
      return columns == 3 ? polymac::status{} : polymac::status::make(errc::shape, "three: got ", columns);
    }
    std::int32_t operator()(std::int32_t v, std::size_t, std::size_t) const noexcept { return v; }
  };
  CHECK(made([] { return polymac::linear<int8, scalar>(matrix(3, 4), nothing(), three_columns{}); }).ok());
  expect(made([] { return polymac::linear<int8, scalar>(matrix(4, 4), nothing(), three_columns{}); }), errc::shape,
         "three: got 4");
  // Groups: the columns of all of them together.
  CHECK(made([] {
          return polymac::conv2d<int8, scalar>({.groups = 3}, image(3, 1, 1, 1), nothing(), three_columns{});
        }).ok());
  expect(made([] { return polymac::conv2d<int8, scalar>({}, image(4, 1, 1, 1), nothing(), three_columns{}); }),
         errc::shape, "three: got 4");
  expect(
      made([] { return polymac::depthwise_conv2d<int8, scalar>({}, image(1, 1, 1, 4), nothing(), three_columns{}); }),
      errc::shape, "three: got 4");
}

TEST_CASE("static extents and those of the weights must agree", "[error]") {
  using polymac::epilogue::identity;

  using fixed_linear = polymac::layer::linear<int8, identity, scalar, polymac::extents<3, polymac::dynamic>>;
  const auto linear = [](std::size_t columns, std::size_t depth) {
    return made([=] { return fixed_linear(matrix(columns, depth), std::span<const std::int32_t>{}); });
  };
  CHECK(linear(3, 9).ok());
  expect(linear(4, 9), errc::shape, "linear: expected 3 columns (static extent), got 4");

  using fixed_conv = polymac::layer::conv2d<int8, identity, scalar, polymac::extents<4, 3, 3, 2>>;
  const auto conv = [](std::size_t o, std::size_t h, std::size_t w, std::size_t c, std::size_t groups = 1) {
    return made([=] { return fixed_conv({.groups = groups}, image(o, h, w, c), std::span<const std::int32_t>{}); });
  };
  CHECK(conv(4, 3, 3, 2).ok());
  expect(conv(5, 3, 3, 2), errc::shape, "conv2d: expected 4 output channels (static extent), got 5");
  expect(conv(4, 2, 3, 2), errc::shape, "conv2d: expected 3 kernel lines (static extent), got 2");
  expect(conv(4, 3, 2, 2), errc::shape, "conv2d: expected 3 kernel columns (static extent), got 2");
  expect(conv(4, 3, 3, 1), errc::shape, "conv2d: expected 2 input channels per group (static extent), got 1");
  CHECK(conv(4, 3, 3, 2, 2).code() == errc::shape);  // a panel for each group: more than the static extents hold

  using fixed_depthwise = polymac::layer::depthwise_conv2d<int8, identity, scalar, polymac::extents<3, 3, 6>>;
  const auto depthwise = [](std::size_t h, std::size_t w, std::size_t c) {
    return made([=] { return fixed_depthwise({}, image(1, h, w, c), std::span<const std::int32_t>{}); });
  };
  CHECK(depthwise(3, 3, 6).ok());
  expect(depthwise(1, 3, 6), errc::shape, "depthwise_conv2d: expected 3 kernel lines (static extent), got 1");
  expect(depthwise(3, 3, 5), errc::shape, "depthwise_conv2d: expected 6 output channels (static extent), got 5");
}

TEST_CASE("linear: what a call refuses", "[error]") {
  const auto layer = polymac::linear<int8, scalar>(matrix(3, 4), nothing());
  std::array<std::int32_t, 64> y{};
  y.fill(77);
  const matrix_view<std::int32_t> good(y.data(), 5, 3);
  const auto refuses = [&](const matrix_view<const std::int8_t>& x, const matrix_view<std::int32_t>& out, errc code,
                           std::string_view text) {
    expect(layer(x, out), code, text);
    for (const auto v : y) CHECK(v == 77);
  };
  refuses(matrix(5, 3), good, errc::shape, "linear: expected x of n x 4 and y of n x 3, got 5 x 3 and 5 x 3");
  refuses(matrix(6, 4), good, errc::shape, "linear: expected x of n x 4 and y of n x 3, got 6 x 4 and 5 x 3");
  refuses(matrix(5, 4), {y.data(), 5, 4}, errc::shape,
          "linear: expected x of n x 4 and y of n x 3, got 5 x 4 and 5 x 4");
  refuses({nullptr, 5, 4}, good, errc::parameter, "linear: the view x has no data");
  refuses(matrix(5, 4), {nullptr, 5, 3}, errc::parameter, "linear: the view y has no data");
  const char* strides_of_x = "linear: the strides of x are smaller than its extents, or lead out of the address space";
  const char* strides_of_y = "linear: the strides of y are smaller than its extents, or lead out of the address space";
  refuses({zeros.data(), 5, 4, 3}, good, errc::shape, strides_of_x);
  refuses({zeros.data(), 5, 4, most}, good, errc::shape, strides_of_x);
  refuses({zeros.data(), 5, 4, most / 5 + 1}, good, errc::shape, strides_of_x);  // times 5 wraps around to less than 5
  refuses({zeros.data(), 5, 4, most / 2 / 5 + 1}, good, errc::shape, strides_of_x);
  refuses(matrix(5, 4), {y.data(), 5, 3, 2}, errc::shape, strides_of_y);
  refuses(matrix(5, 4), {y.data(), 5, 3, most / 8 / 5 + 1}, errc::shape, strides_of_y);

  CHECK(layer(matrix(0, 4), matrix_view<std::int32_t>(nullptr, 0, 3)).ok());
  CHECK(layer(matrix(5, 4), good, {5, 9}).ok());
  CHECK(layer(matrix(5, 4), good, {3, 2}).ok());
  CHECK(layer(matrix(5, 4), good, {most, most}).ok());
  for (const auto v : y) CHECK(v == 77);
  CHECK(layer(matrix(1, 4), matrix_view<std::int32_t>(y.data(), 1, 3, 0)).ok());  // one row: its stride does not count
  CHECK((y[0] == 0 && y[2] == 0 && y[3] == 77));
}

TEST_CASE("conv2d: what its constructor refuses", "[error]") {
  using polymac::layer::convolution;
  const auto with = [](const convolution& c, std::size_t o, std::size_t h, std::size_t w, std::size_t i,
                       std::size_t bias = 0) {
    return made([&] { return polymac::conv2d<int8, scalar>(c, image(o, h, w, i), std::vector<std::int32_t>(bias)); });
  };
  CHECK(with({}, 6, 3, 2, 4).ok());
  CHECK(with({.kernel = {3, 2}, .groups = 3}, 6, 3, 2, 4, 6).ok());
  expect(with({.kernel = {3, 3}}, 6, 3, 2, 4), errc::shape,
         "conv2d: the kernel is given as 3 x 3, but the weights have 3 x 2");
  expect(with({.stride = {0, 1}}, 6, 3, 2, 4), errc::parameter,
         "window height: expected kernel, stride and dilation of at least 1, got 3, 0, 1");
  expect(with({.dilation = {1, 0}}, 6, 3, 2, 4), errc::parameter,
         "window width: expected kernel, stride and dilation of at least 1, got 2, 1, 0");
  expect(with({}, 6, 0, 2, 4), errc::parameter,
         "window height: expected kernel, stride and dilation of at least 1, got 0, 1, 1");
  expect(with({}, 0, 3, 2, 4), errc::shape, "conv2d: expected weights of at least 1 x 1, got 0 columns x 24 deep");
  expect(with({}, 6, 3, 2, 0), errc::shape, "conv2d: expected weights of at least 1 x 1, got 6 columns x 0 deep");
  expect(with({}, 6, 3, 2, 4, 5), errc::shape, "conv2d: expected a bias for each of 6 columns or none, got 5");
  expect(with({.groups = 0}, 6, 3, 2, 4), errc::shape, "conv2d: expected groups that divide 6 output channels, got 0");
  expect(with({.groups = 4}, 6, 3, 2, 4), errc::shape, "conv2d: expected groups that divide 6 output channels, got 4");
  expect(with({.groups = 12}, 6, 3, 2, 4), errc::shape,
         "conv2d: expected groups that divide 6 output channels, got 12");
  for (const convolution& c : {convolution{.stride = {most, 1}}, convolution{.dilation = {1, most}},
                               convolution{.padding = {0, most, 0, 0}}, convolution{.padding = {0, 0, most / 2, 0}}}) {
    const auto s = with(c, 6, 3, 2, 4);
    INFO(s.text());
    CHECK(s.code() == errc::parameter);
    CHECK(s.text().find("of at most") != std::string_view::npos);
  }
  expect(made([] {
           return polymac::conv2d<int8, scalar>({}, image_view<const std::int8_t>(nullptr, 6, 3, 2, 4), nothing());
         }),
         errc::parameter, "conv2d: the view of the weights has no data");
  // 3 x 2 x channels wraps around to a small depth.
  const auto s = with({}, 6, 3, 2, most / 6 + 2);
  CHECK(s.code() == errc::shape);
  CHECK(s.text().find("exceed the address space") != std::string_view::npos);
}

TEST_CASE("conv2d: what a call refuses", "[error]") {
  const auto layer = polymac::conv2d<int8, scalar>({.stride = {2, 2}, .padding = polymac::same, .groups = 2},
                                                   image(6, 3, 3, 2), nothing());
  std::array<std::int32_t, 256> y{};
  y.fill(77);
  std::vector<std::byte> memory(layer.workspace_bytes());
  const polymac::workspace enough(memory);
  const image_view<std::int32_t> good(y.data(), 2, 3, 2, 6);
  const auto refuses = [&](const image_view<const std::int8_t>& x, const image_view<std::int32_t>& out,
                           polymac::workspace ws, errc code, std::string_view text) {
    expect(layer(x, out, ws), code, text);
    for (const auto v : y) CHECK(v == 77);
  };
  refuses(image(2, 5, 4, 3), good, enough, errc::shape, "conv2d: expected x with 4 channels, got 3");
  refuses(image(2, 5, 5, 4), good, enough, errc::shape, "conv2d: expected y of 2 x 3 x 3 x 6, got 2 x 3 x 2 x 6");
  refuses(image(1, 5, 4, 4), good, enough, errc::shape, "conv2d: expected y of 1 x 3 x 2 x 6, got 2 x 3 x 2 x 6");
  refuses(image(2, 5, 4, 4), {y.data(), 2, 3, 2, 5}, enough, errc::shape,
          "conv2d: expected y of 2 x 3 x 2 x 6, got 2 x 3 x 2 x 5");
  refuses(image(2, 0, 4, 4), good, enough, errc::shape, "window height: expected an input of at least 1 pixel, got 0");
  refuses({nullptr, 2, 5, 4, 4}, good, enough, errc::parameter, "conv2d: the view x has no data");
  refuses(image(2, 5, 4, 4), {nullptr, 2, 3, 2, 6}, enough, errc::parameter, "conv2d: the view y has no data");

  const char* strides_of_x = "conv2d: the strides of x are smaller than its extents, or lead out of the address space";
  const char* strides_of_y = "conv2d: the strides of y are smaller than its extents, or lead out of the address space";
  const auto x_with = [](std::size_t pixel, std::size_t line, std::size_t whole) {
    return image_view<const std::int8_t>(zeros.data(), 2, 5, 4, 4, pixel, line, whole);
  };
  CHECK(layer(x_with(4, 16, 80), image_view<std::int32_t>(y.data(), 2, 3, 2, 6), enough, {12, 12}).ok());
  refuses(x_with(3, 16, 80), good, enough, errc::shape, strides_of_x);
  refuses(x_with(4, 15, 80), good, enough, errc::shape, strides_of_x);
  refuses(x_with(4, 16, 79), good, enough, errc::shape, strides_of_x);
  refuses(x_with(most / 2 + 1, 16, 80), good, enough, errc::shape, strides_of_x);  // times 2 is 0
  refuses(x_with(most / 4 + 1, 16, 80), good, enough, errc::shape, strides_of_x);
  refuses(x_with(4, most / 4 + 1, 80), good, enough, errc::shape, strides_of_x);
  refuses(x_with(4, 16, most / 2 + 1), good, enough, errc::shape, strides_of_x);
  refuses(image(2, 5, 4, 4), {y.data(), 2, 3, 2, 6, 5, 12, 36}, enough, errc::shape, strides_of_y);
  refuses(image(2, 5, 4, 4), {y.data(), 2, 3, 2, 6, 6, 12, most / 8}, enough, errc::shape, strides_of_y);

  const std::string needed = std::to_string(layer.workspace_bytes());
  refuses(image(2, 5, 4, 4), good, {}, errc::short_buffer,
          "conv2d: expected a workspace of " + needed + " bytes, got 0");
  refuses(image(2, 5, 4, 4), good, {memory.data(), memory.size() - 1}, errc::short_buffer,
          "conv2d: expected a workspace of " + needed + " bytes, got " + std::to_string(memory.size() - 1));
  refuses(image(2, 5, 4, 4), good, {nullptr, memory.size()}, errc::short_buffer,
          "conv2d: expected a workspace of " + needed + " bytes, got 0");

  CHECK(layer(image(0, 5, 4, 4), image_view<std::int32_t>(nullptr, 0, 3, 2, 6), enough).ok());
  CHECK(layer(image(2, 5, 4, 4), good, enough, {12, most}).ok());
  for (const auto v : y) CHECK(v == 77);
  CHECK(layer(image(2, 5, 4, 4), good, enough).ok());
  CHECK((y[0] == 0 && y[71] == 0 && y[72] == 77));

  const auto valid = polymac::conv2d<int8, scalar>({.dilation = {2, 2}}, image(1, 3, 3, 4), nothing());
  expect(
      valid(image(1, 4, 9, 4), image_view<std::int32_t>(y.data(), 1, 1, 5, 1), enough), errc::shape,
      "window height: the kernel reaches over 5 pixels (3 taps, dilation 2), but the padded input has 4 (0 + 4 + 0)");
  CHECK(valid.output_size({4, 9}) == polymac::extent2d{0, 0});
  CHECK(valid.macs({4, 9}) == 0);
}

TEST_CASE("depthwise_conv2d: what its constructor and its calls refuse", "[error]") {
  using polymac::layer::depthwise_convolution;
  const auto with = [](const depthwise_convolution& c, std::size_t n, std::size_t h, std::size_t w, std::size_t o,
                       std::size_t bias = 0) {
    return made(
        [&] { return polymac::depthwise_conv2d<int8, scalar>(c, image(n, h, w, o), std::vector<std::int32_t>(bias)); });
  };
  CHECK(with({.kernel = {3, 2}, .multiplier = 3}, 1, 3, 2, 6, 6).ok());
  expect(with({}, 2, 3, 2, 6), errc::shape,
         "depthwise_conv2d: expected weights of 1 x height x width x channels, got 2");
  expect(with({.kernel = {2, 3}}, 1, 3, 2, 6), errc::shape,
         "depthwise_conv2d: the kernel is given as 2 x 3, but the weights have 3 x 2");
  expect(with({.multiplier = 0}, 1, 3, 2, 6), errc::shape,
         "depthwise_conv2d: expected a multiplier that divides 6 output channels, got 0");
  expect(with({.multiplier = 4}, 1, 3, 2, 6), errc::shape,
         "depthwise_conv2d: expected a multiplier that divides 6 output channels, got 4");
  expect(with({}, 1, 3, 2, 0), errc::shape,
         "depthwise_conv2d: expected weights of at least 1 x 1, got 0 columns x 6 deep");
  expect(with({}, 1, 3, 2, 6, 2), errc::shape,
         "depthwise_conv2d: expected a bias for each of 6 columns or none, got 2");
  expect(with({.stride = {1, 0}}, 1, 3, 2, 6), errc::parameter,
         "window width: expected kernel, stride and dilation of at least 1, got 2, 0, 1");

  const auto layer = polymac::depthwise_conv2d<int8, scalar>({.padding = polymac::same, .multiplier = 2},
                                                             image(1, 3, 3, 6), nothing());
  std::array<std::int32_t, 128> y{};
  y.fill(77);
  std::vector<std::byte> memory(layer.workspace_bytes());
  const polymac::workspace enough(memory);
  const image_view<std::int32_t> good(y.data(), 1, 4, 5, 6);
  expect(layer(image(1, 4, 5, 6), good, enough), errc::shape, "depthwise_conv2d: expected x with 3 channels, got 6");
  expect(layer(image(1, 4, 5, 3), image_view<std::int32_t>(y.data(), 1, 4, 5, 3), enough), errc::shape,
         "depthwise_conv2d: expected y of 1 x 4 x 5 x 6, got 1 x 4 x 5 x 3");
  expect(layer({nullptr, 1, 4, 5, 3}, good, enough), errc::parameter, "depthwise_conv2d: the view x has no data");
  expect(layer({zeros.data(), 1, 4, 5, 3, 2, 15, 60}, good, enough), errc::shape,
         "depthwise_conv2d: the strides of x are smaller than its extents, or lead out of the address space");
  expect(layer(image(1, 4, 5, 3), good, {memory.data(), memory.size() - 1}), errc::short_buffer,
         "depthwise_conv2d: expected a workspace of " + std::to_string(memory.size()) + " bytes, got " +
             std::to_string(memory.size() - 1));
  for (const auto v : y) CHECK(v == 77);
  CHECK(layer(image(1, 4, 5, 3), good, enough).ok());
  CHECK((y[0] == 0 && y[119] == 0 && y[120] == 77));
}
