// SPDX-License-Identifier: MIT
// AVX-512 VNNI: dot products of 4 bytes or 2 words per lane.
//
//   intrinsic               instruction               Zen 5            Sapphire/Granite Rapids
//   _mm512_dpbusd_epi32     vpdpbusd zmm, zmm, zmm    4 cy, 2/cycle    5 cy, 2/cycle
//   _mm512_dpwssd_epi32     vpdpwssd zmm, zmm, zmm    4 cy, 2/cycle    5 cy, 2/cycle
//   _mm512_set1_epi32       vpbroadcastd zmm, m32     2/cycle          2/cycle, shares the load ports with the panels
//   _mm512_xor_si512        vpxord zmm, zmm, zmm      4/cycle          2/cycle, on the ports of vpdpbusd
//
//   tile of int8: up to 12 rows x 2 panels of 16 columns, 4 deep
//
//                              panel 0                 panel 1
//                         c0   c1  ... c15        c16  c17 ... c31
//      k..k+3             wwww wwww    wwww       wwww wwww    wwww      one zmm each
//   row 0   aaaa           s    s       s          s    s       s        one zmm each: 24 accumulators,
//   ...                                                                  2 weights, 1 activation, 1 constant: 28 of 32
//   row 11  aaaa           s    s       s          s    s       s
//
// Fewer rows stand beside more panels (`panels_for`): 4 x 4, 2 x 8, 1 x 8, so that there are sums enough to hide the
// latency. Signed activations are flipped once for a tile of rows where vpxord is not free (`prepared`,
// dot_product.hpp). int16x8: the same tile, 2 deep; its weights are widened to words when they are loaded. Why it
// equals the golden model for every input: dot_product.hpp.
#pragma once

#include "polymac/isa/avx512.hpp"
#include "polymac/isa/dot_product.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

struct zmm_dot : zmm {
  static POLYMAC_INLINE type flip_top_bits(type v) noexcept { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
  /// Of the bytes [offset, offset + count) of every row, to rows `stride` apart; up to 63 more are written.
  template <class Rows>
  static POLYMAC_INLINE void flip_top_bits(const Rows& rows, std::size_t row_count, std::size_t offset,
                                           std::size_t count, std::int8_t* to, std::size_t stride) noexcept {
    std::size_t k = 0;
    for (; k + 64 <= count; k += 64)
      for (std::size_t r = 0; r < row_count; ++r) store(to + r * stride + k, flip_top_bits(load(rows[r] + offset + k)));
    if (k == count) return;
    const __mmask64 rest = (std::uint64_t{1} << (count - k)) - 1;
    for (std::size_t r = 0; r < row_count; ++r)
      store(to + r * stride + k, flip_top_bits(_mm512_maskz_loadu_epi8(rest, rows[r] + offset + k)));
  }
  static POLYMAC_INLINE type add_dot_u8i8(type sums, type a, type w) noexcept {
    return _mm512_dpbusd_epi32(sums, a, w);
  }
  /// Of every byte the bits [Shift, Shift + Bits).
  template <unsigned Bits, unsigned Shift>
  static POLYMAC_INLINE type field(type v) noexcept {
    if constexpr (Shift > 0) v = _mm512_srli_epi32(v, Shift);
    return Bits == 8 ? v : _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>((1u << Bits) - 1)));
  }
  /// 16 bytes as unsigned integers.
  static POLYMAC_INLINE type load_bytes(const std::uint8_t* from) noexcept {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  template <int Bits>
  static POLYMAC_INLINE type shift_left(type v) noexcept {
    return _mm512_slli_epi32(v, Bits);
  }
  template <int Bits>
  static POLYMAC_INLINE type upper_bits(type v) noexcept {
    return _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(0xFF << (8 - Bits))));
  }
  static POLYMAC_INLINE type signs_as_64(type v) noexcept {  // (v & 0x80) ^ 0x40
    return _mm512_ternarylogic_epi32(v, _mm512_set1_epi8(-128), _mm512_set1_epi8(64), 0x6A);
  }
  static POLYMAC_INLINE type add_dot_i16(type sums, type a, type w) noexcept { return _mm512_dpwssd_epi32(sums, a, w); }
};

template <class Product>
using avx512_vnni_tile = lane_tile<avx512_vnni, zmm_dot, Product, 1, 12, 2>;

}  // namespace detail

template <>
struct atom<mac::int8, avx512_vnni> : detail::signed_byte_atom<mac::int8, detail::zmm_dot, detail::avx512_vnni_tile> {};
template <>
struct atom<mac::uint8, avx512_vnni> : detail::avx512_vnni_tile<detail::byte_dot_product<mac::uint8, detail::zmm_dot>> {
};
template <>
struct atom<mac::int16x8, avx512_vnni> : detail::avx512_vnni_tile<detail::word_dot_product<detail::zmm_dot>> {};

}  // namespace isa
POLYMAC_END

#endif
