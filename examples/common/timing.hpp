// SPDX-License-Identifier: MIT
// Times that can be compared.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace example {

/// Keeps this thread on the processor it runs on, so that times are comparable. Does nothing where that cannot be done.
inline void stay_on_this_processor() {
#if defined(__linux__)
  const int cpu = sched_getcpu();
  if (cpu < 0) return;
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<std::size_t>(cpu), &only);
  static_cast<void>(sched_setaffinity(0, sizeof only, &only));
#endif
}

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// How many times faster `other` is: the median of the ratios of passes that ran after one another.
inline double speed_up(const std::vector<double>& dense, const std::vector<double>& other) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < dense.size(); ++i) ratios.push_back(dense[i] / other[i]);
  return median(std::move(ratios));
}

/// Seconds since it was made or read.
class stopwatch {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace example
