// SPDX-License-Identifier: MIT
// From an ONNX case to the layers of a transformer beside its products: rotary embedding, norms, gated units.
#pragma once

#include "catch.hpp"
#include "support/onnx_products.hpp"

#include <polymac/layer/gated.hpp>
#include <polymac/layer/layer_norm.hpp>
#include <polymac/layer/rms_norm.hpp>
#include <polymac/layer/rope.hpp>

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

namespace polymac_test::onnx {

/// RotaryEmbedding: [batch][head][token][size], or [batch][token][head x size] with an attribute num_heads; tables by
/// position, or without position ids one row for each token.
inline void run_rotary_embedding(const onnx_case& c, const onnx_node& n) {
  using polymac::layer::rope_pairs;
  const case_tensor &x = c.need(n, 0), &cosines = c.need(n, 1), &sines = c.need(n, 2);
  const auto rotary = static_cast<std::size_t>(n.integer("rotary_embedding_dim", 0));
  const bool by_head = x.dims.size() == 4;
  const auto heads = by_head ? x.dims.at(1) : static_cast<std::size_t>(n.integer("num_heads", 0));
  if ((!by_head && x.dims.size() != 3) || heads == 0)
    throw case_error("RotaryEmbedding: expected 3 axes and num_heads, or 4");
  const std::size_t batch = x.dims[0], tokens = x.dims[by_head ? 2 : 1];
  const std::size_t size = by_head ? x.dims[3] : x.dims[2] / heads;
  const std::size_t pairs = cosines.dims.back();
  if (rotary != 0 && rotary != 2 * pairs) throw case_error("RotaryEmbedding: tables of another width");
  const auto cos_values = cosines.values<float>(), sin_values = sines.values<float>();
  const polymac::layer::rope rope(size, polymac::matrix_view(cos_values.data(), cos_values.size() / pairs, pairs),
                                  polymac::matrix_view(sin_values.data(), sin_values.size() / pairs, pairs),
                                  n.integer("interleaved", 0) != 0 ? rope_pairs::adjacent : rope_pairs::halves);
  std::vector<std::size_t> positions(batch * tokens);
  std::iota(positions.begin(), positions.end(), std::size_t{0});
  if (const case_tensor* ids = c.input(n, 3); ids != nullptr) {
    const auto given = ids->integers();
    positions.assign(given.begin(), given.end());
  }
  const auto values = x.values<float>();
  std::vector<float> y(values.size());
  const auto view = [&](auto* data) {
    using view_type = polymac::heads_view<std::remove_pointer_t<decltype(data)>>;
    return by_head ? view_type::by_head(data, batch, tokens, heads, size)
                   : view_type::by_token(data, batch, tokens, heads, size);
  };
  CHECK(rope(view(values.data()), positions, view(y.data())).text() == "");
  compare(c.expected.at(0), y);
}

/// RMSNormalization and LayerNormalization, over the axes from `axis` on joined to one row. The latter's statistics (a
/// second and third output) are none of polymac's.
template <class Layer>
void run_normalization(const onnx_case& c, const onnx_node& n) {
  const case_tensor& x = c.need(n, 0);
  const auto rank = static_cast<std::int64_t>(x.dims.size());
  std::int64_t axis = n.integer("axis", -1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) throw case_error(n.op + ".axis: outside of the axes");
  const std::size_t columns = product(x.dims, static_cast<std::size_t>(axis), x.dims.size());
  const auto values = x.values<float>(), weight = c.need(n, 1).values<float>();
  const float epsilon = n.real("epsilon", 1e-5f);
  std::vector<float> y(values.size());
  const auto run = [&](const Layer& layer) {
    const std::size_t rows = x.count() / columns;
    CHECK(layer(polymac::matrix_view<const float>(values.data(), rows, columns),
                polymac::matrix_view(y.data(), rows, columns))
              .text() == "");
    compare(c.expected.at(0), y);
  };
  if constexpr (std::is_same_v<Layer, polymac::layer::layer_norm>) {
    const case_tensor* bias = c.input(n, 2);
    run(Layer(weight, bias != nullptr ? bias->values<float>() : std::vector<float>{}, epsilon));
  } else {
    run(Layer(weight, epsilon));
  }
}

/// SwiGLU(a, b) = a sigmoid(alpha a) b, by a gated unit whose weights pick b and a from the row [a b].
inline void run_swiglu(const onnx_case& c, const onnx_node& n) {
  const case_tensor &a = c.need(n, 0), &b = c.need(n, 1);
  if (a.dims != b.dims) throw case_error("SwiGLU: inputs of two shapes");
  const std::size_t columns = a.dims.back(), rows = a.count() / columns;
  const auto gates = a.values<float>(), values = b.values<float>();
  std::vector<float> w(columns * 2 * columns), v(w.size()), x(rows * 2 * columns), y(rows * columns);
  for (std::size_t o = 0; o < columns; ++o) w[o * 2 * columns + columns + o] = v[o * 2 * columns + o] = 1.0f;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t o = 0; o < columns; ++o) {
      x[r * 2 * columns + o] = gates[r * columns + o];
      x[r * 2 * columns + columns + o] = values[r * columns + o];
    }
  const auto layer = polymac::gated<polymac::mac::float32, polymac::activation::silu>(
      polymac::matrix_view<const float>(w.data(), columns, 2 * columns),
      polymac::matrix_view<const float>(v.data(), columns, 2 * columns), {}, {n.real("alpha", 1.0f)});
  CHECK(layer(polymac::matrix_view<const float>(x.data(), rows, 2 * columns),
              polymac::matrix_view(y.data(), rows, columns))
            .text() == "");
  compare(c.expected.at(0), y);
}

/// An activation by itself.
template <class Function>
void run_function(const onnx_case& c, const onnx_node& n, const Function& f) {
  auto x = c.need(n, 0).values<float>();
  polymac::kernel::apply(f, x.data(), x.data(), x.size());
  compare(c.expected.at(0), x);
}

}  // namespace polymac_test::onnx
