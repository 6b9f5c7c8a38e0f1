// SPDX-License-Identifier: MIT
// Registers of floats whose lanes are pairs, taken apart: what a gate needs of two neighbouring columns.
//
//   low, high    f0 s0 f1 s1 ...  | ... fn sn                 price: AVX-512  2 vpermt2ps, 1 a cycle
//   first        f0 f1 f2 ...                                        AVX      2 vperm2f128, 2 vshufps
//   second       s0 s1 s2 ...                                        SSE      2 shufps       NEON  uzp1, uzp2
#pragma once

#include "polymac/core/config.hpp"
#include "polymac/isa/intrinsics.hpp"

#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

POLYMAC_BEGIN
namespace isa {

#if defined(__SSE2__)
POLYMAC_INLINE void split_pairs(__m128 low, __m128 high, __m128& first, __m128& second) noexcept {
  first = _mm_shuffle_ps(low, high, 0x88);
  second = _mm_shuffle_ps(low, high, 0xDD);
}
#endif
#if defined(__AVX__)
POLYMAC_INLINE void split_pairs(__m256 low, __m256 high, __m256& first, __m256& second) noexcept {
  const __m256 front = _mm256_permute2f128_ps(low, high, 0x20), back = _mm256_permute2f128_ps(low, high, 0x31);
  first = _mm256_shuffle_ps(front, back, 0x88);
  second = _mm256_shuffle_ps(front, back, 0xDD);
}
#endif
#if defined(__AVX512F__)
POLYMAC_INLINE void split_pairs(__m512 low, __m512 high, __m512& first, __m512& second) noexcept {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  first = _mm512_permutex2var_ps(low, even, high);
  second = _mm512_permutex2var_ps(low, _mm512_or_si512(even, _mm512_set1_epi32(1)), high);
}
#endif
#if defined(__ARM_NEON) && defined(__aarch64__)
POLYMAC_INLINE void split_pairs(float32x4_t low, float32x4_t high, float32x4_t& first, float32x4_t& second) noexcept {
  first = vuzp1q_f32(low, high);
  second = vuzp2q_f32(low, high);
}
#endif

}  // namespace isa
POLYMAC_END
