// SPDX-License-Identifier: MIT
// One operation of a network, ready to run, and the memory it finds its tensors in.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/view.hpp"
#include "polymac/model/graph.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

POLYMAC_BEGIN
namespace model {

/// Where the elements of a tensor lie while a network runs.
struct tensor_location {
  enum class place : unsigned char { nowhere, arena, input, output, constant };
  place where = place::nowhere;
  std::size_t offset = 0;  ///< arena: bytes from its start; input, output: which one
  const std::byte* data = nullptr;  ///< constant
};

/// Everything a step may touch: the arena and the caller's inputs and outputs.
struct memory {
  std::span<const tensor_location> locations;
  std::byte* arena = nullptr;
  std::span<const std::span<const std::byte>> inputs;
  std::span<const std::span<std::byte>> outputs;
  workspace scratch;

  const std::byte* read(std::int32_t tensor) const noexcept {
    const tensor_location& l = locations[static_cast<std::size_t>(tensor)];
    switch (l.where) {
      case tensor_location::place::arena:
        return arena + l.offset;
      case tensor_location::place::input:
        return inputs[l.offset].data();
      case tensor_location::place::output:
        return outputs[l.offset].data();
      default:
        return l.data;
    }
  }
  /// Of a tensor that a step computes: it lies in the arena or in an output.
  std::byte* write(std::int32_t tensor) const noexcept {
    const tensor_location& l = locations[static_cast<std::size_t>(tensor)];
    return l.where == tensor_location::place::output ? outputs[l.offset].data() : arena + l.offset;
  }
};

/// A tensor as a step sees it: its index and its extents.
struct operand {
  std::int32_t tensor = -1;
  nhwc_extents extents{};
  std::size_t elements = 0;

  operand() = default;
  operand(const graph& g, std::int32_t index)
      : tensor(index),
        extents(as_nhwc(g.tensor(index)->shape)),
        elements(static_cast<std::size_t>(g.tensor(index)->shape.elements())) {}

  template <class T>
  image_view<const T> image(const memory& m) const noexcept {
    return {reinterpret_cast<const T*>(m.read(tensor)), extents.batch, extents.height, extents.width, extents.channels};
  }
  template <class T>
  image_view<T> output_image(const memory& m) const noexcept {
    return {reinterpret_cast<T*>(m.write(tensor)), extents.batch, extents.height, extents.width, extents.channels};
  }
  /// All outer extents as rows.
  template <class T>
  matrix_view<const T> matrix(const memory& m) const noexcept {
    return {reinterpret_cast<const T*>(m.read(tensor)), elements / extents.channels, extents.channels};
  }
  template <class T>
  matrix_view<T> output_matrix(const memory& m) const noexcept {
    return {reinterpret_cast<T*>(m.write(tensor)), elements / extents.channels, extents.channels};
  }
};

/// An operation that can run. Steps are immutable: several threads may run them at once on memory of their own.
class step {
 public:
  virtual ~step() = default;
  virtual status run(const memory& m) const noexcept = 0;
  virtual std::size_t workspace_bytes() const noexcept = 0;
  virtual text<511> explain() const noexcept = 0;
};

using step_result = result<std::unique_ptr<step>>;

namespace step_detail {

template <class Layer, class Call>
class layer_step final : public step {
 public:
  layer_step(Layer layer, Call call) : layer_(std::move(layer)), call_(std::move(call)) {}
  status run(const memory& m) const noexcept override { return call_(layer_, m); }
  std::size_t workspace_bytes() const noexcept override {
    if constexpr (requires(const Layer& l, const Call& c) { l.workspace_bytes(c.input_extent()); })
      return layer_.workspace_bytes(call_.input_extent());
    else if constexpr (requires(const Layer& l) { l.workspace_bytes(); })
      return layer_.workspace_bytes();
    else
      return 0;
  }
  text<511> explain() const noexcept override {
    if constexpr (requires(const Layer& l) { l.explain(); })
      return layer_.explain();
    else
      return {};
  }

 private:
  Layer layer_;
  Call call_;
};

}  // namespace step_detail

/// A step that calls `call(layer, memory)`, or why the layer could not be built.
template <class Layer, class Call>
step_result make_step(Layer layer, Call call) {
  if (!layer.status().ok()) return layer.status();
  return std::unique_ptr<step>(
      std::make_unique<step_detail::layer_step<Layer, Call>>(std::move(layer), std::move(call)));
}

/// A refusal that names what the operation cannot do.
template <class... Pieces>
status unsupported(const Pieces&... pieces) {
  return status::make(errc::unsupported, pieces...);
}

/// Scale and zero point of a tensor with one of each. Validation has seen to it that quantised types have them.
inline affine affine_of(const tensor_info& t) noexcept {
  if (!t.quantized.present()) return {};
  return {t.quantized.scale(), t.quantized.zero_point()};
}

/// The codes (or reals) that a fused activation leaves, as TFLite's CalculateActivationRange defines them: the real
/// bounds are quantised with round half away from zero.
template <class T>
activation_range<T> range_of(activation fused, const tensor_info& output) noexcept {
  activation_range<T> range;
  if (fused == activation::none) return range;
  const float low = fused == activation::relu_n1_to_1 ? -1.0F : 0.0F;
  const float high = fused == activation::relu6 ? 6.0F : 1.0F;
  const bool bounded = fused != activation::relu;
  if constexpr (std::is_floating_point_v<T>) {
    range.low = low;
    if (bounded) range.high = high;
  } else {
    const affine q = affine_of(output);
    const auto code = [&q](float real) {
      const float scaled = real / q.scale;
      const float limit = 1e6F;  // far outside of every code, and safe to convert
      const float clamped = scaled > limit ? limit : scaled < -limit ? -limit : scaled;
      const auto whole = static_cast<std::int32_t>(clamped);
      const float fraction = clamped - static_cast<float>(whole);  // exact
      return whole + (fraction >= 0.5F ? 1 : fraction <= -0.5F ? -1 : 0) + q.zero_point;
    };
    const auto fit = [](std::int32_t c) {
      constexpr std::int32_t least = std::numeric_limits<T>::min(), most = std::numeric_limits<T>::max();
      return static_cast<T>(c < least ? least : c > most ? most : c);
    };
    range.low = fit(code(low));
    if (bounded) range.high = fit(code(high));
  }
  return range;
}

}  // namespace model
POLYMAC_END
