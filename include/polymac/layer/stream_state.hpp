// SPDX-License-Identifier: MIT
// What a layer with a policy of activations remembers between two calls.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/kernel/changed_elements.hpp"
#include "polymac/kernel/changes.hpp"
#include "polymac/kernel/listed_rows.hpp"
#include "polymac/layer/signature.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// What the last call has multiplied, of what the dense layer would have; rows: output pixels.
struct work_done {
  std::size_t macs = 0, of_macs = 0;
  std::size_t rows = 0, of_rows = 0;
};

template <class Inner, class P>
class streamed;

/// The state of one stream of images (or rows) in one layer: made by the layer's make_state, kept by the caller, and
/// handed to every call. Two streams, and two places where one layer is used, need two states. It can be moved and
/// copied, saved and restored.
///
///   reference()   the activations that were transmitted last: what the outputs belong to
///   output()      the outputs of the last call, where the layer keeps them: no copy is needed to read them
template <class Activation, class Output, class Accumulator>
class stream_state {
 public:
  using threshold_type = kernel::threshold_of<Activation>;

  /// Why there is no state; ok where it can be used.
  const polymac::status& status() const noexcept { return status_; }
  image_view<const Activation> reference() const noexcept {
    const extent2d frame = frame_extent();
    const std::size_t pixel = shape_.frame_channels;
    return {frames_memory_.data() + (shape_.padding.top * frame.width + shape_.padding.left) * pixel,
            shape_.batch,
            shape_.input.height,
            shape_.input.width,
            shape_.channels,
            pixel,
            frame.width * pixel,
            frame.height * frame.width * pixel};
  }
  image_view<const Output> output() const noexcept {
    return {outputs_.data(), shape_.batch, shape_.output.height, shape_.output.width, shape_.out_channels};
  }
  const work_done& last() const noexcept { return last_; }
  /// In units of the activation; at least 0, else it stays what it was and an error is returned.
  polymac::status set_threshold(threshold_type threshold) noexcept {
    if constexpr (!std::is_integral_v<threshold_type>)
      if (!(threshold >= 0 && threshold <= std::numeric_limits<threshold_type>::max()))
        return polymac::status::make(errc::parameter, "state: expected a finite threshold of at least 0");
    threshold_ = threshold;
    return {};
  }
  threshold_type threshold() const noexcept { return threshold_; }
  /// The next call transmits everything, as the first one did.
  void reset() noexcept {
    frames_ = 0;
    dense_calls_ = 0;
  }

  /// Bytes of the state as saved: a header, the reference, sums where the layer adds up, outputs. Numbers are as this
  /// machine has them.
  std::size_t saved_bytes() const noexcept {
    return sizeof(header) + frames_size_ * sizeof(Activation) + sums_.size() * sizeof(Accumulator) +
           outputs_.size() * sizeof(Output);
  }
  /// Writes it to `to`, which holds saved_bytes() at least.
  polymac::status save(std::span<std::byte> to) const noexcept {
    if (!status_.ok()) return status_;
    if (to.size() < saved_bytes())
      return polymac::status::make(errc::short_buffer, "state: expected ", saved_bytes(), " bytes to save to, got ",
                                   to.size());
    const header h = make_header();
    std::memcpy(to.data(), &h, sizeof(h));
    std::byte* at = to.data() + sizeof(h);
    const auto write = [&](const auto* data, std::size_t count) {
      const std::size_t bytes = count * sizeof(*data);
      if (bytes > 0) std::memcpy(at, data, bytes);
      at += bytes;
    };
    write(frames_memory_.data(), frames_size_);
    write(sums_.data(), sums_.size());
    write(outputs_.data(), outputs_.size());
    return {};
  }
  /// Takes up a saved state of the same layer and image size; else it stays as it is, and an error says what differs.
  polymac::status restore(std::span<const std::byte> from) noexcept {
    if (!status_.ok()) return status_;
    header h{};
    if (from.size() < sizeof(h))
      return polymac::status::make(errc::short_buffer, "state: expected ", saved_bytes(), " saved bytes, got ",
                                   from.size());
    std::memcpy(&h, from.data(), sizeof(h));
    const header own = make_header();
    if (h.magic != own.magic || h.version != own.version)
      return polymac::status::make(errc::parameter, "state: these bytes are no saved state of this version of polymac");
    if (h.layer != own.layer)
      return polymac::status::make(errc::parameter,
                                   "state: this is the state of another layer (other weights or policies)");
    if (std::memcmp(h.extents, own.extents, sizeof(h.extents)) != 0)
      return polymac::status::make(errc::shape, "state: expected one for ", own.extents[0], " images of ",
                                   own.extents[1], " x ", own.extents[2], " x ", own.extents[3], ", got one for ",
                                   h.extents[0], " of ", h.extents[1], " x ", h.extents[2], " x ", h.extents[3]);
    if (h.bytes != own.bytes || from.size() != saved_bytes())
      return polymac::status::make(errc::short_buffer, "state: expected ", saved_bytes(), " saved bytes, got ",
                                   from.size());
    if (h.check != check_of(h, from.subspan(sizeof(h))))
      return polymac::status::make(errc::parameter, "state: the saved bytes are damaged: their check sum differs");
    if constexpr (!std::is_integral_v<threshold_type>)
      if (!(h.threshold >= 0))
        return polymac::status::make(errc::parameter, "state: the saved threshold is negative or NaN");
    const std::byte* at = from.data() + sizeof(h);
    const auto read = [&](auto* data, std::size_t count) {
      const std::size_t bytes = count * sizeof(*data);
      if (bytes > 0) std::memcpy(static_cast<void*>(data), at, bytes);
      at += bytes;
    };
    read(frames_memory_.data(), frames_size_);
    read(sums_.data(), sums_.size());
    read(outputs_.data(), outputs_.size());
    if (frames_memory_.size() > frames_size_)
      std::memcpy(static_cast<void*>(frames_memory_.data() + frames_size_), frames_memory_.data(),
                  frames_size_ * sizeof(Activation));
    frames_ = h.frames;
    dense_calls_ = 0;
    threshold_ = h.threshold;
    return {};
  }

 private:
  template <class, class>
  friend class streamed;

  struct shape_type {
    std::size_t batch = 0, channels = 0, frame_channels = 0, out_channels = 0;
    extent2d input{0, 0}, output{0, 0};
    padding2d padding{};
  };
  struct header {
    std::uint64_t magic, version, layer, check, bytes, frames;
    std::uint64_t extents[4];
    threshold_type threshold;
  };

  extent2d frame_extent() const noexcept {
    return {shape_.input.height + shape_.padding.top + shape_.padding.bottom,
            shape_.input.width + shape_.padding.left + shape_.padding.right};
  }
  header make_header() const noexcept {
    header h;
    std::memset(static_cast<void*>(&h), 0, sizeof(h));
    h.magic = 0x7461747363616d70;  // "pmacstat"
    h.version = 1;
    h.layer = layer_;
    h.bytes = saved_bytes();
    h.frames = dense_calls_ > 0 ? 0 : frames_;
    h.extents[0] = shape_.batch;
    h.extents[1] = shape_.input.height;
    h.extents[2] = shape_.input.width;
    h.extents[3] = shape_.channels;
    h.threshold = threshold_;
    detail::signature check = header_signature(h);
    check.add_bytes(frames_memory_.data(), frames_size_ * sizeof(Activation));
    check.add_bytes(sums_.data(), sums_.size() * sizeof(Accumulator));
    check.add_bytes(outputs_.data(), outputs_.size() * sizeof(Output));
    h.check = check.value();
    return h;
  }
  static detail::signature header_signature(const header& h) noexcept {
    detail::signature s;
    s.add(h.frames);
    s.add(h.threshold);
    return s;
  }
  static std::uint64_t check_of(const header& h, std::span<const std::byte> bytes) noexcept {
    detail::signature s = header_signature(h);
    s.add_bytes(bytes.data(), bytes.size());
    return s.value();
  }

  shape_type shape_;
  std::uint64_t layer_ = 0;        ///< of the layer that made it
  std::uint64_t frames_ = 0;       ///< calls since everything was transmitted
  std::uint64_t dense_calls_ = 0;  ///< that are still to come
  threshold_type threshold_{};
  work_done last_;
  /// Images with their padding, frames_size_ elements; where pairs may be needed the same once more, as before the last
  /// change.
  buffer<Activation> frames_memory_;
  std::size_t frames_size_ = 0;
  buffer<Accumulator> sums_;
  buffer<Output> outputs_;
  // What a call needs besides, made once. Lists hold pointers: they are of one call, and a copy of a state has none.
  struct pixel_list {
    const policy::live_group* groups;
    std::uint32_t count;
    std::int32_t sum;  ///< of differences
  };
  buffer<std::uint8_t> marks_, lines_, joined_, dirty_;
  buffer<std::uint16_t> changed_places_;  ///< lists of elements that have changed, one for each line of a frame
  buffer<std::int8_t> changed_differences_;
  buffer<std::uint32_t> changed_first_, changed_counts_;
  buffer<isa::changed_stretch> changed_stretches_;
  buffer<kernel::listed_pixel> pixels_;
  buffer<pixel_list> lists_;                 ///< of the pixels of a frame
  buffer<policy::live_group> pixel_groups_;  ///< their entries
  buffer<std::int8_t> differences_;          ///< a frame of them
  buffer<Activation> zero_pixel_;
  buffer<policy::live_group> groups_;  ///< entries of the rows of a batch
  buffer<Activation> whole_;           ///< windows that are computed whole
  buffer<Accumulator> row_sums_;
  buffer<Output> row_outputs_;
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
