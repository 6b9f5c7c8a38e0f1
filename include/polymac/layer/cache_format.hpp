// SPDX-License-Identifier: MIT
// What a cache of keys and values keeps of an element.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/float16.hpp"
#include "polymac/layer/attention_product.hpp"
#include "polymac/mac/bf16.hpp"
#include "polymac/mac/bit_weights.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/fp16.hpp"
#include "polymac/mac/int8.hpp"

#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// How a cache of arithmetic M keeps its elements: as `element`, in the panels of attention with `computed_as`.
/// Codes: magnitudes up to `limit`, one scale for each token and head. packs: two codes in a byte.
template <class M>
struct cache_format {
  static constexpr bool exists = false;
};
template <class M, class Element>
struct float_cache_format {
  using computed_as = M;
  using element = Element;
  static constexpr bool exists = true, has_scales = false, packs = false;
};
template <>
struct cache_format<mac::float32> : float_cache_format<mac::float32, float> {};
template <>
struct cache_format<mac::bf16> : float_cache_format<mac::bf16, bfloat16> {};
template <>
struct cache_format<mac::fp16> : float_cache_format<mac::float32, float16> {};
template <>
struct cache_format<mac::int8> {
  using computed_as = mac::int8;
  using element = std::int8_t;
  using codes = attention_codes<std::int8_t, 127>;
  static constexpr bool exists = true, has_scales = true, packs = false;
};
template <class Encoding>
struct cache_format<mac::bit_weights<4, Encoding, 0>> {
  using computed_as = mac::int8;
  using element = std::uint8_t;
  using codes = attention_codes<std::int8_t, 7>;
  static constexpr bool exists = true, has_scales = true, packs = true;
};

/// Codes of 4 bits in panels: of every 64 elements the first 32 are the lower halves of 32 bytes, plus 8.
struct packed_codes {
  static constexpr std::size_t run = 64;
  static constexpr std::size_t byte_of(std::size_t i) noexcept { return i / run * (run / 2) + i % (run / 2); }
  static constexpr int shift_of(std::size_t i) noexcept { return i % run < run / 2 ? 0 : 4; }
  static void put(std::uint8_t* panel, std::size_t i, std::int8_t code) noexcept {
    std::uint8_t& byte = panel[byte_of(i)];
    const int shift = shift_of(i);
    byte = static_cast<std::uint8_t>((byte & (0xF0 >> shift)) | ((code + 8) << shift));
  }
  static std::int8_t get(const std::uint8_t* panel, std::size_t i) noexcept {
    return static_cast<std::int8_t>(((panel[byte_of(i)] >> shift_of(i)) & 15) - 8);
  }
  /// count elements, a multiple of `run`, from the beginning of a run on.
  static void unpack(const std::uint8_t* from, std::int8_t* to, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; i += run, from += run / 2, to += run)
      for (std::size_t b = 0; b < run / 2; ++b) {
        to[b] = static_cast<std::int8_t>((from[b] & 15) - 8);
        to[b + run / 2] = static_cast<std::int8_t>((from[b] >> 4) - 8);
      }
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
