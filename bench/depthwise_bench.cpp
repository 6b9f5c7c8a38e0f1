// SPDX-License-Identifier: MIT
// Depthwise convolutions with bias and relu, one thread, 3x3, NHWC, batch 1, TensorFlow's padding SAME:
//
//   depthwise/<arithmetic>/<who>/<height>x<width>x<channels>[s2]
//
// int8 is requantised in float32 and rounded to nearest even, as the peers do; int8_exact by gemmlowp's double
// rounding.
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

namespace {

namespace pm = polymac;
using bench::conv_problem;
using bench::conv_shape;

conv_shape depthwise_3x3(std::size_t height, std::size_t width, std::size_t channels, std::size_t stride) {
  const pm::padding2d p = pm::same_padding({{3, 3}, {stride, stride}, {1, 1}}, {height, width});
  const std::string name = std::to_string(height) + "x" + std::to_string(width) + "x" + std::to_string(channels) +
                           (stride == 1 ? "" : "s" + std::to_string(stride));
  return {name, height, width, channels, channels, 3, 3, stride, p.top, p.left, p.bottom, p.right, true};
}

// ---- polymac --------------------------------------------------------------------------------------------------------

struct real {
  static auto stages(const bench::channels<float>&) { return pm::epilogue::relu; }
};
template <pm::rounding Mode>
struct requantised {
  static auto stages(const bench::channels<std::int8_t>& out) {
    return pm::requantize<Mode>(std::span<const double>(out.scales), 0) | pm::clamp(0, 127);
  }
};

template <class M, class Stages>
class polymac_depthwise {
  using X = typename M::activation;
  static auto make(const conv_problem<X>& p) {
    const conv_shape& s = p.shape;
    return pm::depthwise_conv2d<M>(
        {.stride = {s.stride, s.stride}, .padding = pm::padding2d{s.top, s.left, s.bottom, s.right}},
        pm::image_view<const X>(p.w.data(), 1, s.kernel_height, s.kernel_width, s.outputs), p.out.bias,
        Stages::stages(p.out));
  }
  using layer = decltype(make(std::declval<const conv_problem<X>&>()));

 public:
  static constexpr const char* name = "polymac";
  bench::lines<X> y;

  explicit polymac_depthwise(const conv_problem<X>& p)
      : y(p.shape.out_height() * p.shape.out_width() * p.shape.outputs),
        layer_(make(p)),
        memory_(layer_.workspace_bytes()),
        in_(p.x.data(), 1, p.shape.height, p.shape.width, p.shape.inputs),
        out_(y.data(), 1, p.shape.out_height(), p.shape.out_width(), p.shape.outputs) {}
  void operator()() { benchmark::DoNotOptimize(layer_(in_, out_, pm::workspace(memory_)).ok()); }
  std::string label() const { return bench::what_runs(layer_.explain().c_str()); }

 private:
  layer layer_;
  bench::lines<std::byte> memory_;
  pm::image_view<const X> in_;
  pm::image_view<X> out_;
};

// ---- cases ----------------------------------------------------------------------------------------------------------

template <class Who, class X>
void add(const std::string& arithmetic) {
  constexpr bool integer = std::is_integral_v<X>;
  for (const conv_shape& s :
       {depthwise_3x3(112, 112, 32, 1), depthwise_3x3(56, 56, 128, 1), depthwise_3x3(56, 56, 128, 2),
        depthwise_3x3(14, 14, 512, 1), depthwise_3x3(25, 5, 64, 1)}) {
    const auto held = std::make_shared<bench::subject<Who, X, conv_shape>>(
        s, integer ? bench::result::requantised : bench::result::sums);
    benchmark::RegisterBenchmark(
        ("depthwise/" + arithmetic + "/" + Who::name + "/" + s.name).c_str(), [held](benchmark::State& state) {
          if (!held->error().empty()) return state.SkipWithError(held->error().c_str());
          const conv_shape& of = held->shape();
          const std::size_t values = of.height * of.width * of.inputs + of.outputs * of.depth() + held->who().y.size();
          bench::run(state,
                     {integer ? bench::arithmetic::int8 : bench::arithmetic::float32, of.macs(),
                      static_cast<double>(values * sizeof(X))},
                     held->who().label(), held->who());
        });
  }
}

}  // namespace

int main(int argc, char** argv) {
  using pm::rounding, std::int8_t;
  namespace peer = bench::peer;
  add<polymac_depthwise<pm::mac::int8, requantised<rounding::fp32_nearest_even>>, int8_t>("int8");
#if POLYMAC_PEER_ONEDNN
  add<peer::onednn_conv<int8_t, int8_t>, int8_t>("int8");
#endif
#if POLYMAC_PEER_XNNPACK
  add<peer::xnnpack_conv<int8_t, int8_t>, int8_t>("int8");
#endif
  add<polymac_depthwise<pm::mac::int8, requantised<rounding::gemmlowp>>, int8_t>("int8_exact");
  add<polymac_depthwise<pm::mac::float32, real>, float>("float32");
#if POLYMAC_PEER_ONEDNN
  add<peer::onednn_conv<float, float>, float>("float32");
#endif
#if POLYMAC_PEER_XNNPACK
  add<peer::xnnpack_conv<float, float>, float>("float32");
#endif
  return bench::run_all(argc, argv);
}
