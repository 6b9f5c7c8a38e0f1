// SPDX-License-Identifier: MIT
// Correlation against the number of traces, as SVG.
#pragma once

#include "report.hpp"

#include <string>

namespace example {

/// One panel for each row of the table: |rho| of the right guess, of the best other one, and the noise floor, over a
/// logarithmic axis. `target`: which of `targets`. Colours are legible on light and dark ground.
std::string plot(const results& r, std::size_t target);

/// Writes correlation_w<weight>.svg for each target into a folder, which is made if it is not there.
polymac::status write_plots(const results& r, const std::string& folder);

}  // namespace example
