// SPDX-License-Identifier: MIT
// Codes of 1 to 8 bits, packed without gaps.
#pragma once

#include "polymac/core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

POLYMAC_BEGIN

/// Instead of a number of bits: the three values -1, 0 and 1 (1.58 bits). Stored in two.
inline constexpr int ternary_bits = 158;

/// What codes of `Bits` bits are.
///
///     Bits           values                          stored as
///     1              -1, 1                           one bit, 1 for 1. There is no zero
///     ternary_bits   -1, 0, 1                        two's complement in two bits
///     2, 3, 4, 8     -2^(Bits-1) .. 2^(Bits-1) - 1   two's complement
///
/// Code i begins at bit i * stored_bits of the bytes, the lowest bit of a byte first; a code of three bits may lie in
/// two bytes.
template <int Bits>
struct bit_codes {
  static_assert(Bits == 1 || Bits == 2 || Bits == 3 || Bits == 4 || Bits == 8 || Bits == ternary_bits,
                "polymac: codes have 1, 2, 3, 4 or 8 bits, or polymac::ternary_bits");
  static constexpr int stored_bits = Bits == ternary_bits ? 2 : Bits;
  static constexpr bool two_or_three_values = Bits == 1 || Bits == ternary_bits;
  static constexpr int least = two_or_three_values ? -1 : -(1 << (stored_bits - 1));
  static constexpr int most = two_or_three_values ? 1 : (1 << (stored_bits - 1)) - 1;
  /// Bits of the two's complement that holds every value.
  static constexpr int value_bits = stored_bits < 2 ? 2 : stored_bits;

  /// Is v a code?
  static constexpr bool contains(int v) noexcept { return v >= least && v <= most && (Bits != 1 || v != 0); }
  static constexpr std::size_t bytes(std::size_t count) noexcept { return (count * stored_bits + 7) / 8; }

  /// Code i of packed ones.
  static constexpr std::int8_t at(const std::uint8_t* packed, std::size_t i) noexcept {
    const std::size_t bit = i * stored_bits, shift = bit % 8;
    unsigned window = packed[bit / 8];
    if (shift + stored_bits > 8) window |= static_cast<unsigned>(packed[bit / 8 + 1]) << 8;
    const int stored = static_cast<int>(window >> shift & mask);
    if constexpr (Bits == 1)
      return static_cast<std::int8_t>(2 * stored - 1);
    else
      return static_cast<std::int8_t>((stored ^ top) - top);
  }
  /// Sets code i, which shall be one (see contains).
  static constexpr void put(std::uint8_t* packed, std::size_t i, int code) noexcept {
    const std::size_t bit = i * stored_bits, shift = bit % 8;
    const unsigned stored = Bits == 1 ? (code > 0 ? 1u : 0u) : static_cast<unsigned>(code) & mask;
    write(packed[bit / 8], mask << shift, stored << shift);
    if (shift + stored_bits > 8) write(packed[bit / 8 + 1], mask << shift >> 8, stored << shift >> 8);
  }
  /// Packs all codes; refuses values that are none, and says which is the first. O(n).
  static constexpr status pack(std::span<const std::int8_t> codes, std::span<std::uint8_t> packed) noexcept {
    if (packed.size() < bytes(codes.size()))
      return status::make(errc::short_buffer, "bit_codes::pack: expected ", bytes(codes.size()), " bytes for ",
                          codes.size(), " codes, got ", packed.size());
    for (std::size_t i = 0; i < codes.size(); ++i)
      if (!contains(codes[i]))
        return status::make(errc::parameter, "bit_codes::pack: expected codes in [", least, ", ", most, "]",
                            Bits == 1 ? " without 0" : "", ", code ", i, " is ", codes[i]);
    for (std::size_t i = 0; i < codes.size(); ++i) put(packed.data(), i, codes[i]);
    return {};
  }
  /// Unpacks as many codes as there is room for.
  static constexpr status unpack(std::span<const std::uint8_t> packed, std::span<std::int8_t> codes) noexcept {
    if (packed.size() < bytes(codes.size()))
      return status::make(errc::short_buffer, "bit_codes::unpack: expected ", bytes(codes.size()), " bytes for ",
                          codes.size(), " codes, got ", packed.size());
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = at(packed.data(), i);
    return {};
  }

 private:
  static constexpr unsigned mask = (1u << stored_bits) - 1u;
  static constexpr int top = 1 << (stored_bits - 1);
  static constexpr void write(std::uint8_t& byte, unsigned which, unsigned value) noexcept {
    byte = static_cast<std::uint8_t>((byte & ~which) | (value & which & 255u));
  }
};

POLYMAC_END
