// SPDX-License-Identifier: MIT
// What becomes of a net in every arithmetic.
#pragma once

#include "language_model.hpp"
#include "story.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace example {

struct compared {
  std::string arithmetic;
  std::size_t weight_bytes = 0;
  std::size_t cache_bytes = 0;     ///< of a token
  std::size_t equal_tokens = 0;    ///< of the greedy text, before the first one that differs
  double loss = 0;                 ///< negative log-likelihood of a token of the golden text
  double prefill = 0, decode = 0;  ///< tokens a second
  double bandwidth = 0;            ///< bytes a second, of a loop that reads as many bytes as there are weights
  double share = 0;                ///< of that bandwidth that decoding makes use of
};

struct comparison {
  std::vector<std::int32_t> golden;
  bool golden_is_given = false;  ///< else it is what float32 says
  std::vector<compared> rows;
};

/// All arithmetics; times are medians of `passes`.
polymac::result<comparison> compare(const story& s, std::size_t passes);

void print_table(const comparison& c, const story& s);
void print_json(const comparison& c, const story& s);

}  // namespace example
