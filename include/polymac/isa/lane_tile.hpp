// SPDX-License-Identifier: MIT
// The tile of every integer atom: one 32-bit lane of a register holds the sum of one output column.
//
//                          register 0 of the panel     register 1 ...
//                          column 0  1  2 ...          column L  L+1 ...
//   weights of the group   w...w  w...w                w...w  w...w        `depth` weights of a column side by side
//   row 0   a...a          sum    sum                  sum    sum          the group of activations in every lane
//   row 1   a...a          sum    sum                  sum    sum
//
// No lane ever meets another one: nothing is added across at the end, and `start` and `store` are plain loads and
// stores. An instruction set brings two things: its registers (`Vector`) and what one product of a lane is
// (`Product`).
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Vector:  `type` of a register, `lanes` in it, `load(const accumulator*)`, `store(accumulator*, type)`.
/// Product: `mac`, `depth`, `activation_offset`; the register types `weights` and `activations`;
///          `load(const weight*)`         the group of one register: lanes x depth weights, no more
///          `broadcast(const activation*)` the group of one row in all lanes: depth activations, no more
///          `multiply_add(sums, activations, weights)`.
/// Registers: registers that make up one panel. MaxRows x MaxPanels x Registers sums, the weights of all panels and the
/// activations of one row must fit into the register file; the file of the instruction set says how they do.
template <class I, class Vector, class Product, std::size_t Registers, std::size_t MaxRows, std::size_t MaxPanels>
struct lane_tile {
  using mac = typename Product::mac;
  using isa = I;
  using activation = typename mac::activation;
  using weight = typename mac::weight;
  using accumulator = typename mac::accumulator;
  static constexpr std::size_t columns = Vector::lanes * Registers;
  static constexpr std::size_t depth = Product::depth;
  static constexpr std::size_t max_rows = MaxRows;
  static constexpr std::size_t max_panels = MaxPanels;
  static constexpr int activation_offset = Product::activation_offset;

  template <std::size_t Rows, std::size_t Panels>
  struct tile {
    typename Vector::type sums[Rows][Panels * Registers];
  };

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void start(tile<Rows, Panels>& t, const accumulator* starts, std::size_t stride) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < Panels * Registers; ++i) {
      const auto first = Vector::load(starts + i / Registers * stride + i % Registers * Vector::lanes);
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) t.sums[r][i] = first;
    }
  }

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void step(tile<Rows, Panels>& t, const activation* const* rows, std::size_t offset,
                                  const weight* weights, std::size_t stride) noexcept {
    typename Product::weights w[Panels * Registers];
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < Panels * Registers; ++i)
      w[i] = Product::load(weights + i / Registers * stride + i % Registers * Vector::lanes * depth);
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const typename Product::activations a = Product::broadcast(rows[r] + offset);
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Panels * Registers; ++i) t.sums[r][i] = Product::multiply_add(t.sums[r][i], a, w[i]);
    }
  }

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void store(const tile<Rows, Panels>& t, accumulator* sums) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Panels * Registers; ++i)
        Vector::store(sums + r * Panels * columns + i * Vector::lanes, t.sums[r][i]);
    }
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
