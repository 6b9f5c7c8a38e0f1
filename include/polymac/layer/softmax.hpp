// SPDX-License-Identifier: MIT
// Softmax over the channels: y[c] = exp(beta x[c]) / sum over c of exp(beta x[c]).
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/fixed_point_exp.hpp"
#include "polymac/kernel/functions.hpp"
#include "polymac/layer/view_check.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>

POLYMAC_BEGIN
namespace layer {

namespace detail {

/// float.
template <class In, class Out>
struct softmax_rows {
  static_assert(std::same_as<In, float> && std::same_as<Out, float>,
                "polymac: softmax runs on float -> float, int8 -> int8, int8 -> int16 and int16 -> int16");
  static constexpr std::size_t max_channels = std::numeric_limits<std::size_t>::max();
  float beta = 1.0f;

  void operator()(const float* x, float* y, std::size_t channels) const noexcept {
    float most = x[0];
    for (std::size_t c = 1; c < channels; ++c) most = x[c] > most ? x[c] : most;
    kernel::exp_of(x, y, channels, most, beta);
    float sum = 0.0f;
    for (std::size_t c = 0; c < channels; ++c) sum += y[c];
    for (std::size_t c = 0; c < channels; ++c) y[c] /= sum;
  }
};

/// int8 -> int8 or int16, gemmlowp fixed point.
template <class Out>
  requires(std::same_as<Out, std::int8_t> || std::same_as<Out, std::int16_t>)
struct softmax_rows<std::int8_t, Out> {
  static constexpr int sum_bits = 12;
  static constexpr std::size_t max_channels = 4095;  // a sum of so many ones fits Q12.19
  fixed_point::factor input{};  ///< code difference -> Q5.26
  std::int32_t least = 0;       ///< smaller differences give 0

  /// The difference of `code` to the largest one, through exp. Q0.31.
  constexpr std::int32_t exp_of(std::int32_t difference) const noexcept {
    return fixed_point::exp_on_negative_values(fixed_point::saturating_rounding_doubling_high_mul(
        fixed_point::wrapping_shift_left(difference, input.shift), input.multiplier));
  }
  constexpr void operator()(const std::int8_t* x, Out* y, std::size_t channels) const noexcept {
    std::int32_t most = x[0];
    for (std::size_t c = 1; c < channels; ++c) most = x[c] > most ? x[c] : most;
    std::int32_t sum = 0;
    for (std::size_t c = 0; c < channels; ++c)
      if (x[c] - most >= least) sum += fixed_point::rounding_divide_by_power_of_two(exp_of(x[c] - most), sum_bits);
    const auto inverse = fixed_point::reciprocal_of(sum, sum_bits);
    constexpr std::int32_t lowest = std::numeric_limits<Out>::min();
    const int shift = inverse.exponent + 31 - static_cast<int>(8 * sizeof(Out));
    for (std::size_t c = 0; c < channels; ++c) {
      std::int32_t code = lowest;
      if (x[c] - most >= least && shift < 32)  // below 2^31 / 2^32 everything rounds to 0
        code += fixed_point::rounding_divide_by_power_of_two(
            fixed_point::saturating_rounding_doubling_high_mul(inverse.scale, exp_of(x[c] - most)), shift);
      y[c] = fixed_point::saturate_cast<Out>(code);
    }
  }
};

/// A function on 16-bit codes as 512 lines between 513 points (TFLite's table).
struct code_table {
  std::array<std::int16_t, 513> point{};

  /// f over [first, last]; outputs are codes of scale 1/32768 (1 saturates). The points lean against the midpoint
  /// error.
  template <class F>
  void fill(F f, double first, double last) noexcept {
    const double step = (last - first) / 512;
    constexpr double codes = 32768.0;
    const auto limit = [](double v) {
      return static_cast<std::int16_t>(v < -32768.0 ? -32768.0 : v > 32767.0 ? 32767.0 : v);
    };
    for (int i = 0; i < 512; ++i) {
      const double sample = std::round(f(first + i * step) * codes);
      const double middle = std::round(f(first + i * step + step / 2) * codes);
      const double next = f(first + (i + 1) * step) * codes;
      const double between = std::round((next + sample) / 2);
      point[static_cast<std::size_t>(i)] = limit(sample - std::round((between - middle) / 2));
    }
    point[512] = limit(std::round(f(last) * codes));
  }
  std::int16_t operator()(std::int16_t code) const noexcept {
    const auto index = static_cast<std::size_t>(256 + (code >> 7));
    const std::int32_t offset = code & 0x7F;
    const std::int32_t slope = point[index + 1] - point[index];
    return static_cast<std::int16_t>(point[index] + ((slope * offset + 64) >> 7));
  }
};

/// int16 -> int16 by two tables; outputs have scale 1/32768 and zero point 0.
template <>
struct softmax_rows<std::int16_t, std::int16_t> {
  static constexpr std::size_t max_channels = 65535;  // a sum of so many Q0.15 ones fits 31 bits
  fixed_point::factor input{};  ///< code difference -> [-65535, 0], which stands for [-10, 0]
  code_table exp{};
  code_table inverse{};

  void fill_tables() noexcept {
    exp.fill([](double v) { return std::exp(v); }, -10.0, 0.0);
    inverse.fill([](double v) { return 1.0 / (1.0 + v); }, 0.0, 1.0);
  }
  void operator()(const std::int16_t* x, std::int16_t* y, std::size_t channels) const noexcept {
    std::int32_t most = x[0];
    for (std::size_t c = 1; c < channels; ++c) most = x[c] > most ? x[c] : most;
    std::int32_t sum = 0;  // Q16.15
    for (std::size_t c = 0; c < channels; ++c) {
      const std::int32_t scaled =
          fixed_point::multiply_by_quantized_multiplier(x[c] - most, input.multiplier, input.shift);
      y[c] = exp(fixed_point::saturate_cast<std::int16_t>(std::int64_t{scaled} + 32767));
      sum += y[c];
    }
    const int headroom = std::countl_zero(static_cast<std::uint32_t>(sum));
    const auto normal = static_cast<std::int32_t>(((std::int64_t{sum} << (headroom - 1)) + (1 << 13)) >> 14);
    const std::int64_t scale = inverse(fixed_point::saturate_cast<std::int16_t>(normal - (1 << 15) - (1 << 16)));
    const int shift = 31 - headroom;
    for (std::size_t c = 0; c < channels; ++c) {
      const std::int64_t value = (y[c] * scale + (std::int64_t{1} << (shift - 1))) >> shift;
      y[c] = static_cast<std::int16_t>(value < 0 ? 0 : value > 32767 ? 32767 : value);
    }
  }
};

}  // namespace detail

/// Softmax over the channels of every pixel (or the columns of every row).
///
///   float -> float   any finite beta; the largest value is subtracted first. A row with NaN gives NaN
///   int8 -> int8     output scale 1/256, zero point -128; bit for bit TFLite's reference kernel; at most 4095 channels
///   int8 -> int16    output scale 1/65536, zero point -32768; as above
///   int16 -> int16   output scale 1/32768, zero point 0; TFLite's two tables of 513 points; at most 65535 channels
///
/// Integer inputs need their scale only: a zero point cancels. x and y may be the same view where the types are.
template <class In, class Out = In>
class softmax {
  using rows = detail::softmax_rows<In, Out>;

 public:
  using activation = In;
  using output = Out;

  explicit softmax(float beta = 1.0f)
    requires std::same_as<In, float>
      : rows_{beta}, status_(check(1.0f, beta)) {
    polymac::detail::raise_unless_ok(status_);
  }
  /// From the scale of the input codes.
  explicit softmax(const affine& input, float beta = 1.0f)
    requires std::integral<In>
      : status_(check(input.scale, beta)) {
    if (status_.ok()) {
      const double real = static_cast<double>(beta) * static_cast<double>(input.scale);
      if constexpr (std::same_as<In, std::int8_t>) {
        const double q5_26 = real * static_cast<double>(1 << 26);
        const double most = 2147483647.0;
        set(fixed_point::quantize_multiplier(q5_26 < most ? q5_26 : most));
      } else {
        // TFLite multiplies in float here, unlike above.
        set(fixed_point::quantize_multiplier(static_cast<double>(input.scale * beta) / (10.0 / 65535.0)));
      }
    }
    polymac::detail::raise_unless_ok(status_);
  }
  /// From the factor that TFLite computes ahead of time; for int8 its shift is at least 0.
  explicit softmax(const fixed_point::factor& input)
    requires std::integral<In>
  {
    set(input);
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }

  /// O(elements). Fails on views that do not fit, and then leaves y untouched.
  polymac::status operator()(image_view<const In> x, image_view<Out> y) const noexcept {
    if (!status_.ok()) return status_;
    const auto s = detail::expect_same("softmax", x, y);
    if (!s.ok()) return s;
    if (x.channels > rows::max_channels)
      return polymac::status::make(errc::shape, "softmax: expected at most ", rows::max_channels, " channels, got ",
                                   x.channels);
    if (x.channels == 0) return {};
    for (std::size_t n = 0; n < x.batch; ++n)
      for (std::size_t h = 0; h < x.height; ++h)
        for (std::size_t w = 0; w < x.width; ++w) rows_(x.pixel(n, h, w), y.pixel(n, h, w), x.channels);
    return {};
  }
  polymac::status operator()(matrix_view<const In> x, matrix_view<Out> y) const noexcept {
    return (*this)(as_image(x), as_image(y));
  }

 private:
  static polymac::status check(float scale, float beta) noexcept {
    if (!polymac::detail::finite(beta) || (std::integral<In> && beta <= 0.0f))
      return polymac::status::make(errc::parameter, "softmax: expected a finite beta, above 0 for integers");
    return polymac::detail::check<std::int16_t>("softmax", "input", {scale, 0});
  }
  void set(const fixed_point::factor& f) noexcept
    requires std::integral<In>
  {
    constexpr std::int32_t least_shift = std::same_as<In, std::int8_t> ? 0 : fixed_point::min_shift;
    if (f.multiplier < (1 << 30) || f.shift < least_shift || f.shift > 31) {
      status_ = polymac::status::make(errc::parameter,
                                      "softmax: expected an input factor with a multiplier of at least "
                                      "2^30 and a shift in [",
                                      least_shift, ", 31], got ", f.multiplier, " and ", f.shift,
                                      " (is the input scale absurd?)");
      return;
    }
    rows_.input = f;
    if constexpr (std::same_as<In, std::int8_t>) {
      // The largest difference that Q5.26 holds: floor(31 * 2^26 / 2^shift).
      rows_.least = -static_cast<std::int32_t>((std::int64_t{31} << 26) >> f.shift);
    } else {
      rows_.fill_tables();
    }
  }

  rows rows_{};
  polymac::status status_{};
};

}  // namespace layer
POLYMAC_END
