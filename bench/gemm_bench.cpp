// SPDX-License-Identifier: MIT
// Products of prepacked weights, one thread: gemm/<arithmetic>/<who>/<rows>x<columns>x<depth>.
#include "peak.hpp"

#include "polymac/polymac.hpp"

#include <benchmark/benchmark.h>

#include <Eigen/Core>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace {

namespace pm = polymac;

struct shape {
  std::size_t rows, columns, depth;
  double macs() const { return static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(depth); }
  std::string text() const {
    return std::to_string(rows) + "x" + std::to_string(columns) + "x" + std::to_string(depth);
  }
};

constexpr shape shapes[] = {{64, 64, 64},  {128, 128, 128},  {256, 256, 256}, {512, 512, 512},  {1024, 16, 64},
                            {125, 64, 64}, {784, 128, 1152}, {49, 512, 4608}, {16, 1024, 1024}, {1, 1024, 1024}};

template <class T>
std::vector<T> noise(std::size_t count) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> code(-100, 100);
  std::vector<T> values(count);
  for (T& v : values) v = static_cast<T>(code(random));
  return values;
}

/// GMAC: 1e9 multiply-accumulates per second; peak: share of the instruction's rate, measured before and after the
/// case.
void report(benchmark::State& state, const shape& s, const bench::peak& before, const bench::peak& after,
            const std::string& label) {
  using counter = benchmark::Counter;
  const double peak = (before.gmac + after.gmac) / 2;
  state.counters["GMAC"] = counter(s.macs() * 1e-9, counter::kIsIterationInvariantRate);
  if (peak > 0) state.counters["peak"] = counter(s.macs() * 1e-9 / peak, counter::kIsIterationInvariantRate);
  state.SetLabel(label);
}

template <class M, class E>
void polymac_gemm(benchmark::State& state, const shape& s, const E& stages, bench::peak (*peak)()) {
  using activation = typename M::activation;
  using weight = typename M::weight;
  const auto x = noise<activation>(s.rows * s.depth);
  const auto w = noise<weight>(s.columns * s.depth);
  const auto bias = noise<typename pm::mac_traits<M>::sum>(s.columns);
  const auto layer = pm::linear<M>(pm::matrix_view<const weight>(w.data(), s.columns, s.depth), bias, stages);
  using output = typename decltype(layer)::output;
  std::vector<output> y(s.rows * s.columns);
  const pm::matrix_view<const activation> in(x.data(), s.rows, s.depth);
  const pm::matrix_view<output> out(y.data(), s.rows, s.columns);
  if (const auto status = layer(in, out); !status.ok()) return state.SkipWithError(status.c_str());
  const bench::peak before = peak();
  for (auto _ : state) {
    benchmark::DoNotOptimize(layer(in, out).ok());
    benchmark::ClobberMemory();
  }
  using atom = typename decltype(layer)::atom;
  report(state, s, before, peak(),
         std::string(atom::isa::name) + " " + std::to_string(atom::max_rows) + "x" +
             std::to_string(atom::max_panels * atom::columns) + "x" + std::to_string(atom::depth) + " of " +
             before.instruction);
}

void eigen_gemm(benchmark::State& state, const shape& s) {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto rows = static_cast<Eigen::Index>(s.rows), columns = static_cast<Eigen::Index>(s.columns),
             depth = static_cast<Eigen::Index>(s.depth);
  const matrix x = matrix::Random(rows, depth), w = matrix::Random(columns, depth);
  matrix y(rows, columns);
  const bench::peak before = bench::float32_peak();
  for (auto _ : state) {
    y.noalias() = x * w.transpose();
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  report(state, s, before, bench::float32_peak(), "packs in every call");
}

template <class M, class E>
void add(const std::string& name, const E& stages_of, bench::peak (*peak)()) {
  for (const shape& s : shapes)
    benchmark::RegisterBenchmark(("gemm/" + name + "/polymac/" + s.text()).c_str(),
                                 [=](benchmark::State& state) { polymac_gemm<M>(state, s, stages_of(s), peak); });
}

std::vector<double> scales(const shape& s) { return std::vector<double>(s.columns, 0.0007); }

}  // namespace

int main(int argc, char* argv[]) {
  using pm::rounding;
  add<pm::mac::int8>(
      "int8", [](const shape&) { return pm::epilogue::identity{}; }, bench::int8_peak);
  add<pm::mac::int8>(
      "int8_requantised",
      [](const shape& s) { return pm::requantize<rounding::fp32_nearest_even>(std::span<const double>(scales(s)), 3); },
      bench::int8_peak);
  add<pm::mac::int8>(
      "int8_requantised_exact",
      [](const shape& s) { return pm::requantize<rounding::gemmlowp>(std::span<const double>(scales(s)), 3); },
      bench::int8_peak);
  add<pm::mac::int16x8>(
      "int16x8", [](const shape&) { return pm::epilogue::identity{}; }, bench::int16_peak);
  add<pm::mac::float32>(
      "float32", [](const shape&) { return pm::epilogue::identity{}; }, bench::float32_peak);
  for (const shape& s : shapes)
    benchmark::RegisterBenchmark(("gemm/float32/eigen/" + s.text()).c_str(),
                                 [s](benchmark::State& state) { eigen_gemm(state, s); });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
