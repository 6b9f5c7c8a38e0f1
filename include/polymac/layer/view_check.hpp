// SPDX-License-Identifier: MIT
// What the layers without weights check of their views, and how a matrix is an image.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace layer {

/// rows x columns as rows images of one pixel: softmax, add and the like then work per row.
template <class T>
constexpr image_view<T> as_image(const matrix_view<T>& m) noexcept {
  return {m.data, m.rows, 1, 1, m.columns, m.stride, m.stride, m.stride};
}

namespace detail {

/// Has the view data, or no elements? Do the channels of neighbouring pixels keep apart?
template <class T>
constexpr status check_view(const char* who, const char* name, const image_view<T>& v) noexcept {
  if (v.batch == 0 || v.height == 0 || v.width == 0 || v.channels == 0) return {};
  if (v.data == nullptr) return status::make(errc::shape, who, ": the view of the ", name, " has no data");
  if (v.width > 1 && v.pixel_stride < v.channels)
    return status::make(errc::shape, who, ": expected a pixel stride of the ", name, " of at least ", v.channels,
                        " elements, got ", v.pixel_stride);
  return {};
}

template <class T>
constexpr bool has_extents(const image_view<T>& v, std::size_t batch, std::size_t height, std::size_t width,
                           std::size_t channels) noexcept {
  return v.batch == batch && v.height == height && v.width == width && v.channels == channels;
}

/// Expects these extents; says both shapes where they differ.
template <class T>
constexpr status expect_extents(const char* who, const char* name, const image_view<T>& v, std::size_t batch,
                                std::size_t height, std::size_t width, std::size_t channels) noexcept {
  if (!has_extents(v, batch, height, width, channels))
    return status::make(errc::shape, who, ": expected ", name, " of ", batch, " x ", height, " x ", width, " x ",
                        channels, ", got ", v.batch, " x ", v.height, " x ", v.width, " x ", v.channels);
  return check_view(who, name, v);
}

/// Same extents of input and output, both with data.
template <class X, class Y>
constexpr status expect_same(const char* who, const image_view<X>& x, const image_view<Y>& y) noexcept {
  const status s = check_view(who, "input", x);
  return s.ok() ? expect_extents(who, "output", y, x.batch, x.height, x.width, x.channels) : s;
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
