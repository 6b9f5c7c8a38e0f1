// SPDX-License-Identifier: MIT
#include <polymac/sparsity.hpp>

#include <polymac/probe/count.hpp>

#include "product.hpp"
