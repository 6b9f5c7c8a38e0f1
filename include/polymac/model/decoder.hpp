// SPDX-License-Identifier: MIT
// A decoder-only transformer of Llama's kind, in any arithmetic.
//
//     x = embedding[token]                                            one row for each token of a block
//     for each layer
//       q, k, v = rms_norm(x) Wqkv^T                                  one product of joined rows
//       append rope(k), v to the cache of the layer; rope(q)
//       x += attention(q, cache) Wo^T
//       x += (silu(h W1^T) * (h W3^T)) W2^T,  h = rms_norm(x)         the gate in the epilogue of one product
//     logits = rms_norm(x) C^T                                        C: the embedding itself, where they are tied
//
// Decoding is a block of one token: the same layers, the same instantiations.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/functions.hpp"
#include "polymac/layer/attention.hpp"
#include "polymac/layer/embedding.hpp"
#include "polymac/layer/encoded_linear.hpp"
#include "polymac/layer/kv_cache.hpp"
#include "polymac/layer/rms_norm.hpp"
#include "polymac/layer/rope.hpp"
#include "polymac/model/arena.hpp"
#include "polymac/model/decoder_weights.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// How a decoder runs.
struct decoder_options {
  std::size_t block = 16;   ///< tokens that are computed together in a prefill
  std::size_t context = 0;  ///< tokens that there is room for; 0: those of the shape
};

namespace detail {

/// Weights of few bits leave the table of tokens, which is read once as an embedding and once as a classifier, to bytes.
template <Mac M>
struct table_arithmetic {
  using type = M;
};
template <int Bits, class Encoding, std::size_t Group>
requires(Group > 0 && Bits < 8) struct table_arithmetic<mac::bit_weights<Bits, Encoding, Group>> {
  using type = mac::int8;
};

/// What a table of tokens is kept in, beside a classifier that cannot be read back.
template <Mac M>
using row_element = std::conditional_t<layer::detail::TableElement<typename M::weight>, typename M::weight, float>;

}  // namespace detail

/// The arithmetic of the embedding and the classifier where nothing else is said: M, and mac::int8 for weights of fewer
/// bits.
template <Mac M>
using table_of = typename detail::table_arithmetic<M>::type;

/// One sequence of tokens through a decoder-only transformer.
///
///   M       the arithmetic of the products with weights, one that layer::coding knows: mac::float32, bf16, fp16, int8 (a
///           scale for each column, activations of 8 bits with a scale for each token), bit_weights in groups (with zero
///           points; the same activations), dfp<int16>, l_mul
///   Cache   how keys and values are kept, which decides about the arithmetic of attention
///   Table   the arithmetic of the embedding and the classifier
///
/// Normalisations, rotations, softmax and the gate are float32. Weights are encoded and packed once, at construction;
/// running is noexcept and allocates nothing, and all that it needs lies in one workspace, planned at construction. Tokens in
/// blocks and one by one give the same logits but for roundings: attention may add up several queries in another order
/// than one, matrix registers a whole product. Codes of 8 bits as the cache take the mean of the first tokens off, where a
/// call brings enough of them (layer::kv_cache).
template <Mac M, Mac Cache = mac::float32, Isa I = isa::native, Mac Table = table_of<M>>
class decoder {
  using product = layer::encoded_linear<M, I>;
  using table_product = layer::encoded_linear<Table, I>;
  using gated_product = layer::encoded_gated<M, activation::silu, I>;
  using cache = layer::kv_cache<Cache, I>;
  using attention = layer::attention<typename layer::detail::cache_format<Cache>::computed_as, I>;

 public:
  /// Nothing of `weights` is kept. Throws polymac::error (or sets `status()` where exceptions are off) on what does not
  /// fit.
  explicit decoder(const decoder_weights& weights, const decoder_options& options = {}) {
    status_ = construct(weights, options);
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  const decoder_shape& shape() const noexcept { return shape_; }
  /// Tokens that there is room for, and that are held.
  std::size_t capacity() const noexcept { return capacity_; }
  std::size_t tokens() const noexcept { return tokens_; }

  /// Bytes of the weights that a token reads: each of them once.
  std::size_t weight_bytes() const noexcept {
    std::size_t bytes = shape_.width * sizeof(float) * (2 * layers_.size() + 1);
    for (const auto& l : layers_)
      bytes += l.joined.weight_bytes() + l.output.weight_bytes() + l.gates.weight_bytes() + l.down.weight_bytes();
    return bytes + (classifier_ ? classifier_->weight_bytes() : 0);
  }
  /// Bytes of a table of tokens beside the classifier, of which a token reads one row. None where they are tied and the
  /// classifier's weights can be read back.
  std::size_t embedding_bytes() const noexcept { return embedding_ ? embedding_->bytes() : 0; }
  /// Bytes of all caches that a token fills.
  std::size_t cache_bytes_per_token() const noexcept {
    return layers_.empty() ? 0 : layers_.size() * layers_[0].held.bytes_per_token();
  }
  /// Bytes of workspace of a call, at any alignment.
  std::size_t workspace_bytes() const noexcept { return plan_.peak_bytes + alignment - 1; }

  /// Forgets all tokens, or those from number `tokens` on.
  void clear() noexcept {
    for (auto& l : layers_) l.held.clear();
    tokens_ = 0;
  }
  polymac::status truncate(std::size_t tokens) noexcept {
    if (tokens > tokens_)
      return polymac::status::make(errc::parameter, "decoder: expected at most the ", tokens_,
                                   " tokens that are held, got ", tokens);
    for (auto& l : layers_)
      if (auto s = l.held.truncate(tokens); !s.ok()) return s;
    tokens_ = tokens;
    return {};
  }

  /// Appends tokens to the sequence. logits: rows x vocabulary, for the last tokens of the call, one row for each: one to
  /// go on with, all to score a text, none to fill the caches. Refuses ids outside of [0, vocabulary), more tokens than
  /// there is room for, and views and workspaces that do not fit, all before anything is changed.
  polymac::status operator()(std::span<const std::int32_t> ids, matrix_view<float> logits, workspace ws) noexcept {
    if (auto s = check_call(ids, logits, ws); !s.ok()) return s;
    const std::size_t past = reinterpret_cast<std::uintptr_t>(ws.data) % alignment;
    const memory at{ws.data + (past > 0 ? alignment - past : 0), &plan_};
    const std::size_t unread = ids.size() - logits.rows;
    for (std::size_t begin = 0; begin < ids.size(); begin += block_) {
      const std::size_t count = polymac::detail::smaller(block_, ids.size() - begin);
      if (auto s = run_block(ids.subspan(begin, count), at); !s.ok()) return s;
      if (begin + count <= unread) continue;
      const std::size_t first = begin < unread ? unread - begin : 0;
      const matrix_view<const float> last(at.floats(normed) + first * shape_.width, count - first, shape_.width);
      const matrix_view<float> to(logits.row(begin + first - unread), count - first, logits.columns, logits.stride);
      if (auto s = (*classifier_)(last, to, at.operands()); !s.ok()) return s;
    }
    return {};
  }

 private:
  static constexpr std::size_t alignment = 64;

  /// What lies in the workspace, in the order of the plan.
  enum tensor : std::size_t { residual, normed, joined, attended, added, gates, operands, tensors };
  struct memory {
    std::byte* begin;
    const arena_plan* plan;
    float* floats(tensor t) const noexcept { return reinterpret_cast<float*>(begin + plan->offsets[t]); }
    workspace operands() const noexcept {
      return {begin + plan->offsets[tensor::operands], plan->peak_bytes - plan->offsets[tensor::operands]};
    }
  };

  struct parts {
    product joined, output;
    gated_product gates;
    product down;
    layer::rms_norm attention_norm, feed_forward_norm;
    cache held;
  };

  polymac::status construct(const decoder_weights& w, const decoder_options& options) {
    if (auto s = check(w.shape); !s.ok()) return s;
    if (auto s = check_views(w); !s.ok()) return s;
    shape_ = w.shape;
    capacity_ = options.context == 0 ? w.shape.context : options.context;
    if (options.block < 1 || options.block > 4096)
      return polymac::status::make(errc::parameter, "decoder: expected blocks of 1 to 4096 tokens, got ",
                                   options.block);
    if (capacity_ > shape_.context)
      return polymac::status::make(errc::parameter, "decoder: expected a context of at most ", shape_.context,
                                   " tokens, got ", capacity_);
    block_ = polymac::detail::smaller(options.block, capacity_);
    const std::size_t size = shape_.head_size();
    layers_.reserve(shape_.layers);
    for (const auto& l : w.layers) {
      const std::array<matrix_view<const float>, 3> qkv{l.query, l.key, l.value};
      layers_.push_back({product(qkv), product(l.output), gated_product(l.gate, l.up), product(l.down),
                         layer::rms_norm(l.attention_norm, shape_.epsilon),
                         layer::rms_norm(l.feed_forward_norm, shape_.epsilon),
                         cache({shape_.key_heads, size, size, capacity_})});
      const parts& p = layers_.back();
      for (const auto* s : {&p.joined.status(), &p.output.status(), &p.gates.status(), &p.down.status(),
                            &p.attention_norm.status(), &p.feed_forward_norm.status(), &p.held.status()})
        if (!s->ok()) return *s;
    }
    final_norm_.emplace(w.final_norm, shape_.epsilon);
    rope_.emplace(size, capacity_, layer::rope_options{.base = static_cast<double>(shape_.rope_base)});
    attention_.emplace(layer::attention_shape{shape_.heads, shape_.key_heads, size, size},
                       layer::attention_options{.direction = layer::causal::bottom_right});
    classifier_.emplace(w.classifier);
    for (const auto* s : {&final_norm_->status(), &rope_->status(), &attention_->status(), &classifier_->status()})
      if (!s->ok()) return *s;
    if (!w.is_tied() || !table_product::reads_back)
      if (auto s = make_embedding(w.embedding); !s.ok()) return s;
    return plan();
  }

  polymac::status make_embedding(const matrix_view<const float>& table) {
    using element = detail::row_element<Table>;
    if constexpr (std::is_same_v<element, float>) {
      embedding_.emplace(table);
    } else {
      std::vector<element> codes(table.rows * table.columns);
      std::vector<float> scales(std::is_same_v<element, std::int8_t> ? table.rows : 0);
      const matrix_view<element> to(codes.data(), table.rows, table.columns);
      if (auto s = layer::coding<Table>::encode_weights(table, to, scales); !s.ok()) return s;
      embedding_.emplace(matrix_view<const element>(to), scales);
    }
    return embedding_->status();
  }
  /// The vectors of tokens whose ids are in range.
  polymac::status look_up(std::span<const std::int32_t> ids, const matrix_view<float>& x) const noexcept {
    if (embedding_) return (*embedding_)(ids, x);
    if constexpr (table_product::reads_back)
      for (std::size_t t = 0; t < ids.size(); ++t) classifier_->read(static_cast<std::size_t>(ids[t]), x.row(t));
    return {};
  }

  static polymac::status check_views(const decoder_weights& w) noexcept {
    const decoder_shape& s = w.shape;
    if (w.layers.size() != s.layers)
      return polymac::status::make(errc::shape, "decoder: expected the weights of ", s.layers, " layers, got ",
                                   w.layers.size());
    polymac::status found;
    const auto matrix = [&](const char* name, const matrix_view<const float>& m, std::size_t rows,
                            std::size_t columns) {
      if (found.ok() && (m.rows != rows || m.columns != columns || m.data == nullptr))
        found = polymac::status::make(errc::shape, "decoder: expected ", name, " of ", rows, " x ", columns, ", got ",
                                      m.rows, " x ", m.columns);
    };
    const auto vector = [&](const char* name, std::span<const float> v) {
      matrix(name, {v.data(), 1, v.size()}, 1, s.width);
    };
    matrix("an embedding", w.embedding, s.vocabulary, s.width);
    for (const auto& l : w.layers) {
      vector("an attention norm", l.attention_norm);
      matrix("queries", l.query, s.width, s.width);
      matrix("keys", l.key, s.key_width(), s.width);
      matrix("values", l.value, s.key_width(), s.width);
      matrix("an output", l.output, s.width, s.width);
      vector("a feed-forward norm", l.feed_forward_norm);
      matrix("a gate", l.gate, s.hidden, s.width);
      matrix("an up projection", l.up, s.hidden, s.width);
      matrix("a down projection", l.down, s.width, s.hidden);
    }
    vector("a final norm", w.final_norm);
    matrix("a classifier", w.classifier, s.vocabulary, s.width);
    return found;
  }

  /// Lives of what lies in the workspace, in steps of a layer: 0 joined product, 1 attention, 2 output, 3 norm, 4 gates,
  /// 5 down, 6 norm.
  polymac::status plan() {
    const auto bytes = [&](std::size_t width) { return block_ * width * sizeof(float); };
    const parts& p = layers_[0];
    std::array<arena_request, tensors> requests{};
    requests[residual] = {bytes(shape_.width), 0, 6};
    requests[normed] = {bytes(shape_.width), 0, 6};
    requests[joined] = {bytes(shape_.width + 2 * shape_.key_width()), 0, 1};
    requests[attended] = {bytes(shape_.width), 1, 2};
    requests[added] = {bytes(shape_.width), 2, 6};
    requests[gates] = {bytes(shape_.hidden), 4, 5};
    std::size_t most = attention_->workspace_bytes(block_, p.held);
    for (const std::size_t b :
         {p.joined.workspace_bytes(block_), p.output.workspace_bytes(block_), p.gates.workspace_bytes(block_),
          p.down.workspace_bytes(block_), classifier_->workspace_bytes(block_)})
      most = polymac::detail::greater(most, b);
    requests[operands] = {most + alignment, 0, 6};
    auto planned = plan_arena(requests, alignment);
    if (!planned.ok()) return planned.status();
    plan_ = std::move(*planned);
    return {};
  }

  polymac::status check_call(std::span<const std::int32_t> ids, const matrix_view<float>& logits,
                             const workspace& ws) const noexcept {
    if (!status_.ok()) return status_;
    if (ids.size() > capacity_ - tokens_)
      return polymac::status::make(errc::short_buffer, "decoder: expected at most ", capacity_ - tokens_,
                                   " tokens, for which there is room behind ", tokens_, ", got ", ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i)
      if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= shape_.vocabulary)
        return polymac::status::make(errc::parameter, "decoder: expected ids in [0, ", shape_.vocabulary,
                                     "), id number ", i, " is ", ids[i]);
    if (logits.rows > ids.size() || (logits.rows > 0 && logits.columns != shape_.vocabulary))
      return polymac::status::make(errc::shape, "decoder: expected logits of at most ", ids.size(), " x ",
                                   shape_.vocabulary, ", got ", logits.rows, " x ", logits.columns);
    if (logits.rows > 0)
      if (auto s = layer::detail::check_memory("decoder", logits, logits); !s.ok()) return s;
    if (!ids.empty() && (ws.data == nullptr || ws.size < workspace_bytes()))
      return polymac::status::make(errc::short_buffer, "decoder: expected a workspace of ", workspace_bytes(),
                                   " bytes, got ", ws.data == nullptr ? std::size_t{0} : ws.size);
    return {};
  }

  /// One block of tokens; their normalised vectors, for the classifier, are in `normed`. What calls check cannot fail any
  /// more: statuses are handed on for the sake of mistakes in here.
  polymac::status run_block(std::span<const std::int32_t> ids, const memory& at) noexcept {
    const std::size_t count = ids.size(), width = shape_.width, size = shape_.head_size();
    const std::size_t keys = shape_.key_width(), hidden = shape_.hidden, row = width + 2 * keys;
    const matrix_view<float> x(at.floats(residual), count, width), h(at.floats(normed), count, width);
    const matrix_view<float> qkv(at.floats(joined), count, row), a(at.floats(attended), count, width);
    const matrix_view<float> more(at.floats(added), count, width), gate(at.floats(gates), count, hidden);
    const auto heads = [&](float* data, std::size_t number) {
      return heads_view<float>(data, 1, count, number, size, count * row, row, size);
    };
    const heads_view<float> q = heads(qkv.data, shape_.heads), k = heads(qkv.data + width, shape_.key_heads),
                            v = heads(qkv.data + width + keys, shape_.key_heads);
    const workspace ws = at.operands();

    polymac::status s = look_up(ids, x);
    if (s.ok()) s = layers_[0].attention_norm(x, h);
    for (std::size_t l = 0; s.ok() && l < layers_.size(); ++l) {
      parts& p = layers_[l];
      s = p.joined(h, qkv, ws);
      if (s.ok()) s = p.held.append(k, v, *rope_);
      if (s.ok()) s = (*rope_)(q, tokens_, q);
      if (s.ok()) s = (*attention_)(q, p.held, heads_view<float>::by_token(a.data, 1, count, shape_.heads, size), ws);
      if (s.ok()) s = p.output(a, more, ws);
      if (s.ok()) s = p.feed_forward_norm.add(x, more, h);
      if (s.ok()) s = p.gates(h, gate, ws);
      if (s.ok()) s = p.down(gate, more, ws);
      const auto& next = l + 1 < layers_.size() ? layers_[l + 1].attention_norm : *final_norm_;
      if (s.ok()) s = next.add(x, more, h);
    }
    if (s.ok()) {
      tokens_ += count;
    } else {
      for (auto& p : layers_)
        if (p.held.size() > tokens_) static_cast<void>(p.held.truncate(tokens_));
    }
    return s;
  }

  decoder_shape shape_;
  std::size_t capacity_ = 0, block_ = 0, tokens_ = 0;
  std::vector<parts> layers_;
  std::optional<layer::rms_norm> final_norm_;
  std::optional<layer::rope> rope_;
  std::optional<attention> attention_;
  std::optional<table_product> classifier_;
  std::optional<layer::embedding<detail::row_element<Table>>> embedding_;
  arena_plan plan_;
  polymac::status status_;
};

}  // namespace model
POLYMAC_END
