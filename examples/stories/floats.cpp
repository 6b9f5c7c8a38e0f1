// SPDX-License-Identifier: MIT
#include "decoder_of.hpp"

namespace example {

using polymac::mac::float32;

model_pointer make_float32(const decoder_weights& w) { return decoder_of<float32, float32>::make(w); }
model_pointer make_bf16(const decoder_weights& w) { return decoder_of<polymac::mac::bf16, float32>::make(w); }
model_pointer make_fp16(const decoder_weights& w) { return decoder_of<polymac::mac::fp16, float32>::make(w); }

}  // namespace example
