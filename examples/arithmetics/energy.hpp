// SPDX-License-Identifier: MIT
// Energy of operations, for an estimate of what a net would take on hardware that is made for an arithmetic.
//
// The operations, their source and what is scaled: probe/energy.hpp. The memory, the wires and the control around them,
// which take most of what a real machine takes, are not counted, nor are conversions between formats.
#pragma once

#include <polymac/probe/energy.hpp>

namespace example::energy {

/// Picojoules.
inline constexpr polymac::probe::energy_table table;
inline constexpr double add_int8 = table.add_int8, add_int32 = table.add_int32, add_fp16 = table.add_fp16,
                        add_fp32 = table.add_fp32;
inline constexpr double multiply_int8 = table.multiply_int8, multiply_fp16 = table.multiply_fp16,
                        multiply_fp32 = table.multiply_fp32;
constexpr double multiply_integers(double bits, double other) { return table.multiply_integers(bits, other); }
constexpr double multiply_floats(double significand) { return table.multiply_floats(significand, significand); }

inline constexpr double float32 = multiply_fp32 + add_fp32;
inline constexpr double fp16 = multiply_fp16 + add_fp32;
inline constexpr double fp16_sum16 = multiply_fp16 + add_fp16;
inline constexpr double bf16 = multiply_floats(8) + add_fp32;
inline constexpr double fp8_e4m3 = multiply_floats(4) + add_fp32;
inline constexpr double fp8_e5m2 = multiply_floats(3) + add_fp32;
inline constexpr double int8 = multiply_int8 + add_int32;
/// A sum of int32 becomes a float every 32 products.
inline constexpr double dfp16 = multiply_integers(16, 16) + add_int32 + add_fp32 / 32;
/// The product is an addition of words.
inline constexpr double l_mul = add_int32 + add_fp32;
/// 8 bits x few: the products of a group, then its scale.
constexpr double few_bits(double bits, double group) {
  return multiply_integers(8, bits) + add_int32 + (multiply_fp32 + add_fp32) / group;
}
/// No product: the activation is added, subtracted or left out; then the scale of the group.
constexpr double signs(double group) { return add_int32 + (multiply_fp32 + add_fp32) / group; }
/// Blocks of 32 with an integer product of so many bits; their scales are added, and scale the sum of the block.
constexpr double integer_block(double bits) {
  return multiply_integers(bits, bits) + add_int32 + (add_int8 + add_fp32) / 32;
}
inline constexpr double mxfp8 = fp8_e4m3 + (add_int8 + add_fp32) / 32;
/// Codes are squared by a table; the values have twice their bits.
constexpr double squares(double bits) { return multiply_integers(2 * bits, 2 * bits) + add_int32; }

}  // namespace example::energy
