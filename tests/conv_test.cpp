// SPDX-License-Identifier: MIT
// layer::conv2d against the golden model: every arithmetic on every instruction set, one body.
#include "catch.hpp"
#include "support/arithmetic_data.hpp"
#include "support/arithmetics.hpp"
#include "support/golden.hpp"
#include "support/strided.hpp"

#include <polymac/core/int4.hpp>
#include <polymac/layer/conv2d.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "support/test_code.hpp"

using namespace polymac_test;
using polymac::extent2d;
using polymac::image_view;
using polymac::layer::convolution;
using polymac::layer::quantization;

namespace {

struct conv_case {
  convolution c{};
  extent2d kernel{};
  std::size_t batch = 1, height = 1, width = 1, in = 1, out = 1;  // in, out: channels of the whole image

  polymac::window window() const { return {kernel, c.stride, c.dilation, c.padding}; }
  std::string text() const {
    std::ostringstream t;
    t << batch << " x " << height << " x " << width << " x " << in << " -> " << out << " channels, kernel "
      << kernel.height << " x " << kernel.width << ", stride " << c.stride.height << " x " << c.stride.width
      << ", dilation " << c.dilation.height << " x " << c.dilation.width << ", groups " << c.groups << ", padding rule "
      << static_cast<int>(c.padding.rule) << " pixels " << c.padding.pixels.top << " " << c.padding.pixels.left << " "
      << c.padding.pixels.bottom << " " << c.padding.pixels.right;
    return t.str();
  }
};

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// Runs one layer on random data; empty where all is as it must be, else what is not.
template <class M, class I>
std::string run_case(random_source& random, const conv_case& k) {
  using sum = typename polymac::mac_traits<M>::sum;
  using wide = typename polymac::mac_traits<M>::wide;
  const std::size_t depth_channels = k.in / k.c.groups;
  const auto weights = random_weights<M>(random, k.out * k.kernel.height * k.kernel.width * depth_channels);
  const auto bias = random_bias<M>(random, k.out);
  const zero_points<M> zeros(random, k.out);
  const image_view<const typename M::weight> w(weights.data(), k.out, k.kernel.height, k.kernel.width, depth_channels);
  strided_image<typename M::activation> x(k.batch, k.height, k.width, k.in, gaps(random));
  x.assign(random_activations<M>(random, x.size()));

  const polymac::layer::conv2d<M, polymac::epilogue::identity, I> layer(
      k.c, w, std::span<const wide>(bias), {}, quantization<M>{zeros.activation, zeros.weights});
  polymac::window_geometry geometry{};
  if (const auto s = resolve(k.window(), {k.height, k.width}, geometry); !s.ok()) return std::string(s.text());
  const extent2d o = geometry.output;
  if (layer.output_size({k.height, k.width}) != o) return "output_size() says otherwise";
  const gaps y_gaps(random);
  strided_image<sum> y(k.batch, o.height, o.width, k.out, y_gaps);
  // Exactly the bytes asked for, the fewest or those for an image of this size, at an odd address.
  const std::size_t fewest = layer.workspace_bytes(), best = layer.workspace_bytes({k.height, k.width});
  if (best < fewest) return "workspace_bytes(extent) is less than workspace_bytes()";
  const std::size_t bytes = k.height % 2 == 0 ? fewest : best;
  std::vector<std::byte> memory(bytes + 1);
  const polymac::workspace ws(memory.data() + 1, bytes);
  if (const auto s = layer(x.view(), y.view(), ws); !s.ok()) return std::string(s.text());

  const auto expected = golden_conv2d<M>(x.view(), w, k.window(), geometry.padding, o, k.c.groups,
                                         golden_terms<M>{bias, zeros.activation, zeros.weights});
  std::string wrong = disagreement(expected, [&](std::size_t i) { return y[i]; });
  if (!y.gaps_untouched()) wrong += " wrote into the gaps of y";

  // The same pixels in three parts, the last one first: the same bits. Pixels outside of the range: not written.
  const auto pixels = static_cast<std::int64_t>(k.batch * o.height * o.width);
  auto first = static_cast<std::size_t>(random.integer(0, pixels));
  auto second = static_cast<std::size_t>(random.integer(0, pixels));
  if (first > second) std::swap(first, second);
  strided_image<sum> parts(k.batch, o.height, o.width, k.out, y_gaps);
  if (!layer(x.view(), parts.view(), ws, {second, polymac::row_range{}.end}).ok()) wrong += " refused a range";
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (i < second * k.out ? !parts.untouched(i) : !same_bits(parts[i], y[i]))
      return wrong + " a range of pixels gives other bits, or writes outside of it";
  if (!layer(x.view(), parts.view(), ws, {first, second}).ok()) wrong += " refused a range";
  if (!layer(x.view(), parts.view(), ws, {0, first}).ok()) wrong += " refused a range";
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (!same_bits(parts[i], y[i])) return wrong + " three ranges of pixels give other bits";
  return wrong;
}

template <class List>
auto pick(random_source& random, const List& list) {
  return *(std::begin(list) + random.integer(0, static_cast<std::int64_t>(std::size(list)) - 1));
}

enum class padding_kind { same, same_lower, valid, asymmetric, beyond };

/// Everything that `k` and `kind` leave open, at random, so that a window fits.
void complete(random_source& random, conv_case& k, padding_kind kind) {
  const std::size_t strides[] = {1, 1, 2, 3}, dilations[] = {1, 1, 2, 3}, outs[] = {1, 15, 16, 33};
  k.c.stride = {pick(random, strides), pick(random, strides)};
  k.c.dilation = {pick(random, dilations), pick(random, dilations)};
  if (k.kernel.height == 10) k.c.dilation.height = 1;
  k.out = pick(random, outs);
  // One group, as many as channels, or two.
  k.c.groups = 1;
  if (random.integer(0, 2) == 0) k.c.groups = k.in % 2 == 0 && random.integer(0, 1) == 0 ? 2 : k.in;
  if (k.c.groups > 1) k.out = k.c.groups * static_cast<std::size_t>(random.integer(1, k.c.groups == 2 ? 17 : 2));
  k.batch = random.integer(0, 2) == 0 ? 2 : 1;
  const auto small = [&](std::int64_t most) { return static_cast<std::size_t>(random.integer(0, most)); };
  switch (kind) {
    case padding_kind::same:
      k.c.padding = polymac::same;
      break;
    case padding_kind::same_lower:
      k.c.padding = polymac::same_lower;
      break;
    case padding_kind::valid:
      k.c.padding = polymac::valid;
      break;
    case padding_kind::asymmetric:
      k.c.padding = {small(3), small(3), small(3), small(3)};
      break;
    case padding_kind::beyond: {  // whole windows lie on the padding
      const auto reach = static_cast<std::int64_t>(k.kernel.height * k.c.dilation.height + 2);
      k.c.padding = {small(reach), small(reach), small(reach), small(reach)};
    }
  }
  const auto extent = [&](std::size_t kernel, std::size_t dilation) {
    const std::size_t reach = polymac::effective_kernel(kernel, dilation);
    return kind == padding_kind::valid || kind == padding_kind::asymmetric ? reach + small(5) : 1 + small(8);
  };
  k.height = extent(k.kernel.height, k.c.dilation.height);
  k.width = extent(k.kernel.width, k.c.dilation.width);
  if (kind == padding_kind::beyond) {
    // The padded image holds the window.
    const std::size_t high = polymac::effective_kernel(k.kernel.height, k.c.dilation.height);
    const std::size_t wide = polymac::effective_kernel(k.kernel.width, k.c.dilation.width);
    auto& p = k.c.padding.pixels;
    if (k.height + p.top + p.bottom < high) p.bottom = high - k.height - p.top;
    if (k.width + p.left + p.right < wide) p.right = wide - k.width - p.left;
  }
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("conv2d equals its golden model", "[conv2d]", all_cells) {
  using M = typename TestType::mac;
  using I = typename TestType::isa;
  POLYMAC_RANDOM(random, 11);
  const extent2d kernels[] = {{1, 1}, {1, 3}, {3, 2}, {5, 5}, {10, 4}};
  const padding_kind paddings[] = {padding_kind::same, padding_kind::same_lower, padding_kind::valid,
                                   padding_kind::asymmetric, padding_kind::beyond};
  for (const extent2d kernel : kernels)
    for (const padding_kind padding : paddings)
      for (const std::size_t in : {1u, 3u, 4u, 16u, 17u}) {
        conv_case k;
        k.kernel = kernel;
        k.in = in;
        complete(random, k, padding);
        const std::string wrong = run_case<M, I>(random, k);
        INFO(M::name << " on " << I::name << ": " << k.text());
        CHECK(wrong == "");
      }
  // Few output channels, for which some sets have atoms of their own: lines that fill their groups and that do not.
  for (const std::size_t kernel : {1u, 3u})
    for (const std::size_t in : {3u, 4u, 8u, 20u})
      for (const std::size_t out : {3u, 8u}) {
        conv_case k;
        k.kernel = {kernel, kernel};
        k.in = in;
        k.out = out;
        k.height = 5;
        k.width = out == 8 ? 28 : 29;  // tiles of fours that go on in the next line
        if (kernel == 3 && in == 20) k.c.dilation = {2, 2};
        k.c.padding = out == 8 ? polymac::same : polymac::valid;
        if (kernel == 3) k.c.stride.width = in == 3 ? 2 : 1;
        const std::string wrong = run_case<M, I>(random, k);
        INFO(M::name << " on " << I::name << ": " << k.text());
        CHECK(wrong == "");
      }
}

TEMPLATE_LIST_TEST_CASE("conv2d splits deep windows", "[conv2d]", tested_isas) {
  // 3 x 3 x 64 = 576 products of 16 x 8 bits, and 16 x 16 x 260 of bytes, leave the accumulator.
  const auto check = [](auto mac, std::size_t extent, std::size_t channels, auto a, auto w, std::int64_t bias) {
    using M = decltype(mac);
    using sum = typename polymac::mac_traits<M>::sum;
    const std::size_t out = 3;
    const std::vector<typename M::activation> x(extent * extent * channels, a);
    const std::vector<typename M::weight> weights(out * x.size(), w);
    const std::vector<std::int64_t> biases(out, bias);
    const polymac::layer::conv2d<M, polymac::epilogue::identity, TestType> layer(
        {.padding = polymac::same}, image_view<const typename M::weight>(weights.data(), out, extent, extent, channels),
        std::span<const std::int64_t>(biases));
    std::vector<sum> y(extent * extent * out);
    std::vector<std::byte> memory(layer.workspace_bytes());
    REQUIRE(layer(image_view<const typename M::activation>(x.data(), 1, extent, extent, channels),
                  image_view<sum>(y.data(), 1, extent, extent, out), polymac::workspace(memory))
                .ok());
    bool right = true;
    const std::size_t left = (extent - 1) / 2, right_side = extent - 1 - left;
    const auto taps = [&](std::size_t o) {  // taps of one axis that lie on the image
      const std::size_t before = o < left ? left - o : 0,
                        behind = o + right_side >= extent ? o + right_side - extent + 1 : 0;
      return extent - before - behind;
    };
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::size_t products = taps(i / out / extent) * taps(i / out % extent) * channels;
      const std::int64_t exact = bias + static_cast<std::int64_t>(products) * a * w;
      const std::int64_t low = std::numeric_limits<sum>::min(), high = std::numeric_limits<sum>::max();
      right = right && std::int64_t{y[i]} == (exact < low ? low : exact > high ? high : exact);
    }
    INFO(M::name << " on " << TestType::name << ", " << extent << " x " << extent << " x " << channels);
    CHECK(right);
  };
  for (const std::size_t channels : {63u, 64u, 65u})
    check(polymac::mac::int16x8{}, 3, channels, std::int16_t{-32768}, std::int8_t{-128}, 7);
  for (const std::size_t channels : {2047u, 2048u, 2052u}) {
    check(polymac::mac::int8{}, 8, channels, std::int8_t{-128}, std::int8_t{-128}, 0);
    check(polymac::mac::int8{}, 8, channels, std::int8_t{-128}, std::int8_t{-128}, -1000);
  }
}

TEMPLATE_LIST_TEST_CASE("conv2d takes int4 and unsigned weights", "[conv2d]", tested_isas) {
  using M = polymac::mac::int8;
  POLYMAC_RANDOM(random, 12);
  const extent2d kernel{3, 3};
  const auto x = uniform<std::int8_t>(random, 7 * 6 * 5);
  const image_view<const std::int8_t> x_view(x.data(), 1, 7, 6, 5);
  const auto check = [&](const auto& w, std::span<const std::int32_t> weight_zeros) {
    const polymac::layer::conv2d<M, polymac::epilogue::identity, TestType> layer(
        {.padding = polymac::same}, w, std::span<const std::int32_t>{}, {}, quantization<M>{127, weight_zeros});
    std::vector<std::int32_t> y(7 * 6 * w.batch);
    std::vector<std::byte> memory(layer.workspace_bytes());
    REQUIRE(layer(x_view, image_view<std::int32_t>(y.data(), 1, 7, 6, w.batch), polymac::workspace(memory)).ok());
    const polymac::window window{kernel, {1, 1}, {1, 1}, polymac::same};
    const auto expected = golden_conv2d<M>(x_view, w, window, polymac::same_padding(window, {7, 6}), {7, 6}, 1,
                                           golden_terms<M>{{}, 127, weight_zeros});
    CHECK(disagreement(expected, [&](std::size_t i) { return y[i]; }) == "");
  };
  const auto nibbles = uniform<std::uint8_t>(random, (7 * 9 * 5 + 1) / 2);  // odd rows begin within a byte
  check(polymac::int4_image_view{nibbles.data(), 7, 3, 3, 5}, {});
  const auto bytes = uniform<std::uint8_t>(random, 7 * 9 * 5);
  const std::int32_t one[] = {128}, each[] = {0, 128, 255, 17, 200, 1, 64};
  check(image_view<const std::uint8_t>(bytes.data(), 7, 3, 3, 5), one);
  check(image_view<const std::uint8_t>(bytes.data(), 7, 3, 3, 5), each);
}

TEST_CASE("the epilogue of a grouped convolution is told pixel and channel of the whole output", "[conv2d]") {
  struct place : polymac::epilogue::stage {
    polymac::status check(std::size_t) const noexcept { return {}; }
    double operator()(std::int32_t sum, std::size_t row, std::size_t column) const noexcept {
      return sum + 1000.0 * static_cast<double>(row) + 1e6 * static_cast<double>(column);
    }
  };
  const std::vector<std::int8_t> x(2 * 3 * 5 * 6, 1), weights(38 * 3, 2);
  const auto layer = polymac::conv2d<polymac::mac::int8>(
      {.groups = 2}, image_view<const std::int8_t>(weights.data(), 38, 1, 1, 3), std::vector<std::int32_t>{}, place{});
  std::vector<double> y(2 * 3 * 5 * 38);
  std::vector<std::byte> memory(layer.workspace_bytes());
  REQUIRE(layer(image_view<const std::int8_t>(x.data(), 2, 3, 5, 6), image_view<double>(y.data(), 2, 3, 5, 38),
                polymac::workspace(memory))
              .ok());
  bool right = true;
  for (std::size_t i = 0; i < y.size(); ++i)
    right = right && y[i] == 6.0 + 1000.0 * static_cast<double>(i / 38) + 1e6 * static_cast<double>(i % 38);
  CHECK(right);
}

TEST_CASE("a convolution with static extents equals the one with dynamic extents", "[conv2d]") {
  using M = polymac::mac::int8;
  POLYMAC_RANDOM(random, 13);
  const auto weights = uniform<std::int8_t>(random, 18 * 9 * 5);
  const auto x = uniform<std::int8_t>(random, 6 * 7 * 5);
  const std::vector<std::int32_t> bias(18, -5);
  const image_view<const std::int8_t> w(weights.data(), 18, 3, 3, 5), x_view(x.data(), 1, 6, 7, 5);
  const convolution how{.stride = {2, 2}, .padding = polymac::same};
  const polymac::layer::conv2d<M, polymac::epilogue::identity, polymac::isa::native, polymac::extents<18, 3, 3, 5>>
      fixed(how, w, std::span<const std::int32_t>(bias), {}, quantization<M>{-128, {}});
  const polymac::layer::conv2d<M> free(how, w, std::span<const std::int32_t>(bias), {}, quantization<M>{-128, {}});
  std::vector<std::int32_t> first(3 * 4 * 18), second(3 * 4 * 18);
  std::vector<std::byte> memory(std::max(fixed.workspace_bytes(), free.workspace_bytes()));
  REQUIRE(fixed(x_view, image_view<std::int32_t>(first.data(), 1, 3, 4, 18), polymac::workspace(memory)).ok());
  REQUIRE(free(x_view, image_view<std::int32_t>(second.data(), 1, 3, 4, 18), polymac::workspace(memory)).ok());
  CHECK(first == second);
  CHECK(free.macs({6, 7}) == 3 * 4 * 18 * 9 * 5);
}
