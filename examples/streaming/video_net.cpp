// SPDX-License-Identifier: MIT
#include "video_net.hpp"

#include "examples/common/files.hpp"
#include "examples/common/random.hpp"

#include <algorithm>
#include <cmath>

namespace example {

namespace {

constexpr std::size_t frame_height = 240, frame_width = 320;

void add_disc(video& v, pixels8& frame, double x, double y, double radius, int brightness) {
  for (std::size_t row = 0; row < v.height; ++row)
    for (std::size_t column = 0; column < v.width; ++column)
      if (std::hypot(static_cast<double>(column) - x, static_cast<double>(row) - y) < radius)
        frame[row * v.width + column] = static_cast<std::uint8_t>(brightness);
}

std::int8_t rounded(double w) { return static_cast<std::int8_t>(std::lround(std::clamp(w, -127.0, 127.0))); }

/// Filter `index` of 16 at (dx, dy) from its middle: 8 edges, 4 lines, a bright and a dark blob, 2 means.
double filter(std::size_t index, double dx, double dy) {
  const double eighth = 3.14159265358979323846 / 4;
  const double near = std::exp(-(dx * dx + dy * dy) / 2);
  if (index < 8) {
    const double angle = static_cast<double>(index) * eighth;
    return 60 * near * (dx * std::cos(angle) + dy * std::sin(angle));
  }
  if (index < 12) {
    const double angle = static_cast<double>(index - 8) * eighth;
    const double across = dx * std::cos(angle) + dy * std::sin(angle),
                 along = dy * std::cos(angle) - dx * std::sin(angle);
    return 40 * near * (across * across - along * along);
  }
  const double blob = dx == 0 && dy == 0 ? 96 : -12;
  if (index < 14) return index == 12 ? blob : -blob;
  return index == 14 ? 14 : 28 * near;
}

std::vector<std::int8_t> filters() {
  std::vector<std::int8_t> weights;
  for (std::size_t o = 0; o < 16; ++o)
    for (int dy = -1; dy <= 1; ++dy)
      for (int dx = -1; dx <= 1; ++dx) weights.push_back(rounded(filter(o, dx, dy)));
  return weights;
}

/// Seeded weights, smooth over the taps, so that a channel sees some input channels in their place.
std::vector<std::int8_t> seeded(std::size_t in, std::size_t out, std::uint64_t seed) {
  random next(seed);
  std::vector<std::int8_t> weights(out * 9 * in);
  for (std::size_t o = 0; o < out; ++o)
    for (std::size_t i = 0; i < in; ++i) {
      const int strength = next.within(-24, 40);
      for (std::size_t tap = 0; tap < 9; ++tap) {
        const bool middle = tap == 4, cross = tap % 2 == 1;
        weights[(o * 9 + tap) * in + i] = static_cast<std::int8_t>(strength *
                                                                       (middle  ? 4
                                                                        : cross ? 2
                                                                                : 1) /
                                                                       4 +
                                                                   next.within(-3, 3));
      }
    }
  return weights;
}

std::int64_t sum_at(const video_layer& l, const pixels8& x, std::size_t row, std::size_t column, std::size_t output) {
  std::int64_t sum = 0;
  for (std::size_t tap = 0; tap < 9; ++tap) {
    const std::size_t y = row * l.stride + tap / 3 - 1, at = column * l.stride + tap % 3 - 1;
    if (y >= l.height || at >= l.width) continue;
    for (std::size_t i = 0; i < l.in; ++i)
      sum += std::int64_t{x[(y * l.width + at) * l.in + i]} * l.weights[(output * 9 + tap) * l.in + i];
  }
  return sum;
}

/// Finds the scale, and what the layer makes of x; of the last layer the scale only, from every 16th pixel.
pixels8 calibrate(video_layer& l, const pixels8& x, bool last) {
  std::vector<std::int64_t> sums;
  for (std::size_t row = 0; row < l.out_height(); row += last ? 4 : 1)
    for (std::size_t column = 0; column < l.out_width(); column += last ? 4 : 1)
      for (std::size_t o = 0; o < l.out; ++o) sums.push_back(sum_at(l, x, row, column, o));
  std::vector<std::int64_t> sorted = sums;
  const auto most = sorted.end() - static_cast<std::ptrdiff_t>(sorted.size() / 1000) - 1;  // all but a thousandth
  std::nth_element(sorted.begin(), most, sorted.end());
  l.scale = static_cast<float>(255.0 / static_cast<double>(std::max<std::int64_t>(*most, 1)));
  pixels8 y;
  for (const std::int64_t s : sums)
    y.push_back(static_cast<std::uint8_t>(std::clamp(std::lround(static_cast<double>(s) * l.scale), 0L, 255L)));
  return y;
}

}  // namespace

polymac::result<video> read_video(const std::filesystem::path& path) {
  constexpr std::size_t count = 51, size = frame_height * frame_width;
  const auto content = read_file(path, count * size);
  if (!content.ok()) return content.status();
  video v{"video", frame_height, frame_width, {}};
  for (std::size_t f = 0; f < count; ++f) {
    auto& frame = v.frames.emplace_back();
    for (std::size_t i = 0; i < size; ++i) frame.push_back(std::to_integer<std::uint8_t>((*content)[f * size + i]));
  }
  return v;
}

video draw_video() {
  constexpr std::size_t count = 24;
  video v{"drawn", frame_height, frame_width, {}};
  random next(2);
  // Noise that neighbours share, on a slope.
  constexpr std::size_t cell = 16, cells = frame_width / cell + 1;
  pixels8 coarse(cells * cells), background(v.height * v.width);
  for (auto& c : coarse) c = static_cast<std::uint8_t>(next.within(60, 160));
  for (std::size_t i = 0; i < background.size(); ++i) {
    const std::size_t y = i / v.width, x = i % v.width;
    const int value = coarse[y / cell * cells + x / cell] + static_cast<int>(y) / 8 + next.within(-4, 4);
    background[i] = static_cast<std::uint8_t>(value);
  }
  for (std::size_t f = 0; f < count; ++f) {
    pixels8 frame = background;
    const auto t = static_cast<double>(f);
    add_disc(v, frame, 20 + 5 * t, 60 + t, 14, 230);
    add_disc(v, frame, 300 - 4 * t, 170 - 2 * t, 20, 30);
    add_disc(v, frame, 160 + 40 * std::cos(t / 4), 120 + 40 * std::sin(t / 4), 9, 250);
    // Every third pixel is disturbed in a frame.
    for (auto& p : frame)
      if (next.below(3) == 0) p = static_cast<std::uint8_t>(p + next.within(-2, 2));
    v.frames.push_back(std::move(frame));
  }
  return v;
}

std::vector<video_layer> make_video_net(const video& v) {
  std::vector<video_layer> net(3);
  std::size_t height = v.height, width = v.width, in = 1;
  const std::size_t outputs[] = {16, 32, 32};
  pixels8 x = v.frames.front();
  for (std::size_t i = 0; i < net.size(); ++i) {
    video_layer& l = net[i];
    l.height = height, l.width = width, l.in = in, l.out = outputs[i], l.stride = i == 0 ? 2 : 1;
    l.weights = i == 0 ? filters() : seeded(in, l.out, i);
    x = calibrate(l, x, i + 1 == net.size());
    height = l.out_height(), width = l.out_width(), in = l.out;
  }
  return net;
}

}  // namespace example
