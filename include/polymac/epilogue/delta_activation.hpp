// SPDX-License-Identifier: MIT
// The quantiser of a Delta Activation Layer.
#pragma once

#include "polymac/core/round.hpp"
#include "polymac/epilogue/epilogue.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace epilogue {

/// y = round(z / q) * q of a float, halves to even: Yousefzadeh and Sifalakis, 2021, arXiv 2107.07305, section 2.
/// From frame to frame y differs only where z has moved by about q, and the layer that reads it works on y: so with
/// policy::delta<0> in it nothing is lost but what q costs, and nothing drifts. q is finite and above 0. NaN and what is
/// larger than 2^52 q stay what they are.
class delta_activation_stage : public stage {
 public:
  constexpr explicit delta_activation_stage(float q) noexcept : q_(q) {}
  constexpr status check(std::size_t) const noexcept {
    if (!(q_ > 0.0f) || !polymac::detail::is_finite(q_))
      return status::make(errc::parameter, "delta_activation: expected a finite step above 0, got ",
                          q_ != q_    ? "NaN"
                          : q_ > 0.0f ? "inf"
                                      : "0 or less");
    return {};
  }
  constexpr float operator()(float z, std::size_t, std::size_t) const noexcept {
    const double steps = static_cast<double>(z) / static_cast<double>(q_);
    if (!(steps > -4503599627370496.0 && steps < 4503599627370496.0)) return z;
    return static_cast<float>(static_cast<double>(polymac::detail::round_to_even(steps)) * static_cast<double>(q_));
  }

 private:
  float q_;
};

/// The step of every column.
constexpr delta_activation_stage delta_activation(float q) noexcept { return delta_activation_stage(q); }

}  // namespace epilogue
POLYMAC_END
