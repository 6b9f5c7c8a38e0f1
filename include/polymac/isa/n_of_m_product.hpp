// SPDX-License-Identifier: MIT
// Products with N:M sparse weights (policy/n_of_m.hpp), for any registers with dot products of bytes.
//
//   Four weights of a column that are kept come from a window of 4 M / N activations. A register holds the window as
//   often as there is room for it, and every 32-bit lane selects its own four bytes:
//
//     2:4     window 8    a0 a1 a2 a3 a4 a5 a6 a7                       of one row, in all lanes     a broadcast load
//                           |     |     |        |
//     lane 0, places        1     3     4        7                      vpshufb (16 and less), vpermb (32, 64)
//             values        w1    w3    w4        w7                    vpdpbusd with what is selected
//
//   Weights are two registers, values and places, loaded once for a tile of rows; the window is loaded once for a row
//   and all panels. The price beside a dense product: one selection for each register of products, for M / N times as
//   many k. A selection is a shuffle:
//
//     Zen 4, 5                  dot products on ports 0 and 1, shuffles on 1 and 2: two thirds of the dense rate
//     Ice Lake to Granite Rapids   shuffles of 512 bits on the port of half the dot products: half of it
//
//   tile on AVX-512: 12 rows x 2 panels of 16 columns: 24 sums, 4 of weights, a window, what is selected, a constant.
//
// share::tile: columns that share their places, 32 of them, have the four bytes selected once for a row, in a register of
// 128 bits, and broadcast: two shuffles for two registers of products, and a place is stored once.
//
// positions::packed: places of 2 bits (M = 4) or 4 (M = 8, 16) become bytes in registers by three instructions, places of
// four columns those of each by one: too much beside a tile of rows in a cache, nothing beside one row whose weights
// come from L3 or memory.
#pragma once

#include "polymac/isa/isa.hpp"
#include "polymac/isa/lane_tile.hpp"
#include "polymac/policy/n_of_m.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// k of which four weights of a column are kept.
template <class P>
inline constexpr std::size_t window_of = 4 * P::group / P::kept;

/// Finds the k that are kept for some columns, `depth` k in groups of P: the N slots of a group in the order in
/// which a dense product of `mac_group` k at a time visits them; slots that are left over are the first k of the group
/// once more, with a weight of 0: f(slot, k, fills).
template <class P, class IsLive, class Function>
constexpr void for_each_kept(std::size_t depth, std::size_t mac_group, const IsLive& is_live,
                             const Function& f) noexcept {
  for (std::size_t first = 0, slot = 0; first < depth; first += P::group) {
    const std::size_t last_slot = slot + P::kept;
    for (std::size_t i = 0; i < P::group && slot < last_slot; ++i) {
      const std::size_t k = first + i / mac_group * mac_group + (mac_group - 1 - i % mac_group);
      if (is_live(k)) f(slot++, k, false);
    }
    while (slot < last_slot) f(slot++, first, true);
  }
}

/// Bits of a packed place, and of what it is counted from, for place number d of a lane.
template <class P>
struct packed_places {
  static constexpr unsigned bits = P::group <= 4 ? 2 : 4;
  static constexpr std::size_t base(std::size_t d) noexcept { return d / P::kept * P::group; }
  /// Bytes for a register of so many lanes.
  static constexpr std::size_t bytes(std::size_t lanes) noexcept { return lanes * bits / 2; }
};

/// Bytes that say the places of a register of `lanes` columns.
template <class P>
constexpr std::size_t bytes_of_places(std::size_t lanes) noexcept {
  if (P::sharing == policy::share::tile) return 4;
  if (P::positions_as == policy::positions::bytes) return 4 * lanes;
  return P::sharing == policy::share::four ? lanes : packed_places<P>::bytes(lanes);
}

/// Writes values and places of a register of Lanes columns for the window at `weights`, which is number `place` of what a
/// row is read by. The first of them is number `first` of `columns` columns, whose weights are `stride` apart.
template <class P, std::size_t Lanes>
constexpr void encode_register(const std::int8_t* weights, std::size_t stride, [[maybe_unused]] std::size_t place,
                               std::size_t first, std::size_t columns, std::int8_t* values, std::int8_t* out) noexcept {
  constexpr std::size_t together = P::columns_together;
  std::uint8_t places[4 * Lanes]{};
  for (std::size_t c = 0; c < Lanes; ++c) {
    const std::size_t begin = (first + c) / together * together;
    const std::size_t end = polymac::detail::smaller(begin + together, columns);
    const auto is_live = [&](std::size_t k) {
      for (std::size_t column = begin; column < end; ++column)
        if (weights[column * stride + k] != 0) return true;
      return false;
    };
    for_each_kept<P>(window_of<P>, 1, is_live, [&](std::size_t slot, std::size_t k, bool fills) {
      values[4 * c + slot] = fills ? std::int8_t{0} : weights[(first + c) * stride + k];
      places[4 * c + slot] = static_cast<std::uint8_t>(k);
    });
  }
  if constexpr (P::sharing == policy::share::tile) {
    for (std::size_t d = 0; d < 4; ++d) out[d] = static_cast<std::int8_t>(places[d]);
  } else if constexpr (P::positions_as == policy::positions::packed && P::sharing == policy::share::column) {
    using packed = packed_places<P>;
    for (std::size_t i = 0; i < packed::bytes(Lanes); ++i) {
      unsigned byte = 0;
      for (std::size_t j = 0; j < 8 / packed::bits; ++j) {
        const std::size_t at = i * (8 / packed::bits) + j;
        byte |= (places[at] - static_cast<unsigned>(packed::base(at % 4))) << (packed::bits * j);
      }
      out[i] = static_cast<std::int8_t>(byte);
    }
  } else {
    constexpr std::size_t step = P::positions_as == policy::positions::packed ? 4 : 1;
    for (std::size_t c = 0; c < Lanes; c += step)
      for (std::size_t d = 0; d < 4; ++d) out[4 * (c / step) + d] = static_cast<std::int8_t>(place + places[4 * c + d]);
  }
}

/// Base: the product of four bytes in a lane. V: registers with `window<bytes>(from)`, in which a window is repeated,
/// `select<bytes>(window, places)`, `load_places<P>(from)`.
/// Windows: as many of them are read by one load of a row, and take part in one step.
template <class Base, class V, class P, std::size_t Windows = 1>
struct n_of_m_product {
  using mac = typename Base::mac;
  using base = Base;
  using registers = V;
  using policy = P;
  using packed = std::int8_t;
  struct weights {
    typename Base::weights values;
    typename V::type places;
  };
  using codes = weights;
  using activations = typename V::type;
  static constexpr std::size_t parts = 1;
  static constexpr std::size_t windows = Windows;
  static constexpr std::size_t depth = window_of<P> * Windows;
  static constexpr int activation_offset = Base::activation_offset;
  static constexpr int scale_bits = 0;
  static constexpr std::int64_t padding_weight = 0;
  static constexpr std::size_t max_depth = mac::max_depth;
  /// Bytes of a register: its values, window by window, and then its places, so that values are whole lines of a cache.
  static constexpr std::size_t value_bytes = 4 * V::lanes, place_bytes = bytes_of_places<P>(V::lanes);
  static constexpr std::size_t register_bytes = Windows * (value_bytes + place_bytes);
  template <std::size_t Lanes>
  static constexpr std::size_t register_elements = register_bytes*(Lanes / V::lanes);
  /// From the values of a window to its places.
  static constexpr std::size_t to_places(std::size_t window) noexcept {
    return (Windows - window) * value_bytes + window * place_bytes;
  }

  static POLYMAC_INLINE codes load(const packed* values, const packed* places) noexcept {
    return {Base::load(values), V::template load_places<P>(places)};
  }
  static POLYMAC_INLINE activations broadcast(const typename mac::activation* of_row) noexcept {
    return Base::bytes(V::template window<depth>(of_row));
  }
  static POLYMAC_INLINE typename V::type multiply_add(typename V::type sums, activations a, const weights& w) noexcept {
    return Base::multiply_add(sums, Base::factors(V::template select<depth>(a, w.places)), w.values);
  }
};

/// The tile: of a panel, window by window, its registers.
template <class I, class V, class Product, std::size_t Registers, std::size_t MaxRows, std::size_t MaxPanels>
struct n_of_m_tile : lane_tile<I, V, Product, Registers, MaxRows, MaxPanels> {
  using lanes = lane_tile<I, V, Product, Registers, MaxRows, MaxPanels>;
  using P = typename Product::policy;
  static constexpr std::size_t columns = lanes::columns;
  static constexpr bool shares = P::sharing == polymac::policy::share::tile;
  static constexpr bool finishes_tiles = false;
  template <std::size_t Rows, std::size_t Panels>
  using tile = typename lanes::template tile<Rows, Panels>;

  /// Columns whose weights are encoded in view of each other.
  static constexpr std::size_t panels_together = shares ? polymac::policy::tile_columns / columns : 1;
  static constexpr void encode(const std::int8_t* groups, std::int8_t* to) noexcept requires(panels_together == 1) {
    encode(groups, 0, to);
  }
  static constexpr void encode(const std::int8_t* groups, std::size_t panel, std::int8_t* to) noexcept {
    for (std::size_t i = 0; i < Registers; ++i, to += Product::register_bytes)
      for (std::size_t window = 0; window < Product::windows; ++window) {
        std::int8_t* const values = to + window * Product::value_bytes;
        encode_register<P, V::lanes>(groups + window * window_of<P>, Product::depth, window * window_of<P>,
                                     panel * columns + i * V::lanes, panels_together * columns, values,
                                     values + Product::to_places(window));
      }
  }

  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void step(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                  const std::int8_t* weights, std::size_t stride) noexcept {
    if constexpr (shares) return add_shared(t, rows, offset, weights, stride);
    auto of_rows = rows;
    const std::int8_t* places = weights + Product::to_places(0);
    for (std::size_t window = 0; window < Product::windows; ++window) {
      of_rows.keep();  // else the windows of all rows are kept from one turn to the next, and not the sums
      add(t, of_rows, offset, weights, places, stride);
      weights += Product::value_bytes;
      places += Product::place_bytes;
    }
  }

 private:
  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void add(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                 const std::int8_t* values, const std::int8_t* places, std::size_t stride) noexcept {
    typename Product::weights w[Panels * Registers];
    POLYMAC_UNROLL
    for (std::size_t i = 0; i < Panels * Registers; ++i) {
      const std::size_t at = i / Registers * stride + i % Registers * Product::register_bytes;
      w[i] = Product::load(values + at, places + at);
    }
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const typename Product::activations a = Product::broadcast(rows[r] + offset);
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Panels * Registers; ++i) t.sums[r][i] = Product::multiply_add(t.sums[r][i], a, w[i]);
    }
  }
  /// Panels of one register and one window, of which `panels_together` share their places.
  template <std::size_t Rows, std::size_t Panels, class Places>
  static POLYMAC_INLINE void add_shared(tile<Rows, Panels>& t, const Places& rows, std::size_t offset,
                                        const std::int8_t* weights, std::size_t stride) noexcept {
    using base = typename Product::base;
    POLYMAC_UNROLL
    for (std::size_t first = 0; first < Panels; first += panels_together) {
      const std::size_t end = first + panels_together < Panels ? first + panels_together : Panels;
      const auto selected = V::load_shared_places(weights + first * stride + Product::value_bytes);
      typename base::weights w[panels_together];
      POLYMAC_UNROLL
      for (std::size_t i = first; i < end; ++i) w[i - first] = base::load(weights + i * stride);
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) {
        const auto a = base::factors(base::bytes(V::template select_shared<window_of<P>>(rows[r] + offset, selected)));
        POLYMAC_UNROLL
        for (std::size_t i = first; i < end; ++i) t.sums[r][i] = base::multiply_add(t.sums[r][i], a, w[i - first]);
      }
    }
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
