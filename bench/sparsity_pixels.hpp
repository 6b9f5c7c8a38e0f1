// SPDX-License-Identifier: MIT
// First layers with policy::pixel_pruning, for sparsity_bench: 3 x 3 over 96 x 96 x 3, half of the pixels kept, none
// important, a new map for each call, drawn by ChaCha20 where libsodium is there (else by std::mt19937_64), its time
// included:
//
//   sparse/int8/pixels_50_<form>/conv_96x96x3_<outputs>[_requantised][_zero]
//
// form: list_compact, list_shuffled, zero_fixed, branch_skip. The zero point is -128, as of images; _zero: 0, where
// each pattern of pixels has start values of its own. Counters: x_dense, time of the dense layer / time of this one;
// share, its inverse; map, the share of the dense time that drawing the map takes.
#pragma once

namespace bench {

/// Registers the cases.
void add_pixels();

}  // namespace bench
