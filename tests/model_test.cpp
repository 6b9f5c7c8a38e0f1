// SPDX-License-Identifier: MIT
// Networks of one operation of every kind and type against the same operation on reals, and what `run` promises: no
// allocation, any arena, no need of graph or file, refusals that leave the outputs alone.
#include "catch.hpp"
#include "examples/mlperf_tiny/build_network.hpp"
#include "examples/mlperf_tiny/read_graph.hpp"
#include "polymac/model/network.hpp"
#include "support/allocation_trap.hpp"
#include "support/random.hpp"
#include "support/tflite_builder.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace {

namespace model = polymac::model;
using namespace polymac_test;
using bytes = std::vector<std::byte>;
using reals = std::vector<double>;
using shape = std::vector<std::int32_t>;

std::size_t count_of(const shape& s) {
  std::size_t n = 1;
  for (const std::int32_t e : s) n *= static_cast<std::size_t>(e);
  return n;
}

std::size_t width_of(std::int8_t type) {
  return type == tflite_int8 ? 1 : type == tflite_int16 ? 2 : type == tflite_int64 ? 8 : 4;
}

/// What the stored elements of a tensor mean.
reals decode(const tflite_tensor& t, const bytes& raw) {
  reals values(count_of(t.shape));
  std::size_t inner = 1;
  for (std::size_t i = static_cast<std::size_t>(t.axis) + 1; i < t.shape.size(); ++i)
    inner *= static_cast<std::size_t>(t.shape[i]);
  for (std::size_t i = 0; i < values.size(); ++i) {
    double v = 0;
    const auto load = [&]<class T>(T) {
      T stored;
      std::memcpy(&stored, raw.data() + i * sizeof(T), sizeof(T));
      return static_cast<double>(stored);
    };
    switch (t.type) {
      case tflite_float32:
        v = load(float{});
        break;
      case tflite_int4: {
        const int nibble = std::to_integer<int>(raw[i / 2]) >> (i % 2 * 4) & 15;
        v = nibble < 8 ? nibble : nibble - 16;
        break;
      }
      case tflite_int8:
        v = load(std::int8_t{});
        break;
      case tflite_int16:
        v = load(std::int16_t{});
        break;
      case tflite_int32:
        v = load(std::int32_t{});
        break;
      default:
        v = load(std::int64_t{});
        break;
    }
    if (!t.scales.empty()) {
      const std::size_t c = t.scales.size() == 1 ? 0 : i / inner % t.scales.size();
      v = static_cast<double>(t.scales[c]) * (v - static_cast<double>(t.zero_points[c]));
    }
    values[i] = v;
  }
  return values;
}

/// A model in the making; activations are of one type.
struct maker {
  std::int8_t type;
  random_source& random;
  tflite_model m{};

  std::int32_t add(tflite_tensor t) {
    m.tensors.push_back(std::move(t));
    return static_cast<std::int32_t>(m.tensors.size() - 1);
  }
  tflite_tensor tensor(const shape& s, float step = 1.0F) const {
    tflite_tensor t{"t", type, s, {}, {}, {}};
    if (type == tflite_int8) t.scales = {0.05F * step}, t.zero_points = {step == 1.0F ? 3 : -7};
    if (type == tflite_int16) t.scales = {0.0003F * step}, t.zero_points = {0};
    return t;
  }
  bytes noise(std::size_t size, std::int8_t of) {
    if (of == tflite_float32) {
      auto v = uniform<float>(random, size);
      for (float& x : v) x *= 4;
      return raw_bytes(v);
    }
    return raw_bytes(uniform<std::int8_t>(random, size * width_of(of)));
  }
  std::int32_t activation(const shape& s, float step = 1.0F) { return add(tensor(s, step)); }
  std::int32_t input(const shape& s, float step = 1.0F) {
    m.inputs.push_back(activation(s, step));
    return m.inputs.back();
  }
  std::int32_t constant(const shape& s) {
    tflite_tensor t = tensor(s, 1.5F);
    t.data = noise(count_of(s), type);
    return add(t);
  }
  std::int32_t integers(const std::vector<std::int32_t>& v, const shape& s) {
    return add({"i", tflite_int32, s, {}, {}, raw_bytes(v)});
  }
  /// Weights with one scale per index of `axis`.
  std::int32_t weights(const shape& s, std::int32_t axis, std::int8_t of = tflite_int8) {
    if (type == tflite_float32 && of == tflite_int8) return add({"w", type, s, {}, {}, noise(count_of(s), type)});
    tflite_tensor t{"w", of, s, {}, {}, noise(of == tflite_int4 ? (count_of(s) + 1) / 2 : count_of(s), tflite_int8),
                    axis};
    for (std::int32_t i = 0; i < s[static_cast<std::size_t>(axis)]; ++i)
      t.scales.push_back(0.01F + 0.002F * static_cast<float>(i)), t.zero_points.push_back(0);
    return add(t);
  }
  std::int32_t bias(std::int32_t columns) {
    const auto n = static_cast<std::size_t>(columns);
    if (type == tflite_float32) return add({"b", type, {columns}, {}, {}, noise(n, type)});
    // Means nothing by itself: its unit is the product of the two scales, which the reference forms.
    if (type == tflite_int16) {
      std::vector<std::int64_t> v(n);
      for (auto& x : v) x = random.integer(-90000, 90000);
      return add({"b", tflite_int64, {columns}, {}, {}, raw_bytes(v)});
    }
    std::vector<std::int32_t> v(n);
    for (auto& x : v) x = static_cast<std::int32_t>(random.integer(-900, 900));
    return add({"b", tflite_int32, {columns}, {}, {}, raw_bytes(v)});
  }
};

/// Builds a network from a file, destroys file and graph, runs it twice in different arenas at odd addresses without
/// allocating, and returns its first output.
std::vector<bytes> run_file(bytes file, const std::vector<bytes>& inputs, const std::vector<std::int32_t>& extra = {}) {
  auto net = [&] {
    const auto parsed = example::read_graph(file);
    INFO(parsed.status().text());
    REQUIRE(parsed.ok());
    model::graph g;
    g.tensors = parsed->tensors, g.operations = parsed->operations, g.inputs = parsed->inputs,
    g.outputs = parsed->outputs;
    g.outputs.insert(g.outputs.end(), extra.begin(), extra.end());
    auto built = example::build_network(g);
    INFO(built.status().text());
    REQUIRE(built.ok());
    return std::move(*built);
  }();
  std::fill(file.begin(), file.end(), std::byte{0xEE});
  REQUIRE(net.arena_bytes() >= net.arena_lower_bound_bytes());
  std::vector<bytes> results[2];
  for (int turn = 0; turn < 2; ++turn) {
    auto& outputs = results[turn];
    for (const auto& port : net.outputs())
      outputs.emplace_back(port.bytes, turn == 0 ? std::byte{0x11} : std::byte{0xCC});
    std::vector<std::span<const std::byte>> x(inputs.begin(), inputs.end());
    std::vector<std::span<std::byte>> y(outputs.begin(), outputs.end());
    const std::size_t shift = turn == 0 ? 1 : 37;
    bytes arena(net.arena_bytes() + model::network::arena_alignment - 1 + shift,
                turn == 0 ? std::byte{0xFF} : std::byte{0x5A});
    const std::size_t before = allocations();
    const auto s = net.run(x, y, polymac::workspace(arena.data() + shift, arena.size() - shift));
    const std::size_t after = allocations();
    INFO(s.text());
    REQUIRE(s.ok());
    REQUIRE(after == before);
  }
  REQUIRE(results[0] == results[1]);
  return results[0];
}

/// Runs the model on random inputs and compares its output with `expected(reals of each tensor)`. Codes may be `slack`
/// off.
void check(maker& k, std::int32_t output, const std::function<reals(const std::vector<reals>&)>& expected,
           double slack = 1) {
  k.m.outputs = {output};
  std::vector<bytes> inputs;
  std::vector<reals> values(k.m.tensors.size());
  for (const std::int32_t i : k.m.inputs) {
    const tflite_tensor& t = k.m.tensors[static_cast<std::size_t>(i)];
    inputs.push_back(k.noise(count_of(t.shape), t.type));
    values[static_cast<std::size_t>(i)] = decode(t, inputs.back());
  }
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!k.m.tensors[i].data.empty()) values[i] = decode(k.m.tensors[i], k.m.tensors[i].data);
  const auto result = run_file(write_tflite(k.m), inputs);
  const tflite_tensor& y = k.m.tensors[static_cast<std::size_t>(output)];
  const reals actual = decode(y, result[0]), wanted = expected(values);
  REQUIRE(actual.size() == wanted.size());
  double scale = 0, low = -INFINITY, high = INFINITY, largest = 1;
  for (const double w : wanted) largest = std::max(largest, std::fabs(w));
  if (y.type != tflite_float32) {
    const double codes = y.type == tflite_int8 ? 128 : 32768, zero = static_cast<double>(y.zero_points[0]);
    scale = static_cast<double>(y.scales[0]);
    low = (-codes - zero) * scale, high = (codes - 1 - zero) * scale;
  }
  std::size_t wrong = 0;
  bool any = false;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double w = std::clamp(wanted[i], low, high);
    wrong += !(std::fabs(actual[i] - w) <= (slack + 0.01) * scale + (scale > 0 ? 1e-6 : 2e-6 * largest));
    any = any || w != 0;
  }
  CHECK(any);
  REQUIRE(wrong == 0);
}

double fuse(double v, int fused) {
  return fused == 1   ? std::max(v, 0.0)
         : fused == 2 ? std::clamp(v, -1.0, 1.0)
         : fused == 3 ? std::clamp(v, 0.0, 6.0)
                      : v;
}

/// Convolution on reals; depthwise where multiplier > 0.
reals convolve(const maker& k, const std::vector<reals>& v, std::int32_t x, std::int32_t w, std::int32_t b,
               std::int32_t y, int stride, bool same, int fused, int dilation, int multiplier) {
  const auto& X = k.m.tensors[static_cast<std::size_t>(x)];
  const auto& W = k.m.tensors[static_cast<std::size_t>(w)];
  const auto& Y = k.m.tensors[static_cast<std::size_t>(y)];
  const int kh = W.shape[1], kw = W.shape[2], per = multiplier > 0 ? 1 : W.shape[3], outs = Y.shape[3];
  const int groups = multiplier > 0 ? X.shape[3] : X.shape[3] / per;
  const auto pad = [&](int in, int out, int kernel) {
    return same ? std::max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - in) / 2 : 0;
  };
  const int top = pad(X.shape[1], Y.shape[1], kh), left = pad(X.shape[2], Y.shape[2], kw);
  reals r;
  for (int n = 0; n < Y.shape[0]; ++n)
    for (int oy = 0; oy < Y.shape[1]; ++oy)
      for (int ox = 0; ox < Y.shape[2]; ++ox)
        for (int o = 0; o < outs; ++o) {
          double sum = 0;
          if (b >= 0) {
            sum = v[static_cast<std::size_t>(b)][static_cast<std::size_t>(o)];
            if (k.type != tflite_float32)
              sum *= static_cast<double>(X.scales[0]) * static_cast<double>(W.scales[static_cast<std::size_t>(o)]);
          }
          for (int ky = 0; ky < kh; ++ky)
            for (int kx = 0; kx < kw; ++kx)
              for (int c = 0; c < per; ++c) {
                const int iy = oy * stride + ky * dilation - top, ix = ox * stride + kx * dilation - left;
                if (iy < 0 || ix < 0 || iy >= X.shape[1] || ix >= X.shape[2]) continue;
                const int ic = o / (outs / groups) * per + c;
                const int at = ((n * X.shape[1] + iy) * X.shape[2] + ix) * X.shape[3] + ic;
                const int wt = multiplier > 0 ? (ky * kw + kx) * outs + o : ((o * kh + ky) * kw + kx) * per + c;
                sum += v[static_cast<std::size_t>(x)][static_cast<std::size_t>(at)] *
                       v[static_cast<std::size_t>(w)][static_cast<std::size_t>(wt)];
              }
          r.push_back(fuse(sum, fused));
        }
  return r;
}

constexpr std::int8_t types[] = {tflite_float32, tflite_int8, tflite_int16};

}  // namespace

TEST_CASE("Convolutions of a network compute what they mean", "[model]") {
  POLYMAC_RANDOM(random, 1);
  struct problem {
    shape x, w, y;
    int stride, padding, fused, dilation, multiplier;
    std::int8_t weights = tflite_int8;
    bool bias = true;
  };
  const problem problems[] = {
      {{1, 7, 6, 3}, {5, 3, 3, 3}, {1, 4, 3, 5}, 2, 0, 1, 1, 0},
      {{2, 7, 6, 4}, {6, 3, 2, 2}, {2, 5, 5, 6}, 1, 1, 0, 1, 0},  // two groups
      {{1, 9, 9, 4}, {8, 3, 3, 4}, {1, 5, 5, 8}, 1, 1, 3, 2, 0},  // dilation
      {{1, 5, 5, 8}, {9, 1, 1, 8}, {1, 5, 5, 9}, 1, 0, 2, 1, 0},  // one tap
      {{1, 5, 4, 3}, {1, 3, 3, 6}, {1, 5, 4, 6}, 1, 0, 1, 1, 2},  // depthwise, multiplier 2
      {{2, 6, 6, 5}, {1, 3, 3, 5}, {2, 3, 3, 5}, 2, 0, 0, 1, 1, tflite_int8, false},
      {{1, 5, 5, 3}, {3, 3, 3, 3}, {1, 5, 5, 3}, 1, 0, 0, 1, 0, tflite_int4},
      {{1, 5, 5, 3}, {1, 3, 3, 3}, {1, 5, 5, 3}, 1, 0, 0, 1, 1, tflite_int4},
  };
  for (const std::int8_t type : types)
    for (const problem& p : problems) {
      if (type == tflite_float32 && p.weights == tflite_int4) continue;  // dynamic range: another test
      maker k{type, random};
      CAPTURE(static_cast<int>(type), p.w, p.multiplier);
      const auto x = k.input(p.x), w = k.weights(p.w, p.multiplier > 0 ? 3 : 0, p.weights);
      const auto b = p.bias ? k.bias(p.y[3]) : -1, y = k.activation(p.y, 3.0F);
      const auto pad = static_cast<std::int8_t>(p.padding), fused = static_cast<std::int8_t>(p.fused);
      k.m.operators = {p.multiplier > 0 ? tflite_depthwise({x, w, b}, y, p.multiplier, p.stride, pad, fused)
                                        : tflite_conv2d({x, w, b}, y, p.stride, pad, fused, p.dilation)};
      check(k, y, [&](const auto& v) {
        return convolve(k, v, x, w, b, y, p.stride, p.padding == 0, p.fused, p.dilation, p.multiplier);
      });
    }
}

TEST_CASE("Float activations meet integer weights", "[model]") {
  POLYMAC_RANDOM(random, 2);
  for (const int kind : {0, 1, 2})
    for (const std::int8_t stored : {tflite_int8, tflite_int4})
      for (const bool per_channel : {false, true}) {
        CAPTURE(kind, static_cast<int>(stored), per_channel);
        maker k{tflite_float32, random};
        const shape xs = kind == 2 ? shape{3, 20} : shape{2, 5, 4, 6},
                    ys = kind == 2 ? shape{3, 7} : shape{2, 5, 4, kind == 0 ? 7 : 12};
        const shape ws = kind == 0 ? shape{7, 3, 3, 6} : kind == 1 ? shape{1, 3, 3, 12} : shape{7, 20};
        const auto x = k.input(xs), b = k.bias(ys.back()), y = k.activation(ys);
        tflite_tensor w{"w", stored, ws, {}, {}, {}, kind == 1 ? 3 : 0};
        w.data = k.noise(stored == tflite_int4 ? (count_of(ws) + 1) / 2 : count_of(ws), tflite_int8);
        for (std::int32_t i = 0; i < (per_channel ? ys.back() : 1); ++i)
          w.scales.push_back(0.01F + 0.003F * static_cast<float>(i)), w.zero_points.push_back(0);
        const auto wi = k.add(w);
        k.m.operators = {kind == 0   ? tflite_conv2d({x, wi, b}, y, 1, 0, 1)
                         : kind == 1 ? tflite_depthwise({x, wi, b}, y, 2, 1, 0, 1)
                                     : tflite_fully_connected({x, wi, b}, y, 1)};
        check(k, y, [&](std::vector<reals> v) {
          // What the reference kernels do to the activations of each image or row.
          const std::size_t batch = static_cast<std::size_t>(xs[0]), each = count_of(xs) / batch;
          auto& a = v[static_cast<std::size_t>(x)];
          const bool offset = kind == 1 || (kind == 0 && per_channel);
          for (std::size_t n = 0; n < batch; ++n) {
            double low = 0, high = 0;
            for (std::size_t i = 0; i < each; ++i)
              low = std::min(low, a[n * each + i]), high = std::max(high, a[n * each + i]);
            const double most = std::max(-low, high), step = offset ? (high - low) / 255 : most / 127;
            const double zero =
                offset
                    ? std::round(std::clamp(
                          128 - low / step < 127 + high / step ? -128 - low / step : 127 - high / step, -128.0, 127.0))
                    : 0;
            const auto inverse = offset ? 1.0F / static_cast<float>(step) : 127.0F / static_cast<float>(most);
            for (std::size_t i = 0; i < each; ++i) {
              const float scaled = static_cast<float>(a[n * each + i]) * inverse;  // rounded before the sum
              const float code = std::clamp(std::round(static_cast<float>(zero) + scaled), -128.0F, 127.0F);
              a[n * each + i] = (static_cast<double>(code) - zero) * step;
            }
          }
          if (kind != 2) return convolve(k, v, x, wi, b, y, 1, true, 1, 1, kind == 1 ? 2 : 0);
          reals r;
          for (std::size_t n = 0; n < 3; ++n)
            for (std::size_t o = 0; o < 7; ++o) {
              double sum = v[static_cast<std::size_t>(b)][o];
              for (std::size_t i = 0; i < 20; ++i) sum += a[n * 20 + i] * v[static_cast<std::size_t>(wi)][o * 20 + i];
              r.push_back(std::max(sum, 0.0));
            }
          return r;
        });
      }
}

TEST_CASE("Operations without windows compute what they mean", "[model]") {
  POLYMAC_RANDOM(random, 3);
  for (const std::int8_t type : types) {
    CAPTURE(static_cast<int>(type));
    const auto at = [](const std::vector<reals>& v, std::int32_t i) { return v[static_cast<std::size_t>(i)]; };
    SECTION("fully connected " + std::to_string(type)) {
      maker k{type, random};
      const auto x = k.input({2, 3, 8}), w = k.weights({5, 8}, 0), b = k.bias(5), y = k.activation({2, 3, 5}, 3.0F);
      k.m.operators = {tflite_fully_connected({x, w, b}, y, 1)};
      check(k, y, [&](const auto& v) {
        reals r;
        for (std::size_t n = 0; n < 6; ++n)
          for (std::size_t o = 0; o < 5; ++o) {
            const double unit = type == tflite_float32
                                    ? 1
                                    : static_cast<double>(k.m.tensors[static_cast<std::size_t>(x)].scales[0]) *
                                          static_cast<double>(k.m.tensors[static_cast<std::size_t>(w)].scales[o]);
            double sum = at(v, b)[o] * unit;
            for (std::size_t i = 0; i < 8; ++i) sum += at(v, x)[n * 8 + i] * at(v, w)[o * 8 + i];
            r.push_back(fuse(sum, 1));
          }
        return r;
      });
    }
    for (const std::int32_t code : {1, 17}) SECTION("pool " + std::to_string(code) + " " + std::to_string(type)) {
        maker k{type, random};
        const auto x = k.input({1, 5, 5, 3}), y = k.activation({1, 3, 3, 3});
        k.m.operators = {tflite_pool(code, x, y, 2, 2, 0)};
        check(k, y, [&](const auto& v) {
          reals r;
          for (std::size_t oy = 0; oy < 3; ++oy)
            for (std::size_t ox = 0; ox < 3; ++ox)
              for (std::size_t c = 0; c < 3; ++c) {
                double sum = 0, most = -1e9, n = 0;
                for (std::size_t iy = 2 * oy; iy < std::min<std::size_t>(5, 2 * oy + 2); ++iy)
                  for (std::size_t ix = 2 * ox; ix < std::min<std::size_t>(5, 2 * ox + 2); ++ix) {
                    const double e = at(v, x)[(iy * 5 + ix) * 3 + c];
                    sum += e, most = std::max(most, e), n += 1;
                  }
                r.push_back(code == 1 ? sum / n : most);
              }
          return r;
        });
      }
    for (const std::int32_t code : {0, 18})
      for (const bool fixed : {false, true})
        SECTION("add or multiply " + std::to_string(code) + std::to_string(fixed) + " " + std::to_string(type)) {
          maker k{type, random};
          const auto a = k.input({2, 3, 4}), b = fixed ? k.constant({4}) : k.input({2, 1, 4}, 1.5F);
          const auto y = k.activation({2, 3, 4}, 4.0F);
          std::vector<tflite_option> options{{4, std::int8_t{1}}};
          if (code == 0) options.push_back({6, false});
          k.m.operators = {{code, {a, b}, {y}, static_cast<std::uint8_t>(code == 0 ? 11 : 21), options}};
          check(k, y, [&](const auto& v) {
            reals r;
            for (std::size_t i = 0; i < 24; ++i) {
              const double p = at(v, a)[i], q = at(v, b)[fixed ? i % 4 : i / 12 * 4 + i % 4];
              r.push_back(fuse(code == 0 ? p + q : p * q, 1));
            }
            return r;
          });
        }
    SECTION("softmax " + std::to_string(type)) {
      maker k{type, random};
      const auto x = k.input({3, 5}), y = k.activation({3, 5});
      auto& out = k.m.tensors[static_cast<std::size_t>(y)];
      if (type == tflite_int8) out.scales = {1.0F / 256}, out.zero_points = {-128};
      if (type == tflite_int16) out.scales = {1.0F / 32768};
      k.m.operators = {tflite_softmax(x, y, 0.5F)};
      check(
          k, y,
          [&](const auto& v) {
            reals r;
            for (std::size_t n = 0; n < 3; ++n) {
              double sum = 0;
              for (std::size_t c = 0; c < 5; ++c) sum += std::exp(0.5 * at(v, x)[n * 5 + c]);
              for (std::size_t c = 0; c < 5; ++c) r.push_back(std::exp(0.5 * at(v, x)[n * 5 + c]) / sum);
            }
            return r;
          },
          type == tflite_int16 ? 4 : 1);
    }
    SECTION("pad " + std::to_string(type)) {
      maker k{type, random};
      const auto x = k.input({2, 3, 2}), p = k.integers({0, 1, 1, 0, 2, 1}, {3, 2}), y = k.activation({3, 4, 5});
      k.m.operators = {{34, {x, p}, {y}, 22, {}}};
      check(k, y, [&](const auto& v) {
        reals r(60, 0.0);
        for (std::size_t i = 0; i < 12; ++i) r[i / 6 * 20 + (i / 2 % 3 + 1) * 5 + i % 2 + 2] = at(v, x)[i];
        return r;
      });
    }
    SECTION("mean " + std::to_string(type)) {
      maker k{type, random};
      const auto x = k.input({2, 3, 4}), axes = k.integers({1}, {1}), y = k.activation({2, 4}, 0.5F);
      k.m.operators = {{40, {x, axes}, {y}, 27, {{4, false}}}};
      check(k, y, [&](const auto& v) {
        reals r;
        for (std::size_t i = 0; i < 8; ++i) {
          const std::size_t first = i / 4 * 12 + i % 4;
          r.push_back((at(v, x)[first] + at(v, x)[first + 4] + at(v, x)[first + 8]) / 3);
        }
        return r;
      });
    }
    SECTION("concatenate " + std::to_string(type)) {
      maker k{type, random};
      const auto a = k.input({2, 3}), b = k.input({2, 2}), y = k.activation({2, 5});
      k.m.operators = {{2, {a, b}, {y}, 10, {{4, std::int32_t{-1}}, {6, std::int8_t{0}}}}};
      check(k, y, [&](const auto& v) {
        reals r;
        for (std::size_t i = 0; i < 10; ++i)
          r.push_back(i % 5 < 3 ? at(v, a)[i / 5 * 3 + i % 5] : at(v, b)[i / 5 * 2 + i % 5 - 3]);
        return r;
      });
    }
    for (const std::int32_t code : {19, 20, 21})
      SECTION("activation " + std::to_string(code) + " " + std::to_string(type)) {
        maker k{type, random};
        const auto x = k.input({40}, 2.0F), y = k.activation({40});
        k.m.operators = {{code, {x}, {y}, 0, {}}};
        check(k, y, [&](const auto& v) {
          reals r;
          for (const double e : at(v, x)) r.push_back(fuse(e, code == 19 ? 1 : code == 20 ? 2 : 3));
          return r;
        });
      }
    if (type != tflite_float32)
      for (const bool to_codes : {true, false})
        SECTION("quantize or dequantize " + std::to_string(to_codes) + std::to_string(type)) {
          maker k{type, random};
          tflite_tensor real{"r", tflite_float32, {30}, {}, {}, {}};
          const auto x = to_codes ? k.add(real) : k.activation({30});
          const auto y = to_codes ? k.activation({30}) : k.add(real);
          k.m.inputs = {x};
          k.m.operators = {{to_codes ? 114 : 6, {x}, {y}, 0, {}}};
          check(k, y, [&](const auto& v) { return at(v, x); });
        }
  }
}

TEST_CASE("Reshapes cost no memory inside and copy at the border", "[model]") {
  POLYMAC_RANDOM(random, 4);
  maker k{tflite_float32, random};
  const auto x = k.input({2, 6}), c = k.constant({3, 4}), flat = k.activation({12}), square = k.activation({3, 4});
  const auto moved = k.activation({12}), sum = k.activation({12}), y = k.activation({4, 3});
  k.m.operators = {{22, {x}, {flat}, 0, {}},
                   {22, {flat}, {square}, 0, {}},
                   {22, {c}, {moved}, 0, {}},
                   {0, {flat, moved}, {sum}, 11, {{4, std::int8_t{0}}}},
                   {22, {sum}, {y}, 0, {}}};
  check(k, y, [&](const auto& v) {
    reals r;
    for (std::size_t i = 0; i < 12; ++i)
      r.push_back(v[static_cast<std::size_t>(x)][i] + v[static_cast<std::size_t>(c)][i]);
    return r;
  });
}

TEST_CASE("Convolutions of one tap need no copy of their image", "[model]") {
  POLYMAC_RANDOM(random, 6);
  maker k{tflite_int8, random};
  const shape image{1, 24, 24, 64};
  auto x = k.input(image);
  for (int i = 0; i < 3; ++i) {
    const auto w = k.weights({64, 1, 1, 64}, 0), b = k.bias(64), y = k.activation(image, 3.0F);
    k.m.operators.push_back(tflite_conv2d({x, w, b}, y, 1, 1, 0, 1));
    x = y;
  }
  k.m.outputs = {x};
  const auto file = write_tflite(k.m);
  const auto net = example::build_network(*example::read_graph(file));
  REQUIRE(net.ok());
  const std::vector<std::int8_t> w(64 * 64);
  const auto layer =
      polymac::conv2d<polymac::mac::int8>({}, polymac::image_view(w.data(), 64, 1, 1, 64), std::vector<std::int32_t>{});
  const std::size_t workspace = (layer.workspace_bytes() + 63) / 64 * 64;
  CHECK(net->arena_bytes() == 2 * count_of(image) + workspace);
  CHECK(workspace < count_of(image));
}

TEST_CASE("An inner tensor can be an output, too", "[model]") {
  POLYMAC_RANDOM(random, 5);
  const auto file = write_tflite(tflite_residual_model());
  const bytes x = raw_bytes(uniform<std::int8_t>(random, 32));
  const auto plain = run_file(file, {x});
  const auto both = run_file(file, {x}, {3});
  REQUIRE(both.size() == 2);
  REQUIRE(both[0] == plain[0]);
  const auto conv = decode(tflite_residual_model().tensors[3], both[1]),
             y = decode(tflite_residual_model().tensors[4], both[0]);
  const auto in = decode(tflite_residual_model().tensors[0], x);
  for (std::size_t i = 0; i < y.size(); ++i)
    REQUIRE(std::fabs(y[i] - std::clamp(conv[i] + in[i], -254.0, 256.0)) <= 1.0 + 1e-6);  // half a step of 2
}

TEST_CASE("Memory that does not fit is refused and outputs stay as they are", "[model]") {
  const auto file = write_tflite(tflite_float_model());
  const auto g = example::read_graph(file);
  const auto built = example::build_network(*g);
  INFO(built.status().text());
  REQUIRE(built.ok());
  const model::network& net = *built;
  alignas(64) std::byte x[33 * 4]{};
  alignas(64) std::byte y[8 * 4];
  std::fill(std::begin(y), std::end(y), std::byte{0x77});
  bytes arena(net.arena_bytes() + 64);
  const auto aligned = (64 - reinterpret_cast<std::uintptr_t>(arena.data()) % 64) % 64;
  const auto run = [&](std::size_t at, std::size_t size, std::size_t out_at, std::size_t out_size,
                       polymac::workspace w) {
    return net.run(std::span<const std::byte>(x + at, size), std::span<std::byte>(y + out_at, out_size), w);
  };
  const polymac::workspace enough(arena.data() + aligned, net.arena_bytes());
  const std::size_t in = 32 * 4, out = 4 * 4;
  struct refusal {
    polymac::status s;
    polymac::errc code;
    const char* words;
  };
  const std::span<const std::byte> two[] = {{x, in}, {x, in}};
  const std::span<std::byte> one[] = {{y, out}};
  for (const refusal& r : {
           refusal{run(0, in - 4, 0, out, enough), polymac::errc::short_buffer,
                   "expected 128 bytes for input 0 (float32 [1, 4, 4, 2]), got 124"},
           refusal{run(0, in, 0, out + 4, enough), polymac::errc::short_buffer,
                   "for output 0 (float32 [2, 2]), got 20"},
           refusal{run(1, in, 0, out, enough), polymac::errc::parameter, "expected input 0 on a multiple of 4 bytes"},
           refusal{run(0, in, 2, out, enough), polymac::errc::parameter, "expected output 0 on a multiple of 4 bytes"},
           refusal{run(0, in, 0, out, {enough.data, enough.size - 1}), polymac::errc::short_buffer,
                   "expected an arena of "},
           refusal{run(0, in, 0, out, {enough.data + 1, enough.size}), polymac::errc::short_buffer,
                   "63 before the first multiple"},
           refusal{run(0, in, 0, out, {}), polymac::errc::short_buffer, "got 0 bytes"},
           refusal{net.run(two, one, enough), polymac::errc::shape, "expected 1 inputs, got 2"},
       }) {
    INFO(r.s.text());
    CHECK(r.s.code() == r.code);
    CHECK(r.s.text().find(r.words) != std::string_view::npos);
  }
  CHECK(std::count(std::begin(y), std::end(y), std::byte{0x77}) == 32);
  CHECK(run(0, in, 0, out, enough).ok());
  CHECK(std::count(std::begin(y), std::end(y), std::byte{0x77}) == 16);
}

TEST_CASE("What a layer refuses names the operation", "[model]") {
  tflite_model m = tflite_residual_model();
  m.tensors[1].scales = {1e30F, 1e30F};
  m.tensors[3].scales = {1e-30F};
  const auto file = write_tflite(m);
  const auto g = example::read_graph(file);
  REQUIRE(g.ok());
  const auto built = example::build_network(*g);
  REQUIRE(!built.ok());
  INFO(built.status().text());
  CHECK(built.status().text().substr(0, 22) == "operation 0 (conv2d): ");
}

// ---- pinned results of LiteRT 2.3's reference kernels (OpResolverType.BUILTIN_REF) ----------------------------------

namespace {

/// One int16 contraction with weights 24 x 3, all of whose sums are requantised by the same factor.
std::vector<std::int16_t> int16_contraction(std::int32_t code, std::int8_t bias_type) {
  constexpr std::int32_t columns = 24;
  std::vector<std::int8_t> w;
  std::vector<std::int64_t> wide;
  for (std::int32_t i = 0; i < columns * 3; ++i) w.push_back(static_cast<std::int8_t>((i * 37 + 11) % 255 - 127));
  for (std::int32_t i = 0; i < columns; ++i) wide.push_back(i * 7919 - 95000);
  std::vector<std::int16_t> x{12345, -6789, 32001};
  const bool depthwise = code == 4;
  if (depthwise) {  // a pixel for each k
    std::vector<std::int8_t> turned;
    std::vector<std::int16_t> repeated;
    for (std::size_t k = 0; k < 3; ++k)
      for (std::size_t c = 0; c < columns; ++c) turned.push_back(w[3 * c + k]), repeated.push_back(x[k]);
    w = turned, x = repeated;
  }
  const shape xs = depthwise ? shape{1, 1, 3, columns} : code == 9 ? shape{1, 3} : shape{1, 1, 1, 3};
  const shape ws = depthwise ? shape{1, 1, 3, columns} : code == 9 ? shape{columns, 3} : shape{columns, 1, 1, 3};
  const shape ys = code == 9 ? shape{1, columns} : shape{1, 1, 1, columns};
  tflite_model m;
  m.tensors = {{"x", tflite_int16, xs, {0.011F}, {0}, {}},
               {"w", tflite_int8, ws, {0.5F}, {0}, raw_bytes(w)},
               {"y", tflite_int16, ys, {1.64945F}, {0}, {}}};
  std::vector<std::int32_t> inputs{0, 1};
  if (bias_type == tflite_int32)
    m.tensors.push_back(
        {"b", bias_type, {columns}, {0.0055F}, {0}, raw_bytes(std::vector<std::int32_t>(wide.begin(), wide.end()))});
  else if (bias_type == tflite_int64)
    m.tensors.push_back({"b", bias_type, {columns}, {0.0055F}, {0}, raw_bytes(wide)});
  if (m.tensors.size() == 4) inputs.push_back(3);
  m.operators = {depthwise   ? tflite_depthwise(inputs, 2, 1, 1, 1)
                 : code == 9 ? tflite_fully_connected(inputs, 2)
                             : tflite_conv2d(inputs, 2, 1, 1)};
  m.inputs = {0};
  m.outputs = {2};
  const auto y = run_file(write_tflite(m), {raw_bytes(x)})[0];
  std::vector<std::int16_t> codes(columns);
  std::memcpy(codes.data(), y.data(), y.size());
  return codes;
}

/// One operation on rows of int16 codes.
std::vector<std::int16_t> int16_rows(const tflite_operator& op, const std::vector<std::vector<std::int16_t>>& rows,
                                     const std::vector<float>& scales) {
  tflite_model m;
  std::vector<bytes> inputs;
  const shape s{1, static_cast<std::int32_t>(rows[0].size())};
  for (std::size_t i = 0; i < scales.size(); ++i) m.tensors.push_back({"t", tflite_int16, s, {scales[i]}, {0}, {}});
  for (std::size_t i = 0; i < rows.size(); ++i) {
    m.inputs.push_back(static_cast<std::int32_t>(i));
    inputs.push_back(raw_bytes(rows[i]));
  }
  m.operators = {op};
  m.outputs = op.outputs;
  const auto y = run_file(write_tflite(m), inputs)[0];
  std::vector<std::int16_t> codes(rows[0].size());
  std::memcpy(codes.data(), y.data(), y.size());
  return codes;
}

using codes = std::vector<std::int16_t>;

}  // namespace

TEST_CASE("int16 sums are rounded as their operator and bias ask for", "[model][litert]") {
  const codes once{-7785, 6142,  -1368, 2062, -11221, -2018, 11910, -6097, 7830,   319,   3750,  -9533,
                   -330,  13597, -4410, 9517, -8490,  5437,  -2073, 1358,  -11925, -2722, 11205, -6802};
  codes twice = once, reduced = once;
  twice[9] = 320, twice[17] = 5438;
  reduced[4] = -11220, reduced[6] = 11909;
  CHECK(int16_contraction(9, tflite_int64) == once);
  CHECK(int16_contraction(9, tflite_int32) == once);
  CHECK(int16_contraction(3, tflite_int64) == reduced);
  CHECK(int16_contraction(3, tflite_int32) == twice);
  CHECK(int16_contraction(4, tflite_int64) == reduced);
  const codes bare{-7468, 6432,  -1104, 2300, -11009, -1833, 12068, -5965, 7935,   399,   3803,  -9507,
                   -330,  13571, -4463, 9438, -8595,  5305,  -2231, 1173,  -12136, -2960, 10941, -7093};
  codes reduced_bare = bare;
  reduced_bare[11] = -9506, reduced_bare[23] = -7092;
  CHECK(int16_contraction(9, tflite_float32) == bare);  // no bias
  CHECK(int16_contraction(4, tflite_float32) == reduced_bare);
}

TEST_CASE("int16 sums of power-of-two scales shift, then add", "[model][litert]") {
  const codes a{-32768, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 32767, 20000};
  const codes b{-30000, 1, -1, 1, -1, 1, 0, -1, 1, -1, 1, -1, 1, -1, 32000, -7};
  const std::vector<float> scales{0x1p-13F, 0x1p-11F, 0x1p-11F};
  const codes shifted{-32768, 0, -2, 0, -2, 1, 0, -1, 2, 0, 2, 0, 3, 1, 32767, 4993};
  codes positive = shifted;
  for (auto& c : positive) c = std::max<std::int16_t>(c, 0);
  CHECK(int16_rows({0, {0, 1}, {2}, 11, {}}, {a, b}, scales) == shifted);
  CHECK(int16_rows({0, {0, 1}, {2}, 11, {{4, std::int8_t{1}}}}, {a, b}, scales) == positive);
  const std::vector<float> turned{0x1p-11F, 0x1p-13F, 0x1p-11F};
  CHECK(int16_rows({0, {0, 1}, {2}, 11, {}}, {b, a}, turned) == shifted);
}

TEST_CASE("int16 relu and softmax form their factors in float", "[model][litert]") {
  const codes x{435, 2465, 4495, 6525, 8555, 10585, -100, 100};
  CHECK(int16_rows({19, {0}, {1}, 0, {}}, {x}, {0.0010959F, 0.000377F}) ==
        codes{1265, 7166, 13067, 18968, 24869, 30770, 0, 291});
  const codes logits{833,   -1158, 10003, 4413, -6924, 2888,  1768, -11403, -3212,
                     11075, 1078,  1043,  5470, -7624, -4750, 6645, -1537};
  CHECK(int16_rows(tflite_softmax(0, 1, 0.1F), {logits}, {0.0036259072F, 0x1p-15F}) ==
        codes{348, 169, 9677, 1275, 21, 733, 489, 4, 80, 14273, 380, 376, 1870, 16, 46, 2864, 148});
}

TEST_CASE("Convolutions with a scale per channel quantise float activations with a zero point", "[model][litert]") {
  // The values lie between 0 and 10, so that a symmetric code would waste half of its range.
  const std::vector<float> x{0.1F, 3.7F, 9.9F, 0.4F, 5.55F, 1.23F, 2.0F, 7.3F, 0.0F, 6.6F, 4.21F, 8.08F};
  const std::vector<std::int8_t> w{100, -27, 3, 77, -128, 64, 90, 5, -60, 33, 127, -1, 44, -99, 8, 120};
  const std::vector<float> bias{0.5F, -2.0F};
  tflite_model m;
  m.tensors = {{"x", tflite_float32, {1, 2, 3, 2}, {}, {}, raw_bytes(x)},
               {"w", tflite_int8, {2, 2, 2, 2}, {0.01F, 0.025F}, {0, 0}, raw_bytes(w)},
               {"b", tflite_float32, {2}, {}, {}, raw_bytes(bias)},
               {"y", tflite_float32, {1, 2, 3, 2}, {}, {}, {}}};
  m.tensors[0].data.clear();
  m.operators = {tflite_conv2d({0, 1, 2}, 3)};
  m.inputs = {0};
  m.outputs = {3};
  const auto run = [&] {
    const auto y = run_file(write_tflite(m), {raw_bytes(x)})[0];
    std::vector<float> values(y.size() / sizeof(float));
    std::memcpy(values.data(), y.data(), y.size());
    return values;
  };
  const auto near = [](const std::vector<float>& a, const std::vector<float>& b) {
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::fabs(a[i] - b[i]) <= 1e-5F);
  };
  near(run(), {2.633741F, 36.246998F, 19.819750F, 9.795558F, 5.517552F, -24.676823F, 5.630141F, 0.828294F, 5.061764F,
               16.555704F, 2.512612F, -1.627294F});
  // Depthwise, multiplier 1: the same weights and scales on two channels.
  m.tensors[1] = {"w", tflite_int8, {1, 4, 2, 2}, {0.01F, 0.025F}, {0, 0}, raw_bytes(w), 3};
  m.operators = {tflite_depthwise({0, 1, 2}, 3, 1)};
  near(run(), {8.049623F, 9.806234F, -1.850376F, 4.019588F, -9.122023F, 6.649882F, -1.670623F, 8.760911F, 14.340199F,
               11.698881F, 0.684800F, 10.081882F});
}
