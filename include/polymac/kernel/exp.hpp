// SPDX-License-Identifier: MIT
// exp over a row of floats: xsimd where it is there, std::exp elsewhere.
#pragma once

#include "polymac/core/config.hpp"

#include <cmath>
#include <cstddef>

#if POLYMAC_HAS_XSIMD
#include <xsimd/xsimd.hpp>
#endif

POLYMAC_BEGIN
namespace kernel {

// g++ 12 takes the undefined operand of its own AVX-512 intrinsics for a mistake (GCC bug 105593), wherever they end
// up.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

/// y[i] = exp((x[i] - offset) * scale). x and y may be the same row. A value does not depend on where it stands.
inline void exp_of(const float* x, float* y, std::size_t count, float offset, float scale) noexcept {
#if POLYMAC_HAS_XSIMD
  using batch = xsimd::batch<float>;
  constexpr std::size_t width = batch::size;
  const batch o(offset);
  const batch s(scale);
  std::size_t i = 0;
  for (; i + width <= count; i += width) xsimd::exp((batch::load_unaligned(x + i) - o) * s).store_unaligned(y + i);
  if (i < count) {  // the rest goes through the same instructions
    alignas(64) float rest[width]{};
    for (std::size_t k = 0; i + k < count; ++k) rest[k] = x[i + k];
    xsimd::exp((batch::load_aligned(rest) - o) * s).store_aligned(rest);
    for (std::size_t k = 0; i + k < count; ++k) y[i + k] = rest[k];
  }
#else
  for (std::size_t i = 0; i < count; ++i) y[i] = std::exp((x[i] - offset) * scale);
#endif
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace kernel
POLYMAC_END
