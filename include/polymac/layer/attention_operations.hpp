// SPDX-License-Identifier: MIT
// What attention costs in operations, by formula.
#pragma once

#include "polymac/core/config.hpp"

#include <cstdint>

POLYMAC_BEGIN
namespace layer {

/// Operations of one layer as the authors of EcoFormer count them; picojoules by the table of 45 nm (probe/energy.hpp).
struct operation_count {
  std::uint64_t multiplications = 0;
  std::uint64_t additions = 0;
  constexpr double picojoules(double multiplication = 3.7, double addition = 0.9) const noexcept {
    return multiplication * static_cast<double>(multiplications) + addition * static_cast<double>(additions);
  }
  friend constexpr bool operator==(const operation_count&, const operation_count&) noexcept = default;
};
/// Of softmax attention: the two products and the division by the sum, `size` channels of all heads together.
constexpr operation_count attention_operations(std::uint64_t tokens, std::uint64_t size, std::uint64_t heads) noexcept {
  const std::uint64_t products = 2 * tokens * tokens * size;
  return {products + heads * tokens * tokens, products};
}
/// Of hashed attention over heads of `head_size`: distances, hashing, T, its product with the codes, the division.
constexpr operation_count hashed_attention_operations(std::uint64_t tokens, std::uint64_t heads,
                                                      std::uint64_t head_size, std::uint64_t bits = 16,
                                                      std::uint64_t anchors = 25) noexcept {
  const std::uint64_t hashing = anchors * bits;
  return {heads * tokens * (2 * anchors + hashing + bits + 1 + head_size),
          heads * tokens * (2 * anchors * head_size + hashing + 2 * bits + 2 * bits * head_size + head_size)};
}

}  // namespace layer
POLYMAC_END
