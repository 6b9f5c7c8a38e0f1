// SPDX-License-Identifier: MIT
// An epilogue that ends in codes of 8 bits as one fused multiply-add, proved equal column by column.
//
// Requantisation and clamps never fall: the code is a step function of the sum with at most 255 steps. Step q stands at
// T(q), the least sum with a code of at least q. A rounded line
//     code = round to nearest(sum * slope + offset)
// never falls either, so the two are equal for every sum in reach if they are equal on both sides of each step:
//     T(q) * slope + offset > q - 1/2 > (T(q) - 1) * slope + offset
// These are bounds of the offset for a given slope. Nothing is assumed of the epilogue's formula: its steps are found
// by calling it.
//
// What makes the line cheap are two magic numbers. A float in [2^23, 2^24) is an integer in its low bits:
//     sums that start at 0x4B000000 + base - 2^23, read as floats, are base + sum
//     one fused multiply-add to near 1.5 * 2^23 rounds to an integer, which stands in the low 16 bits of the result
// so that no conversion is left. The addend must be an integer then; the wanted offset is put into `base`:
//     offset = base * slope + (addend - 1.5 * 2^23), so base * slope needs a certain fraction
// and the least such base is found as the first multiple of the slope in a range, modulo 1. All of it is arithmetic of
// integers: slope = m / 2^e, nothing is rounded but once, by the instruction.
//
// Float requantisation rounds twice: the product to a float, then that to even. Near scales like 17/6750 products fall
// on half codes now and then, which go up here and down there, as no line does. A line rounded twice does,
//     code = round to nearest even(float(sum * slope + offset))
// by one fused multiply-add and one addition: its slope is the scale, its offset less than moves a float. base * slope
// must almost be a float for that; such a base is found in the same way.
//
// Cost: some calls of the epilogue for each step and a search for the slope, about 10 us a column, once.
#pragma once

#include "polymac/epilogue/clamp.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/epilogue/requantize.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>

POLYMAC_BEGIN
namespace epilogue {

/// code = low 16 bits of fma(float whose bits are (start + sum), slope, addend), to be saturated to the codes. Rounded
/// twice: of that plus `second`, which is the same for all columns of an epilogue.
struct rounded_line {
  std::int32_t start = 0;  ///< what the sum starts from, beside its bias; to be added modulo 2^32
  float slope = 0.0f;
  float addend = 0.0f;
  float second = 0.0f;
};

/// The codes between which an epilogue stays.
struct code_range {
  std::int32_t least = 0;
  std::int32_t most = 0;
};

namespace detail {

/// Is S made of stages whose result never falls when the sum rises, and does not depend on the row?
template <class S>
inline constexpr bool rises = false;
template <class T>
inline constexpr bool rises<clamp<T>> = true;
template <rounding Mode, std::size_t Columns, class Out>
inline constexpr bool rises<requantize_stage<Mode, Columns, Out>> = true;  // see never_wraps
template <class First, class Second>
inline constexpr bool rises<chain<First, Second>> = rises<First>&& rises<Second>;

/// What mode fp32_nearest_even multiplies sums of a column with, and adds behind.
struct float_scaling {
  float scale;
  std::int32_t zero_point;
};
template <std::size_t Columns, class Out>
constexpr float_scaling scaling_of(const requantize_stage<rounding::fp32_nearest_even, Columns, Out>& stage,
                                   std::size_t column) noexcept {
  return {stage.view().factors.scales[Columns == 1 ? 0 : column], stage.zero_point()};
}
template <class First, class Second>
constexpr auto scaling_of(const chain<First, Second>& stages, std::size_t column) noexcept
    -> decltype(scaling_of(stages.first, column)) {
  return scaling_of(stages.first, column);
}

/// Sums of a line lie in (-2^22, 2^22).
inline constexpr std::int32_t line_reach = 1 << 22;

/// gemmlowp's rounding twice shifts sums left modulo 2^32 where the scale is above 1. A shift by 9 or more makes the
/// least int32 of one of these powers of two (and zeros of those above), whose code is less.
template <class Code>
constexpr bool never_wraps(const Code& code) noexcept {
  for (std::int32_t s = 1; s <= line_reach; s *= 2)
    if (code(s) < code(s / 2)) return false;
  return true;
}

/// The least x in [0, most] with low <= a * x modulo m <= high, or -1; 0 <= low <= high < m, 0 <= a < m. Euclid's
/// steps; no product exceeds m + most * a.
constexpr std::int64_t first_in_range(std::int64_t a, std::int64_t m, std::int64_t low, std::int64_t high,
                                      std::int64_t most) noexcept {
  if (low == 0) return 0;
  if (a == 0) return -1;
  // Backwards where that is the smaller step: else a = m - 1 would come down by one with each call.
  if (2 * a > m) return first_in_range(m - a, m, m - high, m - low, most);
  std::int64_t x = (low + a - 1) / a;
  if (x * a > high) {
    // No multiple of a in the range: count how often the product wraps around. a * x - m * y in [low, high] asks for
    // -m * y modulo a in [low, high] modulo a, which does not wrap.
    const std::int64_t y = first_in_range((a - m % a) % a, a, low % a, high % a, most * a / m + 1);
    if (y < 0) return -1;
    x = (low + m * y + a - 1) / a;
  }
  return x <= most ? x : -1;
}

/// The steps of one column, as bounds of a line: each asks for above(q): at * slope + offset > q - 1/2 where `rises`,
/// and below(q): (at - 1) * slope + offset < q - 1/2 where `starts`.
struct line_step {
  std::int32_t at;
  std::int32_t code;
  bool above;
  bool below;
};

template <class Code>
struct line_finder {
  const Code& code;
  std::int32_t least_sum, most_sum;
  line_step steps[258]{};
  std::size_t count = 0;

  /// Finds T(q) of all q in (code(least_sum), code(most_sum)], and what keeps the line within the codes beside.
  constexpr void find_steps(code_range codes) noexcept {
    const std::int32_t first = code(least_sum), last = code(most_sum);
    if (first > codes.least) steps[count++] = {least_sum, first, true, false};
    std::int32_t at = least_sum, guess = 0;
    for (std::int32_t q = first + 1; q <= last; ++q) {
      const std::int32_t next = find(at, at + guess, q);
      guess = next - at;
      at = next;
      steps[count++] = {at, q, true, true};
    }
    if (last < codes.most) steps[count++] = {most_sum + 1, last + 1, false, true};
  }

  /// Room that a line of this slope leaves for its offset.
  constexpr double room(double slope) const noexcept {
    double lower = -1e30, upper = 1e30;
    for (std::size_t i = 0; i < count; ++i) {
      const line_step& s = steps[i];
      const double exact = static_cast<double>(s.code) - 0.5 - static_cast<double>(s.at) * slope;
      if (s.above && exact > lower) lower = exact;
      if (s.below && exact + slope < upper) upper = exact + slope;
    }
    return upper - lower;
  }

  /// The slope with the most room: a concave function, searched between what the first and the last step allow.
  constexpr double best_slope() const noexcept {
    std::size_t first = 0, last = count - 1;
    while (!steps[first].below) ++first;
    while (!steps[last].above) --last;
    const double rise = static_cast<double>(steps[last].code - steps[first].code);
    const double run = static_cast<double>(steps[last].at) - static_cast<double>(steps[first].at);
    double low = rise / (run + 2.0), high = run > 1.0 ? rise / (run - 1.0) : 0.5;
    for (int i = run > 1.0 ? 16 : 48; i > 0; --i) {
      const double a = low + (high - low) / 3, b = high - (high - low) / 3;
      if (room(a) < room(b))
        low = a;
      else
        high = b;
    }
    return (low + high) / 2;
  }

  constexpr bool find_line(double real_slope, rounded_line& line) const noexcept {
    int e = 0;
    std::int64_t m = 0;
    if (!split(real_slope, m, e)) return false;
    const std::int64_t one = std::int64_t{1} << e;
    // Bounds of the offset times 2^e, both ends allowed: 2 * offset lies strictly between twice these.
    std::int64_t lower = -max_offset, upper = max_offset;
    for (std::size_t i = 0; i < count; ++i) {
      const line_step& s = steps[i];
      const std::int64_t exact = (2 * std::int64_t{s.code} - 1) * (one / 2) - s.at * m;
      if (s.above && exact + 1 > lower) lower = exact + 1;
      if (s.below && exact + m - 1 < upper) upper = exact + m - 1;
    }
    if (lower > upper) return false;
    const std::int64_t base = find_base(m, one, lower, upper);
    if (base < 0) return false;
    // The one integer that brings base * slope into the bounds.
    const std::int64_t addend = (upper - modulo(upper - base * m, one) - base * m) / one;
    const auto at = [&](std::int64_t sum) { return ((base + sum) * m) / one + addend; };  // rounded down
    if (at(least_sum) <= -(1 << 15) || at(most_sum) >= (1 << 15) - 1) return false;       // more than 16 bits
    line = {start_of(base), quotient(m, one), static_cast<float>(addend + integer_in_low_bits), 0.0f};
    return true;
  }

  /// A line rounded twice, whose slope is the scale. An odd zero point would send halves to the odd codes.
  constexpr bool find_line_rounded_twice(float_scaling of, rounded_line& line) const noexcept {
    int e = 0;
    std::int64_t m = 0;
    if (of.zero_point % 2 != 0 || !split(static_cast<double>(of.scale), m, e)) return false;
    const std::int64_t one = std::int64_t{1} << e;
    // All multiples of `grid` up to base * m are floats.
    std::int64_t grid = 1;
    while (grid << 24 < (std::int64_t{1} << 24) * m) grid *= 2;
    for (const int closeness : {22, 18, 14}) {  // the closer the better, but there may be none
      const std::int64_t reach = grid >> closeness;
      const std::int64_t base = find_base(m, grid, -reach, reach);
      if (base < 0) continue;
      const std::int64_t addend = -(base * m + grid / 2) / grid * grid;
      const auto at = [&](std::int64_t sum) {
        return std::int64_t{fixed_point::round_small_to_nearest_even(quotient((base + sum) * m + addend, one))} +
               of.zero_point;
      };
      const auto bound = static_cast<std::int64_t>(one) << 15;
      if ((base + least_sum) * m + addend <= -bound || (base + most_sum) * m + addend >= bound ||
          at(least_sum) <= -(1 << 15) || at(most_sum) >= (1 << 15) - 1)
        return false;  // more than 16 bits
      bool proved = true;
      for (std::size_t i = 0; i < count; ++i) {
        const line_step& s = steps[i];
        if ((s.above && at(s.at) < s.code) || (s.below && at(std::int64_t{s.at} - 1) >= s.code)) proved = false;
      }
      line = {start_of(base), quotient(m, one), quotient(addend, one), second_of(of)};
      if (proved) return true;
    }
    return false;
  }
  static constexpr float second_of(float_scaling of) noexcept {
    return static_cast<float>(of.zero_point + integer_in_low_bits);
  }
  static constexpr int integer_in_low_bits = 3 * (1 << 22);

 private:
  static constexpr int max_exponent = 44;
  static constexpr std::int64_t max_offset = std::int64_t{1} << 60;

  /// slope = m / 2^e, m of 24 bits; false where it is too flat, or 1/2 and steeper.
  static constexpr bool split(double slope, std::int64_t& m, int& e) noexcept {
    e = 0;
    for (; slope < static_cast<double>(1 << 23) && e <= max_exponent; ++e) slope *= 2.0;
    m = static_cast<std::int64_t>(slope + 0.5);
    return e <= max_exponent && e >= 25;
  }
  /// The least base, or -1, with base + sum in [2^23, 2^24) for all sums, and base * m modulo `one` in [lower, upper].
  constexpr std::int64_t find_base(std::int64_t m, std::int64_t one, std::int64_t lower,
                                   std::int64_t upper) const noexcept {
    const std::int64_t least_base = (1 << 23) - std::int64_t{least_sum};
    const std::int64_t most_base = (1 << 24) - 1 - std::int64_t{most_sum};
    const std::int64_t begin = modulo(lower - least_base * m, one);
    const std::int64_t end = begin + (upper - lower);
    const std::int64_t more = end >= one ? 0 : first_in_range(m % one, one, begin, end, most_base - least_base);
    return more < 0 ? more : least_base + more;
  }
  static constexpr std::int32_t start_of(std::int64_t base) noexcept {
    return static_cast<std::int32_t>(base - (1 << 23) + 0x4B000000);
  }
  /// a / b, rounded once: |a| < 2^53, b a power of two.
  static constexpr float quotient(std::int64_t a, std::int64_t b) noexcept {
    return static_cast<float>(static_cast<double>(a) / static_cast<double>(b));
  }

  static constexpr std::int64_t modulo(std::int64_t a, std::int64_t m) noexcept {
    const std::int64_t r = a % m;
    return r < 0 ? r + m : r;
  }
  /// The least sum in (from, most_sum] with a code of at least q, near the guess.
  constexpr std::int32_t find(std::int32_t from, std::int32_t guess, std::int32_t q) const noexcept {
    std::int32_t low = from, high = most_sum;  // code(low) < q <= code(high)
    if (code(from) >= q) return from;          // two steps at once
    for (std::int32_t width = 2; guess > low && guess < high;) {
      if (code(guess) >= q) {
        high = guess;
        guess = guess - low > width ? guess - width : low;
      } else {
        low = guess;
        guess = high - guess > width ? guess + width : high;
      }
      width *= 4;
    }
    while (high - low > 1) {
      const std::int32_t middle = low + (high - low) / 2;
      (code(middle) >= q ? high : low) = middle;
    }
    return high;
  }
};

}  // namespace detail

/// May stages S, which make an Out of a sum, be a rounded line at all?
template <class S, class Out>
inline constexpr bool may_be_rounded_line = detail::rises<S> && sizeof(Out) == 1;

/// The codes that an epilogue can give in one column.
template <class S>
constexpr code_range codes_of(const S& stages, std::size_t column) noexcept {
  return {stages(std::numeric_limits<std::int32_t>::min() / 512, 0, column),
          stages(std::numeric_limits<std::int32_t>::max() / 512, 0, column)};
}

/// How often a line rounds.
enum class line_rounding : unsigned char { once, twice };

/// Finds the line of a column for sums in [least_sum, most_sum]; false where none is proved. A line may leave `codes`
/// where the stages do not, so clamp its result to them; each column lies within.
template <line_rounding Rounds = line_rounding::once, class S>
constexpr bool find_rounded_line(const S& stages, std::size_t column, code_range codes, std::int64_t least_sum,
                                 std::int64_t most_sum, rounded_line& line) noexcept {
  const auto code = [&](std::int32_t sum) { return static_cast<std::int32_t>(stages(sum, 0, column)); };
  if (least_sum <= -detail::line_reach || most_sum >= detail::line_reach || !detail::never_wraps(code)) return false;
  using finder_type = detail::line_finder<decltype(code)>;
  finder_type finder{code, static_cast<std::int32_t>(least_sum), static_cast<std::int32_t>(most_sum)};
  const bool flat = code(finder.least_sum) == code(finder.most_sum);
  if (!flat) finder.find_steps(codes);
  if constexpr (Rounds == line_rounding::once) {
    if (!flat) return finder.find_line(finder.best_slope(), line);
    line = {0x4B000000, 0.0f, static_cast<float>(code(finder.least_sum) + finder_type::integer_in_low_bits), 0.0f};
  } else {
    const detail::float_scaling of = detail::scaling_of(stages, column);
    if (!flat) return finder.find_line_rounded_twice(of, line);
    line = {0x4B000000, 0.0f, static_cast<float>(code(finder.least_sum) - of.zero_point), finder_type::second_of(of)};
  }
  return true;
}

/// May stages S, which make an Out of a sum, be a line rounded twice?
template <class S, class Out>
inline constexpr bool may_be_rounded_twice = may_be_rounded_line<S, Out>&& requires(const S& stages) {
  detail::scaling_of(stages, 0);
};

}  // namespace epilogue
POLYMAC_END
