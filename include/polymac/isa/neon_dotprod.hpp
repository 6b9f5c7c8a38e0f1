// SPDX-License-Identifier: MIT
// AArch64 dot products: four bytes per lane.
//
//   intrinsic    instruction         Cortex-A76, Neoverse N1        Apple M1
//   vdotq_s32    sdot 4s, 16b, 16b   4 cy (1 in a chain), 2/cycle   3 cy, 4/cycle
//   vld1_dup     ld1r 4s             2/cycle                        3/cycle
//
//   tile of int8 and uint8: up to 5 rows x 1 panel of 16 columns, 4 deep
//
//                      c0 .. c3        c4 .. c7       c8 .. c11      c12 .. c15
//      k..k+3          wwww .. wwww    wwww .. wwww   wwww .. wwww   wwww .. wwww     one register each
//   row 0..4   aaaa    s .. s          s .. s         s .. s         s .. s           20 sums, 4 weights, 1 activation,
//                                                                                     1 constant: 26 of 32; with six
//                                                                                     rows g++ 12 spills
//
// sdot adds four products of signed bytes to the lane modulo 2^32: the golden model for every input. A u8 activation
// becomes the signed a - 128 by flipping its top bit, and packing puts 128 * sum(w) back on. int16x8 stays with
// neon.hpp.
#pragma once

#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/isa/neon.hpp"

#if defined(__ARM_NEON) && defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// s8 or u8 activations, s8 weights, 4 deep.
template <class M>
struct neon_dot_product : neon_four_bytes<M> {
  using typename neon_four_bytes<M>::activations;
  using typename neon_four_bytes<M>::weights;
  static POLYMAC_INLINE int32x4_t multiply_add(int32x4_t sums, activations a, weights w) noexcept {
    return vdotq_s32(sums, a, w);
  }
};

}  // namespace detail

template <>
struct atom<mac::int8, neon_dotprod> : detail::neon_tile<neon_dotprod, detail::neon_dot_product<mac::int8>, 5> {};
template <>
struct atom<mac::uint8, neon_dotprod> : detail::neon_tile<neon_dotprod, detail::neon_dot_product<mac::uint8>, 5> {};

}  // namespace isa
POLYMAC_END

#endif
