// SPDX-License-Identifier: MIT
// Dynamic fixed point of words (mac::dfp): dot products of two words in chains (chained_tile.hpp).
//
//                  instruction              tile                        beside the products, for a chain of 32
//   avx512_vnni    vpdpwssd zmm             6 rows x 2 panels of 16     a conversion and an addition for 16 products
//   avx512         vpmaddwd, vpaddd zmm     the same                    the same
//   avx_vnni       vpdpwssd ymm             3 rows x 1 panel of 16      the same
//   avx2           vpmaddwd, vpaddd ymm     3 rows x 1 panel of 16      the same
//
// Sums of a chain are modulo 2^32, as the golden model says; vpmaddwd adds two products modulo 2^32, too.
#pragma once

#include "polymac/isa/avx2.hpp"
#include "polymac/isa/avx512.hpp"
#include "polymac/isa/avx512_vnni.hpp"
#include "polymac/isa/avx_vnni.hpp"
#include "polymac/isa/chained_tile.hpp"
#include "polymac/mac/dfp.hpp"

#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// s16 x s16, 2 deep. DotProduct: does V add dot products of words in one instruction?
template <class M, class V, bool DotProduct>
struct chained_words {
  using mac = M;
  static constexpr std::size_t depth = 2;
  static constexpr int activation_offset = 0;
  using weights = typename V::type;
  using activations = typename V::type;

  static POLYMAC_INLINE weights load(const std::int16_t* group) noexcept { return V::load(group); }
  static POLYMAC_INLINE activations broadcast(const std::int16_t* group) noexcept {
    return V::broadcast(four_bytes(group));
  }
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, activations a, weights w) noexcept {
    if constexpr (DotProduct)
      return V::add_dot_i16(sums, a, w);
    else
      return V::add(sums, V::multiply_pairs(a, w));
  }
};

/// The tile of an instruction set.
template <class M, class I>
struct chain_of_words;
#if defined(__AVX2__) && defined(__FMA__)
template <class M>
struct chain_of_words<M, avx2> : chained_tile<avx2, ymm, ymm_float, chained_words<M, ymm, false>, 2, 3, 1> {};
#if defined(__AVXVNNI__)
template <class M>
struct chain_of_words<M, avx_vnni>
    : chained_tile<avx_vnni, ymm_dot, ymm_float, chained_words<M, ymm_dot, true>, 2, 3, 1> {};
#endif
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
template <class M>
struct chain_of_words<M, avx512> : chained_tile<avx512, zmm, zmm_float, chained_words<M, zmm, false>, 1, 6, 2> {};
#if defined(__AVX512VNNI__)
template <class M>
struct chain_of_words<M, avx512_vnni>
    : chained_tile<avx512_vnni, zmm_dot, zmm_float, chained_words<M, zmm_dot, true>, 1, 6, 2> {};
#endif
#endif

/// Whether the instruction set has a tile for them: M sums chains of whole pairs.
template <class M, class I>
concept ChainOfWords = M::chain % 2 == 0 && requires {
  sizeof(chain_of_words<M, I>);
};

}  // namespace detail

template <int Shift, std::size_t Chain, class Promise, class I>
requires detail::ChainOfWords<mac::dfp<std::int16_t, Shift, Chain, Promise>, I>
struct atom<mac::dfp<std::int16_t, Shift, Chain, Promise>, I>
    : detail::chain_of_words<mac::dfp<std::int16_t, Shift, Chain, Promise>, I> {
};

}  // namespace isa
POLYMAC_END
