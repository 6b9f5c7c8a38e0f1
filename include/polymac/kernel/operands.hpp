// SPDX-License-Identifier: MIT
// Reals as operands of an arithmetic, a vector at a time: rounded, or as codes with a scale from the largest of them.
#pragma once

#include "polymac/isa/float_lanes.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// The largest magnitude of rows[r][i] - offset[i] (no offset: null), rows `stride` apart; NaN where one of them is NaN
/// or infinite.
template <Isa I>
POLYMAC_INLINE float largest_magnitude(const float* from, std::size_t stride, std::size_t rows, const float* offset,
                                       std::size_t count) noexcept {
  using lanes = isa::best_float_lanes<I>;
  using one = isa::float_lanes<isa::scalar>;
  auto most = lanes::broadcast(0.0f);
  float rest = 0.0f;
  for (std::size_t r = 0; r < rows; ++r, from += stride) {
    std::size_t i = 0;
    for (; i + lanes::width <= count; i += lanes::width) {
      auto x = lanes::load(from + i);
      if (offset != nullptr) x = lanes::subtract(x, lanes::load(offset + i));
      most = lanes::larger_magnitude(most, x);
    }
    for (; i < count; ++i) rest = one::larger_magnitude(rest, offset != nullptr ? from[i] - offset[i] : from[i]);
  }
  const float all = one::larger_magnitude(lanes::largest_magnitude(most), rest);
  return all + (all - all);
}
template <Isa I>
POLYMAC_INLINE float largest_magnitude(const float* from, const float* offset, std::size_t count) noexcept {
  return largest_magnitude<I>(from, 0, 1, offset, count);
}

/// to[i] = fold(lanes, to[i], rows[r][i]) for one row after the other; `lanes`: an object of the registers' type.
template <Isa I, class Fold>
POLYMAC_INLINE void fold_rows(const float* from, std::size_t stride, std::size_t rows, float* to, std::size_t count,
                              const Fold& fold) noexcept {
  std::size_t i = 0;
  const auto all = [&]<class Lanes, std::size_t Together>(Lanes lanes, std::integral_constant<std::size_t, Together>)
                       POLYMAC_INLINE_LAMBDA {
                         for (; i + Together * Lanes::width <= count; i += Together * Lanes::width) {
                           typename Lanes::type sums[Together];
                           POLYMAC_UNROLL
                           for (std::size_t c = 0; c < Together; ++c) sums[c] = Lanes::load(to + i + c * Lanes::width);
                           const float* row = from + i;
                           for (std::size_t r = 0; r < rows; ++r, row += stride) {
                             POLYMAC_UNROLL
                             for (std::size_t c = 0; c < Together; ++c)
                               sums[c] = fold(lanes, sums[c], Lanes::load(row + c * Lanes::width));
                           }
                           POLYMAC_UNROLL
                           for (std::size_t c = 0; c < Together; ++c) Lanes::store(to + i + c * Lanes::width, sums[c]);
                         }
                       };
  all(isa::best_float_lanes<I>{}, std::integral_constant<std::size_t, 4>{});
  all(isa::best_float_lanes<I>{}, std::integral_constant<std::size_t, 1>{});
  all(isa::float_lanes<isa::scalar>{}, std::integral_constant<std::size_t, 1>{});
}

/// to[i] = from[i] as an operand, count of them, any number.
template <Isa I, class Operand>
POLYMAC_INLINE void to_operands(const float* from, Operand* to, std::size_t count) noexcept {
  using lanes = isa::best_float_lanes<I>;
  std::size_t i = 0;
  for (; i + lanes::width <= count; i += lanes::width) lanes::store(to + i, lanes::load(from + i));
  for (; i < count; ++i) to[i] = isa::detail::rounded_to<Operand>(from[i]);
}
/// to[i] = (from[i] - offset[i]) * inverse[i] (of all: inverse[0], if `Uniform`) as a code within [-limit, limit], to the
/// nearest, ties to even; NaN becomes some code. No offset: null.
template <Isa I, bool Uniform, class Code>
POLYMAC_INLINE void to_codes(const float* from, const float* offset, const float* inverse, float limit, Code* to,
                             std::size_t count) noexcept {
  const auto all = [&]<class Lanes>(std::type_identity<Lanes>, std::size_t i, std::size_t end) POLYMAC_INLINE_LAMBDA {
    const auto most = Lanes::broadcast(limit), least = Lanes::broadcast(-limit);
    for (; i + Lanes::width <= end; i += Lanes::width) {
      auto x = Lanes::load(from + i);
      if (offset != nullptr) x = Lanes::subtract(x, Lanes::load(offset + i));
      x = Lanes::multiply(x, Uniform ? Lanes::broadcast(*inverse) : Lanes::load(inverse + i));
      Lanes::store(to + i, Lanes::smaller(Lanes::larger(x, least), most));  // NaN: the second one
    }
    return i;
  };
  const std::size_t done = all(std::type_identity<isa::best_float_lanes<I>>{}, 0, count);
  all(std::type_identity<isa::float_lanes<isa::scalar>>{}, done, count);
}

}  // namespace kernel
POLYMAC_END
