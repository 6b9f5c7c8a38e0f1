// SPDX-License-Identifier: MIT
// Which keys a query sees, and what is added to their scores.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace layer {

/// Does a query see the keys behind its own place? The place of query i among the keys is
///   top_left       i                                  (PyTorch's is_causal)
///   bottom_right   i + keys - queries: the last query sees the last key (FlashAttention, caches of keys)
/// With as many queries as keys both are the same.
enum class causal {
  none,  ///< all keys are seen; places are those of bottom_right
  top_left,
  bottom_right,
};

/// Numbers of heads and sizes of their vectors. `query_heads` is a multiple of `key_heads`: query head h reads key head
/// h / (query_heads / key_heads) (grouped queries; one key head: multi-query).
struct attention_shape {
  std::size_t query_heads = 0;
  std::size_t key_heads = 0;
  std::size_t key_size = 0;    ///< of queries and keys
  std::size_t value_size = 0;  ///< of values and outputs
};

/// How scores become weights:
///
///   s[j] = scale * q . k[j]
///   s[j] = softcap * tanh(s[j] / softcap)      if softcap > 0, before any mask
///   s[j] = s[j] - slope[h] * |place - j|       where there are slopes (ALiBi)
///   s[j] = s[j] + mask.added[j], or -infinity where mask.kept[j] is false
///   w[j] = exp(s[j]) / (sum over the keys that are seen of exp(s[j]), + exp(sink[h]) where there are sinks)
struct attention_options {
  float scale = 0.0f;    ///< 0: 1 / sqrt(key_size)
  float softcap = 0.0f;  ///< 0: none
  causal direction = causal::none;
  /// Keys in the sliding window of a query, the one at its place among them: those `window - 1` before it and, where the
  /// direction is none, behind it. 0: all.
  std::size_t window = 0;
  std::span<const float> slopes{};  ///< for each query head, or none
  std::span<const float> sinks{};   ///< logits, finite or -infinity, for each query head, or none
};

/// The slopes of ALiBi (Press et al. 2022, arXiv 2108.12409) for any number of heads, written to `slopes`:
/// 2^(-max_bias (h + 1) / n) for the first n heads, n the largest power of two that is not more than their number, and
/// 2^(-max_bias (2 (h - n) + 1) / (2 n)) for the rest.
inline void alibi_slopes(std::span<float> slopes, float max_bias = 8.0f) noexcept {
  std::size_t n = 1;
  while (2 * n <= slopes.size()) n *= 2;
  for (std::size_t h = 0; h < slopes.size(); ++h) {
    const double part = h < n ? static_cast<double>(h + 1) / static_cast<double>(n)
                              : static_cast<double>(2 * (h - n) + 1) / static_cast<double>(2 * n);
    slopes[h] = static_cast<float>(std::exp2(-static_cast<double>(max_bias) * part));
  }
}

/// What is added to the scores of a call, or which keys it keeps: one of the two, for every query a row of as many
/// elements as there are keys. Strides in elements; 0 where batches, heads or queries share a row.
struct attention_mask {
  const float* added = nullptr;  ///< -infinity: the key is not seen
  const bool* kept = nullptr;    ///< false: the key is not seen
  std::size_t batch_stride = 0;
  std::size_t head_stride = 0;  ///< of query heads
  std::size_t query_stride = 0;

  constexpr bool exists() const noexcept { return added != nullptr || kept != nullptr; }
  constexpr std::size_t row(std::size_t n, std::size_t head, std::size_t query) const noexcept {
    return n * batch_stride + head * head_stride + query * query_stride;
  }
};

/// What one call computes, for callers with threads: some queries, some query heads. Some keys only: the results are
/// then parts, to be joined by their sums (layer/attention.hpp).
struct attention_part {
  row_range queries{};
  row_range heads{};
  row_range keys{};
};

namespace detail {

/// Keys [begin, end) that a query sees.
struct seen_keys {
  std::size_t begin = 0, end = 0;
};

/// Of the query at row `query` of `queries`, among `keys` keys.
constexpr seen_keys keys_seen(const attention_options& o, std::size_t query, std::size_t queries,
                              std::size_t keys) noexcept {
  // The place may lie before the first key.
  const bool from_end = o.direction != causal::top_left;
  const std::size_t place = query + (from_end ? keys : 0), shift = from_end ? queries : 0;  // place - shift
  seen_keys seen{0, keys};
  if (o.direction != causal::none)
    seen.end = place + 1 > shift ? polymac::detail::smaller(place + 1 - shift, keys) : 0;
  else if (o.window > 0)
    seen.end = place + o.window > shift ? polymac::detail::smaller(place + o.window - shift, keys) : 0;
  if (o.window > 0 && place + 1 > shift + o.window) seen.begin = place + 1 - shift - o.window;
  if (seen.begin > seen.end) seen.begin = seen.end;
  return seen;
}

/// Do shape and options make sense?
inline status check(const char* who, const attention_shape& s, const attention_options& o) noexcept {
  if (s.query_heads == 0 || s.key_heads == 0 || s.key_size == 0 || s.value_size == 0 ||
      s.query_heads % s.key_heads != 0)
    return status::make(
        errc::shape, who, ": expected heads and sizes above 0, and query heads a multiple of key heads, got ",
        s.query_heads, " query heads, ", s.key_heads, " key heads, sizes ", s.key_size, " and ", s.value_size);
  constexpr std::size_t most = std::size_t{1} << 20;
  if (s.query_heads > most || s.key_size > most || s.value_size > most)
    return status::make(errc::shape, who, ": expected at most ", most, " heads and elements of a head, got ",
                        s.query_heads, " heads, sizes ", s.key_size, " and ", s.value_size);
  const auto finite = [](float v) { return v - v == 0.0f; };
  if (!finite(o.scale)) return status::make(errc::parameter, who, ": expected a finite scale");
  if (!finite(o.softcap) || o.softcap < 0.0f)
    return status::make(errc::parameter, who, ": expected a finite softcap, at least 0");
  if (!o.slopes.empty() && o.slopes.size() != s.query_heads)
    return status::make(errc::shape, who, ": expected a slope for each of ", s.query_heads,
                        " query heads or none, got ", o.slopes.size());
  if (!o.sinks.empty() && o.sinks.size() != s.query_heads)
    return status::make(errc::shape, who, ": expected a sink for each of ", s.query_heads, " query heads or none, got ",
                        o.sinks.size());
  for (std::size_t h = 0; h < o.slopes.size(); ++h)
    if (!finite(o.slopes[h])) return status::make(errc::parameter, who, ": expected finite slopes, head ", h);
  for (std::size_t h = 0; h < o.sinks.size(); ++h)
    if (!(o.sinks[h] <= std::numeric_limits<float>::max()))
      return status::make(errc::parameter, who, ": expected sinks that are finite or -infinity, head ", h);
  return {};
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
