// SPDX-License-Identifier: MIT
// The atoms of the arithmetics that polymac.hpp leaves out.
#pragma once

#include "polymac/isa/all.hpp"
#include "polymac/isa/avx2_bits.hpp"
#include "polymac/isa/avx2_blocks.hpp"
#include "polymac/isa/avx2_l_mul.hpp"
#include "polymac/isa/avx512_bits.hpp"
#include "polymac/isa/avx512_blocks.hpp"
#include "polymac/isa/avx512_l_mul.hpp"
#include "polymac/isa/chains.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/neon_bits.hpp"
#include "polymac/isa/neon_blocks.hpp"
#include "polymac/isa/neon_l_mul.hpp"
#include "polymac/isa/small_floats.hpp"

POLYMAC_BEGIN
namespace isa {

/// Complete where the atoms are known.
struct arithmetic_atoms {};

}  // namespace isa
POLYMAC_END
