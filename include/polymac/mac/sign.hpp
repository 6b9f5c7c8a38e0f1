// SPDX-License-Identifier: MIT
// Products of signs, 64 at a time: XOR and a count of bits.
#pragma once

#include "polymac/core/block.hpp"
#include "polymac/core/concepts.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace isa {
struct arithmetic_atoms;
}

namespace mac {

/// 64 signs: bit k of `negative` is set for -1, bit k of `valid` where there is a sign at all. A zero element has no
/// signs and adds nothing, and so does the rest of the last word of a row. Bits of `negative` that are not valid are 0.
struct sign_word {
  std::uint64_t negative = 0;
  std::uint64_t valid = 0;
  /// -1, 1, or 0 where there is none.
  constexpr int operator[](std::size_t k) const noexcept {
    return (valid >> k & 1u) == 0 ? 0 : (negative >> k & 1u) != 0 ? -1 : 1;
  }
  friend constexpr bool operator==(const sign_word&, const sign_word&) noexcept = default;
};

/// Signs x signs -> s32, exact: the sum of the products of n signs is n - 2 popcount(a ^ w). An element is 64 k, with a
/// mask of those that are there (32 bytes for a product, of which the masks are half; a row of whole words has masks of
/// ones only, and an atom may count them at packing):
///
///     n = popcount(a.valid & w.valid),   c + n - 2 popcount((a.negative ^ w.negative) & a.valid & w.valid)
///
/// That is the scalar product of hash codes: n - 2 times their Hamming distance (Rastegari et al., XNOR-Net, 2016;
/// Courbariaux et al., BinaryNet, 2016). Depths are counted in words.
struct sign {
  using activation = sign_word;
  using weight = sign_word;
  using accumulator = std::int32_t;
  using atoms = isa::arithmetic_atoms;
  static constexpr const char* name = "sign";
  static constexpr bool linear = true;
  static constexpr bool exact = true;
  /// k of an element.
  static constexpr std::size_t group_size = 64;
  static constexpr std::size_t max_depth = std::numeric_limits<accumulator>::max() / 64;
  static constexpr accumulator multiply_add(accumulator c, const activation& a, const weight& w) noexcept {
    const std::uint64_t valid = a.valid & w.valid;
    return c + std::popcount(valid) - 2 * std::popcount((a.negative ^ w.negative) & valid);
  }
  /// Bits that are not valid have no sign.
  static constexpr bool check_weight(const weight& w) noexcept { return (w.negative & ~w.valid) == 0; }

  /// Elements that `count` signs take.
  static constexpr std::size_t words(std::size_t count) noexcept { return (count + 63) / 64; }
  /// The signs of reals: -1 below 0, else 1 (also for 0, -0 and NaN). signs.size() is words(values.size()).
  static constexpr void encode(std::span<const float> values, std::span<sign_word> signs) noexcept {
    for (std::size_t i = 0; i < signs.size(); ++i) {
      signs[i] = {};
      for (std::size_t k = 0; k < 64 && 64 * i + k < values.size(); ++k) {
        signs[i].valid |= std::uint64_t{1} << k;
        if (values[64 * i + k] < 0.0f) signs[i].negative |= std::uint64_t{1} << k;
      }
    }
  }
};

static_assert(Mac<sign>);

}  // namespace mac
POLYMAC_END
