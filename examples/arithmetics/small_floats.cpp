// SPDX-License-Identifier: MIT
#include "encoded_layer.hpp"
#include "energy.hpp"

namespace example {

namespace {

using polymac::matrix_view;
using polymac::status;

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

void add_small_floats(std::vector<arithmetic>& list) {
  list.push_back({"fp8 e4m3", 8, 8, energy::fp8_e4m3, layer_of<small_floats<polymac::e4m3fn>>::make});
  list.push_back({"fp8 e5m2", 8, 8, energy::fp8_e5m2, layer_of<small_floats<polymac::e5m2>>::make});
}

}  // namespace example
