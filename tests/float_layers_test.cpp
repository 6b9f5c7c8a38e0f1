// SPDX-License-Identifier: MIT
// The float-like arithmetics in every layer with weights on isa::scalar, and in convolutions on the set of this machine:
// the bits of plain loops over multiply_add.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/isa/arithmetic_atoms.hpp>
#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/layer/product.hpp>
#include <polymac/mac/fp16.hpp>
#include <polymac/mac/fp8.hpp>
#include <polymac/mac/l_mul.hpp>
#include <polymac/mac/mx.hpp>
#include <polymac/mac/power.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ratio>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

using namespace polymac;

namespace {

/// Numbers of any arithmetic's type, of very different sizes, so that the order of sums shows.
template <class M, class T>
std::vector<T> some(polymac_test::random_source& random, std::size_t count) {
  const auto number = [&] { return std::ldexp(2.0f * random.unit() - 1.0f, static_cast<int>(random.integer(-6, 2))); };
  std::vector<T> all(count);
  for (T& v : all) {
    if constexpr (std::is_same_v<T, float16_pair>) {
      const float16 even(number()), odd(number());
      v = T(even, odd);
    } else if constexpr (requires { T::nan_scale; }) {
      std::array<float, 32> values;
      for (float& x : values) x = number();
      v = M::encode(values);
    } else if constexpr (std::is_integral_v<T>) {
      v = static_cast<T>(random.integer(-M::largest_code, M::largest_code));
    } else {
      v = T(number());
    }
  }
  return all;
}

/// A sum in the order that M states: groups of k, the last one of a group first.
template <class M>
class plain_sum {
  using traits = mac_traits<M>;
  using accumulator = std::conditional_t<traits::integer, std::int64_t, typename M::accumulator>;

 public:
  explicit plain_sum(typename traits::wide bias) : value_(static_cast<accumulator>(bias)) {}
  void add(const typename M::activation* a, const typename M::weight* w, std::size_t count) {
    for (std::size_t k = 0; k < count; k += traits::group)
      for (std::size_t d = traits::group; d-- > 0;)
        if (k + d < count) add(a[k + d], w[k + d]);
  }
  void add(const typename M::activation& a, const typename M::weight& w) {
    if constexpr (traits::integer)
      value_ += M::multiply_add(typename M::accumulator{}, a, w);
    else
      value_ = M::multiply_add(value_, a, w);
  }
  typename traits::sum total() const {
    if constexpr (requires { M::total(value_); })
      return M::total(value_);
    else
      return static_cast<typename traits::sum>(value_);
  }

 private:
  accumulator value_;
};

template <class T>
std::size_t differences(const std::vector<T>& a, const std::vector<T>& b) {
  std::size_t count = a.size() != b.size();
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    if constexpr (std::is_same_v<T, float>)
      count += std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]);
    else
      count += a[i] != b[i];
  }
  return count;
}

template <class M>
std::vector<typename mac_traits<M>::wide> some_bias(polymac_test::random_source& random, std::size_t count) {
  std::vector<typename mac_traits<M>::wide> bias(count);
  for (auto& b : bias) b = static_cast<typename mac_traits<M>::wide>(static_cast<float>(random.integer(-99, 99)));
  return bias;
}

using always = std::tuple<mac::fp16, mac::fp8<e4m3fn>, mac::fp8<e5m2, e4m3fn>, mac::l_mul<>, mac::l_mul_on<bfloat16>,
                          mac::l_mul_literal<>, mac::mx<e4m3fn>, mac::mx<e2m1>, mac::power<std::ratio<1, 2>>,
                          mac::power<std::ratio<13, 20>, 4>>;
/// Accumulators that are not what the epilogue gets need loop nests that know of totals.
template <class M>
concept KnowsTotals = requires {
  mac_traits<M>::chain;
};
using macs = decltype(std::tuple_cat(
    always{}, std::conditional_t<KnowsTotals<mac::fp16_sum16>, std::tuple<mac::fp16_sum16>, std::tuple<>>{}));

}  // namespace

TEMPLATE_LIST_TEST_CASE("float-like arithmetics in linear and product", "[float_layers]", macs) {
  using M = TestType;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using sum = typename mac_traits<M>::sum;
  using wide = typename mac_traits<M>::wide;
  CAPTURE(M::name);
  POLYMAC_RANDOM(random, 1);
  for (const std::size_t depth : {1u, 7u, 26u}) {
    const std::size_t rows = 7, columns = 18;
    const auto x = some<M, activation>(random, rows * depth);
    const auto w = some<M, weight>(random, columns * depth);
    const auto bias = some_bias<M>(random, columns);
    const matrix_view<const activation> x_view(x.data(), rows, depth);
    const matrix_view<const weight> w_view(w.data(), columns, depth);
    const auto expected = [&](bool with_bias) {
      std::vector<sum> y;
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
          plain_sum<M> s(with_bias ? bias[c] : wide{});
          s.add(x.data() + r * depth, w.data() + c * depth, depth);
          y.push_back(s.total());
        }
      return y;
    };
    std::vector<sum> y(rows * columns);
    const layer::linear<M, epilogue::identity, isa::scalar> layer(w_view, std::span<const wide>(bias));
    REQUIRE(layer(x_view, matrix_view<sum>(y.data(), rows, columns)).ok());
    CHECK(differences(y, expected(true)) == 0);

    std::vector<std::byte> memory(product_workspace_bytes<M, isa::scalar>(columns, depth));
    const auto s =
        product<M, isa::scalar>(x_view, w_view, matrix_view<sum>(y.data(), rows, columns), workspace(memory));
    REQUIRE(s.ok());
    CHECK(differences(y, expected(false)) == 0);
  }
}

TEMPLATE_LIST_TEST_CASE("float-like arithmetics in convolutions", "[float_layers]", macs) {
  using M = TestType;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using sum = typename mac_traits<M>::sum;
  using wide = typename mac_traits<M>::wide;
  CAPTURE(M::name);
  POLYMAC_RANDOM(random, 2);
  const std::size_t height = 4, width = 5, channels = 4, out = 17, taps = 9;
  const auto x = some<M, activation>(random, height * width * channels);
  const image_view<const activation> x_view(x.data(), 1, height, width, channels);
  /// visit(tap, pixel) for the taps that lie on the image.
  const auto for_each_tap = [&](std::size_t oy, std::size_t ox, const auto& visit) {
    for (std::size_t t = 0; t < taps; ++t) {
      const std::size_t iy = oy + t / 3 - 1, ix = ox + t % 3 - 1;  // -1 is beyond every extent
      if (iy < height && ix < width) visit(t, &x[(iy * width + ix) * channels]);
    }
  };
  {
    const auto w = some<M, weight>(random, out * taps * channels);
    const auto bias = some_bias<M>(random, out);
    std::vector<sum> expected;
    for (std::size_t p = 0; p < height * width; ++p)
      for (std::size_t o = 0; o < out; ++o) {
        plain_sum<M> s(bias[o]);
        for_each_tap(p / width, p % width, [&](std::size_t t, const activation* pixel) {
          s.add(pixel, &w[(o * taps + t) * channels], channels);
        });
        expected.push_back(s.total());
      }
    const auto run = [&]<class I>(std::type_identity<I>) {
      const layer::conv2d<M, epilogue::identity, I> layer(
          {.padding = same}, image_view<const weight>(w.data(), out, 3, 3, channels), std::span<const wide>(bias));
      std::vector<sum> y(height * width * out);
      std::vector<std::byte> memory(layer.workspace_bytes({height, width}));
      REQUIRE(layer(x_view, image_view<sum>(y.data(), 1, height, width, out), workspace(memory)).ok());
      CHECK(differences(y, expected) == 0);
    };
    run(std::type_identity<isa::scalar>{});
    // On the atoms of this machine, too: one for each kind of tile.
    if constexpr (std::is_same_v<M, mac::fp16> || std::is_same_v<M, mac::fp8<e4m3fn>> ||
                  std::is_same_v<M, mac::l_mul<>> || std::is_same_v<M, mac::mx<e2m1>>)
      run(std::type_identity<isa::native>{});
  }
  {
    const auto w = some<M, weight>(random, taps * channels);
    const auto bias = some_bias<M>(random, channels);
    const layer::depthwise_conv2d<M, epilogue::identity, isa::scalar> layer(
        {.padding = same}, image_view<const weight>(w.data(), 1, 3, 3, channels), std::span<const wide>(bias));
    std::vector<sum> y(height * width * channels), expected;
    std::vector<std::byte> memory(layer.workspace_bytes());
    REQUIRE(layer(x_view, image_view<sum>(y.data(), 1, height, width, channels), workspace(memory)).ok());
    for (std::size_t p = 0; p < height * width; ++p)
      for (std::size_t c = 0; c < channels; ++c) {
        plain_sum<M> s(bias[c]);
        for_each_tap(p / width, p % width,
                     [&](std::size_t t, const activation* pixel) { s.add(pixel[c], w[t * channels + c]); });
        expected.push_back(s.total());
      }
    CHECK(differences(y, expected) == 0);
  }
}
