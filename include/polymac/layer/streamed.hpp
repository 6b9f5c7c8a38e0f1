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
#include "polymac/kernel/changed_elements.hpp"
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

/// What rows cost, in cycles: measured on Zen 4 (bench/sparsity_streams.cpp), of other sets a model. An entry of a list is a
/// product of one row, and loads weights that a tile loads for all of its rows.
template <class Atom>
struct row_costs {
  static constexpr double products_of_cycle = [] {
    constexpr std::size_t size = sizeof(typename Atom::activation);
    const double bytes = isa::detail::reaches<typename Atom::isa, isa::avx512>()     ? 64
                         : isa::detail::reaches<typename Atom::isa, isa::avx_vnni>() ? 64
                         : isa::detail::reaches<typename Atom::isa, isa::avx2>()     ? 24
                         : isa::detail::reaches<typename Atom::isa, isa::neon>()     ? 16
                                                                                     : 1;
    return bytes / static_cast<double>(size);
  }();
  /// Of a group of k beside one panel, in a tile of rows.
  static constexpr double group = static_cast<double>(Atom::columns * Atom::depth) / products_of_cycle;
  static constexpr double entry = 1.25 * group, pair = 2.25 * group;
  static constexpr double listed_row = 45;                                        ///< sums, beside those of a tile
  static constexpr double copied_line = 3, compared_line = 7, compared_row = 60;  ///< lines of 64 bytes
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
  /// May elements be listed one by one (kernel/changed_elements.hpp)? Bytes whose sums are kept, beside dense weights of a
  /// convolution.
  using changed_bytes = isa::best_changed_bytes<typename atom::isa>;
  static constexpr bool may_list_elements = [] {
    if constexpr (has_delta && slides && wants_sums && !std::is_void_v<changed_bytes> && std::is_integral_v<activation>)
      return grain == policy::grain::element && sizeof(activation) == 1 &&
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
  static constexpr std::size_t most_listed = 64, most_pairs = 4;
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
    const std::size_t filled = polymac::detail::round_up(weights().panels() * weights().panel_columns(), std::size_t{16});
    if constexpr (may_list_elements)
      if (element_rows_.size() > 0) return polymac::detail::greater(filled, changed_bytes::row_columns(columns()));
    return filled;
  }
  /// Entries of the lists of a batch: of most_listed rows of which a third lives, and at least of one row.
  constexpr std::size_t list_capacity() const noexcept {
    return most_listed * (groups() / 3 + isa::list_slack) + groups() + isa::list_slack;
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
  /// Cycles of a row whose list has so many entries, and of a whole one.
  constexpr double listed_cost(std::size_t entries, double of_entry) const noexcept {
    return costs::listed_row + static_cast<double>(entries * weights().panels()) * of_entry;
  }
  constexpr double whole_cost() const noexcept {
    return static_cast<double>(groups() * weights().panels()) * costs::group + costs::copied_line * window_lines();
  }
  constexpr double window_lines() const noexcept {
    return static_cast<double>(window_elements() * sizeof(activation)) / 64;
  }
  constexpr std::size_t percent_of_break_even() const noexcept {
    const double of_all = listed_cost(groups(), costs::entry) - costs::listed_row;
    const double percent = of_all > 0 ? 100 * (whole_cost() - costs::listed_row) / of_all : 0;
    return percent > 100 ? 100 : percent > 0 ? static_cast<std::size_t>(percent) : 0;
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
    if (sets() != 1 || !keeps_sums() || weights().groups() != weights().term_groups() ||
        taps().dilation.width != 1)
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
    bool by_elements = false;
    if constexpr (may_list_elements) by_elements = element_rows_.size() > 0 && frame.width * channels <= 65535;
    if (keeps_sums()) {
      resize(s.sums_, batch * rows * sets() * stride);
      if (!by_elements) resize(s.before_, batch * pixels * channels);
    }
    if (by_elements) {
      resize(s.changed_places_, frame.height * (frame.width * channels + isa::change_slack));
      resize(s.changed_differences_, frame.height * (frame.width * channels + isa::change_slack));
      resize(s.changed_first_, frame.height * (frame.width + 1));
      resize(s.changed_counts_, geometry.output.width);
      resize(s.changed_stretches_, taps().kernel.height);
      for (std::size_t i = 0; i < s.changed_first_.size(); ++i) s.changed_first_[i] = 0;  // lines of padding stay so
    }
    if (uses_lists() && (keeps_sums() || skips_zeros)) {
      resize(s.before_row_, depth);
      resize(s.listed_, (most_listed + 2 * most_pairs + 1) * depth);
      resize(s.differences_, most_listed * (depth + isa::difference_slack));
      resize(s.groups_, 3 * list_capacity());
    }
    if (uses_lists())
      resize(s.row_sums_,
             polymac::detail::greater(most_whole, most_listed) * polymac::detail::greater(stride, sets() * columns()) +
                 16);
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
      if constexpr (may_list_elements)
        if (s.changed_places_.size() > 0 && (!all || skips_zeros)) {
          run_elements(x, n, s, all);
          continue;
        }
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
  kernel::changed_line changes_of(state& s, std::size_t line) const noexcept {
    const extent2d frame = s.frame_extent();
    const std::size_t elements = frame.width * s.shape_.channels + isa::change_slack;
    return {s.changed_places_.data() + line * elements, s.changed_differences_.data() + line * elements,
            s.changed_first_.data() + line * (frame.width + 1)};
  }
  /// Lists the elements that have changed, and adds their products to the sums that read them. `all`: from an image of
  /// zero points on, of which the sums are known.
  void run_elements(const image_view<const activation>& x, std::size_t n, state& s, bool all) const noexcept {
    const auto& h = s.shape_;
    const extent2d frame = s.frame_extent();
    const std::size_t rows = h.output.height * h.output.width, stride = sum_stride();
    if constexpr (skips_zeros)
      if (all) {
        const std::size_t line = x.width * x.channels;
        for (std::size_t y = 0; y < x.height; ++y)
          kernel::detail::fill_elements(interior(s, n, y), insides::zero_point(inner_), line);
        for (std::size_t r = 0; r < rows; ++r)
          std::memcpy(static_cast<void*>(s.sums_.data() + (n * rows + r) * stride), zero_sums_.data(),
                      stride * sizeof(accumulator));
        fill_zero_rows(s, n);
      }
    bool fits = true;
    for (std::size_t y = 0; y < x.height; ++y) {
      const kernel::changed_line to = changes_of(s, h.padding.top + y);
      fits = kernel::list_changes<changed_bytes>(x.pixel(n, y, 0), x.pixel_stride, interior(s, n, y), x.width,
                                                 x.channels, all ? 0 : s.threshold_, h.padding.left, frame.width, to) &&
             fits;
    }
    with_atom([&](auto a) {
      using packed_for = typename decltype(a)::type;
      if (fits) return add_elements<packed_for>(s, n);
      kernel::list_all_outputs(frame, x.channels, taps(), h.output, s.pixels_.data());
      compute<packed_for>(s, n, rows, true);
      s.last_.rows += rows;
    });
  }
  template <class A>
  void add_elements(state& s, std::size_t n) const noexcept {
    const auto& h = s.shape_;
    const extent2d frame = s.frame_extent();
    const window w = taps();
    const std::size_t stride = sum_stride(), depth = window_elements(), channels = h.channels;
    const auto line_depth = static_cast<std::ptrdiff_t>(w.kernel.width * channels);
    const auto copy = windows(frame);
    const activation* const image = s.reference_.data() + n * frame.height * frame.width * channels;
    // Cycles of a row: around its elements, and of each of them for 32 columns (Zen 4).
    constexpr double around = 60, of_element = 1.25;
    const double limit =
        (whole_cost() - around) / (of_element * static_cast<double>(changed_bytes::row_columns(columns()) / 32));
    const auto most = static_cast<std::uint32_t>(limit > 0 ? limit : 0);
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
      kernel::listed_pixel* const end = kernel::list_dirty(dirty, h.output.width, 0, 0, w.stride.width, s.pixels_.data());
      s.last_.rows += static_cast<std::size_t>(end - s.pixels_.data());
      std::size_t run = 0, run_end = 0;  // rows whose sums have changed and that wait for their epilogue
      const auto finish_run = [&] {
        if (run > 0) finish_kept(s, first_row + run_end - run, run);
        run = 0;
      };
      for (const kernel::listed_pixel* pixel = s.pixels_.data(); pixel != end; ++pixel) {
        const std::size_t ox = pixel->row, at = pixel->at;
        if (ox != run_end) finish_run();
        if (counts[ox] > most) {
          finish_run();
          copy.copy(image + (oy * w.stride.height * frame.width + at) * channels, s.whole_.data() + whole * depth);
          whole_rows[whole++] = first_row + ox;
          if (whole == most_whole) finish_whole<A>(s, 0, whole_rows, std::exchange(whole, 0));
          continue;
        }
        for (std::size_t ky = 0; ky < w.kernel.height; ++ky) {
          const kernel::changed_line line = changes_of(s, oy * w.stride.height + ky * w.dilation.height);
          s.changed_stretches_[ky] = {line.places + line.first[at], line.differences + line.first[at],
                                      line.first[at + w.kernel.width] - line.first[at],
                                      static_cast<std::ptrdiff_t>(ky) * line_depth -
                                          static_cast<std::ptrdiff_t>(at * channels)};
        }
        changed_bytes::add(element_rows_.data(), real_depth(), columns(), s.changed_stretches_.data(), w.kernel.height,
                           s.sums_.data() + (first_row + ox) * stride);
        s.last_.macs += counts[ox] * columns();
        ++run;
        run_end = ox + 1;
      }
      finish_run();
    }
    if (whole > 0) finish_whole<A>(s, 0, whole_rows, whole);
  }
  /// The epilogue of rows side by side whose sums are kept.
  POLYMAC_NOINLINE void finish_kept(state& s, std::size_t row, std::size_t count) const noexcept {
    const std::size_t stride = sum_stride();
    kernel::finish<typename atom::isa>(insides::stages(inner_),
                                       matrix_view<output>(s.outputs_.data() + row * out_channels(), count, out_channels()),
                                       s.sums_.data() + row * stride, stride, {0, count, 0, columns(), 0});
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
    if (keeps_sums()) return false;
    if (!skips_zeros || !uses_lists()) return 20 * count >= 19 * rows;
    if (count == 0) return false;
    const double listing = costs::compared_row + costs::compared_line * window_lines();
    const extent2d frame = s.frame_extent();
    const auto copy = windows(frame);
    const auto parts_of_window = pieces(copy);
    const activation* const image = s.reference_.data() + n * frame.height * frame.width * s.shape_.channels;
    const std::size_t every = count / 32 + 1;
    if (!zeros_add_nothing()) fill_zero_window(copy, s.before_row_.data());
    double cost = 0;
    std::size_t looked_at = 0;
    for (std::size_t i = 0; i < count; i += every, ++looked_at) {
      const activation* window = image + s.pixels_[i].at;
      if (!parts_of_window.in_place) {
        copy.copy(window, s.whole_.data());
        window = s.whole_.data();
      }
      const auto live =
          static_cast<std::size_t>(list_live(s, parts_of_window, window, s.groups_.data()) - s.groups_.data());
      const double by_list = listed_cost(live, entry_cost());
      cost += listing + (by_list < whole_cost() ? by_list : whole_cost());
    }
    return cost * static_cast<double>(count) >= 0.95 * whole_cost() * static_cast<double>(looked_at * rows);
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
  constexpr double entry_cost() const noexcept {
    return zeros_add_nothing() || has_differences ? costs::entry : costs::pair;
  }
  static constexpr bool has_differences = !std::is_void_v<isa::difference_of<atom>>;

  /// Which row a listed one makes, and what its sums are added to.
  enum class basis : unsigned char { nothing, sums, zeros };
  struct listed {
    std::size_t row;
    std::int32_t difference;  ///< the sum of differences
    basis on;
  };
  /// Rows whose lists are added up together; the lists lie one behind the other.
  template <class A>
  struct listed_batch {
    using row_activation = typename A::activation;
    kernel::listed_row<row_activation> rows[most_listed];
    listed what[most_listed];
    std::size_t count = 0, most = most_listed;
    policy::live_group* lists = nullptr;
    policy::live_group* end = nullptr;
    row_activation* memory = nullptr;
    std::size_t distance = 0;  ///< of two rows in that memory

    /// Is there no room for a row of so many groups?
    bool is_full(std::size_t groups, std::size_t capacity) const noexcept {
      return count == most || static_cast<std::size_t>(end - lists) + groups + isa::list_slack > capacity;
    }
    row_activation* held() const noexcept { return memory + count * distance; }
    void take(const row_activation* first, policy::live_group* list_end, const listed& of) noexcept {
      rows[count] = {first, end, static_cast<std::uint32_t>(list_end - end), static_cast<std::uint32_t>(count)};
      what[count++] = of;
      end = list_end;
    }
  };
  template <class A>
  struct listed_batches {
    using D = std::conditional_t<std::is_void_v<isa::difference_of<A>>, A, isa::difference_of<A>>;
    listed_batch<A> ones, pairs;
    listed_batch<D> differences;
  };

  /// A window as stretches whose groups are listed: those of the lines of the kernel, in the frame, or where groups would not be
  /// the ones of the weights, one of a copy.
  struct window_pieces {
    bool in_place;
    std::size_t count, groups;    ///< stretches, and groups of each
    std::size_t distance;         ///< of two stretches, in activations
    std::size_t packed_distance;  ///< and in a copy of the window
    std::size_t packed_groups;    ///< groups of the weights from stretch to stretch
  };
  constexpr window_pieces pieces(const kernel::framed_windows& copy) const noexcept {
    const std::size_t group_depth = weights().group_depth(), line = copy.taps.kernel.width * copy.channels;
    const bool in_place = copy.one_piece && line % group_depth == 0 && copy.line_depth % group_depth == 0;
    if (!in_place) return {false, 1, groups(), 0, 0, 0};
    return {true,
            copy.taps.kernel.height,
            line / group_depth,
            copy.taps.dilation.height * copy.line,
            copy.line_depth,
            copy.line_depth / group_depth};
  }
  /// Calls f(offset of the stretch, offset in a copy, its first group) for every stretch of a window.
  template <class Function>
  static POLYMAC_INLINE void for_each_piece(const window_pieces& p, const Function& f) noexcept {
    for (std::size_t i = 0; i < p.count; ++i)
      f(i * p.distance, i * p.packed_distance, static_cast<std::uint32_t>(i * p.packed_groups));
  }

  /// Computes `count` listed pixels of image n.
  template <class A>
  void compute(state& s, std::size_t n, std::size_t count, bool all) const noexcept {
    const extent2d frame = s.frame_extent();
    const std::size_t image = frame.height * frame.width * s.shape_.channels, depth = window_elements();
    const std::size_t first_row = n * s.shape_.output.height * s.shape_.output.width;
    const auto copy = windows(frame);
    const bool compares = keeps_sums() && !all, by_list = uses_lists() && (compares || skips_zeros);
    for (std::size_t g = 0; g < sets(); ++g) {
      const activation* const now = s.reference_.data() + n * image + g * copy.channels;
      std::size_t whole_rows[most_whole];
      std::size_t whole = 0;
      const auto take_whole = [&](const kernel::listed_pixel& pixel) {
        copy.copy(now + pixel.at, s.whole_.data() + whole * depth);
        whole_rows[whole++] = first_row + pixel.row;
        if (whole == most_whole) finish_whole<A>(s, g, whole_rows, std::exchange(whole, 0));
      };
      if (!by_list) {
        for (std::size_t i = 0; i < count; ++i) take_whole(s.pixels_[i]);
      } else if constexpr (lists) {
        const activation* const then = compares ? s.before_.data() + n * image + g * copy.channels : nullptr;
        const auto parts_of_window = pieces(copy);
        listed_batches<A> batches;
        set_up(s, batches);
        if (skips_zeros && !zeros_add_nothing()) fill_zero_window(copy, s.before_row_.data());
        for (std::size_t i = 0; i < count; ++i) {
          const auto& pixel = s.pixels_[i];
          if (!take_list<A>(s, g, first_row + pixel.row, now + pixel.at, then != nullptr ? then + pixel.at : nullptr,
                            copy, parts_of_window, batches))
            take_whole(pixel);
        }
        finish_listed<1, A>(s, g, batches.ones);
        finish_listed<2, A>(s, g, batches.pairs);
        finish_listed<1, typename listed_batches<A>::D>(s, g, batches.differences);
      }
      if (whole > 0) finish_whole<A>(s, g, whole_rows, whole);
    }
    if (keeps_sums()) bring_up(s, n, all);
  }
  template <class Batches>
  void set_up(state& s, Batches& b) const noexcept {
    const std::size_t depth = window_elements(), capacity = list_capacity();
    b.ones.lists = b.ones.end = s.groups_.data();
    b.pairs.lists = b.pairs.end = b.ones.lists + capacity;
    b.differences.lists = b.differences.end = b.pairs.lists + capacity;
    b.ones.memory = s.listed_.data();
    b.ones.distance = depth;
    b.pairs.memory = s.listed_.data() + most_listed * depth;
    b.pairs.distance = 2 * depth;
    b.pairs.most = most_pairs;
    if constexpr (has_differences) {
      b.differences.memory = s.differences_.data();
      b.differences.distance = depth + isa::difference_slack;
    }
  }

  /// A window of zero points, as windows are copied.
  void fill_zero_window(const kernel::framed_windows& copy, activation* to) const noexcept {
    const activation zero = insides::zero_point(inner_);
    for (std::size_t ky = 0; ky < copy.taps.kernel.height; ++ky, to += copy.line_depth)
      for (std::size_t kx = 0; kx < copy.taps.kernel.width; ++kx)
        kernel::detail::fill_elements(to + kx * copy.filled_channels, zero, copy.channels);
  }
  /// Lists the groups of a window that are not zero points; returns the end of the list.
  policy::live_group* list_live(const state& s, const window_pieces& p, const activation* window,
                                policy::live_group* to) const noexcept {
    const std::size_t depth = weights().group_depth();
    const bool zero_is_0 = has_zero_at_0();
    for_each_piece(p, [&](std::size_t at, std::size_t packed, std::uint32_t group) {
      const policy::live_group first{static_cast<std::uint32_t>(at), group};
      to = zero_is_0 ? isa::list_live(window + at, p.groups, depth, first, to)
                     : isa::list_changed(window + at, s.before_row_.data() + packed, p.groups, depth, first, to);
    });
    return to;
  }
  constexpr bool has_zero_at_0() const noexcept {
    if constexpr (std::is_integral_v<activation>)
      return insides::zero_point(inner_) == activation{};
    else
      return true;
  }

  /// Puts a window into the batch where it is least work; false: it is better computed whole.
  template <class A>
  POLYMAC_INLINE bool take_list(state& s, std::size_t g, std::size_t row, const activation* window,
                                const activation* then, const kernel::framed_windows& copy, const window_pieces& p,
                                listed_batches<A>& b) const noexcept {
    using D = typename listed_batches<A>::D;
    const std::size_t depth = window_elements(), group_depth = weights().group_depth();
    const std::size_t capacity = list_capacity();
    if (b.ones.is_full(groups(), capacity)) finish_listed<1, A>(s, g, b.ones);
    if (b.pairs.is_full(groups(), capacity)) finish_listed<2, A>(s, g, b.pairs);
    if (b.differences.is_full(groups(), capacity)) finish_listed<1, D>(s, g, b.differences);
    // Windows in place, or copies of them.
    activation* const copied = s.whole_.data() + most_whole * depth;
    activation* const copied_then = s.listed_.data() + (most_listed + 2 * most_pairs) * depth;
    const activation* const in_frame = window;
    if (!p.in_place) {
      copy.copy(window, copied);
      window = copied;
      if (then != nullptr) {
        copy.copy(then, copied_then);
        then = copied_then;
      }
    }
    double least = whole_cost();
    enum { whole, one, pair, difference } way = whole;
    basis on = basis::nothing;
    policy::live_group* end = nullptr;
    std::int32_t sum_of_differences = 0;
    const auto count = [](const policy::live_group* from, const policy::live_group* to) {
      return static_cast<std::size_t>(to - from);
    };
    const auto list_pairs = [&](const activation* before, bool packed) {
      policy::live_group* to = b.pairs.end;
      for_each_piece(p, [&](std::size_t at, std::size_t at_packed, std::uint32_t group) {
        to = isa::list_changed(window + at, before + (packed ? at_packed : at), p.groups, group_depth,
                               {static_cast<std::uint32_t>(at_packed), group}, to);
      });
      return to;
    };
    // Differences from what was there before, or from zero points; null: from 0, in place.
    const auto list_differences = [&](const activation* before, bool packed, auto& found) {
      policy::live_group* to = b.differences.end;
      if constexpr (has_differences)
        for_each_piece(p, [&](std::size_t at, std::size_t at_packed, std::uint32_t group) {
          const policy::live_group first{static_cast<std::uint32_t>(before == nullptr ? at : at_packed), group};
          to = found.list(window + at, before == nullptr ? nullptr : before + (packed ? at_packed : at), p.groups,
                          group_depth, first, b.differences.held() + at_packed, to);
        });
      return to;
    };
    const auto try_pairs = [&](const activation* before, bool packed, basis to_be) {
      policy::live_group* const to = list_pairs(before, packed);
      const double cost = listed_cost(count(b.pairs.end, to), costs::pair);
      if (cost >= least) return;
      way = pair;
      on = to_be;
      least = cost;
      end = to;
    };
    const auto try_differences = [&](const activation* before, bool packed, basis to_be) {
      isa::byte_differences found;
      policy::live_group* const to = list_differences(before, packed, found);
      const double cost = listed_cost(count(b.differences.end, to), costs::entry);
      if (found.fit() && cost < least) {
        way = difference;
        on = to_be;
        least = cost;
        end = to;
        sum_of_differences = found.sum();
      }
      return found.fit() ? to : nullptr;
    };
    if (then != nullptr) {
      const policy::live_group* to = has_differences ? try_differences(then, false, basis::sums) : nullptr;
      if (has_differences && to == b.differences.end) return true;  // nothing has changed
      if (to == nullptr) {
        if (list_pairs(then, false) == b.pairs.end) return true;
        try_pairs(then, false, basis::sums);
      }
    }
    bool own_bytes = false;  // is the row in place its own differences?
    if constexpr (skips_zeros) {
      if (zeros_add_nothing()) {
        policy::live_group* const found = list_live(s, p, window, b.ones.end);
        const double cost = listed_cost(count(b.ones.end, found), costs::entry);
        if (cost < least) {
          way = one;
          on = basis::nothing;
          least = cost;
          end = found;
        }
      } else if (way != difference) {  // a second list of differences would need a second place
        own_bytes = has_zero_at_0() && std::is_same_v<activation, std::int8_t> && p.in_place;
        const activation* const zeros = s.before_row_.data();
        const bool done =
            has_differences && try_differences(own_bytes ? nullptr : zeros, true, basis::zeros) != nullptr;
        if (!done && way != pair) try_pairs(zeros, true, basis::zeros);
      }
    }
    switch (way) {
      case whole:
        return false;
      case one:
        s.last_.macs += count(b.ones.end, end) * group_depth * columns();
        if (!p.in_place) {
          kernel::detail::copy_elements(b.ones.held(), window, depth);
          window = b.ones.held();
        }
        b.ones.take(window, end, {row, 0, on});
        break;
      case pair:
        s.last_.macs += 2 * count(b.pairs.end, end) * group_depth * columns();
        copy.copy(in_frame, b.pairs.held());
        if (on == basis::sums && p.in_place)
          copy.copy(then, b.pairs.held() + depth);
        else
          kernel::detail::copy_elements(b.pairs.held() + depth, on == basis::sums ? then : s.before_row_.data(), depth);
        b.pairs.take(b.pairs.held(), end, {row, 0, on});
        break;
      case difference:
        if constexpr (has_differences) {
          s.last_.macs += count(b.differences.end, end) * group_depth * columns();
          const std::int8_t* bytes = b.differences.held();
          if constexpr (std::is_same_v<activation, std::int8_t>)
            if (on == basis::zeros && own_bytes) bytes = window;
          b.differences.take(bytes, end, {row, sum_of_differences, on});
        }
    }
    return true;
  }

  /// Adds up a batch of lists, and brings the rows to the outputs.
  template <std::size_t Rows, class A>
  POLYMAC_NOINLINE void finish_listed(state& s, std::size_t g, listed_batch<A>& batch) const noexcept {
    batch.end = batch.lists;
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
    if (s.before_.size() == 0) return;
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
  buffer<std::int8_t> element_rows_;  ///< weights as rows of k, where elements are listed
  buffer<accumulator> zero_sums_;     ///< of windows that hold zero points only
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
