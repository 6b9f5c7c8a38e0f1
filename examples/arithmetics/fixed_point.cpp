// SPDX-License-Identifier: MIT
#include "encoded_layer.hpp"
#include "energy.hpp"

#include <cmath>

namespace example {

namespace {

using polymac::matrix_view;
using polymac::status;

/// Dynamic fixed point: an exponent for a picture, and one for the weights. Its bytes are multiplied as int8's are
/// (dfp::computed_as), by the same code.
template <class Storage>
struct shared_exponent {
  using encoder = polymac::mac::dfp<Storage>;
  using mac = std::conditional_t<std::is_same_v<Storage, std::int8_t>, polymac::mac::int8, encoder>;
  using code = Storage;
  static constexpr std::size_t block = 1;
  static status encode(std::span<const float> from, std::span<Storage> to, float& scale) {
    const auto exponent = encoder::encode(from, to);
    if (exponent.ok()) scale = std::ldexp(1.0F, *exponent);
    return exponent.status();
  }
  static status encode_weights(matrix_view<const float> from, matrix_view<Storage> to, std::span<float> scales) {
    float scale = 1.0F;
    const status s = encode({from.data, from.rows * from.columns}, {to.data, to.rows * to.columns}, scale);
    std::fill(scales.begin(), scales.end(), scale);
    return s;
  }
  static status encode_picture(std::span<const float> from, std::span<Storage> to, float& scale) {
    return encode(from, to, scale);
  }
};
static_assert(std::is_same_v<polymac::mac::dfp<std::int8_t>::computed_as, polymac::mac::int8>);

/// int8 with a real scale for each output channel, and one for a picture; both symmetric.
struct int8_codes {
  using mac = polymac::mac::int8;
  using code = std::int8_t;
  static constexpr std::size_t block = 1;
  static status encode_weights(matrix_view<const float> from, matrix_view<std::int8_t> to, std::span<float> scales) {
    return polymac::mac::bit_weights<8>::encode(from, to, scales);
  }
  static status encode_picture(std::span<const float> from, std::span<std::int8_t> to, float& scale) {
    return polymac::mac::bit_weights<8>::encode(matrix_view<const float>(from.data(), 1, from.size()),
                                                matrix_view<std::int8_t>(to.data(), 1, to.size()), {&scale, 1});
  }
};

/// Codes whose values are squares, with a scale for each output channel and one for a picture.
template <int Bits>
struct squares {
  using mac = polymac::mac::power<std::ratio<1, 2>, Bits>;
  using code = std::int8_t;
  static constexpr std::size_t block = 1;
  static status encode_weights(matrix_view<const float> from, matrix_view<std::int8_t> to, std::span<float> scales) {
    for (std::size_t c = 0; c < from.rows; ++c)
      if (status s = mac::encode({from.row(c), from.columns}, {to.row(c), to.columns}, scales[c]); !s.ok()) return s;
    return {};
  }
  static status encode_picture(std::span<const float> from, std::span<std::int8_t> to, float& scale) {
    return mac::encode(from, to, scale);
  }
};

}  // namespace

void add_fixed_point(std::vector<arithmetic>& list) {
  list.push_back({"dfp int16", 16, 16, energy::dfp16, layer_of<shared_exponent<std::int16_t>>::make});
  list.push_back({"dfp int8", 8, 8, energy::int8, layer_of<shared_exponent<std::int8_t>>::make});
  list.push_back({"int8", 8, 8, energy::int8, layer_of<int8_codes>::make});
  list.push_back({"power<1/2, 8>", 8, 8, energy::squares(8), layer_of<squares<8>>::make});
}

}  // namespace example
