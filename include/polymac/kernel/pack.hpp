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
// Weights that already are of the arithmetic's type, in the order of a matrix, are packed by whole blocks
// (isa/panels.hpp), at the speed of memory; all others one by one.
//
// Cost: O(columns x depth), once, at construction.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/concepts.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/isa/all.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

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
  /// Columns of the product that this one is a part of; 0: it is the whole.
  std::size_t whole_columns = 0;
  /// k that lie side by side in a row of activations, where it is read in several stretches; 0: all.
  std::size_t stretch = 0;
  /// Equal parts of the depth, each of which can be left out where all its activations are the zero point: lines of a
  /// kernel on padding. 0: none.
  std::size_t lines = 0;
};

/// Weights in memory as they are multiplied: of the arithmetic's own type, one term, no zero points.
template <class W>
struct plain_weights {
  const W* data = nullptr;  ///< null: there are none
  std::size_t stride = 0;   ///< distance of two columns, or of two k, in weights
  bool by_depth = false;    ///< false: k of a column side by side; true: columns of a k side by side
  constexpr const W& operator()(std::size_t column, std::size_t k) const noexcept { return *at(column, k); }
  constexpr const W* at(std::size_t column, std::size_t k) const noexcept {
    return data + (by_depth ? k * stride + column : column * stride + k);
  }
};

/// Where packed weights are: in memory of their own, or (`lent_memory`) in memory handed over at construction.
struct owned_memory {
  template <class T, std::size_t Extent>
  using elements = buffer<T, Extent>;
};
struct lent_memory {
  template <class T, std::size_t>
  using elements = lent_buffer<T>;
};
/// Or in other packed weights, of which they are a part.
struct viewed_memory {
  template <class T, std::size_t>
  using elements = lent_buffer<const T>;
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

/// Does the atom have a second shape, matrix registers that read the same panels? They hand on their sums as they are: an
/// arithmetic that makes totals of them (mac::dfp of bytes) keeps to vector registers.
template <class Atom>
inline constexpr bool has_tiles = requires {
  typename Atom::tiles;
}
&&!requires(const typename Atom::accumulator& c) { Atom::mac::total(c); };

/// Does the atom have another one for few columns, with panels of its own? (Not beside matrix registers.)
template <class Atom>
inline constexpr bool has_narrow = !has_tiles<Atom> && requires {
  typename Atom::narrow;
};
namespace detail {
template <class Atom>
struct narrow_of {
  using type = Atom;
};
template <class Atom>
requires has_narrow<Atom>
struct narrow_of<Atom> {
  using type = typename Atom::narrow;
};
}  // namespace detail
/// That atom; where there is none, the atom itself.
template <class Atom>
using narrow_atom = typename detail::narrow_of<Atom>::type;

/// Are weights of this shape packed for the narrow atom? Where they fill one of its panels at most, as half of the
/// lanes of a panel of 16 columns would be left without a column; but not where the stretches of a row are whole groups
/// of the other atom only, and had to be copied for this one.
template <class Atom>
constexpr bool prefers_narrow(const product_shape& shape) noexcept {
  using narrow = narrow_atom<Atom>;
  return has_narrow<Atom> && shape.columns <= narrow::columns &&
         (shape.stretch % narrow::depth == 0 || shape.stretch % Atom::depth != 0);
}

namespace detail {

/// Is every product a * w times a constant? Integers that are linear in both operands leave no other choice. Then the
/// sum of a column's weights is all that zero points and surpluses need.
template <Mac M>
inline constexpr bool adds_up = !mac_traits<M>::integer || (std::is_integral_v<typename mac_traits<M>::activation> &&
                                                            std::is_integral_v<typename mac_traits<M>::weight> &&
                                                            M::linear && mac_traits<M>::weight_linear);

/// How the weights of a product are cut up for an atom, as far as it follows from the shape.
template <Mac M, class Atom>
struct panel_counts {
  using narrow_type = narrow_atom<Atom>;
  /// Of the arithmetic, and of what the atom makes of it.
  static constexpr std::size_t max_depth = [] {
    if constexpr (requires { Atom::max_depth; })
      return polymac::detail::smaller(mac_traits<M>::max_depth, Atom::max_depth);
    else
      return mac_traits<M>::max_depth;
  }();
  static_assert(max_depth >= Atom::depth && max_depth >= narrow_type::depth,
                "polymac: an atom must not take more k in a step than max_depth allows");

  bool narrow = false;          ///< packed for the narrow atom?
  std::size_t panels = 0;       ///< of one set
  std::size_t term_groups = 0;  ///< groups of k of one term
  std::size_t groups = 0;       ///< of all terms
  std::size_t chunks = 1;       ///< pieces of the depth that are summed in an accumulator of their own
  std::size_t lines = 0;        ///< parts of the depth that can be left out
  /// Where the atom reads panels as tiles too, a panel is cut into steps of equally many groups, at most those of a
  /// tile, and filled up with zeros to whole steps.
  std::size_t steps = 1;
  std::size_t held_groups = 0;  ///< groups of a panel, filled up
  /// Distance of two panels in elements. Not a multiple of 4 KiB: one row reads eight panels at a time, and their lines
  /// would share a set of L1, and of L2.
  std::size_t panel_weights = 0;
  /// Distance of the start values of two panels: for each chunk, and what a line that is left out adds to them.
  std::size_t start_values = 0;

  constexpr panel_counts() noexcept = default;
  constexpr panel_counts(const product_shape& shape, bool is_narrow) noexcept
      : narrow(is_narrow),
        panels(polymac::detail::divide_up(shape.columns, columns())),
        term_groups(polymac::detail::divide_up(shape.depth, depth())),
        groups(term_groups * shape.terms) {
    if (groups > 0) chunks = polymac::detail::divide_up(groups, safe_groups());
    if (mac_traits<M>::integer && adds_up<M> && shape.lines > 0 && shape.terms == 1 && chunks == 1 &&
        shape.depth % (shape.lines * depth()) == 0)
      lines = shape.lines;
    if (shape.tile_steps > 0) steps = shape.tile_steps;
    if constexpr (has_tiles<Atom>)
      if (shape.tile_steps == 0 && groups > 0) steps = steps_of(groups);
    held_groups = polymac::detail::round_up(groups, steps);
    panel_weights = stride_of(held_groups);
    start_values = (chunks + lines) * columns();
  }
  /// Distance of two panels of so many groups.
  constexpr std::size_t stride_of(std::size_t held) const noexcept {
    constexpr std::size_t page = 4096 / sizeof(isa::packed_of<Atom>), line = page / 64;
    const std::size_t elements = held * group_size();
    return elements % page == 0 && elements > 0 ? elements + line : elements;
  }
  /// As few as possible. Floats may meet infinities beyond the depth, times zero: their steps end with it, if that does
  /// not make them much shorter.
  static constexpr std::size_t steps_of(std::size_t groups) noexcept {
    constexpr std::size_t most = Atom::tiles::max_groups;
    const std::size_t least = polymac::detail::divide_up(groups, most);
    if constexpr (!mac_traits<M>::integer)
      for (std::size_t n = least; 2 * groups >= n * most; ++n)
        if (groups % n == 0) return n;
    return least;
  }
  /// Those of the atom that the weights are packed for.
  constexpr std::size_t columns() const noexcept { return narrow ? narrow_type::columns : Atom::columns; }
  constexpr std::size_t depth() const noexcept { return narrow ? narrow_type::depth : Atom::depth; }
  /// Elements of a panel for one group of k.
  constexpr std::size_t group_size() const noexcept {
    return narrow ? isa::group_elements<narrow_type> : isa::group_elements<Atom>;
  }
  /// Groups of k whose sum is safe in one accumulator.
  constexpr std::size_t safe_groups() const noexcept {
    return narrow ? max_depth / narrow_type::depth : max_depth / Atom::depth;
  }
  /// Columns of one set, filled up to whole panels.
  constexpr std::size_t held_columns() const noexcept { return panels * columns(); }
};

}  // namespace detail

/// Weights in the format of one atom, with the start values of their sums. Owns its memory: inside the object where
/// `Columns` and `Depth` are static (of a layer with one set and one term), else on the heap; or uses lent memory.
template <Mac M, class Atom, std::size_t Columns = dynamic, std::size_t Depth = dynamic, class Memory = owned_memory>
class packed_weights {
  using traits = mac_traits<M>;
  using counts = detail::panel_counts<M, Atom>;
  static constexpr bool is_static = Columns != dynamic && Depth != dynamic;
  static constexpr bool has_tiles = kernel::has_tiles<Atom>;

 public:
  /// Can they be packed for the narrow atom, and for no other? As far as the static columns say.
  static constexpr bool may_be_narrow =
      has_narrow<Atom> && (Columns == dynamic || Columns <= narrow_atom<Atom>::columns);
  static constexpr bool is_always_narrow = may_be_narrow && Columns != dynamic;
  /// Can they be narrow and have wide sums? Where weights can be packed for both atoms, few sums of 32 bits that might
  /// overflow are left to the other one: a second nest for them would only cost time of compilers.
  static constexpr bool may_be_narrow_and_wide =
      may_be_narrow && (is_always_narrow || sizeof(typename traits::sum) > sizeof(typename traits::accumulator));

  using mac = M;
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using weight = typename traits::weight;
  using activation = typename traits::activation;
  /// What panels are made of: weights, or what the atom makes of them.
  using panel_element = isa::packed_of<Atom>;
  using narrow = narrow_atom<Atom>;

  /// Elements that packed weights hold.
  struct extent {
    std::size_t weights = 0, starts = 0, bias = 0, tile_starts = 0;
  };

  constexpr packed_weights() noexcept = default;
  constexpr packed_weights(lent_buffer<panel_element> weights, lent_buffer<accumulator> starts, lent_buffer<wide> bias,
                           lent_buffer<accumulator> tile_starts) noexcept requires std::is_same_v<Memory, lent_memory>
      : panels_data_(weights), starts_(starts), bias_(bias) {
    if constexpr (has_tiles)
      tile_starts_ = tile_starts;
    else
      static_cast<void>(tile_starts);
  }

  /// The columns [columns.begin, columns.end) of `whole`, which has one set and stays where it is. columns.begin is the
  /// beginning of a panel.
  template <class Whole>
  constexpr packed_weights(const Whole& whole,
                           column_range columns) noexcept requires std::is_same_v<Memory, viewed_memory>
      : shape_(whole.shape()), wide_(whole.wide_sums()) {
    shape_.columns = columns.end - columns.begin;
    shape_.tile_steps = whole.steps();
    shape_.whole_columns = whole.shape().whole_columns > 0 ? whole.shape().whole_columns : whole.shape().columns;
    counts_ = counts(shape_, whole.is_narrow());
    const std::size_t first = columns.begin / counts_.columns(), held = counts_.held_columns();
    summary_ = whole.summary();
    counts_.panel_weights = whole.panel_stride();
    if constexpr (isa::is_listed<Atom>) {
      lists_ = {whole.list(0, first), lists_of_set() * list_stride()};
      for (std::size_t i = 0; i < lists_of_set(); ++i) live_groups_ += lists_.data()[i * list_stride()];
    }
    panels_data_ = {whole.panel(0, first), counts_.panels * panel_stride()};
    starts_ = {whole.starts(0, first, 0), counts_.panels * start_stride()};
    bias_ = {whole.bias(0, first), held};
    if constexpr (has_tiles) {
      tile_starts_ = {whole.tile_starts(0, first), held};
      tile_configuration_ = whole.tile_configuration();
      has_tile_starts_ = whole.has_tile_starts();
    }
  }

  /// Fails where the product of extents overflows.
  static constexpr status measure(const product_shape& shape, extent& out) noexcept {
    return measure(shape, narrow_for(shape), out);
  }

  /// Packs. `weight_of(set, column, term, k)` and `bias_of(set, column)` (as wide) are called for every element.
  /// Products are taken of (activation - zero_point). `plain`: the same weights in memory, where they lie there as they
  /// are packed; columns of all sets one after the other. Fails where memory fails, or where the product of extents
  /// overflows.
  template <class WeightOf, class BiasOf>
  constexpr status pack(const product_shape& shape, const WeightOf& weight_of, const BiasOf& bias_of,
                        activation zero_point, plain_weights<weight> plain = {}) noexcept {
    status s = pack_as(narrow_for(shape), shape, weight_of, bias_of, zero_point, plain);
    if constexpr (may_be_narrow && !may_be_narrow_and_wide)
      if (s.ok() && wide_ && is_narrow()) s = pack_as(false, shape, weight_of, bias_of, zero_point, plain);
    return s;
  }

  constexpr const product_shape& shape() const noexcept { return shape_; }
  /// Are they packed for the narrow atom?
  constexpr bool is_narrow() const noexcept { return is_always_narrow || (may_be_narrow && counts_.narrow); }
  /// Columns of a panel and k of a group: those of the atom that they are packed for.
  constexpr std::size_t panel_columns() const noexcept { return counts_.columns(); }
  constexpr std::size_t group_depth() const noexcept { return counts_.depth(); }
  /// Rows and columns of its tiles.
  constexpr std::size_t tile_rows() const noexcept {
    return is_narrow() ? narrow_atom<Atom>::max_rows : Atom::max_rows;
  }
  constexpr std::size_t tile_columns() const noexcept {
    return panel_columns() * (is_narrow() ? narrow_atom<Atom>::max_panels : Atom::max_panels);
  }
  /// Panels of one set.
  constexpr std::size_t panels() const noexcept { return counts_.panels; }
  /// Groups of k in a panel, all terms together; `term_groups` of one term.
  constexpr std::size_t groups() const noexcept { return counts_.groups; }
  constexpr std::size_t term_groups() const noexcept { return counts_.term_groups; }
  /// Pieces of the depth that are summed in an accumulator of their own, and groups in all but the last.
  constexpr std::size_t chunks() const noexcept { return counts_.chunks; }
  constexpr std::size_t chunk_groups() const noexcept { return counts_.safe_groups(); }
  /// Are sums gathered in 64 bits? True where a sum might leave 32 bits.
  constexpr bool wide_sums() const noexcept { return wide_; }
  /// Distance of two panels in elements, and of their start values in accumulators.
  constexpr std::size_t panel_stride() const noexcept { return counts_.panel_weights; }
  constexpr std::size_t start_stride() const noexcept { return counts_.start_values; }
  /// Equal parts of the depth that can be left out; none, if sums are gathered in 64 bits.
  constexpr std::size_t lines() const noexcept { return wide_ ? 0 : counts_.lines; }

  constexpr const panel_element* panel(std::size_t set, std::size_t p) const noexcept {
    return panels_data_.data() + (set * counts_.panels + p) * panel_stride();
  }
  /// The weight of column `column` and k as it was given, of weights of one term, read back from its panel.
  constexpr weight read(std::size_t set, std::size_t column, std::size_t k) const noexcept
      requires(!isa::encodes_weights<Atom> && !isa::is_listed<Atom>) {
    const std::size_t columns = panel_columns(), depth = group_depth();
    return panel(set, column / columns)[k / depth * counts_.group_size() + column % columns * depth + k % depth];
  }
  constexpr const accumulator* starts(std::size_t set, std::size_t p, std::size_t chunk) const noexcept {
    return starts_.data() + (set * counts_.panels + p) * start_stride() + chunk * counts_.columns();
  }
  /// What is added to the start values of panel p where line `line` is left out.
  constexpr const accumulator* line_starts(std::size_t set, std::size_t p, std::size_t line) const noexcept {
    return starts(set, p, counts_.chunks + line);
  }
  /// The folded bias of the columns of panel p, for sums in 64 bits.
  constexpr const wide* bias(std::size_t set, std::size_t p) const noexcept {
    return bias_.data() + (set * counts_.panels + p) * counts_.columns();
  }
  /// Of weights in lists: for list_panels panels from p on, how many groups are not left out, and which.
  constexpr const std::uint32_t* list(std::size_t set, std::size_t p) const noexcept requires(isa::is_listed<Atom>) {
    return lists_.data() + (set * lists_of_set() + p / Atom::list_panels) * list_stride();
  }
  constexpr std::size_t list_stride() const noexcept { return counts_.groups + 1; }
  /// Groups that are not left out, of all lists, and how many there would be.
  constexpr std::size_t live_groups() const noexcept { return live_groups_; }
  constexpr std::size_t all_groups() const noexcept {
    if constexpr (isa::is_listed<Atom>)
      return shape_.sets * lists_of_set() * counts_.groups;
    else
      return 0;
  }
  /// What the atom wants to know of all weights.
  constexpr const auto& summary() const noexcept { return summary_; }
  /// Steps of a tile in a panel, and groups in each.
  constexpr std::size_t steps() const noexcept { return counts_.steps; }
  constexpr std::size_t step_groups() const noexcept { return counts_.held_groups / counts_.steps; }
  /// The shapes of the tiles of a step.
  constexpr const auto& tile_configuration() const noexcept { return tile_configuration_; }
  /// k that the steps read of a row; beyond the depth the weights are zero.
  constexpr std::size_t depth_of_tiles() const noexcept { return counts_.held_groups * Atom::depth; }
  /// Start values of panel p for tiles, which shift no activations; has_tile_starts: are there other than 0?
  constexpr bool has_tile_starts() const noexcept { return has_tile_starts_; }
  constexpr const accumulator* tile_starts(std::size_t set, std::size_t p) const noexcept {
    return tile_starts_.data() + (set * counts_.panels + p) * Atom::columns;
  }
  /// Bytes this object holds for weights, start values and bias.
  constexpr std::size_t bytes() const noexcept {
    return panels_data_.size() * sizeof(panel_element) + (starts_.size() + tile_starts_.size()) * sizeof(accumulator) +
           bias_.size() * sizeof(wide) + lists_.size() * sizeof(std::uint32_t);
  }

 private:
  static constexpr bool adds_up = detail::adds_up<M>;
  static constexpr std::size_t line_columns = 64 / sizeof(weight);
  static constexpr bool encodes = isa::encodes_weights<Atom>;
  static constexpr bool has_summary = isa::has_summary<Atom>;
  static constexpr std::size_t most_columns =
      Atom::columns > narrow_atom<Atom>::columns ? Atom::columns : narrow_atom<Atom>::columns;

  static constexpr bool narrow_for(const product_shape& shape) noexcept {
    if (!may_be_narrow || is_always_narrow) return is_always_narrow;
    return prefers_narrow<Atom>(shape) && (may_be_narrow_and_wide || counts(shape, true).chunks == 1);
  }
  static constexpr status measure(const product_shape& shape, bool for_narrow, extent& out) noexcept {
    const counts n(shape, for_narrow);
    constexpr std::size_t limit = std::numeric_limits<std::size_t>::max() / 8;
    if (shape.depth > limit / 4 || shape.columns > limit / 64 ||
        (n.groups > 0 && n.panels * shape.sets > limit / n.held_groups / n.group_size()))
      return status::make(errc::shape, "weights: ", shape.columns, " columns x ", shape.depth,
                          " deep exceed the address space");
    const std::size_t columns = shape.sets * n.held_columns();
    out = {shape.sets * n.panels * n.panel_weights, shape.sets * n.panels * n.start_values, columns,
           has_tiles ? columns : 0};
    return {};
  }
  template <class WeightOf, class BiasOf>
  constexpr status pack_as(bool for_narrow, const product_shape& shape, const WeightOf& weight_of,
                           const BiasOf& bias_of, activation zero_point, plain_weights<weight> plain) noexcept {
    extent size;
    if (status s = measure(shape, for_narrow, size); !s.ok()) return s;
    shape_ = shape;
    counts_ = counts(shape, for_narrow);
    summary_ = {};
    if (status s = panels_data_.resize_for_overwrite(size.weights); !s.ok()) return s;
    if (status s = bias_.resize_for_overwrite(size.bias); !s.ok()) return s;
    if (status s = starts_.resize_for_overwrite(size.starts); !s.ok()) return s;
    if constexpr (has_tiles)
      if (status s = tile_starts_.resize_for_overwrite(size.tile_starts); !s.ok()) return s;

    if (std::is_constant_evaluated() || !adds_up || encodes || shape.terms != 1) plain.data = nullptr;
    bool fits = counts_.chunks == 1 && sizeof(typename traits::sum) <= sizeof(accumulator);
    // Rows of several panels share a cache line.
    const std::size_t together = plain.data != nullptr && plain.by_depth && line_columns > counts_.columns()
                                     ? line_columns / counts_.columns()
                                     : std::size_t{1};
    for (std::size_t set = 0; set < shape.sets; ++set)
      for (std::size_t p = 0; p < counts_.panels; p += together) {
        const std::size_t end = polymac::detail::smaller(p + together, counts_.panels);
        if constexpr (!encodes)
          if (plain.data != nullptr) copy_panels(set, p, end, plain);
        for (std::size_t i = p; i < end; ++i) {
          bool panel_fits = false;
          if constexpr (encodes)
            panel_fits = encode_panel(set, i, weight_of, bias_of, zero_point);
          else
            panel_fits = pack_panel(set, i, weight_of, bias_of, zero_point, plain.data != nullptr, fits);
          fits = fits && panel_fits;
        }
      }
    wide_ = traits::integer && !fits;
    finish_starts();
    if constexpr (isa::is_listed<Atom>) return leave_out_zeros();
    return {};
  }

  /// Finds the groups that are 0 in all panels of a list, and moves the others together. Sums in 64 bits take all.
  constexpr status leave_out_zeros() noexcept requires(isa::is_listed<Atom>) {
    const std::size_t lists = shape_.sets * lists_of_set(), groups = counts_.groups, size = counts_.group_size();
    if (status s = lists_.resize_for_overwrite(lists * list_stride()); !s.ok()) return s;
    live_groups_ = 0;
    std::size_t most = 0;
    for (std::size_t i = 0; i < lists; ++i) {
      std::uint32_t* const list = lists_.data() + i * list_stride();
      const std::size_t first = i / lists_of_set() * counts_.panels + i % lists_of_set() * Atom::list_panels;
      const std::size_t count =
          polymac::detail::smaller(Atom::list_panels, counts_.panels - i % lists_of_set() * Atom::list_panels);
      std::uint32_t live = 0;
      for (std::size_t g = 0; g < groups; ++g) {
        bool zero = !wide_;
        for (std::size_t p = first; zero && p < first + count; ++p)
          for (std::size_t e = 0; zero && e < size; ++e)
            zero = panels_data_.data()[p * panel_stride() + g * size + e] == panel_element{};
        if (zero) continue;
        for (std::size_t p = first; p < first + count && live < g; ++p) {
          panel_element* const data = panels_data_.data() + p * panel_stride();
          for (std::size_t e = 0; e < size; ++e) data[live * size + e] = data[g * size + e];
        }
        list[++live] = static_cast<std::uint32_t>(g);
      }
      list[0] = live;
      live_groups_ += live;
      if (most < live) most = live;
    }
    return wide_ ? status{} : shorten_panels(most);
  }
  /// Makes panels no longer than the longest of them, where they have memory of their own.
  constexpr status shorten_panels(std::size_t groups) noexcept {
    const std::size_t stride = counts_.stride_of(groups), panels = shape_.sets * counts_.panels;
    if constexpr (std::is_same_v<Memory, owned_memory> && !is_static) {
      if (stride >= panel_stride()) return {};
      auto shorter = decltype(panels_data_){};
      if (status s = shorter.resize_for_overwrite(panels * stride); !s.ok()) return s;
      for (std::size_t p = 0; p < panels; ++p)
        for (std::size_t e = 0; e < stride; ++e)
          shorter.data()[p * stride + e] = panels_data_.data()[p * panel_stride() + e];
      panels_data_ = std::move(shorter);
      counts_.panel_weights = stride;
    }
    return {};
  }

  /// f(std::type_identity) of the atom that the weights are packed for.
  template <class Function>
  constexpr void with_atom(const Function& f) const noexcept {
    if constexpr (may_be_narrow) {
      if (is_narrow()) return f(std::type_identity<narrow_atom<Atom>>{});
    }
    if constexpr (!is_always_narrow) f(std::type_identity<Atom>{});
  }

  constexpr panel_element* panel_data(std::size_t set, std::size_t p) noexcept {
    return panels_data_.data() + (set * counts_.panels + p) * panel_stride();
  }

  /// Writes the panels [p, end) from weights in memory.
  constexpr void copy_panels(std::size_t set, std::size_t p, std::size_t end,
                             const plain_weights<weight>& plain) noexcept requires(!encodes) {
    with_atom([&]<class A>(std::type_identity<A>) { copy_panels_for<A>(set, p, end, plain); });
    for (std::size_t i = p; i < end; ++i) {
      weight* const data = panel_data(set, i);
      for (std::size_t rest = counts_.groups * counts_.group_size(); rest < panel_stride(); ++rest)
        data[rest] = weight{};
    }
  }
  template <class A>
  constexpr void copy_panels_for(std::size_t set, std::size_t p, std::size_t end,
                                 const plain_weights<weight>& plain) noexcept requires(!encodes) {
    using I = typename A::isa;
    const auto from = [&](std::size_t panel, std::size_t k) {
      return plain.at(set * shape_.columns + panel * A::columns, k);
    };
    const auto count = [&](std::size_t panel) {
      return polymac::detail::smaller(A::columns, shape_.columns - panel * A::columns);
    };
    if (!plain.by_depth) {
      for (std::size_t i = p; i < end; ++i)
        isa::transpose_panel<I, A::columns, A::depth>(panel_data(set, i), from(i, 0), plain.stride, count(i),
                                                      shape_.depth);
    } else {
      // Few rows at a time: their lines may all fall on one set of L1.
      constexpr std::size_t rows = A::depth * (8 / A::depth > 0 ? 8 / A::depth : 1);
      for (std::size_t k = 0; k < shape_.depth; k += rows)
        for (std::size_t i = p; i < end; ++i)
          isa::interleave_panel<I, A::columns, A::depth>(panel_data(set, i) + k * A::columns, from(i, k), plain.stride,
                                                         count(i), polymac::detail::smaller(rows, shape_.depth - k));
    }
  }

  /// Writes one panel, if it is not `copied`, its folded bias, and what its start values differ from that by; false
  /// where some activations could carry a sum out of 32 bits. `exactly`: does that matter still?
  template <class WeightOf, class BiasOf>
  constexpr bool pack_panel(std::size_t set, std::size_t p, const WeightOf& weight_of, const BiasOf& bias_of,
                            activation zero_point, bool copied, bool exactly) noexcept requires(!encodes) {
    panel_element* const data = panel_data(set, p);
    const std::size_t columns = counts_.columns(), safe_groups = counts_.safe_groups();
    wide* const bias = bias_.data() + (set * counts_.panels + p) * columns;
    const std::size_t first = p * columns;
    const std::size_t count = polymac::detail::smaller(columns, shape_.columns - first);
    bool fits = true;
    for (std::size_t lane = 0; lane < columns; ++lane) bias[lane] = wide{};
    if (!copied) {
      for (std::size_t i = 0; i < panel_stride(); ++i) data[i] = weight{};
      for (std::size_t lane = 0; lane < count; ++lane)
        if (!pack_column(set, first + lane, data + lane * counts_.depth(), bias[lane], weight_of, bias_of, zero_point))
          fits = false;
    }
    const bool folds = traits::integer && copied && zero_point != activation{};
    wide totals[most_columns]{};
    for (std::size_t chunk = 0; chunk < counts_.chunks; ++chunk) {
      accumulator* const start = starts_.data() + (set * counts_.panels + p) * start_stride() + chunk * columns;
      if constexpr (traits::integer && (adds_up || Atom::activation_offset != 0)) {
        std::int64_t sums[most_columns]{};
        const std::size_t from = chunk * safe_groups;
        if (Atom::activation_offset != 0 || folds)
          with_atom([&]<class A>(std::type_identity<A>) {
            isa::add_up_columns<typename A::isa, A::columns, A::depth>(
                data + from * counts_.group_size(), polymac::detail::smaller(safe_groups, counts_.groups - from), sums);
          });
        for (std::size_t lane = 0; lane < columns; ++lane) {
          totals[lane] += sums[lane];
          start[lane] = detail::wrap<accumulator>(-std::int64_t{Atom::activation_offset} * sums[lane]);
        }
      } else {
        for (std::size_t lane = 0; lane < columns; ++lane) start[lane] = accumulator{};
      }
    }
    if constexpr (traits::integer && adds_up) pack_lines(set, p, zero_point);
    if (copied) {
      wide room{};
      if constexpr (traits::integer && adds_up) room = room_for_bias();
      for (std::size_t lane = 0; lane < count; ++lane) {
        bias[lane] = bias_of(set, first + lane);
        if constexpr (traits::integer && adds_up) {
          bias[lane] -= totals[lane] * detail::product<M>(zero_point, weight{1});
          if (exactly && (bias[lane] < -room || bias[lane] > room) &&
              !column_fits(set, first + lane, weight_of, bias_of, zero_point))
            fits = false;
        }
      }
    }
    return fits;
  }

  /// The same for an atom that has panels of its own making.
  template <class WeightOf, class BiasOf>
  constexpr bool encode_panel(std::size_t set, std::size_t p, const WeightOf& weight_of, const BiasOf& bias_of,
                              activation zero_point) noexcept {
    static_assert(!may_be_narrow, "polymac: atoms that encode weights have no narrow form");
    constexpr std::size_t group_size = isa::group_elements<Atom>;
    const std::size_t safe_groups = counts_.safe_groups();
    panel_element* const data = panel_data(set, p);
    const std::size_t first = p * Atom::columns;
    const std::size_t count = polymac::detail::smaller(Atom::columns, shape_.columns - first);
    bool fits = true;
    accumulator* const of_panel = starts_.data() + (set * counts_.panels + p) * start_stride();
    for (std::size_t i = counts_.chunks * Atom::columns; i < start_stride(); ++i)
      of_panel[i] = accumulator{};  // of lines
    for (std::size_t lane = 0; lane < Atom::columns; ++lane) {
      wide& bias = bias_.data()[(set * counts_.panels + p) * Atom::columns + lane];
      bias = wide{};
      if (lane >= count) continue;
      detail::folded_bias<M> folded(bias_of(set, first + lane), zero_point);
      for (std::size_t term = 0; term < shape_.terms; ++term)
        for (std::size_t k = 0; k < shape_.depth; ++k) folded.add(weight_of(set, first + lane, term, k));
      bias = folded.value();
      fits = fits && folded.fits();
    }
    for (std::size_t chunk = 0; chunk < counts_.chunks; ++chunk) {
      const std::size_t begin = chunk * safe_groups;
      const std::size_t end = polymac::detail::smaller(begin + safe_groups, counts_.groups);
      std::int64_t sums[Atom::columns]{};
      for (std::size_t g = begin; g < end; ++g) {
        weight all[panels_together * Atom::columns * Atom::depth]{};
        const weight* const group = all + p % panels_together * Atom::columns * Atom::depth;
        const std::size_t term = g / counts_.term_groups, from = g % counts_.term_groups * Atom::depth;
        const std::size_t deep = polymac::detail::smaller(Atom::depth, shape_.depth - from);
        const std::size_t first_of_all = p / panels_together * panels_together * Atom::columns;
        const std::size_t held =
            polymac::detail::smaller(panels_together * Atom::columns, shape_.columns - first_of_all);
        for (std::size_t lane = 0; lane < held; ++lane)
          for (std::size_t d = 0; d < deep; ++d)
            all[lane * Atom::depth + d] = weight_of(set, first_of_all + lane, term, from + d);
        if constexpr (has_summary)
          Atom::encode(group, count, data + g * group_size, summary_);
        else if constexpr (panels_together > 1)
          Atom::encode(all, p % panels_together, data + g * group_size);
        else
          Atom::encode(group, data + g * group_size);
        if constexpr (traits::integer && (adds_up || Atom::activation_offset != 0)) {
          std::int64_t of_group[Atom::columns]{};
          for (std::size_t i = 0; i < Atom::columns * Atom::depth; ++i)
            of_group[i / Atom::depth] += group[i] == weight{} ? padding_weight : std::int64_t{group[i]};
          for (std::size_t lane = 0; lane < Atom::columns; ++lane) sums[lane] += of_group[lane];
          if constexpr (adds_up)
            if (counts_.lines > 0) add_to_line(set, p, g, of_group, zero_point);
        }
      }
      accumulator* const start = starts_.data() + (set * counts_.panels + p) * start_stride() + chunk * Atom::columns;
      for (std::size_t lane = 0; lane < Atom::columns; ++lane)
        start[lane] = detail::wrap<accumulator>(-std::int64_t{Atom::activation_offset} * sums[lane]);
    }
    for (std::size_t rest = counts_.groups * group_size; rest < panel_stride(); ++rest) data[rest] = panel_element{};
    return fits;
  }
  /// Panels that are encoded in view of each other.
  static constexpr std::size_t panels_together = [] {
    if constexpr (requires { Atom::panels_together; })
      return std::size_t{Atom::panels_together};
    else
      return std::size_t{1};
  }();
  static constexpr std::int64_t padding_weight = [] {
    if constexpr (requires { Atom::padding_weight; })
      return Atom::padding_weight;
    else
      return std::int64_t{0};
  }();
  /// Products with the zero point of a group, added to those of its line.
  constexpr void add_to_line(std::size_t set, std::size_t p, std::size_t group, const std::int64_t* sums,
                             activation zero_point) noexcept {
    const std::size_t line = group / (counts_.groups / counts_.lines);
    const std::int64_t of_weight = Atom::activation_offset + std::int64_t{zero_point};
    accumulator* const to =
        starts_.data() + (set * counts_.panels + p) * start_stride() + (counts_.chunks + line) * Atom::columns;
    for (std::size_t lane = 0; lane < Atom::columns; ++lane)
      to[lane] = detail::wrap<accumulator>(of_weight * sums[lane] + std::int64_t{to[lane]});
  }
  /// Products with the zero point, of every line.
  constexpr void pack_lines(std::size_t set, std::size_t p, activation zero_point) noexcept {
    const std::size_t groups = counts_.lines > 0 ? counts_.groups / counts_.lines : 0;
    const std::int64_t of_weight = Atom::activation_offset + std::int64_t{zero_point};
    const std::size_t columns = counts_.columns(), group_size = counts_.group_size();
    accumulator* to = starts_.data() + (set * counts_.panels + p) * start_stride() + counts_.chunks * columns;
    for (std::size_t line = 0; line < counts_.lines; ++line, to += columns) {
      std::int64_t sums[most_columns]{};
      if (of_weight != 0)
        with_atom([&]<class A>(std::type_identity<A>) {
          isa::add_up_columns<typename A::isa, A::columns, A::depth>(panel_data(set, p) + line * groups * group_size,
                                                                     groups, sums);
        });
      for (std::size_t lane = 0; lane < columns; ++lane) to[lane] = detail::wrap<accumulator>(of_weight * sums[lane]);
    }
  }

  /// Writes one column and its folded bias; false where some activations could carry its sum out of 32 bits.
  template <class WeightOf, class BiasOf>
  constexpr bool pack_column(std::size_t set, std::size_t c, weight* lane, wide& bias, const WeightOf& weight_of,
                             const BiasOf& bias_of, activation zero_point) noexcept {
    detail::folded_bias<M> folded(bias_of(set, c), zero_point);
    const std::size_t group_depth = counts_.depth();
    for (std::size_t term = 0; term < shape_.terms; ++term) {
      for (std::size_t k = 0; k < shape_.depth; lane += counts_.group_size())
        for (std::size_t d = 0; d < group_depth && k < shape_.depth; ++d, ++k) {
          const weight w = weight_of(set, c, term, k);
          lane[d] = w;
          folded.add(w);
        }
    }
    bias = folded.value();
    return folded.fits();
  }

  /// Magnitude up to which a folded bias leaves room for products of any weights and activations; below 0: none does.
  constexpr wide room_for_bias() const noexcept {
    using limit_a = std::numeric_limits<activation>;
    using limit_w = std::numeric_limits<weight>;
    constexpr wide most = static_cast<wide>(std::numeric_limits<accumulator>::max());
    wide widest = 1;
    for (const activation a : {limit_a::min(), limit_a::max()})
      for (const weight w : {limit_w::min(), limit_w::max()}) {
        const wide product = detail::product<M>(a, w);
        if (widest < product) widest = product;
        if (widest < -product) widest = -product;
      }
    const auto deepest = static_cast<std::size_t>(most / widest);
    return shape_.depth <= deepest ? most - static_cast<wide>(shape_.depth) * widest : wide{-1};
  }
  /// Does a sum of this column fit an accumulator, with the weights that it has?
  template <class WeightOf, class BiasOf>
  constexpr bool column_fits(std::size_t set, std::size_t c, const WeightOf& weight_of, const BiasOf& bias_of,
                             activation zero_point) const noexcept {
    detail::folded_bias<M> folded(bias_of(set, c), zero_point);
    for (std::size_t k = 0; k < shape_.depth; ++k) folded.add(weight_of(set, c, 0, k));
    return folded.fits();
  }

  /// The start values, of which the surplus is there: the bias, where it is not added in 64 bits.
  constexpr void finish_starts() noexcept {
    if constexpr (has_tiles) {
      tile_configuration_ = configuration_of(step_groups());
      has_tile_starts_ = false;
      for (std::size_t i = 0; i < bias_.size(); ++i) {
        tile_starts_[i] = detail::wrap<accumulator>(bias_[i]);
        has_tile_starts_ = has_tile_starts_ || tile_starts_[i] != accumulator{};
      }
    }
    if (wide_) return;
    const std::size_t columns = counts_.columns(), stride = start_stride();
    for (std::size_t i = 0; i < starts_.size(); ++i) {
      if (i % stride >= counts_.chunks * columns) continue;  // of lines
      const wide bias = bias_[i / stride * columns + i % columns];
      if constexpr (traits::integer)
        starts_[i] = detail::wrap<accumulator>(bias + starts_[i]);
      else
        starts_[i] = bias;
    }
  }

  static constexpr counts static_counts = is_static ? counts({1, Columns, Depth}, is_always_narrow) : counts();
  static constexpr std::size_t extent_of(std::size_t elements) { return is_static ? elements : dynamic; }
  static constexpr std::size_t panel_extent = extent_of(static_counts.panels * static_counts.panel_weights);
  static constexpr std::size_t start_extent = extent_of(static_counts.held_columns() * static_counts.chunks);
  static constexpr std::size_t bias_extent = extent_of(static_counts.held_columns());

  constexpr std::size_t lists_of_set() const noexcept requires(isa::is_listed<Atom>) {
    return polymac::detail::divide_up(counts_.panels, Atom::list_panels);
  }
  static_assert(!isa::is_listed<Atom> || !is_static, "polymac: weights in lists need dynamic extents");

  product_shape shape_{};
  counts counts_;
  std::size_t live_groups_ = 0;
  bool wide_ = false;
  typename Memory::template elements<panel_element, panel_extent> panels_data_;
  typename Memory::template elements<accumulator, start_extent> starts_;
  typename Memory::template elements<wide, bias_extent> bias_;
  struct nothing {
    static constexpr std::size_t size() noexcept { return 0; }
  };
  [[no_unique_address]] std::conditional_t<has_tiles, typename Memory::template elements<accumulator, bias_extent>,
                                           nothing>
      tile_starts_;
  [[no_unique_address]] std::conditional_t<isa::is_listed<Atom>,
                                           typename Memory::template elements<std::uint32_t, dynamic>, nothing>
      lists_;
  [[no_unique_address]] isa::summary_of<Atom> summary_{};
  static constexpr auto configuration_of(std::size_t groups) noexcept {
    if constexpr (has_tiles)
      return Atom::tiles::configuration(groups);
    else
      return nothing{};
  }
  [[no_unique_address]] decltype(configuration_of(1)) tile_configuration_{};
  bool has_tile_starts_ = false;
};

}  // namespace kernel
POLYMAC_END
