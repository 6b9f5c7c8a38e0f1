// SPDX-License-Identifier: MIT
// Products of bfloat16, sums in IEEE single precision.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/concepts.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace mac {

/// bf16 x bf16 -> f32. A product of two has 16 bits and is exact in float32, so fused or not is all the same (unless it
/// underflows); every sum is rounded to nearest even. The k are taken in pairs, the second one of a pair first, as
/// vdpbf16ps does:
///
///     c = c + a[1] * w[1];  c = c + a[0] * w[0];  c = c + a[3] * w[3];  ...
///
/// and vector registers give these bits on every instruction set, whatever the tile or the number of threads. Tiles
/// (isa::amx_bf16) add the even and the odd k of a step of up to 32 apart; there the same layer gives the same bits for
/// every partition of its rows, but not the bits of vector registers.
///
/// Subnormals (below 2^-126):
///     scalar, sse2, avx2, avx512, avx512_vnni, avx_vnni, amx_int8, neon    kept, as the mode of the thread says
///     avx512_bf16 (vdpbf16ps), tiles of amx_bf16 (tdpbf16ps)               operands and start values that are
///                                                                          subnormal count as 0, subnormal sums become
///                                                                          0; the mode of the thread (MXCSR) does not
///                                                                          matter
/// Weights shall be finite: padding multiplies by 0.
///
/// Error of a sum of n products against the exact one, of operands that are not subnormal: at most n u / (1 - n u)
/// times the sum of |a w|, u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and 2^-126
/// for every sum that may be flushed to 0, at most two to a product. With subnormal operands their |a w| may be missing
/// too.
struct bf16 {
  using activation = bfloat16;
  using weight = bfloat16;
  using accumulator = float;
  static constexpr const char* name = "bf16";
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  static constexpr bool exact = false;
  /// k of a group; the last one of a group is added first.
  static constexpr std::size_t group = 2;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return c + static_cast<float>(a) * static_cast<float>(w);
  }
  /// Bound of |computed - exact| for a sum of `depth` products with the given sum of magnitudes, bias included.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    const double n = static_cast<double>(depth) + 1.0, nu = n * 5.9604644775390625e-08;
    return nu / (1.0 - nu) * sum_of_magnitudes + 2.0 * n * 1.1754943508222875e-38;
  }
};

static_assert(Mac<bf16>);

}  // namespace mac
POLYMAC_END
