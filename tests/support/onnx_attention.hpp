// SPDX-License-Identifier: MIT
// From an ONNX case to attention, over views and, where there are past keys and values, over caches, too.
#pragma once

#include "catch.hpp"
#include "support/onnx_products.hpp"

#include <polymac/layer/attention.hpp>
#include <polymac/layer/kv_cache.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace polymac_test::onnx {

/// A tensor of f32, or of f16 widened.
inline std::vector<float> floats_of(const case_tensor& t) {
  if (!t.is("f16")) return t.values<float>();
  const auto wide = scales_of(t);
  if (wide.size() != t.count()) throw case_error("tensor " + t.name + ": too few bytes");
  return {wide.begin(), wide.end()};
}

/// Vectors of heads: [batch][head][token][size], or [batch][token][head x size].
struct head_tensor {
  std::size_t batch, tokens, heads, size;
  bool by_head;
  std::vector<float> values;

  head_tensor(const case_tensor& t, std::int64_t head_count) : by_head(t.dims.size() == 4), values(floats_of(t)) {
    if (!by_head && (t.dims.size() != 3 || head_count <= 0 || t.dims[2] % static_cast<std::size_t>(head_count) != 0))
      throw case_error("Attention: expected 4 axes, or 3 and a number of heads that divides the last, for " + t.name);
    batch = t.dims[0];
    heads = by_head ? t.dims[1] : static_cast<std::size_t>(head_count);
    tokens = t.dims[by_head ? 2 : 1];
    size = by_head ? t.dims[3] : t.dims[2] / heads;
  }
  head_tensor(std::size_t b, std::size_t t, std::size_t h, std::size_t s, bool heads_first)
      : batch(b), tokens(t), heads(h), size(s), by_head(heads_first), values(b * t * h * s) {}
  template <class T>
  polymac::heads_view<T> view_of(T* data) const {
    return by_head ? polymac::heads_view<T>::by_head(data, batch, tokens, heads, size)
                   : polymac::heads_view<T>::by_token(data, batch, tokens, heads, size);
  }
  polymac::heads_view<float> view() { return view_of(values.data()); }
  polymac::heads_view<const float> view() const { return view_of(values.data()); }
  /// Sequence n alone.
  polymac::heads_view<const float> sequence(std::size_t n) const {
    auto one = view();
    one.data += n * one.batch_stride;
    one.batch = 1;
    return one;
  }
  /// These tokens behind those of `past`, which has its heads first as `present` does.
  head_tensor behind(const head_tensor& past) const {
    head_tensor all(batch, past.tokens + tokens, heads, size, true);
    for (std::size_t n = 0; n < batch; ++n)
      for (std::size_t h = 0; h < heads; ++h)
        for (std::size_t t = 0; t < all.tokens; ++t) {
          const bool old = t < past.tokens;
          std::copy_n(old ? past.view().at(n, t, h) : view().at(n, t - past.tokens, h), size, all.view().at(n, t, h));
        }
    return all;
  }
};

/// A mask of any rank up to 4, of which the last axis may be too short: what it lacks is not seen.
class mask_tensor {
 public:
  mask_tensor(const case_tensor* t, std::size_t keys) {
    if (t == nullptr) return;
    if (t->dims.size() < 2 || t->dims.size() > 4) throw case_error("Attention: a mask of 2 to 4 axes");
    const std::size_t width = t->dims.back(), rows = t->count() / width;
    if (width > keys) throw case_error("Attention: a mask wider than the keys");
    if (t->is("bool")) {
      kept_.reset(new bool[rows * keys]());
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t j = 0; j < width; ++j)
          kept_[r * keys + j] = std::to_integer<int>(t->bytes[r * width + j]) != 0;
      mask_.kept = kept_.get();
    } else {
      added_.assign(rows * keys, -std::numeric_limits<float>::infinity());
      const auto values = floats_of(*t);
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t j = 0; j < width; ++j) added_[r * keys + j] = values[r * width + j];
      mask_.added = added_.data();
    }
    std::size_t stride = keys;
    std::size_t* const strides[] = {&mask_.query_stride, &mask_.head_stride, &mask_.batch_stride};
    for (std::size_t axis = 1; axis < t->dims.size(); ++axis) {
      const std::size_t extent = t->dims[t->dims.size() - 1 - axis];
      if (extent != 1) *strides[axis - 1] = stride;
      stride *= extent;
    }
  }
  /// Hides the keys behind place i + offset of query i.
  void add_causal(std::size_t offset, std::size_t queries, std::size_t keys) {
    if (mask_.query_stride == 0 || mask_.added == nullptr)
      throw case_error("Attention: expected a mask that adds to each query");
    for (std::size_t r = 0; r < added_.size() / keys; ++r)
      for (std::size_t j = r % queries + offset + 1; j < keys; ++j)
        added_[r * keys + j] = -std::numeric_limits<float>::infinity();
  }
  polymac::layer::attention_mask of(std::size_t n = 0) const {
    auto mask = mask_;
    if (mask.added != nullptr) mask.added += n * mask.batch_stride;
    if (mask.kept != nullptr) mask.kept += n * mask.batch_stride;
    return mask;
  }

 private:
  std::vector<float> added_;
  std::unique_ptr<bool[]> kept_;
  polymac::layer::attention_mask mask_{};
};

/// Attention. Its fourth output, the scores of all keys, is none of polymac's, which never has them all at once.
inline void run_attention(const onnx_case& c, const onnx_node& n) {
  using polymac::layer::causal;
  const bool half = c.need(n, 0).is("f16");
  const head_tensor q(c.need(n, 0), n.integer("q_num_heads", 0));
  const std::int64_t key_heads = n.integer("kv_num_heads", 0);
  const head_tensor new_keys(c.need(n, 1), key_heads), new_values(c.need(n, 2), key_heads);
  const case_tensor *past_keys = c.input(n, 4), *past_values = c.input(n, 5), *counts = c.input(n, 6);
  const bool continues = past_keys != nullptr;
  if (continues != (past_values != nullptr)) throw case_error("Attention: past keys without past values");
  const auto output = [&](std::size_t index) -> const case_tensor* {
    if (index >= n.outputs.size() || n.outputs[index].empty()) return nullptr;
    for (const case_tensor& t : c.expected)
      if (t.name == n.outputs[index]) return &t;
    throw case_error("Attention: no output " + n.outputs[index]);
  };
  const auto check = [&](const case_tensor& expected, const std::vector<float>& got) {
    if (half)
      CHECK(difference(floats_of(expected), got, 2e-3, 1e-3) == "");
    else
      compare(expected, got);
  };

  const head_tensor keys = continues ? new_keys.behind(head_tensor(*past_keys, 0)) : new_keys;
  const head_tensor values = continues ? new_values.behind(head_tensor(*past_values, 0)) : new_values;
  if (const case_tensor* present = output(1)) check(*present, keys.values);
  if (const case_tensor* present = output(2)) check(*present, values.values);
  polymac::layer::attention_options options;
  options.scale = n.real("scale", 0.0f);
  options.softcap = n.real("softcap", 0.0f);
  // The first query stands behind the past keys, or with the keys that count at the end; with as many new keys as
  // queries both is bottom_right. Else the mask says so.
  const bool is_causal = n.integer("is_causal", 0) != 0, by_mask = continues && new_keys.tokens != q.tokens;
  if (is_causal && !by_mask)
    options.direction = continues || counts != nullptr ? causal::bottom_right : causal::top_left;
  const polymac::layer::attention<> layer({q.heads, keys.heads, keys.size, values.size}, options);
  mask_tensor mask(c.input(n, 3), keys.tokens);
  if (is_causal && by_mask) mask.add_causal(keys.tokens - new_keys.tokens, q.tokens, keys.tokens);
  std::vector<std::size_t> key_counts;
  if (counts != nullptr)
    for (const std::int64_t count : counts->integers()) key_counts.push_back(static_cast<std::size_t>(count));

  head_tensor y(q.batch, q.tokens, q.heads, values.size, q.by_head);
  std::vector<std::byte> memory(layer.workspace_bytes(q.tokens, keys.tokens));
  CHECK(
      layer(q.view(), keys.view(), values.view(), y.view(), polymac::workspace(memory), mask.of(), key_counts).text() ==
      "");
  const case_tensor* const result = output(0);
  if (result == nullptr) throw case_error("Attention: no result");
  check(*result, y.values);

  if (!continues) return;
  const head_tensor old_keys(*past_keys, 0), old_values(*past_values, 0);
  std::fill(y.values.begin(), y.values.end(), 0.0f);
  for (std::size_t b = 0; b < q.batch; ++b) {
    polymac::layer::kv_cache<polymac::mac::float32> cache({keys.heads, keys.size, values.size, keys.tokens});
    CHECK(cache.append(old_keys.sequence(b), old_values.sequence(b)).text() == "");
    CHECK(cache.append(new_keys.sequence(b), new_values.sequence(b)).text() == "");
    auto to = y.view();
    to.data = to.at(b, 0, 0);
    to.batch = 1;
    memory.resize(layer.workspace_bytes(q.tokens, cache));
    CHECK(layer(q.sequence(b), cache, to, polymac::workspace(memory), mask.of(b)).text() == "");
  }
  check(*result, y.values);
}

}  // namespace polymac_test::onnx
