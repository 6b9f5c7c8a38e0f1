// SPDX-License-Identifier: MIT
// Floats of 8 bits as bf16 (mac::fp8): the atoms of bf16 on codes that are widened once (converted.hpp).
//
//   intrinsic                        instruction               Zen 4        Granite Rapids
//   _mm512_permutex2var_epi16        vpermt2w zmm              1/cycle      1 in 2 cycles      2 for 32 codes
//   without it a look-up in 256 bytes, a code at a time, and the sign
//
//   price: a conversion and a store for the codes of a tile of rows and of the weights, nothing in the steps
//
// Exact, and the order of sums is that of bf16: the same bits as the golden model on every instruction set.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/minifloat.hpp"
#include "polymac/isa/avx2.hpp"
#include "polymac/isa/avx512.hpp"
#include "polymac/isa/avx512_bf16.hpp"
#include "polymac/isa/converted.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/mac/bf16.hpp"
#include "polymac/mac/fp8.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

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

/// Small floats to bf16.
template <class Code>
struct fp8_conversion {
  static_assert(Code::special != special_codes::negative_zero);
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
  /// 32 at a time: two look-ups in 64 words each, and the sign.
  static POLYMAC_INLINE __m512i convert(__m256i codes) noexcept {
    const std::uint16_t* const table = bf16_of_codes<Code>.of;
    const __m512i words = _mm512_cvtepu8_epi16(codes);
    const __m512i low = _mm512_permutex2var_epi16(_mm512_load_si512(table), words, _mm512_load_si512(table + 32));
    const __m512i high = _mm512_permutex2var_epi16(_mm512_load_si512(table + 64), words, _mm512_load_si512(table + 96));
    const __mmask32 upper = _mm512_test_epi16_mask(words, _mm512_set1_epi16(64));
    const __m512i sign = _mm512_slli_epi16(_mm512_and_si512(words, _mm512_set1_epi16(128)), 8);
    return _mm512_or_si512(_mm512_mask_mov_epi16(low, upper, high), sign);
  }
  static POLYMAC_INLINE void convert(const void* codes, bfloat16* to, std::size_t count) noexcept {
    const auto* const from = static_cast<const std::uint8_t*>(codes);
    std::size_t i = 0;
    for (; i + 32 <= count; i += 32)
      _mm512_storeu_si512(to + i, convert(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i))));
    if (i == count) return;
    const __mmask32 rest = (1u << (count - i)) - 1;
    _mm512_mask_storeu_epi16(to + i, rest, convert(_mm256_maskz_loadu_epi8(rest, from + i)));
  }
#else
  static POLYMAC_INLINE void convert(const void* codes, bfloat16* to, std::size_t count) noexcept {
    const auto* const from = static_cast<const std::uint8_t*>(codes);
    for (std::size_t i = 0; i < count; ++i)
      to[i].bits = static_cast<std::uint16_t>(bf16_of_codes<Code>.of[from[i] & 127u] | (from[i] & 128u) << 8);
  }
#endif
};

}  // namespace detail

/// The atom of bf16 where the set has one of its own.
template <class Code, class I>
requires(Code::special != special_codes::negative_zero && !std::is_same_v<I, scalar> &&
         requires { sizeof(atom<mac::bf16, I>); }) struct atom<mac::fp8<Code>, I>
    : detail::converted_atom<mac::fp8<Code>, atom<mac::bf16, I>, detail::fp8_conversion<Code>> {
};

}  // namespace isa
POLYMAC_END
