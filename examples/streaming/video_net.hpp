// SPDX-License-Identifier: MIT
// A small net of the example's own over the frames of a fixed camera.
#pragma once

#include "polymac/core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace example {

using pixels8 = std::vector<std::uint8_t>;

struct video {
  std::string name;
  std::size_t height = 0, width = 0;
  std::vector<pixels8> frames;  ///< height x width
};

/// Reads frames_gray_u8_51x240x320.bin. Errors: a file of another size.
polymac::result<video> read_video(const std::filesystem::path& path);

/// A still background, the noise of a sensor (at most 2 up or down), and discs that move.
video draw_video();

/// A convolution 3 x 3 with padding: y = round(sum * scale), in 0 ... 255.
struct video_layer {
  std::size_t height = 0, width = 0, in = 0, out = 0, stride = 1;  ///< height, width: of the input
  std::vector<std::int8_t> weights;                                ///< out x 3 x 3 x in
  float scale = 1;

  std::size_t out_height() const { return (height - 1) / stride + 1; }
  std::size_t out_width() const { return (width - 1) / stride + 1; }
};

/// Three layers: edges, lines, blobs and means of the frame, then seeded sums of 16 and of 32 channels. Scales are
/// such that the largest sums of the first frame become 255.
std::vector<video_layer> make_video_net(const video& v);

}  // namespace example
