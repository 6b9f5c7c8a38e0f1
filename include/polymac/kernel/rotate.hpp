// SPDX-License-Identifier: MIT
// Rotations of pairs of elements: what rotary position embedding does to a vector.
//
//     y = a cos - b sin                adjacent: (a, b) = (x[2 i], x[2 i + 1])
//     z = a sin + b cos                halves:   (a, b) = (x[i], x[i + pairs])
//
// Blocks of 8 pairs go through arrays of their own: x and y may be the same memory, which would keep compilers from
// vector code. Costs: 4 multiplications and 2 additions a pair; the tables are read once.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {
namespace detail {

/// Pairs [i, i + Count) of `pairs`.
template <bool Adjacent, std::size_t Count>
constexpr POLYMAC_INLINE void rotate_block(const float* cosines, const float* sines, const float* x, float* y,
                                           std::size_t i, std::size_t pairs) noexcept {
  float first[Count], second[Count];
  const float* const a = Adjacent ? x + 2 * i : x + i;
  for (std::size_t k = 0; k < Count; ++k) {
    const float u = Adjacent ? a[2 * k] : a[k], v = Adjacent ? a[2 * k + 1] : a[pairs + k];
    first[k] = u * cosines[i + k] - v * sines[i + k];
    second[k] = u * sines[i + k] + v * cosines[i + k];
  }
  float* const to = Adjacent ? y + 2 * i : y + i;
  for (std::size_t k = 0; k < Count; ++k) {
    to[Adjacent ? 2 * k : k] = first[k];
    to[Adjacent ? 2 * k + 1 : pairs + k] = second[k];
  }
}

}  // namespace detail

/// Rotates `pairs` pairs of x by the angles whose cosines and sines are given. y may be x; else they do not overlap.
template <bool Adjacent>
constexpr void rotate(const float* cosines, const float* sines, const float* x, float* y, std::size_t pairs) noexcept {
  constexpr std::size_t width = 8;
  std::size_t i = 0;
  for (; i + width <= pairs; i += width) detail::rotate_block<Adjacent, width>(cosines, sines, x, y, i, pairs);
  if (i + width / 2 <= pairs) {
    detail::rotate_block<Adjacent, width / 2>(cosines, sines, x, y, i, pairs);
    i += width / 2;
  }
  for (; i < pairs; ++i) detail::rotate_block<Adjacent, 1>(cosines, sines, x, y, i, pairs);
}

}  // namespace kernel
POLYMAC_END
