// SPDX-License-Identifier: MIT
// One token's step of a recurrent state, a matrix of keys x values: forget, correct, write, read.
//
//     S = diag(f) S                        f: what is left of each row; one number, or one for each key
//     u = value                            or, by the delta rule, beta (value - S' key)
//     S = S + key u'
//     y = scale S' query                   for each query that shares the state
//
// No contraction: every number of S is read, changed and written by every token, and there is one row of "activations"
// for it, so panels of packed weights would be packed for a single use. (Several tokens at once are contractions:
// layer/linear_attention.hpp.) Columns of S do not know of each other: all four lines run for a block of them, which
// stays in L1 (64 columns of 128 keys: 32 KiB) with its sums in registers, so S comes from L2 once. Plain loops of
// fixed length; compilers make vectors of them.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {

/// A token, as one head of the state sees it.
struct recurrent_token {
  std::size_t keys = 0;           ///< rows of the state
  const float* forget = nullptr;  ///< factors of the rows: `keys` of them, or one (`one_factor`); null: 1
  bool one_factor = false;
  const float* key = nullptr;       ///< what is written
  const float* retrieve = nullptr;  ///< what the delta rule reads with; null: no delta rule
  const float* value = nullptr;
  float beta = 1.0f;             ///< of the delta rule
  const float* query = nullptr;  ///< the first one; others `query_stride` behind
  std::size_t queries = 0;
  std::size_t query_stride = 0;
  float scale = 1.0f;
  float* output = nullptr;  ///< the first one's
  std::size_t output_stride = 0;
};

namespace detail {

/// `Columns` columns, of which `count` are there: all but in the last block.
template <std::size_t Columns, bool All>
POLYMAC_INLINE void recurrent_step_block(const recurrent_token& t, float* state, std::size_t stride, std::size_t first,
                                         [[maybe_unused]] std::size_t count) noexcept {
  const auto columns = [&]() noexcept {
    if constexpr (All)
      return Columns;
    else
      return count;
  };
  // Without a branch: with one, g++ 12 keeps the sums below in memory.
  const float one = 1.0f;
  const float* const forget = t.forget == nullptr ? &one : t.forget;
  const std::size_t each = t.forget == nullptr || t.one_factor ? 0 : 1;
  const auto factor = [forget, each](std::size_t k) noexcept { return forget[k * each]; };
  float* const s = state + first;
  float write[Columns];
  if (t.retrieve != nullptr) {
    float found[Columns] = {};
    for (std::size_t k = 0; k < t.keys; ++k) {
      const float by = t.retrieve[k] * factor(k);
      for (std::size_t c = 0; c < columns(); ++c) found[c] += by * s[k * stride + c];
    }
    for (std::size_t c = 0; c < columns(); ++c) write[c] = t.beta * (t.value[first + c] - found[c]);
  } else {
    for (std::size_t c = 0; c < columns(); ++c) write[c] = t.value[first + c];
  }
  for (std::size_t k = 0; k < t.keys; ++k) {
    const float f = factor(k), key = t.key[k];
    for (std::size_t c = 0; c < columns(); ++c) s[k * stride + c] = f * s[k * stride + c] + key * write[c];
  }
  for (std::size_t q = 0; q < t.queries; ++q) {
    const float* const query = t.query + q * t.query_stride;
    float* const y = t.output + q * t.output_stride + first;
    float sum[Columns] = {};
    for (std::size_t k = 0; k < t.keys; ++k)
      for (std::size_t c = 0; c < columns(); ++c) sum[c] += query[k] * s[k * stride + c];
    for (std::size_t c = 0; c < columns(); ++c) y[c] = t.scale * sum[c];
  }
}

}  // namespace detail

/// The step for `values` columns of a state whose rows are `stride` apart. The outputs must not overlap anything that
/// is read. O(keys * values * (1 + queries)), and as much again for the delta rule.
inline void recurrent_step(const recurrent_token& t, float* state, std::size_t stride, std::size_t values) noexcept {
  std::size_t c = 0;
  for (; c + 64 <= values; c += 64) detail::recurrent_step_block<64, true>(t, state, stride, c, 64);
  for (; c + 16 <= values; c += 16) detail::recurrent_step_block<16, true>(t, state, stride, c, 16);
  if (c < values) detail::recurrent_step_block<16, false>(t, state, stride, c, values - c);
}

}  // namespace kernel
POLYMAC_END
