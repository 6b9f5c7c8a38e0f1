// SPDX-License-Identifier: MIT
// AVX-512 F, BW, VL, DQ without dot products: the products of AVX2 on 512 bits and 32 registers.
//
//   intrinsic               instruction            Skylake-X, Cascade Lake   Zen 5
//   _mm512_madd_epi16       vpmaddwd zmm           5 cy, p05                 2/cycle
//   _mm512_add_epi32        vpaddd zmm             1 cy, p05                 4/cycle
//   _mm512_srai_epi16 ...   vpsraw, vpsllw zmm     1 cy, p0                  2/cycle
//   _mm512_set1_epi32       vpbroadcastd zmm, m32  load ports only           load ports only
//   _mm512_cvtepi8_epi16    vpmovsxbw zmm, m256    p5 and a load             2/cycle
//
//   tile of int8 and uint8: up to 12 rows x 2 panels of 16 columns, 4 deep; widening.hpp shows one lane
//
//                      panel 0         panel 1
//      k..k+3          even, odd       even, odd       4 registers of weights as words
//   row 0..11   aaaa   s               s               24 sums, 2 activations (even, odd), 2 products: 32 of 32
//
//   tile of int16x8: the same, 2 deep: 2 registers of weights, 24 sums, 1 activation, 1 product: 28 of 32
//
//   tile of bf16: the same, 2 deep: 4 registers of weights as floats, 24 sums, 2 activations: 30 of 32
//   price of a step: 4 + rows x 2 conversions, rows x 4 vfmadd: 12 rows in 38 cycles on 2 ports, 0.63 of their rate
//
// Why it equals the golden model for every input: widening.hpp, bf16_product.hpp.
#pragma once

#include "polymac/isa/bf16_product.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/isa/widening.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// 512 bits as 16 lanes.
struct zmm {
  using type = __m512i;
  static constexpr std::size_t lanes = 16;
  static constexpr std::size_t registers = 32;
  static POLYMAC_INLINE type load(const void* from) noexcept { return _mm512_loadu_si512(from); }
  static POLYMAC_INLINE type load_widened(const std::int8_t* from) noexcept {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static POLYMAC_INLINE void store(void* to, type v) noexcept { _mm512_storeu_si512(to, v); }
  /// The first `count` lanes.
  static POLYMAC_INLINE void store_part(void* to, type v, std::size_t count) noexcept {
    _mm512_mask_storeu_epi32(to, static_cast<__mmask16>((1u << count) - 1), v);
  }
  static POLYMAC_INLINE type broadcast(std::int32_t v) noexcept { return _mm512_set1_epi32(v); }
  static POLYMAC_INLINE type zero() noexcept { return _mm512_setzero_si512(); }
  static POLYMAC_INLINE __m512 to_float(type v) noexcept { return _mm512_cvtepi32_ps(v); }
  static POLYMAC_INLINE type add(type a, type b) noexcept { return _mm512_add_epi32(a, b); }
  template <int Bits>
  static POLYMAC_INLINE type shift_right(type v) noexcept {
    return _mm512_srai_epi32(v, Bits);
  }
  static POLYMAC_INLINE type multiply_pairs(type a, type b) noexcept { return _mm512_madd_epi16(a, b); }
  static POLYMAC_INLINE type even_i8(type v) noexcept { return _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8); }
  static POLYMAC_INLINE type odd_i8(type v) noexcept { return _mm512_srai_epi16(v, 8); }
  // A mask register, not an and: the constant would be the 33rd zmm.
  static POLYMAC_INLINE type even_u8(type v) noexcept { return _mm512_maskz_mov_epi8(0x5555'5555'5555'5555u, v); }
  static POLYMAC_INLINE type odd_u8(type v) noexcept { return _mm512_srli_epi16(v, 8); }
};

/// 512 bits as 16 floats.
struct zmm_float {
  using type = __m512;
  using pairs = __m512i;
  static constexpr std::size_t lanes = 16;
  static constexpr std::size_t registers = 32;
  static POLYMAC_INLINE type load(const float* from) noexcept { return _mm512_loadu_ps(from); }
  static POLYMAC_INLINE type load_floats(const void* from) noexcept { return _mm512_loadu_ps(from); }
  static POLYMAC_INLINE type zero() noexcept { return _mm512_setzero_ps(); }
  static POLYMAC_INLINE type broadcast(float v) noexcept { return _mm512_set1_ps(v); }
  /// Powers of two times one whose exponent stands where a float has it.
  static POLYMAC_INLINE type times_power(type a, std::int32_t power) noexcept {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(power)));
  }
  static POLYMAC_INLINE void store(float* to, type v) noexcept { _mm512_storeu_ps(to, v); }
  static POLYMAC_INLINE type add(type a, type b) noexcept { return _mm512_add_ps(a, b); }
  /// The first `count` lanes.
  static POLYMAC_INLINE void store_part(float* to, type v, std::size_t count) noexcept {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), v);
  }
  static POLYMAC_INLINE type multiply_add(type a, type b, type c) noexcept { return _mm512_fmadd_ps(a, b, c); }
  static POLYMAC_INLINE pairs load_pairs(const bfloat16* from) noexcept { return _mm512_loadu_si512(from); }
  static POLYMAC_INLINE pairs broadcast_pair(std::int32_t pair) noexcept { return _mm512_set1_epi32(pair); }
  static POLYMAC_INLINE type first_bf16(pairs v) noexcept { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)); }
  static POLYMAC_INLINE type second_bf16(pairs v) noexcept {
    return _mm512_castsi512_ps(_mm512_maskz_mov_epi16(0xAAAA'AAAAu, v));
  }
};

template <class Product>
using avx512_tile = lane_tile<avx512, zmm, Product, 1, 12, 2>;

}  // namespace detail

template <>
struct atom<mac::int8, avx512> : detail::avx512_tile<detail::parity_product<mac::int8, detail::zmm>> {};
template <>
struct atom<mac::uint8, avx512> : detail::avx512_tile<detail::parity_product<mac::uint8, detail::zmm>> {};
template <>
struct atom<mac::int16x8, avx512> : detail::avx512_tile<detail::word_product<detail::zmm>> {};
template <>
struct atom<mac::bf16, avx512>
    : detail::lane_tile<avx512, detail::zmm_float, detail::widened_bf16_product<detail::zmm_float>, 1, 12, 2> {};

}  // namespace isa
POLYMAC_END

#endif
