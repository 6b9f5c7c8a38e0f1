// SPDX-License-Identifier: MIT
// The tables, and the same as JSON.
#pragma once

#include "evaluate.hpp"

#include <vector>

namespace example {

void print_table(const std::vector<row>& rows, const std::vector<order>& known);
void explain();
void print_json(const std::vector<row>& rows, const std::vector<order>& known);

}  // namespace example
