// SPDX-License-Identifier: MIT
// Learns the hash function of layer::hashed_attention: codes that are alike where attention is high.
//
//     S_ij = 1 for the tokens j that i attends to most, -1 for those it attends to least, else 0; times `bits`
//     for each bit r:  a minimises  -y' S y / (N bits),  y = sign(kappa a),  relaxed to 2 / (1 + exp(-kappa a)) - 1
//                      S = S - y y'                      so that the next bit learns what this one has not
//
// Supervised hashing with kernels (Liu et al., CVPR 2012), with attention as its own supervisor, as EcoFormer has it
// (Liu et al., NeurIPS 2022): gradient descent with Nesterov's momentum from a random a, which stays where that did not
// help.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/layer/hashed_attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <numeric>
#include <random>
#include <span>
#include <vector>

POLYMAC_BEGIN
namespace adapt {

struct hash_learning {
  std::size_t bits = 16;
  std::size_t anchors = 25;
  std::size_t top = 10;  ///< tokens with similarity 1, and with -1, of each
  std::size_t iterations = 100;
  double rate = 5e-4;
  double momentum = 0.9;
};

/// What came of it: the sum over the bits of -y' S y / (N bits), with the random vectors and with those that were kept.
struct hash_learning_report {
  double random_loss = 0, loss = 0;
  std::size_t improved_bits = 0;
};

/// Learns one head from `tokens` (N x key_size, finite): anchors (anchors x key_size), means (anchors) and projection
/// (bits x anchors), as hashing_parameters has them of that head. Anchors are tokens drawn with `random` (the same one
/// again where there are too few), of length 1; means are those of exp(-d / (2 sigma)) over the tokens. The same
/// generator gives the same numbers. Refuses what does not fit, with nothing written. Allocates, in double.
/// O(bits * iterations * N^2).
template <std::uniform_random_bit_generator Generator>
status learn_hashing(matrix_view<const float> tokens, const hash_learning& how, Generator& random,
                     std::span<float> anchors, std::span<float> means, std::span<float> projection,
                     hash_learning_report* report = nullptr) {
  const std::size_t n = tokens.rows, size = tokens.columns, m = how.anchors, bits = how.bits;
  if (n == 0 || size == 0 || tokens.data == nullptr || m == 0 || bits == 0 || bits > 63)
    return status::make(errc::shape, "learn_hashing: expected tokens, anchors and 1 to 63 bits, got ", n, " x ", size,
                        " tokens, ", m, " anchors, ", bits, " bits");
  if (anchors.size() != m * size || means.size() != m || projection.size() != bits * m)
    return status::make(errc::shape, "learn_hashing: expected room for ", m * size, " numbers of anchors, ", m,
                        " of means and ", bits * m, " of the projection, got ", anchors.size(), ", ", means.size(),
                        " and ", projection.size());
  if (!(how.rate > 0) || !(how.rate <= 1e6) || !(how.momentum >= 0) || !(how.momentum < 1))
    return status::make(errc::parameter, "learn_hashing: expected a finite rate above 0 and a momentum in [0, 1)");
  using numbers = std::vector<double>;
  const auto uniform = [&random] {  // in (0, 1], the same whatever the standard library
    const auto range = static_cast<double>(Generator::max() - Generator::min());
    return (static_cast<double>(random() - Generator::min()) + 1) / (range + 1);
  };
  numbers q(n * size);
  for (std::size_t i = 0; i < n; ++i) {
    double squares = 0;
    for (std::size_t k = 0; k < size; ++k) squares += std::pow(static_cast<double>(tokens(i, k)), 2);
    if (!std::isfinite(squares)) return status::make(errc::parameter, "learn_hashing: token ", i, " is not finite");
    for (std::size_t k = 0; k < size; ++k)
      q[i * size + k] = squares > 0 ? static_cast<double>(tokens(i, k)) / std::sqrt(squares) : 0.0;
  }
  const auto dot = [](const double* a, const double* b, std::size_t count) {
    return std::inner_product(a, a + count, b, 0.0);
  };

  // Anchors: a draw without repetition as long as there are tokens.
  std::vector<std::size_t> drawn(n);
  std::iota(drawn.begin(), drawn.end(), std::size_t{0});
  for (std::size_t j = 0; j < m; ++j) {
    const std::size_t left = n - j % n,
                      at = j % n +
                           std::min(left - 1, static_cast<std::size_t>((1 - uniform()) * static_cast<double>(left)));
    std::swap(drawn[j % n], drawn[at]);
    for (std::size_t k = 0; k < size; ++k) anchors[j * size + k] = static_cast<float>(q[drawn[j % n] * size + k]);
  }
  // kappa, centred.
  numbers kappa(n * m);
  double sigma = 0;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < m; ++j) {
      for (std::size_t k = 0; k < size; ++k)
        kappa[i * m + j] += std::pow(q[i * size + k] - static_cast<double>(anchors[j * size + k]), 2);
      sigma += kappa[i * m + j] / static_cast<double>(n * m);
    }
  sigma = std::max(sigma, static_cast<double>(layer::hashed_attention<>::least_spread));
  for (double& d : kappa) d = std::exp(-d / (2 * sigma));
  for (std::size_t j = 0; j < m; ++j) {
    double mean = 0;
    for (std::size_t i = 0; i < n; ++i) mean += kappa[i * m + j] / static_cast<double>(n);
    means[j] = static_cast<float>(mean);
    for (std::size_t i = 0; i < n; ++i) kappa[i * m + j] -= static_cast<double>(means[j]);
  }
  // S + S', which is all that y' S y knows of S. Of equal scores the earlier token counts as the higher one.
  numbers s(n * n);
  std::vector<std::size_t> order(n);
  numbers score(n);
  const std::size_t top = std::min(how.top, n / 2);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) score[j] = dot(&q[i * size], &q[j * size], size);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return score[a] > score[b]; });
    for (std::size_t t = 0; t < top; ++t)
      for (const bool most : {true, false}) {
        const std::size_t j = most ? order[t] : order[n - 1 - t];
        const double v = (most ? 0.5 : -0.5) * static_cast<double>(bits);
        s[i * n + j] += v;
        s[j * n + i] += v;
      }
  }

  hash_learning_report all;
  numbers a(m), best(m), velocity(m), y(n), sy(n), gradient(m);
  const double scale = 1.0 / static_cast<double>(n * bits);
  const auto project = [&](const numbers& by, bool relaxed) {
    for (std::size_t i = 0; i < n; ++i) {
      const double z = dot(&kappa[i * m], by.data(), m);
      y[i] =
          relaxed ? 2 / (1 + std::exp(-z)) - 1 : static_cast<double>(layer::detail::sign_code(static_cast<float>(z)));
    }
    for (std::size_t i = 0; i < n; ++i) sy[i] = dot(&s[i * n], y.data(), n);
    return -dot(y.data(), sy.data(), n) * scale;
  };
  for (std::size_t r = 0; r < bits; ++r) {
    for (double& v : a)  // normal numbers (Box, Muller 1958)
      v = std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform());
    best = a;
    const double before = project(a, false);
    std::fill(velocity.begin(), velocity.end(), 0.0);
    for (std::size_t t = 0; t < how.iterations; ++t) {
      project(a, true);
      std::fill(gradient.begin(), gradient.end(), 0.0);
      for (std::size_t i = 0; i < n; ++i) {
        const double by = -2 * scale * sy[i] * (1 - y[i] * y[i]) / 2;
        for (std::size_t j = 0; j < m; ++j) gradient[j] += by * kappa[i * m + j];
      }
      for (std::size_t j = 0; j < m; ++j) {
        velocity[j] = how.momentum * velocity[j] + gradient[j];
        a[j] -= how.rate * (gradient[j] + how.momentum * velocity[j]);
      }
    }
    const double after = project(a, false);
    if (after < before) {
      best = a;
      ++all.improved_bits;
    }
    all.random_loss += before;
    for (std::size_t j = 0; j < m; ++j) projection[r * m + j] = static_cast<float>(best[j]);
    all.loss += project(best, false);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) s[i * n + j] -= y[i] * y[j];
  }
  if (report != nullptr) *report = all;
  return {};
}

}  // namespace adapt
POLYMAC_END
