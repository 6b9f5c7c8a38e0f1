// SPDX-License-Identifier: MIT
#include "decoder_of.hpp"
#include "polymac/isa/arithmetic_atoms.hpp"

namespace example {

// In the products with weights; those of attention are float32.
model_pointer make_l_mul(const decoder_weights& w) {
  return decoder_of<polymac::mac::l_mul<4>, polymac::mac::float32>::make(w);
}

}  // namespace example
