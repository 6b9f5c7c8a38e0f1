// SPDX-License-Identifier: MIT
// Sparse kernels in linear and conv2d: the sums of the dense golden model on the same weights, bit for bit, for every
// policy, arithmetic and layer. Rows end at unmapped pages.
#include "catch.hpp"
#include "support/arithmetic_data.hpp"
#include "support/arithmetics.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/arithmetics.hpp>
#include <polymac/sparsity.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "support/test_code.hpp"

using namespace polymac_test;
namespace pm = polymac;
using pm::image_view;
using pm::matrix_view;
using pm::policy::n_of_m;
using pm::policy::positions;
using pm::policy::share;

namespace {

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

using pm::policy::block_list;

template <class P>
[[maybe_unused]] inline constexpr bool is_list = requires {
  P::channels;
};
/// Of lists two blocks of five are kept.
template <class P, class View, class... Groups>
void prune(const View& weights, Groups... groups) {
  if constexpr (is_list<P>)
    pm::policy::prune<P>(weights, 0.4, groups...);
  else
    pm::policy::prune<P>(weights, groups...);
}

/// Weights of a product with P's zeros, some groups emptier than they must be.
template <class M, class P, class View>
std::vector<typename M::weight> weights_of(random_source& random, std::size_t count, const View& view) {
  auto w = random_weights<M>(random, count);
  for (auto& v : w) {
    if (random.integer(0, 5) == 0) v = typename M::weight{};
    if constexpr (requires { M::check_weight(v); })
      while (!M::check_weight(v)) v = static_cast<typename M::weight>(v / 2);
  }
  prune<P>(view(w.data()));
  return w;
}

/// Some rows, columns and depths; the dense layer of the scalar set is the golden model.
template <class M, class I, class P>
std::string linear_case(random_source& random, std::size_t rows, std::size_t columns, std::size_t depth) {
  using sum = typename pm::mac_traits<M>::sum;
  const auto w = weights_of<M, P>(random, columns * depth, [&](typename M::weight* data) {
    return matrix_view<typename M::weight>(data, columns, depth);
  });
  const auto bias = random_bias<M>(random, columns);
  const zero_points<M> zeros(random, 1);
  const matrix_view<const typename M::weight> view(w.data(), columns, depth);
  const pm::layer::quantization<M> q{zeros.activation, {}};
  const auto golden = pm::linear<M, pm::isa::scalar>(view, bias, {}, q);
  const auto sparse = pm::linear<M, pm::policy::always<P>, I>(view, bias, {}, q);
  const auto x = random_activations<M>(random, rows * depth);
  const guarded_buffer<typename M::activation> guarded(x, placement::before_guard);
  const matrix_view<const typename M::activation> rows_of_x(guarded.data(), rows, depth);
  std::vector<sum> expected(rows * columns), got(rows * columns, sum{});
  if (!golden(rows_of_x, {expected.data(), rows, columns}).ok()) return "golden";
  if (!sparse(rows_of_x, {got.data(), rows, columns}).ok()) return "sparse";
  const std::string what = std::string(M::name) + ", " + P::name + ": " + std::to_string(rows) + " x " +
                           std::to_string(columns) + " x " + std::to_string(depth);
  if (!same_bits(expected, got)) return what + ": the sparse kernel differs";
  return "";
}

template <class M, class I, class P>
std::string conv_case(random_source& random, std::size_t channels, std::size_t filters, std::size_t groups,
                      pm::extent2d kernel, pm::layer::convolution c) {
  using sum = typename pm::mac_traits<M>::sum;
  const std::size_t height = 7, width = 9, in = channels / groups;
  c.groups = groups;
  const auto w = weights_of<M, P>(random, filters * kernel.height * kernel.width * in, [&](typename M::weight* data) {
    return matrix_view<typename M::weight>(data, filters * kernel.height * kernel.width, in);
  });
  // Columns that share are those of a filter, not of a tap.
  auto weights = w;
  prune<P>(image_view<typename M::weight>(weights.data(), filters, kernel.height, kernel.width, in), groups);
  const image_view<const typename M::weight> view(weights.data(), filters, kernel.height, kernel.width, in);
  const auto bias = random_bias<M>(random, filters);
  const zero_points<M> zeros(random, 1);
  const pm::layer::quantization<M> q{zeros.activation, {}};
  const auto golden = pm::conv2d<M, pm::isa::scalar>(c, view, bias, {}, q);
  const auto sparse = pm::conv2d<M, pm::policy::always<P>, I>(c, view, bias, {}, q);
  const auto x = random_activations<M>(random, 2 * height * width * channels);
  const image_view<const typename M::activation> picture(x.data(), 2, height, width, channels);
  const auto o = golden.output_size({height, width});
  const std::size_t count = 2 * o.height * o.width * filters;
  std::vector<sum> expected(count), got(count);
  std::vector<std::byte> memory(golden.workspace_bytes({height, width}));
  if (!golden(picture, {expected.data(), 2, o.height, o.width, filters}, pm::workspace(memory)).ok()) return "golden";
  // With room for a frame, and without.
  for (const std::size_t bytes : {sparse.workspace_bytes({height, width}), sparse.workspace_bytes()}) {
    memory.resize(bytes);
    if (!sparse(picture, {got.data(), 2, o.height, o.width, filters}, pm::workspace(memory)).ok()) return "sparse";
    if (!same_bits(expected, got))
      return std::string(M::name) + ", " + P::name + ": " + std::to_string(channels) + " -> " +
             std::to_string(filters) + " channels in " + std::to_string(groups) + " groups, kernel " +
             std::to_string(kernel.height) + " x " + std::to_string(kernel.width) + " differs";
  }
  return "";
}

template <class M, class I, class P>
void run_linear(random_source& random) {
  for (const auto& [rows, columns, depth] : std::initializer_list<std::array<std::size_t, 3>>{{1, 1, 1},
                                                                                              {1, 170, 64},
                                                                                              {3, 33, 65},
                                                                                              {5, 16, 130},
                                                                                              {13, 40, 77},
                                                                                              {25, 37, 192},
                                                                                              {12, 97, 31},
                                                                                              {14, 64, 2500}})
    CHECK(linear_case<M, I, P>(random, rows, columns, depth) == "");
}
template <class M, class I, class P>
void run_conv(random_source& random) {
  CHECK(conv_case<M, I, P>(random, 16, 20, 1, {3, 3}, {.padding = pm::same}) == "");
  CHECK(conv_case<M, I, P>(random, 64, 40, 1, {3, 1}, {.padding = pm::same}) == "");
  CHECK(conv_case<M, I, P>(random, 3, 5, 1, {3, 3}, {.stride = {2, 2}, .padding = pm::same}) == "");
  CHECK(conv_case<M, I, P>(random, 64, 33, 1, {1, 1}, {}) == "");
  CHECK(conv_case<M, I, P>(random, 24, 12, 2, {2, 3}, {.dilation = {1, 2}}) == "");
}

using I = pm::isa::native;
/// Kernels by hand, in the programs for the sets that have some.
template <class P>
inline constexpr bool is_by_hand = pm::isa::detail::policy_choice<pm::mac::int8, I, pm::policy::always<P>>::by_hand;

template <class M, class... Ps>
void linear_by_hand(std::uint64_t seed) {
  random_source random(seed);
  const auto one = [&]<class P>(std::type_identity<P>) {
    if constexpr (is_by_hand<P>) run_linear<M, I, P>(random);
  };
  (one(std::type_identity<Ps>{}), ...);
}

}  // namespace

#if defined(POLYMAC_TEST_ISA_ONLY)

// What the flags must bring: a kernel that is lost would be one that is not tested.
static_assert(!std::is_same_v<I, pm::isa::avx2> || (is_by_hand<n_of_m<2, 4>> && is_by_hand<n_of_m<1, 16>>));
static_assert(!std::is_same_v<I, pm::isa::avx_vnni> || (is_by_hand<n_of_m<2, 4>> && is_by_hand<n_of_m<1, 16>>));
static_assert(!std::is_same_v<I, pm::isa::avx512_vnni> ||
              (is_by_hand<n_of_m<2, 4, share::tile>> && is_by_hand<n_of_m<1, 16>>));

TEST_CASE("linear, int8, places in bytes") {
  linear_by_hand<pm::mac::int8, n_of_m<2, 4>, n_of_m<1, 4>, n_of_m<1, 8>, n_of_m<2, 16>, n_of_m<1, 16>>(1);
}
TEST_CASE("linear, int8, places that are shared or packed") {
  linear_by_hand<pm::mac::int8, n_of_m<2, 4, share::tile>, n_of_m<1, 8, share::tile>,
                 n_of_m<2, 4, share::column, positions::packed>, n_of_m<2, 8, share::column, positions::packed>,
                 n_of_m<2, 8, share::four, positions::packed>>(2);
}
TEST_CASE("linear, uint8") { linear_by_hand<pm::mac::uint8, n_of_m<2, 8>, block_list<2, 16>>(3); }
TEST_CASE("linear, lists of blocks") { linear_by_hand<pm::mac::int8, block_list<1, 16>, block_list<1, 32>>(9); }
TEST_CASE("linear, weights of two bits") { linear_by_hand<pm::mac::bit_weights<2>, n_of_m<2, 4>>(4); }
TEST_CASE("conv2d") {
  random_source random(5);
  if constexpr (is_by_hand<n_of_m<2, 4>>) run_conv<pm::mac::int8, I, n_of_m<2, 4>>(random);
  if constexpr (is_by_hand<n_of_m<1, 16>>) run_conv<pm::mac::int8, I, n_of_m<1, 16>>(random);
  if constexpr (is_by_hand<block_list<1, 32>>) run_conv<pm::mac::int8, I, block_list<1, 32>>(random);
}

#else

TEST_CASE("the generic kernel, every arithmetic") {
  random_source random(6);
  namespace mac = pm::mac;
  using pm::isa::scalar;
  const auto all = [&]<class... M>(std::type_identity<std::tuple<M...>>) {
    (run_linear<M, scalar, n_of_m<2, 4>>(random), ...);
  };
  all(std::type_identity<
      std::tuple<mac::int8, mac::int16x8, mac::float32_unfused, mac::bf16, mac::fp16, mac::dfp<std::int16_t>,
                 mac::l_mul<>, mac::bit_weights<4>, power_of_two, truncated>>{});
  run_linear<mac::int8, scalar, n_of_m<3, 8>>(random);
  run_linear<mac::int16x8, scalar, block_list<1, 16>>(random);
  run_linear<mac::float32_unfused, scalar, block_list<2, 32>>(random);
  run_linear<mac::bf16, scalar, block_list<1, 16>>(random);
  run_linear<mac::dfp<std::int16_t>, scalar, block_list<1, 16>>(random);
  run_linear<mac::l_mul<>, scalar, block_list<1, 16>>(random);
  run_linear<shallow, scalar, block_list<1, 16>>(random);  // its sums are gathered in 64 bits: all groups
  run_linear<mac::int8, scalar, n_of_m<5, 32>>(random);
  run_linear<mac::dfp<std::int16_t>, scalar, n_of_m<1, 16, share::tile>>(random);
}
TEST_CASE("the generic kernel, convolutions") {
  random_source random(7);
  run_conv<pm::mac::int8, pm::isa::scalar, n_of_m<2, 4>>(random);
  run_conv<pm::mac::float32_unfused, pm::isa::scalar, n_of_m<1, 4>>(random);
  run_conv<pm::mac::float32_unfused, pm::isa::scalar, block_list<1, 16>>(random);
}
TEST_CASE("a layer that chooses for itself gives the same sums") {
  random_source random(8);
  const auto w = weights_of<pm::mac::int8, n_of_m<2, 8>>(
      random, 40 * 128, [](std::int8_t* data) { return matrix_view<std::int8_t>(data, 40, 128); });
  const auto x = random_activations<pm::mac::int8>(random, 13 * 128);
  const matrix_view<const std::int8_t> weights(w.data(), 40, 128), rows(x.data(), 13, 128);
  const std::vector<int> bias(40, 3);
  std::vector<int> expected(13 * 40), got(13 * 40);
  REQUIRE(pm::linear<pm::mac::int8, pm::isa::scalar>(weights, bias)(rows, {expected.data(), 13, 40}).ok());
  REQUIRE(pm::linear<pm::mac::int8, n_of_m<2, 8>>(weights, bias)(rows, {got.data(), 13, 40}).ok());
  CHECK(expected == got);
  // A part of the columns, and an epilogue; of lists, too.
  const auto check_part = [&](const auto& layer) {
    std::vector<std::int8_t> whole(13 * 40), part(13 * 8);
    REQUIRE(layer(rows, {whole.data(), 13, 40}).ok());
    if (32 % layer.column_alignment() != 0) return;
    REQUIRE(layer.part({32, 40})(rows, {part.data(), 13, 8}).ok());
    for (std::size_t i = 0; i < part.size(); ++i) CHECK(part[i] == whole[i / 8 * 40 + 32 + i % 8]);
  };
  const auto stages = pm::requantize(0.01, 0) | pm::clamp(-100, 90);
  check_part(pm::linear<pm::mac::int8, n_of_m<2, 8>>(weights, bias, stages));
  check_part(pm::linear<pm::mac::int8, block_list<1, 16>>(weights, bias, stages));
}
TEST_CASE("lists leave out what is 0, and their memory") {
  std::vector<std::int8_t> w(64 * 256, 0);
  for (std::size_t c = 0; c < 64; ++c) w[c * 256 + 100] = 1;
  const matrix_view<const std::int8_t> weights(w.data(), 64, 256);
  const std::vector<int> bias(64);
  const auto layer = pm::linear<pm::mac::int8, pm::policy::always<block_list<1, 16>>>(weights, bias);
  const auto dense = pm::linear<pm::mac::int8>(weights, bias);
  CHECK(layer.weight_bytes() < dense.weight_bytes() / 3);
  CHECK(std::string(layer.explain().c_str()).find("1 % of the products") != std::string::npos);
  // All of them 0: the bias alone.
  std::fill(w.begin(), w.end(), std::int8_t{0});
  const auto empty = pm::linear<pm::mac::int8, block_list<1, 16>>(weights, std::vector<int>(64, 5));
  const std::vector<std::int8_t> x(3 * 256, 1);
  std::vector<int> y(3 * 64);
  REQUIRE(empty({x.data(), 3, 256}, {y.data(), 3, 64}).ok());
  CHECK(y == std::vector<int>(3 * 64, 5));
}
TEST_CASE("blocks of the largest sums are kept") {
  std::vector<float> w(32 * 8);
  for (std::size_t c = 0; c < 32; ++c)
    for (std::size_t k = 0; k < 8; ++k) w[c * 8 + k] = (c / 16 + k / 4) % 2 == 0 ? 1.0F : -2.0F;
  pm::policy::prune<block_list<1, 16>>(matrix_view<float>(w.data(), 32, 8), 0.5);
  for (std::size_t c = 0; c < 32; ++c)
    for (std::size_t k = 0; k < 8; ++k) CHECK(w[c * 8 + k] == ((c / 16 + k / 4) % 2 == 0 ? 0.0F : -2.0F));
}

#endif
