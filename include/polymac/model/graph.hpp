// SPDX-License-Identifier: MIT
// A network as a list of operations on tensors, whatever file it came from. What holds for it: `model/validate.hpp`.
#pragma once

#include "polymac/model/tensor.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// What an operation computes. Inputs in brackets may be absent.
enum class operation_kind : unsigned char {
  conv2d,            ///< x NHWC, weights [out, height, width, in / groups], [bias out] -> NHWC
  depthwise_conv2d,  ///< x NHWC, weights [1, height, width, in * multiplier], [bias] -> NHWC
  fully_connected,   ///< x [..., in], weights [out, in], [bias out] -> [..., out]
  average_pool2d,    ///< x NHWC -> NHWC; padding does not count in the mean
  max_pool2d,        ///< x NHWC -> NHWC
  add,               ///< a, b -> a + b; extents of 1 are repeated
  multiply,          ///< a, b -> a * b; extents of 1 are repeated
  softmax,           ///< x -> exp(beta x) / sum over the innermost axis
  reshape,           ///< x, [new shape] -> the same elements in another shape
  pad,               ///< x, paddings -> x with zero (its zero point) around
  mean,              ///< x, axes -> mean over `axes`
  concatenate,       ///< any number of tensors -> one, along `axes[0]`
  relu,              ///< x -> max(x, 0)
  relu6,             ///< x -> min(max(x, 0), 6)
  relu_n1_to_1,      ///< x -> min(max(x, -1), 1)
  quantize,          ///< real or codes -> codes of another quantisation
  dequantize,        ///< codes -> real
};

inline constexpr std::size_t operation_kinds = 17;

constexpr std::string_view name(operation_kind kind) noexcept {
  constexpr std::array<std::string_view, operation_kinds> names{"conv2d",
                                                                "depthwise_conv2d",
                                                                "fully_connected",
                                                                "average_pool2d",
                                                                "max_pool2d",
                                                                "add",
                                                                "multiply",
                                                                "softmax",
                                                                "reshape",
                                                                "pad",
                                                                "mean",
                                                                "concatenate",
                                                                "relu",
                                                                "relu6",
                                                                "relu_n1_to_1",
                                                                "quantize",
                                                                "dequantize"};
  return names[static_cast<std::size_t>(kind)];
}

/// Function that an operation applies to its own result.
enum class activation : unsigned char { none, relu, relu6, relu_n1_to_1 };

/// How a window is placed at the border. `same`: ceil(extent / stride) outputs, the odd pad goes bottom and right.
/// `valid`: the window stays inside.
enum class padding : unsigned char { valid, same };

struct extents2d {
  std::size_t height = 1;
  std::size_t width = 1;
  friend constexpr bool operator==(const extents2d&, const extents2d&) noexcept = default;
};

/// Window of a convolution or pooling. All extents >= 1.
struct window2d {
  extents2d filter;
  extents2d stride;
  extents2d dilation;
  model::padding padding = model::padding::valid;
  std::size_t groups = 1;            ///< conv2d: input channels / weight channels
  std::size_t depth_multiplier = 1;  ///< depthwise_conv2d: output channels / input channels
};

/// One operation. Tensors are indices into `graph::tensors`.
struct operation {
  operation_kind kind = operation_kind::add;
  std::vector<std::int32_t> inputs;   ///< -1: absent
  std::vector<std::int32_t> outputs;  ///< every kind has exactly one

  activation fused = activation::none;  ///< convolutions, fully_connected, pools, add, multiply
  window2d window;                      ///< convolutions and pools
  float beta = 1.0F;                    ///< softmax, > 0
  std::vector<std::size_t> axes;        ///< mean: all axes; concatenate: one
  bool keep_dimensions = false;         ///< mean: reduced axes stay as extent 1
  bool power_of_two_scales = false;     ///< add on int16: the file allows the shift-only arithmetic of TFLite
  std::array<std::size_t, tensor_shape::max_rank> pad_before{};  ///< pad: elements before the first, by axis
  std::array<std::size_t, tensor_shape::max_rank> pad_after{};   ///< pad: elements after the last, by axis

  /// Index of input `i`, -1 where it is absent.
  std::int32_t input(std::size_t i) const noexcept { return i < inputs.size() ? inputs[i] : -1; }
};

/// A network. After `validate` has passed, operations stand in an order in which they can run.
struct graph {
  std::vector<tensor_info> tensors;
  std::vector<operation> operations;
  std::vector<std::int32_t> inputs;   ///< tensors that the caller gives
  std::vector<std::int32_t> outputs;  ///< tensors that the caller gets

  /// Tensor `i`, or null for -1.
  const tensor_info* tensor(std::int32_t i) const noexcept {
    return i < 0 ? nullptr : &tensors[static_cast<std::size_t>(i)];
  }
  /// Input `i` of `op`, or null where it is absent.
  const tensor_info* input_of(const operation& op, std::size_t i) const noexcept { return tensor(op.input(i)); }
  /// The output of `op`.
  const tensor_info& output_of(const operation& op) const noexcept { return *tensor(op.outputs[0]); }
};

/// True for a convolution or fully_connected with float32 activations and integer weights (dynamic range quantisation).
/// TFLite's reference kernels quantise the activations of each batch entry at run time, to 8 bits: symmetric, or with a
/// zero point (layer/dynamic_range.hpp). The result is s * weight scale * sum of q * code, plus the real bias.
/// With dequantised weights instead, the logits of kws_dscnn_fp32 are 4 % of their largest value away from LiteRT's.
inline bool integer_weights_only(const graph& g, const operation& op) noexcept {
  if (op.kind != operation_kind::conv2d && op.kind != operation_kind::depthwise_conv2d &&
      op.kind != operation_kind::fully_connected)
    return false;
  return g.tensors[static_cast<std::size_t>(op.inputs[0])].type == element_type::float32 &&
         g.tensors[static_cast<std::size_t>(op.inputs[1])].type != element_type::float32;
}

/// Number of window positions along one axis, or 0 where the window does not fit (padding::valid) or a value is 0.
constexpr std::uint64_t window_outputs(padding mode, std::uint64_t input, std::uint64_t filter, std::uint64_t stride,
                                       std::uint64_t dilation) noexcept {
  if (stride == 0 || filter == 0 || dilation == 0) return 0;
  if (mode == padding::same) return (input + stride - 1) / stride;
  const std::uint64_t reach = (filter - 1) * dilation + 1;
  return input < reach ? 0 : (input - reach) / stride + 1;
}

/// Multiply-accumulates of one operation: convolutions and fully_connected, 0 for the others. Padding counts.
inline std::uint64_t multiply_accumulates(const graph& g, const operation& op) noexcept {
  if (op.outputs.empty()) return 0;
  const std::uint64_t outputs = g.output_of(op).shape.elements();
  const tensor_info* weights = g.input_of(op, 1);
  if (weights == nullptr) return 0;
  const tensor_shape& w = weights->shape;
  switch (op.kind) {
    case operation_kind::conv2d:
      return outputs * w[1] * w[2] * w[3];
    case operation_kind::depthwise_conv2d:
      return outputs * w[1] * w[2];
    case operation_kind::fully_connected:
      return outputs * w[1];
    default:
      return 0;
  }
}

/// Multiply-accumulates of a whole network.
inline std::uint64_t multiply_accumulates(const graph& g) noexcept {
  std::uint64_t sum = 0;
  for (const operation& op : g.operations) sum += multiply_accumulates(g, op);
  return sum;
}

}  // namespace model
POLYMAC_END
