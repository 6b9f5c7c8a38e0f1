// SPDX-License-Identifier: MIT
// The tables, and the same as JSON.
#pragma once

#include "events.hpp"
#include "video.hpp"

#include <string>
#include <vector>

namespace example {

/// What was run, and what came out.
struct report {
  std::string events, video;  ///< names of the sequences
  std::size_t windows = 0, frames = 0;
  std::vector<event_row> event_rows;
  std::vector<video_row> video_rows;
};

/// A speed-up that the issue asks for.
struct bar {
  std::string text;
  double value = 0, least = 0;
};
std::vector<bar> bars_of(const report& r);
/// Is every output its golden, and is nothing lost with the threshold 0?
bool is_exact(const report& r);

void print_tables(const report& r);
void print_json(const report& r);

}  // namespace example
