// SPDX-License-Identifier: MIT
// AArch64 Advanced SIMD: 128 bits, 32 registers.
//
//   intrinsic     instruction            Cortex-A72 (also Raspberry Pi 4)   Neoverse N1
//   vmull_s8      smull  8h, 8b, 8b      4 cy, 1/cycle                      4 cy, 1/cycle
//   vpadalq_s16   sadalp 4s, 8h          4 cy (1 in a chain), 1/cycle       4 cy (1 in a chain), 1/cycle
//   vmlal_s16     smlal  4s, 4h, 4h      4 cy (1 in a chain), 1/cycle       4 cy (1 in a chain), 1/cycle
//   vld1_dup      ld1r                   1/cycle                            2/cycle
//   (Arm's software optimisation guides)
//
//   tile of int8 and uint8: up to 4 rows x 1 panel of 16 columns, 2 deep
//
//                    c0 .. c3    c4 .. c7    c8 .. c11   c12 .. c15
//      k, k+1        ww .. ww    ww .. ww    ww .. ww    ww .. ww       4 half registers
//   row 0..3   aa    s .. s      s .. s      s .. s      s .. s         16 sums, 1 activation, 1 constant, products
//
// Five rows would fit, but g++ 12 moves many smull ahead of their sadalp and spills then: with four rows it spills one
// sum of int8 and three of uint8 per step, with five it spills four; clang 14 spills none.
//
// smull gives eight products in 16 bits, at most 128 * 128 = 16384, so each fits; sadalp adds them in pairs to the
// 32-bit lanes modulo 2^32. (smlal of a second product would be cheaper and wrong: 2 * 16384 does not fit.) A u8
// activation becomes the signed a - 128 by flipping its top bit, and packing puts 128 * sum(w) back on.
//
//   tile of int16x8: up to 5 rows x 1 panel of 16 columns, 1 deep: 4 half registers of weights as words, 20 sums,
//   1 activation. smlal adds 16 x 16 bit products to 32-bit lanes.
//
// So all three equal the golden model for every input.
#pragma once

#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/mac/int16x8.hpp"
#include "polymac/mac/int8.hpp"

#if defined(__ARM_NEON) && defined(__aarch64__)

#include <arm_neon.h>

#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// 128 bits as 4 lanes.
struct neon_q {
  using type = int32x4_t;
  static constexpr std::size_t lanes = 4;
  static constexpr std::size_t registers = 32;
  static POLYMAC_INLINE type load(const std::int32_t* from) noexcept { return vld1q_s32(from); }
  static POLYMAC_INLINE void store(std::int32_t* to, type v) noexcept { vst1q_s32(to, v); }
};

/// 128 bits as 4 floats.
struct neon_float {
  using type = float32x4_t;
  static constexpr std::size_t lanes = 4;
  static constexpr std::size_t registers = 32;
  static POLYMAC_INLINE type load(const float* from) noexcept { return vld1q_f32(from); }
  static POLYMAC_INLINE void store(float* to, type v) noexcept { vst1q_f32(to, v); }
  static POLYMAC_INLINE type zero() noexcept { return vdupq_n_f32(0.0f); }
  static POLYMAC_INLINE type load_floats(const std::uint8_t* from) noexcept {
    return vreinterpretq_f32_u8(vld1q_u8(from));
  }
  /// Powers of two times one whose exponent stands where a float has it.
  static POLYMAC_INLINE type times_power(type a, std::int32_t power) noexcept {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), vdupq_n_s32(power)));
  }
  static POLYMAC_INLINE type multiply_add(type a, type b, type c) noexcept { return vfmaq_f32(c, a, b); }
  static POLYMAC_INLINE type add(type a, type b) noexcept { return vaddq_f32(a, b); }
};

/// s8 or u8 activations, s8 weights, 2 deep.
template <class M>
struct neon_byte_product {
  using mac = M;
  static constexpr std::size_t depth = 2;
  static constexpr int activation_offset = std::is_signed_v<typename M::activation> ? 0 : -128;
  using weights = int8x8_t;
  using activations = int8x8_t;

  static POLYMAC_INLINE weights load(const std::int8_t* group) noexcept { return vld1_s8(group); }
  static POLYMAC_INLINE activations broadcast(const typename M::activation* group) noexcept {
    std::int16_t bytes;
    std::memcpy(&bytes, group, sizeof(bytes));
    const int8x8_t all = vreinterpret_s8_s16(vdup_n_s16(bytes));
    if constexpr (activation_offset != 0)
      return veor_s8(all, vdup_n_s8(-128));
    else
      return all;
  }
  static POLYMAC_INLINE int32x4_t multiply_add(int32x4_t sums, activations a, weights w) noexcept {
    return vpadalq_s16(sums, vmull_s8(a, w));
  }
};

/// Four bytes of each of four columns; what is multiplied is an int8 weight and an activation, s8 or u8.
template <class M>
struct neon_four_bytes {
  using mac = M;
  static constexpr std::size_t depth = 4;
  static constexpr int activation_offset = std::is_signed_v<typename M::activation> ? 0 : -128;
  using weights = int8x16_t;
  using activations = int8x16_t;

  static POLYMAC_INLINE weights load(const std::int8_t* group) noexcept { return vld1q_s8(group); }
  static POLYMAC_INLINE activations broadcast(const typename M::activation* group) noexcept {
    std::int32_t bytes;
    std::memcpy(&bytes, group, sizeof(bytes));
    const int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(bytes));
    if constexpr (activation_offset != 0)
      return veorq_s8(all, vdupq_n_s8(-128));
    else
      return all;
  }
};

/// s16 activations, s8 weights, 1 deep.
struct neon_word_product {
  using mac = polymac::mac::int16x8;
  static constexpr std::size_t depth = 1;
  static constexpr int activation_offset = 0;
  using weights = int16x4_t;
  using activations = int16x4_t;

  static POLYMAC_INLINE weights load(const std::int8_t* group) noexcept {
    std::int32_t bytes;  // four columns
    std::memcpy(&bytes, group, sizeof(bytes));
    return vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(bytes))));
  }
  static POLYMAC_INLINE activations broadcast(const std::int16_t* group) noexcept { return vld1_dup_s16(group); }
  static POLYMAC_INLINE int32x4_t multiply_add(int32x4_t sums, activations a, weights w) noexcept {
    return vmlal_s16(sums, a, w);
  }
};

template <class I, class Product, std::size_t MaxRows>
using neon_tile = lane_tile<I, neon_q, Product, 4, MaxRows, 1>;

}  // namespace detail

template <>
struct atom<mac::int8, neon> : detail::neon_tile<neon, detail::neon_byte_product<mac::int8>, 4> {};
template <>
struct atom<mac::uint8, neon> : detail::neon_tile<neon, detail::neon_byte_product<mac::uint8>, 4> {};
template <>
struct atom<mac::int16x8, neon> : detail::neon_tile<neon, detail::neon_word_product, 5> {};

}  // namespace isa
POLYMAC_END

#endif
