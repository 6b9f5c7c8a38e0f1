// SPDX-License-Identifier: MIT
// The active pixels of an image, of which the others count as zero points: as lists of taps, or as a copy of the image.
#pragma once

#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/kernel/neurons.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// Cuts a workspace into arrays on cache lines. Without memory it only counts: bytes() is what the same cuts need.
class workspace_parts {
 public:
  workspace_parts() noexcept = default;
  explicit workspace_parts(workspace ws) noexcept
      : at_(ws.data == nullptr ? nullptr : ws.data + (line - reinterpret_cast<std::uintptr_t>(ws.data) % line) % line) {
  }
  template <class T>
  T* take(std::size_t count) noexcept {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= line);
    auto* const part = at_ == nullptr ? nullptr : reinterpret_cast<T*>(at_ + used_);
    used_ += (count * sizeof(T) + line - 1) / line * line;
    return part;
  }
  /// Of a workspace at any alignment.
  std::size_t bytes() const noexcept { return used_ + line - 1; }
  /// Bytes up to here: what is left behind them is for somebody else.
  std::size_t used() const noexcept { return used_; }
  std::byte* rest() const noexcept { return at_ + used_; }

 private:
  static constexpr std::size_t line = 64;
  std::byte* at_ = nullptr;
  std::size_t used_ = 0;
};

/// The taps of the window of one output pixel, line by line of the kernel. find() is false for one on padding.
template <class Activation>
struct window_taps {
  image_view<const Activation> x;  ///< one image, the channels of one group
  const window& of;
  std::size_t top, left;  ///< of the window; above and left of the image: larger than any extent
  constexpr std::size_t count() const noexcept { return of.kernel.height * of.kernel.width; }
  constexpr bool find(std::size_t tap, std::size_t& row, std::size_t& column) const noexcept {
    row = top + tap / of.kernel.width * of.dilation.height;
    column = left + tap % of.kernel.width * of.dilation.width;
    return row < x.height && column < x.width;
  }
  constexpr const Activation* pixel(std::size_t row, std::size_t column) const noexcept {
    return x.pixel(0, row, column);
  }
};

/// A row of a matrix as pixels of `channels` elements: each is a tap of every neuron.
template <class Activation>
struct row_taps {
  const Activation* row;
  extent2d extent;
  std::size_t channels;
  constexpr std::size_t count() const noexcept { return extent.height * extent.width; }
  constexpr bool find(std::size_t tap, std::size_t& y, std::size_t& x) const noexcept {
    y = tap / extent.width;
    x = tap % extent.width;
    return true;
  }
  constexpr const Activation* pixel(std::size_t y, std::size_t x) const noexcept {
    return row + (y * extent.width + x) * channels;
  }
};

/// Lists the taps whose pixels take part, without a branch that depends on which these are; returns how many. `list`
/// holds taps.count() + 1 entries.
template <class Taps, class Activation, class TakesPart>
constexpr std::size_t list_taps(const Taps& taps, listed_tap<Activation>* list, const TakesPart& takes_part) noexcept {
  std::size_t count = 0;
  for (std::size_t tap = 0; tap < taps.count(); ++tap) {
    std::size_t y = 0, x = 0;
    if (!taps.find(tap, y, x)) continue;
    list[count] = {taps.pixel(y, x), static_cast<std::uint32_t>(tap)};
    count += takes_part(y, x) ? 1 : 0;
  }
  return count;
}

namespace detail {
template <std::size_t Bytes>
POLYMAC_INLINE void blend_pixels(std::byte* to, const std::byte* from, const std::uint8_t* active,
                                 const std::byte* zero, std::size_t pixels, std::size_t bytes) noexcept {
  if constexpr (Bytes > 0) bytes = Bytes;
  for (std::size_t i = 0; i < pixels; ++i) {
    const auto mask = static_cast<std::byte>(0 - static_cast<unsigned>(active[i]));
    for (std::size_t b = 0; b < bytes; ++b) to[i * bytes + b] = (from[i * bytes + b] & mask) | (zero[b] & ~mask);
  }
}
}  // namespace detail

/// to[pixel] = active[pixel] is 1 ? from[pixel] : zero, for pixels of `channels` elements side by side. The same
/// instructions and addresses for every map. `zero`: such a pixel.
template <class Activation>
void blend_pixels(Activation* to, const Activation* from, const std::uint8_t* active, const Activation* zero,
                  std::size_t channels, std::size_t pixels) noexcept {
  auto* const t = reinterpret_cast<std::byte*>(to);
  const auto* const f = reinterpret_cast<const std::byte*>(from);
  const auto* const z = reinterpret_cast<const std::byte*>(zero);
  const std::size_t bytes = channels * sizeof(Activation);
  switch (bytes) {
    case 1:
      return detail::blend_pixels<1>(t, f, active, z, pixels, bytes);
    case 2:
      return detail::blend_pixels<2>(t, f, active, z, pixels, bytes);
    case 3:
      return detail::blend_pixels<3>(t, f, active, z, pixels, bytes);
    case 4:
      return detail::blend_pixels<4>(t, f, active, z, pixels, bytes);
    case 12:
      return detail::blend_pixels<12>(t, f, active, z, pixels, bytes);
    default:
      return detail::blend_pixels<0>(t, f, active, z, pixels, bytes);
  }
}

}  // namespace kernel
POLYMAC_END
