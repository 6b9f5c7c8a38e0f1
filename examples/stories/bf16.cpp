// SPDX-License-Identifier: MIT
#include "decoder_of.hpp"

namespace example {

model_pointer make_bf16(const decoder_weights& w) {
  return decoder_of<polymac::mac::bf16, polymac::mac::float32>::make(w);
}

}  // namespace example
