// SPDX-License-Identifier: MIT
#include "bench/sparsity_streams.hpp"

#include "bench/paired.hpp"
#include "bench/report.hpp"

#include "polymac/sparsity.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace bench {
namespace {

namespace pm = polymac;
namespace policy = polymac::policy;

/// What the two images, one after the other, differ in, or what of them is not 0.
enum class pattern { patch, changed_groups, live_groups };

/// Two images of side x side x channels, which are called with in turn.
struct images {
  std::vector<std::int8_t> of[2];
  images(std::size_t side, std::size_t channels, pattern what, double share) {
    std::mt19937 random(1);
    const auto byte = [&] { return static_cast<std::int8_t>(static_cast<int>(random() % 127) + 1); };
    const auto chosen = [&] { return static_cast<double>(random() % 100000) < share * 100000; };
    const std::size_t count = side * side * channels;
    for (auto& image : of) image.assign(count, 0);
    if (what == pattern::live_groups) {
      for (auto& image : of)
        for (std::size_t i = 0; i < count; i += 4)
          if (chosen()) image[i + random() % 4] = byte();
      return;
    }
    for (std::size_t i = 0; i < count; ++i) of[0][i] = of[1][i] = byte();
    if (what == pattern::changed_groups) {
      for (std::size_t i = 0; i < count; i += 4)
        if (chosen()) of[1][i + random() % 4] = static_cast<std::int8_t>(-of[1][i + random() % 4] / 2);
      return;
    }
    // The outputs of 3 x 3 windows that read the patch: one pixel more on every side.
    const auto reach = static_cast<std::size_t>(std::lround(std::sqrt(share) * static_cast<double>(side)));
    const std::size_t patch = share >= 1 ? side : reach - 2, first = (side - patch) / 2;
    for (std::size_t y = first; y < first + patch; ++y)
      for (std::size_t x = first * channels; x < (first + patch) * channels; ++x)
        of[1][y * side * channels + x] = static_cast<std::int8_t>(-of[0][y * side * channels + x]);
  }
};

/// Holds outputs against those of the dense layer, and sets the counters.
template <class Stream, class Expected, class Ours, class Dense>
void measure(benchmark::State& state, const Stream& stream, const Expected& expected, std::size_t& turn, const bool& ok,
             const Ours& ours, const Dense& dense) {
  for (int i = 0; i < 3; ++i) {
    ours();
    --turn;
    dense();
    if (!ok || !std::equal(expected.begin(), expected.end(), stream.output().data))
      return state.SkipWithError("its outputs are not those of the dense layer");
  }
  state.counters["x_dense"] = times_as_fast(dense, ours);
  state.counters["rows"] = static_cast<double>(stream.last().rows) / static_cast<double>(stream.last().of_rows);
  state.counters["macs"] = static_cast<double>(stream.last().macs) / static_cast<double>(stream.last().of_macs);
}

template <class P>
void add_convolution(const std::string& name, std::size_t side, std::size_t channels, std::size_t filters, pattern what,
                     double share) {
  const std::string work = "conv_" + std::to_string(side) + "x" + std::to_string(side) + "x" + std::to_string(channels);
  benchmark::RegisterBenchmark(("sparse/int8/" + name + "/" + work).c_str(), [=](benchmark::State& state) {
    const images x(side, channels, what, share);
    std::mt19937 random(2);
    std::vector<std::int8_t> w(filters * 9 * channels);
    for (auto& v : w) v = static_cast<std::int8_t>(random());
    const std::vector<std::int32_t> bias(filters, 7);
    const pm::image_view<const std::int8_t> weights(w.data(), filters, 3, 3, channels);
    const auto stages = pm::requantize(0.0005, 0);
    const auto dense = pm::conv2d<pm::mac::int8>({.padding = pm::same}, weights, bias, stages);
    const auto ours = pm::conv2d<pm::mac::int8, P>({.padding = pm::same}, weights, bias, stages);
    auto stream = ours.make_state({side, side});
    std::vector<std::byte> memory(dense.workspace_bytes({side, side}));
    std::vector<std::int8_t> y(side * side * filters), expected(y.size());
    std::size_t turn = 0;
    const auto view = [&] {
      return pm::image_view<const std::int8_t>(x.of[turn++ % 2].data(), 1, side, side, channels);
    };
    bool ok = true;
    const auto run_ours = [&] { ok = ours(view(), stream, pm::workspace(memory)).ok() && ok; };
    const auto run_dense = [&] {
      ok = dense(view(), {expected.data(), 1, side, side, filters}, pm::workspace(memory)).ok() && ok;
    };
    measure(state, stream, expected, turn, ok, run_ours, run_dense);
    const auto macs = static_cast<double>((9 * side * side - 12 * side + 4) * channels * filters);
    run(state, {arithmetic::int8, macs, 0, 0}, ours.explain().c_str(), run_ours);
  });
}

template <class P>
void add_row(const std::string& name, std::size_t columns, std::size_t depth, pattern what, double share) {
  const std::string work = "row_1x" + std::to_string(columns) + "x" + std::to_string(depth);
  benchmark::RegisterBenchmark(("sparse/int8/" + name + "/" + work).c_str(), [=](benchmark::State& state) {
    const images x(1, depth, what, share);
    std::mt19937 random(2);
    std::vector<std::int8_t> w(columns * depth);
    for (auto& v : w) v = static_cast<std::int8_t>(random());
    const std::vector<std::int32_t> bias(columns, 7);
    const pm::matrix_view<const std::int8_t> weights(w.data(), columns, depth);
    const auto dense = pm::linear<pm::mac::int8>(weights, bias);
    const auto ours = pm::linear<pm::mac::int8, P>(weights, bias);
    auto stream = ours.make_state();
    std::vector<std::int32_t> expected(columns);
    std::size_t turn = 0;
    const auto view = [&] { return pm::matrix_view<const std::int8_t>(x.of[turn++ % 2].data(), 1, depth); };
    bool ok = true;
    const auto run_ours = [&] { ok = ours(view(), stream).ok() && ok; };
    const auto run_dense = [&] { ok = dense(view(), {expected.data(), 1, columns}).ok() && ok; };
    measure(state, stream, expected, turn, ok, run_ours, run_dense);
    run(state, {arithmetic::int8, static_cast<double>(columns * depth), 0, 0}, ours.explain().c_str(), run_ours);
  });
}

}  // namespace

void add_streams() {
  using recompute = policy::delta<0>;
  using accumulate = policy::delta<0, policy::grain::element, policy::update::accumulate>;
  using policy::zero_skip;
  for (const int share : {10, 25, 50, 100})
    add_convolution<recompute>("recompute_" + std::to_string(share), 28, 128, 128, pattern::patch, share / 100.0);
  for (const int share : {5, 15, 25, 50}) {
    const std::string number = std::to_string(share);
    add_convolution<accumulate>("accumulate_" + number, 28, 128, 128, pattern::changed_groups, share / 100.0);
    add_row<accumulate>("accumulate_" + number, 1024, 1024, pattern::changed_groups, share / 100.0);
    add_row<accumulate>("accumulate_" + number, 4096, 4096, pattern::changed_groups, share / 100.0);
    add_convolution<zero_skip>("zeros_" + number, 28, 128, 128, pattern::live_groups, share / 100.0);
    add_convolution<zero_skip>("zeros_" + number, 64, 16, 32, pattern::live_groups, share / 100.0);
    add_row<zero_skip>("zeros_" + number, 4096, 4096, pattern::live_groups, share / 100.0);
  }
}

}  // namespace bench
