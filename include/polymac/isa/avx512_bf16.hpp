// SPDX-License-Identifier: MIT
// AVX-512 BF16: dot products of two bf16 per lane.
//
//   intrinsic              instruction               Zen 4 (512 bits in two halves)   Zen 5     Granite Rapids
//   _mm512_dpbf16_ps       vdpbf16ps zmm, zmm, zmm   6 cy, 1/cycle                    6 cy, 2   8.3 cy, 0.48: half the
//                                                                                               rate of vfmadd
//   _mm512_set1_epi32      vpbroadcastd zmm, m32     load ports only
//
//   tile of bf16: up to 12 rows x 2 panels of 16 columns, 2 deep
//
//                           panel 0               panel 1
//                       c0  c1 ... c15        c16 c17 ... c31
//      k, k+1           ww  ww     ww         ww  ww      ww       one zmm each
//   row 0   aa          s   s      s          s   s       s        one zmm each: 24 accumulators,
//   ...                                                            2 weights, 1 activation: 27 of 32
//   row 11  aa          s   s      s          s   s       s
//
// Two instructions a cycle and a latency of 6 take 12 accumulators, so few rows stand beside more panels
// (`panels_for`): 4 x 4, 2 x 8, 1 x 8.
//
// What the instruction does, found on Zen 4 with operands of all sizes (12 million, no difference), and as Intel's
// manual writes it down: sum = fma(a1, w1, sum), then sum = fma(a0, w0, sum), both rounded to nearest even whatever
// MXCSR says; operands, sums and what is between them are flushed to zero where they are subnormal. So it equals the
// golden model in the order of mac::bf16, but for subnormals.
//
// Processors with AMX run it slower than float multiply-adds: isa::amx_int8 and isa::amx_bf16 are not based on this set
// and take avx512's atom for vectors.
#pragma once

#include "polymac/isa/avx512.hpp"
#include "polymac/isa/avx512_vnni.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/mac/bf16.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__) && defined(__AVX512BF16__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// s: two bf16 activations, two bf16 weights, 2 deep.
struct bf16_dot_product {
  using mac = polymac::mac::bf16;
  static constexpr std::size_t depth = 2;
  static constexpr int activation_offset = 0;
  using weights = __m512i;
  using activations = __m512i;

  static POLYMAC_INLINE weights load(const bfloat16* group) noexcept { return _mm512_loadu_si512(group); }
  static POLYMAC_INLINE activations broadcast(const bfloat16* group) noexcept {
    return _mm512_set1_epi32(four_bytes(group));
  }
  static POLYMAC_INLINE __m512 multiply_add(__m512 sums, activations a, weights w) noexcept {
    return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(w));
  }
};

}  // namespace detail

template <>
struct atom<mac::bf16, avx512_bf16>
    : detail::lane_tile<avx512_bf16, detail::zmm_float, detail::bf16_dot_product, 1, 12, 2> {};

}  // namespace isa
POLYMAC_END

#endif
