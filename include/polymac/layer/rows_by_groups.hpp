// SPDX-License-Identifier: MIT
// Rows of a layer with a policy of activations that are computed by groups of k: the lists of a window's pixels are put
// together, and short ones are multiplied entry by entry (kernel/listed_rows.hpp); rows with long ones are computed whole.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/isa/difference.hpp"
#include "polymac/isa/live_groups.hpp"
#include "polymac/kernel/framed_windows.hpp"
#include "polymac/kernel/listed_rows.hpp"
#include "polymac/kernel/window_lists.hpp"
#include "polymac/layer/pixel_lists.hpp"
#include "polymac/layer/rows_by_windows.hpp"
#include "polymac/layer/streamed_layer.hpp"
#include "polymac/policy/live_group.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Layer: streamed_layer.
template <class Layer>
struct rows_by_groups {
  using memory = typename Layer::memory;
  using atom = typename Layer::atom;
  using activation = typename Layer::activation;
  using accumulator = typename Layer::accumulator;
  using costs = typename Layer::costs;
  using by_windows = rows_by_windows<Layer>;

  /// Entries of the lists of a batch: of most_listed rows of which a third lives, and at least of one row.
  static constexpr std::size_t list_capacity(const Layer& l) noexcept {
    return Layer::most_listed * (l.groups() / 3 + isa::list_slack) + l.groups() + isa::list_slack;
  }

  /// The lists of a state whose memory has its shape; `resize`(buffer, elements).
  template <class Resize>
  static void reserve(const Layer& l, memory& s, const Resize& resize) noexcept {
    const std::size_t pixels = s.frame_extent().height * s.frame_extent().width, held = s.shape.frame_channels;
    resize(s.lists, pixels);
    resize(s.pixel_groups, pixels * (held / l.weights().group_depth()) + isa::list_slack);
    if (pixel_lists<Layer>::has_differences) resize(s.differences, pixels * held + isa::difference_slack);
    resize(s.zero_pixel, held);
    resize(s.groups, list_capacity(l));
  }

  static constexpr double entry_cost(way how) noexcept { return how == way::pairs ? costs::pair : costs::entry; }

  /// Cycles that listing all pixels takes.
  static double listing_cost(const memory& s) noexcept {
    return costs::listing(s.shape.input.height * s.shape.input.width, s.shape.frame_channels * sizeof(activation));
  }
  /// What computing `count` listed pixels is predicted to cost, from some 64 of them; count > 0.
  static double predicted_cost(const Layer& l, const memory& s, std::size_t count, way how) noexcept {
    const std::size_t every = count / 64 + 1;
    const kernel::window_lists of(l.windows(s.frame_extent()), s.frame_extent().width, l.weights().group_depth());
    double cost = 0;
    std::size_t looked_at = 0;
    for (std::size_t i = 0; i < count; i += every, ++looked_at) {
      const double by_list = l.cost().listed(live_groups(s, of, s.pixels[i]), entry_cost(how));
      cost += by_list < l.cost().whole() ? by_list : l.cost().whole();
    }
    return cost * static_cast<double>(count) / static_cast<double>(looked_at);
  }
  /// Groups in the lists of a window's pixels.
  static std::size_t live_groups(const memory& s, const kernel::window_lists& of,
                                 const kernel::listed_pixel& row) noexcept {
    std::size_t count = 0;
    of.for_each_live(s.marks.data(), row.pixel,
                     [&](std::size_t pixel, const policy::live_group&) { count += s.lists[pixel].count; });
    return count;
  }

  /// What sums of lists are added to.
  enum class basis : unsigned char { nothing, sums, zeros };
  /// Rows whose lists are added up together; the lists lie one behind the other.
  template <class A>
  struct listed_batch {
    kernel::listed_row<typename A::activation> rows[Layer::most_listed];
    std::size_t row[Layer::most_listed];           ///< the output
    std::int32_t differences[Layer::most_listed];  ///< their sum
    std::size_t count = 0;
    policy::live_group* end;
  };

  /// Computes `count` listed pixels of image n; returns what that is predicted to cost.
  static double compute(const Layer& l, memory& s, std::size_t n, std::size_t count, way how) noexcept {
    double cost = 0;
    with_atom(l, [&](auto a) { cost = compute_by<typename decltype(a)::type>(l, s, n, count, how); });
    return cost;
  }
  /// Calls f(std::type_identity) of the atom that the weights are packed for.
  template <class Function>
  static constexpr void with_atom(const Layer& l, const Function& f) noexcept {
    using packed = std::remove_cvref_t<decltype(l.weights())>;
    if constexpr (packed::may_be_narrow)
      if (l.weights().is_narrow()) return f(std::type_identity<kernel::narrow_atom<atom>>{});
    if constexpr (!packed::is_always_narrow) f(std::type_identity<atom>{});
  }
  /// The same by an atom, A.
  template <class A>
  static double compute_by(const Layer& l, memory& s, std::size_t n, std::size_t count, way how) noexcept {
    double cost = 0;
    const extent2d frame = s.frame_extent();
    const std::size_t depth = l.window_elements(), first_row = n * s.shape.output.height * s.shape.output.width;
    const auto copy = l.windows(frame);
    for (std::size_t g = 0; g < l.sets(); ++g) {
      const activation* const now = s.frames.data() + n * s.image_elements() + g * copy.channels;
      std::size_t whole_rows[Layer::most_whole];
      std::size_t whole = 0;
      const auto take_whole = [&](const kernel::listed_pixel& pixel) {
        copy.copy(now + pixel.pixel * copy.pixel, s.whole.data() + whole * depth);
        whole_rows[whole++] = first_row + pixel.row;
        if (whole == Layer::most_whole) by_windows::finish_whole(l, s, g, whole_rows, std::exchange(whole, 0));
      };
      if (how == way::whole) {
        for (std::size_t i = 0; i < count; ++i) take_whole(s.pixels[i]);
      } else if constexpr (Layer::lists) {
        const auto distance = static_cast<std::ptrdiff_t>(s.frames_size);
        const auto by_list = [&](auto rows, auto type, const auto* frame_of_rows, basis on) {
          using B = typename decltype(type)::type;
          cost += compute_lists<rows, B>(l, s, count, first_row, how, on, frame_of_rows, distance, take_whole);
        };
        constexpr std::integral_constant<std::size_t, 1> one{};
        constexpr std::integral_constant<std::size_t, 2> two{};
        if constexpr (pixel_lists<Layer>::has_differences) {
          using D = isa::difference_of<A>;
          if (how == way::differences) by_list(one, std::type_identity<D>{}, s.differences.data(), basis::sums);
          if (how == way::zero_differences) by_list(one, std::type_identity<D>{}, s.differences.data(), basis::zeros);
          if constexpr (std::is_same_v<activation, std::int8_t>)
            if (how == way::own_differences) by_list(one, std::type_identity<D>{}, now, basis::zeros);
        }
        if (how == way::ones) by_list(one, std::type_identity<A>{}, now, basis::nothing);
        if (how == way::pairs) by_list(two, std::type_identity<A>{}, now, basis::sums);
      }
      if (whole > 0) by_windows::finish_whole(l, s, g, whole_rows, whole);
    }
    return cost;
  }
  /// The same where pixels have lists: rows whose lists are short by them, the others by take_whole.
  template <std::size_t Rows, class A, class TakeWhole>
  static double compute_lists(const Layer& l, memory& s, std::size_t count, std::size_t first_row, way how, basis on,
                              const typename A::activation* frame, std::ptrdiff_t distance,
                              const TakeWhole& take_whole) noexcept {
    const auto copy = l.windows(s.frame_extent());
    const std::size_t depth = l.weights().group_depth(), capacity = list_capacity(l);
    const kernel::window_lists windows_of_pixels(copy, s.frame_extent().width, depth);
    const std::size_t most = Layer::forced ? l.groups() : l.cost().most_entries(entry_cost(how));
    std::size_t wholes = 0, listed_rows = 0;
    const bool one_tap = copy.taps.kernel == extent2d{1, 1};
    const std::size_t held = s.shape.frame_channels;
    listed_batch<A> batch;
    batch.end = s.groups.data();
    std::size_t entries = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const kernel::listed_pixel& pixel = s.pixels[i];
      if (batch.count == Layer::most_listed ||
          static_cast<std::size_t>(batch.end - s.groups.data()) + l.groups() + isa::list_slack > capacity)
        finish_listed<Rows, A>(l, s, batch, on, distance);
      const policy::live_group* list = batch.end;
      std::size_t live = 0;
      std::int32_t change = 0;
      if (one_tap) {
        const auto& of = s.lists[pixel.pixel];
        list = of.groups;
        live = of.count;
        change = of.sum;
      } else {
        policy::live_group* to = batch.end;
        windows_of_pixels.for_each_live(s.marks.data(), pixel.pixel,
                                        [&](std::size_t number, const policy::live_group& by) POLYMAC_INLINE_LAMBDA {
                                          const auto& of = s.lists[number];
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
    s.last.macs += entries * depth * l.columns() * Rows;
    finish_listed<Rows, A>(l, s, batch, on, distance);
    const double of_rows = l.cost().listed(0, 0) * static_cast<double>(listed_rows),
                 of_entries = entry_cost(how) * static_cast<double>(entries * l.weights().panels());
    return of_rows + of_entries + l.cost().whole() * static_cast<double>(wholes);
  }

  /// Adds up a batch of lists, and brings the rows to the outputs.
  template <std::size_t Rows, class A>
  POLYMAC_NOINLINE static void finish_listed(const Layer& l, memory& s, listed_batch<A>& batch, basis on,
                                             std::ptrdiff_t distance) noexcept {
    batch.end = s.groups.data();
    const std::size_t stride = l.sum_stride(), count = std::exchange(batch.count, 0);
    if (count == 0) return;
    accumulator* const sums = s.row_sums.data();
    // Sums that are added to others begin at 0.
    kernel::add_up_rows<A, Rows>(l.weights(), 0, batch.rows, count, sums, stride,
                                 on == basis::nothing ? nullptr : l.zeros.data(), distance);
    if (on != basis::nothing)
      for (std::size_t i = 0; i < count; ++i) {
        const accumulator* const base = on == basis::sums ? s.sums.data() + batch.row[i] * stride : l.zero_sums.data();
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
    by_windows::finish_sums(l, s, 0, batch.row, count, sums, stride);
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
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
