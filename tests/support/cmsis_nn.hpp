// SPDX-License-Identifier: MIT
// From a CMSIS-NN case to a polymac layer: the operators with weights. Every function runs one case and returns its
// output; a case that lacks what its operator needs throws case_error.
//
// Nothing depends on the case: which layer runs follows from the operator's name, its parameters from definitions and
// arrays that all cases of an operator share. Batches follow from the length of the input (the definitions disagree).
#pragma once

#include "catch.hpp"
#include "support/cases.hpp"

#include <polymac/epilogue/clamp.hpp>
#include <polymac/epilogue/narrow.hpp>
#include <polymac/epilogue/requantize.hpp>
#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/mac/int16x8.hpp>
#include <polymac/mac/int8.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace polymac_test::cmsis_nn {

/// The number types of an operator, as its name ends: s4 has 4-bit weights, s16 has 16-bit activations.
enum class scheme { s4, s8, s16 };

/// What all operators with weights have in common, read from the definitions.
template <class Activation>
struct operands {
  std::vector<Activation> input;
  std::vector<std::int8_t> weights;  ///< two per byte where the scheme is s4
  std::vector<std::int64_t> bias;    ///< empty: none
  bool bias_is_32_bits = true;
  std::vector<std::int32_t> multipliers;  ///< one for each output channel
  std::vector<std::int32_t> shifts;
  std::int32_t input_offset = 0, weight_offset = 0, output_offset = 0;
  std::int32_t low = 0, high = 0;

  operands(const kernel_case& c, std::size_t columns)
      : input(c.array({"input", "input_tensor"}).template values<Activation>()),
        weights(c.array({"weights", "input_weights"}).template values<std::int8_t>()),
        multipliers(factors(c, {"output_mult", "output_multiplier"}, "OUTPUT_MULTIPLIER", columns)),
        shifts(factors(c, {"output_shift"}, "OUTPUT_SHIFT", columns)),
        input_offset(static_cast<std::int32_t>(c.get("INPUT_OFFSET"))),
        weight_offset(static_cast<std::int32_t>(c.get_or("FILTER_OFFSET", 0))),
        output_offset(static_cast<std::int32_t>(c.get("OUTPUT_OFFSET"))),
        low(static_cast<std::int32_t>(c.get("OUT_ACTIVATION_MIN"))),
        high(static_cast<std::int32_t>(c.get("OUT_ACTIVATION_MAX"))) {
    if (const case_tensor* b = c.find_array({"biases", "bias", "input_bias"}); b != nullptr) {
      bias = b->integers();
      bias_is_32_bits = b->is("i32");
    }
  }

  /// Weights as `count` values; s4 ones lie two in a byte without gaps.
  void check_weight_count(const kernel_case& c, scheme s, std::size_t count) const {
    const std::size_t stored = s == scheme::s4 ? (count + 1) / 2 : count;
    if (weights.size() != stored)
      throw case_error(c.name + ": expected " + std::to_string(stored) + " bytes of weights, got " +
                       std::to_string(weights.size()));
  }
  std::vector<std::uint8_t> nibbles() const { return std::vector<std::uint8_t>(weights.begin(), weights.end()); }

  template <class M>
  polymac::layer::quantization<M> zero_points(const std::int32_t& weight_zero) const {
    return {static_cast<typename M::activation>(-input_offset), {&weight_zero, weight_zero == 0 ? 0u : 1u}};
  }

 private:
  static std::vector<std::int32_t> factors(const kernel_case& c, std::initializer_list<std::string_view> arrays,
                                           std::string_view definition, std::size_t columns) {
    if (const case_tensor* a = c.find_array(arrays); a != nullptr) return a->values<std::int32_t>();
    return std::vector<std::int32_t>(columns, static_cast<std::int32_t>(c.get(definition)));
  }
};

/// Returns run(stages) with the epilogue of CMSIS-NN: gemmlowp's double rounding for 32-bit sums, the 16-bit multiplier
/// for 64-bit ones. Its 16-bit convolutions sum in 32 bits where the bias has 32 bits or is missing.
template <class Activation, class Run>
auto with_epilogue(const operands<Activation>& o, bool sums_32_bits, Run&& run) {
  const auto stages =
      polymac::requantize<polymac::rounding::gemmlowp, Activation>(o.multipliers, o.shifts, o.output_offset) |
      polymac::clamp(o.low, o.high);
  if constexpr (sizeof(Activation) > 1)
    if (sums_32_bits) return run(polymac::narrow | stages);
  return run(stages);
}

/// Fully connected: s8, s4 and s16, weights with or without zero point, one factor or one for each output.
template <class M>
std::vector<typename M::activation> run_linear(const kernel_case& c, scheme s) {
  using activation = typename M::activation;
  const std::size_t columns = c.extent("OUT_CH");
  const operands<activation> o(c, columns);
  const std::size_t depth = c.find({"ACCUMULATION_DEPTH"})
                                ? c.extent("ACCUMULATION_DEPTH")
                                : c.extent("IN_CH") * c.extent("INPUT_H") * c.extent("INPUT_W");
  o.check_weight_count(c, s, columns * depth);
  const std::size_t rows = o.input.size() / depth;
  return with_epilogue(o, false, [&](const auto& stages) {
    const std::int32_t weight_zero = -o.weight_offset;
    std::vector<activation> y(rows * columns);
    const auto run = [&](const auto& weights) {
      const auto layer = polymac::linear<M>(weights, o.bias, stages, o.template zero_points<M>(weight_zero));
      const auto status =
          layer(polymac::matrix_view(o.input.data(), rows, depth), polymac::matrix_view(y.data(), rows, columns));
      CHECK(status.text() == "");
    };
    if (s == scheme::s4)
      run(polymac::int4_matrix_view{o.nibbles().data(), columns, depth});
    else
      run(polymac::matrix_view(o.weights.data(), columns, depth));
    return y;
  });
}

/// Sizes of an operator that slides a window. Padding at the bottom and right is what the given output size needs.
struct image_case {
  std::size_t in_channels, out_channels, height, width, out_height, out_width;
  polymac::layer::convolution window;

  explicit image_case(const kernel_case& c)
      : in_channels(c.extent({"IN_CH", "INPUT_C"})),
        out_channels(c.extent({"OUT_CH", "OUTPUT_C"})),
        height(c.extent("INPUT_H")),
        width(c.extent("INPUT_W")),
        out_height(c.extent("OUTPUT_H")),
        out_width(c.extent("OUTPUT_W")) {
    window.kernel = {c.extent({"FILTER_Y", "FILTER_H"}), c.extent({"FILTER_X", "FILTER_W"})};
    window.stride = {c.extent({"STRIDE_Y", "STRIDE_H"}), c.extent({"STRIDE_X", "STRIDE_W"})};
    if (c.find({"DILATION_Y"})) window.dilation = {c.extent("DILATION_Y"), c.extent("DILATION_X")};
    const std::size_t top = c.extent({"PAD_Y", "PADDING_H"}), left = c.extent({"PAD_X", "PADDING_W"});
    window.padding = {
        top, left,
        padding_end(height, out_height, window.kernel.height, window.stride.height, window.dilation.height, top),
        padding_end(width, out_width, window.kernel.width, window.stride.width, window.dilation.width, left)};
  }
  std::size_t taps() const { return window.kernel.height * window.kernel.width; }
  std::size_t batches(std::size_t input_size) const { return input_size / (height * width * in_channels); }

  /// Runs a layer with a workspace, or one without.
  template <class Activation, class Layer>
  std::vector<Activation> run(const Layer& layer, const std::vector<Activation>& input) const {
    const std::size_t batch = batches(input.size());
    std::vector<Activation> y(batch * out_height * out_width * out_channels);
    const polymac::image_view from(input.data(), batch, height, width, in_channels);
    const polymac::image_view to(y.data(), batch, out_height, out_width, out_channels);
    if constexpr (requires { layer.workspace_bytes(); }) {
      std::vector<std::byte> memory(layer.workspace_bytes());
      const auto status = layer(from, to, polymac::workspace(memory));
      CHECK(status.text() == "");
    } else {
      const auto status = layer(from, to);
      CHECK(status.text() == "");
    }
    return y;
  }

 private:
  static std::size_t padding_end(std::size_t in, std::size_t out, std::size_t kernel, std::size_t stride,
                                 std::size_t dilation, std::size_t begin) {
    const std::size_t needed = (out - 1) * stride + (kernel - 1) * dilation + 1;
    return needed > in + begin ? needed - in - begin : 0;
  }
};

/// Convolution: s8, s4 and s16; any kernel, stride, dilation, padding; groups where FILTER_CH is less than IN_CH.
template <class M>
std::vector<typename M::activation> run_convolution(const kernel_case& c, scheme s) {
  image_case i(c);
  const std::size_t channels = c.find({"FILTER_CH"}) ? c.extent("FILTER_CH") : i.in_channels;
  i.window.groups = i.in_channels / channels;
  const operands<typename M::activation> o(c, i.out_channels);
  o.check_weight_count(c, s, i.out_channels * i.taps() * channels);
  return with_epilogue(o, o.bias_is_32_bits, [&](const auto& stages) {
    const std::int32_t weight_zero = -o.weight_offset;
    const auto run = [&](const auto& weights) {
      return i.run(polymac::conv2d<M>(i.window, weights, o.bias, stages, o.template zero_points<M>(weight_zero)),
                   o.input);
    };
    const auto [kh, kw] = i.window.kernel;
    if (s == scheme::s4) return run(polymac::int4_image_view{o.nibbles().data(), i.out_channels, kh, kw, channels});
    return run(polymac::image_view(o.weights.data(), i.out_channels, kh, kw, channels));
  });
}

/// Depthwise convolution: s8, s4 and s16, any channel multiplier.
template <class M>
std::vector<typename M::activation> run_depthwise(const kernel_case& c, scheme s) {
  const image_case i(c);
  const operands<typename M::activation> o(c, i.out_channels);
  o.check_weight_count(c, s, i.out_channels * i.taps());
  return with_epilogue(o, false, [&](const auto& stages) {
    const std::int32_t weight_zero = -o.weight_offset;
    const auto run = [&](const auto& weights) {
      const polymac::layer::depthwise_convolution w{i.window.kernel, i.window.stride, i.window.dilation,
                                                    i.window.padding, i.out_channels / i.in_channels};
      return i.run(polymac::depthwise_conv2d<M>(w, weights, o.bias, stages, o.template zero_points<M>(weight_zero)),
                   o.input);
    };
    const auto [kh, kw] = i.window.kernel;
    if (s == scheme::s4) return run(polymac::int4_image_view{o.nibbles().data(), 1, kh, kw, i.out_channels});
    return run(polymac::image_view(o.weights.data(), std::size_t{1}, kh, kw, i.out_channels));
  });
}

}  // namespace polymac_test::cmsis_nn
