// SPDX-License-Identifier: MIT
// Which activations of an image have changed, each of them once: lists of the lines of a frame, windows as parts of them.
//
//     frame line      . . x . . x x . . . . x       list   2 5 6 11          first  0 0 0 1 1 1 2 3 3 3 3 3 4
//     window            [ . . x x . ]                      [5 6]                    first[1] .. first[6]
//
// All windows of a line of output share the lists of the lines they read, so an element is compared and listed once and
// not once for every tap; a window is one stretch of each list. No window is copied.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/avx512_vnni_changed_bytes.hpp"
#include "polymac/isa/changed_bytes.hpp"
#include "polymac/kernel/changes.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace kernel {

/// The list of one frame line: places of elements in it, their differences, and for each pixel (and the end) how many
/// entries lie before it. A difference that is no signed byte has two entries. Memory of the caller's: twice the elements
/// of the line and isa::change_slack, pixels + 1.
struct changed_line {
  std::uint16_t* places;
  std::int8_t* differences;
  std::uint32_t* first;
};
constexpr std::size_t changed_line_entries(std::size_t elements) noexcept { return 2 * elements + isa::change_slack; }

/// Lists what of `pixels` pixels has changed by more than the threshold, and brings the reference up to x. The frame
/// line has `before` pixels of padding ahead, `frame_pixels` in all. B: isa::changed_bytes.
template <class B, class Byte>
void list_changes(const Byte* x, std::size_t pixel_stride, Byte* reference, std::size_t pixels, std::size_t channels,
                  std::uint32_t threshold, std::size_t before, std::size_t frame_pixels,
                  const changed_line& to) noexcept {
  std::uint32_t count = 0;
  std::size_t filled = 0, boundary = 0;  // pixel `filled` begins at element `boundary`, and has no number yet
  // Elements whose difference is no signed byte are among these: they are known modulo 256, and so is what they were.
  const auto list_again = [&](const Byte* from, std::size_t place, std::uint64_t bits) {
    std::int8_t wrapped[64];
    const auto all = static_cast<std::size_t>(std::popcount(bits));
    for (std::size_t e = 0; e < all; ++e) wrapped[e] = to.differences[count + e];
    for (std::size_t e = 0; e < all; ++e, bits &= bits - 1) {
      const auto i = static_cast<std::size_t>(std::countr_zero(bits));
      for (; boundary <= place + i; boundary += channels) to.first[filled++] = count;
      const auto old = static_cast<Byte>(from[i] - wrapped[e]);
      int left = from[i] - old;
      do {
        const int part = left < -128 ? -128 : left > 127 ? 127 : left;
        to.places[count] = static_cast<std::uint16_t>(place + i);
        to.differences[count++] = static_cast<std::int8_t>(part);
        left -= part;
      } while (left != 0);
    }
  };
  const auto look = [&](const Byte* from, Byte* old, std::size_t elements, std::size_t place) {
    for (std::size_t i = 0; i < elements; i += 64) {
      const std::size_t here = elements - i < 64 ? elements - i : 64;
      const std::uint64_t bits = detail::changed_elements(from + i, old + i, here, threshold);
      if (bits == 0) continue;
      for (; boundary <= place + i; boundary += channels) to.first[filled++] = count;
      if (!B::append(bits, from + i, old + i, here, place + i, to.places + count, to.differences + count)) {
        list_again(from + i, place + i, bits);
        for (; boundary < place + i + here; boundary += channels) to.first[filled++] = count;
        continue;
      }
      for (; boundary < place + i + here; boundary += channels) {
        const std::uint64_t ahead = (std::uint64_t{1} << (boundary - place - i)) - 1;
        to.first[filled++] = count + static_cast<std::uint32_t>(std::popcount(bits & ahead));
      }
      count += static_cast<std::uint32_t>(std::popcount(bits));
    }
  };
  if (pixel_stride == channels)
    look(x, reference, pixels * channels, before * channels);
  else
    for (std::size_t p = 0; p < pixels; ++p)
      look(x + p * pixel_stride, reference + p * channels, channels, (before + p) * channels);
  while (filled <= frame_pixels) to.first[filled++] = count;
}

}  // namespace kernel
POLYMAC_END
