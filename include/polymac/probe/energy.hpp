// SPDX-License-Identifier: MIT
// What the products of a layer would take on hardware that is made for their arithmetic, from a table of energies of
// operations.
//
//     pJ, 45 nm, 0.9 V        add      multiply        read                           of 32 bits
//     8-bit integer           0.03     0.2             cache of 8 KB (64 bits: 10)      5
//     32-bit integer          0.1      3.1             DRAM (64 bits: 1,300 to 2,600)   640
//     16-bit float            0.4      1.1
//     32-bit float            0.9      3.7
//
// Source: Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014; DRAM as in Han et al.,
// "Learning both weights and connections for efficient neural networks", NIPS 2015, the lower end of his range. What the
// table does not have is scaled: a multiplier grows with the product of the widths of its operands (those of floats: of
// their significands, the leading one included), an integer adder with its width. Control, wires, conversions between
// formats are not counted; they take most of what a real machine takes. An estimate for comparisons, no measurement.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/float16.hpp"
#include "polymac/core/minifloat.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace probe {
namespace detail {

/// Bits of a significand, the leading one included; 0: not a float whose width is known.
template <class T>
struct significand {
  static constexpr int bits = std::is_floating_point_v<T> ? std::numeric_limits<T>::digits : 0;
};
template <>
struct significand<float16> {
  static constexpr int bits = 11;
};
template <>
struct significand<bfloat16> {
  static constexpr int bits = 8;
};
template <int ExponentBits, int MantissaBits, int Bias, special_codes Special>
struct significand<minifloat<ExponentBits, MantissaBits, Bias, Special>> {
  static constexpr int bits = MantissaBits + 1;
};

}  // namespace detail

/// Picojoules of operations. The default is the table above; another process needs another one.
struct energy_table {
  double add_int8 = 0.03, add_int32 = 0.1, add_fp16 = 0.4, add_fp32 = 0.9;
  double multiply_int8 = 0.2, multiply_int32 = 3.1, multiply_fp16 = 1.1, multiply_fp32 = 3.7;
  /// Reading 32 bits.
  double read_sram = 5.0, read_dram = 640.0;

  /// Integers of so many bits, from int8 (int16: 0.8, between its neighbours in the table); 32 x 32 bits are in it.
  constexpr double multiply_integers(double bits, double other) const noexcept {
    return bits == 32 && other == 32 ? multiply_int32 : multiply_int8 * bits * other / 64;
  }
  /// Floats with significands of so many bits, from fp16, which has 11; 24 bits are in the table.
  constexpr double multiply_floats(double bits, double other) const noexcept {
    return bits == 24 && other == 24 ? multiply_fp32 : multiply_fp16 * bits * other / 121;
  }
  constexpr double add_integers(double bits) const noexcept { return bits == 8 ? add_int8 : add_int32 * bits / 32; }

  /// A product of these types, both integers or both floats (core/ has their list).
  template <class Activation, class Weight>
  constexpr double multiply() const noexcept {
    if constexpr (std::is_integral_v<Activation> && std::is_integral_v<Weight>) {
      return multiply_integers(8.0 * sizeof(Activation), 8.0 * sizeof(Weight));
    } else {
      constexpr int a = detail::significand<Activation>::bits, w = detail::significand<Weight>::bits;
      static_assert(
          a > 0 && w > 0,
          "polymac: the table knows products of integers and of floats alone: for others give probe::energy a "
          "number of picojoules for each product");
      return multiply_floats(a, w);
    }
  }
  /// An addition to a sum of this type.
  template <class Sum>
  constexpr double add() const noexcept {
    if constexpr (std::is_integral_v<Sum>) {
      return add_integers(8.0 * sizeof(Sum));
    } else {
      constexpr int bits = detail::significand<Sum>::bits;
      static_assert(
          bits == 11 || bits == 24,
          "polymac: the table knows sums of integers, float16 and float alone: for others give probe::energy a "
          "number of picojoules for each product");
      return bits == 11 ? add_fp16 : add_fp32;
    }
  }
};

/// What is in the sums of an energy probe.
struct energy_cost {
  energy_table table{};
  /// Where the two operands of each product are read from, in picojoules for 32 bits: table.read_sram, table.read_dram;
  /// 0: from registers, not counted.
  double read_activation = 0, read_weight = 0;

  template <class Sum, class Activation, class Weight>
  constexpr double operator()(const Sum&, const Activation&, const Weight&) const noexcept {
    return table.multiply<Activation, Weight>() + table.add<Sum>() + read_activation * sizeof(Activation) / 4 +
           read_weight * sizeof(Weight) / 4;
  }
};
/// The same for every product.
struct constant_cost {
  double picojoules = 0;
  template <class Sum, class Activation, class Weight>
  constexpr double operator()(const Sum&, const Activation&, const Weight&) const noexcept {
    return picojoules;
  }
};

/// Adds up the energy of the products that are executed. Cost: picojoules of (sum, activation, weight), by their types
/// (`energy_cost`) or their values. Products of zeros take what all take, if the cost does not say otherwise.
template <class Cost = energy_cost>
struct energy {
  Cost cost{};
  double picojoules = 0;
  std::uint64_t products = 0;

  template <class Sum, class Activation, class Weight>
  constexpr void operator()(const Sum&, const Sum& sum, const Activation& a, const Weight& w) noexcept {
    static_assert(noexcept(cost(sum, a, w)), "polymac: the cost of a product must not throw");
    picojoules += cost(sum, a, w);
    ++products;
  }
};

}  // namespace probe
POLYMAC_END
