// SPDX-License-Identifier: MIT
// A lower floor that includes a higher one.
#pragma once
#include "polymac/layer/layer.hpp"
