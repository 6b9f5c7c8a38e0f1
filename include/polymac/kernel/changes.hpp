// SPDX-License-Identifier: MIT
// Which pixels of an image are not what they were, and which outputs of a convolution read one of them.
//
//   pixels that have changed      .  .  .  .  .  .        outputs of a 3 x 3 kernel      .  .  .  .  .  .
//                                 .  x  .  .  .  .        that read one of them          x  x  x  .  .  .
//                                 .  .  .  .  .  .                                       x  x  x  .  .  .   and so on
//
// One byte for a pixel: first the lines of a kernel are joined, then its columns, so a kernel of 3 x 3 costs five
// passes over bytes, 64 at a time. Comparing reads both images once; what has changed is copied on the way.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/window.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// In what a threshold on activations is given: unsigned integers for integers, floats for floats.
template <class Activation>
using threshold_of = std::conditional_t<std::is_integral_v<Activation>, std::uint32_t, float>;

namespace detail {
template <class Byte>
POLYMAC_INLINE std::uint8_t byte_distance(Byte a, Byte b) noexcept {
  constexpr std::uint8_t top = std::is_signed_v<Byte> ? 0x80 : 0;
  const auto x = static_cast<std::uint8_t>(static_cast<std::uint8_t>(a) ^ top),
             y = static_cast<std::uint8_t>(static_cast<std::uint8_t>(b) ^ top);
  return static_cast<std::uint8_t>(x > y ? x - y : y - x);
}
}  // namespace detail

/// |a - b| > threshold; NaN, and what has no distance, has changed wherever it is not the same bits.
template <class Activation>
POLYMAC_INLINE bool has_changed(const Activation& a, const Activation& b, threshold_of<Activation> threshold) noexcept {
  if constexpr (std::is_integral_v<Activation> && sizeof(Activation) == 1) {
    return detail::byte_distance(a, b) > threshold;
  } else if constexpr (std::is_integral_v<Activation>) {
    const auto distance = static_cast<std::int64_t>(a) - static_cast<std::int64_t>(b);
    return static_cast<std::uint64_t>(distance < 0 ? -distance : distance) > threshold;
  } else if constexpr (requires { static_cast<float>(a); }) {
    if (threshold == 0.0f) return std::memcmp(&a, &b, sizeof(a)) != 0;
    const float distance = static_cast<float>(a) - static_cast<float>(b);
    return !((distance < 0.0f ? -distance : distance) <= threshold);
  } else {
    static_cast<void>(threshold);
    return std::memcmp(&a, &b, sizeof(a)) != 0;
  }
}

namespace detail {

/// Elements that are compared before anybody asks.
inline constexpr std::size_t compared_at_once = 64;

template <class Activation>
POLYMAC_INLINE bool any_changed(const Activation* a, const Activation* b, threshold_of<Activation> threshold) noexcept {
  if constexpr (sizeof(Activation) == 1 && std::is_integral_v<Activation>) {
    if (threshold > 255) return false;
    const auto limit = static_cast<std::uint8_t>(threshold);
    std::uint8_t any = 0;
    for (std::size_t i = 0; i < compared_at_once; ++i) {
      const std::uint8_t exceeds = byte_distance(a[i], b[i]) > limit ? 1 : 0;
      any = static_cast<std::uint8_t>(any | exceeds);
    }
    return any != 0;
  } else {
    bool any = false;
    for (std::size_t i = 0; i < compared_at_once; ++i) any |= has_changed(a[i], b[i], threshold);
    return any;
  }
}

}  // namespace detail

/// Calls changed(i) for elements [0, count) of which a[i] differs from b[i]; it returns where to go on.
template <class Activation, class Changed>
void for_each_change(const Activation* a, const Activation* b, std::size_t count, threshold_of<Activation> threshold,
                     const Changed& changed) noexcept {
  for (std::size_t i = 0; i < count;) {
    const std::size_t left = count - i;
    if (left >= detail::compared_at_once && !detail::any_changed(a + i, b + i, threshold)) {
      i += detail::compared_at_once;
      continue;
    }
    const std::size_t end = i + (left < detail::compared_at_once ? left : detail::compared_at_once);
    while (i < end) i = has_changed(a[i], b[i], threshold) ? changed(i) : i + 1;
  }
}

/// An output pixel to be computed: its number in the image, and where its window begins in the frame, in elements.
struct listed_pixel {
  std::uint32_t row;
  std::uint32_t at;
};

/// Appends the outputs whose windows hold a pixel that is marked. `marks`: one byte for every pixel of the frame, 0 or 1; `lines`: for
/// every line of it, is anything marked there? `joined`: bytes of a frame line, `dirty`: of an output line, both with 8
/// bytes more. Returns the end of the list.
inline listed_pixel* list_outputs(const std::uint8_t* marks, const std::uint8_t* lines, extent2d frame,
                                  std::size_t channels, const window& w, extent2d output, std::uint8_t* joined,
                                  std::uint8_t* dirty, listed_pixel* to) noexcept {
  for (std::size_t oy = 0; oy < output.height; ++oy) {
    bool any = false;
    for (std::size_t ky = 0; ky < w.kernel.height; ++ky) {
      const std::size_t line = oy * w.stride.height + ky * w.dilation.height;
      if (!lines[line]) continue;
      const std::uint8_t* const from = marks + line * frame.width;
      if (!any)
        std::memcpy(joined, from, frame.width);
      else
        for (std::size_t x = 0; x < frame.width; ++x) joined[x] |= from[x];
      any = true;
    }
    if (!any) continue;
    for (std::size_t x = 0; x < output.width; ++x) dirty[x] = joined[x * w.stride.width];
    for (std::size_t kx = 1; kx < w.kernel.width; ++kx) {
      const std::uint8_t* const from = joined + kx * w.dilation.width;
      if (w.stride.width == 1)
        for (std::size_t x = 0; x < output.width; ++x) dirty[x] |= from[x];
      else
        for (std::size_t x = 0; x < output.width; ++x) dirty[x] |= from[x * w.stride.width];
    }
    const std::size_t first = oy * w.stride.height * frame.width * channels, right = w.stride.width * channels;
    std::memset(dirty + output.width, 0, 8);
    for (std::size_t x = 0; x < output.width; x += 8) {
      std::uint64_t eight;
      std::memcpy(&eight, dirty + x, 8);
      if (eight == 0) continue;
      for (std::size_t i = x; i < x + 8; ++i) {
        *to = {static_cast<std::uint32_t>(oy * output.width + i), static_cast<std::uint32_t>(first + i * right)};
        to += dirty[i];
      }
    }
  }
  return to;
}
/// The same for all outputs.
inline listed_pixel* list_all_outputs(extent2d frame, std::size_t channels, const window& w, extent2d output,
                                      listed_pixel* to) noexcept {
  for (std::size_t oy = 0; oy < output.height; ++oy)
    for (std::size_t x = 0; x < output.width; ++x)
      *to++ = {static_cast<std::uint32_t>(oy * output.width + x),
               static_cast<std::uint32_t>((oy * w.stride.height * frame.width + x * w.stride.width) * channels)};
  return to;
}

}  // namespace kernel
POLYMAC_END
