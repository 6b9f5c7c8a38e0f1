// SPDX-License-Identifier: MIT
// From a CMSIS-NN case to a polymac layer: the operators without weights, and whole nets.
#pragma once

#include "support/cmsis_nn.hpp"

#include <polymac/layer/add.hpp>
#include <polymac/layer/mul.hpp>
#include <polymac/layer/pad.hpp>
#include <polymac/layer/pool.hpp>
#include <polymac/layer/softmax.hpp>

#include <array>
#include <map>
#include <string>

namespace polymac_test::cmsis_nn {

/// The fused activation, in codes.
template <class T>
polymac::activation_range<T> range_of(const kernel_case& c) {
  return {static_cast<T>(c.get({"ACTIVATION_MIN", "OUT_ACTIVATION_MIN"})),
          static_cast<T>(c.get({"ACTIVATION_MAX", "OUT_ACTIVATION_MAX"}))};
}

inline polymac::fixed_point::factor factor_of(const kernel_case& c, std::initializer_list<std::string_view> multiplier,
                                              std::initializer_list<std::string_view> shift) {
  return {static_cast<std::int32_t>(c.get(multiplier)), static_cast<std::int32_t>(c.get(shift))};
}

/// Average or max pooling: s8, s16.
template <template <class> class Pool, class T>
std::vector<T> run_pool(const kernel_case& c) {
  const image_case i(c);
  polymac::window w;
  w.kernel = i.window.kernel;
  w.stride = i.window.stride;
  w.padding = i.window.padding;
  return i.run(Pool<T>(w, range_of<T>(c)), c.array({"input_tensor", "input"}).template values<T>());
}

/// Sum or product of two tensors of one shape: s8, s16.
template <class Layer>
std::vector<typename Layer::output> run_elementwise(const kernel_case& c) {
  using T = typename Layer::output;
  const auto zero = [&](std::string_view offset) { return static_cast<std::int32_t>(c.get(offset)); };
  const auto output_factor = factor_of(c, {"OUTPUT_MULT", "OUTPUT_MULTIPLIER"}, {"OUTPUT_SHIFT"});
  const Layer layer = [&] {
    if constexpr (std::is_same_v<Layer, polymac::layer::add<T>>)
      return Layer(polymac::layer::add_factors{static_cast<std::int32_t>(c.get("LEFT_SHIFT")),
                                               factor_of(c, {"INPUT1_MULT"}, {"INPUT1_SHIFT"}),
                                               factor_of(c, {"INPUT2_MULT"}, {"INPUT2_SHIFT"}), output_factor,
                                               -zero("INPUT1_OFFSET"), -zero("INPUT2_OFFSET"), zero("OUTPUT_OFFSET")},
                   range_of<T>(c));
    else
      return Layer(polymac::layer::mul_factors{output_factor, -zero("INPUT1_OFFSET"), -zero("INPUT2_OFFSET"),
                                               zero("OUTPUT_OFFSET")},
                   range_of<T>(c));
  }();
  const auto a = c.array({"input1"}).template values<T>();
  const auto b = c.array({"input2"}).template values<T>();
  if (a.size() != b.size()) throw case_error(c.name + ": expected two inputs of one size");
  std::vector<T> y(a.size());
  const auto status = layer(polymac::matrix_view(a.data(), 1, a.size()), polymac::matrix_view(b.data(), 1, b.size()),
                            polymac::matrix_view(y.data(), 1, y.size()));
  CHECK(status.text() == "");
  return y;
}

/// Softmax over rows: s8 -> s8, s8 -> s16, s16 -> s16.
template <class In, class Out>
std::vector<Out> run_softmax(const kernel_case& c) {
  const auto input = c.array({"input"}).values<In>();
  const std::size_t rows = c.extent("NUM_ROWS"), columns = c.extent("ROW_SIZE");
  if (input.size() != rows * columns) throw case_error(c.name + ": expected NUM_ROWS x ROW_SIZE inputs");
  const polymac::layer::softmax<In, Out> layer(factor_of(c, {"INPUT_MULT", "MULT"}, {"INPUT_LEFT_SHIFT", "SHIFT"}));
  std::vector<Out> y(input.size());
  const auto status =
      layer(polymac::matrix_view(input.data(), rows, columns), polymac::matrix_view(y.data(), rows, columns));
  CHECK(status.text() == "");
  return y;
}

/// TFLite computes the smallest difference that counts from the shift of the factor. A case may ask for another one to
/// provoke CMSIS-NN; polymac has no such parameter.
inline bool softmax_is_regular(const kernel_case& c) {
  const auto least = c.find({"DIFF_MIN"});
  if (!least) return true;
  const std::int64_t shift = c.get({"INPUT_LEFT_SHIFT", "SHIFT"});
  return shift >= 0 && shift <= 31 && *least == -((std::int64_t{31} << 26) >> shift);
}

/// Codes around a tensor, on all four axes: s8.
inline std::vector<std::int8_t> run_pad(const kernel_case& c) {
  const std::size_t n = c.extent("INPUT_N"), h = c.extent("INPUT_H"), w = c.extent("INPUT_W"), k = c.extent("INPUT_C");
  const auto input = c.array({"input_tensor", "input"}).values<std::int8_t>();
  if (input.size() != n * h * w * k) throw case_error(c.name + ": expected INPUT_N x H x W x C inputs");
  const auto sides = [&](const std::string& side) -> std::array<std::size_t, 4> {
    return {c.extent(side + "_PAD_N"), c.extent(side + "_PAD_H"), c.extent(side + "_PAD_W"), c.extent(side + "_PAD_C")};
  };
  const polymac::layer::pad_extents extents{sides("PRE"), sides("POST")};
  const auto padded = [&](std::size_t axis, std::size_t size) {
    return size + extents.before[axis] + extents.after[axis];
  };
  const std::array<std::size_t, 4> out = {padded(0, n), padded(1, h), padded(2, w), padded(3, k)};
  std::vector<std::int8_t> y(out[0] * out[1] * out[2] * out[3]);
  const polymac::layer::pad<std::int8_t> layer(extents, static_cast<std::int8_t>(c.get("PAD_VALUE")));
  const auto status = layer(polymac::image_view(input.data(), n, h, w, k),
                            polymac::image_view(y.data(), out[0], out[1], out[2], out[3]));
  CHECK(status.text() == "");
  return y;
}

/// A net of several layers: the definitions of each begin with its kind and number (CONV_2D_1_...), its arrays with
/// CASE_layer_1_conv_2d_. The layers run in the order of their numbers; every one becomes a case of its own.
inline std::vector<std::int8_t> run_net(const kernel_case& c) {
  std::map<std::size_t, std::string> layers;
  for (const auto& [name, value] : c.definitions) {
    static constexpr std::string_view ending = "_DST_SIZE";  // every layer has it
    if (name.size() <= ending.size() || name.substr(name.size() - ending.size()) != ending) continue;
    const std::string layer = name.substr(0, name.size() - ending.size());
    layers[std::stoul(layer.substr(layer.rfind('_') + 1))] = layer;
  }
  if (layers.empty()) throw case_error(c.name + ": no definitions of layers");
  auto current = c.array({"input"}).values<std::int8_t>();
  for (const auto& [number, name] : layers) {
    const std::string kind = name.substr(0, name.rfind('_'));
    kernel_case part;
    part.name = "part";
    const auto take = [](const auto& all, const std::string& prefix, const std::string& to, auto& into) {
      for (const auto& [key, value] : all)
        if (key.rfind(prefix, 0) == 0) into[to + key.substr(prefix.size())] = value;
    };
    take(c.definitions, name + "_", "PART_", part.definitions);
    std::string lower = kind;
    for (char& letter : lower) letter = static_cast<char>(letter >= 'A' && letter <= 'Z' ? letter + 32 : letter);
    take(c.arrays, c.name + "_layer_" + std::to_string(number) + "_" + lower + "_", "part_", part.arrays);
    part.arrays["part_input"] = {"input", "i8", {current.size()}, std::as_bytes(std::span(current)), true};
    INFO("layer " << name);
    if (kind == "CONV_2D") {
      current = run_convolution<polymac::mac::int8>(part, scheme::s8);
    } else if (kind == "DEPTHWISE_CONV_2D") {
      current = run_depthwise<polymac::mac::int8>(part, scheme::s8);
    } else if (kind == "AVERAGE_POOL_2D") {
      current = run_pool<polymac::layer::average_pool2d, std::int8_t>(part);
    } else if (kind == "FULLY_CONNECTED") {
      // The definitions name inputs and outputs the other way round; the sizes say what is what.
      part.definitions["PART_ACCUMULATION_DEPTH"] = std::to_string(current.size());
      part.definitions["PART_OUT_CH"] = std::to_string(part.array({"weights"}).count() / current.size());
      current = run_linear<polymac::mac::int8>(part, scheme::s8);
    } else if (kind == "SOFTMAX") {
      current = run_softmax<std::int8_t, std::int8_t>(part);
    } else {
      throw case_error(c.name + ": layer of unknown kind " + kind);
    }
  }
  return current;
}

}  // namespace polymac_test::cmsis_nn
