// SPDX-License-Identifier: MIT
// Panels that somebody else holds, or a part of them: some columns, some groups of k.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/kernel/pack.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>

POLYMAC_BEGIN
namespace kernel {

/// Operands of a contraction (kernel/contract.hpp) that are panels in the format of `Atom` anywhere in memory: keys and
/// values of attention, which grow, and of which a block takes a part. One set, one term, sums that fit the accumulator.
///
///   data            the first group of the first panel
///   panel_stride    distance of two panels in elements
///   columns, depth  what is multiplied of them
///   starts          what sums start from: for each column of each panel `start_stride` apart, or (stride 0) the same
///                   for all panels. Holds what atoms need that shift their activations
///
/// On tiles (contract_in_session) the depth is whole tiles, in rows and panels, and sums start from 0.
template <class Atom>
class panel_range {
 public:
  using mac = typename Atom::mac;
  using accumulator = typename mac_traits<mac>::accumulator;
  using wide = typename mac_traits<mac>::wide;
  using weight = typename mac_traits<mac>::weight;
  using activation = typename mac_traits<mac>::activation;
  using panel_element = isa::packed_of<Atom>;
  using narrow = narrow_atom<Atom>;
  static constexpr bool may_be_narrow = false, is_always_narrow = false, may_be_narrow_and_wide = false;
  /// The sums of no block are longer than an accumulator can hold: whoever makes the range sees to it.
  static constexpr bool never_wide = true;
  static_assert(!isa::is_listed<Atom>);

  constexpr panel_range(const panel_element* data, std::size_t panel_stride, std::size_t columns, std::size_t depth,
                        const accumulator* starts, std::size_t start_stride,
                        const isa::summary_of<Atom>& summary = {}) noexcept
      : data_(data),
        starts_(starts),
        panel_stride_(panel_stride),
        start_stride_(start_stride),
        panels_(polymac::detail::divide_up(columns, Atom::columns)),
        groups_(polymac::detail::divide_up(depth, Atom::depth)),
        summary_(summary) {
    shape_.columns = columns;
    shape_.depth = depth;
  }

  constexpr const product_shape& shape() const noexcept { return shape_; }
  constexpr bool is_narrow() const noexcept { return false; }
  constexpr bool wide_sums() const noexcept { return false; }
  constexpr std::size_t panels() const noexcept { return panels_; }
  constexpr std::size_t groups() const noexcept { return groups_; }
  constexpr std::size_t lines() const noexcept { return 0; }
  constexpr std::size_t panel_stride() const noexcept { return panel_stride_; }
  constexpr std::size_t start_stride() const noexcept { return start_stride_; }
  constexpr const panel_element* panel(std::size_t, std::size_t p) const noexcept { return data_ + p * panel_stride_; }
  constexpr const accumulator* starts(std::size_t, std::size_t p, std::size_t) const noexcept {
    return starts_ + p * start_stride_;
  }
  constexpr const isa::summary_of<Atom>& summary() const noexcept { return summary_; }

  /// For tiles: steps of whole ones.
  static constexpr std::size_t step_groups() noexcept requires has_tiles<Atom> { return Atom::tiles::max_groups; }
  constexpr std::size_t steps() const noexcept requires has_tiles<Atom> { return groups_ / step_groups(); }
  static constexpr bool has_tile_starts() noexcept { return false; }
  static constexpr const accumulator* tile_starts(std::size_t, std::size_t) noexcept { return nullptr; }

 private:
  const panel_element* data_;
  const accumulator* starts_;
  std::size_t panel_stride_, start_stride_, panels_, groups_;
  product_shape shape_{};
  [[no_unique_address]] isa::summary_of<Atom> summary_;
};

/// Output rows that hold sums already, which a contraction goes on with: those of whole panels, of the accumulator's type.
template <class Accumulator>
struct running_sums {
  static constexpr bool adds_to_sums = true;
  Accumulator* data = nullptr;
  std::size_t stride = 0;
  constexpr Accumulator* row(std::size_t r) const noexcept { return data + r * stride; }
};

}  // namespace kernel
POLYMAC_END
