// SPDX-License-Identifier: MIT
// The windows of a convolution of which some pixels take part: each output adds up the taps of its own that are active.
//
//     a pattern for each output       a column of kernel taps, then the next one:   bit = kx * kernel height + ky
//     outputs sorted by `key`         the bits of up to three taps of the middle column
//     for each key                    weights of those taps that are active in registers
//       for each output of it         sums = start values
//                                     sums += those taps, the same for all outputs of the key
//                                     for each other bit of the pattern: sums += activations * weights of that tap
//
// What it costs (3 x 3, one group for a tap, Zen 4, half of the pixels active, cycles for an output): patterns 0.65, sorting
// 0.6, a load of 64 bytes for each product whose weights are not in registers, and one to broadcast each active pixel. A tile is one
// output, for no two share a pattern; loads bound it where a dense tile is bound by products. Designs that were slower, with 16,
// 32 and 64 outputs (this one: 13.7, 20, 31; dense 13.3, 25, 46):
//   lists of taps from a table of 512 patterns, outputs sorted by their number     18, 26, 41
//   the bits of a pattern, sorted by their number, a loop of constant length       16, 22, 35
//   sorted by the whole pattern (4.6 cycles), tiles of 4 to 12 outputs that share  15, 22, 36
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
  std::size_t tap_weights;  ///< elements of a tap
  std::size_t tap_groups;   ///< groups of a tap, all terms
  std::size_t depth_groups; ///< of them in one term: activations are read again for each
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

  /// The outputs at `positions`, which have the bits of `shared` in common; sums of position p go to to + p * stride.
  template <std::size_t Panels, std::size_t Shared, bool Starts>
  static POLYMAC_NOINLINE void run(const std::uint8_t* positions, std::size_t count, Pattern shared, Pattern others,
                                   const operands& of, accumulator* __restrict to, std::size_t stride) noexcept {
    // A store to `to` changes none of these, which the compiler has to see.
    const auto [frame, offsets, patterns, given_offsets, weights, tap_weights, tap_groups, depth_groups, starts,
                start_stride] = of;
    std::uint32_t tap_offsets[8 * sizeof(Pattern)];
    for (std::size_t i = 0; i < 8 * sizeof(Pattern); ++i) tap_offsets[i] = given_offsets[i];
    std::size_t shared_at[Shared > 0 ? Shared : 1];
    const isa::packed_of<Atom>* shared_weights[Shared > 0 ? Shared : 1];
    POLYMAC_UNROLL
    for (std::size_t k = 0; k < Shared; ++k) {
      const auto tap = static_cast<std::size_t>(std::countr_zero(shared));
      shared = static_cast<Pattern>(shared & (shared - 1));
      shared_at[k] = tap_offsets[tap];
      shared_weights[k] = weights + tap * tap_weights;
    }
    typename Atom::template tile<1, Panels> first;
    Atom::start(first, starts, Atom::columns);
    for (; count > 0; --count, ++positions) {
      const std::size_t position = *positions;
      const activation* const window = frame + offsets[position];
      auto t = first;
      if constexpr (Starts) Atom::start(t, starts + std::size_t{patterns[position]} * start_stride, Atom::columns);
      POLYMAC_UNROLL
      for (std::size_t k = 0; k < Shared; ++k)
        Atom::step(t, place(window + shared_at[k], 0), 0, shared_weights[k], group_size);
      for (Pattern left = static_cast<Pattern>(patterns[position] & others); left != 0;
           left = static_cast<Pattern>(left & (left - 1))) {
        const auto tap = static_cast<std::size_t>(std::countr_zero(left));
        const activation* const pixel = window + tap_offsets[tap];
        const isa::packed_of<Atom>* w = weights + tap * tap_weights;
        if constexpr (Shared > 0) {  // a tap is one group
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

/// The weights of a convolution by taps, for sums over the active ones; for images of one size. `Atom` takes lists, sums fit
/// its accumulator.
template <Mac M, class Atom>
class active_windows {
  using traits = mac_traits<M>;
  using activation = typename M::activation;
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using packed = isa::packed_of<Atom>;
  static constexpr std::size_t group_size = isa::group_elements<Atom>;
  /// Panels of a tile: weights of three taps, sums and start values are in registers.
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

  /// Sums of all outputs of one image over the pixels that are marked. done(first output, outputs, sums, stride) for some
  /// outputs side by side at a time; whole(): where all sums may be stored instead, their distance being `stride` (whole panels),
  /// or null.
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
  /// Outputs whose sums are in memory at a time: half of L1, one line at least or as much of it as positions are numbered.
  std::size_t outputs_at_once() const noexcept {
    const std::size_t width = geometry_.output.width, most = std::size_t{24576} / (held_columns() * sizeof(accumulator));
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
           ((tap * tap_groups_ + group) * together + panel - first) * group_size + column % Atom::columns * Atom::depth +
           d;
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
    // Reused as numbers of the size of the patterns.
    auto* const patterns = reinterpret_cast<Pattern*>(m.patterns);
    const std::size_t middle = window_.kernel.width / 2 * kernel_height;
    const bool shares = tap_groups_ == 1;
    const std::size_t shared_taps = shares ? polymac::detail::smaller(kernel_height, std::size_t{3}) : 0;
    const auto key_bits = static_cast<std::uint8_t>((1u << shared_taps) - 1);
    const auto others = static_cast<Pattern>(~(std::uint64_t{key_bits} << middle));
    for (std::size_t y = 0; y < height; y += lines)
      for (std::size_t x = 0; x < width; x += at_once) {
        const std::size_t line_count = polymac::detail::smaller(lines, height - y);
        const std::size_t line_width = polymac::detail::smaller(width - x, at_once), count = line_count * line_width;
        for (std::size_t l = 0; l < line_count; ++l)
          find_patterns(m.active + (y + l) * window_.stride.height * frame().extent.width + x * window_.stride.width,
                        m.columns, line_width, patterns + l * line_width, m.keys + l * line_width, key_bits);
        std::uint16_t ends[isa::most_keys];
        isa::sort_positions(m.keys, count, std::size_t{key_bits} + 1, m.positions, ends);
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
        std::size_t first = 0;
        for (std::size_t key = 0; key <= key_bits; first = ends[key++]) {
          const auto shared = static_cast<Pattern>(std::uint64_t{key} << middle);
          if (!builds_starts) {
            of.starts = start_of(set, 0);
            run_panels<Pattern>(set, m.positions + first, ends[key] - first, shared, others, of, to, stride);
          } else {
            of.starts = m.starts;
            for (std::size_t i = first; i < ends[key]; ++i) {
              add_shifts(set, patterns[m.positions[i]], start_of(set, 0), m.starts);
              run_panels<Pattern>(set, m.positions + i, 1, shared, others, of, to, stride);
            }
          }
        }
        if (whole == nullptr) done(output, count, m.sums, held_columns());
      }
  }

  /// The patterns of a line of outputs, and their keys. `active` at the window of the first one.
  template <class Pattern>
  POLYMAC_NOINLINE void find_patterns(const std::uint8_t* __restrict active, std::uint8_t* __restrict columns,
                                      std::size_t outputs, Pattern* __restrict patterns, std::uint8_t* __restrict keys,
                                      std::uint8_t key_bits) const noexcept {
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
      const std::uint8_t* const middle = columns + width / 2 * apart;
      for (std::size_t i = 0; i < outputs; ++i) keys[i] = middle[i * by] & key_bits;
    };
    if (stride == 1)
      put(std::integral_constant<std::size_t, 1>{});
    else if (stride == 2)
      put(std::integral_constant<std::size_t, 2>{});
    else
      put(stride);
  }

  template <class Pattern>
  void run_panels(std::size_t set, const std::uint8_t* positions, std::size_t count, Pattern shared, Pattern others,
                  detail::pattern_operands<Atom, Pattern> of, accumulator* to, std::size_t stride) const noexcept {
    if (count == 0) return;
    const std::size_t taps = window_.kernel.height * window_.kernel.width;
    of.weights = weights_.data() + set * panels_ * taps * tap_groups_ * group_size;
    for (std::size_t left = panels_; left > 0;) {
      const std::size_t n = tile_panels(left);
      of.tap_weights = tap_groups_ * n * group_size;
      switch (n) {
        case 4:
          if constexpr (most_panels >= 4) run_tile<Pattern, 4>(positions, count, shared, others, of, to, stride);
          break;
        case 2:
          if constexpr (most_panels >= 2) run_tile<Pattern, 2>(positions, count, shared, others, of, to, stride);
          break;
        default:
          run_tile<Pattern, 1>(positions, count, shared, others, of, to, stride);
      }
      of.weights += taps * of.tap_weights;
      of.starts += n * Atom::columns;
      to += n * Atom::columns;
      left -= n;
    }
  }
  template <class Pattern, std::size_t Panels>
  static void run_tile(const std::uint8_t* positions, std::size_t count, Pattern shared, Pattern others,
                       const detail::pattern_operands<Atom, Pattern>& of, accumulator* to,
                       std::size_t stride) noexcept {
    const auto with = [&](auto number) POLYMAC_INLINE_LAMBDA {
      using sums = detail::pattern_sums<Atom, Pattern>;
      if (of.start_stride > 0)
        sums::template run<Panels, number, true>(positions, count, shared, others, of, to, stride);
      else
        sums::template run<Panels, number, false>(positions, count, shared, others, of, to, stride);
    };
    switch (std::popcount(shared)) {
      case 0:
        // The loop that knows taps of several groups: slower by little where there are no shared ones.
        return with(std::integral_constant<std::size_t, 0>{});
      case 1:
        return with(std::integral_constant<std::size_t, 1>{});
      case 2:
        return with(std::integral_constant<std::size_t, 2>{});
      default:
        return with(std::integral_constant<std::size_t, 3>{});
    }
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
