// SPDX-License-Identifier: MIT
// AVX2: products of bytes and words by vpmaddwd, 256 bits.
//
//   intrinsic               instruction            Skylake (client)      Zen 3
//   _mm256_madd_epi16       vpmaddwd ymm           5 cy, p01             3 cy, 2/cycle
//   _mm256_add_epi32        vpaddd ymm             1 cy, p015            1 cy, 4/cycle
//   _mm256_srai_epi16 ...   vpsraw, vpsllw ymm     1 cy, p01             1 cy, 2/cycle
//   _mm256_set1_epi32       vpbroadcastd ymm, m32  load ports only       load ports only
//   _mm256_cvtepi8_epi16    vpmovsxbw ymm, m128    p5 and a load         2/cycle
//   (uops.info, Agner Fog's tables)
//
//   tile of int8 and uint8: up to 4 rows x 1 panel of 16 columns, 4 deep; widening.hpp shows one lane
//
//                     c0 .. c7         c8 .. c15
//      k..k+3         even, odd        even, odd       4 registers of weights as words
//   row 0..3   aaaa   s                s               8 sums, 2 activations (even, odd), 1 product or 2: at most 16
//   price of a step: 6 + 11 x rows vector operations for 64 x rows products; 4 rows: 256 in about 17 cycles on 3 ports
//
//   tile of int16x8: up to 6 rows x 1 panel of 16 columns, 2 deep
//
//      k, k+1         ww .. ww         ww .. ww        2 registers of weights as words
//   row 0..5   aa     s                s               12 sums, 1 activation, 1 product: 16 of 16
//
//   tile of bf16: up to 4 rows x 1 panel of 16 columns, 2 deep
//
//      k, k+1         ww .. ww         ww .. ww        4 registers of weights as floats
//   row 0..3   aa     s                s               8 sums (2 vfmadd/cycle, latency 4), 2 activations, 1 constant
//   price of a step: 4 + rows x 2 conversions, rows x 4 vfmadd
//
// Why it equals the golden model for every input: widening.hpp, bf16_product.hpp.
#pragma once

#include "polymac/isa/bf16_product.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/isa/widening.hpp"

#if defined(__AVX2__) && defined(__FMA__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// 256 bits as 8 lanes.
struct ymm {
  using type = __m256i;
  static constexpr std::size_t lanes = 8;
  static constexpr std::size_t registers = 16;
  static POLYMAC_INLINE type load(const void* from) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
  }
  static POLYMAC_INLINE type load_widened(const std::int8_t* from) noexcept {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static POLYMAC_INLINE void store(void* to, type v) noexcept { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }
  static POLYMAC_INLINE type broadcast(std::int32_t v) noexcept { return _mm256_set1_epi32(v); }
  static POLYMAC_INLINE type zero() noexcept { return _mm256_setzero_si256(); }
  static POLYMAC_INLINE __m256 to_float(type v) noexcept { return _mm256_cvtepi32_ps(v); }
  static POLYMAC_INLINE type add(type a, type b) noexcept { return _mm256_add_epi32(a, b); }
  template <int Bits>
  static POLYMAC_INLINE type shift_right(type v) noexcept {
    return _mm256_srai_epi32(v, Bits);
  }
  /// Of every byte the bits [Shift, Shift + Bits).
  template <unsigned Bits, unsigned Shift>
  static POLYMAC_INLINE type field(type v) noexcept {
    if constexpr (Shift > 0) v = _mm256_srli_epi32(v, Shift);
    return Bits == 8 ? v : _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>((1u << Bits) - 1)));
  }
  /// 8 bytes as unsigned integers.
  static POLYMAC_INLINE type load_bytes(const std::uint8_t* from) noexcept {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
  static POLYMAC_INLINE type multiply_pairs(type a, type b) noexcept { return _mm256_madd_epi16(a, b); }
  static POLYMAC_INLINE type even_i8(type v) noexcept { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
  static POLYMAC_INLINE type odd_i8(type v) noexcept { return _mm256_srai_epi16(v, 8); }
  // Two shifts, not an and: the mask would be the 17th register.
  static POLYMAC_INLINE type even_u8(type v) noexcept { return _mm256_srli_epi16(_mm256_slli_epi16(v, 8), 8); }
  static POLYMAC_INLINE type odd_u8(type v) noexcept { return _mm256_srli_epi16(v, 8); }
};

/// Dot products in 32-bit lanes, without instructions for them.
struct ymm_small_bytes : ymm {
  static POLYMAC_INLINE type flip_top_bits(type v) noexcept { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
  /// Of the bytes [offset, offset + count) of every row, a multiple of 4, to rows `stride` apart.
  template <class Rows>
  static POLYMAC_INLINE void flip_top_bits(const Rows& rows, std::size_t row_count, std::size_t offset,
                                           std::size_t count, std::int8_t* to, std::size_t stride) noexcept {
    for (std::size_t r = 0; r < row_count; ++r) {
      const std::int8_t* const from = rows[r] + offset;
      std::size_t k = 0;
      for (; k + 32 <= count; k += 32) store(to + r * stride + k, flip_top_bits(load(from + k)));
      for (; k < count; k += 4) {
        const std::int32_t four = four_bytes(from + k) ^ static_cast<std::int32_t>(0x80808080u);
        std::memcpy(to + r * stride + k, &four, sizeof(four));
      }
    }
  }
  /// Where two neighbouring products fit 16 bits.
  static POLYMAC_INLINE type add_dot_u8i8(type sums, type a, type w) noexcept {
    return add(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(a, w), _mm256_set1_epi16(1)));
  }
  static POLYMAC_INLINE type add_dot_i16(type sums, type a, type w) noexcept { return add(sums, multiply_pairs(a, w)); }
  /// The sum of a block as what is multiplied with zero points: words of 16 bits, the upper one 0.
  static POLYMAC_INLINE type broadcast_sum(std::int32_t sum) noexcept { return broadcast(sum & 0xFFFF); }
};

/// 256 bits as 8 floats.
struct ymm_float {
  using type = __m256;
  using pairs = __m256i;
  static constexpr std::size_t lanes = 8;
  static constexpr std::size_t registers = 16;
  static POLYMAC_INLINE type load(const float* from) noexcept { return _mm256_loadu_ps(from); }
  static POLYMAC_INLINE type load_floats(const void* from) noexcept {
    return _mm256_castsi256_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
  }
  static POLYMAC_INLINE type zero() noexcept { return _mm256_setzero_ps(); }
  /// Powers of two times one whose exponent stands where a float has it.
  static POLYMAC_INLINE type times_power(type a, std::int32_t power) noexcept {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_set1_epi32(power)));
  }
  static POLYMAC_INLINE void store(float* to, type v) noexcept { _mm256_storeu_ps(to, v); }
  static POLYMAC_INLINE type add(type a, type b) noexcept { return _mm256_add_ps(a, b); }
  static POLYMAC_INLINE type multiply_add(type a, type b, type c) noexcept { return _mm256_fmadd_ps(a, b, c); }
  static POLYMAC_INLINE pairs load_pairs(const bfloat16* from) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static POLYMAC_INLINE pairs broadcast_pair(std::int32_t pair) noexcept { return _mm256_set1_epi32(pair); }
  static POLYMAC_INLINE type first_bf16(pairs v) noexcept { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); }
  static POLYMAC_INLINE type second_bf16(pairs v) noexcept {
    return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(-65536)));
  }
};

template <class Product, std::size_t MaxRows>
using avx2_tile = lane_tile<avx2, ymm, Product, 2, MaxRows, 1>;

}  // namespace detail

template <>
struct atom<mac::int8, avx2> : detail::avx2_tile<detail::parity_product<mac::int8, detail::ymm>, 4> {};
template <>
struct atom<mac::uint8, avx2> : detail::avx2_tile<detail::parity_product<mac::uint8, detail::ymm>, 4> {};
template <>
struct atom<mac::int16x8, avx2> : detail::avx2_tile<detail::word_product<detail::ymm>, 6> {};
template <>
struct atom<mac::bf16, avx2>
    : detail::lane_tile<avx2, detail::ymm_float, detail::widened_bf16_product<detail::ymm_float>, 2, 4, 1> {};

}  // namespace isa
POLYMAC_END

#endif
