// SPDX-License-Identifier: MIT
// Planes over pairs of codes, 64 pairs at once.
//
//   price for 64 pairs: 6 shuffles to 32-bit lanes (0, a, 0, b), which are pairs of 16-bit words 256 a and 256 b; for
//   each 16 of them 2 products, 2 shifts and 2 sums, and a comparison and a blend where the rounding constant depends
//   on the sign; 3 packs, 2 sums and 2 bounds to narrow. 37 or 45 in all, 2 a cycle. Packs work in 128-bit quarters, as
//   the shuffles did: the order comes back by itself.
#pragma once

#include "polymac/isa/plane.hpp"

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {

template <>
struct plane_codes<avx512> {
  static void run(const plane& p, std::int8_t bias, std::int8_t* y, const std::int8_t* a, const std::int8_t* b,
                  std::size_t count) noexcept {
    const plane_codes constants(p, bias);
    if (p.half[0] == p.half[1])
      constants.all<false>(y, a, b, count);
    else
      constants.all<true>(y, a, b, count);
  }

 private:
  /// TwoHalves: the rounding constants above and below zero differ.
  template <bool TwoHalves>
  POLYMAC_INLINE void all(std::int8_t* y, const std::int8_t* a, const std::int8_t* b,
                          std::size_t count) const noexcept {
    std::size_t i = 0;
    for (; count - i >= 64; i += 64)
      _mm512_storeu_si512(y + i, codes<TwoHalves>(_mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i)));
    if (i == count) return;
    const __mmask64 rest = ~__mmask64{0} >> (64 - (count - i));
    _mm512_mask_storeu_epi8(
        y + i, rest, codes<TwoHalves>(_mm512_maskz_loadu_epi8(rest, a + i), _mm512_maskz_loadu_epi8(rest, b + i)));
  }

  plane_codes(const plane& p, std::int8_t bias_) noexcept
      : high(words(p.high[0], p.high[1])),
        low(words(p.low[0], p.low[1])),
        border(_mm512_set1_epi32(-p.origin)),
        above(_mm512_set1_epi32(p.origin + p.half[0])),
        below(_mm512_set1_epi32(p.origin + p.half[1])),
        zero(_mm512_set1_epi16(static_cast<std::int16_t>(p.zero_point))),
        least(_mm512_set1_epi8(p.least)),
        most(_mm512_set1_epi8(p.most)),
        bias(_mm512_set1_epi8(bias_)),
        shift(_mm512_set1_epi32(p.shift)) {}

  static __m512i words(std::int16_t first, std::int16_t second) noexcept {
    return _mm512_set1_epi32(static_cast<std::int32_t>(
        static_cast<std::uint32_t>(static_cast<std::uint16_t>(second)) << 16 | static_cast<std::uint16_t>(first)));
  }

  /// The rounded plane of 16 pairs.
  template <bool TwoHalves>
  POLYMAC_INLINE __m512i rounded(__m512i pairs) const noexcept {
    // 256 codes times 15 bits: both sums stay inside 32 bits.
    const __m512i v =
        _mm512_add_epi32(_mm512_madd_epi16(pairs, high), _mm512_srai_epi32(_mm512_madd_epi16(pairs, low), 15));
    if constexpr (!TwoHalves) return _mm512_srav_epi32(_mm512_add_epi32(v, above), shift);
    const __mmask16 negative = _mm512_cmplt_epi32_mask(v, border);
    return _mm512_srav_epi32(_mm512_add_epi32(v, _mm512_mask_blend_epi32(negative, above, below)), shift);
  }

  template <bool TwoHalves>
  POLYMAC_INLINE __m512i codes(__m512i a, __m512i b) const noexcept {
    a = _mm512_xor_si512(a, bias);
    b = _mm512_xor_si512(b, bias);
    // Bytes a0 b0 a1 b1 .. to 0 a0 0 b0 | 0 a1 0 b1 | ..; an index with its top bit gives 0.
    const __m512i front = _mm512_broadcast_i32x4(_mm_setr_epi8(-1, 0, -1, 1, -1, 2, -1, 3, -1, 4, -1, 5, -1, 6, -1, 7));
    const __m512i back =
        _mm512_broadcast_i32x4(_mm_setr_epi8(-1, 8, -1, 9, -1, 10, -1, 11, -1, 12, -1, 13, -1, 14, -1, 15));
    const __m512i first = _mm512_unpacklo_epi8(a, b);
    const __m512i second = _mm512_unpackhi_epi8(a, b);
    const __m512i low_words = _mm512_packs_epi32(rounded<TwoHalves>(_mm512_shuffle_epi8(first, front)),
                                                 rounded<TwoHalves>(_mm512_shuffle_epi8(first, back)));
    const __m512i high_words = _mm512_packs_epi32(rounded<TwoHalves>(_mm512_shuffle_epi8(second, front)),
                                                  rounded<TwoHalves>(_mm512_shuffle_epi8(second, back)));
    // |zero point| < 2^8: what saturates at 16 bits lies outside of 8 bits anyway.
    const __m512i bytes = _mm512_packs_epi16(_mm512_adds_epi16(low_words, zero), _mm512_adds_epi16(high_words, zero));
    return _mm512_xor_si512(_mm512_min_epi8(_mm512_max_epi8(bytes, least), most), bias);
  }

  __m512i high, low, border, above, below, zero, least, most, bias, shift;
};

}  // namespace isa
POLYMAC_END

#endif
