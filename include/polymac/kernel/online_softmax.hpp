// SPDX-License-Identifier: MIT
// The stage between the two products of attention: scores of a block of keys become weights, and what earlier blocks
// have added up is brought to the same maximum.
//
//     block of keys b, one row of scores s[0 .. n):                              (Milakov and Gimelshein 2018,
//       m' = max(m, max over j of s[j])                                           arXiv 1805.02867, algorithm 3;
//       f  = exp(m - m')                 what sum and output are multiplied by    Dao et al. 2022, arXiv 2205.14135)
//       w[j] = exp(s[j] - m')            the left operand of the second product
//       sum  = f sum + sum over j of w[j]
//
// All exponentials are powers of two: s is in units of log2(e), which the scale of the scores takes in, so that scaling
// and subtracting are one multiply-add. 2^x = 2^round(x) * P(x - round(x)), or with floor(x) where instructions do so;
// below 2^-126.5 it is 0, so a score of -infinity has no weight whatever stands beside it. NaN stays NaN, through the
// products into the output.
//
// Two parts of the keys are joined by the same identity (`softmax_sums::join`): m = max(m_a, m_b),
// sum = sum_a 2^(m_a - m) + sum_b 2^(m_b - m), the outputs likewise.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/float_lanes.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

inline constexpr float log2_e = 1.44269504088896340736f;

/// How exact the powers of two of weights are: those that are rounded to 8 bits or fewer need no more.
enum class exponential {
  single,  ///< relative error below 3e-7 (float weights)
  coarse,  ///< below 1.2e-4 (weights of 8 bits, bf16 among them)
};

namespace detail {

/// Minimax polynomials of 2^r with P(0) = 1: `at` on [-1/2, 1/2], `above` on [0, 1].
template <exponential Of>
struct power_polynomial;
template <>
struct power_polynomial<exponential::single> {
  static constexpr float at[] = {1.326472731e-3f, 9.671512991e-3f, 5.550733581e-2f,
                                 2.402224243e-1f, 6.931470037e-1f, 1.0f};
  static constexpr float above[] = {1.867130050e-3f, 9.017030708e-3f, 5.579991266e-2f,
                                    2.401644439e-1f, 6.931512952e-1f, 1.0f};
};
template <>
struct power_polynomial<exponential::coarse> {
  static constexpr float at[] = {5.500893295e-2f, 2.422109693e-1f, 6.932829022e-1f, 1.0f};
  static constexpr float above[] = {7.706703991e-2f, 2.276449949e-1f, 6.951167583e-1f, 1.0f};
};
template <class Lanes, std::size_t Count>
POLYMAC_INLINE typename Lanes::type polynomial(typename Lanes::type r, const float (&at)[Count]) noexcept {
  typename Lanes::type p = Lanes::broadcast(at[0]);
  POLYMAC_UNROLL
  for (std::size_t i = 1; i < Count; ++i) p = Lanes::multiply_add(p, r, Lanes::broadcast(at[i]));
  return p;
}

}  // namespace detail

/// 2^x of a register; x at most 127.
template <exponential Of, class Lanes>
POLYMAC_INLINE typename Lanes::type power_of_two(typename Lanes::type x) noexcept {
  using type = typename Lanes::type;
  using polynomial = detail::power_polynomial<Of>;
  if constexpr (requires { Lanes::fraction(x); }) {
    return Lanes::scale(detail::polynomial<Lanes>(Lanes::fraction(x), polynomial::above), x);
  } else {
    constexpr float raise = 12582912.0f + 127.0f;  // 1.5 * 2^23: the sum's last bit counts ones
    x = Lanes::larger(Lanes::broadcast(-127.0f), x);
    const type raised = Lanes::add(x, Lanes::broadcast(raise));
    const type r = Lanes::subtract(x, Lanes::subtract(raised, Lanes::broadcast(raise)));
    return Lanes::multiply(detail::polynomial<Lanes>(r, polynomial::at), Lanes::power_of_two(raised));
  }
}

/// What a row has seen: the largest score in units of log2(e), and the sum of the weights relative to it.
struct softmax_sums {
  float maximum = -std::numeric_limits<float>::infinity();
  float sum = 0.0f;

  /// What weights are relative to: the maximum, 0 while there is none.
  constexpr float reference() const noexcept {
    return maximum == -std::numeric_limits<float>::infinity() ? 0.0f : maximum;
  }
  /// Takes `largest` into the maximum; returns the factor for what has been added up so far.
  POLYMAC_INLINE float raise_to(float largest) noexcept {
    if (!(largest > maximum)) return 1.0f;
    const float before = maximum;
    maximum = largest;
    if (before == -std::numeric_limits<float>::infinity()) return 1.0f;  // of zeros
    using one = isa::float_lanes<isa::scalar>;
    const float factor = power_of_two<exponential::single, one>(before - largest);
    sum *= factor;
    return factor;
  }

  /// Takes in the sums of another part of the scores; returns the factors for the normalised results of both.
  struct shares {
    float mine, others;
  };
  shares join(const softmax_sums& other) noexcept {
    using one = isa::float_lanes<isa::scalar>;
    softmax_sums all;
    all.maximum = other.maximum > maximum ? other.maximum : maximum;
    const float reference = all.reference();
    // A part that has seen nothing is 2^-127 of anything, which is 0.
    const float a = power_of_two<exponential::single, one>(maximum - reference) * sum;
    const float b = power_of_two<exponential::single, one>(other.maximum - reference) * other.sum;
    all.sum = a + b;
    *this = all;
    if (all.sum == 0.0f) return {0.0f, 0.0f};
    return {a / all.sum, b / all.sum};
  }
};

/// What weights are multiplied with on their way into the operand of the next product.
enum class weight_scale { none, one, each };

/// Rows of scores.
template <Isa I>
struct score_row {
  using lanes = isa::best_float_lanes<I>;
  using type = typename lanes::type;
  /// Scores come in so many: what stands behind the last one up to a multiple is overwritten with -infinity.
  static constexpr std::size_t step = lanes::width < 16 ? 16 : lanes::width;

  static POLYMAC_INLINE type load(const float* from) noexcept { return lanes::load(from); }
  static POLYMAC_INLINE type load(const std::int32_t* from) noexcept { return lanes::from_int(from); }

  /// The largest of count scores, a multiple of `step`; NaN may be left out.
  template <class Score>
  static POLYMAC_INLINE float largest(const Score* scores, std::size_t count) noexcept {
    type most[4];
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < 4; ++i) most[i] = lanes::broadcast(-std::numeric_limits<float>::infinity());
    std::size_t j = 0;
    for (; j + 4 * lanes::width <= count; j += 4 * lanes::width) {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < 4; ++i) most[i] = lanes::larger(load(scores + j + i * lanes::width), most[i]);
    }
    for (; j < count; j += lanes::width) most[0] = lanes::larger(load(scores + j), most[0]);
    return lanes::largest(lanes::larger(lanes::larger(most[0], most[1]), lanes::larger(most[2], most[3])));
  }

  /// largest * factor, rounded so that no score minus it, as weigh() subtracts, is above 0: scores of thousands would
  /// give weights above 1 else, and codes beyond the largest.
  static POLYMAC_INLINE float maximum_of(float largest, float factor) noexcept {
    const float product = largest * factor;
    if (!(isa::fused_multiply_add(largest, factor, -product) > 0.0f)) return product;
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(product);
    return std::bit_cast<float>(product > 0.0f ? bits + 1 : product < 0.0f ? bits - 1 : 1u);
  }

  /// reals[j] = scores[j], or scores[j] * scales[j], of which the largest is returned. reals may be scores.
  template <class Score>
  static POLYMAC_INLINE void convert(const Score* scores, float* reals, std::size_t count) noexcept {
    for (std::size_t j = 0; j < count; j += lanes::width) lanes::store(reals + j, load(scores + j));
  }
  template <class Score>
  static POLYMAC_INLINE float scale(const Score* scores, float* reals, std::size_t count,
                                    const float* scales) noexcept {
    type most[2] = {lanes::broadcast(-std::numeric_limits<float>::infinity()),
                    lanes::broadcast(-std::numeric_limits<float>::infinity())};
    const auto take = [&](std::size_t j, type& largest) POLYMAC_INLINE_LAMBDA {
      const type s = lanes::multiply(load(scores + j), lanes::load(scales + j));
      lanes::store(reals + j, s);
      largest = lanes::larger(s, largest);
    };
    std::size_t j = 0;
    for (; j + 2 * lanes::width <= count; j += 2 * lanes::width) {
      take(j, most[0]);
      take(j + lanes::width, most[1]);
    }
    for (; j < count; j += lanes::width) take(j, most[0]);
    return lanes::largest(lanes::larger(most[0], most[1]));
  }

  /// scores[j] = cap * tanh(scores[j] / cap).
  static POLYMAC_INLINE void cap(float* scores, std::size_t count, float cap) noexcept {
    const type inverse = lanes::broadcast(1.0f / cap), c = lanes::broadcast(cap);
    for (std::size_t j = 0; j < count; j += lanes::width)
      lanes::store(scores + j, lanes::multiply(c, lanes::tanh(lanes::multiply(load(scores + j), inverse))));
  }

  /// weights[j] = 2^(scores[j] * factor - reference), as an operand of the next product times `scale`, or times `scale`
  /// and scales[j]; returns the sum of the weights as they are. count: a multiple of `step`. weights may be scores.
  template <exponential Of, weight_scale Scale = weight_scale::none, class Score, class Weight>
  static POLYMAC_INLINE float weigh(const Score* scores, std::size_t count, float factor, float reference,
                                    Weight* weights, [[maybe_unused]] float scale = 1.0f,
                                    [[maybe_unused]] const float* scales = nullptr) noexcept {
    const type f = lanes::broadcast(factor), m = lanes::broadcast(-reference);
    [[maybe_unused]] const type all = lanes::broadcast(scale);
    type sums[2] = {lanes::broadcast(0.0f), lanes::broadcast(0.0f)};
    const auto weight = [&](std::size_t j) POLYMAC_INLINE_LAMBDA {
      return power_of_two<Of, lanes>(lanes::multiply_add(load(scores + j), f, m));
    };
    const auto put = [&](std::size_t j, type w) POLYMAC_INLINE_LAMBDA {
      if constexpr (Scale == weight_scale::each) w = lanes::multiply(w, lanes::load(scales + j));
      if constexpr (Scale != weight_scale::none) w = lanes::multiply(w, all);
      lanes::store(weights + j, w);
    };
    std::size_t j = 0;
    for (; j + 2 * lanes::width <= count; j += 2 * lanes::width) {
      const type a = weight(j), b = weight(j + lanes::width);
      sums[0] = lanes::add(sums[0], a);
      sums[1] = lanes::add(sums[1], b);
      put(j, a);
      put(j + lanes::width, b);
    }
    for (; j < count; j += lanes::width) {
      const type a = weight(j);
      sums[0] = lanes::add(sums[0], a);
      put(j, a);
    }
    return lanes::sum(lanes::add(sums[0], sums[1]));
  }
};

}  // namespace kernel
POLYMAC_END
