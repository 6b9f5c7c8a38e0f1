// SPDX-License-Identifier: MIT
// Layers with policies of activations, for sparsity_bench:
//
//   sparse/int8/<policy>/<work>
//
// policy: recompute_10, _25, _50, _100: policy::delta<0> (recompute, pixel) where so many % of the outputs read a patch of
// pixels that changes from call to call; accumulate_5, _15, _25, _50: policy::delta<0, element, accumulate> where in so
// many % of the groups of four an element changes; zeros_5, _15, _25, _50: policy::zero_skip where so many % of the
// groups are not 0. Counter x_dense: time of the dense layer on the same images / time of this one, comparing and
// copying included.
#pragma once

namespace bench {

/// Registers the cases.
void add_streams();

}  // namespace bench
