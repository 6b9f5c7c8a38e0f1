// SPDX-License-Identifier: MIT
#include "decoder_of.hpp"
#include "polymac/isa/arithmetic_atoms.hpp"

namespace example {

// An exponent for the weights of a product, one for each token's activations.
model_pointer make_dfp16(const decoder_weights& w) {
  return decoder_of<polymac::mac::dfp<std::int16_t>, polymac::mac::float32>::make(w);
}

}  // namespace example
