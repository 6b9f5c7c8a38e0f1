// SPDX-License-Identifier: MIT
// Attention as polymac and its peers compute it: [head][token][size], scores scaled by 1 / sqrt(size).
#pragma once

#include "bench/problem.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace bench {

struct attention_case {
  std::size_t heads = 12, key_heads = 12, queries = 0, keys = 0, size = 0;
  bool causal = false;

  std::string text() const {
    std::string t = "H";
    t.append(std::to_string(heads));
    if (key_heads != heads) t.append("of").append(std::to_string(key_heads));
    t.append("_q").append(std::to_string(queries));
    t.append("_kv").append(std::to_string(keys));
    return t.append("_d").append(std::to_string(size));
  }
  /// All of them: what a mask leaves out counts, so that a causal case shows its gain.
  double macs() const {
    return 2.0 * static_cast<double>(heads) * static_cast<double>(queries) * static_cast<double>(keys) *
           static_cast<double>(size);
  }
};

struct attention_problem {
  attention_case of;
  lines<float> q, k, v;
  explicit attention_problem(const attention_case& c)
      : of(c),
        q(noise<float>(c.heads * c.queries * c.size, 0, 0, 11)),
        k(noise<float>(c.key_heads * c.keys * c.size, 0, 0, 12)),
        v(noise<float>(c.key_heads * c.keys * c.size, 0, 0, 13)) {
    for (float& x : q) x *= 3.0f;  // weights that differ
  }
};

/// Made once for each case.
inline const attention_problem& attention_of(const attention_case& c) {
  static std::map<std::string, attention_problem> all;
  const std::string key = c.text() + (c.causal ? "c" : "");
  return all.try_emplace(key, c).first->second;
}

/// Squared error of some rows against a computation in double, over the squared results. y: [head][query][size].
inline double attention_error(const attention_problem& p, const float* y) {
  const attention_case& c = p.of;
  double error = 0.0, all = 0.0;
  const std::size_t step = std::max<std::size_t>(1, c.queries / 5);
  for (std::size_t h = 0; h < c.heads; h += std::max<std::size_t>(1, c.heads / 3))
    for (std::size_t i = 0; i < c.queries; i += step) {
      const std::size_t kh = h / (c.heads / c.key_heads);
      const std::size_t seen = c.causal ? i + 1 + c.keys - c.queries : c.keys;
      std::vector<double> w(seen);
      double most = -1e300, sum = 0.0;
      for (std::size_t j = 0; j < seen; ++j) {
        double s = 0.0;
        for (std::size_t d = 0; d < c.size; ++d)
          s += static_cast<double>(p.q[(h * c.queries + i) * c.size + d]) *
               static_cast<double>(p.k[(kh * c.keys + j) * c.size + d]);
        w[j] = s / std::sqrt(static_cast<double>(c.size));
        most = std::max(most, w[j]);
      }
      for (double& x : w) sum += x = std::exp(x - most);
      for (std::size_t d = 0; d < c.size; ++d) {
        double r = 0.0;
        for (std::size_t j = 0; j < seen; ++j) r += w[j] * static_cast<double>(p.v[(kh * c.keys + j) * c.size + d]);
        r /= sum;
        const double got = static_cast<double>(y[(h * c.queries + i) * c.size + d]);
        error += (got - r) * (got - r);
        all += r * r;
      }
    }
  return error / all;
}

}  // namespace bench
