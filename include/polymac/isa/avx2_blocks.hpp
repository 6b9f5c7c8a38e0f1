// SPDX-License-Identifier: MIT
// Codes and blocks on 256 bits: mac::bit_weights, mac::mx. The tiles: code_product.hpp, block_tile.hpp; what blocks become:
// block_atoms.hpp.
//
//   intrinsic                  instruction              Skylake (client)    Zen 4
//   _mm256_maddubs_epi16       vpmaddubsw ymm           2/cycle (p01)       2/cycle
//   _mm256_madd_epi16          vpmaddwd ymm             2/cycle (p01)       2/cycle
//   _mm256_add_epi32           vpaddd ymm               3/cycle (p015)      4/cycle
//   _mm256_shuffle_epi8        vpshufb ymm              1/cycle (p5)        2/cycle         codes to weights
//   _mm256_dpbusd_avx_epi32    vpdpbusd ymm (AVX-VNNI)  2/cycle (p01)       -
//
//   tile of codes: 4 rows x 1 panel of 16 columns, 4 x 8 / Bits deep: 8 sums, 2 registers of codes, 2 of weights, an
//   activation, a product, and constants: 16 of 16, some constants in memory
//   price of a group of 4 k: 2 x (shift, vpand, vpshufb), and for every row 2 x (vpmaddubsw, vpmaddwd, vpaddd), where
//   int8 takes 2 x 4 and 3 shifts
//
// vpmaddubsw adds two products in 16 bits with saturation. Of weights of four bits they are at most 2 x 255 x 8, of codes
// from 0 to 15 at most 2 x 15 x 128, of MXFP4 and MXFP6 e2m3 moved by 128 at most 2 x 188 x 60: there is room. Bytes of 8
// bits that are moved are not small; they are split by parity, as in widening.hpp.
//
//   tile of blocks: 3 rows x 2 panels of 8 columns: 6 sums of the block, 2 weights, 1 activation, constants; the 6 totals
//   wait in memory while a block is added up
#pragma once

#include "polymac/isa/avx2.hpp"
#include "polymac/isa/avx_vnni.hpp"
#include "polymac/isa/bf16_product.hpp"
#include "polymac/isa/block_atoms.hpp"
#include "polymac/isa/code_product.hpp"
#include "polymac/isa/dot_product.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__AVX2__) && defined(__FMA__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Weights by a look-up.
struct ymm_code_tables : ymm {
  template <unsigned Bits>
  static constexpr int scale_bits = 0;
  template <unsigned Bits, unsigned Part>
  static POLYMAC_INLINE type weights_of(type codes) noexcept {
    constexpr unsigned shift = 8 - Bits * (Part + 1);
    return _mm256_shuffle_epi8(table<Bits>(), field<Bits, shift>(codes));
  }

 private:
  template <unsigned Bits>
  static POLYMAC_INLINE type table() noexcept {
    if constexpr (Bits == 4)
      return _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
    else if constexpr (Bits == 2)
      return _mm256_set1_epi32(static_cast<std::int32_t>(0xFFFE0100u));  // 0, 1, -2, -1
    else
      return _mm256_set1_epi16(static_cast<std::int16_t>(0xFF01u));  // 1, -1
  }
};

/// What blocks of bytes are prepared with.
struct ymm_sums {
  template <int>
  static constexpr int first_code(int least) noexcept {
    return least;
  }
  template <std::size_t Size>
  static POLYMAC_INLINE std::int32_t sum_of(const std::int8_t* bytes) noexcept {
    __m256i sums = _mm256_setzero_si256();
    POLYMAC_UNROLL
    for (std::size_t k = 0; k < Size; k += 32)
      sums = ymm_small_bytes::add_dot_u8i8(sums, _mm256_set1_epi8(1), ymm::load(bytes + k));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
  }
  static POLYMAC_INLINE void look_up(const std::uint8_t* codes, std::int8_t* to) noexcept {
    const __m128i all = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    const __m256i table =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
    const __m128i low = _mm_and_si128(all, _mm_set1_epi8(15)),
                  high = _mm_and_si128(_mm_srli_epi16(all, 4), _mm_set1_epi8(15));
    ymm::store(
        to, _mm256_shuffle_epi8(table, _mm256_set_m128i(_mm_unpackhi_epi8(low, high), _mm_unpacklo_epi8(low, high))));
  }
};

/// Blocks whose products fit 16 bits in pairs, and others.
struct ymm_small_blocks : ymm_small_bytes, ymm_sums {};
struct ymm_blocks : ymm_small_blocks {
  static POLYMAC_INLINE type add_dot_u8i8(type sums, type w, type a) noexcept {
    return add(add(sums, multiply_pairs(odd_u8(w), odd_i8(a))), multiply_pairs(even_u8(w), even_i8(a)));
  }
};

template <class M, bool Prepared>
using ymm_code_tile = avx2_tile<code_product<M, byte_dot_product<mac::int8, ymm_small_bytes, Prepared>, ymm_code_tables,
                                             panel_bits<M::codes::stored_bits>>,
                                4>;
template <class M>
using ymm_group_blocks = std::conditional_t<M::codes::stored_bits == 8, ymm_blocks, ymm_small_blocks>;

#if defined(__AVXVNNI__)
template <class M, bool Prepared>
using ymm_dot_code_tile = lane_tile<avx_vnni, ymm_dot,
                                    code_product<M, byte_dot_product<mac::int8, ymm_dot, Prepared>,
                                                 codes_on_top<ymm_dot>, panel_bits<M::codes::stored_bits>>,
                                    2, 4, 1>;
struct ymm_dot_blocks : ymm_dot, ymm_sums {};
#endif

}  // namespace detail

template <int Bits, class Encoding>
requires(Bits != 8) struct atom<mac::bit_weights<Bits, Encoding, 0>, avx2>
    : detail::flipping_atom<detail::ymm_small_bytes, detail::ymm_code_tile<mac::bit_weights<Bits, Encoding, 0>, false>,
                            detail::ymm_code_tile<mac::bit_weights<Bits, Encoding, 0>, true>> {
};
template <int Bits, class Encoding, std::size_t Group>
requires(Group > 0) struct atom<mac::bit_weights<Bits, Encoding, Group>, avx2>
    : detail::group_atom<mac::bit_weights<Bits, Encoding, Group>, avx2,
                         detail::ymm_group_blocks<mac::bit_weights<Bits, Encoding, Group>>, detail::ymm_float> {
};
template <class Element, mx_scale Scale>
requires detail::is_integer_element<Element>
struct atom<mac::mx<Element, Scale>, avx2>
    : detail::integer_mx_atom<
          mac::mx<Element, Scale>, avx2,
          std::conditional_t<detail::is_small_element<Element>, detail::ymm_small_blocks, detail::ymm_blocks>,
          detail::ymm_float> {
};
template <class Element, mx_scale Scale>
requires(!detail::is_integer_element<Element>) struct atom<mac::mx<Element, Scale>, avx2>
    : detail::bf16_mx_atom<mac::mx<Element, Scale>, avx2, detail::ymm_float,
                           detail::widened_bf16_product<detail::ymm_float>> {
};
#if defined(__AVXVNNI__)
template <int Bits, class Encoding>
requires(Bits != 8) struct atom<mac::bit_weights<Bits, Encoding, 0>, avx_vnni>
    : detail::flipping_atom<detail::ymm_dot, detail::ymm_dot_code_tile<mac::bit_weights<Bits, Encoding, 0>, false>,
                            detail::ymm_dot_code_tile<mac::bit_weights<Bits, Encoding, 0>, true>> {
};
template <int Bits, class Encoding, std::size_t Group>
requires(Group > 0) struct atom<mac::bit_weights<Bits, Encoding, Group>, avx_vnni>
    : detail::group_atom<mac::bit_weights<Bits, Encoding, Group>, avx_vnni, detail::ymm_dot_blocks, detail::ymm_float> {
};
template <class Element, mx_scale Scale>
requires detail::is_integer_element<Element>
struct atom<mac::mx<Element, Scale>, avx_vnni>
    : detail::integer_mx_atom<mac::mx<Element, Scale>, avx_vnni, detail::ymm_dot_blocks, detail::ymm_float> {
};
#endif

}  // namespace isa
POLYMAC_END

#endif
