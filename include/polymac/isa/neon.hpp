// SPDX-License-Identifier: MIT
#pragma once

#include "polymac/isa/isa.hpp"
