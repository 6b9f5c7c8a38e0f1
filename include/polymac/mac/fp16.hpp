// SPDX-License-Identifier: MIT
// Products of IEEE halves, sums in single precision or in halves.
#pragma once

#include "polymac/core/concepts.hpp"
#include "polymac/core/float16.hpp"

#include <cstddef>
#include <limits>

POLYMAC_BEGIN
namespace mac {

/// fp16 x fp16 -> f32. A product of two has 22 bits and an exponent from -48 to 31: exact in float32, subnormal operands
/// included, so fused or not is all the same; every sum is rounded to nearest even, in the order of k. The same bits on
/// every instruction set.
///
/// Infinities and NaN go through as IEEE says. Weights shall be finite: padding multiplies by 0.
///
/// Error of a sum of n products against the exact one: at most n u / (1 - n u) times the sum of |a w|, u = 2^-24
/// (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Products and sums do not underflow: all are
/// multiples of 2^-48. A sum of floats cannot overflow before 2^96 products.
struct fp16 {
  using activation = float16;
  using weight = float16;
  using accumulator = float;
  static constexpr const char* name = "fp16";
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  static constexpr bool exact = false;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return c + static_cast<float>(a) * static_cast<float>(w);
  }
  /// Bound of |computed - exact| for a sum of `depth` products with the given sum of magnitudes, bias included.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    const double nu = (static_cast<double>(depth) + 1.0) * 0x1p-24;
    return nu / (1.0 - nu) * sum_of_magnitudes;
  }
};

/// Two lanes of fp16 x fp16 -> fp16: an element is a pair of halves, two k, and the sum is a pair,
///
///     even = round(even + a.even * w.even)          odd = round(odd + a.odd * w.odd)
///
/// each fused: one rounding to half (nearest even) for each product, as the SIMD instructions of microcontrollers and
/// vfmadd*ph have it. The even k of a row of halves are summed in one lane, the odd ones in the other, in the order of
/// k; the epilogue gets total() = even + odd, added as floats. A bias starts the even lane, rounded to half.
///
/// A row of 2 n halves is a row of n elements without a copy, as_blocks<float16_pair>(view): the memory is the same. Rows
/// of odd length are filled up with a zero. depthwise_conv2d multiplies channel by channel: there a pair is a channel.
///
/// Half the memory and twice the lanes of sums, and a short range: beyond 65504 a sum is infinite, and stays so. For
/// sums that are not short, mac::fp16.
///
/// Error, where nothing overflows: with u = 2^-11, n elements and a bias, g = (n + 1) u / (1 - (n + 1) u), at most g times
/// the sum of magnitudes; (1 + g) 2^-25 for each half sum, which may be subnormal (half of its unit); and one rounding of
/// the total to float, 2^-24 of it. Says nothing (infinity) from 2047 elements on.
struct fp16_sum16 {
  using activation = float16_pair;
  using weight = float16_pair;
  using accumulator = float16_pair;
  using sum = float;
  static constexpr const char* name = "fp16_sum16";
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  static constexpr bool exact = false;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return {fused_multiply_add(a.even, w.even, c.even), fused_multiply_add(a.odd, w.odd, c.odd)};
  }
  static constexpr sum total(accumulator c) noexcept { return static_cast<float>(c); }
  /// Bound of |total - exact| for `depth` pairs with the given sum of magnitudes of all their products, bias included.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    const double n = static_cast<double>(depth) + 1.0, nu = n * 0x1p-11;
    if (nu >= 1.0) return std::numeric_limits<double>::infinity();
    const double g = nu / (1.0 - nu);
    return (g + (1.0 + g) * 0x1p-24) * sum_of_magnitudes + (1.0 + g) * 2.0 * n * 0x1p-25;
  }
};

static_assert(Mac<fp16> && Mac<fp16_sum16>);

}  // namespace mac
POLYMAC_END
