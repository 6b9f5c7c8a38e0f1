// SPDX-License-Identifier: MIT
// Window geometry: where the taps of a convolution or pooling kernel lie on the input, and how many outputs that gives.
#pragma once

#include "polymac/core/error.hpp"

#include <cstddef>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN

/// Height and width, in pixels (kernel, output) or steps (stride, dilation).
struct extent2d {
  std::size_t height = 1;
  std::size_t width = 1;
  friend constexpr bool operator==(const extent2d&, const extent2d&) = default;
};

/// Pixels added around the input.
struct padding2d {
  std::size_t top = 0;
  std::size_t left = 0;
  std::size_t bottom = 0;
  std::size_t right = 0;
  friend constexpr bool operator==(const padding2d&, const padding2d&) = default;
};

/// How the padding is found. `same`: output = ceil(input / stride), TensorFlow's rule; an odd pixel goes to the bottom
/// and right. `same_upper` is ONNX's other name of it, `same_lower` puts the odd pixel to the top and left.
enum class padding_rule : unsigned char { given, same, same_lower };

/// Padding as a layer takes it: explicit pixels, or a rule that is resolved when the input size is known.
struct window_padding {
  padding2d pixels{};
  padding_rule rule = padding_rule::given;

  constexpr window_padding() noexcept = default;
  constexpr window_padding(padding2d given) noexcept : pixels(given) {}  // NOLINT: implicit by design
  constexpr window_padding(std::size_t top, std::size_t left, std::size_t bottom, std::size_t right) noexcept
      : pixels{top, left, bottom, right} {}
  constexpr window_padding(padding_rule rule_) noexcept : rule(rule_) {}  // NOLINT: implicit by design
  friend constexpr bool operator==(const window_padding&, const window_padding&) = default;
};

/// TensorFlow's SAME, and VALID (no padding).
inline constexpr window_padding same{padding_rule::same};
inline constexpr window_padding same_lower{padding_rule::same_lower};
inline constexpr window_padding valid{};

/// What a sliding window does. `ceil_mode` (ONNX pooling) keeps a last window that leaves the padded input.
struct window {
  extent2d kernel{};
  extent2d stride{};
  extent2d dilation{};
  window_padding padding{};
  bool ceil_mode = false;
};

/// A window resolved for one input size.
struct window_geometry {
  extent2d output{};    ///< number of window positions
  padding2d padding{};  ///< pixels; bottom and right as asked for or found, not cut to what the last window touches
};

namespace detail {

/// The same value, of which compilers no longer know what was stored there. g++ 12.2 needs it (-O2 or -O3, AVX-512 VL
/// and tuned for 256-bit vectors, as -march=cascadelake or icelake-server): where dilation and padding of a window are
/// constants it stores {1, 1, 0, 0} as one vector and copies {1, 1, 1, 1} from there, one pixel of padding.
template <class Window>
constexpr POLYMAC_INLINE const Window& as_in_memory(const Window& w) noexcept {
#if defined(__GNUC__) && !defined(__clang__)
  if (!std::is_constant_evaluated()) __asm__ volatile("" : : "r"(&w) : "memory");
#endif
  return w;
}

/// Extents above this are refused: products of two stay far from overflow.
inline constexpr std::size_t max_window_value = std::size_t{1} << (std::numeric_limits<std::size_t>::digits / 2 - 2);

struct axis_geometry {
  std::size_t output = 0;
  std::size_t begin = 0;
  std::size_t end = 0;
};

constexpr status resolve_axis(const char* axis, std::size_t input, std::size_t kernel, std::size_t stride,
                              std::size_t dilation, std::size_t begin, std::size_t end, padding_rule rule,
                              bool ceil_mode, axis_geometry& out) noexcept {
  if (kernel == 0 || stride == 0 || dilation == 0)
    return status::make(errc::parameter, "window ", axis, ": expected kernel, stride and dilation of at least 1, got ",
                        kernel, ", ", stride, ", ", dilation);
  if (input == 0) return status::make(errc::shape, "window ", axis, ": expected an input of at least 1 pixel, got 0");
  for (const std::size_t value : {input, kernel, stride, dilation, begin, end})
    if (value > max_window_value)
      return status::make(errc::parameter, "window ", axis, ": expected values of at most ", max_window_value, ", got ",
                          value);
  const std::size_t reach = dilation * (kernel - 1) + 1;
  if (rule != padding_rule::given) {
    const std::size_t output = (input - 1) / stride + 1;
    const std::size_t needed = (output - 1) * stride + reach;
    const std::size_t total = needed > input ? needed - input : 0;
    const std::size_t less = total / 2;
    const std::size_t more = total - less;
    out = rule == padding_rule::same ? axis_geometry{output, less, more} : axis_geometry{output, more, less};
    return {};
  }
  const std::size_t padded = input + begin + end;
  if (reach > padded)
    return status::make(errc::shape, "window ", axis, ": the kernel reaches over ", reach, " pixels (", kernel,
                        " taps, dilation ", dilation, "), but the padded input has ", padded, " (", begin, " + ", input,
                        " + ", end, ")");
  const std::size_t steps = padded - reach;
  std::size_t output = steps / stride + 1;
  // The extra window of ceil_mode must begin on the input or the leading padding, not in the trailing one.
  if (ceil_mode && steps % stride != 0 && output * stride < input + begin) ++output;
  out = {output, begin, end};
  return {};
}

}  // namespace detail

/// Pixels over which `kernel` taps reach: dilation * (kernel - 1) + 1.
constexpr std::size_t effective_kernel(std::size_t kernel, std::size_t dilation) noexcept {
  return kernel == 0 ? 0 : dilation * (kernel - 1) + 1;
}

/// Output extents and padding of a window on an input:
/// output = floor((input + begin + end - dilation * (kernel - 1) - 1) / stride) + 1.
/// Fails on zero kernel, stride, dilation or input, on a kernel larger than the padded input, on absurd values.
constexpr status resolve(const window& w, extent2d input, window_geometry& out) noexcept {
  detail::axis_geometry vertical{};
  detail::axis_geometry horizontal{};
  status s = detail::resolve_axis("height", input.height, w.kernel.height, w.stride.height, w.dilation.height,
                                  w.padding.pixels.top, w.padding.pixels.bottom, w.padding.rule, w.ceil_mode, vertical);
  if (!s.ok()) return s;
  s = detail::resolve_axis("width", input.width, w.kernel.width, w.stride.width, w.dilation.width,
                           w.padding.pixels.left, w.padding.pixels.right, w.padding.rule, w.ceil_mode, horizontal);
  if (!s.ok()) return s;
  out.output = {vertical.output, horizontal.output};
  out.padding = {vertical.begin, horizontal.begin, vertical.end, horizontal.end};
  return {};
}

/// Geometry of some of the windows, on a part of the input: `output` of them, the first one in the corner of the part
/// and its padding. For tiles of an image, which have padding only where the image has. Fails where windows would leave the
/// padded part (but for ceil_mode), or on absurd values.
constexpr status resolve_part(const window& w, extent2d part, extent2d output, const padding2d& padding,
                              window_geometry& out) noexcept {
  const auto axis = [&w](const char* name, std::size_t size, std::size_t windows, std::size_t before, std::size_t after,
                         std::size_t kernel, std::size_t stride, std::size_t dilation) {
    for (const std::size_t value : {size, windows, before, after})
      if (value > detail::max_window_value)
        return status::make(errc::parameter, "window ", name, ": expected values of at most ", detail::max_window_value,
                            ", got ", value);
    const std::size_t reach = dilation * (kernel - 1) + 1, padded = before + size + after;
    if (size == 0 || windows == 0 || (!w.ceil_mode && (windows - 1) * stride + reach > padded))
      return status::make(errc::shape, "window ", name, ": ", windows, " windows of ", reach, " pixels, ", stride,
                          " apart, do not fit ", before, " + ", size, " + ", after, " pixels");
    return status{};
  };
  status s = axis("height", part.height, output.height, padding.top, padding.bottom, w.kernel.height, w.stride.height,
                  w.dilation.height);
  if (s.ok())
    s = axis("width", part.width, output.width, padding.left, padding.right, w.kernel.width, w.stride.width,
             w.dilation.width);
  if (s.ok()) out = {output, padding};
  return s;
}

/// What some of the windows along an axis read: pixels [begin, end) of the input, with padding before and after them.
struct axis_part {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t before = 0;
  std::size_t after = 0;
};

/// For windows [first, last), first < last, of an axis of `size` pixels with padding of fewer pixels than a window on
/// either side; so each of them has a pixel of the input.
constexpr axis_part part_of_axis(std::size_t first, std::size_t last, std::size_t kernel, std::size_t stride,
                                 std::size_t dilation, std::size_t before, std::size_t after,
                                 std::size_t size) noexcept {
  // On the padded axis.
  const std::size_t begin = first * stride, end = (last - 1) * stride + effective_kernel(kernel, dilation);
  const std::size_t beyond = end > before + size ? end - before - size : 0;
  return {begin > before ? begin - before : 0, beyond > 0 ? size : end - before, before > begin ? before - begin : 0,
          beyond < after ? beyond : after};
}

/// Output extents alone; {0, 0} where `resolve` fails.
constexpr extent2d output_extent(const window& w, extent2d input) noexcept {
  window_geometry geometry{{0, 0}, {}};
  return resolve(w, input, geometry).ok() ? geometry.output : extent2d{0, 0};
}

/// The padding that TensorFlow's SAME gives; zero where `resolve` fails.
constexpr padding2d same_padding(window w, extent2d input) noexcept {
  w.padding = same;
  window_geometry geometry{};
  return resolve(w, input, geometry).ok() ? geometry.padding : padding2d{};
}

/// What is wrong with the window itself, before an input is known.
constexpr status check(const window& w) noexcept {
  window_geometry geometry{};
  // The smallest input that holds one window: only the parameters can fail.
  window alone = detail::as_in_memory(w);
  alone.padding = same;
  const status s = resolve(alone, {1, 1}, geometry);
  if (!s.ok()) return s;
  for (const std::size_t value :
       {w.padding.pixels.top, w.padding.pixels.left, w.padding.pixels.bottom, w.padding.pixels.right})
    if (value > detail::max_window_value)
      return status::make(errc::parameter, "window: expected padding of at most ", detail::max_window_value, ", got ",
                          value);
  return {};
}

POLYMAC_END
