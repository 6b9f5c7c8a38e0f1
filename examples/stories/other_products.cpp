// SPDX-License-Identifier: MIT
#include "decoder_of.hpp"
#include "polymac/isa/arithmetic_atoms.hpp"

namespace example {

using polymac::mac::float32;

// An exponent for the weights of a product, and one for each token's activations.
model_pointer make_dfp16(const decoder_weights& w) {
  return decoder_of<polymac::mac::dfp<std::int16_t>, float32>::make(w);
}
// In the products with weights; those of attention are float32.
model_pointer make_l_mul(const decoder_weights& w) { return decoder_of<polymac::mac::l_mul<4>, float32>::make(w); }

}  // namespace example
