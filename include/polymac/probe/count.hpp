// SPDX-License-Identifier: MIT
// How many products were executed, and how many of them for nothing.
#pragma once

#include "polymac/core/config.hpp"

#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace probe {

/// Counts products. Which those are, padding and what fills up groups included: probe/probed.hpp.
struct count {
  std::uint64_t executed = 0;
  /// Of these, products with an activation that is zero (integers: `zero_point`), with a weight 0, and with either.
  std::uint64_t zero_activations = 0, zero_weights = 0, zero_operands = 0;
  /// The activation that stands for 0.
  std::int64_t zero_point = 0;

  template <class Sum, class Activation, class Weight>
  constexpr void operator()(const Sum&, const Sum&, const Activation& a, const Weight& w) noexcept {
    const bool no_activation = is_zero(a, zero_point), no_weight = is_zero(w, 0);
    ++executed;
    zero_activations += no_activation ? 1 : 0;
    zero_weights += no_weight ? 1 : 0;
    zero_operands += no_activation || no_weight ? 1 : 0;
  }
  /// Of `macs` products that a dense layer has: those that were left out. Layers that multiply padding may execute more
  /// than the products of their shape; then 0.
  constexpr std::uint64_t skipped(std::uint64_t macs) const noexcept { return macs > executed ? macs - executed : 0; }

 private:
  template <class T>
  static constexpr bool is_zero(const T& v, [[maybe_unused]] std::int64_t zero) noexcept {
    if constexpr (std::is_integral_v<T>)
      return static_cast<std::int64_t>(v) == zero;
    else if constexpr (requires { static_cast<float>(v); })
      return static_cast<float>(v) == 0.0f;  // of either sign
    else
      return v == T{};
  }
};

}  // namespace probe
POLYMAC_END
