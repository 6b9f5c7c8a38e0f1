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
//
//   narrow tile of int8, for at most 8 columns: up to 24 rows x 1 panel of 8 columns, 8 deep
//
//                         c0           c1       ...      c7
//      k..k+7          wwww wwww    wwww wwww         wwww wwww         one zmm
//   row 0  aaaa aaaa    s0   s1      s0   s1           s0   s1          one zmm each: s0 adds k..k+3, s1 k+4..k+7
//
//   price of the end, for two rows: 2 vshufps, vpaddd, vpermq; s0 + s1 of both rows are one register
//
// Half of the lanes of a panel of 16 columns would have no column. Panels of one ymm, 8 columns x 4, do as many
// products a cycle on Zen 4, but half as many on Zen 5, and need twice the broadcasts: measured on Zen 4, 300 x 8 x 72
// takes 1.16 us on them, 1.02 us on these and 1.93 us on panels of 16. The flip is a vpxorq that broadcasts from memory,
// for which the compiler has to see double words: as two instructions the loop runs at 0.78 of the peak, not 0.92.
// int16x8: the same tile, 4 deep. Not bf16: two sums of a column would be another order.
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
  /// The sum of a block as what is multiplied with zero points: words of 16 bits, the upper one 0.
  static POLYMAC_INLINE type broadcast_sum(std::int32_t sum) noexcept { return broadcast(sum & 0xFFFF); }
};

/// 512 bits as 8 columns of two lanes, which add up the first and the second half of every group of 8 bytes.
struct zmm_dot_halves : zmm_dot {
  static constexpr std::size_t lanes = 8;
  using group = std::int64_t;
  static POLYMAC_INLINE type broadcast(std::int64_t v) noexcept { return _mm512_set1_epi64(v); }
  using zmm_dot::flip_top_bits;
  static POLYMAC_INLINE type flip_top_bits(type v) noexcept {
    return _mm512_xor_epi64(v, _mm512_set1_epi64(static_cast<std::int64_t>(0x8080808080808080u)));
  }
  /// The sums so far in the first halves, 0 in the second ones.
  static POLYMAC_INLINE type load(const std::int32_t* sums) noexcept {
    return _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums)));
  }
  static POLYMAC_INLINE type load(const std::int8_t* bytes) noexcept { return zmm_dot::load(bytes); }
  static POLYMAC_INLINE void store(std::int32_t* to, type v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves_added(v));
  }
  static POLYMAC_INLINE void store_part(std::int32_t* to, type v, std::size_t count) noexcept {
    _mm256_mask_storeu_epi32(to, static_cast<__mmask8>((1u << count) - 1), halves_added(v));
  }
  /// Two rows.
  static POLYMAC_INLINE void store_two(std::int32_t* first, std::int32_t* second, type a, type b) noexcept {
    const __m512 x = _mm512_castsi512_ps(a), y = _mm512_castsi512_ps(b);
    // In every quarter two columns of a and two of b.
    const type quarters =
        add(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)), _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
    const type sums = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), quarters);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first), _mm512_castsi512_si256(sums));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(second), _mm512_extracti64x4_epi64(sums, 1));
  }

 private:
  static POLYMAC_INLINE __m256i halves_added(type v) noexcept {
    return _mm512_cvtepi64_epi32(add(v, _mm512_srli_epi64(v, 32)));
  }
};

/// 24 sums, a register of weights, one of activations, a constant: 27 of 32 registers.
template <class Product>
struct narrow_avx512_vnni_tile : lane_tile<avx512_vnni, zmm_dot_halves, Product, 1, 8, 1> {
  static constexpr std::size_t panels_for(std::size_t) noexcept { return 1; }
  static constexpr bool finishes_tiles = false;
};

template <class Product>
using avx512_vnni_tile = lane_tile<avx512_vnni, zmm_dot, Product, 1, 12, 2>;

}  // namespace detail

template <>
struct atom<mac::int8, avx512_vnni> : detail::signed_byte_atom<mac::int8, detail::zmm_dot, detail::avx512_vnni_tile> {
  using narrow = detail::signed_byte_atom<polymac::mac::int8, detail::zmm_dot_halves, detail::narrow_avx512_vnni_tile>;
};
template <>
struct atom<mac::uint8, avx512_vnni> : detail::avx512_vnni_tile<detail::byte_dot_product<mac::uint8, detail::zmm_dot>> {
  using narrow = detail::narrow_avx512_vnni_tile<detail::byte_dot_product<polymac::mac::uint8, detail::zmm_dot_halves>>;
};
template <>
struct atom<mac::int16x8, avx512_vnni> : detail::avx512_vnni_tile<detail::word_dot_product<detail::zmm_dot>> {
  using narrow = detail::narrow_avx512_vnni_tile<detail::word_dot_product<detail::zmm_dot_halves>>;
};

}  // namespace isa
POLYMAC_END

#endif
