// SPDX-License-Identifier: MIT
// Pairs of halves with sums in halves (mac::fp16_sum16): where halves are numbers that instructions know, and on floats.
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
//
// Elsewhere on x86, with F16C (AVX2, AVX-512), a lane is a float that holds a half. A product of two halves is exact in it;
// the sum is rounded to odd and then to half. Of two roundings the first one must not decide where the second one has a
// tie: a float whose last bit is 1 wherever something was lost is never on a tie of halves (24 bits, at least two more
// than 11). What is lost is known exactly (Knuth's two-sum):
//
//     p = a w,  s = p + c,  v = s - p,  e = (p - (s - v)) + (c - v)       7 instructions
//     e not 0 and the last bit of s is 0: s moves by one, to where e is     5
//     float -> half -> float                                               2
//
// 14 for a product beside 1 of vfmadd: a twentieth of mac::fp16, and ten times the golden model's loop.
#pragma once

#include "polymac/core/float16.hpp"
#include "polymac/isa/avx2.hpp"
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

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
/// 8 floats that hold halves.
struct ymm_of_halves {
  using floats = __m256;
  static constexpr std::size_t lanes = 8, registers = 16;
  static POLYMAC_INLINE floats widen(__m256i low_words) noexcept {
    const __m256i words = _mm256_packus_epi32(low_words, low_words);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(words, 0x88)));
  }
  static POLYMAC_INLINE void load(const float16_pair* from, floats& even, floats& odd) noexcept {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    even = widen(_mm256_and_si256(pairs, _mm256_set1_epi32(0xFFFF)));
    odd = widen(_mm256_srli_epi32(pairs, 16));
  }
  static POLYMAC_INLINE __m256i words(floats v) noexcept {
    return _mm256_cvtepu16_epi32(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static POLYMAC_INLINE void store(float16_pair* to, floats even, floats odd) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_or_si256(words(even), _mm256_slli_epi32(words(odd), 16)));
  }
  static POLYMAC_INLINE floats broadcast(std::uint16_t half) noexcept {
    return _mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(half)));
  }
  static POLYMAC_INLINE floats fused_multiply_add(floats a, floats w, floats c) noexcept {
    const floats p = _mm256_mul_ps(a, w), s = _mm256_add_ps(p, c), v = _mm256_sub_ps(s, p);
    const floats e = _mm256_add_ps(_mm256_sub_ps(p, _mm256_sub_ps(s, v)), _mm256_sub_ps(c, v));
    const __m256i bits = _mm256_castps_si256(s), one = _mm256_set1_epi32(1);
    // +1 away from 0 where e has the sign of s, else -1; nothing where e is 0 (or NaN), or s is odd.
    const __m256i away = _mm256_or_si256(_mm256_srai_epi32(_mm256_xor_si256(bits, _mm256_castps_si256(e)), 31), one);
    const __m256i lost = _mm256_castps_si256(_mm256_cmp_ps(e, _mm256_setzero_ps(), _CMP_NEQ_OQ));
    const __m256i even = _mm256_sub_epi32(_mm256_and_si256(bits, one), one);
    const __m256i odd = _mm256_add_epi32(bits, _mm256_and_si256(_mm256_and_si256(lost, even), away));
    return _mm256_cvtph_ps(_mm256_cvtps_ph(_mm256_castsi256_ps(odd), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
/// 16 of them.
struct zmm_of_halves {
  using floats = __m512;
  static constexpr std::size_t lanes = 16, registers = 32;
  static POLYMAC_INLINE void load(const float16_pair* from, floats& even, floats& odd) noexcept {
    const __m512i pairs = _mm512_loadu_si512(from);
    even = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs));
    odd = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16)));
  }
  static POLYMAC_INLINE __m512i words(floats v) noexcept {
    return _mm512_cvtepu16_epi32(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static POLYMAC_INLINE void store(float16_pair* to, floats even, floats odd) noexcept {
    _mm512_storeu_si512(to, _mm512_or_si512(words(even), _mm512_slli_epi32(words(odd), 16)));
  }
  static POLYMAC_INLINE floats broadcast(std::uint16_t half) noexcept {
    return _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(half)));
  }
  static POLYMAC_INLINE floats fused_multiply_add(floats a, floats w, floats c) noexcept {
    const floats p = _mm512_mul_ps(a, w), s = _mm512_add_ps(p, c), v = _mm512_sub_ps(s, p);
    const floats e = _mm512_add_ps(_mm512_sub_ps(p, _mm512_sub_ps(s, v)), _mm512_sub_ps(c, v));
    const __m512i bits = _mm512_castps_si512(s), one = _mm512_set1_epi32(1);
    const __m512i away = _mm512_or_si512(_mm512_srai_epi32(_mm512_xor_si512(bits, _mm512_castps_si512(e)), 31), one);
    const __mmask16 lost =
        _mm512_mask_testn_epi32_mask(_mm512_cmp_ps_mask(e, _mm512_setzero_ps(), _CMP_NEQ_OQ), bits, one);
    const __m512i odd = _mm512_mask_add_epi32(bits, lost, bits, away);
    return _mm512_cvtph_ps(_mm512_cvtps_ph(_mm512_castsi512_ps(odd), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};
#endif

/// Two registers R of floats: the halves of one column are in the same lane of both.
template <class R>
struct pairs_of_floats {
  struct type {
    typename R::floats even, odd;
  };
  static constexpr std::size_t lanes = R::lanes, registers = R::registers / 2;
  static POLYMAC_INLINE type load(const float16_pair* from) noexcept {
    type v;
    R::load(from, v.even, v.odd);
    return v;
  }
  static POLYMAC_INLINE void store(float16_pair* to, const type& v) noexcept { R::store(to, v.even, v.odd); }
  static POLYMAC_INLINE type broadcast_pair(std::int32_t pair) noexcept {
    const auto bits = static_cast<std::uint32_t>(pair);
    return {R::broadcast(static_cast<std::uint16_t>(bits)), R::broadcast(static_cast<std::uint16_t>(bits >> 16))};
  }
  static POLYMAC_INLINE type multiply_add(const type& a, const type& b, const type& c) noexcept {
    return {R::fused_multiply_add(a.even, b.even, c.even), R::fused_multiply_add(a.odd, b.odd, c.odd)};
  }
};
/// Sums of 4 rows x 1 or 2 registers of pairs, their weights, a pair, and five for a product.
template <class I, class R, std::size_t MaxPanels>
using rounded_pair_tile = lane_tile<I, pairs_of_floats<R>, half_pair_product<pairs_of_floats<R>>, 1, 4, MaxPanels>;
#endif

}  // namespace detail

/// Where there is a tile.
template <class I>
requires requires { requires std::is_same_v<typename detail::half_pair_tile::isa, I>; }
struct atom<mac::fp16_sum16, I> : detail::half_pair_tile {};

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
template <>
struct atom<mac::fp16_sum16, avx2> : detail::rounded_pair_tile<avx2, detail::ymm_of_halves, 1> {};
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
template <>
struct atom<mac::fp16_sum16, avx512> : detail::rounded_pair_tile<avx512, detail::zmm_of_halves, 2> {};
#endif
#endif

}  // namespace isa
POLYMAC_END
