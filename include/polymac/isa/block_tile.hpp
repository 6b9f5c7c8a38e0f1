// SPDX-License-Identifier: MIT
// Tiles of blocks: some k are multiplied and added in a type of their own, and what comes out is scaled and added to
// floats. Groups of codes with a scale and a zero point (mac::bit_weights with groups), Microscaling blocks (mac::mx).
//
//   one step, one block:                          panel 0            panel 1
//     sums = 0                                    6 rows x 2 panels of 16 columns
//     4 k (integers) or 2 k (bf16) at a time:     sums += a . w      vpdpbusd, or vdpbf16ps
//     zero points:                                sums += (sum of a) * (-zero point)        one vpdpwssd
//     totals += float(sums) * scale of w (* scale of a)
//
// Weights are the unsigned side of vpdpbusd: their codes, as stored or with the range moved to begin at 0, need no sign
// and come out of their bytes by a shift and an and; what is too much, zero point and all, is a constant of the column
// times the sum of the block's activations, which is found once for a tile of rows. So activations stay signed.
//
// A panel's block: codes of 16 columns, 16 scales (floats), 16 zero points (bytes):
//   integers of 8, 4, 2, 1 bits   G x 16, 8, 4, 2 bytes (8 / bits groups of four k in a byte, the first one lowest)
//   bf16                          32 x 16 x 2 bytes
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/float_code.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/isa/register_panels.hpp"
#include "polymac/isa/widening.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// A block of activations of integers.
template <std::size_t Size>
struct integer_block {
  std::int8_t values[Size];
  std::int32_t sum;    ///< of the values, signed 16 bits; with one zero point for all weights, what the sums start from
  std::int32_t power;  ///< of the scale: its exponent where a float has it
  float scale;
};
/// Of bf16.
struct bf16_block {
  bfloat16 values[32];
  std::int32_t power;
  float scale;
};

/// Exponents of the scales of blocks, where they matter.
struct scale_summary {
  int least = 1000, most = -1000;
  constexpr void add(int exponent) noexcept {
    if (exponent < least) least = exponent;
    if (exponent > most) most = exponent;
  }
};

/// The scale of a Microscaling block as a float, times 2^unit, and its exponent for the summary. Zeros are zeros at any
/// scale, and take 1; `counts`: is it a block of the product?
template <class Block>
POLYMAC_INLINE float mx_scale_of(const Block& block, bool zeros, int unit, bool counts, scale_summary& seen) noexcept {
  if (block.is_nan()) {
    if (counts) seen.add(2000);
    return std::numeric_limits<float>::quiet_NaN();
  }
  if (zeros) return 1.0f;
  if (counts) seen.add(block.exponent());
  return float_code::to_float(float_code::double_power_of_two(block.exponent() + unit));
}
/// The exponent of a power of two where a float has it. (Of NaN something: mode 1 does not ask.)
POLYMAC_INLINE std::int32_t power_of(float scale) noexcept {
  return std::bit_cast<std::int32_t>(scale) - std::bit_cast<std::int32_t>(1.0f);
}
/// Are all scales and their products with sums normal floats?
template <class M>
constexpr std::size_t mx_mode(const scale_summary& weights, const scale_summary& activations) noexcept {
  if (weights.most < weights.least || activations.most < activations.least)
    return weights.most > 1000 || activations.most > 1000 ? 1 : 0;
  const bool normal = weights.least + M::unit_exponent >= -126 && activations.least >= -126 &&
                      M::scales_are_safe(weights.least, weights.most) &&
                      M::scales_are_safe(weights.least + activations.least, weights.most + activations.most);
  return normal ? 0 : 1;
}

/// The sums of one block of integers. V: registers of integers,
///   load, load_bytes, zero, broadcast, to_float
///   field<Bits, Shift>                       of every byte
///   add_dot_u8i8(sums, codes, activations)   four bytes of a lane
///   broadcast_sum(sum), add_dot_i16(sums, sum, zero points)
/// HasZeroPoints: each column has a zero point; else one serves all, and the blocks of activations hold what it makes.
template <class V, std::size_t Size, unsigned Bits, bool HasZeroPoints>
struct integer_block_sums {
  static_assert(Bits == 1 || Bits == 2 || Bits == 4 || Bits == 8);
  using block = integer_block<Size>;
  using type = typename V::type;
  static constexpr std::size_t parts = 8 / Bits, registers = Size / 4 / parts;
  static constexpr std::size_t register_bytes = 4 * V::lanes;
  static constexpr std::size_t code_bytes = registers * register_bytes;
  static constexpr bool has_zero_points = HasZeroPoints;

  static POLYMAC_INLINE type start(const block& of) noexcept {
    if constexpr (HasZeroPoints)
      return V::zero();
    else
      return V::broadcast(of.sum);
  }
  static POLYMAC_INLINE auto to_float(type sums) noexcept { return V::to_float(sums); }
  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void add_up(type (&sums)[Rows][Panels], const Places& rows, std::size_t offset,
                                    const std::uint8_t* panel, std::size_t stride) noexcept {
    for (std::size_t i = 0; i < registers; ++i) {
      type codes[Panels];
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) codes[p] = V::load(panel + p * stride + i * register_bytes);
      [&]<std::size_t... j>(std::index_sequence<j...>) POLYMAC_INLINE_LAMBDA {
        (part<j>(sums, rows, offset, 4 * (i * parts + j), codes), ...);
      }
      (std::make_index_sequence<parts>{});
    }
    if constexpr (!HasZeroPoints) return;
    type zero_points[Panels];
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p)
      zero_points[p] = V::load_bytes(panel + p * stride + code_bytes + register_bytes);
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const type sum = V::broadcast_sum(-rows[r][offset].sum);
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) sums[r][p] = V::add_dot_i16(sums[r][p], sum, zero_points[p]);
    }
  }
  /// Puts code `code` (0 .. 2^Bits - 1) of k into the bytes of a panel's block, which begin with zeros.
  static constexpr void put(std::uint8_t* panel, std::size_t column, std::size_t k, unsigned code) noexcept {
    const std::size_t group = k / 4;
    panel[group / parts * register_bytes + 4 * column + k % 4] |=
        static_cast<std::uint8_t>(code << (group % parts * Bits));
  }

 private:
  template <std::size_t Part, std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void part(type (&sums)[Rows][Panels], const Places& rows, std::size_t offset, std::size_t k,
                                  const type (&codes)[Panels]) noexcept {
    type w[Panels];
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) w[p] = V::template field<Bits, Part * Bits>(codes[p]);
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const type a = V::broadcast(four_bytes(rows[r][offset].values + k));
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) sums[r][p] = V::add_dot_u8i8(sums[r][p], w[p], a);
    }
  }
};

/// The sums of one block of 32 bf16, pairs in order, the second one of a pair first. Product: that of bf16.
template <class V, class Product>
struct bf16_block_sums {
  using block = bf16_block;
  using type = typename V::type;
  static constexpr std::size_t register_bytes = 4 * V::lanes;
  static constexpr std::size_t code_bytes = 16 * register_bytes;
  static constexpr bool has_zero_points = false;

  static POLYMAC_INLINE type start(const block&) noexcept { return V::zero(); }
  static POLYMAC_INLINE type to_float(type sums) noexcept { return sums; }
  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void add_up(type (&sums)[Rows][Panels], const Places& rows, std::size_t offset,
                                    const std::uint8_t* panel, std::size_t stride) noexcept {
    for (std::size_t i = 0; i < 16; ++i) {
      typename Product::weights w[Panels];
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p)
        w[p] = Product::load(reinterpret_cast<const bfloat16*>(panel + p * stride + i * register_bytes));
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) {
        const typename Product::activations a = Product::broadcast(rows[r][offset].values + 2 * i);
        POLYMAC_UNROLL
        for (std::size_t p = 0; p < Panels; ++p) sums[r][p] = Product::multiply_add(sums[r][p], a, w[p]);
      }
    }
  }
};

/// The steps of a tile. Floats: registers of totals, with `multiply_add`, `times_power`. Sums: one of the above.
/// ScalesActivations: do blocks of activations have scales? No arithmetic: MXINT8, MXFP6 and MXFP4 share them, w4 and w3,
/// w2 and ternary; a program that has several compiles them once.
template <class I, class Floats, class Sums, bool ScalesActivations>
struct block_steps : register_panels<Floats, float> {
  using isa = I;
  using activation = typename Sums::block;
  using packed = std::uint8_t;
  using weight = packed;
  static constexpr std::size_t columns = Floats::lanes;
  static constexpr std::size_t depth = 1;
  static constexpr std::size_t scale_bytes = 4 * columns;
  static constexpr std::size_t group_elements = Sums::code_bytes + scale_bytes + (Sums::has_zero_points ? columns : 0);
  static constexpr std::size_t max_rows = Floats::registers >= 32 ? 6 : 3;
  static constexpr std::size_t max_panels = 2;
  static constexpr int activation_offset = 0;
  static constexpr std::size_t modes = ScalesActivations ? 2 : 1, tile_modes = 1;
  /// Panels of the best tile of so many rows.
  static constexpr std::size_t panels_for(std::size_t rows) noexcept {
    return rows == 1 && Floats::registers >= 32 ? 4 : max_panels;
  }

  template <std::size_t Rows, std::size_t Panels>
  using tile = register_sums<Floats, Rows, Panels>;  // the totals

  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(tile<Rows, Panels>& t, const Places& rows, std::size_t offset, const packed* weights,
                                  std::size_t stride) noexcept {
    step_in<0>(t, rows, offset, weights, stride);
  }
  /// Mode 0: scales are safe. Mode 1: products with them may leave the range of floats.
  template <std::size_t Mode, std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step_in(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                     const packed* weights, std::size_t stride) noexcept {
    typename Sums::type sums[Rows][Panels];
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const auto first = Sums::start(rows[r][offset]);
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) sums[r][p] = first;
    }
    Sums::add_up(sums, rows, offset, weights, stride);
    const auto scales = [&](std::size_t p) POLYMAC_INLINE_LAMBDA {
      return Floats::load_floats(weights + p * stride + Sums::code_bytes);
    };
    typename Floats::type of_weights[Panels];
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) of_weights[p] = scales(p);
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) {
        if constexpr (Mode == 1) {
          float of[columns], scale[columns], totals[columns];
          Floats::store(of, Sums::to_float(sums[r][p]));
          Floats::store(scale, of_weights[p]);
          Floats::store(totals, t.sums[r][p]);
          for (std::size_t c = 0; c < columns; ++c)
            totals[c] += static_cast<float>(static_cast<double>(of[c]) * static_cast<double>(scale[c]) *
                                            static_cast<double>(rows[r][offset].scale));
          t.sums[r][p] = Floats::load(totals);
        } else if constexpr (ScalesActivations) {
          // A product of powers of two is a sum of exponents: not for the ports that have the products.
          t.sums[r][p] = Floats::multiply_add(Sums::to_float(sums[r][p]),
                                              Floats::times_power(of_weights[p], rows[r][offset].power), t.sums[r][p]);
        } else {
          t.sums[r][p] = Floats::multiply_add(Sums::to_float(sums[r][p]), of_weights[p], t.sums[r][p]);
        }
      }
    }
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
