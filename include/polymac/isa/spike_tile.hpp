// SPDX-License-Identifier: MIT
// The tile of mac::spike: words of spikes become bytes 0 and 1, once for a tile of rows, and are multiplied as bytes.
//
//   word of row 0    ..1011 -> 1 1 0 1 ..      64 / depth steps of the tile of bytes for a word
//
// Which bytes: those whose products need no offset, unsigned on x86, signed on NEON.
#pragma once

#include "polymac/core/block.hpp"
#include "polymac/isa/isa.hpp"
#include "polymac/mac/spike.hpp"

#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// 64 spikes as bytes.
template <class Byte>
struct spike_bytes {
  Byte values[64];
};

/// Words of spikes: some steps of the tile of bytes. Bytes: a tile of s8 or u8 activations without an offset.
template <class Bytes>
struct spike_steps : Bytes {
  static_assert(Bytes::activation_offset == 0);
  using mac = polymac::mac::spike;
  using activation = spike_bytes<typename Bytes::activation>;
  using weight = typename mac::weight;
  using packed = std::int8_t;
  static constexpr std::size_t depth = 1;
  static constexpr std::size_t group_elements = 64 * Bytes::columns;
  static constexpr std::size_t tall_rows = Bytes::max_rows;
  static constexpr bool finishes_tiles = false;

  template <class Places>
  struct byte_rows {
    const Places& rows;
    std::size_t offset;
    POLYMAC_INLINE const typename Bytes::activation* operator[](std::size_t r) const noexcept {
      return rows[r][offset].values;
    }
  };
  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(typename Bytes::template tile<Rows, Panels>& t, const Places& rows,
                                  std::size_t offset, const packed* weights, std::size_t stride) noexcept {
    const byte_rows<Places> all{rows, offset};
    for (std::size_t k = 0; k < 64; k += Bytes::depth)
      Bytes::template step<Rows, Panels>(t, all, k, weights + k * Bytes::columns, stride);
  }
};

/// Spread: spread(word, bytes) makes 64 bytes of a word.
template <class Bytes, class Spread>
struct spike_atom : spike_steps<Bytes> {
  using prepared = spike_steps<Bytes>;
  using activation = bit_word;
  using weight = typename prepared::weight;
  using packed = std::int8_t;

  static constexpr void encode(const weight* group, packed* to) noexcept {
    constexpr std::size_t depth = Bytes::depth;
    for (std::size_t c = 0; c < Bytes::columns; ++c)
      for (std::size_t k = 0; k < 64; ++k) to[k / depth * depth * Bytes::columns + depth * c + k % depth] = group[c][k];
  }
  template <class Rows>
  static POLYMAC_INLINE void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count,
                                     typename prepared::activation* to, std::size_t stride) noexcept {
    for (std::size_t r = 0; r < row_count; ++r)
      for (std::size_t i = 0; i < count; ++i) Spread::spread(rows[r][offset + i].bits, to[r * stride + i].values);
  }
  /// Of rows as they are: sums in 64 bits.
  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(typename Bytes::template tile<Rows, Panels>& t, const Places& rows,
                                  std::size_t offset, const packed* weights, std::size_t stride) noexcept {
    typename prepared::activation expanded[Rows];
    const typename prepared::activation* places[Rows];
    for (std::size_t r = 0; r < Rows; ++r) {
      Spread::spread(rows[r][offset].bits, expanded[r].values);
      places[r] = expanded + r;
    }
    prepared::template step<Rows, Panels>(t, places, 0, weights, stride);
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
