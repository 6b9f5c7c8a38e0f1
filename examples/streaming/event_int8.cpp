// SPDX-License-Identifier: MIT
#include "event_layers.hpp"

namespace example {

polymac::result<layer_runs<std::int8_t>> int8_layers(const event_sequence& s, mode how) {
  return layers_of<polymac::mac::int8>(s, how);
}

}  // namespace example
