// SPDX-License-Identifier: MIT
// Products of bits on 512 bits: mac::binary, mac::bit_planes, mac::sign (popcount_tile.hpp), mac::spike (spike_tile.hpp).
//
//   intrinsic                  instruction              Zen 4        Granite Rapids
//   _mm512_popcnt_epi64        vpopcntq zmm             1/cycle      1/cycle (p5)
//   _mm512_and_si512           vpandq zmm               2/cycle      2/cycle (p05)
//   _mm512_add_epi64           vpaddq zmm               2/cycle      2/cycle (p05)
//   _mm512_maskz_mov_epi8      vmovdqu8 zmm{k}{z}       2/cycle      1/cycle (p5)     spikes to bytes, once for a tile
//   without vpopcntq:
//   _mm512_shuffle_epi8        vpshufb zmm              1/cycle      1/cycle (p5)     two for a count of bytes
//   _mm512_sad_epu8            vpsadbw zmm              1/cycle      1/cycle (p5)
//
//   binary: 8 columns of a panel, a word (64 k) deep; up to 6 rows x 4 panels
//
//                    panel 0: column 0 1 ... 7     64 k of a column in a lane of 64 bits
//   row 0   word     sum      sum ...              counts in 64 bits; stored as 32
//   registers: 24 sums, 4 words of weights, one of a row, a product; without vpopcntq 4 x 2 sums, a table and a mask
//
// Spikes are bytes 0 and 1 for dot products with bytes, 16 of them for a word: unsigned activations need no offset.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/avx2_bits.hpp"
#include "polymac/isa/avx512_vnni.hpp"
#include "polymac/isa/popcount_tile.hpp"
#include "polymac/isa/spike_tile.hpp"

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Sums of 64 bits.
struct zmm_words {
  using type = __m512i;
  using words = __m512i;
  using counts = __m512i;
  static constexpr std::size_t lanes = 8;
  static POLYMAC_INLINE type load(const std::int32_t* from) noexcept {
    return _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static POLYMAC_INLINE void store(std::int32_t* to, type v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi64_epi32(v));
  }
  static POLYMAC_INLINE words load_words(const std::uint64_t* from) noexcept { return _mm512_loadu_si512(from); }
  static POLYMAC_INLINE words broadcast(std::uint64_t word) noexcept {
    return _mm512_set1_epi64(static_cast<long long>(word));
  }
  static POLYMAC_INLINE words both(words a, words b) noexcept { return _mm512_and_si512(a, b); }
  static POLYMAC_INLINE words differing(words a, words b, words valid) noexcept {
    return _mm512_ternarylogic_epi64(a, b, valid, 0x28);
  }
  static POLYMAC_INLINE counts none() noexcept { return _mm512_setzero_si512(); }
};

/// Counts of bytes, by a table of the 16 half bytes.
struct zmm_byte_counts : zmm_words {
  static constexpr std::size_t max_rows = 4, max_panels = 2;
  static POLYMAC_INLINE counts count(words v) noexcept {
    const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i low = _mm512_set1_epi8(15);
    return _mm512_add_epi8(_mm512_shuffle_epi8(table, _mm512_and_si512(v, low)),
                           _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), low)));
  }
  static POLYMAC_INLINE counts plus(counts a, counts b) noexcept { return _mm512_add_epi8(a, b); }
  static POLYMAC_INLINE counts times_power(counts c, int n) noexcept {  // no bit leaves its byte
    return _mm512_slli_epi64(c, static_cast<unsigned>(n));
  }
  static POLYMAC_INLINE type add(type sums, counts c) noexcept { return _mm512_add_epi64(sums, lanes_of(c)); }
  static POLYMAC_INLINE type add_difference(type sums, counts a, counts b) noexcept {
    return _mm512_sub_epi64(add(sums, a), lanes_of(b));
  }

 private:
  static POLYMAC_INLINE type lanes_of(counts c) noexcept { return _mm512_sad_epu8(c, _mm512_setzero_si512()); }
};

#if defined(__AVX512VPOPCNTDQ__)

/// Counts of lanes.
struct zmm_lane_counts : zmm_words {
  static constexpr std::size_t max_rows = 6, max_panels = 4;
  static POLYMAC_INLINE counts count(words v) noexcept { return _mm512_popcnt_epi64(v); }
  static POLYMAC_INLINE counts plus(counts a, counts b) noexcept { return _mm512_add_epi64(a, b); }
  static POLYMAC_INLINE counts times_power(counts c, int n) noexcept {
    return _mm512_slli_epi64(c, static_cast<unsigned>(n));
  }
  static POLYMAC_INLINE type add(type sums, counts c) noexcept { return _mm512_add_epi64(sums, c); }
  static POLYMAC_INLINE type add_difference(type sums, counts a, counts b) noexcept {
    return _mm512_add_epi64(sums, _mm512_sub_epi64(a, b));
  }
};

#endif

#if defined(__AVX512VNNI__)

struct zmm_spikes {
  static POLYMAC_INLINE void spread(std::uint64_t word, std::uint8_t* to) noexcept {
    _mm512_storeu_si512(to, _mm512_maskz_set1_epi8(word, 1));
  }
};

#endif

}  // namespace detail

template <class M>
requires detail::CountsBits<M>
struct atom<M, avx512> : detail::popcount_atom<M, avx512, detail::zmm_byte_counts> {
};
#if defined(__AVX512VNNI__)
template <>
struct atom<mac::spike, avx512_vnni>
    : detail::spike_atom<detail::avx512_vnni_tile<detail::byte_dot_product<mac::uint8, detail::zmm_dot>>,
                         detail::zmm_spikes> {};
#if defined(__AVX512VPOPCNTDQ__)
template <class M>
requires detail::CountsBits<M>
struct atom<M, avx512_vnni> : detail::popcount_atom<M, avx512_vnni, detail::zmm_lane_counts> {
};
#endif
#endif

}  // namespace isa
POLYMAC_END

#endif
