// SPDX-License-Identifier: MIT
// Lists of the groups of k of each pixel that live or have changed. A pixel's list is made once, and read by all windows
// that hold it: nine of 3 x 3.
#pragma once

#include "polymac/isa/difference.hpp"
#include "polymac/isa/live_groups.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/streamed_layer.hpp"
#include "polymac/policy/live_group.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// How the groups in the lists are multiplied.
enum class way : unsigned char {
  whole,             ///< there are no lists
  ones,              ///< their activations, and nothing else: zeros add nothing
  own_differences,   ///< the same by the product of differences, as differences from 0
  zero_differences,  ///< differences from zero points
  differences,       ///< from what they were
  pairs              ///< what they are, less what they were
};

/// Layer: streamed_layer.
template <class Layer>
struct pixel_lists {
  using memory = typename Layer::memory;
  using atom = typename Layer::atom;
  using activation = typename Layer::activation;

  static constexpr bool has_differences = !std::is_void_v<isa::difference_of<atom>>;
  static constexpr bool has_zero_at_0(const Layer& l) noexcept {
    if constexpr (std::is_integral_v<activation>)
      return insides::zero_point(l.inner) == activation{};
    else
      return true;
  }
  static constexpr bool zeros_add_nothing(const Layer& l) noexcept {
    if constexpr (std::is_integral_v<activation>)
      return atom::activation_offset == 0 && has_zero_at_0(l);
    else
      return true;
  }

  /// Calls list(pixel's first activation, its number in the frame, where its list begins) for pixels of image n, those that
  /// are marked or all, and notes what it returns, the end of the list. Marks tell afterwards which lists are not empty.
  template <bool Marked, class List>
  static void list_pixels(memory& s, std::size_t n, const List& list) noexcept {
    const std::size_t held = s.shape.frame_channels;
    policy::live_group* to = s.pixel_groups.data();
    for (std::size_t y = 0; y < s.shape.input.height; ++y) {
      std::uint8_t& line = s.lines[s.shape.padding.top + y];
      if (Marked && !line) continue;
      const std::size_t first = s.first_pixel(y);
      const activation* at = s.interior(n, y);
      std::uint8_t any = 0;
      for (std::size_t p = first; p < first + s.shape.input.width; ++p, at += held) {
        if (Marked && !s.marks[p]) continue;
        typename memory::pixel_list& of = s.lists[p];
        of.groups = to;
        of.sum = 0;
        to = list(at, p, to, of.sum);
        of.count = static_cast<std::uint32_t>(to - of.groups);
        const std::uint8_t mark = of.count > 0 ? 1 : 0;
        s.marks[p] = mark;
        any |= mark;
      }
      line = any;
    }
  }
  /// Lists the groups of pixels that differ from before(pixel), null for 0, and their differences; false where one is no
  /// signed byte.
  template <bool Marked, class Before>
  static bool list_differences(const Layer& l, memory& s, std::size_t n,
                               const Before& before) noexcept requires has_differences {
    const std::size_t depth = l.weights().group_depth(), held = s.shape.frame_channels, all = held / depth;
    bool fit = true;
    list_pixels<Marked>(s, n, [&](const activation* at, std::size_t p, policy::live_group* to, std::int32_t& total) {
      isa::byte_differences found;
      to = found.list(at, before(at), all, depth, {0, 0}, s.differences.data() + p * held, to);
      fit = fit && found.fit();
      total = found.sum();
      return to;
    });
    return fit;
  }
  /// Lists the groups of every pixel that are not zero points.
  static way list_zeros(const Layer& l, memory& s, std::size_t n) noexcept {
    const std::size_t depth = l.weights().group_depth(), all = s.shape.frame_channels / depth;
    if (zeros_add_nothing(l)) {
      list_pixels<false>(s, n, [&](const activation* at, std::size_t, policy::live_group* to, std::int32_t&) {
        return isa::list_live(at, all, depth, {0, 0}, to);
      });
      return way::ones;
    }
    if constexpr (has_differences) {
      const bool own = std::is_same_v<activation, std::int8_t> && has_zero_at_0(l);
      const activation* const before = own ? nullptr : s.zero_pixel.data();
      if (list_differences<false>(l, s, n, [&](const activation*) { return before; }))
        return own ? way::own_differences : way::zero_differences;
    }
    return way::whole;
  }
  /// Lists the groups of every marked pixel that are not what they were.
  static way list_changes(const Layer& l, memory& s, std::size_t n) noexcept {
    const std::size_t depth = l.weights().group_depth(), all = s.shape.frame_channels / depth;
    const auto distance = static_cast<std::ptrdiff_t>(s.frames_size);
    if constexpr (has_differences)
      if (list_differences<true>(l, s, n, [&](const activation* at) { return at + distance; })) return way::differences;
    list_pixels<true>(s, n, [&](const activation* at, std::size_t, policy::live_group* to, std::int32_t&) {
      return isa::list_changed(at, at + distance, all, depth, {0, 0}, to);
    });
    return way::pairs;
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
