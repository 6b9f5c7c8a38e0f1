// SPDX-License-Identifier: MIT
// The memory of a stream in a layer: what is remembered between two calls, and what a call needs besides.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/changed_bytes.hpp"
#include "polymac/kernel/changes.hpp"
#include "polymac/kernel/listed_rows.hpp"
#include "polymac/policy/live_group.hpp"

#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace layer {

/// What the last call has multiplied, of what the dense layer would have; rows: output pixels.
struct work_done {
  std::size_t macs = 0, of_macs = 0;
  std::size_t rows = 0, of_rows = 0;
};

namespace detail {

/// Images are held with their padding: frames. Made by streamed::make_state.
template <class Activation, class Output, class Accumulator>
struct stream_memory {
  using activation = Activation;
  using threshold_type = kernel::threshold_of<Activation>;

  struct shape_type {
    std::size_t batch = 0, channels = 0, frame_channels = 0, out_channels = 0;
    extent2d input{0, 0}, output{0, 0};
    padding2d padding{};
  };
  shape_type shape;
  threshold_type threshold{};
  work_done last;
  /// frames_size elements; where pairs may be needed the same once more, as before the last change.
  buffer<Activation> frames;
  std::size_t frames_size = 0;
  buffer<Accumulator> sums;
  buffer<Output> outputs;

  // What a call needs besides, made once. Lists hold pointers: they are of one call, and a copy of a state has none.
  struct pixel_list {
    const policy::live_group* groups;
    std::uint32_t count;
    std::int32_t sum;  ///< of differences
  };
  buffer<std::uint8_t> marks, lines, joined, dirty;
  buffer<std::uint16_t> changed_places;  ///< lists of elements that have changed, one for each line of a frame
  buffer<std::int8_t> changed_differences;
  buffer<std::uint32_t> changed_first, changed_counts;
  buffer<isa::changed_stretch> changed_stretches;
  buffer<kernel::listed_pixel> pixels;
  buffer<pixel_list> lists;                 ///< of the pixels of a frame
  buffer<policy::live_group> pixel_groups;  ///< their entries
  buffer<std::int8_t> differences;          ///< a frame of them
  buffer<Activation> zero_pixel;
  buffer<policy::live_group> groups;  ///< entries of the rows of a batch
  buffer<Activation> whole;           ///< windows that are computed whole
  buffer<Accumulator> row_sums;
  buffer<Output> row_outputs;

  extent2d frame_extent() const noexcept {
    return {shape.input.height + shape.padding.top + shape.padding.bottom,
            shape.input.width + shape.padding.left + shape.padding.right};
  }
  std::size_t image_elements() const noexcept {
    const extent2d frame = frame_extent();
    return frame.height * frame.width * shape.frame_channels;
  }
  /// The first pixel of a line of x, as a pixel of the frame.
  std::size_t first_pixel(std::size_t y) const noexcept {
    return (shape.padding.top + y) * frame_extent().width + shape.padding.left;
  }
  /// Where a line of image n of x is.
  Activation* interior(std::size_t n, std::size_t y) noexcept {
    return frames.data() + n * image_elements() + first_pixel(y) * shape.frame_channels;
  }
  image_view<const Activation> reference() const noexcept {
    const extent2d frame = frame_extent();
    const std::size_t pixel = shape.frame_channels;
    return {frames.data() + (shape.padding.top * frame.width + shape.padding.left) * pixel,
            shape.batch,
            shape.input.height,
            shape.input.width,
            shape.channels,
            pixel,
            frame.width * pixel,
            frame.height * frame.width * pixel};
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
