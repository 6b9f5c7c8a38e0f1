// SPDX-License-Identifier: MIT
// polymac.hpp and every arithmetic: small floats and blocks, dynamic fixed point, weights of few bits, L-Mul, spikes and
// signs, models of memories that compute.
#pragma once

#include "polymac/core/bit_codes.hpp"
#include "polymac/core/block.hpp"
#include "polymac/epilogue/leaky_integrate_fire.hpp"
#include "polymac/isa/arithmetic_atoms.hpp"
#include "polymac/mac/bit_planes.hpp"
#include "polymac/mac/bit_weights.hpp"
#include "polymac/mac/dfp.hpp"
#include "polymac/mac/fp8.hpp"
#include "polymac/mac/imc.hpp"
#include "polymac/mac/l_mul.hpp"
#include "polymac/mac/mx.hpp"
#include "polymac/mac/power.hpp"
#include "polymac/mac/sign.hpp"
#include "polymac/mac/spike.hpp"
#include "polymac/polymac.hpp"
