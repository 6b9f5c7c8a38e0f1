// SPDX-License-Identifier: MIT
// Layer normalisation of rows.
#pragma once

#include "polymac/layer/norm.hpp"

POLYMAC_BEGIN
namespace layer {

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias, row by row (Ba et al., 2016, arXiv 1607.06450); and
/// add(x, addend, y): x += addend, y = norm(x) in one pass. The variance is the mean square of the differences (divided
/// by the number of columns), in a second pass: a large mean costs no digits.
///
/// Sums are in double, in the order of kernel/norm_rows.hpp; differences, 1 / sqrt, products and the sum with the bias
/// are rounded to float. NaN or infinity anywhere in a row makes all of it NaN; a row of equal values gives the bias,
/// unless epsilon is 0 (NaN). Norms over several trailing axes: a row has all of their elements.
class layer_norm : public detail::norm<kernel::layer_norm_row> {
 public:
  /// weight: one for each column; bias: one for each column, or none; both copied; epsilon: finite, at least 0. Throws
  /// polymac::error (or sets `status()` where exceptions are off) on what does not fit.
  explicit layer_norm(std::span<const float> weight, std::span<const float> bias = {}, float epsilon = 1e-5f)
      : norm(weight, bias.data(), bias.size(), epsilon) {}
};

}  // namespace layer
POLYMAC_END
