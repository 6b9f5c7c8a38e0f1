// SPDX-License-Identifier: MIT
#include <polymac/polymac.hpp>

#include "product.hpp"
