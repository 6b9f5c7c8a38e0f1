// SPDX-License-Identifier: MIT
// Correlation analysis of traces (Brier, Clavier, Olivier, CHES 2004): whose predictions go with what was measured?
//
//     for each guess c of a secret          prediction h(c): what the device would leak at some point, were c right
//       for each sample t of a trace        rho(c, t) = Pearson's correlation of h(c) and l(t) over all traces
//     score(c) = largest |rho(c, t)|;  rank of the right guess: 1 + guesses with a higher score
//
// One pass, no traces are kept: means and products of deviations move with each trace (Welford, Technometrics 1962; Bennett
// et al., CLUSTER 2009), which loses nothing where samples have a large mean.
#pragma once

#include "polymac/core/error.hpp"

#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

POLYMAC_BEGIN
namespace probe {

/// Correlations of `guesses` predictions with `samples` samples. Memory: guesses x samples numbers. Adding a trace is
/// O(guesses x samples).
class correlation {
 public:
  correlation(std::size_t guesses, std::size_t samples)
      : guesses_(guesses),
        samples_(samples),
        mean_h_(guesses),
        squares_h_(guesses),
        mean_l_(samples),
        squares_l_(samples),
        fresh_(samples),
        products_(guesses * samples) {}

  std::size_t guesses() const noexcept { return guesses_; }
  std::size_t samples() const noexcept { return samples_; }
  std::size_t traces() const noexcept { return traces_; }

  /// One trace, and what each guess predicts of it.
  status add(std::span<const float> predictions, std::span<const float> trace) noexcept {
    if (predictions.size() != guesses_ || trace.size() != samples_)
      return status::make(errc::shape, "correlation: expected ", guesses_, " predictions and ", samples_,
                          " samples, got ", predictions.size(), " and ", trace.size());
    const double n = static_cast<double>(++traces_);
    for (std::size_t t = 0; t < samples_; ++t) {
      const double l = static_cast<double>(trace[t]), d = l - mean_l_[t];
      mean_l_[t] += d / n;
      fresh_[t] = l - mean_l_[t];
      squares_l_[t] += d * fresh_[t];
    }
    for (std::size_t c = 0; c < guesses_; ++c) {
      const double h = static_cast<double>(predictions[c]), d = h - mean_h_[c];
      mean_h_[c] += d / n;
      squares_h_[c] += d * (h - mean_h_[c]);
      double* const to = products_.data() + c * samples_;
      for (std::size_t t = 0; t < samples_; ++t) to[t] += d * fresh_[t];
    }
    return {};
  }

  /// rho(guess, sample); 0 where one of both never changed.
  double operator()(std::size_t guess, std::size_t sample) const noexcept {
    const double squares = squares_h_[guess] * squares_l_[sample];
    return squares > 0 ? products_[guess * samples_ + sample] / std::sqrt(squares) : 0.0;
  }
  /// Largest |rho| of a guess.
  double score(std::size_t guess) const noexcept {
    double most = 0;
    for (std::size_t t = 0; t < samples_; ++t) {
      const double rho = std::abs((*this)(guess, t));
      most = rho > most ? rho : most;
    }
    return most;
  }
  /// The largest score of the guesses but one.
  double best_score_without(std::size_t guess) const noexcept {
    double most = 0;
    for (std::size_t c = 0; c < guesses_; ++c)
      if (const double s = c == guess ? 0.0 : score(c); s > most) most = s;
    return most;
  }
  /// 1: no guess has a higher score than this one.
  std::size_t rank(std::size_t guess) const noexcept {
    const double own = score(guess);
    std::size_t above = 0;
    for (std::size_t c = 0; c < guesses_; ++c) above += c != guess && score(c) > own ? 1 : 0;
    return 1 + above;
  }

 private:
  std::size_t guesses_, samples_, traces_ = 0;
  std::vector<double> mean_h_, squares_h_, mean_l_, squares_l_, fresh_, products_;
};

/// Traces to disclosure: the least number of traces from which on the right guess stayed the first.
class disclosure {
 public:
  /// The rank after so many traces, which increase from call to call.
  void add(std::size_t traces, std::size_t rank) noexcept {
    if (rank != 1)
      since_.reset();
    else if (!since_)
      since_ = traces;
  }
  /// None: it was not the first at the end.
  std::optional<std::size_t> traces() const noexcept { return since_; }

 private:
  std::optional<std::size_t> since_;
};

/// Traces from which on a correlation rho is told from 0, at the quantile z of a normal distribution (3.719: 99.99 %), by
/// Fisher's transformation (Mangard, "Hardware countermeasures against DPA", CT-RSA 2004). 0 < |rho| < 1.
inline double traces_for(double rho, double z = 3.719) noexcept {
  const double ratio = z / std::log((1 + rho) / (1 - rho));
  return 3 + 8 * ratio * ratio;
}

}  // namespace probe
POLYMAC_END
