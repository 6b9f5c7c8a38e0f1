// SPDX-License-Identifier: MIT
// Neurons that leak, integrate and fire: sequences worked out by hand, and a layer of spikes over time.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/epilogue/leaky_integrate_fire.hpp>
#include <polymac/isa/arithmetic_atoms.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/mac/spike.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/test_code.hpp"

using polymac::bit_word;
using polymac::errc;
using polymac::matrix_view;
using polymac::epilogue::leaky_integrate_fire;
using polymac::epilogue::membrane_reset;
using polymac::epilogue::membranes;
using polymac::epilogue::neuron;
using polymac::mac::spike;

namespace {

/// The spikes and the potentials that a neuron makes of its sums.
struct trace {
  std::vector<int> spikes;
  std::vector<float> potentials;
};
template <class Sum>
trace run(const neuron& n, const std::vector<Sum>& sums) {
  membranes state(1, 1);
  const auto stage = leaky_integrate_fire(state, n);
  REQUIRE(stage.check(1).ok());
  trace t;
  for (const Sum s : sums) {
    t.spikes.push_back(stage(s, 0, 0));
    t.potentials.push_back(state(0, 0));
  }
  return t;
}
using spikes = std::vector<int>;
using potentials = std::vector<float>;

}  // namespace

TEST_CASE("A neuron's potential and spikes, by hand", "[spike]") {
  const std::vector<int> sums = {3, 3, 3, 0, 20, -8, 0, 12};
  // 3, 1.5 + 3, 2.25 + 3, 2.625, 1.3125 + 20 fires and keeps 11.3125; 5.65625 - 8 = -2.34375, halved, and so on
  const auto kept = run({.decay = 0.5F, .threshold = 10.0F}, sums);
  REQUIRE(kept.spikes == spikes{0, 0, 0, 0, 1, 0, 0, 1});
  REQUIRE(kept.potentials == potentials{3, 4.5F, 5.25F, 2.625F, 11.3125F, -2.34375F, -1.171875F, 1.4140625F});
  const auto zeroed = run({.decay = 0.5F, .threshold = 10.0F, .reset = membrane_reset::to_zero}, sums);
  REQUIRE(zeroed.spikes == spikes{0, 0, 0, 0, 1, 0, 0, 1});
  REQUIRE(zeroed.potentials == potentials{3, 4.5F, 5.25F, 2.625F, 0, -8, -4, 0});
}

TEST_CASE("After a spike a neuron is deaf for its refractory steps, and leaks on", "[spike]") {
  const auto t = run({.decay = 0.5F, .threshold = 10.0F, .refractory = 2}, std::vector<int>{12, 12, 12, 12, 12});
  REQUIRE(t.spikes == spikes{1, 0, 0, 1, 0});
  REQUIRE(t.potentials == potentials{2, 1, 0.5F, 2.25F, 1.125F});
}

TEST_CASE("Without a leak a neuron counts; the threshold itself fires; float sums do, too", "[spike]") {
  const auto t = run({.gain = 0.25F}, std::vector<float>{2, 1, 1, 4, 0, -4, 8});
  REQUIRE(t.spikes == spikes{0, 0, 1, 1, 0, 0, 1});
  REQUIRE(t.potentials == potentials{0.5F, 0.75F, 0, 0, 0, -1, 0});
}

TEST_CASE("The state outlives moves of its owner, and goes back to rest", "[spike]") {
  membranes state(2, 3);
  REQUIRE((state.rows() == 2 && state.columns() == 3));
  const auto stage = leaky_integrate_fire(state, {.threshold = 10.0F, .refractory = 1});
  REQUIRE(stage(4, 1, 2) == 0);
  REQUIRE(stage(11, 0, 1) == 1);
  membranes moved = std::move(state);
  REQUIRE((moved(1, 2) == 4.0F && moved(0, 1) == 1.0F && moved(0, 0) == 0.0F));
  REQUIRE(stage(7, 1, 2) == 1);   // 4 + 7
  REQUIRE(stage(50, 0, 1) == 0);  // deaf
  REQUIRE(stage(50, 2, 0) == 0);  // no such row
  membranes copy = moved;
  moved.reset();
  REQUIRE((moved(1, 2) == 0.0F && copy(1, 2) == 1.0F));
  REQUIRE(stage(50, 1, 2) == 1);  // no longer refractory
}

TEST_CASE("Neurons that cannot be are refused", "[spike]") {
  membranes state(1, 4);
  const auto words = [&](const neuron& n, std::size_t columns = 4) {
    return std::string(leaky_integrate_fire(state, n).check(columns).text());
  };
  constexpr float nan_value = std::numeric_limits<float>::quiet_NaN(),
                  infinity = std::numeric_limits<float>::infinity();
  REQUIRE(words({}).empty());
  REQUIRE(words({}, 5) == "leaky_integrate_fire: expected the state of 5 columns, got 4");
  for (const float decay : {-0.1F, 1.5F, nan_value})
    REQUIRE(words({.decay = decay}) == "leaky_integrate_fire: expected a decay in [0, 1]");
  for (const float threshold : {0.0F, -1.0F, nan_value, infinity})
    REQUIRE(words({.threshold = threshold}) == "leaky_integrate_fire: expected a finite threshold above 0");
  for (const float gain : {nan_value, infinity, -infinity})
    REQUIRE(words({.gain = gain}) == "leaky_integrate_fire: expected a finite gain");
}

TEST_CASE("A layer of spiking neurons over time", "[spike]") {
  POLYMAC_RANDOM(random, 51);
  constexpr std::size_t rows = 3, inputs = 100, words = 2, columns = 5;
  std::vector<spike::weight> w(columns * words);
  for (std::size_t c = 0; c < columns; ++c)
    for (std::size_t k = 0; k < inputs; ++k)
      w[c * words + k / 64][k % 64] = static_cast<std::int8_t>(random.integer(-20, 40));
  membranes state(rows, columns);
  const neuron n = {.decay = 0.75F, .threshold = 300.0F, .reset = membrane_reset::to_zero, .refractory = 1};
  const auto layer =
      polymac::linear<spike, polymac::isa::scalar>(matrix_view<const spike::weight>(w.data(), columns, words),
                                                   std::vector<std::int32_t>{}, leaky_integrate_fire(state, n));
  std::vector<float> v(rows * columns);
  std::vector<int> deaf(rows * columns);
  std::size_t fired = 0;
  for (int step = 0; step < 12; ++step) {
    std::vector<std::uint8_t> in(rows * inputs), out(rows * columns, 9);
    for (auto& s : in) s = static_cast<std::uint8_t>(random.integer(0, 3) == 0);
    std::vector<bit_word> x(rows * words);
    for (std::size_t r = 0; r < rows; ++r)
      spike::encode(std::span(in).subspan(r * inputs, inputs), std::span(x).subspan(r * words, words));
    REQUIRE(layer({x.data(), rows, words}, {out.data(), rows, columns}).ok());
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < columns; ++c) {
        int sum = 0;
        for (std::size_t k = 0; k < inputs; ++k) sum += in[r * inputs + k] * w[c * words + k / 64][k % 64];
        const std::size_t i = r * columns + c;
        const bool hears = deaf[i] == 0;
        v[i] = 0.75F * v[i] + (hears ? static_cast<float>(sum) : 0.0F);
        const bool fires = hears && v[i] >= 300.0F;
        if (!hears) --deaf[i];
        if (fires) v[i] = 0.0F, deaf[i] = 1;
        fired += fires;
        REQUIRE(out[i] == (fires ? 1 : 0));
      }
  }
  REQUIRE(fired > 10);
  REQUIRE(fired < 150);
}
