// SPDX-License-Identifier: MIT
// The atoms of blocks: groups of codes with a scale and a zero point (mac::bit_weights with groups), Microscaling blocks
// (mac::mx), on the tile of block_tile.hpp. Here: how blocks are encoded for panels and prepared for a tile of rows.
//
//   weights       codes less the first one, scales, zero points      when they are packed
//   activations   bytes (or bf16), their sum, scale                  once for a tile of rows
//
// V, registers of integers, says in addition to what the tile asks for:
//   first_code<Bits>(least)   the code that is stored as 0: the least one, or 0 where bytes are multiplied with their sign
//   sum_of<Size>(bytes)       of signed bytes
//   look_up(codes, bytes)     optional: 32 codes of e2m1 as integers
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/isa/block_tile.hpp"
#include "polymac/isa/code_product.hpp"
#include "polymac/isa/small_floats.hpp"
#include "polymac/mac/bit_weights.hpp"
#include "polymac/mac/mx.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// Are all numbers of a block zeros, of either sign? By their codes, which need not wait for anything.
template <class Element>
POLYMAC_INLINE bool are_zeros(const mx_block<Element>& block) noexcept {
  if constexpr (mx_block<Element>::traits::width == 6) {
    bool zeros = true;
    for (std::size_t k = 0; k < 32; ++k) zeros = zeros && mx_block<Element>::traits::integer(block[k]) == 0;
    return zeros;
  } else {
    constexpr std::uint64_t magnitudes = std::is_same_v<Element, std::int8_t>    ? ~std::uint64_t{0}
                                         : mx_block<Element>::traits::width == 4 ? 0x7777777777777777u
                                                                                 : 0x7F7F7F7F7F7F7F7Fu;
    std::uint64_t words[sizeof(block.codes) / 8], any = 0;
    std::memcpy(words, block.codes, sizeof(words));
    for (const std::uint64_t w : words) any |= w;
    return (any & magnitudes) == 0;
  }
}

/// The scale of a block of activations.
template <class Element, class Block>
POLYMAC_INLINE void set_scale(const mx_block<Element>& from, Block& block, scale_summary& seen) noexcept {
  block.scale = mx_scale_of(from, are_zeros(from), 0, true, seen);
  block.power = power_of(block.scale);
}

/// Calls f(block of activations, what becomes of it) for the blocks of a tile of rows.
template <class Rows, class Block, class Function>
POLYMAC_INLINE void for_each_block(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count,
                                   Block* to, std::size_t stride, const Function& f) noexcept {
  for (std::size_t r = 0; r < row_count; ++r)
    for (std::size_t b = 0; b < count; ++b) f(rows[r][offset + b], to[r * stride + b]);
}

/// Groups of codes with a scale and a zero point. V, Floats: registers of integers and of floats (block_tile.hpp).
template <class M, class V>
using group_sums =
    integer_block_sums<V, M::group_size, M::codes::stored_bits == 1 ? 2 : panel_bits<M::codes::stored_bits>, true>;
template <class M, class I, class V, class Floats>
using group_steps = block_steps<I, Floats, group_sums<M, V>, false>;
template <class M, class I, class V, class Floats>
struct group_atom : group_steps<M, I, V, Floats> {
  using mac = M;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using prepared = group_steps<M, I, V, Floats>;
  using packed = std::uint8_t;

  static constexpr void encode(const weight* group, packed* to) noexcept {
    using sums = group_sums<M, V>;
    constexpr int least = V::template first_code<M::codes::stored_bits>(M::codes::least);
    for (std::size_t i = 0; i < prepared::group_elements; ++i) to[i] = 0;
    for (std::size_t c = 0; c < prepared::columns; ++c) {
      for (std::size_t k = 0; k < M::group_size; ++k)
        sums::put(to, c, k, static_cast<unsigned>(group[c].code(k) - least));
      std::memcpy(to + sums::code_bytes + 4 * c, &group[c].scale, 4);
      to[sums::code_bytes + sums::register_bytes + c] = static_cast<packed>(group[c].zero_point - least);
    }
  }
  template <class Rows>
  static POLYMAC_INLINE void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count,
                                     integer_block<M::group_size>* to, std::size_t stride) noexcept {
    for_each_block(rows, row_count, offset, count, to, stride,
                   [](const activation& from, auto& block) POLYMAC_INLINE_LAMBDA {
                     std::memcpy(block.values, from.values, M::group_size);
                     block.sum = V::template sum_of<M::group_size>(from.values);
                   });
  }
};

/// Microscaling blocks whose elements are integers of a byte.
template <class M, class I, class V, class Floats>
using integer_mx_steps = block_steps<I, Floats, integer_block_sums<V, 32, 8, false>, true>;
template <class M, class I, class V, class Floats>
struct integer_mx_atom : integer_mx_steps<M, I, V, Floats> {
  using mac = M;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using prepared = integer_mx_steps<M, I, V, Floats>;
  using packed = std::uint8_t;
  using summary = scale_summary;
  static constexpr int first = V::template first_code<8>(-128);

  static void encode(const weight* group, std::size_t columns, packed* to, summary& seen) noexcept {
    using sums = integer_block_sums<V, 32, 8, false>;
    for (std::size_t i = 0; i < prepared::group_elements; ++i) to[i] = 0;
    for (std::size_t c = 0; c < prepared::columns; ++c) {
      for (std::size_t k = 0; k < 32; ++k)
        sums::put(to, c, k, static_cast<unsigned>(M::traits::integer(group[c][k]) - first) & 255u);
      const float scale = mx_scale_of(group[c], are_zeros(group[c]), M::unit_exponent, c < columns, seen);
      std::memcpy(to + sums::code_bytes + 4 * c, &scale, 4);
    }
  }
  template <class Rows>
  static void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count,
                      integer_block<32>* to, std::size_t stride, const summary&, summary& seen) noexcept {
    for_each_block(rows, row_count, offset, count, to, stride,
                   [&](const activation& from, auto& block) POLYMAC_INLINE_LAMBDA {
                     if constexpr (std::is_same_v<activation, mx_block<std::int8_t>>)
                       std::memcpy(block.values, from.codes, 32);
                     else if constexpr (std::is_same_v<activation, mx_block<e2m1>> &&
                                        requires { V::look_up(from.codes, block.values); })
                       V::look_up(from.codes, block.values);
                     else
                       for (std::size_t k = 0; k < 32; ++k)
                         block.values[k] = static_cast<std::int8_t>(M::traits::integer(from[k]));
                     block.sum = first * V::template sum_of<32>(block.values);
                     set_scale(from, block, seen);
                   });
  }
  static constexpr std::size_t mode(const summary& weights, const summary& activations) noexcept {
    return mx_mode<M>(weights, activations);
  }
};

/// Microscaling blocks by way of bf16. Product: that of bf16.
template <class M, class I, class Floats, class Product>
using bf16_mx_steps = block_steps<I, Floats, bf16_block_sums<Floats, Product>, true>;
template <class M, class I, class Floats, class Product>
struct bf16_mx_atom : bf16_mx_steps<M, I, Floats, Product> {
  using mac = M;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using prepared = bf16_mx_steps<M, I, Floats, Product>;
  using packed = std::uint8_t;
  using summary = scale_summary;

  static void encode(const weight* group, std::size_t columns, packed* to, summary& seen) noexcept {
    using sums = bf16_block_sums<Floats, Product>;
    for (std::size_t c = 0; c < prepared::columns; ++c) {
      alignas(64) bfloat16 values[32];
      decode(group[c], values);
      for (std::size_t i = 0; i < 16; ++i) std::memcpy(to + i * sums::register_bytes + 4 * c, values + 2 * i, 4);
      const float scale = mx_scale_of(group[c], are_zeros(group[c]), M::unit_exponent, c < columns, seen);
      std::memcpy(to + sums::code_bytes + 4 * c, &scale, 4);
    }
  }
  template <class Rows>
  static void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count, bf16_block* to,
                      std::size_t stride, const summary&, summary& seen) noexcept {
    for_each_block(rows, row_count, offset, count, to, stride,
                   [&](const activation& from, auto& block) POLYMAC_INLINE_LAMBDA {
                     decode(from, block.values);
                     set_scale(from, block, seen);
                   });
  }
  static constexpr std::size_t mode(const summary& weights, const summary& activations) noexcept {
    return mx_mode<M>(weights, activations);
  }

 private:
  /// The numbers of a block, e3m2 as integers.
  static POLYMAC_INLINE void decode(const activation& from, bfloat16* to) noexcept {
    if constexpr (activation::traits::width == 8)
      fp8_conversion<typename activation::element>::convert(from.codes, to, 32);
    else
      for (std::size_t k = 0; k < 32; ++k) to[k] = bfloat16(static_cast<float>(M::traits::integer(from[k])));
  }
};

/// Elements whose products are made in integers, and of these those of which two fit 16 bits, moved to be unsigned too.
template <class Element>
inline constexpr bool is_integer_element = mx_element<Element>::is_integer && !std::is_same_v<Element, e3m2>;
template <class Element>
inline constexpr bool is_small_element = is_integer_element<Element> && !std::is_same_v<Element, std::int8_t>;

}  // namespace detail
}  // namespace isa
POLYMAC_END
