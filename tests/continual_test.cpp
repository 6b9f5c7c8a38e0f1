// SPDX-License-Identifier: MIT
// Convolutions over time, slice by slice, against sums over a whole clip; states; delays.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/complaint.hpp"
#include "support/random.hpp"

#include <polymac/layer/continual_conv.hpp>
#include <polymac/layer/delay_line.hpp>
#include <polymac/polymac.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

using namespace polymac;
using policy::time_field;
using policy::time_window;
using polymac_test::complaint;

namespace {

using bytes = std::vector<std::byte>;

/// A clip of T slices and the filters that slide over it; one dimension is one of 1 x 1 pixels.
template <class T, class W, class Sum>
struct problem {
  time_window time;
  std::size_t steps, height, width, channels, outputs, kernel_height, kernel_width, pad;
  T zero_point;
  std::vector<T> clip;
  std::vector<W> weights;  // OTHWI
  std::vector<Sum> bias;

  std::size_t slice() const { return height * width * channels; }
  std::size_t out_height() const { return height + 2 * pad - kernel_height + 1; }
  std::size_t out_width() const { return width + 2 * pad - kernel_width + 1; }
  std::size_t result() const { return out_height() * out_width() * outputs; }
  image_view<const W> filters() const {
    return {weights.data(), outputs * time.kernel, kernel_height, kernel_width, channels};
  }
  /// The sums of a whole clip with `padding` slices of zero points before and after it, in 64 bits or double.
  std::vector<Sum> expected() const {
    using wide = std::conditional_t<std::is_integral_v<Sum>, std::int64_t, double>;
    std::vector<Sum> y;
    const std::size_t reach = (time.kernel - 1) * time.dilation + 1;
    for (std::size_t first = 0; first + reach <= steps + 2 * time.padding; first += time.stride)
      for (std::size_t oy = 0; oy < out_height(); ++oy)
        for (std::size_t ox = 0; ox < out_width(); ++ox)
          for (std::size_t o = 0; o < outputs; ++o) {
            wide sum = static_cast<wide>(bias[o]);
            for (std::size_t j = 0; j < time.kernel; ++j)
              for (std::size_t ky = 0; ky < kernel_height; ++ky)
                for (std::size_t kx = 0; kx < kernel_width; ++kx)
                  for (std::size_t c = 0; c < channels; ++c) {
                    const std::size_t t = first + j * time.dilation - time.padding, iy = oy + ky - pad,
                                      ix = ox + kx - pad;
                    if (t >= steps || iy >= height || ix >= width) continue;
                    sum +=
                        (static_cast<wide>(clip[t * slice() + (iy * width + ix) * channels + c]) -
                         static_cast<wide>(zero_point)) *
                        static_cast<wide>(
                            weights[(((o * time.kernel + j) * kernel_height + ky) * kernel_width + kx) * channels + c]);
                  }
            y.push_back(static_cast<Sum>(sum));
          }
    return y;
  }
};

template <class T, class W, class Sum>
problem<T, W, Sum> make_problem(const time_window& time, std::size_t steps, std::size_t height, std::size_t width,
                                std::size_t channels, std::size_t outputs, std::size_t kernel, T zero_point) {
  POLYMAC_RANDOM(random, 40 + steps + channels);
  problem<T, W, Sum> p{time,   steps,      height,     width, channels, outputs, kernel,
                       kernel, kernel / 2, zero_point, {},    {},       {}};
  p.clip = polymac_test::uniform<T>(random, steps * p.slice());
  p.weights = polymac_test::uniform<W>(random, outputs * time.kernel * kernel * kernel * channels);
  p.bias = polymac_test::small_integers<Sum>(random, outputs, -100, 100);
  return p;
}

using problem8 = problem<std::int8_t, std::int8_t, std::int32_t>;

auto layer_of(const problem8& p) {
  return conv2d<mac::int8, policy::continual>({.space = {.padding = {p.pad, p.pad, p.pad, p.pad}}, .time = p.time},
                                              p.filters(), p.bias, {}, {.activation_zero_point = p.zero_point});
}
auto linear_of(const problem8& p) {
  return linear<mac::int8, policy::continual>(
      p.time, matrix_view<const std::int8_t>(p.weights.data(), p.outputs, p.time.kernel * p.channels), p.bias, {},
      {.activation_zero_point = p.zero_point});
}

/// All outputs of steps [0, steps) and of the flush, and the steps at which they came.
template <class Layer, class State, class T, class W, class Sum>
std::vector<Sum> run_steps(const Layer& layer, const problem<T, W, Sum>& p, State& state, workspace ws,
                           std::vector<std::size_t>& when) {
  std::vector<Sum> all;
  for (std::size_t t = 0; t < p.steps + p.time.padding; ++t) {
    std::vector<Sum> y(p.result(), Sum{77});
    const image_view<Sum> out(y.data(), 1, p.out_height(), p.out_width(), p.outputs);
    const image_view<const T> x(p.clip.data() + t * p.slice(), 1, p.height, p.width, p.channels);
    status s;
    {
      const polymac_test::no_allocation trap;
      s = t < p.steps ? layer(x, out, state, ws) : layer.flush(out, state, ws);
    }
    INFO(std::string(s.text()));
    REQUIRE(s.ok());
    if (state.has_output()) {
      when.push_back(t);
      all.insert(all.end(), y.begin(), y.end());
    } else {
      CHECK(y == std::vector<Sum>(p.result(), Sum{77}));
    }
  }
  return all;
}

template <class Layer>
void check_stream(const Layer& layer, const problem8& p) {
  auto state = layer.make_state({p.height, p.width});
  bytes memory(layer.workspace_bytes({p.height, p.width}));
  std::vector<std::size_t> when;
  const auto expected = p.expected();
  CHECK(run_steps(layer, p, state, workspace(memory), when) == expected);
  for (std::size_t i = 0; i < when.size(); ++i) CHECK(when[i] == layer.delay() + i * p.time.stride);
  const std::size_t count = policy::output_length(p.time, p.steps);
  REQUIRE(count * p.result() == expected.size());

  std::vector<std::int32_t> y(expected.size());
  bytes little(layer.workspace_bytes());
  const auto s = layer.forward(image_view<const std::int8_t>(p.clip.data(), p.steps, p.height, p.width, p.channels),
                               image_view<std::int32_t>(y.data(), count, p.out_height(), p.out_width(), p.outputs),
                               state, workspace(little));
  INFO(std::string(s.text()));
  REQUIRE(s.ok());
  CHECK(y == expected);
}

}  // namespace

TEST_CASE("one dimension: steps give what the clip gives") {
  for (const time_window& time :
       {time_window{1, 1, 1, 0}, time_window{3, 1, 1, 0}, time_window{4, 1, 1, 2}, time_window{3, 2, 1, 1},
        time_window{2, 3, 2, 0}, time_window{5, 2, 3, 6}, time_window{1, 2, 1, 0}, time_window{2, 1, 4, 4}})
    for (const std::size_t channels : {std::size_t{1}, std::size_t{7}, std::size_t{32}}) {
      INFO(time.kernel << " taps, stride " << time.stride << ", dilation " << time.dilation << ", padding "
                       << time.padding << ", " << channels << " channels");
      const auto p = make_problem<std::int8_t, std::int8_t, std::int32_t>(time, 17, 1, 1, channels, 5, 1, -3);
      check_stream(linear_of(p), p);
      check_stream(layer_of(p), p);
    }
}

TEST_CASE("images and time: steps give what the clip gives") {
  for (const time_window& time :
       {time_window{1, 1, 1, 0}, time_window{3, 1, 1, 1}, time_window{2, 2, 1, 0}, time_window{4, 1, 2, 3}})
    for (const std::size_t channels : {std::size_t{3}, std::size_t{8}}) {
      INFO(time.kernel << " taps, " << channels << " channels");
      const auto p = make_problem<std::int8_t, std::int8_t, std::int32_t>(time, 9, 5, 6, channels, 9, 3, 11);
      check_stream(layer_of(p), p);
    }
}

TEST_CASE("floats: the bits of the inner layer on the whole window, near the sums of the clip") {
  const auto p = make_problem<float, float, float>({3, 1, 1, 0}, 12, 4, 5, 6, 7, 3, 0.0F);
  const auto layer =
      conv2d<mac::float32, policy::continual>({.space = {.padding = same}, .time = p.time}, p.filters(), p.bias);
  auto state = layer.make_state({p.height, p.width});
  bytes memory(layer.workspace_bytes({p.height, p.width}));
  std::vector<std::size_t> when;
  const auto y = run_steps(layer, p, state, workspace(memory), when);
  const auto expected = p.expected();
  REQUIRE(y.size() == expected.size());
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == Approx(expected[i]).margin(1e-4));
  // The window, put together by hand.
  for (std::size_t t = 2; t < p.steps; ++t) {
    std::vector<float> window(3 * p.slice()), whole(p.result());
    for (std::size_t pixel = 0; pixel < p.height * p.width; ++pixel)
      for (std::size_t j = 0; j < 3; ++j)
        for (std::size_t c = 0; c < p.channels; ++c)
          window[(pixel * 3 + j) * p.channels + c] = p.clip[(t - 2 + j) * p.slice() + pixel * p.channels + c];
    REQUIRE(layer
                .inner()({window.data(), 1, p.height, p.width, 3 * p.channels},
                         {whole.data(), 1, p.height, p.width, p.outputs}, workspace(memory))
                .ok());
    CHECK(std::vector<float>(y.begin() + static_cast<std::ptrdiff_t>((t - 2) * p.result()),
                             y.begin() + static_cast<std::ptrdiff_t>((t - 1) * p.result())) == whole);
  }
}

TEST_CASE("a copy of a state is another stream; reset begins again; streams in step do not touch each other") {
  const auto p = make_problem<std::int8_t, std::int8_t, std::int32_t>({3, 1, 2, 0}, 12, 1, 1, 8, 4, 1, 5);
  const auto layer = linear_of(p);
  const auto expected = p.expected();
  auto state = layer.make_state();
  std::vector<std::int32_t> y(4);
  const auto step = [&](auto& of, std::size_t t) {
    REQUIRE(layer(matrix_view<const std::int8_t>(p.clip.data() + t * 8, 1, 8),
                  matrix_view<std::int32_t>(y.data(), 1, 4), of)
                .ok());
  };
  const auto expect = [&](std::size_t i) {
    CHECK(y == std::vector<std::int32_t>(expected.begin() + static_cast<std::ptrdiff_t>(4 * i),
                                         expected.begin() + static_cast<std::ptrdiff_t>(4 * i + 4)));
  };
  for (std::size_t t = 0; t < 6; ++t) step(state, t);
  auto branch = state;
  step(branch, 0);
  step(branch, 1);
  CHECK(branch.steps() == 8);
  CHECK(state.steps() == 6);
  step(state, 6);
  expect(2);
  auto moved = std::move(state);
  step(moved, 7);
  expect(3);
  moved.reset();
  CHECK(!moved.has_output());
  for (std::size_t t = 0; t < 5; ++t) step(moved, t);
  expect(0);

  auto three = layer.make_state({1, 1}, 3);
  std::vector<std::int8_t> x(3 * 8);
  std::vector<std::int32_t> out(3 * 4);
  for (std::size_t t = 0; t < 8; ++t) {
    for (std::size_t n = 0; n < 3; ++n)
      for (std::size_t c = 0; c < 8; ++c) x[n * 8 + c] = p.clip[(t + n) * 8 + c];
    REQUIRE(layer({x.data(), 3, 8}, {out.data(), 3, 4}, three).ok());
  }
  for (std::size_t n = 0; n < 3; ++n) {
    y.assign(out.begin() + static_cast<std::ptrdiff_t>(4 * n), out.begin() + static_cast<std::ptrdiff_t>(4 * n + 4));
    expect(3 + n);
  }
}

TEST_CASE("a saved state goes on where it was; truncated ones and those of others are refused") {
  const auto p = make_problem<std::int8_t, std::int8_t, std::int32_t>({3, 2, 2, 1}, 14, 3, 4, 5, 6, 3, -7);
  const auto layer = layer_of(p);
  bytes memory(layer.workspace_bytes({3, 4}));
  auto state = layer.make_state({3, 4});
  std::vector<std::int32_t> y(p.result()), z(p.result());
  const auto step = [&](auto& of, std::vector<std::int32_t>& out, std::size_t t) {
    REQUIRE(layer({p.clip.data() + t * p.slice(), 1, 3, 4, 5}, {out.data(), 1, 3, 4, 6}, of, workspace(memory)).ok());
  };
  for (std::size_t saved_at = 0; saved_at < 8; ++saved_at) {
    bytes saved(state.saved_bytes());
    REQUIRE(state.save(saved).ok());
    auto other = layer.make_state({3, 4});
    step(other, z, 9);
    REQUIRE(other.restore(saved).ok());
    CHECK(other.steps() == state.steps());
    CHECK(other.has_output() == state.has_output());
    auto original = state;
    for (std::size_t t = 0; t < 6; ++t) {
      step(original, y, saved_at + t);
      step(other, z, saved_at + t);
      if (original.has_output()) CHECK(y == z);
    }
    step(state, y, saved_at);
  }

  bytes saved(state.saved_bytes());
  REQUIRE(state.save(saved).ok());
  auto fresh = layer.make_state({3, 4});
  for (const std::size_t size : {std::size_t{0}, std::size_t{23}, saved.size() - 1}) {
    const auto s = fresh.restore(std::span(saved).first(size));
    CHECK(s.code() == errc::corrupt);
    CHECK(s.text().find(std::to_string(saved.size())) != std::string_view::npos);
    CHECK(s.text().find("got " + std::to_string(size)) != std::string_view::npos);
  }
  for (const std::size_t at : {std::size_t{0}, std::size_t{17}, saved.size() - 1}) {
    auto damaged = saved;
    damaged[at] ^= std::byte{1};
    CHECK(fresh.restore(damaged).code() == errc::corrupt);
  }
  CHECK(state.save(std::span(saved).first(10)).code() == errc::short_buffer);
  CHECK(fresh.steps() == 0);

  // Another layer: the same extents, one weight apart.
  auto q = p;
  q.weights[3] ^= 1;
  const auto second = layer_of(q);
  auto its = second.make_state({3, 4});
  CHECK(its.restore(saved).text().find("another layer") != std::string_view::npos);
  const auto s = second({p.clip.data(), 1, 3, 4, 5}, {y.data(), 1, 3, 4, 6}, state, workspace(memory));
  CHECK(s.code() == errc::parameter);
  CHECK(s.text().find("another layer") != std::string_view::npos);
  // The same weights make the same layer, wherever it is.
  const auto same_again = layer_of(p);
  CHECK(same_again.make_state({3, 4}).restore(saved).ok());
}

TEST_CASE("what does not fit is refused, and the state is as it was") {
  const auto p = make_problem<std::int8_t, std::int8_t, std::int32_t>({2, 1, 1, 0}, 6, 3, 4, 5, 6, 3, 1);
  const auto layer = layer_of(p);
  auto state = layer.make_state({3, 4});
  std::vector<std::int32_t> y(p.result(), 77);
  const image_view<const std::int8_t> x(p.clip.data(), 1, 3, 4, 5);
  bytes memory(layer.workspace_bytes({3, 4}));
  REQUIRE(layer(x, {}, state, workspace(memory)).ok());
  const auto refused = [&](const status& s, const char* words) {
    INFO(std::string(s.text()));
    CHECK(!s.ok());
    CHECK(s.text().find(words) != std::string_view::npos);
    CHECK(state.steps() == 1);
    CHECK(y == std::vector<std::int32_t>(p.result(), 77));
  };
  const image_view<std::int32_t> out(y.data(), 1, 3, 4, 6);
  refused(layer({p.clip.data(), 1, 4, 3, 5}, out, state, workspace(memory)), "expected a slice of 1 x 3 x 4 x 5");
  refused(layer({nullptr, 1, 3, 4, 5}, out, state, workspace(memory)), "no data");
  refused(layer(x, {}, state, workspace(memory)), "expected y of");
  refused(layer(x, {y.data(), 1, 3, 4, 5}, state, workspace(memory)), "expected y of");
  refused(layer(x, out, state), "expected a workspace of");
  REQUIRE(layer(x, out, state, workspace(memory)).ok());

  CHECK(complaint([&] {
          static_cast<void>(conv2d<mac::int8, policy::continual>({.time = {5}}, p.filters(), p.bias));
        }).find("weights for 5 slices") != std::string::npos);
  CHECK(complaint([&] {
          static_cast<void>(conv2d<mac::int8, policy::continual>({.time = {0}}, p.filters(), p.bias));
        }).find("kernel, stride and dilation in time") != std::string::npos);
  CHECK(complaint([&] {
          static_cast<void>(conv2d<mac::int8, policy::continual>({.time = {2, 1, 1, 2}}, p.filters(), p.bias));
        }).find("padding in time") != std::string::npos);
  CHECK(complaint([&] {
          static_cast<void>(
              conv2d<mac::int8, policy::continual>({.space = {.groups = 2}, .time = {2}}, p.filters(), p.bias));
        }).find("one group") != std::string::npos);
  CHECK(complaint([&] { static_cast<void>(layer.make_state({3, 0})); }).find("continual_state") != std::string::npos);
  CHECK(layer.explain().view().find("receptive field 2, delay 1") != std::string_view::npos);
}

TEST_CASE("delays add up") {
  constexpr time_window pool{2, 2, 1, 0}, conv{3, 1, 1, 1}, dilated{3, 1, 4, 0};
  STATIC_REQUIRE(policy::receptive_field(dilated) == 9);
  STATIC_REQUIRE(policy::delay(conv) == 1);
  STATIC_REQUIRE(policy::delay(dilated) == 8);
  STATIC_REQUIRE(policy::output_length(conv, 10) == 10);
  STATIC_REQUIRE(policy::output_length(pool, 5) == 2);
  STATIC_REQUIRE(policy::output_length(dilated, 8) == 0);
  // 1 + 2 * 1 + 1 * 1 + 2 * 4 * 2, by hand
  STATIC_REQUIRE(time_field().then(conv).then(pool).then(dilated) == time_field{20, 2, 1});
  STATIC_REQUIRE(time_field().then(conv).then(pool).then(dilated).delay() == 18);
  STATIC_REQUIRE(policy::residual_delay(3, policy::alignment::centred) == 1);
  STATIC_REQUIRE(policy::residual_delay(3, policy::alignment::oldest) == 2);
  STATIC_REQUIRE(policy::residual_delay(3, policy::alignment::newest) == 0);
}

TEST_CASE("two layers in a row: the first output of the second comes after the delay of both") {
  const auto p = make_problem<std::int8_t, std::int8_t, std::int32_t>({3, 2, 1, 1}, 30, 1, 1, 4, 4, 1, 0);
  const auto first = linear<mac::int8, policy::continual>(
      p.time, matrix_view<const std::int8_t>(p.weights.data(), 4, 12), p.bias, requantize(0.01, 0));
  const auto second = linear<mac::int8, policy::continual>(
      {2, 1, 3, 0}, matrix_view<const std::int8_t>(p.weights.data(), 4, 8), p.bias);
  auto a = first.make_state(), b = second.make_state();
  std::vector<std::int8_t> middle(4);
  std::vector<std::int32_t> y(4);
  const auto field = time_field().then(first.time()).then(second.time());
  std::size_t outputs = 0;
  for (std::size_t t = 0; t < p.steps; ++t) {
    REQUIRE(first({p.clip.data() + 4 * t, 1, 4}, {middle.data(), 1, 4}, a).ok());
    if (!a.has_output()) continue;
    REQUIRE(second({middle.data(), 1, 4}, {y.data(), 1, 4}, b).ok());
    if (!b.has_output()) continue;
    CHECK(t == field.delay() + outputs * field.stride);
    ++outputs;
  }
  CHECK(outputs == (p.steps - 1 - field.delay()) / field.stride + 1);
}

TEST_CASE("a delay line, and a residual that is aligned with its convolution") {
  for (const std::size_t delay : {std::size_t{0}, std::size_t{1}, std::size_t{4}}) {
    const layer::delay_line<std::int8_t> line(delay);
    auto state = line.make_state({2, 3}, 2);
    for (int round = 0; round < 2; ++round) {
      for (std::size_t t = 0; t < 11; ++t) {
        std::vector<std::int8_t> x(12, static_cast<std::int8_t>(t)), y(12, 77);
        REQUIRE(line({x.data(), 1, 2, 3, 2}, {y.data(), 1, 2, 3, 2}, state).ok());
        CHECK(state.has_output() == (t >= delay));
        CHECK(y == std::vector<std::int8_t>(12, static_cast<std::int8_t>(t >= delay ? t - delay : 77)));
      }
      state.reset();
    }
    bytes saved(state.saved_bytes());
    REQUIRE(state.save(saved).ok());
    CHECK(layer::delay_line<std::int8_t>(delay + 2).make_state({2, 3}, 2).restore(saved).code() != errc::ok);
    std::vector<std::int8_t> x(12);
    CHECK(line({x.data(), 1, 3, 2, 2}, {x.data(), 1, 3, 2, 2}, state).code() == errc::shape);
  }

  // A filter that is 1 in its middle gives what the delay line gives, at the same steps.
  const time_window time{5, 1, 2, 4};
  std::vector<std::int8_t> weights{0, 0, 1, 0, 0};
  const auto middle = linear<mac::int8, policy::continual>(time, matrix_view<const std::int8_t>(weights.data(), 1, 5),
                                                           std::vector<int>(1));
  const layer::delay_line<std::int8_t> line(
      policy::residual_delay(middle.receptive_field(), policy::alignment::centred));
  auto a = middle.make_state();
  auto b = line.make_state({1, 1}, 1);
  for (int t = 0; t < 20; ++t) {
    const auto x = static_cast<std::int8_t>(3 * t - 20);
    int y = 0;
    std::int8_t z = 0;
    REQUIRE(middle({&x, 1, 1}, {&y, 1, 1}, a).ok());
    REQUIRE(line(matrix_view<const std::int8_t>(&x, 1, 1), matrix_view<std::int8_t>(&z, 1, 1), b).ok());
    CHECK(a.has_output() == b.has_output());
    if (a.has_output()) CHECK(y == z);
  }
}
