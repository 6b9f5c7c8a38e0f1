// SPDX-License-Identifier: MIT
// The epilogue of gated units: the first sum of a pair times a function of the second.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/float16.hpp"
#include "polymac/epilogue/pairs.hpp"
#include "polymac/kernel/functions.hpp"
#include "polymac/mac/float32.hpp"

#include <concepts>
#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// y = Out(first * activation(second)) of sums that are reals.
template <class Activation, class Out = float>
struct gate : epilogue::pair_stage {
  Activation activation;

  constexpr explicit gate(const Activation& f) noexcept : activation(f) {}
  constexpr status check(std::size_t columns) const noexcept {
    return columns % 2 == 0 ? status{}
                            : status::make(errc::shape, "gate: expected an even number of columns, got ", columns);
  }
  Out operator()(float first, float second, std::size_t, std::size_t) const noexcept {
    return round(first * activation(second));
  }
  POLYMAC_INLINE void reals(const float* sums, std::size_t count, std::size_t, std::size_t, float* to) const noexcept {
    for (std::size_t i = 0; i < count; ++i) to[i] = sums[i];
  }
  void join(float* first, float* second, std::size_t count) const noexcept {
    multiply_by(activation, first, second, count);
  }
  static Out round(float value) noexcept { return static_cast<Out>(value); }
};

/// The same of sums that have a scale for each row (none: 1) and for each column, and biases that are real, as
/// layer::dynamic_range has them: real = sum * (row scale * column scale) + bias, not fused. `scales` and `biases` are
/// interleaved as the columns are; row r has row_scales[r - first_row].
template <class Activation, class Out = float>
struct scaled_gate : gate<Activation, Out> {
  const float* scales;
  const float* biases;
  const float* row_scales;
  std::size_t first_row;

  constexpr scaled_gate(const Activation& f, const float* scales_, const float* biases_, const float* row_scales_,
                        std::size_t first_row_) noexcept
      : gate<Activation, Out>(f), scales(scales_), biases(biases_), row_scales(row_scales_), first_row(first_row_) {}
  template <class Sum>
  Out operator()(Sum first, Sum second, std::size_t row, std::size_t column) const noexcept {
    const float scale = scale_of(row);
    return this->round(real(first, scale, 2 * column) * this->activation(real(second, scale, 2 * column + 1)));
  }
  template <class Sum>
  POLYMAC_INLINE void reals(const Sum* sums, std::size_t count, std::size_t row, std::size_t column,
                            float* to) const noexcept {
    const float scale = scale_of(row);
    for (std::size_t i = 0; i < count; ++i) to[i] = real(sums[i], scale, column + i);
  }

 private:
  POLYMAC_INLINE float scale_of(std::size_t row) const noexcept {
    return row_scales == nullptr ? 1.0f : row_scales[row - first_row];
  }
  template <class Sum>
  POLYMAC_INLINE float real(Sum sum, float scale, std::size_t column) const noexcept {
    return mac::float32_unfused::multiply_add(biases[column], static_cast<float>(sum), scale * scales[column]);
  }
};

}  // namespace kernel
POLYMAC_END
