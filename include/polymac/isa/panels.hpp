// SPDX-License-Identifier: MIT
// How a matrix of weights becomes panels: the order of isa.hpp, written by whole blocks.
//
//   transpose    columns x depth, the k of a column side by side    a block of words is transposed; a word is the
//                                                                   `Depth` k that lie side by side in the panel, too
//   interleave   depth x columns, the columns of a k side by side   `Depth` rows become one
//
//                 k0..k3  k4..k7                        group 0          group 1
//      column 0    aaaa    bbbb          transpose      aaaa cccc ...    bbbb dddd ...
//      column 1    cccc    dddd      ------------->
//
// An instruction set brings `panels`: what it does better than the plain loops here. The results are the same bytes.
// Nothing beyond the matrix is read; columns and k that are missing become zeros.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/isa.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {

/// What instruction set I does for panels of weights W, `Columns` columns x `Depth` k a group:
///   transposed_k                                 k of a block; 0: has no transpose
///   transpose(panel, from, stride, columns)      writes transposed_k / Depth groups; only `columns` columns are there
///   interleaves                                  has it the next one?
///   interleave(group, from, stride)              writes one group from Depth rows of Columns weights
///   sums                                         has it the next one?
///   add_up(panel, groups, sums)                  adds the weights of every column
template <Isa I, class W, std::size_t Columns, std::size_t Depth>
struct panels {
  static constexpr std::size_t transposed_k = 0;
  static constexpr bool interleaves = false;
  static constexpr bool sums = false;
};

namespace detail {

/// The strongest set from I downwards that has what `Has` asks for, as std::type_identity; void if none has.
template <class I, template <class> class Has>
consteval auto find_panels() {
  if constexpr (std::is_void_v<I>)
    return std::type_identity<void>{};
  else if constexpr (Has<I>::value)
    return std::type_identity<I>{};
  else
    return find_panels<typename I::base, Has>();
}

template <class W, std::size_t Columns, std::size_t Depth>
struct panel_functions {
  template <class I>
  struct transposes : std::bool_constant<(panels<I, W, Columns, Depth>::transposed_k > 0)> {};
  template <class I>
  struct interleaves : std::bool_constant<panels<I, W, Columns, Depth>::interleaves> {};
  template <class I>
  struct sums : std::bool_constant<panels<I, W, Columns, Depth>::sums> {};
};

}  // namespace detail

/// Writes the groups of one panel from `columns` columns of `depth` k each, `stride` apart.
template <Isa I, std::size_t Columns, std::size_t Depth, class W>
constexpr void transpose_panel(W* panel, const W* from, std::size_t stride, std::size_t columns,
                               std::size_t depth) noexcept {
  using found =
      typename decltype(detail::find_panels<I,
                                            detail::panel_functions<W, Columns, Depth>::template transposes>())::type;
  std::size_t k = 0;
  if constexpr (!std::is_void_v<found>) {
    if (!std::is_constant_evaluated()) {
      using best = panels<found, W, Columns, Depth>;
      constexpr std::size_t block = best::transposed_k;
      for (; k + block <= depth; k += block) best::transpose(panel + k * Columns, from + k, stride, columns);
      if (k < depth) {
        // The end goes through a block of its own, for nothing beyond the matrix is read or written.
        W rest[Columns * block]{}, groups[Columns * block];
        const std::size_t left = polymac::detail::smaller(depth - k, block);
        for (std::size_t c = 0; c < columns; ++c)
          for (std::size_t i = 0; i < left; ++i) rest[c * block + i] = from[c * stride + k + i];
        best::transpose(groups, rest, block, columns);
        const std::size_t held = polymac::detail::round_up(left, Depth) * Columns;
        for (std::size_t i = 0; i < held; ++i) panel[k * Columns + i] = groups[i];
      }
      return;
    }
  }
  for (; k < depth; k += Depth, panel += Columns * Depth)
    for (std::size_t c = 0; c < Columns; ++c)
      for (std::size_t d = 0; d < Depth; ++d)
        panel[c * Depth + d] = c < columns && k + d < depth ? from[c * stride + k + d] : W{};
}

/// The same from `depth` rows of `columns` weights each, `stride` apart.
template <Isa I, std::size_t Columns, std::size_t Depth, class W>
constexpr void interleave_panel(W* panel, const W* from, std::size_t stride, std::size_t columns,
                                std::size_t depth) noexcept {
  using found =
      typename decltype(detail::find_panels<I,
                                            detail::panel_functions<W, Columns, Depth>::template interleaves>())::type;
  std::size_t k = 0;
  if (columns == Columns) {
    for (; k + Depth <= depth; k += Depth, panel += Columns * Depth, from += Depth * stride) {
      if constexpr (!std::is_void_v<found>)
        if (!std::is_constant_evaluated()) {
          panels<found, W, Columns, Depth>::interleave(panel, from, stride);
          continue;
        }
      for (std::size_t c = 0; c < Columns; ++c)
        for (std::size_t d = 0; d < Depth; ++d) panel[c * Depth + d] = from[d * stride + c];
    }
  }
  for (; k < depth; k += Depth, panel += Columns * Depth, from += Depth * stride)
    for (std::size_t c = 0; c < Columns; ++c)
      for (std::size_t d = 0; d < Depth; ++d)
        panel[c * Depth + d] = c < columns && k + d < depth ? from[d * stride + c] : W{};
}

/// Adds the weights of `groups` groups to the sums of their columns. Exact: sums of at most 2^24 bytes fit 32 bits.
template <Isa I, std::size_t Columns, std::size_t Depth, class W>
constexpr void add_up_columns(const W* panel, std::size_t groups, std::int64_t* sums) noexcept {
  using found =
      typename decltype(detail::find_panels<I, detail::panel_functions<W, Columns, Depth>::template sums>())::type;
  if constexpr (!std::is_void_v<found>) {
    if (!std::is_constant_evaluated()) {
      constexpr std::size_t most = std::size_t{1} << 20;
      while (groups > 0) {
        const std::size_t now = groups < most ? groups : most;
        std::int32_t part[Columns]{};
        panels<found, W, Columns, Depth>::add_up(panel, now, part);
        for (std::size_t c = 0; c < Columns; ++c) sums[c] += part[c];
        groups -= now;
        panel += now * Columns * Depth;
      }
      return;
    }
  }
  for (; groups > 0; --groups, panel += Columns * Depth)
    for (std::size_t c = 0; c < Columns; ++c)
      for (std::size_t d = 0; d < Depth; ++d) sums[c] += static_cast<std::int64_t>(panel[c * Depth + d]);
}

}  // namespace isa
POLYMAC_END
