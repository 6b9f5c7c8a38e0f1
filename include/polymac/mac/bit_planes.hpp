// SPDX-License-Identifier: MIT
// Products of numbers of one or two bits, 64 at a time: AND and a count of bits.
#pragma once

#include "polymac/core/block.hpp"
#include "polymac/core/concepts.hpp"
#include "polymac/core/text.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

POLYMAC_BEGIN
namespace isa {
struct arithmetic_atoms;
}

namespace mac {

/// Bits x bits -> s32, exact: an element is a word of 64 k, the product of two words popcount(a & w). 0 adds nothing,
/// so tails are filled up with zeros. Depths are counted in words.
struct binary {
  using activation = bit_word;
  using weight = bit_word;
  using accumulator = std::int32_t;
  using atoms = isa::arithmetic_atoms;
  static constexpr const char* name = "binary";
  /// Of disjoint bits; there is no zero point of words.
  static constexpr bool linear = true;
  static constexpr bool exact = true;
  /// k of an element.
  static constexpr std::size_t group_size = 64;
  static constexpr std::size_t max_depth = std::numeric_limits<accumulator>::max() / 64;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return c + std::popcount(a.bits & w.bits);
  }
  /// 64 numbers, each of them 0 or 1, as a word: read(k) -> bool.
  template <class Read>
  static constexpr bit_word encode(const Read& read) noexcept {
    bit_word word;
    for (std::size_t k = 0; k < group_size; ++k) word.bits |= std::uint64_t{read(k) ? 1u : 0u} << k;
    return word;
  }
};

/// 64 integers of `Bits` bits as planes: bit k of plane p is bit p of number k.
template <int Bits, bool Signed>
struct plane_words {
  static constexpr int least = Signed ? -(1 << (Bits - 1)) : 0;
  static constexpr int most = Signed ? (1 << (Bits - 1)) - 1 : (1 << Bits) - 1;
  std::uint64_t planes[Bits]{};

  /// What a bit of the plane counts: the highest one of signed numbers is negative.
  static constexpr int weight_of(int plane) noexcept {
    return Signed && plane == Bits - 1 ? -(1 << plane) : 1 << plane;
  }
  constexpr int operator[](std::size_t k) const noexcept {
    int v = 0;
    for (int p = 0; p < Bits; ++p) v += (planes[p] >> k & 1u) != 0 ? weight_of(p) : 0;
    return v;
  }
  /// Sets number k, in [least, most].
  constexpr void set(std::size_t k, int value) noexcept {
    for (int p = 0; p < Bits; ++p)
      planes[p] = (planes[p] & ~(std::uint64_t{1} << k)) | std::uint64_t{static_cast<unsigned>(value) >> p & 1u} << k;
  }
  friend constexpr bool operator==(const plane_words&, const plane_words&) noexcept = default;
};

/// Small integers x small integers -> s32, exact, by planes of bits:
///
///     sum over k of a[k] w[k]  =  sum over i, j of (+-) 2^(i+j) popcount(a.plane[i] & w.plane[j])
///
/// negative where one of the two planes is a sign (Umuroglu and Jahre, Streamlined deployment for quantized neural
/// networks, 2017, and gemmbitserial). An element is a block of 64 k: ActivationBits or WeightBits words. Activations
/// are unsigned unless told otherwise, weights two's complement: with two bits [-2, 1], in which ternary weights are.
/// Work grows with ActivationBits * WeightBits; above two bits each, dot products of bytes are faster where there are
/// any.
template <int ActivationBits, int WeightBits, bool ActivationSigned = false, bool WeightSigned = true>
struct bit_planes {
  static_assert(ActivationBits >= 1 && ActivationBits <= 8 && WeightBits >= 1 && WeightBits <= 8,
                "polymac: bit planes are made of numbers of 1 to 8 bits");
  using activation = plane_words<ActivationBits, ActivationSigned>;
  using weight = plane_words<WeightBits, WeightSigned>;
  using accumulator = std::int32_t;
  using atoms = isa::arithmetic_atoms;
  static constexpr bool linear = true;
  static constexpr bool exact = true;
  static constexpr std::size_t group_size = 64;

 private:
  static constexpr std::int64_t magnitude(int least, int most) noexcept { return most > -least ? most : -least; }
  static constexpr auto name_ = text<31>::join("bit_planes_", ActivationSigned ? "s" : "u", ActivationBits,
                                               WeightSigned ? "_s" : "_u", WeightBits);

 public:
  static constexpr const char* name = name_.c_str();
  static constexpr std::size_t max_depth = static_cast<std::size_t>(
      std::numeric_limits<accumulator>::max() /
      (64 * magnitude(activation::least, activation::most) * magnitude(weight::least, weight::most)));
  static constexpr accumulator multiply_add(accumulator c, const activation& a, const weight& w) noexcept {
    for (int i = 0; i < ActivationBits; ++i)
      for (int j = 0; j < WeightBits; ++j)
        c += activation::weight_of(i) * weight::weight_of(j) * std::popcount(a.planes[i] & w.planes[j]);
    return c;
  }
};

static_assert(Mac<binary> && Mac<bit_planes<1, 2>> && Mac<bit_planes<2, 2>>);

}  // namespace mac
POLYMAC_END
