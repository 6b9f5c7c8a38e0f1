// SPDX-License-Identifier: MIT
// Rotary embedding against its definition in double, its properties, scalings, layouts, mistakes. Goldens:
// onnx_node_test.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/compare.hpp"
#include "support/complaint.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/layer/rope.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

using namespace polymac_test;
using polymac::heads_view;
using polymac::layer::rope;
using polymac::layer::rope_options;
using polymac::layer::rope_pairs;
using polymac::layer::rope_scaling;
using polymac::layer::yarn_ramp;

namespace {

std::vector<float> rotated(const rope& r, const std::vector<float>& x, std::size_t position) {
  std::vector<float> y(x.size());
  r.rotate(position, x.data(), y.data());
  return y;
}
double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}
/// The angle of pair i at position 1: where (1, 0) of that pair goes. Below pi.
double angle_of(const rope& r, std::size_t i) {
  std::vector<float> x(r.size());
  x[2 * i] = 1;
  const auto y = rotated(r, x, 1);
  return std::atan2(static_cast<double>(y[2 * i + 1]), static_cast<double>(y[2 * i]));
}
double length_of(const rope& r, std::size_t i) {
  std::vector<float> x(r.size());
  x[2 * i] = 1;
  const auto y = rotated(r, x, 1);
  return std::sqrt(dot(y, y));
}

}  // namespace

TEST_CASE("rotations follow the definition") {
  POLYMAC_RANDOM(random, 1);
  for (const rope_pairs pairs : {rope_pairs::adjacent, rope_pairs::halves})
    for (const std::size_t size : {2u, 6u, 8u, 16u, 20u, 64u, 90u, 128u})
      for (const std::size_t rotary : {size, size / 4 * 2}) {
        if (rotary == 0) continue;
        CAPTURE(size, rotary, pairs == rope_pairs::halves);
        rope_options options;
        options.pairs = pairs;
        options.rotary = rotary;
        const rope r(size, 70, options);
        const auto x = uniform<float>(random, size);
        for (const std::size_t m : {0u, 1u, 13u, 69u}) {
          std::vector<double> expected(x.begin(), x.end());
          for (std::size_t i = 0; i < rotary / 2; ++i) {
            const std::size_t a = pairs == rope_pairs::adjacent ? 2 * i : i;
            const std::size_t b = pairs == rope_pairs::adjacent ? 2 * i + 1 : i + rotary / 2;
            const double angle =
                static_cast<double>(m) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(rotary));
            const double u = static_cast<double>(x[a]), v = static_cast<double>(x[b]);
            expected[a] = u * std::cos(angle) - v * std::sin(angle);
            expected[b] = u * std::sin(angle) + v * std::cos(angle);
          }
          CHECK(difference(expected, rotated(r, x, m), 0, 3e-7) == "");
        }
      }
}

TEST_CASE("products of rotated vectors depend on the distance of their positions, and norms stay") {
  POLYMAC_RANDOM(random, 2);
  const auto q = uniform<float>(random, 64), k = uniform<float>(random, 64);
  for (const rope_pairs pairs : {rope_pairs::adjacent, rope_pairs::halves}) {
    rope_options options;
    options.pairs = pairs;
    const rope r(64, 2048, options);
    for (const std::size_t distance : {0u, 1u, 17u, 500u}) {
      const double near = dot(rotated(r, q, distance), rotated(r, k, 0));
      for (const std::size_t m : {1u, 100u, 1500u})
        CHECK(std::abs(dot(rotated(r, q, m + distance), rotated(r, k, m)) - near) < 2e-5);
    }
    CHECK(std::abs(dot(rotated(r, q, 2047), rotated(r, q, 2047)) / dot(q, q) - 1) < 1e-6);
    // And they do depend on it.
    CHECK(std::abs(dot(rotated(r, q, 3), rotated(r, k, 0)) - dot(q, k)) > 1e-3);
  }
}

TEST_CASE("halves are a permutation of adjacent pairs") {
  POLYMAC_RANDOM(random, 3);
  const std::size_t size = 24, rotary = 20;
  rope_options options;
  options.rotary = rotary;
  const rope adjacent(size, 40, options);
  options.pairs = rope_pairs::halves;
  const rope halves(size, 40, options);
  const auto x = uniform<float>(random, size);
  const auto permuted = [&](const std::vector<float>& v) {
    auto p = v;
    for (std::size_t i = 0; i < rotary / 2; ++i) p[i] = v[2 * i], p[i + rotary / 2] = v[2 * i + 1];
    return p;
  };
  CHECK(difference(permuted(rotated(adjacent, x, 37)), rotated(halves, permuted(x), 37), 0, 1e-7) == "");
}

TEST_CASE("scalings") {
  const std::size_t size = 128;
  rope_options options;
  options.factor = 4;
  const rope plain(size, 2);

  options.scaling = rope_scaling::linear;
  const rope linear(size, 5, options);
  POLYMAC_RANDOM(random, 4);
  const auto x = uniform<float>(random, size);
  CHECK(difference(rotated(plain, x, 1), rotated(linear, x, 4), 0, 1e-7) == "");

  options.scaling = rope_scaling::ntk;
  const rope ntk(size, 2, options);
  CHECK(angle_of(ntk, 0) == Approx(1.0).epsilon(1e-6));
  CHECK(angle_of(ntk, 63) == Approx(angle_of(plain, 63) / 4).epsilon(1e-5));
  CHECK(angle_of(ntk, 30) < angle_of(plain, 30));

  // YaRN as for Llama 2 with 4096 positions: 32 and 1 turns lie at pairs 20.9 and 45.0 (128 ln(4096 / (2 pi turns)) /
  // (2 ln 10000)).
  options.scaling = rope_scaling::yarn;
  options.trained_positions = 4096;
  for (const yarn_ramp ramp : {yarn_ramp::rotations, yarn_ramp::dimensions}) {
    CAPTURE(ramp == yarn_ramp::dimensions);
    options.ramp = ramp;
    const rope yarn(size, 2, options);
    for (const std::size_t i : {0u, 10u, 20u}) CHECK(angle_of(yarn, i) == Approx(angle_of(plain, i)).epsilon(1e-6));
    for (const std::size_t i : {46u, 63u}) CHECK(angle_of(yarn, i) == Approx(angle_of(plain, i) / 4).epsilon(1e-5));
    const double theta = std::pow(10000.0, -60.0 / 128.0), turns = 4096.0 * theta / 6.283185307179586;
    const double kept = ramp == yarn_ramp::rotations ? (turns - 1.0) / 31.0 : 1.0 - (30.0 - 20.0) / (46.0 - 20.0);
    CHECK(angle_of(yarn, 30) == Approx(theta * (kept + (1.0 - kept) / 4.0)).epsilon(1e-5));
    for (const std::size_t i : {0u, 30u, 63u})
      CHECK(length_of(yarn, i) == Approx(0.1 * std::log(4.0) + 1.0).epsilon(1e-6));
  }
  options.attention_factor = 1.5;
  CHECK(length_of(rope(size, 2, options), 7) == Approx(1.5).epsilon(1e-6));
}

TEST_CASE("all heads of all tokens, in both layouts, in place, between guards") {
  POLYMAC_RANDOM(random, 5);
  const std::size_t batch = 2, tokens = 3, heads = 2, size = 22;
  rope_options options;
  options.pairs = rope_pairs::halves;
  options.rotary = 18;
  const rope r(size, 12, options);
  const auto x = uniform<float>(random, batch * tokens * heads * size);
  const std::vector<std::size_t> positions = {0, 5, 11, 2, 2, 7};
  for (const bool by_head : {false, true})
    for (const placement where : both_placements) {
      CAPTURE(by_head, where == placement::before_guard);
      const auto view = [&](auto* data) {
        using view_type = heads_view<std::remove_pointer_t<decltype(data)>>;
        return by_head ? view_type::by_head(data, batch, tokens, heads, size)
                       : view_type::by_token(data, batch, tokens, heads, size);
      };
      guarded_buffer<float> input(x, where);
      guarded_buffer<float> output(x.size(), where), own(x.size(), where);
      {
        const no_allocation trap;
        CHECK(r(view(static_cast<const float*>(input.data())), 9, view(output.data())).text() == "");
        CHECK(r(view(static_cast<const float*>(input.data())), positions, view(own.data())).text() == "");
      }
      CHECK(output.slack_untouched());
      bool same = true;
      for (std::size_t b = 0; b < batch; ++b)
        for (std::size_t t = 0; t < tokens; ++t)
          for (std::size_t h = 0; h < heads; ++h) {
            const float* const from = view(x.data()).at(b, t, h);
            const std::vector<float> one(from, from + size);
            const float* const got = view(output.data()).at(b, t, h);
            const float* const got_own = view(own.data()).at(b, t, h);
            same = same && rotated(r, one, 9 + t) == std::vector<float>(got, got + size) &&
                   rotated(r, one, positions[b * tokens + t]) == std::vector<float>(got_own, got_own + size);
          }
      CHECK(same);
      CHECK(r(view(static_cast<const float*>(input.data())), 9, view(input.data())).text() == "");
      CHECK(difference(output.values(), input.values()) == "");
    }
  // One list of positions for all sequences.
  std::vector<float> y(x.size()), z(x.size());
  const auto in = heads_view<const float>::by_token(x.data(), batch, tokens, heads, size);
  const std::vector<std::size_t> same_for_all = {9, 10, 11};
  CHECK(r(in, same_for_all, heads_view<float>::by_token(y.data(), batch, tokens, heads, size)).ok());
  CHECK(r(in, 9, heads_view<float>::by_token(z.data(), batch, tokens, heads, size)).ok());
  CHECK(y == z);
}

TEST_CASE("rope says what is wrong") {
  const rope r(8, 4);
  std::vector<float> x(8 * 6, 1.0f), y(8 * 6, 7.0f);
  const auto view = [&](auto* data, std::size_t tokens, std::size_t size) {
    return heads_view<std::remove_pointer_t<decltype(data)>>::by_token(data, 1, tokens, 1, size);
  };
  const auto untouched = [&] { return std::all_of(y.begin(), y.end(), [](float v) { return v == 7.0f; }); };
  const float* const in = x.data();
  CHECK(r(view(in, 3, 8), 2, view(y.data(), 3, 8)).text() == "rope: expected positions below 4, got 3 from 2 on");
  CHECK(r(view(in, 1, 8), std::numeric_limits<std::size_t>::max(), view(y.data(), 1, 8)).code() ==
        polymac::errc::parameter);
  CHECK(r(view(in, 2, 8), std::vector<std::size_t>{1, 4}, view(y.data(), 2, 8)).text() ==
        "rope: expected positions below 4, got 4 for token 1");
  CHECK(r(view(in, 2, 8), std::vector<std::size_t>{1}, view(y.data(), 2, 8)).code() == polymac::errc::shape);
  CHECK(r(view(in, 2, 8), 0, view(y.data(), 3, 8)).code() == polymac::errc::shape);
  CHECK(r(view(in, 2, 6), 0, view(y.data(), 2, 6)).text() ==
        "rope: expected x and y of batch x tokens x heads x 8, got 1 x 2 x 1 x 6 and 1 x 2 x 1 x 6");
  CHECK(r(view(in, 2, 8), 0, view(static_cast<float*>(nullptr), 2, 8)).text() == "rope: the view y has no data");
  CHECK(untouched());
  r.rotate(4, in, y.data());  // cannot say anything else
  CHECK(std::all_of(y.begin(), y.begin() + 8, [](float v) { return std::isnan(v); }));

  const auto refuses = [](std::size_t size, std::size_t positions, auto change) {
    rope_options o;
    change(o);
    return complaint([&] { rope(size, positions, o); });
  };
  const auto none = [](rope_options&) {};
  CHECK(refuses(7, 4, none) == "rope: expected an even number of rotary dimensions in [2, 7], got 7");
  CHECK(refuses(8, 4, [](rope_options& o) { o.rotary = 10; }) ==
        "rope: expected an even number of rotary dimensions in [2, 8], got 10");
  CHECK(refuses(0, 4, none) != "");
  CHECK(refuses(8, 0, none) != "");
  CHECK(refuses(8, std::numeric_limits<std::size_t>::max() / 4, none) != "");
  CHECK(refuses(8, 4, [](rope_options& o) { o.base = 1; }) == "rope: expected a finite base above 1");
  CHECK(refuses(8, 4, [](rope_options& o) { o.factor = 2; }).find("a kind of scaling") != std::string::npos);
  CHECK(refuses(8, 4, [](rope_options& o) {
          o.scaling = rope_scaling::linear, o.factor = 0.5;
        }).find("a finite scaling factor of at least 1") != std::string::npos);
  CHECK(refuses(2, 4, [](rope_options& o) { o.scaling = rope_scaling::ntk, o.factor = 2; }) != "");
  CHECK(refuses(8, 4, [](rope_options& o) {
          o.scaling = rope_scaling::yarn, o.factor = 2;
        }).find("trained_positions") != std::string::npos);
  CHECK(refuses(8, 4, [](rope_options& o) {
          o.scaling = rope_scaling::yarn, o.factor = 2, o.trained_positions = 9, o.fast_turns = 1;
        }).find("slow_turns < fast_turns") != std::string::npos);
  const std::vector<float> table(12);
  const polymac::matrix_view<const float> three(table.data(), 3, 3), four(table.data(), 3, 4);
  CHECK(complaint([&] { rope(8, three, four); }).find("got 3 x 3 and 3 x 4") != std::string::npos);
  CHECK(complaint([&] { rope(6, four, four); }) != "");
}
