// SPDX-License-Identifier: MIT
#include "bench/gemm_arithmetics.hpp"

#include "bench/problem.hpp"
#include "bench/report.hpp"

#include "polymac/arithmetics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace {

namespace pm = polymac;
namespace mac = polymac::mac;
using bench::arithmetic;
using bench::gemm_shape;

/// Reproducible numbers.
class source {
 public:
  explicit source(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  std::uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 32);
  }
  /// In [-1, 1).
  float real() { return static_cast<float>(bits() >> 8) * 0x1p-23f - 1.0f; }
  int integer(int low, int high) { return low + static_cast<int>(bits() % static_cast<unsigned>(high - low + 1)); }

 private:
  std::uint64_t state_;
};

/// How many numbers an element holds, and one with random ones; `weight`: as a weight.
template <class M>
struct elements {
  static constexpr std::size_t size = 1;
  template <class T>
  static T draw(source& s) {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(s.integer(std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
    else
      return T(s.real());
  }
  static typename M::activation activation(source& s) { return draw<typename M::activation>(s); }
  static typename M::weight weight(source& s) {
    if constexpr (requires { M::codes::least; }) {
      int code = 0;
      do code = s.integer(M::codes::least, M::codes::most);
      while (!M::codes::contains(code));
      return static_cast<typename M::weight>(code);
    } else {
      return draw<typename M::weight>(s);
    }
  }
};
template <class Storage, int Shift, std::size_t Chain, class Promise>
struct elements<mac::dfp<Storage, Shift, Chain, Promise>> {
  static constexpr std::size_t size = 1;
  using format = typename mac::dfp<Storage, Shift, Chain, Promise>::format;
  static Storage activation(source& s) { return static_cast<Storage>(s.integer(-format::limit, format::limit)); }
  static Storage weight(source& s) { return activation(s); }
};
template <class Element, pm::mx_scale Scale>
struct elements<mac::mx<Element, Scale>> {
  static constexpr std::size_t size = 32;
  static pm::mx_block<Element> activation(source& s) {
    float values[32];
    const float scale = std::ldexp(1.0f, s.integer(-4, 4));
    for (float& v : values) v = s.real() * scale;
    return pm::mx_block<Element>::encode(values, Scale);
  }
  static pm::mx_block<Element> weight(source& s) { return activation(s); }
};
template <>
struct elements<mac::binary> {
  static constexpr std::size_t size = 64;
  static pm::bit_word activation(source& s) { return {std::uint64_t{s.bits()} << 32 | s.bits()}; }
  static pm::bit_word weight(source& s) { return activation(s); }
};

template <class M>
class product {
  using activation = typename M::activation;
  using weight = typename M::weight;
  using sum = typename pm::mac_traits<M>::sum;
  using bias = std::conditional_t<std::is_integral_v<typename M::accumulator>, std::int32_t, float>;
  using layer = decltype(pm::linear<M>(pm::matrix_view<const weight>(), std::vector<bias>{}));

 public:
  explicit product(const gemm_shape& s)
      : shape_(s),
        depth_(s.depth / elements<M>::size),
        x_(s.rows * depth_),
        w_(s.columns * depth_),
        y_(s.rows * s.columns) {
    source random(1);
    for (auto& v : x_) v = elements<M>::activation(random);
    for (auto& v : w_) v = elements<M>::weight(random);
    layer_ = std::make_unique<layer>(
        pm::linear<M>(pm::matrix_view<const weight>(w_.data(), s.columns, depth_), std::vector<bias>{}));
  }
  void operator()() {
    const auto status = (*layer_)(pm::matrix_view<const activation>(x_.data(), shape_.rows, depth_),
                                  pm::matrix_view<sum>(y_.data(), shape_.rows, shape_.columns));
    benchmark::DoNotOptimize(status.ok());
  }
  /// What is wrong with the result, against the golden model.
  std::string verify() {
    (*this)();
    const std::size_t count = y_.size(), step = std::max<std::size_t>(1, count / 257) | 1;
    for (std::size_t i = 0; i < count; i += step) {
      const activation* const x = x_.data() + i / shape_.columns * depth_;
      const weight* const w = w_.data() + i % shape_.columns * depth_;
      double expected = 0.0, sizes = 0.0;
      for (std::size_t k = 0; k < depth_; ++k) {
        const auto one = static_cast<double>(pm::total<M>(M::multiply_add(typename M::accumulator{}, x[k], w[k])));
        expected += one;
        sizes += std::abs(one);
      }
      const auto got = static_cast<double>(y_[i]);
      // Integers that become floats round once.
      const double tolerance = std::is_integral_v<sum> ? 0.0 : static_cast<double>(depth_ + 2) * 0x1p-23 * (sizes + 1);
      if (!(std::abs(got - expected) <= tolerance))
        return "wrong result: value " + std::to_string(i) + " is " + std::to_string(got) + ", expected " +
               std::to_string(expected);
    }
    return {};
  }
  const gemm_shape& shape() const { return shape_; }
  std::size_t weight_bytes() const { return layer_->weight_bytes(); }
  double bytes() const {
    return static_cast<double>(x_.size() * sizeof(activation) + weight_bytes() + y_.size() * sizeof(sum));
  }
  std::string label() const { return bench::what_runs(layer_->explain().c_str()); }

 private:
  gemm_shape shape_;
  std::size_t depth_;
  bench::lines<activation> x_;
  bench::lines<weight> w_;
  bench::lines<sum> y_;
  std::unique_ptr<layer> layer_;
};

constexpr std::size_t few_rows = 16;

template <class M>
void add(const char* name, arithmetic a, std::initializer_list<gemm_shape> shapes) {
  for (const gemm_shape& s : shapes) {
    const std::string full = std::string("gemm/") + name + "/polymac/" + s.text();
    benchmark::RegisterBenchmark(full.c_str(), [s, a](benchmark::State& state) {
      product<M> p(s);
      if (const std::string wrong = p.verify(); !wrong.empty()) return state.SkipWithError(wrong.c_str());
      bench::run(state, {a, s.macs(), p.bytes(), s.rows <= few_rows ? p.weight_bytes() : 0}, p.label(), p);
    });
  }
}

}  // namespace

void bench::add_gemm_arithmetics() {
  const auto products = {gemm_shape{512, 512, 512}, gemm_shape{784, 128, 1152}};
  const auto of_codes = {gemm_shape{512, 512, 512}, gemm_shape{784, 128, 1152}, gemm_shape{1, 4096, 4096},
                         gemm_shape{32, 4096, 4096}, gemm_shape{128, 4096, 4096}};
  add<mac::int8>("int8", arithmetic::int8, {gemm_shape{32, 4096, 4096}, gemm_shape{128, 4096, 4096}});
  add<mac::dfp<std::int8_t>>("dfp8", arithmetic::int8, products);
  add<mac::dfp<std::int16_t>>("dfp16", arithmetic::int16, products);
  add<mac::dfp_statistical<std::int16_t>>("dfp16_statistical", arithmetic::int16, products);
  add<mac::fp16>("fp16", arithmetic::float32, products);
  add<mac::fp8<pm::e4m3fn>>("fp8_e4m3", arithmetic::bfloat16, products);
  add<mac::mx<pm::e4m3fn>>("mxfp8", arithmetic::bfloat16, products);
  add<mac::mx<pm::e2m1>>("mxfp4", arithmetic::int8, products);
  add<mac::l_mul<>>("l_mul", arithmetic::l_mul, products);
  add<mac::l_mul_on<pm::bfloat16>>("l_mul_bf16", arithmetic::l_mul, products);
  add<mac::bit_weights<4>>("w4", arithmetic::int8, of_codes);
  add<mac::bit_weights<2>>("w2", arithmetic::int8, of_codes);
  add<mac::bit_weights<pm::ternary_bits>>("ternary", arithmetic::int8, of_codes);
  add<mac::binary>("binary", arithmetic::binary, products);
}
