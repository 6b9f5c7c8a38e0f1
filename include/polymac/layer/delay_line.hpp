// SPDX-License-Identifier: MIT
// Delays a stream: the path beside a convolution over time, which is to be added to its output.
#pragma once

#include "polymac/layer/slice_ring.hpp"
#include "polymac/layer/view_bounds.hpp"
#include "polymac/layer/view_check.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace layer {

/// y is the slice that came `steps` steps before x; with 0 steps x itself. policy::residual_delay says how many a
/// residual path needs. T: the element type.
template <class T>
class delay_line {
 public:
  using activation = T;
  using output = T;

  /// Throws polymac::error on a delay beyond reason.
  explicit delay_line(std::size_t steps) : steps_(steps) {
    if (steps > polymac::detail::max_window_value)
      status_ = polymac::status::make(errc::parameter, "delay_line: expected a delay of at most ",
                                      polymac::detail::max_window_value, " steps, got ", steps);
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  std::size_t delay() const noexcept { return steps_; }
  /// A stream of slices of that size. Allocates.
  continual_state<T> make_state(extent2d size, std::size_t channels, std::size_t batch = 1) const {
    auto s = detail::ring_access::make<T>(window(), 1, batch, size, channels, T{}, kind, status_);
    polymac::detail::raise_unless_ok(s.status());
    return s;
  }

  /// x: batch x height x width x channels of the state; y the same, written from step delay() on
  /// (`state.has_output()`); they must not overlap. Fails on views that do not fit, and then changes nothing.
  polymac::status operator()(image_view<const T> x, image_view<T> y, continual_state<T>& state) const noexcept {
    auto s = detail::ring_access::check("delay_line", state, window(), state.channels(), T{}, kind);
    if (s.ok()) s = detail::ring_access::check_slice("delay_line", state, x);
    if (!s.ok()) return s;
    const bool gives = detail::ring_access::gives_output(state);
    if (gives && (y.batch != x.batch || y.height != x.height || y.width != x.width || y.channels != x.channels))
      return polymac::status::make(errc::shape, "delay_line: expected y of ", x.batch, " x ", x.height, " x ", x.width,
                                   " x ", x.channels, ", got ", y.batch, " x ", y.height, " x ", y.width, " x ",
                                   y.channels);
    if (gives)
      s = detail::check_memory("delay_line", x, y);
    else if (!detail::has_data(x.data))
      s = polymac::status::make(errc::parameter, "delay_line: the view x has no data");
    if (!s.ok()) return s;
    // As many rings of one slot as there are steps to wait: what comes out lies where x goes in.
    if (gives) copy(steps_ == 0 ? x : detail::ring_access::window(state), y);
    if (steps_ > 0) detail::ring_access::write(state, x);
    detail::ring_access::commit(state);
    return {};
  }
  polymac::status operator()(matrix_view<const T> x, matrix_view<T> y, continual_state<T>& state) const noexcept {
    return (*this)(as_image(x), as_image(y), state);
  }

 private:
  static constexpr std::uint64_t kind = 0x64656C6179u;
  /// Two taps that are `steps_` apart, of which only the older one counts.
  policy::time_window window() const noexcept {
    return steps_ == 0 ? policy::time_window{} : policy::time_window{2, 1, steps_, 0};
  }
  static void copy(const image_view<const T>& x, const image_view<T>& y) noexcept {
    for (std::size_t n = 0; n < y.batch; ++n)
      for (std::size_t i = 0; i < y.height; ++i)
        for (std::size_t j = 0; j < y.width; ++j)
          kernel::detail::copy_elements(y.pixel(n, i, j), x.pixel(n, i, j), y.channels);
  }

  std::size_t steps_;
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
