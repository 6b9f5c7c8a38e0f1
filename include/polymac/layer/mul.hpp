// SPDX-License-Identifier: MIT
// Elementwise product.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/fixed_point.hpp"
#include "polymac/layer/binary.hpp"

#include <concepts>
#include <cstdint>

POLYMAC_BEGIN
namespace layer {

/// Fixed-point parameters of a quantised product.
struct mul_factors {
  fixed_point::factor output{};  ///< S_a * S_b / S_y
  std::int32_t first_zero_point = 0;
  std::int32_t second_zero_point = 0;
  std::int32_t output_zero_point = 0;
};

namespace detail {

template <class T, rounding Mode>
struct mul_op {
  static constexpr const char* name = "mul";
  mul_factors f;
  activation_range<std::int32_t> range;

  constexpr T operator()(T a, T b) const noexcept {
    // Codes of 16 bits with extreme zero points could leave 32 bits; the product then wraps, as TFLite's does.
    const auto first = static_cast<std::uint32_t>(std::int32_t{a} - f.first_zero_point);
    const auto second = static_cast<std::uint32_t>(std::int32_t{b} - f.second_zero_point);
    const std::int32_t scaled = fixed_point::multiply_by_quantized_multiplier<Mode>(
        static_cast<std::int32_t>(first * second), f.output.multiplier, f.output.shift);
    return static_cast<T>(range.apply(fixed_point::wrapping_add(scaled, f.output_zero_point)));
  }
};

template <std::floating_point T, rounding Mode>
struct mul_op<T, Mode> {
  static constexpr const char* name = "mul";
  activation_range<T> range;
  constexpr T operator()(T a, T b) const noexcept { return range.apply(a * b); }
};

}  // namespace detail

/// y = clamp(a * b). int8, uint8, int16 as TFLite's reference kernel, float as it reads. Source: TFLite's MUL.
template <class T, rounding Mode = rounding::gemmlowp>
class mul : public binary<T, detail::mul_op<T, Mode>> {
  using op = detail::mul_op<T, Mode>;

 public:
  constexpr mul(const mul_factors& factors, activation_range<T> range = {})
    requires std::integral<T>
      : binary<T, op>(op{factors, {range.low, range.high}}, check(factors, range)) {}
  /// From the quantisation of the three tensors; the factor is formed in float, as TFLite does.
  constexpr mul(const affine& a, const affine& b, const affine& y, activation_range<T> range = {})
    requires std::integral<T>
      : binary<T, op>(op{factors_of(a, b, y), {range.low, range.high}},
                      check(a, b, y, range)) {}
  constexpr explicit mul(activation_range<T> range = {})
    requires std::floating_point<T>
      : binary<T, op>(op{range}, polymac::detail::check("mul", range)) {}

  static constexpr mul_factors factors_of(const affine& a, const affine& b, const affine& y) noexcept
    requires std::integral<T>
  {
    return {fixed_point::encode<Mode>(static_cast<double>(a.scale * b.scale / y.scale)), a.zero_point,
            b.zero_point, y.zero_point};
  }

 private:
  static constexpr polymac::status check(const mul_factors& f, const activation_range<T>& range) noexcept
    requires std::integral<T>
  {
    if (f.output.multiplier < 0 || f.output.shift < fixed_point::min_shift || f.output.shift > fixed_point::max_shift)
      return polymac::status::make(errc::parameter,
                                   "mul: expected a multiplier of at least 0 and a shift in [-31, 30], "
                                   "got ",
                                   f.output.multiplier, " and ", f.output.shift);
    for (const std::int32_t zero : {f.first_zero_point, f.second_zero_point, f.output_zero_point}) {
      const auto s = polymac::detail::check<T>("mul", "tensor", {1.0f, zero});
      if (!s.ok()) return s;
    }
    return polymac::detail::check("mul", range);
  }
  static constexpr polymac::status check(const affine& a, const affine& b, const affine& y,
                                         const activation_range<T>& range) noexcept
    requires std::integral<T>
  {
    auto s = polymac::detail::check<T>("mul", "first input", a);
    if (s.ok()) s = polymac::detail::check<T>("mul", "second input", b);
    if (s.ok()) s = polymac::detail::check<T>("mul", "output", y);
    if (s.ok()) s = polymac::detail::check("mul", range);
    return s;
  }
};

}  // namespace layer
POLYMAC_END
