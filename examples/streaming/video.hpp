// SPDX-License-Identifier: MIT
// A net over the frames of a camera, dense and with thresholds for what counts as a change.
#pragma once

#include "layer_run.hpp"
#include "picture.hpp"
#include "video_net.hpp"

#include <optional>
#include <string>
#include <vector>

namespace example {

/// What one threshold does over all frames. Times are medians over the passes, of a pass over all frames.
struct video_row {
  std::optional<unsigned> threshold;  ///< none: dense
  std::size_t layer = 0;              ///< from 1; 0: the net
  work done;
  double seconds = 0;
  double speed_up = 1;  ///< median over the passes of: time of the dense net in that pass / this one's
  unsigned largest_error = 0;
  double mean_error = 0;  ///< of the output against the dense net's, in its codes, 255 of which are the largest sums
};

/// For each threshold a row of the net, followed by those of its layers. With a sheet, draws some frames and what of them
/// was computed. Errors: what a layer refuses.
polymac::result<std::vector<video_row>> run_video(const video& v, std::size_t passes, picture* sheet);

polymac::result<layer_runs<std::uint8_t>> dense_layers(const std::vector<video_layer>& net);
polymac::result<layer_runs<std::uint8_t>> streamed_layers(const std::vector<video_layer>& net, unsigned threshold);

}  // namespace example
