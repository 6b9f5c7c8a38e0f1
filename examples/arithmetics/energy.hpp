// SPDX-License-Identifier: MIT
// Energy of operations, for an estimate of what a net would take on hardware that is made for an arithmetic.
//
// Additions and multiplications of 45 nm at 0.9 V, as given by Horowitz, "Computing's energy problem", ISSCC 2014. The
// memory, the wires and the control around them, which take most of what a real machine takes, are not counted, nor are
// conversions between formats.
//
// What his table does not have is scaled: a multiplier grows with the product of the widths of its operands (those of
// floats: of their significands, the leading one included). Such figures are marked below.
#pragma once

namespace example::energy {

/// Picojoules.
inline constexpr double add_int8 = 0.03, add_int32 = 0.1, add_fp16 = 0.4, add_fp32 = 0.9;
inline constexpr double multiply_int8 = 0.2, multiply_int32 = 3.1, multiply_fp16 = 1.1, multiply_fp32 = 3.7;

/// Scaled: integers of so many bits, from int8 (int16: 0.8, between its neighbours in the table).
constexpr double multiply_integers(double bits, double other) { return multiply_int8 * bits * other / 64; }
/// Scaled: floats with significands of so many bits, from fp16, which has 11.
constexpr double multiply_floats(double significand) { return multiply_fp16 * significand * significand / 121; }

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
