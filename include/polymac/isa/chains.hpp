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

/// Words in chains of whole pairs.
template <class M>
concept ChainOfWords = requires {
  typename M::chain_accumulator;
}
&&sizeof(typename M::weight) == 2 && M::chain % 2 == 0;

}  // namespace detail

#if defined(__AVX2__) && defined(__FMA__)
template <int Shift, std::size_t Chain, class Promise>
requires detail::ChainOfWords<mac::dfp<std::int16_t, Shift, Chain, Promise>>
struct atom<mac::dfp<std::int16_t, Shift, Chain, Promise>, avx2>
    : detail::chained_tile<avx2, detail::ymm, detail::ymm_float,
                           detail::chained_words<mac::dfp<std::int16_t, Shift, Chain, Promise>, detail::ymm, false>, 2,
                           3, 1> {
};
#if defined(__AVXVNNI__)
template <int Shift, std::size_t Chain, class Promise>
requires detail::ChainOfWords<mac::dfp<std::int16_t, Shift, Chain, Promise>>
struct atom<mac::dfp<std::int16_t, Shift, Chain, Promise>, avx_vnni>
    : detail::chained_tile<avx_vnni, detail::ymm_dot, detail::ymm_float,
                           detail::chained_words<mac::dfp<std::int16_t, Shift, Chain, Promise>, detail::ymm_dot, true>,
                           2, 3, 1> {
};
#endif
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
template <int Shift, std::size_t Chain, class Promise>
requires detail::ChainOfWords<mac::dfp<std::int16_t, Shift, Chain, Promise>>
struct atom<mac::dfp<std::int16_t, Shift, Chain, Promise>, avx512>
    : detail::chained_tile<avx512, detail::zmm, detail::zmm_float,
                           detail::chained_words<mac::dfp<std::int16_t, Shift, Chain, Promise>, detail::zmm, false>, 1,
                           6, 2> {
};
#if defined(__AVX512VNNI__)
template <int Shift, std::size_t Chain, class Promise>
requires detail::ChainOfWords<mac::dfp<std::int16_t, Shift, Chain, Promise>>
struct atom<mac::dfp<std::int16_t, Shift, Chain, Promise>, avx512_vnni>
    : detail::chained_tile<avx512_vnni, detail::zmm_dot, detail::zmm_float,
                           detail::chained_words<mac::dfp<std::int16_t, Shift, Chain, Promise>, detail::zmm_dot, true>,
                           1, 6, 2> {
};
#endif
#endif

}  // namespace isa
POLYMAC_END
