// SPDX-License-Identifier: MIT
// Attacks on the bench: correlation with guessed sums, and whether fixed and random data can be told apart.
#pragma once

#include "bench.hpp"

#include <optional>

namespace example {

/// Weights whose extraction is tried, each by an attacker who knows all weights before it.
inline constexpr std::array<std::size_t, 5> targets{0, 1, 3, 7, 12};

/// What an attacker knows beside inputs, traces and earlier weights.
enum class knowledge {
  nothing,     ///< predicts sums as if all pixels took part
  active_set,  ///< which pixels took part, and so when each product was executed
};

/// After so many traces.
struct point {
  std::size_t traces = 0;
  double right = 0;  ///< largest |rho| of the right guess
  double wrong = 0;  ///< of the best other one
  std::size_t rank = 0;
};
struct finding {
  std::size_t weight = 0;
  std::vector<point> curve;  ///< the last one: with all traces
  std::optional<std::size_t> disclosure;
};
/// A line of the table: a form, an attacker, a finding for each target.
struct attack_row {
  form subject{};
  knowledge known{};
  std::vector<finding> findings;
};

polymac::result<campaign> record(form f, std::size_t traces, std::uint64_t seed);
finding attack(const campaign& c, std::size_t weight, knowledge known);

/// Two groups of traces, and twice the test.
struct difference_row {
  const char* subject = "";
  const char* groups = "";
  std::size_t traces = 0;  ///< of a run
  double threshold = 0;
  std::array<double, 2> first{}, second{};            ///< largest |t| of each run, orders 1 and 2
  std::size_t leaking_first = 0, leaking_second = 0;  ///< samples above the threshold in both runs
};
/// What differs between the groups. `nothing`: random data in both, which has to pass.
enum class varied { input, weights, nothing };
polymac::result<difference_row> compare(form f, varied what, std::size_t traces, std::uint64_t seed);

}  // namespace example
