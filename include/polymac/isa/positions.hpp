// SPDX-License-Identifier: MIT
// Positions sorted by a small key: first all whose key is 0, then those of 1, and so on; in order within a key.
//
//   AVX-512 VBMI2   vpcmpeqb k, zmm, zmm; vpcompressb zmm{k}, zmm   64 positions of a key at once, some 4 cycles on Zen 4:
//                                                                  10 keys cost 0.8 cycles for a position
//
// Elsewhere the positions are counted and then put in their places, some 4 cycles each: what is put in order depends on
// itself through memory. (To memory vpcompressb is microcode on Zen 4; it goes to a register here, which is stored
// whole.)
#pragma once

#include "polymac/core/config.hpp"
#include "polymac/isa/intrinsics.hpp"

#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace isa {

/// Most positions that are sorted at a time, elements behind them that may be written, too, and most keys.
inline constexpr std::size_t most_positions = 256, positions_slack = 64, most_keys = 16;

/// Sorts the positions 0 .. count - 1 by their keys, below `count_of_keys`. keys: readable up to the next multiple of
/// 64. Those of key k are positions[ends[k - 1]] to positions[ends[k] - 1]. Takes the same time for all keys.
inline void sort_positions(const std::uint8_t* keys, std::size_t count, std::size_t count_of_keys,
                           std::uint8_t* positions, std::uint16_t* ends) noexcept {
#if defined(__AVX512VBMI2__) && defined(__AVX512BW__)
  alignas(64) static constexpr auto numbers = [] {
    struct {
      std::uint8_t of[64];
    } n{};
    for (std::size_t i = 0; i < 64; ++i) n.of[i] = static_cast<std::uint8_t>(i);
    return n;
  }();
  std::uint8_t* to = positions;
  for (std::size_t key = 0; key < count_of_keys; ++key) {
    __m512i here = _mm512_load_si512(numbers.of);
    for (std::size_t i = 0; i < count; i += 64, here = _mm512_add_epi8(here, _mm512_set1_epi8(64))) {
      __mmask64 is = _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(keys + i), _mm512_set1_epi8(static_cast<char>(key)));
      if (count - i < 64) is &= (std::uint64_t{1} << (count - i)) - 1;
      _mm512_storeu_si512(to, _mm512_maskz_compress_epi8(is, here));
      to += _mm_popcnt_u64(is);
    }
    ends[key] = static_cast<std::uint16_t>(to - positions);
  }
#else
  std::uint16_t next[most_keys]{};
  for (std::size_t i = 0; i < count; ++i) ++next[keys[i]];
  std::uint16_t at = 0;
  for (std::size_t key = 0; key < count_of_keys; ++key) {
    const std::uint16_t first = at;
    at = static_cast<std::uint16_t>(at + next[key]);
    next[key] = first;
    ends[key] = at;
  }
  for (std::size_t i = 0; i < count; ++i) positions[next[keys[i]]++] = static_cast<std::uint8_t>(i);
#endif
}

}  // namespace isa
POLYMAC_END
