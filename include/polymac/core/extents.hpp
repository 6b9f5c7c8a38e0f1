// SPDX-License-Identifier: MIT
// Shapes of which every extent is known at compile time or at run time.
#pragma once

#include "polymac/core/buffer.hpp"

#include <array>
#include <cstddef>

POLYMAC_BEGIN

/// A list of extents; `dynamic` stands for one that is known at run time. What a layer stores, and whether it needs the
/// heap, follows from its extents.
template <std::size_t... Extents>
struct extents {
  static constexpr std::size_t rank = sizeof...(Extents);
  static constexpr std::array<std::size_t, sizeof...(Extents)> values{Extents...};

  static constexpr std::size_t at(std::size_t i) { return values[i]; }

  /// Says which extent does not agree with the static one; `axes` names them in order.
  static constexpr status check(const char* who, const std::array<std::size_t, rank>& given,
                                const std::array<const char*, rank>& axes) noexcept {
    for (std::size_t i = 0; i < rank; ++i)
      if (values[i] != dynamic && values[i] != given[i])
        return status::make(errc::shape, who, ": expected ", values[i], " ", axes[i], " (static extent), got ",
                            given[i]);
    return {};
  }
};

namespace detail {
constexpr std::size_t divide_up(std::size_t a, std::size_t b) noexcept { return a / b + (a % b != 0 ? 1 : 0); }
constexpr std::size_t round_up(std::size_t a, std::size_t b) noexcept { return divide_up(a, b) * b; }
constexpr std::size_t smaller(std::size_t a, std::size_t b) noexcept { return a < b ? a : b; }
constexpr std::size_t greater(std::size_t a, std::size_t b) noexcept { return a > b ? a : b; }
}  // namespace detail

POLYMAC_END
