// SPDX-License-Identifier: MIT
// A ternary net for an event camera, windows of events, and what every layer makes of them.
#pragma once

#include "polymac/core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace example {

using codes = std::vector<std::int8_t>;

/// A convolution 3 x 3 and a maximum over 2 x 2 outputs:
///     y = min(max(floor((sum * mul[o] + add[o]) / divisor), 0), top)
struct event_layer {
  std::size_t height = 0, width = 0, in = 0, out = 0;  ///< of the input
  std::size_t padding = 0;                             ///< pixels of 0 on every side
  codes weights;                                       ///< out x 3 x 3 x in, in {-1, 0, 1}
  std::vector<std::int32_t> mul, add;                  ///< for each output channel
  std::int64_t divisor = 1;
  std::int32_t top = 0;

  std::size_t out_height() const { return height + 2 * padding - 2; }
  std::size_t out_width() const { return width + 2 * padding - 2; }
  std::size_t outputs() const { return out_height() * out_width() * out; }
  std::size_t pooled() const { return out_height() / 2 * (out_width() / 2) * out; }
  std::size_t macs() const { return outputs() * 9 * in; }
};

struct event_sequence {
  std::string name;
  std::vector<event_layer> layers;
  std::vector<codes> windows;  ///< height x width x channels of the first layer, in {-1, 0, 1}
  /// goldens[window][2 * layer]: what the convolution gives, [2 * layer + 1]: its maxima; height x width x channels.
  std::vector<std::vector<codes>> goldens;
};

/// Reads DVS_CNN_9inputs.txt and .bin (README.md has the lines). Errors: what is damaged, and in which line.
polymac::result<event_sequence> read_events(const std::filesystem::path& text, const std::filesystem::path& values);

/// Rings that move over a net of the same shape with seeded weights; a plain loop makes the goldens.
event_sequence draw_events();

/// Output channels of each layer, and the channels that read them, in another order: those that change more often in
/// the first `windows` windows come first, so that groups of four channels change together. Goldens likewise.
void sort_channels(event_sequence& s, std::size_t windows);

}  // namespace example
