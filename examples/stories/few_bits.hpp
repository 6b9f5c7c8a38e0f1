// SPDX-License-Identifier: MIT
// Weights of few bits: groups of 32 with a scale and, of more than three values, a zero point.
#pragma once

#include "decoder_of.hpp"
#include "polymac/isa/arithmetic_atoms.hpp"

namespace example {

template <int Bits>
using groups_of_32 = polymac::mac::bit_weights<Bits, polymac::digits::twos_complement, 32>;

}  // namespace example
