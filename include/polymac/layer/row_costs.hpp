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
  std::size_t panels;  ///< of the weights
  std::size_t groups;  ///< of k
  std::size_t lines;   ///< of the kernel

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
  /// Of an element of a list beside 32 columns.
  static constexpr double element = 1.5;

  /// Of a row whose list has so many entries, of one that is computed whole, and of one in the dense layer.
  constexpr double listed(std::size_t entries, double of_entry) const noexcept {
    return listed_row + static_cast<double>(panels) * (listed_panel + static_cast<double>(entries) * of_entry);
  }
  constexpr double whole() const noexcept { return dense() + whole_row + whole_line * static_cast<double>(lines); }
  constexpr double dense() const noexcept {
    return static_cast<double>(panels) * (finished_panel + static_cast<double>(groups) * group);
  }
  /// Entries up to which a list is shorter than the whole row.
  constexpr std::size_t most_entries(double of_entry) const noexcept {
    const double room = whole() - listed(0, of_entry), one = listed(1, of_entry) - listed(0, of_entry);
    return room > 0 && one > 0 ? static_cast<std::size_t>(room / one) : 0;
  }
  /// The same in percent of all groups, at most 100.
  constexpr std::size_t break_even() const noexcept {
    const std::size_t all = groups > 0 ? groups : 1, percent = 100 * most_entries(entry) / all;
    return percent < 100 ? percent : 100;
  }
  /// Of so many pixels that are listed.
  static constexpr double listing(std::size_t pixels, std::size_t bytes_of_pixel) noexcept {
    const double of_pixel = listed_pixel + listed_byte * static_cast<double>(bytes_of_pixel);
    return of_pixel * static_cast<double>(pixels);
  }
  /// Of a row of `blocks` times 32 columns beside its elements, and the elements up to which it costs less than whole.
  static constexpr double around_elements(std::size_t blocks) noexcept {
    return 100 + 12 * static_cast<double>(blocks);
  }
  constexpr double most_elements(std::size_t blocks) const noexcept {
    return (whole() - around_elements(blocks)) / (element * static_cast<double>(blocks));
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
