// SPDX-License-Identifier: MIT
// What a layer over time remembers: the last slices of its input, in rings.
//
//     a pixel of the ring, kernel = 3:       | slot 0 | slot 1 | slot 2 | slot 3 | slot 4 |    2 kernel - 1 slots of
//     steps 0, 1, 2, ... write                  s=1      s=2      s=0      s=1      s=2        `channels` elements
//     slots s + 2 and, for s > 0, s - 1
//
// A slice is written twice, so that the window of the last `kernel` slices is one stretch wherever the ring begins:
// slots s to s + 2, oldest first. To the kernels it is `kernel * channels` channels of a pixel, read in place by an
// ordinary layer; nothing is moved between steps, every step takes the same time, and the order of k, and with it the
// bits of floats, does not depend on when the stream began. The second store costs one pass over the slice, where the
// products cost kernel * taps * output channels. (Sums of partial products instead of slices would be 4 bytes for each
// output element and step instead of 1 for each input element; weights rotated for each phase of the ring would take
// kernel times the cache.)
//
// With dilation d there are d rings, and step n belongs to ring n mod d.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/text.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/convolution_windows.hpp"
#include "polymac/layer/signature.hpp"
#include "polymac/policy/continual.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

struct ring_access;

}  // namespace detail

/// The past of one stream, or of several that run in step (`batch`), for the layer that made it (`make_state`). It is
/// the caller's: movable, copyable (a copy is another stream with the same past), not shared between threads. Memory:
/// dilation * (2 kernel - 1) slices of the input (a delay line: as many as it waits).
template <class T>
class continual_state {
 public:
  /// ok, or why there is no memory.
  const polymac::status& status() const noexcept { return status_; }
  extent2d size() const noexcept { return {height_, width_}; }
  std::size_t batch() const noexcept { return batch_; }
  std::size_t channels() const noexcept { return channels_; }
  /// Slices that have come since the beginning, those of a flush counted in.
  std::uint64_t steps() const noexcept { return steps_; }
  /// Did the last step write y?
  bool has_output() const noexcept { return policy::has_output(time_, static_cast<std::size_t>(steps_)); }
  /// Bytes of memory held.
  std::size_t bytes() const noexcept { return ring_.size() * sizeof(T); }

  /// Back to the beginning: a past of zero points.
  void reset() noexcept {
    for (std::size_t i = 0; i < ring_.size(); ++i) ring_[i] = zero_point_;
    steps_ = 0;
  }

  /// Bytes that save() writes: 32, and each slice once.
  std::size_t saved_bytes() const noexcept { return header_bytes + slices() * slice_elements() * sizeof(T); }
  /// Writes the state; elements in the byte order of the machine. Fails on less memory than saved_bytes().
  polymac::status save(std::span<std::byte> to) const noexcept {
    if (!status_.ok()) return status_;
    if (to.size() < saved_bytes())
      return polymac::status::make(errc::short_buffer, "continual_state: expected memory of ", saved_bytes(),
                                   " bytes to save to, got ", to.size());
    put(to.data(), magic);
    put(to.data() + 8, signature_);
    put(to.data() + 16, steps_);
    std::byte* at = to.data() + header_bytes;
    for_each_slice_pixel([&](std::size_t kept, std::size_t) {
      std::memcpy(at, ring_.data() + kept, channels_ * sizeof(T));
      at += channels_ * sizeof(T);
    });
    put(to.data() + 24, check_of(to.first(saved_bytes())));
    return {};
  }
  /// Reads what save() wrote for a state of the same layer and size. Fails on anything else, and then changes nothing.
  polymac::status restore(std::span<const std::byte> from) noexcept {
    if (!status_.ok()) return status_;
    if (from.size() != saved_bytes())
      return polymac::status::make(errc::corrupt, "continual_state: expected a saved state of ", saved_bytes(),
                                   " bytes, got ", from.size());
    if (get(from.data()) != magic)
      return polymac::status::make(errc::corrupt, "continual_state: these bytes are no saved state");
    if (get(from.data() + 8) != signature_)
      return polymac::status::make(errc::parameter, "continual_state: the saved state is one of another layer");
    if (get(from.data() + 24) != check_of(from))
      return polymac::status::make(errc::corrupt,
                                   "continual_state: the saved bytes are damaged: their check sum differs");
    steps_ = get(from.data() + 16);
    const std::byte* at = from.data() + header_bytes;
    for_each_slice_pixel([&](std::size_t kept, std::size_t copy) {
      std::memcpy(ring_.data() + kept, at, channels_ * sizeof(T));
      if (copy != none) std::memcpy(ring_.data() + copy, at, channels_ * sizeof(T));
      at += channels_ * sizeof(T);
    });
    return {};
  }

 private:
  friend struct detail::ring_access;
  static constexpr std::size_t header_bytes = 32;
  static constexpr std::uint64_t magic = 0x31304E4F43434D50u;  // "PMCCON01"
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  continual_state(const policy::time_window& time, std::size_t taps, std::size_t batch, extent2d size,
                  std::size_t channels, T zero_point, std::uint64_t signature) noexcept
      : time_(time),
        taps_(taps),
        batch_(batch),
        height_(size.height),
        width_(size.width),
        channels_(channels),
        zero_point_(zero_point) {
    detail::signature s;
    for (const std::size_t v :
         {time.kernel, time.stride, time.dilation, time.padding, batch, height_, width_, channels})
      s.add(v);
    s.add(zero_point), s.add(signature);
    signature_ = s.value();
    std::size_t elements = time_.dilation;
    for (const std::size_t factor : {2 * taps_ - 1, batch_, height_, width_, channels_}) {
      if (factor == 0 || elements > static_cast<std::size_t>(-1) / 2 / factor) {
        status_ =
            polymac::status::make(errc::shape, "continual_state: expected slices with elements that fit the address ",
                                  "space, got ", batch_, " x ", height_, " x ", width_, " x ", channels_);
        return;
      }
      elements *= factor;
    }
    status_ = ring_.resize_for_overwrite(elements);
    if (status_.ok()) reset();
  }

  std::size_t slices() const noexcept { return time_.dilation * taps_; }
  std::size_t slice_elements() const noexcept { return batch_ * height_ * width_ * channels_; }
  std::size_t pixel_stride() const noexcept { return (2 * taps_ - 1) * channels_; }
  std::size_t ring_elements() const noexcept { return batch_ * height_ * width_ * pixel_stride(); }
  /// f(where a pixel of a slice lies, where it lies once more or none), slice by slice.
  template <class Function>
  void for_each_slice_pixel(const Function& f) const noexcept {
    for (std::size_t phase = 0; phase < time_.dilation; ++phase)
      for (std::size_t slot = 0; slot < taps_; ++slot)
        for (std::size_t p = 0; p < batch_ * height_ * width_; ++p) {
          const std::size_t pixel = phase * ring_elements() + p * pixel_stride();
          f(pixel + (slot + taps_ - 1) * channels_, slot == 0 ? none : pixel + (slot - 1) * channels_);
        }
  }
  static std::uint64_t check_of(std::span<const std::byte> saved) noexcept {
    detail::signature s;
    for (std::size_t i = 0; i < saved.size(); ++i)
      if (i < 24 || i >= header_bytes) s.add(saved[i]);
    return s.value();
  }
  static void put(std::byte* to, std::uint64_t v) noexcept {
    for (int i = 0; i < 8; ++i, v >>= 8) to[i] = static_cast<std::byte>(v & 0xFF);
  }
  static std::uint64_t get(const std::byte* from) noexcept {
    std::uint64_t v = 0;
    for (int i = 7; i >= 0; --i) v = v << 8 | static_cast<std::uint64_t>(from[i]);
    return v;
  }

  policy::time_window time_;  ///< when there are outputs; its dilation is the number of rings
  std::size_t taps_;          ///< slices of a ring
  std::size_t batch_, height_, width_, channels_;
  T zero_point_;
  std::uint64_t signature_ = 0, steps_ = 0;
  buffer<T> ring_;
  polymac::status status_;
};

namespace detail {

/// What layers do with a state.
struct ring_access {
  template <class T>
  static continual_state<T> make(const policy::time_window& time, std::size_t taps, std::size_t batch, extent2d size,
                                 std::size_t channels, T zero_point, std::uint64_t signature,
                                 const polymac::status& why_not) noexcept {
    if (why_not.ok()) return {time, taps, batch, size, channels, zero_point, signature};
    continual_state<T> s({}, 1, 0, {0, 0}, 0, zero_point, signature);
    s.status_ = why_not;
    return s;
  }

  /// Was the state made by a layer with that signature?
  template <class T>
  static polymac::status check(const char* who, const continual_state<T>& s, const policy::time_window& time,
                               std::size_t channels, T zero_point, std::uint64_t layer) noexcept {
    if (!s.status_.ok()) return s.status_;
    signature expected;
    for (const std::size_t v :
         {time.kernel, time.stride, time.dilation, time.padding, s.batch_, s.height_, s.width_, channels})
      expected.add(v);
    expected.add(zero_point), expected.add(layer);
    if (s.channels_ != channels || expected.value() != s.signature_)
      return polymac::status::make(errc::parameter, who, ": the state was made by another layer");
    return {};
  }
  /// Is x a slice for the state?
  template <class T>
  static polymac::status check_slice(const char* who, const continual_state<T>& s,
                                     const image_view<const T>& x) noexcept {
    if (x.batch != s.batch_ || x.height != s.height_ || x.width != s.width_ || x.channels != s.channels_)
      return polymac::status::make(errc::shape, who, ": expected a slice of ", s.batch_, " x ", s.height_, " x ",
                                   s.width_, " x ", s.channels_, ", as the state was made for, got ", x.batch, " x ",
                                   x.height, " x ", x.width, " x ", x.channels);
    return {};
  }

  /// Would a step with one more slice give an output?
  template <class T>
  static bool gives_output(const continual_state<T>& s) noexcept {
    return policy::has_output(s.time_, static_cast<std::size_t>(s.steps_) + 1);
  }
  /// Writes x, or a slice of zero points where it has no data, as the next slice. Until commit() the state is as it
  /// was: what is overwritten is in no window any more.
  template <class T>
  static void write(continual_state<T>& s, const image_view<const T>& x) noexcept {
    const std::size_t slot = slot_of(s), step = s.pixel_stride();
    T* pixel = s.ring_.data() + s.steps_ % s.time_.dilation * s.ring_elements();
    T* const last = pixel + (slot + s.taps_ - 1) * s.channels_;
    std::size_t at = 0;
    for (std::size_t n = 0; n < s.batch_; ++n)
      for (std::size_t y = 0; y < s.height_; ++y)
        for (std::size_t i = 0; i < s.width_; ++i, at += step) {
          if (x.data != nullptr)
            kernel::detail::copy_elements(last + at, x.pixel(n, y, i), s.channels_);
          else
            kernel::detail::fill_elements(last + at, s.zero_point_, s.channels_);
          if (slot > 0) kernel::detail::copy_elements(pixel + (slot - 1) * s.channels_ + at, last + at, s.channels_);
        }
  }
  template <class T>
  static void commit(continual_state<T>& s) noexcept {
    ++s.steps_;
  }
  /// The last `kernel` slices, that of write() the last one, as one image; oldest first in a pixel.
  template <class T>
  static image_view<const T> window(const continual_state<T>& s) noexcept {
    const std::size_t pixel = s.pixel_stride(), line = s.width_ * pixel;
    return {s.ring_.data() + s.steps_ % s.time_.dilation * s.ring_elements() + slot_of(s) * s.channels_,
            s.batch_,
            s.height_,
            s.width_,
            s.taps_ * s.channels_,
            pixel,
            line,
            s.height_ * line};
  }

 private:
  template <class T>
  static std::size_t slot_of(const continual_state<T>& s) noexcept {
    return static_cast<std::size_t>(s.steps_ / s.time_.dilation % s.taps_);
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
