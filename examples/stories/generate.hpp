// SPDX-License-Identifier: MIT
// Text, token by token.
#pragma once

#include "language_model.hpp"
#include "polymac/model/sampling.hpp"
#include "story.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace example {

struct request {
  std::string prompt;
  std::size_t tokens = 200;
  polymac::model::sampling how;
  std::uint64_t seed = 1;
};

struct generated {
  std::vector<std::int32_t> prompt;  ///< with the token that every text begins with
  std::vector<std::int32_t> tokens;
  std::string text;    ///< of `tokens`
  bool ended = false;  ///< the net said that the text ends
  double seconds = 0;  ///< of the tokens, that of the prompt not counted
};

/// Calls say(text) for each token as it comes. Fails where prompt and tokens are more than the net has room for, before
/// anything is said.
polymac::result<generated> generate(language_model& model, const polymac::io::tokenizer& vocabulary, const request& r,
                                    const std::function<void(std::string_view)>& say);

/// Does a text of a net belong on a terminal? Bytes that control it do not.
std::string printable(std::string_view text);

}  // namespace example
