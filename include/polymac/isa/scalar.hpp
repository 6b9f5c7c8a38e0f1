// SPDX-License-Identifier: MIT
// The generic atom: any arithmetic, straight from its golden model, in plain C++. It is constexpr, so a whole layer
// can be evaluated at compile time, and it is what every hand-written atom is tested against.
//
//                     column 0 1 2 ... 15
//            step k:  w[k]  .  .  .  .  .        one group of a panel (16 weights)
//   row 0   a[0][k]   c  c  c  c  c  c
//   row 1   a[1][k]   c  c  c  c  c  c           4 x 16 sums; compilers turn the inner loop into vector code where the
//   row 2   a[2][k]   c  c  c  c  c  c           golden model allows it
//   row 3   a[3][k]   c  c  c  c  c  c
//
// One k deep; of arithmetics that add their products in groups (mac_traits::group) one group deep. Where products are
// added in chains (mac_traits::chain), a chain's sums stand beside the accumulators. An arithmetic may want its sums one
// by one (mac_traits::one_by_one): a tile is 1 x 1 then.
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace isa {

template <Mac M>
struct atom<M, scalar> {
  using mac = M;
  using isa = scalar;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using accumulator = typename M::accumulator;
  static constexpr std::size_t columns = mac_traits<M>::one_by_one ? 1 : 16;
  static constexpr std::size_t depth = mac_traits<M>::group;
  static constexpr std::size_t max_rows = mac_traits<M>::one_by_one ? 1 : 4;
  static constexpr std::size_t max_panels = 1;
  static constexpr int activation_offset = 0;
  using sum_of_steps = typename mac_traits<M>::chain_accumulator;
  static constexpr bool in_chains = mac_traits<M>::chain > 0;
  static constexpr std::size_t chain_groups = mac_traits<M>::chain / depth;
  static_assert(mac_traits<M>::chain % depth == 0, "polymac: a chain is a multiple of the group of the arithmetic");

  struct nothing {};
  template <std::size_t Rows>
  struct totals {
    accumulator of[Rows][columns];
  };
  template <std::size_t Rows, std::size_t Panels>
  struct tile {
    sum_of_steps sums[Rows][columns];
    [[no_unique_address]] std::conditional_t<in_chains, totals<Rows>, nothing> spilled;
  };

  template <std::size_t Rows, std::size_t Panels>
  static constexpr void start(tile<Rows, Panels>& t, const accumulator* starts, std::size_t) noexcept {
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < columns; ++c) {
        if constexpr (in_chains) {
          t.spilled.of[r][c] = starts[c];
          t.sums[r][c] = sum_of_steps{};
        } else {
          t.sums[r][c] = starts[c];
        }
      }
  }

  /// Takes up sums that `store` has left.
  template <std::size_t Rows, std::size_t Panels>
  static constexpr void resume(tile<Rows, Panels>& t, const accumulator* sums,
                               std::size_t stride = Panels * columns) noexcept {
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < columns; ++c) {
        if constexpr (in_chains) {
          t.spilled.of[r][c] = sums[r * stride + c];
          t.sums[r][c] = sum_of_steps{};
        } else {
          t.sums[r][c] = sums[r * stride + c];
        }
      }
  }

  template <std::size_t Rows, std::size_t Panels, class Places>
  static constexpr void step(tile<Rows, Panels>& t, const Places& rows, std::size_t offset, const weight* weights,
                             std::size_t) noexcept {
    // Twice: with a loop of one turn g++ 12 -O3 fuses the products of float32 in one instantiation and not in another.
    if constexpr (depth == 1) {
      for (std::size_t r = 0; r < Rows; ++r) {
        const activation a = rows[r][offset];
        for (std::size_t c = 0; c < columns; ++c) t.sums[r][c] = M::multiply_add(t.sums[r][c], a, weights[c]);
      }
    } else {
      for (std::size_t r = 0; r < Rows; ++r)
        for (std::size_t d = depth; d-- > 0;) {
          const activation a = rows[r][offset + d];
          for (std::size_t c = 0; c < columns; ++c)
            t.sums[r][c] = M::multiply_add(t.sums[r][c], a, weights[c * depth + d]);
        }
    }
  }

  /// Ends a chain.
  template <std::size_t Rows, std::size_t Panels>
  static constexpr void spill(tile<Rows, Panels>& t) noexcept requires in_chains {
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < columns; ++c) {
        t.spilled.of[r][c] = M::spill(t.spilled.of[r][c], t.sums[r][c]);
        t.sums[r][c] = sum_of_steps{};
      }
  }

  template <std::size_t Rows, std::size_t Panels>
  static constexpr void store(const tile<Rows, Panels>& t, accumulator* sums,
                              std::size_t stride = Panels * columns) noexcept {
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < columns; ++c) {
        if constexpr (in_chains)
          sums[r * stride + c] = M::spill(t.spilled.of[r][c], t.sums[r][c]);
        else
          sums[r * stride + c] = t.sums[r][c];
      }
  }
};

}  // namespace isa
POLYMAC_END
