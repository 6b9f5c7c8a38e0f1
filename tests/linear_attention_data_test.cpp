// SPDX-License-Identifier: MIT
// The cases LinearAttention of ONNX (data/onnx_node): all update rules, states, shared heads, half precision.
#include "catch.hpp"
#include "support/compare.hpp"
#include "support/data.hpp"
#include "support/onnx_cases.hpp"

#include <polymac/core/float16.hpp>
#include <polymac/layer/linear_attention.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

using namespace polymac;
using namespace polymac_test;

namespace {

using floats = std::vector<float>;

floats numbers(const case_tensor& t) {
  if (t.type == "f32") return t.values<float>();
  if (t.type != "f16") throw case_error(t.name + ": expected f32 or f16, got " + t.type);
  std::vector<std::uint16_t> bits(t.count());
  if (t.bytes.size() != 2 * bits.size()) throw case_error(t.name + ": expected two bytes for each element");
  std::memcpy(bits.data(), t.bytes.data(), t.bytes.size());
  floats v;
  for (const std::uint16_t b : bits) v.push_back(float16::from_bits(b));
  return v;
}

update_rule rule_of(const std::string& name) {
  const char* const names[] = {"linear", "gated", "delta", "gated_delta"};
  const auto found = std::find(std::begin(names), std::end(names), name);
  if (found == std::end(names)) throw case_error("update_rule: expected one of four, got " + name);
  return static_cast<update_rule>(found - std::begin(names));
}

void run(const onnx_case& c, std::size_t chunk) {
  const onnx_node& n = c.nodes.at(0);
  const case_tensor &q = c.need(n, 0), &k = c.need(n, 1), &v = c.need(n, 2);
  const auto query_heads = static_cast<std::size_t>(n.integer("q_num_heads", 0));
  const auto key_heads = static_cast<std::size_t>(n.integer("kv_num_heads", 0));
  const linear_attention_shape shape{query_heads, key_heads, q.dims.at(2) / query_heads, v.dims.at(2) / key_heads};
  const layer::linear_attention<> layer(shape,
                                        {rule_of(n.text("update_rule", "gated_delta")), n.real("scale", 0.0f), chunk});
  const std::size_t batch = q.dims[0], tokens = q.dims[1];
  std::vector<floats> memory;
  memory.reserve(6);
  const auto view = [&](const case_tensor* t, std::size_t heads) {
    if (t == nullptr) return heads_view<const float>();
    memory.push_back(numbers(*t));
    const std::size_t size = t->dims.at(2) / heads;
    return size == 0  // one number for all heads
               ? heads_view<const float>(memory.back().data(), batch, tokens, heads, 1, tokens, 1, 0)
               : heads_view<const float>::by_token(memory.back().data(), batch, tokens, heads, size);
  };
  const linear_attention_inputs in{view(&q, query_heads),
                                   view(&k, key_heads),
                                   view(&v, key_heads),
                                   view(c.input(n, 4), key_heads),
                                   view(c.input(n, 5), key_heads),
                                   view(c.input(n, 6), key_heads)};
  const case_tensor* const past = c.input(n, 3);
  floats state = past != nullptr ? numbers(*past) : floats(batch * layer.state_size());
  floats y(batch * tokens * query_heads * shape.value_size);
  std::vector<std::byte> ws(layer.workspace_bytes(tokens));
  const auto done =
      layer(in, heads_view<float>::by_head(state.data(), batch, shape.key_size, key_heads, shape.value_size),
            heads_view<float>::by_token(y.data(), batch, tokens, query_heads, shape.value_size), workspace(ws));
  CHECK(done.text() == "");
  // Half precision: the goldens are sums in float, too, rounded in the end.
  const bool half = q.type == "f16";
  CHECK(difference(numbers(c.expected.at(0)), y, half ? 5e-4 : 1e-5, half ? 1e-6 : 1e-6) == "");
  CHECK(difference(numbers(c.expected.at(1)), state, half ? 5e-4 : 1e-5, half ? 1e-6 : 1e-6) == "");
}

}  // namespace

TEST_CASE("ONNX cases of LinearAttention") {
  const auto folder = find_data("onnx_node");
  if (!folder) return;
  const onnx_cases cases(*folder);
  int found = 0;
  for (const onnx_case& c : cases.all()) {
    if (c.nodes.size() != 1 || c.nodes[0].op != "LinearAttention") continue;
    ++found;
    for (const std::size_t chunk : {std::size_t{1}, std::size_t{64}}) {
      CAPTURE(c.name, chunk);
      try {
        run(c, chunk);
      } catch (const std::exception& e) {
        FAIL_CHECK(e.what());
      }
    }
  }
  CHECK(found > 0);
  std::cout << "LinearAttention: " << found << " cases, token by token and in chunks\n";
}
