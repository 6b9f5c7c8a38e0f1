// SPDX-License-Identifier: MIT
// Unified weights: one magnitude for a block of k, a bit for each weight (Liu et al., "Micro-structured weight unification
// and pruning", arXiv 2106.08301).
//
//     weights 3 -1 2 -2   ->   2 -2 2 -2      a block of zeros is pruned
#pragma once

#include "polymac/core/round.hpp"
#include "polymac/core/text.hpp"
#include "polymac/policy/weight_blocks.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace policy {

/// In every block of B k of a column all weights have one magnitude.
template <std::size_t B>
struct unified : detail::of_blocks<unified<B>> {
  static_assert(B > 1, "polymac: unified<B> has blocks of at least two weights");
  static constexpr std::size_t size = B;
  static constexpr const char* rule = "magnitude";

 private:
  static constexpr auto text_ = text<31>::join("unified<", B, ">");

 public:
  static constexpr const char* name = text_.c_str();
  template <class WeightOf>
  static constexpr bool holds(std::size_t first, std::size_t last, const WeightOf& weight_of) noexcept {
    for (std::size_t k = first + 1; k < last; ++k)
      if (detail::magnitude_of(weight_of(k)) != detail::magnitude_of(weight_of(first))) return false;
    return true;
  }
  /// The nearest such block (least squares): the mean of the magnitudes, which integers round to nearest even, and their
  /// signs; the sign of 0 is +.
  template <class At>
  static constexpr void project(std::size_t first, std::size_t last, const At& at) noexcept {
    using weight = std::remove_reference_t<decltype(at(0))>;
    double sum = 0;
    for (std::size_t k = first; k < last; ++k) sum += static_cast<double>(detail::magnitude_of(at(k)));
    double mean = sum / static_cast<double>(last - first);
    // The magnitude of the least weight has no positive counterpart.
    if constexpr (std::is_integral_v<weight>) {
      constexpr auto most = static_cast<double>(std::numeric_limits<weight>::max());
      mean = mean > most ? most : static_cast<double>(polymac::detail::round_to_even(mean));
    }
    for (std::size_t k = first; k < last; ++k) at(k) = static_cast<weight>(at(k) < weight{} ? -mean : mean);
  }
};

}  // namespace policy
POLYMAC_END
