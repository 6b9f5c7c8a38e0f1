// SPDX-License-Identifier: MIT
// The reference of a stream is brought up to x: what is transmitted, and which pixels that changes.
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/live_groups.hpp"
#include "polymac/kernel/changes.hpp"
#include "polymac/kernel/convolution_windows.hpp"
#include "polymac/layer/stream_memory.hpp"
#include "polymac/policy/delta.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Image n of x becomes the reference, all of it.
template <class Memory>
void transmit_all(const image_view<const typename Memory::activation>& x, std::size_t n, Memory& s) noexcept {
  using activation = typename Memory::activation;
  const std::size_t held = s.shape.frame_channels;
  const bool dense = x.pixel_stride == x.channels && held == x.channels;
  for (std::size_t y = 0; y < x.height; ++y) {
    activation* const to = s.interior(n, y);
    for (std::size_t i = 0; i < (dense ? 1 : x.width); ++i)
      std::memcpy(static_cast<void*>(to + i * held), x.pixel(n, y, i),
                  (dense ? x.width : 1) * x.channels * sizeof(activation));
  }
}
/// Replaces those of `count` elements of neighbouring pixels that differ by more than the threshold, and marks their
/// pixels; was there anything?
template <policy::grain Grain, class Activation>
std::uint8_t transmit(const Activation* from, Activation* to, std::size_t channels, std::size_t count,
                      kernel::threshold_of<Activation> threshold, std::uint8_t* marks) noexcept {
  std::uint8_t any = 0;
  constexpr bool bytes = sizeof(Activation) == 1 && std::is_integral_v<Activation>;
  if constexpr (bytes && Grain != policy::grain::pixel) {
    // Elements, or fours of them, 64 at a time.
    constexpr std::size_t most = kernel::detail::compared_at_once;
    if (threshold > 255) return 0;
    if (Grain == policy::grain::element || channels % 4 == 0) {
      std::size_t pixel = 0, end_of_pixel = channels;
      for (std::size_t i = 0; i < count; i += most) {
        const std::size_t here = polymac::detail::smaller(count - i, most);
        std::uint64_t bits = isa::bytes_that_differ(from + i, to + i, here, static_cast<std::uint8_t>(threshold));
        if (bits == 0) continue;
        if constexpr (Grain == policy::grain::group) bits = isa::fours_of(bits);
        isa::replace_bytes(from + i, to + i, here, bits);
        any = 1;
        while (end_of_pixel <= i) end_of_pixel += channels, ++pixel;
        for (std::size_t p = pixel, end = end_of_pixel, begin = i;; ++p, begin = end, end += channels) {
          const std::size_t last = polymac::detail::smaller(end, i + here);
          const std::size_t width = last - begin;
          const std::uint64_t mask = width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
          marks[p] |= ((bits >> (begin - i)) & mask) != 0 ? 1 : 0;
          if (end >= i + here) break;
        }
      }
      return any;
    }
  }
  kernel::for_each_change(from, to, count, threshold, [&](std::size_t i) {
    const std::size_t at = i / channels;
    marks[at] = any = 1;
    std::size_t first = i, end = i + 1;
    if constexpr (Grain == policy::grain::pixel) {
      first = at * channels;
      end = first + channels;
    } else if constexpr (Grain == policy::grain::group) {
      first = i - (i - at * channels) % 4;
      end = polymac::detail::smaller(first + 4, (at + 1) * channels);
    }
    kernel::detail::copy_elements(to + first, from + first, end - first);
    return end;
  });
  return any;
}
/// Brings the reference up to x where they differ by more than the threshold, and marks those pixels.
template <policy::grain Grain, class Memory>
void transmit_changes(const image_view<const typename Memory::activation>& x, std::size_t n, Memory& s) noexcept {
  using activation = typename Memory::activation;
  const std::size_t channels = x.channels, held = s.shape.frame_channels;
  const bool dense = x.pixel_stride == channels && held == channels;
  for (std::size_t y = 0; y < x.height; ++y) {
    activation* const reference = s.interior(n, y);
    std::uint8_t* const marks = s.marks.data() + s.first_pixel(y);
    std::uint8_t any = 0;
    if (dense)
      any = transmit<Grain>(x.pixel(n, y, 0), reference, channels, x.width * channels, s.threshold, marks);
    else
      for (std::size_t i = 0; i < x.width; ++i)
        any |= transmit<Grain>(x.pixel(n, y, i), reference + i * held, channels, channels, s.threshold, marks + i);
    s.lines[s.shape.padding.top + y] = any;
  }
}
/// The image before the next change is the one of now: of all lines, or of those that are marked.
template <class Memory>
void keep_reference(std::size_t n, bool all, Memory& s) noexcept {
  if (s.frames.size() == s.frames_size) return;
  const extent2d frame = s.frame_extent();
  const std::size_t line = frame.width * s.shape.frame_channels;
  auto* const now = s.frames.data() + n * s.image_elements();
  for (std::size_t y = 0; y < frame.height; ++y)
    if (all || s.lines[y])
      std::memcpy(static_cast<void*>(now + s.frames_size + y * line), now + y * line, line * sizeof(*now));
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
