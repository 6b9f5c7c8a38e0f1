// SPDX-License-Identifier: MIT
// Panels on AVX2: 8 columns x 32 bytes at a time, twice for a panel of 16 columns.
//
//   24 shuffles (vpunpck.., vperm2i128), 8 loads and 8 stores for 256 bytes
#pragma once

#include "polymac/isa/panels.hpp"

#if defined(__AVX2__) && defined(__FMA__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Rows of 8 words become columns.
POLYMAC_INLINE void transpose_words(__m256i (&v)[8]) noexcept {
  __m256i t[8];
  POLYMAC_UNROLL
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  POLYMAC_UNROLL
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  POLYMAC_UNROLL
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm256_permute2x128_si256(v[j], v[4 + j], 0x20);
    t[4 + j] = _mm256_permute2x128_si256(v[j], v[4 + j], 0x31);
  }
  POLYMAC_UNROLL
  for (int i = 0; i < 8; ++i) v[i] = t[i];
}

}  // namespace detail

template <class W, std::size_t Columns, std::size_t Depth>
requires((Columns == 8 || Columns == 16) &&
         (sizeof(W) * Depth == 4 || sizeof(W) * Depth == 2)) struct panels<avx2, W, Columns, Depth> {
  static constexpr std::size_t word = sizeof(W) * Depth;
  static constexpr std::size_t transposed_k = 32 / sizeof(W);

  static void transpose(W* panel, const W* from, std::size_t stride, std::size_t columns) noexcept {
    auto* const bytes = reinterpret_cast<char*>(panel);
    for (std::size_t first = 0; first < Columns; first += 8) {
      __m256i v[8];
      POLYMAC_UNROLL
      for (std::size_t c = 0; c < 8; ++c)
        v[c] = first + c < columns ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + (first + c) * stride))
                                   : _mm256_setzero_si256();
      detail::transpose_words(v);
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < 8; ++i) {
        if constexpr (word == 4) {
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes + (i * Columns + first) * word), v[i]);
        } else {
          // A word of 32 bits holds two groups: the first of every column, then the second.
          const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,  //
                                                 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
          const __m256i halves = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(v[i], order), 0xd8);
          char* const group = bytes + (2 * i * Columns + first) * word;
          _mm_storeu_si128(reinterpret_cast<__m128i*>(group), _mm256_castsi256_si128(halves));
          _mm_storeu_si128(reinterpret_cast<__m128i*>(group + Columns * word), _mm256_extracti128_si256(halves, 1));
        }
      }
    }
  }

  static constexpr bool interleaves = Columns == 16 && sizeof(W) == 1 && word == 4;
  static POLYMAC_INLINE void interleave(W* group, const W* from, std::size_t stride) noexcept {
    const auto row = [&](std::size_t d) POLYMAC_INLINE_LAMBDA {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + d * stride));
    };
    const __m128i low01 = _mm_unpacklo_epi8(row(0), row(1)), low23 = _mm_unpacklo_epi8(row(2), row(3));
    const __m128i high01 = _mm_unpackhi_epi8(row(0), row(1)), high23 = _mm_unpackhi_epi8(row(2), row(3));
    auto* const to = reinterpret_cast<__m128i*>(group);
    _mm_storeu_si128(to, _mm_unpacklo_epi16(low01, low23));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(low01, low23));
    _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(high01, high23));
    _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(high01, high23));
  }

  static constexpr bool sums = Columns == 16 && std::is_same_v<W, std::int8_t> && word == 4;
  static void add_up(const W* panel, std::size_t groups, std::int32_t* totals) noexcept {
    // 1 * w + 1 * w is far from the saturation of vpmaddubsw.
    const __m256i ones = _mm256_set1_epi8(1), one_words = _mm256_set1_epi16(1);
    const auto at = [](auto* p) POLYMAC_INLINE_LAMBDA { return reinterpret_cast<__m256i*>(p); };
    __m256i low = _mm256_loadu_si256(at(totals)), high = _mm256_loadu_si256(at(totals + 8));
    const auto four = [&](const W* w) POLYMAC_INLINE_LAMBDA {
      const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
      return _mm256_madd_epi16(_mm256_maddubs_epi16(ones, weights), one_words);
    };
    for (std::size_t g = 0; g < groups; ++g, panel += 64) {
      low = _mm256_add_epi32(low, four(panel));
      high = _mm256_add_epi32(high, four(panel + 32));
    }
    _mm256_storeu_si256(at(totals), low);
    _mm256_storeu_si256(at(totals + 8), high);
  }
};

}  // namespace isa
POLYMAC_END

#endif
