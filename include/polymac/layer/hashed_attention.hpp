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
//
//      hash_function.hpp          qk to codes
//      hashed_state.hpp           codes and values to T, and T to outputs
//      attention_operations.hpp   what that costs, in operations
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/text.hpp"
#include "polymac/core/view.hpp"
#include "polymac/layer/attention_operations.hpp"
#include "polymac/layer/hash_function.hpp"
#include "polymac/layer/hashed_attention_options.hpp"
#include "polymac/layer/hashed_state.hpp"
#include "polymac/layer/head_rows.hpp"
#include "polymac/layer/heads_bounds.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

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

 public:
  using value = Value;
  using code = std::int8_t;
  using sum = typename arithmetic::sum;
  static constexpr std::size_t max_tokens = (std::size_t{1} << 23) - 1;
  static constexpr std::size_t max_bits = 63;
  static constexpr float least_spread = detail::hash_function<I>::least_spread;

  /// Throws polymac::error (or sets `status()` where exceptions are off) on what does not fit. O(parameters).
  explicit hashed_attention(const hashed_attention_shape& shape, const hashing_parameters& learnt,
                            const hashed_attention_options& options = {})
      : shape_(shape), options_(options) {
    status_ = construct(learnt);
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  const hashed_attention_shape& shape() const noexcept { return shape_; }
  std::size_t state_rows() const noexcept { return steps().state_rows(); }
  std::size_t state_columns() const noexcept { return steps().state_columns(); }
  /// c.
  int similarity_bias() const noexcept { return steps().similarity_bias(); }
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
    const detail::head_rows<code> h{codes, shape_.bits};
    const detail::head_rows<sum> t{state, state_columns()};
    return for_heads(qk.batch, heads, [&](std::size_t n, std::size_t head) noexcept {
      polymac::status done =
          hash_.encode(head, detail::rows_of_head(qk, n, head), qk.tokens, {0, last}, h, memory.hashing);
      for (std::size_t i = 0; i < state_rows() * state_columns(); ++i) state[i] = sum{};
      if (options_.causal) {
        if (done.ok())
          done = steps().advance(h, detail::rows_of_head(v, n, head), last, t, detail::rows_of_head(y, n, head), part,
                                 memory.steps);
        return done;
      }
      if (done.ok()) done = steps().accumulate(h, detail::rows_of_head(v, n, head), {0, qk.tokens}, t, memory.steps);
      if (done.ok())
        done = steps().attend(h, detail::rows_of_head(v, n, head), t, detail::rows_of_head(y, n, head), part,
                              memory.steps);
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
      return hash_.encode(head, detail::rows_of_head(qk, n, head), qk.tokens, within(tokens, qk.tokens),
                          detail::rows_of_head(codes, n, head), memory.hashing);
    });
  }
  /// Adds the tokens to the state.
  polymac::status accumulate(heads_view<const code> codes, heads_view<const Value> v, heads_view<sum> state,
                             workspace ws, row_range heads = {}) const noexcept {
    polymac::status s = check_step<Value>(codes, v, state, ws, codes.tokens);
    if (!s.ok()) return s;
    const scratch memory(*this, ws);
    return for_heads(codes.batch, heads, [&](std::size_t n, std::size_t head) noexcept {
      return steps().accumulate(detail::rows_of_head(codes, n, head), detail::rows_of_head(v, n, head),
                                {0, codes.tokens}, detail::rows_of_head(state, n, head), memory.steps);
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
      return steps().attend(detail::rows_of_head(codes, n, head), detail::rows_of_head(v, n, head),
                            detail::rows_of_head(state, n, head), detail::rows_of_head(y, n, head),
                            within(queries, codes.tokens), memory.steps);
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
      return steps().advance(detail::rows_of_head(codes, n, head), detail::rows_of_head(v, n, head), codes.tokens,
                             detail::rows_of_head(state, n, head), detail::rows_of_head(y, n, head), {0, codes.tokens},
                             memory.steps);
    });
  }

  text<511> explain() const noexcept {
    if (!status_.ok()) return text<511>::join(status_.text());
    return text<511>::join("hashed_attention ", shape_.heads, " heads, keys of ", shape_.key_size, ", values of ",
                           shape_.value_size, " (", mac::name, "), codes of ", shape_.bits, " bits from ",
                           shape_.anchors, " anchors, c = ", similarity_bias(), options_.causal ? ", causal" : "",
                           options_.bias == bias_mode::reference_code ? ", numerator of the reference code" : "",
                           ", blocks of ", steps_type::block, " tokens, workspace ", step_bytes_, " bytes and ",
                           shape_.bits, " for each token");
  }

 private:
  static constexpr const char* name = "hashed_attention";

  using hash_type = detail::hash_function<I>;
  using steps_type = detail::hashed_state<Value, I>;
  steps_type steps() const noexcept { return {shape_, options_.bias}; }

  /// The pieces of a workspace.
  struct scratch {
    typename hash_type::scratch hashing;
    typename steps_type::scratch steps;

    scratch(const hashed_attention& a, workspace ws) noexcept {
      detail::workspace_pieces pieces(ws);
      take(a, pieces);
      hashing.product = steps.product = workspace(ws.data + pieces.bytes(), ws.size - pieces.bytes());
    }
    scratch(const hashed_attention& a, detail::workspace_pieces& pieces) noexcept { take(a, pieces); }
    void take(const hashed_attention& a, detail::workspace_pieces& pieces) noexcept {
      hash_type::take(a.shape_, pieces, hashing);
      a.steps().take(pieces, steps);
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
    if (auto e = hash_.construct(name, s, learnt, options_.spread); !e.ok()) return e;
    detail::workspace_pieces pieces;
    static_cast<void>(scratch(*this, pieces));
    step_bytes_ = pieces.bytes() + polymac::detail::greater(hash_type::product_bytes(s), steps().product_bytes());
    return {};
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

  hashed_attention_shape shape_;
  hashed_attention_options options_;
  detail::hash_function<I> hash_;
  std::size_t step_bytes_ = 0;
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
