// SPDX-License-Identifier: MIT
// Taps of the depthwise kernel in floats, 512 bits: a fused multiply-add for 16 channels, a tap and an output pixel.
//
//   block of 6 pixels x 2 groups of 16 channels: 12 sums, 6 weights of a kernel line, 1 activation; of 32 registers.
//   A 3 x 3 kernel at stride 1 loads 18 weights and 3 x 8 x 2 activations for its 108 multiply-adds, two of which start
//   in a cycle, as two loads do.
//
// Every sum runs in the order of the taps, whatever the block is. float32_unfused rounds product and sum: its product
// has a rounding mode of its own, which no compiler fuses.
#pragma once

#include "polymac/isa/avx512_lanes.hpp"
#include "polymac/isa/depthwise.hpp"
#include "polymac/mac/float32.hpp"

#include <cstddef>
#include <type_traits>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {
namespace detail {

template <class M>
struct zmm_taps {
  /// sums += products of a line of Width taps. column(i): activations of the i-th column that the block reads; pixels
  /// are Stride columns apart. `count`: channels of the last group.
  template <std::size_t Width, std::size_t Stride, std::size_t Pixels, std::size_t Panels, class Column>
  static POLYMAC_INLINE void line(zmm_floats<Pixels, Panels>& sums, const Column& column, const float* weights,
                                  std::size_t panel_step, std::size_t count) noexcept {
    __m512 w[Width][Panels];
    POLYMAC_UNROLL
    for (std::size_t k = 0; k < Width; ++k) POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) w[k][p] = _mm512_load_ps(weights + k * lane_columns + p * panel_step);
    POLYMAC_UNROLL
    for (std::size_t c = 0; c < (Pixels - 1) * Stride + Width; ++c) {
      const float* const x = column(c);
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) {
        const __m512 a = load<Panels>(x, p, count);
        POLYMAC_UNROLL
        for (std::size_t i = 0; i < Pixels; ++i)
          if (i * Stride <= c && c - i * Stride < Width) add(sums.v[i * Panels + p], a, w[c - i * Stride][p]);
      }
    }
  }
  /// sums += products of one tap. pixel(i): its activations for the i-th pixel.
  template <std::size_t Pixels, std::size_t Panels, class Pixel>
  static POLYMAC_INLINE void tap(zmm_floats<Pixels, Panels>& sums, const Pixel& pixel, const float* weights,
                                 std::size_t panel_step, std::size_t count) noexcept {
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) {
      const __m512 w = _mm512_load_ps(weights + p * panel_step);
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Pixels; ++i) add(sums.v[i * Panels + p], load<Panels>(pixel(i), p, count), w);
    }
  }

 private:
  template <std::size_t Panels>
  static POLYMAC_INLINE __m512 load(const float* x, std::size_t panel, std::size_t count) noexcept {
    if (panel + 1 < Panels || count == lane_columns) return _mm512_loadu_ps(x + panel * lane_columns);
    return _mm512_maskz_loadu_ps(first_lanes(count), x + panel * lane_columns);
  }
  static POLYMAC_INLINE void add(__m512& sum, __m512 a, __m512 w) noexcept {
    if constexpr (std::is_same_v<M, mac::float32>)
      sum = _mm512_fmadd_ps(a, w, sum);
    else
      sum = _mm512_add_ps(sum, _mm512_mul_round_ps(a, w, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};

}  // namespace detail

template <>
struct depthwise_taps<mac::float32, avx512> : detail::zmm_taps<mac::float32> {};
template <>
struct depthwise_taps<mac::float32_unfused, avx512> : detail::zmm_taps<mac::float32_unfused> {};

}  // namespace isa
POLYMAC_END

#endif
