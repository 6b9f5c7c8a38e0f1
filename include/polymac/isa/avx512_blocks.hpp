// SPDX-License-Identifier: MIT
// Codes and blocks on 512 bits: mac::bit_weights, mac::mx. The tiles: code_product.hpp, block_tile.hpp; what blocks become:
// block_atoms.hpp.
//
//   intrinsic                        instruction                Zen 4        Granite Rapids
//   _mm512_dpbusd_epi32              vpdpbusd zmm               1/cycle      2/cycle
//   _mm256_shuffle_epi8              vpshufb ymm                2/cycle      1/cycle            MXFP4 to bytes, once for a
//                                                                                               tile of rows
//
//   tile of blocks: 6 rows x 2 panels of 16 columns: 12 sums of the block, 12 totals, 2 weights, 1 activation: 27 of 32
#pragma once

#include "polymac/isa/avx2_blocks.hpp"
#include "polymac/isa/avx512_bf16.hpp"
#include "polymac/isa/avx512_vnni.hpp"
#include "polymac/isa/block_atoms.hpp"
#include "polymac/isa/code_product.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

template <class M, bool Prepared>
using zmm_code_tile = avx512_vnni_tile<code_product<M, byte_dot_product<mac::int8, zmm_dot, Prepared>,
                                                    codes_on_top<zmm_dot>, panel_bits<M::codes::stored_bits>>>;

/// What blocks are made of is found in 256 bits.
struct zmm_blocks : zmm_dot, ymm_sums {
  using zmm_dot::broadcast;
};

}  // namespace detail

template <int Bits, class Encoding>
requires(Bits != 8) struct atom<mac::bit_weights<Bits, Encoding, 0>, avx512_vnni>
    : detail::flipping_atom<detail::zmm_dot, detail::zmm_code_tile<mac::bit_weights<Bits, Encoding, 0>, false>,
                            detail::zmm_code_tile<mac::bit_weights<Bits, Encoding, 0>, true>> {
};
template <int Bits, class Encoding, std::size_t Group>
requires(Group > 0) struct atom<mac::bit_weights<Bits, Encoding, Group>, avx512_vnni>
    : detail::group_atom<mac::bit_weights<Bits, Encoding, Group>, avx512_vnni, detail::zmm_blocks, detail::zmm_float> {
};
template <class Element, mx_scale Scale>
requires detail::is_integer_element<Element>
struct atom<mac::mx<Element, Scale>, avx512_vnni>
    : detail::integer_mx_atom<mac::mx<Element, Scale>, avx512_vnni, detail::zmm_blocks, detail::zmm_float> {
};
#if defined(__AVX512BF16__)
template <class Element, mx_scale Scale>
requires(!detail::is_integer_element<Element>) struct atom<mac::mx<Element, Scale>, avx512_bf16>
    : detail::bf16_mx_atom<mac::mx<Element, Scale>, avx512_bf16, detail::zmm_float, detail::bf16_dot_product> {
};
#endif

}  // namespace isa
POLYMAC_END

#endif
