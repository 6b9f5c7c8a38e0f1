// SPDX-License-Identifier: MIT
// The tile of every atom of integers and of bf16: one 32-bit lane of a register holds the sum of one output column.
//
//                          register 0 of the panel     register 1 ...
//                          column 0  1  2 ...          column L  L+1 ...
//   weights of the group   w...w  w...w                w...w  w...w        `depth` weights of a column side by side
//   row 0   a...a          sum    sum                  sum    sum          the group of activations in every lane
//   row 1   a...a          sum    sum                  sum    sum
//
// No lane ever meets another one (but for groups of two lanes, avx512_vnni.hpp): nothing is added across at the end,
// and `start` and `store` are plain loads and stores. An instruction set brings two things: its registers (`Vector`)
// and what one product of a lane is (`Product`).
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/isa.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace isa {

/// Asks for the line of every row that begins `offset` activations on, before it is needed; beyond the end of the rows,
/// which began `passed` activations before, for the first lines of as many rows after them, if those are as far apart.
/// A guess that is wrong costs nothing but the question.
template <std::size_t Rows, class Places>
POLYMAC_INLINE void fetch_ahead(const Places& rows, std::size_t offset, std::size_t passed, bool beyond) noexcept {
#if defined(__GNUC__)
  using Activation = std::remove_cvref_t<decltype(*rows[0])>;
  const auto address = [&](std::size_t r) { return reinterpret_cast<std::uintptr_t>(rows[r]); };
  std::uintptr_t ahead = offset * sizeof(Activation);
  if (beyond)
    ahead = (Rows > 1 ? (address(Rows - 1) - address(0)) / (Rows > 1 ? Rows - 1 : 1) * Rows : 0) -
            passed * sizeof(Activation);
  POLYMAC_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) __builtin_prefetch(reinterpret_cast<const void*>(address(r) + ahead));
#endif
}

/// Makes compilers keep each of these pointers in a register of its own. Left alone, g++ 12 reads twelve rows through
/// pointers and one index, which are two operations each, and a tile of one panel has no room for them.
template <std::size_t Rows, class Activation>
constexpr POLYMAC_INLINE void keep_pointers(Activation* (&rows)[Rows]) noexcept {
#if defined(__GNUC__)
  if (std::is_constant_evaluated()) return;
  POLYMAC_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) asm("" : "+r"(rows[r]));
#else
  static_cast<void>(rows);
#endif
}

/// Makes compilers take a value for unknown.
template <class Value>
constexpr POLYMAC_INLINE void keep_value(Value& value) noexcept {
#if defined(__GNUC__)
  if (!std::is_constant_evaluated()) asm("" : "+r"(value));
#else
  static_cast<void>(value);
#endif
}

namespace detail {

/// All columns of the last panel, in the place of their number.
struct all_lanes {};
constexpr all_lanes lanes_below(all_lanes all) noexcept { return all; }

// What compilers leave where it stands among products: a register, and a store of it.
template <class Register>
POLYMAC_INLINE void keep_in_order([[maybe_unused]] Register& v) noexcept {
#if defined(__GNUC__) && defined(__AVX512F__)
  __asm__ volatile("" : "+v"(v));
#elif defined(__GNUC__) && defined(__AVX2__)
  __asm__ volatile("" : "+x"(v));
#elif defined(__GNUC__) && defined(__ARM_NEON) && defined(__aarch64__)
  __asm__ volatile("" : "+w"(v));
#endif
}
#if defined(__AVX512F__) && defined(__GNUC__)
template <std::size_t Bytes>
inline constexpr bool keeps_order_of = Bytes == 64;
/// Some of the lanes: as a mask.
using some_lanes = std::uint16_t;
POLYMAC_INLINE some_lanes lanes_below(std::size_t count) noexcept { return static_cast<some_lanes>((1u << count) - 1); }
template <class Sum, class Register>
POLYMAC_INLINE void store_in_order(Sum* to, const Register& v, all_lanes = {}) noexcept {
  __asm__ volatile("vmovups %1, %0" : "=m"(*reinterpret_cast<char(*)[sizeof(Register)]>(to)) : "v"(v));
}
template <class Sum, class Register>
POLYMAC_INLINE void store_in_order(Sum* to, const Register& v, some_lanes lanes) noexcept {
  __asm__ volatile("vmovups %1, %0%{%2%}"
                   : "+m"(*reinterpret_cast<char(*)[sizeof(Register)]>(to))
                   : "v"(v), "Yk"(lanes));
}
#else
template <std::size_t>
inline constexpr bool keeps_order_of = false;
struct some_lanes;
some_lanes lanes_below(std::size_t) noexcept;
template <class Sum, class Register, class Lanes = all_lanes>
void store_in_order(Sum*, const Register&, Lanes = {}) noexcept;
#endif

/// The order of the last two products of Rows x Registers sums: first(row, register), and some products later
/// last(row, register), which stores. A store of a sum that has waited in its register costs Zen 4 two slots of products
/// (both read it through the port of a third operand), one right behind the product that makes it costs nothing as long
/// as there are no more of them than one for two products: 12 x 2 sums stored at once cost 48 cycles, in this order
/// none.
template <std::size_t Rows, std::size_t Registers, class First, class Last>
POLYMAC_INLINE void for_each_finished(const First& first, const Last& last) noexcept {
  constexpr std::size_t all = Rows * Registers, between = all < 4 ? all : 4;
  POLYMAC_UNROLL
  for (std::size_t i = 0; i < all + between; ++i) {
    if (i < all) first(i / Registers, i % Registers);
    if (i >= between) last((i - between) / Registers, (i - between) % Registers);
  }
}

/// Vector:  `type` of a register, `lanes` in it, `registers` of the file, `load(const accumulator*)`,
///          `store(accumulator*, type)`; it may have store_two(accumulator*, accumulator*, type, type) of two rows, and
///          `group`, the integer that it broadcasts, if that is not std::int32_t. Where a group is wider than a lane,
///          `lanes` counts columns, of several lanes, which `store` adds up.
/// Product: `mac`, `depth`, `activation_offset`; the register types `weights` and `activations`;
///          `load(const weight*)`         the group of one register: lanes x depth weights, no more
///          `broadcast(const activation*)` the group of one row in all lanes: depth activations, no more
///          `multiply_add(sums, activations, weights)`;
///          optional, for weights that are packed as codes of a few bits:
///          `packed`, `encode`            elements of the panels, see isa.hpp
///          `codes`, `parts`, `part<j>(codes)`
///                                        `load` gives the codes of `parts` groups of depth / parts, which become
///                                        weights one group after the other
///          `scale_bits`                  weights are so many bits too high, and so are the sums, until they are stored
/// Registers: registers that make up one panel. MaxRows x MaxPanels x Registers sums, the weights of all panels and the
/// activations of one row must fit into the register file; the file of the instruction set says how they do.
/// Panels for a tile of `rows` rows: as many as leave room for the sums, the weights of a step and four more registers.
/// Few rows take more panels, so that their sums hide the latency of a product and a broadcast serves more of them.
constexpr std::size_t panels_that_fit(std::size_t rows, std::size_t registers_of_panel, std::size_t weights_of_panel,
                                      std::size_t file) {
  std::size_t panels = 8;
  // One row takes every weight once: straight from memory.
  const auto needs = [&](std::size_t p) {
    return p * rows * registers_of_panel + (rows == 1 ? 1 : p) * weights_of_panel;
  };
  while (panels > 1 && needs(panels) + 4 > file) panels /= 2;
  return panels;
}

/// What a Product says of codes.
template <class Product>
struct codes_of {
  using type = typename Product::weights;
  using element = typename Product::mac::weight;
  static constexpr std::size_t parts = 1;
  static constexpr int scale_bits = 0;
  template <std::size_t Lanes>
  static constexpr std::size_t register_elements = Lanes* Product::depth;
};
template <class Product>
requires requires { Product::parts; }
struct codes_of<Product> {
  using type = typename Product::codes;
  using element = typename Product::packed;
  static constexpr std::size_t parts = Product::parts;
  static constexpr int scale_bits = Product::scale_bits;
  template <std::size_t Lanes>
  static constexpr std::size_t register_elements = Product::template register_elements<Lanes>;
};
/// The panels of a tile of codes.
template <class Product, std::size_t Columns>
struct panel_of_codes {};
template <class Product, std::size_t Columns>
requires requires { typename Product::packed; }
struct panel_of_codes<Product, Columns> {
  using packed = typename Product::packed;
  static constexpr std::size_t group_elements = Product::template register_elements<Columns>;
  static constexpr std::int64_t padding_weight = Product::padding_weight;
  static constexpr std::size_t max_depth = Product::max_depth;
  static constexpr void encode(const typename Product::mac::weight* group, packed* to) noexcept {
    Product::template encode<Columns>(group, to);
  }
};

template <class I, class Vector, class Product, std::size_t Registers, std::size_t MaxRows, std::size_t MaxPanels>
struct lane_tile : panel_of_codes<Product, Vector::lanes * Registers> {
  using mac = typename Product::mac;
  using isa = I;
  using activation = typename mac::activation;
  using weight = typename mac::weight;
  using accumulator = typename mac::accumulator;
  using coding = codes_of<Product>;
  using panel_element = typename coding::element;
  static constexpr std::size_t register_elements = coding::template register_elements<Vector::lanes>;
  static constexpr bool is_scaled = coding::scale_bits > 0;
  static constexpr std::size_t columns = Vector::lanes * Registers;
  static constexpr std::size_t depth = Product::depth;
  static constexpr std::size_t max_rows = MaxRows;
  static constexpr std::size_t max_panels = MaxPanels;
  /// 24 sums, a register of weights, one of activations, and constants.
  static constexpr std::size_t tall_rows =
      Registers == 1 && Vector::registers >= 32 && sizeof(typename Product::weights) == sizeof(typename Vector::type) &&
              sizeof(typename Product::activations) == sizeof(typename Vector::type)
          ? 24
          : MaxRows;
  static constexpr int activation_offset = Product::activation_offset;
  /// Panels of the best tile of so many rows.
  static constexpr std::size_t panels_for(std::size_t rows) noexcept {
    constexpr std::size_t weights =
        Registers * polymac::detail::divide_up(sizeof(typename Product::weights), sizeof(typename Vector::type));
    const std::size_t panels = panels_that_fit(rows, Registers, weights, Vector::registers);
    return panels > MaxPanels ? panels : MaxPanels;
  }

  /// What is added to sums when they have come down to their places.
  struct addends {
    const accumulator* of;
    std::size_t row_stride, panel_stride;
  };
  struct nothing {};
  template <std::size_t Rows, std::size_t Panels>
  struct tile {
    typename Vector::type sums[Rows][Panels * Registers];
    [[no_unique_address]] std::conditional_t<is_scaled, addends, nothing> added;
  };

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void start(tile<Rows, Panels>& t, const accumulator* starts, std::size_t stride) noexcept {
    if constexpr (is_scaled) return start_scaled(t, {starts, 0, stride});
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < Panels * Registers; ++i) {
      const auto first = Vector::load(starts + i / Registers * stride + i % Registers * Vector::lanes);
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) t.sums[r][i] = first;
    }
  }

  /// Takes up sums that `store` has left.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void resume(tile<Rows, Panels>& t, const accumulator* sums,
                                    std::size_t stride = Panels * columns) noexcept {
    if constexpr (is_scaled) return start_scaled(t, {sums, stride, columns});
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Panels * Registers; ++i)
        t.sums[r][i] = Vector::load(sums + r * stride + i * Vector::lanes);
    }
  }

  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                  const panel_element* weights, std::size_t stride) noexcept {
    typename coding::type codes[Panels * Registers];
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < Panels * Registers; ++i)
      codes[i] = Product::load(weights + i / Registers * stride + i % Registers * register_elements);
    if constexpr (coding::parts == 1)
      multiply(t, rows, offset, codes);
    else
      [&]<std::size_t... j>(std::index_sequence<j...>) POLYMAC_INLINE_LAMBDA {
        (step_part<j>(t, rows, offset, codes), ...);
      }
    (std::make_index_sequence<coding::parts>{});
  }

  /// Are there registers for `finish`: the sums, two groups of weights, two of activations, a constant?
  static constexpr bool finishes_tiles = coding::parts == 1 && !is_scaled && Registers == 1 &&
                                         sizeof(typename Product::weights) == sizeof(typename Vector::type) &&
                                         detail::keeps_order_of<sizeof(typename Vector::type)>;
  /// The last two steps and the store, of the last panel the first `last` columns, or detail::all_lanes: masks cost
  /// a tile of 24 sums as much as stores that wait.
  template <std::size_t Rows, std::size_t Panels, class Places, class Last>
  static POLYMAC_INLINE void finish(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                    const weight* weights, std::size_t stride, accumulator* sums,
                                    std::size_t sums_stride, Last last) noexcept requires(coding::parts == 1) {
    constexpr std::size_t registers = Panels * Registers;
    const auto lanes = detail::lanes_below(last);
    typename Product::weights w[2][registers];
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < 2 * registers; ++i)
      w[i / registers][i % registers] =
          Product::load(weights + i % registers / Registers * stride +
                        (i / registers * columns + i % Registers * Vector::lanes) * depth);
    typename Product::activations a[2];
    const auto take = [&](std::size_t group, std::size_t row, std::size_t i) POLYMAC_INLINE_LAMBDA {
      if (i == 0) a[group] = Product::broadcast(rows[row] + offset + group * depth);
      t.sums[row][i] = Product::multiply_add(t.sums[row][i], a[group], w[group][i]);
    };
    accumulator* to[] = {sums};
    detail::for_each_finished<Rows, registers>(
        [&](std::size_t row, std::size_t i) POLYMAC_INLINE_LAMBDA {
          take(0, row, i);
          detail::keep_in_order(t.sums[row][i]);
        },
        [&](std::size_t row, std::size_t i) POLYMAC_INLINE_LAMBDA {
          take(1, row, i);
          if (i + 1 < registers) {
            detail::store_in_order(to[0] + i * Vector::lanes, t.sums[row][i]);
          } else {
            detail::store_in_order(to[0] + i * Vector::lanes, t.sums[row][i], lanes);
            to[0] += sums_stride;
            keep_pointers(to);
          }
        });
  }

  /// Stores all panels but the last one, and of that the first `last` columns.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void store_part(const tile<Rows, Panels>& t, accumulator* sums, std::size_t stride,
                                        std::size_t last) noexcept
      requires(Registers == 1 &&
               requires(accumulator * to, typename Vector::type v) { Vector::store_part(to, v, 1); }) {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i + 1 < Panels; ++i)
        Vector::store(sums + r * stride + i * Vector::lanes, sum_of(t, r, i));
      Vector::store_part(sums + r * stride + (Panels - 1) * Vector::lanes, sum_of(t, r, Panels - 1), last);
    }
  }

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void store(const tile<Rows, Panels>& t, accumulator* sums,
                                   std::size_t stride = Panels * columns) noexcept {
    std::size_t r = 0;
    if constexpr (stores_two) {
      POLYMAC_UNROLL
      for (; r + 2 <= Rows; r += 2) {
        POLYMAC_UNROLL
        for (std::size_t i = 0; i < Panels * Registers; ++i)
          Vector::store_two(sums + r * stride + i * Vector::lanes, sums + (r + 1) * stride + i * Vector::lanes,
                            sum_of(t, r, i), sum_of(t, r + 1, i));
      }
    }
    POLYMAC_UNROLL
    for (; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Panels * Registers; ++i)
        Vector::store(sums + r * stride + i * Vector::lanes, sum_of(t, r, i));
    }
  }

 private:
  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void multiply(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                      const typename Product::weights (&w)[Panels * Registers]) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const typename Product::activations a = Product::broadcast(rows[r] + offset);
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Panels * Registers; ++i) t.sums[r][i] = Product::multiply_add(t.sums[r][i], a, w[i]);
    }
  }
  template <std::size_t Part, std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step_part(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                       const typename coding::type (&codes)[Panels * Registers]) noexcept {
    typename Product::weights w[Panels * Registers];
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < Panels * Registers; ++i) w[i] = Product::template part<Part>(codes[i]);
    multiply(t, rows, offset + Part * (depth / coding::parts), w);
  }
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void start_scaled(tile<Rows, Panels>& t, const addends& added) noexcept {
    if constexpr (is_scaled) t.added = added;
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Panels * Registers; ++i) t.sums[r][i] = Vector::zero();
    }
  }
  /// A finished sum of column register i.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE typename Vector::type sum_of(const tile<Rows, Panels>& t, std::size_t r,
                                                     std::size_t i) noexcept {
    if constexpr (is_scaled)
      return Vector::add(Vector::template shift_right<coding::scale_bits>(t.sums[r][i]),
                         Vector::load(t.added.of + r * t.added.row_stride + i / Registers * t.added.panel_stride +
                                      i % Registers * Vector::lanes));
    else
      return t.sums[r][i];
  }
  static constexpr bool stores_two = requires(accumulator * to, typename Vector::type v) {
    Vector::store_two(to, to, v, v);
  };
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
