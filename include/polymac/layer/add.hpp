// SPDX-License-Identifier: MIT
// Elementwise sum.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/fixed_point.hpp"
#include "polymac/kernel/find_plane.hpp"
#include "polymac/layer/binary.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// Fixed-point parameters of a quantised sum (TFLite's scheme): both inputs are lifted by `left_shift` bits, scaled to
/// a common scale, added, and scaled to the output.
struct add_factors {
  std::int32_t left_shift = 20;  ///< 20 for 8-bit, 15 for 16-bit codes
  fixed_point::factor first{};   ///< S_a / (2 max(S_a, S_b)), at most 1/2
  fixed_point::factor second{};  ///< S_b / (2 max(S_a, S_b))
  fixed_point::factor output{};  ///< 2 max(S_a, S_b) / (2^left_shift S_y)
  std::int32_t first_zero_point = 0;
  std::int32_t second_zero_point = 0;
  std::int32_t output_zero_point = 0;
};

namespace detail {

template <class T, rounding Mode>
struct add_op {
  static constexpr const char* name = "add";
  add_factors f;
  activation_range<std::int32_t> range;
  bool has_plane = false;
  isa::plane plane{};

  constexpr T operator()(T a, T b) const noexcept {
    return sum(scaled(a, f.first_zero_point, f.first), scaled(b, f.second_zero_point, f.second));
  }

  /// Codes of 8 bits: looks for a plane that gives the same. O(65,536).
  void prepare() noexcept requires(sizeof(T) == 1) {
    std::int32_t first[256], second[256];
    for (std::int32_t i = 0; i < 256; ++i) {
      const auto code = static_cast<T>(i - 128 + bias);
      first[i] = scaled(code, f.first_zero_point, f.first);
      second[i] = scaled(code, f.second_zero_point, f.second);
    }
    const double unit = fixed_point::decode(f.output) * static_cast<double>(1 << f.left_shift);
    const kernel::plane_sketch sketch{fixed_point::decode(f.first) * unit,
                                      fixed_point::decode(f.second) * unit,
                                      f.first_zero_point - bias,
                                      f.second_zero_point - bias,
                                      f.output_zero_point - bias,
                                      static_cast<std::int8_t>(range.low - bias),
                                      static_cast<std::int8_t>(range.high - bias)};
    // A copy of the parameters: stores of codes could change what `this` leads to.
    const auto code = [&first, &second, op = *this](std::int32_t a, std::int32_t b) noexcept {
      return op.sum(first[a + 128], second[b + 128]) - bias;
    };
    has_plane = kernel::find_plane(sketch, code, plane);
  }

  /// y[i] = (*this)(a[i], b[i]).
  void run(std::size_t count, T* y, const T* a, const T* b) const noexcept requires(sizeof(T) == 1) {
    if (has_plane) {
      isa::plane_codes<isa::native>::run(plane, static_cast<std::int8_t>(-bias), reinterpret_cast<std::int8_t*>(y),
                                         reinterpret_cast<const std::int8_t*>(a),
                                         reinterpret_cast<const std::int8_t*>(b), count);
    } else {
      const add_op local = *this;  // see kernel::elementwise
      for (std::size_t i = 0; i < count; ++i) y[i] = local(a[i], b[i]);
    }
  }

 private:
  /// What is taken off a code of 8 bits to make it signed.
  static constexpr std::int32_t bias = std::is_signed_v<T> ? 0 : 128;

  /// A code, lifted and on the common scale.
  constexpr std::int32_t scaled(T code, std::int32_t zero_point, const fixed_point::factor& by) const noexcept {
    // |code - zero point| < 2^16 and left_shift <= 15, or < 2^9 and <= 20: below 2^31.
    return fixed_point::multiply_by_quantized_multiplier<Mode>((std::int32_t{code} - zero_point) * (1 << f.left_shift),
                                                               by.multiplier, by.shift);
  }
  constexpr T sum(std::int32_t a, std::int32_t b) const noexcept {
    const std::int32_t total = fixed_point::multiply_by_quantized_multiplier<Mode>(fixed_point::wrapping_add(a, b),
                                                                                   f.output.multiplier, f.output.shift);
    return static_cast<T>(range.apply(fixed_point::wrapping_add(total, f.output_zero_point)));
  }
};

template <std::floating_point T, rounding Mode>
struct add_op<T, Mode> {
  static constexpr const char* name = "add";
  activation_range<T> range;
  constexpr T operator()(T a, T b) const noexcept { return range.apply(a + b); }
};

}  // namespace detail

/// y = clamp(a + b). int8, uint8, int16 as TFLite's reference kernel (bit for bit in mode gemmlowp, which both of its
/// profiles use), float as it reads. Construction tries all pairs of 8-bit codes, to replace the three multiplications
/// of each sum by a plane where that gives the same (kernel/find_plane.hpp). Source: TFLite's ADD.
template <class T, rounding Mode = rounding::gemmlowp>
class add : public binary<T, detail::add_op<T, Mode>> {
  using op = detail::add_op<T, Mode>;

 public:
  constexpr add(const add_factors& factors, activation_range<T> range = {})
    requires std::integral<T>
      : binary<T, op>(op{factors, {range.low, range.high}}, check(factors, range)) {}
  /// From the quantisation of the three tensors.
  constexpr add(const affine& a, const affine& b, const affine& y, activation_range<T> range = {})
    requires std::integral<T>
      : binary<T, op>(op{factors_of(a, b, y), {range.low, range.high}},
                      check(a, b, y, range)) {}
  constexpr explicit add(activation_range<T> range = {})
    requires std::floating_point<T>
      : binary<T, op>(op{range}, polymac::detail::check("add", range)) {}

  static constexpr add_factors factors_of(const affine& a, const affine& b, const affine& y) noexcept
    requires std::integral<T>
  {
    const std::int32_t left_shift = sizeof(T) == 1 ? 20 : 15;
    const double twice = 2.0 * static_cast<double>(a.scale > b.scale ? a.scale : b.scale);
    const double unit = static_cast<double>(1 << left_shift) * static_cast<double>(y.scale);
    return {left_shift,
            fixed_point::encode<Mode>(static_cast<double>(a.scale) / twice),
            fixed_point::encode<Mode>(static_cast<double>(b.scale) / twice),
            fixed_point::encode<Mode>(twice / unit),
            a.zero_point,
            b.zero_point,
            y.zero_point};
  }

 private:
  static constexpr polymac::status check(const add_factors& f, const activation_range<T>& range) noexcept
    requires std::integral<T>
  {
    constexpr std::int32_t most = sizeof(T) == 1 ? 20 : 15;
    if (f.left_shift < 0 || f.left_shift > most)
      return polymac::status::make(errc::parameter, "add: expected a left shift in [0, ", most, "], got ",
                                   f.left_shift);
    for (const auto& factor : {f.first, f.second, f.output})
      if (factor.multiplier < 0 || factor.shift < fixed_point::min_shift || factor.shift > fixed_point::max_shift)
        return polymac::status::make(errc::parameter,
                                     "add: expected multipliers of at least 0 and shifts in [-31, 30], "
                                     "got ",
                                     factor.multiplier, " and ", factor.shift);
    for (const std::int32_t zero : {f.first_zero_point, f.second_zero_point, f.output_zero_point}) {
      const auto s = polymac::detail::check<T>("add", "tensor", {1.0f, zero});
      if (!s.ok()) return s;
    }
    return polymac::detail::check("add", range);
  }
  static constexpr polymac::status check(const affine& a, const affine& b, const affine& y,
                                         const activation_range<T>& range) noexcept
    requires std::integral<T>
  {
    auto s = polymac::detail::check<T>("add", "first input", a);
    if (s.ok()) s = polymac::detail::check<T>("add", "second input", b);
    if (s.ok()) s = polymac::detail::check<T>("add", "output", y);
    if (s.ok()) s = polymac::detail::check("add", range);
    return s;
  }
};

}  // namespace layer
POLYMAC_END
