// SPDX-License-Identifier: MIT
// How an arithmetic multiplies in attention: what queries, keys, weights and values become as its operands.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/float16.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/online_softmax.hpp"
#include "polymac/mac/dfp.hpp"
#include "polymac/mac/int8.hpp"

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// What attention needs to know of arithmetic M. The general form serves every arithmetic whose operands are floats of
/// some size and whose sums are floats (float32, bf16, fp16, l_mul on any of them): operands are rounded, nothing is
/// scaled.
///
///   scores           the arithmetic of queries times keys; I: the instruction set
///   values<I>        that of weights times values
///   has_scales       are operands codes, of which a scale makes reals?
///   precision        of the weights' exponentials
///   weight_limit     the code of a weight of 1, where there are codes
template <Mac M>
struct attention_product {
  using scores = M;
  template <class I>
  using values = M;
  static constexpr bool has_scales = false;
  static_assert(std::same_as<typename mac_traits<M>::sum, float> && std::same_as<typename M::accumulator, float> &&
                    std::constructible_from<typename M::activation, float> &&
                    std::constructible_from<typename M::weight, float>,
                "polymac: attention runs on arithmetics of floats (float32, bf16, fp16, l_mul), on mac::int8 and on "
                "mac::dfp<std::int16_t>; others need an attention_product of their own");
  static constexpr kernel::exponential precision =
      std::same_as<typename M::activation, bfloat16> ? kernel::exponential::coarse : kernel::exponential::single;
};

namespace detail {

/// Codes of reals in [-Limit, Limit] with a scale from the largest of them, rounded to the nearest, ties to even. All zero: codes
/// 0, scale 0. NaN or infinity: the scale is NaN, which carries it into every result.
template <class Code, std::int32_t Limit>
struct attention_codes {
  static constexpr float limit = static_cast<float>(Limit);
  static constexpr float scale_of(float largest) noexcept {
    return largest <= std::numeric_limits<float>::max() ? largest / limit : std::numeric_limits<float>::quiet_NaN();
  }
  /// 1 / scale, or 0 where there is none.
  static constexpr float inverse_of(float scale) noexcept {
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    return inverse <= std::numeric_limits<float>::max() ? inverse : 0.0f;
  }
};

}  // namespace detail

/// Bytes (SageAttention, Zhang et al. 2024, arXiv 2410.02367): queries with a scale for each row, keys less their mean
/// over the tokens (a shift of all scores of a row, which softmax does not see) with a scale for each block of tokens,
/// weights as bytes without sign, values with a scale for each channel; in a cache, keys and values with a scale for
/// each token.
template <>
struct attention_product<mac::int8> {
  using scores = mac::int8;
  /// Weights are unsigned where the atom multiplies unsigned bytes as they are; else they keep to [0, 127].
  template <class I>
  using values = std::conditional_t<isa::best_atom<mac::uint8, I>::activation_offset == 0, mac::uint8, mac::int8>;
  template <class I>
  static constexpr float weight_limit = std::is_same_v<values<I>, mac::uint8> ? 255.0f : 127.0f;
  static constexpr bool has_scales = true;
  static constexpr bool centres_keys = true;
  static constexpr kernel::exponential precision = kernel::exponential::coarse;
  using codes = detail::attention_codes<std::int8_t, 127>;
};

/// Dynamic fixed point of 16 bits: queries with an exponent for each row, keys for each block of tokens, values for each
/// channel; a weight of 1 is the largest code.
template <int Shift, std::size_t Chain, class Promise>
struct attention_product<mac::dfp<std::int16_t, Shift, Chain, Promise>> {
  using scores = mac::dfp<std::int16_t, Shift, Chain, Promise>;
  template <class I>
  using values = scores;
  using format = typename scores::format;
  template <class I>
  static constexpr float weight_limit = static_cast<float>(format::limit);
  static constexpr bool has_scales = true;
  static constexpr bool centres_keys = false;
  static constexpr kernel::exponential precision = kernel::exponential::single;
  struct codes : detail::attention_codes<std::int16_t, format::limit> {
    static constexpr float scale_of(float largest) noexcept {
      if (!(largest <= std::numeric_limits<float>::max())) return std::numeric_limits<float>::quiet_NaN();
      return largest > 0.0f ? static_cast<float>(dynamic_fixed_point::power_of_two(format::exponent_of(largest)))
                            : 0.0f;
    }
  };
};

}  // namespace layer
POLYMAC_END
