// SPDX-License-Identifier: MIT
// Turns one operator of a .tflite file, with its option table, into an operation of a graph.
#pragma once

#include "polymac/io/flatbuffer_source.hpp"
#include "polymac/io/tflite_schema.hpp"
#include "polymac/model/graph.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

POLYMAC_BEGIN
namespace io::tflite {

/// What an entry of the table `operator_codes` says.
struct operator_code {
  std::int32_t builtin = 0;
  std::string_view custom;  ///< name of a custom operator, a piece of the file
};

/// Reads operators. Mistakes are kept by the source.
class operator_reader {
 public:
  /// `g` holds all tensors already; their shapes and constants complete the options.
  operator_reader(flatbuffer_source& source, const model::graph& g) noexcept : in_(source), graph_(g) {}

  /// The operation of table `t`, whose operator code is `code`.
  model::operation read(const flatbuffer_table& t, const operator_code& code) {
    model::operation op;
    where_ = t;
    name_ = code.builtin == schema::custom_code ? code.custom : schema::operator_name(code.builtin);
    const schema::supported_operator* supported = schema::find_operator(code.builtin);
    if (supported == nullptr) {
      refuse(errc::unsupported, "expected an operator that polymac runs, got ",
             code.builtin == schema::custom_code ? "a custom operator" : "builtin operator ", code.builtin);
      return op;
    }
    op.kind = supported->kind;
    indices(t, schema::operator_table::inputs, op.inputs, -1);
    indices(t, schema::operator_table::outputs, op.outputs, 0);
    const flatbuffer_table o = options(t, *supported);
    if (!in_.ok()) return op;
    switch (op.kind) {
      case model::operation_kind::conv2d:
        convolution(o, op);
        break;
      case model::operation_kind::depthwise_conv2d:
        depthwise(o, op);
        break;
      case model::operation_kind::average_pool2d:
      case model::operation_kind::max_pool2d:
        pool(o, op);
        break;
      case model::operation_kind::fully_connected: {
        op.fused = activation(o, schema::fully_connected::activation);
        const auto format = in_.scalar<std::int8_t>(o, schema::fully_connected::weights_format, 0);
        if (format != 0) refuse(errc::unsupported, "weights_format: expected 0 (plain rows), got ", format);
        // Means something for float activations with integer weights only.
        if (in_.scalar<std::uint8_t>(o, schema::fully_connected::asymmetric_inputs, 0) != 0 &&
            input(op, 0) != nullptr && input(op, 1) != nullptr && input(op, 0)->type == model::element_type::float32 &&
            input(op, 1)->type != model::element_type::float32)
          refuse(errc::unsupported, "asymmetric_quantize_inputs: expected false (symmetric), got true");
        break;
      }
      case model::operation_kind::add:
        op.fused = activation(o, schema::add::activation);
        op.power_of_two_scales = in_.scalar<std::uint8_t>(o, schema::add::pot_scale_int16, 1) != 0;
        break;
      case model::operation_kind::multiply:
        op.fused = activation(o, schema::mul::activation);
        break;
      case model::operation_kind::softmax:
        op.beta = in_.scalar<float>(o, schema::softmax::beta, 0.0F);
        break;
      case model::operation_kind::reshape:
        if (code.builtin == schema::reshape_code) reshape(o, op);
        break;
      case model::operation_kind::pad:
        pad(op);
        break;
      case model::operation_kind::mean:
        mean(o, op);
        break;
      case model::operation_kind::concatenate:
        concatenation(o, op);
        break;
      default:
        break;
    }
    // Squeezes and expansions arrive as reshapes; the output tensor says the new shape, so the axes are not needed.
    // (erase, not resize: g++ 12 at -O3 sees resize write past the end.)
    if (op.kind == model::operation_kind::reshape && op.inputs.size() > 1)
      op.inputs.erase(op.inputs.begin() + 1, op.inputs.end());
    return op;
  }

 private:
  template <class... Pieces>
  void refuse(errc code, const Pieces&... pieces) {
    in_.fail(code, "operator ", where_.index, " ", name_.substr(0, 64), ": ", pieces...);
  }

  /// Tensor indices of at least `lowest`, all of them in range.
  void indices(const flatbuffer_table& t, flatbuffer_field f, std::vector<std::int32_t>& out, std::int32_t lowest) {
    const auto list = in_.vector<std::int32_t>(t, f);
    out.reserve(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::int32_t index = list[i];
      if (index < lowest || (index >= 0 && static_cast<std::size_t>(index) >= graph_.tensors.size()))
        return refuse(errc::corrupt, f.name, " ", i, ": expected a tensor from ", lowest, " to below ",
                      graph_.tensors.size(), ", got ", index);
      out.push_back(index);
    }
  }

  /// The option table, which must be the one of the operator.
  flatbuffer_table options(const flatbuffer_table& t, const schema::supported_operator& supported) {
    const auto type = in_.scalar<std::uint8_t>(t, schema::operator_table::options_type, 0);
    if (in_.scalar<std::uint8_t>(t, schema::operator_table::options_2_type, 0) != 0)
      refuse(errc::unsupported, "expected no table of the union builtin_options_2, got one");
    if (type != 0 && type != supported.options) {
      // An operator without options of its own may carry a table of any type: nothing of it is read.
      if (supported.options != 0)
        refuse(errc::corrupt, "builtin_options_type: expected ", supported.options, ", got ", type);
      return {};
    }
    const flatbuffer_table o = type == 0 ? flatbuffer_table{} : in_.table(t, schema::operator_table::options);
    if (!o && supported.options_required) refuse(errc::corrupt, "expected a table of options, got none");
    return o;
  }

  model::activation activation(const flatbuffer_table& o, flatbuffer_field f) {
    const auto code = in_.scalar<std::int8_t>(o, f, 0);
    if (const auto known = schema::activation_of(code)) return *known;
    refuse(errc::unsupported, f.name, ": expected 0 (none), 1 (relu), 2 (relu_n1_to_1) or 3 (relu6), got ", code);
    return model::activation::none;
  }
  model::padding padding(const flatbuffer_table& o, flatbuffer_field f) {
    const auto code = in_.scalar<std::int8_t>(o, f, 0);
    if (code != 0 && code != 1) refuse(errc::corrupt, "padding: expected 0 (same) or 1 (valid), got ", code);
    return code == 0 ? model::padding::same : model::padding::valid;
  }
  /// A number of at least 1.
  std::size_t count(const flatbuffer_table& o, flatbuffer_field f, std::int32_t fallback) {
    const auto value = in_.scalar<std::int32_t>(o, f, fallback);
    if (value >= 1) return static_cast<std::size_t>(value);
    refuse(errc::parameter, f.name, ": expected at least 1, got ", value);
    return 1;
  }

  const model::tensor_info* input(const model::operation& op, std::size_t i) const { return graph_.input_of(op, i); }

  void convolution(const flatbuffer_table& o, model::operation& op) {
    namespace f = schema::convolution;
    op.fused = activation(o, f::activation);
    op.window.padding = padding(o, f::padding);
    op.window.stride = {count(o, f::stride_height, 0), count(o, f::stride_width, 0)};
    op.window.dilation = {count(o, f::dilation_height, 1), count(o, f::dilation_width, 1)};
    const auto* x = input(op, 0);
    const auto* w = input(op, 1);
    if (x == nullptr || w == nullptr || w->shape.rank != 4) return;  // refused by the rules of the operation
    op.window.filter = {w->shape[1], w->shape[2]};
    op.window.groups = x->shape.last() / w->shape[3];
  }
  void depthwise(const flatbuffer_table& o, model::operation& op) {
    namespace f = schema::depthwise;
    op.fused = activation(o, f::activation);
    op.window.padding = padding(o, f::padding);
    op.window.stride = {count(o, f::stride_height, 0), count(o, f::stride_width, 0)};
    op.window.dilation = {count(o, f::dilation_height, 1), count(o, f::dilation_width, 1)};
    const auto* x = input(op, 0);
    const auto* w = input(op, 1);
    if (x == nullptr || w == nullptr || w->shape.rank != 4) return;
    op.window.filter = {w->shape[1], w->shape[2]};
    op.window.depth_multiplier = w->shape[3] / x->shape.last();
    // The field repeats what the shapes say; newer writers leave it out.
    const auto stated = in_.scalar<std::int32_t>(o, f::depth_multiplier, 0);
    if (stated != 0 && std::int64_t{stated} != static_cast<std::int64_t>(op.window.depth_multiplier))
      refuse(errc::corrupt, "depth_multiplier: expected ", op.window.depth_multiplier, " as the shapes have it, got ",
             stated);
  }
  void pool(const flatbuffer_table& o, model::operation& op) {
    namespace f = schema::pool;
    op.fused = activation(o, f::activation);
    op.window.padding = padding(o, f::padding);
    op.window.stride = {count(o, f::stride_height, 0), count(o, f::stride_width, 0)};
    op.window.filter = {count(o, f::filter_height, 0), count(o, f::filter_width, 0)};
  }

  /// The integers of constant input 1.
  std::vector<std::int64_t> integers(const model::operation& op, const char* what) {
    const auto* t = input(op, 1);
    if (t == nullptr) return {};  // refused by the rules of the operation
    auto values = model::constant_integers(*t);
    if (values) return std::move(*values);
    refuse(values.status().code(), what, ": ", values.status().text());
    return {};
  }

  /// The new shape as a constant or option; -1 stands for what is left. It must agree with the output tensor.
  void reshape(const flatbuffer_table& o, const model::operation& op) {
    std::vector<std::int64_t> wanted;
    if (input(op, 1) != nullptr) {
      wanted = integers(op, "new shape");
    } else {
      const auto list = in_.vector<std::int32_t>(o, schema::reshape::new_shape);
      for (std::size_t i = 0; i < list.size(); ++i) wanted.push_back(list[i]);
    }
    if (!in_.ok() || wanted.empty() || op.outputs.empty()) return;
    const model::tensor_shape& y = graph_.output_of(op).shape;
    bool agrees = wanted.size() == y.rank;
    std::size_t left_open = 0;
    for (std::size_t i = 0; i < wanted.size() && agrees; ++i) {
      if (wanted[i] == -1)
        agrees = ++left_open == 1;
      else
        agrees = wanted[i] >= 0 && static_cast<std::uint64_t>(wanted[i]) == y[i];
    }
    if (!agrees)
      refuse(errc::shape, "new shape: expected one that gives the output tensor's ", model::shape_text(y), ", got ",
             wanted.size(), " extents that do not");
  }

  /// Input 1 holds [rank][2] elements: before and after each axis.
  void pad(model::operation& op) {
    const auto* x = input(op, 0);
    if (x == nullptr || input(op, 1) == nullptr) return;
    const std::vector<std::int64_t> amounts = integers(op, "paddings");
    if (!in_.ok()) return;
    if (amounts.size() != 2 * x->shape.rank)
      return refuse(errc::shape, "paddings: expected ", 2 * x->shape.rank, " values, got ", amounts.size());
    for (std::size_t i = 0; i < amounts.size(); ++i) {
      if (amounts[i] < 0 || amounts[i] > std::numeric_limits<std::int32_t>::max())
        return refuse(errc::parameter, "paddings: expected values of 0 to 2147483647, got ", amounts[i]);
      (i % 2 == 0 ? op.pad_before : op.pad_after)[i / 2] = static_cast<std::size_t>(amounts[i]);
    }
  }

  /// Axis counted from the front or, if negative, from the back.
  std::size_t axis(std::int64_t stated, std::size_t rank) {
    const auto extents = static_cast<std::int64_t>(rank);
    if (stated >= -extents && stated < extents) return static_cast<std::size_t>(stated < 0 ? stated + extents : stated);
    refuse(errc::parameter, "axis: expected ", -extents, " to ", extents - 1, ", got ", stated);
    return 0;
  }
  void mean(const flatbuffer_table& o, model::operation& op) {
    op.keep_dimensions = in_.scalar<std::uint8_t>(o, schema::reducer::keep_dimensions, 0) != 0;
    const auto* x = input(op, 0);
    if (x == nullptr) return;
    const std::vector<std::int64_t> stated = integers(op, "axes");
    std::array<bool, model::tensor_shape::max_rank> reduced{};
    for (const std::int64_t a : stated) reduced[axis(a, x->shape.rank)] = true;
    for (std::size_t i = 0; i < reduced.size(); ++i)
      if (reduced[i]) op.axes.push_back(i);
  }
  void concatenation(const flatbuffer_table& o, model::operation& op) {
    op.fused = activation(o, schema::concatenation::activation);
    if (op.fused != model::activation::none)
      refuse(errc::unsupported, "fused_activation_function: expected none, got another");
    if (const auto* x = input(op, 0))
      op.axes.push_back(axis(in_.scalar<std::int32_t>(o, schema::concatenation::axis, 0), x->shape.rank));
  }

  flatbuffer_source& in_;
  const model::graph& graph_;
  flatbuffer_table where_;
  std::string_view name_;
};

}  // namespace io::tflite
POLYMAC_END
