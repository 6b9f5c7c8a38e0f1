// SPDX-License-Identifier: MIT
// Products of bf16 without instructions for them: both numbers of a lane become floats by a shift or by being cut off.
//
//   one lane, 2 deep            upper half   lower half
//   as loaded                   k1           k0
//   second:  lower half to 0    k1           0             a float            1 and
//   first:   << 16              k0           0             a float            1 shift
//   sum = second_a * second_w + sum                        vfmadd
//   sum = first_a * first_w + sum                          vfmadd
//
// The panel is the one that vpdpbf16ps and AMX tiles read, 16 columns x 2 deep, and so is the order: the second k of a
// pair first. A product of two bf16 has 16 bits and is exact in float32, so multiply-adds round once a product, as
// vdpbf16ps does: the same bits, but for subnormals (mac/bf16.hpp).
#pragma once

#include "polymac/isa/widening.hpp"
#include "polymac/mac/bf16.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// V: registers of floats with `load`, `first_bf16`, `second_bf16` of pairs that are loaded or broadcast, `fused`.
template <class V>
struct widened_bf16_product {
  using mac = polymac::mac::bf16;
  static constexpr std::size_t depth = 2;
  static constexpr int activation_offset = 0;
  struct floats {
    typename V::type first, second;
  };
  using weights = floats;
  using activations = floats;

  static POLYMAC_INLINE floats load(const bfloat16* group) noexcept { return split(V::load_pairs(group)); }
  static POLYMAC_INLINE floats broadcast(const bfloat16* group) noexcept {
    return split(V::broadcast_pair(four_bytes(group)));
  }
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, const floats& a,
                                                      const floats& w) noexcept {
    return V::multiply_add(a.first, w.first, V::multiply_add(a.second, w.second, sums));
  }

 private:
  static POLYMAC_INLINE floats split(typename V::pairs v) noexcept { return {V::first_bf16(v), V::second_bf16(v)}; }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
