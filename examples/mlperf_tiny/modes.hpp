// SPDX-License-Identifier: MIT
// The three things the program does. Each fills rows and tells mistakes on the standard error.
#pragma once

#include "examples/common/files.hpp"
#include "options.hpp"
#include "report.hpp"

#include <filesystem>
#include <string_view>
#include <vector>

namespace example {

/// What a mode leaves for the report.
struct outcome {
  std::vector<row> rows;
  bool failed = false;  ///< something could not be read or run, and has been told
};

/// All networks of MLPerf Tiny that `data` holds model and inputs of. Without any: no rows and no failure.
outcome run_nets(const std::filesystem::path& data, const options& chosen);
/// What stands under their table.
void explain_nets(const options& chosen);

/// The digit network on drawn digits.
outcome run_digits(const options& chosen);
/// Some of the digits with the network's answers, and where to get more networks. After run_digits.
void explain_digits();

/// Any model on a file of inputs.
outcome run_model_file(const options& chosen);

/// Tells a mistake.
void complain(std::string_view about, const polymac::status& why);

}  // namespace example
