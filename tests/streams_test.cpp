// SPDX-License-Identifier: MIT
// Policies of activations around linear and conv2d: the outputs of the dense layer on the reference, bit for bit, frame
// after frame; what of x the reference may leave out; states.
#include "catch.hpp"
#include "support/arithmetics.hpp"
#include "support/complaint.hpp"
#include "support/random.hpp"

#include <polymac/arithmetics.hpp>
#include <polymac/sparsity.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "support/test_code.hpp"

using namespace polymac_test;
namespace pm = polymac;
namespace policy = polymac::policy;
using pm::image_view;
using pm::matrix_view;
using policy::always;
using policy::both;
using policy::delta;
using policy::grain;
using policy::update;
using policy::zero_skip;
using I = pm::isa::native;

namespace {

template <class T>
bool same_bits(const T* a, const T* b, std::size_t count) {
  return std::memcmp(a, b, count * sizeof(T)) == 0;
}
template <class M>
typename M::activation value(random_source& random) {
  if constexpr (std::is_integral_v<typename M::activation>)
    return static_cast<typename M::activation>(random.integer(-100, 100));
  else
    return typename M::activation(static_cast<float>(random.integer(-100, 100)) / 16);
}

template <class M>
typename M::weight weight(random_source& random) {
  auto w = static_cast<typename M::weight>(random.integer(-60, 60));
  if constexpr (requires { M::check_weight(w); })
    while (!M::check_weight(w)) w = static_cast<typename M::weight>(w / 2);
  return w;
}

struct shape {
  std::size_t channels, filters, groups;
  pm::extent2d kernel;
  pm::layer::convolution how;
  std::size_t batch = 1;
};

/// Some frames of which few elements change, some are zero; the dense layer of the same policy of weights is the golden
/// model, on the reference. Returns what is wrong.
template <class M, class P>
std::string conv_case(random_source& random, shape s, unsigned percent_changed, unsigned percent_zero, int zero_point) {
  using activation = typename M::activation;
  const std::size_t height = 7, width = 10, in = s.channels / s.groups;
  s.how.groups = s.groups;
  std::vector<typename M::weight> w(s.filters * s.kernel.height * s.kernel.width * in);
  for (auto& v : w) v = weight<M>(random);
  const image_view<typename M::weight> weights(w.data(), s.filters, s.kernel.height, s.kernel.width, in);
  using of_weights = policy::detail::weights_of<P>;
  if constexpr (!std::is_same_v<of_weights, policy::dense>) {
    if constexpr (requires { of_weights::channels; })
      policy::prune<of_weights>(weights, 0.5, s.groups);
    else
      policy::prune<of_weights>(weights, s.groups);
  }
  std::vector<std::int32_t> bias(s.filters);
  for (auto& b : bias) b = static_cast<std::int32_t>(random.integer(-1000, 1000));
  const pm::layer::quantization<M> q{static_cast<activation>(zero_point), {}};
  const image_view<const typename M::weight> view(weights);
  const auto stages = [] {
    if constexpr (pm::mac_traits<M>::integer)
      return pm::requantize(0.002, 3) | pm::clamp(-120, 120);
    else
      return pm::epilogue::identity{};
  }();
  const auto layer = pm::conv2d<M, P, I>(s.how, view, bias, stages, q);
  const auto& dense = layer.inner();
  const auto out = layer.output_size({height, width});
  auto state = layer.make_state({height, width}, s.batch);
  std::vector<std::byte> memory(layer.workspace_bytes({height, width}));
  const std::size_t count = s.batch * height * width * s.channels,
                    outputs = s.batch * out.height * out.width * s.filters;
  std::vector<activation> x(count);
  using output = typename std::remove_cvref_t<decltype(layer)>::output;
  std::vector<output> y(outputs), expected(outputs);
  const auto redraw = [&](activation& v) {
    v = random.integer(0, 99) < static_cast<int>(percent_zero) ? static_cast<activation>(zero_point) : value<M>(random);
  };
  for (auto& v : x) redraw(v);
  std::size_t skipped = 0;
  for (int frame = 0; frame < 4; ++frame) {
    const image_view<const activation> picture(x.data(), s.batch, height, width, s.channels);
    if (const auto status =
            layer(picture, {y.data(), s.batch, out.height, out.width, s.filters}, state, pm::workspace(memory));
        !status.ok())
      return status.c_str();
    const auto reference = state.reference();
    if (!dense(reference, {expected.data(), s.batch, out.height, out.width, s.filters}, pm::workspace(memory)).ok())
      return "dense";
    const std::string where = std::string(M::name) + ", " + P::name + ", " + std::to_string(s.channels) + " -> " +
                              std::to_string(s.filters) + ", frame " + std::to_string(frame);
    if (!same_bits(y.data(), expected.data(), outputs)) return where + ": not the dense layer on the reference";
    if (!same_bits(state.output().data, y.data(), outputs)) return where + ": output() differs";
    // No element is farther from x than the threshold.
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t pixel = i / s.channels, c = i % s.channels;
      const auto r = reference(pixel / (height * width), pixel / width % height, pixel % width, c);
      if (std::fabs(static_cast<double>(static_cast<float>(r)) - static_cast<double>(static_cast<float>(x[i]))) >
          static_cast<double>(state.threshold()))
        return where + ": the reference is too far from x";
    }
    const auto& last = state.last();
    if (last.of_rows != s.batch * out.height * out.width || last.rows > last.of_rows) return where + ": rows";
    if (last.macs < last.of_macs) ++skipped;
    for (auto& v : x)
      if (random.integer(0, 999) < 10 * static_cast<int>(percent_changed)) redraw(v);
  }
  // Lists of what has changed, whatever they cost, wherever a group of k is of one pixel.
  constexpr bool lists = requires { P::is_always; }
  &&!std::is_same_v<typename policy::detail::parts_of<P>::delta, policy::detail::nothing>;
  return lists && s.channels >= 16 && percent_changed < 2 && skipped == 0
             ? std::string(P::name) + " has skipped nothing"
             : "";
}

const shape shapes[] = {
    {16, 40, 1, {3, 3}, {.padding = pm::same}},
    {3, 7, 1, {3, 3}, {.stride = {2, 2}, .padding = pm::same}},
    {8, 24, 2, {3, 2}, {.dilation = {1, 2}, .padding = {1, 0, 2, 1}}, 2},
    {64, 97, 1, {1, 1}, {}},
};
template <class M, class P>
void check_conv(std::uint64_t seed, int zero_point = 0) {
  random_source random(seed);
  for (const auto& s : shapes)
    for (const auto& [changed, zero] : {std::array<unsigned, 2>{1, 30}, {40, 5}, {3, 95}})
      CHECK(conv_case<M, P>(random, s, changed, zero, zero_point) == "");
}

template <class M, class P>
std::string linear_case(random_source& random, std::size_t rows, std::size_t columns, std::size_t depth,
                        int zero_point) {
  using activation = typename M::activation;
  std::vector<typename M::weight> w(columns * depth);
  for (auto& v : w) v = weight<M>(random);
  const std::vector<std::int32_t> bias(columns, -5);
  const matrix_view<const typename M::weight> weights(w.data(), columns, depth);
  const pm::layer::quantization<M> q{static_cast<activation>(zero_point), {}};
  const auto layer = pm::linear<M, P, I>(weights, bias, {}, q);
  auto state = layer.make_state(rows);
  std::vector<activation> x(rows * (depth + 3));
  using output = typename std::remove_cvref_t<decltype(layer)>::output;
  std::vector<output> y(rows * columns), expected(rows * columns);
  for (auto& v : x) v = random.integer(0, 9) < 7 ? static_cast<activation>(zero_point) : value<M>(random);
  for (int frame = 0; frame < 4; ++frame) {
    const matrix_view<const activation> view(x.data(), rows, depth, depth + 3);
    if (!layer(view, {y.data(), rows, columns}, state).ok()) return "layer";
    const auto reference = state.reference();
    if (!layer.inner()({reference.data, rows, depth, reference.pixel_stride}, {expected.data(), rows, columns}).ok())
      return "dense";
    if (!same_bits(y.data(), expected.data(), y.size()))
      return std::string(M::name) + ", " + P::name + ": " + std::to_string(rows) + " x " + std::to_string(columns) +
             " x " + std::to_string(depth) + " differs";
    for (auto& v : x)
      if (random.integer(0, 19) == 0) v = value<M>(random);
  }
  return "";
}
template <class M, class P>
void check_linear(std::uint64_t seed, int zero_point = 0) {
  random_source random(seed);
  for (const auto& [rows, columns, depth] : {std::array<std::size_t, 3>{1, 170, 512}, {3, 5, 33}, {70, 64, 130}})
    CHECK(linear_case<M, P>(random, rows, columns, depth, zero_point) == "");
}

using elements = delta<0, grain::element, update::accumulate>;

}  // namespace

TEST_CASE("conv2d, int8 and uint8") {
  namespace mac = pm::mac;
  check_conv<mac::int8, always<delta<0>>>(1, 5);
  check_conv<mac::int8, always<elements>>(2, 5);
  check_conv<mac::int8, always<zero_skip>>(3);
  check_conv<mac::int8, always<both<zero_skip, elements>>>(4);
}
TEST_CASE("thresholds, grains and refreshing") {
  namespace mac = pm::mac;
  check_conv<mac::uint8, always<delta<9, grain::group, update::accumulate, 3>>>(5);
  check_conv<mac::int8, both<zero_skip, delta<7, grain::element, update::accumulate, 2>>>(6);
}
TEST_CASE("zero points of skipped zeros") {
  namespace mac = pm::mac;
  check_conv<mac::int8, always<zero_skip>>(7, -3);
  check_conv<mac::uint8, always<both<zero_skip, elements>>>(8, 0);
}
TEST_CASE("linear") {
  namespace mac = pm::mac;
  check_linear<mac::int8, always<elements>>(9);
  check_linear<mac::uint8, always<zero_skip>>(10, 4);
  check_linear<mac::int8, delta<20>>(11);
}
TEST_CASE("policies of weights inside") {
  namespace mac = pm::mac;
  check_conv<mac::int8, always<both<policy::n_of_m<2, 4>, elements>>>(12);
  check_conv<mac::int8, always<both<policy::block_list<1, 16>, zero_skip>>>(13);
}

#if !defined(POLYMAC_TEST_ISA_ONLY)
TEST_CASE("other arithmetics") {
  namespace mac = pm::mac;
  check_conv<mac::float32_unfused, always<zero_skip>>(15);
  check_conv<mac::bit_weights<4>, always<both<zero_skip, elements>>>(16);
  check_conv<mac::int16x8, delta<0, grain::element, update::accumulate>>(17);  // sums of 64 bits: whole rows
  check_linear<mac::float32_unfused, always<zero_skip>>(18);
}

TEST_CASE("a slow drift is transmitted: the last one counts, not the one before") {
  const std::vector<float> w{1.0F};
  const auto layer = pm::linear<pm::mac::float32, delta<0, grain::element>>(matrix_view<const float>(w.data(), 1, 1),
                                                                            std::vector<float>{0.0F});
  auto state = layer.make_state();
  REQUIRE(state.set_threshold(0.5F).ok());
  float x = 0.0F, y = 0.0F, worst = 0.0F;
  for (int frame = 0; frame < 200; ++frame, x += 0.1F) {
    REQUIRE(layer({&x, 1, 1}, {&y, 1, 1}, state).ok());
    worst = std::max(worst, std::fabs(x - y));
  }
  CHECK(worst <= 0.5F);
  CHECK(worst > 0.3F);  // and it is not transmitted every time
  // NaN always is, and what comes after it.
  x = std::numeric_limits<float>::quiet_NaN();
  REQUIRE(layer({&x, 1, 1}, {&y, 1, 1}, state).ok());
  CHECK(y != y);
  x = 1.0F;
  REQUIRE(layer({&x, 1, 1}, {&y, 1, 1}, state).ok());
  CHECK(y == 1.0F);
  CHECK(!state.set_threshold(-1.0F).ok());
  CHECK(!state.set_threshold(std::numeric_limits<float>::quiet_NaN()).ok());
}

TEST_CASE("floats that accumulate drift until they are refreshed") {
  random_source random(19);
  std::vector<float> w(8 * 64), x(64);
  for (auto& v : w) v = static_cast<float>(random.integer(-100, 100)) / 37;
  const std::vector<float> bias(8, 0.25F);
  const auto layer = pm::linear<pm::mac::float32, delta<0, grain::element, update::accumulate, 50>>(
      matrix_view<const float>(w.data(), 8, 64), bias);
  auto state = layer.make_state();
  std::vector<float> y(8), expected(8);
  for (int frame = 0; frame < 101; ++frame) {
    for (int i = 0; i < 3; ++i)
      x[static_cast<std::size_t>(random.integer(0, 63))] = static_cast<float>(random.integer(-99, 99)) / 7;
    REQUIRE(layer({x.data(), 1, 64}, {y.data(), 1, 8}, state).ok());
    REQUIRE(layer.inner()({x.data(), 1, 64}, {expected.data(), 1, 8}).ok());
    for (std::size_t c = 0; c < 8; ++c) CHECK(std::fabs(y[c] - expected[c]) < 1e-2F);
    if (frame % 50 == 0) CHECK(y == expected);
  }
}

TEST_CASE("one pixel makes the outputs dirty that read it, and no others") {
  std::vector<std::int8_t> w(4 * 9 * 2, 1), x(8 * 8 * 2, 3);
  const auto layer = pm::conv2d<pm::mac::int8, delta<0>>(
      {.padding = pm::same}, image_view<const std::int8_t>(w.data(), 4, 3, 3, 2), std::vector<int>(4));
  auto state = layer.make_state({8, 8});
  std::vector<std::byte> memory(layer.workspace_bytes({8, 8}));
  const auto call = [&] {
    REQUIRE(layer(image_view<const std::int8_t>(x.data(), 1, 8, 8, 2), state, pm::workspace(memory)).ok());
    return state.last().rows;
  };
  CHECK(call() == 64);
  CHECK(call() == 0);
  CHECK(state.last().macs == 0);
  x[(3 * 8 + 3) * 2] = 4;
  CHECK(call() == 9);
  CHECK(state.last().macs == 9 * 4 * 18);
  x[1] = 9;
  CHECK(call() == 4);
  CHECK(call() == 0);
  state.reset();
  CHECK(call() == 64);
  // Two call sites are two states.
  auto other = state;
  x[1] = 8;
  CHECK(call() == 4);
  REQUIRE(layer(image_view<const std::int8_t>(x.data(), 1, 8, 8, 2), other, pm::workspace(memory)).ok());
  CHECK(other.last().rows == 4);
  const auto moved = std::move(other);
  CHECK(same_bits(moved.output().data, state.output().data, 64 * 4));
}

TEST_CASE("where everything changes, the dense layer runs, and looks again later") {
  random_source random(23);
  std::vector<std::int8_t> w(32 * 9 * 16), x(12 * 12 * 16);
  for (auto& v : w) v = static_cast<std::int8_t>(random.integer(-90, 90));
  const auto layer = pm::conv2d<pm::mac::int8, elements>(
      {.padding = pm::same}, image_view<const std::int8_t>(w.data(), 32, 3, 3, 16), std::vector<int>(32));
  auto state = layer.make_state({12, 12});
  std::vector<std::byte> memory(layer.workspace_bytes({12, 12}));
  std::vector<int> expected(144 * 32);
  std::size_t listed = 0, whole = 0;
  for (int frame = 0; frame < 40; ++frame) {
    if (frame < 12)
      for (auto& v : x) v = static_cast<std::int8_t>(random.integer(-90, 90));
    else
      x[static_cast<std::size_t>(random.integer(0, 144 * 16 - 1))] = 100;
    const image_view<const std::int8_t> picture(x.data(), 1, 12, 12, 16);
    REQUIRE(layer(picture, state, pm::workspace(memory)).ok());
    REQUIRE(layer.inner()(picture, {expected.data(), 1, 12, 12, 32}, pm::workspace(memory)).ok());
    REQUIRE(same_bits(expected.data(), state.output().data, expected.size()));
    if (frame == 5) {  // in the middle of the dense calls: sums are not those of the outputs
      std::vector<std::byte> saved(state.saved_bytes());
      REQUIRE(state.save(saved).ok());
      REQUIRE(state.restore(saved).ok());
    }
    (state.last().macs < state.last().of_macs / 10 ? listed : whole) += frame >= 24 ? 1 : 0;
  }
  CHECK(listed >= 14);
  CHECK(whole <= 2);
}

TEST_CASE("states are saved and restored") {
  random_source random(20);
  std::vector<std::int8_t> w(8 * 9 * 4), x(6 * 6 * 4);
  for (auto& v : w) v = static_cast<std::int8_t>(random.integer(-90, 90));
  for (auto& v : x) v = static_cast<std::int8_t>(random.integer(-90, 90));
  const image_view<const std::int8_t> weights(w.data(), 8, 3, 3, 4), picture(x.data(), 1, 6, 6, 4);
  const std::vector<int> bias(8, 2);
  const auto layer = pm::conv2d<pm::mac::int8, elements>({.padding = pm::same}, weights, bias);
  std::vector<std::byte> memory(layer.workspace_bytes({6, 6}));
  auto state = layer.make_state({6, 6});
  REQUIRE(layer(picture, state, pm::workspace(memory)).ok());
  std::vector<std::byte> saved(state.saved_bytes());
  REQUIRE(state.save(saved).ok());
  auto restored = layer.make_state({6, 6});
  REQUIRE(restored.restore(saved).ok());
  x[5] = 77;
  for (auto* s : {&state, &restored}) {
    REQUIRE(layer(picture, *s, pm::workspace(memory)).ok());
    CHECK(s->last().rows < 36);
  }
  CHECK(same_bits(state.output().data, restored.output().data, 36 * 8));

  const auto says = [](const pm::status& s, const char* what) {
    return !s.ok() && std::string(s.c_str()).find(what) != std::string::npos;
  };
  const auto before = restored;
  CHECK(says(state.save(std::span(saved).first(saved.size() - 1)), "bytes to save to"));
  CHECK(says(restored.restore(std::span(saved).first(saved.size() - 1)), "saved bytes, got"));
  CHECK(says(restored.restore(std::span(saved).first(5)), "saved bytes, got 5"));
  auto damaged = saved;
  damaged[saved.size() / 2] ^= std::byte{1};
  CHECK(says(restored.restore(damaged), "damaged"));
  damaged = saved;
  damaged[0] ^= std::byte{1};
  CHECK(says(restored.restore(damaged), "no saved state"));
  auto larger = layer.make_state({7, 6});
  CHECK(says(larger.restore(saved), "expected one for 1 images of 7 x 6 x 4, got one for 1 of 6 x 6 x 4"));
  w[0] = static_cast<std::int8_t>(w[0] + 1);
  const auto other = pm::conv2d<pm::mac::int8, elements>({.padding = pm::same}, weights, bias);
  auto of_other = other.make_state({6, 6});
  CHECK(says(of_other.restore(saved), "another layer"));
  CHECK(says(other(picture, restored, pm::workspace(memory)), "made by another layer"));
  CHECK(says(layer(image_view<const std::int8_t>(x.data(), 1, 4, 6, 4), restored, pm::workspace(memory)),
             "expected x of 1 x 6 x 6 x 4, for which the state was made, got 1 x 4 x 6 x 4"));
  std::vector<int> y(36 * 8);
  CHECK(says(layer(picture, {y.data(), 1, 6, 6, 7}, restored, pm::workspace(memory)), "expected y of 1 x 6 x 6 x 8"));
  // Nothing was lost by all that.
  CHECK(same_bits(before.output().data, restored.output().data, 36 * 8));
  CHECK(complaint([&] {
          static_cast<void>(pm::conv2d<pm::mac::int8, elements>({}, weights, bias).make_state({2, 2}));
        }).find("the kernel reaches over 3 pixels") != std::string::npos);
}

TEST_CASE("what layers say of themselves") {
  std::vector<std::int8_t> w(32 * 9 * 16, 1);
  const image_view<const std::int8_t> weights(w.data(), 32, 3, 3, 16);
  const std::vector<int> bias(32);
  const auto text = [](const auto& layer) { return std::string(layer.explain().c_str()); };
  CHECK(text(pm::conv2d<pm::mac::int8, both<zero_skip, elements>>({}, weights, bias)).find("sums are kept") !=
        std::string::npos);
  CHECK(text(pm::conv2d<pm::mac::int8, delta<4>>({}, weights, bias)).find("delta<4, pixel, recompute>") !=
        std::string::npos);
}

TEST_CASE("the quantiser of a delta activation layer") {
  constexpr auto stage = pm::epilogue::delta_activation(0.5F);
  const float z[] = {0.2F, 0.3F, 0.8F, 0.76F, 0.25F, 0.75F, -0.3F};
  const float o[] = {0.0F, 0.5F, 1.0F, 1.0F, 0.0F, 1.0F, -0.5F};  // halves to even
  for (std::size_t i = 0; i < std::size(z); ++i) CHECK(stage(z[i], 0, 0) == o[i]);
  CHECK(stage(1e30F, 0, 0) == 1e30F);
  CHECK(stage(NAN, 0, 0) != stage(NAN, 0, 0));
  CHECK(!pm::epilogue::delta_activation(0.0F).check(1).ok());
  CHECK(!pm::epilogue::delta_activation(INFINITY).check(1).ok());
}
#endif

TEST_CASE("lists are those of plain loops") {
  random_source random(21);
  for (const std::size_t depth : {std::size_t{1}, std::size_t{4}, std::size_t{8}, std::size_t{16}})
    for (const std::size_t groups : {0u, 1u, 15u, 16u, 17u, 40u}) {
      std::vector<std::int8_t> now(groups * depth), then(groups * depth), d(groups * depth + pm::isa::difference_slack);
      for (std::size_t i = 0; i < now.size(); ++i) {
        now[i] = random.integer(0, 5) == 0 ? static_cast<std::int8_t>(random.integer(-128, 127)) : std::int8_t{0};
        then[i] = random.integer(0, 9) == 0 ? static_cast<std::int8_t>(random.integer(-128, 127)) : now[i];
      }
      std::vector<policy::live_group> list(groups + pm::isa::list_slack);
      const auto check = [&](const policy::live_group* end, const auto& lives) {
        const policy::live_group* at = list.data();
        for (std::size_t g = 0; g < groups; ++g) {
          bool any = false;
          for (std::size_t i = g * depth; i < (g + 1) * depth; ++i) any = any || lives(i);
          if (!any) continue;
          REQUIRE(at != end);
          CHECK(at->activation == 7 + g * depth);
          CHECK(at++->group == 3 + g);
        }
        CHECK(at == end);
      };
      check(pm::isa::list_live(now.data(), groups, depth, {7, 3}, list.data()), [&](auto i) { return now[i] != 0; });
      const auto changed = [&](auto i) { return now[i] != then[i]; };
      check(pm::isa::list_changed(now.data(), then.data(), groups, depth, {7, 3}, list.data()), changed);
      pm::isa::byte_differences found;
      const auto* end = found.list(now.data(), then.data(), groups, depth, {7, 3}, d.data(), list.data());
      check(end, changed);
      int sum = 0;
      bool fit = true;
      for (std::size_t i = 0; i < now.size(); ++i) {
        sum += now[i] - then[i];
        fit = fit && now[i] - then[i] >= -128 && now[i] - then[i] <= 127;
      }
      CHECK(found.fit() == fit);
      if (fit) CHECK(found.sum() == sum);
      if (fit)
        for (const auto* g = list.data(); g != end; ++g)
          for (std::size_t i = g->activation - 7; i < g->activation - 7 + depth; ++i) CHECK(d[i] == now[i] - then[i]);
    }
  for (const std::size_t count : {1u, 31u, 32u, 63u, 64u}) {
    std::vector<std::uint8_t> a(count), b(count);
    for (auto& v : a) v = static_cast<std::uint8_t>(random.integer(0, 255));
    for (auto& v : b) v = static_cast<std::uint8_t>(random.integer(0, 255));
    for (const int threshold : {0, 100, 254, 255}) {
      const auto bits = pm::isa::bytes_that_differ(a.data(), b.data(), count, static_cast<std::uint8_t>(threshold));
      for (std::size_t i = 0; i < count; ++i) CHECK(((bits >> i) & 1) == (std::abs(a[i] - b[i]) > threshold ? 1u : 0u));
      CHECK((count == 64 || bits >> count == 0));
    }
  }
}
