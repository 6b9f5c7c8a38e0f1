// SPDX-License-Identifier: MIT
// AVX-512 VNNI: dot products of 4 bytes or 2 words per lane.
//
//   intrinsic               instruction               Zen 5            Sapphire/Granite Rapids
//   _mm512_dpbusd_epi32     vpdpbusd zmm, zmm, zmm    4 cy, 2/cycle    5 cy, 2/cycle
//   _mm512_dpwssd_epi32     vpdpwssd zmm, zmm, zmm    4 cy, 2/cycle    5 cy, 2/cycle
//   _mm512_set1_epi32       vpbroadcastd zmm, m32     2/cycle          2/cycle, shares the load ports with the panels
//   _mm512_xor_si512        vpxord zmm, zmm, zmm      4/cycle          2/cycle, on the ports of vpdpbusd
//
//   tile of int8: up to 12 rows x 2 panels of 16 columns, 4 deep
//
//                              panel 0                 panel 1
//                         c0   c1  ... c15        c16  c17 ... c31
//      k..k+3             wwww wwww    wwww       wwww wwww    wwww      one zmm each
//   row 0   aaaa           s    s       s          s    s       s        one zmm each: 24 accumulators,
//   ...                                                                  2 weights, 1 activation, 1 constant: 28 of 32
//   row 11  aaaa           s    s       s          s    s       s
//
// vpdpbusd takes unsigned activations. A signed one is turned into a + 128 by flipping its top bit; packing takes
// 128 * sum(w) off the start value of the column. All sums are modulo 2^32, so the surplus cannot do harm, and vpdpbusd
// adds its four products to the lane without saturation: the result equals the golden model for every input.
#pragma once

#include "polymac/isa/isa.hpp"
#include "polymac/mac/int16x8.hpp"
#include "polymac/mac/int8.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)

#include <immintrin.h>

#include <cstring>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// What the atoms of this file share: tiles of 512-bit lanes with 32-bit sums, 16 columns to a panel.
template <class M, std::size_t Depth, class Product>
struct vnni512 {
  using mac = M;
  using isa = avx512_vnni;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using accumulator = std::int32_t;
  static constexpr std::size_t columns = 16;
  static constexpr std::size_t depth = Depth;
  static constexpr std::size_t max_rows = 12;
  static constexpr std::size_t max_panels = 2;
  static constexpr int activation_offset = Product::activation_offset;

  template <std::size_t Rows, std::size_t Panels>
  struct tile {
    __m512i sums_i32x16[Rows][Panels];
  };

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void start(tile<Rows, Panels>& t, const accumulator* starts, std::size_t stride) noexcept {
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) {
      const __m512i start_i32x16 = _mm512_loadu_si512(starts + p * stride);
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) t.sums_i32x16[r][p] = start_i32x16;
    }
  }

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void step(tile<Rows, Panels>& t, const activation* const* rows, std::size_t offset,
                                  const weight* weights, std::size_t stride) noexcept {
    __m512i weights_v[Panels];
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) weights_v[p] = Product::load(weights + p * stride);
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      std::int32_t group;  // depth activations are four bytes
      static_assert(Depth * sizeof(activation) == sizeof(group));
      std::memcpy(&group, rows[r] + offset, sizeof(group));
      const __m512i activations_v = Product::prepare(_mm512_set1_epi32(group));
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p)
        t.sums_i32x16[r][p] = Product::multiply_add(t.sums_i32x16[r][p], activations_v, weights_v[p]);
    }
  }

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void store(const tile<Rows, Panels>& t, accumulator* sums) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r)
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p)
        _mm512_storeu_si512(sums + (r * Panels + p) * columns, t.sums_i32x16[r][p]);
  }
};

struct product_u8s8_512 {
  static constexpr int activation_offset = 0;
  static POLYMAC_INLINE __m512i load(const std::int8_t* weights) noexcept { return _mm512_loadu_si512(weights); }
  static POLYMAC_INLINE __m512i prepare(__m512i activations_u8x64) noexcept { return activations_u8x64; }
  static POLYMAC_INLINE __m512i multiply_add(__m512i sum, __m512i activations_u8x64, __m512i weights_i8x64) noexcept {
    return _mm512_dpbusd_epi32(sum, activations_u8x64, weights_i8x64);
  }
};

struct product_s8s8_512 : product_u8s8_512 {
  static constexpr int activation_offset = 128;
  static POLYMAC_INLINE __m512i prepare(__m512i activations_i8x64) noexcept {
    return _mm512_xor_si512(activations_i8x64, _mm512_set1_epi8(-128));
  }
};

struct product_s16s8_512 {
  static constexpr int activation_offset = 0;
  static POLYMAC_INLINE __m512i load(const std::int8_t* weights) noexcept {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)));
  }
  static POLYMAC_INLINE __m512i prepare(__m512i activations_i16x32) noexcept { return activations_i16x32; }
  static POLYMAC_INLINE __m512i multiply_add(__m512i sum, __m512i activations_i16x32, __m512i weights_i16x32) noexcept {
    return _mm512_dpwssd_epi32(sum, activations_i16x32, weights_i16x32);
  }
};

}  // namespace detail

template <>
struct atom<mac::int8, avx512_vnni> : detail::vnni512<mac::int8, 4, detail::product_s8s8_512> {};
template <>
struct atom<mac::uint8, avx512_vnni> : detail::vnni512<mac::uint8, 4, detail::product_u8s8_512> {};
template <>
struct atom<mac::int16x8, avx512_vnni> : detail::vnni512<mac::int16x8, 2, detail::product_s16s8_512> {};

}  // namespace isa
POLYMAC_END

#endif
