// SPDX-License-Identifier: MIT
// A decoder in any arithmetic, behind one interface.
#pragma once

#include "polymac/model/decoder_weights.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace example {

using polymac::model::decoder_weights;

class language_model {
 public:
  virtual ~language_model() = default;
  /// Appends tokens; the logits of the last ones of them, one row for each.
  virtual polymac::status append(std::span<const std::int32_t> ids, polymac::matrix_view<float> logits) = 0;
  /// Forgets all tokens.
  virtual void clear() = 0;
  virtual std::size_t capacity() const = 0;
  /// That a token reads, each of them once.
  virtual std::size_t weight_bytes() const = 0;
  virtual std::size_t cache_bytes_per_token() const = 0;
};

using model_pointer = polymac::result<std::unique_ptr<language_model>>;

/// A line of the table.
struct arithmetic {
  const char* name;
  model_pointer (*make)(const decoder_weights& weights);
};

/// In the order of the table; float32 is the first.
std::span<const arithmetic> all_arithmetics();
/// Null where there is none of that name.
const arithmetic* find_arithmetic(std::string_view name);

// Those that share steps are in one translation unit: what keys and values need is compiled once for them.
model_pointer make_float32(const decoder_weights& w);
model_pointer make_bf16(const decoder_weights& w);
model_pointer make_fp16(const decoder_weights& w);
model_pointer make_int8(const decoder_weights& w);
model_pointer make_dfp16(const decoder_weights& w);
model_pointer make_l_mul(const decoder_weights& w);
model_pointer make_w4(const decoder_weights& w);
model_pointer make_w2(const decoder_weights& w);
model_pointer make_ternary(const decoder_weights& w);

}  // namespace example
