// expect: the atoms of this policy are not known here: include polymac/sparsity.hpp
// SPDX-License-Identifier: MIT
#include <polymac/layer/linear.hpp>
#include <polymac/policy/n_of_m.hpp>

#include <vector>

void build(polymac::matrix_view<const std::int8_t> weights) {
  static_cast<void>(polymac::linear<polymac::mac::int8, polymac::policy::n_of_m<2, 4>>(weights, std::vector<int>()));
}
