// SPDX-License-Identifier: MIT
// What the layers with weights check of the views they are called with: memory that is there, and strides that keep the
// elements apart.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"

#include <cstddef>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Do the strides of a view keep its pixels, lines and images apart, and does it lie within the address space? Only the
/// stride of an axis with several elements counts.
template <class T>
constexpr bool strides_fit(const image_view<T>& v) noexcept {
  constexpr std::size_t most = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / sizeof(T);
  std::size_t span = v.channels;  // elements from the first to the last of what the axes so far reach over
  const auto extend = [&span](std::size_t count, std::size_t stride) {
    if (count <= 1) return span <= most;
    // A division takes as long as a small product; both factors below the root of the address space need none.
    constexpr std::size_t small = std::size_t{1} << (std::numeric_limits<std::size_t>::digits / 2 - 8);
    static_assert(small <= most / small);
    if (stride < span || ((count | stride) >= small && stride > most / count)) return false;
    span += (count - 1) * stride;  // at most count * stride
    return true;
  };
  return extend(v.width, v.pixel_stride) && extend(v.height, v.line_stride) && extend(v.batch, v.image_stride);
}

/// The same for the rows of a matrix.
template <class T>
constexpr bool strides_fit(const matrix_view<T>& m) noexcept {
  return strides_fit(image_view<T>(m.data, m.rows, 1, 1, m.columns, m.stride, m.stride, m.stride));
}

/// Is there memory? In a constant expression using a null pointer is an error anyway, and g++ 12 refuses to compare the
/// address of a temporary with it.
template <class T>
constexpr bool has_data(T* data) noexcept {
  return std::is_constant_evaluated() || data != nullptr;
}

/// Are these beyond doubt two matrices with rows, memory, and strides that keep the rows apart? What a call asks first,
/// in few branches; where the answer is no, the checks above and below say what is wrong, if anything is.
template <class X, class Y>
constexpr POLYMAC_INLINE bool plainly_fit(const matrix_view<X>& x, const matrix_view<Y>& y) noexcept {
  constexpr std::size_t small = std::size_t{1} << (std::numeric_limits<std::size_t>::digits / 2 - 8);
  return has_data(x.data) && has_data(y.data) && x.rows > 0 && x.stride >= x.columns && y.stride >= y.columns &&
         (x.rows | y.rows | x.stride | y.stride) < small;
}

/// Says what is wrong with the memory of x and y, of which the extents are right.
template <class X, class Y>
constexpr status check_memory(const char* who, const X& x, const Y& y) noexcept {
  if (!has_data(x.data) || !has_data(y.data))
    return status::make(errc::parameter, who, ": the view ", x.data == nullptr ? "x" : "y", " has no data");
  if (!strides_fit(x) || !strides_fit(y))
    return status::make(errc::shape, who, ": the strides of ", strides_fit(x) ? "y" : "x",
                        " are smaller than its extents, or lead out of the address space");
  return {};
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
