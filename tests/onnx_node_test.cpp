// SPDX-License-Identifier: MIT
// Operator cases of ONNX (data/onnx_node): convolutions, matrix products, pooling, softmax, activations, norms, rotary
// embedding, gated units, attention.
//
// The operator chooses the layer; a case that polymac can run must agree (integers exactly, floats to 1e-5), others are
// counted with the reason.
#include "catch.hpp"
#include "support/data.hpp"
#include "support/onnx_attention.hpp"
#include "support/onnx_products.hpp"
#include "support/onnx_transformer.hpp"

#include <polymac/epilogue/activation.hpp>
#include <polymac/layer/map.hpp>
#include <polymac/layer/pool.hpp>
#include <polymac/layer/softmax.hpp>

#include <iostream>
#include <limits>
#include <map>
#include <string>

using namespace polymac_test;
using namespace polymac_test::onnx;

namespace {

/// AveragePool, MaxPool and their global forms. A second output (the indices of the maxima) is none of polymac's.
template <class Layer>
void run_pool(const onnx_case& c, const onnx_node& n, const auto&... options) {
  using T = typename Layer::output;
  const case_tensor& x = c.need(n, 0);
  const image_dims in(x.dims), out(c.expected.at(0).dims);
  const bool one_axis = x.dims.size() == 3;
  std::size_t height = in.height, width = in.width;
  if (n.op.rfind("Global", 0) != 0) {
    const auto kernel = n.integers("kernel_shape", {});
    if (kernel.size() != (one_axis ? 1u : 2u) || kernel.front() < 1 || kernel.back() < 1)
      throw case_error(n.op + ".kernel_shape: expected one number above 0 for each axis");
    height = one_axis ? 1 : static_cast<std::size_t>(kernel[0]);
    width = static_cast<std::size_t>(kernel.back());
  }
  const Layer layer(window_of(n, height, width, one_axis), {}, options...);
  const auto input = channels_last(x.values<T>(), in);
  std::vector<T> y(out.count());
  const auto status = layer(polymac::image_view(input.data(), in.batch, in.height, in.width, in.channels),
                            polymac::image_view(y.data(), out.batch, out.height, out.width, out.channels));
  CHECK(status.text() == "");
  compare(c.expected[0], channels_first(y, out));
}

/// Softmax over one axis; before opset 13 over all axes from that one on.
void run_softmax(const onnx_case& c, const onnx_node& n) {
  const case_tensor& x = c.need(n, 0);
  const auto rank = static_cast<std::int64_t>(x.dims.size());
  std::int64_t axis = n.integer("axis", c.opset < 13 ? 1 : -1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) throw case_error("Softmax.axis: outside of the axes");
  const auto at = static_cast<std::size_t>(axis);
  const std::size_t outer = product(x.dims, 0, at);
  const std::size_t length = c.opset < 13 ? product(x.dims, at, x.dims.size()) : x.dims[at];
  const std::size_t inner = x.count() / (outer * length);
  const auto values = x.values<float>();
  std::vector<float> rows(values.size()), y(values.size());
  // outer x length x inner <-> (outer x inner) x length
  const auto row_index = [&](std::size_t o, std::size_t k, std::size_t i) { return (o * inner + i) * length + k; };
  for (std::size_t i = 0; i < values.size(); ++i)
    rows[row_index(i / (length * inner), i / inner % length, i % inner)] = values[i];
  const auto status =
      polymac::layer::softmax<float>()(polymac::matrix_view<const float>(rows.data(), outer * inner, length),
                                       polymac::matrix_view(rows.data(), outer * inner, length));
  CHECK(status.text() == "");
  for (std::size_t i = 0; i < y.size(); ++i)
    y[i] = rows[row_index(i / (length * inner), i / inner % length, i % inner)];
  compare(c.expected.at(0), y);
}

template <class Stage>
void run_activation(const onnx_case& c, const onnx_node& n, const Stage& stage) {
  const auto x = c.need(n, 0).values<float>();
  std::vector<float> y(x.size());
  const auto layer = polymac::layer::make_map<float>(stage);
  const auto status = layer(polymac::matrix_view(x.data(), 1, x.size()), polymac::matrix_view(y.data(), 1, y.size()));
  CHECK(status.text() == "");
  compare(c.expected.at(0), y);
}

/// Runs the case; else says why polymac cannot.
std::string run(const onnx_case& c) {
  if (c.nodes.size() != 1) return "graphs of several nodes";
  const onnx_node& n = c.nodes[0];
  const case_tensor* x = c.input(n, 0);
  if (x == nullptr || c.expected.empty()) return n.op;
  const std::string& type = x->type;
  const std::string& result = c.expected[0].type;
  const bool float32 = type == "f32" && result == "f32", u8 = type == "u8", i8 = type == "i8";
  const bool to_u8 = result == "u8", to_i8 = result == "i8";
  const bool conv = n.op == "Conv" || n.op == "ConvInteger" || n.op == "QLinearConv";
  const bool average = n.op == "AveragePool" || n.op == "GlobalAveragePool";
  const bool largest = n.op == "MaxPool" || n.op == "GlobalMaxPool";
  if ((conv || average || largest) && x->dims.size() > 4) return n.op + " in three dimensions";

  if (n.op == "Conv" && float32) return run_conv(c, n), "";
  if (n.op == "ConvInteger" && u8) return run_conv_integer<std::uint8_t>(c, n), "";
  if (n.op == "ConvInteger" && i8) return run_conv_integer<std::int8_t>(c, n), "";
  if (n.op == "QLinearConv" && u8 && to_u8) return run_qlinear_conv<std::uint8_t, std::uint8_t>(c, n), "";
  if (n.op == "QLinearConv" && i8 && to_i8) return run_qlinear_conv<std::int8_t, std::int8_t>(c, n), "";
  if (n.op == "MatMul" && float32) return run_matmul(c, n), "";
  if (n.op == "Gemm" && float32) return run_gemm(c, n), "";
  if (n.op == "MatMulInteger" && u8) return run_matmul_integer<std::uint8_t>(c, n), "";
  if (n.op == "MatMulInteger" && i8) return run_matmul_integer<std::int8_t>(c, n), "";
  if (n.op == "QLinearMatMul" && u8 && to_u8) return run_qlinear_matmul<std::uint8_t, std::uint8_t>(c, n), "";
  if (n.op == "QLinearMatMul" && i8 && to_i8) return run_qlinear_matmul<std::int8_t, std::int8_t>(c, n), "";

  using namespace polymac::layer;
  const average_options counting{n.integer("count_include_pad", 0) != 0, 0};
  if (average && float32) return run_pool<average_pool2d<float>>(c, n, counting), "";
  if (largest && float32) return run_pool<max_pool2d<float>>(c, n), "";
  if (largest && u8) return run_pool<max_pool2d<std::uint8_t>>(c, n), "";
  if (largest && i8) return run_pool<max_pool2d<std::int8_t>>(c, n), "";
  if (n.op == "Softmax" && float32) return run_softmax(c, n), "";
  if (n.op == "Relu" && float32) return run_activation(c, n, polymac::relu), "";
  if (n.op == "LeakyRelu" && float32) return run_activation(c, n, polymac::leaky_relu(n.real("alpha", 0.01f))), "";
  namespace activation = polymac::activation;
  if (n.op == "Sigmoid" && float32) return run_function(c, n, activation::sigmoid{}), "";
  if (n.op == "Tanh" && float32) return run_function(c, n, activation::tanh{}), "";
  if (n.op == "Swish" && float32) return run_function(c, n, activation::silu{n.real("alpha", 1.0f)}), "";
  if (n.op == "Gelu" && float32)
    return n.text("approximate", "none") == "tanh" ? (run_function(c, n, activation::gelu_tanh{}), "")
                                                   : (run_function(c, n, activation::gelu{}), "");
  if (n.op == "RotaryEmbedding" && float32) return run_rotary_embedding(c, n), "";
  if (n.op == "RMSNormalization" && float32) return run_normalization<rms_norm>(c, n), "";
  if (n.op == "LayerNormalization" && float32) return run_normalization<layer_norm>(c, n), "";
  if (n.op == "SwiGLU" && float32) return run_swiglu(c, n), "";
  if (n.op == "Attention" && (float32 || type == "f16")) return run_attention(c, n), "";
  return n.op + (conv || average || largest ? " of " + type : "");
}

}  // namespace

TEST_CASE("ONNX operator cases") {
  const auto folder = find_data("onnx_node");
  if (!folder) return;
  const onnx_cases cases(*folder);
  REQUIRE(!cases.all().empty());
  std::map<std::string, int> covered, not_covered;
  for (const onnx_case& c : cases.all()) {
    CAPTURE(c.name);
    try {
      const std::string why_not = run(c);
      ++(why_not.empty() ? covered[c.nodes[0].op] : not_covered[why_not]);
    } catch (const std::exception& e) {  // a case that cannot be read, or parameters that a layer refuses
      FAIL_CHECK(e.what());
    }
  }
  const auto print = [](const char* title, const std::map<std::string, int>& counts) {
    int total = 0;
    for (const auto& [name, count] : counts) total += count;
    std::cout << title << ": " << total << " cases\n";
    for (const auto& [name, count] : counts) std::cout << "  " << count << ' ' << name << '\n';
  };
  print("covered", covered);
  print("not covered (operators or number types that polymac does not have)", not_covered);
}
