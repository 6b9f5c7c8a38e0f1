// SPDX-License-Identifier: MIT
// Products of prepacked weights, one thread: gemm/<arithmetic>/<who>/<rows>x<columns>x<depth>.
#include "bench/report.hpp"

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

template <class M, class E>
void polymac_gemm(benchmark::State& state, const shape& s, const E& stages, bench::arithmetic kind) {
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
  const double bytes = static_cast<double>(s.rows * s.depth * sizeof(activation) +
                                           s.columns * s.depth * sizeof(weight) + y.size() * sizeof(output));
  bench::run(state, {kind, s.macs(), bytes, s.rows <= 16 ? s.columns * s.depth * sizeof(weight) : 0},
             bench::what_runs(layer.explain().c_str()), [&] { benchmark::DoNotOptimize(layer(in, out).ok()); });
}

void eigen_gemm(benchmark::State& state, const shape& s) {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto rows = static_cast<Eigen::Index>(s.rows), columns = static_cast<Eigen::Index>(s.columns),
             depth = static_cast<Eigen::Index>(s.depth);
  const matrix x = matrix::Random(rows, depth), w = matrix::Random(columns, depth);
  matrix y(rows, columns);
  bench::run(state, {bench::arithmetic::float32, s.macs(), 0.0, 0}, "packs in every call", [&] {
    y.noalias() = x * w.transpose();
    benchmark::DoNotOptimize(y.data());
  });
}

template <class M, class E>
void add(const std::string& name, const E& stages_of, bench::arithmetic kind) {
  for (const shape& s : shapes)
    benchmark::RegisterBenchmark(("gemm/" + name + "/polymac/" + s.text()).c_str(),
                                 [=](benchmark::State& state) { polymac_gemm<M>(state, s, stages_of(s), kind); });
}

std::vector<double> scales(const shape& s) { return std::vector<double>(s.columns, 0.0007); }

}  // namespace

int main(int argc, char* argv[]) {
  using pm::rounding;
  add<pm::mac::int8>(
      "int8", [](const shape&) { return pm::epilogue::identity{}; }, bench::arithmetic::int8);
  add<pm::mac::int8>(
      "int8_requantised",
      [](const shape& s) { return pm::requantize<rounding::fp32_nearest_even>(std::span<const double>(scales(s)), 3); },
      bench::arithmetic::int8);
  add<pm::mac::int8>(
      "int8_requantised_exact",
      [](const shape& s) { return pm::requantize<rounding::gemmlowp>(std::span<const double>(scales(s)), 3); },
      bench::arithmetic::int8);
  add<pm::mac::int16x8>(
      "int16x8", [](const shape&) { return pm::epilogue::identity{}; }, bench::arithmetic::int16);
  add<pm::mac::float32>(
      "float32", [](const shape&) { return pm::epilogue::identity{}; }, bench::arithmetic::float32);
  for (const shape& s : shapes)
    benchmark::RegisterBenchmark(("gemm/float32/eigen/" + s.text()).c_str(),
                                 [s](benchmark::State& state) { eigen_gemm(state, s); });
  return bench::run_all(argc, argv);
}
