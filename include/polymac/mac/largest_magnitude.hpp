// SPDX-License-Identifier: MIT
// The largest magnitude of a span: what scales of quantised numbers are chosen from.
#pragma once

#include "polymac/core/error.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

POLYMAC_BEGIN
namespace mac {

/// The largest magnitude of `values` into `largest` (0 of none). Refuses infinities and NaN: no scale fits them. O(n).
constexpr status largest_magnitude(const char* who, std::span<const float> values, float& largest) noexcept {
  std::uint32_t most = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    // Bits of magnitudes are ordered as the magnitudes are.
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(values[i]) & 0x7FFFFFFFu;
    if (magnitude >= 0x7F800000u)
      return status::make(errc::parameter, who, ": expected finite values, value ", i, " is ",
                          magnitude == 0x7F800000u ? "infinite" : "NaN");
    if (magnitude > most) most = magnitude;
  }
  largest = std::bit_cast<float>(most);
  return {};
}

/// As many codes as values?
constexpr status check_code_count(const char* who, std::size_t values, std::size_t codes) noexcept {
  if (values == codes) return {};
  return status::make(errc::shape, who, ": expected as many codes as values, got ", codes, " and ", values);
}

}  // namespace mac
POLYMAC_END
