// SPDX-License-Identifier: MIT
// A layer with a policy of activations: frame after frame, what has not changed or is zero is not multiplied.
//
//      x --compare with the reference--> pixels that have changed --dilate--> outputs that read one of them
//                |                                                                     |
//      reference is brought up to x                           its window, copied from the reference
//                                                                    |               |               |
//                                        nothing in it lives    few groups        many groups        |
//                                        a constant row         a list of them    a tile of rows     |
//                                                               (listed_rows)     (THE loop nest)    |
//                                                                    +-------+-------+               |
//                                                                     epilogue, scattered to the outputs in the state
//
// Without a policy of changes all outputs are looked at, and the reference is a copy of x. Which way a row goes is decided by what its
// list costs, and gives the same sums (exact arithmetics: the same bits) in any case.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/difference.hpp"
#include "polymac/isa/live_groups.hpp"
#include "polymac/kernel/changes.hpp"
#include "polymac/kernel/framed_windows.hpp"
#include "polymac/kernel/listed_rows.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/stream_state.hpp"
#include "polymac/layer/view_check.hpp"
#include "polymac/policy/both.hpp"
#include "polymac/policy/delta.hpp"
#include "polymac/policy/zero_skip.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace layer {

namespace detail {

/// A linear layer as a convolution of 1 x 1 over an image of one line, whose pixels are its rows.
template <class Inner>
inline constexpr bool slides = requires(const Inner& l) {
  l.output_size(extent2d{});
};

/// Copied windows as rows.
template <class Activation>
struct copied_rows {
  static constexpr bool one_stretch = true;
  static constexpr bool one_strip = true;
  const Activation* first;
  std::size_t count, depth;
  constexpr std::size_t rows() const noexcept { return count; }
  template <class Function>
  constexpr void strips(std::size_t begin, std::size_t end, const Function& f) const noexcept {
    kernel::strip<Activation> all;
    all.first = first + begin * depth;
    all.distance = static_cast<std::ptrdiff_t>(depth);
    all.rows = end - begin;
    all.output_row = begin;
    all.depth = depth;
    f(all);
  }
};

/// What a list costs beside a tile of rows, in groups of k of one row in that tile: for each row, for each entry, and for
/// each entry of two rows. Measured on Zen 4 (bench/sparsity_delta.cpp): a list of a row is as fast as a tile up to
/// three quarters of the groups.
struct list_costs {
  std::size_t of_row = 8, of_entry_in_eighths = 10, of_pair_in_eighths = 18;
};

}  // namespace detail

/// Inner: a linear or conv2d, with or without a policy of weights. P: policy::delta, policy::zero_skip, or both of them.
/// Made by conv2d<M, P>(...) and linear<M, P>(...).
///
/// A call is noexcept and allocates nothing; the state is the caller's (make_state), and calls with different states may
/// run at once. The outputs are those of `inner()` on state.reference(), of which no element is farther from x than the threshold.
template <class Inner, class P>
class streamed {
  using parts = policy::detail::parts_of<P>;
  using insides = detail::insides;

 public:
  using mac = typename Inner::mac;
  using atom = typename Inner::atom;
  using activation = typename Inner::activation;
  using sum = typename Inner::sum;
  using output = typename Inner::output;
  using accumulator = typename mac::accumulator;
  using state = stream_state<activation, output, accumulator>;

 private:
  using delta = typename parts::delta;
  static constexpr bool has_delta = !std::is_same_v<delta, policy::detail::nothing>;
  static constexpr bool skips_zeros = !std::is_same_v<typename parts::zero_skip, policy::detail::nothing>;
  static_assert(
      has_delta || skips_zeros,
      "polymac: this policy of activations is not one of streams: expected policy::delta, policy::zero_skip or "
      "policy::both of them (policy::pixel_pruning expects layer::first_layer before the other arguments)");
  static constexpr bool slides = detail::slides<Inner>;
  /// Are sums the accumulators, so that products may be added to them later?
  static constexpr bool lists =
      kernel::takes_lists<atom> && std::is_same_v<sum, accumulator> && !requires(const accumulator& c) {
    mac::total(c);
  };
  static constexpr bool wants_sums = [] {
    if constexpr (has_delta)
      return delta::updates == policy::update::accumulate && lists;
    else
      return false;
  }();
  static constexpr policy::grain grain = [] {
    if constexpr (has_delta)
      return delta::transmits;
    else
      return policy::grain::pixel;
  }();
  static constexpr std::size_t refresh = [] {
    if constexpr (has_delta)
      return delta::refresh;
    else
      return std::size_t{0};
  }();
  /// Rows that are computed together: whole ones, and listed ones.
  static constexpr std::size_t most_whole = kernel::has_tiles<atom> ? 64
                                            : atom::max_rows < 12   ? 24
                                                                    : 2 * atom::max_rows;
  static constexpr std::size_t most_listed = 16, most_pairs = 4;

 public:
  template <class... Arguments>
  constexpr explicit streamed(std::uint64_t identity, Arguments&&... arguments)
      : inner_(std::forward<Arguments>(arguments)...), identity_(identity) {
    if (!inner_.status().ok()) return;
    status_ = prepare();
    polymac::detail::raise_unless_ok(status_);
  }

  constexpr const polymac::status& status() const noexcept { return inner_.status().ok() ? status_ : inner_.status(); }
  /// The dense layer.
  constexpr const Inner& inner() const noexcept { return inner_; }
  constexpr std::size_t workspace_bytes() const noexcept requires slides { return inner_.workspace_bytes(); }
  constexpr std::size_t workspace_bytes(extent2d input) const noexcept requires slides {
    return inner_.workspace_bytes(input);
  }
  constexpr extent2d output_size(extent2d input) const noexcept requires slides { return inner_.output_size(input); }

  /// The state of `batch` images of that size. Throws polymac::error (or sets status()) where the window does not fit or memory
  /// fails.
  state make_state(extent2d input, std::size_t batch = 1) const requires slides {
    return make_state_of(input, batch, in_channels());
  }
  /// The state of a linear layer on so many rows.
  state make_state(std::size_t rows = 1) const requires(!slides) { return make_state_of({1, rows}, 1, in_channels()); }

  /// Computes y from x: all of it; what has not changed is copied from the state. x: n x h x w x in_channels, y: n x oh x
  /// ow x out_channels. `ws` needs workspace_bytes().
  polymac::status operator()(const image_view<const activation>& x, const image_view<output>& y, state& s,
                             workspace ws = {}) const noexcept requires slides {
    if (y.batch != s.shape_.batch || y.height != s.shape_.output.height || y.width != s.shape_.output.width ||
        y.channels != s.shape_.out_channels)
      return polymac::status::make(errc::shape, "streamed conv2d: expected y of ", s.shape_.batch, " x ",
                                   s.shape_.output.height, " x ", s.shape_.output.width, " x ", s.shape_.out_channels,
                                   ", got ", y.batch, " x ", y.height, " x ", y.width, " x ", y.channels);
    if (auto wrong = detail::check_memory("streamed conv2d", x, y); !wrong.ok()) return wrong;
    if (auto wrong = run(x, s, ws); !wrong.ok()) return wrong;
    copy_outputs(s, y);
    return {};
  }
  /// The same for those who read state.output().
  polymac::status operator()(const image_view<const activation>& x, state& s,
                             workspace ws = {}) const noexcept requires slides {
    return run(x, s, ws);
  }
  /// x: rows x depth, y: rows x columns.
  polymac::status operator()(const matrix_view<const activation>& x, const matrix_view<output>& y,
                             state& s) const noexcept requires(!slides) {
    if (y.rows != s.shape_.output.width || y.columns != s.shape_.out_channels)
      return polymac::status::make(errc::shape, "streamed linear: expected y of ", s.shape_.output.width, " x ",
                                   s.shape_.out_channels, ", got ", y.rows, " x ", y.columns);
    if (auto wrong = detail::check_memory("streamed linear", x, y); !wrong.ok()) return wrong;
    if (auto wrong = run(line_of(x), s, {}); !wrong.ok()) return wrong;
    copy_outputs(s, line_of(y));
    return {};
  }
  polymac::status operator()(const matrix_view<const activation>& x, state& s) const noexcept requires(!slides) {
    return run(line_of(x), s, {});
  }

  /// Policy, the dense layer, and how rows are computed, in words.
  constexpr text<767> explain() const noexcept {
    return text<767>::join("streamed<", P::name, "> around ", inner_.explain().view(), "; ",
                           !uses_lists()  ? (lists ? "whole rows only, as sums are gathered in 64 bits"
                                                   : "whole rows only, as this arithmetic's kernel takes no lists")
                           : keeps_sums() ? "rows by lists where those are shorter, sums are kept"
                           : skips_zeros  ? "rows by lists where those are shorter"
                                          : "whole rows",
                           "; a list is predicted to be faster below ", percent_of_break_even(),
                           " % of the groups, rows below 95 % of all");
  }

 private:
  constexpr std::size_t in_channels() const noexcept {
    if constexpr (slides)
      return inner_.in_channels();
    else
      return inner_.depth();
  }
  constexpr std::size_t out_channels() const noexcept {
    if constexpr (slides)
      return inner_.out_channels();
    else
      return inner_.columns();
  }
  constexpr const auto& weights() const noexcept { return insides::weights(inner_); }
  constexpr window taps() const noexcept {
    if constexpr (slides)
      return insides::taps(inner_);
    else
      return {{1, 1}, {1, 1}, {1, 1}, {}};
  }
  constexpr std::size_t sets() const noexcept {
    if constexpr (slides)
      return insides::groups(inner_);
    else
      return 1;
  }
  constexpr std::size_t columns() const noexcept { return weights().shape().columns; }
  /// Elements of a copied window: whole groups, and whole steps of matrix registers.
  constexpr std::size_t window_elements() const noexcept {
    std::size_t depth = weights().shape().depth;
    if constexpr (kernel::has_tiles<atom>)
      if (depth < weights().depth_of_tiles()) depth = weights().depth_of_tiles();
    return polymac::detail::round_up(depth, weights().group_depth());
  }
  constexpr std::size_t groups() const noexcept { return weights().term_groups(); }
  /// Distance of the sums of two rows.
  constexpr std::size_t sum_stride() const noexcept {
    return polymac::detail::round_up(weights().panels() * weights().panel_columns(), std::size_t{16});
  }
  constexpr bool uses_lists() const noexcept { return lists && !weights().wide_sums(); }
  constexpr bool keeps_sums() const noexcept { return wants_sums && !weights().wide_sums(); }
  constexpr kernel::framed_windows windows(extent2d frame) const noexcept {
    if constexpr (slides)
      return {taps(),
              frame.width,
              in_channels(),
              insides::channels(inner_),
              insides::filled_channels(inner_),
              insides::line_depth(inner_)};
    else
      return {taps(), frame.width, in_channels(), in_channels(), in_channels(), in_channels()};
  }
  constexpr std::size_t percent_of_break_even() const noexcept {
    constexpr detail::list_costs costs;
    const std::size_t all = groups() > 0 ? groups() : 1;
    return all > costs.of_row ? 100 * 8 * (all - costs.of_row) / costs.of_entry_in_eighths / all : 0;
  }
  template <class T>
  static image_view<T> line_of(const matrix_view<T>& m) noexcept {
    return {m.data, 1, 1, m.rows, m.columns, m.stride, m.rows * m.stride, m.rows * m.stride};
  }

  /// Calls f(std::type_identity) of the atom that the weights are packed for.
  template <class Function>
  constexpr void with_atom(const Function& f) const noexcept {
    using packed = std::remove_cvref_t<decltype(weights())>;
    if constexpr (packed::may_be_narrow)
      if (weights().is_narrow()) return f(std::type_identity<kernel::narrow_atom<atom>>{});
    if constexpr (!packed::is_always_narrow) f(std::type_identity<atom>{});
  }

  /// The sums and outputs of a window of zero points.
  constexpr polymac::status prepare() noexcept {
    if (auto s = zeros_.resize(sum_stride()); !s.ok()) return s;
    if constexpr (skips_zeros) {
      const std::size_t stride = sum_stride();
      if (auto s = zero_sums_.resize(sets() * stride); !s.ok()) return s;
      if (auto s = zero_outputs_.resize(out_channels()); !s.ok()) return s;
      buffer<activation> row;
      if (auto s = row.resize(window_elements()); !s.ok()) return s;
      for (std::size_t k = 0; k < row.size(); ++k) row[k] = insides::zero_point(inner_);
      const detail::copied_rows<activation> source{row.data(), 1, row.size()};
      for (std::size_t g = 0; g < sets(); ++g) {
        kernel::contract<atom>(weights(), g, source, insides::stages(inner_),
                               matrix_view<output>(zero_outputs_.data(), 1, out_channels()), {}, {0, 1});
        if constexpr (lists)
          kernel::contract<atom>(weights(), g, source, epilogue::identity{},
                                 matrix_view<sum>(zero_sums_.data() + g * (stride - columns()), 1, sets() * stride), {},
                                 {0, 1});
      }
    }
    return {};
  }

  state make_state_of(extent2d input, std::size_t batch, std::size_t channels) const {
    state s;
    s.status_ = fill_state(s, input, batch, channels);
    polymac::detail::raise_unless_ok(s.status_);
    return s;
  }
  polymac::status fill_state(state& s, extent2d input, std::size_t batch, std::size_t channels) const noexcept {
    if (!status().ok()) return status();
    window_geometry geometry{};
    if (input.width > 0 && batch > 0)
      if (auto wrong = resolve(taps(), input, geometry); !wrong.ok()) return wrong;
    s.shape_ = {batch, channels, out_channels(), input, geometry.output, geometry.padding};
    s.layer_ = identity_;
    if constexpr (has_delta) s.threshold_ = static_cast<typename state::threshold_type>(delta::threshold);
    const extent2d frame = s.frame_extent();
    const std::size_t pixels = frame.height * frame.width, rows = geometry.output.height * geometry.output.width;
    constexpr std::size_t most = static_cast<std::uint32_t>(-1);
    if (pixels > most / (channels > 0 ? channels : 1) || rows > most)
      return polymac::status::make(errc::shape, "state: an image of ", input.height, " x ", input.width, " x ",
                                   channels, " has more than 2^32 activations");
    const std::size_t depth = window_elements(), stride = sum_stride();
    auto result = s.reference_.resize(batch * pixels * channels);
    const auto resize = [&](auto& what, std::size_t count) {
      if (result.ok()) result = what.resize(count);
    };
    resize(s.outputs_, batch * rows * out_channels());
    resize(s.marks_, pixels);
    resize(s.lines_, frame.height);
    resize(s.joined_, frame.width + 8);
    resize(s.dirty_, geometry.output.width + 16);
    resize(s.pixels_, rows + 8);
    resize(s.whole_, (most_whole + 1) * depth);
    resize(s.row_outputs_, polymac::detail::greater(most_whole, most_listed) * out_channels());
    if (keeps_sums()) {
      resize(s.sums_, batch * rows * sets() * stride);
      resize(s.before_, batch * pixels * channels);
    }
    if (uses_lists() && (keeps_sums() || skips_zeros)) {
      resize(s.before_row_, depth);
      resize(s.listed_, (most_listed + 2 * most_pairs + 1) * depth);
      resize(s.differences_, most_listed * (depth + 64));
      resize(s.groups_, 3 * most_listed * (groups() + isa::list_slack));
    }
    if (uses_lists()) resize(s.row_sums_, most_whole * polymac::detail::greater(stride, sets() * columns()) + 16);
    if (!result.ok()) return result;
    const activation zero = insides::zero_point(inner_);
    for (std::size_t i = 0; i < s.reference_.size(); ++i) s.reference_[i] = zero;
    for (std::size_t i = 0; i < s.before_.size(); ++i) s.before_[i] = zero;
    return {};
  }

  static void copy_outputs(const state& s, const image_view<output>& y) noexcept {
    const auto from = s.output();
    const std::size_t line = from.width * from.channels;
    for (std::size_t n = 0; n < from.batch; ++n)
      for (std::size_t oy = 0; oy < from.height; ++oy) {
        if (y.pixel_stride == y.channels) {
          std::memcpy(static_cast<void*>(y.pixel(n, oy, 0)), from.pixel(n, oy, 0), line * sizeof(output));
          continue;
        }
        for (std::size_t ox = 0; ox < from.width; ++ox)
          std::memcpy(static_cast<void*>(y.pixel(n, oy, ox)), from.pixel(n, oy, ox), from.channels * sizeof(output));
      }
  }

  polymac::status check_call(const image_view<const activation>& x, const state& s) const noexcept {
    constexpr const char* who = slides ? "streamed conv2d" : "streamed linear";
    if (!status().ok()) return status();
    if (!s.status_.ok()) return s.status_;
    if (s.layer_ != identity_ || s.shape_.out_channels != out_channels())
      return polymac::status::make(errc::parameter, who,
                                   ": this state was made by another layer (other weights or policies)");
    const auto& h = s.shape_;
    if (x.batch != h.batch || x.height != h.input.height || x.width != h.input.width || x.channels != h.channels)
      return polymac::status::make(errc::shape, who, ": expected x of ", h.batch, " x ", h.input.height, " x ",
                                   h.input.width, " x ", h.channels, ", for which the state was made, got ", x.batch,
                                   " x ", x.height, " x ", x.width, " x ", x.channels);
    if (x.batch * x.height * x.width * x.channels > 0) return detail::check_view(who, "x", x);
    return {};
  }

  polymac::status run(const image_view<const activation>& x, state& s, workspace ws) const noexcept {
    if (auto wrong = check_call(x, s); !wrong.ok()) return wrong;
    s.last_ = {};
    const extent2d frame = s.frame_extent(), out = s.shape_.output;
    const std::size_t rows = out.height * out.width;
    s.last_.of_rows = x.batch * rows;
    s.last_.of_macs = s.last_.of_rows * sets() * columns() * real_depth();
    if (s.last_.of_rows == 0 || x.channels == 0) return {};
    const bool all = !has_delta || s.frames_ == 0 || (refresh > 0 && s.frames_ % refresh == 0);
    for (std::size_t n = 0; n < x.batch; ++n) {
      std::memset(s.lines_.data(), 0, s.lines_.size());
      if (!all || (skips_zeros && !has_delta)) std::memset(s.marks_.data(), 0, s.marks_.size());
      if (all)
        transmit_all(x, n, s);
      else
        transmit_changes(x, n, s);
      kernel::listed_pixel* end = s.pixels_.data();
      if (all && (has_delta || !skips_zeros))
        end = kernel::list_all_outputs(frame, x.channels, taps(), out, end);
      else
        end = kernel::list_outputs(s.marks_.data(), s.lines_.data(), frame, x.channels, taps(), out, s.joined_.data(),
                                   s.dirty_.data(), end);
      const auto count = static_cast<std::size_t>(end - s.pixels_.data());
      if (skips_zeros && !has_delta && count < rows) fill_zero_rows(s, n);
      if (whole_is_better(s, n, count)) {
        if (auto wrong = run_dense(s, n, ws); !wrong.ok()) return wrong;
        s.last_.rows += rows;
        s.last_.macs += rows * sets() * columns() * real_depth();
        continue;
      }
      s.last_.rows += count;
      with_atom([&](auto a) { compute<typename decltype(a)::type>(s, n, count, all); });
    }
    ++s.frames_;
    return {};
  }
  /// k of a sum that the user knows of.
  constexpr std::size_t real_depth() const noexcept {
    if constexpr (slides)
      return taps().kernel.height * taps().kernel.width * insides::channels(inner_);
    else
      return in_channels();
  }

  activation* interior(state& s, std::size_t n, std::size_t y) const noexcept {
    const extent2d frame = s.frame_extent();
    return s.reference_.data() +
           ((n * frame.height + s.shape_.padding.top + y) * frame.width + s.shape_.padding.left) * s.shape_.channels;
  }
  void transmit_all(const image_view<const activation>& x, std::size_t n, state& s) const noexcept {
    const extent2d frame = s.frame_extent();
    const activation zero = insides::zero_point(inner_);
    activation zeros[kernel::detail::compared_at_once];
    for (auto& z : zeros) z = zero;
    for (std::size_t y = 0; y < x.height; ++y) {
      activation* const to = interior(s, n, y);
      for (std::size_t i = 0; i < (x.pixel_stride == x.channels ? 1 : x.width); ++i)
        std::memcpy(static_cast<void*>(to + i * x.channels), x.pixel(n, y, i),
                    (x.pixel_stride == x.channels ? x.width : 1) * x.channels * sizeof(activation));
      if constexpr (skips_zeros && !has_delta) {
        // Pixels that live.
        std::uint8_t* const marks = s.marks_.data() + (s.shape_.padding.top + y) * frame.width + s.shape_.padding.left;
        const std::size_t count = x.width * x.channels;
        std::uint8_t any = 0;
        for (std::size_t at = 0; at < count; at += kernel::detail::compared_at_once)
          kernel::for_each_change(to + at, &zeros[0],
                                  polymac::detail::smaller(count - at, kernel::detail::compared_at_once), {},
                                  [&](std::size_t i) {
                                    const std::size_t pixel = (at + i) / x.channels;
                                    marks[pixel] = any = 1;
                                    return (pixel + 1) * x.channels - at;
                                  });
        s.lines_[s.shape_.padding.top + y] = any;
      }
    }
  }
  void transmit_changes(const image_view<const activation>& x, std::size_t n, state& s) const noexcept {
    const extent2d frame = s.frame_extent();
    const std::size_t channels = x.channels;
    for (std::size_t y = 0; y < x.height; ++y) {
      activation* const reference = interior(s, n, y);
      std::uint8_t* const marks = s.marks_.data() + (s.shape_.padding.top + y) * frame.width + s.shape_.padding.left;
      std::uint8_t any = 0;
      const auto transmit = [&](const activation* from, std::size_t pixel, std::size_t pixels) {
        activation* const to = reference + pixel * channels;
        kernel::for_each_change(from, to, pixels * channels, s.threshold_, [&](std::size_t i) {
          const std::size_t at = i / channels;
          marks[pixel + at] = any = 1;
          std::size_t first = i, end = i + 1;
          if constexpr (grain == policy::grain::pixel) {
            first = at * channels;
            end = first + channels;
          } else if constexpr (grain == policy::grain::group) {
            first = i - (i - at * channels) % 4;
            end = polymac::detail::smaller(first + 4, (at + 1) * channels);
          }
          for (std::size_t e = first; e < end; ++e) to[e] = from[e];
          return end;
        });
      };
      if (x.pixel_stride == channels)
        transmit(x.pixel(n, y, 0), 0, x.width);
      else
        for (std::size_t i = 0; i < x.width; ++i) transmit(x.pixel(n, y, i), i, 1);
      s.lines_[s.shape_.padding.top + y] = any;
    }
  }
  void fill_zero_rows(state& s, std::size_t n) const noexcept {
    const std::size_t rows = s.shape_.output.height * s.shape_.output.width;
    output* to = s.outputs_.data() + n * rows * out_channels();
    for (std::size_t r = 0; r < rows; ++r, to += out_channels())
      std::memcpy(static_cast<void*>(to), zero_outputs_.data(), out_channels() * sizeof(output));
  }

  /// Is the dense layer faster? Where nearly all rows are asked for; with zeros, where some rows that are looked at have too few.
  bool whole_is_better(state& s, std::size_t n, std::size_t count) const noexcept {
    const std::size_t rows = s.shape_.output.height * s.shape_.output.width;
    if (keeps_sums() || 20 * count < 19 * rows) return false;
    if (!skips_zeros || !uses_lists()) return true;
    constexpr detail::list_costs costs;
    const extent2d frame = s.frame_extent();
    const auto copy = windows(frame);
    const activation* const image = s.reference_.data() + n * frame.height * frame.width * s.shape_.channels;
    const std::size_t every = count / 32 + 1;
    fill_zero_window(copy, s.before_row_.data());
    std::size_t cost = 0, looked_at = 0;
    for (std::size_t i = 0; i < count; i += every, ++looked_at) {
      copy.copy(image + s.pixels_[i].at, s.whole_.data());
      const std::size_t live = list_live(s, s.whole_.data(), s.groups_.data());
      cost += polymac::detail::smaller(8 * costs.of_row + live * entry_cost(), 8 * groups());
    }
    return 20 * cost >= 19 * 8 * groups() * looked_at;
  }
  polymac::status run_dense(state& s, std::size_t n, workspace ws) const noexcept {
    const std::size_t rows = s.shape_.output.height * s.shape_.output.width;
    image_view<const activation> x = s.reference();
    output* const to = s.outputs_.data() + n * rows * out_channels();
    if constexpr (slides) {
      x.data += n * x.image_stride;
      x.batch = 1;
      return inner_(x, {to, 1, s.shape_.output.height, s.shape_.output.width, out_channels()}, ws);
    } else {
      return inner_({x.data, rows, in_channels()}, {to, rows, out_channels()});
    }
  }

  /// Of zeros: is one row enough, or has it to be set off against a row of zero points?
  constexpr bool zeros_add_nothing() const noexcept {
    if constexpr (std::is_integral_v<activation>)
      return atom::activation_offset == 0 && insides::zero_point(inner_) == activation{};
    else
      return true;
  }
  constexpr std::size_t entry_cost() const noexcept {
    constexpr detail::list_costs costs;
    return zeros_add_nothing() || has_differences ? costs.of_entry_in_eighths : costs.of_pair_in_eighths;
  }
  static constexpr bool has_differences = !std::is_void_v<isa::difference_of<atom>>;

  /// Which row a listed one makes, and what its sums are added to.
  enum class basis : unsigned char { nothing, sums, zeros };
  struct listed {
    std::size_t row;
    std::int32_t difference;  ///< the sum of differences
    basis on;
  };
  /// Rows whose lists are added up together.
  template <class A, std::size_t Rows>
  struct listed_batch {
    using row_activation = typename A::activation;
    kernel::listed_row<row_activation> rows[most_listed];
    listed what[most_listed];
    std::size_t count = 0;
    policy::live_group* groups = nullptr;
    row_activation* memory = nullptr;
  };

  /// Computes `count` listed pixels of image n.
  template <class A>
  void compute(state& s, std::size_t n, std::size_t count, bool all) const noexcept {
    using D = isa::difference_of<A>;
    constexpr bool differs = lists && !std::is_void_v<D>;
    const extent2d frame = s.frame_extent();
    const std::size_t image = frame.height * frame.width * s.shape_.channels, depth = window_elements();
    const std::size_t first_row = n * s.shape_.output.height * s.shape_.output.width;
    const auto copy = windows(frame);
    const bool by_list = uses_lists() && ((keeps_sums() && !all) || skips_zeros);
    for (std::size_t g = 0; g < sets(); ++g) {
      const std::size_t of_group = g * copy.channels;
      const activation* const now = s.reference_.data() + n * image + of_group;
      [[maybe_unused]] const activation* const then = keeps_sums() ? s.before_.data() + n * image + of_group : nullptr;
      std::size_t whole_rows[most_whole];
      std::size_t whole = 0;
      if constexpr (lists) {
        listed_batch<A, 1> ones;
        listed_batch<A, 2> pairs;
        listed_batch<std::conditional_t<differs, D, A>, 1> differences;
        const std::size_t list_size = groups() + isa::list_slack;
        ones.groups = s.groups_.data();
        pairs.groups = ones.groups + most_listed * list_size;
        differences.groups = pairs.groups + most_listed * list_size;
        ones.memory = pairs.memory = s.listed_.data();
        if constexpr (differs) differences.memory = s.differences_.data();
        if (by_list && skips_zeros) fill_zero_window(copy, s.before_row_.data());
        for (std::size_t i = 0; i < count; ++i) {
          const kernel::listed_pixel& pixel = s.pixels_[i];
          const std::size_t row = first_row + pixel.row;
          activation* const window = s.whole_.data() + whole * depth;
          copy.copy(now + pixel.at, window);
          if (by_list && take_list<A>(s, g, row, window, then != nullptr && !all ? then + pixel.at : nullptr, copy,
                                      ones, pairs, differences)) {
            continue;
          }
          whole_rows[whole++] = row;
          if (whole == most_whole) finish_whole<A>(s, g, whole_rows, std::exchange(whole, 0));
        }
        finish_listed<1>(s, g, ones, static_cast<const A*>(nullptr));
        finish_listed<2>(s, g, pairs, static_cast<const A*>(nullptr));
        if constexpr (differs) finish_listed<1>(s, g, differences, static_cast<const D*>(nullptr));
      } else {
        for (std::size_t i = 0; i < count; ++i) {
          copy.copy(now + s.pixels_[i].at, s.whole_.data() + whole * depth);
          whole_rows[whole++] = first_row + s.pixels_[i].row;
          if (whole == most_whole) finish_whole<A>(s, g, whole_rows, std::exchange(whole, 0));
        }
      }
      if (whole > 0) finish_whole<A>(s, g, whole_rows, whole);
    }
    if (keeps_sums()) bring_up(s, n, all);
  }

  /// A window of zero points, as windows are copied.
  void fill_zero_window(const kernel::framed_windows& copy, activation* to) const noexcept {
    const activation zero = insides::zero_point(inner_);
    for (std::size_t ky = 0; ky < copy.taps.kernel.height; ++ky, to += copy.line_depth)
      for (std::size_t kx = 0; kx < copy.taps.kernel.width; ++kx)
        kernel::detail::fill_elements(to + kx * copy.filled_channels, zero, copy.channels);
  }
  /// The groups of a window that are not zero points.
  std::uint32_t list_live(const state& s, const activation* window, policy::live_group* to) const noexcept {
    const std::size_t depth = weights().group_depth();
    if constexpr (std::is_integral_v<activation>)
      if (insides::zero_point(inner_) != activation{})  // what fills up is 0
        return isa::list_changed(window, s.before_row_.data(), groups(), depth, to);
    return isa::list_live(window, activation{}, groups(), depth, to);
  }
  /// Puts a window into the batch where it is least work; false: it is better computed whole.
  template <class A, class Ones, class Pairs, class Differences>
  POLYMAC_INLINE bool take_list(state& s, std::size_t g, std::size_t row, const activation* window,
                                const activation* then, const kernel::framed_windows& copy, Ones& ones, Pairs& pairs,
                                Differences& differences) const noexcept {
    constexpr bool differs =
        !std::is_same_v<typename Differences::row_activation, void> && !std::is_void_v<isa::difference_of<A>>;
    constexpr detail::list_costs costs;
    const std::size_t depth = window_elements(), group_depth = weights().group_depth(), all = groups();
    const std::size_t list_size = all + isa::list_slack;
    std::size_t least = 8 * all;
    basis on = basis::nothing;
    enum { none, one, pair, difference } way = none;
    isa::byte_differences of_change{}, of_zeros{};
    std::uint32_t live = 0;
    // Lists are written where they will be read, should they be taken.
    policy::live_group* const of_one = ones.groups + ones.count * list_size;
    policy::live_group* const of_pair = pairs.groups + pairs.count * list_size;
    policy::live_group* const of_difference = differences.groups + differences.count * list_size;
    if (then != nullptr) {
      activation* const before = row_before(s);
      copy.copy(then, before);
      if constexpr (differs) {
        std::int8_t* const to = s.differences_.data() + differences.count * (depth + 64);
        of_change = isa::list_differences(window, before, all, group_depth, to, of_difference);
        if (of_change.count == 0) return true;
        if (of_change.fit) {
          way = difference;
          least = 8 * costs.of_row + of_change.count * costs.of_entry_in_eighths;
        }
      }
      if (way == none) {
        live = isa::list_changed(window, before, all, group_depth, of_pair);
        if (live == 0) return true;
        const std::size_t cost = 8 * costs.of_row + live * costs.of_pair_in_eighths;
        if (cost < least) {
          way = pair;
          least = cost;
        }
      }
      on = basis::sums;
    }
    if constexpr (skips_zeros) {
      const std::uint32_t count = list_live(s, window, of_one);
      const std::size_t cost = 8 * costs.of_row + count * entry_cost();
      if (cost < least) {
        least = cost;
        if (zeros_add_nothing()) {
          way = one;
          on = basis::nothing;
          live = count;
        } else {
          on = basis::zeros;
          way = pair;
          if constexpr (differs) {
            std::int8_t* const to = s.differences_.data() + differences.count * (depth + 64);
            of_zeros = isa::list_differences(window, s.before_row_.data(), all, group_depth, to, of_difference);
            if (of_zeros.fit) {
              way = difference;
              of_change = of_zeros;
            }
          }
          if (way == pair) live = list_live(s, window, of_pair);
        }
      }
    }
    if (way == none || least >= 8 * all) return false;
    if (way == one) {
      activation* const held = s.listed_.data() + ones.count * depth;
      kernel::detail::copy_elements(held, window, depth);
      ones.rows[ones.count] = {held, of_one, live, static_cast<std::uint32_t>(ones.count)};
      ones.what[ones.count++] = {row, 0, on};
      s.last_.macs += live * group_depth * columns();
      if (ones.count == most_listed) finish_listed<1>(s, g, ones, static_cast<const A*>(nullptr));
    } else if (way == pair) {
      activation* const held = s.listed_.data() + (most_listed + 2 * pairs.count) * depth;
      kernel::detail::copy_elements(held, window, depth);
      kernel::detail::copy_elements(held + depth, on == basis::sums ? row_before(s) : s.before_row_.data(), depth);
      pairs.rows[pairs.count] = {held, of_pair, live, static_cast<std::uint32_t>(pairs.count)};
      pairs.what[pairs.count++] = {row, 0, on};
      s.last_.macs += 2 * live * group_depth * columns();
      if (pairs.count == most_pairs) finish_listed<2>(s, g, pairs, static_cast<const A*>(nullptr));
    } else if constexpr (differs) {
      using D = isa::difference_of<A>;
      std::int8_t* const held = s.differences_.data() + differences.count * (depth + 64);
      differences.rows[differences.count] = {held, of_difference, of_change.count,
                                             static_cast<std::uint32_t>(differences.count)};
      differences.what[differences.count++] = {row, of_change.sum, on};
      s.last_.macs += of_change.count * group_depth * columns();
      if (differences.count == most_listed) finish_listed<1>(s, g, differences, static_cast<const D*>(nullptr));
    }
    return true;
  }
  activation* row_before(state& s) const noexcept {
    return s.listed_.data() + (most_listed + 2 * most_pairs) * window_elements();
  }

  /// Adds up a batch of lists, and brings the rows to the outputs.
  template <std::size_t Rows, class Batch, class A>
  POLYMAC_NOINLINE void finish_listed(state& s, std::size_t g, Batch& batch, const A*) const noexcept {
    if (batch.count == 0) return;
    const std::size_t stride = sum_stride(), count = std::exchange(batch.count, 0);
    accumulator* const sums = s.row_sums_.data();
    const auto distance = static_cast<std::ptrdiff_t>(Rows == 2 ? window_elements() : 0);
    bool own_starts = true;
    for (std::size_t i = 0; i < count; ++i) own_starts = own_starts && batch.what[i].on == basis::nothing;
    // Sums that are added to others begin at 0.
    kernel::add_up_rows<A, Rows>(weights(), g, batch.rows, count, sums, stride, own_starts ? nullptr : zeros_.data(),
                                 distance);
    std::size_t rows[most_listed];
    for (std::size_t i = 0; i < count; ++i) {
      const listed& what = batch.what[i];
      rows[i] = what.row;
      if (own_starts) continue;
      const accumulator* const base =
          what.on == basis::sums ? s.sums_.data() + (what.row * sets() + g) * stride : zero_sums_.data() + g * stride;
      accumulator* const to = sums + i * stride;
      const accumulator* const more = sums + Rows * i * stride;
      accumulator surplus{};
      if constexpr (requires { A::surplus; }) surplus = static_cast<accumulator>(A::surplus * what.difference);
      for (std::size_t c = 0; c < stride; ++c) {
        accumulator change = more[c];
        if constexpr (Rows == 2) change = subtract(change, more[stride + c]);
        to[c] = add(base[c], subtract(change, surplus));
      }
    }
    finish_sums(s, g, rows, count, sums, stride);
  }
  static constexpr accumulator add(accumulator a, accumulator b) noexcept {
    if constexpr (std::is_integral_v<accumulator>) {
      using bits = std::make_unsigned_t<accumulator>;
      return static_cast<accumulator>(static_cast<bits>(a) + static_cast<bits>(b));
    } else {
      return a + b;
    }
  }
  static constexpr accumulator subtract(accumulator a, accumulator b) noexcept {
    if constexpr (std::is_integral_v<accumulator>) {
      using bits = std::make_unsigned_t<accumulator>;
      return static_cast<accumulator>(static_cast<bits>(a) - static_cast<bits>(b));
    } else {
      return a - b;
    }
  }

  /// Sums of some rows, `stride` apart, through the stages to the outputs; they are kept where sums are.
  void finish_sums(state& s, std::size_t g, const std::size_t* rows, std::size_t count, const accumulator* sums,
                   std::size_t stride) const noexcept {
    if (keeps_sums())
      for (std::size_t i = 0; i < count; ++i)
        std::memcpy(static_cast<void*>(s.sums_.data() + (rows[i] * sets() + g) * sum_stride()), sums + i * stride,
                    columns() * sizeof(accumulator));
    const matrix_view<output> to(s.row_outputs_.data(), count, out_channels());
    kernel::finish<typename atom::isa>(insides::stages(inner_), to, sums, stride,
                                       {0, count, 0, columns(), g * columns()});
    scatter(s, g, rows, count);
  }
  void scatter(state& s, std::size_t g, const std::size_t* rows, std::size_t count) const noexcept {
    const output* from = s.row_outputs_.data() + g * columns();
    for (std::size_t i = 0; i < count; ++i, from += out_channels())
      std::memcpy(static_cast<void*>(s.outputs_.data() + rows[i] * out_channels() + g * columns()), from,
                  columns() * sizeof(output));
  }
  /// Computes whole rows.
  template <class A>
  POLYMAC_NOINLINE void finish_whole(state& s, std::size_t g, const std::size_t* rows,
                                     std::size_t count) const noexcept {
    const std::size_t depth = window_elements();
    s.last_.macs += count * columns() * real_depth();
    const detail::copied_rows<activation> source{s.whole_.data(), count, depth};
    if constexpr (lists) {
      if (keeps_sums()) {
        const std::size_t stride = sets() * columns();
        kernel::contract<atom>(weights(), g, source, epilogue::identity{},
                               matrix_view<sum>(s.row_sums_.data(), count, stride), {}, {0, count});
        // Epilogues read whole registers of sums: rows go on behind the columns.
        finish_sums(s, g, rows, count, s.row_sums_.data() + g * columns(), stride);
        return;
      }
    }
    const matrix_view<output> to(s.row_outputs_.data(), count, out_channels());
    if constexpr (kernel::has_tiles<atom>) {
      if (g == 0 && sets() == 1) {
        detail::multiply_rows<atom>(weights(), matrix_view<const activation>(s.whole_.data(), count, depth),
                                    insides::stages(inner_), to, {0, count}, inner_.runs_on_tiles(count));
        return scatter(s, g, rows, count);
      }
    }
    kernel::contract<atom>(weights(), g, source, insides::stages(inner_), to, {}, {0, count});
    scatter(s, g, rows, count);
  }
  /// The image before the next change is the one of now.
  void bring_up(state& s, std::size_t n, bool all) const noexcept {
    const extent2d frame = s.frame_extent();
    const std::size_t line = frame.width * s.shape_.channels, image = frame.height * line;
    for (std::size_t y = 0; y < frame.height; ++y)
      if (all || s.lines_[y])
        std::memcpy(static_cast<void*>(s.before_.data() + n * image + y * line),
                    s.reference_.data() + n * image + y * line, line * sizeof(activation));
  }

  Inner inner_;
  std::uint64_t identity_ = 0;
  polymac::status status_;
  buffer<accumulator> zero_sums_;  ///< of windows that hold zero points only
  buffer<accumulator> zeros_;      ///< of all panels of a tile
  buffer<output> zero_outputs_;
};

namespace detail {

/// What tells layers apart: their weights, bias and policies. FNV-1a.
class identity_hash {
 public:
  template <class T>
  void add(const T& value) noexcept {
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    for (const unsigned char b : bytes) value_ = (value_ ^ b) * 1099511628211u;
  }
  void add_name(const char* name) noexcept {
    for (; *name != 0; ++name) add(*name);
  }
  std::uint64_t value() const noexcept { return value_; }

 private:
  std::uint64_t value_ = 14695981039346656037u;
};
template <class M, class P, class Bias>
identity_hash identity_of(const Bias& bias) noexcept {
  identity_hash h;
  h.add_name(M::name);
  h.add_name(P::name);
  for (const auto& b : bias) h.add(b);
  return h;
}

}  // namespace detail

}  // namespace layer

/// Builds a layer::streamed around a conv2d: `conv2d<mac::uint8, policy::delta<4>>({.padding = same}, weights, bias, stages)`,
/// `conv2d<mac::int8, policy::both<policy::n_of_m<2, 4>, policy::delta<4>>>(...)`.
template <Mac M, policy::ActivationPolicy P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto conv2d(const layer::convolution& c, const Weights& weights, const Bias& bias, E stages = {},
            const layer::quantization<M>& q = {}) {
  using inner = layer::conv2d<M, E, I, extents<dynamic, dynamic, dynamic, dynamic>, kernel::owned_memory,
                              policy::detail::weights_of<P>>;
  auto identity = layer::detail::identity_of<M, P>(bias);
  if (layer::detail::has_data(weights.data))
    for (std::size_t o = 0; o < weights.batch; ++o)
      for (std::size_t y = 0; y < weights.height; ++y)
        for (std::size_t x = 0; x < weights.width; ++x)
          for (std::size_t i = 0; i < weights.channels; ++i) identity.add(weights(o, y, x, i));
  return layer::streamed<inner, P>(identity.value(), c, weights, std::span(std::data(bias), std::size(bias)),
                                   std::move(stages), q);
}
/// The same around a linear layer.
template <Mac M, policy::ActivationPolicy P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto linear(const Weights& weights, const Bias& bias, E stages = {}, const layer::quantization<M>& q = {}) {
  using inner = layer::linear<M, E, I, extents<dynamic, dynamic>, kernel::owned_memory, policy::detail::weights_of<P>>;
  auto identity = layer::detail::identity_of<M, P>(bias);
  if (layer::detail::has_data(weights.data))
    for (std::size_t c = 0; c < weights.rows; ++c)
      for (std::size_t k = 0; k < weights.columns; ++k) identity.add(weights(c, k));
  return layer::streamed<inner, P>(identity.value(), weights, std::span(std::data(bias), std::size(bias)),
                                   std::move(stages), q);
}

POLYMAC_END
