// SPDX-License-Identifier: MIT
// What nearly every test includes, read once for each instruction set (tests/CMakeLists.txt). Tests include what they
// need nevertheless: where ccache works, nothing is precompiled.
#include "catch.hpp"

#include <polymac/polymac.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>
