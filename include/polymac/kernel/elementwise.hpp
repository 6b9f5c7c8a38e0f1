// SPDX-License-Identifier: MIT
// The loop nest of everything that maps elements one by one: y = op(x, ...), with broadcasting.
#pragma once

#include "polymac/core/view.hpp"

#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace kernel {

/// Extents of a nest of four loops: batch, height, width, channels.
using nest_extents = std::array<std::size_t, 4>;

/// One operand of the nest: where it begins and how far it steps along each loop. A step of 0 broadcasts.
template <class T>
struct operand {
  T* data = nullptr;
  std::array<std::size_t, 4> step{};
};

template <class T>
constexpr nest_extents extents_of(const image_view<T>& v) noexcept {
  return {v.batch, v.height, v.width, v.channels};
}

/// The view as an operand; axes of extent 1 broadcast.
template <class T>
constexpr operand<T> operand_of(const image_view<T>& v) noexcept {
  return {v.data,
          {v.batch == 1 ? 0 : v.image_stride, v.height == 1 ? 0 : v.line_stride, v.width == 1 ? 0 : v.pixel_stride,
           v.channels == 1 ? std::size_t{0} : std::size_t{1}}};
}

namespace detail {

template <class T>
struct cursor {
  T* data;
  std::size_t step;
};

/// The innermost loop: contiguous where every operand is, so that the compiler vectorises it. The operation is a copy:
/// stores to bytes could alias a reference, and its parameters would be loaded again for every element.
template <class Op, class Out, class... In>
constexpr void run(std::size_t count, Op op, cursor<Out> y, cursor<In>... x) noexcept {
  if (y.step == 1 && ((x.step == 1) && ...)) {
    if constexpr (requires { op.run(count, y.data, x.data...); })
      if (!std::is_constant_evaluated()) return op.run(count, y.data, x.data...);
    for (std::size_t i = 0; i < count; ++i) y.data[i] = op(x.data[i]...);
  } else {
    for (std::size_t i = 0; i < count; ++i) y.data[i * y.step] = op(x.data[i * x.step]...);
  }
}

/// Joins loops that every operand passes through in one stride: a dense tensor becomes one long inner loop.
template <std::size_t Operands>
constexpr void coalesce(nest_extents& extent, std::array<std::array<std::size_t, 4>, Operands>& step) noexcept {
  std::size_t inner = 3;
  for (std::size_t axis = 3; axis-- > 0;) {
    if (extent[axis] == 1) continue;
    bool joins = true;
    for (const auto& s : step) joins = joins && s[axis] == s[inner] * extent[inner];
    const bool first = extent[inner] == 1;
    const std::size_t count = extent[axis];
    if (joins && !first) {
      extent[axis] = 1;
      extent[inner] *= count;
      continue;
    }
    if (!first) --inner;
    extent[axis] = 1;
    extent[inner] = count;
    for (auto& s : step) s[inner] = s[axis];
  }
}

}  // namespace detail

/// y[i] = op(x[i]...) for every i of the extents. Operands may alias element for element, not otherwise. O(elements).
/// An operation with better code for contiguous elements has `run(count, y, x...)`.
template <class Op, class Out, class... In>
constexpr void elementwise(nest_extents extent, const Op& op, operand<Out> y, operand<In>... x) noexcept {
  for (const std::size_t e : extent)
    if (e == 0) return;
  std::array<std::array<std::size_t, 4>, 1 + sizeof...(In)> step{y.step, x.step...};
  detail::coalesce(extent, step);
  for (std::size_t a = 0; a < extent[0]; ++a)
    for (std::size_t b = 0; b < extent[1]; ++b)
      for (std::size_t c = 0; c < extent[2]; ++c) [&]<std::size_t... I>(std::index_sequence<I...>) {
          const auto offset = [&](const std::array<std::size_t, 4>& s) { return a * s[0] + b * s[1] + c * s[2]; };
          detail::run(extent[3], op, detail::cursor<Out>{y.data + offset(step[0]), step[0][3]},
                      detail::cursor<In>{x.data + offset(step[I + 1]), step[I + 1][3]}...);
        }
  (std::index_sequence_for<In...>{});
}

}  // namespace kernel
POLYMAC_END
