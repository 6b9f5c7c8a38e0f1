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
  using mask = __mmask16;
  static constexpr std::size_t max_rows = 6, max_panels = 4;
  struct row_operand {
    __m512i word;
    __mmask16 here;
  };

  static POLYMAC_INLINE row_operand row(const l_mul_activation& a) noexcept {
    return {broadcast(a.word), static_cast<__mmask16>(a.here)};
  }
  static POLYMAC_INLINE type product(const row_operand& a, words w) noexcept {
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(a.here, a.word, w));
  }
  static POLYMAC_INLINE type add_where(mask where, type sums, type products) noexcept {
    return _mm512_mask_add_ps(sums, where, sums, products);
  }

  static POLYMAC_INLINE words load_words(const void* from) noexcept { return _mm512_loadu_si512(from); }
  static POLYMAC_INLINE words load_words(const void* from, std::size_t count) noexcept {
    return _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << count) - 1), from);
  }
  static POLYMAC_INLINE void store_words(void* to, words v) noexcept { _mm512_storeu_si512(to, v); }
  static POLYMAC_INLINE words broadcast(std::uint32_t v) noexcept {
    return _mm512_set1_epi32(static_cast<std::int32_t>(v));
  }
  static POLYMAC_INLINE words plus(words a, words b) noexcept { return _mm512_add_epi32(a, b); }
  static POLYMAC_INLINE words minus(words a, words b) noexcept { return _mm512_sub_epi32(a, b); }
  static POLYMAC_INLINE words both(words a, words b) noexcept { return _mm512_and_si512(a, b); }
  static POLYMAC_INLINE words either(words a, words b) noexcept { return _mm512_or_si512(a, b); }
  static POLYMAC_INLINE words differing(words a, words b) noexcept { return _mm512_xor_si512(a, b); }
  static POLYMAC_INLINE words smaller(words a, words b) noexcept { return _mm512_min_epi32(a, b); }
  static POLYMAC_INLINE words greater(words a, words b) noexcept { return _mm512_max_epi32(a, b); }
  static POLYMAC_INLINE mask at_least(words a, words b) noexcept { return _mm512_cmpge_epu32_mask(a, b); }
  static POLYMAC_INLINE bool any(mask m) noexcept { return m != 0; }
  static POLYMAC_INLINE words select(mask m, words a, words b) noexcept { return _mm512_mask_mov_epi32(b, m, a); }
  static POLYMAC_INLINE words keep(mask m, words a) noexcept { return _mm512_maskz_mov_epi32(m, a); }
  static POLYMAC_INLINE type product_where(mask m, words a, words b, words c) noexcept {
    return _mm512_mask_mul_ps(_mm512_castsi512_ps(c), m, _mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
  }
  static POLYMAC_INLINE void store_activations(l_mul_activation* to, words word, mask here) noexcept {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const __m512i present = keep(here, broadcast(0xFFFF));
    _mm512_storeu_si512(to, _mm512_permutex2var_epi32(word, low, present));
    _mm512_storeu_si512(to + 8, _mm512_permutex2var_epi32(word, high, present));
  }
};

}  // namespace detail

template <int MantissaBits, int Offset, class Word, overflow Mode>
struct atom<mac::l_mul<MantissaBits, Offset, Word, Mode>, avx512>
    : detail::l_mul_atom<mac::l_mul<MantissaBits, Offset, Word, Mode>, avx512, detail::zmm_l_mul> {};

}  // namespace isa
POLYMAC_END

#endif
