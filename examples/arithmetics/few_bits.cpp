// SPDX-License-Identifier: MIT
#include "encoded_layer.hpp"
#include "energy.hpp"

namespace example {

namespace {

using polymac::matrix_view;
using polymac::status;
namespace digits = polymac::digits;

/// Weights of 32 k with a scale, and a zero point but for three values; activations of 8 bits with one scale for a
/// picture, symmetric.
template <int Bits>
struct groups_of_32 {
  using mac = polymac::mac::bit_weights<Bits, digits::twos_complement, 32>;
  using code = std::int8_t;
  static constexpr std::size_t block = 32;
  static status encode_weights(matrix_view<const float> from, matrix_view<typename mac::weight> to, std::span<float>) {
    return mac::encode(from, to, polymac::mac::code_range::asymmetric);
  }
  static status encode_picture(std::span<const float> from, std::span<std::int8_t> to, float& scale) {
    return polymac::mac::bit_weights<8>::encode(matrix_view<const float>(from.data(), 1, from.size()),
                                                matrix_view<std::int8_t>(to.data(), 1, to.size()), {&scale, 1});
  }
};

constexpr double scale = 32.0 / 32, zero_point = 8.0 / 32;  // bits of a group that a weight has a share of

}  // namespace

void add_few_bits(std::vector<arithmetic>& list) {
  const auto bits = [](double code) { return code + scale + zero_point; };
  list.push_back({"w4 group 32", bits(4), 8, energy::few_bits(4, 32), layer_of<groups_of_32<4>>::make});
  list.push_back({"w3 group 32", bits(3), 8, energy::few_bits(3, 32), layer_of<groups_of_32<3>>::make});
  list.push_back({"w2 group 32", bits(2), 8, energy::few_bits(2, 32), layer_of<groups_of_32<2>>::make});
  list.push_back(
      {"ternary group 32", 1.58 + scale, 8, energy::signs(32), layer_of<groups_of_32<polymac::ternary_bits>>::make});
}

}  // namespace example
