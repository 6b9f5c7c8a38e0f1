// SPDX-License-Identifier: MIT
// The tables, what they mean, and the same as JSON.
#pragma once

#include "attack.hpp"

#include <string>

namespace example {

/// What a run was asked for, and what it found.
struct results {
  std::size_t traces = 0;
  std::uint64_t seed = 0;
  std::vector<attack_row> attacks;
  std::vector<difference_row> tests;
};

/// "4 / sqrt(N)": what |rho| of a wrong guess hardly ever reaches at one sample.
double noise_floor(std::size_t traces);
/// The right guess is the first, and above the noise floor.
bool is_recovered(const finding& f);
const char* name_of(knowledge k);

void print_tables(const results& r);
void print_json(const results& r);

}  // namespace example
