// SPDX-License-Identifier: MIT
// An event net in every arithmetic and mode.
#pragma once

#include "event_net.hpp"
#include "layer_run.hpp"

#include <string>
#include <vector>

namespace example {

/// What one mode does over all windows. Times are medians over the passes, of a pass over all windows.
struct event_row {
  std::string arithmetic;
  mode how = mode::dense;
  std::size_t layer = 0;  ///< from 1; 0: the net
  work done;
  double seconds = 0;
  double speed_up = 1;        ///< median over the passes of: time of the dense mode in that pass / this one's
  double later_speed_up = 1;  ///< the same without the first window
  std::size_t values = 0, mismatches = 0;  ///< outputs compared with their goldens
};

/// For each arithmetic and mode a row of the net, followed by those of its layers (with the maxima behind them, which
/// are always dense). Errors: what a layer refuses.
polymac::result<std::vector<event_row>> run_events(const event_sequence& s, std::size_t passes);

}  // namespace example
