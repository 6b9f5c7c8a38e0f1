// SPDX-License-Identifier: MIT
#include "event_net.hpp"
#include "examples/common/random.hpp"

#include <algorithm>
#include <cmath>

namespace example {

namespace {

constexpr std::size_t count = 9, size = 64, channels = 16;

/// A ring: what a moving disc leaves in a window of an event camera, positive in front and negative behind. Some of
/// the rings move on by a pixel from window to window.
void draw_ring(int x, int y, int radius, std::size_t channel, codes& window) {
  constexpr int outer = static_cast<int>(size);
  for (int dy = -radius - 1; dy <= radius + 1; ++dy)
    for (int dx = -radius - 1; dx <= radius + 1; ++dx) {
      const double distance = std::hypot(dx, dy) - radius;
      const int py = y + dy, px = x + dx;
      if (std::abs(distance) > 0.6 || px < 0 || py < 0 || px >= outer || py >= outer) continue;
      const auto pixel = static_cast<std::size_t>(py) * size + static_cast<std::size_t>(px);
      window[pixel * channels + channel] = static_cast<std::int8_t>(dx >= 0 ? 1 : -1);
    }
}

/// Sums of the convolution, outputs x channels.
std::vector<std::int32_t> sums_of(const event_layer& l, const codes& x) {
  std::vector<std::int8_t> columns(9 * l.in * l.out);  // tap, input, output
  for (std::size_t o = 0; o < l.out; ++o)
    for (std::size_t k = 0; k < 9 * l.in; ++k) columns[k * l.out + o] = l.weights[o * 9 * l.in + k];
  std::vector<std::int32_t> sums(l.outputs(), 0);
  for (std::size_t oy = 0; oy < l.out_height(); ++oy)
    for (std::size_t ox = 0; ox < l.out_width(); ++ox)
      for (std::size_t tap = 0; tap < 9; ++tap) {
        const std::size_t y = oy + tap / 3 - l.padding, at = ox + tap % 3 - l.padding;
        if (y >= l.height || at >= l.width) continue;
        std::int32_t* const to = &sums[(oy * l.out_width() + ox) * l.out];
        for (std::size_t i = 0; i < l.in; ++i) {
          const std::int32_t v = x[(y * l.width + at) * l.in + i];
          if (v == 0) continue;
          const std::int8_t* const w = &columns[(tap * l.in + i) * l.out];
          for (std::size_t o = 0; o < l.out; ++o) to[o] += v * w[o];
        }
      }
  return sums;
}

/// Factors and addends with which some 15 % of the outputs are not 0.
void calibrate(const std::vector<std::int32_t>& sums, event_layer& l) {
  l.divisor = 524288;
  l.top = 3;
  l.mul.resize(l.out), l.add.resize(l.out);
  for (std::size_t o = 0; o < l.out; ++o) {
    double mean = 0, square = 0;
    const std::size_t pixels = sums.size() / l.out;
    for (std::size_t p = 0; p < pixels; ++p) {
      const double v = sums[p * l.out + o];
      mean += v, square += v * v;
    }
    mean /= static_cast<double>(pixels);
    const double deviation = std::sqrt(std::max(square / static_cast<double>(pixels) - mean * mean, 0.01));
    const double mul = static_cast<double>(l.divisor) / deviation;
    l.mul[o] = static_cast<std::int32_t>(mul);
    l.add[o] = static_cast<std::int32_t>(-mean * mul);
  }
}

codes activations(const event_layer& l, const std::vector<std::int32_t>& sums) {
  codes y(sums.size());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const std::int64_t scaled = std::int64_t{sums[i]} * l.mul[i % l.out] + l.add[i % l.out];
    const std::int64_t floor = scaled / l.divisor - (scaled % l.divisor < 0 ? 1 : 0);
    y[i] = static_cast<std::int8_t>(std::clamp<std::int64_t>(floor, 0, l.top));
  }
  return y;
}

codes maxima(const event_layer& l, const codes& x) {
  codes y(l.pooled(), 0);
  const std::size_t height = l.out_height() / 2, width = l.out_width() / 2;
  for (std::size_t p = 0; p < height * width; ++p)
    for (const std::size_t part : {0U, 1U, 2U, 3U})
      for (std::size_t c = 0; c < l.out; ++c) {
        const std::size_t row = p / width * 2 + part / 2, column = p % width * 2 + part % 2;
        std::int8_t& most = y[p * l.out + c];
        most = std::max(most, x[(row * l.out_width() + column) * l.out + c]);
      }
  return y;
}

}  // namespace

event_sequence draw_events() {
  event_sequence s;
  s.name = "drawn";
  random next(1);
  struct ring {
    int x, y, radius, dx, dy;
    std::size_t channel;
  };
  std::vector<ring> rings;
  for (std::size_t i = 0; i < 2 * channels; ++i) {
    const bool moves = i % 6 == 0;
    rings.push_back({next.within(12, 52), next.within(12, 52), next.within(5, 13), moves ? 1 : 0,
                     moves ? next.within(-1, 1) : 0, i % channels});
  }
  for (std::size_t w = 0; w < count; ++w) {
    s.windows.emplace_back(size * size * channels, std::int8_t{0});
    for (ring& r : rings) {
      draw_ring(r.x, r.y, r.radius, r.channel, s.windows.back());
      r.x += r.dx, r.y += r.dy;
    }
  }
  std::size_t side = size, in = channels;
  for (const std::size_t out : {32U, 96U, 96U, 96U, 96U}) {
    event_layer l;
    l.height = l.width = side, l.in = in, l.out = out;
    l.padding = side > 4 ? 1 : 0;
    for (std::size_t i = 0; i < out * 9 * in; ++i)  // 57 % zeros
      l.weights.push_back(static_cast<std::int8_t>(next.below(100) < 57 ? 0 : next.within(0, 1) * 2 - 1));
    side = l.out_height() / 2, in = out;
    s.layers.push_back(std::move(l));
  }
  for (const codes& window : s.windows) {
    auto& goldens = s.goldens.emplace_back();
    const codes* x = &window;
    for (event_layer& l : s.layers) {
      const auto sums = sums_of(l, *x);
      if (l.mul.empty()) calibrate(sums, l);
      goldens.push_back(activations(l, sums));
      goldens.push_back(maxima(l, goldens.back()));
      x = &goldens.back();
    }
  }
  return s;
}

}  // namespace example
