// expect: pixel_pruning wants a generator that is a std::uniform_random_bit_generator
// SPDX-License-Identifier: MIT
#include <polymac/sparsity.hpp>

#include <vector>

using policy =
    polymac::policy::pixel_pruning<polymac::policy::pruning::zero_fixed, polymac::policy::rescale::none, int>;
void build(polymac::matrix_view<const std::int8_t> weights, const polymac::policy::importance_map& map) {
  static_cast<void>(polymac::linear<polymac::mac::int8, policy>(
      polymac::layer::first_layer, weights, std::vector<int>(), polymac::epilogue::identity{}, {}, map));
}
