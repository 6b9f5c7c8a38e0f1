// SPDX-License-Identifier: MIT
// Hash codes of tokens: distances to anchors, a kernel of them, and the signs of its projections (layer/hashed_attention.hpp).
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/functions.hpp"
#include "polymac/layer/hashed_attention_options.hpp"
#include "polymac/layer/head_rows.hpp"
#include "polymac/layer/heads_bounds.hpp"
#include "polymac/layer/product.hpp"
#include "polymac/mac/float32.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// The code of a projection: -1 below 0, else 1 (also for 0 and -0, as mac::sign::encode), 0 for NaN.
constexpr std::int8_t sign_code(float projection) noexcept {
  return projection < 0.0f ? std::int8_t{-1} : projection >= 0.0f ? std::int8_t{1} : std::int8_t{0};
}

/// The hash function of all heads. The codes of tokens are made a block at a time.
template <Isa I>
class hash_function {
 public:
  using code = std::int8_t;
  static constexpr std::size_t block = 256;
  static constexpr float least_spread = 1e-6f;

  /// What a block needs.
  struct scratch {
    float *tokens, *distances, *projections;
    double* total;  ///< the sum of the tokens
    workspace product;
  };
  static void take(const hashed_attention_shape& s, workspace_pieces& p, scratch& to) noexcept {
    to.tokens = p.take<float>(block * s.key_size);
    to.distances = p.take<float>(block * s.anchors);
    to.projections = p.take<float>(block * s.bits);
    to.total = p.take<double>(s.key_size);
  }
  static std::size_t product_bytes(const hashed_attention_shape& s) noexcept {
    const std::size_t distances = product_workspace_bytes<polymac::mac::float32, I>(s.anchors, s.key_size),
                      projections = product_workspace_bytes<polymac::mac::float32, I>(s.bits, s.anchors);
    return polymac::detail::greater(distances, projections);
  }

  /// Copies what was learnt; spread: 0 for that of a call.
  polymac::status construct(const char* name, const hashed_attention_shape& s, const hashing_parameters& learnt,
                            float spread) noexcept {
    shape_ = s;
    spread_ = spread;
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
    if (e.ok() && (!polymac::detail::finite(spread) || spread < 0.0f))
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
    return {};
  }

  /// The codes of the tokens of `part`; sigma is that of the first `tokens` ones.
  polymac::status encode(std::size_t head, head_rows<const float> qk, std::size_t tokens, row_range part,
                         head_rows<code> codes, const scratch& memory) const noexcept {
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
        for (std::size_t r = 0; r < bits; ++r) codes[first + i][r] = sign_code(memory.projections[i * bits + r]);
    }
    return {};
  }

 private:
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
  float spread(std::size_t head, head_rows<const float> qk, std::size_t tokens, double* total) const noexcept {
    if (spread_ > 0.0f) return spread_;
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

  hashed_attention_shape shape_;
  float spread_ = 0.0f;
  buffer<float> anchors_, squares_, means_, projection_;
  buffer<double> anchor_totals_;
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
