// SPDX-License-Identifier: MIT
// Integers as digits: v = sum over i of digit[i] * radix^i.
//
// The digit's weight is a loop of its own in a matrix product (the bit-weight dimension of Wu et al., HPCA 2025), and
// how many digits are not zero decides about the work of hardware that skips them.
//
//     encoding          radix   digits       of 8 bits   -91, the highest digit first
//     twos_complement     2     0, 1; the highest 0, -1     -1  0  1  0  0  1  0  1
//     sign_magnitude      2     0, sign                      0 -1  0 -1 -1  0 -1 -1
//     booth               4     -2 .. 2                     -1 -2  1  1
//     en_t                4     -2 .. 2                     -1 -2  1  1
//     naf                 2     -1, 0, 1                    -1  0  1  0  0  1  0  1
#pragma once

#include "polymac/core/config.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace digits {

/// The digits of a value, the lowest first; behind the last one there are zeros.
using expansion = std::array<std::int8_t, 8>;

/// An encoding of integers of `bits` bits, [-2^(bits - 1), 2^(bits - 1) - 1], bits in [2, 8]:
///   radix                 2 or 4
///   count(bits)           digits that an expansion has
///   expand(value, bits)   them; exact for every value of the range
template <class E>
concept Encoding = requires {
  { E::name } -> std::convertible_to<const char*>;
  { E::radix } -> std::convertible_to<int>;
  { E::count(8) } -> std::same_as<std::size_t>;
  { E::expand(0, 8) } -> std::same_as<expansion>;
};

namespace detail {
constexpr std::size_t pairs_of(int bits) noexcept { return static_cast<std::size_t>(bits + 1) / 2; }
constexpr void put(expansion& e, std::size_t i, int digit) noexcept { e[i] = static_cast<std::int8_t>(digit); }
}  // namespace detail

/// The bits of the two's complement; the highest one counts negative.
struct twos_complement {
  static constexpr const char* name = "twos_complement";
  static constexpr int radix = 2;
  static constexpr std::size_t count(int bits) noexcept { return static_cast<std::size_t>(bits); }
  static constexpr expansion expand(int value, int bits) noexcept {
    expansion e{};
    for (int i = 0; i < bits; ++i)
      detail::put(e, static_cast<std::size_t>(i),
                  (static_cast<unsigned>(value) >> i & 1u) == 0 ? 0
                  : i + 1 < bits                                ? 1
                                                                : -1);
    return e;
  }
};

/// The bits of the magnitude, each with the sign of the value. -2^(bits - 1) needs all `bits` of them.
struct sign_magnitude {
  static constexpr const char* name = "sign_magnitude";
  static constexpr int radix = 2;
  static constexpr std::size_t count(int bits) noexcept { return static_cast<std::size_t>(bits); }
  static constexpr expansion expand(int value, int bits) noexcept {
    expansion e{};
    const int sign = value < 0 ? -1 : 1;
    const unsigned magnitude = static_cast<unsigned>(sign * value);
    for (int i = 0; i < bits; ++i) detail::put(e, static_cast<std::size_t>(i), (magnitude >> i & 1u) != 0 ? sign : 0);
    return e;
  }
};

/// Radix-4 modified Booth encoding (MBE) of the two's complement: d[i] = b[2i-1] + b[2i] - 2 b[2i+1], b[-1] = 0.
struct booth {
  static constexpr const char* name = "booth";
  static constexpr int radix = 4;
  static constexpr std::size_t count(int bits) noexcept { return detail::pairs_of(bits); }
  static constexpr expansion expand(int value, int bits) noexcept {
    expansion e{};
    const auto bit = [&](std::size_t i) { return static_cast<int>(static_cast<unsigned>(value) >> i & 1u); };
    for (std::size_t i = 0; i < count(bits); ++i)
      detail::put(e, i, (i > 0 ? bit(2 * i - 1) : 0) + bit(2 * i) - 2 * bit(2 * i + 1));
    return e;
  }
};

/// EN-T (Wu et al.): pairs of bits of the magnitude, a three passed on as -1 and a carry, and the sign put to every
/// digit in the end. Of the magnitude, so that small negative numbers have as few digits as small positive ones.
struct en_t {
  static constexpr const char* name = "en_t";
  static constexpr int radix = 4;
  static constexpr std::size_t count(int bits) noexcept { return detail::pairs_of(bits); }
  static constexpr expansion expand(int value, int bits) noexcept {
    expansion e{};
    const int sign = value < 0 ? -1 : 1;
    const int magnitude = sign * value;
    int carry = 0;
    for (std::size_t i = 0; i < count(bits); ++i) {
      int digit = (magnitude >> (2 * i) & 3) + carry;
      carry = i + 1 < count(bits) && digit >= 3 ? 1 : 0;
      digit -= 4 * carry;
      detail::put(e, i, sign * digit);
    }
    return e;
  }
};

/// Non-adjacent form (canonical signed digits): of two neighbouring digits one is zero; no form in -1, 0, 1 has fewer
/// others.
struct naf {
  static constexpr const char* name = "naf";
  static constexpr int radix = 2;
  static constexpr std::size_t count(int bits) noexcept { return static_cast<std::size_t>(bits); }
  static constexpr expansion expand(int value, int bits) noexcept {
    expansion e{};
    for (std::size_t i = 0; i < count(bits); ++i) {
      const int digit = value % 2 == 0 ? 0 : (value & 3) == 1 ? 1 : -1;
      detail::put(e, i, digit);
      value = (value - digit) / 2;
    }
    return e;
  }
};

/// The value of digits.
template <Encoding E>
constexpr int value_of(const expansion& e) noexcept {
  int value = 0;
  for (std::size_t i = e.size(); i-- > 0;) value = value * E::radix + e[i];
  return value;
}
/// Digits that are not zero: partial products.
constexpr int count_of_non_zero(const expansion& e) noexcept {
  int n = 0;
  for (const std::int8_t d : e) n += d != 0;
  return n;
}

}  // namespace digits
POLYMAC_END
