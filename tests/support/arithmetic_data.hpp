// SPDX-License-Identifier: MIT
// Random operands for every arithmetic of arithmetics.hpp: over the whole range that it admits, often at its ends.
#pragma once

#include "support/arithmetics.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace polymac_test {

/// Activations and weights over the whole range that M admits.
template <class M>
std::vector<typename M::activation> random_activations(random_source& random, std::size_t count) {
  if constexpr (std::is_same_v<typename M::activation, code>) {
    std::vector<code> codes(count);
    for (auto& c : codes) c.bits = static_cast<std::uint8_t>(random.bits() & 0x83u);
    return codes;
  } else if constexpr (!std::is_integral_v<typename M::activation>) {
    return uniform<typename M::activation>(random, count);
  } else {
    return random.integer(0, 3) == 0 ? extremes<typename M::activation>(random, count)
                                     : uniform<typename M::activation>(random, count);
  }
}
template <class M>
std::vector<typename M::weight> random_weights(random_source& random, std::size_t count) {
  if constexpr (std::is_same_v<M, power_of_two>) {
    return small_integers<std::int8_t>(random, count, -8, 8);
  } else if constexpr (std::is_same_v<typename M::weight, code>) {
    return random_activations<M>(random, count);
  } else if constexpr (!std::is_integral_v<typename M::weight>) {
    return uniform<typename M::weight>(random, count);
  } else {
    return random.integer(0, 3) == 0 ? extremes<typename M::weight>(random, count)
                                     : uniform<typename M::weight>(random, count);
  }
}

/// None, small ones, or some that carry sums out of their type.
template <class M>
std::vector<typename polymac::mac_traits<M>::wide> random_bias(random_source& random, std::size_t columns) {
  using wide = typename polymac::mac_traits<M>::wide;
  using limit = std::numeric_limits<typename polymac::mac_traits<M>::accumulator>;
  std::vector<wide> bias(columns);
  switch (random.integer(0, 3)) {
    case 0:
      return {};
    case 1:
      if constexpr (std::is_integral_v<wide> && sizeof(typename M::accumulator) <= 4) {
        for (auto& b : bias) b = random.integer(0, 1) == 0 ? limit::min() : limit::max();
        return bias;
      }
      [[fallthrough]];
    default:
      for (auto& b : bias) b = static_cast<wide>(random.integer(-3000, 3000));
      return bias;
  }
}

/// A zero point of activations, often an end of their range, and those of the weights of `columns` columns: none, one,
/// or one for each; weights less theirs need one, two or three terms.
template <class M>
struct zero_points {
  typename M::activation activation{};
  std::vector<std::int32_t> weights{};

  zero_points() = default;
  zero_points(random_source& random, std::size_t columns) {
    if constexpr (polymac::mac_traits<M>::integer && M::linear && std::is_integral_v<typename M::activation>) {
      using limit = std::numeric_limits<typename M::activation>;
      switch (random.integer(0, 3)) {
        case 0:
          break;
        case 1:
          activation = limit::min();
          break;
        case 2:
          activation = limit::max();
          break;
        default:
          activation = static_cast<typename M::activation>(random.integer(limit::min(), limit::max()));
      }
    }
    if constexpr (is_product<M>) {
      // Weights of unsigned arithmetics cannot become negative.
      const std::int32_t most = std::is_signed_v<typename M::weight> ? 256 : 0;
      if (random.integer(0, 1) == 0) return;
      weights.resize(random.integer(0, 1) == 0 ? 1 : columns);
      const auto reach = random.integer(0, 1) == 0 ? std::int32_t{8} : std::int32_t{256};
      // 127 less the lowest one is 381, which is what three weights of 8 bits add up to.
      for (auto& z : weights)
        z = std::max(static_cast<std::int32_t>(random.integer(-reach, reach < most ? reach : most)),
                     std::int32_t{-254});
    }
  }
};

}  // namespace polymac_test
