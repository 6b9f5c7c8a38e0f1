// expect: pixel_pruning is for the first layer of a network only
// SPDX-License-Identifier: MIT
#include <polymac/sparsity.hpp>

#include <random>
#include <vector>

using policy = polymac::policy::pixel_pruning<polymac::policy::pruning::list_compact, polymac::policy::rescale::none,
                                              std::mt19937_64>;
void build(polymac::matrix_view<const std::int8_t> weights, const polymac::policy::importance_map& map) {
  static_cast<void>(
      polymac::linear<polymac::mac::int8, policy>(weights, std::vector<int>(), polymac::epilogue::identity{}, {}, map));
}
