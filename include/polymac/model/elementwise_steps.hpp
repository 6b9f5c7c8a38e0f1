// SPDX-License-Identifier: MIT
// From operations without weights to layers: pooling, sums, softmax, and everything that moves or rescales elements.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/layer/add.hpp"
#include "polymac/layer/concatenate.hpp"
#include "polymac/layer/map.hpp"
#include "polymac/layer/mean.hpp"
#include "polymac/layer/mul.hpp"
#include "polymac/layer/pad.hpp"
#include "polymac/layer/pool.hpp"
#include "polymac/layer/quantize.hpp"
#include "polymac/layer/reshape.hpp"
#include "polymac/layer/softmax.hpp"
#include "polymac/epilogue/clamp.hpp"
#include "polymac/model/step.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

POLYMAC_BEGIN
namespace model {
namespace step_detail {

template <class T>
struct type_tag {
  using type = T;
};

/// Calls make(type_tag<T>) for float, int8 or int16 activations.
template <class Make>
step_result for_activation(element_type type, const Make& make) {
  switch (type) {
    case element_type::float32:
      return make(type_tag<float>{});
    case element_type::int8:
      return make(type_tag<std::int8_t>{});
    case element_type::int16:
      return make(type_tag<std::int16_t>{});
    default:
      return unsupported("elements of type ", name(type), ", expected int8, int16 or float32");
  }
}

/// The call of a layer from one image to another.
template <class T, class U = T>
auto image_call(const graph& g, const operation& op) {
  return [x = operand(g, op.inputs[0]), y = operand(g, op.outputs[0])](const auto& l, const memory& m) noexcept {
    return l(x.image<T>(m), y.output_image<U>(m));
  };
}

/// Copies the bytes of a tensor: reshape where input and output cannot share memory.
struct copy_bytes {
  std::size_t bytes;
  polymac::status status_{};
  const polymac::status& status() const noexcept { return status_; }
};

inline window window_of(const window2d& w) noexcept {
  return {{w.filter.height, w.filter.width},
          {w.stride.height, w.stride.width},
          {w.dilation.height, w.dilation.width},
          w.padding == padding::same ? polymac::same : polymac::valid};
}

/// One call for any number of inputs.
template <class T>
class concatenation {
 public:
  concatenation(const graph& g, const operation& op, layer::axis along) : layer_(along), y_(g, op.outputs[0]) {
    for (const std::int32_t i : op.inputs) {
      inputs_.emplace_back(g, i);
      quantisations_.push_back(affine_of(*g.tensor(i)));
    }
    target_ = affine_of(g.output_of(op));
    views_bytes_ = inputs_.size() * sizeof(image_view<const T>) + alignof(image_view<const T>);
  }
  const polymac::status& status() const noexcept { return layer_.status(); }
  std::size_t workspace_bytes() const noexcept { return views_bytes_; }
  polymac::status run(const memory& m) const noexcept {
    void* at = m.scratch.data;
    std::size_t space = m.scratch.size;
    if (std::align(alignof(image_view<const T>), inputs_.size() * sizeof(image_view<const T>), at, space) == nullptr)
      return polymac::status::make(errc::short_buffer, "concatenate: expected a workspace of ", views_bytes_, " bytes");
    auto* views = static_cast<image_view<const T>*>(at);
    for (std::size_t i = 0; i < inputs_.size(); ++i) ::new (views + i) image_view<const T>(inputs_[i].image<T>(m));
    const std::span<const image_view<const T>> all(views, inputs_.size());
    if constexpr (std::is_floating_point_v<T>)
      return layer_(all, y_.output_image<T>(m));
    else
      return layer_(all, quantisations_, y_.output_image<T>(m), target_);
  }

 private:
  layer::concatenate<T> layer_;
  operand y_;
  std::vector<operand> inputs_;
  std::vector<affine> quantisations_;
  affine target_;
  std::size_t views_bytes_ = 0;
};

/// Axis of a tensor of rank `rank`, as an axis of its NHWC view.
inline layer::axis nhwc_axis(std::size_t axis, std::size_t rank) noexcept {
  return static_cast<layer::axis>(axis + 4 - rank);
}

template <class T>
step_result make_pool(const graph& g, const operation& op) {
  const tensor_info& in = *g.input_of(op, 0);
  const tensor_info& out = g.output_of(op);
  const auto range = range_of<T>(op.fused, out);
  if (op.kind == operation_kind::max_pool2d)
    return make_step(layer::max_pool2d<T>(window_of(op.window), range), image_call<T>(g, op));
  return make_step(layer::average_pool2d<T>(window_of(op.window), range, {false, affine_of(in).zero_point}),
                   image_call<T>(g, op));
}

/// Exponent of a scale within 0.1 % of a power of two.
inline std::optional<int> exponent_of(float scale) noexcept {
  const float exponent = std::log2(scale);
  const float whole = std::round(exponent);
  if (!(std::fabs(exponent - whole) < 1e-3F)) return std::nullopt;
  return static_cast<int>(whole);
}

/// TFLite's shift-only sum of int16: the operation allows it, all scales are powers of two, and one input has the scale
/// of the output. The other is shifted right, half away from zero, before the sum. Nothing where this does not hold
/// (TFLite then has the general sum, or none). Its kernel does not broadcast.
inline std::optional<layer::add_factors> power_of_two_add(const graph& g, const operation& op) noexcept {
  const tensor_info& a = *g.input_of(op, 0);
  const tensor_info& b = *g.input_of(op, 1);
  if (!op.power_of_two_scales || !(a.shape == b.shape)) return std::nullopt;
  const auto ea = exponent_of(affine_of(a).scale), eb = exponent_of(affine_of(b).scale);
  const auto ey = exponent_of(affine_of(g.output_of(op)).scale);
  if (!ea || !eb || !ey || *ea > *ey || *eb > *ey || (*ea < *ey && *eb < *ey)) return std::nullopt;
  // Lifted by 15 bits, halved without rounding, shifted back with it; from 17 bits on nothing is left.
  const auto shifted = [&](int e) { return fixed_point::factor{1 << 30, -14 - (*ey - e < 17 ? *ey - e : 17)}; };
  return layer::add_factors{15, shifted(*ea), shifted(*eb), {1 << 30, 1}, 0, 0, 0};
}

template <class T, template <class, rounding> class Layer>
step_result make_binary(const graph& g, const operation& op) {
  using layer_type = Layer<T, rounding::gemmlowp>;
  const tensor_info& out = g.output_of(op);
  // The views have four axes: further ones may be joined where nothing is broadcast.
  if (out.shape.rank > 4 && !(g.input_of(op, 0)->shape == g.input_of(op, 1)->shape))
    return unsupported("broadcasting over more than 4 axes, got ", out.shape.rank);
  const auto range = range_of<T>(op.fused, out);
  const auto call = [a = operand(g, op.inputs[0]), b = operand(g, op.inputs[1]), y = operand(g, op.outputs[0])](
                        const layer_type& l, const memory& m) noexcept {
    return l(a.image<T>(m), b.image<T>(m), y.output_image<T>(m));
  };
  if constexpr (std::is_floating_point_v<T>) {
    return make_step(layer_type(range), call);
  } else {
    if constexpr (std::is_same_v<layer_type, layer::add<std::int16_t, rounding::gemmlowp>>)
      if (const auto shifts = power_of_two_add(g, op)) return make_step(layer_type(*shifts, range), call);
    return make_step(
        layer_type(affine_of(*g.input_of(op, 0)), affine_of(*g.input_of(op, 1)), affine_of(out), range), call);
  }
}

template <class T>
step_result make_softmax(const graph& g, const operation& op) {
  const tensor_info& in = *g.input_of(op, 0);
  if constexpr (std::is_floating_point_v<T>) {
    return make_step(layer::softmax<float>(op.beta), image_call<T>(g, op));
  } else {
    // The encoding of the output is fixed, and validation has seen to it.
    return make_step(layer::softmax<T>(affine_of(in), op.beta), image_call<T>(g, op));
  }
}

template <class T>
step_result make_mean(const graph& g, const operation& op) {
  const tensor_info& in = *g.input_of(op, 0);
  if (in.shape.rank > 4) return unsupported("expected at most 4 axes, got ", in.shape.rank);
  layer::axes over;
  bool* const flags[] = {&over.batch, &over.height, &over.width, &over.channels};
  operand y(g, op.outputs[0]);
  y.extents = as_nhwc(in.shape);
  std::size_t* const extents[] = {&y.extents.batch, &y.extents.height, &y.extents.width, &y.extents.channels};
  for (const std::size_t axis : op.axes) {
    *flags[axis + 4 - in.shape.rank] = true;
    *extents[axis + 4 - in.shape.rank] = 1;
  }
  const auto call = [x = operand(g, op.inputs[0]), y](const layer::mean<T>& l, const memory& m) noexcept {
    return l(x.image<T>(m), y.template output_image<T>(m));
  };
  if constexpr (std::is_floating_point_v<T>)
    return make_step(layer::mean<T>(over), call);
  else
    return make_step(layer::mean<T>(over, affine_of(in), affine_of(g.output_of(op))), call);
}

template <class T>
step_result make_pad(const graph& g, const operation& op) {
  const tensor_info& in = *g.input_of(op, 0);
  if (in.shape.rank > 4) return unsupported("expected at most 4 axes, got ", in.shape.rank);
  layer::pad_extents p;
  for (std::size_t i = 0; i < in.shape.rank; ++i) {
    p.before[i + 4 - in.shape.rank] = op.pad_before[i];
    p.after[i + 4 - in.shape.rank] = op.pad_after[i];
  }
  return make_step(layer::pad<T>(p, static_cast<T>(affine_of(in).zero_point)), image_call<T>(g, op));
}

template <class T>
step_result make_concatenate(const graph& g, const operation& op) {
  const std::size_t rank = g.output_of(op).shape.rank;
  if (rank > 4) return unsupported("expected at most 4 axes, got ", rank);
  return make_step(concatenation<T>(g, op, nhwc_axis(op.axes[0], rank)),
                   [](const concatenation<T>& l, const memory& m) noexcept { return l.run(m); });
}

/// relu, relu6, relu_n1_to_1 as operations of their own.
template <class T>
step_result make_activation(const graph& g, const operation& op) {
  const activation fused = op.kind == operation_kind::relu    ? activation::relu
                           : op.kind == operation_kind::relu6 ? activation::relu6
                                                              : activation::relu_n1_to_1;
  const auto range = range_of<T>(fused, g.output_of(op));
  if constexpr (std::is_floating_point_v<T>)
    return make_step(layer::make_map<float>(epilogue::clamp<float>(range.low, range.high)), image_call<T>(g, op));
  else
    return make_step(layer::rescale<T, T>(layer::rescale_ratio::single_precision, affine_of(*g.input_of(op, 0)),
                                          affine_of(g.output_of(op)), range),
                     image_call<T>(g, op));
}

inline step_result make_quantize(const graph& g, const operation& op) {
  const tensor_info& in = *g.input_of(op, 0);
  const tensor_info& out = g.output_of(op);
  return for_activation(out.type, [&]<class To>(To) -> step_result {
    using out_type = typename To::type;
    if constexpr (std::is_floating_point_v<out_type>) {
      return unsupported("an output of type float32");
    } else {
      if (in.type == element_type::float32)
        return make_step(layer::quantize<out_type>(affine_of(out)), image_call<float, out_type>(g, op));
      return for_activation(in.type, [&]<class From>(From) -> step_result {
        using in_type = typename From::type;
        if constexpr (std::is_floating_point_v<in_type>)
          return unsupported("this combination of types");
        else
          return make_step(layer::rescale<in_type, out_type>(affine_of(in), affine_of(out)),
                           image_call<in_type, out_type>(g, op));
      });
    }
  });
}

inline step_result make_dequantize(const graph& g, const operation& op) {
  const tensor_info& in = *g.input_of(op, 0);
  return for_activation(in.type, [&]<class From>(From) -> step_result {
    using in_type = typename From::type;
    if constexpr (std::is_floating_point_v<in_type>)
      return unsupported("an input of type float32");
    else
      return make_step(layer::dequantize<in_type>(affine_of(in)), image_call<in_type, float>(g, op));
  });
}

inline step_result make_copy(const graph& g, const operation& op) {
  const tensor_info& out = g.output_of(op);
  return make_step(copy_bytes{static_cast<std::size_t>(bytes_of(out.type, out.shape.elements()))},
                   [x = op.inputs[0], y = op.outputs[0]](const copy_bytes& c, const memory& m) noexcept {
                     if (m.read(x) != m.write(y)) std::memmove(m.write(y), m.read(x), c.bytes);
                     return polymac::status{};
                   });
}

}  // namespace step_detail

/// Builds the step of any operation without weights.
inline step_result make_elementwise_step(const graph& g, const operation& op) {
  namespace d = step_detail;
  if (op.kind == operation_kind::quantize) return d::make_quantize(g, op);
  if (op.kind == operation_kind::dequantize) return d::make_dequantize(g, op);
  if (op.kind == operation_kind::reshape) return d::make_copy(g, op);
  return d::for_activation(g.input_of(op, 0)->type, [&]<class Tag>(Tag) -> step_result {
    using T = typename Tag::type;
    if (g.output_of(op).type != g.input_of(op, 0)->type)
      return unsupported("expected input and output of one type, got ", name(g.input_of(op, 0)->type), " and ",
                         name(g.output_of(op).type));
    switch (op.kind) {
      case operation_kind::average_pool2d:
      case operation_kind::max_pool2d:
        return d::make_pool<T>(g, op);
      case operation_kind::add:
        return d::make_binary<T, layer::add>(g, op);
      case operation_kind::multiply:
        return d::make_binary<T, layer::mul>(g, op);
      case operation_kind::softmax:
        return d::make_softmax<T>(g, op);
      case operation_kind::mean:
        return d::make_mean<T>(g, op);
      case operation_kind::pad:
        return d::make_pad<T>(g, op);
      case operation_kind::concatenate:
        return d::make_concatenate<T>(g, op);
      default:
        return d::make_activation<T>(g, op);
    }
  });
}

}  // namespace model
POLYMAC_END
