// SPDX-License-Identifier: MIT
// A row of floats times a factor.
#pragma once

#include "polymac/isa/float_lanes.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace kernel {

/// to[i] = from[i] * factor, or from[i] * factor * each[i] where there are such (null: none). to may be from.
template <Isa I>
POLYMAC_INLINE void scale_row(const float* from, float* to, std::size_t count, float factor,
                              const float* each = nullptr) noexcept {
  std::size_t i = 0;
  const auto scale = [&]<class Lanes>(Lanes, auto scaled) POLYMAC_INLINE_LAMBDA {
    const auto all = Lanes::broadcast(factor);
    for (; i + Lanes::width <= count; i += Lanes::width)
      Lanes::store(to + i, scaled(Lanes{}, Lanes::multiply(Lanes::load(from + i), all)));
  };
  const auto row = [&](auto scaled) POLYMAC_INLINE_LAMBDA {
    scale(isa::best_float_lanes<I>{}, scaled);
    scale(isa::float_lanes<isa::scalar>{}, scaled);
  };
  if (each == nullptr)
    row([](auto, const auto& x) POLYMAC_INLINE_LAMBDA { return x; });
  else
    row([&]<class Lanes>(Lanes, const auto& x)
            POLYMAC_INLINE_LAMBDA { return Lanes::multiply(x, Lanes::load(each + i)); });
}

}  // namespace kernel
POLYMAC_END
