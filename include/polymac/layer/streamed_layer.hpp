// SPDX-License-Identifier: MIT
// A dense layer with a policy of activations: what follows from the two alone, before there is an image.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/changed_bytes.hpp"
#include "polymac/kernel/contract_tiles.hpp"
#include "polymac/kernel/framed_windows.hpp"
#include "polymac/kernel/listed_rows.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/row_costs.hpp"
#include "polymac/layer/stream_memory.hpp"
#include "polymac/mac/int8.hpp"
#include "polymac/policy/both.hpp"
#include "polymac/policy/delta.hpp"
#include "polymac/policy/zero_skip.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Are the products of M those of int8?
template <class M>
inline constexpr bool computed_as_int8 = false;
template <class M>
requires requires { typename M::computed_as; }
inline constexpr bool computed_as_int8<M> = std::is_same_v<typename M::computed_as, mac::int8>;

/// Inner: a linear or conv2d. P: its policy of activations. A linear layer is a convolution of 1 x 1 over an image of one
/// line, whose pixels are its rows.
template <class Inner, class P>
struct streamed_layer {
  using parts = policy::detail::parts_of<P>;
  using mac = typename Inner::mac;
  using atom = typename Inner::atom;
  using activation = typename Inner::activation;
  using sum = typename Inner::sum;
  using output = typename Inner::output;
  using accumulator = typename mac::accumulator;
  using memory = stream_memory<activation, output, accumulator>;

  /// Is it a convolution?
  static constexpr bool slides = requires(const Inner& l) { l.output_size(extent2d{}); };

  using delta = typename parts::delta;
  static constexpr bool has_delta = !std::is_same_v<delta, policy::detail::nothing>;
  static constexpr bool skips_zeros = !std::is_same_v<typename parts::zero_skip, policy::detail::nothing>;
  static_assert(
      has_delta || skips_zeros,
      "polymac: this policy of activations is not one of streams: expected policy::delta, policy::zero_skip or "
      "policy::both of them (policy::pixel_pruning expects layer::first_layer before the other arguments)");
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
              computed_as_int8<mac>)&&std::is_same_v<policy::detail::weights_of<P>, policy::dense>;
    else
      return false;
  }();
  /// Rows that are computed together: whole ones, and listed ones.
  static constexpr std::size_t most_whole = kernel::has_tiles<atom> ? 64
                                            : atom::max_rows < 12   ? 24
                                                                    : 2 * atom::max_rows;
  static constexpr std::size_t most_listed = 64;
  using costs = detail::row_costs<atom>;

  Inner inner;
  buffer<std::int8_t> element_rows{};  ///< weights as rows of k, where elements are listed
  buffer<accumulator> zero_sums{};     ///< of windows that hold zero points only
  buffer<accumulator> zeros{};         ///< of all panels of a tile
  buffer<output> zero_outputs{};

  constexpr std::size_t in_channels() const noexcept {
    if constexpr (slides)
      return inner.in_channels();
    else
      return inner.depth();
  }
  constexpr std::size_t out_channels() const noexcept {
    if constexpr (slides)
      return inner.out_channels();
    else
      return inner.columns();
  }
  constexpr const auto& weights() const noexcept { return insides::weights(inner); }
  constexpr window taps() const noexcept {
    if constexpr (slides)
      return insides::taps(inner);
    else
      return {{1, 1}, {1, 1}, {1, 1}, {}};
  }
  constexpr std::size_t sets() const noexcept {
    if constexpr (slides)
      return insides::groups(inner);
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
      if (element_rows.size() > 0) return polymac::detail::greater(filled, changed_bytes::row_columns(columns()));
    return filled;
  }
  /// Channels of a pixel in the frame: whole groups, where the weights have them so.
  constexpr std::size_t frame_channels() const noexcept {
    if (!pixels_are_groups()) return in_channels();
    return polymac::detail::round_up(in_channels(), weights().group_depth());
  }
  /// Is every group of the weights a part of one pixel? Then pixels can have lists.
  constexpr bool pixels_are_groups() const noexcept {
    if constexpr (slides) {
      const std::size_t depth = weights().group_depth(), filled = insides::filled_channels(inner);
      const window w = taps();
      if (sets() != 1 || w.kernel.width > 8) return false;
      if (w.kernel == extent2d{1, 1}) return true;
      return filled % depth == 0 && insides::line_depth(inner) % depth == 0 &&
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
      return element_rows.size() > 0;
  }
  constexpr kernel::framed_windows windows(extent2d frame) const noexcept {
    if constexpr (slides)
      return {taps(),
              frame.width,
              frame_channels(),
              insides::channels(inner),
              insides::filled_channels(inner),
              insides::line_depth(inner)};
    else
      return {taps(), frame.width, frame_channels(), in_channels(), frame_channels(), frame_channels()};
  }
  /// k of a sum that the user knows of.
  constexpr std::size_t real_depth() const noexcept {
    if constexpr (slides)
      return taps().kernel.height * taps().kernel.width * insides::channels(inner);
    else
      return in_channels();
  }

  constexpr costs cost() const noexcept { return {weights().panels(), groups(), taps().kernel.height}; }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
