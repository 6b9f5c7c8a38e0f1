// SPDX-License-Identifier: MIT
// Convolutions of one NHWC image with bias and relu, one thread, weights packed before:
//
//   conv/<arithmetic>/<who>/<kernel>[s<stride>]_<height>x<width>x<inputs>_<outputs>
//
// int8: int8 to int8, one scale for each output channel, rounded once in float32 (polymac, oneDNN, XNNPACK);
// int8_exact: the same in gemmlowp's double rounding (polymac). Taps on padding are not counted.
#include "bench/peers.hpp"
#include "bench/problem.hpp"
#include "bench/report.hpp"
#include "bench/subject.hpp"

#include "polymac/polymac.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

namespace pm = polymac;
using bench::arithmetic;
using bench::conv_problem;
using bench::conv_shape;
using bench::result;

const conv_shape layers[] = {
    // name, height, width, inputs, outputs, kernel height and width, stride, padding top, left, bottom, right
    {"3x3_56x56x64_64", 56, 56, 64, 64, 3, 3, 1, 1, 1, 1, 1},
    {"3x3_28x28x128_128", 28, 28, 128, 128, 3, 3, 1, 1, 1, 1, 1},
    {"3x3_14x14x256_256", 14, 14, 256, 256, 3, 3, 1, 1, 1, 1, 1},
    {"3x3_7x7x512_512", 7, 7, 512, 512, 3, 3, 1, 1, 1, 1, 1},
    {"7x7s2_224x224x3_64", 224, 224, 3, 64, 7, 7, 2, 3, 3, 3, 3},
    {"1x1_56x56x64_256", 56, 56, 64, 256, 1, 1, 1, 0, 0, 0, 0},
    {"1x1_56x56x256_64", 56, 56, 256, 64, 1, 1, 1, 0, 0, 0, 0},
    {"1x1_28x28x512_128", 28, 28, 512, 128, 1, 1, 1, 0, 0, 0, 0},
    {"3x3_32x32x16_16", 32, 32, 16, 16, 3, 3, 1, 1, 1, 1, 1},
    {"3x3s2_32x32x16_32", 32, 32, 16, 32, 3, 3, 2, 0, 0, 1, 1},
    {"3x3_8x8x64_64", 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1},
    {"1x1_25x5x64_64", 25, 5, 64, 64, 1, 1, 1, 0, 0, 0, 0},
};

/// Rounding is a pm::rounding; it has no meaning for float32.
template <class M, pm::rounding Mode>
class polymac_conv {
  using X = typename M::activation;
  static auto make(const conv_problem<X>& p) {
    const conv_shape& s = p.shape;
    const auto stages = [&] {
      if constexpr (std::is_integral_v<X>)
        return pm::requantize<Mode>(std::span<const double>(p.out.scales), 0) | pm::clamp(0, 127);
      else
        return pm::relu;
    }();
    using weight = typename M::weight;
    return pm::conv2d<M>({.stride = {s.stride, s.stride}, .padding = {s.top, s.left, s.bottom, s.right}},
                         pm::image_view<const weight>(p.w.data(), s.outputs, s.kernel_height, s.kernel_width, s.inputs),
                         p.out.bias, stages);
  }
  using layer = decltype(make(std::declval<const conv_problem<X>&>()));
  using output = typename layer::output;

 public:
  static constexpr const char* name = "polymac";
  bench::lines<output> y;

  explicit polymac_conv(const conv_problem<X>& p)
      : y(p.shape.out_height() * p.shape.out_width() * p.shape.outputs),
        problem_(p),
        layer_(make(p)),
        workspace_(layer_.workspace_bytes({p.shape.height, p.shape.width})) {}
  void operator()() {
    const conv_shape& s = problem_.shape;
    const auto status = layer_(pm::image_view<const X>(problem_.x.data(), 1, s.height, s.width, s.inputs),
                               pm::image_view<output>(y.data(), 1, s.out_height(), s.out_width(), s.outputs),
                               pm::workspace(workspace_));
    benchmark::DoNotOptimize(status.ok());
  }
  std::string label() const { return bench::what_runs(layer_.explain().c_str()); }

 private:
  const conv_problem<X>& problem_;
  layer layer_;
  bench::lines<std::byte> workspace_;
};

template <class Who, class X>
void add(const std::string& arithmetic_name, arithmetic a) {
  const result kind = std::is_integral_v<X> ? result::requantised : result::sums;
  for (const conv_shape& s : layers) {
    const auto held = std::make_shared<bench::subject<Who, X, conv_shape>>(s, kind);
    benchmark::RegisterBenchmark(
        ("conv/" + arithmetic_name + "/" + Who::name + "/" + s.name).c_str(), [held, a](benchmark::State& state) {
          if (!held->error().empty()) return state.SkipWithError(held->error().c_str());
          const conv_shape& of = held->shape();
          const std::size_t values = of.height * of.width * of.inputs + of.outputs * of.depth() +
                                     of.out_height() * of.out_width() * of.outputs;
          bench::run(state, {a, of.macs(), static_cast<double>(values * sizeof(X)), 0}, held->who().label(),
                     held->who());
        });
  }
}

}  // namespace

int main(int argc, char** argv) {
  using std::int8_t;
  add<polymac_conv<pm::mac::int8, pm::rounding::fp32_nearest_even>, int8_t>("int8", arithmetic::int8);
  add<polymac_conv<pm::mac::int8, pm::rounding::gemmlowp>, int8_t>("int8_exact", arithmetic::int8);
  add<polymac_conv<pm::mac::float32, pm::rounding::fp32_nearest_even>, float>("float32", arithmetic::float32);
  namespace peer = bench::peer;
#if POLYMAC_PEER_ONEDNN
  add<peer::onednn_conv<int8_t, int8_t>, int8_t>("int8", arithmetic::int8);
  add<peer::onednn_conv<float, float>, float>("float32", arithmetic::float32);
#endif
#if POLYMAC_PEER_XNNPACK
  add<peer::xnnpack_conv<int8_t, int8_t>, int8_t>("int8", arithmetic::int8);
  add<peer::xnnpack_conv<float, float>, float>("float32", arithmetic::float32);
#endif
  return bench::run_all(argc, argv);
}
