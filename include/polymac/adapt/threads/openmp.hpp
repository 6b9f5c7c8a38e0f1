// SPDX-License-Identifier: MIT
// OpenMP's threads as an executor, where the compiler was given -fopenmp; else this header is empty.
#pragma once

#include "polymac/adapt/threads/executor.hpp"

#if defined(_OPENMP)

#include <omp.h>

#include <cstddef>

POLYMAC_BEGIN
namespace adapt {

/// An Executor: a parallel region of OpenMP for each call. Inside of another region it follows OpenMP's rules for
/// nested ones: one thread, unless the program allows more levels.
class openmp {
 public:
  /// threads: 0 takes OpenMP's own choice (OMP_NUM_THREADS).
  explicit openmp(std::size_t threads = 0) noexcept
      : threads_(threads > 0 ? static_cast<int>(threads) : ::omp_get_max_threads()) {}

  std::size_t concurrency() const noexcept { return static_cast<std::size_t>(threads_); }
  void run(std::size_t count, task t) const noexcept {
    const auto n = static_cast<std::ptrdiff_t>(count);
#pragma omp parallel for num_threads(threads_) schedule(static, 1)
    for (std::ptrdiff_t i = 0; i < n; ++i) t(static_cast<std::size_t>(i));
  }

 private:
  int threads_;
};

}  // namespace adapt
POLYMAC_END

#endif
