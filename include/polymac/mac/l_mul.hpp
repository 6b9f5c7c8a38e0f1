// SPDX-License-Identifier: MIT
// L-Mul: products by adding the bits of floats.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/concepts.hpp"
#include "polymac/core/float16.hpp"
#include "polymac/core/minifloat.hpp"
#include "polymac/core/text.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {
struct arithmetic_atoms;
}

namespace mac {

/// l(m) of the paper: the constant 2^-l that stands for the product of two mantissas of m bits.
constexpr int l_mul_offset(int mantissa_bits) noexcept {
  return mantissa_bits <= 3 ? mantissa_bits : mantissa_bits == 4 ? 3 : 4;
}

/// The product of two prepared words (l_mul::activation_word, l_mul::weight_word), both not 0, where the exponents are
/// safe (l_mul::exponents_are_safe): one addition of 32 bits, modulo 2^32, the signs included.
constexpr POLYMAC_INLINE std::uint32_t l_mul_word(std::uint32_t activation, std::uint32_t weight) noexcept {
  return activation + weight;
}

/// Exponents (unbiased) of the operands that are not 0, as far as they have been seen.
struct exponent_range {
  int least = 128;
  int most = -127;
  /// Subnormals count as 0. Infinities and NaN have the exponent 128, which is never safe.
  constexpr POLYMAC_INLINE void add(float value) noexcept {
    const int exponent = static_cast<int>(std::bit_cast<std::uint32_t>(value) >> 23 & 255u) - 127;
    if (exponent == -127) return;
    if (exponent < least) least = exponent;
    if (exponent > most) most = exponent;
  }
};

/// How far an approximate product may be from the exact one: exact * (1 + low) <= approximate <= exact * (1 + high), of
/// magnitudes.
struct relative_errors {
  double low = 0.0;
  double high = 0.0;
};

namespace detail {

template <class Word>
inline constexpr const char* l_mul_word_name = element_name<Word>;
template <>
inline constexpr const char* l_mul_word_name<float> = "float32";
template <>
inline constexpr const char* l_mul_word_name<bfloat16> = "bf16";
template <>
inline constexpr const char* l_mul_word_name<float16> = "fp16";

/// What both forms share: words, special cases, bounds.
template <int MantissaBits, int Offset, class Word, overflow Mode>
struct l_mul_words {
  static_assert(MantissaBits >= 1 && MantissaBits <= 23, "polymac: l_mul keeps 1 to 23 bits of mantissa");
  static_assert(Offset >= 0 && Offset <= MantissaBits,
                "polymac: the offset of l_mul is 1 to MantissaBits, or 0 for none (Mitchell's product)");
  static_assert(std::is_same_v<Word, float> || std::is_same_v<Word, bfloat16> || std::is_same_v<Word, float16> ||
                    is_minifloat<Word>,
                "polymac: the words of l_mul are float, bfloat16, float16 or a minifloat");
  static constexpr std::uint32_t sign_bit = 0x80000000u, infinity = 0x7F800000u, least_normal = 0x00800000u,
                                 quiet_nan = 0x7FC00000u;
  /// The bits of an operand that are kept.
  static constexpr std::uint32_t mask = ~((1u << (23 - MantissaBits)) - 1u);
  /// 2^-l, and as bits of the mantissa.
  static constexpr std::uint32_t delta_bits = Offset == 0 ? 0u : 1u << (23 - Offset);
  static constexpr double delta = static_cast<double>(delta_bits) * 0x1p-23;
  /// What overflows becomes.
  static constexpr std::uint32_t beyond = Mode == overflow::ieee           ? infinity
                                          : std::is_same_v<Word, bfloat16> ? 0x7F7F0000u
                                                                           : 0x7F7FFFFFu;
  /// Mantissa bits that words have.
  static constexpr int word_bits = [] {
    if constexpr (std::is_same_v<Word, float>)
      return 23;
    else if constexpr (std::is_same_v<Word, bfloat16>)
      return 7;
    else if constexpr (std::is_same_v<Word, float16>)
      return 10;
    else
      return Word::mantissa_bits;
  }();

  static constexpr POLYMAC_INLINE std::uint32_t bits_of(Word v) noexcept {
    return std::bit_cast<std::uint32_t>(static_cast<float>(v));
  }
  /// Handles two magnitudes of which one is 0, subnormal, infinite or NaN: the magnitude of their product, or its NaN.
  static constexpr POLYMAC_INLINE bool is_special(std::uint32_t a, std::uint32_t w, std::uint32_t& product) noexcept {
    if (a >= infinity || w >= infinity) {
      product = a > infinity || w > infinity || a == 0 || w == 0 ? quiet_nan : infinity;
      return true;
    }
    product = 0;
    return a < least_normal || w < least_normal;
  }
  /// Truncation takes at most 2^-m of each operand, where words are longer.
  static constexpr relative_errors of_truncated(relative_errors grid) noexcept {
    const double kept = MantissaBits >= word_bits ? 1.0 : 1.0 - 1.0 / static_cast<double>(1 << MantissaBits);
    return {(1.0 + grid.low) * kept * kept - 1.0, grid.high};
  }
  static constexpr double bound(relative_errors e, std::size_t depth, double sum_of_magnitudes) noexcept {
    const double n = static_cast<double>(depth) + 1.0, nu = n * 0x1p-24;
    const double product = e.high > -e.low ? e.high : -e.low;
    return (product + nu / (1.0 - nu) * (1.0 + e.high)) * sum_of_magnitudes + n / (1.0 + e.low) * 0x1p-126;
  }
};

/// What both forms are. Form has magnitude(a, w), that of the product of two magnitudes that are not special, 0 where it
/// underflows, and errors.
template <class Form, int MantissaBits, int Offset, class Word, overflow Mode>
struct l_mul_form {
 private:
  using words = l_mul_words<MantissaBits, Offset, Word, Mode>;

 public:
  using activation = Word;
  using weight = Word;
  using accumulator = float;
  using atoms = isa::arithmetic_atoms;
  static constexpr bool linear = false;
  static constexpr bool weight_linear = false;
  static constexpr bool exact = false;
  static constexpr int mantissa_bits = MantissaBits, offset = Offset;

  /// The product of two words, bits of floats, whatever they are.
  static constexpr POLYMAC_INLINE std::uint32_t product_word(std::uint32_t a, std::uint32_t w) noexcept {
    const std::uint32_t sign = (a ^ w) & words::sign_bit;
    a &= ~words::sign_bit;
    w &= ~words::sign_bit;
    std::uint32_t special = 0;
    if (words::is_special(a, w, special)) return special > words::infinity ? special : sign | special;
    return sign | Form::magnitude(a, w);
  }
  static constexpr POLYMAC_INLINE float product(Word a, Word w) noexcept {
    return std::bit_cast<float>(product_word(words::bits_of(a), words::bits_of(w)));
  }
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return c + product(a, w);
  }

  /// Bound of |computed - exact| for a sum of `depth` products, of operands that are not subnormal, with the given sum of
  /// magnitudes |a w|, bias included, where no product overflows: the products' relative error, the sums' rounding, and
  /// what underflows.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    return words::bound(Form::errors, depth, sum_of_magnitudes);
  }

  /// Mean of product / exact product - 1 for operands whose mantissas are spread evenly from 1 to 2 and longer than m
  /// bits: what a long sum is too large by, and a net's output once for each layer. l_mul: m = 3: -3.85 %, m = 4:
  /// +0.41 %. Exact: the mean of 1 / x between neighbours of m bits is a logarithm. O(4^m), hence for up to 8 bits.
  static constexpr double mean_error() noexcept {
    static_assert(MantissaBits <= 8 && MantissaBits < words::word_bits,
                  "polymac: mean_error() goes through all pairs of at most 8 bits, of words that are longer");
    constexpr std::uint32_t count = 1u << MantissaBits, step = 1u << (23 - MantissaBits), one = 0x3F800000u;
    double sum = 0.0, weight[count]{};
    for (std::uint32_t i = 0; i < count; ++i) {
      // log((count + i + 1) / (count + i)) = 2 artanh z, z at most 1/5
      const double z = 1.0 / (2.0 * (count + i) + 1.0);
      double power = z;
      for (int n = 1; n < 25; n += 2, power *= z * z) weight[i] += 2.0 * power / n;
    }
    for (std::uint32_t i = 0; i < count; ++i)
      for (std::uint32_t j = 0; j < count; ++j)
        sum += weight[i] * weight[j] * double{std::bit_cast<float>(Form::magnitude(one + i * step, one + j * step))};
    return sum - 1.0;
  }
};

}  // namespace detail

/// L-Mul by integer addition (Luo and Sun 2024, arXiv 2410.00907): x y with x = (1 + f) 2^i, y = (1 + g) 2^j is
///
///     t = f + g + 2^-l        (1 + t) 2^(i+j)             where t < 1
///                             (1 + frac t) 2^(i+j+floor t)  where the sum of mantissas carries into the exponent
///
/// f and g cut to m = MantissaBits bits (truncated, not rounded), l = Offset, by default the paper's l(m). That is one
/// addition of the operands' words, less a constant: Mitchell's logarithmic product (1962) and a constant for the f g that
/// it leaves out. Products are float words of m bits of mantissa; they are summed in float32 in the order of k. The paper
/// is silent about what is not a normal number; here
///
///     0 or subnormal x anything finite    0 with the sign of the product
///     product below 2^-126                the same
///     product of 2^128 or more            Mode: the largest float (of bfloat16 words: the largest bfloat16), or infinity
///     infinity x anything but 0, NaN      infinity, also with overflow::saturate
///     infinity x 0, NaN x anything        NaN
///
/// Words: float, bfloat16, float16 and the small floats (e4m3fn, e5m2 ...), which become float words exactly. Their
/// subnormals are normal there, and their products neither underflow nor overflow. bfloat16: products are bfloat16, too.
///
/// Commutative, not linear: 1 x 1 is 1 + 2^-l. Weights shall be finite.
///
/// Error of a product against the exact one of the m-bit operands, of numbers that are not special: between
/// 2 / (1.5 - 2^-l / 2)^2 - 1, where t comes near 1 at f = g, and +2^-l, where f or g is 0. l = 4: -7.29 % to +6.25 %,
/// l = 3: -3.21 % to +12.5 %; l = 2: +5.8 % to +25 %; without offset: -11.1 % to 0. Cutting operands takes up to 2^-m of
/// each.
template <int MantissaBits = 4, int Offset = l_mul_offset(MantissaBits), class Word = float,
          overflow Mode = overflow::saturate>
struct l_mul : detail::l_mul_form<l_mul<MantissaBits, Offset, Word, Mode>, MantissaBits, Offset, Word, Mode> {
 private:
  using words = detail::l_mul_words<MantissaBits, Offset, Word, Mode>;
  static constexpr auto text_ = text<47>::join("l_mul<", MantissaBits, ", ", Offset, ", ",
                                               detail::l_mul_word_name<Word>, Mode == overflow::ieee ? ", ieee>" : ">");

 public:
  static constexpr const char* name = text_.c_str();

  /// Bits of an operand that are kept: sign, exponent, m bits of mantissa.
  static constexpr std::uint32_t mask = words::mask;
  /// The magnitude of what overflows.
  static constexpr std::uint32_t beyond = words::beyond;
  /// What is taken off the sum of two words: 1.0 less 2^-l. l = 4: 0x3F780000.
  static constexpr std::uint32_t offset_word = 0x3F800000u - words::delta_bits;

  /// An activation as l_mul_word() adds it.
  static constexpr POLYMAC_INLINE std::uint32_t activation_word(Word a) noexcept { return words::bits_of(a) & mask; }
  /// A weight as l_mul_word() adds it: the constant is taken off already.
  static constexpr POLYMAC_INLINE std::uint32_t weight_word(Word w) noexcept {
    return (words::bits_of(w) & mask) - offset_word;
  }
  /// Do operands with such exponents, and not 0, have products that need no checks: neither underflow nor overflow? The
  /// mantissas may carry twice where 2^-l is more than a unit of m bits.
  static constexpr bool exponents_are_safe(exponent_range a, exponent_range w) noexcept {
    constexpr int carry = Offset > 0 && Offset < MantissaBits ? 2 : 1;
    return a.most < 128 && w.most < 128 && a.least + w.least >= -126 && a.most + w.most + carry <= 127;
  }

  /// Of a product that is not special.
  static constexpr POLYMAC_INLINE std::uint32_t magnitude(std::uint32_t a, std::uint32_t w) noexcept {
    const std::int64_t sum = std::int64_t{a & mask} + std::int64_t{w & mask} - std::int64_t{offset_word};
    if (sum < std::int64_t{words::least_normal}) return 0;
    return sum >= std::int64_t{words::infinity} ? words::beyond : static_cast<std::uint32_t>(sum);
  }

  /// Against the exact product of operands of m bits, and of any operands.
  static constexpr relative_errors errors_of_grid = {2.0 / ((1.5 - words::delta / 2) * (1.5 - words::delta / 2)) - 1.0,
                                                     words::delta};
  static constexpr relative_errors errors = words::of_truncated(errors_of_grid);
};

/// The paper's formula to the letter: x y = (1 + f + g + 2^-l) 2^(i+j), without the carry: 1 + t stays as it is where t
/// >= 1, which makes products of large mantissas too small by up to a quarter. With m = 4 its rms error on any operands is
/// 9.8 % where l_mul has 3.6 %; the accuracy that the paper reports is that of l_mul. Special cases, words and rounding
/// as there; with 23 bits of mantissa the product is rounded to a float.
///
/// It is a sum of two ordinary products, with P(x) = the power of two of x: x P(y) + P(x) (y - (1 - 2^-l) P(y)), each
/// exact in float32.
template <int MantissaBits = 4, int Offset = l_mul_offset(MantissaBits), class Word = float,
          overflow Mode = overflow::saturate>
struct l_mul_literal
    : detail::l_mul_form<l_mul_literal<MantissaBits, Offset, Word, Mode>, MantissaBits, Offset, Word, Mode> {
 private:
  using words = detail::l_mul_words<MantissaBits, Offset, Word, Mode>;
  static constexpr auto text_ = text<47>::join("l_mul_literal<", MantissaBits, ", ", Offset, ", ",
                                               detail::l_mul_word_name<Word>, Mode == overflow::ieee ? ", ieee>" : ">");
  /// f of 1 + f, exponent aside.
  static constexpr double fraction(std::uint32_t magnitude) noexcept {
    return static_cast<double>(magnitude & words::mask & 0x7FFFFFu) * 0x1p-23;
  }

 public:
  static constexpr const char* name = text_.c_str();

  /// Of a product that is not special.
  static constexpr std::uint32_t magnitude(std::uint32_t a, std::uint32_t w) noexcept {
    const int exponent = static_cast<int>(a >> 23) + static_cast<int>(w >> 23) - 254;
    const double value = (1.0 + fraction(a) + fraction(w) + words::delta) * float_code::double_power_of_two(exponent);
    if (value < 0x1p-126) return 0;
    if (value >= 0x1.ffffffp127) return words::beyond;  // halfway between the largest float and 2^128
    return std::bit_cast<std::uint32_t>(static_cast<float>(value));
  }

  static constexpr relative_errors errors_of_grid = {(3.0 + words::delta) / 4.0 - 1.0, words::delta};
  static constexpr relative_errors errors = words::of_truncated(errors_of_grid);
};

/// l_mul on words of another type: `l_mul_on<bfloat16>`, `l_mul_on<e4m3fn>`, with all bits of mantissa that those have.
template <class Word, overflow Mode = overflow::saturate,
          int MantissaBits = detail::l_mul_words<1, 1, Word, Mode>::word_bits>
using l_mul_on = l_mul<MantissaBits, l_mul_offset(MantissaBits), Word, Mode>;

}  // namespace mac
POLYMAC_END
