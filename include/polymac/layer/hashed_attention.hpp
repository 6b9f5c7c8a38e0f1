// SPDX-License-Identifier: MIT
// Attention on hash codes: linear in the tokens, additions and subtractions only once the codes are there.
//
//     qk -> / length -> distances to anchors -> exp -> signs of A kappa          codes h: +-1, `bits` of them a token
//                                                        |
//     similarity of two tokens  s_ij = h_i . h_j + c,  c = bits + 1              in [1, 2 bits + 1], never 0
//
//     out_i = (sum over j of s_ij v_j)                              / (sum over j of s_ij)
//           = (h_i . (sum over j of h_j v_j') + c sum over j of v_j) / (h_i . (sum over j of h_j) + c N)
//           = (h_i . T[:, values]             + c sum over j of v_j) / (h_i . T[:, last]          + c N)
//
// T, bits x (value_size + 1), is the state: its last column is the sum of the codes, and sums of values without codes
// are one more row of it. tokens^2 similarities are never made.
//
// Source: Liu et al., EcoFormer: energy-saving attention with linear complexity, NeurIPS 2022 (arXiv 2209.09004), and
// its authors' code, from which the one difference between the two comes (`bias_mode`).
//
// Every step is a contraction of the loop nest (layer::product, kernel/contract.hpp), a block of tokens at a time:
//
//     distances   tokens x key_size      by anchors x key_size       float32; |q|^2 + |a|^2 - 2 q.a
//     codes       tokens x anchors       by bits x anchors           float32, then the sign
//     T           bits x tokens          by value_size + 1 x tokens  signs by values, of the values' arithmetic
//     out         tokens x bits          by value_size + 1 x bits    signs by T
//
// Signs by T of integers are signs by numbers of 32 bits. They run as int8, too: T is cut into digits of radix 256, one
// after the other as further columns, and 256^d times the sums of digit d are added up. Three columns of int8 take less
// than one of 32 bits, for which no instruction set has a dot product, and the result is exact.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/functions.hpp"
#include "polymac/layer/heads_bounds.hpp"
#include "polymac/layer/product.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/int8.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// What c multiplies in the numerator.
enum class bias_mode : unsigned char {
  normalised,  ///< c times the sum of all values: weights of a token sum up to 1, constant values stay what they are
  reference_code,  ///< c times the token's own value, as the authors' code has it; the denominator is that of the above
};

struct hashed_attention_shape {
  std::size_t heads = 1;
  std::size_t key_size = 0;    ///< of a head of qk, the projection that queries and keys share
  std::size_t value_size = 0;  ///< of a head of v
  std::size_t bits = 16;       ///< of a code, 1 to 63
  std::size_t anchors = 25;
};

/// What was learnt, all finite, in the order of the axes. Copied at construction.
struct hashing_parameters {
  std::span<const float> anchors;     ///< heads x anchors x key_size: (normalised) tokens that distances are taken to
  std::span<const float> means;       ///< heads x anchors: mu, subtracted from exp(...); empty: zeros
  std::span<const float> projection;  ///< heads x bits x anchors: A
};

struct hashed_attention_options {
  bias_mode bias = bias_mode::normalised;
  /// Token i attends to the tokens up to itself only.
  bool causal = false;
  /// sigma, the scale of the distances. 0: the mean of all distances of a head in this call (as the authors have it, in
  /// inference, too), so that a code depends on the other tokens of its call, later ones included; whoever goes on from
  /// call to call had better give a constant.
  float spread = 0.0f;
};

/// Operations of one layer as the authors of EcoFormer count them; picojoules by the table of 45 nm (probe/energy.hpp).
struct operation_count {
  std::uint64_t multiplications = 0;
  std::uint64_t additions = 0;
  constexpr double picojoules(double multiplication = 3.7, double addition = 0.9) const noexcept {
    return multiplication * static_cast<double>(multiplications) + addition * static_cast<double>(additions);
  }
  friend constexpr bool operator==(const operation_count&, const operation_count&) noexcept = default;
};
/// Of softmax attention: the two products and the division by the sum, `size` channels of all heads together.
constexpr operation_count attention_operations(std::uint64_t tokens, std::uint64_t size, std::uint64_t heads) noexcept {
  const std::uint64_t products = 2 * tokens * tokens * size;
  return {products + heads * tokens * tokens, products};
}
/// Of hashed attention over heads of `head_size`: distances, hashing, T, its product with the codes, the division.
constexpr operation_count hashed_attention_operations(std::uint64_t tokens, std::uint64_t heads,
                                                      std::uint64_t head_size, std::uint64_t bits = 16,
                                                      std::uint64_t anchors = 25) noexcept {
  const std::uint64_t hashing = anchors * bits;
  return {heads * tokens * (2 * anchors + hashing + bits + 1 + head_size),
          heads * tokens * (2 * anchors * head_size + hashing + 2 * bits + 2 * bits * head_size + head_size)};
}

namespace detail {

/// The arithmetic of signs by values.
template <class Value>
struct hashed_arithmetic {
  static_assert(std::is_same_v<Value, float> || std::is_same_v<Value, std::int8_t>,
                "polymac: hashed_attention has values of float and of int8");
  using mac = polymac::mac::float32;
  using sum = float;
  using wide = float;
};
template <>
struct hashed_arithmetic<std::int8_t> {
  using mac = polymac::mac::int8;
  using sum = std::int32_t;
  using wide = std::int64_t;
};

/// The code of a projection: -1 below 0, else 1 (also for 0 and -0, as mac::sign::encode), 0 for NaN.
constexpr std::int8_t sign_code(float projection) noexcept {
  return projection < 0.0f ? std::int8_t{-1} : projection >= 0.0f ? std::int8_t{1} : std::int8_t{0};
}

}  // namespace detail

/// Attention on hash codes. Value: float, or int8: then sums are exact, and equal, bit by bit, to those over all pairs
/// of tokens in any order.
///
///   qk      batch x tokens x heads x key_size floats; v of value_size; any strides (heads_view)
///   y       float: the quotients. With int8 values also int8: quotients rounded to nearest, halves away from 0, which
///           have the scale and zero point of v (normalised; reference_code saturates and needs zero point 0); and
///           std::int32_t or std::int64_t: numerators, with the denominator behind them, so of value_size + 1
///   state   batch x state_rows() rows x heads of state_columns() sums, memory of the caller: what a head has seen.
///           Zeros are nothing; copying is saving. Rows: T, then the sums of values with the number of tokens, then
///           (floats, normalised) the first token's value, which is subtracted from all others: so a constant value
///           comes out as it went in, bit by bit, and a common offset costs no digits
///   heads   which of batch x heads, counted batch by batch; queries, tokens: which of them. For the caller's threads
///
/// A token of length 0 is 0, with the distance |a|^2 to an anchor. sigma is at least 1e-6: where all tokens lie on all
/// anchors, all codes are the same. A token that is not finite has code 0: with floats everything that sees it is NaN
/// (with spread 0: all of the head); with int8 its similarity is c to everything. At most 8,388,607 tokens in a state.
///
/// Nothing given at construction needs to outlive it. Running is noexcept and allocates nothing; several threads may
/// run on different heads or queries, each with a workspace of its own. Errors: a status, and nothing is written.
template <class Value = float, Isa I = isa::native>
class hashed_attention {
  using arithmetic = detail::hashed_arithmetic<Value>;
  using mac = typename arithmetic::mac;
  using wide = typename arithmetic::wide;

 public:
  using value = Value;
  using code = std::int8_t;
  using sum = typename arithmetic::sum;
  static constexpr std::size_t max_tokens = (std::size_t{1} << 23) - 1;
  static constexpr std::size_t max_bits = 63;
  static constexpr float least_spread = 1e-6f;

  /// Throws polymac::error (or sets `status()` where exceptions are off) on what does not fit. O(parameters).
  explicit hashed_attention(const hashed_attention_shape& shape, const hashing_parameters& learnt,
                            const hashed_attention_options& options = {})
      : shape_(shape), options_(options) {
    status_ = construct(learnt);
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  const hashed_attention_shape& shape() const noexcept { return shape_; }
  std::size_t state_rows() const noexcept { return shape_.bits + 2; }
  std::size_t state_columns() const noexcept { return shape_.value_size + 1; }
  /// c.
  int similarity_bias() const noexcept { return static_cast<int>(shape_.bits) + 1; }
  /// Bytes for the steps one by one.
  std::size_t workspace_bytes() const noexcept { return step_bytes_; }
  /// Bytes for a call with so many tokens: codes and state of one head besides.
  std::size_t workspace_bytes(std::size_t tokens) const noexcept {
    detail::workspace_pieces pieces;
    static_cast<void>(pieces.take<code>(tokens * shape_.bits));
    static_cast<void>(pieces.take<sum>(state_rows() * state_columns()));
    return pieces.bytes() + step_bytes_;
  }

  /// All steps. Queries: those that are written to y; every call makes the codes of all tokens of its heads (causal: of
  /// those up to its last query). O(heads x tokens x (anchors x (key_size + bits) + bits x value_size)).
  template <class Out>
  polymac::status operator()(heads_view<const float> qk, heads_view<const Value> v, heads_view<Out> y, workspace ws,
                             row_range heads = {}, row_range queries = {}) const noexcept {
    polymac::status s = check_call(qk.batch, qk.tokens);
    if (s.ok()) s = expect_vectors("qk", qk, qk.batch, qk.tokens, shape_.key_size, false);
    if (s.ok()) s = expect_vectors("v", v, qk.batch, qk.tokens, shape_.value_size, false);
    if (s.ok()) s = expect_vectors("y", y, qk.batch, qk.tokens, size_of<Out>(), true);
    if (s.ok()) s = check_numerators<Out>(qk.tokens);
    if (s.ok()) s = detail::workspace_pieces::check(name, ws, workspace_bytes(qk.tokens));
    if (!s.ok()) return s;
    const row_range part = within(queries, qk.tokens);
    if (part.begin >= part.end) return {};
    const std::size_t last = options_.causal ? part.end : qk.tokens;
    detail::workspace_pieces pieces(ws);
    code* const codes = pieces.take<code>(qk.tokens * shape_.bits);
    sum* const state = pieces.take<sum>(state_rows() * state_columns());
    const std::size_t used = pieces.bytes();
    const scratch memory(*this, workspace(ws.data + used, ws.size - used));
    const rows_of<code> h{codes, shape_.bits};
    const rows_of<sum> t{state, state_columns()};
    return for_heads(qk.batch, heads, [&](std::size_t n, std::size_t head) noexcept {
      polymac::status done = encode_head(head, rows(qk, n, head), qk.tokens, {0, last}, h, memory);
      for (std::size_t i = 0; i < state_rows() * state_columns(); ++i) state[i] = sum{};
      if (options_.causal) {
        if (done.ok()) done = advance_head(h, rows(v, n, head), last, t, rows(y, n, head), part, memory);
        return done;
      }
      if (done.ok()) done = accumulate_head(h, rows(v, n, head), {0, qk.tokens}, t, memory);
      if (done.ok()) done = attend_head(h, rows(v, n, head), t, rows(y, n, head), part, memory);
      return done;
    });
  }

  /// The codes of `tokens`: batch x tokens x heads x bits of -1 and 1. sigma is that of all tokens of qk.
  polymac::status encode(heads_view<const float> qk, heads_view<code> codes, workspace ws, row_range heads = {},
                         row_range tokens = {}) const noexcept {
    polymac::status s = check_call(qk.batch, qk.tokens);
    if (s.ok()) s = expect_vectors("qk", qk, qk.batch, qk.tokens, shape_.key_size, false);
    if (s.ok()) s = expect_vectors("codes", codes, qk.batch, qk.tokens, shape_.bits, true);
    if (s.ok()) s = detail::workspace_pieces::check(name, ws, step_bytes_);
    if (!s.ok()) return s;
    const scratch memory(*this, ws);
    return for_heads(qk.batch, heads, [&](std::size_t n, std::size_t head) noexcept {
      return encode_head(head, rows(qk, n, head), qk.tokens, within(tokens, qk.tokens), rows(codes, n, head), memory);
    });
  }
  /// Adds the tokens to the state.
  polymac::status accumulate(heads_view<const code> codes, heads_view<const Value> v, heads_view<sum> state,
                             workspace ws, row_range heads = {}) const noexcept {
    polymac::status s = check_step<Value>(codes, v, state, ws, codes.tokens);
    if (!s.ok()) return s;
    const scratch memory(*this, ws);
    return for_heads(codes.batch, heads, [&](std::size_t n, std::size_t head) noexcept {
      return accumulate_head(rows(codes, n, head), rows(v, n, head), {0, codes.tokens}, rows(state, n, head), memory);
    });
  }
  /// What the tokens see of the state, which stays what it is. v, their own values, is read by reference_code only.
  template <class Out>
  polymac::status attend(heads_view<const code> codes, heads_view<const Value> v, heads_view<const sum> state,
                         heads_view<Out> y, workspace ws, row_range heads = {}, row_range queries = {}) const noexcept {
    polymac::status s = check_step<Out>(codes, v, state, ws, 0);
    if (s.ok()) s = expect_vectors("y", y, codes.batch, codes.tokens, size_of<Out>(), true);
    if (!s.ok()) return s;
    const scratch memory(*this, ws);
    return for_heads(codes.batch, heads, [&](std::size_t n, std::size_t head) noexcept {
      return attend_head(rows(codes, n, head), rows(v, n, head), rows(state, n, head), rows(y, n, head),
                         within(queries, codes.tokens), memory);
    });
  }
  /// Token after token: each is added to the state and sees what is in it then. Whether tokens come in one call or in
  /// several is the same, with int8 bit by bit.
  template <class Out>
  polymac::status advance(heads_view<const code> codes, heads_view<const Value> v, heads_view<sum> state,
                          heads_view<Out> y, workspace ws, row_range heads = {}) const noexcept {
    polymac::status s = check_step<Out>(codes, v, state, ws, codes.tokens);
    if (s.ok()) s = expect_vectors("y", y, codes.batch, codes.tokens, size_of<Out>(), true);
    if (!s.ok()) return s;
    const scratch memory(*this, ws);
    return for_heads(codes.batch, heads, [&](std::size_t n, std::size_t head) noexcept {
      return advance_head(rows(codes, n, head), rows(v, n, head), codes.tokens, rows(state, n, head), rows(y, n, head),
                          {0, codes.tokens}, memory);
    });
  }

  text<511> explain() const noexcept {
    if (!status_.ok()) return text<511>::join(status_.text());
    return text<511>::join("hashed_attention ", shape_.heads, " heads, keys of ", shape_.key_size, ", values of ",
                           shape_.value_size, " (", mac::name, "), codes of ", shape_.bits, " bits from ",
                           shape_.anchors, " anchors, c = ", similarity_bias(), options_.causal ? ", causal" : "",
                           options_.bias == bias_mode::reference_code ? ", numerator of the reference code" : "",
                           ", blocks of ", block, " tokens, workspace ", step_bytes_, " bytes and ", shape_.bits,
                           " for each token");
  }

 private:
  static constexpr const char* name = "hashed_attention";
  /// Tokens that are looked at together: T's digits are packed once for so many queries.
  static constexpr std::size_t block = 256;
  /// The same where a token sees those before it only: within a block all pairs are made.
  static constexpr std::size_t causal_block = 64;
  static constexpr std::size_t max_digits = std::is_same_v<Value, float> ? 1 : 4;
  using operand = typename mac::activation;  ///< a sign, or a value

  /// Vectors of a head.
  template <class T>
  struct rows_of {
    T* data;
    std::size_t stride;
    constexpr T* operator[](std::size_t i) const noexcept { return data + i * stride; }
    constexpr operator rows_of<const T>() const noexcept  // NOLINT: implicit by design
        requires(!std::is_const_v<T>) {
      return {data, stride};
    }
  };
  template <class T>
  static constexpr rows_of<T> rows(const heads_view<T>& v, std::size_t n, std::size_t head) noexcept {
    return {v.at(n, 0, head), v.token_stride};
  }

  /// The pieces of a workspace.
  struct scratch {
    float *tokens, *distances, *projections;  ///< hashing
    double* total;                            ///< the sum of the tokens
    operand *signs, *values, *state;          ///< of a block: codes, values, T in digits
    operand* similar;                         ///< h . h of a block's pairs, 0 for later tokens
    sum *sums, *pairs, *inner;                ///< products: with T, of pairs, of these with the values
    sum* seen;                                ///< running sum of values
    workspace product;

    scratch(const hashed_attention& a, workspace ws) noexcept {
      detail::workspace_pieces pieces(ws);
      take(a, pieces);
      product = workspace(ws.data + pieces.bytes(), ws.size - pieces.bytes());
    }
    scratch(const hashed_attention& a, detail::workspace_pieces& pieces) noexcept { take(a, pieces); }
    void take(const hashed_attention& a, detail::workspace_pieces& p) noexcept {
      const auto& s = a.shape_;
      const std::size_t columns = a.state_columns();
      tokens = p.take<float>(block * s.key_size);
      distances = p.take<float>(block * s.anchors);
      projections = p.take<float>(block * s.bits);
      total = p.take<double>(s.key_size);
      signs = p.take<operand>(block * s.bits);
      values = p.take<operand>(block * columns);
      state = p.take<operand>(s.bits * max_digits * columns);
      const std::size_t most = block > s.bits ? block : s.bits;
      sums = p.take<sum>(most * max_digits * columns);
      similar = p.take<operand>(causal_block * causal_block);
      pairs = p.take<sum>(causal_block * causal_block);
      inner = p.take<sum>(causal_block * columns);
      seen = p.take<sum>(columns);
    }
  };

  polymac::status construct(const hashing_parameters& learnt) noexcept {
    const auto& s = shape_;
    if (s.heads == 0 || s.key_size == 0 || s.value_size == 0 || s.anchors == 0)
      return polymac::status::make(errc::shape, name, ": expected heads, sizes and anchors of at least 1, got ",
                                   s.heads, " heads, keys of ", s.key_size, ", values of ", s.value_size, ", ",
                                   s.anchors, " anchors");
    if (s.bits == 0 || s.bits > max_bits)
      return polymac::status::make(errc::parameter, name, ": expected codes of 1 to ", max_bits, " bits, got ", s.bits);
    constexpr std::size_t large = std::size_t{1} << 20;
    if (s.heads > large || s.key_size > large || s.value_size > large || s.anchors > large)
      return polymac::status::make(errc::shape, name, ": expected extents of at most ", large, ", got ", s.heads,
                                   " heads, keys of ", s.key_size, ", values of ", s.value_size, ", ", s.anchors,
                                   " anchors");
    const auto expect = [&](const char* what, std::span<const float> given, std::size_t count) noexcept {
      if (given.size() != count)
        return polymac::status::make(errc::shape, name, ": expected ", count, " numbers of ", what, ", got ",
                                     given.size());
      for (std::size_t i = 0; i < count; ++i)
        if (!polymac::detail::finite(given[i]))
          return polymac::status::make(errc::parameter, name, ": number ", i, " of ", what, " is not finite");
      return polymac::status{};
    };
    const std::size_t anchor_count = s.heads * s.anchors;
    auto e = expect("anchors (heads x anchors x key_size)", learnt.anchors, anchor_count * s.key_size);
    if (e.ok() && !learnt.means.empty()) e = expect("means (heads x anchors)", learnt.means, anchor_count);
    if (e.ok()) e = expect("projection (heads x bits x anchors)", learnt.projection, s.heads * s.bits * s.anchors);
    if (e.ok() && (!polymac::detail::finite(options_.spread) || options_.spread < 0.0f))
      e = polymac::status::make(errc::parameter, name, ": expected a finite spread of at least 0 (0: from the call)");
    if (e.ok()) e = anchors_.resize(learnt.anchors.size());
    if (e.ok()) e = squares_.resize(anchor_count);
    if (e.ok()) e = anchor_totals_.resize(s.heads * s.key_size);
    if (e.ok()) e = means_.resize(anchor_count);
    if (e.ok()) e = projection_.resize(learnt.projection.size());
    if (!e.ok()) return e;
    for (std::size_t i = 0; i < learnt.anchors.size(); ++i) {
      const std::size_t anchor = i / s.key_size, k = i % s.key_size;
      anchors_[i] = learnt.anchors[i];
      squares_[anchor] += anchors_[i] * anchors_[i];
      anchor_totals_[anchor / s.anchors * s.key_size + k] += static_cast<double>(anchors_[i]);
    }
    for (std::size_t i = 0; i < learnt.means.size(); ++i) means_[i] = learnt.means[i];
    for (std::size_t i = 0; i < learnt.projection.size(); ++i) projection_[i] = learnt.projection[i];
    measure();
    return {};
  }
  /// The workspace of the steps. How products are cut depends on their depth, so all depths are asked.
  void measure() noexcept {
    const std::size_t columns = state_columns();
    std::size_t most = 0;
    const auto more = [&most](std::size_t bytes) noexcept { most = bytes > most ? bytes : most; };
    more(product_workspace_bytes<polymac::mac::float32, I>(shape_.anchors, shape_.key_size));
    more(product_workspace_bytes<polymac::mac::float32, I>(shape_.bits, shape_.anchors));
    for (std::size_t d = 1; d <= max_digits; ++d) more(product_workspace_bytes<mac, I>(d * columns, shape_.bits));
    for (std::size_t d = 1; d <= block; ++d) more(product_workspace_bytes<mac, I>(columns, d));
    for (std::size_t d = 1; d <= causal_block; ++d) more(product_workspace_bytes<mac, I>(d, shape_.bits));
    detail::workspace_pieces pieces;
    static_cast<void>(scratch(*this, pieces));
    step_bytes_ = pieces.bytes() + most;
  }

  polymac::status check_call(std::size_t, std::size_t tokens) const noexcept {
    if (!status_.ok()) return status_;
    if (tokens > max_tokens)
      return polymac::status::make(errc::shape, name, ": expected at most ", max_tokens, " tokens, got ", tokens);
    return {};
  }
  template <class T>
  polymac::status expect_vectors(const char* what, const heads_view<T>& v, std::size_t batch, std::size_t tokens,
                                 std::size_t size, bool written) const noexcept {
    return detail::expect_head_vectors(name, what, v, batch, tokens, shape_.heads, size, written);
  }
  template <class Out, class State>
  polymac::status check_step(const heads_view<const code>& codes, const heads_view<const Value>& v, const State& state,
                             workspace ws, std::size_t added) const noexcept {
    polymac::status s = check_call(codes.batch, codes.tokens);
    if (s.ok()) s = expect_vectors("codes", codes, codes.batch, codes.tokens, shape_.bits, false);
    if (s.ok()) s = expect_vectors("v", v, codes.batch, codes.tokens, shape_.value_size, false);
    if (s.ok()) s = expect_vectors("state", state, codes.batch, state_rows(), state_columns(), added > 0);
    if (s.ok()) s = detail::workspace_pieces::check(name, ws, step_bytes_);
    for (std::size_t n = 0; s.ok() && n < state.batch; ++n)
      for (std::size_t head = 0; s.ok() && head < state.heads; ++head) {
        const auto count = state.at(n, shape_.bits, head)[shape_.value_size];
        if (!(count >= 0) || !(count <= static_cast<sum>(max_tokens)))
          return polymac::status::make(errc::corrupt, name, ": the state of head ", head,
                                       " does not hold a number of tokens: is it one of this layer, or all zeros?");
        const std::size_t tokens = static_cast<std::size_t>(count) + added;
        if (tokens > max_tokens)
          return polymac::status::make(errc::shape, name, ": expected at most ", max_tokens, " tokens in a state, got ",
                                       tokens);
        s = check_numerators<Out>(tokens);
      }
    return s;
  }
  template <class Out>
  polymac::status check_numerators(std::size_t tokens) const noexcept {
    if constexpr (std::is_same_v<Out, std::int32_t>)
      if (tokens > 0x7FFFFFFFu / (128 * (2 * shape_.bits + 1)))
        return polymac::status::make(errc::shape, name, ": numerators of ", tokens,
                                     " tokens may leave 32 bits: ask for std::int64_t");
    return {};
  }
  template <class Out>
  std::size_t size_of() const noexcept {
    constexpr bool integers = std::is_same_v<Value, std::int8_t>;
    static_assert(
        std::is_same_v<Out, float> || (integers && std::is_same_v<Out, std::int8_t>) ||
            (integers && std::is_same_v<Out, std::int32_t>) || (integers && std::is_same_v<Out, std::int64_t>),
        "polymac: hashed_attention writes float; with int8 values also int8, and numerators of 32 and 64 bits");
    return shape_.value_size + (sizeof(Out) >= 4 && std::is_integral_v<Out> ? 1 : 0);
  }
  static constexpr row_range within(row_range r, std::size_t count) noexcept {
    return {r.begin, r.end < count ? r.end : count};
  }
  template <class Function>
  polymac::status for_heads(std::size_t batch, row_range heads, const Function& f) const noexcept {
    const std::size_t last = within(heads, batch * shape_.heads).end;
    for (std::size_t i = heads.begin; i < last; ++i)
      if (polymac::status s = f(i / shape_.heads, i % shape_.heads); !s.ok()) return s;
    return {};
  }

  /// The factor that makes a token's length 1, or 0 where it is 0 (or so short that the factor is no float), and the
  /// square of its length then.
  struct length {
    float factor = 0.0f, square = 0.0f;
  };
  length normalising(const float* token) const noexcept {
    constexpr std::size_t lanes = 8;  // one sum after the other would wait for each addition
    double sums[lanes] = {};
    std::size_t k = 0;
    for (; k + lanes <= shape_.key_size; k += lanes)
      for (std::size_t l = 0; l < lanes; ++l)
        sums[l] += static_cast<double>(token[k + l]) * static_cast<double>(token[k + l]);
    for (; k < shape_.key_size; ++k) sums[0] += static_cast<double>(token[k]) * static_cast<double>(token[k]);
    const double squares = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    if (squares < 1e-76) return {};
    const auto factor = static_cast<float>(1.0 / std::sqrt(squares));
    return {factor, static_cast<float>(static_cast<double>(factor) * static_cast<double>(factor) * squares)};
  }
  /// The mean of all distances: that of a sum of squares needs the sums of tokens and anchors only.
  float spread(std::size_t head, rows_of<const float> qk, std::size_t tokens, double* total) const noexcept {
    if (options_.spread > 0.0f) return options_.spread;
    const std::size_t size = shape_.key_size;
    double squares = 0, anchor_squares = 0, both = 0;
    for (std::size_t k = 0; k < size; ++k) total[k] = 0;
    for (std::size_t i = 0; i < tokens; ++i) {
      const length to_one = normalising(qk[i]);
      squares += static_cast<double>(to_one.square);
      for (std::size_t k = 0; k < size; ++k) total[k] += static_cast<double>(to_one.factor * qk[i][k]);
    }
    for (std::size_t k = 0; k < size; ++k) both += total[k] * anchor_totals_[head * size + k];
    for (std::size_t j = 0; j < shape_.anchors; ++j)
      anchor_squares += static_cast<double>(squares_[head * shape_.anchors + j]);
    const auto n = static_cast<double>(tokens), m = static_cast<double>(shape_.anchors);
    const double mean = squares / n + anchor_squares / m - 2 * both / (n * m);
    return mean < static_cast<double>(least_spread) ? least_spread : static_cast<float>(mean);
  }

  polymac::status encode_head(std::size_t head, rows_of<const float> qk, std::size_t tokens, row_range part,
                              rows_of<code> codes, const scratch& memory) const noexcept {
    const std::size_t size = shape_.key_size, m = shape_.anchors, bits = shape_.bits;
    if (part.begin >= part.end) return {};
    const float scale = 1.0f / (2.0f * spread(head, qk, tokens, memory.total));
    const float *squares = squares_.data() + head * m, *means = means_.data() + head * m;
    const matrix_view<const float> anchors(anchors_.data() + head * m * size, m, size);
    const matrix_view<const float> projection(projection_.data() + head * bits * m, bits, m);
    float lengths[block];
    for (std::size_t first = part.begin; first < part.end; first += block) {
      const std::size_t count = polymac::detail::smaller(block, part.end - first);
      for (std::size_t i = 0; i < count; ++i) {
        const float* const token = qk[first + i];
        const length to_one = normalising(token);
        for (std::size_t k = 0; k < size; ++k) memory.tokens[i * size + k] = to_one.factor * token[k];
        lengths[i] = to_one.square;
      }
      const matrix_view<const float> block_tokens(memory.tokens, count, size);
      auto s = product<polymac::mac::float32, I>(block_tokens, anchors, {memory.distances, count, m}, memory.product);
      if (!s.ok()) return s;
      for (std::size_t i = 0; i < count; ++i) {
        float* const d = memory.distances + i * m;
        for (std::size_t j = 0; j < m; ++j) {
          const float negative = 2.0f * d[j] - (lengths[i] + squares[j]);
          d[j] = negative > 0.0f ? 0.0f : negative;  // what rounding made of 0; NaN stays
        }
        kernel::exp_of(d, d, m, 0.0f, scale);
        for (std::size_t j = 0; j < m; ++j) d[j] -= means[j];
      }
      const matrix_view<const float> kappa(memory.distances, count, m);
      s = product<polymac::mac::float32, I>(kappa, projection, {memory.projections, count, bits}, memory.product);
      if (!s.ok()) return s;
      for (std::size_t i = 0; i < count; ++i)
        for (std::size_t r = 0; r < bits; ++r)
          codes[first + i][r] = detail::sign_code(memory.projections[i * bits + r]);
    }
    return {};
  }

  /// A code as an operand: floats know what no code is.
  static operand operand_of(code c) noexcept {
    if constexpr (std::is_same_v<Value, float>)
      return c == 0 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(c);
    else
      return c;
  }
  bool is_shifted() const noexcept { return std::is_same_v<Value, float> && options_.bias == bias_mode::normalised; }
  /// Values of a block less the first token's, and a 1 behind them. Sets that value in an empty state.
  void read_values(rows_of<const Value> v, std::size_t first, std::size_t count, rows_of<sum> state,
                   const scratch& memory) const noexcept {
    const std::size_t size = shape_.value_size;
    const bool shifted = is_shifted();
    sum* const origin = state[shape_.bits + 1];
    if constexpr (std::is_same_v<Value, float>)
      if (shifted && state[shape_.bits][size] == 0.0f)
        for (std::size_t c = 0; c < size; ++c) origin[c] = polymac::detail::finite(v[first][c]) ? v[first][c] : 0.0f;
    for (std::size_t i = 0; i < count; ++i) {
      operand* const to = memory.values + i * (size + 1);
      const Value* const from = v[first + i];
      for (std::size_t c = 0; c < size; ++c) to[c] = from[c];
      if constexpr (std::is_same_v<Value, float>)
        if (shifted)
          for (std::size_t c = 0; c < size; ++c) to[c] -= origin[c];
      to[size] = operand{1};
    }
  }
  /// Adds a block, of which the values have been read, to the state.
  polymac::status add_block(rows_of<const code> codes, std::size_t first, std::size_t count, rows_of<sum> state,
                            const scratch& memory) const noexcept {
    const std::size_t bits = shape_.bits, columns = state_columns();
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t r = 0; r < bits; ++r) memory.signs[r * count + i] = operand_of(codes[first + i][r]);
    const matrix_view<const operand> signs(memory.signs, bits, count), values(memory.values, count, columns);
    const auto s = product<mac, I>(signs, transposed(values), {memory.sums, bits, columns}, memory.product);
    if (!s.ok()) return s;
    for (std::size_t r = 0; r < bits; ++r)
      for (std::size_t c = 0; c < columns; ++c) state[r][c] += memory.sums[r * columns + c];
    sum* const all = state[bits];
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t c = 0; c < columns; ++c) all[c] += static_cast<sum>(memory.values[i * columns + c]);
    return {};
  }
  polymac::status accumulate_head(rows_of<const code> codes, rows_of<const Value> v, row_range part, rows_of<sum> state,
                                  const scratch& memory) const noexcept {
    for (std::size_t first = part.begin; first < part.end; first += block) {
      const std::size_t count = polymac::detail::smaller(block, part.end - first);
      read_values(v, first, count, state, memory);
      if (const auto s = add_block(codes, first, count, state, memory); !s.ok()) return s;
    }
    return {};
  }

  /// T as operands: floats as they are; integers as digits of radix 256, each in [-128, 127], one after the other as
  /// columns. Returns how many. |T| is at most 128 x 2^23, which four digits hold.
  std::size_t read_state(rows_of<const sum> state, const scratch& memory) const noexcept {
    const std::size_t bits = shape_.bits, columns = state_columns();
    if constexpr (std::is_same_v<Value, float>) {
      for (std::size_t r = 0; r < bits; ++r)
        for (std::size_t c = 0; c < columns; ++c) memory.state[r * columns + c] = state[r][c];
      return 1;
    } else {
      std::int64_t least = 0, most = 0;
      for (std::size_t r = 0; r < bits; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
          const std::int64_t t = state[r][c];
          least = t < least ? t : least;
          most = t > most ? t : most;
        }
      std::size_t digits = 1;
      for (std::int64_t high = 127, low = -128; digits < max_digits && (most > high || least < low); ++digits) {
        high = high * 256 + 127;
        low = low * 256 - 128;
      }
      for (std::size_t r = 0; r < bits; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
          std::int64_t t = state[r][c];
          for (std::size_t d = 0; d < digits; ++d) {
            const auto digit = static_cast<std::int8_t>(static_cast<std::uint8_t>(t & 255));
            memory.state[(r * digits + d) * columns + c] = digit;
            t = (t - digit) / 256;
          }
        }
      return digits;
    }
  }
  /// sums[count][digits x columns] = codes x T.
  polymac::status multiply_state(rows_of<const code> codes, std::size_t first, std::size_t count, std::size_t digits,
                                 const scratch& memory) const noexcept {
    const std::size_t bits = shape_.bits, columns = digits * state_columns();
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t r = 0; r < bits; ++r) memory.signs[i * bits + r] = operand_of(codes[first + i][r]);
    const matrix_view<const operand> signs(memory.signs, count, bits), state(memory.state, bits, columns);
    return product<mac, I>(signs, transposed(state), {memory.sums, count, columns}, memory.product);
  }
  /// One token: `sums` in digits, `inner` (or null) what its block adds, `seen` the sums of values it sees.
  template <class Out>
  void finish(const sum* sums, std::size_t digits, const sum* inner, const sum* seen, const Value* own,
              const sum* origin, Out* y) const noexcept {
    const std::size_t size = shape_.value_size, columns = size + 1;
    const auto bias = static_cast<wide>(similarity_bias());
    const bool normalised = options_.bias == bias_mode::normalised;
    const auto at = [&](std::size_t c) noexcept {
      wide all = static_cast<wide>(sums[c]);
      if constexpr (!std::is_same_v<Value, float>)
        for (std::size_t d = 1; d < digits; ++d)
          all += static_cast<wide>(sums[d * columns + c]) * (std::int64_t{1} << (8 * d));
      if (inner != nullptr) all += static_cast<wide>(inner[c]);
      return all;
    };
    const wide denominator = at(size) + bias * static_cast<wide>(seen[size]);
    for (std::size_t c = 0; c < size; ++c) {
      const wide numerator = at(c) + bias * (normalised ? static_cast<wide>(seen[c]) : static_cast<wide>(own[c]));
      if constexpr (std::is_same_v<Value, float>) {
        const float quotient = numerator / denominator;
        y[c] = normalised ? origin[c] + quotient : quotient;
      } else if constexpr (std::is_same_v<Out, float>) {  // both are exact in double, so equal values stay equal
        y[c] = static_cast<float>(static_cast<double>(numerator) / static_cast<double>(denominator));
      } else if constexpr (std::is_same_v<Out, std::int8_t>) {
        const wide magnitude = numerator < 0 ? -numerator : numerator;
        const wide rounded = denominator > 0 ? (2 * magnitude + denominator) / (2 * denominator) : 0;
        const wide quotient = numerator < 0 ? -rounded : rounded;
        y[c] = static_cast<std::int8_t>(quotient < -128 ? -128 : quotient > 127 ? 127 : quotient);
      } else {
        y[c] = static_cast<Out>(numerator);
      }
    }
    if constexpr (std::is_integral_v<Out> && sizeof(Out) >= 4) y[size] = static_cast<Out>(denominator);
  }

  template <class Out>
  polymac::status attend_head(rows_of<const code> codes, rows_of<const Value> v, rows_of<const sum> state,
                              rows_of<Out> y, row_range queries, const scratch& memory) const noexcept {
    const std::size_t digits = read_state(state, memory), columns = digits * state_columns();
    for (std::size_t first = queries.begin; first < queries.end; first += block) {
      const std::size_t count = polymac::detail::smaller(block, queries.end - first);
      if (const auto s = multiply_state(codes, first, count, digits, memory); !s.ok()) return s;
      for (std::size_t i = 0; i < count; ++i)
        finish(memory.sums + i * columns, digits, nullptr, state[shape_.bits], v[first + i], state[shape_.bits + 1],
               y[first + i]);
    }
    return {};
  }

  template <class Out>
  polymac::status advance_head(rows_of<const code> codes, rows_of<const Value> v, std::size_t tokens,
                               rows_of<sum> state, rows_of<Out> y, row_range queries,
                               const scratch& memory) const noexcept {
    const std::size_t bits = shape_.bits, columns = state_columns();
    for (std::size_t first = 0, count = 0; first < tokens; first += count) {
      count = polymac::detail::smaller(causal_block, tokens - first);
      if (first + count <= queries.begin) {  // nobody asks
        read_values(v, first, count, state, memory);
        if (const auto s = add_block(codes, first, count, state, memory); !s.ok()) return s;
        continue;
      }
      // 0 times infinity is NaN: a value that is not finite must not stand in a product with tokens before it.
      if constexpr (std::is_same_v<Value, float>) {
        bool finite = true;
        for (std::size_t i = 0; i < count; ++i)
          for (std::size_t c = 0; c < shape_.value_size; ++c) finite &= polymac::detail::finite(v[first + i][c]);
        if (!finite) count = 1;
      }
      read_values(v, first, count, state, memory);
      const std::size_t digits = read_state(state, memory);
      if (const auto s = multiply_state(codes, first, count, digits, memory); !s.ok()) return s;
      const matrix_view<const operand> signs(memory.signs, count, bits), values(memory.values, count, columns);
      if (const auto s = product<mac, I>(signs, signs, {memory.pairs, count, count}, memory.product); !s.ok()) return s;
      // |h . h| is at most 63, so it is an operand.
      for (std::size_t i = 0; i < count; ++i)
        for (std::size_t j = 0; j < count; ++j)
          memory.similar[i * count + j] = j > i ? operand{} : static_cast<operand>(memory.pairs[i * count + j]);
      const matrix_view<const operand> similar(memory.similar, count, count);
      const auto s = product<mac, I>(similar, transposed(values), {memory.inner, count, columns}, memory.product);
      if (!s.ok()) return s;
      for (std::size_t c = 0; c < columns; ++c) memory.seen[c] = state[bits][c];
      for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t c = 0; c < columns; ++c) memory.seen[c] += static_cast<sum>(memory.values[i * columns + c]);
        if (first + i < queries.begin || first + i >= queries.end) continue;
        finish(memory.sums + i * digits * columns, digits, memory.inner + i * columns, memory.seen, v[first + i],
               state[bits + 1], y[first + i]);
      }
      if (const auto added = add_block(codes, first, count, state, memory); !added.ok()) return added;
    }
    return {};
  }

  hashed_attention_shape shape_;
  hashed_attention_options options_;
  buffer<float> anchors_, squares_, means_, projection_;
  buffer<double> anchor_totals_;
  std::size_t step_bytes_ = 0;
  polymac::status status_;
};

}  // namespace layer

using layer::bias_mode;
using layer::hashed_attention_options;
using layer::hashed_attention_shape;
using layer::hashing_parameters;

POLYMAC_END
