// SPDX-License-Identifier: MIT
// Concatenation of images along one axis.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/fixed_point.hpp"
#include "polymac/kernel/elementwise.hpp"
#include "polymac/layer/quantize.hpp"
#include "polymac/layer/view_check.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

POLYMAC_BEGIN
namespace layer {

enum class axis : unsigned char { batch, height, width, channels };

/// y = the inputs one after another along an axis; the other extents agree. The inputs and y must not overlap (an input
/// may already be its part of y: then it is left alone).
template <class T>
class concatenate {
 public:
  using activation = T;
  using output = T;

  constexpr explicit concatenate(axis along = axis::channels) noexcept : along_(along) {}
  constexpr const polymac::status& status() const noexcept { return status_; }

  /// Copies. O(elements of y). Fails on views that do not fit, and then leaves y untouched.
  constexpr polymac::status operator()(std::span<const image_view<const T>> inputs, image_view<T> y) const noexcept {
    return run(inputs, y, [](std::size_t) { return [](T v) { return v; }; }, inputs.size());
  }
  /// Brings every input to the quantisation of y on the way (gemmlowp rounding); equal ones are copied.
  constexpr polymac::status operator()(std::span<const image_view<const T>> inputs,
                                       std::span<const affine> quantisations, image_view<T> y,
                                       const affine& target) const noexcept
    requires std::integral<T>
  {
    for (const affine& q : quantisations) {
      const auto s = polymac::detail::check<T>("concatenate", "input", q);
      if (!s.ok()) return s;
    }
    const auto s = polymac::detail::check<T>("concatenate", "output", target);
    if (!s.ok()) return s;
    return run(
        inputs, y,
        [&](std::size_t i) {
          const affine& q = quantisations[i];
          const double real = static_cast<double>(q.scale) / static_cast<double>(target.scale);
          return detail::rescale_op<T, T, rounding::gemmlowp>{
              fixed_point::quantize_multiplier(real), q.zero_point, target.zero_point,
              {activation_range<T>::lowest, activation_range<T>::highest}};
        },
        quantisations.size());
  }

 private:
  template <class OpOf>
  constexpr polymac::status run(std::span<const image_view<const T>> inputs, image_view<T> y, const OpOf& op_of,
                                std::size_t quantisations) const noexcept {
    if (!status_.ok()) return status_;
    if (quantisations != inputs.size())
      return polymac::status::make(errc::shape, "concatenate: expected a quantisation for each of ", inputs.size(),
                                   " inputs, got ", quantisations);
    const auto joined = static_cast<std::size_t>(along_);
    auto expected = kernel::extents_of(y);
    std::size_t total = 0;
    for (const auto& x : inputs) {
      const auto e = kernel::extents_of(x);
      expected[joined] = e[joined];
      const auto s = detail::expect_extents("concatenate", "an input", x, expected[0], expected[1], expected[2],
                                            expected[3]);
      if (!s.ok()) return s;
      if (e[joined] > kernel::extents_of(y)[joined] - total) {
        total = static_cast<std::size_t>(-1);
        break;
      }
      total += e[joined];
    }
    if (total != kernel::extents_of(y)[joined])
      return polymac::status::make(errc::shape, "concatenate: the inputs do not add up to the output's ",
                                   kernel::extents_of(y)[joined], " along axis ", joined);
    const auto s = detail::check_view("concatenate", "output", y);
    if (!s.ok()) return s;
    const std::size_t strides[4]{y.image_stride, y.line_stride, y.pixel_stride, 1};
    T* to = y.data;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const auto extent = kernel::extents_of(inputs[i]);
      kernel::operand<T> part{to, {strides[0], strides[1], strides[2], 1}};
      if (to != inputs[i].data) kernel::elementwise(extent, op_of(i), part, kernel::operand_of(inputs[i]));
      to += extent[joined] * strides[joined];
    }
    return {};
  }

  axis along_;
  polymac::status status_{};
};

}  // namespace layer
POLYMAC_END
