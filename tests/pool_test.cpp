// SPDX-License-Identifier: MIT
// Window geometry, average and max pooling against a reference that visits every tap with signed coordinates.
#include "polymac/layer/pool.hpp"
#include "catch.hpp"
#include "polymac/core/window.hpp"
#include "support/random.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

namespace {

namespace pm = polymac;

static_assert(pm::output_extent({.kernel = {3, 3}, .stride = {2, 2}, .padding = pm::same}, {96, 96}) ==
              pm::extent2d{48, 48});
static_assert(pm::same_padding({.kernel = {3, 3}, .stride = {2, 2}}, {96, 96}) == pm::padding2d{0, 0, 1, 1});
static_assert(pm::same_padding({.kernel = {10, 4}, .stride = {2, 2}}, {49, 10}) == pm::padding2d{4, 1, 5, 1});
static_assert(pm::output_extent({.kernel = {24, 5}}, {25, 5}) == pm::extent2d{2, 1});
static_assert(pm::output_extent({.kernel = {2, 2}, .stride = {2, 2}, .ceil_mode = true}, {5, 4}) == pm::extent2d{3, 2});

bool has(const pm::status& s, const std::string& words) {
  return std::string(s.text()).find(words) != std::string::npos;
}

/// Positions whose window still lies on the padded input, counted one by one.
std::size_t count_positions(std::size_t padded, std::size_t kernel, std::size_t stride, std::size_t dilation) {
  std::size_t count = 0;
  for (std::size_t at = 0; at + dilation * (kernel - 1) < padded; at += stride) ++count;
  return count;
}

struct taps {
  std::vector<double> values;
  std::size_t padded = 0;  // taps on the input or its padding
};

template <class T>
taps taps_under(const pm::image_view<const T>& x, const pm::window& w, const pm::padding2d& p, std::size_t n,
                std::size_t oy, std::size_t ox, std::size_t c) {
  taps t;
  using signed_size = std::int64_t;
  for (std::size_t ky = 0; ky < w.kernel.height; ++ky)
    for (std::size_t kx = 0; kx < w.kernel.width; ++kx) {
      const auto iy =
          static_cast<signed_size>(oy * w.stride.height + ky * w.dilation.height) - static_cast<signed_size>(p.top);
      const auto ix =
          static_cast<signed_size>(ox * w.stride.width + kx * w.dilation.width) - static_cast<signed_size>(p.left);
      const auto h = static_cast<signed_size>(x.height), width = static_cast<signed_size>(x.width);
      if (iy < h + static_cast<signed_size>(p.bottom) && ix < width + static_cast<signed_size>(p.right)) ++t.padded;
      if (iy >= 0 && ix >= 0 && iy < h && ix < width)
        t.values.push_back(
            static_cast<double>(x.pixel(n, static_cast<std::size_t>(iy), static_cast<std::size_t>(ix))[c]));
    }
  return t;
}

/// Rounds half away from zero for codes, not at all for floats.
template <class T>
double as_stored(double v) {
  return std::is_floating_point_v<T> ? v : std::round(v);
}

using types = std::tuple<std::int8_t, std::uint8_t, std::int16_t, float>;

}  // namespace

TEST_CASE("output extents count the window positions") {
  polymac_test::random_source random(21);
  for (int i = 0; i < 3000; ++i) {
    const auto pick = [&](int low, int high) { return static_cast<std::size_t>(random.integer(low, high)); };
    const pm::window w{.kernel = {pick(1, 5), pick(1, 5)},
                       .stride = {pick(1, 4), pick(1, 4)},
                       .dilation = {pick(1, 3), pick(1, 3)},
                       .padding = {pick(0, 3), pick(0, 3), pick(0, 3), pick(0, 3)}};
    const pm::extent2d input{pick(1, 12), pick(1, 12)};
    const std::size_t high = count_positions(input.height + w.padding.pixels.top + w.padding.pixels.bottom,
                                             w.kernel.height, w.stride.height, w.dilation.height);
    const std::size_t wide = count_positions(input.width + w.padding.pixels.left + w.padding.pixels.right,
                                             w.kernel.width, w.stride.width, w.dilation.width);
    const bool fits = high > 0 && wide > 0;
    REQUIRE(pm::output_extent(w, input) == (fits ? pm::extent2d{high, wide} : pm::extent2d{0, 0}));
    // SAME: ceil(input / stride) positions, each of which touches the input; the odd pixel is at the end.
    pm::window s = w;
    s.padding = pm::same;
    pm::window_geometry g{};
    REQUIRE(pm::resolve(s, input, g).ok());
    REQUIRE(g.output.height == (input.height + w.stride.height - 1) / w.stride.height);
    REQUIRE(g.padding.bottom - g.padding.top <= 1);
    REQUIRE(g.padding.right - g.padding.left <= 1);
    s.padding = pm::same_lower;
    pm::window_geometry lower{};
    REQUIRE(pm::resolve(s, input, lower).ok());
    REQUIRE(lower.padding == pm::padding2d{g.padding.bottom, g.padding.right, g.padding.top, g.padding.left});
  }
}

TEST_CASE("mistakes of a window are named") {
  pm::window_geometry g{};
  CHECK(has(pm::check({.kernel = {0, 3}}), "window height: expected kernel, stride and dilation of at least 1, got 0"));
  CHECK(has(pm::check({.stride = {1, 0}}), "window width"));
  CHECK_FALSE(pm::check({.dilation = {0, 1}}).ok());
  CHECK_FALSE(pm::check({.kernel = {static_cast<std::size_t>(-1), 1}}).ok());
  CHECK_FALSE(pm::check({.padding = {0, static_cast<std::size_t>(-1), 0, 0}}).ok());
  CHECK(has(pm::resolve({.kernel = {3, 3}, .dilation = {2, 1}}, {4, 4}, g), "reaches over 5 pixels"));
  CHECK_FALSE(pm::resolve({}, {0, 4}, g).ok());
  CHECK_FALSE(pm::resolve({}, {static_cast<std::size_t>(-1), 4}, g).ok());
}

TEMPLATE_LIST_TEST_CASE("pooling agrees with the reference", "", types) {
  using T = TestType;
  polymac_test::random_source random(22);
  for (int round = 0; round < 250; ++round) {
    const auto pick = [&](int low, int high) { return static_cast<std::size_t>(random.integer(low, high)); };
    pm::window w{.kernel = {pick(1, 4), pick(1, 4)},
                 .stride = {pick(1, 3), pick(1, 3)},
                 .dilation = {pick(1, 2), pick(1, 2)},
                 .ceil_mode = pick(0, 1) == 1};
    const std::size_t rule = pick(0, 3);
    w.padding = rule == 0   ? pm::same
                : rule == 1 ? pm::valid
                : rule == 2 ? pm::same_lower
                            : pm::window_padding{pick(0, 2), pick(0, 2), pick(0, 2), pick(0, 2)};
    const std::size_t batch = pick(1, 2), height = pick(1, 9), width = pick(1, 9);
    const std::size_t channels = round % 8 == 0 ? pick(60, 140) : pick(1, 5);
    pm::window_geometry g{};
    if (!pm::resolve(w, {height, width}, g).ok()) continue;
    // Strides wider than the data; what lies between belongs to somebody else.
    const std::size_t pixel = channels + pick(0, 2), line = width * pixel + pick(0, 3), image = height * line;
    const std::vector<T> data = polymac_test::uniform<T>(random, batch * image);
    const pm::image_view<const T> x(data.data(), batch, height, width, channels, pixel, line, image);
    const std::size_t y_pixel = channels + 1, y_line = g.output.width * y_pixel + 2, y_image = g.output.height * y_line;
    const T low = std::is_floating_point_v<T> ? T(-0.5) : std::is_unsigned_v<T> ? T(20) : T(-100);
    const T high = std::is_floating_point_v<T> ? T(0.75) : T(100);
    const pm::activation_range<T> range =
        round % 2 == 0 ? pm::activation_range<T>{} : pm::activation_range<T>{low, high};
    const int zero_point = std::is_floating_point_v<T> ? 0 : 7;
    const bool include = round % 3 == 0;
    for (const bool average : {false, true}) {
      std::vector<T> out(batch * y_image, T(77));
      const pm::image_view<T> y(out.data(), batch, g.output.height, g.output.width, channels, y_pixel, y_line, y_image);
      const pm::status s = average ? pm::layer::average_pool2d<T>(w, range, {include, zero_point})(x, y)
                                   : pm::layer::max_pool2d<T>(w, range)(x, y);
      REQUIRE(s.ok());
      std::vector<bool> written(out.size(), false);
      for (std::size_t n = 0; n < batch; ++n)
        for (std::size_t oy = 0; oy < g.output.height; ++oy)
          for (std::size_t ox = 0; ox < g.output.width; ++ox)
            for (std::size_t c = 0; c < channels; ++c) {
              const taps t = taps_under(x, w, g.padding, n, oy, ox, c);
              double want = average ? zero_point : -std::numeric_limits<double>::infinity();
              if (average) {
                double sum = 0;
                for (const double v : t.values) sum += v;
                const std::size_t count = include ? t.padded : t.values.size();
                if (include) sum += zero_point * static_cast<double>(t.padded - t.values.size());
                if (count > 0) want = as_stored<T>(sum / static_cast<double>(count));
              } else {
                for (const double v : t.values) want = std::max(want, v);
              }
              want = std::min(std::max(want, static_cast<double>(range.low)), static_cast<double>(range.high));
              const T* at = y.pixel(n, oy, ox) + c;
              written[static_cast<std::size_t>(at - out.data())] = true;
              const double came = static_cast<double>(*at);
              const double tolerance = average && std::is_floating_point_v<T> ? 1e-6 : 0.0;
              if (!(std::abs(came - want) <= tolerance) && !(came == want)) {
                CAPTURE(round, average, include, n, oy, ox, c, polymac_test::seed_note());
                REQUIRE(came == want);
              }
            }
      for (std::size_t i = 0; i < out.size(); ++i)
        if (!written[i]) REQUIRE(out[i] == T(77));
    }
  }
}

TEST_CASE("an average of codes rounds half away from zero") {
  const std::int8_t data[] = {1, 2, -1, -2, 3, 4, -3, -4};
  std::int8_t out[4]{};
  const pm::layer::average_pool2d<std::int8_t> pool({.kernel = {1, 2}, .stride = {1, 2}});
  REQUIRE(pool(pm::image_view<const std::int8_t>(data, 1, 1, 8, 1), pm::image_view<std::int8_t>(out, 1, 1, 4, 1)).ok());
  CHECK(int{out[0]} == 2);
  CHECK(int{out[1]} == -2);
  CHECK(int{out[2]} == 4);
  CHECK(int{out[3]} == -4);
}

TEST_CASE("the largest integer window does not overflow") {
  const std::vector<std::int16_t> data(65535, -32768);
  std::int16_t out = 0;
  const pm::layer::average_pool2d<std::int16_t> pool({.kernel = {255, 257}});
  REQUIRE(pool(pm::image_view<const std::int16_t>(data.data(), 1, 255, 257, 1),
               pm::image_view<std::int16_t>(&out, 1, 1, 1, 1))
              .ok());
  CHECK(out == -32768);
}

TEST_CASE("mistakes of pooling are named, and the output stays untouched") {
  const std::int8_t data[16]{};
  std::int8_t out[16];
  std::fill(std::begin(out), std::end(out), std::int8_t{9});
  const pm::layer::max_pool2d<std::int8_t> pool({.kernel = {2, 2}, .stride = {2, 2}});
  const pm::image_view<const std::int8_t> x(data, 1, 4, 4, 1);
  CHECK(has(pool(x, pm::image_view<std::int8_t>(out, 1, 4, 4, 1)),
            "expected output of 1 x 2 x 2 x 1, got 1 x 4 x 4 x 1"));
  CHECK_FALSE(pool(x, pm::image_view<std::int8_t>(nullptr, 1, 2, 2, 1)).ok());
  CHECK_FALSE(
      pool(pm::image_view<const std::int8_t>(data, 1, 1, 4, 1), pm::image_view<std::int8_t>(out, 1, 1, 2, 1)).ok());
  for (const auto v : out) REQUIRE(v == 9);
#if POLYMAC_HAS_EXCEPTIONS
  CHECK_THROWS_AS(pm::layer::max_pool2d<float>({.kernel = {2, 0}}), pm::error);
  CHECK_THROWS_AS(pm::layer::max_pool2d<float>({}, {1.0f, 0.0f}), pm::error);
  CHECK_THROWS_AS(pm::layer::average_pool2d<std::int8_t>({.kernel = {256, 256}}), pm::error);
#endif
}
