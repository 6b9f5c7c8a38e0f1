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
#include "polymac/isa/live_groups.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// In what a threshold on activations is given: unsigned integers for integers, floats for floats.
template <class Activation>
using threshold_of = std::conditional_t<std::is_integral_v<Activation>, std::uint32_t, float>;

/// |a - b| > threshold; NaN, and what has no distance, has changed wherever it is not the same bits.
template <class Activation>
POLYMAC_INLINE bool has_changed(const Activation& a, const Activation& b, threshold_of<Activation> threshold) noexcept {
  if constexpr (std::is_integral_v<Activation> && sizeof(Activation) == 1) {
    const int distance = a - b;
    return static_cast<unsigned>(distance < 0 ? -distance : distance) > threshold;
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

/// Elements that are compared at a time.
inline constexpr std::size_t compared_at_once = 64;

/// One bit for each of `count` elements that has changed.
template <class Activation>
POLYMAC_INLINE std::uint64_t changed_elements(const Activation* a, const Activation* b, std::size_t count,
                                              threshold_of<Activation> threshold) noexcept {
  if constexpr (sizeof(Activation) == 1 && std::is_integral_v<Activation>) {
    return threshold > 255 ? 0 : isa::bytes_that_differ(a, b, count, static_cast<std::uint8_t>(threshold));
  } else {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < count; ++i) bits |= std::uint64_t{has_changed(a[i], b[i], threshold) ? 1u : 0u} << i;
    return bits;
  }
}

}  // namespace detail

/// Calls changed(i) for elements [0, count) of which a[i] differs from b[i]; it returns where to go on.
template <class Activation, class Changed>
void for_each_change(const Activation* a, const Activation* b, std::size_t count, threshold_of<Activation> threshold,
                     const Changed& changed) noexcept {
  constexpr std::size_t most = detail::compared_at_once;
  for (std::size_t i = 0; i < count;) {
    const std::size_t here = polymac::detail::smaller(count - i, most);
    std::uint64_t bits = detail::changed_elements(a + i, b + i, here, threshold);
    std::size_t next = i + here;
    while (bits != 0) {
      next = changed(i + static_cast<std::size_t>(std::countr_zero(bits)));
      if (next >= i + here) break;
      bits &= ~std::uint64_t{0} << (next - i);
      next = i + here;
    }
    i = next;
  }
}

/// An output pixel to be computed: its number in the image, and the pixel of the frame where its window begins.
struct listed_pixel {
  std::uint32_t row;
  std::uint32_t pixel;
};

/// Appends those of `width` outputs that are 1 in `dirty`, which may be written 8 bytes further: output x is row + x,
/// and its window begins at pixel `first` + x * step.
inline listed_pixel* list_dirty(std::uint8_t* dirty, std::size_t width, std::size_t row, std::size_t first,
                                std::size_t step, listed_pixel* to) noexcept {
  std::memset(dirty + width, 0, 8);
  for (std::size_t x = 0; x < width; x += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, dirty + x, 8);
    if (eight == 0) continue;
    for (std::size_t i = x; i < x + 8; ++i) {
      *to = {static_cast<std::uint32_t>(row + i), static_cast<std::uint32_t>(first + i * step)};
      to += dirty[i];
    }
  }
  return to;
}

/// Appends the outputs whose windows hold a pixel that is marked. `marks`: one byte for every pixel of the frame, 0 or 1;
/// `lines`: for every line of it, is anything marked there? `joined`: bytes of a frame line, `dirty`: of an output line,
/// both with 8 bytes more. Returns the end of the list.
inline listed_pixel* list_outputs(const std::uint8_t* marks, const std::uint8_t* lines, extent2d frame, const window& w,
                                  extent2d output, std::uint8_t* joined, std::uint8_t* dirty,
                                  listed_pixel* to) noexcept {
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
    to = list_dirty(dirty, output.width, oy * output.width, oy * w.stride.height * frame.width, w.stride.width, to);
  }
  return to;
}
/// The same for all outputs.
inline listed_pixel* list_all_outputs(extent2d frame, const window& w, extent2d output, listed_pixel* to) noexcept {
  for (std::size_t oy = 0; oy < output.height; ++oy)
    for (std::size_t x = 0; x < output.width; ++x)
      *to++ = {static_cast<std::uint32_t>(oy * output.width + x),
               static_cast<std::uint32_t>(oy * w.stride.height * frame.width + x * w.stride.width)};
  return to;
}

}  // namespace kernel
POLYMAC_END
