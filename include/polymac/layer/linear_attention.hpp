// SPDX-License-Identifier: MIT
// Linear attention with a state: what tokens leave behind is a matrix of keys x values for each head, whatever their
// number. The operator LinearAttention of ONNX (opset 27), in its four update rules.
//
//     S_t = f_t S_{t-1} + k_t u_t'        f_t = exp(decay_t), one for a head or one for each key      gated, else 1
//     u_t = v_t                           or beta_t (v_t - (f_t S_{t-1})' k_t)                        delta rule
//     y_t = scale S_t' q_t
//
// Token by token a state is changed in place (kernel/recurrent_state.hpp). Several tokens together are products of the
// loop nest (layer::product), a chunk of C tokens at a time, where a head has one decay: with G_i = decay_1 + ... +
// decay_i and E_ij = exp(G_i - G_j) for j <= i, else 0,
//
//     u_i = beta_i (v_i - exp(G_i) S' k_i - sum over j < i of E_ij (k_i . k_j) u_j)      [K; Q] S,  [K; Q] K'
//     Y   = scale (exp(G) Q S + (E o Q K') U)                                            times U
//     S   = exp(G_C) S + sum over j of E_Cj k_j u_j'                                     K' U
//
// (Yang et al., Parallelizing linear transformers with the delta rule over sequence length, NeurIPS 2024; with decay:
// Gated delta networks, ICLR 2025.) The sum over j < i is a triangular system: u_i needs those before it, so it is no
// contraction; it has C / 2 of the 3 keys + C products for each value. G and its differences are in double, and every
// E_ij is made of one difference: nothing overflows that does not have to. With a decay for each key no E_ij would do
// for all keys, and exp(-G) overflows; then tokens go one by one. So they do in chunks that hold what is not finite,
// for 0 times infinity must not reach tokens before it, or a decay beyond 10^4, which stands for "forget" and would
// leave no digits of the other differences.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/functions.hpp"
#include "polymac/kernel/recurrent_state.hpp"
#include "polymac/layer/heads_bounds.hpp"
#include "polymac/layer/product.hpp"
#include "polymac/mac/float32.hpp"

#include <cmath>
#include <cstddef>

POLYMAC_BEGIN
namespace layer {

enum class update_rule : unsigned char { linear, gated, delta, gated_delta };

struct linear_attention_shape {
  std::size_t query_heads = 1;  ///< a multiple of key_heads: neighbours share a key head and its state
  std::size_t key_heads = 1;
  std::size_t key_size = 0;
  std::size_t value_size = 0;
};

struct linear_attention_options {
  update_rule rule = update_rule::gated_delta;
  float scale = 0.0f;      ///< 0: 1 / sqrt(key_size)
  std::size_t chunk = 32;  ///< tokens of a chunk, at most 1024; below 2: token by token
};

/// What a call reads; ONNX's inputs of batch x tokens x (heads * size) are `heads_view::by_token`.
struct linear_attention_inputs {
  heads_view<const float> query;  ///< query_heads of key_size
  heads_view<const float> key;    ///< key_heads of key_size; for the delta rule of length 1, or S may grow
  heads_view<const float> value;  ///< key_heads of value_size
  /// Gated rules: key_heads of 1 (one for the head) or of key_size; logarithms, so that 0 forgets nothing.
  heads_view<const float> decay{};
  /// Delta rules: key_heads of 1. One for all heads: a head stride of 0.
  heads_view<const float> beta{};
  /// Delta rules, optional: key_heads of key_size; the rule retrieves with erase * key.
  heads_view<const float> erase{};
};

/// Linear attention. The state is the caller's: batch x key_size ("tokens") x key_heads x value_size, in ONNX's order
/// `heads_view<float>::by_head(data, batch, key_size, key_heads, value_size)`. Zeros are the beginning; copying it is
/// saving it. A call goes on from it and leaves the new one there, so tokens may come in calls of any length; results
/// differ by rounding where chunks are cut differently, and not at all token by token. Sums in float32.
///
/// Running is noexcept and allocates nothing; threads take ranges of batch x key_heads, counted batch by batch, each
/// with a workspace of its own. Errors: a status, and nothing is written. O(tokens * key_size * value_size) for each
/// head.
template <Isa I = isa::native>
class linear_attention {
 public:
  using mac = polymac::mac::float32;

  /// Throws polymac::error (or sets `status()` where exceptions are off) on what does not fit.
  explicit linear_attention(const linear_attention_shape& shape, const linear_attention_options& options = {})
      : shape_(shape), options_(options) {
    status_ = check();
    if (status_.ok() && options_.scale == 0.0f)
      options_.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape_.key_size)));
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  const linear_attention_shape& shape() const noexcept { return shape_; }
  float scale() const noexcept { return options_.scale; }
  /// Numbers of a state for one sequence.
  std::size_t state_size() const noexcept { return shape_.key_heads * shape_.key_size * shape_.value_size; }
  std::size_t workspace_bytes(std::size_t tokens) const noexcept {
    detail::workspace_pieces pieces;
    static_cast<void>(scratch(*this, tokens, pieces));
    return pieces.bytes() + (is_chunked(tokens) ? product_bytes(tokens) : 0);
  }

  /// y: batch x tokens x query_heads x value_size; it must not overlap what is read, nor the state.
  polymac::status operator()(const linear_attention_inputs& x, heads_view<float> state, heads_view<float> y,
                             workspace ws, row_range heads = {}) const noexcept {
    const std::size_t batch = x.query.batch, tokens = x.query.tokens;
    if (auto s = check_call(x, state, y); !s.ok()) return s;
    if (auto s = detail::workspace_pieces::check(name, ws, workspace_bytes(tokens)); !s.ok()) return s;
    detail::workspace_pieces pieces(ws);
    scratch memory(*this, tokens, pieces);
    memory.product = workspace(ws.data + pieces.bytes(), ws.size - pieces.bytes());
    const std::size_t all = batch * shape_.key_heads, last = heads.end < all ? heads.end : all;
    for (std::size_t i = heads.begin; i < last; ++i) {
      const head_of h{x, state, y, i / shape_.key_heads, i % shape_.key_heads};
      for (std::size_t first = 0; first < tokens;) {
        const std::size_t count = chunk_at(h, first, tokens);
        if (count < 2) {
          step(h, first, memory);
          ++first;
          continue;
        }
        if (auto s = run_chunk(h, first, count, memory); !s.ok()) return s;
        first += count;
      }
    }
    return {};
  }

  text<255> explain() const noexcept {
    if (!status_.ok()) return text<255>::join(status_.text());
    constexpr const char* rules[] = {"linear", "gated", "delta", "gated_delta"};
    return text<255>::join("linear_attention (", rules[static_cast<int>(options_.rule)], ") ", shape_.query_heads,
                           " query heads on ", shape_.key_heads, " states of ", shape_.key_size, " x ",
                           shape_.value_size, ", ", state_size() * sizeof(float), " bytes for a sequence; ",
                           options_.chunk < 2 ? "token by token" : "chunks of ",
                           options_.chunk < 2 ? 1 : options_.chunk, " tokens");
  }

 private:
  static constexpr const char* name = "linear_attention";
  static constexpr float most_decay = 1e4f;

  struct head_of {
    const linear_attention_inputs& x;
    const heads_view<float>& state;
    const heads_view<float>& y;
    std::size_t n, head;
    float* s() const noexcept { return state.at(n, 0, head); }
  };

  bool is_gated() const noexcept {
    return options_.rule == update_rule::gated || options_.rule == update_rule::gated_delta;
  }
  bool is_delta() const noexcept {
    return options_.rule == update_rule::delta || options_.rule == update_rule::gated_delta;
  }
  std::size_t group() const noexcept { return shape_.query_heads / shape_.key_heads; }
  bool is_chunked(std::size_t tokens) const noexcept { return options_.chunk >= 2 && tokens >= 2; }
  std::size_t chunk_of(std::size_t tokens) const noexcept {
    return is_chunked(tokens) ? polymac::detail::smaller(options_.chunk, tokens) : 1;
  }

  /// The pieces of a workspace, for chunks of C tokens; rows are those of the keys (delta rules), then of each query.
  struct scratch {
    float *forget, *retrieve;                                        ///< of one token
    double* decay = nullptr;                                         ///< G
    float *rows = nullptr, *on_state = nullptr, *on_keys = nullptr;  ///< [K; Q], times S, times K'
    float* factors = nullptr;                                        ///< E, one row
    float *whole = nullptr, *ends = nullptr;                         ///< exp(G_i), E_Cj
    float *written = nullptr, *read = nullptr;                       ///< U, (E o Q K') U
    float *keys = nullptr, *added = nullptr;                         ///< K' E_C, times U
    workspace product{};

    scratch(const linear_attention& a, std::size_t tokens, detail::workspace_pieces& p) noexcept {
      const std::size_t keys_size = a.shape_.key_size, values = a.shape_.value_size;
      forget = p.take<float>(keys_size);
      retrieve = p.take<float>(keys_size);
      if (!a.is_chunked(tokens)) return;
      const std::size_t c = a.chunk_of(tokens), all = (a.group() + (a.is_delta() ? 1 : 0)) * c;
      decay = p.take<double>(c);
      rows = p.take<float>(all * keys_size);
      on_state = p.take<float>(all * values);
      on_keys = p.take<float>(all * c);
      factors = p.take<float>(c);
      whole = p.take<float>(c);
      ends = p.take<float>(c);
      written = p.take<float>(c * values);
      read = p.take<float>(a.group() * c * values);
      keys = p.take<float>(keys_size * c);
      added = p.take<float>(keys_size * values);
    }
  };
  /// How products are cut depends on their depth, so all depths are asked.
  std::size_t product_bytes(std::size_t tokens) const noexcept {
    std::size_t most = product_workspace_bytes<mac, I>(shape_.value_size, shape_.key_size);
    const auto more = [&most](std::size_t bytes) noexcept { most = bytes > most ? bytes : most; };
    for (std::size_t c = 1; c <= chunk_of(tokens); ++c) {
      more(product_workspace_bytes<mac, I>(c, shape_.key_size));
      more(product_workspace_bytes<mac, I>(shape_.value_size, c));
    }
    return most;
  }

  polymac::status check() const noexcept {
    const auto& s = shape_;
    constexpr std::size_t large = std::size_t{1} << 20;
    if (s.key_heads == 0 || s.query_heads == 0 || s.query_heads % s.key_heads != 0)
      return polymac::status::make(errc::shape, name, ": expected a multiple of the key heads as query heads, got ",
                                   s.query_heads, " and ", s.key_heads);
    if (s.key_size == 0 || s.value_size == 0 || s.key_size > large || s.value_size > large || s.query_heads > large)
      return polymac::status::make(errc::shape, name, ": expected heads and sizes of 1 to ", large, ", got ",
                                   s.query_heads, " heads, keys of ", s.key_size, ", values of ", s.value_size);
    if (static_cast<unsigned>(options_.rule) > static_cast<unsigned>(update_rule::gated_delta))
      return polymac::status::make(errc::parameter, name, ": expected an update rule of 0 to 3, got ",
                                   static_cast<unsigned>(options_.rule));
    if (!polymac::detail::finite(options_.scale))
      return polymac::status::make(errc::parameter, name, ": expected a finite scale (0: 1 / sqrt(key_size))");
    if (options_.chunk > 1024)
      return polymac::status::make(errc::parameter, name, ": expected chunks of at most 1024 tokens, got ",
                                   options_.chunk);
    return {};
  }
  polymac::status check_call(const linear_attention_inputs& x, const heads_view<float>& state,
                             const heads_view<float>& y) const noexcept {
    if (!status_.ok()) return status_;
    const std::size_t batch = x.query.batch, tokens = x.query.tokens, heads = shape_.key_heads;
    const auto given = [&](const char* what, const heads_view<const float>& v, std::size_t size) noexcept {
      return detail::expect_head_vectors(name, what, v, batch, tokens, heads, size, false);
    };
    auto s =
        detail::expect_head_vectors(name, "query", x.query, batch, tokens, shape_.query_heads, shape_.key_size, false);
    if (s.ok()) s = given("key", x.key, shape_.key_size);
    if (s.ok()) s = given("value", x.value, shape_.value_size);
    if (!s.ok()) return s;
    if (is_gated() != (x.decay.size > 0))
      return polymac::status::make(errc::parameter, name, ": a gated rule reads a decay, others do not, got ",
                                   x.decay.size > 0 ? "one" : "none");
    if (is_delta() != (x.beta.size > 0))
      return polymac::status::make(errc::parameter, name, ": a delta rule reads a beta, others do not, got ",
                                   x.beta.size > 0 ? "one" : "none");
    if (!is_delta() && x.erase.size > 0)
      return polymac::status::make(errc::parameter, name, ": only delta rules read an erase gate");
    if (is_gated()) s = given("decay", x.decay, x.decay.size == 1 ? 1 : shape_.key_size);
    if (s.ok() && is_delta()) s = given("beta", x.beta, 1);
    if (s.ok() && x.erase.size > 0) s = given("erase gate", x.erase, shape_.key_size);
    if (s.ok())
      s = detail::expect_head_vectors(name, "state (key_size as tokens)", state, batch, shape_.key_size, heads,
                                      shape_.value_size, true);
    if (s.ok())
      s = detail::expect_head_vectors(name, "y", y, batch, tokens, shape_.query_heads, shape_.value_size, true);
    return s;
  }

  /// Tokens that are a chunk from here on; 1: step.
  std::size_t chunk_at(const head_of& h, std::size_t first, std::size_t tokens) const noexcept {
    const std::size_t count = chunk_of(tokens - first);
    if (count < 2 || (is_gated() && h.x.decay.size > 1)) return 1;
    const auto finite = [](const heads_view<const float>& v, std::size_t n, std::size_t token,
                           std::size_t head) noexcept {
      const float* const p = v.at(n, token, head);
      bool all = true;
      for (std::size_t i = 0; i < v.size; ++i) all &= polymac::detail::finite(p[i]);
      return all;
    };
    for (std::size_t t = first; t < first + count; ++t) {
      if (!finite(h.x.key, h.n, t, h.head) || !finite(h.x.value, h.n, t, h.head)) return 1;
      if (is_delta() && !finite(h.x.beta, h.n, t, h.head)) return 1;
      if (h.x.erase.size > 0 && !finite(h.x.erase, h.n, t, h.head)) return 1;
      if (is_gated() && !(std::abs(*h.x.decay.at(h.n, t, h.head)) <= most_decay)) return 1;
    }
    return count;
  }

  /// One token, in place.
  void step(const head_of& h, std::size_t token, const scratch& memory) const noexcept {
    const auto& x = h.x;
    const std::size_t size = shape_.key_size, query_head = h.head * group();
    kernel::recurrent_token t;
    t.keys = size;
    t.key = x.key.at(h.n, token, h.head);
    t.value = x.value.at(h.n, token, h.head);
    if (is_gated()) {
      kernel::exp_of(x.decay.at(h.n, token, h.head), memory.forget, x.decay.size, 0.0f, 1.0f);
      t.forget = memory.forget;
      t.one_factor = x.decay.size == 1;
    }
    if (is_delta()) {
      t.retrieve = x.erase.size > 0 ? erased(h, token, memory.retrieve) : t.key;
      t.beta = *x.beta.at(h.n, token, h.head);
    }
    t.query = x.query.at(h.n, token, query_head);
    t.query_stride = x.query.head_stride;
    t.queries = group();
    t.scale = options_.scale;
    t.output = h.y.at(h.n, token, query_head);
    t.output_stride = h.y.head_stride;
    kernel::recurrent_step(t, h.s(), h.state.token_stride, shape_.value_size);
  }
  /// erase * key.
  const float* erased(const head_of& h, std::size_t token, float* to) const noexcept {
    const float *key = h.x.key.at(h.n, token, h.head), *gate = h.x.erase.at(h.n, token, h.head);
    for (std::size_t k = 0; k < shape_.key_size; ++k) to[k] = gate[k] * key[k];
    return to;
  }

  polymac::status run_chunk(const head_of& h, std::size_t first, std::size_t count,
                            const scratch& memory) const noexcept {
    const auto& x = h.x;
    const std::size_t size = shape_.key_size, values = shape_.value_size, queries = group();
    // [K; Q]
    std::size_t rows = 0;
    const auto add_row = [&](const float* from) noexcept {
      float* const to = memory.rows + rows++ * size;
      for (std::size_t k = 0; k < size; ++k) to[k] = from[k];
    };
    if (is_delta())
      for (std::size_t i = 0; i < count; ++i)
        add_row(x.erase.size > 0 ? erased(h, first + i, memory.retrieve) : x.key.at(h.n, first + i, h.head));
    const std::size_t first_query = rows;
    for (std::size_t q = 0; q < queries; ++q)
      for (std::size_t i = 0; i < count; ++i) add_row(x.query.at(h.n, first + i, h.head * queries + q));

    const matrix_view<const float> all(memory.rows, rows, size);
    const matrix_view<const float> state(h.s(), size, values, h.state.token_stride);
    const matrix_view<const float> keys(x.key.at(h.n, first, h.head), count, size, x.key.token_stride);
    auto s = product<mac, I>(all, transposed(state), {memory.on_state, rows, values}, memory.product);
    if (s.ok()) s = multiply_keys(all, keys, memory);
    if (!s.ok()) return s;

    double sum = 0;
    for (std::size_t i = 0; i < count; ++i)
      memory.decay[i] = sum += is_gated() ? static_cast<double>(*x.decay.at(h.n, first + i, h.head)) : 0.0;
    for (std::size_t i = 0; i < count; ++i) {
      memory.whole[i] = static_cast<float>(memory.decay[i]);
      memory.ends[i] = static_cast<float>(sum - memory.decay[i]);
    }
    kernel::exp_of(memory.whole, memory.whole, count, 0.0f, 1.0f);
    kernel::exp_of(memory.ends, memory.ends, count, 0.0f, 1.0f);

    // U, and the shares of earlier tokens in every row: E o [K; Q] K'.
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t j = 0; j <= i; ++j) memory.factors[j] = static_cast<float>(memory.decay[i] - memory.decay[j]);
      if (is_gated())
        kernel::exp_of(memory.factors, memory.factors, i + 1, 0.0f, 1.0f);
      else
        for (std::size_t j = 0; j <= i; ++j) memory.factors[j] = 1.0f;
      const float* const value = x.value.at(h.n, first + i, h.head);
      float* const u = memory.written + i * values;
      if (is_delta()) {
        const float *on_state = memory.on_state + i * values, *on_keys = memory.on_keys + i * count;
        const float beta = *x.beta.at(h.n, first + i, h.head), whole = memory.whole[i];
        for (std::size_t c = 0; c < values; ++c) u[c] = value[c] - whole * on_state[c];
        for (std::size_t j = 0; j < i; ++j) {
          const float by = memory.factors[j] * on_keys[j];
          const float* const before = memory.written + j * values;
          for (std::size_t c = 0; c < values; ++c) u[c] -= by * before[c];
        }
        for (std::size_t c = 0; c < values; ++c) u[c] *= beta;
      } else {
        for (std::size_t c = 0; c < values; ++c) u[c] = value[c];
      }
      for (std::size_t q = 0; q < queries; ++q) {
        float* const on_keys = memory.on_keys + (first_query + q * count + i) * count;
        for (std::size_t j = 0; j < count; ++j) on_keys[j] = j <= i ? on_keys[j] * memory.factors[j] : 0.0f;
      }
    }
    const matrix_view<const float> written(memory.written, count, values);
    const matrix_view<const float> shares(memory.on_keys + first_query * count, queries * count, count);
    s = product<mac, I>(shares, transposed(written), {memory.read, queries * count, values}, memory.product);
    if (!s.ok()) return s;
    for (std::size_t q = 0; q < queries; ++q)
      for (std::size_t i = 0; i < count; ++i) {
        float* const y = h.y.at(h.n, first + i, h.head * queries + q);
        const float* const on_state = memory.on_state + (first_query + q * count + i) * values;
        const float* const read = memory.read + (q * count + i) * values;
        const float whole = memory.whole[i];
        for (std::size_t c = 0; c < values; ++c) y[c] = options_.scale * (whole * on_state[c] + read[c]);
      }

    for (std::size_t i = 0; i < count; ++i) {
      const float* const key = x.key.at(h.n, first + i, h.head);
      for (std::size_t k = 0; k < size; ++k) memory.keys[k * count + i] = memory.ends[i] * key[k];
    }
    const matrix_view<const float> scaled(memory.keys, size, count);
    s = product<mac, I>(scaled, transposed(written), {memory.added, size, values}, memory.product);
    if (!s.ok()) return s;
    const float whole = memory.whole[count - 1];
    for (std::size_t k = 0; k < size; ++k) {
      float* const row = h.s() + k * h.state.token_stride;
      for (std::size_t c = 0; c < values; ++c) row[c] = whole * row[c] + memory.added[k * values + c];
    }
    return {};
  }
  /// [K; Q] K'. Keys that all tokens share (a stride of 0) are copied: a product wants rows apart.
  polymac::status multiply_keys(const matrix_view<const float>& all, matrix_view<const float> keys,
                                const scratch& memory) const noexcept {
    if (keys.stride < keys.columns) {
      for (std::size_t i = 0; i < keys.rows; ++i)
        for (std::size_t k = 0; k < keys.columns; ++k) memory.keys[i * keys.columns + k] = keys(i, k);
      keys = matrix_view<const float>(memory.keys, keys.rows, keys.columns);
    }
    return product<mac, I>(all, keys, {memory.on_keys, all.rows, keys.rows}, memory.product);
  }

  linear_attention_shape shape_;
  linear_attention_options options_;
  polymac::status status_;
};

}  // namespace layer

using layer::linear_attention_inputs;
using layer::linear_attention_options;
using layer::linear_attention_shape;
using layer::update_rule;

POLYMAC_END
