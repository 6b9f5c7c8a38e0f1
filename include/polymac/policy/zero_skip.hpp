// SPDX-License-Identifier: MIT
// Activations that are 0 are not multiplied.
#pragma once

#include "polymac/policy/policy.hpp"

POLYMAC_BEGIN
namespace policy {

/// Groups of activations (4 of bytes) that are all zero points are left out, and windows that hold nothing else are not
/// looked at: outputs of ReLU, events, spikes as bytes. The sums are those of the dense layer, bit for bit; floats skip
/// +0 only, and 0 * infinity with it. Where a row has too few zeros for that to pay it is computed whole.
struct zero_skip : activation_policy {
  static constexpr bool skips_zeros = true;
  static constexpr const char* name = "zero_skip";
};

}  // namespace policy
POLYMAC_END
