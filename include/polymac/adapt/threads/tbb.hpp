// SPDX-License-Identifier: MIT
// oneTBB's threads as an executor, where its headers are installed; else this header is empty. Link with TBB::tbb.
#pragma once

#include "polymac/adapt/threads/executor.hpp"

#if __has_include(<tbb/task_arena.h>)

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <cstddef>

POLYMAC_BEGIN
namespace adapt {

/// An Executor: a parallel_for in an arena of its own for each call. Several threads, and tasks themselves, may call it
/// at once, as far as TBB's arenas have slots for them. TBB takes memory of its own.
class tbb_arena {
 public:
  /// threads: 0 takes TBB's own choice.
  explicit tbb_arena(std::size_t threads = 0)
      : arena_(threads > 0 ? static_cast<int>(threads) : ::tbb::task_arena::automatic) {}

  std::size_t concurrency() const noexcept { return static_cast<std::size_t>(arena_.max_concurrency()); }
  void run(std::size_t count, task t) noexcept {
    arena_.execute([count, t] {
      ::tbb::parallel_for(
          ::tbb::blocked_range<std::size_t>(0, count, 1),
          [t](const ::tbb::blocked_range<std::size_t>& r) {
            for (std::size_t i = r.begin(); i < r.end(); ++i) t(i);
          },
          ::tbb::static_partitioner{});
    });
  }

 private:
  ::tbb::task_arena arena_;
};

}  // namespace adapt
POLYMAC_END

#endif
