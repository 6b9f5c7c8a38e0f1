// SPDX-License-Identifier: MIT
// Parts of a JSON text for programs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace example {

/// A string. Bytes that are no UTF-8 become U+FFFD.
std::string json_text(std::string_view text);

/// A number by a pattern of printf; null where there is none, or none that is finite.
std::string json_number(std::optional<double> value, const char* pattern = "%.9g");

/// What stands in front of the rows of an array, one row a line.
class row_separator {
 public:
  const char* next() { return std::exchange(text_, ",\n"); }

 private:
  const char* text_ = "\n";
};

}  // namespace example
