// SPDX-License-Identifier: MIT
// The epilogue of gated units: the first sum of a pair times a function of the second.
//
//   sums     f0 s0 f1 s1 ... | ...                    two registers of a row of a tile, from L1
//   reals    f0 s0 f1 s1 ... | ...                    scaled, where the sums are codes
//   apart    f0 f1 f2 ...,  s0 s1 s2 ...              isa/pair_lanes.hpp
//   output   f0 act(s0)  f1 act(s1) ...               one register, to half as many columns
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/float16.hpp"
#include "polymac/epilogue/pairs.hpp"
#include "polymac/isa/pair_lanes.hpp"
#include "polymac/kernel/functions.hpp"
#include "polymac/mac/float32.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

namespace detail {

/// to[i] = Out(real(2 i) * f(real(2 i + 1))) for `count` pairs.
///   reals(i)            a register of the reals from number i on (where there are registers)
///   real(i)             one of them
template <class Out, class Function, class Reals, class Real>
POLYMAC_INLINE void gate_pairs(const Function& f, std::size_t count, Out* to, const Reals& reals,
                               const Real& real) noexcept {
#if POLYMAC_HAS_XSIMD
  using type = float_register;
  constexpr std::size_t width = function_lanes;
  const auto joined = [&](const type& low, const type& high) POLYMAC_INLINE_LAMBDA {
    typename type::register_type first, second;
    isa::split_pairs(low, high, first, second);
    return type(first) * f(type(second));
  };
  std::size_t i = 0;
  for (; i + width <= count; i += width) {
    const type y = joined(reals(2 * i), reals(2 * i + width));
    if constexpr (std::is_same_v<Out, float>) {
      y.store_unaligned(to + i);
    } else {
      alignas(64) float rounded[width];
      y.store_aligned(rounded);
      for (std::size_t k = 0; k < width; ++k) to[i + k] = static_cast<Out>(rounded[k]);
    }
  }
  if (i < count) {  // the rest goes through the same instructions
    alignas(64) float rest[2 * width]{};
    for (std::size_t k = 0; k < 2 * (count - i); ++k) rest[k] = real(2 * i + k);
    joined(type::load_aligned(rest), type::load_aligned(rest + width)).store_aligned(rest);
    for (std::size_t k = 0; i + k < count; ++k) to[i + k] = static_cast<Out>(rest[k]);
  }
#else
  static_cast<void>(reals);
  for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<Out>(real(2 * i) * f(real(2 * i + 1)));
#endif
}

#if POLYMAC_HAS_XSIMD
/// A register of sums as floats.
POLYMAC_INLINE float_register floats_of(const float* sums) noexcept { return float_register::load_unaligned(sums); }
POLYMAC_INLINE float_register floats_of(const std::int32_t* sums) noexcept {
  return xsimd::to_float(xsimd::batch<std::int32_t>::load_unaligned(sums));
}
template <class Sum>
POLYMAC_INLINE float_register floats_of(const Sum* sums) noexcept {
  alignas(64) float all[function_lanes];
  for (std::size_t i = 0; i < function_lanes; ++i) all[i] = static_cast<float>(sums[i]);
  return float_register::load_aligned(all);
}
#endif

}  // namespace detail

/// y = Out(first * activation(second)) of sums that are reals.
template <class Activation, class Out = float>
struct gate : epilogue::pair_stage {
  Activation activation;

  constexpr explicit gate(const Activation& f) noexcept : activation(f) {}
  constexpr status check(std::size_t columns) const noexcept {
    return columns % 2 == 0 ? status{}
                            : status::make(errc::shape, "gate: expected an even number of columns, got ", columns);
  }
  Out operator()(float first, float second, std::size_t, std::size_t) const noexcept {
    return static_cast<Out>(first * activation(second));
  }
  void many(const float* sums, std::size_t count, std::size_t, std::size_t, Out* to) const noexcept {
    detail::gate_pairs(
        Activation(activation), count, to,
        [=](std::size_t i) POLYMAC_INLINE_LAMBDA {
#if POLYMAC_HAS_XSIMD
          return detail::floats_of(sums + i);
#else
          return sums[i];
#endif
        },
        [=](std::size_t i) POLYMAC_INLINE_LAMBDA { return sums[i]; });
  }
};

/// The same of sums that have a scale for each row (none: 1) and for each column, and biases that are real, as
/// layer::dynamic_range has them: real = sum * (row scale * column scale) + bias, not fused. `scales` and `biases` are
/// interleaved as the columns are; row r has row_scales[r].
template <class Activation, class Out = float>
struct scaled_gate : epilogue::pair_stage {
  Activation activation;
  const float* scales;
  const float* biases;
  const float* row_scales;

  constexpr scaled_gate(const Activation& f, const float* scales_, const float* biases_,
                        const float* row_scales_) noexcept
      : activation(f), scales(scales_), biases(biases_), row_scales(row_scales_) {}
  constexpr status check(std::size_t columns) const noexcept {
    return gate<Activation, Out>(activation).check(columns);
  }
  template <class Sum>
  Out operator()(Sum first, Sum second, std::size_t row, std::size_t column) const noexcept {
    const float scale = scale_of(row);
    return static_cast<Out>(real(first, scale * scales[2 * column], biases[2 * column]) *
                            activation(real(second, scale * scales[2 * column + 1], biases[2 * column + 1])));
  }
  template <class Sum>
  void many(const Sum* sums, std::size_t count, std::size_t row, std::size_t column, Out* to) const noexcept {
    const float scale = scale_of(row);
    const float *const s = scales + 2 * column, *const b = biases + 2 * column;
    detail::gate_pairs(
        Activation(activation), count, to,
        [=](std::size_t i) POLYMAC_INLINE_LAMBDA {
#if POLYMAC_HAS_XSIMD
          using type = detail::float_register;
          const type product = detail::floats_of(sums + i) * (type(scale) * type::load_unaligned(s + i));
          // Compared, so that it is not fused: mac::float32_unfused.
          return xsimd::select(product == product, type::load_unaligned(b + i) + product, product);
#else
          return real(sums[i], scale * s[i], b[i]);
#endif
        },
        [=](std::size_t i) POLYMAC_INLINE_LAMBDA { return real(sums[i], scale * s[i], b[i]); });
  }

 private:
  POLYMAC_INLINE float scale_of(std::size_t row) const noexcept {
    return row_scales == nullptr ? 1.0f : row_scales[row];
  }
  template <class Sum>
  static POLYMAC_INLINE float real(Sum sum, float scale, float bias) noexcept {
    return mac::float32_unfused::multiply_add(bias, static_cast<float>(sum), scale);
  }
};

}  // namespace kernel
POLYMAC_END
