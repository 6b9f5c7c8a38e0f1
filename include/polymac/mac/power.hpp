// SPDX-License-Identifier: MIT
// PowerQuant: codes whose values are powers, finer near 0.
#pragma once

#include "polymac/core/concepts.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/float_code.hpp"
#include "polymac/core/text.hpp"
#include "polymac/mac/largest_magnitude.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ratio>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace mac {

namespace detail {

/// The natural logarithm of a positive normal number; error below 4 units of 2^-53 of 1 + |result|.
constexpr double natural_log(double x) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & ((std::uint64_t{1} << 52) - 1)) | std::uint64_t{1023} << 52);
  if (m > 1.4142135623730951) {
    m /= 2;
    ++exponent;
  }
  // ln m = 2 artanh s = 2 (s + s^3 / 3 + ...), |s| < 0.172: the terms left out are below 2^-60.
  const double s = (m - 1.0) / (m + 1.0), square = s * s;
  double sum = 0.0;
  for (int k = 23; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return exponent * 0.6931471805599453 + 2.0 * s * sum;
}

/// e^x, |x| < 700.
constexpr double natural_exp(double x) noexcept {
  const double turns = x / 0.6931471805599453;
  const int k = static_cast<int>(turns < 0.0 ? turns - 0.5 : turns + 0.5);
  // ln 2 in two parts, of which the first times k is exact.
  const double r = (x - k * 0x1.62e42fefp-1) - k * 0x1.473de6af278edp-34;
  double sum = 1.0;
  for (int n = 17; n >= 1; --n) sum = 1.0 + sum * r / n;
  return sum * float_code::double_power_of_two(k);
}

/// base^(numerator / denominator), base >= 0. Relative error below 2^-45 for results below 2^60; whole powers are products.
constexpr double power_of(double base, std::intmax_t numerator, std::intmax_t denominator) noexcept {
  if (base == 0.0) return 0.0;
  if (denominator == 1) {
    double product = 1.0;
    for (std::intmax_t i = 0; i < numerator; ++i) product *= base;
    return product;
  }
  return natural_exp(natural_log(base) * static_cast<double>(numerator) / static_cast<double>(denominator));
}

/// The nearest float with 12 bits: a product of two has 24.
constexpr float with_12_bits(double positive) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(positive);
  constexpr int cut = 52 - 11;
  const std::uint64_t kept = bits + ((std::uint64_t{1} << (cut - 1)) - 1 + (bits >> cut & 1u));
  return static_cast<float>(std::bit_cast<double>(kept >> cut << cut));
}

}  // namespace detail

/// Codes q of Bits bits with values sign(q) |q|^(1/a), a = Exponent::num / Exponent::den (PowerQuant: Yvinec et al., ICLR
/// 2023; NUPES, arXiv 2308.05600: a per layer). With S = 2^(Bits-1) - 1 and the largest magnitude m of a tensor or channel
///
///     encode(x) = sign(x) round(S (|x| / m)^a)        decode(q) = scale value(q),  scale = m / value(S)
///
/// Halves round away from 0. a < 1 makes codes near 0 finer: 1.7 dB on normal numbers at a = 0.65, the optimum there.
/// Products are those of the values, which is the same as the power of the product of codes; sums are of values, so the
/// power comes before the addition, and the sum is multiplied by the scales of both operands in the epilogue.
///
///   - a = 1/2 (and 1): value(q) = q |q| (q), whole numbers, sums exact in integers of 32 bits, beyond max_depth products in
///     64. With 8 bits max_depth is 8; it holds for weights that check_weight() takes and any activation.
///   - other a: value(q) is a float of 12 bits (within 2^-12 of |q|^(1/a), a fiftieth of half the distance of two codes
///     or less), so that products are exact in float32, fused or not; sums are rounded in the order of k. Error of n products:
///     n u / (1 - n u) times the sum of magnitudes, u = 2^-24.
///
/// Codes are in [-S, S]; -S - 1 is unused: no weight, and as an activation it stands for the next power.
template <class Exponent, int Bits = 8>
struct power {
  static_assert(Bits >= 2 && Bits <= 8, "polymac: codes of power have 2 to 8 bits");
  static_assert(Exponent::num > 0 && Exponent::den > 0 && Exponent::den <= 8 * Exponent::num &&
                    Exponent::num <= 8 * Exponent::den,
                "polymac: the exponent of power is a ratio from 1/8 to 8, std::ratio<1, 2> for example");

 private:
  using ratio = typename std::ratio<Exponent::num, Exponent::den>::type;
  static constexpr bool integers = ratio::num == 1 && ratio::den <= 2;
  static constexpr auto text_ = text<47>::join("power<", ratio::num, "/", ratio::den, ", ", Bits, ">");

 public:
  using activation = std::int8_t;
  using weight = std::int8_t;
  using accumulator = std::conditional_t<integers, std::int32_t, float>;
  /// A value without its scale.
  using value_type = accumulator;
  static constexpr const char* name = text_.c_str();
  static constexpr bool linear = false;
  static constexpr bool weight_linear = false;
  static constexpr bool exact = integers;
  static constexpr int bits = Bits;
  /// S.
  static constexpr int largest_code = (1 << (Bits - 1)) - 1;

 private:
  static constexpr auto values_ = [] {
    struct {
      float of[largest_code + 2];
    } table{};
    if constexpr (!integers)
      for (int q = 1; q < largest_code + 2; ++q)
        table.of[q] = detail::with_12_bits(detail::power_of(q, ratio::den, ratio::num));
    return table;
  }();
  /// Where code q begins: ((q - 1/2) / S)^(1/a).
  static constexpr auto thresholds_ = [] {
    struct {
      double of[largest_code + 1];
    } table{};
    for (int q = 1; q <= largest_code; ++q)
      table.of[q] = detail::power_of((q - 0.5) / largest_code, ratio::den, ratio::num);
    return table;
  }();

 public:
  /// The value of a code, scale aside. What is no code of so many bits: with integers the same formula, else the last one.
  static constexpr value_type value(std::int8_t code) noexcept {
    const int magnitude = code < 0 ? -code : code;
    if constexpr (integers) {
      return ratio::den == 1 ? code : code * magnitude;
    } else {
      const float v = values_.of[magnitude <= largest_code ? magnitude : largest_code + 1];
      return code < 0 ? -v : v;
    }
  }
  static constexpr value_type largest_value = [] {
    if constexpr (integers)
      return ratio::den == 1 ? largest_code : largest_code * largest_code;
    else
      return values_.of[largest_code];
  }();

  /// Products of integers that are safe: of activations down to -S - 1 and weights down to -S. Of floats any number.
  static constexpr std::size_t max_depth = [] {
    if constexpr (integers)
      return static_cast<std::size_t>(
          std::numeric_limits<std::int32_t>::max() /
          (largest_value * (ratio::den == 1 ? largest_code + 1 : (largest_code + 1) * (largest_code + 1))));
    else
      return std::numeric_limits<std::size_t>::max();
  }();
  /// Of few safe products: always in 64 bits.
  using sum = std::conditional_t<integers && (max_depth < 1024), std::int64_t, accumulator>;

  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return c + value(a) * value(w);
  }
  /// Is this a code?
  static constexpr bool check_weight(weight w) noexcept { return w >= -largest_code && w <= largest_code; }

  /// The code of a value of a tensor whose largest magnitude is `largest`; larger ones get the largest code, NaN gets 0.
  static constexpr std::int8_t encode(float v, float largest) noexcept {
    const double magnitude = static_cast<double>(v < 0.0f ? -v : v), whole = static_cast<double>(largest);
    int low = 0, high = largest_code + 1;  // code `low` has begun, `high` has not
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (magnitude > 0.0 && magnitude >= thresholds_.of[middle] * whole)
        low = middle;
      else
        high = middle;
    }
    return static_cast<std::int8_t>(v < 0.0f ? -low : low);
  }
  /// What values are multiplied by. 1 where all values are 0.
  static constexpr float scale_for(float largest) noexcept {
    return largest == 0.0f ? 1.0f : largest / static_cast<float>(largest_value);
  }
  static constexpr float decode(std::int8_t code, float scale) noexcept {
    return static_cast<float>(value(code)) * scale;
  }
  /// Encodes a tensor or channel by its largest magnitude. Refuses infinities and NaN, and then writes nothing. O(n Bits).
  static constexpr status encode(std::span<const float> values, std::span<std::int8_t> codes, float& scale) noexcept {
    float largest = 0.0f;
    status s = check_code_count(name, values.size(), codes.size());
    if (s.ok()) s = largest_magnitude(name, values, largest);
    if (!s.ok()) return s;
    scale = scale_for(largest);
    for (std::size_t i = 0; i < values.size(); ++i) codes[i] = encode(values[i], largest);
    return {};
  }

  /// Bound of |computed - exact| for a sum of `depth` products of values, scales aside, with the given sum of magnitudes,
  /// bias included.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept requires(!integers) {
    const double nu = (static_cast<double>(depth) + 1.0) * 0x1p-24;
    return nu / (1.0 - nu) * sum_of_magnitudes;
  }
};

}  // namespace mac
POLYMAC_END
