// SPDX-License-Identifier: MIT
// Every instruction set. Kernels include this file only: an atom must be known before its first use, or a weaker one
// would silently take its place (tests/static_test.cpp pins the table).
#pragma once

#include "polymac/isa/amx_int8.hpp"
#include "polymac/isa/avx2.hpp"
#include "polymac/isa/avx2_panels.hpp"
#include "polymac/isa/avx512.hpp"
#include "polymac/isa/avx512_lanes.hpp"
#include "polymac/isa/avx512_panels.hpp"
#include "polymac/isa/avx512_vnni.hpp"
#include "polymac/isa/avx_vnni.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/neon.hpp"
#include "polymac/isa/neon_dotprod.hpp"
#include "polymac/isa/panels.hpp"
#include "polymac/isa/scalar.hpp"
#include "polymac/isa/xsimd.hpp"
