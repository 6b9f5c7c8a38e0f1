// SPDX-License-Identifier: MIT
// A range of output pixels as rectangles.
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

/// The stages as they take blocks of sums: their view, where they have one.
template <class Epilogue>
constexpr POLYMAC_INLINE decltype(auto) lanes_of(const Epilogue& stages) noexcept {
  if constexpr (requires { stages.view(); })
    return stages.view();
  else
    return (stages);
}

}  // namespace detail
}  // namespace kernel
POLYMAC_END
