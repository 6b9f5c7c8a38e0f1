// SPDX-License-Identifier: MIT
// Rows that are divided by their root mean square or their standard deviation.
//
// Sums are in double, in 16 parts: part j adds up the elements j, j + 16, j + 32 ... in this order; then the upper half
// of the parts is added to the lower one until one is left. Squares of floats are exact in double, so a sum has the same
// bits on every instruction set, fused or not, and its relative error is below n 2^-57: nothing beside the one rounding
// to float at the end.
#pragma once

#include "polymac/core/config.hpp"

#include <cmath>
#include <cstddef>

POLYMAC_BEGIN
namespace kernel {
namespace detail {

inline constexpr std::size_t norm_block = 16;

/// Sum of f(i) for i below `count`. f gives what a double holds exactly.
template <class Function>
POLYMAC_INLINE double sum_in_parts(std::size_t count, const Function& f) noexcept {
  double part[norm_block]{};
  std::size_t i = 0;
  for (; i + norm_block <= count; i += norm_block)
    for (std::size_t j = 0; j < norm_block; ++j) part[j] += f(i + j);
  for (std::size_t j = 0; i + j < count; ++j) part[j] += f(i + j);
  for (std::size_t half = norm_block / 2; half > 0; half /= 2)
    for (std::size_t j = 0; j < half; ++j) part[j] += part[j + half];
  return part[0];
}

/// y[i] = f(i), block by block through an array of its own: y may be what f reads at i.
template <class Function>
POLYMAC_INLINE void write_in_blocks(float* y, std::size_t count, const Function& f) noexcept {
  std::size_t i = 0;
  for (; i + norm_block <= count; i += norm_block) {
    float block[norm_block];
    for (std::size_t j = 0; j < norm_block; ++j) block[j] = f(i + j);
    for (std::size_t j = 0; j < norm_block; ++j) y[i + j] = block[j];
  }
  for (; i < count; ++i) y[i] = f(i);
}

POLYMAC_INLINE double square_of(float v) noexcept { return static_cast<double>(v) * static_cast<double>(v); }

}  // namespace detail

/// x += addend.
inline void add_row(float* x, const float* addend, std::size_t count) noexcept {
  detail::write_in_blocks(x, count, [=](std::size_t i) POLYMAC_INLINE_LAMBDA { return x[i] + addend[i]; });
}

/// y = x / sqrt(mean of x^2 + epsilon) * weight. y may be x.
struct rms_norm_row {
  static constexpr const char* name = "rms_norm";
  void operator()(const float* x, float* y, const float* weight, const float*, std::size_t count,
                  float epsilon) const noexcept {
    const double squares =
        detail::sum_in_parts(count, [=](std::size_t i) POLYMAC_INLINE_LAMBDA { return detail::square_of(x[i]); });
    const double mean = squares / static_cast<double>(count) + static_cast<double>(epsilon);
    const auto scale = static_cast<float>(1.0 / std::sqrt(mean));
    detail::write_in_blocks(y, count, [=](std::size_t i) POLYMAC_INLINE_LAMBDA { return x[i] * scale * weight[i]; });
  }
};

/// y = d / sqrt(mean of d^2 + epsilon) * weight + bias, d = x less the mean of x, rounded to float: in two passes, so
/// that a mean far from 0 costs no digits. y may be x.
struct layer_norm_row {
  static constexpr const char* name = "layer_norm";
  void operator()(const float* x, float* y, const float* weight, const float* bias, std::size_t count,
                  float epsilon) const noexcept {
    const auto n = static_cast<double>(count);
    const double mean =
        detail::sum_in_parts(count, [=](std::size_t i) POLYMAC_INLINE_LAMBDA { return static_cast<double>(x[i]); }) / n;
    const auto less_mean = [=](std::size_t i)
                               POLYMAC_INLINE_LAMBDA { return static_cast<float>(static_cast<double>(x[i]) - mean); };
    const double squares = detail::sum_in_parts(
        count, [=](std::size_t i) POLYMAC_INLINE_LAMBDA { return detail::square_of(less_mean(i)); });
    const auto scale = static_cast<float>(1.0 / std::sqrt(squares / n + static_cast<double>(epsilon)));
    detail::write_in_blocks(
        y, count, [=](std::size_t i) POLYMAC_INLINE_LAMBDA { return less_mean(i) * scale * weight[i] + bias[i]; });
  }
};

}  // namespace kernel
POLYMAC_END
