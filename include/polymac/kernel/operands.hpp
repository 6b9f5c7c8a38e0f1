// SPDX-License-Identifier: MIT
// Reals as operands of an arithmetic, a vector at a time: rounded, or as codes with a scale from the largest of them.
#pragma once

#include "polymac/isa/float_lanes.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// The largest magnitude of from[i] - offset[i] (no offset: null); NaN where one of them is NaN or infinite.
template <Isa I>
POLYMAC_INLINE float largest_magnitude(const float* from, const float* offset, std::size_t count) noexcept {
  const auto all = [&]<class Lanes>(std::type_identity<Lanes>, std::size_t& i) POLYMAC_INLINE_LAMBDA {
    const auto zero = Lanes::broadcast(0.0f);
    auto most = zero, poison = zero;
    for (; i + Lanes::width <= count; i += Lanes::width) {
      auto x = Lanes::load(from + i);
      if (offset != nullptr) x = Lanes::subtract(x, Lanes::load(offset + i));
      most = Lanes::larger(Lanes::larger(x, Lanes::subtract(zero, x)), most);
      poison = Lanes::multiply_add(x, zero, poison);  // of infinities, too
    }
    return Lanes::largest(most) + Lanes::sum(poison);
  };
  std::size_t i = 0;
  const float most = all(std::type_identity<isa::best_float_lanes<I>>{}, i);
  const float rest = all(std::type_identity<isa::float_lanes<isa::scalar>>{}, i);
  return most + rest != most + rest ? most + rest : most > rest ? most : rest;
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
