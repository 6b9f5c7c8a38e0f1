// SPDX-License-Identifier: MIT
// Between reals and codes, and between codes of two quantisations.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/fixed_point.hpp"
#include "polymac/layer/map.hpp"

#include <concepts>
#include <cstdint>
#include <limits>

POLYMAC_BEGIN
namespace layer {

namespace detail {

template <std::integral Out>
struct quantize_op {
  static constexpr const char* name = "quantize";
  affine q;
  constexpr Out operator()(float x) const noexcept {
    const float least = static_cast<float>(std::numeric_limits<Out>::min() - q.zero_point);
    const float most = static_cast<float>(std::numeric_limits<Out>::max() - q.zero_point);
    const float scaled = x / q.scale;
    const float number = scaled == scaled ? scaled : 0.0f;
    const float raised = number < least ? least : number;
    const float kept = raised > most ? most : raised;
    // Half away from zero. |kept| < 2^17, so that the fraction is exact.
    const auto whole = static_cast<std::int32_t>(kept);
    const float fraction = kept - static_cast<float>(whole);
    const std::int32_t up = static_cast<std::int32_t>(fraction >= 0.5f) - static_cast<std::int32_t>(fraction <= -0.5f);
    return static_cast<Out>(whole + up + q.zero_point);
  }
};

template <std::integral In>
struct dequantize_op {
  static constexpr const char* name = "dequantize";
  affine q;
  constexpr float operator()(In x) const noexcept {
    return q.scale * static_cast<float>(static_cast<std::int32_t>(x) - q.zero_point);
  }
};

template <std::integral In, std::integral Out, rounding Mode>
struct rescale_op {
  static constexpr const char* name = "rescale";
  fixed_point::factor factor;
  std::int32_t input_zero_point;
  std::int32_t output_zero_point;
  activation_range<std::int32_t> range;
  constexpr Out operator()(In x) const noexcept {
    const std::int32_t scaled = fixed_point::multiply_by_quantized_multiplier<Mode>(
        static_cast<std::int32_t>(x) - input_zero_point, factor.multiplier, factor.shift);
    return static_cast<Out>(range.apply(fixed_point::wrapping_add(scaled, output_zero_point)));
  }
};

}  // namespace detail

/// code = clamp(round(x / scale) + zero_point), half away from zero; NaN becomes the zero point. Out: int8, uint8,
/// int16. Source: TFLite's QUANTIZE.
template <std::integral Out>
class quantize : public unary<float, Out, detail::quantize_op<Out>> {
  static_assert(sizeof(Out) <= 2, "polymac: quantize makes codes of 8 or 16 bits");

 public:
  constexpr explicit quantize(const affine& y)
      : unary<float, Out, detail::quantize_op<Out>>({y}, polymac::detail::check<Out>("quantize", "output", y)) {}
};

/// x = scale * (code - zero_point). In: int8, uint8, int16, int32 (zero point 0). Source: TFLite's DEQUANTIZE.
template <std::integral In>
class dequantize : public unary<In, float, detail::dequantize_op<In>> {
 public:
  constexpr explicit dequantize(const affine& x)
      : unary<In, float, detail::dequantize_op<In>>({x}, check(x)) {}

 private:
  static constexpr polymac::status check(const affine& x) noexcept {
    if (sizeof(In) > 2 && x.zero_point != 0)
      return polymac::status::make(errc::parameter, "dequantize: expected zero point 0 for 32-bit codes, got ",
                                   x.zero_point);
    return polymac::detail::check<In>("dequantize", "input", x);
  }
};

/// How the ratio of two scales is computed. Of int16 codes, one in many thousands depends on it.
enum class rescale_ratio : unsigned char {
  double_precision,  ///< TFLite's QUANTIZE
  single_precision,  ///< TFLite's RELU, RELU6 and RELU_N1_TO_1
};

/// Codes of one quantisation as those of another, clamped to a range: TFLite's QUANTIZE on codes, and its RELU, RELU6
/// and RELU_N1_TO_1.
template <std::integral In, std::integral Out = In, rounding Mode = rounding::gemmlowp>
class rescale : public unary<In, Out, detail::rescale_op<In, Out, Mode>> {
  using op = detail::rescale_op<In, Out, Mode>;
  static_assert(sizeof(In) <= 2 && sizeof(Out) <= 2, "polymac: rescale maps codes of 8 or 16 bits");

 public:
  constexpr rescale(const affine& x, const affine& y, activation_range<Out> range = {})
      : rescale(rescale_ratio::double_precision, x, y, range) {}
  constexpr rescale(rescale_ratio ratio, const affine& x, const affine& y, activation_range<Out> range = {})
      : unary<In, Out, op>(op_of(ratio, x, y, range), check(x, y, range)) {}

 private:
  static constexpr op op_of(rescale_ratio ratio, const affine& x, const affine& y,
                            const activation_range<Out>& range) noexcept {
    const double real = ratio == rescale_ratio::single_precision
                            ? static_cast<double>(x.scale / y.scale)
                            : static_cast<double>(x.scale) / static_cast<double>(y.scale);
    return {fixed_point::encode<Mode>(real), x.zero_point, y.zero_point, {range.low, range.high}};
  }
  static constexpr polymac::status check(const affine& x, const affine& y,
                                         const activation_range<Out>& range) noexcept {
    auto s = polymac::detail::check<In>("rescale", "input", x);
    if (s.ok()) s = polymac::detail::check<Out>("rescale", "output", y);
    if (s.ok()) s = polymac::detail::check("rescale", range);
    return s;
  }
};

}  // namespace layer
POLYMAC_END
