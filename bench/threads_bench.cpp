// SPDX-License-Identifier: MIT
// Layers on two threads against one:
//
//   threads/<arithmetic>/<executor>/<rows>x<columns>x<depth>, <kernel>_<height>x<width>x<inputs>_<outputs>
//   threads/hand_over/<executor>/<awake or asleep>
//
// Products give raw sums; convolutions have bias and relu, int8 ones one scale for each channel. Both numbers of
// threads are measured in turn in the same process, so that a machine which slows down does so for both. Both cores
// must be free: do not pin this program, it pins its threads itself.
#include "bench/problem.hpp"
#include "bench/report.hpp"

#include "polymac/adapt/threads.hpp"
#include "polymac/polymac.hpp"
#if defined(POLYMAC_BENCH_TBB)
#include "polymac/adapt/threads/tbb.hpp"
#endif

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace {

namespace pm = polymac;
using bench::conv_shape;
using bench::gemm_shape;
using bench::result;
using clock_type = std::chrono::steady_clock;

constexpr std::size_t threads = 2;

const gemm_shape products[] = {{64, 64, 64},     {128, 128, 128}, {256, 256, 256},  {1024, 1024, 1024},
                               {128, 3072, 768}, {49, 512, 4608}, {16, 4096, 4096}, {1, 4096, 4096}};
const conv_shape convolutions[] = {
    // name, height, width, inputs, outputs, kernel height and width, stride, padding top to right, depthwise
    {"3x3_56x56x64_64", 56, 56, 64, 64, 3, 3, 1, 1, 1, 1, 1},
    {"3x3_28x28x128_128", 28, 28, 128, 128, 3, 3, 1, 1, 1, 1, 1},
    {"3x3_14x14x256_256", 14, 14, 256, 256, 3, 3, 1, 1, 1, 1, 1},
    {"3x3_7x7x512_512", 7, 7, 512, 512, 3, 3, 1, 1, 1, 1, 1},
    {"depthwise3x3_56x56x128", 56, 56, 128, 128, 3, 3, 1, 1, 1, 1, 1, true},
    {"depthwise3x3_14x14x512", 14, 14, 512, 512, 3, 3, 1, 1, 1, 1, 1, true},
};

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

template <class Call>
double seconds_of(std::size_t calls, const Call& call) {
  const auto begin = clock_type::now();
  for (std::size_t i = 0; i < calls; ++i) {
    benchmark::DoNotOptimize(call());
    benchmark::ClobberMemory();
  }
  return std::chrono::duration<double>(clock_type::now() - begin).count() / static_cast<double>(calls);
}

/// Times a layer on one thread and on the executor's two in turn. The time of the row is that of two threads.
///   scaling       median time of one thread over median time of two
///   scaling_best  the same of the fastest calls: what remains where other programs use a core now and then
///   GMAC, GMAC_1  1e9 multiply-accumulates per second of two threads and of one
///   label         the ranges of rows or columns
/// `results`: the elements of y. `wrong()`: what is wrong with them, if anything.
template <class Executor, class Layer, class X, class Y, class Results, class Wrong>
void measure(benchmark::State& state, Executor& executor, const Layer& layer, const X& x, const Y& y, double macs,
             std::size_t rows, std::size_t columns, Results& results, const Wrong& wrong) {
  const std::size_t bytes = [&] {
    if constexpr (requires { x.height; })
      return pm::workspace_bytes(executor, layer, {x.height, x.width});
    else
      return pm::workspace_bytes(executor, layer);
  }();
  bench::lines<std::byte> memory(bytes);
  const pm::workspace ws(memory);
  const auto one = [&] { return pm::parallel(pm::adapt::serial{}, layer, x, y, ws).ok(); };
  const auto two = [&] { return pm::parallel(executor, layer, x, y, ws).ok(); };

  if (!one()) return state.SkipWithError("the layer refuses to run");
  if (const std::string error = wrong(); !error.empty()) return state.SkipWithError(error.c_str());
  const Results expected = results;
  std::fill(results.begin(), results.end(), typename Results::value_type{});
  if (!two() || std::memcmp(expected.data(), results.data(), results.size() * sizeof(results[0])) != 0)
    return state.SkipWithError("two threads give other bits than one");

  // Short calls are timed several at once, at least 100 us.
  const auto calls = std::max<std::size_t>(1, static_cast<std::size_t>(100e-6 / std::max(seconds_of(3, one), 1e-7)));
  std::vector<double> single, both;
  for (auto _ : state) {
    single.push_back(seconds_of(calls, one));
    static_cast<void>(two());  // wakes the threads, as the layer before would have done
    both.push_back(seconds_of(calls, two));
    state.SetIterationTime(both.back());
  }
  const double t1 = median(single), t2 = median(both);
  state.counters["scaling"] = t1 / t2;
  state.counters["scaling_best"] =
      *std::min_element(single.begin(), single.end()) / *std::min_element(both.begin(), both.end());
  state.counters["GMAC"] = macs / t2 * 1e-9;
  state.counters["GMAC_1"] = macs / t1 * 1e-9;

  const pm::adapt::plan plan = pm::adapt::plan_of(layer, x, y, threads, {});
  const std::size_t all = plan.by_columns ? columns : rows;
  std::string label = std::to_string(all) + (plan.by_columns ? " columns" : " rows");
  for (std::size_t p = 0; p < plan.parts; ++p) {
    const pm::adapt::share share = pm::adapt::part_of(layer, x, y, plan, p);
    const std::size_t count =
        plan.by_columns ? share.columns.end - share.columns.begin : std::min(share.rows.end, rows) - share.rows.begin;
    label += (p == 0 ? " = " : " + ") + std::to_string(std::min(count, all));
  }
  state.SetLabel(label);
}

template <class M, class Executor>
void product(benchmark::State& state, Executor& executor, const gemm_shape& s) {
  using X = typename M::activation;
  const auto& p = bench::problem_of<X>(s);
  const auto layer = pm::linear<M>(pm::matrix_view<const typename M::weight>(p.w.data(), s.columns, s.depth),
                                   std::span<const typename pm::mac_traits<M>::sum>{});
  bench::lines<typename decltype(layer)::output> y(s.rows * s.columns);
  measure(state, executor, layer, pm::matrix_view<const X>(p.x.data(), s.rows, s.depth),
          pm::matrix_view(y.data(), s.rows, s.columns), s.macs(), s.rows, s.columns, y,
          [&] { return bench::check(p, result::sums, y.data()); });
}

template <class M>
auto stages(const bench::conv_problem<typename M::activation>& p) {
  if constexpr (std::is_integral_v<typename M::activation>)
    return pm::requantize<pm::rounding::fp32_nearest_even>(std::span<const double>(p.out.scales), 0) |
           pm::clamp(0, 127);
  else
    return pm::relu;
}

template <class M, class Executor>
void convolution(benchmark::State& state, Executor& executor, const conv_shape& s) {
  using X = typename M::activation;
  using W = typename M::weight;
  const auto& p = bench::problem_of<X>(s);
  const auto with = [&](const auto& layer) {
    bench::lines<typename std::remove_cvref_t<decltype(layer)>::output> y(s.out_height() * s.out_width() * s.outputs);
    measure(state, executor, layer, pm::image_view<const X>(p.x.data(), 1, s.height, s.width, s.inputs),
            pm::image_view(y.data(), 1, s.out_height(), s.out_width(), s.outputs), s.macs(),
            s.out_height() * s.out_width(), s.outputs, y,
            [&] { return bench::check(p, result::requantised, y.data()); });
  };
  const pm::window_padding padding{s.top, s.left, s.bottom, s.right};
  if (s.depthwise)
    with(pm::depthwise_conv2d<M>({.padding = padding},
                                 pm::image_view<const W>(p.w.data(), 1, s.kernel_height, s.kernel_width, s.outputs),
                                 p.out.bias, stages<M>(p)));
  else
    with(pm::conv2d<M>({.padding = padding},
                       pm::image_view<const W>(p.w.data(), s.outputs, s.kernel_height, s.kernel_width, s.inputs),
                       p.out.bias, stages<M>(p)));
}

template <class M, class Executor>
void add(const std::string& arithmetic, const std::string& who, Executor& executor) {
  const auto row = [&](const std::string& shape, auto body) {
    benchmark::RegisterBenchmark(("threads/" + arithmetic + "/" + who + "/" + shape).c_str(), body)->UseManualTime();
  };
  for (const gemm_shape& s : products)
    row(s.text(), [&executor, s](benchmark::State& state) { product<M>(state, executor, s); });
  for (const conv_shape& s : convolutions)
    row(s.name, [&executor, s](benchmark::State& state) { convolution<M>(state, executor, s); });
}

/// Two tasks of 20 us each, the second of which some other thread must fetch: the time above 20 us is what the
/// hand-over costs. `pause`: how long nothing happens before.
template <class Executor>
void hand_over(benchmark::State& state, Executor& executor, std::chrono::microseconds pause) {
  constexpr std::chrono::microseconds length(20);
  const auto busy = [](std::chrono::microseconds time) noexcept {
    for (const auto end = clock_type::now() + time; clock_type::now() < end;) {
    }
  };
  const auto work = [&](std::size_t) noexcept { busy(length); };
  for (auto _ : state) {
    busy(pause);
    const auto begin = clock_type::now();
    executor.run(threads, work);
    const auto time = clock_type::now() - begin;
    state.SetIterationTime(std::max(std::chrono::duration<double>(time - length).count(), 0.0));
  }
}

#if defined(__linux__)
/// Gives each of the two threads a core of its own for good: else the system may leave both on one while some other
/// program is on the other.
template <class Executor>
void pin(Executor& executor, const cpu_set_t& allowed) {
  std::atomic<int> here{0};
  const auto pin_one = [&, caller = std::this_thread::get_id()](std::size_t) noexcept {
    ++here;  // both threads must be here, or one of them would run both tasks
    for (const auto end = clock_type::now() + std::chrono::seconds(1); here < 2 && clock_type::now() < end;) {
    }
    cpu_set_t own;
    CPU_ZERO(&own);
    std::size_t seen = 0;
    const std::size_t wanted = std::this_thread::get_id() == caller ? 0 : 1;
    for (std::size_t cpu = CPU_SETSIZE; cpu-- > 0;)  // the caller on the last one: the first serves interrupts
      if (CPU_ISSET(cpu, &allowed) && seen++ == wanted) CPU_SET(cpu, &own);
    static_cast<void>(sched_setaffinity(0, sizeof own, &own));
  };
  executor.run(threads, pin_one);
}
#endif

template <class Executor>
void add_all(const std::string& who, Executor& executor) {
  executor.run(threads, [](std::size_t) noexcept {});  // starts its threads, while they still may run everywhere
  for (const auto& [name, pause] : {std::pair("awake", 5), std::pair("asleep", 500)})
    benchmark::RegisterBenchmark(("threads/hand_over/" + who + "/" + name).c_str(),
                                 [&executor, pause = pause](benchmark::State& state) {
                                   hand_over(state, executor, std::chrono::microseconds(pause));
                                 })
        ->UseManualTime()
        ->Iterations(2000);
  add<pm::mac::int8>("int8", who, executor);
  add<pm::mac::float32>("float32", who, executor);
}

}  // namespace

int main(int argc, char* argv[]) {
  pm::adapt::thread_pool pool(threads);
  add_all("thread_pool", pool);
#if defined(_OPENMP)
  pm::adapt::openmp openmp(threads);
  add_all("openmp", openmp);
#endif
#if defined(POLYMAC_BENCH_TBB)
  pm::adapt::tbb_arena tbb(threads);
  add_all("tbb_arena", tbb);
#endif
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) >= 2) {
    pin(pool, allowed);
#if defined(_OPENMP)
    pin(openmp, allowed);
#endif
#if defined(POLYMAC_BENCH_TBB)
    pin(tbb, allowed);
#endif
  }
#endif
  return bench::run_all(argc, argv);
}
