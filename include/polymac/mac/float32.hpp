// SPDX-License-Identifier: MIT
// IEEE single precision.
#pragma once

#include "polymac/core/concepts.hpp"

POLYMAC_BEGIN
namespace mac {

/// f32 x f32 -> f32. Atoms may fuse the product and the addition; they sum in the order of k, every output element on
/// its own, so that the result does not depend on tiles or threads. Error of a sum of n products against the exact one:
/// at most n u / (1 - n u) times the sum of |a w|, u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms,
/// section 3.1).
struct float32 {
  using activation = float;
  using weight = float;
  using accumulator = float;
  static constexpr const char* name = "float32";
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  static constexpr bool exact = false;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept { return c + a * w; }
  /// Bound of |computed - exact| for a sum of `depth` products with the given sum of magnitudes, bias included.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    const double nu = (static_cast<double>(depth) + 1.0) * 5.9604644775390625e-08;
    return nu / (1.0 - nu) * sum_of_magnitudes;
  }
};

/// float32 with two roundings, of the product and of the sum, whatever instructions the machine has: the same bits on
/// every instruction set for the same order of k. For graphs in which a float is quantised again at run time (dynamic
/// range quantisation): there the last bit of a sum can decide about a code, and reference kernels do not fuse.
struct float32_unfused : float32 {
  static constexpr const char* name = "float32_unfused";
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    const float product = a * w;
    // The product is compared, too: compilers fuse a product only where nothing but a sum uses it. (g++ drops
    // __builtin_assoc_barrier and narrows products in double when it vectorises, and then fuses.)
    return product == product ? c + product : product;
  }
};

static_assert(Mac<float32> && Mac<float32_unfused>);

}  // namespace mac
POLYMAC_END
