// SPDX-License-Identifier: MIT
// Times of one thing against another in the same moment, on a machine that others share.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace bench {

/// The median.
inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// The median time of nine calls in a row: what one leaves in the caches the next one finds.
template <class Call>
double median_seconds(Call&& call) {
  std::vector<double> times;
  for (int i = 0; i < 9; ++i) {
    const auto start = std::chrono::steady_clock::now();
    call();
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return median(times);
}

/// Time of `reference` / time of `call`: the median of nine pairs, one right after the other.
template <class Reference, class Call>
double times_as_fast(Reference&& reference, Call&& call) {
  std::vector<double> ratios;
  for (int i = 0; i < 9; ++i) {
    const double of_reference = median_seconds(reference);
    ratios.push_back(of_reference / median_seconds(call));
  }
  return median(ratios);
}

}  // namespace bench
