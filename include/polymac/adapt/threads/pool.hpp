// SPDX-License-Identifier: MIT
// A pool of std::threads: started once, kept awake for a short while between calls, no heap and no lock in a call.
//
// One counter, `unclaimed_`, says how many tasks of the call at hand nobody has taken yet. Workers wait for it to leave
// zero and take a task by counting it down; the caller takes tasks too. So a worker that wakes late finds zero and
// waits again: nobody has to hear from it, and a call never takes longer than its tasks on one thread and one
// hand-over. Who has counted down may read what the call is about: the call cannot end before that task has been done.
#pragma once

#include "polymac/adapt/threads/executor.hpp"
#include "polymac/core/error.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <thread>

#if POLYMAC_HAS_EXCEPTIONS
#include <system_error>
#elif __has_include(<pthread.h>)
#include <pthread.h>
#endif

POLYMAC_BEGIN
namespace adapt {
namespace detail {

/// A thread that says whether it could be started. The owner joins it.
class worker {
 public:
#if !POLYMAC_HAS_EXCEPTIONS && __has_include(<pthread.h>)
  // std::thread reports by an exception only.
  template <class Pool>
  bool start(Pool* pool) noexcept {
    const auto enter = [](void* p) -> void* {
      static_cast<Pool*>(p)->serve();
      return nullptr;
    };
    return ::pthread_create(&thread_, nullptr, enter, pool) == 0;
  }
  void join() noexcept { static_cast<void>(::pthread_join(thread_, nullptr)); }

 private:
  ::pthread_t thread_{};
#else
  template <class Pool>
  bool start(Pool* pool) noexcept {
#if POLYMAC_HAS_EXCEPTIONS
    try {
      thread_ = std::thread([pool]() noexcept { pool->serve(); });
    } catch (...) {  // std::system_error or std::bad_alloc: there are no more threads to be had
      return false;
    }
#else
    thread_ = std::thread([pool]() noexcept { pool->serve(); });
#endif
    return true;
  }
  void join() noexcept { thread_.join(); }

 private:
  std::thread thread_;
#endif
};

/// How a thread waits: awake for `patience`, then asleep. Where there are more threads than cores, it gives way to
/// those that have work meanwhile; else it would only give way to other programs, and come back late.
struct waiting {
  std::chrono::nanoseconds patience;
  bool give_way;
};

/// Waits until `value` is not `old` any more, and returns it.
inline std::uint32_t wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old,
                                     const waiting& how) noexcept {
  using clock = std::chrono::steady_clock;
  std::uint32_t now = value.load(std::memory_order_acquire);
  if (now != old) return now;
  // Reading the clock takes 20 ns or so, which the core's other hyperthread has for itself.
  for (const auto begin = clock::now(); clock::now() - begin < how.patience;) {
    now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    if (how.give_way) std::this_thread::yield();
  }
  do {
    value.wait(old);
    now = value.load(std::memory_order_acquire);
  } while (now == old);
  return now;
}

}  // namespace detail

/// As many threads as the machine offers this process, at least 1.
inline std::size_t hardware_threads() noexcept {
  const unsigned n = std::thread::hardware_concurrency();
  return n > 0 ? n : 1;
}

/// An Executor: the caller's thread and `concurrency() - 1` others, started at construction and joined at destruction.
///
/// A call neither allocates nor locks. Task 0 always runs on the caller's thread. Several threads may use one pool: it
/// serves one call at a time, and a call that finds it at work, one from inside a task included, runs all its tasks on
/// its own thread. So nobody waits for another caller, and nothing can deadlock. The pool must not be destroyed while
/// it is used.
class thread_pool {
 public:
  /// threads: with the caller's, 1 to 1024. patience: how long a thread without work stays awake before it sleeps; a
  /// sleeping thread takes 6 to 20 us to begin, one that is awake 1 us (bench/threads_bench.cpp measures both).
  /// Throws polymac::error (or sets `status()` where exceptions are off) when there cannot be that many threads; those
  /// already started have ended then.
  explicit thread_pool(std::size_t threads = hardware_threads(),
                       std::chrono::nanoseconds patience = std::chrono::microseconds(50))
      : waiting_{patience, threads > hardware_threads()} {
    status_ = start(threads);
    if (!status_.ok()) stop();
    polymac::detail::raise_unless_ok(status_);
  }
  ~thread_pool() { stop(); }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  /// Why there are no threads. A pool without them runs all tasks on the caller's.
  const polymac::status& status() const noexcept { return status_; }
  std::size_t concurrency() const noexcept { return started_ + 1; }

  void run(std::size_t count, task t) noexcept {
    if (count <= 1 || started_ == 0 || busy_.exchange(true, std::memory_order_acquire)) return serial::run(count, t);
    task_ = t;
    for (first_ = 0; first_ < count; first_ += most_tasks)
      run_counted(static_cast<std::uint32_t>(count - first_ < most_tasks ? count - first_ : most_tasks));
    busy_.store(false, std::memory_order_release);
  }

 private:
  friend detail::worker;

  static constexpr std::size_t most_threads = 1024;
  static constexpr std::uint32_t most_tasks = 1u << 30;
  static constexpr std::uint32_t closed = ~0u;  ///< in unclaimed_: the threads shall end

  polymac::status start(std::size_t threads) noexcept {
    if (threads == 0 || threads > most_threads)
      return polymac::status::make(errc::parameter, "thread_pool: expected 1 to ", most_threads, " threads, got ",
                                   threads);
    if (threads == 1) return {};
    workers_.reset(new (std::nothrow) detail::worker[threads - 1]);
    if (workers_ == nullptr)
      return polymac::status::make(errc::short_buffer, "thread_pool: no memory for ", threads, " threads");
    for (; started_ + 1 < threads; ++started_)
      if (!workers_[started_].start(this))
        return polymac::status::make(errc::unsupported, "thread_pool: expected ", threads,
                                     " threads, but the system gave only ", started_ + 1,
                                     " (with the caller's); ask for fewer, or raise its limits");
    return {};
  }

  void stop() noexcept {
    unclaimed_.store(closed);
    unclaimed_.notify_all();
    while (started_ > 0) workers_[--started_].join();
  }

  /// What a worker does all its life.
  void serve() noexcept {
    while (detail::wait_for_change(unclaimed_, 0, waiting_) != closed) take_tasks();
  }

  /// Does tasks until none is left to take.
  void take_tasks() noexcept {
    std::uint32_t left = unclaimed_.load(std::memory_order_relaxed);
    while (left != 0 && left != closed) {
      if (!unclaimed_.compare_exchange_weak(left, left - 1, std::memory_order_acquire, std::memory_order_relaxed))
        continue;
      task_(first_ + (count_ - left));
      if (unfinished_.fetch_sub(1) == 1) unfinished_.notify_one();
      left = unclaimed_.load(std::memory_order_relaxed);
    }
  }

  void run_counted(std::uint32_t count) noexcept {
    count_ = count;
    const std::uint32_t others = count - 1;
    unfinished_.store(others, std::memory_order_relaxed);
    // Sequentially consistent, as is the countdown above: the standard library looks behind it whether anybody sleeps.
    unclaimed_.store(others);
    if (others < started_)
      for (std::uint32_t i = 0; i < others; ++i) unclaimed_.notify_one();
    else
      unclaimed_.notify_all();
    task_(first_);
    take_tasks();
    for (std::uint32_t left = unfinished_.load(std::memory_order_acquire); left != 0;)
      left = detail::wait_for_change(unfinished_, left, waiting_);
  }

  // What everybody counts down, what the caller waits for, and what it only writes, each on lines of its own.
  alignas(64) std::atomic<std::uint32_t> unclaimed_{0};
  alignas(64) std::atomic<std::uint32_t> unfinished_{0};
  alignas(64) task task_;
  std::size_t first_ = 0;
  std::uint32_t count_ = 0;
  std::atomic<bool> busy_{false};
  detail::waiting waiting_;
  std::size_t started_ = 0;
  std::unique_ptr<detail::worker[]> workers_;
  polymac::status status_;
};

}  // namespace adapt
POLYMAC_END
