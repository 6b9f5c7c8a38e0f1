// SPDX-License-Identifier: MIT
// How the output of several layers in a row is cut, so that what lies between them is never there as a whole.
#pragma once

#include "polymac/core/window.hpp"

#include <concepts>
#include <cstddef>

POLYMAC_BEGIN
namespace policy {

/// Half-open range of the lines or columns of an image.
struct pixel_range {
  std::size_t begin = 0;
  std::size_t end = 0;
  constexpr std::size_t size() const noexcept { return end - begin; }
  constexpr bool empty() const noexcept { return begin >= end; }
  friend constexpr bool operator==(const pixel_range&, const pixel_range&) = default;
};

/// The tiles of an output: so many down and across; or strips of `lines` whole lines.
struct tile_grid {
  extent2d tiles{1, 1};
  std::size_t lines = 0;     ///< of a strip; 0: the grid says how many tiles there are
  bool keeps_lines = false;  ///< lines that the next strip reads again are kept, not computed again

  /// Tiles of an output of that size, numbered line by line. No tile is empty.
  constexpr extent2d count(extent2d output) const noexcept {
    if (lines > 0) return {(output.height + lines - 1) / lines, 1};
    return {tiles.height < output.height ? tiles.height : output.height,
            tiles.width < output.width ? tiles.width : output.width};
  }
  constexpr pixel_range lines_of(std::size_t tile, extent2d output) const noexcept {
    const extent2d n = count(output);
    const std::size_t y = tile / n.width;
    if (lines == 0) return {y * output.height / n.height, (y + 1) * output.height / n.height};
    return {y * lines, (y + 1) * lines < output.height ? (y + 1) * lines : output.height};
  }
  constexpr pixel_range columns_of(std::size_t tile, extent2d output) const noexcept {
    const extent2d n = count(output);
    const std::size_t x = tile % n.width;
    return {x * output.width / n.width, (x + 1) * output.width / n.width};
  }
};

/// What policies of tiling derive from: how a chain of layers (model/chain.hpp) goes through its output.
struct tiling {};
template <class P>
concept TilingPolicy = std::derived_from<P, tiling> && requires {
  { P::name } -> std::convertible_to<const char*>;
  { P::grid } -> std::convertible_to<tile_grid>;
};

/// Down x Across tiles of the output, each computed through all layers before the next one. What a tile reads beyond
/// what its neighbours do, its halo, is computed again for each of them. patch<1> is a run layer by layer.
/// Source: Lin, Chen, Cai, Gan, Han: MCUNetV2: Memory-Efficient Patch-based Inference for Tiny Deep Learning, 2021
/// (arXiv 2110.15352); here tiles are cut at the exact border of what is needed, so their sizes differ by some pixels.
template <std::size_t Down, std::size_t Across = Down>
struct patch : tiling {
  static_assert(Down > 0 && Across > 0, "polymac: patch: expected at least one tile in each direction");
  static constexpr const char* name = "patch";
  static constexpr tile_grid grid{{Down, Across}, 0, false};
};

/// Strips of `Lines` lines of the output, from the top to the bottom. Each layer keeps the lines of its input that the
/// next strip reads again, kernel - stride of them, so nothing is computed twice.
template <std::size_t Lines = 1>
struct line_buffer : tiling {
  static_assert(Lines > 0, "polymac: line_buffer: expected strips of at least one line");
  static constexpr const char* name = "line_buffer";
  static constexpr tile_grid grid{{1, 1}, Lines, true};
};

}  // namespace policy
POLYMAC_END
