// SPDX-License-Identifier: MIT
// Dynamic fixed point: integers with one exponent for all of a tensor.
//
//     value[n] = code[n] * 2^exponent           exponent from the largest magnitude, anew for every tensor
//
// Source: Das et al., Mixed precision training of convolutional neural networks using integer operations, ICLR 2018
// (arXiv 1802.00930), with the formulas of its authors' library (libxsmm, 2018): a `Shift` leaves the upper bits of the
// storage empty, so that sums of products have room.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/round.hpp"

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace dynamic_fixed_point {

/// How a real value becomes a code. Stochastic rounding is the overload of `encode` that takes a generator.
enum class rounding : unsigned char {
  nearest_even,  ///< ties to even
  half_away,     ///< ties away from zero
};

/// 2^e, e in [-1022, 1023].
constexpr double power_of_two(int e) noexcept {
  return std::bit_cast<double>(static_cast<std::uint64_t>(e + 1023) << 52);
}

/// Factor of a sum of products: 2^(exponent_a + exponent_w) as a float. 0 below 2^-149 and infinite above 2^127, both
/// of which epilogue::scale refuses.
constexpr float product_scale(int exponent_a, int exponent_w) noexcept {
  const int e = exponent_a + exponent_w;
  if (e > 127) return std::bit_cast<float>(0x7F800000u);
  if (e < -149) return 0.0f;
  return std::bit_cast<float>(e >= -126 ? static_cast<std::uint32_t>(e + 127) << 23 : 1u << (e + 149));
}

namespace detail {

/// e of value = m 2^e, m in [1/2, 1); 0 for 0. Subnormals as well, whatever the mode of the thread.
constexpr int frexp_exponent(float value) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu;
  if (bits == 0) return 0;
  const int field = static_cast<int>(bits >> 23);
  return field > 0 ? field - 126 : static_cast<int>(std::bit_width(bits)) - 149;
}

}  // namespace detail

/// The codes of a tensor: `Storage` (int8_t or int16_t, P bits) of which the upper `Shift` are left empty.
///
///     exponent = e - (P - 1 - Shift),  where max|f| = m 2^e, m in [1/2, 1)      (0 for a tensor of zeros)
///     code     = round(f * 2^-exponent), saturated to [-limit, limit],          limit = 2^(P - 1 - Shift) - 1
///
/// Just below a power of two the maximum rounds to limit + 1 and saturates (an error of at most one unit there). A code
/// of -limit - 1 never comes up.
template <class Storage, int Shift = 0>
struct format {
  static_assert(std::same_as<Storage, std::int8_t> || std::same_as<Storage, std::int16_t>,
                "polymac: dynamic fixed point is stored in std::int8_t or std::int16_t");
  static constexpr int bits = static_cast<int>(8 * sizeof(Storage));
  static_assert(Shift >= 0 && Shift <= bits - 2,
                "polymac: the shift of dynamic fixed point leaves at least one bit of magnitude: 0 to 6 for int8, 0 to "
                "14 for int16");
  static constexpr int magnitude_bits = bits - 1 - Shift;
  static constexpr std::int32_t limit = (std::int32_t{1} << magnitude_bits) - 1;

  /// The exponent of a tensor whose largest magnitude is `maximum`, which shall be finite.
  static constexpr int exponent_of(float maximum) noexcept {
    return maximum == 0.0f ? 0 : detail::frexp_exponent(maximum) - magnitude_bits;
  }
  /// The code of a finite value; saturates.
  static constexpr Storage encode(float value, int exponent, rounding how = rounding::nearest_even) noexcept {
    return saturate(how == rounding::half_away ? polymac::detail::round_half_away(scaled(value, exponent))
                                               : polymac::detail::round_to_even(scaled(value, exponent)));
  }
  /// Rounds down with `random` = 2^32 - 1, up with 0 wherever there is a rest; unbiased for uniform random bits.
  static constexpr Storage encode_stochastic(float value, int exponent, std::uint32_t random) noexcept {
    return saturate(
        polymac::detail::floor_of(scaled(value, exponent) + 1.0 - (static_cast<double>(random) + 1.0) * 0x1p-32));
  }
  static constexpr float decode(Storage code, int exponent) noexcept {
    return static_cast<float>(static_cast<double>(code) * power_of_two(exponent));
  }

  /// Codes of all values (as many as there are values) and their exponent. Refuses NaN and infinities and says where
  /// the first one stands; codes are untouched then. O(n), two passes.
  static result<int> encode(std::span<const float> values, std::span<Storage> codes,
                            rounding how = rounding::nearest_even) noexcept {
    return encode_all(values, codes, [&](float v, int e) { return encode(v, e, how); });
  }
  /// The same, rounded stochastically: generator() returns 32 uniform random bits (std::mt19937 does).
  template <class Generator>
  requires requires(Generator& g) {
    { g() } -> std::unsigned_integral;
  }
  static result<int> encode(std::span<const float> values, std::span<Storage> codes, Generator& generator) {
    return encode_all(values, codes,
                      [&](float v, int e) { return encode_stochastic(v, e, static_cast<std::uint32_t>(generator())); });
  }
  /// Values of all codes.
  static status decode(std::span<const Storage> codes, int exponent, std::span<float> values) noexcept {
    if (codes.size() != values.size()) return sizes_differ("decode", codes.size(), values.size());
    for (std::size_t i = 0; i < codes.size(); ++i) values[i] = decode(codes[i], exponent);
    return {};
  }

  /// Integers with a common exponent (sums of products, or of tensors) as codes: shifted right by as many bits R as it
  /// takes for all to fit, rounded half up. Returns exponent + R. Where rounding reaches limit + 1, R is one more.
  static result<int> down_convert(std::span<const std::int32_t> sums, int exponent, std::span<Storage> codes) noexcept {
    if (sums.size() != codes.size()) return sizes_differ("down_convert", sums.size(), codes.size());
    return convert(
        sums.size(), [&](std::size_t i) { return std::int64_t{sums[i]}; }, exponent, codes);
  }
  /// The sum of two tensors, the one with the smaller exponent shifted right first (bits fall off, towards minus
  /// infinity): i = i_a + (i_b >> (E_a - E_b)), E = E_a. Sums that no longer fit are down-converted. Returns the
  /// exponent. `sum` may be one of the operands.
  static result<int> add(std::span<const Storage> a, int exponent_a, std::span<const Storage> b, int exponent_b,
                         std::span<Storage> sum) noexcept {
    if (a.size() != b.size()) return sizes_differ("add", a.size(), b.size());
    if (a.size() != sum.size()) return sizes_differ("add", a.size(), sum.size());
    const int shift_a = shift_between(exponent_b, exponent_a), shift_b = shift_between(exponent_a, exponent_b);
    return convert(
        a.size(), [&](std::size_t i) { return (std::int64_t{a[i]} >> shift_a) + (std::int64_t{b[i]} >> shift_b); },
        exponent_a > exponent_b ? exponent_a : exponent_b, sum);
  }

 private:
  static constexpr double scaled(float value, int exponent) noexcept {
    const double x = static_cast<double>(value) * power_of_two(-exponent);
    constexpr double most = 65536.0;  // beyond every limit; and the conversion to an integer is defined
    return x > most ? most : x < -most ? -most : x;
  }
  static constexpr Storage saturate(std::int64_t code) noexcept {
    return static_cast<Storage>(code > limit ? limit : code < -limit ? -limit : code);
  }
  static constexpr int shift_between(int higher, int lower) noexcept {
    return higher <= lower ? 0 : higher - lower < 32 ? higher - lower : 31;
  }
  static status sizes_differ(const char* who, std::size_t from, std::size_t to) noexcept {
    return status::make(errc::shape, "dynamic_fixed_point::", who, ": expected as many elements on both sides, got ",
                        from, " and ", to);
  }
  template <class Encode>
  static result<int> encode_all(std::span<const float> values, std::span<Storage> codes, const Encode& encode_one) {
    if (values.size() != codes.size()) return sizes_differ("encode", values.size(), codes.size());
    float maximum = 0.0f;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!polymac::detail::is_finite(values[i]))
        return status::make(errc::parameter, "dynamic_fixed_point::encode: expected finite values, value ", i, " is ",
                            polymac::detail::name_of_non_finite(values[i]));
      const float magnitude = values[i] < 0.0f ? -values[i] : values[i];
      maximum = maximum < magnitude ? magnitude : maximum;
    }
    const int exponent = exponent_of(maximum);
    for (std::size_t i = 0; i < values.size(); ++i)
      codes[i] = maximum == 0.0f ? Storage{0} : encode_one(values[i], exponent);
    return int{exponent};
  }
  template <class Read>
  static result<int> convert(std::size_t count, const Read& read, int exponent, std::span<Storage> codes) noexcept {
    std::int64_t low = 0, high = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t v = read(i);
      low = v < low ? v : low;
      high = v > high ? v : high;
    }
    const auto rounded = [](std::int64_t v, int shift) {
      return shift == 0 ? v : (v + (std::int64_t{1} << (shift - 1))) >> shift;
    };
    int shift = 0;  // rounding is monotonous: what holds at both ends holds for all
    while (rounded(high, shift) > limit || rounded(low, shift) < -limit) ++shift;
    for (std::size_t i = 0; i < count; ++i) codes[i] = static_cast<Storage>(rounded(read(i), shift));
    return exponent + shift;
  }
};

}  // namespace dynamic_fixed_point
POLYMAC_END
