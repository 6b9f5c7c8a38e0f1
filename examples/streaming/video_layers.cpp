// SPDX-License-Identifier: MIT
#include "video.hpp"

#include "polymac/polymac.hpp"
#include "polymac/sparsity.hpp"

namespace example {

namespace {

using polymac::result;

template <class Make>
result<layer_runs<std::uint8_t>> layers_of(const std::vector<video_layer>& net, const Make& make) {
  layer_runs<std::uint8_t> made;
  for (const video_layer& l : net) {
    const polymac::layer::convolution slides{{3, 3}, {l.stride, l.stride}, {1, 1}, {{1, 1, 1, 1}}, 1};
    const polymac::image_view<const std::int8_t> weights(l.weights.data(), l.out, 3, 3, l.in);
    const auto stage = polymac::requantize<polymac::rounding::fp32_nearest_even, std::uint8_t>(l.scale, 0);
    made.push_back(make(slides, weights, stage, polymac::extent2d{l.height, l.width}));
  }
  return made;
}

constexpr std::span<const std::int32_t> no_bias;

}  // namespace

result<layer_runs<std::uint8_t>> dense_layers(const std::vector<video_layer>& net) {
  return layers_of(net, [](const auto& slides, const auto& weights, const auto& stage, polymac::extent2d input) {
    return dense(polymac::conv2d<polymac::mac::uint8>(slides, weights, no_bias, stage), input);
  });
}

result<layer_runs<std::uint8_t>> streamed_layers(const std::vector<video_layer>& net, unsigned threshold) {
  auto made = layers_of(net, [&](const auto& slides, const auto& weights, const auto& stage, polymac::extent2d input) {
    return streamed(polymac::conv2d<polymac::mac::uint8, polymac::policy::delta<>>(slides, weights, no_bias, stage),
                    input, threshold);
  });
  return made;
}

}  // namespace example
