// SPDX-License-Identifier: MIT
// Arithmetics whose elements are blocks, bits or codes in the layers: linear, conv2d, depthwise_conv2d and product on
// the generic atom, against plain loops over the golden model.
#include "catch.hpp"
#include "support/random.hpp"
#include "support/reference.hpp"

#include <polymac/isa/arithmetic_atoms.hpp>
#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/layer/product.hpp>
#include <polymac/mac/bit_planes.hpp>
#include <polymac/mac/bit_weights.hpp>
#include <polymac/mac/dfp.hpp>
#include <polymac/mac/imc.hpp>
#include <polymac/mac/sign.hpp>
#include <polymac/mac/spike.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace mac = polymac::mac;
using polymac::image_view;
using polymac::matrix_view;
using polymac::isa::scalar;

namespace {

/// A valid random element.
template <class M, class T>
struct random_element {
  static T make(polymac_test::random_source& random) {
    if constexpr (std::is_integral_v<T>) {
      for (;;) {
        const auto v = static_cast<T>(random.bits());
        if constexpr (requires { M::check_weight(v); })
          if (!M::check_weight(v)) continue;
        return v;
      }
    } else {
      T v;
      if constexpr (requires { v.bits; }) {
        v.bits = random.bits();
      } else if constexpr (requires { v.valid; }) {
        v.valid = random.bits();
        v.negative = random.bits() & v.valid;
      } else if constexpr (requires { v.set_code(0, 0); }) {
        v.scale = 0.25F + random.unit();
        for (std::size_t k = 0; k < M::group_size; ++k) v.set_code(k, static_cast<int>(random.integer(-1, 1)));
      } else if constexpr (requires { v.magnitudes; }) {
        v.sign = static_cast<std::int8_t>(random.integer(0, 1) == 0 ? 1 : -1);
        for (auto& m : v.magnitudes) m = static_cast<std::uint8_t>(random.bits());
      } else if constexpr (requires { v.planes; }) {
        for (auto& p : v.planes) p = random.bits();
      } else {
        for (auto& b : v.values) b = static_cast<typename T::value_type>(random.bits());
      }
      return v;
    }
  }
};
template <class M, class T>
std::vector<T> elements(polymac_test::random_source& random, std::size_t count) {
  std::vector<T> v(count);
  for (T& e : v) e = random_element<M, T>::make(random);
  return v;
}

using macs = std::tuple<mac::dfp<std::int16_t>, mac::dfp<std::int8_t>, mac::bit_weights<3, polymac::digits::naf>,
                        mac::bit_weights<polymac::ternary_bits, polymac::digits::en_t, 32>, mac::binary,
                        mac::bit_planes<2, 2>, mac::sign, mac::spike, mac::imc<16, 3>, mac::forms<4>>;

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
// Codes that are multiplied as int8 may use its atom for few columns, under their own name; encoded ones have none.
template <class M>
using vnni_atom = polymac::isa::best_atom<M, polymac::isa::avx512_vnni>;
template <class M>
inline constexpr bool has_own_narrow = polymac::kernel::has_narrow<vnni_atom<M>>&&
    std::is_same_v<typename polymac::kernel::narrow_atom<vnni_atom<M>>::mac, M>;
static_assert(has_own_narrow<mac::bit_weights<8>> && has_own_narrow<mac::dfp<std::int8_t>>);
static_assert(!polymac::kernel::has_narrow<vnni_atom<mac::bit_weights<4>>> &&
              !polymac::kernel::has_narrow<vnni_atom<mac::bit_weights<8, polymac::digits::naf, 32>>> &&
              !polymac::kernel::has_narrow<vnni_atom<mac::dfp<std::int16_t>>>);
#endif

/// Those that run convolutions on the atoms of this machine, too: one for each kind of tile.
template <class M>
inline constexpr bool stands_for_its_tile =
    std::is_same_v<M, mac::dfp<std::int16_t>> || std::is_same_v<M, mac::binary> ||
    std::is_same_v<M, mac::bit_weights<3, polymac::digits::naf>>;

/// Equal, or with float sums (which a compiler may fuse) within the rounding of a few of them.
template <class M>
std::size_t differing(const std::vector<typename polymac::mac_traits<M>::sum>& y,
                      const std::vector<typename M::accumulator>& expected) {
  std::size_t wrong = y.size() != expected.size();
  for (std::size_t i = 0; i < y.size() && i < expected.size(); ++i) {
    if constexpr (std::is_integral_v<typename M::accumulator>)
      wrong += y[i] != static_cast<typename polymac::mac_traits<M>::sum>(expected[i]);
    else
      wrong += !(std::abs(y[i] - expected[i]) <= 1e-5F * (std::abs(expected[i]) + 1000.0F));
  }
  return wrong;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("Layers sum what the golden model adds", "[layer][mac]", macs) {
  using M = TestType;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using accumulator = typename M::accumulator;
  using sum = typename polymac::mac_traits<M>::sum;
  INFO(M::name);
  POLYMAC_RANDOM(random, 31);

  // linear and product, 5 x 18 x 7
  constexpr std::size_t rows = 5, columns = 18, depth = 7;
  const auto x = elements<M, activation>(random, rows * depth);
  const auto w = elements<M, weight>(random, columns * depth);
  const auto bias = polymac_test::small_integers<accumulator>(random, columns);
  std::vector<sum> y(rows * columns);
  std::vector<accumulator> expected(rows * columns), no_bias(rows * columns);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) {
      accumulator with = bias[c], without{};
      for (std::size_t k = 0; k < depth; ++k) {
        with = M::multiply_add(with, x[r * depth + k], w[c * depth + k]);
        without = M::multiply_add(without, x[r * depth + k], w[c * depth + k]);
      }
      expected[r * columns + c] = with;
      no_bias[r * columns + c] = without;
    }
  const matrix_view<const activation> in(x.data(), rows, depth);
  const matrix_view<sum> out(y.data(), rows, columns);
  const auto fc = polymac::linear<M, scalar>(matrix_view<const weight>(w.data(), columns, depth), bias);
  REQUIRE(fc(in, out).ok());
  REQUIRE(differing<M>(y, expected) == 0);
  std::vector<std::byte> memory(polymac::product_workspace_bytes<M, scalar>(columns, depth));
  y.assign(y.size(), sum{77});
  REQUIRE(polymac::product<M, scalar>(in, {w.data(), columns, depth}, out, polymac::workspace(memory)).ok());
  REQUIRE(differing<M>(y, no_bias) == 0);

  // conv2d: 1 x 4 x 5 x 2, 3 x 3, padding 1, 3 channels out
  const polymac_test::image_shape image{1, 4, 5, 2};
  polymac_test::window window;
  window.kernel_height = window.kernel_width = 3;
  window.pad_top = window.pad_bottom = window.pad_left = window.pad_right = 1;
  const auto pixels = elements<M, activation>(random, image.count());
  const auto filters = elements<M, weight>(random, 3 * 9 * 2);
  const auto size = window.output(image, 3);
  expected.assign(size.count(), accumulator{});
  polymac_test::for_each_tap(image, size, window, [&](auto n, auto oy, auto ox, auto ky, auto kx, auto iy, auto ix) {
    for (std::size_t o = 0; o < 3; ++o)
      for (std::size_t i = 0; i < 2; ++i) {
        auto& total = expected[size.at(n, oy, ox, o)];
        total = M::multiply_add(total, pixels[image.at(n, iy, ix, i)], filters[((o * 3 + ky) * 3 + kx) * 2 + i]);
      }
  });
  const auto run_conv = [&]<class I>(std::type_identity<I>) {
    const auto conv = polymac::conv2d<M, I>(
        {.padding = {{1, 1, 1, 1}}}, image_view<const weight>(filters.data(), 3, 3, 3, 2), std::vector<accumulator>{});
    for (const bool framed : {false, true}) {
      memory.assign(framed ? conv.workspace_bytes({4, 5}) : conv.workspace_bytes(), std::byte{});
      y.assign(size.count(), sum{77});
      REQUIRE(conv(image_view<const activation>(pixels.data(), 1, 4, 5, 2), {y.data(), 1, 4, 5, 3},
                   polymac::workspace(memory))
                  .ok());
      REQUIRE(differing<M>(y, expected) == 0);
    }
  };
  run_conv(std::type_identity<scalar>{});
  if constexpr (stands_for_its_tile<M>) run_conv(std::type_identity<polymac::isa::native>{});

  // depthwise: every element is a channel
  const auto taps = elements<M, weight>(random, 9 * 2);
  const auto dw_size = window.output(image, 2);
  expected.assign(dw_size.count(), accumulator{});
  polymac_test::for_each_tap(image, dw_size, window, [&](auto n, auto oy, auto ox, auto ky, auto kx, auto iy, auto ix) {
    for (std::size_t o = 0; o < 2; ++o) {
      auto& total = expected[dw_size.at(n, oy, ox, o)];
      total = M::multiply_add(total, pixels[image.at(n, iy, ix, o)], taps[(ky * 3 + kx) * 2 + o]);
    }
  });
  const auto depthwise = polymac::depthwise_conv2d<M, scalar>(
      {.padding = {{1, 1, 1, 1}}}, image_view<const weight>(taps.data(), 1, 3, 3, 2), std::vector<accumulator>{});
  memory.assign(depthwise.workspace_bytes(), std::byte{});
  y.assign(dw_size.count(), sum{77});
  REQUIRE(depthwise(image_view<const activation>(pixels.data(), 1, 4, 5, 2), {y.data(), 1, 4, 5, 2},
                    polymac::workspace(memory))
              .ok());
  REQUIRE(differing<M>(y, expected) == 0);
}

namespace {

/// What a constructor throws.
template <class Make>
std::string refusal(const Make& make) {
  try {
    make();
  } catch (const polymac::error& e) {
    return e.what();
  }
  return "nothing";
}

}  // namespace

TEST_CASE("Layers refuse weights that an arithmetic does not have", "[layer][mac]") {
  {
    using M = mac::bit_weights<3, polymac::digits::naf>;
    std::vector<std::int8_t> w(12, 3);
    const auto linear = [&] {
      polymac::linear<M, scalar>(matrix_view<const std::int8_t>(w.data(), 3, 4), std::vector<std::int32_t>{});
    };
    REQUIRE(refusal(linear) == "nothing");
    w[6] = 4;
    REQUIRE(refusal(linear) == "linear: w3_naf has no such weight as that of column 1, k 2: 4");
    REQUIRE(refusal([&] {
              polymac::conv2d<M, scalar>({}, image_view<const std::int8_t>(w.data(), 3, 1, 2, 2),
                                         std::vector<std::int32_t>{});
            }) == "conv2d: w3_naf has no such weight as that of column 1, k 2: 4");
    REQUIRE(refusal([&] {
              polymac::depthwise_conv2d<M, scalar>({}, image_view<const std::int8_t>(w.data(), 1, 2, 2, 3),
                                                   std::vector<std::int32_t>{});
            }) == "depthwise_conv2d: w3_naf has no such weight as that of column 0, k 2: 4");
    // product says so at the call, in both orders, and has written nothing.
    std::vector<std::byte> memory(polymac::product_workspace_bytes<M, scalar>(3, 4));
    const std::vector<std::int8_t> x(2 * 4, 1);
    std::vector<std::int32_t> y(2 * 3, 77);
    const matrix_view<const std::int8_t> in(x.data(), 2, 4);
    const auto by_columns =
        polymac::product<M, scalar>(in, {w.data(), 3, 4}, {y.data(), 2, 3}, polymac::workspace(memory));
    CHECK(std::string(by_columns.c_str()) == "product: w3_naf has no such weight as that of column 1, k 2: 4");
    const auto by_depth =
        polymac::product<M, scalar>(in, polymac::transposed(matrix_view<const std::int8_t>(w.data(), 4, 3)),
                                    {y.data(), 2, 3}, polymac::workspace(memory));
    CHECK(std::string(by_depth.c_str()) == "product: w3_naf has no such weight as that of column 0, k 2: 4");
    CHECK(y == std::vector<std::int32_t>(2 * 3, 77));
    w[6] = 3;
    const std::vector<std::int32_t> zeros = {-1};  // 3 - -1 is no code: zero points need groups
    REQUIRE(refusal([&] {
              polymac::linear<M, scalar>(matrix_view<const std::int8_t>(w.data(), 3, 4), std::vector<std::int32_t>{},
                                         polymac::epilogue::identity{}, {.weight_zero_points = zeros});
            }) == "linear: w3_naf has no such weight as that of column 0, k 0: 4");
  }
  {
    using M = mac::dfp<std::int16_t>;
    std::vector<std::int16_t> w(12, -8191);
    w[11] = -8192;
    REQUIRE(refusal([&] {
              polymac::linear<M, scalar>(matrix_view<const std::int16_t>(w.data(), 3, 4), std::vector<float>{});
            }) == "linear: dfp16 has no such weight as that of column 2, k 3: -8192");
  }
  {
    using M = mac::bit_weights<polymac::ternary_bits, polymac::digits::en_t, 32>;
    POLYMAC_RANDOM(random, 32);
    auto w = elements<M, M::weight>(random, 6);
    const auto linear = [&] {
      polymac::linear<M, scalar>(matrix_view<const M::weight>(w.data(), 3, 2), std::vector<float>{});
    };
    REQUIRE(refusal(linear) == "nothing");
    for (const float scale : {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::nanf("")}) {
      w[3].scale = scale;
      REQUIRE(refusal(linear) == "linear: ternary_group32_en_t has no such weight as that of column 1, k 1");
    }
  }
}
