// SPDX-License-Identifier: MIT
// Padding with a constant.
#pragma once

#include "polymac/kernel/elementwise.hpp"
#include "polymac/layer/view_check.hpp"

#include <array>
#include <cstddef>

POLYMAC_BEGIN
namespace layer {

/// Elements added before and after each axis: batch, height, width, channels.
struct pad_extents {
  std::array<std::size_t, 4> before{};
  std::array<std::size_t, 4> after{};
};

/// y = x, surrounded by a constant (the zero point for codes). x and y must not overlap.
template <class T>
class pad {
 public:
  using activation = T;
  using output = T;

  constexpr pad(const pad_extents& extents, T value) : extents_(extents), value_(value) {
    constexpr std::size_t most = static_cast<std::size_t>(-1) / 4;
    for (const auto& side : {extents.before, extents.after})
      for (const std::size_t e : side)
        if (e > most)
          status_ = polymac::status::make(errc::parameter, "pad: expected at most ", most, " elements, got ", e);
    polymac::detail::raise_unless_ok(status_);
  }
  constexpr const polymac::status& status() const noexcept { return status_; }

  /// O(elements of y). Fails on views that do not fit, and then leaves y untouched.
  constexpr polymac::status operator()(image_view<const T> x, image_view<T> y) const noexcept {
    if (!status_.ok()) return status_;
    const auto& a = extents_.before;
    const auto& b = extents_.after;
    auto s = detail::check_view("pad", "input", x);
    if (s.ok())
      s = detail::expect_extents("pad", "output", y, x.batch + a[0] + b[0], x.height + a[1] + b[1],
                                 x.width + a[2] + b[2], x.channels + a[3] + b[3]);
    if (!s.ok()) return s;
    const auto copy = [](T v) { return v; };
    kernel::elementwise(kernel::extents_of(y), copy, kernel::operand_of(y), kernel::operand<const T>{&value_, {}});
    if (x.batch == 0 || x.height == 0 || x.width == 0 || x.channels == 0) return {};
    image_view<T> inner = y;
    inner.data = y.pixel(a[0], a[1], a[2]) + a[3];
    inner.batch = x.batch;
    inner.height = x.height;
    inner.width = x.width;
    inner.channels = x.channels;
    kernel::elementwise(kernel::extents_of(x), copy, kernel::operand_of(inner), kernel::operand_of(x));
    return {};
  }

 private:
  pad_extents extents_;
  T value_;
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
