// SPDX-License-Identifier: MIT
#include "event_layers.hpp"
#include "polymac/arithmetics.hpp"

namespace example {

polymac::result<layer_runs<std::int8_t>> two_bit_layers(const event_sequence& s, mode how) {
  return layers_of<polymac::mac::bit_weights<2>>(s, how);
}

}  // namespace example
