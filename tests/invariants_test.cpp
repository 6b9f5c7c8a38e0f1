// SPDX-License-Identifier: MIT
// What must hold for every linear layer whatever its arithmetic: the adjoint identity, the impulse response, linearity,
// equivariance under permutation of channels, independence of images and rows. Data are small integers, so that every
// arithmetic, floats included, is exact and every check is an equality.
#include "catch.hpp"
#include "support/compare.hpp"
#include "support/convolution_problems.hpp"
#include "support/random.hpp"
#include "support/reference.hpp"

#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/mac/bf16.hpp>
#include <polymac/mac/float32.hpp>
#include <polymac/mac/int16x8.hpp>
#include <polymac/mac/int8.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "support/test_code.hpp"

using namespace polymac_test;
namespace mac = polymac::mac;
namespace isa = polymac::isa;

namespace {

template <class M, class I>
struct on {
  using mac = M;
  using isa = I;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using sum = typename polymac::mac_traits<M>::sum;
};

// Every instruction set has a program of its own, in which it is the native one. bf16: where it has an atom of its own.
using atom_of_bf16 = isa::best_atom<mac::bf16, isa::native>;
using bf16_here =
    std::conditional_t<std::is_same_v<atom_of_bf16::isa, isa::native> || std::is_same_v<atom_of_bf16::isa, isa::scalar>,
                       std::tuple<on<mac::bf16, typename atom_of_bf16::isa>>, std::tuple<>>;
using arithmetics = decltype(std::tuple_cat(
    bf16_here{},
    std::tuple<on<mac::int8, isa::native>, on<mac::uint8, isa::native>, on<mac::int16x8, isa::native>,
               on<mac::float32, isa::native>, on<mac::int8, isa::scalar>, on<mac::float32, isa::scalar>>{}));

template <class T, class Config, class Build>
std::vector<T> run_image(const problem& p, const std::vector<typename Config::activation>& x, const Build& build,
                         const std::vector<polymac::row_range>& parts) {
  const auto layer = build();
  const image_shape out = p.out();
  std::vector<T> y(out.count(), T{99});
  std::vector<std::byte> memory(layer.workspace_bytes());
  for (const polymac::row_range& rows : parts) {
    const auto status = layer(view_of(x.data(), p.in), view_of(y.data(), out), polymac::workspace(memory), rows);
    if (!status.ok()) FAIL(status.text());
  }
  return y;
}

/// Raw sums of polymac's convolution, computed in the given ranges of rows.
template <class Config>
std::vector<typename Config::sum> convolve(const problem& p, const std::vector<typename Config::activation>& x,
                                           const std::vector<typename Config::weight>& weights,
                                           const std::vector<typename Config::sum>& bias = {},
                                           typename Config::activation zero_point = {},
                                           const std::vector<polymac::row_range>& parts = {{}}) {
  using M = typename Config::mac;
  const auto build = [&] {
    return polymac::conv2d<M, typename Config::isa>(p.convolution(), p.weight_view(weights.data()), bias,
                                                    polymac::epilogue::identity{}, {zero_point, {}});
  };
  return run_image<typename Config::sum, Config>(p, x, build, parts);
}

/// Activations and weights in [-3, 3], or [0, 6] for unsigned activations.
template <class Config>
std::vector<typename Config::activation> random_image(random_source& random, std::size_t count) {
  const int low = std::is_unsigned_v<typename Config::activation> ? 0 : -3;
  return small_integers<typename Config::activation>(random, count, low, low + 6);
}
template <class Config>
std::vector<typename Config::weight> random_weights(random_source& random, std::size_t count) {
  return small_integers<typename Config::weight>(random, count);
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("convolution: small integers are exact", "[invariants]", arithmetics) {
  POLYMAC_RANDOM(random, 1);
  for (const problem& p : problems()) {
    CAPTURE(p);
    const auto x = random_image<TestType>(random, p.in.count());
    const auto w = random_weights<TestType>(random, p.weights());
    CHECK(difference(conv2d_reference<std::int64_t>(x, p.in, w, p.out_channels, p.w), convolve<TestType>(p, x, w)) ==
          "");
  }
}

TEMPLATE_LIST_TEST_CASE("convolution: adjoint identity", "[invariants]", arithmetics) {
  // <Y, dY> = <X, dX> = <W, dW>: one equality that finds nearly every mistake in padding, stride and flips.
  POLYMAC_RANDOM(random, 2);
  for (const problem& p : problems()) {
    CAPTURE(p);
    const auto x = random_image<TestType>(random, p.in.count());
    const auto w = random_weights<TestType>(random, p.weights());
    const auto y = convolve<TestType>(p, x, w);
    const auto dy = small_integers<std::int64_t>(random, y.size());
    const std::int64_t forward = inner_product(y, dy);
    CHECK(forward == inner_product(x, conv2d_input_gradient(dy, p.in, w, p.out_channels, p.w)));
    CHECK(forward == inner_product(w, conv2d_weight_gradient(dy, x, p.in, p.out_channels, p.w)));
  }
}

TEMPLATE_LIST_TEST_CASE("convolution: the response to an impulse is the kernel", "[invariants]", arithmetics) {
  POLYMAC_RANDOM(random, 3);
  for (const problem& p : problems()) {
    CAPTURE(p);
    const auto w = random_weights<TestType>(random, p.weights());
    const auto pick = [&](std::size_t n) {
      return static_cast<std::size_t>(random.integer(0, static_cast<int>(n) - 1));
    };
    for (int repeat = 0; repeat < 4; ++repeat) {
      const std::size_t n = pick(p.in.batch), y0 = pick(p.in.height), x0 = pick(p.in.width), c0 = pick(p.in.channels);
      std::vector<typename TestType::activation> x(p.in.count());
      x[p.in.at(n, y0, x0, c0)] = whole<typename TestType::activation>(1);
      const auto y = convolve<TestType>(p, x, w);
      // Where output (oy, ox) has a tap on the impulse, it is that tap's weight.
      const image_shape out = p.out();
      const std::size_t group_in = p.in.channels / p.w.groups, group_out = p.out_channels / p.w.groups;
      std::vector<std::int64_t> expected(out.count());
      for (std::size_t oy = 0; oy < out.height; ++oy)
        for (std::size_t ox = 0; ox < out.width; ++ox)
          for (std::size_t ky = 0; ky < p.w.kernel_height; ++ky)
            for (std::size_t kx = 0; kx < p.w.kernel_width; ++kx) {
              if (oy * p.w.stride_height + ky * p.w.dilation_height != y0 + p.w.pad_top) continue;
              if (ox * p.w.stride_width + kx * p.w.dilation_width != x0 + p.w.pad_left) continue;
              for (std::size_t o = c0 / group_in * group_out; o < (c0 / group_in + 1) * group_out; ++o)
                expected[out.at(n, oy, ox, o)] = static_cast<std::int64_t>(
                    w[((o * p.w.kernel_height + ky) * p.w.kernel_width + kx) * group_in + c0 % group_in]);
            }
      CHECK(difference(expected, y) == "");
    }
  }
}

TEMPLATE_LIST_TEST_CASE("convolution: linear in activations and weights, affine in the bias", "[invariants]",
                        arithmetics) {
  using sum = typename TestType::sum;
  POLYMAC_RANDOM(random, 4);
  for (const problem& p : problems()) {
    CAPTURE(p);
    const auto a = random_image<TestType>(random, p.in.count()), b = random_image<TestType>(random, p.in.count());
    const auto v = random_weights<TestType>(random, p.weights()), w = random_weights<TestType>(random, p.weights());
    const auto plus = [](const auto& s, const auto& t, int times) {
      auto r = s;
      for (std::size_t i = 0; i < r.size(); ++i)
        r[i] = static_cast<typename std::decay_t<decltype(r)>::value_type>(
            s[i] + static_cast<decltype(s[i] + t[i])>(times) * t[i]);
      return r;
    };
    const auto av = convolve<TestType>(p, a, v);
    CHECK(difference(plus(av, convolve<TestType>(p, b, v), 3), convolve<TestType>(p, plus(a, b, 3), v)) == "");
    CHECK(difference(plus(av, convolve<TestType>(p, a, w), -2), convolve<TestType>(p, a, plus(v, w, -2))) == "");
    const auto bias = small_integers<sum>(random, p.out_channels, -1000, 1000);
    auto shifted = av;
    for (std::size_t i = 0; i < shifted.size(); ++i) shifted[i] += bias[i % p.out_channels];
    CHECK(difference(shifted, convolve<TestType>(p, a, v, bias)) == "");
  }
}

TEMPLATE_LIST_TEST_CASE("convolution: channels may be permuted", "[invariants]", arithmetics) {
  POLYMAC_RANDOM(random, 5);
  for (const problem& p : problems()) {
    CAPTURE(p);
    const auto x = random_image<TestType>(random, p.in.count());
    const auto w = random_weights<TestType>(random, p.weights());
    const auto y = convolve<TestType>(p, x, w);
    const std::size_t group_in = p.in.channels / p.w.groups, group_out = p.out_channels / p.w.groups;
    const auto permutation = [&](std::size_t n) {
      std::vector<std::size_t> order(n);
      for (std::size_t i = 0; i < n; ++i) order[i] = i;
      for (std::size_t i = n; i > 1; --i)
        std::swap(order[i - 1], order[static_cast<std::size_t>(random.integer(0, static_cast<int>(i) - 1))]);
      return order;
    };
    // Input channels, inside every group: nothing changes.
    const auto in_order = permutation(group_in);
    auto x2 = x;
    auto w2 = w;
    for (std::size_t i = 0; i < x.size(); ++i) x2[i] = x[i - i % group_in + in_order[i % group_in]];
    for (std::size_t i = 0; i < w.size(); ++i) w2[i] = w[i - i % group_in + in_order[i % group_in]];
    CHECK(difference(y, convolve<TestType>(p, x2, w2)) == "");
    // Output channels, inside every group: the output is permuted.
    const auto out_order = permutation(group_out);
    const std::size_t filter = p.taps() * group_in;
    const auto source = [&](std::size_t o) { return o - o % group_out + out_order[o % group_out]; };
    for (std::size_t o = 0; o < p.out_channels; ++o)
      for (std::size_t k = 0; k < filter; ++k) w2[o * filter + k] = w[source(o) * filter + k];
    auto y2 = y;
    for (std::size_t i = 0; i < y.size(); ++i) y2[i] = y[i - i % p.out_channels + source(i % p.out_channels)];
    CHECK(difference(y2, convolve<TestType>(p, x, w2)) == "");
  }
}

TEMPLATE_LIST_TEST_CASE("convolution: images, rows and ranges of rows do not depend on each other", "[invariants]",
                        arithmetics) {
  POLYMAC_RANDOM(random, 6);
  for (problem p : problems()) {
    CAPTURE(p);
    p.in.batch += 1;
    // Full-range values: also where rounding matters, the bits must be the same.
    const auto x = uniform<typename TestType::activation>(random, p.in.count());
    const auto w = uniform<typename TestType::weight>(random, p.weights());
    const auto y = convolve<TestType>(p, x, w);
    const std::size_t rows = p.out().batch * p.out().height * p.out().width;
    const std::size_t cut = static_cast<std::size_t>(random.integer(0, static_cast<int>(rows)));
    CHECK(difference(y, convolve<TestType>(p, x, w, {}, {}, {{cut, rows}, {0, cut}})) == "");
    std::vector<polymac::row_range> threads;  // more ranges than rows: some are empty
    for (std::size_t t = 0; t < 7; ++t) threads.push_back({rows * t / 7, rows * (t + 1) / 7});
    CHECK(difference(y, convolve<TestType>(p, x, w, {}, {}, threads)) == "");

    problem one = p;
    one.in.batch = 1;
    std::vector<typename TestType::sum> joined;
    for (std::size_t n = 0; n < p.in.batch; ++n) {
      const auto first = x.begin() + static_cast<std::ptrdiff_t>(n * one.in.count());
      const auto image = convolve<TestType>(one, {first, first + static_cast<std::ptrdiff_t>(one.in.count())}, w);
      joined.insert(joined.end(), image.begin(), image.end());
    }
    CHECK(difference(joined, y) == "");
  }
}

TEMPLATE_LIST_TEST_CASE("depthwise convolution is a convolution with as many groups as channels", "[invariants]",
                        arithmetics) {
  using M = typename TestType::mac;
  POLYMAC_RANDOM(random, 7);
  for (problem p : problems()) {
    for (const std::size_t multiplier : {1u, 2u, 3u}) {
      p.w.groups = p.in.channels;
      p.out_channels = p.in.channels * multiplier;
      CAPTURE(p);
      const auto x = random_image<TestType>(random, p.in.count());
      const auto w = random_weights<TestType>(random, p.taps() * p.out_channels);  // HWC
      std::vector<typename TestType::weight> filters(w.size());                    // OHWI
      for (std::size_t o = 0; o < p.out_channels; ++o)
        for (std::size_t tap = 0; tap < p.taps(); ++tap) filters[o * p.taps() + tap] = w[tap * p.out_channels + o];
      const auto zero = whole<typename TestType::activation>(polymac::mac_traits<M>::integer ? 2 : 0);
      const auto build = [&] {
        return polymac::depthwise_conv2d<M, typename TestType::isa>(
            p.depthwise(multiplier), p.depthwise_weight_view(w.data()), std::vector<typename TestType::sum>{},
            polymac::epilogue::identity{}, {zero, {}});
      };
      const auto y = run_image<typename TestType::sum, TestType>(p, x, build, {{}});
      CHECK(difference(
                depthwise_conv2d_reference<std::int64_t>(x, p.in, w, multiplier, p.w, static_cast<std::int64_t>(zero)),
                y) == "");
      CHECK(difference(convolve<TestType>(p, x, filters, {}, zero), y) == "");
      const auto dy = small_integers<std::int64_t>(random, y.size());
      if (zero == 0)
        CHECK(inner_product(y, dy) == inner_product(x, conv2d_input_gradient(dy, p.in, filters, p.out_channels, p.w)));
    }
  }
}

TEMPLATE_LIST_TEST_CASE("linear: exact, linear and adjoint; a 1 x 1 convolution is the same", "[invariants]",
                        arithmetics) {
  using M = typename TestType::mac;
  using sum = typename TestType::sum;
  POLYMAC_RANDOM(random, 8);
  for (const std::size_t rows : {1u, 2u, 13u})
    for (const std::size_t columns : {1u, 15u, 16u, 37u, 64u})
      for (const std::size_t depth : {1u, 3u, 32u, 75u, 257u}) {
        CAPTURE(rows, columns, depth);
        const auto x = random_image<TestType>(random, rows * depth);
        const auto w = random_weights<TestType>(random, columns * depth);
        const auto layer = polymac::linear<M, typename TestType::isa>(
            polymac::matrix_view(w.data(), columns, depth), std::vector<sum>{}, polymac::epilogue::identity{});
        std::vector<sum> y(rows * columns);
        const auto status =
            layer(polymac::matrix_view(x.data(), rows, depth), polymac::matrix_view(y.data(), rows, columns));
        CHECK(status.text() == "");
        CHECK(difference(linear_reference<std::int64_t>(x, w, rows, columns, depth), y) == "");
        const problem p{{1, rows, 1, depth}, columns, make_window(1, 1, 1, 1, 1, 1, 0, 0, 0, 0)};
        CHECK(difference(convolve<TestType>(p, x, w), y) == "");
        const auto dy = small_integers<std::int64_t>(random, y.size());
        CHECK(inner_product(y, dy) == inner_product(w, conv2d_weight_gradient(dy, x, p.in, columns, p.w)));
      }
}

TEMPLATE_LIST_TEST_CASE("convolution: full-range codes with zero points are exact", "[invariants]", arithmetics) {
  if constexpr (polymac::mac_traits<typename TestType::mac>::integer) {
    using activation = typename TestType::activation;
    POLYMAC_RANDOM(random, 9);
    for (const problem& p : problems()) {
      CAPTURE(p);
      for (const activation zero :
           {std::numeric_limits<activation>::min(), activation{3}, std::numeric_limits<activation>::max()}) {
        const auto x = extremes<activation>(random, p.in.count());
        const auto w = extremes<typename TestType::weight>(random, p.weights());
        CHECK(difference(conv2d_reference<std::int64_t>(x, p.in, w, p.out_channels, p.w, std::int64_t{zero}),
                         convolve<TestType>(p, x, w, {}, zero)) == "");
      }
    }
  } else {
    SUCCEED("an arithmetic on reals has no zero points");
  }
}
