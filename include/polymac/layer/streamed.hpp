// SPDX-License-Identifier: MIT
// A layer with a policy of activations: frame after frame, what has not changed or is zero is not multiplied.
//
//      x --compare with the reference--> pixels that have changed --dilate--> outputs that read one of them
//                |                          |                                        |
//      reference is brought up to x         groups of each that live or have         |
//                                           changed: a list, made once               |
//                                                   |               its window: the lists of its pixels, put together
//                                                   |                 |              |                  |
//                                                   +---------------->|              |                  |
//                                                                  empty:         few groups         many groups
//                                                                  a constant,    listed_rows        a tile of rows,
//                                                                  or nothing        |               THE loop nest
//                                                                     +--------------+------------------+
//                                                                      epilogue, scattered to the outputs in the state
//
// Without a policy of changes all outputs are looked at, and the reference is a copy of x. Which way a row goes is
// decided by what its list costs, and gives the same sums (exact arithmetics: the same bits) in any case. A pixel's list
// is made once and read by all windows that hold it, nine of 3 x 3; comparing windows took half of the time of a call.
// Where there is code for it elements are listed instead of groups, once for a line (kernel/changed_elements.hpp).
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/difference.hpp"
#include "polymac/isa/live_groups.hpp"
#include "polymac/kernel/changed_elements.hpp"
#include "polymac/kernel/changes.hpp"
#include "polymac/kernel/framed_windows.hpp"
#include "polymac/kernel/listed_rows.hpp"
#include "polymac/kernel/window_lists.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/row_costs.hpp"
#include "polymac/layer/signature.hpp"
#include "polymac/layer/stream_state.hpp"
#include "polymac/layer/view_check.hpp"
#include "polymac/policy/both.hpp"
#include "polymac/policy/delta.hpp"
#include "polymac/policy/zero_skip.hpp"

#include <bit>
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

/// Are the products of M those of int8?
template <class M>
inline constexpr bool computed_as_int8 = false;
template <class M>
requires requires { typename M::computed_as; }
inline constexpr bool computed_as_int8<M> = std::is_same_v<typename M::computed_as, mac::int8>;

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

}  // namespace detail

/// Inner: a linear or conv2d, with or without a policy of weights. P: policy::delta, policy::zero_skip, or both of them.
/// Made by conv2d<M, P>(...) and linear<M, P>(...).
///
/// A call is noexcept and allocates nothing; the state is the caller's (make_state), and calls with different states may
/// run at once. The outputs are those of `inner()` on state.reference(), of which no element is farther from x than the
/// threshold.
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
  /// policy::always: are costs not asked for?
  static constexpr bool forced = [] {
    if constexpr (requires { P::is_always; })
      return true;
    else
      return false;
  }();
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
  /// May elements be listed one by one (kernel/changed_elements.hpp)? Bytes whose sums are kept, beside dense weights of a
  /// convolution.
  using changed_bytes = isa::best_changed_bytes<typename atom::isa>;
  static constexpr bool may_list_elements = [] {
    if constexpr (slides && lists && !std::is_void_v<changed_bytes> && std::is_integral_v<activation>)
      return (has_delta ? wants_sums && grain == policy::grain::element : skips_zeros) && sizeof(activation) == 1 &&
             std::is_same_v<typename mac::weight, std::int8_t> && std::is_same_v<accumulator, std::int32_t> &&
             (std::is_same_v<mac, polymac::mac::int8> || std::is_same_v<mac, polymac::mac::uint8> ||
              detail::computed_as_int8<mac>)&&std::is_same_v<policy::detail::weights_of<P>, policy::dense>;
    else
      return false;
  }();
  /// Rows that are computed together: whole ones, and listed ones.
  static constexpr std::size_t most_whole = kernel::has_tiles<atom> ? 64
                                            : atom::max_rows < 12   ? 24
                                                                    : 2 * atom::max_rows;
  static constexpr std::size_t most_listed = 64;
  using costs = detail::row_costs<atom>;

 public:
  template <class... Arguments>
  constexpr explicit streamed(std::uint64_t identity, Arguments&&... arguments)
      : inner_(std::forward<Arguments>(arguments)...), identity_(identity) {
    if (!inner_.status().ok()) return;
    if constexpr (may_list_elements) status_ = prepare_elements(arguments...);
    if (status_.ok()) status_ = prepare();
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

  /// The state of `batch` images of that size. Throws polymac::error (or sets status()) where the window does not fit or
  /// memory fails.
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
                           !lists                  ? "whole rows only, as this arithmetic's kernel takes no lists"
                           : weights().wide_sums() ? "whole rows only, as sums are gathered in 64 bits"
                           : !uses_lists()         ? "whole rows only, as groups of k are not of one pixel each"
                           : keeps_sums()          ? "rows by lists where those are shorter, sums are kept"
                           : skips_zeros           ? "rows by lists where those are shorter"
                                                   : "whole rows",
                           "; a list is predicted to be faster below ", percent_of_break_even(),
                           " % of the groups, and all of it than the dense layer where less than ",
                           static_cast<std::size_t>(100 * dense_cost() / whole_cost()), " % of the rows are computed");
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
    const std::size_t filled =
        polymac::detail::round_up(weights().panels() * weights().panel_columns(), std::size_t{16});
    if constexpr (may_list_elements)
      if (element_rows_.size() > 0) return polymac::detail::greater(filled, changed_bytes::row_columns(columns()));
    return filled;
  }
  /// Entries of the lists of a batch: of most_listed rows of which a third lives, and at least of one row.
  constexpr std::size_t list_capacity() const noexcept {
    return most_listed * (groups() / 3 + isa::list_slack) + groups() + isa::list_slack;
  }
  /// Channels of a pixel in the frame: whole groups, where the weights have them so.
  constexpr std::size_t frame_channels() const noexcept {
    if (!pixels_are_groups()) return in_channels();
    return polymac::detail::round_up(in_channels(), weights().group_depth());
  }
  /// Is every group of the weights a part of one pixel? Then pixels can have lists.
  constexpr bool pixels_are_groups() const noexcept {
    if constexpr (slides) {
      const std::size_t depth = weights().group_depth(), filled = insides::filled_channels(inner_);
      const window w = taps();
      if (sets() != 1 || w.kernel.width > 8) return false;
      if (w.kernel == extent2d{1, 1}) return true;
      return filled % depth == 0 && insides::line_depth(inner_) % depth == 0 &&
             filled == polymac::detail::round_up(in_channels(), depth);
    } else {
      return true;
    }
  }
  constexpr bool uses_lists() const noexcept { return lists && !weights().wide_sums() && pixels_are_groups(); }
  /// Elements that are not zero are added to sums of zeros, which have a place in the state, too.
  constexpr bool keeps_sums() const noexcept {
    if constexpr (has_delta)
      return wants_sums && uses_lists();
    else
      return element_rows_.size() > 0;
  }
  constexpr kernel::framed_windows windows(extent2d frame) const noexcept {
    if constexpr (slides)
      return {taps(),
              frame.width,
              frame_channels(),
              insides::channels(inner_),
              insides::filled_channels(inner_),
              insides::line_depth(inner_)};
    else
      return {taps(), frame.width, frame_channels(), in_channels(), frame_channels(), frame_channels()};
  }
  /// Cycles of a row whose list has so many entries, of one that is computed whole, and of one in the dense layer.
  constexpr double listed_cost(std::size_t entries, double of_entry) const noexcept {
    return costs::listed_row +
           static_cast<double>(weights().panels()) * (costs::listed_panel + static_cast<double>(entries) * of_entry);
  }
  constexpr double whole_cost() const noexcept {
    return dense_cost() + costs::whole_row + costs::whole_line * static_cast<double>(taps().kernel.height);
  }
  constexpr double dense_cost() const noexcept {
    return static_cast<double>(weights().panels()) *
           (costs::finished_panel + static_cast<double>(groups()) * costs::group);
  }
  /// Entries up to which a list is shorter than the whole row.
  constexpr std::size_t most_entries(double of_entry) const noexcept {
    const double room = whole_cost() - listed_cost(0, of_entry),
                 entry = listed_cost(1, of_entry) - listed_cost(0, of_entry);
    return room > 0 && entry > 0 ? static_cast<std::size_t>(room / entry) : 0;
  }
  constexpr std::size_t percent_of_break_even() const noexcept {
    const std::size_t all = groups() > 0 ? groups() : 1, percent = 100 * most_entries(costs::entry) / all;
    return percent < 100 ? percent : 100;
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

  /// The weights once more, as rows of k; none where a product is not one of bytes.
  template <class Weights, class Bias, class Stages>
  polymac::status prepare_elements(const convolution&, const Weights& from, const Bias&, const Stages&,
                                   const quantization<mac>& q) noexcept {
    if (sets() != 1 || !uses_lists() || frame_channels() != in_channels() ||
        weights().groups() != weights().term_groups() || taps().dilation.width != 1)
      return {};
    const std::size_t taps_of_line = taps().kernel.width, channels = in_channels(), depth = real_depth();
    if (auto s = element_rows_.resize(depth * changed_bytes::row_columns(columns())); !s.ok()) return s;
    const auto reader = detail::make_weight_reader<mac>(
        [&](std::size_t column, std::size_t k) {
          return from(column, k / channels / taps_of_line, k / channels % taps_of_line, k % channels);
        },
        q.weight_zero_points);
    for (std::size_t c = 0; c < changed_bytes::row_columns(columns()); ++c)
      for (std::size_t k = 0; k < depth; ++k)
        changed_bytes::put_weight(element_rows_.data(), depth, columns(), c, k,
                                  c < columns() ? static_cast<std::int8_t>(reader.value(c, k)) : std::int8_t{0});
    return {};
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
    s.shape_ = {batch, channels, frame_channels(), out_channels(), input, geometry.output, geometry.padding};
    s.layer_ = identity_;
    if constexpr (has_delta) s.threshold_ = static_cast<typename state::threshold_type>(delta::threshold);
    const extent2d frame = s.frame_extent();
    const std::size_t pixels = frame.height * frame.width, rows = geometry.output.height * geometry.output.width;
    const std::size_t held = s.shape_.frame_channels;
    constexpr std::size_t most = static_cast<std::uint32_t>(-1);
    if (pixels > most / (held > 0 ? held : 1) || rows > most)
      return polymac::status::make(errc::shape, "state: an image of ", input.height, " x ", input.width, " x ",
                                   channels, " has more than 2^32 activations");
    const std::size_t depth = window_elements(), stride = sum_stride();
    s.frames_size_ = batch * pixels * held;
    bool by_elements = false;
    if constexpr (may_list_elements) by_elements = element_rows_.size() > 0 && frame.width * channels <= 65535;
    auto result = s.frames_memory_.resize(s.frames_size_ * (keeps_sums() && !by_elements ? 2 : 1));
    const auto resize = [&](auto& what, std::size_t count) {
      if (result.ok()) result = what.resize(count);
    };
    resize(s.outputs_, batch * rows * out_channels());
    resize(s.marks_, pixels + 8);
    resize(s.lines_, frame.height);
    resize(s.joined_, frame.width + 8);
    resize(s.dirty_, geometry.output.width + 16);
    resize(s.pixels_, rows + 8);
    resize(s.whole_, most_whole * depth);
    resize(s.row_outputs_, polymac::detail::greater(most_whole, most_listed) * out_channels());
    if (keeps_sums()) resize(s.sums_, batch * rows * stride);
    if (by_elements) {
      const std::size_t entries = kernel::changed_line_entries(frame.width * channels);
      resize(s.changed_places_, frame.height * entries);
      resize(s.changed_differences_, frame.height * entries);
      resize(s.changed_first_, frame.height * (frame.width + 1));
      resize(s.changed_counts_, geometry.output.width);
      resize(s.changed_stretches_, taps().kernel.height);  // new elements are 0: lines of padding stay so
    }
    if (uses_lists() && (keeps_sums() || skips_zeros)) {
      resize(s.lists_, pixels);
      resize(s.pixel_groups_, pixels * (held / weights().group_depth()) + isa::list_slack);
      if (has_differences) resize(s.differences_, pixels * held + isa::difference_slack);
      resize(s.zero_pixel_, held);
      resize(s.groups_, list_capacity());
    }
    if (uses_lists())
      resize(s.row_sums_,
             polymac::detail::greater(most_whole, 2 * most_listed) * polymac::detail::greater(stride, columns()) + 16);
    if (!result.ok()) return result;
    const activation zero = insides::zero_point(inner_);
    for (std::size_t i = 0; i < s.frames_memory_.size(); ++i)
      s.frames_memory_[i] = i % held < channels ? zero : activation{};
    for (std::size_t i = 0; i < s.zero_pixel_.size(); ++i) s.zero_pixel_[i] = i < channels ? zero : activation{};
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
    if (s.dense_calls_ > 0) return run_dense_calls(x, s, ws);
    const bool all = !has_delta || s.frames_ == 0 || (refresh > 0 && s.frames_ % refresh == 0);
    double cost = 0;  // of what lists do where sums are kept
    const bool looks_at_zeros = skips_zeros && all && uses_lists();
    for (std::size_t n = 0; n < x.batch; ++n) {
      if constexpr (may_list_elements)
        if (s.changed_places_.size() > 0 && (!all || skips_zeros)) {
          cost += run_elements(x, n, s, all);
          continue;
        }
      std::memset(s.lines_.data(), 0, s.lines_.size());
      std::memset(s.marks_.data(), 0, s.marks_.size());
      if (all)
        transmit_all(x, n, s);
      else
        transmit_changes(x, n, s);
      way how = way::whole;
      if (looks_at_zeros)
        how = list_zeros(s, n);
      else if (!all && keeps_sums())
        how = list_changes(s, n);
      kernel::listed_pixel* end = s.pixels_.data();
      if (all && (!looks_at_zeros || how == way::whole))
        end = kernel::list_all_outputs(frame, taps(), out, end);
      else
        end = kernel::list_outputs(s.marks_.data(), s.lines_.data(), frame, taps(), out, s.joined_.data(),
                                   s.dirty_.data(), end);
      const auto count = static_cast<std::size_t>(end - s.pixels_.data());
      if (!keeps_sums() && whole_is_better(s, count, how)) {
        if (auto wrong = run_dense(s, n, ws); !wrong.ok()) return wrong;
        s.last_.rows += rows;
        s.last_.macs += rows * sets() * columns() * real_depth();
        if (!all || !has_delta) s.dense_calls_ = calls_without_looking;
      } else if (keeps_sums() && how == way::whole && count == rows) {
        s.last_.rows += rows;
        if (auto wrong = sum_up_all(s, n, ws); !wrong.ok()) return wrong;
      } else {
        s.last_.rows += count;
        if (looks_at_zeros && count < rows) fill_zero_rows(s, n);
        with_atom([&](auto a) { cost += compute<typename decltype(a)::type>(s, n, count, how); });
        if (how != way::whole) cost += listing_cost(s);
      }
      if (keeps_sums()) bring_up(s, n, all);
    }
    ++s.frames_;
    if (!forced && keeps_sums() && (!all || !has_delta) && cost > dense_cost() * static_cast<double>(s.last_.of_rows))
      s.dense_calls_ = calls_without_looking;
    return {};
  }
  /// The sums of all rows, as the dense layer has them, and the outputs.
  polymac::status sum_up_all(state& s, std::size_t n, workspace ws) const noexcept {
    if constexpr (wants_sums || may_list_elements) {
      const extent2d out = s.shape_.output;
      const std::size_t rows = out.height * out.width, stride = sum_stride();
      image_view<const activation> x = s.reference();
      accumulator* const sums = s.sums_.data() + n * rows * stride;
      const auto raw = inner_.raw_sums();
      polymac::status result;
      if constexpr (slides) {
        x.data += n * x.image_stride;
        x.batch = 1;
        result = raw(x, {sums, 1, out.height, out.width, columns(), stride, out.width * stride, rows * stride}, ws);
      } else {
        result = raw({x.data, rows, in_channels(), x.pixel_stride}, {sums, rows, columns(), stride});
      }
      if (!result.ok()) return result;
      finish_kept(s, n * rows, rows);
      s.last_.macs += rows * columns() * real_depth();
    }
    return {};
  }
  /// After a call that had better been the dense layer so many are it: all of x is transmitted, nothing is compared.
  static constexpr std::size_t calls_without_looking = 7;
  polymac::status run_dense_calls(const image_view<const activation>& x, state& s, workspace ws) const noexcept {
    for (std::size_t n = 0; n < x.batch; ++n) {
      transmit_all(x, n, s);
      if (auto wrong = run_dense(s, n, ws); !wrong.ok()) return wrong;
    }
    s.last_.rows = s.last_.of_rows;
    s.last_.macs = s.last_.of_macs;
    if (--s.dense_calls_ == 0 && keeps_sums())
      s.frames_ = 0;  // sums are those of an older frame
    else
      ++s.frames_;
    return {};
  }
  kernel::changed_line changes_of(state& s, std::size_t line) const noexcept {
    const extent2d frame = s.frame_extent();
    const std::size_t elements = kernel::changed_line_entries(frame.width * s.shape_.channels);
    return {s.changed_places_.data() + line * elements, s.changed_differences_.data() + line * elements,
            s.changed_first_.data() + line * (frame.width + 1)};
  }
  /// Lists the elements that have changed, and adds their products to the sums that read them. `all`: from an image of
  /// zero points on, of which the sums are known. Returns what that is predicted to cost.
  double run_elements(const image_view<const activation>& x, std::size_t n, state& s, bool all) const noexcept {
    const auto& h = s.shape_;
    const extent2d frame = s.frame_extent();
    if constexpr (skips_zeros)
      if (all) {
        const std::size_t line = x.width * x.channels;
        for (std::size_t y = 0; y < x.height; ++y)
          kernel::detail::fill_elements(interior(s, n, y), insides::zero_point(inner_), line);
        fill_zero_rows(s, n);
      }
    for (std::size_t y = 0; y < x.height; ++y)
      kernel::list_changes<changed_bytes>(x.pixel(n, y, 0), x.pixel_stride, interior(s, n, y), x.width, x.channels,
                                          all ? 0 : s.threshold_, h.padding.left, frame.width,
                                          changes_of(s, h.padding.top + y));
    return add_elements(s, n);
  }
  double add_elements(state& s, std::size_t n) const noexcept {
    const auto& h = s.shape_;
    const extent2d frame = s.frame_extent();
    const window w = taps();
    const std::size_t stride = sum_stride(), depth = window_elements(), channels = h.channels;
    const auto line_depth = static_cast<std::ptrdiff_t>(w.kernel.width * channels);
    const auto copy = windows(frame);
    const activation* const image = s.frames_memory_.data() + n * frame.height * frame.width * channels;
    // Cycles of a row: around its elements, and of each of them for 32 columns (Zen 4).
    constexpr double of_element = 1.5;
    const double around = 100 + 12 * static_cast<double>(changed_bytes::row_columns(columns()) / 32);
    const double limit =
        (whole_cost() - around) / (of_element * static_cast<double>(changed_bytes::row_columns(columns()) / 32));
    const auto most = static_cast<std::uint32_t>(forced ? static_cast<double>(real_depth()) : limit > 0 ? limit : 0);
    std::size_t wholes = 0, listed_rows = 0, elements = 0;
    std::size_t whole_rows[most_whole];
    std::size_t whole = 0;
    std::uint32_t* const counts = s.changed_counts_.data();
    for (std::size_t oy = 0; oy < h.output.height; ++oy) {
      bool any = false;
      for (std::size_t ky = 0; ky < w.kernel.height; ++ky) {
        const std::uint32_t* const first = changes_of(s, oy * w.stride.height + ky * w.dilation.height).first;
        if (any && first[frame.width] == 0) continue;
        const std::uint32_t* const end = first + w.kernel.width;
        for (std::size_t ox = 0; ox < h.output.width; ++ox) {
          const std::size_t at = ox * w.stride.width;
          counts[ox] = (any ? counts[ox] : 0) + end[at] - first[at];
        }
        any = true;
      }
      const std::size_t first_row = (n * h.output.height + oy) * h.output.width;
      // Those that have changes, without a branch for each of the others.
      std::uint8_t* const dirty = s.dirty_.data();
      for (std::size_t ox = 0; ox < h.output.width; ++ox) dirty[ox] = counts[ox] != 0 ? 1 : 0;
      kernel::listed_pixel* const end =
          kernel::list_dirty(dirty, h.output.width, 0, 0, w.stride.width, s.pixels_.data());
      s.last_.rows += static_cast<std::size_t>(end - s.pixels_.data());
      std::size_t run = 0, run_end = 0;  // rows whose sums have changed and that wait for their epilogue
      const auto finish_run = [&] {
        if (run > 0) finish_kept(s, first_row + run_end - run, run);
        run = 0;
      };
      for (const kernel::listed_pixel* pixel = s.pixels_.data(); pixel != end; ++pixel) {
        const std::size_t ox = pixel->row, at = pixel->pixel;
        if (ox != run_end) finish_run();
        if (counts[ox] > most) {
          finish_run();
          ++wholes;
          copy.copy(image + (oy * w.stride.height * frame.width + at) * channels, s.whole_.data() + whole * depth);
          whole_rows[whole++] = first_row + ox;
          if (whole == most_whole) finish_whole(s, 0, whole_rows, std::exchange(whole, 0));
          continue;
        }
        for (std::size_t ky = 0; ky < w.kernel.height; ++ky) {
          const kernel::changed_line line = changes_of(s, oy * w.stride.height + ky * w.dilation.height);
          s.changed_stretches_[ky] = {
              line.places + line.first[at], line.differences + line.first[at],
              line.first[at + w.kernel.width] - line.first[at],
              static_cast<std::ptrdiff_t>(ky) * line_depth - static_cast<std::ptrdiff_t>(at * channels)};
        }
        changed_bytes::add(element_rows_.data(), real_depth(), columns(), s.changed_stretches_.data(), w.kernel.height,
                           s.sums_.data() + (first_row + ox) * stride);
        elements += counts[ox];
        ++listed_rows;
        ++run;
        run_end = ox + 1;
      }
      finish_run();
    }
    if (whole > 0) finish_whole(s, 0, whole_rows, whole);
    s.last_.macs += elements * columns();
    return whole_cost() * static_cast<double>(wholes) + around * static_cast<double>(listed_rows) +
           of_element * static_cast<double>(elements * changed_bytes::row_columns(columns()) / 32);
  }
  /// The epilogue of rows side by side whose sums are kept.
  POLYMAC_NOINLINE void finish_kept(state& s, std::size_t row, std::size_t count) const noexcept {
    const std::size_t stride = sum_stride();
    kernel::finish<typename atom::isa>(
        insides::stages(inner_), matrix_view<output>(s.outputs_.data() + row * out_channels(), count, out_channels()),
        s.sums_.data() + row * stride, stride, {0, count, 0, columns(), 0});
  }

  /// k of a sum that the user knows of.
  constexpr std::size_t real_depth() const noexcept {
    if constexpr (slides)
      return taps().kernel.height * taps().kernel.width * insides::channels(inner_);
    else
      return in_channels();
  }

  std::size_t image_elements(const state& s) const noexcept {
    const extent2d frame = s.frame_extent();
    return frame.height * frame.width * s.shape_.frame_channels;
  }
  /// The first pixel of a line of image n that is no padding, as a pixel of the frame.
  std::size_t first_pixel(const state& s, std::size_t y) const noexcept {
    return (s.shape_.padding.top + y) * s.frame_extent().width + s.shape_.padding.left;
  }
  activation* interior(state& s, std::size_t n, std::size_t y) const noexcept {
    return s.frames_memory_.data() + n * image_elements(s) + first_pixel(s, y) * s.shape_.frame_channels;
  }
  void transmit_all(const image_view<const activation>& x, std::size_t n, state& s) const noexcept {
    const std::size_t held = s.shape_.frame_channels;
    const bool dense = x.pixel_stride == x.channels && held == x.channels;
    for (std::size_t y = 0; y < x.height; ++y) {
      activation* const to = interior(s, n, y);
      for (std::size_t i = 0; i < (dense ? 1 : x.width); ++i)
        std::memcpy(static_cast<void*>(to + i * held), x.pixel(n, y, i),
                    (dense ? x.width : 1) * x.channels * sizeof(activation));
    }
  }
  /// Brings the reference up to x where they differ by more than the threshold, and marks those pixels.
  void transmit_changes(const image_view<const activation>& x, std::size_t n, state& s) const noexcept {
    const std::size_t channels = x.channels, held = s.shape_.frame_channels;
    const bool dense = x.pixel_stride == channels && held == channels;
    for (std::size_t y = 0; y < x.height; ++y) {
      activation* const reference = interior(s, n, y);
      std::uint8_t* const marks = s.marks_.data() + first_pixel(s, y);
      std::uint8_t any = 0;
      if (dense)
        any = transmit(x.pixel(n, y, 0), reference, channels, x.width * channels, s.threshold_, marks);
      else
        for (std::size_t i = 0; i < x.width; ++i)
          any |= transmit(x.pixel(n, y, i), reference + i * held, channels, channels, s.threshold_, marks + i);
      s.lines_[s.shape_.padding.top + y] = any;
    }
  }
  /// The same for `count` elements of neighbouring pixels; was there anything?
  static std::uint8_t transmit(const activation* from, activation* to, std::size_t channels, std::size_t count,
                               typename state::threshold_type threshold, std::uint8_t* marks) noexcept {
    std::uint8_t any = 0;
    constexpr bool bytes = sizeof(activation) == 1 && std::is_integral_v<activation>;
    if constexpr (bytes && grain != policy::grain::pixel) {
      // Elements, or fours of them, 64 at a time.
      constexpr std::size_t most = kernel::detail::compared_at_once;
      if (threshold > 255) return 0;
      if (grain == policy::grain::element || channels % 4 == 0) {
        std::size_t pixel = 0, end_of_pixel = channels;
        for (std::size_t i = 0; i < count; i += most) {
          const std::size_t here = polymac::detail::smaller(count - i, most);
          std::uint64_t bits = isa::bytes_that_differ(from + i, to + i, here, static_cast<std::uint8_t>(threshold));
          if (bits == 0) continue;
          if constexpr (grain == policy::grain::group) bits = isa::fours_of(bits);
          isa::replace_bytes(from + i, to + i, here, bits);
          any = 1;
          while (end_of_pixel <= i) end_of_pixel += channels, ++pixel;
          for (std::size_t p = pixel, end = end_of_pixel, begin = i;; ++p, begin = end, end += channels) {
            const std::size_t last = polymac::detail::smaller(end, i + here);
            const std::size_t width = last - begin;
            const std::uint64_t mask = width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
            marks[p] |= ((bits >> (begin - i)) & mask) != 0 ? 1 : 0;
            if (end >= i + here) break;
          }
        }
        return any;
      }
    }
    kernel::for_each_change(from, to, count, threshold, [&](std::size_t i) {
      const std::size_t at = i / channels;
      marks[at] = any = 1;
      std::size_t first = i, end = i + 1;
      if constexpr (grain == policy::grain::pixel) {
        first = at * channels;
        end = first + channels;
      } else if constexpr (grain == policy::grain::group) {
        first = i - (i - at * channels) % 4;
        end = polymac::detail::smaller(first + 4, (at + 1) * channels);
      }
      kernel::detail::copy_elements(to + first, from + first, end - first);
      return end;
    });
    return any;
  }

  /// How the groups in the lists are multiplied.
  enum class way : unsigned char {
    whole,             ///< there are no lists
    ones,              ///< their activations, and nothing else: zeros add nothing
    own_differences,   ///< the same by the product of differences, as differences from 0
    zero_differences,  ///< differences from zero points
    differences,       ///< from what they were
    pairs              ///< what they are, less what they were
  };
  static constexpr bool has_differences = !std::is_void_v<isa::difference_of<atom>>;
  constexpr bool has_zero_at_0() const noexcept {
    if constexpr (std::is_integral_v<activation>)
      return insides::zero_point(inner_) == activation{};
    else
      return true;
  }
  constexpr bool zeros_add_nothing() const noexcept {
    if constexpr (std::is_integral_v<activation>)
      return atom::activation_offset == 0 && has_zero_at_0();
    else
      return true;
  }
  static constexpr double entry_cost(way how) noexcept { return how == way::pairs ? costs::pair : costs::entry; }

  /// Calls list(pixel's first activation, its number in the frame, where its list begins) for pixels of image n, those that
  /// are marked or all, and notes what it returns, the end of the list. Marks tell afterwards which lists are not empty.
  template <bool Marked, class List>
  void list_pixels(state& s, std::size_t n, const List& list) const noexcept {
    const std::size_t held = s.shape_.frame_channels;
    policy::live_group* to = s.pixel_groups_.data();
    for (std::size_t y = 0; y < s.shape_.input.height; ++y) {
      std::uint8_t& line = s.lines_[s.shape_.padding.top + y];
      if (Marked && !line) continue;
      const std::size_t first = first_pixel(s, y);
      const activation* at = interior(s, n, y);
      std::uint8_t any = 0;
      for (std::size_t p = first; p < first + s.shape_.input.width; ++p, at += held) {
        if (Marked && !s.marks_[p]) continue;
        typename state::pixel_list& of = s.lists_[p];
        of.groups = to;
        of.sum = 0;
        to = list(at, p, to, of.sum);
        of.count = static_cast<std::uint32_t>(to - of.groups);
        const std::uint8_t mark = of.count > 0 ? 1 : 0;
        s.marks_[p] = mark;
        any |= mark;
      }
      line = any;
    }
  }
  /// Lists the groups of pixels that differ from before(pixel), null for 0, and their differences; false where one is no
  /// signed byte.
  template <bool Marked, class Before>
  bool list_differences(state& s, std::size_t n, const Before& before) const noexcept requires has_differences {
    const std::size_t depth = weights().group_depth(), held = s.shape_.frame_channels, all = held / depth;
    bool fit = true;
    list_pixels<Marked>(s, n, [&](const activation* at, std::size_t p, policy::live_group* to, std::int32_t& total) {
      isa::byte_differences found;
      to = found.list(at, before(at), all, depth, {0, 0}, s.differences_.data() + p * held, to);
      fit = fit && found.fit();
      total = found.sum();
      return to;
    });
    return fit;
  }
  /// Lists the groups of every pixel that are not zero points.
  way list_zeros(state& s, std::size_t n) const noexcept {
    const std::size_t depth = weights().group_depth(), all = s.shape_.frame_channels / depth;
    if (zeros_add_nothing()) {
      list_pixels<false>(s, n, [&](const activation* at, std::size_t, policy::live_group* to, std::int32_t&) {
        return isa::list_live(at, all, depth, {0, 0}, to);
      });
      return way::ones;
    }
    if constexpr (has_differences) {
      const bool own = std::is_same_v<activation, std::int8_t> && has_zero_at_0();
      const activation* const before = own ? nullptr : s.zero_pixel_.data();
      if (list_differences<false>(s, n, [&](const activation*) { return before; }))
        return own ? way::own_differences : way::zero_differences;
    }
    return way::whole;
  }
  /// Lists the groups of every marked pixel that are not what they were.
  way list_changes(state& s, std::size_t n) const noexcept {
    const std::size_t depth = weights().group_depth(), all = s.shape_.frame_channels / depth;
    const auto distance = static_cast<std::ptrdiff_t>(s.frames_size_);
    if constexpr (has_differences)
      if (list_differences<true>(s, n, [&](const activation* at) { return at + distance; })) return way::differences;
    list_pixels<true>(s, n, [&](const activation* at, std::size_t, policy::live_group* to, std::int32_t&) {
      return isa::list_changed(at, at + distance, all, depth, {0, 0}, to);
    });
    return way::pairs;
  }
  void fill_zero_rows(state& s, std::size_t n) const noexcept {
    const std::size_t rows = s.shape_.output.height * s.shape_.output.width;
    output* to = s.outputs_.data() + n * rows * out_channels();
    for (std::size_t r = 0; r < rows; ++r, to += out_channels())
      std::memcpy(static_cast<void*>(to), zero_outputs_.data(), out_channels() * sizeof(output));
    if (keeps_sums())
      for (std::size_t r = n * rows; r < (n + 1) * rows; ++r)
        std::memcpy(static_cast<void*>(s.sums_.data() + r * sum_stride()), zero_sums_.data(),
                    sum_stride() * sizeof(accumulator));
  }

  /// Is the dense layer faster? Where nearly all rows are asked for; with zeros, by what lists of some rows cost.
  bool whole_is_better(const state& s, std::size_t count, way how) const noexcept {
    const std::size_t rows = s.shape_.output.height * s.shape_.output.width;
    if (forced) return false;
    const double dense = dense_cost() * static_cast<double>(rows);
    if (how == way::whole) return whole_cost() * static_cast<double>(count) >= 0.95 * dense;
    if (count == 0) return false;
    const std::size_t every = count / 64 + 1;
    const kernel::window_lists of(windows(s.frame_extent()), s.frame_extent().width, weights().group_depth());
    double cost = 0;
    std::size_t looked_at = 0;
    for (std::size_t i = 0; i < count; i += every, ++looked_at) {
      const double by_list = listed_cost(live_groups(s, of, s.pixels_[i]), entry_cost(how));
      cost += by_list < whole_cost() ? by_list : whole_cost();
    }
    return cost * static_cast<double>(count) / static_cast<double>(looked_at) + listing_cost(s) >= 0.95 * dense;
  }
  /// Cycles that listing all pixels takes.
  double listing_cost(const state& s) const noexcept {
    const double of_pixel =
        costs::listed_pixel + costs::listed_byte * static_cast<double>(s.shape_.frame_channels * sizeof(activation));
    return of_pixel * static_cast<double>(s.shape_.input.height * s.shape_.input.width);
  }
  /// Groups in the lists of a window's pixels.
  std::size_t live_groups(const state& s, const kernel::window_lists& of,
                          const kernel::listed_pixel& row) const noexcept {
    std::size_t count = 0;
    of.for_each_live(s.marks_.data(), row.pixel,
                     [&](std::size_t pixel, const policy::live_group&) { count += s.lists_[pixel].count; });
    return count;
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
      return inner_({x.data, rows, in_channels(), x.pixel_stride}, {to, rows, out_channels()});
    }
  }

  /// What sums of lists are added to.
  enum class basis : unsigned char { nothing, sums, zeros };
  /// Rows whose lists are added up together; the lists lie one behind the other.
  template <class A>
  struct listed_batch {
    kernel::listed_row<typename A::activation> rows[most_listed];
    std::size_t row[most_listed];           ///< the output
    std::int32_t differences[most_listed];  ///< their sum
    std::size_t count = 0;
    policy::live_group* end;
  };

  /// Computes `count` listed pixels of image n; returns what that is predicted to cost.
  template <class A>
  double compute(state& s, std::size_t n, std::size_t count, way how) const noexcept {
    double cost = 0;
    const extent2d frame = s.frame_extent();
    const std::size_t depth = window_elements(), first_row = n * s.shape_.output.height * s.shape_.output.width;
    const auto copy = windows(frame);
    for (std::size_t g = 0; g < sets(); ++g) {
      const activation* const now = s.frames_memory_.data() + n * image_elements(s) + g * copy.channels;
      std::size_t whole_rows[most_whole];
      std::size_t whole = 0;
      const auto take_whole = [&](const kernel::listed_pixel& pixel) {
        copy.copy(now + pixel.pixel * copy.pixel, s.whole_.data() + whole * depth);
        whole_rows[whole++] = first_row + pixel.row;
        if (whole == most_whole) finish_whole(s, g, whole_rows, std::exchange(whole, 0));
      };
      if (how == way::whole) {
        for (std::size_t i = 0; i < count; ++i) take_whole(s.pixels_[i]);
      } else if constexpr (lists) {
        const auto distance = static_cast<std::ptrdiff_t>(s.frames_size_);
        const auto by_list = [&](auto rows, auto type, const auto* frame_of_rows, basis on) {
          using B = typename decltype(type)::type;
          cost += compute_lists<rows, B>(s, count, first_row, how, on, frame_of_rows, distance, take_whole);
        };
        constexpr std::integral_constant<std::size_t, 1> one{};
        constexpr std::integral_constant<std::size_t, 2> two{};
        if constexpr (has_differences) {
          using D = isa::difference_of<A>;
          if (how == way::differences) by_list(one, std::type_identity<D>{}, s.differences_.data(), basis::sums);
          if (how == way::zero_differences) by_list(one, std::type_identity<D>{}, s.differences_.data(), basis::zeros);
          if constexpr (std::is_same_v<activation, std::int8_t>)
            if (how == way::own_differences) by_list(one, std::type_identity<D>{}, now, basis::zeros);
        }
        if (how == way::ones) by_list(one, std::type_identity<A>{}, now, basis::nothing);
        if (how == way::pairs) by_list(two, std::type_identity<A>{}, now, basis::sums);
      }
      if (whole > 0) finish_whole(s, g, whole_rows, whole);
    }
    return cost;
  }
  /// The same where pixels have lists: rows whose lists are short by them, the others by take_whole.
  template <std::size_t Rows, class A, class TakeWhole>
  double compute_lists(state& s, std::size_t count, std::size_t first_row, way how, basis on,
                       const typename A::activation* frame, std::ptrdiff_t distance,
                       const TakeWhole& take_whole) const noexcept {
    const auto copy = windows(s.frame_extent());
    const std::size_t depth = weights().group_depth(), capacity = list_capacity();
    const kernel::window_lists windows_of_pixels(copy, s.frame_extent().width, depth);
    const std::size_t most = forced ? groups() : most_entries(entry_cost(how));
    std::size_t wholes = 0, listed_rows = 0;
    const bool one_tap = copy.taps.kernel == extent2d{1, 1};
    const std::size_t held = s.shape_.frame_channels;
    listed_batch<A> batch;
    batch.end = s.groups_.data();
    std::size_t entries = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const kernel::listed_pixel& pixel = s.pixels_[i];
      if (batch.count == most_listed ||
          static_cast<std::size_t>(batch.end - s.groups_.data()) + groups() + isa::list_slack > capacity)
        finish_listed<Rows, A>(s, batch, on, distance);
      const policy::live_group* list = batch.end;
      std::size_t live = 0;
      std::int32_t change = 0;
      if (one_tap) {
        const auto& of = s.lists_[pixel.pixel];
        list = of.groups;
        live = of.count;
        change = of.sum;
      } else {
        policy::live_group* to = batch.end;
        windows_of_pixels.for_each_live(s.marks_.data(), pixel.pixel,
                                        [&](std::size_t number, const policy::live_group& by) POLYMAC_INLINE_LAMBDA {
                                          const auto& of = s.lists_[number];
                                          to = isa::copy_list(of.groups, of.count, by, to);
                                          change += of.sum;
                                        });
        live = static_cast<std::size_t>(to - batch.end);
      }
      if (live == 0 && on == basis::sums) continue;
      if (live > most) {
        take_whole(pixel);
        ++wholes;
        continue;
      }
      ++listed_rows;
      batch.rows[batch.count] = {frame + pixel.pixel * held, list, static_cast<std::uint32_t>(live),
                                 static_cast<std::uint32_t>(batch.count)};
      batch.row[batch.count] = first_row + pixel.row;
      batch.differences[batch.count++] = change;
      if (!one_tap) batch.end += live;
      entries += live;
    }
    s.last_.macs += entries * depth * columns() * Rows;
    finish_listed<Rows, A>(s, batch, on, distance);
    const double of_rows = listed_cost(0, 0) * static_cast<double>(listed_rows),
                 of_entries = entry_cost(how) * static_cast<double>(entries * weights().panels());
    return of_rows + of_entries + whole_cost() * static_cast<double>(wholes);
  }

  /// Adds up a batch of lists, and brings the rows to the outputs.
  template <std::size_t Rows, class A>
  POLYMAC_NOINLINE void finish_listed(state& s, listed_batch<A>& batch, basis on,
                                      std::ptrdiff_t distance) const noexcept {
    batch.end = s.groups_.data();
    const std::size_t stride = sum_stride(), count = std::exchange(batch.count, 0);
    if (count == 0) return;
    accumulator* const sums = s.row_sums_.data();
    // Sums that are added to others begin at 0.
    kernel::add_up_rows<A, Rows>(weights(), 0, batch.rows, count, sums, stride,
                                 on == basis::nothing ? nullptr : zeros_.data(), distance);
    if (on != basis::nothing)
      for (std::size_t i = 0; i < count; ++i) {
        const accumulator* const base = on == basis::sums ? s.sums_.data() + batch.row[i] * stride : zero_sums_.data();
        accumulator* const to = sums + i * stride;
        const accumulator* const more = sums + Rows * i * stride;
        accumulator surplus{};
        if constexpr (requires { A::surplus; }) surplus = static_cast<accumulator>(A::surplus * batch.differences[i]);
        for (std::size_t c = 0; c < stride; ++c) {
          accumulator change = more[c];
          if constexpr (Rows == 2) change = subtract(change, more[stride + c]);
          to[c] = add(base[c], subtract(change, surplus));
        }
      }
    finish_sums(s, 0, batch.row, count, sums, stride);
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
        std::memcpy(static_cast<void*>(s.sums_.data() + rows[i] * sum_stride()), sums + i * stride,
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
    if (s.frames_memory_.size() == s.frames_size_) return;
    const extent2d frame = s.frame_extent();
    const std::size_t line = frame.width * s.shape_.frame_channels;
    activation* const now = s.frames_memory_.data() + n * image_elements(s);
    for (std::size_t y = 0; y < frame.height; ++y)
      if (all || s.lines_[y])
        std::memcpy(static_cast<void*>(now + s.frames_size_ + y * line), now + y * line, line * sizeof(activation));
  }

  Inner inner_;
  std::uint64_t identity_ = 0;
  polymac::status status_;
  buffer<std::int8_t> element_rows_;  ///< weights as rows of k, where elements are listed
  buffer<accumulator> zero_sums_;     ///< of windows that hold zero points only
  buffer<accumulator> zeros_;         ///< of all panels of a tile
  buffer<output> zero_outputs_;
};

namespace detail {

/// What tells layers apart: their policies and bias; weights are added.
template <class M, class P, class Bias>
signature identity_of(const Bias& bias) noexcept {
  signature s;
  s.add_text(M::name);
  s.add_text(P::name);
  for (const auto& b : bias) s.add(b);
  return s;
}

}  // namespace detail

}  // namespace layer

/// Builds a layer::streamed around a conv2d:
/// `conv2d<mac::uint8, policy::delta<4>>({.padding = same}, weights, bias, stages)`,
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
