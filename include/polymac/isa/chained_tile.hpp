// SPDX-License-Identifier: MIT
// The tile of products that are added up in integers for a while, and then in floats: dynamic fixed point (mac/dfp.hpp).
//
//                          register 0 of the panel
//                          column 0  1  2 ...
//   row 0   sums           s    s    s            32-bit integers, of the chain that is going on
//           totals         t    t    t            floats, of the chains before
//   row 1   ...
//
// `spill` turns sums into floats, adds them to the totals and begins anew. Both kinds stay in registers, so a tile has
// half as many rows as one of integers alone; kept in memory, totals would be stored and loaded for every chain, and a
// chain may be as short as 32 products, 16 steps. A spill is a conversion and an addition for each register of sums: on
// processors where these have ports of their own (Zen 4: conversions and additions of floats, not products) they run
// beside the products.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Integers: a Vector of sums, with `zero()` and `to_float(type)`. Floats: a Vector of totals, with `add`. Product: as
/// for lane_tile; Product::mac has chains.
template <class I, class Integers, class Floats, class Product, std::size_t Registers, std::size_t MaxRows,
          std::size_t MaxPanels>
struct chained_tile {
  using mac = typename Product::mac;
  using isa = I;
  using activation = typename mac::activation;
  using weight = typename mac::weight;
  using accumulator = typename mac::accumulator;
  using products = lane_tile<I, Integers, Product, Registers, MaxRows, MaxPanels>;
  static constexpr std::size_t columns = products::columns;
  static constexpr std::size_t depth = Product::depth;
  static constexpr std::size_t max_rows = MaxRows;
  static constexpr std::size_t max_panels = MaxPanels;
  static constexpr int activation_offset = Product::activation_offset;
  static constexpr std::size_t chain_groups = mac_traits<mac>::chain / depth;
  static_assert(Product::activation_offset == 0, "polymac: a surplus would have to be taken off every chain");
  static_assert(chain_groups > 0 && mac_traits<mac>::chain % depth == 0);

  /// Panels of the best tile of so many rows.
  static constexpr std::size_t panels_for(std::size_t rows) noexcept {
    const std::size_t panels = panels_that_fit(rows, 2 * Registers, Registers, Integers::registers);
    return panels > MaxPanels ? panels : MaxPanels;
  }

  template <std::size_t Rows, std::size_t Panels>
  struct tile {
    typename products::template tile<Rows, Panels> chain;
    typename Floats::type totals[Rows][Panels * Registers];
  };

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void start(tile<Rows, Panels>& t, const accumulator* starts, std::size_t stride) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < Panels * Registers; ++i) {
      const auto first = Floats::load(starts + i / Registers * stride + i % Registers * Floats::lanes);
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) {
        t.totals[r][i] = first;
        t.chain.sums[r][i] = Integers::zero();
      }
    }
  }

  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(tile<Rows, Panels>& t, const Places& rows, std::size_t offset, const weight* weights,
                                  std::size_t stride) noexcept {
    products::step(t.chain, rows, offset, weights, stride);
  }

  /// Ends a chain.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void spill(tile<Rows, Panels>& t) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Panels * Registers; ++i) {
        t.totals[r][i] = Floats::add(t.totals[r][i], Integers::to_float(t.chain.sums[r][i]));
        t.chain.sums[r][i] = Integers::zero();
      }
    }
  }

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void store(const tile<Rows, Panels>& t, accumulator* sums,
                                   std::size_t stride = Panels * columns) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Panels * Registers; ++i)
        Floats::store(sums + r * stride + i * Floats::lanes,
                      Floats::add(t.totals[r][i], Integers::to_float(t.chain.sums[r][i])));
    }
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
