// SPDX-License-Identifier: MIT
// What a run reads: weights, vocabulary, and the text they are measured by; and the same of noise where there is no data.
#pragma once

#include "examples/common/files.hpp"
#include "polymac/io/tokenizer.hpp"
#include "polymac/model/decoder_weights.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace example {

struct story {
  bool is_noise = false;
  polymac::model::decoder_weights weights;
  polymac::io::tokenizer vocabulary;
  std::vector<std::int32_t> golden;  ///< what the trained net says from the begin on; empty where it is not known

  story(bool noise, polymac::model::decoder_weights w, polymac::io::tokenizer v)
      : is_noise(noise), weights(std::move(w)), vocabulary(std::move(v)) {}
};

/// DATA/stories260K: stories260K.bin and tok512.bin, and greedy_tokens_200_i32.bin where it is.
polymac::result<story> read_story(const std::filesystem::path& data);

/// A net of the shape of stories260K with seeded weights, and syllables as its vocabulary.
polymac::result<story> noise_story();

/// What is said where there is no data.
extern const char* const data_text;

}  // namespace example
