// SPDX-License-Identifier: MIT
// Whole layers in constant expressions: static extents on isa::scalar. A mistake, undefined behaviour or a read past a
// view does not compile.
#include "catch.hpp"

#include <polymac/epilogue/clamp.hpp>
#include <polymac/epilogue/requantize.hpp>
#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace {

using polymac::extents;
using polymac::image_view;
using polymac::matrix_view;
using polymac::isa::scalar;
using polymac::layer::quantization;
namespace mac = polymac::mac;

using raw = polymac::epilogue::identity;

// ---- linear --------------------------------------------------------------------------------------------------------

template <class M, class Shape, class T, class W, class B, std::size_t Columns, std::size_t Depth, std::size_t Size>
constexpr auto linear(const std::array<W, Columns * Depth>& weights, const std::array<B, Columns>& bias,
                      const std::array<T, Size>& x, const quantization<M>& q = {}) {
  constexpr std::size_t rows = Size / Depth;
  const polymac::layer::linear<M, raw, scalar, Shape> layer(matrix_view<const W>(weights.data(), Columns, Depth),
                                                            std::span<const B>(bias), {}, q);
  std::array<typename polymac::mac_traits<M>::sum, rows * Columns> y{};
  const auto s = layer(matrix_view<const T>(x.data(), rows, Depth), matrix_view(y.data(), rows, Columns));
  if (!s.ok()) y = {};
  return y;
}

// 1 2 3 . (1 2 3, -1 0 127) + (10, -20)
static_assert(linear<mac::int8, extents<2, 3>, std::int8_t, std::int8_t, std::int32_t, 2, 3, 3>({1, 2, 3, -1, 0, 127},
                                                                                                {10, -20}, {1, 2, 3}) ==
              std::array<std::int32_t, 2>{24, 360});
// The extremes; a zero point of -128 turns -128 into 0.
static_assert(linear<mac::int8, extents<1, 2>, std::int8_t, std::int8_t, std::int32_t, 1, 2, 4>({-128, -128}, {0},
                                                                                                {-128, -128, 127, 127},
                                                                                                {-128, {}}) ==
              std::array<std::int32_t, 2>{0, -128 * 255 * 2});
static_assert(linear<mac::uint8, extents<1, 2>, std::uint8_t, std::int8_t, std::int32_t, 1, 2, 2>({-128, 127}, {1},
                                                                                                  {255, 255}) ==
              std::array<std::int32_t, 1>{-254});
// Sums of 64 bits.
static_assert(linear<mac::int16x8, extents<1, 2>, std::int16_t, std::int8_t, std::int64_t, 1, 2, 2>(
                  {-128, -128}, {std::int64_t{1} << 40}, {-32768, -32768}) ==
              std::array<std::int64_t, 1>{(std::int64_t{1} << 40) + (std::int64_t{1} << 23)});
static_assert(linear<mac::float32, extents<1, 2>, float, float, float, 1, 2, 2>({0.5f, -2.0f}, {0.25f}, {3.0f, 1.0f}) ==
              std::array<float, 1>{-0.25f});
// The sum leaves 32 bits and saturates.
static_assert(linear<mac::int8, extents<1, 1>, std::int8_t, std::int8_t, std::int32_t, 1, 1, 2>({-128}, {0x7fffffff},
                                                                                                {-128, 1}) ==
              std::array<std::int32_t, 2>{0x7fffffff, 0x7fffffff - 128});
// Dynamic extents take memory of the evaluation; weights of 9 bits are two terms.
constexpr std::array<std::int32_t, 1> below{-128};
static_assert(linear<mac::int8, extents<polymac::dynamic, polymac::dynamic>, std::int8_t, std::int8_t, std::int32_t, 1,
                     2, 2>({127, -128}, {0}, {2, 3}, {0, below}) == std::array<std::int32_t, 1>{510});

// ---- convolutions --------------------------------------------------------------------------------------------------

constexpr std::array<std::int8_t, 16> ramp{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr std::array<std::int8_t, 9> ones{1, 1, 1, 1, 1, 1, 1, 1, 1};

constexpr std::array<std::int32_t, 4> box_filter(std::int8_t zero_point) {
  const std::array<std::int32_t, 1> bias{1000};
  const polymac::layer::conv2d<mac::int8, raw, scalar, extents<1, 3, 3, 1>> layer(
      {.stride = {2, 2}, .padding = polymac::same}, image_view<const std::int8_t>(ones.data(), 1, 3, 3, 1),
      std::span<const std::int32_t>(bias), {}, {zero_point, {}});
  std::array<std::int32_t, 4> y{};
  const auto s = layer(image_view<const std::int8_t>(ramp.data(), 1, 4, 4, 1), image_view(y.data(), 1, 2, 2, 1));
  return s.ok() ? y : std::array<std::int32_t, 4>{};
}

// TensorFlow's SAME on an even extent: nothing above and left, one pixel below and right.
static_assert(box_filter(0) ==
              std::array<std::int32_t, 4>{1000 + 1 + 2 + 3 + 5 + 6 + 7 + 9 + 10 + 11, 1000 + 3 + 4 + 7 + 8 + 11 + 12,
                                          1000 + 9 + 10 + 11 + 13 + 14 + 15, 1000 + 11 + 12 + 15 + 16});
// Every pixel less 5; those of the padding stay zero.
static_assert(box_filter(5) == std::array<std::int32_t, 4>{1054 - 45, 1045 - 30, 1072 - 30, 1054 - 20});

// Two channels in two groups: no weight meets the other channel's pixels.
constexpr std::array<std::int32_t, 4> grouped() {
  const std::array<std::int8_t, 2> weights{1, -1};
  const polymac::layer::conv2d<mac::int8, raw, scalar> layer(
      {.groups = 2}, image_view<const std::int8_t>(weights.data(), 2, 1, 1, 1), std::span<const std::int32_t>{});
  std::array<std::int32_t, 4> y{};
  const auto s = layer(image_view<const std::int8_t>(ramp.data(), 1, 1, 2, 2), image_view(y.data(), 1, 1, 2, 2));
  return s.ok() ? y : std::array<std::int32_t, 4>{};
}
static_assert(grouped() == std::array<std::int32_t, 4>{1, -2, 3, -4});

// 2 channels, 2 outputs each, a kernel of 1 x 2 with one pixel of padding on the left.
constexpr std::array<std::int32_t, 8> depthwise() {
  const std::array<std::int8_t, 8> weights{1, 10, 1, 10, 2, 20, 3, 30};  // [tap][output channel]
  const std::array<std::int32_t, 4> bias{0, 0, 0, 1000};
  const polymac::layer::depthwise_conv2d<mac::int8, raw, scalar, extents<1, 2, 4>> layer(
      {.padding = {0, 1, 0, 0}, .multiplier = 2}, image_view<const std::int8_t>(weights.data(), 1, 1, 2, 4),
      std::span<const std::int32_t>(bias));
  std::array<std::int32_t, 8> y{};
  const auto s = layer(image_view<const std::int8_t>(ramp.data(), 1, 1, 2, 2), image_view(y.data(), 1, 1, 2, 4));
  return s.ok() ? y : std::array<std::int32_t, 8>{};
}
static_assert(depthwise() == std::array<std::int32_t, 8>{2, 20, 6, 1060, 1 + 6, 10 + 60, 2 + 12, 20 + 120 + 1000});

// ---- a small network: convolution, requantisation, clamp, fully connected -------------------------------------------

constexpr auto network(const std::array<std::int8_t, 16>& picture) {
  using polymac::clamp;
  using polymac::requantize;
  const std::array<std::int8_t, 18> filters{1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0};
  const std::array<std::int32_t, 2> bias{0, 0};
  // Mean of the window, and its middle.
  const auto to_codes = requantize(std::array<double, 2>{1.0 / 9.0, 1.0}, -10) | clamp<std::int32_t>(-10, 127);
  const polymac::layer::conv2d<mac::int8, decltype(to_codes), scalar, extents<2, 3, 3, 1>> convolution(
      {}, image_view<const std::int8_t>(filters.data(), 2, 3, 3, 1), std::span<const std::int32_t>(bias), to_codes);
  const std::array<std::int8_t, 8> weights{1, -1, 1, -1, 1, -1, 1, -1};
  const polymac::layer::linear<mac::int8, raw, scalar, extents<1, 8>> difference(
      matrix_view<const std::int8_t>(weights.data(), 1, 8), std::span<const std::int32_t>{}, {}, {-10, {}});
  std::array<std::int8_t, 8> features{};
  std::array<std::byte, 1024> memory{};  // read at run time only
  std::int32_t result = -1;
  const bool ran = convolution(image_view<const std::int8_t>(picture.data(), 1, 4, 4, 1),
                               image_view(features.data(), 1, 2, 2, 2), polymac::workspace(memory))
                       .ok() &&
                   difference(matrix_view<const std::int8_t>(features.data(), 1, 8), matrix_view(&result, 1, 1)).ok();
  return std::pair(features, ran ? result : -1);
}

constexpr auto seen = network(ramp);
// On a ramp the mean is the middle.
static_assert(seen.first ==
              std::array<std::int8_t, 8>{6 - 10, 6 - 10, 7 - 10, 7 - 10, 10 - 10, 10 - 10, 11 - 10, 11 - 10});
static_assert(seen.second == 0);
// Negative values are cut off at the zero point.
static_assert(network({0, 0, 0, 0, 0, -90, 0, 0}).first ==
              std::array<std::int8_t, 8>{-10, -10, -10, -10, -10, -10, -10, -10});

}  // namespace

TEST_CASE("layers give the same at run time as in constant expressions", "[constexpr]") {
  std::array<std::int8_t, 16> picture = ramp;
  volatile std::int8_t first = 1;
  picture[0] = first;
  CHECK(network(picture) == seen);
}
