// SPDX-License-Identifier: MIT
// AMX: matrix registers, whatever they multiply. Eight tiles of up to 16 rows x 64 bytes; a product takes the rows of
// one tile times a panel of weights, 16 columns x 16 groups of 4 bytes, which is one tile, too.
//
//   instruction            Granite Rapids at 3.4 GHz, measured
//   tdp...                 5.5 ns for 9 to 16 rows of activations, 3.2 ns for 8 and fewer, whatever the depth
//   tileloadd              1.0 to 2.9 ns from L1, with the number of rows; the stride between them does not matter
//   tilestored             5.5 ns
//   ldtilecfg + tilerelease   82 ns together
//
//   a block: 32 rows x 32 columns, 64 bytes deep: 4 products for 4 loads, 6.4 ns each, 0.86 of the rate from registers
//
//                              panel 0     panel 1
//       16 groups of k ->      tmm6        tmm7         a panel of 16 columns x 4 bytes deep x 16 groups is one tile
//   rows  0..15   tmm4         tmm0        tmm1
//   rows 16..31   tmm5         tmm2        tmm3
//
// The tile registers are state of the thread: configured once for a contraction, released at its end.
#pragma once

#include "polymac/isa/avx512.hpp"

#if POLYMAC_HAS_AMX_INT8 && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__AVX512DQ__)

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(POLYMAC_EMULATE_TILES)
#include POLYMAC_EMULATE_TILES
#endif

POLYMAC_BEGIN
namespace isa {
namespace detail {

#if defined(POLYMAC_EMULATE_TILES)
using tile_unit = ::polymac_test::emulated_tile_unit;
#else
/// The instructions. Tile numbers are part of them. Written out instead of taken from the compiler's header: g++ 12 does
/// not tell the optimiser that these instructions read and write memory, and drops the stores they depend on.
struct tile_unit {
  /// `shapes`: 64 bytes as ldtilecfg reads them.
  template <class Shapes>
  static POLYMAC_INLINE void configure(const Shapes& shapes) noexcept {
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
  }
  static POLYMAC_INLINE void release() noexcept { __asm__ volatile("tilerelease"); }
  template <int Tile>
  static POLYMAC_INLINE void load(const void* from, std::size_t stride) noexcept {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(Tile) : "memory");
  }
  template <int Tile>
  static POLYMAC_INLINE void store(void* to, std::size_t stride) noexcept {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(Tile) : "memory");
  }
  template <int Tile>
  static POLYMAC_INLINE void zero() noexcept {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(Tile));
  }
  template <int Sums, int Activations, int Weights>
  static POLYMAC_INLINE void add_dot_s8s8() noexcept {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(Activations), "i"(Weights));
  }
  template <int Sums, int Activations, int Weights>
  static POLYMAC_INLINE void add_dot_u8s8() noexcept {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(Activations), "i"(Weights));
  }
  template <int Sums, int Activations, int Weights>
  static POLYMAC_INLINE void add_dot_bf16() noexcept {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(Activations), "i"(Weights));
  }
};
#endif

/// The shapes of the eight tiles, as ldtilecfg reads them.
struct alignas(64) tile_configuration {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14]{};
  std::uint16_t row_bytes[16]{};
  std::uint8_t rows[16]{};
};
static_assert(sizeof(tile_configuration) == 64);

/// The blocks of tiles of one arithmetic. Product: `mac`, `depth` (of a group, as in the panel: 4 bytes), and
/// `multiply_add<Sums, Activations, Weights>()` of tiles by their numbers.
template <class Product>
struct tile_blocks {
  using mac = typename Product::mac;
  using activation = typename mac::activation;
  using weight = typename mac::weight;
  using accumulator = typename mac::accumulator;
  using configuration_type = tile_configuration;
  static constexpr std::size_t columns = 16;
  static constexpr std::size_t depth = Product::depth;
  static constexpr std::size_t rows = 16;        ///< of a tile; two of them make a block
  static constexpr std::size_t max_groups = 16;  ///< of a step
  static_assert(sizeof(activation) * depth == 4 && sizeof(weight) * depth == 4 && sizeof(accumulator) == 4);

  /// The shapes of tiles for steps of `groups` groups. Made once, when weights are packed: ldtilecfg reads all 64
  /// bytes, and would wait for bytes that have just been written.
  static constexpr tile_configuration configuration(std::size_t groups) noexcept {
    tile_configuration shapes;
    for (int t = 0; t < 4; ++t) set(shapes, t, rows, columns * sizeof(accumulator));
    for (int t = 4; t < 6; ++t) set(shapes, t, rows, groups * group_bytes);
    for (int t = 6; t < 8; ++t) set(shapes, t, groups, columns * group_bytes);
    return shapes;
  }
  /// Those for steps that fill their tiles.
  static const tile_configuration& whole_steps() noexcept {
    static constexpr tile_configuration shapes = configuration(max_groups);
    return shapes;
  }
  /// Makes the tile registers of this thread ready; `release` gives them back.
  static POLYMAC_INLINE void configure(const tile_configuration& shapes) noexcept { tile_unit::configure(shapes); }
  static POLYMAC_INLINE void release() noexcept { tile_unit::release(); }

  // A block has 1 or 2 tiles of rows and 1 or 2 panels, or 4 tiles of rows and 1 panel: at most 4 tiles of sums, in the
  // order of rows and panels.

  /// Where the tiles of sums are to be stored, or come from: tile t from to[t] on, its rows stride[t] bytes apart; no
  /// tile where to[t] is null.
  struct places {
    accumulator* to[4]{};
    std::size_t stride[4]{};
  };
  /// The tiles of a block in their order, from `sums` on, rows `stride` accumulators apart.
  template <std::size_t RowTiles, std::size_t Panels>
  static POLYMAC_INLINE void place(places& where, accumulator* sums, std::size_t stride) noexcept {
    POLYMAC_UNROLL
    for (std::size_t t = 0; t < 4; ++t) {
      where.to[t] = t < RowTiles * Panels ? sums + t / Panels * rows * stride + t % Panels * columns : nullptr;
      where.stride[t] = stride * sizeof(accumulator);
    }
  }
  /// Adds the products of one step. tiles[t]: first activation of tile t, rows `stride` apart; weights: the groups of
  /// the step, panels `panel_stride` apart. `between` is called once in the middle: work for the vector units.
  template <std::size_t RowTiles, std::size_t Panels, class Between>
  static POLYMAC_INLINE void step(const activation* const (&tiles)[RowTiles], std::size_t stride, const weight* weights,
                                  std::size_t panel_stride, const Between& between) noexcept {
    step_with<RowTiles, Panels>(
        tiles, stride, weights, panel_stride, [](auto) POLYMAC_INLINE_LAMBDA {}, between);
  }
  /// The same for the first step of a block: the sums that the tiles still hold are stored to `before`, each just
  /// before its tile is needed, and new ones begin: with `starts`, 16 for each panel, or with 0 where that is null; or
  /// with the sums at the places `starts`, where products are added to what is there.
  /// Stored at the end of their block they would keep the next one waiting: tile registers are not renamed. (A block of
  /// one step takes 33 ns instead of 53.)
  template <std::size_t RowTiles, std::size_t Panels, class Starts, class Between>
  static POLYMAC_INLINE void first_step(const activation* const (&tiles)[RowTiles], std::size_t stride,
                                        const weight* weights, std::size_t panel_stride, const Starts& starts,
                                        const places& before, const Between& between) noexcept {
    const auto ready = [&](auto tile) POLYMAC_INLINE_LAMBDA {
      constexpr int t = decltype(tile)::value;
      store<t>(before);
      begin<t, Panels>(starts);
    };
    step_with<RowTiles, Panels>(tiles, stride, weights, panel_stride, ready, between);
    constexpr std::size_t used = RowTiles * Panels;
    if constexpr (used < 2) store<1>(before);
    if constexpr (used < 3) store<2>(before);
    if constexpr (used < 4) store<3>(before);
  }
  static POLYMAC_INLINE void store_all(const places& where) noexcept {
    store<0>(where);
    store<1>(where);
    store<2>(where);
    store<3>(where);
  }
  /// Elements that copy and fill may write beyond the end: they write whole registers, zeros behind `count` elements.
  static constexpr std::size_t copy_excess = 64 / sizeof(activation);
  static POLYMAC_INLINE void copy(activation* to, const activation* from, std::size_t count) noexcept {
    for (; count >= copy_excess; count -= copy_excess, to += copy_excess, from += copy_excess)
      _mm512_storeu_si512(to, _mm512_loadu_si512(from));
    if (count > 0) _mm512_storeu_si512(to, _mm512_maskz_loadu_epi8(first_bytes(count), from));
  }
  static POLYMAC_INLINE void fill(activation* to, activation value, std::size_t count) noexcept {
    const __m512i all = in_all_lanes(value);
    for (; count >= copy_excess; count -= copy_excess, to += copy_excess) _mm512_storeu_si512(to, all);
    if (count > 0) _mm512_storeu_si512(to, _mm512_maskz_mov_epi8(first_bytes(count), all));
  }

 private:
  static constexpr std::size_t group_bytes = depth * sizeof(activation);
  /// Of count elements, fewer than those of a register.
  static POLYMAC_INLINE std::uint64_t first_bytes(std::size_t count) noexcept {
    return (std::uint64_t{1} << count * sizeof(activation)) - 1;
  }
  static POLYMAC_INLINE __m512i in_all_lanes(activation value) noexcept {
    if constexpr (sizeof(activation) == 1)
      return _mm512_set1_epi8(std::bit_cast<char>(value));
    else
      return _mm512_set1_epi16(std::bit_cast<std::int16_t>(value));
  }
  template <int Tile>
  using number = std::integral_constant<int, Tile>;
  template <int Tile>
  static POLYMAC_INLINE void store(const places& where) noexcept {
    if (where.to[Tile] != nullptr) tile_unit::store<Tile>(where.to[Tile], where.stride[Tile]);
  }
  template <int Tile, std::size_t Panels>
  static POLYMAC_INLINE void begin(const accumulator* starts) noexcept {
    if (starts != nullptr)
      tile_unit::load<Tile>(starts + Tile % Panels * columns, 0);
    else
      tile_unit::zero<Tile>();
  }
  template <int Tile, std::size_t Panels>
  static POLYMAC_INLINE void begin(const places& sums) noexcept {
    if (sums.to[Tile] != nullptr)
      tile_unit::load<Tile>(sums.to[Tile], sums.stride[Tile]);
    else
      tile_unit::zero<Tile>();
  }
  /// A step; ready(tile) is called before the first product of each tile of sums.
  template <std::size_t RowTiles, std::size_t Panels, class Ready, class Between>
  static POLYMAC_INLINE void step_with(const activation* const (&tiles)[RowTiles], std::size_t stride,
                                       const weight* weights, std::size_t panel_stride, const Ready& ready,
                                       const Between& between) noexcept {
    tile_unit::load<4>(tiles[0], stride * sizeof(activation));
    tile_unit::load<6>(weights, columns * group_bytes);
    ready(number<0>{});
    Product::template multiply_add<0, 4, 6>();
    if constexpr (Panels == 2) {
      static_assert(RowTiles <= 2);
      tile_unit::load<7>(weights + panel_stride, columns * group_bytes);
      ready(number<1>{});
      Product::template multiply_add<1, 4, 7>();
      between();
      if constexpr (RowTiles == 2) {
        tile_unit::load<5>(tiles[1], stride * sizeof(activation));
        ready(number<2>{});
        Product::template multiply_add<2, 5, 6>();
        ready(number<3>{});
        Product::template multiply_add<3, 5, 7>();
      }
    } else {
      if constexpr (RowTiles > 1) {
        tile_unit::load<5>(tiles[1], stride * sizeof(activation));
        ready(number<1>{});
        Product::template multiply_add<1, 5, 6>();
      }
      between();
      if constexpr (RowTiles == 4) {
        tile_unit::load<4>(tiles[2], stride * sizeof(activation));
        ready(number<2>{});
        Product::template multiply_add<2, 4, 6>();
        tile_unit::load<5>(tiles[3], stride * sizeof(activation));
        ready(number<3>{});
        Product::template multiply_add<3, 5, 6>();
      }
    }
  }
  static constexpr void set(tile_configuration& shapes, int tile, std::size_t rows_of, std::size_t bytes) noexcept {
    shapes.rows[tile] = static_cast<std::uint8_t>(rows_of);
    shapes.row_bytes[tile] = static_cast<std::uint16_t>(bytes);
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END

#endif
