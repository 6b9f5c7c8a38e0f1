// SPDX-License-Identifier: MIT
// Column sums of 8-bit codes on 512 bits.
#pragma once

#include "polymac/isa/column_sums.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {

/// Four registers of sums; one widening load and one addition for 16 codes.
template <class T>
requires(std::integral<T> && sizeof(T) == 1) struct column_sums<T, avx512> {
  static void add(const T* from, std::size_t stride, std::size_t rows, std::size_t columns,
                  std::int32_t* into) noexcept {
    __m512i sum[4];
    __mmask16 mask[4];
    const std::uint64_t all = ~std::uint64_t{0} >> (64 - columns);  // columns in [1, 64]
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < 4; ++i) {
      sum[i] = _mm512_loadu_si512(into + 16 * i);
      mask[i] = static_cast<__mmask16>(all >> (16 * i));
    }
    for (std::size_t r = 0; r < rows; ++r, from += stride) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < 4; ++i) {
        const __m128i codes = _mm_maskz_loadu_epi8(mask[i], from + 16 * i);
        sum[i] =
            _mm512_add_epi32(sum[i], std::is_signed_v<T> ? _mm512_cvtepi8_epi32(codes) : _mm512_cvtepu8_epi32(codes));
      }
    }
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < 4; ++i) _mm512_storeu_si512(into + 16 * i, sum[i]);
  }
};

}  // namespace isa
POLYMAC_END

#endif
