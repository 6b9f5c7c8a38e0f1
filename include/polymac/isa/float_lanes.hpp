// SPDX-License-Identifier: MIT
// Floats in a register, as the softmax between two products needs them: the same few operations for every instruction
// set, and one float at a time where there is none.
//
//   exp2 of a register                           Zen 4 (512 bits in two halves)     Zen 5
//     5 or 3 vfmadd: the polynomial              1 cycle each on two of four pipes  2/cycle
//     1 vfmadd: scale and subtract the maximum
//     1 vreduceps, 1 vscalefps, 1 vcmpps         2, 2 and 1 cycles, for
//       3 vaddps, 1 vmaxps, 1 vpslld, 1 vmulps   where there are none
//   16 values take 6 to 8 cycles, as much as 96 to 128 products of float32.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/float16.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/xsimd.hpp"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#if POLYMAC_HAS_XSIMD && defined(__AVX2__)
#include "polymac/isa/intrinsics.hpp"
#elif POLYMAC_HAS_XSIMD && defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

POLYMAC_BEGIN
namespace isa {

namespace detail {
/// A float as an operand of a product: rounded to nearest even. Whole numbers: what is beyond the type becomes its last
/// one on that side, NaN any of them.
template <class T>
POLYMAC_INLINE T rounded_to(float v) noexcept {
  if constexpr (std::is_integral_v<T>) {
    constexpr auto least = static_cast<float>(std::numeric_limits<T>::min());
    constexpr auto most = static_cast<float>(std::numeric_limits<T>::max());
    v = v < most ? v : most;
    return static_cast<T>(static_cast<std::int32_t>(std::nearbyint(v > least ? v : least)));
  } else {
    return static_cast<T>(v);
  }
}
}  // namespace detail

/// a * b + c, rounded once where registers of floats round once; else twice.
POLYMAC_INLINE float fused_multiply_add(float a, float b, float c) noexcept {
#if defined(__FMA__) || defined(__aarch64__)
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// One float at a time.
///
///   load, store, from_int(integers), broadcast, add, subtract, multiply, multiply_add(a, b, c) = a b + c
///   store(T* to, v)            rounded to T: bfloat16, float16, std::uint8_t, std::int8_t, std::int16_t (saturated)
///   larger(a, b), smaller(a, b) of the two; b where one of them is NaN
///   larger_magnitude(a, b)     of |a| and |b|, both as they are stored: infinity above all reals, NaN above that
///   power_of_two(raised)       2^n of the float n + 127 + 1.5 * 2^23, n in [-127, 127]; 0 for -127
///   fraction(v), scale(p, v)   optional, together: v - floor(v), 0 of -infinity; p * 2^floor(v), 0 below v = -126
///   tanh(v)
///   largest(v), sum(v), largest_magnitude(v)   over the lanes; the last one of what larger_magnitude gave
template <class I>
struct float_lanes {
  using type = float;
  static constexpr std::size_t width = 1;
  static POLYMAC_INLINE type load(const float* from) noexcept { return *from; }
  static POLYMAC_INLINE void store(float* to, type v) noexcept { *to = v; }
  static POLYMAC_INLINE type from_int(const std::int32_t* from) noexcept { return static_cast<float>(*from); }
  static POLYMAC_INLINE type broadcast(float v) noexcept { return v; }
  static POLYMAC_INLINE type add(type a, type b) noexcept { return a + b; }
  static POLYMAC_INLINE type subtract(type a, type b) noexcept { return a - b; }
  static POLYMAC_INLINE type multiply(type a, type b) noexcept { return a * b; }
  static POLYMAC_INLINE type multiply_add(type a, type b, type c) noexcept { return a * b + c; }
  template <class T>
  static POLYMAC_INLINE void store(T* to, type v) noexcept {
    *to = detail::rounded_to<T>(v);
  }
  static POLYMAC_INLINE type larger(type a, type b) noexcept { return a > b ? a : b; }
  static POLYMAC_INLINE type larger_magnitude(type a, type b) noexcept {
    const std::uint32_t x = std::bit_cast<std::uint32_t>(a) & 0x7FFFFFFFu;
    const std::uint32_t y = std::bit_cast<std::uint32_t>(b) & 0x7FFFFFFFu;
    return std::bit_cast<float>(x > y ? x : y);
  }
  static POLYMAC_INLINE type power_of_two(type raised) noexcept {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(raised) << 23);
  }
  static POLYMAC_INLINE type smaller(type a, type b) noexcept { return a < b ? a : b; }
  static POLYMAC_INLINE type tanh(type v) noexcept { return std::tanh(v); }
  static POLYMAC_INLINE float largest(type v) noexcept { return v; }
  static POLYMAC_INLINE float largest_magnitude(type v) noexcept { return v; }
  static POLYMAC_INLINE float sum(type v) noexcept { return v; }
};

#if POLYMAC_HAS_XSIMD

namespace detail {

template <class Arch>
struct xsimd_lanes {
  using type = xsimd::batch<float, Arch>;
  using words = xsimd::batch<std::int32_t, Arch>;
  static constexpr std::size_t width = type::size;
  static POLYMAC_INLINE type load(const float* from) noexcept { return type::load_unaligned(from); }
  static POLYMAC_INLINE void store(float* to, const type& v) noexcept { v.store_unaligned(to); }
  template <class T>
  static POLYMAC_INLINE void store(T* to, const type& v) noexcept {
    alignas(64) float all[width];
    v.store_aligned(all);
    for (std::size_t i = 0; i < width; ++i) to[i] = rounded_to<T>(all[i]);
  }
  static POLYMAC_INLINE type from_int(const std::int32_t* from) noexcept {
    return xsimd::to_float(words::load_unaligned(from));
  }
  static POLYMAC_INLINE type broadcast(float v) noexcept { return type(v); }
  static POLYMAC_INLINE type add(const type& a, const type& b) noexcept { return a + b; }
  static POLYMAC_INLINE type subtract(const type& a, const type& b) noexcept { return a - b; }
  static POLYMAC_INLINE type multiply(const type& a, const type& b) noexcept { return a * b; }
  static POLYMAC_INLINE type multiply_add(const type& a, const type& b, const type& c) noexcept {
    return detail::multiply_add(a, b, c);
  }
  static POLYMAC_INLINE type larger(const type& a, const type& b) noexcept {
#if defined(__ARM_NEON)
    return xsimd::select(a > b, a, b);  // vmaxq hands NaN on from both sides
#else
    return xsimd::max(a, b);
#endif
  }
  static POLYMAC_INLINE type smaller(const type& a, const type& b) noexcept {
#if defined(__ARM_NEON)
    return xsimd::select(a < b, a, b);
#else
    return xsimd::min(a, b);
#endif
  }
  static POLYMAC_INLINE type larger_magnitude(const type& a, const type& b) noexcept {
    const words no_sign(0x7FFFFFFF);
    return xsimd::bitwise_cast<type>(
        xsimd::max(xsimd::bitwise_cast<words>(a) & no_sign, xsimd::bitwise_cast<words>(b) & no_sign));
  }
  static POLYMAC_INLINE type power_of_two(const type& raised) noexcept {
    return xsimd::bitwise_cast<type>(xsimd::bitwise_cast<words>(raised) << 23);
  }
  static POLYMAC_INLINE type tanh(const type& v) noexcept { return xsimd::tanh(v); }
  static POLYMAC_INLINE float largest(const type& v) noexcept {
    return reduce(v, [](const auto& a, const auto& b) POLYMAC_INLINE_LAMBDA { return a > b ? a : b; });
  }
  static POLYMAC_INLINE float largest_magnitude(const type& v) noexcept {
    return reduce(v,
                  [](float a, float b) POLYMAC_INLINE_LAMBDA { return float_lanes<scalar>::larger_magnitude(a, b); });
  }
  static POLYMAC_INLINE float sum(const type& v) noexcept {
    return reduce(v, [](const auto& a, const auto& b) POLYMAC_INLINE_LAMBDA { return a + b; });
  }

 private:
  template <class Join>
  static POLYMAC_INLINE float reduce(const type& v, const Join& join) noexcept {
    alignas(64) float all[width];
    v.store_aligned(all);
    for (std::size_t half = width / 2; half > 0; half /= 2)
      for (std::size_t i = 0; i < half; ++i) all[i] = join(all[i], all[i + half]);
    return all[0];
  }
};

}  // namespace detail

template <class I>
requires requires { typename detail::float_tile<I>::arch; }
struct float_lanes<I> : detail::xsimd_lanes<typename detail::float_tile<I>::arch> {};

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
template <>
struct float_lanes<avx512> : detail::xsimd_lanes<typename detail::float_tile<avx512>::arch> {
  using detail::xsimd_lanes<typename detail::float_tile<avx512>::arch>::store;
#if defined(__AVX512BF16__)
  static POLYMAC_INLINE void store(bfloat16* to, const type& v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
  }
#endif
  static POLYMAC_INLINE void store(float16* to, const type& v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static POLYMAC_INLINE void store(std::uint8_t* to, const type& v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v)));
  }
  static POLYMAC_INLINE void store(std::int8_t* to, const type& v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
  }
  static POLYMAC_INLINE void store(std::int16_t* to, const type& v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v)));
  }
  static POLYMAC_INLINE float largest(const type& v) noexcept { return _mm512_reduce_max_ps(v); }
  static POLYMAC_INLINE float largest_magnitude(const type& v) noexcept {
    return std::bit_cast<float>(_mm512_reduce_max_epi32(_mm512_castps_si512(v)));
  }
  static POLYMAC_INLINE float sum(const type& v) noexcept { return _mm512_reduce_add_ps(v); }
  static POLYMAC_INLINE type from_int(const std::int32_t* from) noexcept {
    return type(_mm512_cvtepi32_ps(_mm512_loadu_si512(from)));
  }
  static POLYMAC_INLINE type fraction(const type& v) noexcept {
    return type(_mm512_reduce_ps(v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
  }
  /// No denormals: they would take some CPUs a hundred cycles each.
  static POLYMAC_INLINE type scale(const type& p, const type& v) noexcept {
    return type(_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(v, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ), p, v));
  }
};
#endif

#endif

namespace detail {
/// The strongest set from I downwards with registers of its own.
template <class I>
struct find_float_lanes {
  using type = float_lanes<I>;
};
template <class I>
requires(float_lanes<I>::width == 1 && !std::is_void_v<typename I::base>) struct find_float_lanes<I>
    : find_float_lanes<typename I::base> {
};
}  // namespace detail

/// The registers of floats of instruction set I, or of the strongest of the weaker ones that has any.
template <Isa I>
using best_float_lanes = typename detail::find_float_lanes<I>::type;

}  // namespace isa
POLYMAC_END
