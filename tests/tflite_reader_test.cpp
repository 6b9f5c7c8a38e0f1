// SPDX-License-Identifier: MIT
// The .tflite reader on files built here: what is read, and what is refused with which text.
#include "catch.hpp"
#include "examples/mlperf_tiny/read_graph.hpp"
#include "support/tflite_builder.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace polymac_test;
namespace model = polymac::model;
using polymac::errc;

// The code and text of the refusal of `file`; "accepted" if it is none.
std::string refusal(const std::vector<std::byte>& file) {
  const auto parsed = example::read_graph(file);
  return parsed.ok() ? "accepted" : std::string(parsed.status().text());
}
std::string refusal(const tflite_model& m) { return refusal(write_tflite(m)); }

errc code_of(const tflite_model& m) {
  const auto parsed = example::read_graph(write_tflite(m));
  return parsed.ok() ? errc::ok : parsed.status().code();
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// A change of a good model and what the reader must say about it.
struct broken {
  tflite_model m;
  errc code;
  const char* words;
};
void require_refused(const broken& b) {
  INFO(b.words);
  const std::string text = refusal(b.m);
  INFO(text);
  REQUIRE(contains(text, b.words));
  REQUIRE(code_of(b.m) == b.code);
  REQUIRE(text.size() < polymac::status::capacity);  // nothing was cut
}

template <class Change>
tflite_model changed(tflite_model m, Change change) {
  change(m);
  return m;
}

}  // namespace

TEST_CASE("A residual int8 model is read", "[tflite]") {
  const auto file = write_tflite(tflite_residual_model());
  const auto g = example::read_graph(file);
  INFO(g.status().text());
  REQUIRE(g.ok());
  REQUIRE(g->tensors.size() == 5);
  REQUIRE(g->inputs == std::vector<std::int32_t>{0});
  REQUIRE(g->outputs == std::vector<std::int32_t>{4});
  REQUIRE(g->tensors[0].name == "x");
  REQUIRE(g->tensors[0].type == model::element_type::int8);
  REQUIRE(g->tensors[0].shape == model::tensor_shape(1, 4, 4, 2));
  REQUIRE(g->tensors[0].quantized.scale() == 0.5F);
  REQUIRE(g->tensors[0].quantized.zero_point() == -3);
  REQUIRE(!g->tensors[0].is_constant());

  const model::tensor_info& w = g->tensors[1];
  REQUIRE(w.is_constant());
  REQUIRE(w.quantized.per_axis());
  REQUIRE(w.quantized.axis == 0);
  REQUIRE(w.quantized.scale(1) == 0.125F);
  REQUIRE(model::constant_span<std::int8_t>(w).size() == 36);
  REQUIRE(model::constant_span<std::int8_t>(w)[1] == -4);
  REQUIRE(model::constant_span<std::uint8_t>(w).empty());
  const auto bias = model::constant_values<std::int32_t>(g->tensors[2]);
  REQUIRE(bias.ok());
  REQUIRE(*bias == std::vector<std::int32_t>{100, -7});
  const auto mistyped = model::constant_values<float>(g->tensors[2]);
  REQUIRE(mistyped.status().text() == "tensor 'bias': expected type float32, got int32");
  const auto computed = model::constant_values<std::int8_t>(g->tensors[0]);
  REQUIRE(computed.status().text() == "tensor 'x': expected a constant, got a computed tensor");

  REQUIRE(g->operations.size() == 2);
  const model::operation& conv = g->operations[0];
  REQUIRE(conv.kind == model::operation_kind::conv2d);
  REQUIRE(conv.fused == model::activation::relu);
  REQUIRE(conv.window.padding == model::padding::same);
  REQUIRE(conv.window.filter == model::extents2d{3, 3});
  REQUIRE(conv.window.groups == 1);
  REQUIRE(g->operations[1].kind == model::operation_kind::add);
  REQUIRE(!g->operations[1].power_of_two_scales);
  REQUIRE(model::multiply_accumulates(*g) == 4 * 4 * 2 * 3 * 3 * 2);
}

TEST_CASE("A float model with pad, depthwise, pool, mean and reshape is read", "[tflite]") {
  const auto file = write_tflite(tflite_float_model());
  const auto g = example::read_graph(file);
  INFO(g.status().text());
  REQUIRE(g.ok());
  const auto& ops = g->operations;
  REQUIRE(ops[0].pad_before == std::array<std::size_t, 6>{0, 1, 2, 0, 0, 0});
  REQUIRE(ops[0].pad_after == std::array<std::size_t, 6>{0, 2, 1, 0, 0, 0});
  REQUIRE(ops[1].window.depth_multiplier == 2);
  REQUIRE(ops[1].window.stride == model::extents2d{2, 2});
  REQUIRE(ops[1].input(2) == -1);
  REQUIRE(ops[2].window.filter == model::extents2d{2, 2});
  REQUIRE(ops[3].axes == std::vector<std::size_t>{1, 2});
  REQUIRE(ops[4].kind == model::operation_kind::reshape);
  REQUIRE(ops[4].inputs.size() == 1);
}

TEST_CASE("The file may lie at any address", "[tflite]") {
  const auto file = write_tflite(tflite_residual_model());
  std::vector<std::byte> moved(file.size() + 16);
  for (std::size_t shift = 0; shift < 16; ++shift) {
    std::memcpy(moved.data() + shift, file.data(), file.size());
    const std::span<const std::byte> place(moved.data() + shift, file.size());
    const auto g = example::read_graph(place);
    INFO(g.status().text());
    REQUIRE(g.ok());
    const auto bias = model::constant_values<std::int32_t>(g->tensors[2]);
    REQUIRE(bias.ok());
    REQUIRE((*bias)[1] == -7);
    // Constants point into the caller's bytes, not into a copy.
    REQUIRE(g->tensors[1].data.data() >= place.data());
    REQUIRE(g->tensors[1].data.data() + g->tensors[1].data.size() <= place.data() + place.size());
  }
}

TEST_CASE("Data behind the flatbuffer is found", "[tflite]") {
  tflite_model m = tflite_residual_model();
  m.tensors[1].external = m.tensors[2].external = true;
  auto file = write_tflite(m);
  const auto g = example::read_graph(file);
  INFO(g.status().text());
  REQUIRE(g.ok());
  const auto bias = model::constant_values<std::int32_t>(g->tensors[2]);
  REQUIRE(bias.ok());
  REQUIRE(*bias == std::vector<std::int32_t>{100, -7});
  file.pop_back();
  REQUIRE(contains(refusal(file), "expected external data inside the"));
}

TEST_CASE("int4 weights are unpacked, the low half first", "[tflite]") {
  tflite_model m = tflite_classifier_model();
  m.tensors[1].type = tflite_int4;
  m.tensors[1].data = raw_bytes<std::uint8_t>({0x21, 0x87, 0xF0, 0x00, 0x00, 0x7F});
  const auto file = write_tflite(m);
  const auto g = example::read_graph(file);
  INFO(g.status().text());
  REQUIRE(g.ok());
  const auto w = model::constant_values<std::int8_t>(g->tensors[1]);
  REQUIRE(w.ok());
  REQUIRE(*w == std::vector<std::int8_t>{1, 2, 7, -8, 0, -1, 0, 0, 0, 0, -1, 7});
}

TEST_CASE("The larger of the two operator codes counts", "[tflite]") {
  tflite_model m = tflite_residual_model();
  m.operators[0].code = 0;  // as written before the wide field existed
  m.operators[0].deprecated_code = 3;
  REQUIRE(refusal(m) == "accepted");
  m.operators[0].code = 150;
  m.operators[0].deprecated_code = 127;
  REQUIRE(contains(refusal(m), "operator 0 GELU: expected an operator that polymac runs, got builtin operator 150"));
}

TEST_CASE("Every builtin operator that is not run is refused by its name", "[tflite]") {
  namespace schema = polymac::io::tflite::schema;
  for (std::int32_t code = 0; code < 162; ++code) {
    if (schema::find_operator(code) != nullptr || code == schema::custom_code) continue;
    tflite_model m = tflite_residual_model();
    m.operators[1] = {code, {3, 0}, {4}, 0, {}};
    const std::string text = refusal(m);
    INFO(text);
    REQUIRE(contains(text, "operator 1 " + std::string(schema::operator_name(code)) + ": "));
    REQUIRE(code_of(m) == errc::unsupported);
  }
  tflite_model m = tflite_residual_model();
  m.operators[1].code = m.operators[1].deprecated_code = 32;
  m.operators[1].custom = "MyOperator";
  REQUIRE(contains(refusal(m), "operator 1 MyOperator: expected an operator that polymac runs, got a custom operator"));
}

TEST_CASE("Files that are not .tflite are refused", "[tflite]") {
  REQUIRE(refusal(std::vector<std::byte>{}) == "tflite: expected a file of at least 16 bytes, got 0");
  REQUIRE(refusal(std::vector<std::byte>(15)) == "tflite: expected a file of at least 16 bytes, got 15");
  REQUIRE(contains(refusal(std::vector<std::byte>(100)), "byte 4: expected the identifier TFL3"));
  REQUIRE(
      contains(refusal(changed(tflite_residual_model(), [](auto& m) { m.identifier = "TFL2"; })), "identifier TFL3"));
  require_refused({changed(tflite_residual_model(), [](auto& m) { m.version = 2; }), errc::unsupported,
                   "version: expected 3, got 2"});
  require_refused({changed(tflite_residual_model(), [](auto& m) { m.subgraphs = 0; }), errc::corrupt,
                   "subgraphs: expected at least 1, got 0"});
  require_refused({changed(tflite_residual_model(), [](auto& m) { m.operators.clear(); }), errc::corrupt,
                   "operators: expected at least 1, got 0"});
}

TEST_CASE("Further subgraphs are ignored, control flow is refused", "[tflite]") {
  tflite_model m = tflite_residual_model();
  m.subgraphs = 3;
  REQUIRE(refusal(m) == "accepted");
  m.operators[1] = {119, {3, 0}, {4}, 0, {}};
  REQUIRE(contains(refusal(m), "operator 1 WHILE: "));
}

TEST_CASE("Impossible tensors are refused", "[tflite]") {
  const tflite_model good = tflite_residual_model();
  const auto tensor = [&good](std::size_t i, auto change) {
    return changed(good, [&](tflite_model& m) { change(m.tensors[i]); });
  };
  using tt = tflite_tensor;
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const broken cases[] = {
      {tensor(1, [](tt& t) { t.data.pop_back(); }), errc::corrupt,
       "tensor 1 ('weights'): expected 36 bytes of constant data for int8 [2, 3, 3, 2], got 35"},
      {tensor(2, [](tt& t) { t.data.resize(12); }), errc::corrupt,
       "expected 8 bytes of constant data for int32 [2], got 12"},
      {tensor(0,
              [](tt& t) {
                t.shape = {1, 4, 0, 2};
              }),
       errc::shape, "extents of at least 1, got 0 for extent 2"},
      {tensor(0,
              [](tt& t) {
                t.shape = {1, 4, -4, 2};
              }),
       errc::shape, "extents of at least 1, got -4 for extent 2"},
      {tensor(0,
              [](tt& t) {
                t.shape = {1, 65536, 65536, 2};
              }),
       errc::shape, "expected at most 2147483648 elements, got shape [1, 65536, 65536, 2]"},
      {tensor(0, [](tt& t) { t.shape = std::vector<std::int32_t>(6, 2147483647); }), errc::shape, "expected at most"},
      {tensor(0, [](tt& t) { t.shape = {1, 1, 1, 1, 1, 4, 2}; }), errc::unsupported,
       "expected at most 6 extents, got 7"},
      {tensor(0, [](tt& t) { t.type = 5; }), errc::unsupported,
       "type: expected float, integer or bool, got TensorType 5"},
      {tensor(0, [](tt& t) { t.type = -1; }), errc::unsupported, "got TensorType -1"},
      {tensor(0, [](tt& t) { t.scales = {0.0F}; }), errc::parameter,
       "tensor 0 ('x'): scale 0: expected a finite value above 0, got 0 or less"},
      {tensor(0, [](tt& t) { t.scales = {-1.0F}; }), errc::parameter, "got 0 or less"},
      {tensor(0, [](tt& t) { t.scales = {nan}; }), errc::parameter, "got not a number"},
      {tensor(1,
              [](tt& t) {
                t.scales = {1.0F, infinity};
              }),
       errc::parameter, "scale 1: expected a finite value"},
      {tensor(0, [](tt& t) { t.zero_points = {128}; }), errc::parameter,
       "zero point 0: expected a value of -128 to 127 for int8, got 128"},
      {tensor(0, [](tt& t) { t.zero_points = {std::int64_t{1} << 32}; }), errc::parameter, "got 4294967296"},
      {tensor(0,
              [](tt& t) {
                t.zero_points = {0, 0};
              }),
       errc::corrupt, "expected 0, 1 or 1 zero points, got 2"},
      {tensor(1,
              [](tt& t) {
                t.scales = {1.0F, 1.0F, 1.0F}, t.zero_points = {0};
              }),
       errc::corrupt, "expected one scale for each index of axis 0 of [2, 3, 3, 2], got 3"},
      {tensor(1, [](tt& t) { t.axis = 4; }), errc::corrupt, "axis 4"},
      {tensor(1, [](tt& t) { t.axis = -1; }), errc::corrupt, "expected an axis of at least 0, got -1"},
      {tensor(0, [](tt& t) { t.quantization_details = 1; }), errc::unsupported, "got custom details"},
      {tensor(0, [](tt& t) { t.variable = true; }), errc::unsupported, "expected no variable tensor"},
      {tensor(1, [](tt& t) { t.sparse = true; }), errc::unsupported, "expected a dense tensor"},
      {tensor(1, [](tt& t) { t.buffer_index = 99; }), errc::corrupt, "buffer: expected an index below 3, got 99"},
  };
  for (const broken& b : cases) require_refused(b);
}

TEST_CASE("Absent and single zero points stand for all scales", "[tflite]") {
  tflite_model m = tflite_residual_model();
  m.tensors[1].zero_points = {};
  m.tensors[2].zero_points = {0};
  const auto file = write_tflite(m);
  const auto g = example::read_graph(file);
  INFO(g.status().text());
  REQUIRE(g.ok());
  REQUIRE(g->tensors[1].quantized.zero_points == std::vector<std::int32_t>{0, 0});
  REQUIRE(g->tensors[2].quantized.zero_points == std::vector<std::int32_t>{0, 0});
}

TEST_CASE("Graphs that cannot run are refused", "[tflite]") {
  const tflite_model good = tflite_residual_model();
  const auto with = [&good](auto change) { return changed(good, change); };
  using net = tflite_model;
  const broken cases[] = {
      {with([](net& m) {
         m.operators[0].inputs = {0, 1, 99};
       }),
       errc::corrupt, "operator 0 CONV_2D: inputs 2: expected a tensor from -1 to below 5, got 99"},
      {with([](net& m) {
         m.operators[0].inputs = {0, 1, -2};
       }),
       errc::corrupt, "got -2"},
      {with([](net& m) { m.operators[0].outputs = {-1}; }), errc::corrupt, "outputs 0: expected a tensor from 0"},
      {with([](net& m) { m.operators[0].opcode_index = 7; }), errc::corrupt,
       "opcode_index: expected an index below 2, got 7"},
      {with([](net& m) { m.operators[0].inputs = {0}; }), errc::corrupt,
       "operation 0 (conv2d): expected at least 2 inputs, got 1"},
      {with([](net& m) {
         m.operators[0].inputs = {0, 1, 2, 2};
       }),
       errc::corrupt, "expected at most 3 inputs, got 4"},
      {with([](net& m) {
         m.operators[0].inputs = {0, -1, 2};
       }),
       errc::corrupt, "input 1: expected a tensor, got none"},
      {with([](net& m) { m.operators[1].outputs = {}; }), errc::corrupt, "operation 1 (add): expected 1 output, got 0"},
      {with([](net& m) { std::swap(m.operators[0], m.operators[1]); }), errc::corrupt,
       "expected a constant, a graph input or an earlier result, got tensor 3, which nothing has written"},
      {with([](net& m) { m.operators[1].outputs = {3}; }), errc::corrupt, "got tensor 3, which is a constant"},
      {with([](net& m) { m.operators[1].outputs = {0}; }), errc::corrupt, "got tensor 0, which is a constant"},
      {with([](net& m) { m.inputs = {}; }), errc::corrupt, "graph: expected at least 1 input, got none"},
      {with([](net& m) { m.outputs = {}; }), errc::corrupt, "graph: expected at least 1 output, got none"},
      {with([](net& m) { m.inputs = {5}; }), errc::corrupt, "inputs 0: expected a tensor below 5, got 5"},
      {with([](net& m) { m.inputs = {-1}; }), errc::corrupt, "inputs 0: expected a tensor below 5, got -1"},
      {with([](net& m) { m.outputs = {-5}; }), errc::corrupt, "outputs 0: expected a tensor below 5, got -5"},
      {with([](net& m) {
         m.inputs = {0, 0};
       }),
       errc::corrupt, "graph input: tensor 0 is listed twice"},
      {with([](net& m) {
         m.inputs = {0, 1};
       }),
       errc::corrupt, "graph input: tensor 1 is a constant"},
      {with([](net& m) { m.outputs = {1}; }), errc::corrupt, "expected the result of an operation, got tensor 1"},
      {with([](net& m) { m.operators[0].options_type = 2; }), errc::corrupt, "builtin_options_type: expected 1, got 2"},
      {with([](net& m) { m.operators[0].options_type = 0; }), errc::corrupt, "expected a table of options, got none"},
      {with([](net& m) { m.operators[0].options_2_type = 1; }), errc::unsupported, "builtin_options_2"},
      {with([](net& m) { m.operators[0].options[0].value = std::int8_t{2}; }), errc::corrupt,
       "operator 0 CONV_2D: padding: expected 0 (same) or 1 (valid), got 2"},
      {with([](net& m) { m.operators[0].options[1].value = std::int32_t{0}; }), errc::parameter,
       "stride_w: expected at least 1, got 0"},
      {with([](net& m) { m.operators[0].options[5].value = std::int32_t{-1}; }), errc::parameter,
       "dilation_h_factor: expected at least 1, got -1"},
      {with([](net& m) { m.operators[0].options[3].value = std::int8_t{4}; }), errc::unsupported,
       "fused_activation_function: expected 0 (none), 1 (relu), 2 (relu_n1_to_1) or 3 (relu6), got 4"},
      {with([](net& m) { m.operators[0].options[1].value = std::int32_t{2}; }), errc::shape,
       "operation 0 (conv2d): output: expected shape [1, 4, 2, 2], got [1, 4, 4, 2]"},
      {with([](net& m) {
         m.tensors[0].shape = {1, 4, 4, 3};
       }),
       errc::shape, "weights: expected channels that divide the 3 of the input, got [2, 3, 3, 2]"},
      {with([](net& m) {
         m.tensors[0].shape = {4, 4, 2};
       }),
       errc::shape, "input 0: expected 4 extents, got [4, 4, 2]"},
      {with([](net& m) { m.tensors[2].type = tflite_float32; }), errc::unsupported,
       "bias: expected type int32 beside int8 activations, got float32"},
      {with([](net& m) {
         m.tensors[2].shape = {1}, m.tensors[2].data.resize(4), m.tensors[2].scales = {1.0F},
         m.tensors[2].zero_points = {0};
       }),
       errc::shape, "bias: expected 2 elements, got shape [1]"},
      {with([](net& m) { m.tensors[1].axis = 3; }), errc::unsupported,
       "weights: expected scales along axis 0, got axis 3"},
      {with([](net& m) {
         m.tensors[1].zero_points = {0, 1};
       }),
       errc::unsupported, "weights: expected zero points 0, got 1"},
      {with([](net& m) { m.tensors[1].scales = {}; }), errc::unsupported, "weights: expected scales, got none"},
      {with([](net& m) {
         m.tensors[1].data = {}, m.inputs = {0, 1};
       }),
       errc::unsupported, "weights: expected a constant, got a computed tensor"},
      {with([](net& m) { m.tensors[0].type = tflite_uint8, m.tensors[0].zero_points = {3}; }), errc::unsupported,
       "input 0: expected type float32, int8 or int16, got uint8"},
      {with([](net& m) {
         m.tensors[4].type = tflite_int16;
         m.tensors[4].zero_points = {0};
       }),
       errc::unsupported, "operation 1 (add): output: expected type int8, got int16"},
      {with([](net& m) { m.tensors[4].scales = {}; }), errc::unsupported,
       "output of type int8: expected 1 scale, got 0"},
  };
  for (const broken& b : cases) require_refused(b);
}

TEST_CASE("The rules of the other operators are checked", "[tflite]") {
  const auto real = [](auto change) { return changed(tflite_float_model(), change); };
  const auto classes = [](auto change) { return changed(tflite_classifier_model(), change); };
  using net = tflite_model;
  const broken cases[] = {
      {real([](net& m) {
         m.tensors[1].data = raw_bytes<std::int32_t>({0, 0, 1, 2, 2, 2, 0, 0});
       }),
       errc::shape, "operation 0 (pad): output: expected shape [1, 7, 8, 2], got [1, 7, 7, 2]"},
      {real([](net& m) {
         m.tensors[1].data = raw_bytes<std::int32_t>({0, 0, -1, 2, 2, 1, 0, 0});
       }),
       errc::parameter, "operator 0 PAD: paddings: expected values of 0 to 2147483647, got -1"},
      {real([](net& m) {
         m.tensors[1].shape = {2, 2}, m.tensors[1].data.resize(16);
       }),
       errc::shape, "paddings: expected 8 values, got 4"},
      {real([](net& m) { m.tensors[1].data.resize(31); }), errc::corrupt, "expected 32 bytes, got 31"},
      {real([](net& m) { m.tensors[1].type = tflite_float32; }), errc::unsupported,
       "paddings: tensor 'paddings': expected type int32"},
      {real([](net& m) { m.operators[1].options[3].value = std::int32_t{3}; }), errc::corrupt,
       "operator 1 DEPTHWISE_CONV_2D: depth_multiplier: expected 2 as the shapes have it, got 3"},
      {real([](net& m) {
         m.tensors[3].shape = {3, 3, 1, 4};
       }),
       errc::shape, "weights: expected shape [1, height, width, channels]"},
      {real([](net& m) { m.operators[2].options[3].value = std::int32_t{9}; }), errc::shape,
       "operation 2 (max_pool2d): expected an image of at least the window, 2 x 9"},
      {real([](net& m) {
         m.tensors[6].data = raw_bytes<std::int32_t>({1, 4});
       }),
       errc::parameter, "operator 3 MEAN: axis: expected -4 to 3, got 4"},
      {real([](net& m) { m.operators[3].options[0].value = true; }), errc::shape,
       "operation 3 (mean): output: expected shape [1, 1, 1, 4], got [1, 4]"},
      {real([](net& m) {
         m.tensors[8].data = raw_bytes<std::int32_t>({-1, -1});
       }),
       errc::shape,
       "operator 4 RESHAPE: new shape: expected one that gives the output tensor's [2, 2], got 2 extents that do not"},
      {real([](net& m) {
         m.tensors[9].shape = {2, 3};
       }),
       errc::shape, "operation 4 (reshape): output: expected the elements of [1, 4], got [2, 3]"},
      {classes([](net& m) {
         m.tensors[3].shape = {1, 4};
       }),
       errc::shape, "operation 0 (fully_connected): output: expected 1 rows of 3, got [1, 4]"},
      {classes([](net& m) {
         m.tensors[0].shape = {1, 5};
       }),
       errc::shape, "input 0: expected a multiple of 4 elements (weights [3, 4]), got [1, 5]"},
      {classes([](net& m) { m.operators[0].options[1].value = std::int8_t{1}; }), errc::unsupported,
       "weights_format: expected 0 (plain rows), got 1"},
      {classes([](net& m) { m.operators[1].options[0].value = 0.0F; }), errc::parameter,
       "operation 1 (softmax): expected a finite beta above 0"},
      {classes([](net& m) { m.tensors[4].zero_points = {0}; }), errc::unsupported,
       "output: expected scale 1/256 and zero point -128"},
      {classes([](net& m) {
         m.tensors[4].shape = {3, 1};
       }),
       errc::shape, "operation 1 (softmax): output: expected shape [1, 3], got [3, 1]"},
  };
  for (const broken& b : cases) require_refused(b);
}

TEST_CASE("Groups follow from the channels of the weights", "[tflite]") {
  tflite_model m = tflite_residual_model();
  m.tensors[1].shape = {2, 3, 3, 1};
  m.tensors[1].data.resize(18);
  const auto file = write_tflite(m);
  const auto g = example::read_graph(file);
  INFO(g.status().text());
  REQUIRE(g.ok());
  REQUIRE(g->operations[0].window.groups == 2);
}

TEST_CASE("Concatenation, conversions and activations are read", "[tflite]") {
  tflite_model m;
  m.tensors = {{"x", tflite_float32, {1, 2}, {}, {}, {}},
               {"q", tflite_int8, {1, 2}, {0.5F}, {3}, {}},
               {"r", tflite_int8, {1, 2}, {0.5F}, {3}, {}},
               {"c", tflite_int8, {2, 2}, {0.5F}, {3}, {}},
               {"y", tflite_float32, {2, 2}, {}, {}, {}}};
  m.operators = {{114, {0}, {1}, 89, {}},
                 {21, {1}, {2}, 0, {}},
                 {2, {1, 2}, {3}, 10, {{4, std::int32_t{-2}}, {6, std::int8_t{0}}}},
                 {6, {3}, {4}, 38, {}}};
  m.inputs = {0};
  m.outputs = {4};
  const auto file = write_tflite(m);
  const auto g = example::read_graph(file);
  INFO(g.status().text());
  REQUIRE(g.ok());
  REQUIRE(g->operations[2].axes == std::vector<std::size_t>{0});
  REQUIRE(g->operations[1].kind == model::operation_kind::relu6);
  require_refused({changed(m, [](auto& c) { c.tensors[2].zero_points = {4}; }), errc::unsupported,
                   "operation 2 (concatenate): inputs: expected the scale and zero point of the output"});
  require_refused({changed(m, [](auto& c) { c.operators[2].options[0].value = std::int32_t{2}; }), errc::parameter,
                   "operator 2 CONCATENATION: axis: expected -2 to 1, got 2"});
  require_refused({changed(m, [](auto& c) { c.tensors[4].type = tflite_int8; }), errc::unsupported,
                   "operation 3 (dequantize): output: expected type float32, got int8"});
}

TEST_CASE("A file cut at any length is refused and never read past its end", "[tflite]") {
  // Some cuts take only the padding behind the last table; those may still be accepted.
  for (const tflite_model& m : {tflite_residual_model(), tflite_float_model(), tflite_classifier_model()}) {
    const auto file = write_tflite(m);
    for (std::size_t length = 0; length < file.size(); ++length) {
      const std::vector<std::byte> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(length));
      const std::string text = refusal(cut);
      INFO("length " << length << ": " << text);
      REQUIRE((text != "accepted" || length + 16 >= file.size()));
      if (text != "accepted") REQUIRE(contains(text, "expected"));
    }
  }
}

TEST_CASE("Offsets are given for damage inside a table", "[tflite]") {
  auto file = write_tflite(tflite_residual_model());
  const std::uint32_t far = 0x7FFFFFFF;
  std::memcpy(file.data(), &far, 4);  // the offset of the root
  REQUIRE(contains(refusal(file), "tflite: model 0: expected at byte 0 an offset to a table inside the"));
}
