// SPDX-License-Identifier: MIT
#include "video.hpp"

#include "examples/common/progress.hpp"
#include "examples/common/timing.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <span>

namespace example {

using polymac::errc;
using polymac::result;
using polymac::status;

namespace {

constexpr unsigned thresholds[] = {0, 4, 16};

/// A net with one threshold, or the dense one.
class candidate {
 public:
  candidate(const video& v, const std::vector<video_layer>& net, layer_runs<std::uint8_t> layers)
      : v_(&v), net_(&net), layers_(std::move(layers)), totals_(layers_.size() + 1) {}

  struct total {
    work done;
    std::vector<double> times;  ///< of the passes, seconds
  };
  std::vector<total>& totals() { return totals_; }

  void reset() {
    for (const auto& l : layers_) l->reset();
  }
  status frame(std::size_t f) {
    polymac::image_view<const std::uint8_t> x(v_->frames[f].data(), 1, v_->height, v_->width, 1);
    stopwatch watch;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      if (const status s = layers_[i]->run(x); !s.ok())
        return status::make(s.code(), "frame ", f, ", layer ", i + 1, ": ", s.c_str());
      x = layers_[i]->output();
      const double seconds = watch.lap();
      if (timed_)
        for (const std::size_t row : {std::size_t{0}, i + 1}) totals_[row].times.back() += seconds;
    }
    return {};
  }
  /// All frames once, and how long that takes.
  status timed_pass() {
    reset();
    for (total& t : totals_) t.times.push_back(0);
    timed_ = true;
    for (std::size_t f = 0; f < v_->frames.size(); ++f)
      if (const status s = frame(f); !s.ok()) return s;
    timed_ = false;
    return {};
  }
  void count_work() {
    for (std::size_t i = 0; i < layers_.size(); ++i)
      for (const std::size_t row : {std::size_t{0}, i + 1}) totals_[row].done += layers_[i]->last();
  }
  std::span<const std::uint8_t> output() const {
    const auto y = layers_.back()->output();
    return {y.data, y.height * y.width * y.channels};
  }

  /// What the layers were given last, as far as they know.
  std::vector<pixels8> references() const {
    std::vector<pixels8> all;
    for (const auto& l : layers_) {
      const auto r = l->reference();
      auto& dense = all.emplace_back();
      for (std::size_t y = 0; y < r.height; ++y)
        dense.insert(dense.end(), r.pixel(0, y, 0), r.pixel(0, y, 0) + r.width * r.channels);
    }
    return all;
  }
  /// For every output of layer i: does it read a pixel that differs between two references?
  std::vector<bool> dirty(std::size_t i, const pixels8& before, const pixels8& now) const {
    const video_layer& l = (*net_)[i];
    std::vector<bool> outputs(l.out_height() * l.out_width());
    for (std::size_t p = 0; p < l.height * l.width; ++p) {
      const auto at = static_cast<std::ptrdiff_t>(p * l.in), end = at + static_cast<std::ptrdiff_t>(l.in);
      if (std::equal(before.begin() + at, before.begin() + end, now.begin() + at)) continue;
      for (std::size_t tap = 0; tap < 9; ++tap) {
        const std::size_t y = p / l.width + 1 - tap / 3, x = p % l.width + 1 - tap % 3;  // of the tap's output
        if (y % l.stride == 0 && x % l.stride == 0 && y / l.stride < l.out_height() && x / l.stride < l.out_width())
          outputs[y / l.stride * l.out_width() + x / l.stride] = true;
      }
    }
    return outputs;
  }

 private:
  const video* v_;
  const std::vector<video_layer>* net_;
  layer_runs<std::uint8_t> layers_;
  std::vector<total> totals_;
  bool timed_ = false;
};

struct error {
  unsigned largest = 0;
  double sum = 0, count = 0;
  void add(std::span<const std::uint8_t> exact, std::span<const std::uint8_t> other) {
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const auto distance = static_cast<unsigned>(std::abs(int{exact[i]} - int{other[i]}));
      largest = std::max(largest, distance);
      sum += distance;
    }
    count += static_cast<double>(exact.size());
  }
};

/// Some frames, one below the other: as they are, then with each threshold what was computed for them.
class sheet_writer {
 public:
  sheet_writer(picture* to, const video& v, const std::vector<video_layer>& net)
      : to_(to), v_(&v), height_(net[0].out_height()), width_(net[0].out_width()) {
    if (to_ != nullptr) to_->resize(rows * (height_ + gap) - gap, (std::size(thresholds) + 1) * (width_ + gap) - gap);
  }
  bool shows(std::size_t frame) const { return to_ != nullptr && row_of(frame) < rows; }
  /// Outputs of a frame; the first of the layers that computed an output gives it its tint.
  void draw(std::size_t frame, std::size_t column, const std::vector<std::vector<bool>>& dirty) const {
    for (std::size_t y = 0; y < height_; ++y)
      for (std::size_t x = 0; x < width_; ++x) {
        unsigned tint = 0;
        for (std::size_t layer = dirty.size(); layer-- > 0;)
          if (dirty[layer][y * width_ + x]) tint = static_cast<unsigned>(layer) + 1;
        const std::uint8_t* from = &v_->frames[frame][2 * y * v_->width + 2 * x];
        const unsigned grey = (from[0] + from[1] + from[v_->width] + from[v_->width + 1] + 2U) / 4;
        to_->set(row_of(frame) * (height_ + gap) + y, column * (width_ + gap) + x, static_cast<std::uint8_t>(grey),
                 tint);
      }
  }

 private:
  static constexpr std::size_t rows = 5, gap = 4;
  /// Frames that are equally far apart, not the first one, of which everything is computed; `rows` for those between.
  std::size_t row_of(std::size_t frame) const {
    const std::size_t distance = std::max<std::size_t>((v_->frames.size() - 1) / rows, 1);
    return frame > 0 && frame % distance == 0 ? frame / distance - 1 : rows;
  }
  picture* to_;
  const video* v_;
  std::size_t height_, width_;
};

}  // namespace

result<std::vector<video_row>> run_video(const video& v, std::size_t passes, picture* sheet) {
  const std::vector<video_layer> net = make_video_net(v);
  std::vector<candidate> all;
  auto exact = dense_layers(net);
  if (!exact.ok()) return exact.status();
  all.emplace_back(v, net, std::move(*exact));
  for (const unsigned t : thresholds) {
    auto layers = streamed_layers(net, t);
    if (!layers.ok()) return layers.status();
    all.emplace_back(v, net, std::move(*layers));
  }

  std::vector<error> errors(all.size());
  const sheet_writer writer(sheet, v, net);
  progress_bar bar(v.name, v.frames.size() + passes);
  for (std::size_t f = 0; f < v.frames.size(); ++f, bar.show(f)) {
    for (std::size_t c = 0; c < all.size(); ++c) {
      const bool drawn = writer.shows(f) && c > 0;
      const auto before = drawn ? all[c].references() : std::vector<pixels8>{};
      if (const status s = all[c].frame(f); !s.ok()) return s;
      all[c].count_work();
      errors[c].add(all[0].output(), all[c].output());
      std::vector<std::vector<bool>> dirty;
      if (drawn) {
        const auto now = all[c].references();
        for (std::size_t i = 0; i < now.size(); ++i) dirty.push_back(all[c].dirty(i, before[i], now[i]));
      }
      if (writer.shows(f)) writer.draw(f, c, dirty);
    }
  }
  for (std::size_t p = 0; p < passes; ++p, bar.show(v.frames.size() + p))
    for (candidate& c : all)
      if (const status s = c.timed_pass(); !s.ok()) return s;

  std::vector<video_row> rows;
  for (std::size_t c = 0; c < all.size(); ++c)
    for (std::size_t i = 0; i < all[c].totals().size(); ++i) {
      const candidate::total &t = all[c].totals()[i], &dense = all[0].totals()[i];
      video_row r;
      if (c > 0) r.threshold = thresholds[c - 1];
      r.layer = i;
      r.done = t.done;
      r.seconds = median(t.times);
      r.speed_up = speed_up(dense.times, t.times);
      r.largest_error = errors[c].largest;
      r.mean_error = errors[c].sum / errors[c].count;
      rows.push_back(r);
    }
  return rows;
}

}  // namespace example
