// SPDX-License-Identifier: MIT
// Time as a dimension: windows over the steps of a stream, and how their delays add up.
//
// Source: Hedegaard, Iosifidis: Continual Inference Networks, 2022 (arXiv 2106.00050, 2204.03418), and the rules of
// receptive field, delay and padding of their library continual-inference.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/window.hpp"
#include "polymac/policy/policy.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace policy {

/// A policy of activations: one slice of the input comes at a time, past ones are kept in a ring, and each step
/// computes what is new, once. A clip of T steps that is moved on by one costs T times as much.
/// layer::continual_conv runs it.
struct continual : activation_policy {
  static constexpr const char* name = "continual";
};

/// A window over time, in steps.
struct time_window {
  std::size_t kernel = 1;    ///< taps, at least 1
  std::size_t stride = 1;    ///< steps from output to output, at least 1
  std::size_t dilation = 1;  ///< steps from tap to tap, at least 1
  std::size_t padding = 0;  ///< slices of zero points before the first step, and after the last one where it is flushed
  friend constexpr bool operator==(const time_window&, const time_window&) = default;
};

/// Steps that an output depends on: (kernel - 1) * dilation + 1.
constexpr std::size_t receptive_field(const time_window& w) noexcept { return effective_kernel(w.kernel, w.dilation); }
/// Steps from an input to the first output whose first real slice it is: receptive field - 1 - padding, at least 0.
/// Output i comes at step delay + i * stride, the first step being 0.
constexpr std::size_t delay(const time_window& w) noexcept {
  const std::size_t field = receptive_field(w);
  return field > w.padding ? field - 1 - w.padding : 0;
}
/// Outputs of a clip of that many steps that is flushed at its end, with padding on both sides.
constexpr std::size_t output_length(const time_window& w, std::size_t steps) noexcept {
  const std::size_t padded = steps + 2 * w.padding, field = receptive_field(w);
  return steps == 0 || padded < field ? 0 : (padded - field) / w.stride + 1;
}
/// Is there an output once that many slices have come? Padding counts as slices before them.
constexpr bool has_output(const time_window& w, std::size_t slices) noexcept {
  const std::size_t padded = slices + w.padding, field = receptive_field(w);
  return slices > 0 && padded >= field && (padded - field) % w.stride == 0;
}

/// What is wrong with a window over time.
constexpr status check(const char* who, const time_window& w) noexcept {
  for (const std::size_t value : {w.kernel, w.stride, w.dilation})
    if (value == 0 || value > polymac::detail::max_window_value)
      return status::make(errc::parameter, who, ": expected kernel, stride and dilation in time in [1, ",
                          polymac::detail::max_window_value, "], got ", w.kernel, ", ", w.stride, ", ", w.dilation);
  // More padding would give outputs of nothing but zero points.
  if (w.padding >= receptive_field(w))
    return status::make(errc::parameter, who, ": expected a padding in time below the receptive field of ",
                        receptive_field(w), " steps, got ", w.padding);
  return {};
}

/// Several windows over time, one after the other: `time_field().then(first).then(second)`.
///   receptive  1 + sum of (kernel - 1) * dilation * product of the strides before
///   padding    sum of padding * product of the strides before
struct time_field {
  std::size_t receptive = 1;
  std::size_t stride = 1;
  std::size_t padding = 0;

  constexpr time_field then(const time_window& w) const noexcept {
    return {receptive + (receptive_field(w) - 1) * stride, stride * w.stride, padding + w.padding * stride};
  }
  /// Steps of the input from the first one to the first output.
  constexpr std::size_t delay() const noexcept { return receptive > padding ? receptive - 1 - padding : 0; }
  friend constexpr bool operator==(const time_field&, const time_field&) = default;
};

/// Which step of its window an output belongs to, where a path beside the convolution is added to it.
enum class alignment : unsigned char {
  oldest,   ///< "lagging": the path beside it waits for the whole receptive field
  centred,  ///< the middle one, the earlier of two: what a padding of (receptive field - 1) / 2 means for a clip
  newest,   ///< the path beside it does not wait
};
/// Steps that the path beside windows with that receptive field has to wait: for a layer::delay_line.
constexpr std::size_t residual_delay(std::size_t receptive, alignment a) noexcept {
  return a == alignment::newest ? 0 : a == alignment::oldest ? receptive - 1 : receptive / 2;
}

}  // namespace policy
POLYMAC_END
