// SPDX-License-Identifier: MIT
// layer::depthwise_conv2d against the golden model: every arithmetic on every instruction set, one body.
#include "catch.hpp"
#include "support/arithmetic_data.hpp"
#include "support/arithmetics.hpp"
#include "support/golden.hpp"
#include "support/strided.hpp"

#include <polymac/core/int4.hpp>
#include <polymac/epilogue/clamp.hpp>
#include <polymac/epilogue/requantize.hpp>
#include <polymac/epilogue/rounded_line.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <vector>

using namespace polymac_test;
using polymac::extent2d;
using polymac::image_view;
using polymac::layer::depthwise_convolution;
using polymac::layer::quantization;

namespace {

struct depthwise_case {
  depthwise_convolution c{};
  extent2d kernel{};
  std::size_t batch = 1, height = 1, width = 1, in = 1;
  bool weights_have_zero_points = true;  ///< now and then

  polymac::window window() const { return {kernel, c.stride, c.dilation, c.padding}; }
  std::string text() const {
    std::ostringstream t;
    t << batch << " x " << height << " x " << width << " x " << in << " times " << c.multiplier << ", kernel "
      << kernel.height << " x " << kernel.width << ", stride " << c.stride.height << " x " << c.stride.width
      << ", dilation " << c.dilation.height << " x " << c.dilation.width << ", padding rule "
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
std::string run_case(random_source& random, const depthwise_case& k) {
  using sum = typename polymac::mac_traits<M>::sum;
  using wide = typename polymac::mac_traits<M>::wide;
  const std::size_t out = k.in * k.c.multiplier;
  const auto weights = random_weights<M>(random, k.kernel.height * k.kernel.width * out);
  const auto bias = random_bias<M>(random, out);
  zero_points<M> zeros(random, out);
  if (!k.weights_have_zero_points) zeros.weights.clear();
  const image_view<const typename M::weight> w(weights.data(), 1, k.kernel.height, k.kernel.width, out);
  strided_image<typename M::activation> x(k.batch, k.height, k.width, k.in, gaps(random));
  x.assign(random_activations<M>(random, x.size()));

  const polymac::layer::depthwise_conv2d<M, polymac::epilogue::identity, I> layer(
      k.c, w, std::span<const wide>(bias), {}, quantization<M>{zeros.activation, zeros.weights});
  polymac::window_geometry geometry{};
  if (const auto s = resolve(k.window(), {k.height, k.width}, geometry); !s.ok()) return std::string(s.text());
  const extent2d o = geometry.output;
  if (layer.output_size({k.height, k.width}) != o) return "output_size() says otherwise";
  const gaps y_gaps(random);
  strided_image<sum> y(k.batch, o.height, o.width, out, y_gaps);
  // Exactly the bytes asked for, at an odd address.
  std::vector<std::byte> memory(layer.workspace_bytes() + 1);
  const polymac::workspace ws(memory.data() + 1, layer.workspace_bytes());
  if (const auto s = layer(x.view(), y.view(), ws); !s.ok()) return std::string(s.text());

  const auto expected = golden_depthwise<M>(x.view(), w, k.window(), geometry.padding, o, k.c.multiplier,
                                            golden_terms<M>{bias, zeros.activation, zeros.weights});
  std::string wrong = disagreement(expected, [&](std::size_t i) { return y[i]; });
  if (!y.gaps_untouched()) wrong += " wrote into the gaps of y";

  // The same pixels in two parts: the same bits. Pixels outside of the range: not written.
  const auto cut = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(k.batch * o.height * o.width)));
  strided_image<sum> parts(k.batch, o.height, o.width, out, y_gaps);
  if (!layer(x.view(), parts.view(), ws, {cut, polymac::row_range{}.end}).ok()) wrong += " refused a range";
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (i < cut * out ? !parts.untouched(i) : !same_bits(parts[i], y[i]))
      return wrong + " a range of pixels gives other bits, or writes outside of it";
  if (!layer(x.view(), parts.view(), ws, {0, cut}).ok()) wrong += " refused a range";
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (!same_bits(parts[i], y[i])) return wrong + " two ranges of pixels give other bits";
  return wrong;
}

enum class padding_kind { same, same_lower, valid, asymmetric };

}  // namespace

TEMPLATE_LIST_TEST_CASE("depthwise_conv2d equals its golden model", "[depthwise_conv2d]", all_cells) {
  using M = typename TestType::mac;
  using I = typename TestType::isa;
  POLYMAC_RANDOM(random, 21);
  const auto small = [&](std::size_t least, std::size_t most) {
    return static_cast<std::size_t>(random.integer(static_cast<std::int64_t>(least), static_cast<std::int64_t>(most)));
  };
  const extent2d kernels[] = {{1, 1}, {1, 3}, {3, 2}, {3, 3}, {5, 5}, {10, 4}};
  const padding_kind paddings[] = {padding_kind::same, padding_kind::same_lower, padding_kind::valid,
                                   padding_kind::asymmetric};
  for (const extent2d kernel : kernels)
    for (const padding_kind padding : paddings)
      for (const std::size_t in : {1u, 3u, 4u, 16u, 17u, 63u, 64u, 65u, 130u}) {
        if (in > 17 && kernel.height * kernel.width > 9) continue;
        depthwise_case k;
        k.kernel = kernel;
        k.in = in;
        k.c.multiplier = random.integer(0, 1) == 0 ? 1 : small(1, in > 17 ? 2 : 7);
        k.c.stride = {small(1, 3), small(1, 3)};
        k.c.dilation = {kernel.height == 10 ? 1 : small(1, 3), small(1, 3)};
        k.batch = random.integer(0, 2) == 0 ? 2 : 1;
        switch (padding) {
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
            k.c.padding = {small(0, 4), small(0, 4), small(0, 4), small(0, 4)};
        }
        const bool explicit_padding = padding == padding_kind::valid || padding == padding_kind::asymmetric;
        k.height = small(1, 5) + (explicit_padding ? polymac::effective_kernel(kernel.height, k.c.dilation.height) : 0);
        k.width = small(1, 5) + (explicit_padding ? polymac::effective_kernel(kernel.width, k.c.dilation.width) : 0);
        const std::string wrong = run_case<M, I>(random, k);
        INFO(M::name << " on " << I::name << ": " << k.text());
        CHECK(wrong == "");
      }
}

// Squares, and tiles of floats: in place and copied, in step with the padding and out of it, several strips wide.
TEMPLATE_LIST_TEST_CASE("depthwise_conv2d equals its golden model at strides 1 and 2", "[depthwise_conv2d]",
                        all_cells) {
  using M = typename TestType::mac;
  using I = typename TestType::isa;
  POLYMAC_RANDOM(random, 27);
  for (const extent2d kernel : {extent2d{3, 3}, extent2d{4, 3}, extent2d{3, 4}})
    for (const std::size_t stride : {1u, 2u})
      for (const std::size_t left : {0u, 1u, 2u, 3u})
        for (const std::size_t in : {8u, 16u, 32u, 48u, 64u, 80u}) {
          depthwise_case k;
          k.kernel = kernel;
          k.in = in;
          k.c.stride = {stride, stride};
          const auto some = [&] { return static_cast<std::size_t>(random.integer(0, 2)); };
          k.c.padding = {some(), left, some(), some()};
          k.height = 4 + 2 * some() + some();
          k.width = (random.integer(0, 3) == 0 ? 66 : 4) + 2 * some() + some();
          k.weights_have_zero_points = false;
          const std::string wrong = run_case<M, I>(random, k);
          INFO(M::name << " on " << I::name << ": " << k.text());
          CHECK(wrong == "");
        }
}

TEMPLATE_LIST_TEST_CASE("depthwise_conv2d splits many taps", "[depthwise_conv2d]", tested_isas) {
  const auto check = [](auto mac, std::size_t extent, auto a, auto w, std::int64_t bias) {
    using M = decltype(mac);
    using sum = typename polymac::mac_traits<M>::sum;
    const std::size_t channels = 3;
    const std::vector<typename M::activation> x(extent * extent * channels, a);
    const std::vector<typename M::weight> weights(x.size(), w);
    const std::vector<std::int64_t> biases(channels, bias);
    const polymac::layer::depthwise_conv2d<M, polymac::epilogue::identity, TestType> layer(
        {}, image_view<const typename M::weight>(weights.data(), 1, extent, extent, channels),
        std::span<const std::int64_t>(biases));
    sum y[channels]{};
    std::vector<std::byte> memory(layer.workspace_bytes());
    REQUIRE(layer(image_view<const typename M::activation>(x.data(), 1, extent, extent, channels),
                  image_view<sum>(y, 1, 1, 1, channels), polymac::workspace(memory))
                .ok());
    const std::int64_t exact = bias + static_cast<std::int64_t>(extent * extent) * a * w;
    const std::int64_t low = std::numeric_limits<sum>::min(), high = std::numeric_limits<sum>::max();
    INFO(M::name << " on " << TestType::name << ", " << extent << " x " << extent << " taps, bias " << bias);
    CHECK(std::count(y, y + channels, static_cast<sum>(exact < low ? low : exact > high ? high : exact)) == 3);
  };
  for (const std::size_t extent : {22u, 23u, 40u})  // 484, 529 and 1600 taps; max_depth is 511
    check(polymac::mac::int16x8{}, extent, std::int16_t{-32768}, std::int8_t{-128}, -9);
  for (const std::int64_t bias : {std::int64_t{0}, std::int64_t{-5}, std::int64_t{-4'000'000'000}}) {
    check(polymac::mac::int8{}, 362, std::int8_t{-128}, std::int8_t{-128}, bias);  // 131044 taps
    check(polymac::mac::int8{}, 363, std::int8_t{-128}, std::int8_t{-128}, bias);
    check(polymac::mac::uint8{}, 257, std::uint8_t{255}, std::int8_t{-128}, bias);  // 66049, max_depth is 65793
  }
}

TEST_CASE("depthwise_conv2d takes int4 and unsigned weights", "[depthwise_conv2d]") {
  using M = polymac::mac::int8;
  POLYMAC_RANDOM(random, 22);
  const extent2d kernel{3, 3};
  const auto x = uniform<std::int8_t>(random, 7 * 6 * 5);
  const image_view<const std::int8_t> x_view(x.data(), 1, 7, 6, 5);
  const auto check = [&](const auto& w, std::size_t multiplier, std::span<const std::int32_t> weight_zeros) {
    const polymac::layer::depthwise_conv2d<M> layer({.padding = polymac::same, .multiplier = multiplier}, w,
                                                    std::span<const std::int32_t>{}, {},
                                                    quantization<M>{-128, weight_zeros});
    std::vector<std::int32_t> y(7 * 6 * w.channels);
    std::vector<std::byte> memory(layer.workspace_bytes());
    REQUIRE(layer(x_view, image_view<std::int32_t>(y.data(), 1, 7, 6, w.channels), polymac::workspace(memory)).ok());
    const polymac::window window{kernel, {1, 1}, {1, 1}, polymac::same};
    const auto expected = golden_depthwise<M>(x_view, w, window, polymac::same_padding(window, {7, 6}), {7, 6},
                                              multiplier, golden_terms<M>{{}, -128, weight_zeros});
    CHECK(disagreement(expected, [&](std::size_t i) { return y[i]; }) == "");
  };
  const auto nibbles = uniform<std::uint8_t>(random, (9 * 5 + 1) / 2);  // odd taps begin within a byte
  check(polymac::int4_image_view{nibbles.data(), 1, 3, 3, 5}, 1, {});
  const auto bytes = uniform<std::uint8_t>(random, 9 * 10);
  const std::int32_t one[] = {128}, each[] = {0, 128, 255, 17, 200};
  check(image_view<const std::uint8_t>(bytes.data(), 1, 3, 3, 10), 2, one);
  check(image_view<const std::uint8_t>(bytes.data(), 1, 3, 3, 5), 1, each);
}

TEST_CASE("a depthwise convolution with static extents equals the one with dynamic extents", "[depthwise_conv2d]") {
  using M = polymac::mac::uint8;
  POLYMAC_RANDOM(random, 23);
  const auto weights = uniform<std::int8_t>(random, 9 * 10);
  const auto x = uniform<std::uint8_t>(random, 6 * 7 * 5);
  const std::vector<std::int32_t> bias(10, -5);
  const image_view<const std::int8_t> w(weights.data(), 1, 3, 3, 10);
  const image_view<const std::uint8_t> x_view(x.data(), 1, 6, 7, 5);
  const depthwise_convolution how{.stride = {2, 1}, .padding = polymac::same, .multiplier = 2};
  const polymac::layer::depthwise_conv2d<M, polymac::epilogue::identity, polymac::isa::native,
                                         polymac::extents<3, 3, 10>>
      fixed(how, w, std::span<const std::int32_t>(bias), {}, quantization<M>{255, {}});
  const polymac::layer::depthwise_conv2d<M> free(how, w, std::span<const std::int32_t>(bias), {},
                                                 quantization<M>{255, {}});
  std::vector<std::int32_t> first(3 * 7 * 10), second(3 * 7 * 10);
  std::vector<std::byte> memory(fixed.workspace_bytes());
  REQUIRE(fixed(x_view, image_view<std::int32_t>(first.data(), 1, 3, 7, 10), polymac::workspace(memory)).ok());
  REQUIRE(free(x_view, image_view<std::int32_t>(second.data(), 1, 3, 7, 10), polymac::workspace(memory)).ok());
  CHECK(first == second);
  CHECK(free.macs({6, 7}) == 3 * 7 * 10 * 9);
}

TEST_CASE("depthwise_conv2d finishes its sums as the scalar stages do", "[depthwise_conv2d]") {
  POLYMAC_RANDOM(random, 24);
  const auto check = [&]<class M>(M, const auto& stages_of, std::size_t channels, std::size_t stride) {
    using activation = typename M::activation;
    const extent2d in{9, 11}, out{(in.height - 1) / stride + 1, (in.width - 1) / stride + 1};
    const auto x = uniform<activation>(random, in.height * in.width * channels);
    const auto weights = uniform<std::int8_t>(random, 9 * channels);
    std::vector<std::int32_t> bias(channels);
    std::vector<double> scales(channels);
    for (std::size_t c = 0; c < channels; ++c) {
      bias[c] = static_cast<std::int32_t>(random.integer(-20000, 20000));
      scales[c] = std::exp2(static_cast<double>(random.integer(-1100, -200)) / 100.0);
      if (c % 3 == 0) scales[c] = static_cast<double>(random.integer(1, 99)) / 6750;  // sums fall on half codes
    }
    scales[0] = 0.0;  // a dead channel
    const auto stages = stages_of(std::span<const double>(scales));
    using E = std::remove_const_t<decltype(stages)>;
    const depthwise_convolution how{.stride = {stride, stride}, .padding = polymac::same};
    const image_view<const std::int8_t> w(weights.data(), 1, 3, 3, channels);
    const image_view<const activation> x_view(x.data(), 1, in.height, in.width, channels);
    const quantization<M> q{static_cast<activation>(random.integer(0, 100)), {}};
    const polymac::layer::depthwise_conv2d<M, E> layer(how, w, std::span<const std::int32_t>(bias), stages, q);
    const polymac::layer::depthwise_conv2d<M, polymac::epilogue::identity, polymac::isa::scalar> raw(
        how, w, std::span<const std::int32_t>(bias), {}, q);
    using output = typename decltype(layer)::output;
    const std::size_t count = out.height * out.width * channels;
    std::vector<output> y(count);
    std::vector<std::int32_t> sums(count);
    std::vector<std::byte> memory(std::max(layer.workspace_bytes(), raw.workspace_bytes()));
    REQUIRE(layer(x_view, image_view<output>(y.data(), 1, out.height, out.width, channels), polymac::workspace(memory))
                .ok());
    REQUIRE(raw(x_view, image_view<std::int32_t>(sums.data(), 1, out.height, out.width, channels),
                polymac::workspace(memory))
                .ok());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) wrong += y[i] == stages(sums[i], i / channels, i % channels) ? 0 : 1;
    INFO(M::name << " on " << polymac::isa::native::name << ", " << channels << " channels, stride " << stride);
    CHECK(wrong == 0);
  };
  using polymac::requantize;
  using polymac::rounding;
  using scales = std::span<const double>;
  for (const std::size_t channels : {8u, 16u, 40u, 64u, 112u})
    for (const std::size_t stride : {1u, 2u}) {
      const auto of_int8 = [&](const auto& stages_of) { check(polymac::mac::int8{}, stages_of, channels, stride); };
      of_int8([](scales s) { return requantize<rounding::gemmlowp>(s, -128) | polymac::clamp(-128, 127); });
      of_int8([](scales s) { return requantize<rounding::gemmlowp>(s, 3); });
      of_int8([](scales s) { return requantize<rounding::fp32_nearest_even>(s, -5) | polymac::clamp(-100, 100); });
      of_int8([](scales s) { return requantize<rounding::fp32_nearest_even>(s, -128) | polymac::clamp(-128, 127); });
      check(
          polymac::mac::uint8{},
          [](scales s) { return requantize<rounding::half_up, std::uint8_t>(s, 7) | polymac::clamp(7, 200); }, channels,
          stride);
    }
}

TEST_CASE("a rounded line gives the codes of the stages it stands for", "[depthwise_conv2d]") {
  POLYMAC_RANDOM(random, 25);
  using polymac::epilogue::line_rounding;
  const auto check = [&]<line_rounding Rounds = line_rounding::once>(
      const auto& stages, std::size_t least_proved, std::integral_constant<line_rounding, Rounds> = {}) {
    std::size_t proved = 0, wrong = 0;
    polymac::epilogue::code_range codes = polymac::epilogue::codes_of(stages, 0);
    for (std::size_t c = 0; c < stages.first.size(); ++c) {
      const auto r = polymac::epilogue::codes_of(stages, c);
      codes = {std::min(codes.least, r.least), std::max(codes.most, r.most)};
    }
    for (std::size_t c = 0; c < stages.first.size(); ++c) {
      const auto least = static_cast<std::int32_t>(random.integer(-150'000, 0));
      const auto most = static_cast<std::int32_t>(random.integer(0, 150'000));
      polymac::epilogue::rounded_line line;
      if (!polymac::epilogue::find_rounded_line<Rounds>(stages, c, codes, least, most, line)) continue;
      ++proved;
      for (std::int32_t sum = least; sum <= most; ++sum) {
        const auto begun = static_cast<std::uint32_t>(line.start) + static_cast<std::uint32_t>(sum);
        float rounded = std::fma(std::bit_cast<float>(begun), line.slope, line.addend);
        if (Rounds == line_rounding::twice) rounded += line.second;
        const auto code = static_cast<std::int16_t>(std::bit_cast<std::uint32_t>(rounded) & 0xFFFFu);
        wrong += std::clamp<std::int32_t>(code, codes.least, codes.most) == stages(sum, 0, c) ? 0 : 1;
      }
    }
    CHECK(proved >= least_proved);
    CHECK(wrong == 0);
  };
  std::vector<double> scales(40);
  for (double& s : scales) s = std::exp2(static_cast<double>(random.integer(-1200, -350)) / 100.0);
  scales[7] = 0.0;
  const std::span<const double> all(scales);
  using polymac::requantize;
  using polymac::rounding;
  check(requantize<rounding::fp32_nearest_even>(all, -3) | polymac::clamp(-3, 127), 32);
  check(requantize<rounding::gemmlowp>(all, 5) | polymac::clamp(5, 127), 36);
  check(requantize<rounding::half_up>(all, 0) | polymac::clamp(-128, 127), 36);
  check(requantize<rounding::gemmlowp>(all, 0) | polymac::clamp(-128, 127), 0);  // two roundings around zero: few

  // Scales like (1 + k / 50) / 405 have products on half codes, which go to the even code: no line rounded once.
  const std::integral_constant<line_rounding, line_rounding::twice> twice;
  check(requantize<rounding::fp32_nearest_even>(all, -4) | polymac::clamp(-4, 127), 36, twice);
  check(requantize<rounding::fp32_nearest_even, std::uint8_t>(all, 128) | polymac::clamp(3, 255), 36, twice);
  check(requantize<rounding::fp32_nearest_even>(all, -3) | polymac::clamp(-3, 127), 0,
        twice);  // halves would go to the odd code
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = (1 + static_cast<double>(i + 1) / 50) / 405;
  scales[0] = (1 - 0x1p-22) / 512;  // near a power of two, where the search for a base has the most steps
  check(requantize<rounding::fp32_nearest_even>(all, 0) | polymac::clamp(0, 127), 36, twice);
  check(requantize<rounding::fp32_nearest_even>(all, -128) | polymac::clamp(-128, 127), 36, twice);

  // A left shift by 9 wraps around within reach: no line.
  const std::int32_t multiplier[] = {1 << 10}, shift[] = {9};
  const auto wraps = polymac::epilogue::requantize_stage<rounding::gemmlowp, 1>::from_fixed_point(multiplier, shift, 0);
  polymac::epilogue::rounded_line line;
  CHECK_FALSE(find_rounded_line(wraps, 0, polymac::epilogue::codes_of(wraps, 0), -100, 100, line));
}

TEST_CASE("unfused depthwise sums have two roundings in the order of the taps", "[depthwise_conv2d]") {
  using M = polymac::mac::float32_unfused;
  POLYMAC_RANDOM(random, 26);
  for (const std::size_t channels : {5u, 16u, 33u, 64u})
    for (const std::size_t stride : {1u, 2u}) {
      const extent2d in{5, 14}, out{(in.height - 1) / stride + 1, (in.width - 1) / stride + 1};
      const auto x = random_activations<M>(random, in.height * in.width * channels);
      const auto weights = random_weights<M>(random, 9 * channels);
      const auto bias = random_activations<M>(random, channels);
      const depthwise_convolution how{.stride = {stride, stride}, .padding = {1, 1, 1, 1}};
      const polymac::layer::depthwise_conv2d<M, polymac::epilogue::identity> layer(
          how, image_view<const float>(weights.data(), 1, 3, 3, channels), std::span<const float>(bias));
      std::vector<float> y(out.height * out.width * channels);
      std::vector<std::byte> memory(layer.workspace_bytes());
      REQUIRE(layer(image_view<const float>(x.data(), 1, in.height, in.width, channels),
                    image_view<float>(y.data(), 1, out.height, out.width, channels), polymac::workspace(memory))
                  .ok());
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        const std::size_t c = i % channels, ox = i / channels % out.width, oy = i / channels / out.width;
        float sum = bias[c];
        for (std::size_t k = 0; k < 9; ++k) {
          const std::size_t iy = oy * stride + k / 3 - 1, ix = ox * stride + k % 3 - 1;  // wraps around
          const bool inside = iy < in.height && ix < in.width;
          sum = M::multiply_add(sum, inside ? x[(iy * in.width + ix) * channels + c] : 0.0f, weights[k * channels + c]);
        }
        wrong += same_bits(sum, y[i]) ? 0 : 1;
      }
      INFO(polymac::isa::native::name << ", " << channels << " channels, stride " << stride);
      CHECK(wrong == 0);
    }
}
