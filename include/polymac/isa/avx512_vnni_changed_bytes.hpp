// SPDX-License-Identifier: MIT
// Changed bytes on 512 bits with dot products.
//
//   price of four k and 64 columns     4 loads, 8 unpackings (one a cycle on Zen 4), 4 vpdpbusd
//   of 32 columns                      the same on 256 bits, half of it
//
// 96 columns are 64 and 32, so that 8 sums of registers hide the latency of products. Weights are stored as w + 128, for
// vpdpbusd wants one operand unsigned, and differences are signed; the surplus is 128 times the sum of the differences,
// one more vpdpbusd on 128 bits. Columns of a row are stored in the order in which unpacking brings them back in order:
// it works in the 128-bit quarters of a register, and column 16 j + 4 q + i is byte i of word j of quarter q.
#pragma once

#include "polymac/isa/changed_bytes.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {

template <>
struct changed_bytes<avx512_vnni> {
  static constexpr std::size_t row_columns(std::size_t columns) noexcept { return (columns + 31) / 32 * 32; }

  static void put_weight(std::int8_t* rows, std::size_t depth, std::size_t columns, std::size_t column, std::size_t k,
                         std::int8_t weight) noexcept {
    // Blocks of 64 columns, the last one of 32 where that is enough; in each of them all k.
    const std::size_t before = column / 64 * 64, width = row_columns(columns) - before < 64 ? 32 : 64;
    const std::size_t quarters = width / 16, c = column - before;
    const std::size_t word = c / (4 * quarters), quarter = c / 4 % quarters;
    rows[before * depth + k * width + quarter * 16 + word * 4 + c % 4] = static_cast<std::int8_t>(weight ^ -128);
  }

  template <class Byte>
  static POLYMAC_INLINE bool append(std::uint64_t bits, const Byte* a, Byte* b, std::size_t count, std::size_t place,
                                    std::uint16_t* places, std::int8_t* differences) noexcept {
    const __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __mmask16 too_large = 0;
    while (bits != 0) {
      // From the quarter of 16 bytes in which the next one lies.
      const auto at = static_cast<std::size_t>(std::countr_zero(bits)) / 16 * 16;
      const auto here = static_cast<__mmask16>(bits >> at);
      bits &= ~(std::uint64_t{0xFFFF} << at);
      const auto read = [&](const Byte* from) POLYMAC_INLINE_LAMBDA {
        return at + 16 <= count ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at))
                                : _mm_maskz_loadu_epi8(here, from + at);
      };
      const __m128i now = read(a), then = read(b);
      const __m512i difference = _mm512_sub_epi32(widened<Byte>(now), widened<Byte>(then));
      too_large = static_cast<__mmask16>(
          too_large | _mm512_mask_cmpgt_epu32_mask(here, _mm512_add_epi32(difference, _mm512_set1_epi32(128)),
                                                   _mm512_set1_epi32(255)));
      if (at + 16 <= count)  // stores with a mask take ten cycles on Zen 4
        _mm_storeu_si128(reinterpret_cast<__m128i*>(b + at), _mm_mask_blend_epi8(here, then, now));
      else
        _mm_mask_storeu_epi8(b + at, here, now);
      const __m512i at_place = _mm512_add_epi32(number, _mm512_set1_epi32(static_cast<int>(place + at)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(places),
                          _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(here, at_place)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(differences),
                       _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(here, difference)));
      places += std::popcount(here);
      differences += std::popcount(here);
    }
    return too_large == 0;
  }

  static void add(const std::int8_t* rows, std::size_t depth, std::size_t columns, const changed_stretch* stretches,
                  std::size_t count, std::int32_t* sums) noexcept {
    std::size_t left = row_columns(columns);
    for (; left > 96; left -= left < 128 ? left : 128, rows += 128 * depth, sums += 128)
      add_block<2, false>(rows, depth, stretches, count, sums);
    if (left == 96) return add_block<1, true>(rows, depth, stretches, count, sums);
    if (left == 64) return add_block<1, false>(rows, depth, stretches, count, sums);
    if (left == 32) return add_block<0, true>(rows, depth, stretches, count, sums);
  }

 private:
  template <class Byte>
  static POLYMAC_INLINE __m512i widened(__m128i bytes) noexcept {
    return std::is_signed_v<Byte> ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes);
  }

  /// Sums of 64 * Whole columns, and of 32 more.
  template <std::size_t Whole, bool Half>
  struct block_sums {
    __m512i whole[Whole > 0 ? 4 * Whole : 1];
    __m256i half[4];
    __m128i surplus = _mm_setzero_si128();

    POLYMAC_INLINE void add_four(const std::int8_t* rows, std::size_t depth, const std::size_t (&k)[4],
                                 std::int32_t four) noexcept {
      surplus = _mm_dpbusd_epi32(surplus, _mm_set1_epi8(-128), _mm_cvtsi32_si128(four));
      const __m512i all = _mm512_set1_epi32(four);
      POLYMAC_UNROLL
      for (std::size_t w = 0; w < Whole; ++w) {
        const std::int8_t* const from = rows + w * 64 * depth;
        const __m512i a = _mm512_loadu_si512(from + k[0] * 64), b = _mm512_loadu_si512(from + k[1] * 64),
                      c = _mm512_loadu_si512(from + k[2] * 64), d = _mm512_loadu_si512(from + k[3] * 64);
        const __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b),
                      low2 = _mm512_unpacklo_epi8(c, d), high2 = _mm512_unpackhi_epi8(c, d);
        whole[4 * w] = _mm512_dpbusd_epi32(whole[4 * w], _mm512_unpacklo_epi16(low, low2), all);
        whole[4 * w + 1] = _mm512_dpbusd_epi32(whole[4 * w + 1], _mm512_unpackhi_epi16(low, low2), all);
        whole[4 * w + 2] = _mm512_dpbusd_epi32(whole[4 * w + 2], _mm512_unpacklo_epi16(high, high2), all);
        whole[4 * w + 3] = _mm512_dpbusd_epi32(whole[4 * w + 3], _mm512_unpackhi_epi16(high, high2), all);
      }
      if constexpr (Half) {
        const auto row = [&](std::size_t i) POLYMAC_INLINE_LAMBDA {
          return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows + Whole * 64 * depth + k[i] * 32));
        };
        const __m256i a = row(0), b = row(1), c = row(2), d = row(3), eight = _mm512_castsi512_si256(all);
        const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b),
                      low2 = _mm256_unpacklo_epi8(c, d), high2 = _mm256_unpackhi_epi8(c, d);
        half[0] = _mm256_dpbusd_epi32(half[0], _mm256_unpacklo_epi16(low, low2), eight);
        half[1] = _mm256_dpbusd_epi32(half[1], _mm256_unpackhi_epi16(low, low2), eight);
        half[2] = _mm256_dpbusd_epi32(half[2], _mm256_unpacklo_epi16(high, high2), eight);
        half[3] = _mm256_dpbusd_epi32(half[3], _mm256_unpackhi_epi16(high, high2), eight);
      }
    }
  };

  template <std::size_t Whole, bool Half>
  static POLYMAC_NOINLINE void add_block(const std::int8_t* rows, std::size_t depth, const changed_stretch* stretches,
                                         std::size_t count, std::int32_t* sums) noexcept {
    block_sums<Whole, Half> t;
    __m256i* const halves = reinterpret_cast<__m256i*>(sums + Whole * 64);
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < 4 * Whole; ++i) t.whole[i] = _mm512_loadu_si512(sums + 16 * i);
    if constexpr (Half) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < 4; ++i) t.half[i] = _mm256_loadu_si256(halves + i);
    }
    for (const changed_stretch* s = stretches; s != stretches + count; ++s) {
      const std::uint16_t* place = s->places;
      const std::int8_t* difference = s->differences;
      const auto k_of = [&](std::size_t i) POLYMAC_INLINE_LAMBDA {
        return static_cast<std::size_t>(static_cast<std::ptrdiff_t>(place[i]) + s->first);
      };
      std::size_t left = s->count;
      std::int32_t four = 0;
      for (; left >= 4; left -= 4, place += 4, difference += 4) {
        std::memcpy(&four, difference, 4);
        t.add_four(rows, depth, {k_of(0), k_of(1), k_of(2), k_of(3)}, four);
      }
      if (left > 0) {  // rows beyond the last one are that of the first, times 0
        std::memcpy(&four, difference, 4);
        four &= (std::int32_t{1} << (8 * left)) - 1;
        t.add_four(rows, depth, {k_of(0), k_of(left > 1 ? 1 : 0), k_of(left > 2 ? 2 : 0), k_of(0)}, four);
      }
    }
    const __m512i surplus = _mm512_broadcastd_epi32(t.surplus);
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < 4 * Whole; ++i)
      _mm512_storeu_si512(sums + 16 * i, _mm512_sub_epi32(t.whole[i], surplus));
    if constexpr (Half) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < 4; ++i)
        _mm256_storeu_si256(halves + i, _mm256_sub_epi32(t.half[i], _mm512_castsi512_si256(surplus)));
    }
  }
};

}  // namespace isa
POLYMAC_END

#endif
