// SPDX-License-Identifier: MIT
// Polarised weights: one sign for a fragment of k, as crossbars whose cells know no sign want them (Yuan et al., "FORMS",
// ISCA 2021; mac::forms counts the cycles of such a memory).
//
//     weights 3 -1 2 -2   ->   3 0 2 0        the sign of the sum; the others become 0
#pragma once

#include "polymac/core/text.hpp"
#include "polymac/policy/weight_blocks.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace policy {

/// In every fragment of B k of a column no weight has the sign of another one's opposite.
template <std::size_t B>
struct polarised : detail::of_blocks<polarised<B>> {
  static_assert(B > 1, "polymac: polarised<B> has fragments of at least two weights");
  static constexpr std::size_t size = B;
  static constexpr const char* rule = "sign";

 private:
  static constexpr auto text_ = text<31>::join("polarised<", B, ">");

 public:
  static constexpr const char* name = text_.c_str();
  template <class WeightOf>
  static constexpr bool holds(std::size_t first, std::size_t last, const WeightOf& weight_of) noexcept {
    bool positive = false, negative = false;
    for (std::size_t k = first; k < last; ++k) {
      const auto w = weight_of(k);
      positive = positive || w > decltype(w){};
      negative = negative || w < decltype(w){};
    }
    return !(positive && negative);
  }
  /// Weights of the sign that the sum has not become 0; a sum of 0 counts as positive.
  template <class At>
  static constexpr void project(std::size_t first, std::size_t last, const At& at) noexcept {
    using weight = std::remove_reference_t<decltype(at(0))>;
    std::conditional_t<std::is_integral_v<weight>, std::int64_t, double> sum{};
    for (std::size_t k = first; k < last; ++k) sum += at(k);
    for (std::size_t k = first; k < last; ++k)
      if (sum < 0 ? at(k) > weight{} : at(k) < weight{}) at(k) = weight{};
  }
};

}  // namespace policy
POLYMAC_END
