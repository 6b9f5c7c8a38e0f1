// SPDX-License-Identifier: MIT
// The policies that leave out part of the work, with their kernels.
#pragma once

#include "polymac/epilogue/delta_activation.hpp"
#include "polymac/isa/block_list_atoms.hpp"
#include "polymac/isa/n_of_m_atoms.hpp"
#include "polymac/layer/pixel_pruned.hpp"
#include "polymac/layer/streamed.hpp"
#include "polymac/policy/block_list.hpp"
#include "polymac/policy/n_of_m.hpp"
#include "polymac/policy/pattern.hpp"
#include "polymac/policy/pixel_pruning.hpp"
#include "polymac/policy/polarised.hpp"
#include "polymac/policy/unified.hpp"
#include "polymac/polymac.hpp"
