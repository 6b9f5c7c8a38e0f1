// SPDX-License-Identifier: MIT
// What a layer with a policy of activations remembers between two calls, as the user holds it.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/changes.hpp"
#include "polymac/layer/signature.hpp"
#include "polymac/layer/stream_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

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
  image_view<const Activation> reference() const noexcept { return memory_.reference(); }
  image_view<const Output> output() const noexcept {
    return {memory_.outputs.data(), memory_.shape.batch, memory_.shape.output.height, memory_.shape.output.width,
            memory_.shape.out_channels};
  }
  const work_done& last() const noexcept { return memory_.last; }
  /// In units of the activation; at least 0, else it stays what it was and an error is returned.
  polymac::status set_threshold(threshold_type threshold) noexcept {
    if constexpr (!std::is_integral_v<threshold_type>)
      if (!(threshold >= 0 && threshold <= std::numeric_limits<threshold_type>::max()))
        return polymac::status::make(errc::parameter, "state: expected a finite threshold of at least 0");
    memory_.threshold = threshold;
    return {};
  }
  threshold_type threshold() const noexcept { return memory_.threshold; }
  /// The next call transmits everything, as the first one did.
  void reset() noexcept {
    frames_ = 0;
    dense_calls_ = 0;
  }

  /// Bytes of the state as saved: a header, the reference, sums where the layer adds up, outputs. Numbers are as this
  /// machine has them.
  std::size_t saved_bytes() const noexcept {
    return sizeof(header) + memory_.frames_size * sizeof(Activation) + memory_.sums.size() * sizeof(Accumulator) +
           memory_.outputs.size() * sizeof(Output);
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
    write(memory_.frames.data(), memory_.frames_size);
    write(memory_.sums.data(), memory_.sums.size());
    write(memory_.outputs.data(), memory_.outputs.size());
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
    read(memory_.frames.data(), memory_.frames_size);
    read(memory_.sums.data(), memory_.sums.size());
    read(memory_.outputs.data(), memory_.outputs.size());
    if (memory_.frames.size() > memory_.frames_size)
      std::memcpy(static_cast<void*>(memory_.frames.data() + memory_.frames_size), memory_.frames.data(),
                  memory_.frames_size * sizeof(Activation));
    frames_ = h.frames;
    dense_calls_ = 0;
    memory_.threshold = h.threshold;
    return {};
  }

 private:
  template <class, class>
  friend class streamed;

  struct header {
    std::uint64_t magic, version, layer, check, bytes, frames;
    std::uint64_t extents[4];
    threshold_type threshold;
  };

  header make_header() const noexcept {
    header h;
    std::memset(static_cast<void*>(&h), 0, sizeof(h));
    h.magic = 0x7461747363616d70;  // "pmacstat"
    h.version = 1;
    h.layer = layer_;
    h.bytes = saved_bytes();
    h.frames = dense_calls_ > 0 ? 0 : frames_;
    h.extents[0] = memory_.shape.batch;
    h.extents[1] = memory_.shape.input.height;
    h.extents[2] = memory_.shape.input.width;
    h.extents[3] = memory_.shape.channels;
    h.threshold = memory_.threshold;
    detail::signature check = header_signature(h);
    check.add_bytes(memory_.frames.data(), memory_.frames_size * sizeof(Activation));
    check.add_bytes(memory_.sums.data(), memory_.sums.size() * sizeof(Accumulator));
    check.add_bytes(memory_.outputs.data(), memory_.outputs.size() * sizeof(Output));
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

  detail::stream_memory<Activation, Output, Accumulator> memory_;
  std::uint64_t layer_ = 0;        ///< of the layer that made it
  std::uint64_t frames_ = 0;       ///< calls since everything was transmitted
  std::uint64_t dense_calls_ = 0;  ///< that are still to come
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
