// SPDX-License-Identifier: MIT
// Intrinsics outside isa/, and Eigen outside adapt/.
#pragma once
#include <Eigen/Core>
#include <immintrin.h>
