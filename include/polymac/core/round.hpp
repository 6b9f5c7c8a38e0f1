// SPDX-License-Identifier: MIT
// Reals to integers, constexpr and whatever the rounding mode of the thread.
#pragma once

#include "polymac/core/config.hpp"

#include <bit>
#include <cstdint>

POLYMAC_BEGIN
namespace detail {

constexpr bool is_finite(float value) noexcept {
  return (std::bit_cast<std::uint32_t>(value) & 0x7F800000u) != 0x7F800000u;
}
/// What a value that is not finite is called in an error.
constexpr const char* name_of_non_finite(float value) noexcept {
  return value != value ? "NaN" : value > 0 ? "inf" : "-inf";
}

/// The integer at or below x, |x| < 2^62.
constexpr std::int64_t floor_of(double x) noexcept {
  const auto truncated = static_cast<std::int64_t>(x);
  return static_cast<double>(truncated) > x ? truncated - 1 : truncated;
}
/// The integer next to x, |x| < 2^52; ties to even.
constexpr std::int64_t round_to_even(double x) noexcept {
  const std::int64_t below = floor_of(x);
  const double rest = x - static_cast<double>(below);
  if (rest != 0.5) return rest > 0.5 ? below + 1 : below;
  return below + (below & 1);
}
/// The same, ties away from zero.
constexpr std::int64_t round_half_away(double x) noexcept {
  const std::int64_t below = floor_of(x);
  const double rest = x - static_cast<double>(below);
  if (rest != 0.5) return rest > 0.5 ? below + 1 : below;
  return x < 0 ? below : below + 1;
}

}  // namespace detail
POLYMAC_END
