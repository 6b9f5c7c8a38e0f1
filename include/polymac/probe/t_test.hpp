// SPDX-License-Identifier: MIT
// Do two groups of traces differ? The test of leakage assessments (TVLA: Goodwill et al., NIST workshop 2011): traces of a
// fixed input (or secret) against traces of random ones. That they differ does not say how to use it; that they do not
// differ says nothing of other leakage.
//
//     t = (m1 - m2) / sqrt(s1^2 / n1 + s2^2 / n2)           Welch, for each sample; s^2 unbiased
//     order 2: the same of (l - mean)^2, l a sample of its group: differences of spread, not of the mean
//
// One pass, by moments up to the fourth (Pebay, SAND2008-6212; Schneider and Moradi, CHES 2015).
#pragma once

#include "polymac/core/error.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

POLYMAC_BEGIN
namespace probe {

/// Welch's t-test of two groups of traces of `samples` samples.
class t_test {
 public:
  enum class group : unsigned char { fixed, random };

  explicit t_test(std::size_t samples) : of_{moments(samples), moments(samples)} {}

  std::size_t samples() const noexcept { return of_[0].mean.size(); }
  std::size_t traces(group g) const noexcept { return of_[index(g)].traces; }

  status add(group g, std::span<const float> trace) noexcept {
    if (trace.size() != samples())
      return status::make(errc::shape, "t_test: expected ", samples(), " samples, got ", trace.size());
    moments& m = of_[index(g)];
    const double n = static_cast<double>(++m.traces);
    for (std::size_t i = 0; i < trace.size(); ++i) {
      const double d = static_cast<double>(trace[i]) - m.mean[i];
      const double share = d / n, squared = share * share, term = d * share * (n - 1);
      m.mean[i] += share;
      m.fourth[i] += term * squared * (n * n - 3 * n + 3) + 6 * squared * m.second[i] - 4 * share * m.third[i];
      m.third[i] += term * share * (n - 2) - 3 * share * m.second[i];
      m.second[i] += term;
    }
    return {};
  }

  /// t of a sample, of order 1 or 2. 0 with less than two traces in a group; infinite where both groups are constant and
  /// differ.
  double operator()(std::size_t sample, int order = 1) const noexcept {
    double mean[2], variance[2];
    for (std::size_t g = 0; g < 2; ++g) {
      const moments& m = of_[g];
      if (m.traces < 2) return 0;
      const double n = static_cast<double>(m.traces), m2 = m.second[sample];
      mean[g] = order == 1 ? m.mean[sample] : m2 / n;
      const double squares = order == 1 ? m2 : m.fourth[sample] - m2 * m2 / n;
      variance[g] = (squares > 0 ? squares : 0) / (n - 1) / n;
    }
    const double difference = mean[0] - mean[1], error = std::sqrt(variance[0] + variance[1]);
    if (difference == 0) return 0;
    return error > 0 ? difference / error : std::copysign(std::numeric_limits<double>::infinity(), difference);
  }
  /// Largest |t|.
  double largest(int order = 1) const noexcept {
    double most = 0;
    for (std::size_t i = 0; i < samples(); ++i) {
      const double t = std::abs((*this)(i, order));
      most = t > most ? t : most;
    }
    return most;
  }

 private:
  struct moments {
    explicit moments(std::size_t samples) : mean(samples), second(samples), third(samples), fourth(samples) {}
    std::size_t traces = 0;
    std::vector<double> mean, second, third, fourth;  // the latter: sums of powers of the deviations
  };
  static constexpr std::size_t index(group g) noexcept { return g == group::fixed ? 0 : 1; }

  moments of_[2];
};

/// |t| that traces of so many samples exceed by chance, somewhere, with probability `error`: each sample is tested at
/// 1 - (1 - error)^(1 / samples) (Sidak), and t taken as normally distributed, as with thousands of traces. The usual 4.5
/// is that of one sample; of traces of a thousand it is exceeded by chance in every 150th (Ding et al., CARDIS 2017).
inline double t_threshold(std::size_t samples, double error = 1e-5) noexcept {
  const double each = -std::expm1(std::log1p(-error) / static_cast<double>(samples > 0 ? samples : 1));
  double low = 0, high = 40;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(middle / std::sqrt(2.0)) > each ? low : high) = middle;
  }
  return high;
}
/// Samples at which |t| is above the threshold in both of two independent runs: those that count as leaking.
inline std::size_t leaking_samples(const t_test& one, const t_test& two, double threshold, int order = 1) noexcept {
  const std::size_t samples = one.samples() < two.samples() ? one.samples() : two.samples();
  std::size_t count = 0;
  for (std::size_t i = 0; i < samples; ++i)
    count += std::abs(one(i, order)) > threshold && std::abs(two(i, order)) > threshold ? 1 : 0;
  return count;
}

}  // namespace probe
POLYMAC_END
