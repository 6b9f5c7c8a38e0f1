// SPDX-License-Identifier: MIT
// L-Mul on vectors: a product is the 32-bit sum of two words (mac/l_mul.hpp), which is then added as a float.
//
//                       panel 0            panel 1 ...
//            k          w ... w            w ... w         words of weights, cut to m bits
//   row 0    a, here    s ... s            s ... s         a: word of the activation less the constant; here: is it not 0?
//
//   sum += here ? float(a + w) : 0        vpaddd with zeroing, vaddps: as many instructions as a product and a sum;
//                                         without masks of lanes (AVX2, NEON) an addition, an and, an addition
//
// The sum of two words is the product, signs included, unless an operand is 0 (or subnormal, which counts as 0), infinite
// or NaN, or the exponent leaves its range. What there is of that is found out beforehand: of the weights when they are
// packed, of the activations when the rows of a tile are prepared, which has to be done anyway to cut them to m bits. So
// the steps of a tile have three modes:
//
//   0  no weight is 0, no product can leave the range         2 instructions for a product, or 3
//   1  some weights are 0                                     the same, and the addition is masked
//   2  anything                                               each product is checked
//
// Activations of 0 cost nothing: the mask of a row and k is prepared with its word. So are activations so small that none
// of their products is a normal number.
//
// Found on Zen 4 with AVX-512, in registers, of the rate of vpaddd and vaddps: 0.92 in mode 0 (6 rows x 4 panels; the masks are loaded
// once for four panels), 0.78 in mode 1, 0.28 in mode 2. Tried for zeros: a factor of 0 or 1 in a vfmadd instead of the
// addition, 0.79 (products and sums want the same two ports, where additions of floats have two of their own).
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/isa/register_panels.hpp"
#include "polymac/mac/l_mul.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// An activation of a tile: its word less the constant, and the mask "is it not 0?", as V has masks.
struct l_mul_activation {
  std::uint32_t word;
  std::uint32_t here;
};

/// What weights or activations hold.
struct l_mul_summary {
  mac::exponent_range exponents;
  bool zeros = false;
};

/// V, registers of floats:
///   type, lanes, load, store, add, registers     as elsewhere
///   max_rows, max_panels                         of the largest tile
///   row_operand { word, here }, row(const l_mul_activation&)
///                                                what a step takes of an activation
///   product(row_operand, words)                  the product, 0 where the activation is
///   add_where(mask, sums, product)
/// and their words of 32 bits:
///   words, load_words, load_words(from, count)   zeros behind `count`
///   store_words(to, words)
///   broadcast(std::uint32_t)
///   plus, minus, both, either, differing         a + b, a - b, a & b, a | b, a ^ b
///   smaller, greater                             of words below 2^31
///   mask, at_least(a, b), any(mask)              a >= b, without sign
///   select(mask, a, b), keep(mask, a)            mask ? a : b, mask ? a : 0
///   product_where(mask, a, b, c)                 of floats: mask ? a * b : c, as words
///   store_activations(to, words, mask)
template <class V>
struct l_mul_registers : V {
  using words = typename V::words;
  using mask = typename V::mask;
  static constexpr std::uint32_t magnitude_bits = 0x7FFFFFFFu, infinity = 0x7F800000u, least_normal = 0x00800000u;

  static POLYMAC_INLINE mask nonzero(words w) noexcept {
    return V::at_least(V::both(w, V::broadcast(magnitude_bits)), V::broadcast(least_normal));
  }
  /// Any product. M: l_mul_constants.
  template <class M, class Row>
  static POLYMAC_INLINE typename V::type checked_product(const Row& a, words w) noexcept {
    const words magnitude = V::broadcast(magnitude_bits);
    const words x = V::plus(a.word, V::broadcast(M::offset_word));
    const words xm = V::both(x, magnitude), wm = V::both(w, magnitude);
    const words sign = V::both(V::differing(x, w), V::broadcast(~magnitude_bits));
    // Less the least normal number, so that one comparison finds both ends: a product in range is below 0x7F000000, one
    // that overflows up to 0xBF87FFFE, and one that underflows is above, as what is negative is.
    const words sum = V::plus(V::minus(xm, V::broadcast(M::offset_word + least_normal)), wm);
    words made = V::plus(sum, V::broadcast(least_normal));
    made = V::select(V::at_least(sum, V::broadcast(0x7F000000u)), V::broadcast(M::beyond), made);
    made = V::select(V::at_least(sum, V::broadcast(0xC0000001u)), V::broadcast(0), made);
    made = V::keep(nonzero(xm), V::keep(nonzero(wm), made));
    // Infinities and NaN: what IEEE makes of them.
    return V::product_where(V::at_least(V::greater(xm, wm), V::broadcast(infinity)), x, w, V::either(made, sign));
  }

  /// Makes activations of floats, and finds the exponents that there are.
  template <class M>
  struct preparation {
    words least_word, lowest, highest;
    POLYMAC_INLINE preparation(int least, const l_mul_summary& seen) noexcept
        : least_word(V::broadcast(static_cast<std::uint32_t>(least + 127 > 1 ? least + 127 : 1) << 23)),
          lowest(V::broadcast(static_cast<std::uint32_t>(seen.exponents.least + 127) << 23 | 0x7FFFFFu)),
          highest(V::broadcast(static_cast<std::uint32_t>(seen.exponents.most + 127) << 23)) {}
    POLYMAC_INLINE void row(const float* from, std::size_t count, l_mul_activation* to) noexcept {
      row_of<false>(from, count, to);
      // Infinities and NaN, of which all bits count: once more.
      if (V::any(V::at_least(highest, V::broadcast(infinity)))) row_of<true>(from, count, to);
    }
    POLYMAC_INLINE void note(l_mul_summary& seen) const noexcept {
      std::uint32_t low[V::lanes], high[V::lanes];
      V::store_words(low, lowest);
      V::store_words(high, highest);
      for (std::size_t i = 1; i < V::lanes; ++i) {
        low[0] = low[i] < low[0] ? low[i] : low[0];
        high[0] = high[i] > high[0] ? high[i] : high[0];
      }
      seen.exponents.least = static_cast<int>(low[0] >> 23) - 127;
      seen.exponents.most = static_cast<int>(high[0] >> 23) - 127;
    }

   private:
    template <bool Special>
    POLYMAC_INLINE void row_of(const float* from, std::size_t count, l_mul_activation* to) noexcept {
      std::size_t i = 0;
      for (; i + V::lanes <= count; i += V::lanes) write<Special>(V::load_words(from + i), to + i);
      if (i < count) write<Special>(V::load_words(from + i, count - i), to + i);
    }
    template <bool Special>
    POLYMAC_INLINE void write(words bits, l_mul_activation* to) noexcept {
      const words magnitude = V::both(bits, V::broadcast(magnitude_bits));
      const mask here = V::at_least(magnitude, least_word);
      lowest = V::select(here, V::smaller(lowest, magnitude), lowest);
      highest = V::greater(highest, magnitude);  // zeros do not matter here, and neither do subnormals
      // Of infinities and NaN all bits count, of the others those that are kept. What is not here is masked, whatever it
      // is; where there are infinities among weights its zero is wanted.
      words word = V::both(bits, V::broadcast(M::mask));
      if constexpr (Special) word = V::select(V::at_least(magnitude, V::broadcast(infinity)), bits, word);
      V::store_activations(to, V::minus(word, V::broadcast(M::offset_word)), here);
    }
  };
};

/// What checked products are told. The paper's l_mul<3> and l_mul<4> have the same, and hence the same steps.
template <std::uint32_t OffsetWord, std::uint32_t Beyond>
struct l_mul_constants {
  static constexpr std::uint32_t offset_word = OffsetWord, beyond = Beyond;
};

/// The steps of a tile.
template <class Constants, class I, class V>
struct l_mul_steps : register_panels<V, float> {
  using registers = l_mul_registers<V>;
  using isa = I;
  using activation = l_mul_activation;
  using packed = std::uint32_t;
  using weight = packed;
  static constexpr std::size_t columns = V::lanes;
  static constexpr std::size_t depth = 1;
  static constexpr std::size_t group_elements = columns;
  static constexpr std::size_t max_rows = V::max_rows;
  static constexpr std::size_t max_panels = V::max_panels;
  static constexpr int activation_offset = 0;
  static constexpr std::size_t modes = 3, tile_modes = 2;
  /// Panels of the best tile of so many rows.
  static constexpr std::size_t panels_for(std::size_t rows) noexcept {
    const std::size_t panels = panels_that_fit(rows, 1, 1, V::registers);
    return rows <= max_rows / 2 && panels > max_panels ? panels : max_panels;
  }

  template <std::size_t Rows, std::size_t Panels>
  using tile = register_sums<V, Rows, Panels>;

  template <std::size_t Mode, std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step_in(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                     const packed* weights, std::size_t stride) noexcept {
    typename V::words w[Panels];
    [[maybe_unused]] typename V::mask nonzero[Panels];
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) {
      w[p] = V::load_words(weights + p * stride);
      if constexpr (Mode == 1) nonzero[p] = registers::nonzero(w[p]);
    }
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      auto a = V::row(rows[r][offset]);
      // In this order: g++ 12 would make the products of four steps first, and keep them on the stack.
      detail::keep_in_order(a.word);
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) {
        if constexpr (Mode == 0)
          t.sums[r][p] = V::add(t.sums[r][p], V::product(a, w[p]));
        else if constexpr (Mode == 1)
          t.sums[r][p] = V::add_where(nonzero[p], t.sums[r][p], V::product(a, w[p]));
        else
          t.sums[r][p] = V::add(t.sums[r][p], registers::template checked_product<Constants>(a, w[p]));
        detail::keep_in_order(t.sums[r][p]);
      }
    }
  }
};

template <class M, class I, class V>
struct l_mul_atom : l_mul_steps<l_mul_constants<M::offset_word, M::beyond>, I, V> {
  using mac = M;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using prepared = l_mul_steps<l_mul_constants<M::offset_word, M::beyond>, I, V>;
  using summary = l_mul_summary;
  using packed = std::uint32_t;

  /// Zeros and subnormals stay (infinity times a subnormal is infinite), and are told by their exponent. What is beyond
  /// `columns` becomes 1: nobody takes its sums.
  static void encode(const weight* group, std::size_t columns, packed* to, summary& seen) noexcept {
    for (std::size_t c = 0; c < prepared::columns; ++c) {
      const float value = c < columns ? static_cast<float>(group[c]) : 1.0f;
      const auto bits = std::bit_cast<std::uint32_t>(value);
      const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
      const bool is_zero = magnitude < 0x00800000u;
      to[c] = is_zero || magnitude >= 0x7F800000u ? bits : bits & M::mask;
      if (c >= columns) continue;
      seen.zeros = seen.zeros || is_zero;
      seen.exponents.add(value);
    }
  }
  template <class Rows>
  static void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count,
                      l_mul_activation* to, std::size_t stride, const summary& weights, summary& seen) noexcept {
    // With such exponents not even the largest weight makes a normal number: mantissas carry at most twice.
    const int most = weights.exponents.most;
    const int least = most >= 128 || most < -126 ? -126 : -126 - most - 2;
    typename l_mul_registers<V>::template preparation<M> p(least, seen);
    for (std::size_t r = 0; r < row_count; ++r) {
      const activation* from = rows[r] + offset;
      if constexpr (std::is_same_v<activation, float>) {
        p.row(from, count, to + r * stride);
      } else {
        constexpr std::size_t piece = 64;
        for (std::size_t k = 0; k < count; k += piece) {
          const std::size_t n = polymac::detail::smaller(piece, count - k);
          float floats[piece];
          for (std::size_t i = 0; i < n; ++i) floats[i] = static_cast<float>(from[k + i]);
          p.row(floats, n, to + r * stride + k);
        }
      }
    }
    p.note(seen);
  }
  static constexpr std::size_t mode(const summary& weights, const summary& activations) noexcept {
    if (!M::exponents_are_safe(activations.exponents, weights.exponents)) return 2;
    return weights.zeros ? 1 : 0;
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
