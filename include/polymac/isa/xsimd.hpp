// SPDX-License-Identifier: MIT
// The generic float atom, for every instruction set that xsimd knows: one panel is one batch wide, a step is one k.
//
//   price per step: 1 load per panel, 1 broadcast load per row, Rows x Panels fused multiply-adds
//   AVX-512: 16 lanes, 2 FMA/cycle, latency 4, 32 registers -> 12 rows x 2 panels (24 sums + 2 weights + 1 activation)
//   AVX2:     8 lanes, 2 FMA/cycle, latency 4, 16 registers ->  6 rows x 2 panels (12 + 2 + 1)
//   SSE2:     4 lanes, no FMA,                 16 registers ->  6 rows x 2 panels
//   NEON:     4 lanes, 2 FMA/cycle, latency 4, 32 registers ->  8 rows x 3 panels (24 + 3 + 1)
//
//                   panel 0    panel 1
//            k      w ... w    w ... w
//   row 0    a      s ... s    s ... s
//   row 1    a      s ... s    s ... s
//
// Sums run in the order of k for every output on its own; fused where the machine fuses. mac::float32 states the bound.
#pragma once

#include "polymac/isa/intrinsics.hpp"  // before xsimd, which includes them without a word on their warnings
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/mac/float32.hpp"

#if POLYMAC_HAS_XSIMD

#include <xsimd/xsimd.hpp>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Register budget and xsimd architecture of an instruction set.
template <class I>
struct float_tile;
#if defined(__SSE2__)
template <>
struct float_tile<sse2> {
  using arch = xsimd::sse2;
  static constexpr std::size_t registers = 16;
  static constexpr std::size_t max_rows = 6, max_panels = 2;
};
#endif
#if defined(__AVX2__) && defined(__FMA__)
template <>
struct float_tile<avx2> {
  using arch = xsimd::fma3<xsimd::avx2>;
  static constexpr std::size_t registers = 16;
  static constexpr std::size_t max_rows = 6, max_panels = 2;
};
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
template <>
struct float_tile<avx512> {
  using arch = xsimd::avx512bw;
  static constexpr std::size_t registers = 32;
  static constexpr std::size_t max_rows = 12, max_panels = 2;
};
#endif
#if defined(__ARM_NEON) && defined(__aarch64__)
template <>
struct float_tile<neon> {
  using arch = xsimd::neon64;
  static constexpr std::size_t registers = 32;
  static constexpr std::size_t max_rows = 8, max_panels = 3;
};
#endif

/// a * w + sum, fused where the architecture fuses, and nowhere else: where flags allow more than the architecture,
/// g++ fuses products and sums in one tile and not in another, and bits would depend on the height of a tile.
template <class Batch>
POLYMAC_INLINE Batch multiply_add(const Batch& a, const Batch& w, const Batch& sum) noexcept {
#if defined(__SSE2__) && defined(__GNUC__)
  if constexpr (std::is_same_v<typename Batch::arch_type, xsimd::sse2>) {
    Batch product = a * w;
    __asm__("" : "+x"(product.data));
    return product + sum;
  }
#endif
#if defined(__AVX512F__)
  // xsimd 8 has a product and a sum here; g++ fuses them, clang++ does not and is a third slower.
  if constexpr (sizeof(Batch) == 64) return Batch(_mm512_fmadd_ps(a, w, sum));
#endif
  return xsimd::fma(a, w, sum);
}

/// A register of weights from the elements that panels hold: floats, or what an atom widens on the way (halves.hpp).
template <class I, class Stored>
struct weight_register {
  using batch = xsimd::batch<float, typename float_tile<I>::arch>;
  static POLYMAC_INLINE batch load(const float* from) noexcept { return batch::load_unaligned(from); }
};

/// The steps of products and sums in floats, in tiles of at most MaxRows x MaxPanels. Stored: the elements of panels.
template <class I, class Stored, std::size_t MaxRows = float_tile<I>::max_rows,
          std::size_t MaxPanels = float_tile<I>::max_panels>
struct float_steps {
  using mac = polymac::mac::float32;
  using isa = I;
  using activation = float;
  using weight = Stored;
  using accumulator = float;
  using batch = xsimd::batch<float, typename float_tile<I>::arch>;
  static constexpr std::size_t columns = batch::size;
  static constexpr std::size_t depth = 1;
  static constexpr std::size_t max_rows = MaxRows;
  static constexpr std::size_t max_panels = MaxPanels;
  static constexpr std::size_t tall_rows = float_tile<I>::registers >= 32 ? 24 : max_rows;
  static constexpr int activation_offset = 0;
  /// Panels of the best tile of so many rows.
  static constexpr std::size_t panels_for(std::size_t rows) noexcept {
    const std::size_t panels = panels_that_fit(rows, 1, 1, float_tile<I>::registers);
    return rows <= 6 && panels > max_panels ? panels : max_panels;
  }

  template <std::size_t Rows, std::size_t Panels>
  struct tile {
    batch sums[Rows][Panels];
  };

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void start(tile<Rows, Panels>& t, const accumulator* starts, std::size_t stride) noexcept {
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) {
      const batch first = batch::load_unaligned(starts + p * stride);
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) t.sums[r][p] = first;
    }
  }

  /// Takes up sums that `store` has left.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void resume(tile<Rows, Panels>& t, const accumulator* sums,
                                    std::size_t stride = Panels * columns) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) t.sums[r][p] = batch::load_unaligned(sums + r * stride + p * columns);
  }

  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(tile<Rows, Panels>& t, const Places& rows, std::size_t offset, const weight* weights,
                                  std::size_t stride) noexcept {
    batch w[Panels];
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) w[p] = weight_register<I, Stored>::load(weights + p * stride);
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const batch a(rows[r][offset]);
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) t.sums[r][p] = multiply_add(a, w[p], t.sums[r][p]);
    }
  }

  /// Are there registers for `finish`: the sums, two groups of weights, two activations?
  static constexpr bool finishes_tiles =
      keeps_order_of<sizeof(batch)> && max_rows * max_panels + 2 * max_panels + 2 <= float_tile<I>::registers;
  /// The last two steps and the store, of the last panel the first `last` columns, or all_lanes.
  template <std::size_t Rows, std::size_t Panels, class Places, class Last>
  static POLYMAC_INLINE void finish(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                    const weight* weights, std::size_t stride, accumulator* sums,
                                    std::size_t sums_stride, Last last) noexcept {
    const auto lanes = lanes_below(last);
    batch w[2][Panels], a[2];
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < 2 * Panels; ++i)
      w[i / Panels][i % Panels] =
          weight_register<I, Stored>::load(weights + i % Panels * stride + i / Panels * columns);
    const auto take = [&](std::size_t group, std::size_t row, std::size_t p) POLYMAC_INLINE_LAMBDA {
      if (p == 0) a[group] = batch(rows[row][offset + group]);
      t.sums[row][p] = multiply_add(a[group], w[group][p], t.sums[row][p]);
    };
    accumulator* to[] = {sums};
    for_each_finished<Rows, Panels>(
        [&](std::size_t row, std::size_t p) POLYMAC_INLINE_LAMBDA {
          take(0, row, p);
          keep_in_order(t.sums[row][p].data);
        },
        [&](std::size_t row, std::size_t p) POLYMAC_INLINE_LAMBDA {
          take(1, row, p);
          if (p + 1 < Panels) {
            store_in_order(to[0] + p * columns, t.sums[row][p].data);
          } else {
            store_in_order(to[0] + p * columns, t.sums[row][p].data, lanes);
            to[0] += sums_stride;
            keep_pointers(to);
          }
        });
  }

#if defined(__AVX512F__)
  /// Stores all panels but the last one, and of that the first `last` columns.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void store_part(const tile<Rows, Panels>& t, accumulator* sums, std::size_t stride,
                                        std::size_t last) noexcept requires(sizeof(batch) == 64) {
    const auto mask = static_cast<__mmask16>((1u << last) - 1);
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t p = 0; p + 1 < Panels; ++p) t.sums[r][p].store_unaligned(sums + r * stride + p * columns);
      _mm512_mask_storeu_ps(sums + r * stride + (Panels - 1) * columns, mask, t.sums[r][Panels - 1]);
    }
  }
#endif

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void store(const tile<Rows, Panels>& t, accumulator* sums,
                                   std::size_t stride = Panels * columns) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) t.sums[r][p].store_unaligned(sums + r * stride + p * columns);
  }
};

}  // namespace detail

template <class I>
requires requires { typename detail::float_tile<I>::arch; }
struct atom<mac::float32, I> : detail::float_steps<I, float> {};

}  // namespace isa
POLYMAC_END

#endif
