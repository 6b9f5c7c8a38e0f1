// SPDX-License-Identifier: MIT
// Sums neuron by neuron, product by product, through the golden model of an arithmetic: what a small processor without
// vector registers does, and what an attacker sees of it. For policy::pixel_pruning, where the order of products is the
// matter.
//
//     for each neuron (output column)
//       sum = bias
//       for each tap that takes part, for each channel:  sum = M::multiply_add(sum, activation, weight)
//
// A tap is a pixel of the input as one neuron reads it: its weights are `channels` numbers side by side. A pixel that
// does not take part counts as the zero point: of each tap that does, zero point x sum of its weights is taken off in a
// wide type, which is no product at run time.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/concepts.hpp"
#include "polymac/kernel/pack.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// A pixel that takes part, and which tap of the neurons it is.
template <class Activation>
struct listed_tap {
  const Activation* pixel;
  std::uint32_t tap;
};

namespace detail {

/// A sum that grows product by product, in chunks or chains where the arithmetic needs them.
template <Mac M>
class running_sum {
  using traits = mac_traits<M>;
  using wide = typename traits::wide;
  static constexpr bool in_chains = traits::chain > 0;

 public:
  /// begins: a value that is in the accumulator from the first product on; limit: products that are safe in it.
  constexpr running_sum(typename traits::accumulator begins, std::size_t limit) noexcept : limit_(limit) {
    if constexpr (in_chains)
      total_ = begins;
    else
      sums_ = begins;
  }
  constexpr POLYMAC_INLINE void add(const typename M::activation& a, const typename M::weight& w) noexcept {
    sums_ = M::multiply_add(sums_, a, w);
    if constexpr (in_chains || traits::integer)
      if (++count_ == limit_) spill();
  }
  /// Of integers in 64 bits.
  constexpr wide total() noexcept {
    if constexpr (in_chains || traits::integer) {
      spill();
      return total_;
    } else {
      return sums_;
    }
  }

 private:
  constexpr void spill() noexcept {
    if constexpr (in_chains)
      total_ = M::spill(total_, sums_);
    else if constexpr (traits::integer)
      total_ += static_cast<wide>(sums_);
    sums_ = {};
    count_ = 0;
  }
  typename traits::chain_accumulator sums_{};
  wide total_{};
  std::size_t count_ = 0, limit_;
};

}  // namespace detail

/// The weights of some sets of neurons as they are, and what belongs to them.
template <Mac M>
class neuron_weights {
  using traits = mac_traits<M>;
  using activation = typename M::activation;
  using weight = typename M::weight;
  static constexpr bool has_zero_points = traits::integer && M::linear && std::is_integral_v<activation>;

 public:
  using wide = typename traits::wide;

  /// weight_of(set, column, term, tap, channel); bias_of(set, column). wide_sums: sums might leave an accumulator.
  template <class WeightOf, class BiasOf>
  constexpr status pack(std::size_t sets, std::size_t columns, std::size_t taps, std::size_t channels,
                        std::size_t terms, const WeightOf& weight_of, const BiasOf& bias_of, activation zero_point,
                        bool wide_sums) noexcept {
    columns_ = columns;
    taps_ = taps;
    channels_ = channels;
    terms_ = terms;
    wide_ = wide_sums;
    bool shifts = false;
    if constexpr (has_zero_points) shifts = zero_point != 0;
    if (status s = weights_.resize_for_overwrite(sets * columns * taps * channels * terms); !s.ok()) return s;
    if (status s = bias_.resize_for_overwrite(sets * columns); !s.ok()) return s;
    if (status s = zeros_.resize(shifts ? sets * columns * taps : 0); !s.ok()) return s;
    std::size_t at = 0;
    for (std::size_t i = 0; i < sets * columns; ++i) {
      bias_[i] = bias_of(i / columns, i % columns);
      for (std::size_t tap = 0; tap < taps; ++tap)
        for (std::size_t c = 0; c < channels; ++c)
          for (std::size_t term = 0; term < terms; ++term, ++at) {
            weights_[at] = weight_of(i / columns, i % columns, term, tap, c);
            if constexpr (has_zero_points)
              if (shifts) zeros_[i * taps + tap] += detail::product<M>(zero_point, weights_[at]);
          }
    }
    return {};
  }
  constexpr std::size_t bytes() const noexcept {
    return weights_.size() * sizeof(weight) + (bias_.size() + zeros_.size()) * sizeof(wide);
  }
  constexpr std::size_t columns() const noexcept { return columns_; }
  /// The bias of a neuron.
  constexpr wide bias(std::size_t set, std::size_t column) const noexcept { return bias_[set * columns_ + column]; }

  /// bias (if with_bias) + the products of the listed taps, in their order.
  constexpr wide listed(std::size_t set, std::size_t column, const listed_tap<activation>* list, std::size_t count,
                        bool with_bias) const noexcept {
    neuron n(*this, set, column, with_bias);
    for (std::size_t i = 0; i < count; ++i) n.take(list[i].pixel, list[i].tap);
    return n.total();
  }

  /// The sums of important and of drawn taps, or (`together`) all in the first one. bias is in the first one if
  /// with_bias. pixel(tap) is null on padding; the others are asked which they are, one by one, as MACPruning does.
  struct two_sums {
    wide important, drawn;
  };
  template <class PixelOf, class IsImportant, class IsDrawn>
  constexpr two_sums branching(std::size_t set, std::size_t column, bool with_bias, bool together, const PixelOf& pixel,
                               const IsImportant& is_important, const IsDrawn& is_drawn) const noexcept {
    neuron first(*this, set, column, with_bias), second(*this, set, column, false);
    for (std::size_t tap = 0; tap < taps_; ++tap) {
      const activation* const at = pixel(tap);
      if (at == nullptr) continue;
      if (is_important(tap))
        first.take(at, tap);
      else if (is_drawn(tap))
        together ? first.take(at, tap) : second.take(at, tap);
    }
    return {first.total(), second.total()};
  }

 private:
  struct neuron {
    const neuron_weights& of;
    const weight* weights;
    const wide* zeros;
    wide beside{};  ///< what is added at the end
    detail::running_sum<M> sum;

    constexpr neuron(const neuron_weights& of_, std::size_t set, std::size_t column, bool with_bias) noexcept
        : of(of_),
          weights(of_.weights_.data() + (set * of_.columns_ + column) * of_.taps_ * of_.channels_ * of_.terms_),
          zeros(of_.zeros_.size() > 0 ? of_.zeros_.data() + (set * of_.columns_ + column) * of_.taps_ : nullptr),
          sum(of_.begins(set, column, with_bias), of_.limit()) {
      if constexpr (traits::integer)
        if (with_bias && !of_.bias_fits()) beside = of_.bias(set, column);
    }
    constexpr POLYMAC_INLINE void take(const activation* pixel, std::size_t tap) noexcept {
      const weight* w = weights + tap * of.channels_ * of.terms_;
      for (std::size_t c = 0; c < of.channels_; ++c)
        for (std::size_t term = 0; term < of.terms_; ++term, ++w) sum.add(pixel[c], *w);
      if constexpr (has_zero_points)
        if (zeros != nullptr) beside -= zeros[tap];
    }
    constexpr wide total() noexcept {
      if constexpr (traits::integer)
        return sum.total() + beside;
      else
        return sum.total();
    }
  };
  /// Does the bias stand in the accumulator, as in the paper's code? Not where it is folded, or sums are wide.
  constexpr bool bias_fits() const noexcept { return !wide_ && zeros_.size() == 0; }
  constexpr typename traits::accumulator begins(std::size_t set, std::size_t column, bool with_bias) const noexcept {
    if constexpr (traits::integer)
      return with_bias && bias_fits() ? detail::wrap<typename traits::accumulator>(bias(set, column))
                                      : typename traits::accumulator{};
    else
      return with_bias ? bias(set, column) : typename traits::accumulator{};
  }
  constexpr std::size_t limit() const noexcept {
    if constexpr (traits::chain > 0)
      return traits::chain;
    else
      return wide_ ? traits::max_depth : std::numeric_limits<std::size_t>::max();
  }

  std::size_t columns_ = 0, taps_ = 0, channels_ = 0, terms_ = 1;
  bool wide_ = false;
  buffer<weight> weights_;  ///< [set][column][tap][channel][term]
  buffer<wide> bias_;
  buffer<wide> zeros_;  ///< [set][column][tap]: zero point x sum of the tap's weights; none where the zero point is 0
};

}  // namespace kernel
POLYMAC_END
