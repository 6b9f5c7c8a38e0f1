// SPDX-License-Identifier: MIT
// Codes and blocks on AArch64: mac::bit_weights, and mac::mx where its elements are integers. The tiles: code_product.hpp,
// block_tile.hpp; what blocks become: block_atoms.hpp.
//
//   intrinsic             instruction            Cortex-A72        Neoverse N1
//   vmull_s8              smull  8h, 8b, 8b      1/cycle           1/cycle
//   vpaddq_s16            addp   8h              1/cycle           2/cycle
//   vpadalq_s16           sadalp 4s, 8h          1/cycle           1/cycle
//   vdotq_s32             sdot   4s, 16b, 16b    -                 2/cycle
//   vshlq_n_s8 ...        shl, sshr 16b          1/cycle           1/cycle           codes to weights
//
//   tile of codes: 4 rows x 1 panel of 16 columns, 4 x 8 / Bits deep: 16 sums, 4 registers of codes, 4 of weights, an
//   activation, 3 products: 28 of 32
//   price of 16 products: smull, smull2, addp, sadalp; with dot products one sdot. The products of int8 without them take
//   as many, and twice the weights from memory
//
// Products of codes of four bits are at most 128 x 15, so addp has room in 16 bits for two; those of bytes have none, and
// are added in 32 bits (saddlp).
//
//   tile of blocks: 6 rows x 2 panels of 4 columns: 12 sums of the block, 12 totals, 2 weights, 1 activation, 3 products
//
// Weights are multiplied with their sign here: bytes of 8 bits are stored as they are, codes of fewer bits less the first.
#pragma once

#include "polymac/isa/block_atoms.hpp"
#include "polymac/isa/code_product.hpp"
#include "polymac/isa/neon.hpp"
#include "polymac/isa/neon_dotprod.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__ARM_NEON) && defined(__aarch64__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Sums of four products each, of which two fit 16 bits.
struct neon_small_dot {
  static POLYMAC_INLINE int32x4_t add(int32x4_t sums, int8x16_t a, int8x16_t w) noexcept {
    return vpadalq_s16(sums, vpaddq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(w)), vmull_high_s8(a, w)));
  }
};
/// Any.
struct neon_byte_dot {
  static POLYMAC_INLINE int32x4_t add(int32x4_t sums, int8x16_t a, int8x16_t w) noexcept {
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(w))),
                    high = vpaddlq_s16(vmull_high_s8(a, w));
    return vaddq_s32(sums, vpaddq_s32(low, high));
  }
};
#if defined(__ARM_FEATURE_DOTPROD)
struct neon_sdot {
  static POLYMAC_INLINE int32x4_t add(int32x4_t sums, int8x16_t a, int8x16_t w) noexcept {
    return vdotq_s32(sums, a, w);
  }
};
#endif

/// s8 activations and weights that Dot multiplies.
template <class Dot>
struct neon_codes_product : neon_four_bytes<polymac::mac::int8> {
  static POLYMAC_INLINE int32x4_t multiply_add(int32x4_t sums, activations a, weights w) noexcept {
    return Dot::add(sums, a, w);
  }
};

/// Weights by shifts that keep the sign.
struct neon_codes {
  template <unsigned Bits>
  static constexpr int scale_bits = 0;
  template <unsigned Bits, unsigned Part>
  static POLYMAC_INLINE int8x16_t weights_of(int8x16_t codes) noexcept {
    if constexpr (Part > 0) codes = vshlq_n_s8(codes, static_cast<int>(Part * Bits));
    codes = vshrq_n_s8(codes, static_cast<int>(8 - Bits));
    return Bits == 1 ? vorrq_s8(codes, vdupq_n_s8(1)) : codes;  // 0 and -1 to 1 and -1
  }
};

/// 128 bits as 4 lanes of 4 bytes.
template <class Dot>
struct neon_blocks : neon_q {
  static POLYMAC_INLINE type load(const std::uint8_t* from) noexcept { return vreinterpretq_s32_u8(vld1q_u8(from)); }
  static POLYMAC_INLINE type zero() noexcept { return vdupq_n_s32(0); }
  static POLYMAC_INLINE type broadcast(std::int32_t v) noexcept { return vdupq_n_s32(v); }
  static POLYMAC_INLINE float32x4_t to_float(type v) noexcept { return vcvtq_f32_s32(v); }
  /// Of every byte the bits [Shift, Shift + Bits).
  template <unsigned Bits, unsigned Shift>
  static POLYMAC_INLINE type field(type v) noexcept {
    uint8x16_t bytes = vreinterpretq_u8_s32(v);
    if constexpr (Shift > 0) bytes = vshrq_n_u8(bytes, static_cast<int>(Shift));
    if constexpr (Shift + Bits < 8) bytes = vandq_u8(bytes, vdupq_n_u8((1u << Bits) - 1));
    return vreinterpretq_s32_u8(bytes);
  }
  /// 4 bytes as integers.
  static POLYMAC_INLINE type load_bytes(const std::uint8_t* from) noexcept {
    std::int32_t bytes;
    std::memcpy(&bytes, from, sizeof(bytes));
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(bytes)))));
  }
  /// Codes and activations, both as signed bytes.
  static POLYMAC_INLINE type add_dot_u8i8(type sums, type w, type a) noexcept {
    return Dot::add(sums, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(a));
  }
  static POLYMAC_INLINE type broadcast_sum(std::int32_t sum) noexcept { return vdupq_n_s32(sum); }
  static POLYMAC_INLINE type add_dot_i16(type sums, type a, type w) noexcept { return vmlaq_s32(sums, a, w); }

  template <int Bits>
  static constexpr int first_code(int least) noexcept {
    return Bits == 8 ? 0 : least;
  }
  template <std::size_t Size>
  static POLYMAC_INLINE std::int32_t sum_of(const std::int8_t* bytes) noexcept {
    int32x4_t sums = zero();
    for (std::size_t k = 0; k < Size; k += 16) sums = vpadalq_s16(sums, vpaddlq_s8(vld1q_s8(bytes + k)));
    return vaddvq_s32(sums);
  }
};

template <class I, class M, class Dot>
using neon_code_tile =
    neon_tile<I, code_product<M, neon_codes_product<Dot>, neon_codes, panel_bits<M::codes::stored_bits>>, 4>;
template <class M>
using neon_group_blocks = neon_blocks<std::conditional_t<M::codes::stored_bits == 8, neon_byte_dot, neon_small_dot>>;

}  // namespace detail

template <int Bits, class Encoding>
requires(Bits != 8) struct atom<mac::bit_weights<Bits, Encoding, 0>, neon>
    : detail::neon_code_tile<neon, mac::bit_weights<Bits, Encoding, 0>, detail::neon_small_dot> {
};
template <int Bits, class Encoding, std::size_t Group>
requires(Group > 0) struct atom<mac::bit_weights<Bits, Encoding, Group>, neon>
    : detail::group_atom<mac::bit_weights<Bits, Encoding, Group>, neon,
                         detail::neon_group_blocks<mac::bit_weights<Bits, Encoding, Group>>, detail::neon_float> {
};
template <class Element, mx_scale Scale>
requires detail::is_integer_element<Element>
struct atom<mac::mx<Element, Scale>, neon>
    : detail::integer_mx_atom<mac::mx<Element, Scale>, neon,
                              detail::neon_blocks<std::conditional_t<detail::is_small_element<Element>,
                                                                     detail::neon_small_dot, detail::neon_byte_dot>>,
                              detail::neon_float> {
};
#if defined(__ARM_FEATURE_DOTPROD)
template <int Bits, class Encoding>
requires(Bits != 8) struct atom<mac::bit_weights<Bits, Encoding, 0>, neon_dotprod>
    : detail::neon_code_tile<neon_dotprod, mac::bit_weights<Bits, Encoding, 0>, detail::neon_sdot> {
};
template <int Bits, class Encoding, std::size_t Group>
requires(Group > 0) struct atom<mac::bit_weights<Bits, Encoding, Group>, neon_dotprod>
    : detail::group_atom<mac::bit_weights<Bits, Encoding, Group>, neon_dotprod, detail::neon_blocks<detail::neon_sdot>,
                         detail::neon_float> {
};
template <class Element, mx_scale Scale>
requires detail::is_integer_element<Element>
struct atom<mac::mx<Element, Scale>, neon_dotprod>
    : detail::integer_mx_atom<mac::mx<Element, Scale>, neon_dotprod, detail::neon_blocks<detail::neon_sdot>,
                              detail::neon_float> {
};
#endif

}  // namespace isa
POLYMAC_END

#endif
