// SPDX-License-Identifier: MIT
// Matrix products in the arithmetics that peers do not have, for gemm_bench:
//
//   gemm/<arithmetic>/polymac/<rows>x<columns>x<depth>     depth in numbers, also where an element holds several
#pragma once

namespace bench {

/// Registers the cases.
void add_gemm_arithmetics();

}  // namespace bench
