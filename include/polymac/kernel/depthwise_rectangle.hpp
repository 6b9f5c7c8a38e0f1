// SPDX-License-Identifier: MIT
// A range of output pixels as rectangles, and these in parts.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {
namespace detail {

/// Output pixels of image n: height lines from y on, width columns from x on.
struct rectangle {
  std::size_t n, y, height, x, width;
};

/// Calls run(rectangle): parts of lines at the ends of the range, whole lines of an image between them.
template <class Run>
constexpr void for_each_rectangle(row_range range, std::size_t batch, extent2d output, const Run& run) noexcept {
  const std::size_t last = polymac::detail::smaller(range.end, batch * output.height * output.width);
  for (std::size_t row = range.begin; row < last;) {
    const std::size_t line = row / output.width, x = row % output.width, y = line % output.height;
    rectangle r{line / output.height, y, 1, x, polymac::detail::smaller(last - row, output.width - x)};
    if (r.width == output.width) r.height = polymac::detail::smaller((last - row) / output.width, output.height - y);
    run(r);
    row += r.height * r.width;
  }
}

/// Cuts [begin, begin + count), count > 1, into the fewest parts of at most Most, as equal as can be, none of them 1
/// (for Most 2, where that takes a part of 3, into parts of 2 and 3): run.template operator()<size>(first) for each.
template <std::size_t Most, class Run>
constexpr POLYMAC_INLINE void for_each_part(std::size_t begin, std::size_t count, const Run& run) noexcept {
  static_assert(Most >= 2 && Most <= 4);
  const std::size_t parts = Most == 2 ? count / 2 : polymac::detail::divide_up(count, Most);
  // The first ones are larger by 1, so that branches on the size are foreseen.
  const std::size_t least = count / parts, more = count % parts;
  for (std::size_t i = 0; i < parts; ++i) {
    const std::size_t size = least + (i < more ? 1 : 0);
    if (size == Most)
      run.template operator()<Most>(begin);
    else if (size == 2)
      run.template operator()<2>(begin);
    else if constexpr (Most != 3)
      run.template operator()<3>(begin);
    begin += size;
  }
}

}  // namespace detail
}  // namespace kernel
POLYMAC_END
