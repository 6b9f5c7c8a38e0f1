// SPDX-License-Identifier: MIT
// Products of bits on AArch64: mac::binary, mac::bit_planes, mac::sign (popcount_tile.hpp), mac::spike (spike_tile.hpp).
//
//   intrinsic       instruction           Cortex-A72        Neoverse N1
//   vcntq_u8        cnt    16b            1/cycle           2/cycle
//   vpaddlq_u8      uaddlp 8h, 16b        1/cycle           2/cycle
//   vpadalq_u16     uadalp 4s, 8h         1/cycle           1/cycle
//   vandq_u8        and    16b            2/cycle           2/cycle
//
//   binary: 2 columns of a panel, a word (64 k) deep; up to 4 rows x 2 panels
//
//                    panel 0: column 0    1          64 k of a column in two lanes of 32 bits
//   row 0   word     sum sum  sum sum                which are added up when they are stored
//   registers: 8 sums, 2 words of weights, one of a row, a product: 12 of 32; a step is 32 operations and 6 loads
//
// Spikes are bytes 0 and 1 for the products of signed bytes, which need no offset.
#pragma once

#include "polymac/isa/neon.hpp"
#include "polymac/isa/neon_dotprod.hpp"
#include "polymac/isa/popcount_tile.hpp"
#include "polymac/isa/spike_tile.hpp"

#include <cstddef>
#include <cstdint>

#if defined(__ARM_NEON) && defined(__aarch64__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Sums of 32 bits, two lanes for a column; counts of bytes.
struct neon_byte_counts {
  using type = int32x4_t;
  using words = uint8x16_t;
  using counts = uint8x16_t;
  static constexpr std::size_t lanes = 2;
  static constexpr std::size_t max_rows = 4, max_panels = 2;
  static POLYMAC_INLINE type load(const std::int32_t* from) noexcept {
    return vreinterpretq_s32_u64(vmovl_u32(vreinterpret_u32_s32(vld1_s32(from))));
  }
  static POLYMAC_INLINE void store(std::int32_t* to, type v) noexcept {
    vst1_s32(to, vpadd_s32(vget_low_s32(v), vget_high_s32(v)));
  }
  static POLYMAC_INLINE words load_words(const std::uint64_t* from) noexcept {
    return vreinterpretq_u8_u64(vld1q_u64(from));
  }
  static POLYMAC_INLINE words broadcast(std::uint64_t word) noexcept { return vreinterpretq_u8_u64(vdupq_n_u64(word)); }
  static POLYMAC_INLINE words both(words a, words b) noexcept { return vandq_u8(a, b); }
  static POLYMAC_INLINE words differing(words a, words b, words valid) noexcept {
    return vandq_u8(veorq_u8(a, b), valid);
  }
  static POLYMAC_INLINE counts none() noexcept { return vdupq_n_u8(0); }
  static POLYMAC_INLINE counts count(words v) noexcept { return vcntq_u8(v); }
  static POLYMAC_INLINE counts plus(counts a, counts b) noexcept { return vaddq_u8(a, b); }
  static POLYMAC_INLINE counts times_power(counts c, int n) noexcept {
    return n == 0 ? c : n == 1 ? vshlq_n_u8(c, 1) : vshlq_n_u8(c, 2);
  }
  static POLYMAC_INLINE type add(type sums, counts c) noexcept {
    return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sums), vpaddlq_u8(c)));
  }
  static POLYMAC_INLINE type add_difference(type sums, counts a, counts b) noexcept {
    return vpadalq_s16(sums, vpaddlq_s8(vreinterpretq_s8_u8(vsubq_u8(a, b))));
  }
};

struct neon_spikes {
  static POLYMAC_INLINE void spread(std::uint64_t word, std::int8_t* to) noexcept {
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    const uint8x16_t all = vreinterpretq_u8_u64(vdupq_n_u64(word));
    // Byte k / 8 of the word to byte k; of that bit k % 8.
    uint8x16_t at = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
    POLYMAC_UNROLL
    for (int i = 0; i < 4; ++i) {
      const uint8x16_t set = vtstq_u8(vqtbl1q_u8(all, at), bit);
      vst1q_s8(to + 16 * i, vreinterpretq_s8_u8(vandq_u8(set, vdupq_n_u8(1))));
      at = vaddq_u8(at, vdupq_n_u8(2));
    }
  }
};

}  // namespace detail

template <class M>
requires detail::CountsBits<M>
struct atom<M, neon> : detail::popcount_atom<M, neon, detail::neon_byte_counts> {
};
template <>
struct atom<mac::spike, neon>
    : detail::spike_atom<detail::neon_tile<neon, detail::neon_byte_product<mac::int8>, 4>, detail::neon_spikes> {};
#if defined(__ARM_FEATURE_DOTPROD)
template <>
struct atom<mac::spike, neon_dotprod>
    : detail::spike_atom<detail::neon_tile<neon_dotprod, detail::neon_dot_product<mac::int8>, 5>, detail::neon_spikes> {
};
#endif

}  // namespace isa
POLYMAC_END

#endif
