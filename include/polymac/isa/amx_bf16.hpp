// SPDX-License-Identifier: MIT
// AMX-BF16: products of tiles of bf16, 16 rows x 16 columns x 32 deep in one instruction. The picture and the prices are
// those of amx_tiles.hpp; tdpbf16ps takes the time of tdpbssd for half the products.
//
// What tdpbf16ps does with a row a of activations and a column w of weights, as Intel's manual writes it down:
//
//     even = odd = 0
//     for every group g:  even = fma(a[2g], w[2g], even);  odd = fma(a[2g + 1], w[2g + 1], odd)
//     sum = sum + (even + odd)
//
// everything rounded to nearest even and with subnormals as zeros on both sides, whatever MXCSR says. That is another
// order than that of vector registers, whose bits these sums therefore do not have: they keep mac::bf16's bound. Which
// of the two computes a row is decided by the shape of the whole product, not by the range of rows of a call.
//
// The vector atom is that of avx512, which widens: on the processors that have AMX vdpbf16ps is slower (avx512_bf16.hpp).
#pragma once

#include "polymac/isa/amx_int8.hpp"
#include "polymac/isa/amx_tiles.hpp"
#include "polymac/isa/avx512.hpp"
#include "polymac/mac/bf16.hpp"

#if POLYMAC_HAS_AMX_BF16 && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__AVX512DQ__) && defined(__AVX512VNNI__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// bf16 on both sides.
struct bf16_tile_product {
  using mac = polymac::mac::bf16;
  static constexpr std::size_t depth = 2;
  template <int Sums, int Activations, int Weights>
  static POLYMAC_INLINE void multiply_add() noexcept {
    tile_unit::add_dot_bf16<Sums, Activations, Weights>();
  }
};

}  // namespace detail

template <>
struct atom<mac::bf16, amx_bf16> : atom<mac::bf16, avx512> {
  using isa = amx_bf16;
  using tiles = detail::tile_blocks<detail::bf16_tile_product>;
};

}  // namespace isa
POLYMAC_END

#endif
