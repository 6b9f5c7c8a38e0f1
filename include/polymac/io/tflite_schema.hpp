// SPDX-License-Identifier: MIT
// Facts of the TensorFlow Lite file format, schema version 3: places of fields and values of enumerations.
#pragma once

#include "polymac/io/flatbuffer_source.hpp"
#include "polymac/model/graph.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

POLYMAC_BEGIN
namespace io::tflite::schema {

inline constexpr std::string_view identifier = "TFL3";
inline constexpr std::uint32_t version = 3;

// -- tables ---------------------------------------------------------------------------------------------------------
namespace model_table {
inline constexpr flatbuffer_field version{4, "version"}, operator_codes{6, "operator_codes"}, subgraphs{8, "subgraphs"},
    buffers{12, "buffers"};
}
namespace operator_code {
inline constexpr flatbuffer_field deprecated_builtin_code{4, "deprecated_builtin_code"}, custom_code{6, "custom_code"},
    version{8, "version"}, builtin_code{10, "builtin_code"};
}
namespace subgraph {
inline constexpr flatbuffer_field tensors{4, "tensors"}, inputs{6, "inputs"}, outputs{8, "outputs"},
    operators{10, "operators"};
}
namespace buffer_table {
inline constexpr flatbuffer_field data{4, "data"}, offset{6, "offset"}, size{8, "size"};
}
namespace tensor {
inline constexpr flatbuffer_field shape{4, "shape"}, type{6, "type"}, buffer{8, "buffer"}, name{10, "name"},
    quantization{12, "quantization"}, is_variable{14, "is_variable"}, sparsity{16, "sparsity"};
}
namespace quantization {
inline constexpr flatbuffer_field scale{8, "scale"}, zero_point{10, "zero_point"}, details_type{12, "details_type"},
    axis{16, "quantized_dimension"};
}
namespace operator_table {
inline constexpr flatbuffer_field opcode_index{4, "opcode_index"}, inputs{6, "inputs"}, outputs{8, "outputs"},
    options_type{10, "builtin_options_type"}, options{12, "builtin_options"},
    options_2_type{26, "builtin_options_2_type"};
}

// -- option tables --------------------------------------------------------------------------------------------------
namespace convolution {
inline constexpr flatbuffer_field padding{4, "padding"}, stride_width{6, "stride_w"}, stride_height{8, "stride_h"},
    activation{10, "fused_activation_function"}, dilation_width{12, "dilation_w_factor"},
    dilation_height{14, "dilation_h_factor"};
}
namespace depthwise {
inline constexpr flatbuffer_field padding{4, "padding"}, stride_width{6, "stride_w"}, stride_height{8, "stride_h"},
    depth_multiplier{10, "depth_multiplier"}, activation{12, "fused_activation_function"},
    dilation_width{14, "dilation_w_factor"}, dilation_height{16, "dilation_h_factor"};
}
namespace pool {
inline constexpr flatbuffer_field padding{4, "padding"}, stride_width{6, "stride_w"}, stride_height{8, "stride_h"},
    filter_width{10, "filter_width"}, filter_height{12, "filter_height"}, activation{14, "fused_activation_function"};
}
namespace fully_connected {
inline constexpr flatbuffer_field activation{4, "fused_activation_function"}, weights_format{6, "weights_format"},
    asymmetric_inputs{10, "asymmetric_quantize_inputs"};
}
namespace softmax {
inline constexpr flatbuffer_field beta{4, "beta"};
}
namespace concatenation {
inline constexpr flatbuffer_field axis{4, "axis"}, activation{6, "fused_activation_function"};
}
namespace add {
inline constexpr flatbuffer_field activation{4, "fused_activation_function"}, pot_scale_int16{6, "pot_scale_int16"};
}
namespace mul {
inline constexpr flatbuffer_field activation{4, "fused_activation_function"};
}
namespace reshape {
inline constexpr flatbuffer_field new_shape{4, "new_shape"};
}
namespace reducer {
inline constexpr flatbuffer_field keep_dimensions{4, "keep_dims"};
}

// -- enumerations ---------------------------------------------------------------------------------------------------
/// Element type of TensorType `code`, nothing for a type that no operation of polymac takes.
constexpr std::optional<model::element_type> element_type_of(std::int8_t code) noexcept {
  switch (code) {
    case 0:
      return model::element_type::float32;
    case 1:
      return model::element_type::float16;
    case 2:
      return model::element_type::int32;
    case 3:
      return model::element_type::uint8;
    case 4:
      return model::element_type::int64;
    case 6:
      return model::element_type::boolean;
    case 7:
      return model::element_type::int16;
    case 9:
      return model::element_type::int8;
    case 17:
      return model::element_type::int4;
    default:
      return std::nullopt;
  }
}

/// Function of ActivationFunctionType `code`; nothing for tanh (4), sign bit (5) and unknown ones.
constexpr std::optional<model::activation> activation_of(std::int8_t code) noexcept {
  switch (code) {
    case 0:
      return model::activation::none;
    case 1:
      return model::activation::relu;
    case 2:
      return model::activation::relu_n1_to_1;
    case 3:
      return model::activation::relu6;
    default:
      return std::nullopt;
  }
}

/// A builtin operator that the reader turns into an operation, and the number of its table in the union BuiltinOptions.
struct supported_operator {
  std::int32_t code;
  model::operation_kind kind;
  std::uint8_t options;
  bool options_required;
};

/// SQUEEZE and EXPAND_DIMS only change the shape, which the output tensor states.
inline constexpr std::array<supported_operator, 19> supported_operators{{
    {0, model::operation_kind::add, 11, false},
    {1, model::operation_kind::average_pool2d, 5, true},
    {2, model::operation_kind::concatenate, 10, true},
    {3, model::operation_kind::conv2d, 1, true},
    {4, model::operation_kind::depthwise_conv2d, 2, true},
    {6, model::operation_kind::dequantize, 38, false},
    {9, model::operation_kind::fully_connected, 8, true},
    {17, model::operation_kind::max_pool2d, 5, true},
    {18, model::operation_kind::multiply, 21, false},
    {19, model::operation_kind::relu, 0, false},
    {20, model::operation_kind::relu_n1_to_1, 0, false},
    {21, model::operation_kind::relu6, 0, false},
    {22, model::operation_kind::reshape, 17, false},
    {25, model::operation_kind::softmax, 9, true},
    {34, model::operation_kind::pad, 22, false},
    {40, model::operation_kind::mean, 27, false},
    {43, model::operation_kind::reshape, 30, false},
    {70, model::operation_kind::reshape, 52, false},
    {114, model::operation_kind::quantize, 89, false},
}};

inline constexpr std::int32_t reshape_code = 22;
inline constexpr std::int32_t custom_code = 32;

constexpr const supported_operator* find_operator(std::int32_t code) noexcept {
  for (const supported_operator& s : supported_operators)
    if (s.code == code) return &s;
  return nullptr;
}

/// Name of BuiltinOperator `code`, for texts; empty for a code newer than this list.
constexpr std::string_view operator_name(std::int32_t code) noexcept {
  constexpr std::array<std::string_view, 162> names{"ADD",
                                                    "AVERAGE_POOL_2D",
                                                    "CONCATENATION",
                                                    "CONV_2D",
                                                    "DEPTHWISE_CONV_2D",
                                                    "DEPTH_TO_SPACE",
                                                    "DEQUANTIZE",
                                                    "EMBEDDING_LOOKUP",
                                                    "FLOOR",
                                                    "FULLY_CONNECTED",
                                                    "HASHTABLE_LOOKUP",
                                                    "L2_NORMALIZATION",
                                                    "L2_POOL_2D",
                                                    "LOCAL_RESPONSE_NORMALIZATION",
                                                    "LOGISTIC",
                                                    "LSH_PROJECTION",
                                                    "LSTM",
                                                    "MAX_POOL_2D",
                                                    "MUL",
                                                    "RELU",
                                                    "RELU_N1_TO_1",
                                                    "RELU6",
                                                    "RESHAPE",
                                                    "RESIZE_BILINEAR",
                                                    "RNN",
                                                    "SOFTMAX",
                                                    "SPACE_TO_DEPTH",
                                                    "SVDF",
                                                    "TANH",
                                                    "CONCAT_EMBEDDINGS",
                                                    "SKIP_GRAM",
                                                    "CALL",
                                                    "CUSTOM",
                                                    "EMBEDDING_LOOKUP_SPARSE",
                                                    "PAD",
                                                    "UNIDIRECTIONAL_SEQUENCE_RNN",
                                                    "GATHER",
                                                    "BATCH_TO_SPACE_ND",
                                                    "SPACE_TO_BATCH_ND",
                                                    "TRANSPOSE",
                                                    "MEAN",
                                                    "SUB",
                                                    "DIV",
                                                    "SQUEEZE",
                                                    "UNIDIRECTIONAL_SEQUENCE_LSTM",
                                                    "STRIDED_SLICE",
                                                    "BIDIRECTIONAL_SEQUENCE_RNN",
                                                    "EXP",
                                                    "TOPK_V2",
                                                    "SPLIT",
                                                    "LOG_SOFTMAX",
                                                    "DELEGATE",
                                                    "BIDIRECTIONAL_SEQUENCE_LSTM",
                                                    "CAST",
                                                    "PRELU",
                                                    "MAXIMUM",
                                                    "ARG_MAX",
                                                    "MINIMUM",
                                                    "LESS",
                                                    "NEG",
                                                    "PADV2",
                                                    "GREATER",
                                                    "GREATER_EQUAL",
                                                    "LESS_EQUAL",
                                                    "SELECT",
                                                    "SLICE",
                                                    "SIN",
                                                    "TRANSPOSE_CONV",
                                                    "SPARSE_TO_DENSE",
                                                    "TILE",
                                                    "EXPAND_DIMS",
                                                    "EQUAL",
                                                    "NOT_EQUAL",
                                                    "LOG",
                                                    "SUM",
                                                    "SQRT",
                                                    "RSQRT",
                                                    "SHAPE",
                                                    "POW",
                                                    "ARG_MIN",
                                                    "FAKE_QUANT",
                                                    "REDUCE_PROD",
                                                    "REDUCE_MAX",
                                                    "PACK",
                                                    "LOGICAL_OR",
                                                    "ONE_HOT",
                                                    "LOGICAL_AND",
                                                    "LOGICAL_NOT",
                                                    "UNPACK",
                                                    "REDUCE_MIN",
                                                    "FLOOR_DIV",
                                                    "REDUCE_ANY",
                                                    "SQUARE",
                                                    "ZEROS_LIKE",
                                                    "FILL",
                                                    "FLOOR_MOD",
                                                    "RANGE",
                                                    "RESIZE_NEAREST_NEIGHBOR",
                                                    "LEAKY_RELU",
                                                    "SQUARED_DIFFERENCE",
                                                    "MIRROR_PAD",
                                                    "ABS",
                                                    "SPLIT_V",
                                                    "UNIQUE",
                                                    "CEIL",
                                                    "REVERSE_V2",
                                                    "ADD_N",
                                                    "GATHER_ND",
                                                    "COS",
                                                    "WHERE",
                                                    "RANK",
                                                    "ELU",
                                                    "REVERSE_SEQUENCE",
                                                    "MATRIX_DIAG",
                                                    "QUANTIZE",
                                                    "MATRIX_SET_DIAG",
                                                    "ROUND",
                                                    "HARD_SWISH",
                                                    "IF",
                                                    "WHILE",
                                                    "NON_MAX_SUPPRESSION_V4",
                                                    "NON_MAX_SUPPRESSION_V5",
                                                    "SCATTER_ND",
                                                    "SELECT_V2",
                                                    "DENSIFY",
                                                    "SEGMENT_SUM",
                                                    "BATCH_MATMUL",
                                                    "PLACEHOLDER_FOR_GREATER_OP_CODES",
                                                    "CUMSUM",
                                                    "CALL_ONCE",
                                                    "BROADCAST_TO",
                                                    "RFFT2D",
                                                    "CONV_3D",
                                                    "IMAG",
                                                    "REAL",
                                                    "COMPLEX_ABS",
                                                    "HASHTABLE",
                                                    "HASHTABLE_FIND",
                                                    "HASHTABLE_IMPORT",
                                                    "HASHTABLE_SIZE",
                                                    "REDUCE_ALL",
                                                    "CONV_3D_TRANSPOSE",
                                                    "VAR_HANDLE",
                                                    "READ_VARIABLE",
                                                    "ASSIGN_VARIABLE",
                                                    "BROADCAST_ARGS",
                                                    "RANDOM_STANDARD_NORMAL",
                                                    "BUCKETIZE",
                                                    "RANDOM_UNIFORM",
                                                    "MULTINOMIAL",
                                                    "GELU",
                                                    "DYNAMIC_UPDATE_SLICE",
                                                    "RELU_0_TO_1",
                                                    "UNSORTED_SEGMENT_PROD",
                                                    "UNSORTED_SEGMENT_MAX",
                                                    "UNSORTED_SEGMENT_SUM",
                                                    "ATAN2",
                                                    "UNSORTED_SEGMENT_MIN",
                                                    "SIGN",
                                                    "BITCAST",
                                                    "BITWISE_XOR",
                                                    "RIGHT_SHIFT"};
  return code >= 0 && static_cast<std::size_t>(code) < names.size() ? names[static_cast<std::size_t>(code)]
                                                                    : std::string_view{};
}

static_assert(operator_name(40) == "MEAN" && operator_name(70) == "EXPAND_DIMS" && operator_name(114) == "QUANTIZE" &&
              operator_name(150) == "GELU" && operator_name(161) == "RIGHT_SHIFT");

}  // namespace io::tflite::schema
POLYMAC_END
