// SPDX-License-Identifier: MIT
// What nearly every test includes, read once for each instruction set (tests/CMakeLists.txt). Tests include what they
// need nevertheless: where ccache works, nothing is precompiled. Nothing of polymac: g++ 12 forgets in a precompiled
// header what isa/intrinsics.hpp says about warnings.
#include "catch.hpp"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>
