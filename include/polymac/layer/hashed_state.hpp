// SPDX-License-Identifier: MIT
// The state of attention on hash codes, T and the sums of values, block by block: tokens are added, queries look at it
// (layer/hashed_attention.hpp).
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/layer/hashed_attention_options.hpp"
#include "polymac/layer/head_rows.hpp"
#include "polymac/layer/heads_bounds.hpp"
#include "polymac/layer/product.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/int8.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
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

/// The steps on the state T of a head. Value: float or int8.
template <class Value, Isa I>
class hashed_state {
  using arithmetic = hashed_arithmetic<Value>;
  using mac = typename arithmetic::mac;
  using wide = typename arithmetic::wide;
  using operand = typename mac::activation;  ///< a sign, or a value

 public:
  using code = std::int8_t;
  using sum = typename arithmetic::sum;
  /// Tokens that are looked at together: T's digits are packed once for so many queries.
  static constexpr std::size_t block = 256;
  /// The same where a token sees those before it only: within a block all pairs are made.
  static constexpr std::size_t causal_block = 64;
  static constexpr std::size_t max_digits = std::is_same_v<Value, float> ? 1 : 4;

  /// What a block needs.
  struct scratch {
    operand *signs, *values, *state;  ///< of a block: codes, values, T in digits
    operand* similar;                 ///< h . h of a block's pairs, 0 for later tokens
    sum *sums, *pairs, *inner;        ///< products: with T, of pairs, of these with the values
    sum* seen;                        ///< running sum of values
    workspace product;
  };

  constexpr hashed_state(const hashed_attention_shape& shape, bias_mode bias) noexcept : shape_(shape), bias_(bias) {}

  std::size_t state_rows() const noexcept { return shape_.bits + 2; }
  std::size_t state_columns() const noexcept { return shape_.value_size + 1; }
  /// c.
  int similarity_bias() const noexcept { return static_cast<int>(shape_.bits) + 1; }
  void take(workspace_pieces& p, scratch& to) const noexcept {
    const std::size_t columns = state_columns();
    to.signs = p.take<operand>(block * shape_.bits);
    to.values = p.take<operand>(block * columns);
    to.state = p.take<operand>(shape_.bits * max_digits * columns);
    const std::size_t most = block > shape_.bits ? block : shape_.bits;
    to.sums = p.take<sum>(most * max_digits * columns);
    to.similar = p.take<operand>(causal_block * causal_block);
    to.pairs = p.take<sum>(causal_block * causal_block);
    to.inner = p.take<sum>(causal_block * columns);
    to.seen = p.take<sum>(columns);
  }
  /// How products are cut depends on their depth, so all depths are asked.
  std::size_t product_bytes() const noexcept {
    const std::size_t columns = state_columns();
    std::size_t most = 0;
    const auto more = [&most](std::size_t bytes) noexcept { most = bytes > most ? bytes : most; };
    for (std::size_t d = 1; d <= max_digits; ++d) more(product_workspace_bytes<mac, I>(d * columns, shape_.bits));
    for (std::size_t d = 1; d <= block; ++d) more(product_workspace_bytes<mac, I>(columns, d));
    for (std::size_t d = 1; d <= causal_block; ++d) more(product_workspace_bytes<mac, I>(d, shape_.bits));
    return most;
  }

  /// Adds the tokens of `part`.
  polymac::status accumulate(head_rows<const code> codes, head_rows<const Value> v, row_range part,
                             head_rows<sum> state, const scratch& memory) const noexcept {
    for (std::size_t first = part.begin; first < part.end; first += block) {
      const std::size_t count = polymac::detail::smaller(block, part.end - first);
      read_values(v, first, count, state, memory);
      if (const auto s = add_block(codes, first, count, state, memory); !s.ok()) return s;
    }
    return {};
  }
  /// What the tokens of `queries` see.
  template <class Out>
  polymac::status attend(head_rows<const code> codes, head_rows<const Value> v, head_rows<const sum> state,
                         head_rows<Out> y, row_range queries, const scratch& memory) const noexcept {
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
  /// Token after token: each is added and sees what is there then. Those of `queries` are written.
  template <class Out>
  polymac::status advance(head_rows<const code> codes, head_rows<const Value> v, std::size_t tokens,
                          head_rows<sum> state, head_rows<Out> y, row_range queries,
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

 private:
  /// A code as an operand: floats know what no code is.
  static operand operand_of(code c) noexcept {
    if constexpr (std::is_same_v<Value, float>)
      return c == 0 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(c);
    else
      return c;
  }
  bool is_shifted() const noexcept { return std::is_same_v<Value, float> && bias_ == bias_mode::normalised; }
  /// Values of a block less the first token's, and a 1 behind them. Sets that value in an empty state.
  void read_values(head_rows<const Value> v, std::size_t first, std::size_t count, head_rows<sum> state,
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
  polymac::status add_block(head_rows<const code> codes, std::size_t first, std::size_t count, head_rows<sum> state,
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
  /// T as operands: floats as they are; integers as digits of radix 256, each in [-128, 127], one after the other as
  /// columns. Returns how many. |T| is at most 128 x 2^23, which four digits hold.
  std::size_t read_state(head_rows<const sum> state, const scratch& memory) const noexcept {
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
  polymac::status multiply_state(head_rows<const code> codes, std::size_t first, std::size_t count, std::size_t digits,
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
    const bool normalised = bias_ == bias_mode::normalised;
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

  hashed_attention_shape shape_;
  bias_mode bias_;
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
