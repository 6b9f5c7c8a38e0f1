// SPDX-License-Identifier: MIT
// Views: pointers with extents and strides. polymac has no tensor class; memory is the caller's.
//
// Views are plain data and may cross translation units, so they live outside the ISA-tagged namespace.
#pragma once

#include "polymac/core/config.hpp"

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace polymac {

/// Rows x columns elements, row after row. `stride` is the distance of two rows in elements, at least `columns`.
template <class T>
struct matrix_view {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::size_t stride = 0;

  constexpr matrix_view() noexcept = default;
  constexpr matrix_view(T* data_, std::size_t rows_, std::size_t columns_) noexcept
      : matrix_view(data_, rows_, columns_, columns_) {}
  constexpr matrix_view(T* data_, std::size_t rows_, std::size_t columns_, std::size_t stride_) noexcept
      : data(data_), rows(rows_), columns(columns_), stride(stride_) {}
  /// A view of mutable elements is also a view of constant ones.
  template <class U>
    requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>)
  constexpr matrix_view(const matrix_view<U>& other) noexcept  // NOLINT: implicit by design
      : matrix_view(other.data, other.rows, other.columns, other.stride) {}

  constexpr T* row(std::size_t r) const noexcept { return data + r * stride; }
  constexpr T& operator()(std::size_t r, std::size_t c) const noexcept { return data[r * stride + c]; }
};

template <class T>
matrix_view(T*, std::size_t, std::size_t) -> matrix_view<T>;
template <class T>
matrix_view(T*, std::size_t, std::size_t, std::size_t) -> matrix_view<T>;

/// Batch x height x width x channels elements (NHWC): the channels of a pixel are contiguous. Strides are distances in
/// elements between neighbouring pixels of a line, lines of an image, and images of the batch.
template <class T>
struct image_view {
  T* data = nullptr;
  std::size_t batch = 0;
  std::size_t height = 0;
  std::size_t width = 0;
  std::size_t channels = 0;
  std::size_t pixel_stride = 0;
  std::size_t line_stride = 0;
  std::size_t image_stride = 0;

  constexpr image_view() noexcept = default;
  /// A dense image.
  constexpr image_view(T* data_, std::size_t batch_, std::size_t height_, std::size_t width_,
                       std::size_t channels_) noexcept
      : image_view(data_, batch_, height_, width_, channels_, channels_, width_ * channels_,
                   height_ * width_ * channels_) {}
  constexpr image_view(T* data_, std::size_t batch_, std::size_t height_, std::size_t width_, std::size_t channels_,
                       std::size_t pixel_stride_, std::size_t line_stride_, std::size_t image_stride_) noexcept
      : data(data_),
        batch(batch_),
        height(height_),
        width(width_),
        channels(channels_),
        pixel_stride(pixel_stride_),
        line_stride(line_stride_),
        image_stride(image_stride_) {}
  template <class U>
    requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>)
  constexpr image_view(const image_view<U>& other) noexcept  // NOLINT: implicit by design
      : image_view(other.data, other.batch, other.height, other.width, other.channels, other.pixel_stride,
                   other.line_stride, other.image_stride) {}

  constexpr T* pixel(std::size_t n, std::size_t y, std::size_t x) const noexcept {
    return data + n * image_stride + y * line_stride + x * pixel_stride;
  }
  constexpr T& operator()(std::size_t n, std::size_t y, std::size_t x, std::size_t c) const noexcept {
    return pixel(n, y, x)[c];
  }
};

template <class T>
image_view(T*, std::size_t, std::size_t, std::size_t, std::size_t) -> image_view<T>;

/// Batch x tokens x heads vectors of `size` elements: queries, keys or values of attention. The elements of a vector are
/// contiguous; strides are distances in elements. Two dense orders have names, and both are read without a copy:
/// `by_token` [batch][token][head][size], as a linear layer writes them, and `by_head` [batch][head][token][size].
template <class T>
struct heads_view {
  T* data = nullptr;
  std::size_t batch = 0;
  std::size_t tokens = 0;
  std::size_t heads = 0;
  std::size_t size = 0;
  std::size_t batch_stride = 0;
  std::size_t token_stride = 0;
  std::size_t head_stride = 0;

  constexpr heads_view() noexcept = default;
  constexpr heads_view(T* data_, std::size_t batch_, std::size_t tokens_, std::size_t heads_, std::size_t size_,
                       std::size_t batch_stride_, std::size_t token_stride_, std::size_t head_stride_) noexcept
      : data(data_),
        batch(batch_),
        tokens(tokens_),
        heads(heads_),
        size(size_),
        batch_stride(batch_stride_),
        token_stride(token_stride_),
        head_stride(head_stride_) {}
  template <class U>
    requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>)
  constexpr heads_view(const heads_view<U>& other) noexcept  // NOLINT: implicit by design
      : heads_view(other.data, other.batch, other.tokens, other.heads, other.size, other.batch_stride,
                   other.token_stride, other.head_stride) {}

  /// Dense [batch][token][head][size].
  static constexpr heads_view by_token(T* data, std::size_t batch, std::size_t tokens, std::size_t heads,
                                       std::size_t size) noexcept {
    return {data, batch, tokens, heads, size, tokens * heads * size, heads * size, size};
  }
  /// Dense [batch][head][token][size].
  static constexpr heads_view by_head(T* data, std::size_t batch, std::size_t tokens, std::size_t heads,
                                      std::size_t size) noexcept {
    return {data, batch, tokens, heads, size, heads * tokens * size, size, tokens * size};
  }

  constexpr T* at(std::size_t n, std::size_t token, std::size_t head) const noexcept {
    return data + n * batch_stride + token * token_stride + head * head_stride;
  }
};

/// Memory that the caller lends to a kernel for the time of one call. Any alignment will do.
struct workspace {
  std::byte* data = nullptr;
  std::size_t size = 0;  ///< bytes

  constexpr workspace() noexcept = default;
  constexpr workspace(std::byte* data_, std::size_t size_) noexcept : data(data_), size(size_) {}
  /// From any contiguous container of bytes (`std::array<std::byte, N>`, `std::vector<std::byte>`, `std::span`).
  template <class Container>
    requires requires(Container& c) {
      { c.data() } -> std::same_as<std::byte*>;
      c.size();
    }
  constexpr explicit workspace(Container&& c) noexcept : data(c.data()), size(c.size()) {}
};

/// Half-open range of output rows: what one thread of the caller works on. Default: all rows.
struct row_range {
  std::size_t begin = 0;
  std::size_t end = static_cast<std::size_t>(-1);
};
/// The same of output columns: channels of an image.
struct column_range {
  std::size_t begin = 0;
  std::size_t end = static_cast<std::size_t>(-1);
};

}  // namespace polymac
