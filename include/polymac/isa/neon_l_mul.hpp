// SPDX-License-Identifier: MIT
// L-Mul on AArch64: 4 products of three instructions. See l_mul_tile.hpp for the tile and its modes.
//
//   intrinsic       instruction        Cortex-A72        Neoverse N1
//   vaddq_u32       add   4s           2/cycle           2/cycle
//   vandq_u32       and   16b          2/cycle           2/cycle
//   vaddq_f32       fadd  4s           2/cycle           2/cycle
//   vld1q_dup_u32   ld1r  4s           1/cycle           2/cycle
//
//   tile: 4 rows x 2 panels of 4 columns: 8 sums, 2 words of weights, a word and a mask of a row, a product; where weights
//   are 0 two masks more: 15 of 32. A step is 24 operations for two pipes and 10 loads: larger tiles would only save loads
#pragma once

#include "polymac/isa/isa.hpp"
#include "polymac/isa/l_mul_tile.hpp"
#include "polymac/isa/neon.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__ARM_NEON) && defined(__aarch64__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

struct neon_l_mul : neon_float {
  using words = uint32x4_t;
  using mask = uint32x4_t;
  static constexpr std::size_t max_rows = 4, max_panels = 2;
  struct row_operand {
    uint32x4_t word, here;
  };

  static POLYMAC_INLINE row_operand row(const l_mul_activation& a) noexcept {
    return {vld1q_dup_u32(&a.word), vld1q_dup_u32(&a.here)};
  }
  static POLYMAC_INLINE type product(const row_operand& a, words w) noexcept {
    return vreinterpretq_f32_u32(vandq_u32(a.here, vaddq_u32(a.word, w)));
  }
  static POLYMAC_INLINE type add_where(mask where, type sums, type products) noexcept {
    return vaddq_f32(sums, vreinterpretq_f32_u32(vandq_u32(where, vreinterpretq_u32_f32(products))));
  }

  static POLYMAC_INLINE words load_words(const std::uint32_t* from) noexcept { return vld1q_u32(from); }
  static POLYMAC_INLINE words load_words(const float* from) noexcept { return vreinterpretq_u32_f32(vld1q_f32(from)); }
  static POLYMAC_INLINE words load_words(const float* from, std::size_t count) noexcept {
    float some[lanes] = {};
    for (std::size_t i = 0; i < count; ++i) some[i] = from[i];
    return load_words(some);
  }
  static POLYMAC_INLINE void store_words(std::uint32_t* to, words v) noexcept { vst1q_u32(to, v); }
  static POLYMAC_INLINE words broadcast(std::uint32_t v) noexcept { return vdupq_n_u32(v); }
  static POLYMAC_INLINE words plus(words a, words b) noexcept { return vaddq_u32(a, b); }
  static POLYMAC_INLINE words minus(words a, words b) noexcept { return vsubq_u32(a, b); }
  static POLYMAC_INLINE words both(words a, words b) noexcept { return vandq_u32(a, b); }
  static POLYMAC_INLINE words either(words a, words b) noexcept { return vorrq_u32(a, b); }
  static POLYMAC_INLINE words differing(words a, words b) noexcept { return veorq_u32(a, b); }
  static POLYMAC_INLINE words smaller(words a, words b) noexcept { return vminq_u32(a, b); }
  static POLYMAC_INLINE words greater(words a, words b) noexcept { return vmaxq_u32(a, b); }
  static POLYMAC_INLINE mask at_least(words a, words b) noexcept { return vcgeq_u32(a, b); }
  static POLYMAC_INLINE bool any(mask m) noexcept { return vmaxvq_u32(m) != 0; }
  static POLYMAC_INLINE words select(mask m, words a, words b) noexcept { return vbslq_u32(m, a, b); }
  static POLYMAC_INLINE words keep(mask m, words a) noexcept { return vandq_u32(m, a); }
  static POLYMAC_INLINE type product_where(mask m, words a, words b, words c) noexcept {
    const type products = vmulq_f32(vreinterpretq_f32_u32(a), vreinterpretq_f32_u32(b));
    return vbslq_f32(m, products, vreinterpretq_f32_u32(c));
  }
  static POLYMAC_INLINE void store_activations(l_mul_activation* to, words word, mask here) noexcept {
    const uint32x4x2_t pairs = {{word, here}};
    vst2q_u32(&to->word, pairs);
  }
};

}  // namespace detail

template <int MantissaBits, int Offset, class Word, overflow Mode>
struct atom<mac::l_mul<MantissaBits, Offset, Word, Mode>, neon>
    : detail::l_mul_atom<mac::l_mul<MantissaBits, Offset, Word, Mode>, neon, detail::neon_l_mul> {};

}  // namespace isa
POLYMAC_END

#endif
