// SPDX-License-Identifier: MIT
// Weights of few bits and activations of eight.
#pragma once

#include "polymac/core/bit_codes.hpp"
#include "polymac/core/block.hpp"
#include "polymac/core/concepts.hpp"
#include "polymac/core/digits.hpp"
#include "polymac/core/round.hpp"
#include "polymac/core/text.hpp"
#include "polymac/core/view.hpp"
#include "polymac/mac/int8.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace isa {
struct arithmetic_atoms;
}

namespace mac {

/// Which codes the quantiser of a group uses.
enum class code_range : unsigned char {
  symmetric,   ///< zero is code 0, from the largest magnitude
  asymmetric,  ///< smallest and largest weight (and 0) at the ends of the range, with a zero point
};

/// `Group` weights of one column: packed codes, and the scale and the zero point that they have in common. The weight
/// of code q is scale * (q - zero_point). Value-initialised it adds nothing, for its scale is 0; other blocks have a
/// finite scale above 0.
template <int Bits, std::size_t Group>
struct weight_group {
  using codes = bit_codes<Bits>;
  std::uint8_t packed[codes::bytes(Group)]{};
  std::int8_t zero_point = 0;
  float scale = 0.0f;

  constexpr std::int8_t code(std::size_t k) const noexcept { return codes::at(packed, k); }
  constexpr void set_code(std::size_t k, int code) noexcept { codes::put(packed, k, code); }
  /// Is it a block that a quantiser could have made?
  constexpr bool is_valid() const noexcept {
    if (!(scale > 0.0f) || !polymac::detail::is_finite(scale)) return false;
    if constexpr (codes::two_or_three_values) {
      if (zero_point != 0) return false;
      for (std::size_t k = 0; k < Group; ++k)
        if (!codes::contains(code(k))) return false;
    }
    return zero_point >= codes::least && zero_point <= codes::most;
  }
  friend constexpr bool operator==(const weight_group&, const weight_group&) noexcept = default;
};

namespace detail {

/// The quantiser of one run of weights: a scale, a zero point, and codes.
template <int Bits>
class weight_quantizer {
  using codes = bit_codes<Bits>;

 public:
  /// read(k) -> float, all of them finite. A scale is never below 2^-126.
  template <class Read>
  constexpr weight_quantizer(std::size_t count, const Read& read, code_range range) noexcept {
    double sum = 0.0;
    float low = 0.0f, high = 0.0f;
    for (std::size_t k = 0; k < count; ++k) {
      const float w = read(k);
      low = w < low ? w : low;
      high = w > high ? w : high;
      sum += static_cast<double>(w < 0.0f ? -w : w);
    }
    all_zero_ = low == 0.0f && high == 0.0f;
    if (all_zero_) return;
    double scale = 0.0;
    if constexpr (codes::two_or_three_values)
      scale = sum / static_cast<double>(count);
    else if (range == code_range::asymmetric)
      scale = (static_cast<double>(high) - static_cast<double>(low)) / (codes::most - codes::least);
    else
      scale = static_cast<double>(high > -low ? high : -low) / codes::most;
    constexpr double least_scale = 0x1p-126, most_scale = 0x1.fffffep127;
    scale_ = static_cast<float>(scale < least_scale ? least_scale : scale > most_scale ? most_scale : scale);
    if (!codes::two_or_three_values && range == code_range::asymmetric) {
      is_symmetric_ = false;
      zero_point_ = static_cast<std::int8_t>(
          clamped(codes::least - polymac::detail::round_to_even(static_cast<double>(low) / static_cast<double>(scale_)),
                  codes::least));
    }
  }
  constexpr bool all_zero() const noexcept { return all_zero_; }
  constexpr float scale() const noexcept { return scale_; }
  constexpr std::int8_t zero_point() const noexcept { return zero_point_; }
  constexpr std::int8_t operator()(float w) const noexcept {
    if constexpr (Bits == 1) return static_cast<std::int8_t>(w < 0.0f ? -1 : 1);
    double ratio = static_cast<double>(w) / static_cast<double>(scale_);
    ratio = ratio > 1024.0 ? 1024.0 : ratio < -1024.0 ? -1024.0 : ratio;
    return static_cast<std::int8_t>(
        clamped(polymac::detail::round_to_even(ratio) + zero_point_, is_symmetric_ ? -codes::most : codes::least));
  }

 private:
  static constexpr std::int64_t clamped(std::int64_t code, int least) noexcept {
    return code < least ? least : code > codes::most ? codes::most : code;
  }
  float scale_ = 1.0f;
  std::int8_t zero_point_ = 0;
  bool all_zero_ = false, is_symmetric_ = true;
};

template <int Bits>
constexpr status check_finite(const matrix_view<const float>& weights) noexcept {
  for (std::size_t c = 0; c < weights.rows; ++c)
    for (std::size_t k = 0; k < weights.columns; ++k)
      if (!polymac::detail::is_finite(weights(c, k)))
        return status::make(errc::parameter, "bit_weights: expected finite weights, column ", c, ", k ", k, " is ",
                            polymac::detail::name_of_non_finite(weights(c, k)));
  return {};
}
template <int Bits>
constexpr status check_not_zero(bool all_zero, std::size_t column, std::size_t first) noexcept {
  if (Bits != 1 || !all_zero) return {};
  return status::make(errc::parameter, "bit_weights: one bit has no zero, and the weights of column ", column,
                      " from k ", first, " on are zeros alone");
}

template <int Bits, class Encoding, std::size_t Group>
constexpr text<63> bit_weights_name() noexcept {
  auto t = Bits == ternary_bits ? text<63>::join("ternary") : text<63>::join("w", Bits);
  if (Group > 0) t = text<63>::join(t.c_str(), "_group", Group);
  return text<63>::join(t.c_str(), "_", Encoding::name);
}

template <int Bits, class Encoding, std::size_t Group>
struct bit_weights_checks {
  static_assert(digits::Encoding<Encoding>,
                "polymac: expected an encoding of digits: digits::twos_complement, digits::sign_magnitude, "
                "digits::booth, digits::en_t or digits::naf");
  static_assert(Group == 0 || Group == 32 || Group == 64 || Group == 128,
                "polymac: weights share a scale in groups of 32, 64 or 128, or have none in the product (Group 0)");
  static_assert(bit_codes<Bits>::stored_bits > 0);  // which says what bit widths there are
};

}  // namespace detail

/// s8 activations x weights of `Bits` bits (1, 2, 3, 4, 8, or ternary_bits for -1, 0, 1), written in the digits of an
/// `Encoding` (core/digits.hpp): the bit-weight decomposed product of Wu et al., HPCA 2025.
///
///     a w = sum over i of radix^i (digit_i(w) a)         multiply_add_by_digits; equal to multiply_add, bit for bit
///
/// Group 0: the weight is a code (core/bit_codes.hpp) in an int8, the sum an int32, exact. `encode` makes codes with
/// one scale per column, symmetric, for epilogue::dequantize; zero points need groups. Group 32, 64 or 128 (below):
/// blocks of so many k, each weight block with a scale and a zero point of its own, float sums.
///
/// Quantisers (`encode`), all of them rounding to nearest even:
///     2, 3, 4, 8 bits   symmetric: scale = max|w| / (2^(Bits-1) - 1), codes in +-(2^(Bits-1) - 1)
///                       asymmetric (groups): scale = (max - min) / (2^Bits - 1) over the weights and 0, the zero point
///                       such that min stands at the lowest code; 0 is a code
///     ternary           scale = mean|w|, code = round(w / scale) in [-1, 1] (absmean of BitNet b1.58, Ma et al., 2024)
///     1 bit             scale = mean|w|, code = sign(w), 1 for 0 (XNOR-Net, Rastegari et al., 2016)
/// A run of zeros has the scale 1 and codes 0; of one bit it is refused.
template <int Bits, class Encoding = digits::twos_complement, std::size_t Group = 0>
struct bit_weights : private detail::bit_weights_checks<Bits, Encoding, Group> {
  using codes = bit_codes<Bits>;
  using encoding = Encoding;
  using atoms = isa::arithmetic_atoms;
  using activation = block_of<std::int8_t, Group>;
  using weight = weight_group<Bits, Group>;
  using accumulator = float;
  static constexpr bool linear = true;
  static constexpr bool weight_linear = false;
  static constexpr bool exact = false;
  /// k of an element.
  static constexpr std::size_t group_size = Group;

 private:
  static constexpr auto name_ = detail::bit_weights_name<Bits, Encoding, Group>();

 public:
  static constexpr const char* name = name_.c_str();

  /// c + scale * sum over k of a[k] (q[k] - zero_point); the sum is exact (below 2^23), product and sum are rounded to
  /// nearest even, or fused.
  static constexpr accumulator multiply_add(accumulator c, const activation& a, const weight& w) noexcept {
    std::int32_t dot = 0;
    for (std::size_t k = 0; k < Group; ++k) dot += a[k] * (w.code(k) - w.zero_point);
    return c + w.scale * static_cast<float>(dot);
  }
  static constexpr accumulator multiply_add_by_digits(accumulator c, const activation& a, const weight& w) noexcept {
    std::int32_t dot = 0, sum = 0, power = 1;
    for (std::size_t i = 0; i < Encoding::count(codes::value_bits); ++i, power *= Encoding::radix)
      for (std::size_t k = 0; k < Group; ++k) dot += power * (Encoding::expand(w.code(k), codes::value_bits)[i] * a[k]);
    for (std::size_t k = 0; k < Group; ++k) sum += a[k];
    return c + w.scale * static_cast<float>(dot - w.zero_point * sum);
  }

  static constexpr bool check_weight(const weight& w) noexcept { return w.is_valid(); }

  /// Quantises columns x depth weights to columns x depth / Group blocks. Refuses NaN and infinities, and a depth that
  /// Group does not divide.
  static constexpr status encode(matrix_view<const float> weights, matrix_view<weight> blocks,
                                 code_range range = code_range::symmetric) noexcept {
    if (weights.columns % Group != 0)
      return status::make(errc::shape, "bit_weights: groups of ", Group, " do not divide a depth of ", weights.columns);
    if (blocks.rows != weights.rows || blocks.columns != weights.columns / Group)
      return status::make(errc::shape, "bit_weights: expected ", weights.rows, " x ", weights.columns / Group,
                          " blocks for weights of ", weights.rows, " x ", weights.columns, ", got ", blocks.rows, " x ",
                          blocks.columns);
    if (const status s = detail::check_finite<Bits>(weights); !s.ok()) return s;
    for (std::size_t c = 0; c < blocks.rows; ++c)
      for (std::size_t b = 0; b < blocks.columns; ++b) {
        const auto read = [&](std::size_t k) { return weights(c, b * Group + k); };
        const detail::weight_quantizer<Bits> quantize(Group, read, range);
        if (const status s = detail::check_not_zero<Bits>(quantize.all_zero(), c, b * Group); !s.ok()) return s;
        weight& to = blocks(c, b);
        to = weight{};
        to.scale = quantize.scale();
        to.zero_point = quantize.zero_point();
        for (std::size_t k = 0; k < Group; ++k) to.set_code(k, quantize(read(k)));
      }
    return {};
  }
  /// The reals that the blocks stand for.
  static constexpr status decode(matrix_view<const weight> blocks, matrix_view<float> weights) noexcept {
    if (weights.rows != blocks.rows || weights.columns != blocks.columns * Group)
      return status::make(errc::shape, "bit_weights: expected weights of ", blocks.rows, " x ", blocks.columns * Group,
                          ", got ", weights.rows, " x ", weights.columns);
    for (std::size_t c = 0; c < blocks.rows; ++c)
      for (std::size_t k = 0; k < weights.columns; ++k) {
        const weight& w = blocks(c, k / Group);
        weights(c, k) = w.scale * static_cast<float>(w.code(k % Group) - w.zero_point);
      }
    return {};
  }

  /// Bound of |computed - exact| for a sum of `depth` blocks with the given sum of magnitudes, bias included: a
  /// rounding for the product, and one for each sum (Higham, section 3.1).
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    const double nu = (static_cast<double>(depth) + 2.0) * 5.9604644775390625e-08;
    return nu / (1.0 - nu) * sum_of_magnitudes + static_cast<double>(depth) * 0x1p-149;
  }
};

/// Weights that are codes, sums in 32 bits. See above.
template <int Bits, class Encoding>
struct bit_weights<Bits, Encoding, 0> : private detail::bit_weights_checks<Bits, Encoding, 0> {
  using codes = bit_codes<Bits>;
  using encoding = Encoding;
  using atoms = isa::arithmetic_atoms;
  using activation = std::int8_t;
  using weight = std::int8_t;
  using accumulator = std::int32_t;
  /// The products of its codes are those of int8.
  using computed_as = int8;
  static constexpr bool linear = true;
  /// Sums of codes need not be codes: weights are not split into terms.
  static constexpr bool weight_linear = false;
  static constexpr bool exact = true;
  static constexpr int headroom_bits = 0;
  static constexpr weight weight_min = codes::least, weight_max = codes::most;
  /// Products of -128 and the code of the largest magnitude that fit 32 bits.
  static constexpr std::size_t max_depth = std::numeric_limits<accumulator>::max() / (128 * -codes::least);

 private:
  static constexpr auto name_ = detail::bit_weights_name<Bits, Encoding, 0>();

 public:
  static constexpr const char* name = name_.c_str();

  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept { return c + a * w; }
  /// The same by way of the digits.
  static constexpr accumulator multiply_add_by_digits(accumulator c, activation a, weight w) noexcept {
    const digits::expansion d = Encoding::expand(w, codes::value_bits);
    std::int32_t power = 1, product = 0;
    for (std::size_t i = 0; i < Encoding::count(codes::value_bits); ++i, power *= Encoding::radix)
      product += power * (d[i] * a);
    return c + product;
  }

  static constexpr bool check_weight(weight w) noexcept { return codes::contains(w); }

  /// Quantises columns x depth weights, symmetric: codes of the same shape, and a scale per column, or one for all of
  /// them where there is room for one. Refuses NaN and infinities.
  static constexpr status encode(matrix_view<const float> weights, matrix_view<std::int8_t> to,
                                 std::span<float> scales) noexcept {
    if (to.rows != weights.rows || to.columns != weights.columns)
      return status::make(errc::shape, "bit_weights: expected codes of ", weights.rows, " x ", weights.columns,
                          ", got ", to.rows, " x ", to.columns);
    if (scales.size() != weights.rows && scales.size() != 1)
      return status::make(errc::shape, "bit_weights: expected 1 or ", weights.rows, " scales, got ", scales.size());
    if (const status s = detail::check_finite<Bits>(weights); !s.ok()) return s;
    const std::size_t together = scales.size() == weights.rows ? 1 : weights.rows;
    for (std::size_t c = 0; c < weights.rows; c += together) {
      const detail::weight_quantizer<Bits> quantize(
          together * weights.columns,
          [&](std::size_t i) { return weights(c + i / weights.columns, i % weights.columns); }, code_range::symmetric);
      if (const status s = detail::check_not_zero<Bits>(quantize.all_zero(), c, 0); !s.ok()) return s;
      scales[together == 1 ? c : 0] = quantize.scale();
      for (std::size_t i = c; i < c + together; ++i)
        for (std::size_t k = 0; k < weights.columns; ++k) to(i, k) = quantize(weights(i, k));
    }
    return {};
  }
  static constexpr float decode(weight code, float scale) noexcept { return static_cast<float>(code) * scale; }
};

static_assert(Mac<bit_weights<4>> && Mac<bit_weights<ternary_bits, digits::en_t>> &&
              Mac<bit_weights<2, digits::naf, 64>>);

}  // namespace mac
POLYMAC_END
