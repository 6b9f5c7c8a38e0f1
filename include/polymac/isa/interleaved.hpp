// SPDX-License-Identifier: MIT
// Panels that lie side by side, group by group: what a few rows read of many short panels is then one stretch.
//
//     panels one after the other           panel 0: g0 g1 g2 ...   panel 1: g0 g1 g2 ...
//     interleaved, `Together` of them      g0 of panel 0, 1, 2 ..., g1 of panel 0, 1, 2 ...
//
// One row stands beside eight panels, so that its sums hide the latency of a product. Eight panels of 1 to 4 KiB (the
// keys of a head of 64) are eight places that a processor has to fetch ahead from, each for 16 to 64 lines only, and it
// does not get under way; one place of 8 to 32 KiB it follows.
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace isa {

/// The atom with a group of `Together` panels behind each other: the distance of two panels is one group of one panel,
/// Atom::columns * Atom::depth weights, and that of two groups `Together` times as much. For atoms that keep weights as
/// they are. Whoever uses it cuts the columns so that no tile reaches beyond `Together` panels from its first one on.
template <class Atom, std::size_t Together>
struct interleaved : Atom {
  static_assert(!encodes_weights<Atom>);
  using packed = typename Atom::weight;
  static constexpr std::size_t panels_together_in_memory = Together;
  static constexpr std::size_t group_elements = Together * Atom::columns * Atom::depth;
  /// It would take the next group for the next register.
  static constexpr bool finishes_tiles = false;
};
template <class Atom, std::size_t Together>
requires requires { typename Atom::prepared; }
struct interleaved<Atom, Together> : Atom {
  using packed = typename Atom::weight;
  using prepared = interleaved<typename Atom::prepared, Together>;
  static constexpr std::size_t panels_together_in_memory = Together;
  static constexpr std::size_t group_elements = Together * Atom::columns * Atom::depth;
  static constexpr bool finishes_tiles = false;
};

}  // namespace isa
POLYMAC_END
