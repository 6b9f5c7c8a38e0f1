// SPDX-License-Identifier: MIT
#include "encoded_layer.hpp"
#include "energy.hpp"

namespace example {

namespace {

using polymac::float16;
using polymac::float16_pair;
using polymac::matrix_view;
using polymac::status;

/// Words that are converted one by one.
template <class M>
struct words {
  using mac = M;
  using code = typename M::activation;
  static constexpr std::size_t block = 1;
  static status encode_weights(matrix_view<const float> from, matrix_view<typename M::weight> to, std::span<float>) {
    for (std::size_t c = 0; c < from.rows; ++c)
      for (std::size_t k = 0; k < from.columns; ++k) to(c, k) = static_cast<typename M::weight>(from(c, k));
    return {};
  }
  static status encode_picture(std::span<const float> from, std::span<code> to, float&) {
    std::transform(from.begin(), from.end(), to.begin(), [](float v) { return static_cast<code>(v); });
    return {};
  }
};

struct pairs_of_halves {
  using mac = polymac::mac::fp16_sum16;
  using code = float16;
  static constexpr std::size_t block = 2;
  static status encode_weights(matrix_view<const float> from, matrix_view<float16_pair> to, std::span<float>) {
    for (std::size_t c = 0; c < to.rows; ++c)
      for (std::size_t k = 0; k < to.columns; ++k)
        to(c, k) = float16_pair(float16(from(c, 2 * k)), float16(from(c, 2 * k + 1)));
    return {};
  }
  static status encode_picture(std::span<const float> from, std::span<float16> to, float&) {
    std::transform(from.begin(), from.end(), to.begin(), [](float v) { return float16(v); });
    return {};
  }
};

/// A scale for each output channel, and one for a picture: the largest magnitude becomes the largest number.
template <class Element>
struct small_floats {
  using mac = polymac::mac::fp8<Element>;
  using code = Element;
  static constexpr std::size_t block = 1;
  static status encode_weights(matrix_view<const float> from, matrix_view<Element> to, std::span<float> scales) {
    return polymac::mac::encode_rows<Element>(from, to, scales);
  }
  static status encode_picture(std::span<const float> from, std::span<Element> to, float& scale) {
    return polymac::mac::encode<Element>(from, to, scale);
  }
};

}  // namespace

void add_floats(std::vector<arithmetic>& list) {
  using namespace polymac;
  list.push_back({"float32", 32, 32, energy::float32, layer_of<words<mac::float32>>::make});
  list.push_back({"bf16", 16, 16, energy::bf16, layer_of<words<mac::bf16>>::make});
  list.push_back({"fp16", 16, 16, energy::fp16, layer_of<words<mac::fp16>>::make});
  list.push_back({"fp16_sum16", 16, 16, energy::fp16_sum16, layer_of<pairs_of_halves>::make});
}

// Beside bf16, whose steps they share once they are widened.
void add_small_floats(std::vector<arithmetic>& list) {
  list.push_back({"fp8 e4m3", 8, 8, energy::fp8_e4m3, layer_of<small_floats<polymac::e4m3fn>>::make});
  list.push_back({"fp8 e5m2", 8, 8, energy::fp8_e5m2, layer_of<small_floats<polymac::e5m2>>::make});
}

}  // namespace example
