// SPDX-License-Identifier: MIT
// Finds a rounded plane that equals a function of two codes, and proves it by trying every pair.
//
// A quantised sum is a plane that was rounded three times: its codes differ from those of an exact plane where that one
// comes close to a border between two codes. How close matters: slopes of 30 bits leave an error of 2^-21 codes or so,
// and of 65,536 pairs the closest lies about 2^-17 from a border. So almost every layer has a plane, and what remains
// to be chosen is the rounding constant: each pair bounds it, for values at and above zero and below zero apart (the
// second rounding of gemmlowp treats them differently), and the middle between the bounds is taken. A layer whose
// bounds exclude each other has no plane and keeps its arithmetic.
//
// Cost: 65,536 evaluations of the function, once, at construction.
#pragma once

#include "polymac/isa/avx512_plane.hpp"  // alone: see isa/all.hpp

#include <cstdint>

POLYMAC_BEGIN
namespace kernel {

/// What is known about a function of two signed codes: about zero_point + first * (a - first_zero) + second * (b -
/// second_zero), clamped to [least, most]. Slopes are at least 0.
struct plane_sketch {
  double first = 0, second = 0;
  std::int32_t first_zero = 0, second_zero = 0;
  std::int32_t zero_point = 0;
  std::int8_t least = 0, most = 0;
};

namespace detail {

/// The plane of the sketch without its rounding constants; false where the numbers do not fit.
inline bool draw_plane(const plane_sketch& s, isa::plane& p) noexcept {
  const auto furthest = [](std::int32_t zero) { return static_cast<double>(zero < 0 ? 127 - zero : zero + 128); };
  const double largest = s.first * furthest(s.first_zero) + s.second * furthest(s.second_zero) + 2.0;
  const double steepest = s.first > s.second ? s.first : s.second;
  std::int32_t shift = 28;    // four times its power still fits
  double unit = 268435456.0;  // 2^shift
  while (shift > 0 && (largest * unit >= 2147483648.0 || steepest * unit / 256 >= 32767.0)) {
    --shift;
    unit /= 2;
  }
  if (shift == 0) return false;
  p.shift = shift;
  p.zero_point = s.zero_point;
  p.least = s.least;
  p.most = s.most;
  const double slopes[] = {s.first * unit / 256, s.second * unit / 256};
  for (int i = 0; i < 2; ++i) {
    p.high[i] = static_cast<std::int16_t>(slopes[i]);
    p.low[i] = static_cast<std::int16_t>((slopes[i] - p.high[i]) * 32768.0);
  }
  const double origin = -(s.first * s.first_zero + s.second * s.second_zero) * unit;
  if (!(origin > -2147483648.0 && origin < 2147483647.0)) return false;
  p.origin = static_cast<std::int32_t>(origin);
  return true;
}

}  // namespace detail

/// Sets p to a plane with p(a, b) == code(a, b) for all signed codes, or returns false.
template <class Function>
bool find_plane(const plane_sketch& sketch, const Function& code, isa::plane& p) noexcept {
  if (!detail::draw_plane(sketch, p)) return false;
  const isa::plane drawn = p;
  const std::int32_t one = std::int32_t{1} << p.shift;
  // Wider than these the bounds need not be; the values leave room for them.
  std::int32_t least[] = {one / 4, one / 4};
  std::int32_t most[] = {one / 4 * 3, one / 4 * 3};
  const auto larger = [](std::int32_t x, std::int32_t y) { return x > y ? x : y; };
  const auto smaller = [](std::int32_t x, std::int32_t y) { return x < y ? x : y; };
  for (std::int32_t a = -128; a < 128; ++a) {
    // One line of pairs at a time, in two loops that compilers vectorise.
    std::int32_t codes[256];
    for (std::int32_t i = 0; i < 256; ++i) codes[i] = code(a, i - 128);
    std::int32_t low_above = least[0], low_below = least[1], high_above = most[0], high_below = most[1];
    for (std::int32_t i = 0; i < 256; ++i) {
      const std::int32_t value = drawn.value(a, i - 128);
      const std::int32_t got = codes[i];
      // got <= zero_point + floor((value + half) / one) < got + 1, where no end of the range hides it. A border further
      // away than `one` is a plane that does not fit anyway.
      const std::int32_t away = got - drawn.zero_point - (value >> drawn.shift);
      const std::int32_t bounded = away < -2 ? -2 : away > 2 ? 2 : away;
      const std::int32_t border = bounded * one - (value & (one - 1));
      const std::int32_t low = got > drawn.least ? border : one / 4;
      const std::int32_t high = got < drawn.most ? border + one - 1 : one / 4 * 3;
      const bool below = value < 0;
      low_above = larger(low_above, below ? low_above : low);
      low_below = larger(low_below, below ? low : low_below);
      high_above = smaller(high_above, below ? high_above : high);
      high_below = smaller(high_below, below ? high : high_below);
    }
    least[0] = low_above, least[1] = low_below, most[0] = high_above, most[1] = high_below;
  }
  if (least[0] > most[0] || least[1] > most[1]) return false;
  // One constant for both sides where there is one: it saves a comparison for each value.
  const std::int32_t low = larger(least[0], least[1]), high = smaller(most[0], most[1]);
  for (int side = 0; side < 2; ++side)
    p.half[side] = low <= high ? low + (high - low) / 2 : least[side] + (most[side] - least[side]) / 2;
  return true;
}

}  // namespace kernel
POLYMAC_END
