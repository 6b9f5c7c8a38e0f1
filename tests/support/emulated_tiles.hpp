// SPDX-License-Identifier: MIT
// A model of AMX's tile registers, for tests of tile code on processors without them. Never installed; named by
// -DPOLYMAC_EMULATE_TILES=<support/emulated_tiles.hpp> (core/config.hpp), which makes it the tile_unit of
// isa/amx_tiles.hpp and is part of the name of polymac's inline namespace.
//
// Each thread has eight tiles of 16 rows x 64 bytes and their configuration. Like the processor, which raises an
// exception there, the model ends the program where a tile is used that is not configured, where the shapes of a product
// do not fit, or where the configuration is none; beyond that, where a thread configures twice or releases nothing. Rows
// are read and written to the byte, so that guards around operands see what the processor would read.
//
// Semantics as in Intel's Software Developer's Manual, volume 2 (LDTILECFG, TILELOADD, TILESTORED, TDPBSSD, TDPBUSD,
// TDPBF16PS):
//   tdpbssd, tdpbusd   sums modulo 2^32 of four products a group
//   tdpbf16ps          of one row and one column: the even and the odd k of all groups are summed apart, each by fused
//                      multiply-adds from 0 on; then sum = sum + (even + odd). Rounded to nearest even, subnormal
//                      operands, sums and results count as zero, MXCSR is neither read nor written. (The model rounds
//                      as the thread's mode says, which must be the nearest even.)
#pragma once

#if !defined(POLYMAC_EMULATE_TILES)
#error "polymac: support/emulated_tiles.hpp is for tests that define POLYMAC_EMULATE_TILES"
#endif

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace polymac_test {

class emulated_tile_unit {
  struct tile {
    std::size_t rows = 0, row_bytes = 0;
    alignas(64) std::uint8_t bytes[16][64]{};
  };
  struct registers {
    bool configured = false;
    tile tiles[8];
  };
  static registers& file() noexcept {
    static thread_local registers of_thread;
    return of_thread;
  }
  static void expect(bool condition, const char* what) noexcept {
    if (condition) return;
    std::fprintf(stderr, "emulated tiles: %s\n", what);
    std::abort();
  }
  static tile& configured_tile(int number) noexcept {
    registers& all = file();
    expect(all.configured, "a tile was used before the tiles were configured");
    expect(all.tiles[number].rows > 0, "a tile was used that has no shape");
    return all.tiles[number];
  }
  static float flushed(float v) noexcept { return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0f, v) : v; }
  static float from_bf16(const std::uint8_t* bytes) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, bytes, sizeof(bits));
    return flushed(std::bit_cast<float>(std::uint32_t{bits} << 16));
  }

  /// dot(sum, a, w, groups, w_stride): bits of the sum with the products of a row and a column.
  template <int Sums, int Activations, int Weights, class Dot>
  static void multiply(const Dot& dot) noexcept {
    static_assert(Sums != Activations && Sums != Weights && Activations != Weights);
    ++products;
    tile &sums = configured_tile(Sums), &a = configured_tile(Activations), &w = configured_tile(Weights);
    expect(a.rows == sums.rows, "a product's activations and sums have different rows");
    expect(w.row_bytes == sums.row_bytes, "a product's weights and sums have different columns");
    expect(a.row_bytes == w.rows * 4, "a product's activations and weights have different depths");
    for (std::size_t r = 0; r < sums.rows; ++r)
      for (std::size_t c = 0; c < sums.row_bytes; c += 4) {
        std::uint32_t sum;
        std::memcpy(&sum, &sums.bytes[r][c], sizeof(sum));
        sum = dot(sum, a.bytes[r], &w.bytes[0][c], w.rows);
        std::memcpy(&sums.bytes[r][c], &sum, sizeof(sum));
      }
    for (std::size_t r = sums.rows; r < 16; ++r) std::memset(sums.bytes[r], 0, sizeof(sums.bytes[r]));
  }
  template <class Activation>
  static std::uint32_t dot_of_bytes(std::uint32_t sum, const std::uint8_t* a, const std::uint8_t* w,
                                    std::size_t groups) noexcept {
    for (std::size_t g = 0; g < groups; ++g, a += 4, w += 64)
      for (std::size_t i = 0; i < 4; ++i)
        sum += static_cast<std::uint32_t>(static_cast<Activation>(a[i]) * static_cast<std::int8_t>(w[i]));
    return sum;
  }
  static std::uint32_t dot_of_bf16(std::uint32_t sum, const std::uint8_t* a, const std::uint8_t* w,
                                   std::size_t groups) noexcept {
    float even = 0.0f, odd = 0.0f;
    for (std::size_t g = 0; g < groups; ++g, a += 4, w += 64) {
      even = flushed(std::fma(from_bf16(a), from_bf16(w), even));
      odd = flushed(std::fma(from_bf16(a + 2), from_bf16(w + 2), odd));
    }
    return std::bit_cast<std::uint32_t>(flushed(flushed(std::bit_cast<float>(sum)) + flushed(even + odd)));
  }

 public:
  /// Products of tiles that this thread has computed.
  static inline thread_local std::size_t products = 0;

  /// As ldtilecfg; `shapes` are its 64 bytes.
  template <class Shapes>
  static void configure(const Shapes& shapes) noexcept {
    static_assert(sizeof(Shapes) == 64);
    struct {
      std::uint8_t palette, start_row, reserved[14];
      std::uint16_t row_bytes[16];
      std::uint8_t rows[16];
    } c;
    static_assert(sizeof(c) == 64);
    std::memcpy(&c, &shapes, sizeof(c));
    registers& all = file();
    expect(!all.configured, "the tiles of a thread were configured twice");
    expect(c.palette == 1 && c.start_row == 0, "a configuration of palette 1 from row 0 on was expected");
    for (const std::uint8_t b : c.reserved) expect(b == 0, "reserved bytes of the configuration are not zero");
    for (int t = 0; t < 16; ++t) {
      expect((c.rows[t] == 0) == (c.row_bytes[t] == 0), "a tile has rows and no columns, or columns and no rows");
      expect(c.rows[t] <= 16 && c.row_bytes[t] <= 64, "a tile is larger than 16 rows x 64 bytes");
      expect(t < 8 || c.rows[t] == 0, "there are eight tiles");
      if (t >= 8) continue;
      all.tiles[t] = {};
      all.tiles[t].rows = c.rows[t];
      all.tiles[t].row_bytes = c.row_bytes[t];
    }
    all.configured = true;
  }
  static void release() noexcept {
    expect(file().configured, "tiles were released that were not configured");
    file().configured = false;
  }
  template <int Tile>
  static void load(const void* from, std::size_t stride) noexcept {
    tile& t = configured_tile(Tile);
    const auto* row = static_cast<const std::uint8_t*>(from);
    std::memset(t.bytes, 0, sizeof(t.bytes));
    for (std::size_t r = 0; r < t.rows; ++r) std::memcpy(t.bytes[r], row + r * stride, t.row_bytes);
  }
  template <int Tile>
  static void store(void* to, std::size_t stride) noexcept {
    const tile& t = configured_tile(Tile);
    auto* const row = static_cast<std::uint8_t*>(to);
    for (std::size_t r = 0; r < t.rows; ++r) std::memcpy(row + r * stride, t.bytes[r], t.row_bytes);
  }
  template <int Tile>
  static void zero() noexcept {
    std::memset(configured_tile(Tile).bytes, 0, sizeof(tile::bytes));
  }
  template <int Sums, int Activations, int Weights>
  static void add_dot_s8s8() noexcept {
    multiply<Sums, Activations, Weights>(dot_of_bytes<std::int8_t>);
  }
  template <int Sums, int Activations, int Weights>
  static void add_dot_u8s8() noexcept {
    multiply<Sums, Activations, Weights>(dot_of_bytes<std::uint8_t>);
  }
  template <int Sums, int Activations, int Weights>
  static void add_dot_bf16() noexcept {
    multiply<Sums, Activations, Weights>(dot_of_bf16);
  }
};

}  // namespace polymac_test
