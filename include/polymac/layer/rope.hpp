// SPDX-License-Identifier: MIT
// Rotary position embedding: a vector is rotated, pair by pair, by angles that grow with its position.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/rotate.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <span>

POLYMAC_BEGIN
namespace layer {

/// Which elements make a pair.
enum class rope_pairs : unsigned char {
  adjacent,  ///< (2 i, 2 i + 1): RoFormer, GPT-J, llama2.c; ONNX: interleaved
  halves,    ///< (i, i + rotary / 2): GPT-NeoX, Hugging Face's Llama
};

/// How positions beyond those of the training are reached. With s = rope_options::factor, D = rotary dimensions:
enum class rope_scaling : unsigned char {
  none,    ///< not at all
  linear,  ///< theta / s: position interpolation
  ntk,     ///< base * s^(D / (D - 2)): the fastest pair keeps its angle, the slowest is interpolated
  yarn,    ///< each pair between both by its number of turns, and an attention factor
};

/// Where YaRN's ramp is linear.
enum class yarn_ramp : unsigned char {
  rotations,   ///< in the turns that a pair makes in `trained_positions`: as the paper has it
  dimensions,  ///< in the number of the pair, between whole numbers: as the authors' code and Hugging Face have it
};

/// Parameters of the angles.
struct rope_options {
  rope_pairs pairs = rope_pairs::adjacent;
  /// Elements of a head that are rotated, from the first on: even, at most its size; the others are handed on. 0: all.
  std::size_t rotary = 0;
  double base = 10000.0;
  rope_scaling scaling = rope_scaling::none;
  double factor = 1.0;  ///< s, at least 1
  // Of YaRN only:
  std::size_t trained_positions = 0;  ///< L, of the training
  double slow_turns = 1.0;            ///< alpha: pairs of fewer turns are interpolated
  double fast_turns = 32.0;           ///< beta: pairs of more turns keep their angle
  yarn_ramp ramp = yarn_ramp::rotations;
  double attention_factor = 0.0;  ///< what cosines and sines are multiplied by; 0: 0.1 ln(s) + 1
};

/// Rotates the vectors of queries and keys: pair i of a vector at position m by the angle m theta[i],
///
///     (a, b) -> (a cos - b sin, a sin + b cos)                theta[i] = base^(-2 i / D), D = rotary dimensions
///
/// so that the product of a query at m and a key at n depends on m - n only, and no norm changes (Su et al., RoFormer,
/// arXiv 2104.09864). With scaling (Peng et al., YaRN, arXiv 2309.00071, sections 3.1 to 3.4):
///
///     linear  theta[i] / s
///     ntk     the same theta with base * s^(D / (D - 2))
///     yarn    (1 - g) theta[i] / s + g theta[i], where g = clamp((r - alpha) / (beta - alpha), 0, 1) of the turns
///             r = L theta[i] / (2 pi); cosines and sines times t = 0.1 ln(s) + 1, for a query and a key both, so that
///             their product, the logit, is multiplied by t^2.
///             yarn_ramp::dimensions: g = 1 - clamp((i - low) / (high - low), 0, 1), low and high the pairs that make
///             beta and alpha turns, D ln(L / (2 pi turns)) / (2 ln base), rounded down and up and kept in [0, D - 1]
///
/// Cosines and sines are computed at construction for `positions` positions, in double, and stored as floats: 4 D bytes
/// a position. Running is noexcept and allocates nothing. NaN and infinities go through a pair as the formula says.
class rope {
 public:
  /// For vectors of `size` elements at positions below `positions`. Throws polymac::error (or sets `status()` where
  /// exceptions are off) on parameters that do not fit. O(positions * rotary) cosines.
  rope(std::size_t size, std::size_t positions, const rope_options& options = {}) : size_(size), pairs_(options.pairs) {
    status_ = construct(positions, options);
    polymac::detail::raise_unless_ok(status_);
  }
  /// From tables of positions x (rotary / 2), which are copied: row m is for position m.
  rope(std::size_t size, matrix_view<const float> cosines, matrix_view<const float> sines,
       rope_pairs pairs = rope_pairs::adjacent)
      : size_(size), pairs_(pairs) {
    status_ = construct(cosines, sines);
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  /// Elements of a vector, how many of them are rotated, and the positions that there are tables for.
  std::size_t size() const noexcept { return size_; }
  std::size_t rotary() const noexcept { return 2 * count_; }
  std::size_t positions() const noexcept { return positions_; }
  /// Bytes of the tables.
  std::size_t bytes() const noexcept { return table_.size() * sizeof(float); }

  /// One vector at `position`: size() elements from `from` to `to`, which may be the same memory. A position that there
  /// is no table for makes all of them NaN, for that cannot be overlooked: who may come there asks positions() first.
  void rotate(std::size_t position, const float* from, float* to) const noexcept {
    if (position >= positions_) {
      for (std::size_t i = 0; i < size_; ++i) to[i] = std::numeric_limits<float>::quiet_NaN();
      return;
    }
    const float* const cosines = table_.data() + position * 2 * count_;
    if (pairs_ == rope_pairs::adjacent)
      kernel::rotate<true>(cosines, cosines + count_, from, to, count_);
    else
      kernel::rotate<false>(cosines, cosines + count_, from, to, count_);
    if (from != to)
      for (std::size_t i = 2 * count_; i < size_; ++i) to[i] = from[i];
  }

  /// All heads of all tokens; token t is at `first_position` + t. x and y may be the same view; else they do not
  /// overlap. Fails on views that do not fit and on positions beyond the tables, and then leaves y untouched.
  polymac::status operator()(heads_view<const float> x, std::size_t first_position,
                             heads_view<float> y) const noexcept {
    auto s = check(x, y);
    if (s.ok() && x.tokens > 0 && (first_position >= positions_ || x.tokens > positions_ - first_position))
      s = polymac::status::make(errc::parameter, "rope: expected positions below ", positions_, ", got ", x.tokens,
                                " from ", first_position, " on");
    if (s.ok()) run(x, y, [&](std::size_t, std::size_t token) { return first_position + token; });
    return s;
  }
  /// The same where every token has a position of its own: one for each token of each sequence, or of all.
  polymac::status operator()(heads_view<const float> x, std::span<const std::size_t> positions,
                             heads_view<float> y) const noexcept {
    auto s = check(x, y);
    if (s.ok() && positions.size() != x.tokens && positions.size() != x.batch * x.tokens)
      s = polymac::status::make(errc::shape, "rope: expected a position for each of ", x.tokens, " tokens, or of ",
                                x.batch * x.tokens, ", got ", positions.size());
    for (std::size_t i = 0; s.ok() && i < positions.size(); ++i)
      if (positions[i] >= positions_)
        s = polymac::status::make(errc::parameter, "rope: expected positions below ", positions_, ", got ",
                                  positions[i], " for token ", i);
    if (!s.ok()) return s;
    const std::size_t stride = positions.size() == x.tokens ? 0 : x.tokens;
    run(x, y, [&](std::size_t b, std::size_t token) { return positions[b * stride + token]; });
    return s;
  }

 private:
  template <class Position>
  void run(const heads_view<const float>& x, const heads_view<float>& y, const Position& position) const noexcept {
    for (std::size_t b = 0; b < x.batch; ++b)
      for (std::size_t t = 0; t < x.tokens; ++t)
        for (std::size_t h = 0; h < x.heads; ++h) rotate(position(b, t), x.at(b, t, h), y.at(b, t, h));
  }

  polymac::status check(const heads_view<const float>& x, const heads_view<float>& y) const noexcept {
    if (!status_.ok()) return status_;
    if (x.size != size_ || y.size != size_ || x.batch != y.batch || x.tokens != y.tokens || x.heads != y.heads)
      return polymac::status::make(errc::shape, "rope: expected x and y of batch x tokens x heads x ", size_, ", got ",
                                   x.batch, " x ", x.tokens, " x ", x.heads, " x ", x.size, " and ", y.batch, " x ",
                                   y.tokens, " x ", y.heads, " x ", y.size);
    if (x.batch > 0 && x.tokens > 0 && x.heads > 0 && (x.data == nullptr || y.data == nullptr))
      return polymac::status::make(errc::parameter, "rope: the view ", x.data == nullptr ? "x" : "y", " has no data");
    return {};
  }

  polymac::status allocate(std::size_t positions, std::size_t rotary) noexcept {
    if (size_ == 0 || rotary == 0 || rotary % 2 != 0 || rotary > size_)
      return polymac::status::make(errc::shape, "rope: expected an even number of rotary dimensions in [2, ", size_,
                                   "], got ", rotary);
    if (positions == 0 || positions > std::numeric_limits<std::size_t>::max() / 8 / rotary)
      return polymac::status::make(errc::shape,
                                   "rope: expected tables for at least one position that fit the address "
                                   "space, got ",
                                   positions, " positions");
    count_ = rotary / 2;
    auto s = table_.resize_for_overwrite(positions * rotary);
    if (s.ok()) positions_ = positions;
    return s;
  }

  static bool is_finite(double v) noexcept { return v - v == 0.0; }

  static polymac::status check(const rope_options& o, std::size_t rotary) noexcept {
    const auto refuse = [](const char* what) {
      return polymac::status::make(errc::parameter, "rope: expected ", what);
    };
    if (!(o.base > 1.0) || !is_finite(o.base)) return refuse("a finite base above 1");
    if (!(o.factor >= 1.0) || !is_finite(o.factor)) return refuse("a finite scaling factor of at least 1");
    if (o.scaling == rope_scaling::none && o.factor != 1.0)
      return refuse("a kind of scaling (linear, ntk, yarn) beside a factor other than 1");
    if (o.scaling == rope_scaling::ntk && rotary == 2) return refuse("more than two rotary dimensions for ntk");
    if (o.scaling != rope_scaling::yarn) return {};
    if (o.trained_positions == 0) return refuse("the number of positions of the training (trained_positions) for yarn");
    if (!(o.slow_turns > 0.0) || !(o.fast_turns > o.slow_turns) || !is_finite(o.fast_turns))
      return refuse("0 < slow_turns < fast_turns for yarn");
    if (!(o.attention_factor >= 0.0) || !is_finite(o.attention_factor))
      return refuse("a finite attention factor of at least 0 (0: 0.1 ln(factor) + 1)");
    return {};
  }

  /// The share of pair i that is not interpolated.
  static double kept_share(const rope_options& o, double dimensions, std::size_t i, double theta) noexcept {
    const auto within = [](double v) { return v < 0.0 ? 0.0 : v > 1.0 ? 1.0 : v; };
    const double trained = static_cast<double>(o.trained_positions), circle = 2.0 * std::numbers::pi;
    if (o.ramp == yarn_ramp::rotations)
      return within((trained * theta / circle - o.slow_turns) / (o.fast_turns - o.slow_turns));
    const auto pair_of = [&](double turns) {
      return dimensions * std::log(trained / (circle * turns)) / (2.0 * std::log(o.base));
    };
    const double low = std::fmax(std::floor(pair_of(o.fast_turns)), 0.0);
    const double high = std::fmin(std::ceil(pair_of(o.slow_turns)), dimensions - 1.0);
    // The authors' code keeps a ramp of no length from a division by 0.
    return 1.0 - within((static_cast<double>(i) - low) / (high == low ? 0.001 : high - low));
  }

  polymac::status construct(std::size_t positions, const rope_options& o) noexcept {
    const std::size_t rotary = o.rotary == 0 ? size_ : o.rotary;
    auto s = allocate(positions, rotary);
    if (s.ok()) s = check(o, rotary);
    if (!s.ok()) return s;
    const auto dimensions = static_cast<double>(rotary);
    const double base =
        o.scaling == rope_scaling::ntk ? o.base * std::pow(o.factor, dimensions / (dimensions - 2.0)) : o.base;
    double length = 1.0;
    if (o.scaling == rope_scaling::yarn)
      length = o.attention_factor > 0.0 ? o.attention_factor : 0.1 * std::log(o.factor) + 1.0;
    for (std::size_t i = 0; i < count_; ++i) {
      double theta = std::pow(base, -2.0 * static_cast<double>(i) / dimensions);
      if (o.scaling == rope_scaling::linear) theta /= o.factor;
      if (o.scaling == rope_scaling::yarn) {
        const double kept = kept_share(o, dimensions, i, theta);
        theta = (1.0 - kept) * theta / o.factor + kept * theta;
      }
      for (std::size_t m = 0; m < positions; ++m) {
        const double angle = static_cast<double>(m) * theta;
        table_[m * rotary + i] = static_cast<float>(length * std::cos(angle));
        table_[m * rotary + count_ + i] = static_cast<float>(length * std::sin(angle));
      }
    }
    return {};
  }
  polymac::status construct(const matrix_view<const float>& cosines, const matrix_view<const float>& sines) noexcept {
    if (cosines.rows != sines.rows || cosines.columns != sines.columns || cosines.columns > size_ / 2)
      return polymac::status::make(errc::shape, "rope: expected cosines and sines of positions x at most ", size_ / 2,
                                   ", got ", cosines.rows, " x ", cosines.columns, " and ", sines.rows, " x ",
                                   sines.columns);
    if (cosines.rows > 0 && cosines.columns > 0 && (cosines.data == nullptr || sines.data == nullptr))
      return polymac::status::make(errc::parameter, "rope: the tables have no data");
    auto s = allocate(cosines.rows, 2 * cosines.columns);
    if (!s.ok()) return s;
    for (std::size_t m = 0; m < positions_; ++m)
      for (std::size_t i = 0; i < count_; ++i) {
        table_[m * 2 * count_ + i] = cosines(m, i);
        table_[m * 2 * count_ + count_ + i] = sines(m, i);
      }
    return {};
  }

  buffer<float> table_;  ///< for each position the cosines of all pairs, then their sines
  std::size_t size_ = 0, count_ = 0, positions_ = 0;
  rope_pairs pairs_ = rope_pairs::adjacent;
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
