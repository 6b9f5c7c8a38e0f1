// SPDX-License-Identifier: MIT
// The atoms of N:M sparse weights: on x86 for bytes, else from the golden model. See n_of_m_product.hpp.
//
//   intrinsic                      instruction                    Zen 4, 5           Sapphire/Granite Rapids
//   _mm512_shuffle_epi8            vpshufb zmm                    2 cy, 2/cycle      1 cy, 1/cycle
//   _mm512_permutexvar_epi8        vpermb zmm (VBMI)              4-6 cy, 2/cycle    3 cy, 1/cycle
//   _mm512_multishift_epi64_epi8   vpmultishiftqb zmm (VBMI)      2/cycle            1/cycle
//   _mm512_broadcast_i32x4 ...     vbroadcasti32x4 zmm, m128      a product's port   load ports only
//   _mm256_shuffle_epi8            vpshufb ymm                    2/cycle            2/cycle (client: 1 to 2)
//   (uops.info, Agner Fog's tables; on Zen 4 operations of 512 bits are two of 256)
//
// What was measured on Zen 4, L1 alone, for a row and two registers of products (dense: 2.2 cycles): load of 64 bytes and
// vpermb 2.8; with the flip 2.95; broadcast of 64 bits or 128 bits, flip, vpshufb 3.8 and 4.1, for those broadcasts take
// a port of the products there. So windows are 64 bytes wherever bytes can be permuted across them.
#pragma once

#include "polymac/isa/all.hpp"
#include "polymac/isa/n_of_m_product.hpp"
#include "polymac/isa/policy_atom.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace policy {

/// Complete where the atoms are known.
struct n_of_m_atoms {};

}  // namespace policy
namespace isa {

/// Any arithmetic: weights that are kept stand side by side with their places, one group of M k in a step, in the order in
/// which the dense generic atom adds their products.
///
///               column 0       1       2     ...  15
///     slot 0    w, place    w, place   .           .        a group of a panel: N x 16 of these
///     slot n-1  w, place    .
template <Mac M, policy::detail::NOfM P>
requires(P::group % mac_traits<M>::group == 0 && mac_traits<M>::chain % P::group == 0) struct generic_sparse_atom<M, P>
    : atom<M, scalar> {
  using obeyed = P;
  using dense = atom<M, scalar>;
  using activation = typename M::activation;
  using weight = typename M::weight;
  struct packed {
    weight value;
    std::uint8_t place;
  };
  static constexpr std::size_t columns = dense::columns;
  static constexpr std::size_t depth = P::group;
  static constexpr std::size_t group_elements = P::kept * columns;
  static constexpr std::size_t chain_groups = mac_traits<M>::chain / depth;

  static constexpr void encode(const weight* group, packed* to) noexcept {
    for (std::size_t c = 0; c < columns; ++c, group += depth)
      detail::for_each_kept<P>(
          depth, mac_traits<M>::group, [&](std::size_t k) { return !(group[k] == weight{}); },
          [&](std::size_t slot, std::size_t k, bool fills) {
            to[slot * columns + c] = {fills ? weight{} : group[k], static_cast<std::uint8_t>(k)};
          });
  }
  template <std::size_t Rows, std::size_t Panels, class Places>
  static constexpr void step(typename dense::template tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                             const packed* weights, std::size_t) noexcept {
    for (std::size_t r = 0; r < Rows; ++r) {
      const activation* const a = rows[r] + offset;
      for (std::size_t n = 0; n < P::kept; ++n)
        for (std::size_t c = 0; c < columns; ++c) {
          const packed& w = weights[n * columns + c];
          t.sums[r][c] = M::multiply_add(t.sums[r][c], a[w.place], w.value);
        }
    }
  }
};

namespace detail {

/// M / N: so many times fewer products than dense.
template <class P>
inline constexpr double products_saved = static_cast<double>(P::group) / static_cast<double>(P::kept);

/// Does a window fill a register of so many bytes a whole number of times?
template <class P, std::size_t Bytes>
concept FitsWindow = policy::detail::NOfM<P> &&
                     (window_of<P> == 8 || window_of<P> == 16 || window_of<P> == 32 || window_of<P> == 64) &&
                     window_of<P> <= Bytes && 4 % P::kept == 0;
#if defined(__AVX2__) && defined(__FMA__)

/// Windows of 8 and 16 bytes: a quarter of 128 bits selects for itself.
template <class Registers>
struct ymm_selects : Registers {
  using type = __m256i;
  template <std::size_t Window>
  static POLYMAC_INLINE type window(const void* from) noexcept {
    if constexpr (Window == 8)
      return _mm256_set1_epi64x(group_bytes<std::int64_t>(static_cast<const std::int8_t*>(from)));
    else
      return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(from)));
  }
  template <std::size_t Window>
  static POLYMAC_INLINE type select(type window, type places) noexcept {
    return _mm256_shuffle_epi8(window, places);
  }
  template <class P>
  static POLYMAC_INLINE type load_places(const std::int8_t* from) noexcept {
    if constexpr (P::positions_as == policy::positions::packed)  // of four columns
      return _mm256_permutevar8x32_epi32(
          _mm256_castsi128_si256(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))),
          _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
    else
      return Registers::load(from);
  }
};
/// Two registers a panel. Fewer rows than of dense weights: a register of places for each of weights.
template <class I, class Registers, class Base, class P, std::size_t MaxRows>
using ymm_n_of_m_tile =
    n_of_m_tile<I, ymm_selects<Registers>, n_of_m_product<Base, ymm_selects<Registers>, P>, 2, MaxRows, 1>;
template <class P>
concept FitsYmm = FitsWindow<P, 16> && P::sharing != policy::share::tile &&
                  (P::positions_as == policy::positions::bytes || P::sharing == policy::share::four);

#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)

#if defined(__AVX512VBMI__)
inline constexpr bool permutes_bytes = true;
#else
inline constexpr bool permutes_bytes = false;
#endif

struct zmm_selects : zmm_dot {
  template <std::size_t Window>
  static POLYMAC_INLINE type window(const void* from) noexcept {
    if constexpr (Window == 8)
      return _mm512_set1_epi64(group_bytes<std::int64_t>(static_cast<const std::int8_t*>(from)));
    else if constexpr (Window == 16)
      return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(from)));
    else if constexpr (Window == 32)
      return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
    else
      return _mm512_loadu_si512(from);
  }
  template <std::size_t Window>
  static POLYMAC_INLINE type select(type window, type places) noexcept {
    if constexpr (Window <= 16)
      return _mm512_shuffle_epi8(window, places);
    else
      return permuted(window, places);
  }
  template <class P>
  static POLYMAC_INLINE type load_places(const std::int8_t* from) noexcept {
    if constexpr (P::sharing == policy::share::four && P::positions_as == policy::positions::packed)
      return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
                                      _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
    else if constexpr (P::sharing == policy::share::tile)
      return _mm512_set1_epi32(four_bytes(from));
    else if constexpr (P::positions_as == policy::positions::packed)
      return unpacked<P>(from);
    else
      return zmm_dot::load(from);
  }
  static POLYMAC_INLINE __m128i load_shared_places(const std::int8_t* from) noexcept {
    return _mm_cvtsi32_si128(four_bytes(from));
  }
  /// Four bytes of the window at `from`, in all lanes.
  template <std::size_t Window>
  static POLYMAC_INLINE type select_shared(const void* from, __m128i places) noexcept {
    if constexpr (Window == 8)
      return _mm512_broadcastd_epi32(_mm_shuffle_epi8(_mm_loadl_epi64(static_cast<const __m128i*>(from)), places));
    else if constexpr (Window == 16)
      return _mm512_broadcastd_epi32(_mm_shuffle_epi8(_mm_loadu_si128(static_cast<const __m128i*>(from)), places));
    else
      return _mm512_broadcastd_epi32(
          _mm512_castsi512_si128(permuted(window<Window>(from), _mm512_castsi128_si512(places))));
  }

 private:
  static POLYMAC_INLINE type permuted([[maybe_unused]] type window, [[maybe_unused]] type places) noexcept {
#if defined(__AVX512VBMI__)
    return _mm512_permutexvar_epi8(places, window);
#else
    return window;           // never asked for
#endif
  }
  template <class P>
  static POLYMAC_INLINE type unpacked([[maybe_unused]] const std::int8_t* from) noexcept {
#if defined(__AVX512VBMI__)
    using packed = packed_places<P>;
    constexpr std::uint64_t b = packed::bits;
    // Every eight bytes of the shifts: fields of the lanes at bits 0 and 32.
    constexpr std::uint64_t shifts = b << 8 | 2 * b << 16 | 3 * b << 24, high = 0x2020202000000000u;
    constexpr std::uint32_t bases =
        static_cast<std::uint32_t>(packed::base(1) << 8 | packed::base(2) << 16 | packed::base(3) << 24);
    type lanes;
    if constexpr (packed::bits == 2)
      lanes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    else
      lanes = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    const type fields =
        _mm512_multishift_epi64_epi8(_mm512_set1_epi64(static_cast<std::int64_t>(high | shifts << 32 | shifts)), lanes);
    return _mm512_ternarylogic_epi32(fields, _mm512_set1_epi8((1 << packed::bits) - 1),
                                     _mm512_set1_epi32(static_cast<std::int32_t>(bases)),
                                     0xEA);  // fields & mask | bases
#else
    return zmm_dot::zero();  // never asked for
#endif
  }
};

template <class P>
concept FitsZmm = FitsWindow<P, 64> &&
                  (permutes_bytes || (window_of<P> <= 16 && (P::positions_as == policy::positions::bytes ||
                                                             P::sharing != policy::share::column))) &&
                  (P::positions_as == policy::positions::bytes || P::sharing == policy::share::four ||
                   (P::sharing == policy::share::column && P::group <= 16));

/// Windows of 64 bytes need no broadcast, which on Zen 4 takes a port of the products from 128 bits on.
template <class P>
inline constexpr std::size_t windows_of_load =
    permutes_bytes&& P::sharing != policy::share::tile&& P::positions_as == policy::positions::bytes ? 64 / window_of<P>
                                                                                                     : 1;
template <class A, class P, bool Prepared>
using zmm_n_of_m =
    n_of_m_tile<avx512_vnni, zmm_selects,
                n_of_m_product<byte_dot_product<A, zmm_dot, Prepared>, zmm_selects, P, windows_of_load<P>>, 1, 12, 2>;
/// Where half of the weights are kept there are enough products for each activation to flip them before, on Zen, too: 1.41
/// instead of 1.35 x dense (784 x 256 x 2304, Zen 4), with the whole depth in L1; of fewer weights it costs more than it
/// saves.
template <class P>
inline constexpr bool flips_before = !flipping_is_free || 2 * P::kept >= P::group;
template <class A, class P>
struct zmm_n_of_m_atom : zmm_n_of_m<A, P, false> {};
template <class P>
struct zmm_n_of_m_atom<mac::int8, P>
    : flipping_atom<zmm_dot, zmm_n_of_m<mac::int8, P, false>, zmm_n_of_m<mac::int8, P, true>, flips_before<P>> {
  static constexpr std::size_t prepared_depth = 2304;
};

#endif

}  // namespace detail

#if defined(__AVX2__) && defined(__FMA__)
template <detail::Bytes M, detail::FitsYmm P>
struct sparse_atom<M, avx2, P>
    : detail::ymm_n_of_m_tile<avx2, detail::ymm, detail::parity_product<M, detail::ymm>, P, 3> {
  using obeyed = P;
  static constexpr double speed_up = 0.6 * detail::products_saved<P>;
};
#if defined(__AVXVNNI__)
template <detail::Bytes M, detail::FitsYmm P>
struct sparse_atom<M, avx_vnni, P>
    : detail::ymm_n_of_m_tile<avx_vnni, detail::ymm_dot, detail::byte_dot_product<M, detail::ymm_dot>, P, 4> {
  using obeyed = P;
  static constexpr double speed_up = 0.7 * detail::products_saved<P>;
};
#endif
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)
template <detail::Bytes M, detail::FitsZmm P>
struct sparse_atom<M, avx512_vnni, P> : detail::zmm_n_of_m_atom<M, P> {
  using obeyed = P;
  /// Pairs of a selection and a product: three ports for two of them on Zen, two on Intel, of which one selects.
  static constexpr double speed_up = (POLYMAC_IS_ZEN ? 0.75 : 0.5) * detail::products_saved<P>;
};
#endif

}  // namespace isa
POLYMAC_END
