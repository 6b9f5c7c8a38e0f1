// SPDX-License-Identifier: MIT
// The parameters of a decoder-only transformer, as real numbers, before an arithmetic has been chosen for them.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// The extents of a decoder-only transformer of Llama's kind.
struct decoder_shape {
  std::size_t width = 0;       ///< of a token's vector
  std::size_t hidden = 0;      ///< of the feed-forward part
  std::size_t layers = 0;      ///
  std::size_t heads = 0;       ///< of queries; they divide the width
  std::size_t key_heads = 0;   ///< of keys and values; they divide the heads
  std::size_t vocabulary = 0;  ///< tokens that there are
  std::size_t context = 0;     ///< tokens of the longest sequence
  float epsilon = 1e-5f;       ///< of the normalisations
  float rope_base = 10000.0f;  ///< of the rotation of neighbouring pairs

  constexpr std::size_t head_size() const noexcept { return heads > 0 ? width / heads : 0; }
  constexpr std::size_t key_width() const noexcept { return key_heads * head_size(); }
  friend constexpr bool operator==(const decoder_shape&, const decoder_shape&) noexcept = default;
};

/// Do these extents make a decoder? Says what was expected of the first that does not fit.
constexpr status check(const decoder_shape& s) noexcept {
  constexpr std::size_t most = std::size_t{1} << 20, most_layers = 4096;
  const auto refuse = [](const char* what, std::size_t limit, std::size_t got) {
    return status::make(errc::shape, "decoder: expected ", what, " of 1 to ", limit, ", got ", got);
  };
  if (s.width < 1 || s.width > most) return refuse("a width", most, s.width);
  if (s.hidden < 1 || s.hidden > most) return refuse("a hidden width", most, s.hidden);
  if (s.layers < 1 || s.layers > most_layers) return refuse("a number of layers", most_layers, s.layers);
  if (s.heads < 1 || s.heads > s.width) return refuse("a number of heads", s.width, s.heads);
  if (s.key_heads < 1 || s.key_heads > s.heads) return refuse("a number of key heads", s.heads, s.key_heads);
  if (s.vocabulary < 1 || s.vocabulary > most) return refuse("a vocabulary", most, s.vocabulary);
  if (s.context < 1 || s.context > most) return refuse("a context", most, s.context);
  if (s.width % s.heads != 0 || s.head_size() % 2 != 0)
    return status::make(errc::shape, "decoder: expected heads that divide the width into even parts, got ", s.heads,
                        " heads and a width of ", s.width);
  if (s.heads % s.key_heads != 0)
    return status::make(errc::shape, "decoder: expected key heads that divide the ", s.heads, " heads, got ",
                        s.key_heads);
  if (!(s.epsilon > 0.0f && s.epsilon < 1.0f))
    return status::make(errc::parameter, "decoder: expected an epsilon between 0 and 1");
  if (!(s.rope_base > 1.0f && s.rope_base <= 1e12f))
    return status::make(errc::parameter, "decoder: expected a base of the rotation in (1, 10^12]");
  return {};
}

/// Views into `values`. Matrices are outputs x inputs.
struct decoder_layer_weights {
  std::span<const float> attention_norm;       ///< width
  matrix_view<const float> query, key, value;  ///< width x width, key width x width, key width x width
  matrix_view<const float> output;             ///< width x width
  std::span<const float> feed_forward_norm;    ///< width
  matrix_view<const float> gate, up;           ///< hidden x width: w1, behind which the SiLU is, and w3
  matrix_view<const float> down;               ///< width x hidden: w2
};

/// All parameters, in memory of their own that the views refer to. Can be moved.
struct decoder_weights {
  decoder_shape shape;
  matrix_view<const float> embedding;  ///< vocabulary x width
  std::vector<decoder_layer_weights> layers;
  std::span<const float> final_norm;    ///< width
  matrix_view<const float> classifier;  ///< vocabulary x width; the embedding itself where they are tied
  std::vector<float> values;

  decoder_weights() = default;
  decoder_weights(decoder_weights&&) noexcept = default;
  decoder_weights& operator=(decoder_weights&&) noexcept = default;
  decoder_weights(const decoder_weights&) = delete;
  decoder_weights& operator=(const decoder_weights&) = delete;

  bool is_tied() const noexcept { return classifier.data == embedding.data; }
};

/// Calls f(name, layer, rows, columns) for every tensor, in the order in which llama2.c stores them; all layers of one
/// tensor after one another. Vectors have one row.
template <class Function>
void for_each_tensor(const decoder_shape& s, bool tied, const Function& f) {
  const auto of_layers = [&](const char* name, std::size_t rows, std::size_t columns) {
    for (std::size_t l = 0; l < s.layers; ++l) f(name, l, rows, columns);
  };
  f("token_embedding", std::size_t{0}, s.vocabulary, s.width);
  of_layers("attention_norm", 1, s.width);
  of_layers("query", s.width, s.width);
  of_layers("key", s.key_width(), s.width);
  of_layers("value", s.key_width(), s.width);
  of_layers("output", s.width, s.width);
  of_layers("feed_forward_norm", 1, s.width);
  of_layers("gate", s.hidden, s.width);
  of_layers("down", s.width, s.hidden);
  of_layers("up", s.hidden, s.width);
  f("final_norm", std::size_t{0}, std::size_t{1}, s.width);
  if (!tied) f("classifier", std::size_t{0}, s.vocabulary, s.width);
}

/// Numbers that the tensors have. The largest number where that exceeds the address space; for shapes that `check`
/// accepts.
inline std::size_t parameters(const decoder_shape& s, bool tied) noexcept {
  constexpr std::size_t most = static_cast<std::size_t>(-1) / sizeof(float);
  // Extents are at most 2^20, hence the products of two at most 2^40, and there are at most 2^12 layers.
  const std::size_t attention = s.width * (2 * s.width + 2 * s.key_width());
  const std::size_t layer = attention + 3 * s.hidden * s.width + 2 * s.width;
  const std::size_t all = s.layers * layer + (tied ? 1 : 2) * s.vocabulary * s.width + s.width;
  return all > most ? most : all;
}

/// Weights whose `values` are there, `parameters(shape, tied)` of them in the order of `for_each_tensor`: sets the views.
inline void set_views(decoder_weights& w, bool tied) {
  const decoder_shape& s = w.shape;
  const float* at = w.values.data();
  const auto vector = [&] {
    const std::span<const float> v(at, s.width);
    at += s.width;
    return v;
  };
  const auto matrix = [&](std::size_t rows, std::size_t columns) {
    const matrix_view<const float> m(at, rows, columns);
    at += rows * columns;
    return m;
  };
  w.layers.resize(s.layers);
  w.embedding = matrix(s.vocabulary, s.width);
  for (auto& l : w.layers) l.attention_norm = vector();
  for (auto& l : w.layers) l.query = matrix(s.width, s.width);
  for (auto& l : w.layers) l.key = matrix(s.key_width(), s.width);
  for (auto& l : w.layers) l.value = matrix(s.key_width(), s.width);
  for (auto& l : w.layers) l.output = matrix(s.width, s.width);
  for (auto& l : w.layers) l.feed_forward_norm = vector();
  for (auto& l : w.layers) l.gate = matrix(s.hidden, s.width);
  for (auto& l : w.layers) l.down = matrix(s.width, s.hidden);
  for (auto& l : w.layers) l.up = matrix(s.hidden, s.width);
  w.final_norm = vector();
  w.classifier = tied ? w.embedding : matrix(s.vocabulary, s.width);
}

}  // namespace model
POLYMAC_END
