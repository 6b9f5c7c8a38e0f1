// SPDX-License-Identifier: MIT
// Reshape: the same elements in the same order under other extents.
#pragma once

#include "polymac/layer/view_check.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace layer {

/// Copies x to y in row-major order (batch, height, width, channels). Where y begins at x's memory and both are dense,
/// there is nothing to do: a reshape in place is free. Otherwise x and y must not overlap.
template <class T>
class reshape {
 public:
  using activation = T;
  using output = T;

  constexpr polymac::status status() const noexcept { return {}; }

  /// O(elements). Fails when the numbers of elements differ, and then leaves y untouched.
  constexpr polymac::status operator()(image_view<const T> x, image_view<T> y) const noexcept {
    const std::size_t from = elements(x);
    const std::size_t to = elements(y);
    if (from != to)
      return polymac::status::make(errc::shape, "reshape: expected as many elements in the output as in the input, ",
                                   from, ", got ", to);
    auto s = detail::check_view("reshape", "input", x);
    if (s.ok()) s = detail::check_view("reshape", "output", y);
    if (!s.ok() || from == 0) return s;
    if (x.data == y.data && dense(x) && dense(y)) return {};
    position source{};
    position target{};
    for (std::size_t done = 0; done < from;) {
      // Both lie within a pixel: copy up to the nearer end of the channels.
      const std::size_t left = x.channels - source.channel;
      const std::size_t room = y.channels - target.channel;
      const std::size_t run = left < room ? left : room;
      const T* p = x.pixel(source.n, source.h, source.w) + source.channel;
      T* q = y.pixel(target.n, target.h, target.w) + target.channel;
      for (std::size_t i = 0; i < run; ++i) q[i] = p[i];
      advance(source, x, run);
      advance(target, y, run);
      done += run;
    }
    return {};
  }
  constexpr polymac::status operator()(image_view<const T> x, matrix_view<T> y) const noexcept {
    return (*this)(x, as_image(y));
  }
  constexpr polymac::status operator()(matrix_view<const T> x, image_view<T> y) const noexcept {
    return (*this)(as_image(x), y);
  }

 private:
  struct position {
    std::size_t n = 0;
    std::size_t h = 0;
    std::size_t w = 0;
    std::size_t channel = 0;
  };

  template <class U>
  static constexpr void advance(position& p, const image_view<U>& v, std::size_t run) noexcept {
    p.channel += run;
    if (p.channel < v.channels) return;
    p.channel = 0;
    if (++p.w < v.width) return;
    p.w = 0;
    if (++p.h < v.height) return;
    p.h = 0;
    ++p.n;
  }
  template <class U>
  static constexpr std::size_t elements(const image_view<U>& v) noexcept {
    return v.batch * v.height * v.width * v.channels;
  }
  template <class U>
  static constexpr bool dense(const image_view<U>& v) noexcept {
    return (v.width == 1 || v.pixel_stride == v.channels) && (v.height == 1 || v.line_stride == v.width * v.channels) &&
           (v.batch == 1 || v.image_stride == v.height * v.width * v.channels);
  }
};

}  // namespace layer
POLYMAC_END
