// SPDX-License-Identifier: MIT
// One head of a view of heads.
#pragma once

#include "polymac/core/view.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// The vectors of one head, one for each token.
template <class T>
struct head_rows {
  T* data;
  std::size_t stride;
  constexpr T* operator[](std::size_t i) const noexcept { return data + i * stride; }
  constexpr operator head_rows<const T>() const noexcept  // NOLINT: implicit by design
      requires(!std::is_const_v<T>) {
    return {data, stride};
  }
};
template <class T>
constexpr head_rows<T> rows_of_head(const heads_view<T>& v, std::size_t n, std::size_t head) noexcept {
  return {v.at(n, 0, head), v.token_stride};
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
