// SPDX-License-Identifier: MIT
#include "events.hpp"

#include "event_layers.hpp"
#include "examples/common/progress.hpp"
#include "examples/common/timing.hpp"

#include <algorithm>

namespace example {

using polymac::errc;
using polymac::result;
using polymac::status;

namespace {

constexpr mode modes[] = {mode::dense, mode::zero_skip, mode::delta, mode::both};

/// Maxima over 2 x 2 pixels.
class halved {
 public:
  explicit halved(const event_layer& l)
      : height_(l.out_height() / 2), width_(l.out_width() / 2), channels_(l.out), values_(l.pooled()) {}
  status run(polymac::image_view<const std::int8_t> x) {
    return pool_(x, {values_.data(), 1, height_, width_, channels_});
  }
  polymac::image_view<const std::int8_t> output() const { return {values_.data(), 1, height_, width_, channels_}; }

 private:
  polymac::layer::max_pool2d<std::int8_t> pool_{polymac::window{{2, 2}, {2, 2}, {1, 1}, {}}};
  std::size_t height_, width_, channels_;
  codes values_;
};

std::size_t differing(polymac::image_view<const std::int8_t> y, const codes& golden) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < golden.size(); ++i) count += y.data[i] != golden[i] ? 1 : 0;
  return count;
}

/// A net in one arithmetic and mode.
class candidate {
 public:
  candidate(const event_sequence& s, layer_runs<std::int8_t> layers) : s_(&s), layers_(std::move(layers)) {
    for (const event_layer& l : s.layers) pools_.emplace_back(l);
  }

  struct total {
    work done;
    std::size_t values = 0, mismatches = 0;
    std::vector<double> times, later_times;  ///< of the passes, seconds
  };
  std::vector<total> totals;  ///< of the net, then of the layers

  /// All windows once; with `compare` every output is looked at, else the time is taken.
  status pass(bool compare) {
    totals.resize(layers_.size() + 1);
    for (const auto& l : layers_) l->reset();
    if (!compare)
      for (total& t : totals) t.times.push_back(0), t.later_times.push_back(0);
    for (std::size_t w = 0; w < s_->windows.size(); ++w)
      if (status bad = window(w, compare); !bad.ok()) return status::make(bad.code(), "window ", w, ", ", bad.c_str());
    return {};
  }

 private:
  status window(std::size_t w, bool compare) {
    const event_layer& first = s_->layers.front();
    polymac::image_view<const std::int8_t> x(s_->windows[w].data(), 1, first.height, first.width, first.in);
    stopwatch watch;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      status bad = layers_[i]->run(x);
      if (bad.ok()) bad = pools_[i].run(layers_[i]->output());
      if (!bad.ok()) return status::make(bad.code(), "layer ", i + 1, ": ", bad.c_str());
      x = pools_[i].output();
      if (compare)
        look(w, i);
      else
        add_time(i + 1, w, watch.lap());
    }
    return {};
  }
  void add_time(std::size_t row, std::size_t w, double seconds) {
    for (const std::size_t r : {std::size_t{0}, row}) {
      totals[r].times.back() += seconds;
      if (w > 0) totals[r].later_times.back() += seconds;
    }
  }
  void look(std::size_t w, std::size_t layer) {
    const auto& goldens = s_->goldens[w];
    const std::size_t bad = differing(layers_[layer]->output(), goldens[2 * layer]) +
                            differing(pools_[layer].output(), goldens[2 * layer + 1]);
    for (total* t : {&totals[0], &totals[layer + 1]}) {
      t->mismatches += bad;
      t->values += goldens[2 * layer].size() + goldens[2 * layer + 1].size();
      t->done += layers_[layer]->last();
    }
  }

  const event_sequence* s_;
  layer_runs<std::int8_t> layers_;
  std::vector<halved> pools_;
};

}  // namespace

result<std::vector<event_row>> run_events(const event_sequence& s, std::size_t passes) {
  struct arithmetic {
    const char* name;
    result<layer_runs<std::int8_t>> (*layers)(const event_sequence&, mode);
  };
  constexpr arithmetic arithmetics[] = {{"int8", int8_layers}, {"bit_weights<2>", two_bit_layers}};
  std::vector<event_row> rows;
  progress_bar bar(s.name, std::size(arithmetics) * passes);
  std::size_t done = 0;
  for (const arithmetic& a : arithmetics) {
    std::vector<candidate> all;
    for (const mode how : modes) {
      auto layers = a.layers(s, how);
      if (!layers.ok()) return layers.status();
      all.emplace_back(s, std::move(*layers));
      if (status bad = all.back().pass(true); !bad.ok()) return bad;
    }
    for (std::size_t p = 0; p < passes; ++p, bar.show(++done))
      for (candidate& c : all)
        if (status bad = c.pass(false); !bad.ok()) return bad;
    for (std::size_t m = 0; m < all.size(); ++m)
      for (std::size_t i = 0; i < all[m].totals.size(); ++i) {
        const candidate::total &t = all[m].totals[i], &dense = all[0].totals[i];
        rows.push_back({a.name, modes[m], i, t.done, median(t.times), speed_up(dense.times, t.times),
                        speed_up(dense.later_times, t.later_times), t.values, t.mismatches});
      }
  }
  return rows;
}

}  // namespace example
