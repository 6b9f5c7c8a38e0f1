// SPDX-License-Identifier: MIT
// One entry of a list of what is multiplied.
#pragma once

#include "polymac/core/config.hpp"

#include <cstdint>

POLYMAC_BEGIN
namespace policy {

/// A group of k that takes part: where its activations begin in the row, in activations, and which group of the panels
/// it is.
struct live_group {
  std::uint32_t activation;
  std::uint32_t group;
};

}  // namespace policy
POLYMAC_END
