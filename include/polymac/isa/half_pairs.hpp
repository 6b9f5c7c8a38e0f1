// SPDX-License-Identifier: MIT
// Pairs of halves with sums in halves (mac::fp16_sum16), where halves are numbers that instructions know.
//
//   intrinsic          instruction                   Sapphire/Granite Rapids    Zen 4, Zen 5
//   _mm512_fmadd_ph    vfmadd231ph zmm, zmm, zmm     4 cy, 2/cycle              none (AVX-512 FP16)
//   vfmaq_f16          fmla 8h, 8h, 8h               4 cy, 2/cycle (Armv8.2 with FP16: Cortex-A76, Neoverse N1)
//
//   tile on AVX-512: up to 12 rows x 2 panels of 16 columns, one pair deep
//
//            pair k           even odd  even odd ...          one zmm: 16 columns
//   row 0    even odd         s    s    s    s                the pair of the row in every lane; 24 sums, 2 weights, 1 pair
//
// Each lane is fused and rounded to half once, which is what the golden model says: the same bits. (No number is an
// operand of two products at once, so there is no order but that of k.)
#pragma once

#include "polymac/core/float16.hpp"
#include "polymac/isa/avx512_vnni.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/isa/neon.hpp"
#include "polymac/isa/widening.hpp"
#include "polymac/mac/fp16.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// V: registers of pairs with `broadcast_pair(word)` and a fused multiply_add(a, b, c).
template <class V>
struct half_pair_product {
  using mac = polymac::mac::fp16_sum16;
  static constexpr std::size_t depth = 1;
  static constexpr int activation_offset = 0;
  using weights = typename V::type;
  using activations = typename V::type;
  static POLYMAC_INLINE weights load(const float16_pair* pairs) noexcept { return V::load(pairs); }
  static POLYMAC_INLINE activations broadcast(const float16_pair* pair) noexcept {
    return V::broadcast_pair(four_bytes(pair));
  }
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, activations a, weights w) noexcept {
    return V::multiply_add(a, w, sums);
  }
};

#if defined(__AVX512FP16__) && defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__AVX512DQ__)
struct zmm_halves {
  using type = __m512h;
  static constexpr std::size_t lanes = 16;
  static constexpr std::size_t registers = 32;
  static POLYMAC_INLINE type load(const float16_pair* from) noexcept { return _mm512_loadu_ph(from); }
  static POLYMAC_INLINE void store(float16_pair* to, type v) noexcept { _mm512_storeu_ph(to, v); }
  static POLYMAC_INLINE type broadcast_pair(std::int32_t pair) noexcept {
    return _mm512_castsi512_ph(_mm512_set1_epi32(pair));
  }
  static POLYMAC_INLINE type multiply_add(type a, type b, type c) noexcept { return _mm512_fmadd_ph(a, b, c); }
};
using half_pair_tile = lane_tile<avx512_vnni, zmm_halves, half_pair_product<zmm_halves>, 1, 12, 2>;
#elif defined(__ARM_NEON) && defined(__aarch64__) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
struct neon_halves {
  using type = float16x8_t;
  static constexpr std::size_t lanes = 4;
  static constexpr std::size_t registers = 32;
  static POLYMAC_INLINE type load(const float16_pair* from) noexcept {
    return vreinterpretq_f16_u16(vld1q_u16(reinterpret_cast<const std::uint16_t*>(from)));
  }
  static POLYMAC_INLINE void store(float16_pair* to, type v) noexcept {
    vst1q_u16(reinterpret_cast<std::uint16_t*>(to), vreinterpretq_u16_f16(v));
  }
  static POLYMAC_INLINE type broadcast_pair(std::int32_t pair) noexcept {
    return vreinterpretq_f16_s32(vdupq_n_s32(pair));
  }
  static POLYMAC_INLINE type multiply_add(type a, type b, type c) noexcept { return vfmaq_f16(c, a, b); }
};
using half_pair_tile = lane_tile<neon, neon_halves, half_pair_product<neon_halves>, 4, 5, 1>;
#else
struct half_pair_tile {
  using isa = void;
};
#endif

}  // namespace detail

/// Where there is a tile.
template <class I>
requires requires { requires std::is_same_v<typename detail::half_pair_tile::isa, I>; }
struct atom<mac::fp16_sum16, I> : detail::half_pair_tile {};

}  // namespace isa
POLYMAC_END
