// SPDX-License-Identifier: MIT
// Compiled once per instruction set by polymac_add_isa_variants(). Only plain data crosses the border.
#include <polymac/polymac.hpp>

#include "kernels.hpp"

#define RUN POLYMAC_DETAIL_JOIN(run_, POLYMAC_ISA_ENTRY)

/// y = w * x for one row.
polymac::status RUN(polymac::matrix_view<const std::int8_t> weights, polymac::matrix_view<const std::int8_t> x,
                    polymac::matrix_view<std::int32_t> y) {
  const std::int32_t no_bias[1] = {};
  const auto layer = polymac::linear<polymac::mac::int8>(weights, std::span(no_bias, 0));
  return layer(x, y);
}
