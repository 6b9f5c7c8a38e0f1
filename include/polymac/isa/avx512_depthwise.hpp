// SPDX-License-Identifier: MIT
// Taps of the depthwise kernel in floats, 512 bits: a fused multiply-add for 16 channels, a tap and an output pixel.
//
//   tile of 4 lines x 3 pixels of 16 channels: 12 sums, 9 weights, 1 activation; of 32 registers.
//   At stride 1 it loads 9 weights and 6 x 5 activations for 108 multiply-adds, two of which start in a cycle, as two
//   loads do; at stride 2 it loads 9 x 7 activations. Zen 4 starts one multiply-add and one load of 512 bits in a cycle,
//   so that at stride 2 both bound it: tiles of 2 x 2 load 9 + 5 x 5 for 36.
//
// Every sum runs in the order of the taps, whatever the tile is. float32_unfused rounds product and sum: its product
// has a rounding mode of its own, which no compiler fuses.
#pragma once

#include "polymac/isa/avx512_lanes.hpp"
#include "polymac/isa/depthwise.hpp"
#include "polymac/isa/lane_tile.hpp"
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
  /// Lines and pixels of a tile. Zen 4 reads few lines at a time faster where they come from its L3 cache: an image of
  /// 56 x 56 x 128 in 28 us instead of 31, although from L1 the small tiles take 19 instead of 18.
  template <std::size_t Stride>
  static constexpr std::size_t rows = Stride == 2 && POLYMAC_IS_ZEN ? 2 : 4;
  template <std::size_t Stride>
  static constexpr std::size_t pixels = Stride == 2 && POLYMAC_IS_ZEN ? 2 : 3;

  /// starts + products of a 3 x 3 kernel, Rows x Pixels of them, Stride lines and columns apart. from.pixel(i): 16
  /// activations (`count` unless Whole) of a line's i-th pixel; from.next_line() leads to the next one. done(row, pixel,
  /// sums) as soon as they are complete: their stores stand among the products of others.
  template <std::size_t Rows, std::size_t Pixels, std::size_t Stride, bool Whole, class Lines, class Done>
  static POLYMAC_INLINE void tile(Lines from, const float* weights, const float* starts, std::size_t count,
                                  Done&& done) noexcept {
    constexpr std::size_t kernel = 3;
    __m512 w[kernel * kernel];
    POLYMAC_UNROLL
    for (std::size_t k = 0; k < kernel * kernel; ++k) w[k] = _mm512_load_ps(weights + k * lane_columns);
    zmm_floats<1, 1> sums[Rows][Pixels];
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) POLYMAC_UNROLL
    for (std::size_t x = 0; x < Pixels; ++x) sums[r][x] = zmm_floats<1, 1>::load(starts, 0);
    POLYMAC_UNROLL
    for (std::size_t line = 0; line < (Rows - 1) * Stride + kernel; ++line) {
      if (line > 0) from.next_line();
      POLYMAC_UNROLL
      for (std::size_t column = 0; column < (Pixels - 1) * Stride + kernel; ++column) {
        const float* const pixel = from.pixel(column);
        __m512 a = Whole ? _mm512_loadu_ps(pixel) : _mm512_maskz_loadu_ps(first_lanes(count), pixel);
        // Loaded once where there are several products; g++ would load it for each.
        if (Stride == 1 || line % 2 == 0 || column % 2 == 0) keep_in_order(a);
        POLYMAC_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) POLYMAC_UNROLL
        for (std::size_t x = 0; x < Pixels; ++x) {
          const std::size_t ky = line - r * Stride, kx = column - x * Stride;  // beyond the kernel they wrap around
          if (ky < kernel && kx < kernel) add(sums[r][x].v[0], a, w[ky * kernel + kx]);
          if (ky + 1 == kernel && kx + 1 == kernel) done(r, x, sums[r][x]);
        }
      }
    }
  }
  /// sums += products of one tap. pixel(i): `count` activations of the i-th pixel.
  template <std::size_t Pixels, class Pixel>
  static POLYMAC_INLINE void tap(zmm_floats<Pixels, 1>& sums, const Pixel& pixel, const float* weights,
                                 std::size_t count) noexcept {
    const __m512 w = _mm512_load_ps(weights);
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < Pixels; ++i) add(sums.v[i], _mm512_maskz_loadu_ps(first_lanes(count), pixel(i)), w);
  }

 private:
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
