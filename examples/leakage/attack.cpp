// SPDX-License-Identifier: MIT
#include "attack.hpp"

#include <polymac/probe/correlation.hpp>
#include <polymac/probe/t_test.hpp>

#include <bit>
#include <cmath>

namespace example {

namespace {

/// Seeds that belong to different things are different numbers (SplitMix64's last step).
std::uint64_t derived(std::uint64_t seed, std::uint64_t what) {
  std::uint64_t z = seed * 0x9E3779B97F4A7C15u + what * 0xD1B54A32D192ED03u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
enum : std::uint64_t { of_weights = 1, of_inputs = 2, of_noise = 3, of_maps = 4 };

/// Numbers of traces at which a curve has a point: eight for each factor of ten.
bool is_checkpoint(std::size_t traces, std::size_t all) {
  if (traces == all) return true;
  if (traces < 32) return false;
  const auto step = [](std::size_t n) { return std::floor(8 * std::log10(static_cast<double>(n))); };
  return step(traces) != step(traces - 1);
}

}  // namespace

polymac::result<campaign> record(form f, std::size_t traces, std::uint64_t seed) {
  random_engine weights(derived(seed, of_weights)), inputs(derived(seed, of_inputs)), noise(derived(seed, of_noise));
  campaign c;
  c.subject = f;
  c.weights = random_weights(weights);
  c.inputs.reserve(traces);
  c.seen.resize(traces);
  const auto subject = make_device(f, c.weights, derived(seed, of_maps), noise);
  if (!subject.ok()) return subject.status();
  for (observation& seen : c.seen) {
    c.inputs.push_back(random_pixels(inputs));
    if (const auto s = (*subject)->measure(c.inputs.back(), seen); !s.ok()) return s;
  }
  return c;
}

finding attack(const campaign& c, std::size_t weight, knowledge known) {
  const bool informed = known == knowledge::active_set;
  // Who knows when the product was executed looks there.
  const std::size_t samples = informed ? 1 : depth;
  polymac::probe::correlation found(highest, samples);
  const auto right = static_cast<std::size_t>(c.weights[weight] - 1);
  // Inactive pixels take time in one form alone: their products with 0.
  const bool takes_all = c.subject == form::zero_fixed || c.subject == form::unprotected;
  finding result;
  result.weight = weight;
  polymac::probe::disclosure disclosed;
  std::array<float, highest> predictions{};
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const pixels& x = c.inputs[i];
    const observation& seen = c.seen[i];
    if (!informed || seen.active[weight]) {
      std::uint32_t sum = 0;
      std::size_t at = 0;
      for (std::size_t k = 0; k < weight; ++k) {
        const bool counts = !informed || seen.active[k];
        if (counts) sum += static_cast<std::uint32_t>(x[k] * c.weights[k]);
        at += counts || takes_all ? 1 : 0;
      }
      for (std::size_t guess = 0; guess < predictions.size(); ++guess) {
        sum += static_cast<std::uint32_t>(x[weight]);
        predictions[guess] = static_cast<float>(std::popcount(sum));
      }
      const std::span<const float> trace(seen.trace);
      static_cast<void>(found.add(predictions, informed ? trace.subspan(at, 1) : trace));
    }
    if (!is_checkpoint(i + 1, c.inputs.size())) continue;
    const point p{i + 1, found.score(right), found.best_score_without(right), found.rank(right)};
    disclosed.add(p.traces, p.rank);
    result.curve.push_back(p);
  }
  result.disclosure = disclosed.traces();
  return result;
}

polymac::result<difference_row> compare(form f, varied what, std::size_t traces, std::uint64_t seed) {
  using polymac::probe::t_test;
  difference_row row;
  row.subject = name_of(f);
  row.groups = what == varied::input     ? "fixed input, random inputs"
               : what == varied::weights ? "fixed weights, random weights"
                                         : "random inputs, random inputs";
  row.traces = traces;
  row.threshold = polymac::probe::t_threshold(depth);
  std::array<t_test, 2> runs{t_test(depth), t_test(depth)};
  for (std::uint64_t run = 0; run < 2; ++run) {
    // The fixed data are the same in both runs.
    random_engine weights(derived(seed, of_weights)), fixed(derived(seed, 100));
    random_engine inputs(derived(seed, 101 + run)), other(derived(seed, 103 + run)), noise(derived(seed, 105 + run));
    const pixels fixed_weights = random_weights(weights), fixed_input = random_pixels(fixed);
    auto subject = make_device(f, fixed_weights, derived(seed, 107 + run), noise);
    if (!subject.ok()) return subject.status();
    for (std::size_t i = 0; i < traces; ++i) {
      // In random order, or what a device remembers would tell the groups apart.
      const bool is_fixed = (other() >> 63) != 0;
      const pixels random_input = random_pixels(inputs);
      observation seen;
      polymac::status s;
      if (what == varied::weights && !is_fixed) {
        auto another = make_device(f, random_weights(other), other(), noise);
        if (!another.ok()) return another.status();
        s = (*another)->measure(random_input, seen);
      } else {
        s = (*subject)->measure(what == varied::input && is_fixed ? fixed_input : random_input, seen);
      }
      if (s.ok()) s = runs[run].add(is_fixed ? t_test::group::fixed : t_test::group::random, seen.trace);
      if (!s.ok()) return s;
    }
    row.first[run] = runs[run].largest(1);
    row.second[run] = runs[run].largest(2);
  }
  row.leaking_first = polymac::probe::leaking_samples(runs[0], runs[1], row.threshold, 1);
  row.leaking_second = polymac::probe::leaking_samples(runs[0], runs[1], row.threshold, 2);
  return row;
}

}  // namespace example
