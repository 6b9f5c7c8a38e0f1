// SPDX-License-Identifier: MIT
// Spikes: activations that are there or not.
#pragma once

#include "polymac/core/block.hpp"
#include "polymac/core/concepts.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace isa {
struct arithmetic_atoms;
}

namespace mac {

/// Bits x s8 -> s32, exact: the sum of the weights whose neuron fires, and no product at all. An element is 64 k: a
/// word of spikes, and a block of 64 weights. Depths are counted in words; unused bits and weights are 0.
///
/// One call of a layer is one time step of a spiking network (Maass, Networks of spiking neurons, 1997); what turns its
/// sums into spikes is epilogue::leaky_integrate_fire.
struct spike {
  using activation = bit_word;
  using weight = block_of<std::int8_t, 64>;
  using accumulator = std::int32_t;
  using atoms = isa::arithmetic_atoms;
  static constexpr const char* name = "spike";
  static constexpr bool linear = true;
  static constexpr bool exact = true;
  /// k of an element.
  static constexpr std::size_t group_size = 64;
  /// 262,143 words of spikes that all meet -128.
  static constexpr std::size_t max_depth = std::numeric_limits<accumulator>::max() / (64 * 128);
  static constexpr accumulator multiply_add(accumulator c, activation a, const weight& w) noexcept {
    for (std::size_t k = 0; k < group_size; ++k) c += a[k] ? w[k] : 0;
    return c;
  }
  /// Spikes of a stage (0: none) as words; words.size() is (spikes.size() + 63) / 64. The rest of the last one is 0.
  static constexpr void encode(std::span<const std::uint8_t> spikes, std::span<bit_word> words) noexcept {
    for (std::size_t i = 0; i < words.size(); ++i) {
      words[i] = {};
      for (std::size_t k = 0; k < 64 && 64 * i + k < spikes.size(); ++k)
        words[i].bits |= std::uint64_t{spikes[64 * i + k] != 0 ? 1u : 0u} << k;
    }
  }
};

static_assert(Mac<spike>);

}  // namespace mac
POLYMAC_END
