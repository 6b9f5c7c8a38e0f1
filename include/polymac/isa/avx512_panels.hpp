// SPDX-License-Identifier: MIT
// Panels on AVX-512: 16 columns x 64 bytes at a time.
//
//   intrinsic                     instruction              Zen 5       Granite Rapids
//   _mm512_unpacklo_epi32 ...     vpunpckldq zmm           2/cycle     1/cycle (p5)
//   _mm512_shuffle_i32x4          vshufi32x4 zmm           1/cycle     1/cycle (p5)
//   _mm512_permutexvar_epi16      vpermw zmm               2/cycle     1/cycle (p5)
//   _mm512_maddubs_epi16          vpmaddubsw zmm           2/cycle     1/cycle (p0)
//
// Price: 64 shuffles, 16 loads and 16 stores for 1 KiB, about 64 cycles on one port: more than memory gives. Whole
// lines are read: columns often lie a multiple of 4 KiB apart, on one set of L1, which does not keep 16 lines.
#pragma once

#include "polymac/isa/panels.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Rows of 16 words become columns.
POLYMAC_INLINE void transpose_words(__m512i (&v)[16]) noexcept {
  __m512i t[16];
  // 2 x 2 words, then 4 x 4 words within every quarter of a register ...
  POLYMAC_UNROLL
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  POLYMAC_UNROLL
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // ... then 4 x 4 quarters: v[4 * i + j], quarter q: word 4 * q + j of rows 4 * i ...
  POLYMAC_UNROLL
  for (int j = 0; j < 4; ++j) {
    const __m512i even_low = _mm512_shuffle_i32x4(v[j], v[4 + j], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(v[j], v[4 + j], 0xdd);
    const __m512i even_high = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0x88);
    const __m512i odd_high = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0xdd);
    t[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    t[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    t[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
  POLYMAC_UNROLL
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

/// Rows of 8 double words become columns.
POLYMAC_INLINE void transpose_double_words(__m512i (&v)[8]) noexcept {
  __m512i t[8];
  // 2 x 2 double words: t[i], quarter q: double word 2 * q of rows i and i + 1; t[i + 1]: 2 * q + 1 of them ...
  POLYMAC_UNROLL
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm512_unpacklo_epi64(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi64(v[i], v[i + 1]);
  }
  // ... then 4 x 4 quarters.
  POLYMAC_UNROLL
  for (int j = 0; j < 2; ++j) {
    const __m512i even_low = _mm512_shuffle_i64x2(t[j], t[2 + j], 0x88);
    const __m512i odd_low = _mm512_shuffle_i64x2(t[j], t[2 + j], 0xdd);
    const __m512i even_high = _mm512_shuffle_i64x2(t[4 + j], t[6 + j], 0x88);
    const __m512i odd_high = _mm512_shuffle_i64x2(t[4 + j], t[6 + j], 0xdd);
    v[j] = _mm512_shuffle_i64x2(even_low, even_high, 0x88);
    v[2 + j] = _mm512_shuffle_i64x2(odd_low, odd_high, 0x88);
    v[4 + j] = _mm512_shuffle_i64x2(even_low, even_high, 0xdd);
    v[6 + j] = _mm512_shuffle_i64x2(odd_low, odd_high, 0xdd);
  }
}

}  // namespace detail

template <class W, std::size_t Depth>
requires(sizeof(W) * Depth == 4 || sizeof(W) * Depth == 2) struct panels<avx512, W, 16, Depth> {
  static constexpr std::size_t word = sizeof(W) * Depth;
  static constexpr std::size_t transposed_k = 64 / sizeof(W);

  static void transpose(W* panel, const W* from, std::size_t stride, std::size_t columns) noexcept {
    __m512i v[16];
    POLYMAC_UNROLL
    for (std::size_t c = 0; c < 16; ++c)
      v[c] = c < columns ? _mm512_loadu_si512(from + c * stride) : _mm512_setzero_si512();
    detail::transpose_words(v);
    if constexpr (word == 2) {
      // A word of 32 bits holds two groups: the first of every column, then the second.
      alignas(64) std::int16_t order[32];
      for (int i = 0; i < 32; ++i) order[i] = static_cast<std::int16_t>(i % 16 * 2 + i / 16);
      const __m512i halves = _mm512_load_si512(order);
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < 16; ++i) v[i] = _mm512_permutexvar_epi16(halves, v[i]);
    }
    auto* const bytes = reinterpret_cast<char*>(panel);
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < 16; ++i) _mm512_storeu_si512(bytes + i * 64, v[i]);
  }

  static constexpr bool interleaves = Depth > 1 && word == 4;
  static POLYMAC_INLINE void interleave(W* group, const W* from, std::size_t stride) noexcept {
    if constexpr (Depth == 2) {
      // A half for each row; then its words take turns.
      const auto row = [&](std::size_t d) POLYMAC_INLINE_LAMBDA {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + d * stride));
      };
      alignas(64) std::int16_t order[32];
      for (int i = 0; i < 32; ++i) order[i] = static_cast<std::int16_t>(i / 2 + i % 2 * 16);
      const __m512i rows = _mm512_inserti64x4(_mm512_castsi256_si512(row(0)), row(1), 1);
      _mm512_storeu_si512(group, _mm512_permutexvar_epi16(_mm512_load_si512(order), rows));
    } else {
      const auto row = [&](std::size_t d) POLYMAC_INLINE_LAMBDA {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + d * stride));
      };
      // A quarter for each row; then four columns of all rows in each quarter; then their bytes in order.
      __m512i rows = _mm512_castsi128_si512(row(0));
      rows = _mm512_inserti32x4(rows, row(1), 1);
      rows = _mm512_inserti32x4(rows, row(2), 2);
      rows = _mm512_inserti32x4(rows, row(3), 3);
      const __m512i quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      const __m512i bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
      _mm512_storeu_si512(group, _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, rows), bytes));
    }
  }

  static constexpr bool sums = std::is_same_v<W, std::int8_t> && word == 4;
  static void add_up(const W* panel, std::size_t groups, std::int32_t* totals) noexcept {
    // 1 * w + 1 * w is far from the saturation of vpmaddubsw.
    const __m512i ones = _mm512_set1_epi8(1), one_words = _mm512_set1_epi16(1);
    __m512i a = _mm512_loadu_si512(totals), b = _mm512_setzero_si512();
    const auto four = [&](std::size_t g) POLYMAC_INLINE_LAMBDA {
      return _mm512_madd_epi16(_mm512_maddubs_epi16(ones, _mm512_loadu_si512(panel + g * 64)), one_words);
    };
    std::size_t g = 0;
    for (; g + 2 <= groups; g += 2) {
      a = _mm512_add_epi32(a, four(g));
      b = _mm512_add_epi32(b, four(g + 1));
    }
    if (g < groups) a = _mm512_add_epi32(a, four(g));
    _mm512_storeu_si512(totals, _mm512_add_epi32(a, b));
  }
};

/// Panels of the atoms for few columns.
template <class W, std::size_t Depth>
requires(sizeof(W) * Depth == 8 || sizeof(W) * Depth == 4) struct panels<avx512, W, 8, Depth> {
  static constexpr std::size_t transposed_k = 64 / sizeof(W);

  static void transpose(W* panel, const W* from, std::size_t stride, std::size_t columns) noexcept {
    __m512i v[8];
    POLYMAC_UNROLL
    for (std::size_t c = 0; c < 8; ++c)
      v[c] = c < columns ? _mm512_loadu_si512(from + c * stride) : _mm512_setzero_si512();
    detail::transpose_double_words(v);
    if constexpr (sizeof(W) * Depth == 4) {
      // A double word holds two groups: the first of every column, then the second.
      const __m512i halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < 8; ++i) v[i] = _mm512_permutexvar_epi32(halves, v[i]);
    }
    auto* const bytes = reinterpret_cast<char*>(panel);
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < 8; ++i) _mm512_storeu_si512(bytes + i * 64, v[i]);
  }

  static constexpr bool interleaves = false;
  static constexpr bool sums = std::is_same_v<W, std::int8_t> && Depth == 8;
  static void add_up(const W* panel, std::size_t groups, std::int32_t* totals) noexcept {
    const __m512i ones = _mm512_set1_epi8(1), one_words = _mm512_set1_epi16(1);
    __m512i halves = _mm512_setzero_si512();
    for (std::size_t g = 0; g < groups; ++g)
      halves = _mm512_add_epi32(
          halves, _mm512_madd_epi16(_mm512_maddubs_epi16(ones, _mm512_loadu_si512(panel + g * 64)), one_words));
    auto* const all = reinterpret_cast<__m256i*>(totals);
    const __m256i added = _mm512_cvtepi64_epi32(_mm512_add_epi32(halves, _mm512_srli_epi64(halves, 32)));
    _mm256_storeu_si256(all, _mm256_add_epi32(_mm256_loadu_si256(all), added));
  }
};

}  // namespace isa
POLYMAC_END

#endif
