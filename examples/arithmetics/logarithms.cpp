// SPDX-License-Identifier: MIT
#include "encoded_layer.hpp"
#include "energy.hpp"

namespace example {

namespace {

using polymac::matrix_view;
using polymac::status;

/// Floats whose words are added, cut to the arithmetic's bits of mantissa by the library: nothing is rounded, nothing
/// chosen. Products are wrong by some percent, this way and that, and on the average by l_mul::mean_error(), a constant
/// of the arithmetic that is known before any net is seen, but that a net has once for every layer. `Centred` divides sums
/// by 1 + that.
template <int MantissaBits, bool Centred>
struct logarithms {
  using mac = polymac::mac::l_mul<MantissaBits>;
  using code = float;
  static constexpr std::size_t block = 1;
  static constexpr float gain = Centred ? static_cast<float>(1.0 + mac::mean_error()) : 1.0F;
  static status encode_weights(matrix_view<const float> from, matrix_view<float> to, std::span<float> scales) {
    for (std::size_t c = 0; c < from.rows; ++c) std::copy_n(from.row(c), from.columns, to.row(c));
    std::fill(scales.begin(), scales.end(), 1.0F / gain);
    return {};
  }
  static status encode_picture(std::span<const float> from, std::span<float> to, float&) {
    std::copy(from.begin(), from.end(), to.begin());
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
