// expect: n_of_m<N, M> keeps N of M weights
// SPDX-License-Identifier: MIT
#include <polymac/sparsity.hpp>

constexpr auto kept = polymac::policy::n_of_m<4, 4>::kept;
