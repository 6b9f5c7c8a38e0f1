// SPDX-License-Identifier: MIT
// The convolutions of an event net in one arithmetic.
#pragma once

#include "clipped_line.hpp"
#include "event_net.hpp"
#include "layer_run.hpp"
#include "polymac/polymac.hpp"
#include "polymac/sparsity.hpp"

#include <utility>

namespace example {

polymac::result<layer_runs<std::int8_t>> int8_layers(const event_sequence& s, mode how);
/// Weights of two bits.
polymac::result<layer_runs<std::int8_t>> two_bit_layers(const event_sequence& s, mode how);

template <class M>
polymac::result<layer_runs<std::int8_t>> layers_of(const event_sequence& s, mode how) {
  namespace policy = polymac::policy;
  // Four channels together: that is what a product of bytes takes.
  using changes = policy::delta<0, policy::grain::group, policy::update::accumulate>;
  layer_runs<std::int8_t> made;
  for (const event_layer& l : s.layers) {
    const std::size_t p = l.padding;
    const polymac::layer::convolution slides{{3, 3}, {1, 1}, {1, 1}, {{p, p, p, p}}, 1};
    const polymac::image_view<const std::int8_t> weights(l.weights.data(), l.out, 3, 3, l.in);
    const clipped_line stage(l.mul, l.add, l.divisor);
    const std::vector<std::int32_t> no_bias;
    const polymac::extent2d input{l.height, l.width};
    switch (how) {
      case mode::dense:
        made.push_back(dense(polymac::conv2d<M>(slides, weights, no_bias, stage), input));
        break;
      case mode::zero_skip:
        made.push_back(streamed(polymac::conv2d<M, policy::zero_skip>(slides, weights, no_bias, stage), input));
        break;
      case mode::delta:
        made.push_back(streamed(polymac::conv2d<M, changes>(slides, weights, no_bias, stage), input));
        break;
      case mode::both:
        made.push_back(streamed(
            polymac::conv2d<M, policy::both<policy::zero_skip, changes>>(slides, weights, no_bias, stage), input));
        break;
    }
  }
  return made;
}

}  // namespace example
