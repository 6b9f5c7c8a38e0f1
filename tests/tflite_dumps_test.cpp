// SPDX-License-Identifier: MIT
// The .tflite reader on the nets of data/mlperf_tiny: operators, options and every tensor against the dumps that
// another program has written, constants included by their range and number of zeros.
#include "catch.hpp"
#include "examples/mlperf_tiny/read_graph.hpp"
#include "support/data.hpp"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace model = polymac::model;

std::string number(double value, const char* format = "%.9g") {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string upper(std::string_view name) {
  std::string text(name);
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text;
}

// Names of operators as the dumps have them.
std::string dump_name(model::operation_kind kind) {
  switch (kind) {
    case model::operation_kind::conv2d:
      return "CONV_2D";
    case model::operation_kind::depthwise_conv2d:
      return "DEPTHWISE_CONV_2D";
    case model::operation_kind::average_pool2d:
      return "AVERAGE_POOL_2D";
    default:
      return upper(model::name(kind));
  }
}

std::string tensor_and_shape(const model::graph& g, std::int32_t i) {
  return "t" + std::to_string(i) + std::string(std::string_view(model::shape_text(g.tensor(i)->shape)));
}

// What the line of operation `n` in the dump must contain.
std::vector<std::string> words_of_operation(const model::graph& g, std::size_t n) {
  const model::operation& op = g.operations[n];
  std::vector<std::string> words{" " + std::to_string(n) + " " + dump_name(op.kind) + " ",
                                 "-> out: " + tensor_and_shape(g, op.outputs[0]) + " "};
  std::string inputs = " in:";
  for (const std::int32_t i : op.inputs) inputs += " " + tensor_and_shape(g, i);
  words.push_back(inputs + " ");
  const model::window2d& w = op.window;
  const auto pair = [&words](const char* what, const model::extents2d& e) {
    words.push_back("'" + std::string(what) + "_w': " + std::to_string(e.width));
    words.push_back("'" + std::string(what) + "_h': " + std::to_string(e.height));
  };
  const bool convolution =
      op.kind == model::operation_kind::conv2d || op.kind == model::operation_kind::depthwise_conv2d;
  if (convolution) pair("dil", w.dilation);
  if (op.kind == model::operation_kind::average_pool2d) pair("filter", w.filter);
  if (convolution || op.kind == model::operation_kind::average_pool2d) {
    words.push_back(w.padding == model::padding::same ? "'padding': 'SAME'" : "'padding': 'VALID'");
    pair("stride", w.stride);
  }
  if (op.kind == model::operation_kind::depthwise_conv2d)
    words.push_back("'depth_mult': " + std::to_string(w.depth_multiplier));
  if (op.kind == model::operation_kind::softmax) words.push_back("'beta': " + number(op.beta, "%.1f"));
  if (op.kind == model::operation_kind::add)
    words.push_back("'pot_scale_int16': " + std::to_string(op.power_of_two_scales ? 1 : 0));
  if (convolution || op.kind == model::operation_kind::add || op.kind == model::operation_kind::fully_connected)
    words.push_back(op.fused == model::activation::relu ? "'act': 'RELU'" : "'act': 'NONE'");
  if (const auto macs = model::multiply_accumulates(g, op)) words.push_back("MACs=" + std::to_string(macs));
  return words;
}

template <class T>
std::string range_of(const model::tensor_info& t) {
  const auto values = model::constant_values<T>(t);
  REQUIRE(values.ok());
  const auto [low, high] = std::minmax_element(values->begin(), values->end());
  const auto zeros = static_cast<double>(std::count(values->begin(), values->end(), T{}));
  return "min=" + std::to_string(*low) + " max=" + std::to_string(*high) +
         (values->size() > 4 ? " zeros=" + number(100 * zeros / static_cast<double>(values->size()), "%.2f") + "%"
                             : "");
}

// What the line of tensor `i` in the dump must contain. The dumps cut names at 100 characters.
std::vector<std::string> words_of_tensor(const model::graph& g, std::size_t i) {
  const model::tensor_info& t = g.tensors[i];
  std::vector<std::string> words{"t" + std::to_string(i) + " " + upper(model::name(t.type)) + " " +
                                     std::string(std::string_view(model::shape_text(t.shape))) + " ",
                                 "'" + t.name.substr(0, 100) + "'"};
  if (t.quantized.per_axis()) {
    words.push_back(" per-channel dim=" + std::to_string(t.quantized.axis) +
                    " n=" + std::to_string(t.quantized.scales.size()) + " ");
    std::string scales = " scales=";
    for (const float s : t.quantized.scales) scales += (scales.back() == '=' ? "" : ",") + number(s);
    words.push_back(scales + " ");
  } else if (t.quantized.present()) {
    words.push_back(" scale=" + number(t.quantized.scale()) + " zp=" + std::to_string(t.quantized.zero_point()) + " ");
  }
  if (t.is_constant()) {
    words.push_back(" const " + std::to_string(t.data.size()) + "B ");
    words.push_back(t.type == model::element_type::int8 ? range_of<std::int8_t>(t) : range_of<std::int32_t>(t));
  }
  return words;
}

void require_line(const std::string& line, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    INFO("line: " << line);
    INFO("expected in it: " << word);
    REQUIRE((" " + line + " ").find(word) != std::string::npos);
  }
}

struct net {
  const char* name;
  std::size_t operations;
  std::uint64_t macs;
  bool dumped;
};

constexpr net nets[] = {
    {"ad_autoencoder_fp32", 10, 264192, false},    {"ad_autoencoder_int8", 10, 264192, true},
    {"ic_resnet8_fp32", 16, 12501632, false},      {"ic_resnet8_int8", 16, 12501632, true},
    {"ic_resnet_large_int8", 16, 76473920, false}, {"kws_dscnn_fp32", 13, 2656768, false},
    {"kws_dscnn_int8", 13, 2656768, true},         {"sww_dscnn1d_int8", 11, 826368, true},
    {"vww_mobilenet_fp32", 31, 7489664, false},    {"vww_mobilenet_int8", 31, 7489664, true},
};

}  // namespace

TEST_CASE("The nets of mlperf_tiny are read as their dumps have them", "[tflite]") {
  const auto folder = polymac_test::find_data("mlperf_tiny");
  if (!folder) return;
  for (const net& n : nets) {
    INFO(n.name);
    const auto file = polymac_test::read_bytes(*folder / (std::string(n.name) + ".tflite"));
    const auto g = example::read_graph(file);
    INFO(g.status().text());
    REQUIRE(g.ok());
    REQUIRE(g->operations.size() == n.operations);
    REQUIRE(model::multiply_accumulates(*g) == n.macs);
    if (!n.dumped) continue;

    std::size_t operations = 0;
    std::size_t tensors = 0;
    for (const std::string& line : polymac_test::read_lines(*folder / "dumps" / (std::string(n.name) + ".txt"))) {
      if (line.find(" -> out: ") != std::string::npos) {
        REQUIRE(operations < g->operations.size());
        require_line(line, words_of_operation(*g, operations++));
      } else if (line.size() > 1 && line[0] == 't' && std::isdigit(static_cast<unsigned char>(line[1])) != 0) {
        REQUIRE(tensors < g->tensors.size());
        require_line(line, words_of_tensor(*g, tensors++));
      } else if (line.rfind("subgraph 0", 0) == 0) {
        require_line(
            line, {"inputs=[" + std::to_string(g->inputs[0]) + "]", "outputs=[" + std::to_string(g->outputs[0]) + "]"});
      }
    }
    REQUIRE(operations == g->operations.size());
    REQUIRE(tensors == g->tensors.size());
  }
}

TEST_CASE("The int8 weights of the float keyword net are recognised", "[tflite]") {
  const auto path = polymac_test::find_data("mlperf_tiny/kws_dscnn_fp32.tflite");
  if (!path) return;
  const auto file = polymac_test::read_bytes(*path);
  const auto g = example::read_graph(file);
  REQUIRE(g.ok());
  for (const model::operation& op : g->operations)
    REQUIRE(model::integer_weights_only(*g, op) == (op.kind == model::operation_kind::conv2d));
}
