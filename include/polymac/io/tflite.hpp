// SPDX-License-Identifier: MIT
// Reads a TensorFlow Lite model (.tflite, schema version 3) from memory into a graph.
#pragma once

#include "polymac/io/flatbuffer_source.hpp"
#include "polymac/io/tflite_operator.hpp"
#include "polymac/io/tflite_schema.hpp"
#include "polymac/model/graph.hpp"
#include "polymac/model/validate.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

POLYMAC_BEGIN
namespace io::tflite {

/// Most tensors and operators of one model; more are taken for a damaged file.
inline constexpr std::size_t max_entries = 65536;

/// Reads one file. Mistakes are kept by the source.
class model_reader {
 public:
  explicit model_reader(std::span<const std::byte> file) noexcept : file_(file) {}

  result<model::graph> read() {
    const flatbuffer_table root = in_.open(file_, schema::identifier, "model");
    const auto version = in_.scalar<std::uint32_t>(root, schema::model_table::version, 0);
    if (version != schema::version)
      in_.fail_at(root, errc::unsupported, "version: expected ", schema::version, ", got ", version);
    buffers_ = in_.tables(root, schema::model_table::buffers);
    read_codes(in_.tables(root, schema::model_table::operator_codes));
    const flatbuffer_tables subgraphs = in_.tables(root, schema::model_table::subgraphs);
    // Only subgraph 0 is run. Others are reached by control flow operators, and those are refused by name.
    if (subgraphs.size() == 0) in_.fail_at(root, errc::corrupt, "subgraphs: expected at least 1, got 0");
    if (!in_.ok()) return in_.failure();
    const flatbuffer_table main = in_.element(subgraphs, 0, "subgraph");
    read_tensors(main);
    read_indices(main, schema::subgraph::inputs, graph_.inputs);
    read_indices(main, schema::subgraph::outputs, graph_.outputs);
    read_operators(main);
    if (!in_.ok()) return in_.failure();
    if (status s = model::validate(graph_); !s) return status::make(s.code(), "tflite: ", s.text());
    return std::move(graph_);
  }

 private:
  void read_codes(const flatbuffer_tables& codes) {
    namespace f = schema::operator_code;
    if (codes.size() > max_entries)
      return in_.fail(errc::corrupt, "operator_codes: expected at most ", max_entries, " entries, got ", codes.size());
    codes_.reserve(codes.size());
    for (std::size_t i = 0; i < codes.size() && in_.ok(); ++i) {
      const flatbuffer_table t = in_.element(codes, i, "operator code");
      // The old field has one byte; newer writers put 127 there for codes above it. The larger of the two counts.
      const std::int32_t old_code = in_.scalar<std::int8_t>(t, f::deprecated_builtin_code, 0);
      const std::int32_t code = std::max(old_code, in_.scalar<std::int32_t>(t, f::builtin_code, 0));
      codes_.push_back({code, code == schema::custom_code ? in_.string(t, f::custom_code) : std::string_view{}});
    }
  }

  void read_tensors(const flatbuffer_table& subgraph) {
    const flatbuffer_tables tensors = in_.tables(subgraph, schema::subgraph::tensors);
    if (tensors.size() > max_entries)
      return in_.fail(errc::corrupt, "tensors: expected at most ", max_entries, ", got ", tensors.size());
    graph_.tensors.reserve(tensors.size());
    for (std::size_t i = 0; i < tensors.size() && in_.ok(); ++i)
      graph_.tensors.push_back(read_tensor(in_.element(tensors, i, "tensor")));
  }

  model::tensor_info read_tensor(const flatbuffer_table& t) {
    namespace f = schema::tensor;
    model::tensor_info tensor;
    tensor.name = in_.string(t, f::name);
    const auto type = in_.scalar<std::int8_t>(t, f::type, 0);
    if (const auto known = schema::element_type_of(type))
      tensor.type = *known;
    else
      in_.fail_at(t, errc::unsupported, "type: expected float, integer or bool, got TensorType ", type);
    const auto extents = in_.vector<std::int32_t>(t, f::shape);
    if (extents.size() > model::tensor_shape::max_rank)
      in_.fail_at(t, errc::unsupported, "shape: expected at most ", model::tensor_shape::max_rank, " extents, got ",
                  extents.size());
    for (std::size_t i = 0; i < extents.size() && in_.ok(); ++i) {
      if (extents[i] < 1)
        in_.fail_at(t, errc::shape, "shape: expected extents of at least 1, got ", extents[i], " for extent ", i);
      tensor.shape.extents[tensor.shape.rank++] = static_cast<std::size_t>(extents[i]);
    }
    if (in_.scalar<std::uint8_t>(t, f::is_variable, 0) != 0)
      in_.fail_at(t, errc::unsupported, "expected no variable tensor (state between runs), got one");
    if (in_.present(t, f::sparsity))
      in_.fail_at(t, errc::unsupported, "expected a dense tensor, got one with sparsity parameters");
    if (in_.ok()) tensor.data = read_data(t);
    // Scales of a float tensor mean nothing to any operator.
    const bool codes = tensor.type != model::element_type::float32 && tensor.type != model::element_type::float16 &&
                       tensor.type != model::element_type::boolean;
    const flatbuffer_table q = in_.table(t, f::quantization);
    if (q && codes) tensor.quantized = read_quantization(t, q, tensor.type);
    return tensor;
  }

  model::quantization read_quantization(const flatbuffer_table& t, const flatbuffer_table& q,
                                        model::element_type type) {
    namespace f = schema::quantization;
    model::quantization out;
    if (in_.scalar<std::uint8_t>(q, f::details_type, 0) != 0)
      in_.fail_at(t, errc::unsupported, "quantization: expected scales and zero points, got custom details");
    const auto scales = in_.vector<float>(q, f::scale);
    const auto zeros = in_.vector<std::int64_t>(q, f::zero_point);
    const auto axis = in_.scalar<std::int32_t>(q, f::axis, 0);
    if (scales.size() == 0) return out;
    if (zeros.size() != 0 && zeros.size() != 1 && zeros.size() != scales.size())
      in_.fail_at(t, errc::corrupt, "quantization: expected 0, 1 or ", scales.size(), " zero points, got ",
                  zeros.size());
    if (scales.size() > 1 && axis < 0)
      in_.fail_at(t, errc::corrupt, "quantized_dimension: expected an axis of at least 0, got ", axis);
    if (!in_.ok()) return out;
    out.axis = scales.size() > 1 ? static_cast<std::size_t>(axis) : 0;
    // The neutral graph keeps zero points of 32 bits; an int64 bias has zero point 0 in every valid file.
    const auto [lowest, highest] = model::code_range(type);
    out.scales.resize(scales.size());
    out.zero_points.resize(scales.size());
    for (std::size_t i = 0; i < scales.size(); ++i) {
      out.scales[i] = scales[i];
      const std::int64_t zero = zeros.size() == 0 ? 0 : zeros[zeros.size() == 1 ? 0 : i];
      if (zero < lowest || zero > highest) {
        in_.fail_at(t, errc::parameter, "zero point ", i, ": expected a value of ", lowest, " to ", highest, " for ",
                    model::name(type), ", got ", zero);
        return out;
      }
      out.zero_points[i] = static_cast<std::int32_t>(zero);
    }
    return out;
  }

  /// Bytes of the tensor's buffer; empty for buffer 0, the mark of a computed tensor, and for an empty buffer.
  std::span<const std::byte> read_data(const flatbuffer_table& t) {
    namespace f = schema::buffer_table;
    const auto index = in_.scalar<std::uint32_t>(t, schema::tensor::buffer, 0);
    if (index == 0) return {};
    if (index >= buffers_.size()) {
      in_.fail_at(t, errc::corrupt, "buffer: expected an index below ", buffers_.size(), ", got ", index);
      return {};
    }
    const flatbuffer_table b = in_.element(buffers_, index, "buffer");
    // Files above 2 GB keep data behind the flatbuffer: `offset` counts from the begin of the file, 0 and 1 are unused.
    const auto offset = in_.scalar<std::uint64_t>(b, f::offset, 0);
    const auto size = in_.scalar<std::uint64_t>(b, f::size, 0);
    if (offset <= 1) return in_.bytes(b, f::data);
    if (offset > file_.size() || size > file_.size() - offset) {
      in_.fail_at(b, errc::corrupt, "expected external data inside the ", file_.size(), " bytes of the file, got ",
                  size, " bytes at byte ", offset);
      return {};
    }
    return file_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
  }

  void read_indices(const flatbuffer_table& subgraph, flatbuffer_field f, std::vector<std::int32_t>& out) {
    const auto list = in_.vector<std::int32_t>(subgraph, f);
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::int32_t index = list[i];
      if (index < 0 || static_cast<std::size_t>(index) >= graph_.tensors.size())
        return in_.fail_at(subgraph, errc::corrupt, f.name, " ", i, ": expected a tensor below ", graph_.tensors.size(),
                           ", got ", index);
      out.push_back(index);
    }
  }

  void read_operators(const flatbuffer_table& subgraph) {
    const flatbuffer_tables operators = in_.tables(subgraph, schema::subgraph::operators);
    if (operators.size() > max_entries)
      return in_.fail(errc::corrupt, "operators: expected at most ", max_entries, ", got ", operators.size());
    if (operators.size() == 0) in_.fail_at(subgraph, errc::corrupt, "operators: expected at least 1, got 0");
    graph_.operations.reserve(operators.size());
    operator_reader reader(in_, graph_);
    for (std::size_t i = 0; i < operators.size() && in_.ok(); ++i) {
      const flatbuffer_table t = in_.element(operators, i, "operator");
      const auto code = in_.scalar<std::uint32_t>(t, schema::operator_table::opcode_index, 0);
      if (in_.ok() && code >= codes_.size())
        in_.fail_at(t, errc::corrupt, "opcode_index: expected an index below ", codes_.size(), ", got ", code);
      if (in_.ok()) graph_.operations.push_back(reader.read(t, codes_[code]));
    }
  }

  std::span<const std::byte> file_;
  flatbuffer_source in_{"tflite"};
  flatbuffer_tables buffers_;
  std::vector<operator_code> codes_;
  model::graph graph_;
};

/// Reads subgraph 0 of a .tflite file. Constants of the graph point into `file`, which must outlive it; any alignment
/// will do. Nothing is run and nothing is trusted: sizes are checked against the file before memory is taken, which
/// stays within a small multiple of the file's size. O(size of the tables). Errors: damage (`corrupt`, with the table
/// and its byte), an operator, type or feature that polymac does not run (`unsupported`, with its name), bad shapes.
/// Format: TensorFlow Lite schema.fbs, versions 3 to 3c.
inline result<model::graph> parse(std::span<const std::byte> file) { return model_reader(file).read(); }

}  // namespace io::tflite
POLYMAC_END
