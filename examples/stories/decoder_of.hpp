// SPDX-License-Identifier: MIT
// A language_model from a polymac::model::decoder.
#pragma once

#include "language_model.hpp"
#include "polymac/model/decoder.hpp"

#include <utility>

namespace example {

/// M: the arithmetic of the weights, Cache: how keys and values are kept.
template <class M, class Cache>
class decoder_of final : public language_model {
 public:
  static model_pointer make(const decoder_weights& weights) {
    try {
      return std::unique_ptr<language_model>(new decoder_of(weights));
    } catch (const polymac::error& e) {
      return e.status();
    }
  }
  polymac::status append(std::span<const std::int32_t> ids, polymac::matrix_view<float> logits) override {
    return decoder_(ids, logits, polymac::workspace(memory_));
  }
  void clear() override { decoder_.clear(); }
  std::size_t capacity() const override { return decoder_.capacity(); }
  std::size_t weight_bytes() const override { return decoder_.weight_bytes(); }
  std::size_t cache_bytes_per_token() const override { return decoder_.cache_bytes_per_token(); }

 private:
  explicit decoder_of(const decoder_weights& weights) : decoder_(weights), memory_(decoder_.workspace_bytes()) {}

  polymac::model::decoder<M, Cache> decoder_;
  std::vector<std::byte> memory_;
};

}  // namespace example
