// SPDX-License-Identifier: MIT
// How fast memory can be read.
#pragma once

#include <cstddef>

namespace example {

/// Bytes a second of a loop that does nothing but read so many bytes, again and again: the fastest of some passes. Of the
/// level of caches that holds them.
double read_bandwidth(std::size_t bytes);

}  // namespace example
