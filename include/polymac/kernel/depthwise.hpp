// SPDX-License-Identifier: MIT
// The depthwise kernel: every channel is a product of its own, so there is no depth to contract over and no panel to
// share; what is wide is the channels.
//
//     for each output pixel
//       for each block of 64 channels (then 32, 16, 8, 1)
//         sums = start values                                        vector code by the compiler
//         for each tap: sums += activations[tap][channels] * weights[tap][channels]
//         output = epilogue(sums)
//
// With a channel multiplier m, output channel c reads input channel c / m. Costs: pixels x channels x taps.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/concepts.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/contract.hpp"
#include "polymac/kernel/depthwise_quads.hpp"
#include "polymac/kernel/depthwise_taps.hpp"
#include "polymac/kernel/pack.hpp"

#include <cstddef>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// What a depthwise convolution needs of the caller's workspace: a table of taps, or a block for quads.
struct depthwise_scratch {
  std::size_t pointers = 0;
  std::size_t block = 0;  ///< bytes
  static constexpr std::size_t block_alignment = 64;
  constexpr std::size_t bytes() const noexcept {
    return pointers * sizeof(void*) + alignof(void*) + (block > 0 ? block + block_alignment : 0);
  }
};

/// Depthwise weights with the folded bias of every channel, see packed_weights for terms and bias: in the order of the
/// instruction set's atom where it has one and no sum needs 64 bits, else [term][tap][channel]. Shape: extents<kernel
/// height, kernel width, channels>.
template <Mac M, Isa I, class Shape = extents<dynamic, dynamic, dynamic>>
class depthwise_weights {
  using traits = mac_traits<M>;
  static constexpr bool is_static = Shape::at(0) != dynamic && Shape::at(1) != dynamic && Shape::at(2) != dynamic;
  static constexpr std::size_t static_channels = polymac::detail::round_up(is_static ? Shape::at(2) : 0, 32);

 public:
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using weight = typename traits::weight;
  static constexpr bool has_quads = isa::has_depthwise_quads<M, I>;
  static constexpr bool has_taps = isa::has_depthwise_taps<M, I>;

  /// weight_of(channel, term, tap), bias_of(channel) as wide.
  template <class WeightOf, class BiasOf, class Epilogue>
  constexpr status pack(const window& w, std::size_t channels, std::size_t terms, const WeightOf& weight_of,
                        const BiasOf& bias_of, typename M::activation zero_point, std::size_t multiplier,
                        const Epilogue& epilogue) noexcept {
    channels_ = channels;
    taps_ = w.kernel.height * w.kernel.width;
    terms_ = terms;
    if (channels > std::numeric_limits<std::size_t>::max() / 64 / taps_ / terms)
      return status::make(errc::shape, "weights: ", channels, " channels x ", taps_, " taps exceed the address space");
    if (status s = bias_.resize(channels); !s.ok()) return s;
    bool fits = taps_ * terms <= traits::max_depth && sizeof(typename traits::sum) <= sizeof(accumulator);
    for (std::size_t c = 0; c < channels; ++c) {
      detail::folded_bias<M> folded(bias_of(c), zero_point);
      for (std::size_t i = 0; i < taps_ * terms; ++i) folded.add(weight_of(c, i / taps_, i % taps_));
      bias_[c] = folded.value();
      fits = fits && folded.fits();
    }
    wide_ = traits::integer && !fits;
    bool may_be_packed = !wide_ && (terms == 1 || !is_static);
    if (std::is_constant_evaluated()) may_be_packed = false;
    if constexpr (has_quads) {
      const detail::quad_plan plan(w, terms);
      is_packed_ = may_be_packed && plan.fits();
      if (is_packed_)
        return packed_.template pack<M>(
            plan, channels, terms, weight_of, [this](std::size_t c) { return bias_[c]; },
            isa::best_depthwise_quads<M, I>::activation_offset, epilogue);
    } else if constexpr (has_taps) {
      is_packed_ = may_be_packed && multiplier == 1;
      if (is_packed_) return packed_.pack(channels, taps_, weight_of, [this](std::size_t c) { return bias_[c]; });
    }
    static_cast<void>(may_be_packed), static_cast<void>(multiplier), static_cast<void>(epilogue);
    if (status s = weights_.resize(channels * taps_ * terms); !s.ok()) return s;
    for (std::size_t i = 0; i < taps_ * terms; ++i)
      for (std::size_t c = 0; c < channels; ++c) weights_[i * channels + c] = weight_of(c, i / taps_, i % taps_);
    return {};
  }

  constexpr std::size_t channels() const noexcept { return channels_; }
  constexpr std::size_t taps() const noexcept { return taps_; }
  constexpr std::size_t terms() const noexcept { return terms_; }
  constexpr bool wide_sums() const noexcept { return wide_; }
  /// Are the weights in the order of an instruction set's atom?
  constexpr bool is_packed() const noexcept { return is_packed_; }
  constexpr const auto& packed() const noexcept { return packed_; }
  /// What computes with them, in words.
  constexpr const char* form() const noexcept {
    if (!is_packed_) return "golden model, vectorised by the compiler for ";
    if constexpr (has_quads)
      if (packed_.lines() > 0) return "four taps at a time, requantised by a multiply-add, ";
    return has_quads ? "four taps at a time, " : "4 lines x 3 pixels at a time, ";
  }
  /// Weights of a tap (terms one after another), for all channels, where they are not packed.
  constexpr const weight* tap(std::size_t i) const noexcept { return weights_.data() + i * channels_; }
  constexpr const wide* bias() const noexcept { return bias_.data(); }
  constexpr std::size_t bytes() const noexcept {
    return weights_.size() * sizeof(weight) + bias_.size() * sizeof(wide) + packed_.bytes();
  }
  constexpr depthwise_scratch scratch() const noexcept {
    if constexpr (has_quads)
      if (is_packed_) return {0, packed_.plan().workspace_bytes()};
    return {taps_ * (has_taps ? detail::tap_row_pixels : 1), 0};
  }

 private:
  struct nothing {
    static constexpr std::size_t bytes() noexcept { return 0; }
  };
  static constexpr auto packed_type() {
    constexpr std::size_t columns = is_static ? static_channels : dynamic;
    if constexpr (has_quads)
      return std::type_identity<detail::quad_weights<
          typename M::activation,
          is_static ? columns / 16 * 2 * polymac::detail::divide_up(Shape::at(0), 4) * Shape::at(1) * 64 : dynamic,
          columns>>{};
    else if constexpr (has_taps)
      return std::type_identity<
          detail::tap_weights<weight, is_static ? columns * Shape::at(0) * Shape::at(1) : dynamic, columns>>{};
    else
      return std::type_identity<nothing>{};
  }

  std::size_t channels_ = 0, taps_ = 0, terms_ = 1;
  bool wide_ = false, is_packed_ = false;
  buffer<weight, is_static ? Shape::at(0) * Shape::at(1) * Shape::at(2) : dynamic> weights_;
  buffer<wide, is_static ? Shape::at(2) : dynamic> bias_;
  [[no_unique_address]] typename decltype(packed_type())::type packed_;
};

namespace detail {

template <Mac M, class Weights, class Epilogue>
struct depthwise_pixel {
  using traits = mac_traits<M>;
  using activation = typename traits::activation;
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using sum = typename traits::sum;

  const Weights& weights;
  const Epilogue& epilogue;
  std::size_t multiplier;
  const activation* const* taps;  ///< of this pixel
  std::size_t row;

  /// Channels from `channel` on, in blocks of Block as long as they fit, then in smaller ones. A constant trip count is
  /// what lets compilers turn the loops over channels into vector code.
  template <std::size_t Block, class Out>
  constexpr POLYMAC_INLINE void blocks(std::size_t channel, Out* out) const noexcept {
    for (; channel + Block <= weights.channels(); channel += Block) block<Block>(channel, out);
    if constexpr (Block > 8)
      blocks<Block / 2>(channel, out);
    else if constexpr (Block > 1)
      blocks<1>(channel, out);
  }

 private:
  template <std::size_t Block, class Out>
  constexpr POLYMAC_INLINE void block(std::size_t channel, Out* out) const noexcept {
    const std::size_t products = weights.taps() * weights.terms();
    const wide* const bias = weights.bias() + channel;
    accumulator sums[Block];
    sum results[Block];
    if (!traits::integer || !weights.wide_sums()) {
      for (std::size_t c = 0; c < Block; ++c) sums[c] = wrap<accumulator>(bias[c]);
      add_taps<Block>(channel, 0, products, sums);
      for (std::size_t c = 0; c < Block; ++c) results[c] = static_cast<sum>(sums[c]);
    } else if constexpr (traits::integer) {
      wide totals[Block];
      for (std::size_t c = 0; c < Block; ++c) totals[c] = bias[c];
      for (std::size_t first = 0; first < products;) {
        const std::size_t last = first + polymac::detail::smaller(traits::max_depth, products - first);
        for (std::size_t c = 0; c < Block; ++c) sums[c] = accumulator{};
        add_taps<Block>(channel, first, last, sums);
        for (std::size_t c = 0; c < Block; ++c) totals[c] += static_cast<wide>(sums[c]);
        first = last;
      }
      for (std::size_t c = 0; c < Block; ++c) results[c] = narrow<sum>(totals[c]);
    }
    // An array of their own, as in contract.hpp: stores to `out` might alias the parameters of the stages.
    Out finished[Block];
    for (std::size_t c = 0; c < Block; ++c) finished[c] = epilogue(results[c], row, channel + c);
    for (std::size_t c = 0; c < Block; ++c) out[channel + c] = finished[c];
  }

  /// sums += products of the taps [first, last). With a multiplier the activations are spread before, one for each
  /// output channel.
  template <std::size_t Block>
  constexpr POLYMAC_INLINE void add_taps(std::size_t channel, std::size_t first, std::size_t last,
                                         accumulator* sums) const noexcept {
    activation spread[Block]{};
    for (std::size_t i = first; i < last; ++i) {
      const activation* x = taps[i % weights.taps()];
      const typename M::weight* const w = weights.tap(i) + channel;
      if (multiplier == 1) {
        x += channel;
      } else {
        for (std::size_t c = 0; c < Block; ++c) spread[c] = x[(channel + c) / multiplier];
        x = spread;
      }
      for (std::size_t c = 0; c < Block; ++c) sums[c] = M::multiply_add(sums[c], x[c], w[c]);
    }
  }
};

}  // namespace detail

/// Computes the output pixels of `range`. Source: as for contract(), one row per pixel.
template <Mac M, Isa I, class Weights, class Source, class Epilogue, class Output>
constexpr void depthwise(const Weights& weights, const Source& source, std::size_t multiplier, const Epilogue& epilogue,
                         const Output& output, const scratch<typename M::activation>& memory,
                         row_range range) noexcept {
  using packed = std::remove_cvref_t<decltype(weights.packed())>;
  if constexpr (Weights::has_quads) {
    if (weights.is_packed())
      return detail::quad_runner<I, isa::best_depthwise_quads<M, I>, packed, Source, Epilogue, Output>{
          weights.packed(), source, multiplier, weights.channels(), epilogue, output, memory.block}
          .run(range);
  } else if constexpr (Weights::has_taps) {
    if (weights.is_packed())
      return detail::tap_runner<I, isa::best_depthwise_taps<M, I>, packed, Source, Epilogue, Output>{
          weights.packed(), source, weights.channels(), epilogue, output, memory.pointers}
          .run(range);
  }
  const std::size_t last_row = polymac::detail::smaller(range.end, source.rows());
  for (std::size_t row = range.begin; row < last_row; ++row) {
    source.pointers(row, 1, {weights.taps(), source.x.channels}, memory.pointers);
    detail::depthwise_pixel<M, Weights, Epilogue>{weights, epilogue, multiplier, memory.pointers, row}
        .template blocks<64>(0, output.row(row));
  }
}

}  // namespace kernel
POLYMAC_END
