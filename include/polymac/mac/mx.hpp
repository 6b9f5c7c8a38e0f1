// SPDX-License-Identifier: MIT
// Dot products of OCP's Microscaling formats: MXFP8, MXFP6, MXFP4, MXINT8.
#pragma once

#include "polymac/core/concepts.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/mx_block.hpp"
#include "polymac/core/text.hpp"
#include "polymac/mac/largest_magnitude.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace isa {
struct arithmetic_atoms;
}

namespace mac {

/// Blocks of 32 k with a scale each (OCP Microscaling Formats 1.0). An element of a row is a block, so depths count blocks,
/// channels of a convolution are blocks, and depthwise_conv2d multiplies block by block. One product:
///
///     c + 2^(e_a + e_w) * sum over 32 k of a[k] * w[k]
///
///   - e2m1, e2m3, e3m2, int8: elements are integers times a power of two (2, 8, 16, 64 to one); the sum is exact in 32
///     bits, and, below 2^24, in float32.
///   - e4m3fn, e5m2: products are exact; the sum starts from 0 in float32 and takes the k in pairs, the second one of a
///     pair first, as mac::bf16 does.
///   - The sum is multiplied by the power of two and rounded to float32: exact but where the result is below 2^-126
///     (or exceeds float32: infinity). Then it is added to c and rounded.
///
/// Where scales_are_safe() the power of two is a normal float, the product with it is exact, and a fused
/// multiply-add gives these bits, too. A block with scale 255 is NaN, and its product. NaN and infinities of e4m3fn and e5m2
/// go through as in mac::fp8. Weights shall be finite.
///
/// Scale: how encode() chooses the scale; products do not depend on it. RCEIL by default: the standard's floor cuts off
/// the largest number of a block.
///
/// Error of n blocks, u = 2^-24, g(n) = n u / (1 - n u): (1 + g(32)) (1 + g(n + 1)) - 1 times the sum of |a w|, without
/// the g(32) for exact sums, and 2^-126 for every block that may end subnormal.
template <class Element, mx_scale Scale = mx_scale::round_ceil>
struct mx {
  using traits = mx_element<Element>;
  using activation = mx_block<Element>;
  using weight = mx_block<Element>;
  using accumulator = float;
  using atoms = isa::arithmetic_atoms;

 private:
  static constexpr auto text_ = text<31>::join("mx_", traits::name);

 public:
  static constexpr const char* name = text_.c_str();
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  static constexpr bool exact = false;
  static constexpr mx_scale scale = Scale;
  /// Numbers of an element of a row.
  static constexpr std::size_t block_size = activation::size;
  /// Are sums of a block exact in integers?
  static constexpr bool sums_integers = traits::is_integer;
  /// Added to the exponents of both scales: what the unit of the integer sums is.
  static constexpr int unit_exponent = sums_integers ? 2 * traits::unit : 0;

  /// The sum of the products of a block, scales aside, in units of 2^unit_exponent.
  static constexpr float block_sum(const activation& a, const weight& w) noexcept {
    if constexpr (sums_integers) {
      std::int32_t sum = 0;
      for (std::size_t k = 0; k < block_size; ++k) sum += traits::integer(a[k]) * traits::integer(w[k]);
      return static_cast<float>(sum);
    } else {
      float sum = 0.0f;
      for (std::size_t k = 0; k < block_size; k += 2) {
        sum = sum + traits::value(a[k + 1]) * traits::value(w[k + 1]);
        sum = sum + traits::value(a[k]) * traits::value(w[k]);
      }
      return sum;
    }
  }
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    if (a.is_nan() || w.is_nan()) return std::numeric_limits<float>::quiet_NaN();
    const double scaled = static_cast<double>(block_sum(a, w)) *
                          float_code::double_power_of_two(a.exponent() + w.exponent() + unit_exponent);
    return c + float_code::to_float(scaled);
  }
  /// With sums of exponents of two scales in [least, most]: is 2^(sum + unit_exponent) a normal float, and are all
  /// products of it with sums of a block normal floats (or 0) and exact?
  static constexpr bool scales_are_safe(int least, int most) noexcept {
    // Sums of integers are 0 or from 1 to below 2^24; those of fp8 are multiples of the least product, below 32 x the largest.
    constexpr int below = sums_integers ? 0 : 2 * traits::unit;
    constexpr int above = sums_integers ? 24 : 2 * (traits::max_exponent + 1) + 5;
    return least + unit_exponent + below >= -126 && most + unit_exponent + above <= 127;
  }

  /// 32 values as a block; NaN where one is infinite or NaN.
  static constexpr activation encode(std::span<const float, 32> values) noexcept {
    return activation::encode(values.data(), Scale);
  }
  /// A row, a tensor: block i gets the values from 32 i on. Refuses infinities and NaN, and what is no whole number of
  /// blocks; then nothing is written. O(n).
  static constexpr status encode(std::span<const float> values, std::span<activation> blocks) noexcept {
    if (values.size() % block_size != 0 || values.size() / block_size != blocks.size())
      return status::make(errc::shape, name, ": expected 32 values for each block, got ", values.size(), " values and ",
                          blocks.size(), " blocks");
    float largest = 0.0f;
    if (status s = largest_magnitude(name, values, largest); !s.ok()) return s;
    for (std::size_t i = 0; i < blocks.size(); ++i)
      blocks[i] = activation::encode(values.data() + i * block_size, Scale);
    return {};
  }
  /// The values of a block.
  static constexpr void decode(const activation& block, std::span<float, 32> values) noexcept {
    for (std::size_t k = 0; k < block_size; ++k) values[k] = block.value(k);
  }

  /// Bound of |computed - exact| for a sum of `depth` blocks with the given sum of magnitudes of all their products, bias
  /// included, where nothing exceeds float32.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    const double n = static_cast<double>(depth) + 1.0, nu = n * 0x1p-24, of_block = sums_integers ? 0.0 : 32 * 0x1p-24;
    const double growth = 1.0 / (1.0 - nu) / (1.0 - of_block);
    return (growth - 1.0) * sum_of_magnitudes + growth * n * 0x1p-126;
  }
};

}  // namespace mac
POLYMAC_END
