// SPDX-License-Identifier: MIT
// Blocks: several k as one element of an arithmetic.
//
// What is defined on several k at once (a scale for 32 of them, a word of 64 bits, the rows of an analogue array) is
// one element: a plain struct with operator== whose value-initialised form adds nothing. Loops over k, padding, windows
// and golden models then need to know nothing of it.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace polymac {

/// N values that are one element. The memory of N values side by side.
template <class T, std::size_t N>
struct block_of {
  using value_type = T;
  static constexpr std::size_t size = N;
  T values[N]{};
  constexpr T& operator[](std::size_t i) noexcept { return values[i]; }
  constexpr const T& operator[](std::size_t i) const noexcept { return values[i]; }
  friend constexpr bool operator==(const block_of&, const block_of&) noexcept = default;
};

/// 64 bits, k = 0 the lowest.
struct bit_word {
  std::uint64_t bits = 0;
  constexpr bool operator[](std::size_t k) const noexcept { return (bits >> k & 1u) != 0; }
  friend constexpr bool operator==(const bit_word&, const bit_word&) noexcept = default;
};

}  // namespace polymac

POLYMAC_BEGIN
namespace detail {

/// A block in the place of values of type T, const where they are.
template <class Block, class T>
struct block_over_values {
  static_assert(std::is_same_v<std::remove_const_t<T>, typename Block::value_type> &&
                    sizeof(Block) == Block::size * sizeof(T) && alignof(Block) == alignof(T),
                "polymac: as_blocks needs blocks that are nothing but values of the view's type, side by side");
  using type = std::conditional_t<std::is_const_v<T>, const Block, Block>;
};
template <class Block, class T>
using block_over = typename block_over_values<Block, T>::type;

}  // namespace detail

/// Rows of values read as rows of blocks, nothing moved: `as_blocks<block_of<std::int8_t, 32>>(view)`. Refuses, with
/// errc::shape, columns or a stride that the size of a block does not divide.
template <class Block, class T>
result<matrix_view<detail::block_over<Block, T>>> as_blocks(matrix_view<T> values) noexcept {
  using element = detail::block_over<Block, T>;
  if (values.columns % Block::size != 0 || (values.rows > 1 && values.stride % Block::size != 0))
    return status::make(errc::shape, "as_blocks: expected rows of a multiple of ", Block::size, " values, got ",
                        values.columns, " columns and a stride of ", values.stride);
  return matrix_view<element>(reinterpret_cast<element*>(values.data), values.rows, values.columns / Block::size,
                              values.stride / Block::size);
}
/// The same of an image, channel by channel.
template <class Block, class T>
result<image_view<detail::block_over<Block, T>>> as_blocks(image_view<T> values) noexcept {
  using element = detail::block_over<Block, T>;
  constexpr std::size_t n = Block::size;
  if (values.channels % n != 0 || values.pixel_stride % n != 0 || values.line_stride % n != 0 ||
      values.image_stride % n != 0)
    return status::make(errc::shape, "as_blocks: expected pixels of a multiple of ", n, " channels, got ",
                        values.channels, " channels and strides of ", values.pixel_stride, ", ", values.line_stride,
                        " and ", values.image_stride);
  return image_view<element>(reinterpret_cast<element*>(values.data), values.batch, values.height, values.width,
                             values.channels / n, values.pixel_stride / n, values.line_stride / n,
                             values.image_stride / n);
}

POLYMAC_END
