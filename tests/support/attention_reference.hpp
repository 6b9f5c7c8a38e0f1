// SPDX-License-Identifier: MIT
// Scaled dot product attention by its definition: all scores, one after the other, in double.
#pragma once

#include "support/random.hpp"

#include <polymac/core/view.hpp>
#include <polymac/layer/attention_options.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace polymac_test {

/// Which of the two dense orders.
enum class order { by_token, by_head };

/// Vectors of heads and their memory.
struct heads {
  std::size_t batch, tokens, count, size;
  order in;
  std::vector<float> values;

  heads(std::size_t batch_, std::size_t tokens_, std::size_t count_, std::size_t size_, order in_ = order::by_token)
      : batch(batch_), tokens(tokens_), count(count_), size(size_), in(in_), values(batch * tokens * count * size) {}
  heads(random_source& random, std::size_t batch_, std::size_t tokens_, std::size_t count_, std::size_t size_,
        order in_ = order::by_token)
      : heads(batch_, tokens_, count_, size_, in_) {
    values = uniform<float>(random, values.size());
  }
  polymac::heads_view<float> view() { return view_of(values.data()); }
  polymac::heads_view<const float> view() const { return view_of(values.data()); }
  float* at(std::size_t n, std::size_t t, std::size_t h) { return view().at(n, t, h); }
  const float* at(std::size_t n, std::size_t t, std::size_t h) const { return view().at(n, t, h); }
  /// The same vectors in the other order.
  heads reordered(order to) const {
    heads other(batch, tokens, count, size, to);
    for (std::size_t n = 0; n < batch; ++n)
      for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t h = 0; h < count; ++h) std::copy_n(at(n, t, h), size, other.at(n, t, h));
    return other;
  }

 private:
  template <class T>
  polymac::heads_view<T> view_of(T* data) const {
    return in == order::by_head ? polymac::heads_view<T>::by_head(data, batch, tokens, count, size)
                                : polymac::heads_view<T>::by_token(data, batch, tokens, count, size);
  }
};

/// What attention gives, in the order [batch][query][head][element]. Keys in [0, keys of the batch).
inline std::vector<double> attention_in_double(const polymac::layer::attention_shape& shape,
                                               const polymac::layer::attention_options& o,
                                               const polymac::heads_view<const float>& q,
                                               const polymac::heads_view<const float>& k,
                                               const polymac::heads_view<const float>& v,
                                               const polymac::layer::attention_mask& mask = {},
                                               std::span<const std::size_t> key_counts = {}) {
  using polymac::layer::causal;
  std::vector<double> y;
  const double scale =
      o.scale != 0.0f ? static_cast<double>(o.scale) : 1 / std::sqrt(static_cast<double>(shape.key_size));
  for (std::size_t n = 0; n < q.batch; ++n)
    for (std::size_t i = 0; i < q.tokens; ++i)
      for (std::size_t h = 0; h < q.heads; ++h) {
        const std::size_t keys = key_counts.empty() ? k.tokens : key_counts[n];
        const std::size_t key_head = h * shape.key_heads / shape.query_heads;
        auto place = static_cast<std::int64_t>(i);
        if (o.direction != causal::top_left)
          place += static_cast<std::int64_t>(keys) - static_cast<std::int64_t>(q.tokens);
        std::vector<double> scores(keys, -std::numeric_limits<double>::infinity());
        double most = -std::numeric_limits<double>::infinity();
        for (std::size_t j = 0; j < keys; ++j) {
          const std::int64_t behind = static_cast<std::int64_t>(j) - place;
          const auto window = static_cast<std::int64_t>(o.window);
          if (o.direction != causal::none && behind > 0) continue;
          if (window > 0 && (behind >= window || -behind >= window)) continue;
          double s = 0;
          for (std::size_t e = 0; e < shape.key_size; ++e)
            s += static_cast<double>(q.at(n, i, h)[e]) * static_cast<double>(k.at(n, j, key_head)[e]);
          s *= scale;
          if (o.softcap > 0.0f) s = static_cast<double>(o.softcap) * std::tanh(s / static_cast<double>(o.softcap));
          if (!o.slopes.empty()) s -= static_cast<double>(o.slopes[h]) * static_cast<double>(std::abs(behind));
          const std::size_t at = n * mask.batch_stride + h * mask.head_stride + i * mask.query_stride + j;
          if (mask.added != nullptr) s += static_cast<double>(mask.added[at]);
          if (mask.kept != nullptr && !mask.kept[at]) continue;
          scores[j] = s;
          if (!(s <= most)) most = s;
        }
        if (!o.sinks.empty()) most = std::max(most, static_cast<double>(o.sinks[h]));
        const bool sees = most != -std::numeric_limits<double>::infinity();
        double sum = sees && !o.sinks.empty() ? std::exp(static_cast<double>(o.sinks[h]) - most) : 0;
        std::vector<double> all(shape.value_size);
        for (std::size_t j = 0; sees && j < keys; ++j) {
          const double w = std::exp(scores[j] - most);
          if (w == 0) continue;
          sum += w;
          for (std::size_t e = 0; e < shape.value_size; ++e) all[e] += w * static_cast<double>(v.at(n, j, key_head)[e]);
        }
        for (const double a : all) y.push_back(sum != 0 ? a / sum : 0);
      }
  return y;
}

/// Sum of squared differences, over the sum of squares of what is expected.
inline double normalised_error(const std::vector<double>& expected, const std::vector<float>& got) {
  if (expected.size() != got.size()) return std::numeric_limits<double>::infinity();
  double error = 0, all = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = static_cast<double>(got[i]) - expected[i];
    error += d * d;
    all += expected[i] * expected[i];
  }
  return error == 0 ? 0 : error / all;
}

}  // namespace polymac_test
