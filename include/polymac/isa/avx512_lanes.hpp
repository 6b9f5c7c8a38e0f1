// SPDX-License-Identifier: MIT
// Epilogues on 512 bits: blocks of 16, 32 or 64 finished sums.
//
//   price in instructions per 16 sums (two a cycle on Zen 5 and on Intel's ports 0 and 5, shuffles one a cycle there):
//     to nearest even     cvtdq2ps, mulps, cvtps2dq; with scales of 1 and more minps                  3 or 4
//     in float, proved    cvtdq2ps, ternlog, fma, fma toward zero, cvttps2dq                          5
//     twice, in integers  2 shuffles, 2 muldq, 2 paddq, psrad, 2 paddd, psravd and more               14
//     narrow to bytes     of 64 sums at once: 2 packssdw, 2 paddsw, 1 packsswb, 1 permd               1.5
//
//   packing works in the 128-bit quarters of its registers; one permutation brings the bytes of four blocks in order:
//     a0 b0 c0 d0 | a1 b1 c1 d1 | a2 .. | a3 ..   ->   a0 a1 a2 a3 | b0 b1 b2 b3 | c0 .. | d0 ..       4 bytes each
#pragma once

#include "polymac/isa/lanes.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

#include "polymac/isa/intrinsics.hpp"

POLYMAC_BEGIN
namespace isa {
namespace detail {

POLYMAC_INLINE __mmask16 first_lanes(std::size_t count) noexcept { return static_cast<__mmask16>((1u << count) - 1u); }

/// The parameters of panel p: 16 of an array, 8 for both rows of a register, or one for all.
template <bool Uniform, std::size_t Columns, class T>
POLYMAC_INLINE __m512i column_words(const T* of, std::size_t p) noexcept {
  static_assert(sizeof(T) == 4 && (Columns == lane_columns || Columns * 2 == lane_columns));
  if constexpr (Uniform)
    return _mm512_set1_epi32(*reinterpret_cast<const std::int32_t*>(of));
  else if constexpr (Columns == lane_columns)
    return _mm512_loadu_si512(of + p * lane_columns);
  else
    return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(of + p * Columns)));
}
template <bool Uniform, std::size_t Columns>
POLYMAC_INLINE __m512 column_floats(const float* of, std::size_t p) noexcept {
  return _mm512_castsi512_ps(column_words<Uniform, Columns>(of, p));
}

/// Groups of 16 in a block.
template <std::size_t Rows, std::size_t Panels, std::size_t Columns>
inline constexpr std::size_t groups_of_block = [] {
  static_assert(Columns == lane_columns || (Columns * 2 == lane_columns && Panels == 1 && Rows % 2 == 0),
                "polymac: a group is 16 columns of one row, or 8 columns of two");
  return Rows * Panels * Columns / lane_columns;
}();

/// Codes of 8 or 16 bits: panel p of row r is the group r * Panels + p; rows 2 * g and 2 * g + 1 of 8 columns are
/// group g.
template <class Out, std::size_t Rows, std::size_t Panels, std::size_t Columns = lane_columns>
struct zmm_codes {
  using value = Out;
  static constexpr std::size_t rows = Rows, panels = Panels, groups = groups_of_block<Rows, Panels, Columns>;
  static_assert(sizeof(Out) == 1 || sizeof(Out) == 2);
  /// Codes of one byte, four groups: all in `all`; else one group in each of `each`.
  static constexpr bool joined = sizeof(Out) == 1 && groups == 4;
  struct bytes16 {
    __m128i v;
  };
  struct words16 {
    __m256i v;
  };
  using group = std::conditional_t<sizeof(Out) == 1, bytes16, words16>;

  __m512i all;
  group each[joined ? 1 : groups];

  POLYMAC_INLINE void clamp(Out low, Out high) noexcept {
    if constexpr (joined) {
      if constexpr (std::is_signed_v<Out>)
        all = _mm512_min_epi8(_mm512_max_epi8(all, _mm512_set1_epi8(low)), _mm512_set1_epi8(high));
      else
        all = _mm512_min_epu8(_mm512_max_epu8(all, _mm512_set1_epi8(static_cast<char>(low))),
                              _mm512_set1_epi8(static_cast<char>(high)));
    } else {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < groups; ++i) {
        if constexpr (std::is_same_v<Out, std::int8_t>)
          each[i].v = _mm_min_epi8(_mm_max_epi8(each[i].v, _mm_set1_epi8(low)), _mm_set1_epi8(high));
        else if constexpr (std::is_same_v<Out, std::uint8_t>)
          each[i].v = _mm_min_epu8(_mm_max_epu8(each[i].v, _mm_set1_epi8(static_cast<char>(low))),
                                   _mm_set1_epi8(static_cast<char>(high)));
        else
          each[i].v = _mm256_min_epi16(_mm256_max_epi16(each[i].v, _mm256_set1_epi16(low)), _mm256_set1_epi16(high));
      }
    }
  }

  POLYMAC_INLINE void store_all(Out* to) const noexcept {
    if constexpr (joined) {
      _mm512_storeu_si512(to, all);
    } else {
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < groups; ++i) store_group(i, to + i * lane_columns);
    }
  }
  POLYMAC_INLINE void store(Out* const (&to)[Rows], std::size_t count) const noexcept {
    static_assert(Columns == lane_columns);
    if (count == lane_columns) {
      if constexpr (joined && Panels == 4) {
        _mm512_storeu_si512(to[0], all);
      } else if constexpr (joined && Panels == 2) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to[0]), _mm512_castsi512_si256(all));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to[1]), _mm512_extracti64x4_epi64(all, 1));
      } else {
        POLYMAC_UNROLL
        for (std::size_t i = 0; i < groups; ++i) store_group(i, to[i / Panels] + i % Panels * lane_columns);
      }
      return;
    }
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) {
      Out* const at = to[i / Panels] + i % Panels * lane_columns;
      if (i % Panels + 1 < Panels)
        store_group(i, at);
      else if constexpr (sizeof(Out) == 1)
        _mm_mask_storeu_epi8(at, first_lanes(count), group_of(i).v);
      else
        _mm256_mask_storeu_epi16(at, first_lanes(count), group_of(i).v);
    }
  }

 private:
  POLYMAC_INLINE group group_of(std::size_t i) const noexcept {
    if constexpr (joined)
      return {i == 0   ? _mm512_castsi512_si128(all)
              : i == 1 ? _mm512_extracti32x4_epi32(all, 1)
              : i == 2 ? _mm512_extracti32x4_epi32(all, 2)
                       : _mm512_extracti32x4_epi32(all, 3)};
    else
      return each[i];
  }
  POLYMAC_INLINE void store_group(std::size_t i, Out* to) const noexcept {
    if constexpr (sizeof(Out) == 1)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), group_of(i).v);
    else
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), group_of(i).v);
  }
};

template <std::size_t Rows, std::size_t Panels, std::size_t Columns = lane_columns>
struct zmm_floats;

template <std::size_t Rows, std::size_t Panels, std::size_t Columns = lane_columns>
struct zmm_sums {
  static constexpr std::size_t rows = Rows, panels = Panels, groups = groups_of_block<Rows, Panels, Columns>;
  using value = std::int32_t;
  __m512i v[groups];

  static POLYMAC_INLINE zmm_sums load(const std::int32_t* sums, std::size_t stride) noexcept {
    zmm_sums made;
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i)
      made.v[i] = _mm512_loadu_si512(sums + i / Panels * stride + i % Panels * lane_columns);
    return made;
  }
  static POLYMAC_INLINE zmm_sums load_all(const std::int32_t* sums) noexcept {
    zmm_sums made;
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) made.v[i] = _mm512_loadu_si512(sums + i * lane_columns);
    return made;
  }
  POLYMAC_INLINE void store_all(std::int32_t* to) const noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) _mm512_storeu_si512(to + i * lane_columns, v[i]);
  }
  POLYMAC_INLINE void store(std::int32_t* const (&to)[Rows], std::size_t count) const noexcept {
    static_assert(Columns == lane_columns);
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) {
      std::int32_t* const at = to[i / Panels] + i % Panels * lane_columns;
      if (count == lane_columns || i % Panels + 1 < Panels)
        _mm512_storeu_si512(at, v[i]);
      else
        _mm512_mask_storeu_epi32(at, first_lanes(count), v[i]);
    }
  }
  POLYMAC_INLINE void clamp(std::int32_t low, std::int32_t high) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i)
      v[i] = _mm512_min_epi32(_mm512_max_epi32(v[i], _mm512_set1_epi32(low)), _mm512_set1_epi32(high));
  }
  POLYMAC_INLINE void clamp_below(std::int32_t low) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) v[i] = _mm512_max_epi32(v[i], _mm512_set1_epi32(low));
  }
  /// Modulo 2^32.
  template <bool Uniform>
  POLYMAC_INLINE void add(const std::int32_t* addends) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i)
      v[i] = _mm512_add_epi32(v[i], column_words<Uniform, Columns>(addends, i % Panels));
  }
  POLYMAC_INLINE zmm_floats<Rows, Panels, Columns> to_float() const noexcept;

  /// round to nearest even(float(sum) * scale). Bounded: at most `most`, |sum * scale| may be anything; else scales are
  /// below 1, and every product fits.
  template <bool Uniform, bool Bounded>
  POLYMAC_INLINE zmm_sums scale_to_nearest_even(const float* scales, float most) const noexcept {
    zmm_sums made;
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) {
      __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(v[i]), column_floats<Uniform, Columns>(scales, i % Panels));
      // A value below the range converts to the least integer, which saturates as it should; one above would too.
      if constexpr (Bounded) product = _mm512_min_ps(product, _mm512_set1_ps(most));
      made.v[i] = _mm512_cvtps_epi32(product);
    }
    return made;
  }

  /// trunc(sum * (high + low) + offset with the sign of the sum), or, not TowardZero, floor(sum * (high + low) +
  /// offset). The last addition rounds in the direction of the conversion, so that it cannot cross an integer.
  template <bool Uniform, bool TowardZero>
  POLYMAC_INLINE zmm_sums scale_in_float(const float* high, const float* low, const float* offset) const noexcept {
    constexpr int direction = (TowardZero ? _MM_FROUND_TO_ZERO : _MM_FROUND_TO_NEG_INF) | _MM_FROUND_NO_EXC;
    zmm_sums made;
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) {
      const __m512 sum = _mm512_cvtepi32_ps(v[i]);
      __m512 addend = column_floats<Uniform, Columns>(offset, i % Panels);
      if constexpr (TowardZero)  // sign bit from the sum, the others from the offset: c ? b : a for c = sign mask
        addend = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
            _mm512_castps_si512(addend), v[i], _mm512_set1_epi32(std::numeric_limits<std::int32_t>::min()), 0xD8));
      addend = _mm512_fmadd_ps(sum, column_floats<Uniform, Columns>(low, i % Panels), addend);
      const __m512 factor = column_floats<Uniform, Columns>(high, i % Panels);  // no commas of templates in a macro
      const __m512 scaled = _mm512_fmadd_round_ps(sum, factor, addend, direction);
      made.v[i] = TowardZero ? _mm512_cvttps_epi32(scaled) : _mm512_cvt_roundps_epi32(scaled, direction);
    }
    return made;
  }

  /// gemmlowp: the doubling high product rounded half up, then the division rounded half away from zero.
  template <bool Uniform>
  POLYMAC_INLINE zmm_sums scale_rounding_twice(const std::int32_t* multiplier, const std::int32_t* left,
                                               const std::int32_t* right) const noexcept {
    zmm_sums made;
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) {
      const __m512i high = doubling_high(_mm512_sllv_epi32(v[i], column_words<Uniform, Columns>(left, i % Panels)),
                                         column_words<Uniform, Columns>(multiplier, i % Panels),
                                         _mm512_set1_epi64(std::int64_t{1} << 30));
      const __m512i shift = column_words<Uniform, Columns>(right, i % Panels);
      // Half away from zero: one less for negative values, then half up. high > INT32_MIN, so that nothing overflows.
      const __mmask16 divides = _mm512_test_epi32_mask(shift, shift);
      const __m512i lowered = _mm512_mask_add_epi32(high, divides, high, _mm512_srai_epi32(high, 31));
      made.v[i] = half_up(lowered, shift, divides);
    }
    return made;
  }

  /// floor(sum * multiplier * 2^(left - right - 31) + 1/2), the left shift saturating.
  template <bool Uniform>
  POLYMAC_INLINE zmm_sums scale_rounding_once(const std::int32_t* multiplier, const std::int32_t* left,
                                              const std::int32_t* right) const noexcept {
    zmm_sums made;
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) {
      const __m512i up = column_words<Uniform, Columns>(left, i % Panels);
      const __m512i shift = column_words<Uniform, Columns>(right, i % Panels);
      const __m512i least = _mm512_srav_epi32(_mm512_set1_epi32(std::numeric_limits<std::int32_t>::min()), up);
      const __m512i most = _mm512_srav_epi32(_mm512_set1_epi32(std::numeric_limits<std::int32_t>::max()), up);
      const __m512i bounded = _mm512_min_epi32(_mm512_max_epi32(v[i], least), most);
      const __mmask16 divides = _mm512_test_epi32_mask(shift, shift);
      // The rounding bit is added once: behind the right shift where there is one, else here. A multiplication takes
      // the even lanes; the mask says of which half a 64-bit lane stems.
      const __m512i nudge = _mm512_maskz_set1_epi32(static_cast<__mmask16>(~divides), 1 << 30);
      made.v[i] = half_up(doubling_high_nudged(_mm512_sllv_epi32(bounded, up),
                                               column_words<Uniform, Columns>(multiplier, i % Panels), nudge),
                          shift, divides);
    }
    return made;
  }

  /// Adds the zero point and saturates to Out.
  template <class Out>
  POLYMAC_INLINE zmm_codes<Out, Rows, Panels, Columns> narrow(std::int32_t zero_point) const noexcept {
    zmm_codes<Out, Rows, Panels, Columns> made;
    if constexpr (sizeof(Out) == 2) {
      const __m512i least = _mm512_set1_epi32(std::numeric_limits<Out>::min() - zero_point);
      const __m512i most = _mm512_set1_epi32(std::numeric_limits<Out>::max() - zero_point);
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < groups; ++i)
        made.each[i].v = _mm512_cvtepi32_epi16(
            _mm512_add_epi32(_mm512_min_epi32(_mm512_max_epi32(v[i], least), most), _mm512_set1_epi32(zero_point)));
    } else {
      // Saturating at 16 bits before and behind the addition gives what one saturation at the end gives: |zero point|
      // is below 2^8, so whatever saturates at 16 bits lies far outside of 8 bits.
      const __m512i zero = _mm512_set1_epi16(static_cast<std::int16_t>(zero_point));
      if constexpr (zmm_codes<Out, Rows, Panels, Columns>::joined) {
        const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero);
        const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero);
        const __m512i bytes = pack_bytes<Out>(low, high);
        made.all =
            _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
      } else {
        POLYMAC_UNROLL
        for (std::size_t i = 0; i < groups; ++i) {
          const __m512i words = _mm512_adds_epi16(_mm512_packs_epi32(v[i], v[i]), zero);
          const __m512i bytes = pack_bytes<Out>(words, words);
          made.each[i].v = _mm512_castsi512_si128(
              _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12), bytes));
        }
      }
    }
    return made;
  }

 private:
  template <class Out>
  static POLYMAC_INLINE __m512i pack_bytes(__m512i a, __m512i b) noexcept {
    if constexpr (std::is_signed_v<Out>)
      return _mm512_packs_epi16(a, b);
    else
      return _mm512_packus_epi16(a, b);
  }
  /// floor((a * b + nudge) / 2^31), modulo 2^32, with a nudge per 64-bit lane.
  static POLYMAC_INLINE __m512i doubling_high(__m512i a, __m512i b, __m512i nudge) noexcept {
    return merge(_mm512_add_epi64(_mm512_mul_epi32(a, b), nudge),
                 _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32)), nudge));
  }
  /// The same with a nudge per 32-bit lane, at least 0.
  static POLYMAC_INLINE __m512i doubling_high_nudged(__m512i a, __m512i b, __m512i nudge) noexcept {
    return merge(_mm512_add_epi64(_mm512_mul_epi32(a, b), _mm512_maskz_mov_epi32(0x5555, nudge)),
                 _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32)),
                                  _mm512_srli_epi64(nudge, 32)));
  }
  static POLYMAC_INLINE __m512i merge(__m512i even, __m512i odd) noexcept {
    return _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 31), _mm512_add_epi64(odd, odd));
  }
  /// (x >> shift) + the bit below, for the lanes that divide.
  static POLYMAC_INLINE __m512i half_up(__m512i x, __m512i shift, __mmask16 divides) noexcept {
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i below = _mm512_and_si512(_mm512_srav_epi32(x, _mm512_sub_epi32(shift, one)), one);
    return _mm512_mask_add_epi32(_mm512_srav_epi32(x, shift), divides, _mm512_srav_epi32(x, shift), below);
  }
};

template <std::size_t Rows, std::size_t Panels, std::size_t Columns>
struct zmm_floats {
  static constexpr std::size_t rows = Rows, panels = Panels, groups = groups_of_block<Rows, Panels, Columns>;
  using value = float;
  __m512 v[groups];

  static POLYMAC_INLINE zmm_floats load(const float* sums, std::size_t stride) noexcept {
    zmm_floats made;
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i)
      made.v[i] = _mm512_loadu_ps(sums + i / Panels * stride + i % Panels * lane_columns);
    return made;
  }
  static POLYMAC_INLINE zmm_floats load_all(const float* sums) noexcept {
    zmm_floats made;
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) made.v[i] = _mm512_loadu_ps(sums + i * lane_columns);
    return made;
  }
  POLYMAC_INLINE void store_all(float* to) const noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) _mm512_storeu_ps(to + i * lane_columns, v[i]);
  }
  POLYMAC_INLINE void store(float* const (&to)[Rows], std::size_t count) const noexcept {
    static_assert(Columns == lane_columns);
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) {
      float* const at = to[i / Panels] + i % Panels * lane_columns;
      if (count == lane_columns || i % Panels + 1 < Panels)
        _mm512_storeu_ps(at, v[i]);
      else
        _mm512_mask_storeu_ps(at, first_lanes(count), v[i]);
    }
  }
  // vmaxps and vminps give their second operand where one is NaN.
  POLYMAC_INLINE void clamp(float low, float high) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i)
      v[i] = _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), v[i]));
  }
  POLYMAC_INLINE void clamp_below(float low) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i) v[i] = _mm512_max_ps(_mm512_set1_ps(low), v[i]);
  }
  template <bool Uniform>
  POLYMAC_INLINE void multiply(const float* factors) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i)
      v[i] = _mm512_mul_ps(v[i], column_floats<Uniform, Columns>(factors, i % Panels));
  }
  template <bool Uniform>
  POLYMAC_INLINE void add(const float* addends) noexcept {
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < groups; ++i)
      v[i] = _mm512_add_ps(v[i], column_floats<Uniform, Columns>(addends, i % Panels));
  }
};

template <std::size_t Rows, std::size_t Panels, std::size_t Columns>
POLYMAC_INLINE zmm_floats<Rows, Panels, Columns> zmm_sums<Rows, Panels, Columns>::to_float() const noexcept {
  zmm_floats<Rows, Panels, Columns> made;
  POLYMAC_UNROLL
  for (std::size_t i = 0; i < groups; ++i) made.v[i] = _mm512_cvtepi32_ps(v[i]);
  return made;
}

}  // namespace detail

template <std::size_t Rows, std::size_t Panels, std::size_t Columns>
struct lanes<std::int32_t, avx512, Rows, Panels, Columns> {
  using type = detail::zmm_sums<Rows, Panels, Columns>;
};
template <std::size_t Rows, std::size_t Panels, std::size_t Columns>
struct lanes<float, avx512, Rows, Panels, Columns> {
  using type = detail::zmm_floats<Rows, Panels, Columns>;
};

}  // namespace isa
POLYMAC_END

#endif
