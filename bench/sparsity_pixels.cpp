// SPDX-License-Identifier: MIT
#include "bench/sparsity_pixels.hpp"

#include "bench/paired.hpp"
#include "bench/report.hpp"

#include "polymac/sparsity.hpp"

#if POLYMAC_BENCH_SODIUM
#include "polymac/adapt/sodium.hpp"
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace bench {
namespace {

namespace pm = polymac;
namespace policy = polymac::policy;

#if POLYMAC_BENCH_SODIUM
using generator = policy::chacha20;
#else
using generator = std::mt19937_64;
#endif

template <policy::pruning Form, class Stages>
void add(const std::string& form, const std::string& ending, std::size_t outputs, Stages stages,
         std::int8_t zero_point) {
  const std::string name = "sparse/int8/pixels_50_" + form + "/conv_96x96x3_" + std::to_string(outputs) + ending;
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    constexpr std::size_t side = 96, channels = 3;
    std::mt19937 random(1);
    std::vector<std::int8_t> w(outputs * 9 * channels), x(side * side * channels);
    for (auto& v : w) v = static_cast<std::int8_t>(random());
    for (auto& v : x) v = static_cast<std::int8_t>(random());
    const std::vector<std::int32_t> bias(outputs, 7);
    const std::vector<std::uint8_t> important(side * side);
    const pm::image_view<const std::int8_t> weights(w.data(), outputs, 3, 3, channels);
    const pm::layer::quantization<pm::mac::int8> q{zero_point, {}};
    const auto dense = pm::conv2d<pm::mac::int8>({.padding = pm::same}, weights, bias, stages, q);
    const auto ours = pm::conv2d<pm::mac::int8, policy::pixel_pruning<Form, policy::rescale::none, generator>>(
        pm::layer::first_layer, {.padding = pm::same}, weights, bias, stages, q,
        policy::importance_map({important.data(), side, side}, policy::keep_share{0.5}));
    auto stream = ours.make_state(generator(std::uint64_t{1}));
    using out = pm::epilogue::output_of<Stages, std::int32_t>;
    std::vector<out> y(side * side * outputs), expected(y.size());
    std::vector<std::byte> memory(ours.workspace_bytes()), of_dense(dense.workspace_bytes({side, side}));
    bool ok = true;
    const auto run_ours = [&] {
      ok = ours({x.data(), 1, side, side, channels}, {y.data(), 1, side, side, outputs}, stream, pm::workspace(memory))
               .ok() &&
           ok;
    };
    const auto run_on = [&](const std::vector<std::int8_t>& image) {
      ok = dense({image.data(), 1, side, side, channels}, {expected.data(), 1, side, side, outputs},
                 pm::workspace(of_dense))
               .ok() &&
           ok;
    };
    const auto run_dense = [&] { run_on(x); };
    run_ours();
    auto masked = x;
    for (std::size_t i = 0; i < side * side; ++i)
      for (std::size_t c = 0; c < channels && stream.active().data[i] == 0; ++c) masked[i * channels + c] = zero_point;
    run_on(masked);
    if (!ok || y != expected)
      return state.SkipWithError("its outputs are not those of the dense layer on the masked image");
    std::vector<double> ratios, maps;
    for (int i = 0; i < 9; ++i) {
      const double time = median_seconds(run_dense);
      ratios.push_back(time / median_seconds(run_ours));
      maps.push_back(median_seconds([&] { stream.draw(ours.pixels()); }) / time);
    }
    state.counters["x_dense"] = median(ratios);
    state.counters["share"] = 1 / median(ratios);
    state.counters["map"] = median(maps);
    const auto macs = static_cast<double>((9 * side * side - 12 * side + 4) * channels * outputs);
    run(state, {arithmetic::int8, macs, 0, 0}, ours.explain().c_str(), run_ours);
  });
}

template <policy::pruning Form>
void add_form(const std::string& form) {
  for (const std::size_t outputs : {16, 32, 64, 128}) {
    add<Form>(form, "", outputs, pm::epilogue::identity{}, -128);
    add<Form>(form, "_requantised", outputs, pm::requantize(0.0005, 0), -128);
  }
  add<Form>(form, "_zero", 64, pm::epilogue::identity{}, 0);
}

}  // namespace

void add_pixels() {
  add_form<policy::pruning::list_compact>("list_compact");
  add_form<policy::pruning::zero_fixed>("zero_fixed");
  add<policy::pruning::list_shuffled>("list_shuffled", "", 16, pm::epilogue::identity{}, -128);
  add<policy::pruning::branch_skip>("branch_skip", "", 16, pm::epilogue::identity{}, -128);
}

}  // namespace bench
