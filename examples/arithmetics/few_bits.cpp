// SPDX-License-Identifier: MIT
#include "encoded_layer.hpp"
#include "energy.hpp"

namespace example {

namespace {

using polymac::matrix_view;
using polymac::status;
namespace digits = polymac::digits;

/// Activations of 8 bits with one scale for a picture, symmetric.
status encode_activations(std::span<const float> from, std::span<std::int8_t> to, float& scale) {
  return polymac::mac::bit_weights<8>::encode(matrix_view<const float>(from.data(), 1, from.size()),
                                              matrix_view<std::int8_t>(to.data(), 1, to.size()), {&scale, 1});
}

/// Weights with a scale, and a zero point, for 32 of them.
template <int Bits>
struct groups_of_32 {
  using mac = polymac::mac::bit_weights<Bits, digits::twos_complement, 32>;
  using code = std::int8_t;
  static constexpr std::size_t block = 32;
  static status encode_weights(matrix_view<const float> from, matrix_view<typename mac::weight> to, std::span<float>) {
    return mac::encode(from, to, polymac::mac::code_range::asymmetric);
  }
  static status encode_picture(std::span<const float> from, std::span<std::int8_t> to, float& scale) {
    return encode_activations(from, to, scale);
  }
};

/// Weights with a scale for an output channel.
template <int Bits>
struct channels {
  using mac = polymac::mac::bit_weights<Bits>;
  using code = std::int8_t;
  static constexpr std::size_t block = 1;
  static status encode_weights(matrix_view<const float> from, matrix_view<std::int8_t> to, std::span<float> scales) {
    return mac::encode(from, to, scales);
  }
  static status encode_picture(std::span<const float> from, std::span<std::int8_t> to, float& scale) {
    return encode_activations(from, to, scale);
  }
};

constexpr double scale_and_zero_point = 40.0 / 32;

}  // namespace

void add_few_bits(std::vector<arithmetic>& list) {
  using polymac::ternary_bits;
  list.push_back(
      {"w4 group 32", 4 + scale_and_zero_point, 8, energy::few_bits(4, 32), layer_of<groups_of_32<4>>::make});
  list.push_back(
      {"w2 group 32", 2 + scale_and_zero_point, 8, energy::few_bits(2, 32), layer_of<groups_of_32<2>>::make});
  list.push_back({"ternary", 1.58, 8, energy::signs, layer_of<channels<ternary_bits>>::make});
}

}  // namespace example
