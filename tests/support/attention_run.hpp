// SPDX-License-Identifier: MIT
// Calls attention with a workspace that is exactly as large as asked for, at an odd address and full of NaN between
// guard bytes, and without heap.
#pragma once

#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/attention_reference.hpp"

#include <polymac/kernel/online_softmax.hpp>
#include <polymac/layer/attention.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace polymac_test {

/// What else a call may be given.
struct call {
  polymac::layer::attention_mask mask{};
  std::vector<std::size_t> counts{};
  polymac::layer::attention_part part{};
  std::span<polymac::kernel::softmax_sums> sums{};
};

/// Lends `bytes` to f(workspace) and looks whether it kept to them.
template <class Function>
void with_workspace(std::size_t bytes, const Function& f) {
  constexpr std::size_t guard = 64 + 3;
  std::vector<std::byte> memory(bytes + 2 * guard, std::byte{0xFF});
  std::fill_n(memory.begin(), guard, std::byte{0x5A});
  std::fill_n(memory.end() - guard, guard, std::byte{0x5A});
  polymac::status status;
  {
    const no_allocation trap;
    status = f(polymac::workspace(memory.data() + guard, bytes));
  }
  CHECK(status.text() == "");
  const auto untouched = [](std::byte b) { return b == std::byte{0x5A}; };
  CHECK(std::all_of(memory.begin(), memory.begin() + guard, untouched));
  CHECK(std::all_of(memory.end() - guard, memory.end(), untouched));
}

inline std::size_t extent(const polymac::row_range& part, std::size_t all) {
  const std::size_t end = std::min(part.end, all);
  return end > part.begin ? end - part.begin : 0;
}

/// y of a call, [batch][query][head][element]; what the call leaves alone is 7.
template <class Attention>
std::vector<float> run(const Attention& layer, const polymac::heads_view<const float>& q,
                       const polymac::heads_view<const float>& k, const polymac::heads_view<const float>& v,
                       const call& c = {}) {
  heads y(q.batch, q.tokens, q.heads, v.size);
  std::fill(y.values.begin(), y.values.end(), 7.0f);
  const auto out = y.view();
  with_workspace(layer.workspace_bytes(extent(c.part.queries, q.tokens), extent(c.part.keys, k.tokens)),
                 [&](polymac::workspace ws) { return layer(q, k, v, out, ws, c.mask, c.counts, c.part, {c.sums}); });
  return y.values;
}
template <class Attention>
std::vector<float> run(const Attention& layer, const heads& q, const heads& k, const heads& v, const call& c = {}) {
  return run(layer, q.view(), k.view(), v.view(), c);
}
/// The same over a cache.
template <class Attention, class Cache>
std::vector<float> run(const Attention& layer, const heads& q, const Cache& cache, const call& c = {}) {
  heads y(1, q.tokens, q.count, layer.shape().value_size);
  std::fill(y.values.begin(), y.values.end(), 7.0f);
  const auto out = y.view();
  with_workspace(layer.workspace_bytes(extent(c.part.queries, q.tokens), cache),
                 [&](polymac::workspace ws) { return layer(q.view(), cache, out, ws, c.mask, c.part, {c.sums}); });
  return y.values;
}

}  // namespace polymac_test
