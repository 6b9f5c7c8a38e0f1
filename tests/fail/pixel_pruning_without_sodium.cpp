// expect: pixel_pruning draws with policy::chacha20 unless it is given another generator
// SPDX-License-Identifier: MIT
#include <polymac/sparsity.hpp>

#include <vector>

void build(polymac::matrix_view<const std::int8_t> weights, const polymac::policy::importance_map& map) {
  static_cast<void>(
      polymac::linear<polymac::mac::int8, polymac::policy::pixel_pruning<polymac::policy::pruning::zero_fixed>>(
          polymac::layer::first_layer, weights, std::vector<int>(), polymac::epilogue::identity{}, {}, map));
}
