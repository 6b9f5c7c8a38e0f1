// SPDX-License-Identifier: MIT
// The depthwise kernel for bytes: products of four taps at a time (isa/depthwise.hpp shows a quad).
//
//     for each strip of output columns, for each block of 64 channels
//       for each few lines of output                        two for a 3 x 3 kernel at stride 1
//         lines   of input are copied, padding filled in
//         pairs   of two lines each; pairs that the lines before had are kept
//         quads   of two pairs; at stride 2 of two lines and two columns in one go (squares)
//         for each 2 pixels x 32 channels (4 x 16 for the last ones)
//           sums in registers = start values + products, epilogue in registers, stores
//
// The strip is as wide as keeps all of this in the first-level cache. Borders cost nothing of their own: padding is
// copied like pixels, and so is what else is irregular (strides of the view, a channel multiplier, few channels).
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/window.hpp"
#include "polymac/epilogue/rounded_line.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/depthwise_rectangle.hpp"
#include "polymac/kernel/finish.hpp"
#include "polymac/kernel/pack.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {
namespace detail {

/// How a window is cut into quads: four lines of a column, or squares of two lines and two columns.
struct quad_plan {
  static constexpr std::size_t block = 64;       ///< channels at a time
  static constexpr std::size_t panel = 16;       ///< channels of a register of sums
  static constexpr std::size_t max_reach = 64;   ///< columns that a window may reach over
  static constexpr std::size_t max_height = 64;  ///< lines of a window

  window w{};
  std::size_t columns = 1;     ///< of a quad, 1 or 2
  std::size_t slots = 1;       ///< quads below one another
  std::size_t rows = 1;        ///< lines of output at a time, 1 or 2
  std::size_t kept = 0;        ///< pairs of lines that the next ones share
  std::size_t line_bytes = 0;  ///< of a line of a strip

  constexpr quad_plan() noexcept = default;
  constexpr quad_plan(const window& from, std::size_t terms) noexcept : w(from) {
    // At stride 2 windows begin where squares do. Quads of four lines would be made anew for each line of output.
    const extent2d one{1, 1}, two{2, 2};
    if (terms == 1 && w.stride == two && w.dilation == one && divided(w.kernel.height) && divided(w.kernel.width))
      columns = 2;
    slots = polymac::detail::divide_up(w.kernel.height, quad_lines());
    // Lines of a slot that the kernel leaves free serve a second line of output.
    if (columns == 1 && w.dilation.height == 1 && w.kernel.height + w.stride.height <= 4 * slots) rows = 2;
    const std::size_t advance = rows * w.stride.height;
    if (w.dilation.height == 1 && advance % 2 == 0 && advance / 2 < pairs()) kept = pairs() - advance / 2;
    const std::size_t usual = 32 * columns, most_columns = 2 * reach() > usual ? 2 * reach() : usual;
    line_bytes = block * most_columns + chunk();  // one more: a line may begin within its first chunk
  }
  constexpr bool fits() const noexcept { return reach() <= max_reach && w.kernel.height <= max_height; }
  /// Columns that a window's quads reach over.
  constexpr std::size_t reach() const noexcept {
    return polymac::detail::round_up(effective_kernel(w.kernel.width, w.dilation.width), columns);
  }
  constexpr std::size_t quad_lines() const noexcept { return 4 / columns; }
  /// Quads of a slot.
  constexpr std::size_t width() const noexcept { return polymac::detail::divide_up(w.kernel.width, columns); }
  constexpr std::size_t pairs() const noexcept { return slots * quad_lines() / 2; }
  /// Activations of a line that are interleaved at a time.
  constexpr std::size_t chunk() const noexcept { return block * columns; }
  /// Channels that a block of `count` takes up: whole panels, and of squares a part of a chunk's half.
  constexpr std::size_t padded(std::size_t count) const noexcept {
    if (columns == 1) return polymac::detail::round_up(count, panel);
    return count > 32 ? 64 : count > 16 ? 32 : 16;
  }
  /// Products of a panel and line of output: vectors of weights.
  constexpr std::size_t steps(std::size_t terms) const noexcept { return terms * slots * width(); }
  /// Two lines, the pairs or squares, the quads of four lines, a chunk of padding and two that are partly padding.
  constexpr std::size_t workspace_bytes() const noexcept {
    return line_bytes * (2 + 2 * pairs() + (columns == 1 ? 4 * slots : 0)) + 3 * chunk();
  }

 private:
  /// Does a kernel of this extent make two quads of two?
  static constexpr bool divided(std::size_t extent) noexcept { return extent == 3 || extent == 4; }
};

/// How the sums of a panel become codes: by the stages, or by lines that are proved equal to them.
enum class quad_finish : unsigned char { stages, line, line_rounded_twice };

/// A panel holds 16 channels, its weights [line of output][term][slot][column of quads][channel][4].
template <class Activation, std::size_t WeightBytes, std::size_t Columns>
class quad_weights {
  static constexpr std::size_t columns_extent = Columns;
  static constexpr std::size_t panels_extent = Columns == dynamic ? dynamic : Columns / quad_plan::panel;

 public:
  template <class M, class Epilogue, class WeightOf, class BiasOf>
  constexpr status pack(const quad_plan& plan, std::size_t channels, std::size_t terms, const WeightOf& weight_of,
                        const BiasOf& folded_bias_of, int activation_offset, const Epilogue& epilogue) noexcept {
    const std::size_t panels = 2 * polymac::detail::divide_up(channels, 2 * quad_plan::panel);
    plan_ = plan;
    terms_ = terms;
    row_bytes_ = plan.steps(terms) * 64;
    panel_bytes_ = plan.rows * row_bytes_;
    if (status s = weights_.resize(panels * panel_bytes_); !s.ok()) return s;
    if (status s = starts_.resize(panels * quad_plan::panel); !s.ok()) return s;
    if (status s = slopes_.resize(starts_.size()); !s.ok()) return s;
    if (status s = addends_.resize(starts_.size()); !s.ok()) return s;
    if (status s = finishes_.resize(panels); !s.ok()) return s;
    const std::size_t height = plan.w.kernel.height, width = plan.w.kernel.width;
    for (std::size_t c = 0; c < channels; ++c) {
      std::int64_t total = 0;
      for (std::size_t r = 0; r < plan.rows; ++r)
        for (std::size_t i = 0; i < plan.steps(terms); ++i)
          for (std::size_t tap = 0; tap < 4; ++tap) {
            const std::size_t term = i / (plan.slots * plan.width()), slot = i / plan.width() % plan.slots;
            const std::size_t line = slot * plan.quad_lines() + tap % plan.quad_lines();
            const std::size_t ky = line - r * plan.w.stride.height;  // wraps around above the kernel
            const std::size_t kx = i % plan.width() * plan.columns + tap / plan.quad_lines();
            if (ky >= height || kx >= width) continue;
            const std::int8_t w = weight_of(c, term, ky * width + kx);
            weights_[c / 16 * panel_bytes_ + r * row_bytes_ + i * 64 + c % 16 * 4 + tap] = w;
            if (r == 0) total += w;
          }
      starts_[c] = wrap<std::int32_t>(folded_bias_of(c) - activation_offset * total);
    }
    find_lines<M>(channels, weight_of, folded_bias_of, epilogue);
    return {};
  }

  constexpr const quad_plan& plan() const noexcept { return plan_; }
  constexpr std::size_t terms() const noexcept { return terms_; }
  constexpr std::size_t row_bytes() const noexcept { return row_bytes_; }
  constexpr std::size_t panel_bytes() const noexcept { return panel_bytes_; }
  constexpr const std::int8_t* panel(std::size_t p) const noexcept { return weights_.data() + p * panel_bytes_; }
  constexpr const std::int32_t* starts(std::size_t channel) const noexcept { return starts_.data() + channel; }
  /// Of the panel that begins with this channel.
  constexpr quad_finish finish(std::size_t channel) const noexcept { return finishes_[channel / quad_plan::panel]; }
  constexpr const float* slopes(std::size_t channel) const noexcept { return slopes_.data() + channel; }
  constexpr const float* addends(std::size_t channel) const noexcept { return addends_.data() + channel; }
  constexpr float second() const noexcept { return second_; }
  constexpr epilogue::code_range codes() const noexcept { return codes_; }
  /// Channels that are rounded lines.
  constexpr std::size_t lines() const noexcept { return lines_; }
  constexpr std::size_t bytes() const noexcept {
    return weights_.size() + starts_.size() * sizeof(std::int32_t) + 2 * slopes_.size() * sizeof(float) +
           finishes_.size();
  }

 private:
  template <class M, class WeightOf, class BiasOf, class Epilogue>
  constexpr void find_lines(std::size_t channels, const WeightOf& weight_of, const BiasOf& folded_bias_of,
                            const Epilogue& stages) noexcept {
    using output = epilogue::output_of<Epilogue, std::int32_t>;
    using epilogue::line_rounding;
    if constexpr (epilogue::may_be_rounded_line<Epilogue, output>) {
      codes_ = epilogue::codes_of(stages, 0);
      for (std::size_t c = 1; c < channels; ++c) {
        const epilogue::code_range r = epilogue::codes_of(stages, c);
        codes_.least = r.least < codes_.least ? r.least : codes_.least;
        codes_.most = r.most > codes_.most ? r.most : codes_.most;
      }
      constexpr std::size_t pair = 2 * quad_plan::panel;
      epilogue::rounded_line found[pair];
      const auto find = [&]<line_rounding Rounds>(std::integral_constant<line_rounding, Rounds>, std::size_t first,
                                                  std::size_t count) {
        const std::size_t taps = plan_.w.kernel.height * plan_.w.kernel.width;
        for (std::size_t i = 0; i < count; ++i) {
          std::int64_t least = folded_bias_of(first + i), most = least;
          for (std::size_t k = 0; k < taps * terms_; ++k) {
            const std::int64_t w = weight_of(first + i, k / taps, k % taps);
            const std::int64_t a = w * std::numeric_limits<Activation>::min();
            const std::int64_t b = w * std::numeric_limits<Activation>::max();
            least += a < b ? a : b;
            most += a < b ? b : a;
          }
          if (!epilogue::find_rounded_line<Rounds>(stages, first + i, codes_, least, most, found[i])) return false;
        }
        return true;
      };
      // All panels from `first` on in one way, or none.
      const auto take = [&](std::size_t first, std::size_t most) {
        const std::size_t count = first < channels ? polymac::detail::smaller(most, channels - first) : 0;
        quad_finish finish = quad_finish::stages;
        if (find(std::integral_constant<line_rounding, line_rounding::once>{}, first, count))
          finish = quad_finish::line;
        if constexpr (epilogue::may_be_rounded_twice<Epilogue, output>)
          if (finish == quad_finish::stages &&
              find(std::integral_constant<line_rounding, line_rounding::twice>{}, first, count))
            finish = quad_finish::line_rounded_twice;
        if (finish == quad_finish::stages) return false;
        lines_ += count;
        for (std::size_t i = 0; i < count; ++i) {
          starts_[first + i] = wrap<std::int32_t>(std::int64_t{starts_[first + i]} + found[i].start);
          slopes_[first + i] = found[i].slope;
          addends_[first + i] = found[i].addend;
          second_ = finish == quad_finish::line_rounded_twice ? found[i].second : second_;
          finishes_[(first + i) / quad_plan::panel] = finish;
        }
        return true;
      };
      // Two panels that are alike are finished together.
      for (std::size_t first = 0; first < channels; first += pair)
        if (!take(first, pair)) take(first, quad_plan::panel), take(first + quad_plan::panel, quad_plan::panel);
    } else {
      static_cast<void>(channels), static_cast<void>(weight_of), static_cast<void>(folded_bias_of);
      static_cast<void>(stages);
    }
  }

  quad_plan plan_;
  std::size_t terms_ = 1, row_bytes_ = 0, panel_bytes_ = 0, lines_ = 0;
  epilogue::code_range codes_{};
  buffer<std::int8_t, WeightBytes> weights_;
  buffer<std::int32_t, columns_extent> starts_;
  buffer<float, columns_extent> slopes_, addends_;
  float second_ = 0.0f;  ///< of lines that are rounded twice
  buffer<quad_finish, panels_extent> finishes_;
};

template <class I, class Quads, class Weights, class Source, class Epilogue, class Output>
struct quad_runner {
  using activation = typename std::remove_const_t<std::remove_pointer_t<decltype(Source{}.padding_row)>>;
  using output_type = std::remove_pointer_t<decltype(std::declval<const Output&>().row(0))>;
  static constexpr bool may_be_line = epilogue::may_be_rounded_line<Epilogue, output_type>;
  static constexpr bool may_be_twice = epilogue::may_be_rounded_twice<Epilogue, output_type>;

  const Weights& weights;
  const Source& source;
  std::size_t multiplier;
  std::size_t channels;
  const Epilogue& epilogue;
  const Output& output;
  activation* memory;

  void run(row_range range) const noexcept {
    for_each_rectangle(range, source.x.batch, source.output, [this](const rectangle& r) { strips(r); });
  }

 private:
  /// Channels [first, first + count), `padded` of them in memory.
  struct channel_block {
    std::size_t first, count, padded;
  };

  void strips(const rectangle& r) const noexcept {
    const window& w = weights.plan().w;
    const bool narrow = w.kernel.width == 3 && weights.plan().slots * weights.terms() == 1;
    if (weights.plan().columns == 2)
      strips_of<2, 2, true>(r);
    else if (narrow && w.stride.width == w.dilation.width)
      strips_of<1, 3, true>(r);
    else if (narrow)
      strips_of<1, 3, false>(r);
    else
      strips_of<0, 0, false>(r);
  }

  /// Slots (two of squares), Width, Adjacent: see the products of the instruction set.
  template <std::size_t Slots, std::size_t Width, bool Adjacent>
  void strips_of(const rectangle& r) const noexcept {
    const quad_plan& plan = weights.plan();
    for (std::size_t c = 0; c < channels; c += quad_plan::block) {
      const std::size_t count = polymac::detail::smaller(quad_plan::block, channels - c);
      const channel_block block{c, count, plan.padded(count)};
      const std::size_t most =
          ((plan.line_bytes - plan.chunk()) / block.padded - plan.reach()) / plan.w.stride.width + 1;
      const std::size_t parts = polymac::detail::divide_up(r.width, most);
      for (std::size_t i = 0; i < parts; ++i) {
        const std::size_t begin = i * r.width / parts, end = (i + 1) * r.width / parts;
        strip<Slots, Width, Adjacent>({r.n, r.y, r.height, r.x + begin, end - begin}, block);
      }
    }
  }

  /// A strip's lines: `columns` of the padded image from `begin` on, cut into chunks. `left` of them are padding, then
  /// `inside` lie on the image from column ix on; they begin on a chunk, so that they can be read in place.
  struct line_shape {
    std::size_t begin, columns, left, inside, ix;
    bool in_place;
    std::size_t skipped;  ///< activations of the first chunk before column `begin`
    std::size_t chunks;
  };

  template <std::size_t Slots, std::size_t Width, bool Adjacent>
  POLYMAC_INLINE void strip(const rectangle& r, const channel_block& block) const noexcept {
    const quad_plan& plan = weights.plan();
    const window& w = plan.w;
    const line_shape shape = shape_of(r, block);
    auto* const pairs = reinterpret_cast<std::uint8_t*>(memory) + 2 * plan.line_bytes + 3 * plan.chunk();
    std::uint8_t* const quads = pairs + 2 * plan.pairs() * plan.line_bytes;
    std::memset(padding_chunk(), static_cast<unsigned char>(source.padding_row[0]), plan.chunk());
    std::size_t first_pair = 0;  // where the ring begins
    const auto pair = [&](std::size_t i) {
      const std::size_t at = first_pair + i;
      return pairs + (at < plan.pairs() ? at : at - plan.pairs()) * 2 * plan.line_bytes;
    };
    for (std::size_t y = 0; y < r.height; y += plan.rows) {
      const std::size_t iy = (r.y + y) * w.stride.height - source.top;
      if (y > 0) {
        first_pair += plan.pairs() - plan.kept;
        if (first_pair >= plan.pairs()) first_pair -= plan.pairs();
      }
      for (std::size_t i = y > 0 ? plan.kept : 0; i < plan.pairs(); ++i) {
        const std::size_t upper = iy + 2 * i * w.dilation.height;
        if (shape.in_place)
          pairs_in_place<Slots == 2>(r.n, upper, upper + w.dilation.height, shape, block, pair(i));
        else
          pairs_of_copies<Slots == 2>(r.n, upper, upper + w.dilation.height, shape, block, pair(i));
      }
      if constexpr (Slots == 2) {
        lines<Slots, Width, Adjacent, 1>(r, y, block, pair(0) + 2 * shape.skipped, pair(1) - pair(0));
      } else {
        for (std::size_t s = 0; s < plan.slots; ++s)
          Quads::make_quads(pair(2 * s), pair(2 * s + 1), quads + s * 4 * plan.line_bytes, shape.chunks);
        const auto slot_step = static_cast<std::ptrdiff_t>(4 * plan.line_bytes);
        if (plan.rows == 2 && y + 1 < r.height)
          lines<Slots, Width, Adjacent, 2>(r, y, block, quads + 4 * shape.skipped, slot_step);
        else
          lines<Slots, Width, Adjacent, 1>(r, y, block, quads + 4 * shape.skipped, slot_step);
      }
    }
  }

  activation* padding_chunk() const noexcept { return memory + 2 * weights.plan().line_bytes; }

  line_shape shape_of(const rectangle& r, const channel_block& block) const noexcept {
    const quad_plan& plan = weights.plan();
    const auto& x = source.x;
    line_shape s{r.x * plan.w.stride.width, (r.width - 1) * plan.w.stride.width + plan.reach(), 0, 0, 0, false, 0, 0};
    s.left = s.begin < source.left ? polymac::detail::smaller(source.left - s.begin, s.columns) : 0;
    s.ix = s.begin + s.left - source.left;
    if (s.ix < x.width && s.left < s.columns) s.inside = polymac::detail::smaller(x.width - s.ix, s.columns - s.left);
    s.in_place = multiplier == 1 && block.count == block.padded &&
                 (block.padded == quad_plan::block || x.pixel_stride == block.padded) && s.inside > 0 &&
                 s.left % plan.columns == 0;  // squares in step with the image
    const std::size_t before = s.left * block.padded;
    if (s.in_place) s.skipped = polymac::detail::round_up(before, plan.chunk()) - before;
    s.chunks = polymac::detail::divide_up(s.skipped + s.columns * block.padded, plan.chunk());
    return s;
  }

  /// Pairs, or squares, of two lines.
  template <bool Squares>
  static POLYMAC_INLINE void interleave(const isa::quad_line& a, const isa::quad_line& b, std::size_t ahead,
                                        std::uint8_t* pairs, std::size_t chunks, std::size_t padded) noexcept {
    if constexpr (Squares)
      static_cast<void>(ahead), Quads::make_squares(a, b, pairs, chunks, padded);
    else
      static_cast<void>(padded), Quads::make_pairs(a, b, ahead, pairs, chunks);
  }

  /// Those of the lines iy and below of image n, read in place. Lines outside of the image (also above: the number
  /// wraps around) are padding.
  template <bool Squares>
  POLYMAC_INLINE void pairs_in_place(std::size_t n, std::size_t iy, std::size_t below, const line_shape& shape,
                                     const channel_block& block, std::uint8_t* pairs) const noexcept {
    constexpr std::size_t part = quad_plan::block, chunk = Squares ? 2 * part : part;
    const auto& x = source.x;
    const isa::quad_line padding{padding_chunk(), 0, part};
    const std::size_t half = block.padded == part ? x.pixel_stride : part;
    const std::size_t whole = shape.inside * block.padded / chunk, rest = shape.inside * block.padded % chunk;
    const std::size_t ys[] = {iy, below};
    isa::quad_line lines[2] = {padding, padding}, ends[2] = {padding, padding};
    for (std::size_t k = 0; k < 2; ++k) {
      if (ys[k] >= x.height) continue;
      const activation* const from = x.pixel(n, ys[k], shape.ix) + block.first;
      lines[k] = {from, chunk / part * half, half};
      if (rest == 0) continue;
      activation* const end = padding_chunk() + (1 + k) * chunk;
      std::memcpy(end, padding_chunk(), chunk);
      std::memcpy(end, from + whole * lines[k].step, rest);
      ends[k].at = end;
    }
    // The lines that come next will be these, so many lines further down.
    const window& w = weights.plan().w;
    const std::size_t ahead = lines[0].step > 0 ? weights.plan().rows * w.stride.height * x.line_stride : 0;
    const std::size_t before = (shape.skipped + shape.left * block.padded) / chunk;
    const auto make = [&](const isa::quad_line& a, const isa::quad_line& b, std::size_t fetched, std::size_t chunks)
                          POLYMAC_INLINE_LAMBDA {
                            interleave<Squares>(a, b, fetched, pairs, chunks, block.padded);
                            pairs += chunks * 2 * chunk;
                          };
    make(padding, padding, 0, before);
    make(lines[0], lines[1], ahead, whole);
    if (rest > 0) make(ends[0], ends[1], 0, 1);
    make(padding, padding, 0, shape.chunks - before - whole - (rest > 0 ? 1 : 0));
  }

  /// The same for what is irregular.
  template <bool Squares>
  void pairs_of_copies(std::size_t n, std::size_t iy, std::size_t below, const line_shape& shape,
                       const channel_block& block, std::uint8_t* pairs) const noexcept {
    constexpr std::size_t part = quad_plan::block, chunk = Squares ? 2 * part : part;
    activation* const second = memory + weights.plan().line_bytes;
    copy_line(memory, n, iy, shape, block);
    copy_line(second, n, below, shape, block);
    interleave<Squares>({memory, chunk, part}, {second, chunk, part}, 0, pairs, shape.chunks, block.padded);
  }

  void copy_line(activation* to, std::size_t n, std::size_t iy, const line_shape& shape,
                 const channel_block& block) const noexcept {
    const auto& x = source.x;
    const std::size_t right = shape.columns - shape.left - shape.inside;
    const auto fill = [&](activation* from, std::size_t columns) {
      std::memset(from, static_cast<unsigned char>(source.padding_row[0]), columns * block.padded);
    };
    if (iy >= x.height) return fill(to, shape.columns);
    if (shape.left > 0) fill(to, shape.left);
    to += shape.left * block.padded;
    if (right > 0) fill(to + shape.inside * block.padded, right);
    if (shape.inside == 0) return;
    const activation* from = x.pixel(n, iy, shape.ix);
    if (multiplier != 1)
      return copy_pixels(to, from, shape.inside, block, [&](const activation* pixel, std::size_t c) {
        return c < block.count ? pixel[(block.first + c) / multiplier] : activation{};
      });
    from += block.first;
    if (block.count == 32) return copy_pixels<32>(to, from, shape.inside, block);
    if (block.count == 16) return copy_pixels<16>(to, from, shape.inside, block);
    if (block.count == 8) return copy_pixels<8>(to, from, shape.inside, block);
    copy_pixels(to, from, shape.inside, block,
                [&](const activation* pixel, std::size_t c) { return c < block.count ? pixel[c] : activation{}; });
  }
  template <std::size_t Count>
  void copy_pixels(activation* to, const activation* from, std::size_t pixels,
                   const channel_block& block) const noexcept {
    for (std::size_t i = 0; i < pixels; ++i)
      std::memcpy(to + i * block.padded, from + i * source.x.pixel_stride, Count);
  }
  template <class Read>
  void copy_pixels(activation* to, const activation* from, std::size_t pixels, const channel_block& block,
                   const Read& read) const noexcept {
    for (std::size_t i = 0; i < pixels; ++i, to += block.padded, from += source.x.pixel_stride)
      for (std::size_t c = 0; c < block.padded; ++c) to[c] = read(from, c);
  }

  /// Pixels [row, row + count) of the first line of output; `last` channels of the last panel.
  struct place {
    std::size_t row, count, channel, last;
  };

  template <std::size_t Slots, std::size_t Width, bool Adjacent, std::size_t Rows>
  POLYMAC_INLINE void lines(const rectangle& r, std::size_t y, const channel_block& block, const std::uint8_t* quads,
                            std::ptrdiff_t slot_step) const noexcept {
    const std::size_t row = (r.n * source.output.height + r.y + y) * source.output.width + r.x;
    for (std::size_t c = 0; c < block.count; c += 32) {
      const std::size_t channel = block.first + c, left = block.count - c;
      const std::uint8_t* const from = quads + 4 * c;
      const quad_finish first = weights.finish(channel);
      const quad_finish second = left > 16 ? weights.finish(channel + 16) : first;
      if (left > 16 && first == second) {
        const place p{row, r.width, channel, polymac::detail::smaller(left - 16, 16)};
        finish_by<Slots, Width, Adjacent, Rows, 2, 2>(from, slot_step, block, p, first);
        continue;
      }
      const std::size_t last = polymac::detail::smaller(left, 16);
      finish_by<Slots, Width, Adjacent, Rows, 4, 1>(from, slot_step, block, {row, r.width, channel, last}, first);
      if (left > 16)
        finish_by<Slots, Width, Adjacent, Rows, 4, 1>(
            from + 64, slot_step, block, {row, r.width, channel + 16, polymac::detail::smaller(left - 16, 16)}, second);
    }
  }

  template <std::size_t Slots, std::size_t Width, bool Adjacent, std::size_t Rows, std::size_t Pixels,
            std::size_t Panels>
  POLYMAC_INLINE void finish_by(const std::uint8_t* quads, std::ptrdiff_t slot_step, const channel_block& block,
                                const place& p, quad_finish finish) const noexcept {
    const auto run = [&]<quad_finish Finish>(std::integral_constant<quad_finish, Finish>) POLYMAC_INLINE_LAMBDA {
      pixels<Slots, Width, Adjacent, Rows, Pixels, Panels, Finish>(quads, slot_step, block, p);
    };
    if constexpr (may_be_twice)
      if (finish == quad_finish::line_rounded_twice)
        return run(std::integral_constant<quad_finish, quad_finish::line_rounded_twice>{});
    if constexpr (may_be_line)
      if (finish == quad_finish::line) return run(std::integral_constant<quad_finish, quad_finish::line>{});
    run(std::integral_constant<quad_finish, quad_finish::stages>{});
  }

  /// A function of its own: inlined, the constants of all forms compete for registers, and weights lose.
  template <std::size_t Slots, std::size_t Width, bool Adjacent, std::size_t Rows, std::size_t Pixels,
            std::size_t Panels, quad_finish Finish>
  POLYMAC_NOINLINE void pixels(const std::uint8_t* quads, std::ptrdiff_t slot_step, const channel_block& block,
                               const place& p) const noexcept {
    const quad_plan& plan = weights.plan();
    const std::size_t step = 4 * block.padded;
    const isa::quad_source s{plan.w.stride.width / plan.columns * step,
                             plan.w.dilation.width * step,
                             slot_step,
                             plan.width(),
                             plan.slots,
                             weights.terms(),
                             weights.panel(p.channel / 16),
                             weights.row_bytes(),
                             weights.panel_bytes(),
                             weights.starts(p.channel)};
    const auto held = Quads::template hold<Slots, Width, Rows, Panels>(s);
    // The pixels of a line are equally far apart.
    output_type* out[Rows];
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) out[r] = output.row(p.row + r * source.output.width) + p.channel;
    const std::size_t out_step = output.y.pixel_stride;
    const auto least = static_cast<output_type>(weights.codes().least);
    const auto most = static_cast<output_type>(weights.codes().most);
    const float* const slopes = weights.slopes(p.channel);
    const float* const addends = weights.addends(p.channel);
    const float second = weights.second();

    // A value: a store of bytes may change anything else, as far as a compiler knows.
    const auto stages = [this] {
      if constexpr (finishes_in_lanes<I, std::int32_t, Epilogue>())
        return epilogue.view();
      else
        return 0;
    }();
    std::size_t x = 0;
    const auto finish = [&]<class Block>(const Block& sums, std::size_t r) POLYMAC_INLINE_LAMBDA {
      output_type* to[Block::rows];
      POLYMAC_UNROLL
      for (std::size_t i = 0; i < Block::rows; ++i) to[i] = out[r] + (x + i) * out_step;
      const std::size_t row = p.row + r * source.output.width + x;
      if constexpr (Finish != quad_finish::stages) {
        auto codes = Quads::template codes<output_type, Finish == quad_finish::line_rounded_twice>(sums, slopes,
                                                                                                   addends, second);
        codes.clamp(least, most);
        codes.store(to, p.last);
      } else if constexpr (finishes_in_lanes<I, std::int32_t, Epilogue>()) {
        stages.lanes(sums, {row, p.channel}).store(to, p.last);
      } else {
        std::int32_t stored[Block::groups * 16];
        std::int32_t* lines[Block::rows];
        for (std::size_t i = 0; i < Block::rows; ++i) lines[i] = stored + i * Panels * 16;
        sums.store(lines, 16);
        kernel::finish<I>(epilogue, output, stored, Panels * 16,
                          {row, Block::rows, 0, (Panels - 1) * 16 + p.last, p.channel});
      }
    };
    for (; x + Pixels <= p.count; x += Pixels, quads += Pixels * s.pixel_step) {
      isa::best_lanes<std::int32_t, I, Pixels, Panels> sums[Rows];
      Quads::template products<Slots, Width, Adjacent>(sums, s, held, quads);
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) finish(sums[r], r);
    }
    for (; x < p.count; ++x, quads += s.pixel_step) {
      isa::best_lanes<std::int32_t, I, 1, Panels> sums[Rows];
      Quads::template products<Slots, Width, Adjacent>(sums, s, held, quads);
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) finish(sums[r], r);
    }
  }
};

}  // namespace detail
}  // namespace kernel
POLYMAC_END
