// SPDX-License-Identifier: MIT
// The entry points of kernels.cpp, one for each variant that the build has made.
#pragma once

#include <polymac/core/error.hpp>
#include <polymac/core/view.hpp>

#include <cstdint>

#define DECLARE_RUN(isa)                                                     \
  polymac::status run_##isa(polymac::matrix_view<const std::int8_t> weights, \
                            polymac::matrix_view<const std::int8_t> x, polymac::matrix_view<std::int32_t> y);
DECLARE_RUN(scalar)
DECLARE_RUN(avx2)
DECLARE_RUN(avx512)
DECLARE_RUN(avx_vnni)
DECLARE_RUN(avx512_vnni)
DECLARE_RUN(neon)
DECLARE_RUN(neon_dotprod)
