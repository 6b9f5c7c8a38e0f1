// SPDX-License-Identifier: MIT
// Products of bits on 512 bits: mac::binary, mac::bit_planes, mac::sign, mac::spike.
//
//   intrinsic                  instruction              Zen 4        Granite Rapids
//   _mm512_popcnt_epi64        vpopcntq zmm             1/cycle      1/cycle (p5)
//   _mm512_and_si512           vpandq zmm               2/cycle      2/cycle (p05)
//   _mm512_add_epi64           vpaddq zmm               2/cycle      2/cycle (p05)
//   _mm512_maskz_mov_epi8      vmovdqu8 zmm{k}{z}       2/cycle      1/cycle (p5)     spikes to bytes, once for a tile
//
//   binary: 8 columns of a panel, a word (64 k) deep; up to 6 rows x 4 panels
//
//                    panel 0: column 0 1 ... 7     64 k of a column in a lane of 64 bits
//   row 0   word     sum      sum ...              counts in 64 bits; stored as 32
//
// Spikes are bytes 0 and 1 for dot products with bytes, 16 of them for a word: unsigned activations need no offset.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/avx512_vnni.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/isa/register_panels.hpp"
#include "polymac/mac/bit_planes.hpp"
#include "polymac/mac/sign.hpp"
#include "polymac/mac/spike.hpp"

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

#if defined(__AVX512VPOPCNTDQ__)

/// Counts in 64 bits, of sums in 32.
struct zmm_counts {
  using type = __m512i;
  static constexpr std::size_t lanes = 8;
  static POLYMAC_INLINE type load(const std::int32_t* from) noexcept {
    return _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static POLYMAC_INLINE void store(std::int32_t* to, type v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi64_epi32(v));
  }
};

/// A tile of counts. Words: `mac`, `packed_words` of a panel's group, `encode(group, to)`, and
///   count(activation, panel)  what 8 columns of a word have in common, as 64-bit numbers
template <class Words>
struct popcount_tile : register_panels<zmm_counts, std::int32_t> {
  using mac = typename Words::mac;
  using isa = avx512_vnni;
  using activation = typename mac::activation;
  using weight = typename mac::weight;
  using packed = std::uint64_t;
  static constexpr std::size_t columns = zmm_counts::lanes;
  static constexpr std::size_t depth = 1;
  static constexpr std::size_t group_elements = Words::words * columns;
  static constexpr std::size_t max_rows = 6;
  static constexpr std::size_t max_panels = 4;
  static constexpr int activation_offset = 0;

  template <std::size_t Rows, std::size_t Panels>
  using tile = register_sums<zmm_counts, Rows, Panels>;

  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(tile<Rows, Panels>& t, const Places& rows, std::size_t offset, const packed* weights,
                                  std::size_t stride) noexcept {
    typename Words::operand w[Panels];
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) w[p] = Words::load(weights + p * stride);
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const typename Words::operand a = Words::broadcast(rows[r][offset]);
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) {
        t.sums[r][p] = Words::add_count(t.sums[r][p], a, w[p]);
        keep_in_order(t.sums[r][p]);
      }
    }
  }
  static constexpr void encode(const weight* group, packed* to) noexcept {
    for (std::size_t c = 0; c < columns; ++c) Words::encode(group[c], to + c);
  }
};

struct binary_words {
  using mac = polymac::mac::binary;
  static constexpr std::size_t words = 1;
  using operand = __m512i;
  static POLYMAC_INLINE operand load(const std::uint64_t* from) noexcept { return _mm512_loadu_si512(from); }
  static POLYMAC_INLINE operand broadcast(bit_word a) noexcept {
    return _mm512_set1_epi64(static_cast<long long>(a.bits));
  }
  static POLYMAC_INLINE __m512i add_count(__m512i sums, operand a, operand w) noexcept {
    return _mm512_add_epi64(sums, _mm512_popcnt_epi64(_mm512_and_si512(a, w)));
  }
  static constexpr void encode(bit_word w, std::uint64_t* to) noexcept { *to = w.bits; }
};

/// n - 2 popcount((a ^ w) & valid) with n = popcount(valid).
struct sign_words {
  using mac = polymac::mac::sign;
  static constexpr std::size_t words = 2;
  struct operand {
    __m512i negative, valid;
  };
  static POLYMAC_INLINE operand load(const std::uint64_t* from) noexcept {
    return {_mm512_loadu_si512(from), _mm512_loadu_si512(from + 8)};
  }
  static POLYMAC_INLINE operand broadcast(const polymac::mac::sign_word& a) noexcept {
    return {_mm512_set1_epi64(static_cast<long long>(a.negative)), _mm512_set1_epi64(static_cast<long long>(a.valid))};
  }
  static POLYMAC_INLINE __m512i add_count(__m512i sums, const operand& a, const operand& w) noexcept {
    const __m512i valid = _mm512_and_si512(a.valid, w.valid);
    const __m512i differing =
        _mm512_popcnt_epi64(_mm512_ternarylogic_epi64(a.negative, w.negative, valid, 0x28));  // (a ^ w) & valid
    return _mm512_add_epi64(sums, _mm512_sub_epi64(_mm512_popcnt_epi64(valid), _mm512_add_epi64(differing, differing)));
  }
  static constexpr void encode(const polymac::mac::sign_word& w, std::uint64_t* to) noexcept {
    to[0] = w.negative;
    to[8] = w.valid;
  }
};

/// All pairs of planes.
template <class M>
struct plane_pairs {
  using mac = M;
  using activation = typename M::activation;
  using weight = typename M::weight;
  static constexpr int activation_planes = sizeof(activation) / 8, weight_planes = sizeof(weight) / 8;
  static constexpr std::size_t words = weight_planes;
  struct operand {
    __m512i planes[activation_planes > weight_planes ? activation_planes : weight_planes];
  };
  static POLYMAC_INLINE operand load(const std::uint64_t* from) noexcept {
    operand o;
    POLYMAC_UNROLL
    for (int i = 0; i < weight_planes; ++i) o.planes[i] = _mm512_loadu_si512(from + 8 * i);
    return o;
  }
  static POLYMAC_INLINE operand broadcast(const activation& a) noexcept {
    operand o;
    POLYMAC_UNROLL
    for (int i = 0; i < activation_planes; ++i) o.planes[i] = _mm512_set1_epi64(static_cast<long long>(a.planes[i]));
    return o;
  }
  static POLYMAC_INLINE __m512i add_count(__m512i sums, const operand& a, const operand& w) noexcept {
    POLYMAC_UNROLL
    for (int i = 0; i < activation_planes; ++i) {
      POLYMAC_UNROLL
      for (int j = 0; j < weight_planes; ++j) {
        const bool negative = (activation::weight_of(i) < 0) != (weight::weight_of(j) < 0);
        const __m512i count = _mm512_slli_epi64(_mm512_popcnt_epi64(_mm512_and_si512(a.planes[i], w.planes[j])),
                                                static_cast<unsigned>(i + j));
        sums = negative ? _mm512_sub_epi64(sums, count) : _mm512_add_epi64(sums, count);
      }
    }
    return sums;
  }
  static constexpr void encode(const weight& w, std::uint64_t* to) noexcept {
    for (int i = 0; i < weight_planes; ++i) to[8 * i] = w.planes[i];
  }
};

#endif

#if defined(__AVX512VNNI__)

/// 64 spikes as bytes.
struct spike_bytes {
  std::uint8_t values[64];
};

/// Words of spikes: 16 steps of the tile of bytes.
struct spike_steps {
  using bytes = avx512_vnni_tile<byte_dot_product<polymac::mac::uint8, zmm_dot>>;
  using mac = polymac::mac::spike;
  using isa = avx512_vnni;
  using activation = spike_bytes;
  using weight = typename mac::weight;
  using accumulator = std::int32_t;
  using packed = std::int8_t;
  static constexpr std::size_t columns = bytes::columns;
  static constexpr std::size_t depth = 1;
  static constexpr std::size_t group_elements = 64 * columns;
  static constexpr std::size_t max_rows = bytes::max_rows;
  static constexpr std::size_t max_panels = bytes::max_panels;
  static constexpr int activation_offset = 0;
  static constexpr std::size_t panels_for(std::size_t rows) noexcept { return bytes::panels_for(rows); }
  template <std::size_t Rows, std::size_t Panels>
  using tile = typename bytes::template tile<Rows, Panels>;

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void start(bytes::tile<Rows, Panels>& t, const accumulator* starts,
                                   std::size_t stride) noexcept {
    bytes::start(t, starts, stride);
  }
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void resume(bytes::tile<Rows, Panels>& t, const accumulator* sums,
                                    std::size_t stride) noexcept {
    bytes::resume(t, sums, stride);
  }
  template <class Places>
  struct byte_rows {
    const Places& rows;
    std::size_t offset;
    POLYMAC_INLINE const std::uint8_t* operator[](std::size_t r) const noexcept { return rows[r][offset].values; }
  };
  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(bytes::tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                  const packed* weights, std::size_t stride) noexcept {
    const byte_rows<Places> all{rows, offset};
    for (std::size_t k = 0; k < 64; k += 4) bytes::step(t, all, k, weights + k * columns, stride);
  }
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void store(const bytes::tile<Rows, Panels>& t, accumulator* sums,
                                   std::size_t stride = Panels * columns) noexcept {
    bytes::store(t, sums, stride);
  }
};

struct spike_atom : spike_steps {
  using activation = bit_word;
  using prepared = spike_steps;
  static constexpr void encode(const weight* group, packed* to) noexcept {
    for (std::size_t c = 0; c < columns; ++c)
      for (std::size_t k = 0; k < 64; ++k) to[k / 4 * 4 * columns + 4 * c + k % 4] = group[c][k];
  }
  template <class Rows>
  static POLYMAC_INLINE void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count,
                                     spike_bytes* to, std::size_t stride) noexcept {
    for (std::size_t r = 0; r < row_count; ++r)
      for (std::size_t i = 0; i < count; ++i)
        _mm512_storeu_si512(to[r * stride + i].values, _mm512_maskz_set1_epi8(rows[r][offset + i].bits, 1));
  }
  /// Of rows as they are: sums in 64 bits.
  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(bytes::tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                  const packed* weights, std::size_t stride) noexcept {
    spike_bytes expanded[Rows];
    const spike_bytes* places[Rows];
    for (std::size_t r = 0; r < Rows; ++r) {
      _mm512_storeu_si512(expanded[r].values, _mm512_maskz_set1_epi8(rows[r][offset].bits, 1));
      places[r] = expanded + r;
    }
    spike_steps::step(t, places, 0, weights, stride);
  }
};

#endif

}  // namespace detail

#if defined(__AVX512VNNI__)
template <>
struct atom<mac::spike, avx512_vnni> : detail::spike_atom {};
#if defined(__AVX512VPOPCNTDQ__)
template <>
struct atom<mac::binary, avx512_vnni> : detail::popcount_tile<detail::binary_words> {};
template <>
struct atom<mac::sign, avx512_vnni> : detail::popcount_tile<detail::sign_words> {};
template <int A, int W, bool AS, bool WS>
requires(A <= 2 && W <= 2) struct atom<mac::bit_planes<A, W, AS, WS>, avx512_vnni>
    : detail::popcount_tile<detail::plane_pairs<mac::bit_planes<A, W, AS, WS>>> {
};
#endif
#endif

}  // namespace isa
POLYMAC_END

#endif
