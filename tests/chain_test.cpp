// SPDX-License-Identifier: MIT
// Chains of layers, tile by tile and strip by strip, against the same layers one by one; memory and work.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/complaint.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/model/chain.hpp>
#include <polymac/polymac.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

using namespace polymac;
using model::chain_step;
using model::tile_plan;
using model::tile_work;
using policy::line_buffer;
using policy::patch;
using polymac_test::complaint;

namespace {

using bytes = std::vector<std::byte>;

template <class T>
image_view<const T> image(const std::vector<T>& v, extent2d size, std::size_t channels, std::size_t batch = 1) {
  return {v.data(), batch, size.height, size.width, channels};
}
template <class T>
image_view<T> image(std::vector<T>& v, extent2d size, std::size_t channels, std::size_t batch = 1) {
  return {v.data(), batch, size.height, size.width, channels};
}

/// Every tensor of a chain, from whole layers.
template <class T, class Layer>
std::vector<T> whole(const Layer& l, const std::vector<T>& x, extent2d& size, std::size_t& channels,
                     std::size_t out_channels) {
  extent2d out = size;
  if constexpr (requires { l.output_size(size); })
    out = l.output_size(size);
  else if constexpr (requires { l.output_extent(size); })
    out = l.output_extent(size);
  std::vector<T> y(out.height * out.width * out_channels);
  status s;
  if constexpr (requires { l.workspace_bytes(size); }) {
    bytes ws(l.workspace_bytes(size));
    s = l(image(x, size, channels), image(y, out, out_channels), workspace(ws));
  } else if constexpr (requires { l.workspace_bytes(); }) {
    bytes ws(l.workspace_bytes());
    s = l(image(x, size, channels), image(y, out, out_channels), workspace(ws));
  } else {
    s = l(image(x, size, channels), image(y, out, out_channels));
  }
  INFO(std::string(s.text()));
  REQUIRE(s.ok());
  size = out;
  channels = out_channels;
  return y;
}

/// Multiply-accumulates of a plan, counted pixel by pixel: what one tile needs is marked backwards.
std::size_t counted_macs(const std::vector<chain_step>& steps, const tile_plan& plan, const policy::tile_grid& grid) {
  std::size_t macs = 0;
  const std::size_t n = steps.size();
  for (std::size_t t = 0; t < plan.tiles(); ++t) {
    std::vector<std::vector<char>> needed(n + 1);
    for (std::size_t i = 0; i <= n; ++i) needed[i].assign(plan.extent(i).height * plan.extent(i).width, 0);
    const auto lines = grid.lines_of(t, plan.extent(n)), columns = grid.columns_of(t, plan.extent(n));
    for (std::size_t y = lines.begin; y < lines.end; ++y)
      for (std::size_t x = columns.begin; x < columns.end; ++x) needed[n][y * plan.extent(n).width + x] = 1;
    for (std::size_t i = n; i > 0; --i) {
      const auto& w = steps[i - 1].taps;
      window_geometry g{};
      REQUIRE(resolve(w, plan.extent(i - 1), g).ok());
      const extent2d in = plan.extent(i - 1), out = plan.extent(i);
      for (std::size_t y = 0; y < out.height; ++y)
        for (std::size_t x = 0; x < out.width; ++x) {
          if (needed[i][y * out.width + x] == 0) continue;
          macs += steps[i - 1].macs;
          if (steps[i - 1].added != chain_step::none) needed[steps[i - 1].added][y * out.width + x] = 1;
          for (std::size_t ky = 0; ky < w.kernel.height; ++ky)
            for (std::size_t kx = 0; kx < w.kernel.width; ++kx) {
              const std::size_t iy = y * w.stride.height + ky * w.dilation.height - g.padding.top;
              const std::size_t ix = x * w.stride.width + kx * w.dilation.width - g.padding.left;
              if (iy < in.height && ix < in.width) needed[i - 1][iy * in.width + ix] = 1;
            }
        }
    }
  }
  return macs;
}

/// Runs a chain in workspaces that end, and begin, at unmapped pages; compares with `expected`.
template <class Chain, class T>
tile_work check_chain(const Chain& c, const std::vector<T>& x, extent2d in, std::size_t channels,
                      const std::vector<T>& expected, extent2d out, std::size_t out_channels) {
  tile_work work;
  for (const auto where : polymac_test::both_placements) {
    polymac_test::guarded_buffer<std::byte> ws(c.workspace_bytes(), where);
    polymac_test::guarded_buffer<T> source(x, where), y(expected.size(), where);
    status s;
    {
      const polymac_test::no_allocation trap;
      s = c({source.data(), 1, in.height, in.width, channels}, {y.data(), 1, out.height, out.width, out_channels},
            {ws.data(), ws.size()}, {}, &work);
    }
    INFO(std::string(s.text()) << "; " << std::string(c.explain().view()));
    REQUIRE(s.ok());
    CHECK(y.values() == expected);
  }
  CHECK(work.tiles == c.tiles());
  CHECK(work.macs == c.macs());
  CHECK(work.peak_bytes <= c.plan().map_bytes());
  CHECK(c.plan().map_bytes() <= c.workspace_bytes());
  std::vector<T> y(expected.size(), T{77});
  bytes little(c.workspace_bytes() - 1);
  const auto s = c(image(x, in, channels), image(y, out, out_channels), workspace(little));
  CHECK(s.code() == errc::short_buffer);
  CHECK(y == std::vector<T>(expected.size(), T{77}));
  return work;
}

struct weights8 {
  explicit weights8(std::uint64_t salt) : random(salt) {}
  polymac_test::random_source random;
  std::vector<std::int8_t> w;
  std::vector<std::int32_t> b;
  image_view<const std::int8_t> operator()(std::size_t batch, std::size_t kernel, std::size_t channels) {
    w = polymac_test::uniform<std::int8_t>(random, batch * kernel * kernel * channels);
    b = polymac_test::small_integers<std::int32_t>(random, batch == 1 ? channels : batch, -3000, 3000);
    return {w.data(), batch, kernel, kernel, channels};
  }
};

/// Zero points that are not 0, biases and a lower bound: what a layer makes of padding is no padding.
auto stages(double scale) { return requantize(scale, 9) | clamp(-90, 120); }

template <class P>
void mobile_net(extent2d size) {
  INFO(P::name << ", " << size.height << " x " << size.width);
  weights8 make(60 + size.height);
  const layer::quantization<mac::int8> q{.activation_zero_point = 9};
  const auto first = conv2d<mac::int8>({.stride = {2, 2}, .padding = same}, make(8, 3, 3), make.b, stages(0.002),
                                       {.activation_zero_point = 5});
  const auto depthwise =
      depthwise_conv2d<mac::int8>({.padding = {1, 1, 1, 1}}, make(1, 3, 8), make.b, stages(0.003), q);
  const auto project = conv2d<mac::int8>({}, make(6, 1, 8), make.b, stages(0.004), q);
  const auto expand = conv2d<mac::int8>({}, make(12, 1, 6), make.b, stages(0.005), q);
  const auto five =
      depthwise_conv2d<mac::int8>({.stride = {2, 2}, .padding = same}, make(1, 5, 12), make.b, stages(0.002), q);
  const auto back = conv2d<mac::int8>({}, make(6, 1, 12), make.b, stages(0.003), q);
  const auto seven = depthwise_conv2d<mac::int8>({.padding = {3, 3, 3, 3}}, make(1, 7, 12), make.b, stages(0.002), q);
  const auto wide =
      conv2d<mac::int8>({.dilation = {2, 1}, .padding = {2, 1, 2, 1}}, make(6, 3, 6), make.b, stages(0.002), q);
  const layer::add<std::int8_t> sum({0.5F, 9}, {0.4F, 9}, {0.6F, 9});
  const layer::max_pool2d<std::int8_t> most({{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, true});
  const layer::average_pool2d<std::int8_t> mean({{2, 3}, {1, 1}, {1, 1}, same}, {}, {true, 9});

  polymac_test::random_source random(size.width);
  const auto x = polymac_test::uniform<std::int8_t>(random, size.height * size.width * 3);
  extent2d at = size;
  std::size_t channels = 3;
  const auto x3 = whole<std::int8_t>(
      project, whole<std::int8_t>(depthwise, whole<std::int8_t>(first, x, at, channels, 8), at, channels, 8), at,
      channels, 6);
  const auto x6 = whole<std::int8_t>(
      back, whole<std::int8_t>(five, whole<std::int8_t>(expand, x3, at, channels, 12), at, channels, 12), at, channels,
      6);
  const auto x9 = whole<std::int8_t>(
      back, whole<std::int8_t>(seven, whole<std::int8_t>(expand, x6, at, channels, 12), at, channels, 12), at, channels,
      6);
  std::vector<std::int8_t> x10(x9.size());
  REQUIRE(sum(image(x6, at, 6), image(x9, at, 6), image(x10, at, 6)).ok());
  const extent2d before_pools = at;
  const auto x11 = whole<std::int8_t>(wide, x10, at, channels, 6);
  const auto expected = whole<std::int8_t>(mean, whole<std::int8_t>(most, x11, at, channels, 6), at, channels, 6);

  check_chain(chain<P>(size, first, depthwise, project, expand, five, back, expand, seven, back, add_tensor(sum, 6),
                       wide, most, mean),
              x, size, 3, expected, at, 6);
  check_chain(chain<P>(size, first, depthwise, project, expand, five, back, expand, seven, back, add_tensor(sum, 6)), x,
              size, 3, x10, before_pools, 6);
}

}  // namespace

TEST_CASE("tiles have the bits of whole layers: strides, wide kernels, residuals, pools, zero points, odd sizes") {
  for (const extent2d size : {extent2d{23, 30}, extent2d{16, 16}, extent2d{9, 37}, extent2d{5, 4}}) {
    mobile_net<patch<1>>(size);
    mobile_net<patch<2>>(size);
    mobile_net<patch<3>>(size);
    mobile_net<patch<4, 2>>(size);
    mobile_net<patch<50>>(size);
  }
}

TEST_CASE("strips have the bits of whole layers, and compute nothing twice") {
  for (const extent2d size : {extent2d{23, 30}, extent2d{16, 16}, extent2d{37, 9}, extent2d{5, 4}}) {
    mobile_net<line_buffer<1>>(size);
    mobile_net<line_buffer<2>>(size);
    mobile_net<line_buffer<5>>(size);
  }
}

TEST_CASE("floats: the same order of sums, the same bits") {
  polymac_test::random_source random(70);
  const extent2d size{19, 22};
  const auto x = polymac_test::uniform<float>(random, 19 * 22 * 3);
  const auto w1 = polymac_test::uniform<float>(random, 7 * 9 * 3), w2 = polymac_test::uniform<float>(random, 9 * 7),
             w3 = polymac_test::uniform<float>(random, 5 * 7), b = polymac_test::uniform<float>(random, 7);
  const auto first =
      conv2d<mac::float32>({.stride = {2, 1}, .padding = same}, image_view<const float>(w1.data(), 7, 3, 3, 3), b);
  const auto second =
      depthwise_conv2d<mac::float32>({.padding = same}, image_view<const float>(w2.data(), 1, 3, 3, 7), b);
  const auto third =
      conv2d<mac::float32>({}, image_view<const float>(w3.data(), 5, 1, 1, 7), std::vector<float>(5), relu);
  extent2d at = size;
  std::size_t channels = 3;
  const auto expected = whole<float>(
      third, whole<float>(second, whole<float>(first, x, at, channels, 7), at, channels, 7), at, channels, 5);
  check_chain(chain<patch<3>>(size, first, second, third), x, size, 3, expected, at, 5);
  check_chain(chain<line_buffer<2>>(size, first, second, third), x, size, 3, expected, at, 5);
}

TEST_CASE("ranges of tiles, several images") {
  weights8 make(80);
  const extent2d size{14, 11};
  const auto a =
      conv2d<mac::int8>({.padding = same}, make(5, 3, 4), make.b, stages(0.002), {.activation_zero_point = -4});
  const auto b =
      conv2d<mac::int8>({.padding = same}, make(6, 3, 5), make.b, stages(0.002), {.activation_zero_point = 9});
  polymac_test::random_source random(81);
  const auto x = polymac_test::uniform<std::int8_t>(random, 3 * 14 * 11 * 4);
  std::vector<std::int8_t> expected, y(3 * 14 * 11 * 6), z(y);
  for (std::size_t n = 0; n < 3; ++n) {
    extent2d at = size;
    std::size_t channels = 4;
    const auto first = static_cast<std::ptrdiff_t>(n * 14 * 11 * 4);
    const std::vector<std::int8_t> one(x.begin() + first, x.begin() + first + 14 * 11 * 4);
    const auto result = whole<std::int8_t>(b, whole<std::int8_t>(a, one, at, channels, 5), at, channels, 6);
    expected.insert(expected.end(), result.begin(), result.end());
  }
  const auto tiled = chain<patch<3>>(size, a, b);
  const auto swept = chain<line_buffer<4>>(size, a, b);
  bytes ws(tiled.workspace_bytes() + swept.workspace_bytes());
  tile_work halves[2], all;
  for (const row_range part : {row_range{4, 99}, row_range{0, 4}})
    REQUIRE(tiled(image(x, size, 4, 3), image(y, size, 6, 3), workspace(ws), part, &halves[part.begin == 0]).ok());
  CHECK(y == expected);
  CHECK(halves[0].tiles + halves[1].tiles == 3 * 9);
  CHECK(halves[0].macs + halves[1].macs == 3 * tiled.macs());
  for (const row_range part : {row_range{3, 4}, row_range{0, 2}, row_range{2, 3}})
    REQUIRE(swept(image(x, size, 4, 3), image(z, size, 6, 3), workspace(ws), part).ok());
  CHECK(z == expected);
  REQUIRE(swept(image(x, size, 4, 3), image(z, size, 6, 3), workspace(ws), {}, &all).ok());
  CHECK(all.macs == 3 * (a.macs(size) + b.macs(size)));
  CHECK(all.peak_bytes == swept.plan().map_bytes());
}

TEST_CASE("work and memory of plans: counted pixel by pixel") {
  const auto conv = [](std::size_t kernel, std::size_t stride, std::size_t out, std::size_t macs) {
    return chain_step{{{kernel, kernel}, {stride, stride}, {1, 1}, same}, out, 1, macs};
  };
  std::vector<chain_step> steps{conv(3, 2, 8, 216),    conv(5, 1, 8, 25 * 8), conv(1, 1, 4, 32),
                                conv(7, 2, 4, 49 * 4), conv(3, 1, 4, 144),    conv(1, 1, 4, 16)};
  steps[4].taps.dilation = {2, 3};
  steps.push_back({{}, 4, 1, 0, 4});
  for (const extent2d size : {extent2d{40, 40}, extent2d{31, 46}, extent2d{13, 7}})
    for (const std::size_t p : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{5}, std::size_t{20}}) {
      const policy::tile_grid grid{{p, p}, 0, false};
      const tile_plan plan(steps, size, 3, grid);
      REQUIRE(plan.status().ok());
      // Windows with holes: a tile computes the rectangle around them.
      const std::size_t counted = counted_macs(steps, plan, grid);
      CHECK(plan.macs() >= counted);
      auto near = steps;
      near[4].taps.dilation = {1, 1};
      const tile_plan exact(near, size, 3, grid);
      CHECK(exact.macs() == counted_macs(near, exact, grid));
      if (p == 1) CHECK(plan.macs() == plan.macs_by_layer());
      if (p == 1) CHECK(plan.map_bytes() == plan.map_bytes_by_layer());
      for (const std::size_t lines : {std::size_t{1}, std::size_t{3}}) {
        const tile_plan sweep(steps, size, 3, {{1, 1}, lines, true});
        CHECK(sweep.macs() <= sweep.macs_by_layer());
      }
    }
}

namespace {

/// MobileNetV2 of width 1 on 224 x 224 up to a block (Sandler et al. 2018), or all of it. Every block: expand, depthwise,
/// project.
std::vector<chain_step> mobile_net_v2(std::size_t blocks) {
  std::vector<chain_step> steps{{{{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}}, 32, 1, 27 * 32}};
  std::size_t in = 32, block = 0;
  struct group {
    std::size_t expansion, channels, repeats, stride;
  };
  for (const group& g : {group{1, 16, 1, 1}, group{6, 24, 2, 2}, group{6, 32, 3, 2}, group{6, 64, 4, 2},
                         group{6, 96, 3, 1}, group{6, 160, 3, 2}, group{6, 320, 1, 1}})
    for (std::size_t i = 0; i < g.repeats && block < blocks; ++i, ++block) {
      const std::size_t wide = in * g.expansion, stride = i == 0 ? g.stride : 1, tensor = steps.size();
      if (g.expansion > 1) steps.push_back({{}, wide, 1, in * wide});
      steps.push_back({{{3, 3}, {stride, stride}, {1, 1}, {1, 1, 1, 1}}, wide, 1, 9 * wide});
      steps.push_back({{}, g.channels, 1, wide * g.channels});
      if (stride == 1 && in == g.channels) steps.push_back({{}, g.channels, 1, 0, tensor});
      in = g.channels;
    }
  if (blocks == 17) steps.push_back({{}, 1280, 1, 320 * 1280});
  return steps;
}

}  // namespace

TEST_CASE("MobileNetV2 on 224 x 224: work and memory as derived for MCUNetV2's splits") {
  const auto all = tile_plan(mobile_net_v2(17), {224, 224}, 3, {});
  const double classifier = 1280.0 * 1000;
  const double net = static_cast<double>(all.macs()) + classifier;
  CHECK(std::llround(net / 1e4) == 30077);
  const auto kib = [](std::size_t b) { return std::nearbyint(static_cast<double>(b) / 1024); };
  CHECK(kib(all.map_bytes()) == 1470);

  struct row {
    std::size_t blocks, patches, receptive;
    double stage, whole, maps, output, sweep;
  };
  for (const row& r : {row{3, 4, 19, 1.231, 1.058, 126, 74, 126}, row{4, 2, 27, 1.096, 1.029, 433, 24, 178},
                       row{4, 3, 27, 1.198, 1.060, 235, 24, 178}, row{4, 4, 27, 1.306, 1.093, 142, 24, 178},
                       row{5, 4, 43, 1.773, 1.263, 215, 24, 373}, row{6, 4, 59, 2.273, 1.479, 302, 24, 550}}) {
    INFO("after block " << r.blocks << ", " << r.patches << " x " << r.patches);
    const tile_plan plan(mobile_net_v2(r.blocks), {224, 224}, 3, {{r.patches, r.patches}, 0, false});
    REQUIRE(plan.status().ok());
    const auto macs = static_cast<double>(plan.macs()), once = static_cast<double>(plan.macs_by_layer());
    CHECK(plan.receptive_field() == r.receptive);
    CHECK(macs / once == Approx(r.stage).margin(0.0006));
    CHECK((net - once + macs) / net == Approx(r.whole).margin(0.0006));
    CHECK(kib(plan.map_bytes()) == r.maps);
    CHECK(kib(plan.output_bytes()) == r.output);
    const tile_plan sweep(mobile_net_v2(r.blocks), {224, 224}, 3, {{1, 1}, 1, true});
    CHECK(sweep.macs() <= sweep.macs_by_layer());
    CHECK(kib(sweep.map_bytes()) == r.sweep);
  }
}

TEST_CASE("chains that do not fit are refused") {
  weights8 make(90);
  const auto a = conv2d<mac::int8>({.padding = same}, make(5, 3, 4), make.b, stages(0.002));
  const auto far = conv2d<mac::int8>({.padding = {3, 0, 0, 0}}, make(5, 3, 5), make.b, stages(0.002));
  const auto small = conv2d<mac::int8>({.stride = {2, 2}}, make(5, 2, 5), make.b, stages(0.002));
  const layer::add<std::int8_t> sum({1, 0}, {1, 0}, {1, 0});
  const layer::max_pool2d<std::int8_t> most({{3, 3}, {2, 2}, {1, 1}, same});
  const auto text = [](const auto&... links) {
    return complaint([&] { static_cast<void>(chain<patch<2>>({9, 9}, links...)); });
  };
  CHECK(text(a, a).find("layer 2 takes 4 channels, but gets 5") != std::string::npos);
  CHECK(text(a, far).find("padding of fewer pixels than the 3 x 3") != std::string::npos);
  CHECK(text(a, small, add_tensor(sum, 1)).find("adds tensor 1 of 9 x 9 x 5 to one of 4 x 4 x 5") != std::string::npos);
  CHECK(text(a, add_tensor(sum, 2)).find("only those up to 1") != std::string::npos);
  CHECK(text(most).find("layer with weights") != std::string::npos);
  CHECK(complaint([&] { static_cast<void>(chain<patch<2>>({9, 1}, a, small)); }).find("layer 2") != std::string::npos);

  const auto c = chain<patch<2>>({9, 9}, a);
  std::vector<std::int8_t> x(9 * 9 * 4), y(9 * 9 * 5);
  bytes ws(c.workspace_bytes());
  CHECK(c(image(x, {8, 9}, 4), image(y, {9, 9}, 5), workspace(ws)).text().find("expected x of n x 9 x 9 x 4") !=
        std::string_view::npos);
  CHECK(c.explain().view().find("chain<patch> 1 layers, 4 tiles") != std::string_view::npos);
  // A part of which windows would leave the image.
  CHECK(a.on_part(image(x, {9, 9}, 4), image(y, {9, 9}, 5), {}, workspace(ws)).code() == errc::shape);
}
