// SPDX-License-Identifier: MIT
#include "few_bits.hpp"

namespace example {

model_pointer make_w2(const decoder_weights& w) { return decoder_of<groups_of_32<2>, polymac::mac::float32>::make(w); }

}  // namespace example
