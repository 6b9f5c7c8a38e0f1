// SPDX-License-Identifier: MIT
// Quads of the depthwise kernel on 512 bits, and their products by vpdpbusd.
//
//   instruction                          Zen 5        Golden Cove
//   vpunpcklbw, vpunpckhwd, ... zmm      2/cycle      1/cycle (p5)
//   vpermd zmm                           2/cycle      1/cycle (p5)
//   vpdpbusd zmm                         2/cycle      2/cycle (p0, p5)
//
//   price of 16 sums of a 3 x 3 kernel at stride 1, two lines of output at a time:
//     making quads   2 xor, 2 permd, 2 + 4 punpck for 64 channels of a column: 10 for 8 x 16 sums       1.25
//       (squares at stride 2: 4 xor, 4 permt2d, 4 + 4 punpck for 2 columns: 16 for 4 x 16 sums            4)
//     products       3 vpdpbusd (9 of 12 taps are weights); of squares 4 (9 of 16)                       3
//     rounded line   1 fma, and for 64 sums 2 pshufb, packsswb, pshufb, permd, 2 for the clamp           2.75
//     rounded twice  1 addition more                                                                     3.75
//
//   A row of 64 activations is permuted before it is interleaved, because the interleaving works in quarters:
//     dwords 0 4 8 12 | 1 5 9 13 | ..   ->   punpck[lh]bw, then punpck[lh]wd   ->   channels 0 .. 15 | 16 .. 31 | ..
//
// Registers of a block of two lines, 64 sums each: 8 sums, 12 weights, 4 quads; of 32.
#pragma once

#include "polymac/isa/avx512_lanes.hpp"
#include "polymac/isa/depthwise.hpp"
#include "polymac/mac/int8.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {
namespace detail {

template <class M>
struct zmm_quads {
  static constexpr bool flips = std::is_signed_v<typename M::activation>;
  static constexpr int activation_offset = flips ? 128 : 0;

  /// Of `chunks` times 64 activations of two lines. Fetches what lies `ahead` bytes behind them into the cache.
  static POLYMAC_INLINE void make_pairs(const quad_line& a, const quad_line& b, std::size_t ahead, std::uint8_t* pairs,
                                        std::size_t chunks) noexcept {
    const auto *from_a = static_cast<const std::uint8_t*>(a.at), *from_b = static_cast<const std::uint8_t*>(b.at);
    for (std::size_t i = 0; i < chunks; ++i, from_a += a.step, from_b += b.step) {
      const __m512i p = in_quarters(unsigned_of(from_a)), q = in_quarters(unsigned_of(from_b));
      if (ahead > 0) fetch(from_a + ahead), fetch(from_b + ahead);
      _mm512_store_si512(pairs + i * 128, _mm512_unpacklo_epi8(p, q));
      _mm512_store_si512(pairs + i * 128 + 64, _mm512_unpackhi_epi8(p, q));
    }
  }
  /// Of `chunks` times 128 activations of two lines, in columns of `channels`: 16, 32 or 64.
  /// The hardware fetches them well enough.
  static POLYMAC_INLINE void make_squares(const quad_line& a, const quad_line& b, std::uint8_t* squares,
                                          std::size_t chunks, std::size_t channels) noexcept {
    const auto *from_a = static_cast<const std::uint8_t*>(a.at), *from_b = static_cast<const std::uint8_t*>(b.at);
    // Dword i of the even columns is dword i + (i / width * width) of the chunk, where a column has `width` dwords.
    const __m128i width_log2 = _mm_cvtsi32_si128(channels == 64 ? 4 : channels == 32 ? 3 : 2);
    const __m512i place = quarters(), column = _mm512_sll_epi32(_mm512_srl_epi32(place, width_log2), width_log2);
    const __m512i even = _mm512_add_epi32(place, column);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(static_cast<int>(channels / 4)));
    for (std::size_t i = 0; i < chunks; ++i, from_a += a.step, from_b += b.step, squares += 256) {
      const __m512i a0 = unsigned_of(from_a), a1 = unsigned_of(from_a + a.half);
      const __m512i b0 = unsigned_of(from_b), b1 = unsigned_of(from_b + b.half);
      const __m512i ea = _mm512_permutex2var_epi32(a0, even, a1), oa = _mm512_permutex2var_epi32(a0, odd, a1);
      const __m512i eb = _mm512_permutex2var_epi32(b0, even, b1), ob = _mm512_permutex2var_epi32(b0, odd, b1);
      store_quads(squares, _mm512_unpacklo_epi8(ea, eb), _mm512_unpacklo_epi8(oa, ob));
      store_quads(squares + 128, _mm512_unpackhi_epi8(ea, eb), _mm512_unpackhi_epi8(oa, ob));
    }
  }
  /// Of `chunks` times 64 pairs each.
  static POLYMAC_INLINE void make_quads(const std::uint8_t* p, const std::uint8_t* q, std::uint8_t* quads,
                                        std::size_t chunks) noexcept {
    for (std::size_t i = 0; i < chunks; ++i) {
      store_quads(quads + i * 256, _mm512_load_si512(p + i * 128), _mm512_load_si512(q + i * 128));
      store_quads(quads + i * 256 + 128, _mm512_load_si512(p + i * 128 + 64), _mm512_load_si512(q + i * 128 + 64));
    }
  }

  /// Weights and start values of a block in registers, for windows of Slots x Width quads (one term); Width 0 stands
  /// for any window, whose weights stay in memory.
  template <std::size_t Slots, std::size_t Width, std::size_t Rows, std::size_t Panels>
  struct held {
    __m512i weights[Width > 0 ? Slots* Width* Panels* Rows : 1];
    __m512i starts[Panels];
  };
  template <std::size_t Slots, std::size_t Width, std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE held<Slots, Width, Rows, Panels> hold(const quad_source& s) noexcept {
    held<Slots, Width, Rows, Panels> h;
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) {
      h.starts[p] = _mm512_load_si512(s.starts + p * lane_columns);
      POLYMAC_UNROLL
      for (std::size_t k = 0; k < Slots * Width; ++k) POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) h.weights[(k * Panels + p) * Rows + r] = weight(s, p, r, k);
    }
    return h;
  }

  /// The sums of Rows lines of output, Pixels x Panels groups of 16 each, whose quads begin at `quads`. Adjacent:
  /// pixels and taps are equally far apart, so that a column serves several of both.
  template <std::size_t Slots, std::size_t Width, bool Adjacent, std::size_t Rows, std::size_t Pixels,
            std::size_t Panels>
  static POLYMAC_INLINE void products(zmm_sums<Pixels, Panels> (&sums)[Rows], const quad_source& s,
                                      const held<Slots, Width, Rows, Panels>& h, const std::uint8_t* quads) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) POLYMAC_UNROLL
    for (std::size_t i = 0; i < Pixels * Panels; ++i) sums[r].v[i] = h.starts[i % Panels];
    if constexpr (Width > 0 && Adjacent) {
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) POLYMAC_UNROLL
      for (std::size_t slot = 0; slot < Slots; ++slot) POLYMAC_UNROLL
      for (std::size_t column = 0; column < Pixels + Width - 1; ++column) {
        const __m512i q = _mm512_loadu_si512(slot_of(quads, s, slot) + column * s.tap_step + p * 64);
        POLYMAC_UNROLL
        for (std::size_t x = 0; x < Pixels; ++x)
          if (x <= column && column - x < Width) {
            POLYMAC_UNROLL
            for (std::size_t r = 0; r < Rows; ++r)
              add(sums[r].v[x * Panels + p], q, h.weights[((slot * Width + column - x) * Panels + p) * Rows + r]);
          }
      }
    } else if constexpr (Width > 0) {
      static_assert(Slots == 1);
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) POLYMAC_UNROLL
      for (std::size_t k = 0; k < Width; ++k) POLYMAC_UNROLL
      for (std::size_t x = 0; x < Pixels; ++x) {
        const __m512i q = _mm512_loadu_si512(quads + x * s.pixel_step + k * s.tap_step + p * 64);
        POLYMAC_UNROLL
        for (std::size_t r = 0; r < Rows; ++r)
          add(sums[r].v[x * Panels + p], q, h.weights[(k * Panels + p) * Rows + r]);
      }
    } else {
      std::size_t i = 0;
      for (std::size_t t = 0; t < s.terms; ++t)
        for (std::size_t slot = 0; slot < s.slots; ++slot)
          for (std::size_t k = 0; k < s.width; ++k, ++i) POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) {
        __m512i w[Rows];
        POLYMAC_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) w[r] = weight(s, p, r, i);
        POLYMAC_UNROLL
        for (std::size_t x = 0; x < Pixels; ++x) {
          const __m512i q = _mm512_loadu_si512(slot_of(quads, s, slot) + k * s.tap_step + x * s.pixel_step + p * 64);
          POLYMAC_UNROLL
          for (std::size_t r = 0; r < Rows; ++r) add(sums[r].v[x * Panels + p], q, w[r]);
        }
      }
    }
  }

  /// Codes of sums that are rounded lines. `second` counts if they are rounded twice.
  template <class Out, bool Twice, std::size_t Pixels, std::size_t Panels>
  static POLYMAC_INLINE zmm_codes<Out, Pixels, Panels> codes(const zmm_sums<Pixels, Panels>& sums, const float* slopes,
                                                             const float* addends, float second) noexcept {
    constexpr std::size_t groups = Pixels * Panels;
    __m512i rounded[groups];
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) {
      __m512 line = _mm512_fmadd_ps(_mm512_castsi512_ps(sums.v[i]), _mm512_load_ps(slopes + i % Panels * lane_columns),
                                    _mm512_load_ps(addends + i % Panels * lane_columns));
      if constexpr (Twice) line = _mm512_add_ps(line, _mm512_set1_ps(second));
      rounded[i] = _mm512_castps_si512(line);
    }
    zmm_codes<Out, Pixels, Panels> made;
    if constexpr (groups == 4) {
      made.all = bytes_of<Out>(words_of(rounded[0], rounded[1]), words_of(rounded[2], rounded[3]));
    } else {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < groups; ++i) {
        const __m512i words = words_of(rounded[i], rounded[i]);
        made.each[i].v = _mm512_castsi512_si128(bytes_of<Out>(words, words));
      }
    }
    return made;
  }

 private:
  static POLYMAC_INLINE __m512i unsigned_of(const std::uint8_t* from) noexcept {
    const __m512i v = _mm512_loadu_si512(from);
    return flips ? _mm512_xor_si512(v, _mm512_set1_epi8(-128)) : v;
  }
  /// The order of dwords that interleaving in quarters puts right.
  static POLYMAC_INLINE __m512i quarters() noexcept {
    return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  }
  static POLYMAC_INLINE __m512i in_quarters(__m512i v) noexcept { return _mm512_permutexvar_epi32(quarters(), v); }
  /// Into the cache; unaligned, they are two lines of it.
  static POLYMAC_INLINE void fetch(const std::uint8_t* from) noexcept {
    _mm_prefetch(reinterpret_cast<const char*>(from), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(from + 63), _MM_HINT_T0);
  }
  /// 32 quads of 32 pairs each.
  static POLYMAC_INLINE void store_quads(std::uint8_t* to, __m512i a, __m512i b) noexcept {
    _mm512_store_si512(to, _mm512_unpacklo_epi16(a, b));
    _mm512_store_si512(to + 64, _mm512_unpackhi_epi16(a, b));
  }
  static POLYMAC_INLINE const std::uint8_t* slot_of(const std::uint8_t* quads, const quad_source& s,
                                                    std::size_t slot) noexcept {
    return quads + static_cast<std::ptrdiff_t>(slot) * s.slot_step;
  }
  static POLYMAC_INLINE __m512i weight(const quad_source& s, std::size_t panel, std::size_t row,
                                       std::size_t i) noexcept {
    return _mm512_load_si512(s.weights + panel * s.panel_step + row * s.row_step + i * 64);
  }
  static POLYMAC_INLINE void add(__m512i& sums, __m512i quads, __m512i weights) noexcept {
    sums = _mm512_dpbusd_epi32(sums, quads, weights);
  }
  /// The low words of a and b in turn: a0 b0 a1 b1 ...
  static POLYMAC_INLINE __m512i words_of(__m512i a, __m512i b) noexcept {
    const __m512i up = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 1, 4, 4, 4, 5, 8, 8, 8, 9, 12, 12, 12, 13));
    return _mm512_mask_shuffle_epi8(a, 0xCCCC'CCCC'CCCC'CCCCu, b, up);
  }
  /// Saturated bytes of four groups, of which words_of made two, in order.
  template <class Out>
  static POLYMAC_INLINE __m512i bytes_of(__m512i ab, __m512i cd) noexcept {
    const __m512i mixed = std::is_signed_v<Out> ? _mm512_packs_epi16(ab, cd) : _mm512_packus_epi16(ab, cd);
    // a0 b0 a1 b1 a2 b2 a3 b3 c0 d0 ..  ->  a0 a1 a2 a3 | b0 .. | c0 .. | d0 ..  in each quarter, then the quarters
    const __m512i apart = _mm512_shuffle_epi8(
        mixed, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15)));
    return in_quarters(apart);
  }
};

}  // namespace detail

template <>
struct depthwise_quads<mac::int8, avx512_vnni> : detail::zmm_quads<mac::int8> {};
template <>
struct depthwise_quads<mac::uint8, avx512_vnni> : detail::zmm_quads<mac::uint8> {};

}  // namespace isa
POLYMAC_END

#endif
