// SPDX-License-Identifier: MIT
// Atoms of arithmetics whose operands are exact in a wider type: they are widened once, weights when they are packed,
// activations once for a tile of rows, and the steps are those of the wider type.
//
//     halves   ->  floats    mac::fp16           vcvtph2ps, fcvtl
//     fp8      ->  bf16      mac::fp8            a shift and a product with a power of two
//
// A conversion in the step instead would be one for every weight register and step, and one for every row: as many
// instructions as a third of the products.
#pragma once

#include "polymac/isa/isa.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Activations are widened once for a tile of rows. Inner: the atom that does the steps, of activations of the wider type.
/// Conversion:
///   convert(const from*, to*, count)   for any count; writes no more than count elements
template <class M, class Inner, class Conversion>
struct converted_rows {
  using mac = M;
  using isa = typename Inner::isa;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using accumulator = typename M::accumulator;
  using prepared = Inner;
  static constexpr std::size_t columns = Inner::columns;
  static constexpr std::size_t depth = Inner::depth;
  static constexpr std::size_t max_rows = Inner::max_rows;
  static constexpr std::size_t max_panels = Inner::max_panels;
  static constexpr int activation_offset = 0;
  static_assert(Inner::activation_offset == 0);
  static constexpr std::size_t panels_for(std::size_t rows) noexcept { return Inner::panels_for(rows); }

  template <class Rows>
  static POLYMAC_INLINE void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count,
                                     typename Inner::activation* to, std::size_t stride) noexcept {
    for (std::size_t r = 0; r < row_count; ++r) Conversion::convert(rows[r] + offset, to + r * stride, count);
  }
};

/// And weights when they are packed.
template <class M, class Inner, class Conversion>
struct converted_atom : converted_rows<M, Inner, Conversion> {
  using packed = typename Inner::weight;
  static constexpr std::size_t group_elements = Inner::columns * Inner::depth;

  static POLYMAC_INLINE void encode(const typename M::weight* group, packed* to) noexcept {
    Conversion::convert(group, to, group_elements);
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
