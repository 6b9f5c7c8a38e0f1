// SPDX-License-Identifier: MIT
// Every instruction set. Kernels include this file: what a set has must be known before its first use, or a weaker one
// would silently take its place (tests/static_test.cpp pins the table of atoms). Two kernels include the strongest
// header of the one family that they use instead, kernel/pool.hpp (column sums) and kernel/find_plane.hpp (planes):
// with all the others pooling and elementwise layers, included alone, would take 0.45 s longer to compile.
#pragma once

#include "polymac/isa/amx_bf16.hpp"
#include "polymac/isa/amx_int8.hpp"
#include "polymac/isa/avx2.hpp"
#include "polymac/isa/avx2_panels.hpp"
#include "polymac/isa/avx512.hpp"
#include "polymac/isa/avx512_bf16.hpp"
#include "polymac/isa/avx512_column_sums.hpp"
#include "polymac/isa/avx512_depthwise.hpp"
#include "polymac/isa/avx512_lanes.hpp"
#include "polymac/isa/avx512_panels.hpp"
#include "polymac/isa/avx512_plane.hpp"
#include "polymac/isa/avx512_vnni.hpp"
#include "polymac/isa/avx512_vnni_depthwise.hpp"
#include "polymac/isa/avx_vnni.hpp"
#include "polymac/isa/column_sums.hpp"
#include "polymac/isa/depthwise.hpp"
#include "polymac/isa/half_pairs.hpp"
#include "polymac/isa/halves.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lanes.hpp"
#include "polymac/isa/neon.hpp"
#include "polymac/isa/neon_dotprod.hpp"
#include "polymac/isa/panels.hpp"
#include "polymac/isa/plane.hpp"
#include "polymac/isa/scalar.hpp"
#include "polymac/isa/xsimd.hpp"
