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
#include "polymac/core/view.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/kernel/contract.hpp"
#include "polymac/kernel/pack.hpp"

#include <cstddef>
#include <limits>

POLYMAC_BEGIN
namespace kernel {

/// Depthwise weights [term][tap][channel] with the folded bias of every channel. See packed_weights for terms and bias.
template <Mac M, std::size_t Taps = dynamic, std::size_t Channels = dynamic>
class depthwise_weights {
  using traits = mac_traits<M>;
  static constexpr bool is_static = Taps != dynamic && Channels != dynamic;

 public:
  using accumulator = typename traits::accumulator;
  using wide = typename traits::wide;
  using weight = typename traits::weight;

  /// weight_of(channel, term, tap), bias_of(channel) as wide.
  template <class WeightOf, class BiasOf>
  constexpr status pack(std::size_t channels, std::size_t taps, std::size_t terms, const WeightOf& weight_of,
                        const BiasOf& bias_of, typename M::activation zero_point) noexcept {
    channels_ = channels;
    taps_ = taps;
    terms_ = terms;
    if (channels > std::numeric_limits<std::size_t>::max() / 64 / taps / terms)
      return status::make(errc::shape, "weights: ", channels, " channels x ", taps, " taps exceed the address space");
    if (status s = weights_.resize(channels * taps * terms); !s.ok()) return s;
    if (status s = bias_.resize(channels); !s.ok()) return s;
    bool fits = taps * terms <= traits::max_depth && sizeof(typename traits::sum) <= sizeof(accumulator);
    for (std::size_t c = 0; c < channels; ++c) {
      detail::folded_bias<M> folded(bias_of(c), zero_point);
      for (std::size_t i = 0; i < taps * terms; ++i) {
        const weight w = weight_of(c, i / taps, i % taps);
        weights_[i * channels + c] = w;
        folded.add(w);
      }
      bias_[c] = folded.value();
      fits = fits && folded.fits();
    }
    wide_ = traits::integer && !fits;
    return {};
  }

  constexpr std::size_t channels() const noexcept { return channels_; }
  constexpr std::size_t taps() const noexcept { return taps_; }
  constexpr std::size_t terms() const noexcept { return terms_; }
  constexpr bool wide_sums() const noexcept { return wide_; }
  /// Weights of a tap (terms one after another), for all channels.
  constexpr const weight* tap(std::size_t i) const noexcept { return weights_.data() + i * channels_; }
  constexpr const wide* bias() const noexcept { return bias_.data(); }
  constexpr std::size_t bytes() const noexcept {
    return weights_.size() * sizeof(weight) + bias_.size() * sizeof(wide);
  }

 private:
  std::size_t channels_ = 0, taps_ = 0, terms_ = 1;
  bool wide_ = false;
  buffer<weight, is_static ? Taps * Channels : dynamic> weights_;
  buffer<wide, is_static ? Channels : dynamic> bias_;
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
    if (!weights.wide_sums()) {
      for (std::size_t c = 0; c < Block; ++c) sums[c] = wrap<accumulator>(bias[c]);
      add_taps<Block>(channel, 0, products, sums);
      for (std::size_t c = 0; c < Block; ++c) results[c] = static_cast<sum>(sums[c]);
    } else {
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

/// Computes the output pixels of `range`. Source: as for contract(), one row per pixel, of which the taps are taken
/// through pointers; `taps` is a table for one pixel.
template <Mac M, class Weights, class Source, class Epilogue, class Output>
constexpr void depthwise(const Weights& weights, const Source& source, std::size_t multiplier, const Epilogue& epilogue,
                         const Output& output, const typename M::activation** taps, row_range range) noexcept {
  const std::size_t last_row = polymac::detail::smaller(range.end, source.rows());
  for (std::size_t row = range.begin; row < last_row; ++row) {
    source.pointers(row, 1, {weights.taps(), source.x.channels}, taps);
    detail::depthwise_pixel<M, Weights, Epilogue>{weights, epilogue, multiplier, taps, row}.template blocks<64>(
        0, output.row(row));
  }
}

}  // namespace kernel
POLYMAC_END
