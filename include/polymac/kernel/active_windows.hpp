// SPDX-License-Identifier: MIT
// The windows of a convolution of which some pixels take part: each output adds up the taps of its own that are active.
//
//     a pattern for each output       a column of kernel taps, then the next one:   bit = kx * kernel height + ky
//     outputs sorted by the number of bits
//     for each output                 sums = start values
//       for each bit                  sums += activations * weights of that tap
//
// Sorted, so that loops of the same length follow each other and no branch is guessed wrong: unsorted, that costs some
// 20 cycles for each output. A tile is one output, for no two share a pattern: weights come from L1 for each product,
// and each active pixel is broadcast once more, so loads bound it where a dense tile is bound by products. Cycles for
// an output of 3 x 3, one group for a tap, half of the pixels active, raw sums, without the map; 16, 32, 64 outputs on
// Zen 4 (dense 13.3, 25, 46):
//   this one                                                                           17.6, 24, 36
//   lists of taps from a table of 512 patterns (kernel/listed_rows.hpp)                 24, 33, 51
//   the same with 4 bytes for an entry, weights tap by tap                              20, 28, 43
//   a loop of constant length for each number                                           16.7, 23.5, 36
//   sorted by the taps of the middle column, their weights in registers                 37, 40, 45 (guessed right: 14, 20, 31)
//   sorted by that and the number                                                       21.5, 27, 37
//   sorted by the whole pattern (3.4 cycles), tiles of four outputs that share weights   17, 23, 36
// Measured with a new map for each image: a processor that sees one map again and again learns its branches by heart.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/isa/positions.hpp"
#include "polymac/kernel/active_pixels.hpp"
#include "polymac/kernel/line_windows.hpp"
#include "polymac/kernel/listed_rows.hpp"
#include "polymac/kernel/pack.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

namespace detail {

/// What the sums of some outputs are made of.
template <class Atom, class Pattern>
struct pattern_operands {
  const typename Atom::activation* frame;  ///< the window of the first output
  const std::uint32_t* offsets;            ///< of the others, in activations
  const Pattern* patterns;
  const std::uint32_t* tap_offsets;  ///< of each bit
  const isa::packed_of<Atom>* weights;
  std::size_t tap_weights;   ///< elements of a tap
  std::size_t tap_groups;    ///< groups of a tap, all terms
  std::size_t depth_groups;  ///< of them in one term: activations are read again for each
  const typename Atom::accumulator* starts;
  std::size_t start_stride;  ///< of two patterns; 0: all have the same
};

template <class Atom, class Pattern>
struct pattern_sums {
  using activation = typename Atom::activation;
  using accumulator = typename Atom::accumulator;
  using operands = pattern_operands<Atom, Pattern>;
  static constexpr std::size_t group_size = isa::group_elements<Atom>;
  using place = even_places<activation, 1>;

  /// The outputs at `positions`; sums of position p go to to + p * stride. Starts: each pattern has its own; Groups: a
  /// tap is more than one.
  template <std::size_t Panels, bool Starts, bool Groups>
  static POLYMAC_NOINLINE void run(const std::uint8_t* positions, std::size_t count, const operands& of,
                                   accumulator* __restrict to, std::size_t stride) noexcept {
    // A store to `to` changes none of these, which the compiler has to see.
    const activation* const frame = of.frame;
    const std::uint32_t* const offsets = of.offsets;
    const Pattern* const patterns = of.patterns;
    const isa::packed_of<Atom>* const weights = of.weights;
    const accumulator* const starts = of.starts;
    const std::size_t tap_groups = of.tap_groups, depth_groups = of.depth_groups, start_stride = of.start_stride;
    const std::size_t tap_weights = Groups ? of.tap_weights : Panels * group_size;
    std::size_t tap_offsets[8 * sizeof(Pattern)];
    for (std::size_t i = 0; i < 8 * sizeof(Pattern); ++i) tap_offsets[i] = of.tap_offsets[i];
    typename Atom::template tile<1, Panels> first;
    Atom::start(first, starts, Atom::columns);
    for (; count > 0; --count, ++positions) {
      const std::size_t position = *positions;
      const activation* const window = frame + offsets[position];
      std::uint64_t left = patterns[position];
      auto t = first;
      if constexpr (Starts) Atom::start(t, starts + left * start_stride, Atom::columns);
      for (; left != 0; left &= left - 1) {
        const auto tap = static_cast<std::size_t>(std::countr_zero(left));
        const activation* const pixel = window + tap_offsets[tap];
        const isa::packed_of<Atom>* w = weights + tap * tap_weights;
        if constexpr (!Groups) {
          Atom::step(t, place(pixel, 0), 0, w, group_size);
        } else {
          for (std::size_t g = 0, d = 0; g < tap_groups; ++g, w += Panels * group_size) {
            Atom::step(t, place(pixel + d * Atom::depth, 0), 0, w, group_size);
            if (++d == depth_groups) d = 0;
          }
        }
      }
      Atom::store(t, to + position * stride, stride);
    }
  }
};

}  // namespace detail

/// The weights of a convolution by taps, for sums over the active ones; for images of one size. `Atom` takes lists,
/// sums fit its accumulator.
template <Mac M, class Atom>
class active_windows {
  using traits = mac_traits<M>;
  using activation = typename M::activation;
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using packed = isa::packed_of<Atom>;
  static constexpr std::size_t group_size = isa::group_elements<Atom>;
  /// Panels of a tile: sums, start values and weights are in registers.
  static constexpr std::size_t most_panels = detail::listed_panels<Atom> < 4 ? 1 : 4;
  /// Patterns of so many taps have start values of their own in a table.
  static constexpr std::size_t most_table_taps = 9;

 public:
  /// Can windows of a kernel run here? Patterns are 64 bits, and the columns of a kernel bytes.
  static constexpr bool fits(const window& w) noexcept {
    return w.kernel.height <= 8 && w.kernel.height * w.kernel.width <= 64;
  }

  /// weight_of(set, column, term, tap, channel) with taps line by line, bias_of(set, column).
  template <class WeightOf, class BiasOf>
  status construct(const window& w, const window_geometry& g, extent2d image, std::size_t sets, std::size_t columns,
                   std::size_t channels, std::size_t terms, const WeightOf& weight_of, const BiasOf& bias_of,
                   activation zero_point) noexcept {
    window_ = w;
    geometry_ = g;
    image_ = image;
    columns_ = columns;
    channels_ = polymac::detail::round_up(channels, Atom::depth);
    panels_ = polymac::detail::divide_up(columns, Atom::columns);
    depth_groups_ = channels_ / Atom::depth;
    tap_groups_ = depth_groups_ * terms;
    const std::size_t taps = w.kernel.height * w.kernel.width;
    if constexpr (traits::integer && std::is_integral_v<activation>)
      shift_ = static_cast<int>(zero_point) + Atom::activation_offset;
    const bool table = shift_ != 0 && taps <= most_table_taps;
    patterns_ = table ? std::size_t{1} << taps : 1;
    const std::size_t set_weights = panels_ * taps * tap_groups_ * group_size;
    if (status s = weights_.resize(sets * set_weights); !s.ok()) return s;
    if (status s = starts_.resize(sets * patterns_ * panels_ * Atom::columns); !s.ok()) return s;
    if (status s = shifts_.resize(shift_ != 0 ? sets * taps * panels_ * Atom::columns : 0); !s.ok()) return s;
    for (std::size_t set = 0; set < sets; ++set)
      for (std::size_t c = 0; c < columns; ++c) {
        start_of(set, 0)[c] = detail::wrap<accumulator>(bias_of(set, c));
        for (std::size_t tap = 0; tap < taps; ++tap) {
          const std::size_t line_tap = tap % w.kernel.height * w.kernel.width + tap / w.kernel.height;
          wide sum{};
          for (std::size_t term = 0; term < terms; ++term)
            for (std::size_t k = 0; k < channels; ++k) {
              const auto value = weight_of(set, c, term, line_tap, k);
              *weight_at(set, c, tap, term * depth_groups_ + k / Atom::depth, k % Atom::depth) = value;
              if constexpr (traits::integer) sum += static_cast<wide>(value);
            }
          if constexpr (traits::integer)
            if (shift_ != 0) shift_of(set, tap)[c] = detail::wrap<accumulator>(static_cast<wide>(shift_) * sum);
        }
      }
    if constexpr (traits::integer)
      for (std::size_t set = 0; set < sets; ++set)
        for (std::size_t p = patterns_; p-- > 0;) add_shifts(set, p, start_of(set, 0), start_of(set, p));
    return {};
  }
  std::size_t bytes() const noexcept {
    return weights_.size() * sizeof(packed) + (starts_.size() + shifts_.size()) * sizeof(accumulator);
  }
  /// Columns of sums, filled up to whole panels.
  std::size_t held_columns() const noexcept { return panels_ * Atom::columns; }

  /// Products of a register for an output of which all taps take part, beside one panel.
  std::size_t tap_products() const noexcept { return window_.kernel.height * window_.kernel.width * tap_groups_; }

  /// Memory of a run.
  struct memory {
    activation* frame;
    std::uint8_t *active, *columns, *keys, *positions;
    std::uint64_t* patterns;
    std::uint32_t* offsets;
    accumulator *sums, *starts;
  };
  memory cut(workspace_parts& parts) const noexcept {
    const std::size_t pixels = frame().extent.height * frame().extent.width;
    return {parts.take<activation>(pixels * channels_),
            parts.take<std::uint8_t>(pixels + 64),
            parts.take<std::uint8_t>(frame().extent.width + 64),
            parts.take<std::uint8_t>(isa::most_positions + 64),
            parts.take<std::uint8_t>(isa::most_positions + isa::positions_slack),
            parts.take<std::uint64_t>(isa::most_positions),
            parts.take<std::uint32_t>(isa::most_positions),
            parts.take<accumulator>(outputs_at_once() * held_columns() + isa::lane_columns),
            parts.take<accumulator>(held_columns())};
  }

  /// Marks the pixels of a map as active: line_of(y) is a line of it, 1 for active.
  template <class LineOf>
  void mark(const memory& m, const LineOf& line_of) const noexcept {
    const auto f = frame();
    std::memset(m.active, 0, f.extent.height * f.extent.width);
    for (std::size_t y = 0; y < image_.height; ++y)
      std::memcpy(m.active + (y + geometry_.padding.top) * f.extent.width + geometry_.padding.left, line_of(y),
                  image_.width);
  }
  /// Copies the channels of one set, with padding around them.
  void copy(const memory& m, const image_view<const activation>& x) const noexcept {
    frame().fill(x, window_, geometry_, activation{}, m.frame, 0, geometry_.output.height * geometry_.output.width);
  }

  /// Sums of all outputs of one image over the pixels that are marked. done(first output, outputs, sums, stride) for
  /// some outputs side by side at a time; whole(): where all sums may be stored instead, their distance being `stride`
  /// (whole panels), or null.
  template <class Done>
  void run(std::size_t set, const memory& m, accumulator* whole, std::size_t whole_stride,
           const Done& done) const noexcept {
    const std::size_t taps = window_.kernel.height * window_.kernel.width;
    if (taps <= 16)
      run_as<std::uint16_t>(set, m, whole, whole_stride, done);
    else
      run_as<std::uint64_t>(set, m, whole, whole_stride, done);
  }

 private:
  image_frame frame() const noexcept { return {geometry_, image_, channels_}; }
  /// Outputs whose sums are in memory at a time: half of L1, one line at least or as much of it as positions are
  /// numbered.
  std::size_t outputs_at_once() const noexcept {
    const std::size_t width = geometry_.output.width,
                      most = std::size_t{24576} / (held_columns() * sizeof(accumulator));
    if (width >= isa::most_positions) return isa::most_positions;
    const std::size_t lines = polymac::detail::smaller(most, isa::most_positions) / width;
    return width * (lines > 1 ? polymac::detail::smaller(lines, geometry_.output.height) : 1);
  }
  accumulator* start_of(std::size_t set, std::size_t pattern) noexcept {
    return starts_.data() + (set * patterns_ + pattern) * held_columns();
  }
  const accumulator* start_of(std::size_t set, std::size_t pattern) const noexcept {
    return starts_.data() + (set * patterns_ + pattern) * held_columns();
  }
  accumulator* shift_of(std::size_t set, std::size_t tap) noexcept {
    return shifts_.data() + (set * window_.kernel.height * window_.kernel.width + tap) * held_columns();
  }
  const accumulator* shift_of(std::size_t set, std::size_t tap) const noexcept {
    return shifts_.data() + (set * window_.kernel.height * window_.kernel.width + tap) * held_columns();
  }
  /// Start values less what the taps of a pattern add for zero points and the atom's offset, modulo 2^32.
  void add_shifts(std::size_t set, std::uint64_t pattern, const accumulator* from, accumulator* to) const noexcept {
    using bits = std::make_unsigned_t<std::conditional_t<traits::integer, accumulator, int>>;
    for (std::size_t c = 0; c < held_columns(); ++c) to[c] = from[c];
    if constexpr (traits::integer)
      for (; pattern != 0; pattern &= pattern - 1) {
        const accumulator* const shift = shift_of(set, static_cast<std::size_t>(std::countr_zero(pattern)));
        for (std::size_t c = 0; c < held_columns(); ++c)
          to[c] = static_cast<accumulator>(static_cast<bits>(to[c]) - static_cast<bits>(shift[c]));
      }
  }
  /// Panels of the tile that begins with this one, as they are cut: 4, 2, 1.
  static constexpr std::size_t tile_panels(std::size_t left) noexcept {
    std::size_t n = most_panels;
    while (n > left) n /= 2;
    return n;
  }
  /// Weights lie by tiles of panels, then taps, groups, panels.
  packed* weight_at(std::size_t set, std::size_t column, std::size_t tap, std::size_t group, std::size_t d) noexcept {
    const std::size_t taps = window_.kernel.height * window_.kernel.width, panel = column / Atom::columns;
    std::size_t first = 0;
    while (first + tile_panels(panels_ - first) <= panel) first += tile_panels(panels_ - first);
    const std::size_t together = tile_panels(panels_ - first);
    return weights_.data() + (set * panels_ + first) * taps * tap_groups_ * group_size +
           ((tap * tap_groups_ + group) * together + panel - first) * group_size +
           column % Atom::columns * Atom::depth + d;
  }

  template <class Pattern, class Done>
  void run_as(std::size_t set, const memory& m, accumulator* whole, std::size_t whole_stride,
              const Done& done) const noexcept {
    const std::size_t width = geometry_.output.width, height = geometry_.output.height, at_once = outputs_at_once();
    const std::size_t lines = at_once > width ? at_once / width : 1, kernel_height = window_.kernel.height;
    const std::size_t line_step = window_.stride.height * frame().line_elements(),
                      step = window_.stride.width * channels_;
    std::uint32_t tap_offsets[8 * sizeof(Pattern)]{};
    for (std::size_t tap = 0; tap < kernel_height * window_.kernel.width; ++tap)
      tap_offsets[tap] =
          static_cast<std::uint32_t>(tap % kernel_height * window_.dilation.height * frame().line_elements() +
                                     tap / kernel_height * window_.dilation.width * channels_);
    for (std::size_t i = 0; i < at_once; ++i)
      m.offsets[i] = static_cast<std::uint32_t>(i / width * line_step + i % width * step);
    auto* const patterns = reinterpret_cast<Pattern*>(m.patterns);
    const std::size_t taps = kernel_height * window_.kernel.width;
    unsigned coarser = 0;  // numbers that share a key
    while (taps >> coarser >= isa::most_keys) ++coarser;
    const std::size_t keys = (taps >> coarser) + 1;
    for (std::size_t y = 0; y < height; y += lines)
      for (std::size_t x = 0; x < width; x += at_once) {
        const std::size_t line_count = polymac::detail::smaller(lines, height - y);
        const std::size_t line_width = polymac::detail::smaller(width - x, at_once), count = line_count * line_width;
        for (std::size_t l = 0; l < line_count; ++l)
          find_patterns(m.active + (y + l) * window_.stride.height * frame().extent.width + x * window_.stride.width,
                        m.columns, line_width, patterns + l * line_width, m.keys + l * line_width, coarser);
        std::uint16_t ends[isa::most_keys];
        isa::sort_positions(m.keys, count, keys, m.positions, ends);
        const std::size_t output = y * width + x;
        accumulator* const to = whole != nullptr ? whole + output * whole_stride : m.sums;
        const std::size_t stride = whole != nullptr ? whole_stride : held_columns();
        detail::pattern_operands<Atom, Pattern> of{m.frame + y * line_step + x * step,
                                                   m.offsets,
                                                   patterns,
                                                   tap_offsets,
                                                   nullptr,
                                                   0,
                                                   tap_groups_,
                                                   depth_groups_,
                                                   nullptr,
                                                   patterns_ > 1 ? held_columns() : 0};
        const bool builds_starts = shift_ != 0 && patterns_ == 1;
        if (!builds_starts) {
          of.starts = start_of(set, 0);
          run_panels<Pattern>(set, m.positions, count, of, to, stride);
        } else {
          of.starts = m.starts;
          for (std::size_t i = 0; i < count; ++i) {
            add_shifts(set, patterns[m.positions[i]], start_of(set, 0), m.starts);
            run_panels<Pattern>(set, m.positions + i, 1, of, to, stride);
          }
        }
        if (whole == nullptr) done(output, count, m.sums, held_columns());
      }
  }

  /// The patterns of a line of outputs, and their keys. `active` at the window of the first one.
  template <class Pattern>
  POLYMAC_NOINLINE void find_patterns(const std::uint8_t* __restrict active, std::uint8_t* __restrict columns,
                                      std::size_t outputs, Pattern* __restrict patterns, std::uint8_t* __restrict keys,
                                      unsigned coarser) const noexcept {
    const std::size_t height = window_.kernel.height, width = window_.kernel.width;
    const std::size_t apart = window_.dilation.width, stride = window_.stride.width;
    const std::size_t line = window_.dilation.height * frame().extent.width;
    const std::size_t reach = (outputs - 1) * stride + (width - 1) * apart + 1;
    for (std::size_t i = 0; i < reach; ++i) columns[i] = active[i];
    for (std::size_t ky = 1; ky < height; ++ky)
      for (std::size_t i = 0; i < reach; ++i)
        columns[i] = static_cast<std::uint8_t>(columns[i] | active[ky * line + i] << ky);
    const auto put = [&](auto by) POLYMAC_INLINE_LAMBDA {
      for (std::size_t kx = 0; kx < width; ++kx) {
        const std::uint8_t* const from = columns + kx * apart;
        const std::size_t shift = kx * height;
        if (kx == 0)
          for (std::size_t i = 0; i < outputs; ++i) patterns[i] = from[i * by];
        else
          for (std::size_t i = 0; i < outputs; ++i)
            patterns[i] = static_cast<Pattern>(patterns[i] | static_cast<Pattern>(Pattern{from[i * by]} << shift));
      }
      for (std::size_t i = 0; i < outputs; ++i)
        keys[i] = static_cast<std::uint8_t>(std::popcount(patterns[i]) >> coarser);
    };
    if (stride == 1)
      put(std::integral_constant<std::size_t, 1>{});
    else if (stride == 2)
      put(std::integral_constant<std::size_t, 2>{});
    else
      put(stride);
  }

  template <class Pattern>
  void run_panels(std::size_t set, const std::uint8_t* positions, std::size_t count,
                  detail::pattern_operands<Atom, Pattern> of, accumulator* to, std::size_t stride) const noexcept {
    const std::size_t taps = window_.kernel.height * window_.kernel.width;
    of.weights = weights_.data() + set * panels_ * taps * tap_groups_ * group_size;
    for (std::size_t left = panels_; left > 0;) {
      const std::size_t n = tile_panels(left);
      of.tap_weights = tap_groups_ * n * group_size;
      if constexpr (most_panels >= 4)
        if (n == 4) run_tile<Pattern, 4>(positions, count, of, to, stride);
      if constexpr (most_panels >= 2)
        if (n == 2) run_tile<Pattern, 2>(positions, count, of, to, stride);
      if (n == 1) run_tile<Pattern, 1>(positions, count, of, to, stride);
      of.weights += taps * of.tap_weights;
      of.starts += n * Atom::columns;
      to += n * Atom::columns;
      left -= n;
    }
  }
  template <class Pattern, std::size_t Panels>
  static void run_tile(const std::uint8_t* positions, std::size_t count,
                       const detail::pattern_operands<Atom, Pattern>& of, accumulator* to,
                       std::size_t stride) noexcept {
    using sums = detail::pattern_sums<Atom, Pattern>;
    const bool own_starts = of.start_stride > 0;
    if (of.tap_groups > 1)
      own_starts ? sums::template run<Panels, true, true>(positions, count, of, to, stride)
                 : sums::template run<Panels, false, true>(positions, count, of, to, stride);
    else
      own_starts ? sums::template run<Panels, true, false>(positions, count, of, to, stride)
                 : sums::template run<Panels, false, false>(positions, count, of, to, stride);
  }

  window window_{};
  window_geometry geometry_{};
  extent2d image_{0, 0};
  std::size_t columns_ = 0, channels_ = 0, panels_ = 0, depth_groups_ = 1, tap_groups_ = 1, patterns_ = 1;
  int shift_ = 0;  ///< of activations: the zero point and the atom's offset; a pixel that is left out leaves out both
  buffer<packed> weights_;
  buffer<accumulator> starts_;  ///< [set][pattern][columns]
  buffer<accumulator> shifts_;  ///< [set][tap][columns]: shift x sum of the tap's weights
};

}  // namespace kernel
POLYMAC_END
