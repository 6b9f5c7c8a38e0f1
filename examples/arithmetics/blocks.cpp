// SPDX-License-Identifier: MIT
#include "encoded_layer.hpp"
#include "energy.hpp"

namespace example {

namespace {

using polymac::matrix_view;
using polymac::status;

/// 32 k of a row with a scale of their own.
template <class Element>
struct blocks_of_32 {
  using mac = polymac::mac::mx<Element>;
  using code = float;
  static constexpr std::size_t block = 32;
  static status encode_weights(matrix_view<const float> from, matrix_view<typename mac::weight> to, std::span<float>) {
    return mac::encode({from.data, from.rows * from.columns}, {to.data, to.rows * to.columns});
  }
  static status encode_rows(std::span<const float> from, std::span<typename mac::activation> to) {
    return mac::encode(from, to);
  }
};

}  // namespace

void add_blocks(std::vector<arithmetic>& list) {
  using namespace polymac;
  list.push_back({"mxint8", 8.25, 8.25, energy::integer_block(8), layer_of<blocks_of_32<std::int8_t>>::make});
  list.push_back({"mxfp8 e4m3", 8.25, 8.25, energy::mxfp8, layer_of<blocks_of_32<e4m3fn>>::make});
  list.push_back({"mxfp6 e2m3", 6.25, 6.25, energy::integer_block(6), layer_of<blocks_of_32<e2m3>>::make});
  list.push_back({"mxfp4 e2m1", 4.25, 4.25, energy::integer_block(5), layer_of<blocks_of_32<e2m1>>::make});
}

}  // namespace example
