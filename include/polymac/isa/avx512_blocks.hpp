// SPDX-License-Identifier: MIT
// Codes, blocks and small floats on 512 bits: mac::bit_weights, mac::mx, mac::fp8. The tiles: code_product.hpp,
// block_tile.hpp, converted.hpp.
//
//   intrinsic                        instruction                Zen 4        Granite Rapids
//   _mm512_dpbusd_epi32              vpdpbusd zmm               1/cycle      2/cycle
//   _mm512_permutex2var_epi16        vpermt2w zmm               1/cycle      1 in 2 cycles      fp8 to bf16, at packing and
//                                                                                               once for a tile of rows
//   _mm256_shuffle_epi8              vpshufb ymm                2/cycle      1/cycle            MXFP4 to bytes, the same
//
//   tile of blocks: 6 rows x 2 panels of 16 columns: 12 sums of the block, 12 totals, 2 weights, 1 activation: 27 of 32
#pragma once

#include "polymac/isa/avx512_bf16.hpp"
#include "polymac/isa/avx512_vnni.hpp"
#include "polymac/isa/block_tile.hpp"
#include "polymac/isa/code_product.hpp"
#include "polymac/isa/converted.hpp"
#include "polymac/mac/bit_weights.hpp"
#include "polymac/mac/fp8.hpp"
#include "polymac/mac/mx.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// The codes of a small float without their sign, as bf16.
template <class Code>
struct bf16_table {
  alignas(64) std::uint16_t of[128];
  constexpr bf16_table() noexcept : of{} {
    for (unsigned i = 0; i < 128; ++i)
      of[i] = bfloat16(static_cast<float>(Code::from_bits(static_cast<std::uint8_t>(i)))).bits;
  }
};
template <class Code>
inline constexpr bf16_table<Code> bf16_of_codes{};

/// Small floats to bf16, 32 at a time: two look-ups in 64 words each, and the sign.
template <class Code>
struct fp8_conversion {
  static_assert(Code::special != special_codes::negative_zero);
  static POLYMAC_INLINE __m512i convert(__m256i codes) noexcept {
    const std::uint16_t* const table = bf16_of_codes<Code>.of;
    const __m512i words = _mm512_cvtepu8_epi16(codes);
    const __m512i low = _mm512_permutex2var_epi16(_mm512_load_si512(table), words, _mm512_load_si512(table + 32));
    const __m512i high = _mm512_permutex2var_epi16(_mm512_load_si512(table + 64), words, _mm512_load_si512(table + 96));
    const __mmask32 upper = _mm512_test_epi16_mask(words, _mm512_set1_epi16(64));
    const __m512i sign = _mm512_slli_epi16(_mm512_and_si512(words, _mm512_set1_epi16(128)), 8);
    return _mm512_or_si512(_mm512_mask_mov_epi16(low, upper, high), sign);
  }
  static POLYMAC_INLINE void convert(const Code* from, bfloat16* to, std::size_t count) noexcept {
    std::size_t i = 0;
    for (; i + 32 <= count; i += 32)
      _mm512_storeu_si512(to + i, convert(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i))));
    if (i == count) return;
    const __mmask32 rest = (1u << (count - i)) - 1;
    _mm512_mask_storeu_epi16(to + i, rest, convert(_mm256_maskz_loadu_epi8(rest, from + i)));
  }
};

/// Bits that a panel holds of the codes of mac::bit_weights; groups of one bit have two.
template <int Bits>
inline constexpr unsigned panel_bits = Bits == ternary_bits ? 2
                                       : Bits == 3          ? 4
                                                            : static_cast<unsigned>(Bits);

#if defined(__AVX512VNNI__)

template <class M, unsigned Bits>
using code_atom = flipping_atom<zmm_dot, avx512_vnni_tile<code_product<M, zmm_dot, Bits>>,
                                avx512_vnni_tile<code_product<M, zmm_dot, Bits, true>>>;

/// Groups of codes with a scale and a zero point.
template <class M>
using group_sums = integer_block_sums<zmm_dot, M::group_size,
                                      M::codes::stored_bits == 1 ? 2 : panel_bits<M::codes::stored_bits>, true>;
template <class M>
using group_steps = block_steps<avx512_vnni, zmm_float, group_sums<M>, false>;
template <class M>
struct group_atom : group_steps<M> {
  using mac = M;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using prepared = group_steps<M>;
  using packed = std::uint8_t;

  static constexpr void encode(const weight* group, packed* to) noexcept {
    using sums = group_sums<M>;
    constexpr int least = M::codes::least;
    for (std::size_t i = 0; i < prepared::group_elements; ++i) to[i] = 0;
    for (std::size_t c = 0; c < prepared::columns; ++c) {
      for (std::size_t k = 0; k < M::group_size; ++k)
        sums::put(to, c, k, static_cast<unsigned>(group[c].code(k) - least));
      std::memcpy(to + sums::code_bytes + 4 * c, &group[c].scale, 4);
      to[sums::code_bytes + sums::register_bytes + c] = static_cast<packed>(group[c].zero_point - least);
    }
  }
  template <class Rows>
  static void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count,
                      integer_block<M::group_size>* to, std::size_t stride) noexcept {
    for (std::size_t r = 0; r < row_count; ++r)
      for (std::size_t b = 0; b < count; ++b) {
        const std::int8_t* const from = rows[r][offset + b].values;
        auto& block = to[r * stride + b];
        std::memcpy(block.values, from, M::group_size);
        __m512i sum = _mm512_setzero_si512();
        for (std::size_t k = 0; k < M::group_size; k += 64) {
          const __mmask64 all = M::group_size - k >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << 32) - 1;
          sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_maskz_loadu_epi8(all, from + k));
        }
        block.sum = _mm512_reduce_add_epi32(sum);
      }
  }
};

/// Microscaling blocks whose elements are integers of a byte.
template <class M>
using integer_mx_steps = block_steps<avx512_vnni, zmm_float, integer_block_sums<zmm_dot, 32, 8, false>, true>;
template <class M>
struct integer_mx_atom : integer_mx_steps<M> {
  using mac = M;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using prepared = integer_mx_steps<M>;
  using packed = std::uint8_t;
  using summary = scale_summary;
  static constexpr int offset = 128;

  static void encode(const weight* group, std::size_t columns, packed* to, summary& seen) noexcept {
    using sums = integer_block_sums<zmm_dot, 32, 8, false>;
    for (std::size_t i = 0; i < prepared::group_elements; ++i) to[i] = 0;
    for (std::size_t c = 0; c < prepared::columns; ++c) {
      bool zeros = true;
      for (std::size_t k = 0; k < 32; ++k) {
        const int value = M::traits::integer(group[c][k]);
        zeros = zeros && value == 0;
        sums::put(to, c, k, static_cast<unsigned>(value + offset));
      }
      const float scale = mx_scale_of(group[c], zeros, M::unit_exponent, c < columns, seen);
      std::memcpy(to + sums::code_bytes + 4 * c, &scale, 4);
    }
  }
  template <class Rows>
  static void prepare(const Rows& rows, std::size_t row_count, std::size_t offset_, std::size_t count,
                      integer_block<32>* to, std::size_t stride, const summary&, summary& seen) noexcept {
    for (std::size_t r = 0; r < row_count; ++r)
      for (std::size_t b = 0; b < count; ++b) {
        const activation& from = rows[r][offset_ + b];
        auto& block = to[r * stride + b];
        const __m256i values = decode(from);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(block.values), values);
        const __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), values);
        block.sum = -offset * _mm512_reduce_add_epi32(_mm512_zextsi256_si512(sums));
        block.scale = mx_scale_of(from, _mm256_testz_si256(values, values) != 0, 0, true, seen);
        block.power = power_of(block.scale);
      }
  }
  static constexpr std::size_t mode(const summary& weights, const summary& activations) noexcept {
    return mx_mode<M>(weights, activations);
  }

 private:
  static POLYMAC_INLINE __m256i decode(const activation& from) noexcept {
    if constexpr (std::is_same_v<activation, mx_block<std::int8_t>>) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.codes));
    } else if constexpr (std::is_same_v<activation, mx_block<e2m1>>) {
      const __m128i all = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from.codes));
      const __m256i table =
          _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
      const __m128i low = _mm_and_si128(all, _mm_set1_epi8(15)),
                    high = _mm_and_si128(_mm_srli_epi16(all, 4), _mm_set1_epi8(15));
      return _mm256_shuffle_epi8(table, _mm256_set_m128i(_mm_unpackhi_epi8(low, high), _mm_unpacklo_epi8(low, high)));
    } else {
      alignas(32) std::int8_t values[32];
      for (std::size_t k = 0; k < 32; ++k) values[k] = static_cast<std::int8_t>(M::traits::integer(from[k]));
      return _mm256_load_si256(reinterpret_cast<const __m256i*>(values));
    }
  }
};

#endif

#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)

/// Microscaling blocks by way of bf16.
template <class M>
using bf16_mx_steps = block_steps<avx512_bf16, zmm_float, bf16_block_sums<zmm_float, bf16_dot_product>, true>;
template <class M>
struct bf16_mx_atom : bf16_mx_steps<M> {
  using mac = M;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using prepared = bf16_mx_steps<M>;
  using packed = std::uint8_t;
  using summary = scale_summary;

  static void encode(const weight* group, std::size_t columns, packed* to, summary& seen) noexcept {
    using sums = bf16_block_sums<zmm_float, bf16_dot_product>;
    for (std::size_t c = 0; c < prepared::columns; ++c) {
      alignas(64) bfloat16 values[32];
      const bool zeros = decode(group[c], values);
      for (std::size_t i = 0; i < 16; ++i) std::memcpy(to + i * sums::register_bytes + 4 * c, values + 2 * i, 4);
      const float scale = mx_scale_of(group[c], zeros, M::unit_exponent, c < columns, seen);
      std::memcpy(to + sums::code_bytes + 4 * c, &scale, 4);
    }
  }
  template <class Rows>
  static void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count, bf16_block* to,
                      std::size_t stride, const summary&, summary& seen) noexcept {
    for (std::size_t r = 0; r < row_count; ++r)
      for (std::size_t b = 0; b < count; ++b) {
        const activation& from = rows[r][offset + b];
        auto& block = to[r * stride + b];
        const bool zeros = decode(from, block.values);
        block.scale = mx_scale_of(from, zeros, 0, true, seen);
        block.power = power_of(block.scale);
      }
  }
  static constexpr std::size_t mode(const summary& weights, const summary& activations) noexcept {
    return mx_mode<M>(weights, activations);
  }

 private:
  /// The numbers of a block, e3m2 as integers; are all of them zeros?
  static POLYMAC_INLINE bool decode(const activation& from, bfloat16* to) noexcept {
    if constexpr (activation::traits::width == 8) {
      const __m512i all = fp8_conversion<typename activation::element>::convert(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.codes)));
      _mm512_storeu_si512(to, all);
      return _mm512_test_epi16_mask(all, _mm512_set1_epi16(0x7FFF)) == 0;
    } else {
      bool zeros = true;
      for (std::size_t k = 0; k < 32; ++k) {
        const int value = M::traits::integer(from[k]);
        zeros = zeros && value == 0;
        to[k] = bfloat16(static_cast<float>(value));
      }
      return zeros;
    }
  }
};

#endif

}  // namespace detail

#if defined(__AVX512VNNI__)
template <int Bits, class Encoding>
requires(Bits != 8) struct atom<mac::bit_weights<Bits, Encoding, 0>, avx512_vnni>
    : detail::code_atom<mac::bit_weights<Bits, Encoding, 0>, detail::panel_bits<Bits>> {
};
template <int Bits, class Encoding, std::size_t Group>
requires(Group > 0) struct atom<mac::bit_weights<Bits, Encoding, Group>, avx512_vnni>
    : detail::group_atom<mac::bit_weights<Bits, Encoding, Group>> {
};
template <class Element, mx_scale Scale>
requires(mac::mx<Element, Scale>::sums_integers &&
         !std::is_same_v<Element, e3m2>) struct atom<mac::mx<Element, Scale>, avx512_vnni>
    : detail::integer_mx_atom<mac::mx<Element, Scale>> {
};
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)
template <class Element, mx_scale Scale>
requires(!mac::mx<Element, Scale>::sums_integers ||
         std::is_same_v<Element, e3m2>) struct atom<mac::mx<Element, Scale>, avx512_bf16>
    : detail::bf16_mx_atom<mac::mx<Element, Scale>> {
};
#endif

/// The atom of bf16 where the set has one of its own.
template <class Code, class I>
requires(Code::special != special_codes::negative_zero && !std::is_same_v<I, scalar> &&
         requires { sizeof(atom<mac::bf16, I>); }) struct atom<mac::fp8<Code>, I>
    : detail::converted_atom<mac::fp8<Code>, atom<mac::bf16, I>, detail::fp8_conversion<Code>> {
};

}  // namespace isa
POLYMAC_END

#endif
