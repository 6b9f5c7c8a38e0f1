// SPDX-License-Identifier: MIT
#include "few_bits.hpp"

namespace example {

model_pointer make_ternary(const decoder_weights& w) {
  return decoder_of<groups_of_32<polymac::ternary_bits>, polymac::mac::float32>::make(w);
}

}  // namespace example
