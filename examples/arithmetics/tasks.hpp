// SPDX-License-Identifier: MIT
// The nets, their weights and inputs.
#pragma once

#include "evaluate.hpp"

#include <filesystem>

namespace example {

/// The float32 nets of MLPerf Tiny that the data folder holds; the standard error tells which it does not.
polymac::result<std::vector<task>> tasks_of(const std::filesystem::path& data);
/// The project's own net on digits that are drawn now.
polymac::result<task> digits_task();

}  // namespace example
