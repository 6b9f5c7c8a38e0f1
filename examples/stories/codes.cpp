// SPDX-License-Identifier: MIT
#include "decoder_of.hpp"
#include "polymac/isa/arithmetic_atoms.hpp"

namespace example {

namespace {

using polymac::mac::float32;

/// Groups of 32 weights with a scale and, of more than three values, a zero point. Their table of tokens is int8.
template <int Bits>
using groups_of_32 = polymac::mac::bit_weights<Bits, polymac::digits::twos_complement, 32>;

}  // namespace

model_pointer make_int8(const decoder_weights& w) { return decoder_of<polymac::mac::int8, float32>::make(w); }
model_pointer make_w4(const decoder_weights& w) { return decoder_of<groups_of_32<4>, float32>::make(w); }
model_pointer make_w2(const decoder_weights& w) { return decoder_of<groups_of_32<2>, float32>::make(w); }
model_pointer make_ternary(const decoder_weights& w) {
  return decoder_of<groups_of_32<polymac::ternary_bits>, float32>::make(w);
}

}  // namespace example
