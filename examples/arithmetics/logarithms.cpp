// SPDX-License-Identifier: MIT
#include "encoded_layer.hpp"
#include "energy.hpp"

#include <bit>

namespace example {

namespace {

using polymac::matrix_view;
using polymac::status;
using polymac::mac::l_mul;

/// Floats whose words are added, cut to so many bits of mantissa as the arithmetic says: nothing is rounded, nothing
/// chosen. Products are wrong by some percent, this way and that, and by l_mul::mean_error() on the average: a constant
/// of the arithmetic that is known before any net is seen, but a net multiplies it once for every layer. `Centred` divides
/// sums by it.
///
/// l_mul<3> and l_mul<4> have the same offset, so l_mul<3> is l_mul<4> on words of 3 bits, and is compiled once for both.
template <int MantissaBits, bool Centred>
struct logarithms {
  using encoder = l_mul<MantissaBits>;
  using mac = l_mul<4>;
  static_assert(encoder::offset_word == mac::offset_word && (encoder::mask & mac::mask) == encoder::mask);
  using code = float;
  static constexpr std::size_t block = 1;
  static constexpr float gain = Centred ? static_cast<float>(1.0 + encoder::mean_error()) : 1.0F;

  static float cut(float v) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(v) & encoder::mask); }
  static status encode_weights(matrix_view<const float> from, matrix_view<float> to, std::span<float> scales) {
    for (std::size_t c = 0; c < from.rows; ++c) std::transform(from.row(c), from.row(c) + from.columns, to.row(c), cut);
    std::fill(scales.begin(), scales.end(), 1.0F / gain);
    return {};
  }
  static status encode_picture(std::span<const float> from, std::span<float> to, float&) {
    std::transform(from.begin(), from.end(), to.begin(), cut);
    return {};
  }
};

}  // namespace

void add_logarithms(std::vector<arithmetic>& list) {
  list.push_back({"l_mul<4>", 13, 13, energy::l_mul, layer_of<logarithms<4, true>>::make});
  list.push_back({"l_mul<4> as is", 13, 13, energy::l_mul, layer_of<logarithms<4, false>>::make});
  list.push_back({"l_mul<3>", 12, 12, energy::l_mul, layer_of<logarithms<3, true>>::make});
  list.push_back({"l_mul<3> as is", 12, 12, energy::l_mul, layer_of<logarithms<3, false>>::make});
}

}  // namespace example
