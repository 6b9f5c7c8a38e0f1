// SPDX-License-Identifier: MIT
// Tiles of counts of bits: mac::binary, mac::sign, mac::bit_planes.
//
//                    panel 0: column 0 1 ...     64 k of a column in a lane of 64 bits
//   row 0   word     sum      sum ...            counts, added in the lane
//   row 1   word     sum      sum ...
//
// An instruction set brings its registers and how it counts bits in them: whole lanes at once (vpopcntq), or bytes, which
// are added up to lanes in a second step (vpshufb and vpsadbw, cnt and uadalp). What is counted is said here, once.
#pragma once

#include "polymac/core/block.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/isa/register_panels.hpp"
#include "polymac/mac/bit_planes.hpp"
#include "polymac/mac/sign.hpp"

#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// V, registers of words of 64 bits:
///   type, lanes, load, store             sums of columns, 32 bits in memory
///   words, load_words, broadcast         64 k of some columns; of one row
///   both(a, b)                           a & b
///   differing(a, b, valid)               (a ^ b) & valid
///   counts, count(words)                 how many bits are set, in a lane or in its bytes; up to 127 fit
///   none(), plus(counts, counts), times_power(counts, n)
///                                        n: of two
///   add(sums, counts), add_difference(sums, counts, counts)
///   max_rows, max_panels                 of the largest tile
/// Words: what is counted of an element.
///   mac, words                           words of a weight
///   operand, load, broadcast
///   add_count(sums, activation, panel)
///   encode(weight, to)                   words are V::lanes apart
template <class I, class V, class Words>
struct popcount_tile : register_panels<V, std::int32_t> {
  using mac = typename Words::mac;
  using isa = I;
  using activation = typename mac::activation;
  using weight = typename mac::weight;
  using packed = std::uint64_t;
  static constexpr std::size_t columns = V::lanes;
  static constexpr std::size_t depth = 1;
  static constexpr std::size_t group_elements = Words::words * columns;
  static constexpr std::size_t max_rows = V::max_rows;
  static constexpr std::size_t max_panels = V::max_panels;
  static constexpr int activation_offset = 0;

  template <std::size_t Rows, std::size_t Panels>
  using tile = register_sums<V, Rows, Panels>;

  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(tile<Rows, Panels>& t, const Places& rows, std::size_t offset, const packed* weights,
                                  std::size_t stride) noexcept {
    typename Words::operand w[Panels];
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) w[p] = Words::load(weights + p * stride);
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const auto a = Words::broadcast(rows[r][offset]);
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

template <class V>
struct binary_words {
  using mac = polymac::mac::binary;
  static constexpr std::size_t words = 1;
  using operand = typename V::words;
  static POLYMAC_INLINE operand load(const std::uint64_t* from) noexcept { return V::load_words(from); }
  static POLYMAC_INLINE operand broadcast(bit_word a) noexcept { return V::broadcast(a.bits); }
  static POLYMAC_INLINE typename V::type add_count(typename V::type sums, operand a, operand w) noexcept {
    return V::add(sums, V::count(V::both(a, w)));
  }
  static constexpr void encode(bit_word w, std::uint64_t* to) noexcept { *to = w.bits; }
};

/// n - 2 popcount((a ^ w) & valid) with n = popcount(valid).
template <class V>
struct sign_words {
  using mac = polymac::mac::sign;
  static constexpr std::size_t words = 2;
  struct operand {
    typename V::words negative, valid;
  };
  static POLYMAC_INLINE operand load(const std::uint64_t* from) noexcept {
    return {V::load_words(from), V::load_words(from + V::lanes)};
  }
  static POLYMAC_INLINE operand broadcast(const polymac::mac::sign_word& a) noexcept {
    return {V::broadcast(a.negative), V::broadcast(a.valid)};
  }
  static POLYMAC_INLINE typename V::type add_count(typename V::type sums, const operand& a, const operand& w) noexcept {
    const auto valid = V::both(a.valid, w.valid);
    return V::add_difference(sums, V::count(valid),
                             V::times_power(V::count(V::differing(a.negative, w.negative, valid)), 1));
  }
  static constexpr void encode(const polymac::mac::sign_word& w, std::uint64_t* to) noexcept {
    to[0] = w.negative;
    to[V::lanes] = w.valid;
  }
};

/// All pairs of planes, at most 2 x 2: counts of a byte are up to 8 x 9.
template <class V, class M>
struct plane_pairs {
  using mac = M;
  using activation = typename M::activation;
  using weight = typename M::weight;
  static constexpr int activation_planes = sizeof(activation) / 8, weight_planes = sizeof(weight) / 8;
  static_assert(activation_planes <= 2 && weight_planes <= 2);
  static constexpr std::size_t words = weight_planes;
  struct operand {
    typename V::words planes[2];
  };
  static POLYMAC_INLINE operand load(const std::uint64_t* from) noexcept {
    operand o{};
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < words; ++i) o.planes[i] = V::load_words(from + i * V::lanes);
    return o;
  }
  static POLYMAC_INLINE operand broadcast(const activation& a) noexcept {
    operand o{};
    POLYMAC_UNROLL
    for (int i = 0; i < activation_planes; ++i) o.planes[i] = V::broadcast(a.planes[i]);
    return o;
  }
  static POLYMAC_INLINE typename V::type add_count(typename V::type sums, const operand& a, const operand& w) noexcept {
    typename V::counts positive = V::none(), negative = V::none();
    POLYMAC_UNROLL
    for (int i = 0; i < activation_planes; ++i) {
      POLYMAC_UNROLL
      for (int j = 0; j < weight_planes; ++j) {
        auto& of_sign = is_negative(i, j) ? negative : positive;
        of_sign = V::plus(of_sign, V::times_power(V::count(V::both(a.planes[i], w.planes[j])), i + j));
      }
    }
    if constexpr (is_negative(activation_planes - 1, 0) || is_negative(0, weight_planes - 1) ||
                  is_negative(activation_planes - 1, weight_planes - 1))
      return V::add_difference(sums, positive, negative);
    else
      return V::add(sums, positive);
  }
  static constexpr void encode(const weight& w, std::uint64_t* to) noexcept {
    for (std::size_t i = 0; i < words; ++i) to[i * V::lanes] = w.planes[i];
  }

 private:
  static constexpr bool is_negative(int i, int j) noexcept {
    return (activation::weight_of(i) < 0) != (weight::weight_of(j) < 0);
  }
};

/// The atom of each arithmetic of bits, where V counts them.
template <class M, class I, class V>
struct popcount_atom;
template <class I, class V>
struct popcount_atom<polymac::mac::binary, I, V> : popcount_tile<I, V, binary_words<V>> {};
template <class I, class V>
struct popcount_atom<polymac::mac::sign, I, V> : popcount_tile<I, V, sign_words<V>> {};
template <int A, int W, bool AS, bool WS, class I, class V>
struct popcount_atom<polymac::mac::bit_planes<A, W, AS, WS>, I, V>
    : popcount_tile<I, V, plane_pairs<V, polymac::mac::bit_planes<A, W, AS, WS>>> {};

/// Arithmetics that have one: bit planes of up to two bits each.
template <class M>
inline constexpr bool counts_bits = false;
template <>
inline constexpr bool counts_bits<polymac::mac::binary> = true;
template <>
inline constexpr bool counts_bits<polymac::mac::sign> = true;
template <int A, int W, bool AS, bool WS>
inline constexpr bool counts_bits<polymac::mac::bit_planes<A, W, AS, WS>> = A <= 2 && W <= 2;
template <class M>
concept CountsBits = counts_bits<M>;

}  // namespace detail
}  // namespace isa
POLYMAC_END
