// SPDX-License-Identifier: MIT
// What decides between lists, whole rows and the dense layer in a streamed one.
#pragma once

#include "polymac/isa/difference.hpp"
#include "polymac/isa/live_groups.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// What rows cost, in cycles: measured on Zen 4 (bench/sparsity_streams.cpp), also as a build for AVX2; of other sets a
/// model. An entry of a list is a product of one row, and loads weights that a tile loads for all of its rows.
template <class Atom>
struct row_costs {
  static constexpr double products_of_cycle = [] {
    constexpr std::size_t size = sizeof(typename Atom::activation);
    const double bytes = isa::detail::reaches<typename Atom::isa, isa::avx512>()     ? 64
                         : isa::detail::reaches<typename Atom::isa, isa::avx_vnni>() ? 64
                         : isa::detail::reaches<typename Atom::isa, isa::avx2>()     ? 24
                         : isa::detail::reaches<typename Atom::isa, isa::neon>()     ? 16
                                                                                     : 1;
    return bytes / static_cast<double>(size);
  }();
  /// Of a group of k beside one panel, in a tile of rows.
  static constexpr double group = static_cast<double>(Atom::columns * Atom::depth) / products_of_cycle;
  static constexpr double entry = 1.25 * group, pair = 2.25 * group;
  /// Beside products: a list is put together, sums are added to others; of each row, and of each of its panels.
  static constexpr double listed_row = 100, listed_panel = 12;
  /// A window is copied, for each line of the kernel; the row goes to its output by itself.
  static constexpr double whole_row = 30, whole_line = 8;
  /// What is left of a row in the dense layer, for each panel.
  static constexpr double finished_panel = 8;
  /// Pixels are listed: each of them, and each of their bytes, which are compared by registers or one by one.
  static constexpr double listed_pixel = 25, listed_byte = isa::lists_by_registers ? 0.12 : 2.0;
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
