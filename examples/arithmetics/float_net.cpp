// SPDX-License-Identifier: MIT
#include "float_net.hpp"

#include "examples/mlperf_tiny/read_graph.hpp"

#include <algorithm>
#include <utility>

namespace example {

namespace model = polymac::model;
using model::operation_kind;
using polymac::errc;
using polymac::result;
using polymac::status;

namespace {

/// The reals that a constant stands for: scale * (code - zero point), channel by channel.
result<std::vector<float>> reals_of(const model::tensor_info& t) {
  if (t.type == model::element_type::float32) return model::constant_values<float>(t);
  if (!t.quantized.present() || t.type != model::element_type::int8)
    return status::make(errc::unsupported, "tensor '", t.name, "': expected float32 or int8 codes, got ",
                        model::name(t.type));
  const auto codes = model::constant_values<std::int8_t>(t);
  if (!codes.ok()) return codes.status();
  std::size_t inner = 1;
  for (std::size_t i = t.quantized.axis + 1; i < t.shape.rank; ++i) inner *= t.shape[i];
  const std::size_t channels = t.quantized.scales.size();
  std::vector<float> reals(codes->size());
  for (std::size_t i = 0; i < reals.size(); ++i) {
    const std::size_t channel = i / inner % channels;
    reals[i] = t.quantized.scale(channel) * static_cast<float>((*codes)[i] - t.quantized.zero_point(channel));
  }
  return reals;
}

float activate(float v, model::activation a) {
  if (a == model::activation::relu) return std::max(v, 0.0F);
  if (a == model::activation::relu6) return std::clamp(v, 0.0F, 6.0F);
  if (a == model::activation::relu_n1_to_1) return std::clamp(v, -1.0F, 1.0F);
  return v;
}

/// Pixels in front of a window that TensorFlow's rule `same` adds.
std::size_t pixels_before(std::size_t input, std::size_t output, std::size_t kernel, std::size_t stride) {
  const std::size_t reach = (output - 1) * stride + kernel;
  return reach > input ? (reach - input) / 2 : 0;
}

}  // namespace

result<float_net> float_net::load(bytes file) {
  float_net net;
  net.file_ = std::move(file);
  auto graph = read_graph(net.file_);
  if (!graph.ok()) return graph.status();
  net.graph_ = std::move(*graph);
  if (status s = net.prepare(); !s.ok()) return s;
  return net;
}

status float_net::prepare() {
  if (graph_.inputs.size() != 1 || graph_.outputs.size() != 1 || graph_.operations.empty())
    return status::make(errc::unsupported, "expected a net with one input and one output");
  logits_ = graph_.outputs[0];
  if (graph_.operations.back().kind == operation_kind::softmax) logits_ = graph_.operations.back().inputs[0];
  for (const model::operation& op : graph_.operations)
    if (status s = prepare(op); !s.ok()) return s;
  return {};
}

status float_net::prepare(const model::operation& op) {
  contraction& step = steps_.emplace_back();
  const bool depthwise = op.kind == operation_kind::depthwise_conv2d;
  const bool pool = op.kind == operation_kind::average_pool2d;
  const bool full = op.kind == operation_kind::fully_connected;
  if (op.kind == operation_kind::add || op.kind == operation_kind::reshape || op.kind == operation_kind::softmax)
    return {};
  if (!depthwise && !pool && !full && op.kind != operation_kind::conv2d)
    return status::make(errc::unsupported, "no ", model::name(op.kind), " in this example");
  const auto x = model::as_nhwc(graph_.input_of(op, 0)->shape), y = model::as_nhwc(graph_.output_of(op).shape);
  step.columns = y.channels;
  windows& w = step.where;
  if (full) {
    w.channels = static_cast<std::size_t>(graph_.input_of(op, 0)->shape.elements());
  } else {
    const auto [filter, stride, dilation, padding, groups, multiplier] = op.window;
    if (groups != 1 || multiplier != 1 || dilation != model::extents2d{} || x.batch != 1)
      return status::make(errc::unsupported, "expected windows of one picture, not dilated, in one group");
    w = {x.height,     x.width, x.channels, filter.height, filter.width, stride.height,
         stride.width, 0,       0,          y.height,      y.width};
    if (padding == model::padding::same) {
      w.top = pixels_before(w.height, w.out_height, w.kernel_height, w.stride_height);
      w.left = pixels_before(w.width, w.out_width, w.kernel_width, w.stride_width);
    }
  }
  if (pool) return {};
  auto weights = reals_of(*graph_.input_of(op, 1));
  if (!weights.ok()) return weights.status();
  step.weights = std::move(*weights);
  step.bias.resize(step.columns);
  if (const model::tensor_info* bias = graph_.input_of(op, 2); bias != nullptr) {
    if (bias->type == model::element_type::int32) {
      const auto codes = model::constant_values<std::int32_t>(*bias);
      if (!codes.ok()) return codes.status();
      const auto &in = graph_.input_of(op, 0)->quantized, &of = graph_.input_of(op, 1)->quantized;
      for (std::size_t c = 0; c < step.columns; ++c)
        step.bias[c] = static_cast<float>((*codes)[c]) * in.scale() * of.scale(of.per_axis() ? c : 0);
    } else {
      auto reals = model::constant_values<float>(*bias);
      if (!reals.ok()) return reals.status();
      step.bias = std::move(*reals);
    }
  }
  (depthwise ? float_macs_ : macs_) += model::multiply_accumulates(graph_, op);
  return {};
}

result<float_net::layers> float_net::encode(const arithmetic& a) const {
  layers all(steps_.size());
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const contraction& c = steps_[i];
    const operation_kind kind = graph_.operations[i].kind;
    if (kind != operation_kind::conv2d && kind != operation_kind::fully_connected) continue;
    auto made = a.encode({c.weights.data(), c.columns, c.where.depth()});
    if (!made.ok()) return made.status();
    all[i] = std::move(*made);
  }
  return all;
}

void float_net::depthwise(const contraction& c, std::span<const float> x, std::span<float> y) const {
  std::vector<float> rows(c.where.rows() * c.where.depth());
  gather(c.where, x.data(), rows.data(), c.where.depth());
  const bool mean = c.weights.empty();
  const float share = 1.0F / static_cast<float>(c.where.kernel_height * c.where.kernel_width);
  std::fill(y.begin(), y.end(), 0.0F);
  for (std::size_t row = 0; row < c.where.rows(); ++row)
    for (std::size_t k = 0; k < c.where.depth(); ++k)
      y[row * c.columns + k % c.columns] += rows[row * c.where.depth() + k] * (mean ? share : c.weights[k]);
}

status float_net::run(const layers& in, std::span<const float> input, std::span<float> logits, double& seconds) const {
  values tensors(graph_.tensors.size());
  tensors[static_cast<std::size_t>(graph_.inputs[0])].assign(input.begin(), input.end());
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const model::operation& op = graph_.operations[i];
    const std::vector<float>& x = tensors[static_cast<std::size_t>(op.inputs[0])];
    std::vector<float>& y = tensors[static_cast<std::size_t>(op.outputs[0])];
    if (op.outputs[0] != logits_ && op.kind == operation_kind::softmax) break;
    y.resize(elements(op.outputs[0]));
    if (in[i] != nullptr) {
      if (status s = in[i]->multiply(steps_[i].where, x, y, seconds); !s.ok()) return s;
    } else if (op.kind == operation_kind::add) {
      const std::vector<float>& other = tensors[static_cast<std::size_t>(op.inputs[1])];
      if (x.size() != y.size() || other.size() != y.size())
        return status::make(errc::unsupported, "expected sums of tensors of one shape");
      std::transform(x.begin(), x.end(), other.begin(), y.begin(), [](float a, float b) { return a + b; });
    } else if (op.kind == operation_kind::reshape) {
      y = x;
    } else {
      depthwise(steps_[i], x, y);
    }
    const std::vector<float>& bias = steps_[i].bias;
    for (std::size_t k = 0; k < y.size(); ++k)
      y[k] = activate(y[k] + (bias.empty() ? 0.0F : bias[k % bias.size()]), op.fused);
  }
  const std::vector<float>& out = tensors[static_cast<std::size_t>(logits_)];
  std::copy(out.begin(), out.end(), logits.begin());
  return {};
}

}  // namespace example
