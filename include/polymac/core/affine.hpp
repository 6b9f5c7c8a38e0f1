// SPDX-License-Identifier: MIT
// Affine quantisation of a tensor, and the range a fused activation leaves.
#pragma once

#include "polymac/core/error.hpp"

#include <concepts>
#include <cstdint>
#include <limits>

POLYMAC_BEGIN

/// real = scale * (code - zero_point). The scale is a float, as files hold it: products of scales are then formed in
/// the precision that the reference uses.
struct affine {
  float scale = 1.0f;
  std::int32_t zero_point = 0;
};

/// Smallest and largest value of an output: a fused activation as codes (int) or reals (float). By default everything.
template <class T>
struct activation_range {
  static constexpr T lowest =
      std::floating_point<T> ? static_cast<T>(-std::numeric_limits<T>::infinity()) : std::numeric_limits<T>::min();
  static constexpr T highest =
      std::floating_point<T> ? static_cast<T>(std::numeric_limits<T>::infinity()) : std::numeric_limits<T>::max();

  T low = lowest;
  T high = highest;

  /// Low for values below low, high for values above high; NaN passes through. Two selects in a row vectorise, nested
  /// ones do not.
  template <class V>
  constexpr V apply(V value) const noexcept {
    const V raised = value < V{low} ? V{low} : value;
    return raised > V{high} ? V{high} : raised;
  }
};

namespace detail {

constexpr bool finite(float x) noexcept { return x - x == 0.0f; }

/// Is this a quantisation of codes of type T?
template <std::integral T>
constexpr status check(const char* who, const char* tensor, const affine& q) noexcept {
  if (!(q.scale > 0.0f && finite(q.scale)))
    return status::make(errc::parameter, who, ": expected a finite positive scale of the ", tensor);
  if (q.zero_point < std::numeric_limits<T>::min() || q.zero_point > std::numeric_limits<T>::max())
    return status::make(errc::parameter, who, ": expected a zero point of the ", tensor, " in [",
                        std::numeric_limits<T>::min(), ", ", std::numeric_limits<T>::max(), "], got ", q.zero_point);
  return {};
}

template <class T>
constexpr status check(const char* who, const activation_range<T>& range) noexcept {
  if (range.low <= range.high) return {};
  if constexpr (std::integral<T>)
    return status::make(errc::parameter, who, ": expected an output range with low <= high, got ", range.low, " and ",
                        range.high);
  else
    return status::make(errc::parameter, who, ": expected an output range with low <= high and no NaN");
}

}  // namespace detail
POLYMAC_END
