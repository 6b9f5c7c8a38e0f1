// SPDX-License-Identifier: MIT
// Column maxima of 8-bit codes on 512 bits: one load and one maximum for 64 codes, nothing in memory in between.
#pragma once

#include "polymac/isa/column_maxima.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {

template <class T>
requires(std::integral<T> && sizeof(T) == 1) struct column_maxima<T, avx512> {
  static POLYMAC_INLINE void find(const T* from, const window_rows& under, std::size_t columns, T low, T high,
                                  T* to) noexcept {
    // Without a mask where there are whole registers: half of the masked loads of 32 bytes would touch two lines.
    if (columns == 64) {
      _mm512_storeu_si512(to, most(from, under, low, high, [](const T* at) { return _mm512_loadu_si512(at); }));
    } else if (columns == 32) {
      const auto load = [](const T* at) {
        return _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
      };
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(most(from, under, low, high, load)));
    } else {
      const auto mask = static_cast<__mmask64>(~std::uint64_t{0} >> (64 - columns));  // columns in [1, 64]
      const auto load = [=](const T* at) { return _mm512_maskz_loadu_epi8(mask, at); };
      _mm512_mask_storeu_epi8(to, mask, most(from, under, low, high, load));
    }
  }

 private:
  template <class Load>
  static POLYMAC_INLINE __m512i most(const T* from, const window_rows& under, T low, T high,
                                     const Load& load) noexcept {
    __m512i found = _mm512_set1_epi8(static_cast<char>(low));
    for (std::size_t l = 0; l < under.lines; ++l, from += under.line_stride) {
      const T* row = from;
      for (std::size_t r = 0; r < under.rows; ++r, row += under.row_stride) found = larger(found, load(row));
    }
    return smaller(found, _mm512_set1_epi8(static_cast<char>(high)));
  }
  static POLYMAC_INLINE __m512i larger(__m512i a, __m512i b) noexcept {
    if constexpr (std::is_signed_v<T>)
      return _mm512_max_epi8(a, b);
    else
      return _mm512_max_epu8(a, b);
  }
  static POLYMAC_INLINE __m512i smaller(__m512i a, __m512i b) noexcept {
    if constexpr (std::is_signed_v<T>)
      return _mm512_min_epi8(a, b);
    else
      return _mm512_min_epu8(a, b);
  }
};

}  // namespace isa
POLYMAC_END

#endif
