// SPDX-License-Identifier: MIT
// Tables for people.
#pragma once

#include <array>
#include <cstddef>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <vector>

namespace example {

/// What printf would print, at most 511 characters of it.
template <class... Values>
std::string format(const char* pattern, Values... values) {
  std::array<char, 512> text;
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

/// A line of a table.
using cells = std::vector<std::string>;

/// Prints lines of as many cells each; the first is the heading, with a rule below it. Columns of words begin at the
/// left, the others, of numbers, end at the right.
void print_lines(const std::vector<cells>& lines, std::initializer_list<std::size_t> words = {0});

}  // namespace example
