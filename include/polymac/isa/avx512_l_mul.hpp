// SPDX-License-Identifier: MIT
// L-Mul on 512 bits: 16 products of two instructions. See l_mul_tile.hpp for the tile and its modes.
//
//   intrinsic                      instruction             Zen 4           Granite Rapids
//   _mm512_maskz_add_epi32         vpaddd zmm{k}{z}        2/cycle         2/cycle (p05)
//   _mm512_add_ps                  vaddps zmm              1/cycle         2/cycle (p05)
//   _mm512_set1_epi32              vpbroadcastd zmm, m32   load ports      load ports
//                                  kmovw k, m16            load, 1         load, p5
#pragma once

#include "polymac/isa/avx512.hpp"
#include "polymac/isa/l_mul_tile.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

struct zmm_l_mul : zmm_float {
  using words = __m512i;
  static constexpr std::size_t max_rows = 6, max_panels = 4;
  struct row_operand {
    __m512i word;
    __mmask16 here;
  };

  static POLYMAC_INLINE words load_words(const std::uint32_t* from) noexcept { return _mm512_loadu_si512(from); }
  static POLYMAC_INLINE row_operand row(const l_mul_activation& a) noexcept {
    return {_mm512_set1_epi32(static_cast<std::int32_t>(a.word)), static_cast<__mmask16>(a.here)};
  }
  static POLYMAC_INLINE type product(const row_operand& a, words w) noexcept {
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(a.here, a.word, w));
  }
  static POLYMAC_INLINE __mmask16 nonzero(words w) noexcept {
    return _mm512_test_epi32_mask(w, _mm512_set1_epi32(0x7F800000));
  }
  static POLYMAC_INLINE type add_where(__mmask16 where, type sums, type products) noexcept {
    return _mm512_mask_add_ps(sums, where, sums, products);
  }

  template <class M>
  static POLYMAC_INLINE type checked_product(const row_operand& a, words w) noexcept {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF), infinity = _mm512_set1_epi32(0x7F800000);
    const __m512i x = _mm512_add_epi32(a.word, _mm512_set1_epi32(static_cast<std::int32_t>(M::offset_word)));
    const __m512i xm = _mm512_and_si512(x, magnitude), wm = _mm512_and_si512(w, magnitude);
    const __m512i sign = _mm512_andnot_si512(magnitude, _mm512_xor_si512(x, w));
    // Less the least normal number, so that one comparison finds both ends: a product in range is below 0x7F000000, one
    // that overflows up to 0xBF87FFFE, and one that underflows is above, as what is negative is.
    const __m512i sum = _mm512_add_epi32(
        _mm512_sub_epi32(xm, _mm512_set1_epi32(static_cast<std::int32_t>(M::offset_word + 0x00800000u))), wm);
    const __mmask16 overflows = _mm512_cmpge_epu32_mask(sum, _mm512_set1_epi32(0x7F000000));
    const __mmask16 underflows =
        _mm512_cmpgt_epu32_mask(sum, _mm512_set1_epi32(static_cast<std::int32_t>(0xC0000000u)));
    __m512i made = _mm512_add_epi32(sum, _mm512_set1_epi32(0x00800000));
    made = _mm512_mask_mov_epi32(made, overflows, _mm512_set1_epi32(static_cast<std::int32_t>(M::beyond)));
    made = _mm512_maskz_mov_epi32(static_cast<__mmask16>(~underflows & _mm512_test_epi32_mask(xm, infinity) &
                                                         _mm512_test_epi32_mask(wm, infinity)),
                                  made);
    made = _mm512_or_si512(made, sign);
    // Infinities and NaN: what IEEE makes of them.
    const auto special =
        static_cast<__mmask16>(_mm512_cmpge_epu32_mask(xm, infinity) | _mm512_cmpge_epu32_mask(wm, infinity));
    return _mm512_mask_mul_ps(_mm512_castsi512_ps(made), special, _mm512_castsi512_ps(x), _mm512_castsi512_ps(w));
  }

  template <class M>
  struct preparation {
    __m512i least_word, lowest, highest;
    POLYMAC_INLINE preparation(int least, const l_mul_summary& seen) noexcept
        : least_word(_mm512_set1_epi32((least + 127 > 1 ? least + 127 : 1) << 23)),
          lowest(_mm512_set1_epi32((seen.exponents.least + 127) << 23 | 0x7FFFFF)),
          highest(_mm512_set1_epi32((seen.exponents.most + 127) << 23)) {}
    POLYMAC_INLINE void row(const float* from, std::size_t count, l_mul_activation* to) noexcept {
      row_of<false>(from, count, to);
      // Infinities and NaN, of which all bits count: once more.
      if (_mm512_cmpge_epi32_mask(highest, _mm512_set1_epi32(0x7F800000)) != 0) row_of<true>(from, count, to);
    }
    POLYMAC_INLINE void note(l_mul_summary& seen) const noexcept {
      seen.exponents.least = (_mm512_reduce_min_epi32(lowest) >> 23) - 127;
      seen.exponents.most = (_mm512_reduce_max_epi32(highest) >> 23) - 127;
    }

   private:
    template <bool Special>
    POLYMAC_INLINE void row_of(const float* from, std::size_t count, l_mul_activation* to) noexcept {
      std::size_t i = 0;
      for (; i + 16 <= count; i += 16) write<Special>(_mm512_loadu_si512(from + i), to + i);
      if (i < count)
        write<Special>(_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << (count - i)) - 1), from + i), to + i);
    }
    template <bool Special>
    POLYMAC_INLINE void write(__m512i bits, l_mul_activation* to) noexcept {
      const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      const __m512i sign = _mm512_set1_epi32(std::numeric_limits<std::int32_t>::min());
      const __m512i magnitude = _mm512_andnot_si512(sign, bits);
      const __mmask16 here = _mm512_cmpge_epi32_mask(magnitude, least_word);
      lowest = _mm512_mask_min_epi32(lowest, here, lowest, magnitude);
      highest = _mm512_max_epi32(highest, magnitude);  // zeros do not matter here, and neither do subnormals
      // Of infinities and NaN all bits count, of the others those that are kept. What is not here is masked, whatever it
      // is; where there are infinities among weights its zero is wanted.
      __m512i word = _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<std::int32_t>(M::mask)));
      if constexpr (Special)
        word = _mm512_mask_mov_epi32(word, _mm512_cmpge_epi32_mask(magnitude, _mm512_set1_epi32(0x7F800000)), bits);
      word = _mm512_sub_epi32(word, _mm512_set1_epi32(static_cast<std::int32_t>(M::offset_word)));
      const __m512i present = _mm512_maskz_mov_epi32(here, _mm512_set1_epi32(0xFFFF));
      _mm512_storeu_si512(to, _mm512_permutex2var_epi32(word, low, present));
      _mm512_storeu_si512(to + 8, _mm512_permutex2var_epi32(word, high, present));
    }
  };
};

}  // namespace detail

template <int MantissaBits, int Offset, class Word, overflow Mode>
struct atom<mac::l_mul<MantissaBits, Offset, Word, Mode>, avx512>
    : detail::l_mul_atom<mac::l_mul<MantissaBits, Offset, Word, Mode>, avx512, detail::zmm_l_mul> {};

}  // namespace isa
POLYMAC_END

#endif
