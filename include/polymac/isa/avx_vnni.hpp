// SPDX-License-Identifier: MIT
// AVX-VNNI: dot products of 4 bytes or 2 words per lane, 256 bits, VEX encoding.
//
//   intrinsic                 instruction            Alder Lake P    Zen 5
//   _mm256_dpbusd_avx_epi32   vpdpbusd ymm           5 cy, p01       4 cy, 2/cycle
//   _mm256_dpwssd_avx_epi32   vpdpwssd ymm           5 cy, p01       4 cy, 2/cycle
//   _mm256_xor_si256          vpxor ymm              1 cy, p015      4/cycle
//   _mm256_set1_epi32         vpbroadcastd ymm, m32  load ports only
//   _mm256_cvtepi8_epi16      vpmovsxbw ymm, m128    p5 and a load   2/cycle
//
//   tile of int8 and uint8 (int16x8: 2 deep): up to 6 rows x 1 panel of 16 columns, 4 deep
//
//                     c0   c1  .. c7      c8  .. c15
//      k..k+3         wwww wwww  wwww     wwww   wwww      one ymm each
//   row 0..5   aaaa   s    s     s        s      s         12 sums, 2 weights, 1 activation, 1 constant: 16 of 16
//
// Twelve sums cover latency 5 x 2 per cycle. Why it equals the golden model for every input: dot_product.hpp.
#pragma once

#include "polymac/isa/avx2.hpp"
#include "polymac/isa/dot_product.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__AVXVNNI__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

struct ymm_dot : ymm_small_bytes {
  static POLYMAC_INLINE type add_dot_u8i8(type sums, type a, type w) noexcept {
    return _mm256_dpbusd_avx_epi32(sums, a, w);
  }
  template <int Bits>
  static POLYMAC_INLINE type shift_left(type v) noexcept {
    return _mm256_slli_epi32(v, Bits);
  }
  template <int Bits>
  static POLYMAC_INLINE type upper_bits(type v) noexcept {
    return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(0xFF << (8 - Bits))));
  }
  static POLYMAC_INLINE type signs_as_64(type v) noexcept {
    return _mm256_xor_si256(_mm256_and_si256(v, _mm256_set1_epi8(-128)), _mm256_set1_epi8(64));
  }
  static POLYMAC_INLINE type add_dot_i16(type sums, type a, type w) noexcept {
    return _mm256_dpwssd_avx_epi32(sums, a, w);
  }
};

template <class Product>
using avx_vnni_tile = lane_tile<avx_vnni, ymm_dot, Product, 2, 6, 1>;

}  // namespace detail

template <>
struct atom<mac::int8, avx_vnni> : detail::signed_byte_atom<mac::int8, detail::ymm_dot, detail::avx_vnni_tile> {};
template <>
struct atom<mac::uint8, avx_vnni> : detail::avx_vnni_tile<detail::byte_dot_product<mac::uint8, detail::ymm_dot>> {};
template <>
struct atom<mac::int16x8, avx_vnni> : detail::avx_vnni_tile<detail::word_dot_product<detail::ymm_dot>> {};

}  // namespace isa
POLYMAC_END

#endif
