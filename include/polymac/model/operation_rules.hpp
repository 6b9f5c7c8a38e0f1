// SPDX-License-Identifier: MIT
// What must hold for one operation of a graph: number of inputs, shapes, element types, quantisation.
#pragma once

#include "polymac/model/graph.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace model {

/// Checks one operation whose tensor indices are known to be in range. Every text names the operation.
class operation_rules {
 public:
  /// `index` is the place of `op` in `g`, for the texts.
  operation_rules(const graph& g, const operation& op, std::size_t index) noexcept
      : graph_(g), op_(op), index_(index) {}

  /// The number of inputs and outputs of the kind, and that what must be there is there.
  status check_count() const {
    std::size_t least = 1;
    std::size_t most = 1;
    switch (op_.kind) {
      case operation_kind::conv2d:
      case operation_kind::depthwise_conv2d:
      case operation_kind::fully_connected:
        least = 2, most = 3;
        break;
      case operation_kind::add:
      case operation_kind::multiply:
      case operation_kind::pad:
      case operation_kind::mean:
        least = most = 2;
        break;
      case operation_kind::reshape:
        most = 2;
        break;
      case operation_kind::concatenate:
        most = static_cast<std::size_t>(-1);
        break;
      default:
        break;
    }
    const std::size_t count = op_.inputs.size();
    if (count < least) return fail(errc::corrupt, "expected at least ", least, " inputs, got ", count);
    if (count > most) return fail(errc::corrupt, "expected at most ", most, " inputs, got ", count);
    if (op_.outputs.size() != 1) return fail(errc::corrupt, "expected 1 output, got ", op_.outputs.size());
    const bool all_needed = op_.kind == operation_kind::concatenate;
    for (std::size_t i = 0; i < (all_needed ? count : least); ++i)
      if (op_.inputs[i] < 0) return fail(errc::corrupt, "input ", i, ": expected a tensor, got none");
    if (op_.outputs[0] < 0) return fail(errc::corrupt, "output 0: expected a tensor, got none");
    return {};
  }

  /// Everything else; needs `check_count`.
  status check() const {
    switch (op_.kind) {
      case operation_kind::conv2d:
        return check_convolution();
      case operation_kind::depthwise_conv2d:
        return check_depthwise();
      case operation_kind::fully_connected:
        return check_fully_connected();
      case operation_kind::average_pool2d:
      case operation_kind::max_pool2d:
        return check_pool();
      case operation_kind::add:
      case operation_kind::multiply:
        return check_broadcast();
      case operation_kind::softmax:
        return check_softmax();
      case operation_kind::reshape:
        return check_reshape();
      case operation_kind::pad:
        return check_pad();
      case operation_kind::mean:
        return check_mean();
      case operation_kind::concatenate:
        return check_concatenate();
      case operation_kind::relu:
      case operation_kind::relu6:
      case operation_kind::relu_n1_to_1:
        return first_of(same_shape(), same_type_of_arithmetic());
      case operation_kind::quantize:
      case operation_kind::dequantize:
        return check_conversion();
    }
    return fail(errc::unsupported, "unknown kind");
  }

 private:
  template <class... Pieces>
  status fail(errc code, const Pieces&... pieces) const {
    return status::make(code, "operation ", index_, " (", name(op_.kind), "): ", pieces...);
  }
  static status first_of(const status& a, const status& b) { return a ? b : a; }

  const tensor_info& input(std::size_t i) const { return *graph_.input_of(op_, i); }
  const tensor_info& output() const { return graph_.output_of(op_); }

  status expect_rank(const char* what, const tensor_info& t, std::size_t rank) const {
    if (t.shape.rank == rank) return {};
    return fail(errc::shape, what, ": expected ", rank, " extents, got ", shape_text(t.shape));
  }
  status expect_output(const tensor_shape& expected) const {
    if (output().shape == expected) return {};
    return fail(errc::shape, "output: expected shape ", shape_text(expected), ", got ", shape_text(output().shape));
  }
  status same_shape() const { return expect_output(input(0).shape); }

  /// An integer activation needs one scale and zero point; int16 is symmetric.
  status activation_quantized(const char* what, const tensor_info& t) const {
    if (t.type == element_type::float32) return {};
    if (!t.quantized.per_tensor())
      return fail(errc::unsupported, what, " of type ", name(t.type), ": expected 1 scale, got ",
                  t.quantized.scales.size());
    if (t.type == element_type::int16 && t.quantized.zero_point() != 0)
      return fail(errc::unsupported, what, " of type int16: expected zero point 0, got ", t.quantized.zero_point());
    return {};
  }
  static bool arithmetic_type(element_type type) {
    return type == element_type::float32 || type == element_type::int8 || type == element_type::int16;
  }
  /// First input and output are of one type that has arithmetic, with quantisation.
  status same_type_of_arithmetic() const {
    const element_type type = input(0).type;
    if (!arithmetic_type(type))
      return fail(errc::unsupported, "input 0: expected type float32, int8 or int16, got ", name(type));
    if (output().type != type)
      return fail(errc::unsupported, "output: expected type ", name(type), ", got ", name(output().type));
    return first_of(activation_quantized("input 0", input(0)), activation_quantized("output", output()));
  }
  /// Codes go through unchanged, so both sides must mean the same by them.
  status same_quantization(const tensor_info& t, const char* what) const {
    if (!t.quantized.present() && !output().quantized.present()) return {};
    if (!t.quantized.per_tensor() || !output().quantized.per_tensor())
      return fail(errc::unsupported, what, ": expected 1 scale on both sides, got ", t.quantized.scales.size(), " and ",
                  output().quantized.scales.size());
    const float a = t.quantized.scale();
    const float b = output().quantized.scale();
    if (std::fabs(a - b) > 1e-6F * std::fabs(b) || t.quantized.zero_point() != output().quantized.zero_point())
      return fail(errc::unsupported, what, ": expected the scale and zero point of the output (zero point ",
                  output().quantized.zero_point(), "), got others (zero point ", t.quantized.zero_point(), ")");
    return {};
  }

  /// Weights and bias of the three contractions: constant, of types that go together, symmetric.
  status check_weights(std::size_t channel_axis, std::size_t channels) const {
    if (status s = same_type_of_arithmetic(); !s) return s;
    const tensor_info& w = input(1);
    const bool real = input(0).type == element_type::float32;
    const bool codes = w.type == element_type::int8 || w.type == element_type::int4;
    if (!codes && !(real && w.type == element_type::float32))
      return fail(errc::unsupported, "weights: expected type ", real ? "float32, " : "", "int8 or int4 beside ",
                  name(input(0).type), " activations, got ", name(w.type));
    if (!w.is_constant()) return fail(errc::unsupported, "weights: expected a constant, got a computed tensor");
    if (codes) {
      if (!w.quantized.present()) return fail(errc::unsupported, "weights: expected scales, got none");
      if (w.quantized.per_axis() && w.quantized.axis != channel_axis)
        return fail(errc::unsupported, "weights: expected scales along axis ", channel_axis, ", got axis ",
                    w.quantized.axis);
      for (const std::int32_t zero : w.quantized.zero_points)
        if (zero != 0) return fail(errc::unsupported, "weights: expected zero points 0, got ", zero);
    }
    const tensor_info* bias = graph_.input_of(op_, 2);
    if (bias == nullptr) return {};
    const element_type sum = real ? element_type::float32 : element_type::int32;
    const bool wide = input(0).type == element_type::int16 && bias->type == element_type::int64;
    if (bias->type != sum && !wide)
      return fail(errc::unsupported, "bias: expected type ", name(sum), " beside ", name(input(0).type),
                  " activations, got ", name(bias->type));
    if (!bias->is_constant()) return fail(errc::unsupported, "bias: expected a constant, got a computed tensor");
    if (bias->shape.elements() != channels)
      return fail(errc::shape, "bias: expected ", channels, " elements, got shape ", shape_text(bias->shape));
    for (const std::int32_t zero : bias->quantized.zero_points)
      if (zero != 0) return fail(errc::unsupported, "bias: expected zero point 0, got ", zero);
    return {};
  }

  /// The output image of a window that slides over input 0.
  status check_window(std::size_t channels) const {
    const tensor_shape& x = input(0).shape;
    const window2d& v = op_.window;
    if (v.stride.height == 0 || v.stride.width == 0 || v.dilation.height == 0 || v.dilation.width == 0 ||
        v.filter.height == 0 || v.filter.width == 0)
      return fail(errc::parameter, "expected filter, stride and dilation of at least 1, got filter ", v.filter.height,
                  " x ", v.filter.width, ", stride ", v.stride.height, " x ", v.stride.width, ", dilation ",
                  v.dilation.height, " x ", v.dilation.width);
    const std::uint64_t h = window_outputs(v.padding, x[1], v.filter.height, v.stride.height, v.dilation.height);
    const std::uint64_t w = window_outputs(v.padding, x[2], v.filter.width, v.stride.width, v.dilation.width);
    if (h == 0 || w == 0)
      return fail(errc::shape, "expected an image of at least the window, ", v.filter.height, " x ", v.filter.width,
                  " with dilation ", v.dilation.height, " x ", v.dilation.width, ", got ", shape_text(x));
    return expect_output(tensor_shape(x[0], h, w, channels));
  }
  status images() const { return first_of(expect_rank("input 0", input(0), 4), expect_rank("output", output(), 4)); }

  status check_convolution() const {
    if (status s = first_of(images(), expect_rank("weights", input(1), 4)); !s) return s;
    const tensor_shape& x = input(0).shape;
    const tensor_shape& w = input(1).shape;
    if (x[3] % w[3] != 0)
      return fail(errc::shape, "weights: expected channels that divide the ", x[3], " of the input, got ",
                  shape_text(w));
    const std::size_t groups = x[3] / w[3];
    if (w[0] % groups != 0)
      return fail(errc::shape, "weights: expected output channels divisible by ", groups, " groups, got ",
                  shape_text(w));
    if (op_.window.groups != groups) return fail(errc::shape, "expected ", groups, " groups, got ", op_.window.groups);
    if (op_.window.filter != extents2d{w[1], w[2]})
      return fail(errc::shape, "expected the filter of the weights ", shape_text(w), ", got ", op_.window.filter.height,
                  " x ", op_.window.filter.width);
    return first_of(check_window(w[0]), check_weights(0, w[0]));
  }
  status check_depthwise() const {
    if (status s = first_of(images(), expect_rank("weights", input(1), 4)); !s) return s;
    const tensor_shape& x = input(0).shape;
    const tensor_shape& w = input(1).shape;
    if (w[0] != 1)
      return fail(errc::shape, "weights: expected shape [1, height, width, channels], got ", shape_text(w));
    if (w[3] % x[3] != 0 || w[3] / x[3] != op_.window.depth_multiplier)
      return fail(errc::shape, "weights: expected ", x[3], " input channels times multiplier ",
                  op_.window.depth_multiplier, ", got ", shape_text(w));
    if (op_.window.filter != extents2d{w[1], w[2]})
      return fail(errc::shape, "expected the filter of the weights ", shape_text(w), ", got ", op_.window.filter.height,
                  " x ", op_.window.filter.width);
    return first_of(check_window(w[3]), check_weights(3, w[3]));
  }
  status check_fully_connected() const {
    if (status s = expect_rank("weights", input(1), 2); !s) return s;
    const tensor_shape& w = input(1).shape;
    const std::uint64_t elements = input(0).shape.elements();
    if (elements % w[1] != 0)
      return fail(errc::shape, "input 0: expected a multiple of ", w[1], " elements (weights ", shape_text(w),
                  "), got ", shape_text(input(0).shape));
    if (output().shape.last() != w[0] || output().shape.elements() != elements / w[1] * w[0])
      return fail(errc::shape, "output: expected ", elements / w[1], " rows of ", w[0], ", got ",
                  shape_text(output().shape));
    return check_weights(0, w[0]);
  }
  status check_pool() const {
    if (status s = images(); !s) return s;
    if (status s = first_of(check_window(input(0).shape[3]), same_type_of_arithmetic()); !s) return s;
    return same_quantization(input(0), "input 0");
  }
  status check_broadcast() const {
    const tensor_shape& a = input(0).shape;
    const tensor_shape& b = input(1).shape;
    tensor_shape y;
    y.rank = std::max(a.rank, b.rank);
    for (std::size_t i = 0; i < y.rank; ++i) {
      const std::size_t m = i < a.rank ? a[a.rank - 1 - i] : 1;
      const std::size_t n = i < b.rank ? b[b.rank - 1 - i] : 1;
      if (m != n && m != 1 && n != 1)
        return fail(errc::shape, "expected shapes that are equal or 1 per axis, got ", shape_text(a), " and ",
                    shape_text(b));
      y.extents[y.rank - 1 - i] = std::max(m, n);
    }
    if (status s = first_of(expect_output(y), same_type_of_arithmetic()); !s) return s;
    if (input(1).type != input(0).type)
      return fail(errc::unsupported, "input 1: expected type ", name(input(0).type), ", got ", name(input(1).type));
    return activation_quantized("input 1", input(1));
  }
  status check_softmax() const {
    if (!(op_.beta > 0.0F) || !std::isfinite(op_.beta))
      return fail(errc::parameter, "expected a finite beta above 0, got another");
    if (status s = first_of(same_shape(), same_type_of_arithmetic()); !s) return s;
    if (output().type == element_type::float32) return {};
    // Probabilities have one fixed encoding in TFLite: the whole of [0, 1) for int8, of [-1, 1) for int16.
    const bool narrow = output().type == element_type::int8;
    const float scale = narrow ? 1.0F / 256 : 1.0F / 32768;
    const std::int32_t zero = narrow ? -128 : 0;
    if (std::fabs(output().quantized.scale() - scale) > 1e-3F * scale || output().quantized.zero_point() != zero)
      return fail(errc::unsupported, "output: expected scale 1/", narrow ? 256 : 32768, " and zero point ", zero,
                  ", got another scale or zero point ", output().quantized.zero_point());
    return {};
  }
  status check_reshape() const {
    if (input(0).type != output().type)
      return fail(errc::unsupported, "output: expected type ", name(input(0).type), ", got ", name(output().type));
    if (input(0).shape.elements() == output().shape.elements()) return {};
    return fail(errc::shape, "output: expected the elements of ", shape_text(input(0).shape), ", got ",
                shape_text(output().shape));
  }
  status check_pad() const {
    tensor_shape y = input(0).shape;
    for (std::size_t i = 0; i < y.rank; ++i) {
      if (op_.pad_before[i] > tensor_shape::max_elements || op_.pad_after[i] > tensor_shape::max_elements)
        return fail(errc::shape, "axis ", i, ": expected paddings of at most ", tensor_shape::max_elements);
      y.extents[i] += op_.pad_before[i] + op_.pad_after[i];
    }
    if (status s = first_of(expect_output(y), same_type_of_arithmetic()); !s) return s;
    return same_quantization(input(0), "input 0");
  }
  status check_mean() const {
    const tensor_shape& x = input(0).shape;
    std::array<bool, tensor_shape::max_rank> reduced{};
    for (const std::size_t axis : op_.axes) {
      if (axis >= x.rank) return fail(errc::parameter, "expected axes below ", x.rank, ", got ", axis);
      reduced[axis] = true;
    }
    tensor_shape y;
    for (std::size_t i = 0; i < x.rank; ++i) {
      if (!reduced[i])
        y.extents[y.rank++] = x[i];
      else if (op_.keep_dimensions)
        y.extents[y.rank++] = 1;
    }
    return first_of(expect_output(y), same_type_of_arithmetic());
  }
  status check_concatenate() const {
    if (op_.axes.size() != 1 || op_.axes[0] >= input(0).shape.rank)
      return fail(errc::parameter, "expected one axis inside ", shape_text(input(0).shape), ", got ",
                  op_.axes.empty() ? std::size_t{0} : op_.axes[0]);
    const std::size_t axis = op_.axes[0];
    tensor_shape y = input(0).shape;
    y.extents[axis] = 0;
    for (std::size_t i = 0; i < op_.inputs.size(); ++i) {
      const tensor_shape& x = input(i).shape;
      tensor_shape rest = x;
      rest.extents[axis] = y.extents[axis];
      if (!(rest == y))
        return fail(errc::shape, "input ", i, ": expected the extents of ", shape_text(input(0).shape), " except axis ",
                    axis, ", got ", shape_text(x));
      y.extents[axis] += x[axis];
      if (y.elements() > tensor_shape::max_elements) return fail(errc::shape, "output: too many elements");
      if (input(i).type != output().type)
        return fail(errc::unsupported, "input ", i, ": expected type ", name(output().type), ", got ",
                    name(input(i).type));
      if (status s = same_quantization(input(i), "inputs"); !s) return s;
    }
    return expect_output(y);
  }
  status check_conversion() const {
    const bool to_codes = op_.kind == operation_kind::quantize;
    const tensor_info& x = input(0);
    const tensor_info& y = output();
    if (to_codes && y.type != element_type::int8 && y.type != element_type::int16)
      return fail(errc::unsupported, "output: expected type int8 or int16, got ", name(y.type));
    if (to_codes && !arithmetic_type(x.type))
      return fail(errc::unsupported, "input 0: expected type float32, int8 or int16, got ", name(x.type));
    if (!to_codes && y.type != element_type::float32)
      return fail(errc::unsupported, "output: expected type float32, got ", name(y.type));
    if (!to_codes && x.type != element_type::int8 && x.type != element_type::int16)
      return fail(errc::unsupported, "input 0: expected type int8 or int16, got ", name(x.type));
    if (status s = same_shape(); !s) return s;
    return first_of(activation_quantized("input 0", x), activation_quantized("output", y));
  }

  const graph& graph_;
  const operation& op_;
  std::size_t index_;
};

}  // namespace model
POLYMAC_END
