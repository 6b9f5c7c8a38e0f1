// SPDX-License-Identifier: MIT
// Asks for memory to come near before it is read or written.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {

/// Asks for the lines of `count` elements to come into L2, to be read, or (Written) to be written.
template <bool Written = false, class X>
POLYMAC_INLINE void fetch(const X* from, std::size_t count) noexcept {
  constexpr std::size_t line = 64 / sizeof(X);
  for (std::size_t i = 0; i < count; i += line) __builtin_prefetch(from + i, Written ? 1 : 0, 2);
}

}  // namespace kernel
POLYMAC_END
