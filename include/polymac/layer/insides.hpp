// SPDX-License-Identifier: MIT
// What a layer with weights is made of, for layers that run on it: those with a policy of activations.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Reads the parts of a linear or conv2d.
struct insides {
  /// kernel::packed_weights.
  template <class Layer>
  static constexpr const auto& weights(const Layer& l) noexcept {
    return l.weights_;
  }
  template <class Layer>
  static constexpr const auto& stages(const Layer& l) noexcept {
    return l.epilogue_;
  }
  template <class Layer>
  static constexpr auto zero_point(const Layer& l) noexcept {
    return l.zero_point_;
  }
  /// Of a linear: may it use matrix registers?
  template <class Layer>
  static constexpr bool tiles_permitted(const Layer& l) noexcept {
    return l.tiles_permitted_;
  }
  /// Of a convolution: polymac::window, groups, and input channels of a group.
  template <class Layer>
  static constexpr const auto& taps(const Layer& l) noexcept {
    return l.window_;
  }
  template <class Layer>
  static constexpr std::size_t groups(const Layer& l) noexcept {
    return l.groups_;
  }
  template <class Layer>
  static constexpr std::size_t channels(const Layer& l) noexcept {
    return l.channels_;
  }
  /// The same, filled up as the packed weights have them, and k of a line of the kernel there.
  template <class Layer>
  static constexpr std::size_t filled_channels(const Layer& l) noexcept {
    return l.group_channels();
  }
  template <class Layer>
  static constexpr std::size_t line_depth(const Layer& l) noexcept {
    return l.line_depth();
  }
  /// The depth of the weights, filled up to whole groups.
  template <class Layer>
  static constexpr std::size_t filled_depth(const Layer& l) noexcept {
    return l.filled_depth();
  }
  /// Windows that are best copied at a time.
  template <class Layer>
  static constexpr std::size_t copied_rows(const Layer& l) noexcept {
    return l.copied_rows();
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
