// SPDX-License-Identifier: MIT
// Halves with sums in floats (mac::fp16): the steps of float32 on halves that have been widened. Activations are once for a
// tile of rows (converted.hpp); weights when they are packed, or in each step.
//
//   intrinsic            instruction               Zen 4             Granite Rapids
//   _mm512_cvtph_ps      vcvtph2ps zmm, m256       1 in 2 cycles     1 cycle, on the ports of the products
//   _mm256_cvtph_ps      vcvtph2ps ymm, m128       1 cycle           1 cycle
//   vcvt_f32_f16         fcvtl                     (AArch64, no extension needed)
//
//   price: one conversion and one store for 16 halves of a tile of rows; of the weights the same, once, or one conversion
//   for a panel and step:
//
//     6 rows x 4 panels     24 products, 4 conversions        Zen 4: products wait for nothing (0.97 of the peak; with 12
//                                                             rows x 2 panels 0.84), a row alone reads half the bytes:
//                                                             1.8 times as fast from L3, 1.2 from L2
//
// Intel's conversion takes two operations on the two ports of the products, a third of their time: there, and where nothing
// was measured, panels hold floats.
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

#if POLYMAC_HAS_XSIMD && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
template <>
struct weight_register<avx512, float16> {
  using batch = xsimd::batch<float, float_tile<avx512>::arch>;
  static POLYMAC_INLINE batch load(const float16* from) noexcept {
    return batch(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
  }
};

/// Panels of halves, for an arithmetic M on halves.
template <class M>
struct halves_in_panels : converted_rows<M, float_steps<avx512, float16, 6, 4>, half_conversion<avx512>> {
  /// Six rows of so many k leave room in L1 for the weights that pass by.
  static constexpr std::size_t prepared_depth = 576;
};
#endif

}  // namespace detail

#if POLYMAC_IS_ZEN && POLYMAC_HAS_XSIMD && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__AVX512DQ__)
template <>
struct atom<mac::fp16, avx512> : detail::halves_in_panels<mac::fp16> {};
#endif
#if POLYMAC_HAS_XSIMD
template <class I>
requires requires { typename detail::float_tile<I>::arch; }
struct atom<mac::fp16, I> : detail::converted_atom<mac::fp16, atom<mac::float32, I>, detail::half_conversion<I>> {};
#endif

}  // namespace isa
POLYMAC_END
