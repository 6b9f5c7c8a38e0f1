// SPDX-License-Identifier: MIT
// Packing: weights are brought once into the order in which an atom reads them.
//
// What is packing? A layer gives its weights as columns x depth. An atom wants, for a panel of `columns` output
// columns, the weights of one group of k (`depth` of them) for all its columns side by side, and group after group:
//
//     panel p:   group 0                     group 1                        ...   last group (padded with zeros)
//                c0: k0 k1 k2 k3 | c1: k0 .. | c0: k4 k5 k6 k7 | c1: k4 .. |
//
// Beside every panel stand the values its sums start from: the bias, with everything folded in that does not depend on
// the activations (zero points, the surplus of atoms that shift their activations).
//
// Cost: O(columns x depth), once, at construction.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/concepts.hpp"
#include "polymac/core/extents.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// The extents of a product: `sets` independent products (convolution groups), each with `columns` output columns and
/// sums over `depth` k. Two `terms` mean that every weight is the sum of two, which doubles the work: weights whose
/// zero point makes them 9 bits wide.
struct product_shape {
  std::size_t sets = 1;
  std::size_t columns = 0;
  std::size_t depth = 0;
  std::size_t terms = 1;
  /// Steps of a tile for the whole depth; 0: as few as possible. A source of segments asks for a multiple of theirs.
  std::size_t tile_steps = 0;
};

namespace detail {

/// The low bits of a wide value: sums are modulo 2^32 until the last one is in.
template <class Accumulator, class Wide>
constexpr Accumulator wrap(Wide value) noexcept {
  if constexpr (std::is_integral_v<Accumulator>)
    return static_cast<Accumulator>(static_cast<std::make_unsigned_t<Accumulator>>(value));
  else
    return static_cast<Accumulator>(value);
}

/// A 64-bit sum in the type that the epilogue takes; saturates, so that nothing wraps silently.
template <class Sum, class Wide>
constexpr Sum narrow(Wide value) noexcept {
  if constexpr (std::is_integral_v<Sum> && sizeof(Sum) < sizeof(Wide)) {
    if (value > std::numeric_limits<Sum>::max()) return std::numeric_limits<Sum>::max();
    if (value < std::numeric_limits<Sum>::min()) return std::numeric_limits<Sum>::min();
  }
  return static_cast<Sum>(value);
}

template <Mac M>
constexpr typename mac_traits<M>::wide product(typename M::activation a, typename M::weight w) noexcept {
  return static_cast<typename mac_traits<M>::wide>(M::multiply_add(typename M::accumulator{}, a, w));
}

/// The bias of a column with its zero point folded in, and whether every sum of the column stays within an accumulator
/// whatever the activations are.
template <Mac M>
class folded_bias {
  using traits = mac_traits<M>;
  using wide = typename traits::wide;
  using activation = typename traits::activation;
  static constexpr bool folds = traits::integer && M::linear && std::is_integral_v<activation>;
  /// May a sum fit 64 bits, but not the accumulator?
  static constexpr bool narrows = traits::integer && sizeof(typename traits::accumulator) < sizeof(wide);
  static constexpr wide most = static_cast<wide>(std::numeric_limits<typename traits::accumulator>::max());

 public:
  constexpr folded_bias(wide bias, activation zero_point) noexcept : value_(bias), zero_point_(zero_point) {}

  constexpr void add(typename traits::weight w) noexcept {
    if constexpr (folds) {
      value_ -= product<M>(zero_point_, w);
    }
    if constexpr (narrows && folds) {
      // The largest magnitude of a * w stands at an end of the range of a, as the product is linear in a.
      const wide low = product<M>(std::numeric_limits<activation>::min(), w);
      const wide high = product<M>(std::numeric_limits<activation>::max(), w);
      const wide a = low < 0 ? -low : low, b = high < 0 ? -high : high;
      reach_ += a > b ? a : b;
    } else if constexpr (narrows) {
      // All that is known of a product: max_depth of them fit.
      reach_ += static_cast<wide>(static_cast<std::size_t>(most) / traits::max_depth);
    }
  }
  constexpr wide value() const noexcept { return value_; }
  constexpr bool fits() const noexcept {
    if constexpr (narrows) {
      return value_ >= -most && value_ <= most && reach_ <= most - (value_ < 0 ? -value_ : value_);
    } else {
      return true;
    }
  }

 private:
  wide value_;
  wide reach_{};
  activation zero_point_;
};

}  // namespace detail

/// Does the atom have a second shape, matrix registers that read the same panels?
template <class Atom>
inline constexpr bool has_tiles = requires {
  typename Atom::tiles;
};

/// Weights in the format of one atom, with the start values of their sums. Owns its memory: inside the object where
/// `Columns` and `Depth` are static (of a layer with one set and one term), else on the heap.
template <Mac M, class Atom, std::size_t Columns = dynamic, std::size_t Depth = dynamic>
class packed_weights {
  using traits = mac_traits<M>;
  static constexpr bool is_static = Columns != dynamic && Depth != dynamic;
  static constexpr std::size_t group_size = Atom::columns * Atom::depth;
  /// Groups of k whose sum is safe in one accumulator.
  static constexpr std::size_t safe_groups =
      traits::max_depth / Atom::depth > 0 ? traits::max_depth / Atom::depth : std::size_t{1};
  static_assert(traits::max_depth >= Atom::depth,
                "polymac: an atom must not take more k in a step than max_depth allows");

  static constexpr std::size_t panels_for(std::size_t columns) {
    return polymac::detail::divide_up(columns, Atom::columns);
  }
  static constexpr std::size_t groups_for(std::size_t depth) { return polymac::detail::divide_up(depth, Atom::depth); }
  static constexpr std::size_t chunks_for(std::size_t groups) {
    return groups == 0 ? 1 : polymac::detail::divide_up(groups, safe_groups);
  }
  /// Does the atom read the panels as tiles too? Then a panel is cut into steps of equally many groups, at most those of a
  /// tile, and filled up with zeros to whole steps.
  static constexpr bool has_tiles = kernel::has_tiles<Atom>;
  static constexpr std::size_t steps_for(std::size_t groups) {
    if constexpr (has_tiles)
      return groups == 0 ? 1 : polymac::detail::divide_up(groups, Atom::tiles::max_groups);
    else
      return 1;
  }
  static constexpr std::size_t held_groups(std::size_t groups) {
    return polymac::detail::round_up(groups, steps_for(groups));
  }
  static constexpr std::size_t static_panels = is_static ? panels_for(Columns) : 0;
  static constexpr std::size_t static_groups = is_static ? groups_for(Depth) : 0;

 public:
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using weight = typename traits::weight;
  using activation = typename traits::activation;

  /// Packs. `weight_of(set, column, term, k)` and `bias_of(set, column)` (as wide) are called for every element.
  /// Products are taken of (activation - zero_point). Fails where memory fails, or where the product of extents
  /// overflows.
  template <class WeightOf, class BiasOf>
  constexpr status pack(const product_shape& shape, const WeightOf& weight_of, const BiasOf& bias_of,
                        activation zero_point) noexcept {
    shape_ = shape;
    panels_ = panels_for(shape.columns);
    term_groups_ = groups_for(shape.depth);
    groups_ = term_groups_ * shape.terms;
    chunks_ = chunks_for(groups_);
    steps_ = shape.tile_steps > 0 ? shape.tile_steps : steps_for(groups_);
    held_groups_ = polymac::detail::round_up(groups_, steps_);
    constexpr std::size_t limit = std::numeric_limits<std::size_t>::max() / 8;
    if (shape.depth > limit / 4 || shape.columns > limit / 64 ||
        (groups_ > 0 && panels_ * shape.sets > limit / held_groups_ / group_size))
      return status::make(errc::shape, "weights: ", shape.columns, " columns x ", shape.depth,
                          " deep exceed the address space");
    if (status s = panels_data_.resize(shape.sets * panels_ * held_groups_ * group_size); !s.ok()) return s;
    if (status s = bias_.resize(shape.sets * panels_ * Atom::columns); !s.ok()) return s;

    bool fits = chunks_ == 1 && sizeof(typename traits::sum) <= sizeof(accumulator);
    for (std::size_t set = 0; set < shape.sets; ++set)
      for (std::size_t c = 0; c < shape.columns; ++c)
        if (!pack_column(set, c, weight_of, bias_of, zero_point)) fits = false;
    wide_ = traits::integer && !fits;
    return make_starts();
  }

  constexpr const product_shape& shape() const noexcept { return shape_; }
  /// Panels of one set.
  constexpr std::size_t panels() const noexcept { return panels_; }
  /// Groups of k in a panel, all terms together; `term_groups` of one term.
  constexpr std::size_t groups() const noexcept { return groups_; }
  constexpr std::size_t term_groups() const noexcept { return term_groups_; }
  /// Pieces of the depth that are summed in an accumulator of their own, and groups in all but the last.
  constexpr std::size_t chunks() const noexcept { return chunks_; }
  static constexpr std::size_t chunk_groups() noexcept { return safe_groups; }
  /// Are sums gathered in 64 bits? True where a sum might leave 32 bits.
  constexpr bool wide_sums() const noexcept { return wide_; }
  /// Distance of two panels in weights, and of their start values in accumulators.
  constexpr std::size_t panel_stride() const noexcept { return held_groups_ * group_size; }
  constexpr std::size_t start_stride() const noexcept { return chunks_ * Atom::columns; }

  constexpr const weight* panel(std::size_t set, std::size_t p) const noexcept {
    return panels_data_.data() + (set * panels_ + p) * panel_stride();
  }
  constexpr const accumulator* starts(std::size_t set, std::size_t p, std::size_t chunk) const noexcept {
    return starts_.data() + (set * panels_ + p) * start_stride() + chunk * Atom::columns;
  }
  /// The folded bias of the columns of panel p, for sums in 64 bits.
  constexpr const wide* bias(std::size_t set, std::size_t p) const noexcept {
    return bias_.data() + (set * panels_ + p) * Atom::columns;
  }
  /// Steps of a tile in a panel, and groups in each.
  constexpr std::size_t steps() const noexcept { return steps_; }
  constexpr std::size_t step_groups() const noexcept { return held_groups_ / steps_; }
  /// The shapes of the tiles of a step.
  constexpr const auto& tile_configuration() const noexcept { return tile_configuration_; }
  /// k that the steps read of a row; beyond the depth the weights are zero.
  constexpr std::size_t depth_of_tiles() const noexcept { return held_groups_ * Atom::depth; }
  /// Start values of panel p for tiles, which shift no activations.
  constexpr const accumulator* tile_starts(std::size_t set, std::size_t p) const noexcept {
    return tile_starts_.data() + (set * panels_ + p) * Atom::columns;
  }
  /// Bytes this object holds for weights, start values and bias.
  constexpr std::size_t bytes() const noexcept {
    return panels_data_.size() * sizeof(weight) + (starts_.size() + tile_starts_.size()) * sizeof(accumulator) +
           bias_.size() * sizeof(wide);
  }

 private:
  /// Writes one column and its folded bias; false where some activations could carry its sum out of 32 bits.
  template <class WeightOf, class BiasOf>
  constexpr bool pack_column(std::size_t set, std::size_t c, const WeightOf& weight_of, const BiasOf& bias_of,
                             activation zero_point) noexcept {
    weight* const panel_data = panels_data_.data() + (set * panels_ + c / Atom::columns) * panel_stride();
    const std::size_t lane = c % Atom::columns;
    detail::folded_bias<M> folded(bias_of(set, c), zero_point);
    for (std::size_t term = 0; term < shape_.terms; ++term) {
      for (std::size_t k = 0; k < shape_.depth; ++k) {
        const weight w = weight_of(set, c, term, k);
        const std::size_t group = term * term_groups_ + k / Atom::depth;
        panel_data[(group * Atom::columns + lane) * Atom::depth + k % Atom::depth] = w;
        folded.add(w);
      }
    }
    bias_[(set * panels_ + c / Atom::columns) * Atom::columns + lane] = folded.value();
    return folded.fits();
  }

  constexpr status make_starts() noexcept {
    if (status s = starts_.resize(shape_.sets * panels_ * chunks_ * Atom::columns); !s.ok()) return s;
    if constexpr (has_tiles) {
      tile_configuration_ = configuration_of(step_groups());
      if (status s = tile_starts_.resize(bias_.size()); !s.ok()) return s;
      for (std::size_t i = 0; i < bias_.size(); ++i) tile_starts_[i] = detail::wrap<accumulator>(bias_[i]);
    }
    for (std::size_t p = 0; p < shape_.sets * panels_; ++p) {
      const weight* w = panels_data_.data() + p * panel_stride();
      for (std::size_t chunk = 0; chunk < chunks_; ++chunk) {
        const std::size_t first = chunk * safe_groups;
        const std::size_t last = polymac::detail::smaller(first + safe_groups, groups_);
        for (std::size_t lane = 0; lane < Atom::columns; ++lane) {
          wide start = wide_ ? wide{} : bias_[p * Atom::columns + lane];
          if constexpr (Atom::activation_offset != 0)
            for (std::size_t group = first; group < last; ++group)
              for (std::size_t d = 0; d < Atom::depth; ++d)
                start -=
                    static_cast<wide>(Atom::activation_offset) * w[(group * Atom::columns + lane) * Atom::depth + d];
          starts_[(p * chunks_ + chunk) * Atom::columns + lane] = detail::wrap<accumulator>(start);
        }
      }
    }
    return {};
  }

  static constexpr std::size_t panel_extent =
      is_static ? static_panels * held_groups(static_groups) * group_size : dynamic;
  static constexpr std::size_t start_extent =
      is_static ? static_panels * chunks_for(static_groups) * Atom::columns : dynamic;
  static constexpr std::size_t bias_extent = is_static ? static_panels * Atom::columns : dynamic;

  product_shape shape_{};
  std::size_t panels_ = 0, groups_ = 0, term_groups_ = 0, chunks_ = 1, steps_ = 1, held_groups_ = 0;
  bool wide_ = false;
  buffer<weight, panel_extent> panels_data_;
  buffer<accumulator, start_extent> starts_;
  buffer<wide, bias_extent> bias_;
  struct nothing {
    static constexpr std::size_t size() noexcept { return 0; }
  };
  [[no_unique_address]] std::conditional_t<has_tiles, buffer<accumulator, bias_extent>, nothing> tile_starts_;
  static constexpr auto configuration_of(std::size_t groups) noexcept {
    if constexpr (has_tiles)
      return Atom::tiles::configuration(groups);
    else
      return nothing{};
  }
  [[no_unique_address]] decltype(configuration_of(1)) tile_configuration_{};
};

}  // namespace kernel
POLYMAC_END
