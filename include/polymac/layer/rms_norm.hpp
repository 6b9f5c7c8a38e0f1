// SPDX-License-Identifier: MIT
// RMS normalisation of rows.
#pragma once

#include "polymac/layer/norm.hpp"

POLYMAC_BEGIN
namespace layer {

/// y = x / sqrt(mean of x^2 + epsilon) * weight, row by row (Zhang and Sennrich, 2019, arXiv 1910.07467); and
/// add(x, addend, y): x += addend, y = norm(x) in one pass.
///
/// The mean is in double, in the order of kernel/norm_rows.hpp; 1 / sqrt is rounded to float once, then two products are:
/// y is within 4 units of the last place of the exact value, whatever the length of the row. NaN or infinity anywhere in
/// a row makes all of it NaN or 0 as the formula says; a row of zeros gives zeros, unless epsilon is 0 (NaN). Norms over
/// several trailing axes: a row has all of their elements.
class rms_norm : public detail::norm<kernel::rms_norm_row> {
 public:
  /// weight: one for each column, copied; epsilon: finite, at least 0. Throws polymac::error (or sets `status()` where
  /// exceptions are off) on what does not fit.
  explicit rms_norm(std::span<const float> weight, float epsilon = 1e-5f) : norm(weight, nullptr, 0, epsilon) {}
};

}  // namespace layer
POLYMAC_END
