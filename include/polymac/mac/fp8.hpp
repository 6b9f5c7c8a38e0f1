// SPDX-License-Identifier: MIT
// Products of 8-bit floats, sums in IEEE single precision; scales per tensor or channel.
#pragma once

#include "polymac/core/concepts.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/minifloat.hpp"
#include "polymac/core/text.hpp"
#include "polymac/core/view.hpp"
#include "polymac/mac/largest_magnitude.hpp"

#include <cstddef>
#include <span>

POLYMAC_BEGIN
namespace isa {
struct arithmetic_atoms;
}

namespace mac {

/// fp8 x fp8 -> f32. Activation and Weight are e4m3fn or e5m2 of OCP's OFP8 1.0, or e4m3fnuz or e5m2fnuz; both the same
/// by default. A code becomes bfloat16 exactly, and a product of two has at most 8 bits, from 2^-34 to 2^31: exact. Sums
/// are rounded to float32, in the pair order of mac::bf16 (second k of a pair first), so that converting the codes and
/// multiplying as bf16 gives the same bits:
///
///     c = c + a[1] * w[1];  c = c + a[0] * w[0];  c = c + a[3] * w[3];  ...
///
/// Codes that are no numbers go through as in IEEE's arithmetic: NaN (e4m3fn: 0x7F, 0xFF; e5m2: 0x7D to 0x7F and
/// 0xFD to 0xFF; fnuz: 0x80) makes the sum NaN, an infinity (e5m2: 0x7C, 0xFC) makes it infinite, and infinity times 0
/// is NaN. Weights shall be finite: padding multiplies by 0. encode() makes neither.
///
/// A tensor or channel has one scale: value = scale * code, and the sum of products is multiplied by the scales of both
/// operands by a stage of the epilogue.
///
/// Error of a sum of n products of codes against the exact one: at most n u / (1 - n u) times the sum of |a w|, u =
/// 2^-24. Encoding: relative 2^-4 (e4m3) or 2^-3 (e5m2) of a value that is not subnormal, half a unit of the least
/// subnormal, 2^-10 or 2^-17 times the scale, else.
template <class Activation, class Weight = Activation>
struct fp8 {
  static_assert(is_minifloat<Activation> && is_minifloat<Weight> && Activation::width == 8 && Weight::width == 8,
                "polymac: fp8 multiplies floats of 8 bits: e4m3fn, e5m2, e4m3fnuz or e5m2fnuz");
  using activation = Activation;
  using weight = Weight;
  using accumulator = float;
  using atoms = isa::arithmetic_atoms;

 private:
  static constexpr auto text_ = std::is_same_v<Activation, Weight>
                                    ? text<31>::join("fp8_", element_name<Activation>)
                                    : text<31>::join("fp8_", element_name<Activation>, "_", element_name<Weight>);

 public:
  static constexpr const char* name = text_.c_str();
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  static constexpr bool exact = false;
  /// k of a group; the last one of a group is added first.
  static constexpr std::size_t group = 2;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return c + static_cast<float>(a) * static_cast<float>(w);
  }
  /// Bound of |computed - exact| for a sum of `depth` products with the given sum of magnitudes, bias included. 2^-126: a
  /// bias that is subnormal may count as 0, as in mac::bf16.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    const double nu = (static_cast<double>(depth) + 1.0) * 0x1p-24;
    return nu / (1.0 - nu) * sum_of_magnitudes + 0x1p-126;
  }
};

/// The scale with which the largest magnitude of some values becomes the largest number of Element: largest / max. 1
/// where all values are 0, and never below 2^-126. `largest` shall be finite.
template <class Element>
requires is_minifloat<Element>
constexpr float scale_for(float largest) noexcept {
  if (largest == 0.0f) return 1.0f;
  const float scale = largest / Element::max();
  return scale < 0x1p-126f ? 0x1p-126f : scale;
}

/// The code of a value with a scale: value / scale, rounded to nearest even, saturating.
template <class Element>
requires is_minifloat<Element>
constexpr Element encode(float value, float scale) noexcept {
  return Element::encode(static_cast<double>(value) / static_cast<double>(scale));
}
/// The value of a code with a scale.
template <class Element>
requires is_minifloat<Element>
constexpr float decode(Element code, float scale) noexcept { return static_cast<float>(code) * scale; }

/// Chooses the scale of a tensor and encodes it. Refuses infinities and NaN, and then writes nothing. O(n).
template <class Element>
requires is_minifloat<Element>
constexpr status encode(std::span<const float> values, std::span<Element> codes, float& scale) noexcept {
  float largest = 0.0f;
  status s = check_code_count("fp8: encode", values.size(), codes.size());
  if (s.ok()) s = largest_magnitude("fp8: encode", values, largest);
  if (!s.ok()) return s;
  scale = scale_for<Element>(largest);
  for (std::size_t i = 0; i < values.size(); ++i) codes[i] = encode<Element>(values[i], scale);
  return {};
}

/// The same with one scale for each row: output channels of weights that are columns x depth.
template <class Element>
requires is_minifloat<Element>
constexpr status encode_rows(matrix_view<const float> values, matrix_view<Element> codes,
                             std::span<float> scales) noexcept {
  if (values.rows != codes.rows || values.columns != codes.columns || scales.size() != values.rows)
    return status::make(errc::shape, "fp8: encode_rows: expected codes of ", values.rows, " x ", values.columns,
                        " and a scale for each row, got ", codes.rows, " x ", codes.columns, " and ", scales.size());
  float largest = 0.0f;
  for (std::size_t r = 0; r < values.rows; ++r)
    if (status s = largest_magnitude("fp8: encode_rows", {values.row(r), values.columns}, largest); !s.ok()) return s;
  for (std::size_t r = 0; r < values.rows; ++r) {
    const std::span<const float> row(values.row(r), values.columns);
    status s = encode(row, std::span<Element>(codes.row(r), codes.columns), scales[r]);
    if (!s.ok()) return s;
  }
  return {};
}

}  // namespace mac
POLYMAC_END
