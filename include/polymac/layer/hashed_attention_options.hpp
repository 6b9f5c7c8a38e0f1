// SPDX-License-Identifier: MIT
// How attention on hash codes is asked for: its shape, what was learnt, and its options.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>
#include <span>

POLYMAC_BEGIN
namespace layer {

/// What c multiplies in the numerator.
enum class bias_mode : unsigned char {
  normalised,  ///< c times the sum of all values: weights of a token sum up to 1, constant values stay what they are
  reference_code,  ///< c times the token's own value, as the authors' code has it; the denominator is that of the above
};

struct hashed_attention_shape {
  std::size_t heads = 1;
  std::size_t key_size = 0;    ///< of a head of qk, the projection that queries and keys share
  std::size_t value_size = 0;  ///< of a head of v
  std::size_t bits = 16;       ///< of a code, 1 to 63
  std::size_t anchors = 25;
};

/// What was learnt, all finite, in the order of the axes. Copied at construction.
struct hashing_parameters {
  std::span<const float> anchors;     ///< heads x anchors x key_size: (normalised) tokens that distances are taken to
  std::span<const float> means;       ///< heads x anchors: mu, subtracted from exp(...); empty: zeros
  std::span<const float> projection;  ///< heads x bits x anchors: A
};

struct hashed_attention_options {
  bias_mode bias = bias_mode::normalised;
  /// Token i attends to the tokens up to itself only.
  bool causal = false;
  /// sigma, the scale of the distances. 0: the mean of all distances of a head in this call (as the authors have it, in
  /// inference, too), so that a code depends on the other tokens of its call, later ones included; whoever goes on from
  /// call to call had better give a constant.
  float spread = 0.0f;
};

}  // namespace layer

using layer::bias_mode;
using layer::hashed_attention_options;
using layer::hashed_attention_shape;
using layer::hashing_parameters;

POLYMAC_END
