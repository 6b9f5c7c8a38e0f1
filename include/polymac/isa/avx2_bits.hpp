// SPDX-License-Identifier: MIT
// Products of bits on 256 bits: mac::binary, mac::bit_planes, mac::sign (popcount_tile.hpp), mac::spike (spike_tile.hpp).
//
//   intrinsic               instruction              Skylake (client)    Zen 4
//   _mm256_shuffle_epi8     vpshufb ymm              1/cycle (p5)        2/cycle
//   _mm256_sad_epu8         vpsadbw ymm              1/cycle (p5)        2/cycle
//   _mm256_and_si256 ...    vpand, vpxor ymm         3/cycle             4/cycle
//   _mm256_maddubs_epi16    vpmaddubsw ymm           2/cycle (p01)       2/cycle        spikes
//
//   binary: 4 columns of a panel, a word (64 k) deep; up to 4 rows x 2 panels
//
//                    panel 0: column 0 1 2 3     64 k of a column in a lane of 64 bits
//   row 0   word     sum      sum ...            counts in 64 bits; stored as 32
//   registers: 8 sums, 2 words of weights, one of a row, a table and a mask, 3 for a count: 16 of 16
//
//   price of 256 bits: vpand, and for the count of bytes two vpand, a shift, two vpshufb and an addition, vpsadbw, vpaddq
//
// Spikes are bytes 0 and 1. Two of their products are at most 2 x 128, so vpmaddubsw does not saturate.
#pragma once

#include "polymac/isa/avx2.hpp"
#include "polymac/isa/avx_vnni.hpp"
#include "polymac/isa/dot_product.hpp"
#include "polymac/isa/popcount_tile.hpp"
#include "polymac/isa/spike_tile.hpp"

#include <cstddef>
#include <cstdint>

#if defined(__AVX2__) && defined(__FMA__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Sums of 64 bits; counts of bytes, by a table of the 16 half bytes.
struct ymm_byte_counts {
  using type = __m256i;
  using words = __m256i;
  using counts = __m256i;
  static constexpr std::size_t lanes = 4;
  static constexpr std::size_t max_rows = 4, max_panels = 2;
  static POLYMAC_INLINE type load(const std::int32_t* from) noexcept {
    return _mm256_cvtepi32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static POLYMAC_INLINE void store(std::int32_t* to, type v) noexcept {
    const __m256i even = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(even));
  }
  static POLYMAC_INLINE words load_words(const std::uint64_t* from) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static POLYMAC_INLINE words broadcast(std::uint64_t word) noexcept {
    return _mm256_set1_epi64x(static_cast<long long>(word));
  }
  static POLYMAC_INLINE words both(words a, words b) noexcept { return _mm256_and_si256(a, b); }
  static POLYMAC_INLINE words differing(words a, words b, words valid) noexcept {
    return _mm256_and_si256(_mm256_xor_si256(a, b), valid);
  }
  static POLYMAC_INLINE counts none() noexcept { return _mm256_setzero_si256(); }
  static POLYMAC_INLINE counts count(words v) noexcept {
    const __m256i table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i low = _mm256_set1_epi8(15);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, low)),
                           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low)));
  }
  static POLYMAC_INLINE counts plus(counts a, counts b) noexcept { return _mm256_add_epi8(a, b); }
  static POLYMAC_INLINE counts times_power(counts c, int n) noexcept {  // no bit leaves its byte
    return _mm256_slli_epi64(c, n);
  }
  static POLYMAC_INLINE type add(type sums, counts c) noexcept { return _mm256_add_epi64(sums, lanes_of(c)); }
  static POLYMAC_INLINE type add_difference(type sums, counts a, counts b) noexcept {
    return _mm256_sub_epi64(add(sums, a), lanes_of(b));
  }

 private:
  static POLYMAC_INLINE type lanes_of(counts c) noexcept { return _mm256_sad_epu8(c, _mm256_setzero_si256()); }
};

struct ymm_spikes {
  static POLYMAC_INLINE void spread(std::uint64_t word, std::uint8_t* to) noexcept {
    // Byte k / 8 of the word to byte k; of that bit k % 8.
    const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                          2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
    const __m256i all = _mm256_set1_epi64x(static_cast<long long>(word));
    POLYMAC_UNROLL
    for (int half = 0; half < 2; ++half) {
      const __m256i at = half == 0 ? byte : _mm256_add_epi8(byte, _mm256_set1_epi8(4));
      const __m256i set = _mm256_and_si256(_mm256_shuffle_epi8(all, at), bit);
      ymm::store(to + 32 * half, _mm256_and_si256(_mm256_cmpeq_epi8(set, bit), _mm256_set1_epi8(1)));
    }
  }
};

}  // namespace detail

template <class M>
requires detail::CountsBits<M>
struct atom<M, avx2> : detail::popcount_atom<M, avx2, detail::ymm_byte_counts> {
};
template <>
struct atom<mac::spike, avx2>
    : detail::spike_atom<detail::avx2_tile<detail::byte_dot_product<mac::uint8, detail::ymm_small_bytes>, 4>,
                         detail::ymm_spikes> {};
#if defined(__AVXVNNI__)
template <>
struct atom<mac::spike, avx_vnni>
    : detail::spike_atom<detail::avx_vnni_tile<detail::byte_dot_product<mac::uint8, detail::ymm_dot>>,
                         detail::ymm_spikes> {};
#endif

}  // namespace isa
POLYMAC_END

#endif
