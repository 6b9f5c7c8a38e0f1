// SPDX-License-Identifier: MIT
// Activations that need exp, tanh or erf: functions of a float, and of whole registers of them, from xsimd where it is
// there, else from <cmath>.
//
// Errors (measured over all of the range; xsimd 8.1; relative where a result is not below 2^-126):
//     exp, tanh, erf     2 units of the last place                    1 / (1 + exp(-x))   3
//     x / (1 + exp(-x))  3                 gelu: 2e-7 of |x|, absolute, for 1 + erf loses digits below 0
// Results below 2^-126 may be 0. NaN stays NaN, and so becomes x * 0 for x = -infinity (silu, gelu), as IEEE says.
#pragma once

#include "polymac/core/config.hpp"
#include "polymac/isa/intrinsics.hpp"  // before xsimd, which includes them without a word on their warnings

#include <cmath>
#include <cstddef>
#include <type_traits>

#if POLYMAC_HAS_XSIMD
#include <xsimd/xsimd.hpp>
#endif

POLYMAC_BEGIN
namespace kernel {

// g++ 12 takes the undefined operand of its own AVX-512 intrinsics for a mistake (GCC bug 105593), wherever they end
// up.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace detail {

#if POLYMAC_HAS_XSIMD
/// The registers that functions run on: the widest that the flags allow.
using float_register = xsimd::batch<float>;
inline constexpr std::size_t function_lanes = float_register::size;
#else
inline constexpr std::size_t function_lanes = 1;
#endif

inline float exp_of_value(float x) noexcept { return std::exp(x); }
inline float tanh_of_value(float x) noexcept { return std::tanh(x); }
inline float erf_of_value(float x) noexcept { return std::erf(x); }
inline float at_least_zero(float x) noexcept { return x < 0.0f ? 0.0f : x; }
#if POLYMAC_HAS_XSIMD
inline float_register exp_of_value(const float_register& x) noexcept { return xsimd::exp(x); }
inline float_register tanh_of_value(const float_register& x) noexcept { return xsimd::tanh(x); }
inline float_register erf_of_value(const float_register& x) noexcept { return xsimd::erf(x); }
inline float_register at_least_zero(const float_register& x) noexcept {
  return xsimd::select(x < float_register(0.0f), float_register(0.0f), x);
}
#endif

}  // namespace detail

/// y[i] = f(x[i]), f on whole registers and their rest alike: a value does not depend on where it stands. x and y may be
/// the same row.
template <class Function>
void apply(const Function& f, const float* x, float* y, std::size_t count) noexcept {
#if POLYMAC_HAS_XSIMD
  using type = detail::float_register;
  constexpr std::size_t width = detail::function_lanes;
  std::size_t i = 0;
  for (; i + width <= count; i += width) f(type::load_unaligned(x + i)).store_unaligned(y + i);
  if (i < count) {
    alignas(64) float rest[width]{};
    for (std::size_t k = 0; i + k < count; ++k) rest[k] = x[i + k];
    f(type::load_aligned(rest)).store_aligned(rest);
    for (std::size_t k = 0; i + k < count; ++k) y[i + k] = rest[k];
  }
#else
  for (std::size_t i = 0; i < count; ++i) y[i] = f(x[i]);
#endif
}

/// y[i] = exp((x[i] - offset) * scale). x and y may be the same row.
inline void exp_of(const float* x, float* y, std::size_t count, float offset, float scale) noexcept {
  apply([offset, scale]<class V>(const V& v) { return detail::exp_of_value((v - V(offset)) * V(scale)); }, x, y, count);
}

}  // namespace kernel

/// Activations by name: `silu(1.5f)`. Each takes a float or a register of floats.
namespace activation {

/// x: a bilinear gate.
struct linear {
  static constexpr const char* name = "linear";
  template <class V>
  V operator()(const V& x) const noexcept {
    return x;
  }
};
/// max(x, 0).
struct relu {
  static constexpr const char* name = "relu";
  template <class V>
  V operator()(const V& x) const noexcept {
    return kernel::detail::at_least_zero(x);
  }
};
/// 1 / (1 + exp(-x)).
struct sigmoid {
  static constexpr const char* name = "sigmoid";
  template <class V>
  V operator()(const V& x) const noexcept {
    return V(1.0f) / (V(1.0f) + kernel::detail::exp_of_value(V(0.0f) - x));
  }
};
/// x sigmoid(alpha x): SiLU for alpha = 1, else Swish (Ramachandran et al., 2017).
struct silu {
  static constexpr const char* name = "silu";
  float alpha = 1.0f;
  template <class V>
  V operator()(const V& x) const noexcept {
    return x / (V(1.0f) + kernel::detail::exp_of_value(V(-alpha) * x));
  }
};
/// x (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel, arXiv 1606.08415).
struct gelu {
  static constexpr const char* name = "gelu";
  template <class V>
  V operator()(const V& x) const noexcept {
    return V(0.5f) * x * (V(1.0f) + kernel::detail::erf_of_value(x * V(0.70710678118654752440f)));
  }
};
/// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2: the same, approximately. x^3 may be infinite, to the same end.
struct gelu_tanh {
  static constexpr const char* name = "gelu_tanh";
  template <class V>
  V operator()(const V& x) const noexcept {
    const V inner = x * (V(1.0f) + V(0.044715f) * x * x);
    return V(0.5f) * x * (V(1.0f) + kernel::detail::tanh_of_value(V(0.79788456080286535588f) * inner));
  }
};
/// tanh(x).
struct tanh {
  static constexpr const char* name = "tanh";
  template <class V>
  V operator()(const V& x) const noexcept {
    return kernel::detail::tanh_of_value(x);
  }
};

}  // namespace activation

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

POLYMAC_END
