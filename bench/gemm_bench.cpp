// SPDX-License-Identifier: MIT
// Matrix products, one thread, weights packed before:
//
//   gemm/<arithmetic>/<who>/<rows>x<columns>x<depth>
//   gemm_pack/<arithmetic>/<who>/<rows>x<columns>x<depth>     packing the weights
//   gemm_unpacked/<arithmetic>/<who>/<rows>x<columns>x<depth> products that pack on the way, both operands as they are;
//                                                             "by_depth" in the arithmetic's name: w is depth x columns
#include "bench/gemm_arithmetics.hpp"
#include "bench/peers.hpp"
#include "bench/problem.hpp"
#include "bench/report.hpp"
#include "bench/subject.hpp"

#include "polymac/polymac.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace pm = polymac;
using bench::arithmetic;
using bench::gemm_problem;
using bench::gemm_shape;
using bench::result;

constexpr gemm_shape shapes[] = {
    {8, 8, 8},        {16, 16, 16},     {32, 32, 32},       {64, 64, 64},       {128, 128, 128},
    {256, 256, 256},  {512, 512, 512},  {1024, 1024, 1024}, {2048, 2048, 2048}, {128, 768, 768},
    {128, 3072, 768}, {128, 768, 3072}, {512, 2048, 2048},  {784, 128, 1152},   {196, 256, 2304},
    {3136, 64, 576},  {49, 512, 4608},  {125, 64, 64},      {1024, 16, 64},     {300, 8, 72},
    {16, 4096, 4096}, {1, 4096, 4096},  {1, 1024, 1024},    {1, 768, 3072},     {1, 128, 128}};
constexpr gemm_shape packed_shapes[] = {{64, 64, 64}, {1024, 1024, 1024}, {128, 3072, 768}, {1, 4096, 4096}};
constexpr gemm_shape unpacked_shapes[] = {
    {256, 256, 256}, {512, 512, 512}, {1024, 1024, 1024}, {2048, 2048, 2048}, {128, 768, 768}};
constexpr std::size_t few_rows = 16;  // up to here the weights' way from memory is the bound

// ---- polymac --------------------------------------------------------------------------------------------------------

struct raw {
  static constexpr result kind = result::sums;
  template <class X>
  static auto stages(const bench::channels<X>&) {
    return pm::epilogue::identity{};
  }
};
template <pm::rounding Mode>
struct requantised {
  static constexpr result kind = result::requantised;
  template <class X>
  static auto stages(const bench::channels<X>& out) {
    return pm::requantize<Mode>(std::span<const double>(out.scales), 0);
  }
};

template <class M, class Stages>
class polymac_gemm {
  using X = typename M::activation;
  using bias = typename pm::mac_traits<M>::sum;
  static auto make(const gemm_problem<X>& p) {
    std::vector<bias> start;
    if (Stages::kind == result::requantised) start.assign(p.out.bias.begin(), p.out.bias.end());
    using weight = typename M::weight;
    return pm::linear<M>(pm::matrix_view<const weight>(p.w.data(), p.shape.columns, p.shape.depth), start,
                         Stages::stages(p.out));
  }
  using layer = decltype(make(std::declval<const gemm_problem<X>&>()));

 public:
  static constexpr const char* name = "polymac";
  bench::lines<typename layer::output> y;

  explicit polymac_gemm(const gemm_problem<X>& p)
      : y(p.shape.rows * p.shape.columns), problem_(p), layer_(std::make_unique<layer>(make(p))) {}
  void operator()() {
    const auto& s = problem_.shape;
    const auto status = (*layer_)(pm::matrix_view<const X>(problem_.x.data(), s.rows, s.depth),
                                  pm::matrix_view<typename layer::output>(y.data(), s.rows, s.columns));
    benchmark::DoNotOptimize(status.ok());
  }
  void pack() { layer_ = std::make_unique<layer>(make(problem_)); }
  std::string label() const { return bench::what_runs(layer_->explain().c_str()); }

 private:
  const gemm_problem<X>& problem_;
  std::unique_ptr<layer> layer_;
};

template <class M, bool ByDepth>
class polymac_product {
  using X = typename M::activation;
  using weight = typename M::weight;
  using sum = typename pm::mac_traits<M>::sum;

 public:
  static constexpr const char* name = "polymac";
  static constexpr bool packs_on_the_way = true;
  bench::lines<sum> y;

  explicit polymac_product(const gemm_problem<X>& p)
      : y(p.shape.rows * p.shape.columns),
        problem_(p),
        w_(p.w),
        memory_(pm::product_workspace_bytes<M>(p.shape.columns, p.shape.depth)) {
    const auto& s = p.shape;
    if (ByDepth)
      for (std::size_t c = 0; c < s.columns; ++c)
        for (std::size_t k = 0; k < s.depth; ++k) w_[k * s.columns + c] = p.w[c * s.depth + k];
  }
  void operator()() {
    const auto& s = problem_.shape;
    const pm::matrix_view<const X> x(problem_.x.data(), s.rows, s.depth);
    const pm::matrix_view<sum> out(y.data(), s.rows, s.columns);
    const pm::workspace ws(memory_);
    if constexpr (ByDepth)
      benchmark::DoNotOptimize(
          pm::product<M>(x, pm::transposed(pm::matrix_view<const weight>(w_.data(), s.depth, s.columns)), out, ws)
              .ok());
    else
      benchmark::DoNotOptimize(
          pm::product<M>(x, pm::matrix_view<const weight>(w_.data(), s.columns, s.depth), out, ws).ok());
  }
  std::string label() const {
    return std::string(pm::isa::native::name) + ", workspace " + std::to_string(memory_.size()) + " bytes";
  }

 private:
  const gemm_problem<X>& problem_;
  bench::lines<weight> w_;
  std::vector<std::byte> memory_;
};

// ---- cases ----------------------------------------------------------------------------------------------------------

template <std::size_t N>
bool holds(const gemm_shape (&list)[N], const gemm_shape& s) {
  return std::any_of(std::begin(list), std::end(list), [&](const gemm_shape& each) { return each.text() == s.text(); });
}

template <class Who, class X>
void add(const std::string& arithmetic_name, arithmetic a, result kind) {
  using weight = bench::weight_for<X>;
  constexpr bool unpacked = requires { Who::packs_on_the_way; };
  for (const gemm_shape& s : shapes) {
    if (unpacked && !holds(unpacked_shapes, s)) continue;
    const auto held = std::make_shared<bench::subject<Who, X, gemm_shape>>(s, kind);
    const std::string name = arithmetic_name + "/" + Who::name + "/" + s.text();
    benchmark::RegisterBenchmark(
        ((unpacked ? "gemm_unpacked/" : "gemm/") + name).c_str(), [held, a](benchmark::State& state) {
          if (!held->error().empty()) return state.SkipWithError(held->error().c_str());
          const gemm_shape& of = held->shape();
          const std::size_t weights = of.columns * of.depth * sizeof(weight);
          const double bytes = static_cast<double>(of.rows * of.depth * sizeof(X) + weights +
                                                   of.rows * of.columns * sizeof(held->who().y[0]));
          bench::run(state, {a, of.macs(), bytes, of.rows <= few_rows ? weights : 0}, held->who().label(), held->who());
        });
    if constexpr (requires(Who & w) { w.pack(); }) {
      if (!holds(packed_shapes, s)) continue;
      benchmark::RegisterBenchmark(("gemm_pack/" + name).c_str(), [held, a](benchmark::State& state) {
        if (!held->error().empty()) return state.SkipWithError(held->error().c_str());
        // Read once, written once.
        const std::size_t bytes = 2 * held->shape().columns * held->shape().depth * sizeof(weight);
        bench::run(state, {a, 0.0, static_cast<double>(bytes), bytes}, "packing", [&] { held->who().pack(); });
        if (const std::string wrong = held->verify(); !wrong.empty()) state.SkipWithError(wrong.c_str());
      });
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  using pm::rounding;
  namespace mac = pm::mac;
  add<polymac_gemm<mac::int8, raw>, std::int8_t>("int8", arithmetic::int8, result::sums);
  add<polymac_gemm<mac::int8, requantised<rounding::fp32_nearest_even>>, std::int8_t>(
      "int8_requantised", arithmetic::int8, result::requantised);
  add<polymac_gemm<mac::int8, requantised<rounding::gemmlowp>>, std::int8_t>("int8_requantised_exact", arithmetic::int8,
                                                                             result::requantised);
  add<polymac_gemm<mac::int16x8, raw>, std::int16_t>("int16x8", arithmetic::int16, result::sums);
  add<polymac_gemm<mac::float32, raw>, float>("float32", arithmetic::float32, result::sums);
  add<polymac_gemm<mac::bf16, raw>, pm::bfloat16>("bf16", arithmetic::bfloat16, result::sums);
  add<polymac_product<mac::int8, false>, std::int8_t>("int8", arithmetic::int8, result::sums);
  add<polymac_product<mac::int8, true>, std::int8_t>("int8_by_depth", arithmetic::int8, result::sums);
  add<polymac_product<mac::float32, false>, float>("float32", arithmetic::float32, result::sums);
  add<polymac_product<mac::float32, true>, float>("float32_by_depth", arithmetic::float32, result::sums);

  namespace peer = bench::peer;
  using std::int32_t, std::int8_t;
#if POLYMAC_PEER_ONEDNN
  add<peer::onednn_gemm<int8_t, int32_t>, int8_t>("int8", arithmetic::int8, result::sums);
  add<peer::onednn_gemm<int8_t, int8_t>, int8_t>("int8_requantised", arithmetic::int8, result::requantised);
  add<peer::onednn_gemm<float, float>, float>("float32", arithmetic::float32, result::sums);
  add<peer::onednn_gemm<pm::bfloat16, float>, pm::bfloat16>("bf16", arithmetic::bfloat16, result::sums);
#endif
#if POLYMAC_PEER_XNNPACK
  add<peer::xnnpack_gemm<int8_t, int8_t>, int8_t>("int8_requantised", arithmetic::int8, result::requantised);
  add<peer::xnnpack_gemm<float, float>, float>("float32", arithmetic::float32, result::sums);
#endif
#if POLYMAC_PEER_LIBXSMM
  add<peer::libxsmm_gemm<int8_t, int32_t>, int8_t>("int8", arithmetic::int8, result::sums);
  add<peer::libxsmm_gemm<float, float>, float>("float32", arithmetic::float32, result::sums);
  add<peer::libxsmm_gemm<pm::bfloat16, float>, pm::bfloat16>("bf16", arithmetic::bfloat16, result::sums);
#endif
#ifdef POLYMAC_PEER_MKL
  add<peer::mkl_gemm<int8_t, int32_t>, int8_t>("int8", arithmetic::int8, result::sums);
  add<peer::mkl_gemm<float, float>, float>("float32", arithmetic::float32, result::sums);
#endif
#if POLYMAC_PEER_OPENBLAS
  add<peer::openblas_gemm, float>("float32", arithmetic::float32, result::sums);
#endif
#if POLYMAC_PEER_EIGEN
  add<peer::eigen_gemm, float>("float32", arithmetic::float32, result::sums);
#endif
  bench::add_gemm_arithmetics();
  return bench::run_all(argc, argv);
}
