// SPDX-License-Identifier: MIT
// L-Mul on 256 bits: 8 products of three instructions. See l_mul_tile.hpp for the tile and its modes.
//
//   intrinsic                    instruction              Skylake (client)    Zen 4
//   _mm256_add_epi32             vpaddd ymm               3/cycle (p015)      4/cycle
//   _mm256_and_si256             vpand ymm                3/cycle (p015)      4/cycle
//   _mm256_add_ps                vaddps ymm               2/cycle (p01)       2/cycle
//   _mm256_set1_epi32            vpbroadcastd ymm, m32    load ports only     load ports only
//
//   tile: 4 rows x 2 panels of 8 columns: 8 sums, 2 words of weights, a word and a mask of a row, a product; where weights
//   are 0 two masks more: 15 of 16
//
// There are no masks of lanes: a mask is a register, and what is not there is 0 by an and.
#pragma once

#include "polymac/isa/avx2.hpp"
#include "polymac/isa/l_mul_tile.hpp"

#include <cstddef>
#include <cstdint>

#if defined(__AVX2__) && defined(__FMA__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

struct ymm_l_mul : ymm_float {
  using words = __m256i;
  using mask = __m256i;
  static constexpr std::size_t max_rows = 4, max_panels = 2;
  struct row_operand {
    __m256i word, here;
  };

  static POLYMAC_INLINE row_operand row(const l_mul_activation& a) noexcept {
    return {broadcast(a.word), broadcast(a.here)};
  }
  static POLYMAC_INLINE type product(const row_operand& a, words w) noexcept {
    return _mm256_castsi256_ps(_mm256_and_si256(a.here, _mm256_add_epi32(a.word, w)));
  }
  static POLYMAC_INLINE type add_where(mask where, type sums, type products) noexcept {
    return _mm256_add_ps(sums, _mm256_and_ps(_mm256_castsi256_ps(where), products));
  }

  static POLYMAC_INLINE words load_words(const void* from) noexcept { return ymm::load(from); }
  static POLYMAC_INLINE words load_words(const void* from, std::size_t count) noexcept {
    const __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i some = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<std::int32_t>(count)), place);
    return _mm256_maskload_epi32(static_cast<const int*>(from), some);
  }
  static POLYMAC_INLINE void store_words(void* to, words v) noexcept { ymm::store(to, v); }
  static POLYMAC_INLINE words broadcast(std::uint32_t v) noexcept {
    return _mm256_set1_epi32(static_cast<std::int32_t>(v));
  }
  static POLYMAC_INLINE words plus(words a, words b) noexcept { return _mm256_add_epi32(a, b); }
  static POLYMAC_INLINE words minus(words a, words b) noexcept { return _mm256_sub_epi32(a, b); }
  static POLYMAC_INLINE words both(words a, words b) noexcept { return _mm256_and_si256(a, b); }
  static POLYMAC_INLINE words either(words a, words b) noexcept { return _mm256_or_si256(a, b); }
  static POLYMAC_INLINE words differing(words a, words b) noexcept { return _mm256_xor_si256(a, b); }
  static POLYMAC_INLINE words smaller(words a, words b) noexcept { return _mm256_min_epi32(a, b); }
  static POLYMAC_INLINE words greater(words a, words b) noexcept { return _mm256_max_epi32(a, b); }
  static POLYMAC_INLINE mask at_least(words a, words b) noexcept {
    return _mm256_cmpeq_epi32(_mm256_max_epu32(a, b), a);
  }
  static POLYMAC_INLINE bool any(mask m) noexcept { return _mm256_testz_si256(m, m) == 0; }
  static POLYMAC_INLINE words select(mask m, words a, words b) noexcept { return _mm256_blendv_epi8(b, a, m); }
  static POLYMAC_INLINE words keep(mask m, words a) noexcept { return _mm256_and_si256(m, a); }
  static POLYMAC_INLINE type product_where(mask m, words a, words b, words c) noexcept {
    const type products = _mm256_mul_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
    return _mm256_blendv_ps(_mm256_castsi256_ps(c), products, _mm256_castsi256_ps(m));
  }
  static POLYMAC_INLINE void store_activations(l_mul_activation* to, words word, mask here) noexcept {
    const __m256i low = _mm256_unpacklo_epi32(word, here), high = _mm256_unpackhi_epi32(word, here);
    ymm::store(to, _mm256_permute2x128_si256(low, high, 0x20));
    ymm::store(to + 4, _mm256_permute2x128_si256(low, high, 0x31));
  }
};

}  // namespace detail

template <int MantissaBits, int Offset, class Word, overflow Mode>
struct atom<mac::l_mul<MantissaBits, Offset, Word, Mode>, avx2>
    : detail::l_mul_atom<mac::l_mul<MantissaBits, Offset, Word, Mode>, avx2, detail::ymm_l_mul> {};

}  // namespace isa
POLYMAC_END

#endif
