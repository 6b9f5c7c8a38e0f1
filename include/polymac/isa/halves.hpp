// SPDX-License-Identifier: MIT
// Halves with sums in floats (mac::fp16): the atoms of float32 on halves that are widened once (converted.hpp).
//
//   intrinsic            instruction               Zen 4             Granite Rapids
//   _mm512_cvtph_ps      vcvtph2ps zmm, m256       1 in 2 cycles     1 cycle
//   _mm256_cvtph_ps      vcvtph2ps ymm, m128       1 cycle           1 cycle
//   vcvt_f32_f16         fcvtl                     (AArch64, no extension needed)
//
//   price: one conversion and one store for 16 halves of a tile of rows and of the weights, nothing in the steps
//
// Exact, as is every product of two halves in a float: the same bits as the golden model on every instruction set.
#pragma once

#include "polymac/isa/converted.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/xsimd.hpp"
#include "polymac/mac/fp16.hpp"

#include <cstddef>

#if defined(__AVX2__)
#include "polymac/isa/intrinsics.hpp"
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Halves to floats.
template <class I>
struct half_conversion {
  static POLYMAC_INLINE void convert(const float16* from, float* to, std::size_t count) noexcept {
    std::size_t i = 0;
#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__)
    for (; i + 16 <= count; i += 16)
      _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i))));
    if (i < count) {
      const auto rest = static_cast<__mmask16>((1u << (count - i)) - 1);
      _mm512_mask_storeu_ps(to + i, rest, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(rest, from + i)));
      return;
    }
#elif defined(__F16C__)
    for (; i + 8 <= count; i += 8)
      _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#elif defined(__ARM_NEON) && defined(__aarch64__)
    for (; i + 4 <= count; i += 4)
      vst1q_f32(to + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(from + i)))));
#endif
    for (; i < count; ++i) to[i] = static_cast<float>(from[i]);
  }
};

}  // namespace detail

#if POLYMAC_HAS_XSIMD
template <class I>
requires requires { typename detail::float_tile<I>::arch; }
struct atom<mac::fp16, I> : detail::converted_atom<mac::fp16, atom<mac::float32, I>, detail::half_conversion<I>> {};
#endif

}  // namespace isa
POLYMAC_END
