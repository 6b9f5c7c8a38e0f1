// SPDX-License-Identifier: MIT
// Average and max pooling over windows of an NHWC image.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/fixed_point.hpp"
#include "polymac/kernel/pool.hpp"
#include "polymac/layer/view_check.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

namespace detail {

template <class T>
struct max_reducer {
  using accumulator = T;
  static constexpr bool sums = false, takes_maxima = true;
  activation_range<T> range;
  constexpr T start() const noexcept { return activation_range<T>::lowest; }
  constexpr T fold(T most, T value) const noexcept { return value > most ? value : most; }
  constexpr auto finish(std::size_t, std::size_t) const noexcept {
    return [limits = range](T most) noexcept { return limits.apply(most); };
  }
};

template <class T>
struct average_reducer {
  static constexpr bool integer = std::integral<T>;
  static constexpr bool sums = true, takes_maxima = false;
  using accumulator = std::conditional_t<integer, std::int32_t, T>;
  activation_range<T> range;
  bool include_padding = false;
  accumulator zero_point = 0;

  constexpr accumulator start() const noexcept { return 0; }
  constexpr accumulator fold(accumulator sum, T value) const noexcept { return sum + value; }
  constexpr auto finish(std::size_t inside, std::size_t padded) const noexcept {
    const std::size_t count = include_padding ? padded : inside;
    const accumulator padding =
        include_padding ? zero_point * static_cast<accumulator>(padded - inside) : accumulator{};
    if constexpr (integer) {
      // Half away from zero, without a division for each sum. With the sum's magnitude m, (m + half + 1/2) / count lies
      // at least 1 / (2 count) from every integer, and the error of the product below 2^32 / count * 2^-52.
      const double half = static_cast<double>(count / 2) + 0.5;
      const double inverse = count == 0 ? 0.0 : 1.0 / static_cast<double>(count);
      const accumulator none = count == 0 ? zero_point : 0;  // a window without pixels gives the zero point
      return [=, limits = activation_range<std::int32_t>{range.low, range.high}](std::int32_t sum) noexcept {
        const auto real = static_cast<double>(sum + padding);
        const auto mean = static_cast<std::int32_t>(((real < 0 ? -real : real) + half) * inverse);
        return static_cast<T>(limits.apply((real < 0 ? -mean : mean) + none));
      };
    } else {
      const auto real = static_cast<T>(count);
      return [=, limits = range, zero = zero_point, add = include_padding](T sum) noexcept {
        return limits.apply(real == 0 ? zero : (add ? sum + padding : sum) / real);  // -0 + 0 would be another zero
      };
    }
  }
};

/// The window, its checks and the call; `Reducer` is the difference between max and average.
template <class T, class Reducer>
class pool2d {
 public:
  using activation = T;
  using output = T;

  constexpr const polymac::status& status() const noexcept { return status_; }
  constexpr const polymac::window& window() const noexcept { return window_; }
  /// Height and width of the output for an input; {0, 0} where the window does not fit.
  constexpr extent2d output_extent(extent2d input) const noexcept { return polymac::output_extent(window_, input); }

  /// x: batch x height x width x channels; y: batch x output_extent x channels; they must not overlap. Fails on views
  /// that do not fit, and then leaves y untouched. O(outputs * taps).
  constexpr polymac::status operator()(image_view<const T> x, image_view<T> y) const noexcept {
    if (!status_.ok()) return status_;
    window_geometry geometry{};
    auto s = resolve(window_, {x.height, x.width}, geometry);
    if (s.ok()) s = check_view(name_, "input", x);
    if (s.ok())
      s = expect_extents(name_, "output", y, x.batch, geometry.output.height, geometry.output.width, x.channels);
    if (s.ok()) kernel::pool(window_, geometry, x, y, reducer_);
    return s;
  }
  /// The same for a part of an image, a tile, which has `padding` around it whatever the window's own is: all windows of
  /// y, the first one in the corner of the padded x.
  constexpr polymac::status on_part(image_view<const T> x, image_view<T> y, const padding2d& padding) const noexcept {
    if (!status_.ok()) return status_;
    window_geometry geometry{};
    auto s = resolve_part(window_, {x.height, x.width}, {y.height, y.width}, padding, geometry);
    if (s.ok()) s = check_view(name_, "input", x);
    if (s.ok()) s = expect_extents(name_, "output", y, x.batch, y.height, y.width, x.channels);
    if (s.ok()) kernel::pool(window_, geometry, x, y, reducer_);
    return s;
  }

 protected:
  constexpr pool2d(const char* name, const polymac::window& w, const Reducer& reducer)
      : name_(name), window_(polymac::detail::as_in_memory(w)), reducer_(reducer), status_(check(name, w, reducer)) {
    polymac::detail::raise_unless_ok(status_);
  }

 private:
  static constexpr polymac::status check(const char* name, const polymac::window& w, const Reducer& reducer) noexcept {
    auto s = polymac::check(w);
    if (s.ok()) s = polymac::detail::check(name, reducer.range);
    // Both products: 65,535 taps of 16-bit codes stay inside a 32-bit sum.
    constexpr std::size_t most_taps = 65535;
    if (s.ok() && std::integral<T> &&
        (w.kernel.height > most_taps || w.kernel.width > most_taps || w.kernel.height * w.kernel.width > most_taps))
      s = polymac::status::make(errc::parameter, name, ": expected a kernel of at most ", most_taps, " pixels, got ",
                                w.kernel.height, " x ", w.kernel.width);
    return s;
  }

  const char* name_;
  polymac::window window_;
  Reducer reducer_;
  polymac::status status_;
};

}  // namespace detail

/// Largest value under the window, clamped to `range`. Padding does not take part; a window that lies on padding alone
/// gives the lower end of the range, NaN is left out. int8, uint8, int16, float; input and output share one
/// quantisation.
template <class T>
class max_pool2d : public detail::pool2d<T, detail::max_reducer<T>> {
 public:
  constexpr explicit max_pool2d(const window& w, activation_range<T> range = {})
      : detail::pool2d<T, detail::max_reducer<T>>("max_pool2d", w, {range}) {}
};

/// What average pooling does with padding.
struct average_options {
  bool include_padding = false;  ///< count padding as zero (ONNX count_include_pad) instead of leaving it out (TFLite)
  std::int32_t zero_point = 0;   ///< the code of zero; used for counted padding and for windows on padding alone
};

/// Mean of the values under the window, clamped to `range`. Codes round half away from zero, as TFLite's reference
/// kernels do. int8, uint8, int16, float; input and output share one quantisation. Integer windows have at most 65,535
/// pixels, so that a 32-bit sum holds them.
template <class T>
class average_pool2d : public detail::pool2d<T, detail::average_reducer<T>> {
 public:
  constexpr explicit average_pool2d(const window& w, activation_range<T> range = {},
                                    const average_options& options = {})
      : detail::pool2d<T, detail::average_reducer<T>>(
            "average_pool2d", w,
            {range, options.include_padding,
             static_cast<typename detail::average_reducer<T>::accumulator>(
                 fixed_point::saturate_cast<std::conditional_t<std::integral<T>, T, std::int32_t>>(
                     options.zero_point))}) {}
};

}  // namespace layer
POLYMAC_END
