// SPDX-License-Identifier: MIT
// Builds small .tflite files from plain descriptions, so that tests need no data and can break any field on purpose.
#pragma once

#include "polymac/io/tflite_schema.hpp"

#include <flatbuffers/flatbuffers.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <variant>
#include <vector>

namespace polymac_test {

/// Numbers as little-endian bytes (the tests run on little-endian machines).
template <class T>
std::vector<std::byte> raw_bytes(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// TensorType values of the format.
enum tflite_type : std::int8_t {
  tflite_float32 = 0,
  tflite_int32 = 2,
  tflite_uint8 = 3,
  tflite_int64 = 4,
  tflite_int16 = 7,
  tflite_int8 = 9,
  tflite_int4 = 17
};

struct tflite_tensor {
  std::string name;
  std::int8_t type = tflite_int8;
  std::vector<std::int32_t> shape;
  std::vector<float> scales;
  std::vector<std::int64_t> zero_points;
  std::vector<std::byte> data;  ///< empty: computed
  std::int32_t axis = 0;
  bool external = false;  ///< data lies behind the flatbuffer
  bool variable = false;
  bool sparse = false;
  std::uint8_t quantization_details = 0;
  std::int64_t buffer_index = -1;  ///< overrides the index of the buffer that is made for `data`
};

/// A field of an option table.
struct tflite_option {
  flatbuffers::voffset_t slot;
  std::variant<std::int8_t, std::int32_t, float, bool, std::vector<std::int32_t>> value;
};

struct tflite_operator {
  std::int32_t code = 0;
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> outputs;
  std::uint8_t options_type = 0;
  std::vector<tflite_option> options;
  std::string custom{};               ///< name, with code 32
  std::int32_t deprecated_code = -1;  ///< -1: min(code, 127), as the converters write it
  std::int64_t opcode_index = -1;     ///< -1: an entry of its own
  std::uint8_t options_2_type = 0;
};

struct tflite_model {
  std::uint32_t version = 3;
  std::string identifier = "TFL3";
  std::vector<tflite_tensor> tensors;
  std::vector<tflite_operator> operators;
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> outputs;
  int subgraphs = 1;  ///< further ones are empty
};

namespace detail {

inline std::vector<std::byte> write(const tflite_model& m, std::uint64_t external_begin) {
  namespace s = polymac::io::tflite::schema;
  using table_offset = flatbuffers::Offset<flatbuffers::Table>;
  flatbuffers::FlatBufferBuilder b;
  b.ForceDefaults(true);
  const auto list = [&b](std::vector<table_offset>& v) { return b.CreateVector(v.data(), v.size()); };

  std::vector<table_offset> buffers, tensors, codes, operators, subgraphs;
  std::vector<std::byte> tail;
  buffers.emplace_back(b.EndTable(b.StartTable()));
  for (const tflite_tensor& t : m.tensors) {
    std::uint32_t buffer = 0;
    if (!t.data.empty()) {
      buffer = static_cast<std::uint32_t>(buffers.size());
      flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> data = 0;
      if (!t.external) {
        b.ForceVectorAlignment(t.data.size(), 1, 16);
        data = b.CreateVector(reinterpret_cast<const std::uint8_t*>(t.data.data()), t.data.size());
      }
      const auto start = b.StartTable();
      if (t.external) {
        b.AddElement<std::uint64_t>(s::buffer_table::offset.slot, external_begin + tail.size(), 0);
        b.AddElement<std::uint64_t>(s::buffer_table::size.slot, t.data.size(), 0);
        tail.insert(tail.end(), t.data.begin(), t.data.end());
      } else {
        b.AddOffset(s::buffer_table::data.slot, data);
      }
      buffers.emplace_back(b.EndTable(start));
    }
    if (t.buffer_index >= 0) buffer = static_cast<std::uint32_t>(t.buffer_index);
    flatbuffers::uoffset_t quantization = 0;
    if (!t.scales.empty() || t.quantization_details != 0) {
      const auto scales = b.CreateVector(t.scales);
      const auto zeros = b.CreateVector(t.zero_points);
      const auto start = b.StartTable();
      b.AddOffset(s::quantization::scale.slot, scales);
      b.AddOffset(s::quantization::zero_point.slot, zeros);
      b.AddElement<std::uint8_t>(s::quantization::details_type.slot, t.quantization_details, 0);
      b.AddElement<std::int32_t>(s::quantization::axis.slot, t.axis, 0);
      quantization = b.EndTable(start);
    }
    flatbuffers::uoffset_t sparsity = 0;
    if (t.sparse) sparsity = b.EndTable(b.StartTable());
    const auto name = b.CreateString(t.name);
    const auto shape = b.CreateVector(t.shape);
    const auto start = b.StartTable();
    b.AddOffset(s::tensor::shape.slot, shape);
    b.AddElement<std::int8_t>(s::tensor::type.slot, t.type, 0);
    b.AddElement<std::uint32_t>(s::tensor::buffer.slot, buffer, 0);
    b.AddOffset(s::tensor::name.slot, name);
    if (quantization != 0) b.AddOffset(s::tensor::quantization.slot, table_offset(quantization));
    b.AddElement<std::uint8_t>(s::tensor::is_variable.slot, t.variable ? 1 : 0, 0);
    if (sparsity != 0) b.AddOffset(s::tensor::sparsity.slot, table_offset(sparsity));
    tensors.emplace_back(b.EndTable(start));
  }

  for (const tflite_operator& op : m.operators) {
    const auto custom = b.CreateString(op.custom);
    auto start = b.StartTable();
    const std::int32_t old_code = op.deprecated_code >= 0 ? op.deprecated_code : op.code < 127 ? op.code : 127;
    b.AddElement<std::int8_t>(s::operator_code::deprecated_builtin_code.slot, static_cast<std::int8_t>(old_code), 0);
    if (!op.custom.empty()) b.AddOffset(s::operator_code::custom_code.slot, custom);
    b.AddElement<std::int32_t>(s::operator_code::builtin_code.slot, op.code, 0);
    const auto index = static_cast<std::uint32_t>(codes.size());
    codes.emplace_back(b.EndTable(start));

    std::vector<flatbuffers::Offset<flatbuffers::Vector<std::int32_t>>> vectors;
    for (const tflite_option& o : op.options)
      if (const auto* v = std::get_if<std::vector<std::int32_t>>(&o.value)) vectors.push_back(b.CreateVector(*v));
    flatbuffers::uoffset_t options = 0;
    if (op.options_type != 0) {
      start = b.StartTable();
      std::size_t vector = 0;
      for (const tflite_option& o : op.options) {
        if (const auto* i8 = std::get_if<std::int8_t>(&o.value)) b.AddElement<std::int8_t>(o.slot, *i8, 0);
        if (const auto* i32 = std::get_if<std::int32_t>(&o.value)) b.AddElement<std::int32_t>(o.slot, *i32, 0);
        if (const auto* f32 = std::get_if<float>(&o.value)) b.AddElement<float>(o.slot, *f32, 0);
        if (const auto* flag = std::get_if<bool>(&o.value)) b.AddElement<std::uint8_t>(o.slot, *flag ? 1 : 0, 0);
        if (std::holds_alternative<std::vector<std::int32_t>>(o.value)) b.AddOffset(o.slot, vectors[vector++]);
      }
      options = b.EndTable(start);
    }
    const auto inputs = b.CreateVector(op.inputs);
    const auto outputs = b.CreateVector(op.outputs);
    start = b.StartTable();
    b.AddElement<std::uint32_t>(s::operator_table::opcode_index.slot,
                                op.opcode_index >= 0 ? static_cast<std::uint32_t>(op.opcode_index) : index, 0);
    b.AddOffset(s::operator_table::inputs.slot, inputs);
    b.AddOffset(s::operator_table::outputs.slot, outputs);
    b.AddElement<std::uint8_t>(s::operator_table::options_type.slot, op.options_type, 0);
    if (options != 0) b.AddOffset(s::operator_table::options.slot, table_offset(options));
    b.AddElement<std::uint8_t>(s::operator_table::options_2_type.slot, op.options_2_type, 0);
    operators.emplace_back(b.EndTable(start));
  }

  for (int i = 0; i < m.subgraphs; ++i) {
    if (i > 0) {
      subgraphs.emplace_back(b.EndTable(b.StartTable()));
      continue;
    }
    const auto tensor_list = list(tensors);
    const auto operator_list = list(operators);
    const auto inputs = b.CreateVector(m.inputs);
    const auto outputs = b.CreateVector(m.outputs);
    const auto start = b.StartTable();
    b.AddOffset(s::subgraph::tensors.slot, tensor_list);
    b.AddOffset(s::subgraph::inputs.slot, inputs);
    b.AddOffset(s::subgraph::outputs.slot, outputs);
    b.AddOffset(s::subgraph::operators.slot, operator_list);
    subgraphs.emplace_back(b.EndTable(start));
  }
  const auto code_list = list(codes);
  const auto subgraph_list = list(subgraphs);
  const auto buffer_list = list(buffers);
  const auto start = b.StartTable();
  b.AddElement<std::uint32_t>(s::model_table::version.slot, m.version, 0);
  b.AddOffset(s::model_table::operator_codes.slot, code_list);
  b.AddOffset(s::model_table::subgraphs.slot, subgraph_list);
  b.AddOffset(s::model_table::buffers.slot, buffer_list);
  b.Finish(table_offset(b.EndTable(start)), m.identifier.c_str());

  const auto* begin = reinterpret_cast<const std::byte*>(b.GetBufferPointer());
  std::vector<std::byte> file(begin, begin + b.GetSize());
  file.insert(file.end(), tail.begin(), tail.end());
  if (external_begin == 0 && !tail.empty()) return write(m, b.GetSize());  // now the size is known; it stays the same
  return file;
}

}  // namespace detail

/// The file that `m` describes.
inline std::vector<std::byte> write_tflite(const tflite_model& m) { return detail::write(m, 0); }

// -- operators ------------------------------------------------------------------------------------------------------

/// `same`: 0 = SAME, 1 = VALID; `fused`: 0 none, 1 relu, 2 relu_n1_to_1, 3 relu6, as in the format.
inline tflite_operator tflite_conv2d(std::vector<std::int32_t> inputs, std::int32_t output, std::int32_t stride = 1,
                                     std::int8_t padding = 0, std::int8_t fused = 0, std::int32_t dilation = 1) {
  return {3,
          std::move(inputs),
          {output},
          1,
          {{4, padding}, {6, stride}, {8, stride}, {10, fused}, {12, dilation}, {14, dilation}}};
}
inline tflite_operator tflite_depthwise(std::vector<std::int32_t> inputs, std::int32_t output, std::int32_t multiplier,
                                        std::int32_t stride = 1, std::int8_t padding = 0, std::int8_t fused = 0) {
  return {4,
          std::move(inputs),
          {output},
          2,
          {{4, padding},
           {6, stride},
           {8, stride},
           {10, multiplier},
           {12, fused},
           {14, std::int32_t{1}},
           {16, std::int32_t{1}}}};
}
/// `code`: 1 average, 17 maximum.
inline tflite_operator tflite_pool(std::int32_t code, std::int32_t input, std::int32_t output, std::int32_t filter,
                                   std::int32_t stride, std::int8_t padding = 1) {
  return {code,
          {input},
          {output},
          5,
          {{4, padding}, {6, stride}, {8, stride}, {10, filter}, {12, filter}, {14, std::int8_t{0}}}};
}
inline tflite_operator tflite_fully_connected(std::vector<std::int32_t> inputs, std::int32_t output,
                                              std::int8_t fused = 0) {
  return {9, std::move(inputs), {output}, 8, {{4, fused}, {6, std::int8_t{0}}}};
}
inline tflite_operator tflite_softmax(std::int32_t input, std::int32_t output, float beta = 1.0F) {
  return {25, {input}, {output}, 9, {{4, beta}}};
}

// -- models ---------------------------------------------------------------------------------------------------------

/// x [1, 4, 4, 2] -> conv2d 3 x 3, per-channel scales, relu -> + x -> y [1, 4, 4, 2], all int8.
inline tflite_model tflite_residual_model() {
  std::vector<std::int8_t> weights(2 * 3 * 3 * 2);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<std::int8_t>(static_cast<int>(i % 11) - 5);
  tflite_model m;
  m.tensors = {
      {"x", tflite_int8, {1, 4, 4, 2}, {0.5F}, {-3}, {}},
      {"weights", tflite_int8, {2, 3, 3, 2}, {0.25F, 0.125F}, {0, 0}, raw_bytes(weights)},
      {"bias", tflite_int32, {2}, {0.125F, 0.0625F}, {0, 0}, raw_bytes<std::int32_t>({100, -7})},
      {"conv", tflite_int8, {1, 4, 4, 2}, {1.5F}, {4}, {}},
      {"y", tflite_int8, {1, 4, 4, 2}, {2.0F}, {-1}, {}},
  };
  m.operators = {tflite_conv2d({0, 1, 2}, 3, 1, 0, 1), {0, {3, 0}, {4}, 11, {{4, std::int8_t{0}}, {6, false}}}};
  m.inputs = {0};
  m.outputs = {4};
  return m;
}

/// x [1, 4] -> fully connected, relu6 -> [1, 3] -> softmax -> y [1, 3], int8 with per-tensor scales.
inline tflite_model tflite_classifier_model() {
  tflite_model m;
  m.tensors = {
      {"x", tflite_int8, {1, 4}, {0.5F}, {7}, {}},
      {"weights",
       tflite_int8,
       {3, 4},
       {0.25F},
       {0},
       raw_bytes<std::int8_t>({1, -2, 3, -4, 5, 6, 7, 8, -9, 10, -11, 12})},
      {"bias", tflite_int32, {3}, {0.125F}, {0}, raw_bytes<std::int32_t>({10, -20, 30})},
      {"logits", tflite_int8, {1, 3}, {0.0625F}, {-128}, {}},
      {"y", tflite_int8, {1, 3}, {1.0F / 256}, {-128}, {}},
  };
  m.operators = {tflite_fully_connected({0, 1, 2}, 3, 3), tflite_softmax(3, 4)};
  m.inputs = {0};
  m.outputs = {4};
  return m;
}

/// float32: x [1, 4, 4, 2] -> pad -> depthwise, multiplier 2, stride 2 -> max pool -> mean over the image -> reshape.
inline tflite_model tflite_float_model() {
  std::vector<float> weights(3 * 3 * 4);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.25F * static_cast<float>(i) - 2.0F;
  tflite_model m;
  m.tensors = {
      {"x", tflite_float32, {1, 4, 4, 2}, {}, {}, {}},
      {"paddings", tflite_int32, {4, 2}, {}, {}, raw_bytes<std::int32_t>({0, 0, 1, 2, 2, 1, 0, 0})},
      {"padded", tflite_float32, {1, 7, 7, 2}, {}, {}, {}},
      {"weights", tflite_float32, {1, 3, 3, 4}, {}, {}, raw_bytes(weights)},
      {"depthwise", tflite_float32, {1, 3, 3, 4}, {}, {}, {}},
      {"pooled", tflite_float32, {1, 2, 2, 4}, {}, {}, {}},
      {"axes", tflite_int32, {2}, {}, {}, raw_bytes<std::int32_t>({1, -2})},
      {"mean", tflite_float32, {1, 4}, {}, {}, {}},
      {"new shape", tflite_int32, {2}, {}, {}, raw_bytes<std::int32_t>({2, -1})},
      {"y", tflite_float32, {2, 2}, {}, {}, {}},
  };
  m.operators = {{34, {0, 1}, {2}, 22, {}},
                 tflite_depthwise({2, 3, -1}, 4, 2, 2, 1),
                 tflite_pool(17, 4, 5, 2, 1),
                 {40, {5, 6}, {7}, 27, {{4, false}}},
                 {22, {7, 8}, {9}, 17, {}}};
  m.inputs = {0};
  m.outputs = {9};
  return m;
}

}  // namespace polymac_test
