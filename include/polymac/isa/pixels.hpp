// SPDX-License-Identifier: MIT
// Copies of pixels into a frame: an image with its padding around it and its channels filled up.
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "polymac/isa/intrinsics.hpp"
#endif

POLYMAC_BEGIN
namespace isa {

/// Copies `pixels` pixels of `channels` elements, `from_stride` apart, to places `to_stride` apart; what is between
/// them there becomes zero. Nothing is read or written beyond the pixels.
template <class Element>
constexpr void copy_pixels(Element* to, std::size_t to_stride, const Element* from, std::size_t from_stride,
                           std::size_t channels, std::size_t pixels) noexcept {
  if (!std::is_constant_evaluated() && to_stride == channels && (from_stride == channels || pixels == 1)) {
    std::memcpy(to, from, pixels * channels * sizeof(Element));
    return;
  }
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  if constexpr (4 % sizeof(Element) == 0) {
    // RGB to four channels, sixteen pixels at a time: of 16 bytes that hold at least four pixels each quarter of a
    // register takes its own.
    const std::size_t bytes = channels * sizeof(Element);
    if (!std::is_constant_evaluated() && bytes <= 4 && to_stride * sizeof(Element) == 4 && from_stride == channels) {
      const __mmask64 kept = 0x1111'1111'1111'1111u * ((1u << bytes) - 1);
      const auto quarter = static_cast<__mmask16>((1u << 4 * bytes) - 1);
      alignas(16) char order[16]{};
      for (std::size_t i = 0; i < 16; ++i) order[i] = static_cast<char>(i / 4 * bytes + i % 4);
      const __m512i picked = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(order)));
      for (; pixels >= 16; pixels -= 16, from += 16 * channels, to += 16 * to_stride) {
        __m512i all = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(quarter, from));
        all = _mm512_inserti32x4(all, _mm_maskz_loadu_epi8(quarter, from + 4 * channels), 1);
        all = _mm512_inserti32x4(all, _mm_maskz_loadu_epi8(quarter, from + 8 * channels), 2);
        all = _mm512_inserti32x4(all, _mm_maskz_loadu_epi8(quarter, from + 12 * channels), 3);
        _mm512_storeu_si512(to, _mm512_maskz_shuffle_epi8(kept, all, picked));
      }
    }
  }
#endif
  for (; pixels > 0; --pixels, from += from_stride, to += to_stride) {
    for (std::size_t c = 0; c < channels; ++c) to[c] = from[c];
    for (std::size_t c = channels; c < to_stride; ++c) to[c] = Element{};
  }
}

}  // namespace isa
POLYMAC_END
