// SPDX-License-Identifier: MIT
// From operations with weights to layers: conv2d, depthwise_conv2d, fully_connected.
#pragma once

#include "polymac/epilogue/bias.hpp"
#include "polymac/epilogue/clamp.hpp"
#include "polymac/epilogue/narrow.hpp"
#include "polymac/epilogue/requantize.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/depthwise_conv2d.hpp"
#include "polymac/layer/dynamic_range.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/int16x8.hpp"
#include "polymac/mac/int8.hpp"
#include "polymac/model/step.hpp"

#include <cstdint>
#include <limits>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// Which rounding the requantisation of fully connected layers uses; all else rounds twice, as gemmlowp does.
enum class rounding_profile : unsigned char {
  litert,   ///< once, half up, int16 activations too: LiteRT's reference kernels
  classic,  ///< twice: older TFLite, TFLite Micro, CMSIS-NN
};

namespace step_detail {

/// What the three layers have in common: their operands, and what becomes of their sums.
struct contraction {
  const graph& g;
  const operation& op;
  operand x, y;
  const tensor_info& in;
  const tensor_info& weights;
  const tensor_info* bias;
  const tensor_info& out;

  contraction(const graph& g_, const operation& op_)
      : g(g_),
        op(op_),
        x(g_, op_.inputs[0]),
        y(g_, op_.outputs[0]),
        in(*g_.input_of(op_, 0)),
        weights(*g_.input_of(op_, 1)),
        bias(g_.input_of(op_, 2)),
        out(g_.output_of(op_)) {}

  /// S_x * S_w[column] / S_y in double precision, one for each column.
  std::vector<double> scales(std::size_t columns) const {
    std::vector<double> s(columns);
    for (std::size_t c = 0; c < columns; ++c)
      s[c] = static_cast<double>(in.quantized.scale()) * static_cast<double>(weights.quantized.scale(c)) /
             static_cast<double>(out.quantized.scale());
    return s;
  }

  std::vector<std::int32_t> weight_zero_points() const {
    for (const std::int32_t z : weights.quantized.zero_points)
      if (z != 0) return weights.quantized.zero_points;
    return {};
  }

  template <rounding Mode, class Out>
  auto quantized_stages(std::size_t columns) const {
    const activation_range<Out> range = range_of<Out>(op.fused, out);
    const std::vector<double> s = scales(columns);
    return epilogue::requantize<Mode, Out>(std::span<const double>(s), out.quantized.zero_point()) |
           epilogue::clamp<std::int32_t>(range.low, range.high);
  }
  auto float_stages() const {
    const activation_range<float> range = range_of<float>(op.fused, out);
    return epilogue::clamp<float>(range.low, range.high);
  }
};

/// Calls build(bias) with the bias as a vector of the type the file has; an empty one where there is none.
template <class M, class Build>
step_result with_bias(const contraction& c, const Build& build) {
  if constexpr (!mac_traits<M>::integer) {
    if (c.bias == nullptr) return build(std::vector<float>{});
    auto values = constant_values<float>(*c.bias);
    return values ? build(*values) : step_result(values.status());
  } else {
    if (c.bias == nullptr) return build(std::vector<std::int64_t>{});
    auto values = constant_integers(*c.bias);
    return values ? build(*values) : step_result(values.status());
  }
}

/// Calls build(weights) with a view of the weights: int8 and int4 in the bytes of the file, float32 as a copy.
template <class M, class Build>
step_result with_weights(const contraction& c, const Build& build) {
  const tensor_shape& s = c.weights.shape;
  const bool image = s.rank == 4;
  const auto view = [&]<class T>(const T* data) {
    if (image) return build(image_view<const T>(data, s[0], s[1], s[2], s[3]));
    return build(image_view<const T>(data, s[0], 1, 1, s.last()));
  };
  if constexpr (!mac_traits<M>::integer) {
    auto values = constant_values<float>(c.weights);
    return values ? view(static_cast<const float*>(values->data())) : step_result(values.status());
  } else {
    if (!c.weights.is_constant()) return unsupported("weights that are computed at run time");
    const auto* data = c.weights.data.data();
    if (c.weights.type == element_type::int8) return view(reinterpret_cast<const std::int8_t*>(data));
    if (c.weights.type == element_type::int4) {
      const auto* nibbles = reinterpret_cast<const std::uint8_t*>(data);
      return image ? build(int4_image_view{nibbles, s[0], s[1], s[2], s[3]})
                   : build(int4_image_view{nibbles, s[0], 1, 1, s.last()});
    }
    return unsupported("weights of type ", name(c.weights.type), ", expected int8, int4 or float32");
  }
}

inline window_padding padding_of(const operation& op) noexcept {
  return op.window.padding == padding::same ? polymac::same : polymac::valid;
}

template <class M>
layer::quantization<M> quantization_of(const contraction& c,
                                       std::span<const std::int32_t> weight_zero_points) noexcept {
  return {static_cast<typename M::activation>(affine_of(c.in).zero_point), weight_zero_points};
}

/// The layer of a conv2d operation. `Layer` is layer::conv2d of some arithmetic and epilogue.
template <class Layer, class Weights, class Bias, class E>
Layer conv2d_of(const contraction& c, const Weights& weights, const Bias& bias, const E& stages) {
  const auto zeros = c.weight_zero_points();
  const window2d& w = c.op.window;
  return Layer(
      {{0, 0}, {w.stride.height, w.stride.width}, {w.dilation.height, w.dilation.width}, padding_of(c.op), w.groups},
      weights, std::span(bias.data(), bias.size()), stages, quantization_of<typename Layer::mac>(c, zeros));
}

/// The layer of a depthwise_conv2d operation.
template <class Layer, class Weights, class Bias, class E>
Layer depthwise_of(const contraction& c, const Weights& weights, const Bias& bias, const E& stages) {
  const auto zeros = c.weight_zero_points();
  const window2d& w = c.op.window;
  return Layer({{0, 0},
                {w.stride.height, w.stride.width},
                {w.dilation.height, w.dilation.width},
                padding_of(c.op),
                w.depth_multiplier},
               weights, std::span(bias.data(), bias.size()), stages, quantization_of<typename Layer::mac>(c, zeros));
}

/// The layer of a fully_connected operation; its weights come as images of one pixel.
template <class Layer, class Weights, class Bias, class E>
Layer linear_of(const contraction& c, const Weights& weights, const Bias& bias, const E& stages) {
  struct matrix {
    const Weights& view;
    std::size_t rows, columns;
    const void* data;
    constexpr auto operator()(std::size_t r, std::size_t k) const noexcept { return view(r, 0, 0, k); }
  };
  const auto zeros = c.weight_zero_points();
  return Layer(matrix{weights, c.weights.shape[0], c.weights.shape.last(), weights.data},
               std::span(bias.data(), bias.size()), stages, quantization_of<typename Layer::mac>(c, zeros));
}

/// Images from and to memory.
template <class In, class Out>
struct image_contraction {
  operand x, y;
  extent2d input_extent() const noexcept { return {x.extents.height, x.extents.width}; }
  template <class Layer>
  status operator()(const Layer& l, const memory& m) const noexcept {
    return l(x.image<In>(m), y.output_image<Out>(m), m.scratch);
  }
};
template <class In, class Out>
image_contraction<In, Out> contraction_images(const contraction& c) {
  return {c.x, c.y};
}

/// Matrices from and to memory: TFLite reads rows of the weights' depth whatever the shape of the input is.
struct contraction_rows {
  operand x, y;
  std::size_t depth, columns;
  explicit contraction_rows(const contraction& c)
      : x(c.x), y(c.y), depth(c.weights.shape.last()), columns(c.weights.shape[0]) {}
  template <class T>
  matrix_view<const T> input(const memory& m) const noexcept {
    return {reinterpret_cast<const T*>(m.read(x.tensor)), x.elements / depth, depth};
  }
  template <class T>
  matrix_view<T> output(const memory& m) const noexcept {
    return {reinterpret_cast<T*>(m.write(y.tensor)), y.elements / columns, columns};
  }
};

template <class M, class E>
step_result make_conv2d(const contraction& c, const E& stages) {
  using layer_type = layer::conv2d<M, E>;
  return with_weights<M>(c, [&](const auto& weights) {
    return with_bias<M>(c, [&](const auto& bias) {
      return make_step(conv2d_of<layer_type>(c, weights, bias, stages),
                       contraction_images<typename M::activation, typename layer_type::output>(c));
    });
  });
}

template <class M, class E>
step_result make_depthwise(const contraction& c, const E& stages) {
  using layer_type = layer::depthwise_conv2d<M, E>;
  return with_weights<M>(c, [&](const auto& weights) {
    return with_bias<M>(c, [&](const auto& bias) {
      return make_step(depthwise_of<layer_type>(c, weights, bias, stages),
                       contraction_images<typename M::activation, typename layer_type::output>(c));
    });
  });
}

/// float32 with the roundings of TFLite's reference kernel: products and sums in turn, the bias last. A layer with
/// integer weights that follows quantises these results again, and in kws_dscnn_fp32 last bits decide about codes.
inline step_result make_float_depthwise(const contraction& c) {
  using M = mac::float32_unfused;
  if (c.bias == nullptr) return make_depthwise<M>(c, c.float_stages());
  return with_weights<M>(c, [&](const auto& weights) {
    return with_bias<M>(c, [&](const std::vector<float>& bias) {
      const auto stages = epilogue::bias(bias) | c.float_stages();
      using layer_type = layer::depthwise_conv2d<M, std::remove_const_t<decltype(stages)>>;
      return make_step(depthwise_of<layer_type>(c, weights, std::vector<float>{}, stages),
                       contraction_images<float, float>(c));
    });
  });
}

template <class M, class E>
step_result make_linear(const contraction& c, const E& stages) {
  using layer_type = layer::linear<M, E>;
  return with_weights<M>(c, [&](const auto& weights) {
    return with_bias<M>(c, [&](const auto& bias) {
      return make_step(linear_of<layer_type>(c, weights, bias, stages),
                       [rows = contraction_rows(c)](const layer_type& l, const memory& m) noexcept {
                         return l(rows.input<typename M::activation>(m),
                                  rows.template output<typename layer_type::output>(m));
                       });
    });
  });
}

/// A layer::dynamic_range with the workspace it needs for the extents of the operation.
template <class Layer>
struct sized_dynamic_range {
  layer::dynamic_range<Layer> layer;
  std::size_t bytes;

  sized_dynamic_range(layer::dynamic_range<Layer> l, std::size_t batch, const contraction& c)
      : layer(std::move(l)), bytes(layer.workspace_bytes(batch, c.x.elements, c.y.elements)) {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    if constexpr (requires(const Layer& inner) { inner.workspace_bytes(extent2d{}); }) {
      const std::size_t more = layer.inner().workspace_bytes(extent2d{c.x.extents.height, c.x.extents.width}) -
                               layer.inner().workspace_bytes();
      bytes = bytes > most - more ? most : bytes + more;
    }
  }
  const polymac::status& status() const noexcept { return layer.status(); }
  std::size_t workspace_bytes() const noexcept { return bytes; }
  text<511> explain() const noexcept { return layer.explain(); }
};

/// Float activations with integer weights. Each image of the batch, each row of a matrix is quantised by itself: with a
/// zero point where LiteRT does, for convolutions with a scale per channel and all depthwise ones. (For depthwise
/// weights with one scale, LiteRT 2.3 reads scales past the end; here the one counts for all channels.)
inline step_result make_dynamic_range(const contraction& c) {
  using stages = epilogue::identity;
  const std::vector<std::int32_t> no_bias;
  const std::span<const float> scales(c.weights.quantized.scales);
  return with_weights<mac::int8>(c, [&](const auto& weights) {
    return with_bias<mac::float32>(c, [&](const std::vector<float>& bias) {
      const auto wrapped = [&]<class Layer>(Layer inner, std::size_t batch) {
        return sized_dynamic_range<Layer>(
            layer::dynamic_range<Layer>(std::move(inner), scales, std::span(bias), range_of<float>(c.op.fused, c.out)),
            batch, c);
      };
      if (c.op.kind == operation_kind::fully_connected) {
        using layer_type = layer::linear<mac::int8, stages>;
        const contraction_rows rows(c);
        return make_step(wrapped(linear_of<layer_type>(c, weights, no_bias, stages{}), c.x.elements / rows.depth),
                         [rows](const sized_dynamic_range<layer_type>& l, const memory& m) noexcept {
                           return l.layer(rows.input<float>(m), rows.output<float>(m), m.scratch);
                         });
      }
      const auto images = [call = contraction_images<float, float>(c)](const auto& l, const memory& m) noexcept {
        return call(l.layer, m);
      };
      const std::size_t batch = c.x.extents.batch;
      if (c.op.kind == operation_kind::depthwise_conv2d) {
        using layer_type = layer::depthwise_conv2d<mac::int16x8, stages>;
        return make_step(wrapped(depthwise_of<layer_type>(c, weights, no_bias, stages{}), batch), images);
      }
      if (scales.size() > 1) {
        using layer_type = layer::conv2d<mac::int16x8, stages>;
        return make_step(wrapped(conv2d_of<layer_type>(c, weights, no_bias, stages{}), batch), images);
      }
      using layer_type = layer::conv2d<mac::int8, stages>;
      return make_step(wrapped(conv2d_of<layer_type>(c, weights, no_bias, stages{}), batch), images);
    });
  });
}

/// int16 activations, by the type of the bias. int64: 64-bit sums and the 16-bit multiplier; int32: 32-bit sums that
/// are rounded twice. Without a bias, conv2d does the latter (TFLite Micro, CMSIS-NN), the others the former. LiteRT's
/// fully connected rounds once instead. Sums beyond 32 bits beside an int32 bias saturate (not in the one that rounds
/// once); LiteRT's wrap around. LiteRT reads an int32 bias right only where the option quantized_bias_type says int32.
template <class Make>
step_result make_int16(const contraction& c, bool rounds_once, std::size_t columns, const Make& make) {
  if (rounds_once) return make_linear<mac::int16x8>(c, c.quantized_stages<rounding::half_up, std::int16_t>(columns));
  const auto stages = c.quantized_stages<rounding::gemmlowp, std::int16_t>(columns);
  const bool narrow = c.bias == nullptr ? c.op.kind == operation_kind::conv2d : c.bias->type == element_type::int32;
  if (narrow) return make(mac::int16x8{}, epilogue::narrow | stages);
  return make(mac::int16x8{}, stages);
}

}  // namespace step_detail

/// Builds the step of a conv2d, depthwise_conv2d or fully_connected operation.
inline step_result make_contraction_step(const graph& g, const operation& op, rounding_profile profile) {
  const step_detail::contraction c(g, op);
  if (c.in.type != c.out.type)
    return unsupported("expected input and output of one type, got ", name(c.in.type), " and ", name(c.out.type));
  if (integer_weights_only(g, op)) return step_detail::make_dynamic_range(c);
  const bool depthwise = op.kind == operation_kind::depthwise_conv2d;
  const bool linear = op.kind == operation_kind::fully_connected;
  const std::size_t columns = depthwise ? c.weights.shape.last() : c.weights.shape[0];
  const auto make = [&]<class M>(M, const auto& stages) {
    if (linear) return step_detail::make_linear<M>(c, stages);
    if constexpr (mac_traits<M>::integer)
      if (depthwise) return step_detail::make_depthwise<M>(c, stages);
    return step_detail::make_conv2d<M>(c, stages);
  };
  switch (c.in.type) {
    case element_type::float32:
      return depthwise ? step_detail::make_float_depthwise(c) : make(mac::float32{}, c.float_stages());
    case element_type::int8:
      if (linear && profile == rounding_profile::litert)
        return step_detail::make_linear<mac::int8>(c, c.quantized_stages<rounding::half_up, std::int8_t>(columns));
      return make(mac::int8{}, c.quantized_stages<rounding::gemmlowp, std::int8_t>(columns));
    case element_type::int16:
      return step_detail::make_int16(c, linear && profile == rounding_profile::litert, columns, make);
    default:
      return unsupported("activations of type ", name(c.in.type), ", expected int8, int16 or float32");
  }
}

}  // namespace model
POLYMAC_END
