// SPDX-License-Identifier: MIT
// What can run tasks at the same time: the concept, and its two smallest models.
#pragma once

#include "polymac/core/config.hpp"

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace adapt {

/// What is to be done for one index: a reference to a callable that does not throw. Two pointers, no heap. The callable
/// must outlive every call.
class task {
 public:
  template <class F>
    requires(!std::same_as<F, task> && std::is_nothrow_invocable_v<const F&, std::size_t>)
  task(const F& f) noexcept  // NOLINT: implicit by design
      : target_(&f), call_([](const void* target, std::size_t index) noexcept {
          static_cast<void>((*static_cast<const F*>(target))(index));
        }) {}

  /// No task yet; it cannot be called.
  constexpr task() noexcept = default;

  void operator()(std::size_t index) const noexcept { call_(target_, index); }

 private:
  const void* target_ = nullptr;
  void (*call_)(const void*, std::size_t) noexcept = nullptr;
};

/// Something that runs tasks.
///   concurrency()   how many tasks can run at the same time, the caller's thread included; at least 1
///   run(count, t)   calls t(0) ... t(count - 1), each once, in any order and on any thread, and returns when all have
///                   returned; what they wrote is then visible to the caller
template <class E>
concept Executor = requires(E& e, const E& unchanged, std::size_t count, task t) {
  { unchanged.concurrency() } noexcept -> std::convertible_to<std::size_t>;
  { e.run(count, t) } noexcept;
};

/// Runs everything on the caller's thread.
struct serial {
  static constexpr std::size_t concurrency() noexcept { return 1; }
  static void run(std::size_t count, task t) noexcept {
    for (std::size_t i = 0; i < count; ++i) t(i);
  }
};

/// Runs tasks by a function of the user, `submit(count, task)`, which does what Executor says of `run`: the threads of
/// an application, of an inference engine, of a real-time system. An exception that leaves `submit` ends the program,
/// because tasks may still be at work on memory of the call.
template <std::invocable<std::size_t, task> Submit>
class callable {
 public:
  /// concurrency: how many tasks `submit` runs at the same time; 0 counts as 1.
  callable(std::size_t concurrency, Submit submit) : concurrency_(concurrency), submit_(std::move(submit)) {}

  std::size_t concurrency() const noexcept { return concurrency_ > 0 ? concurrency_ : 1; }
  void run(std::size_t count, task t) const noexcept { static_cast<void>(submit_(count, t)); }

 private:
  std::size_t concurrency_;
  Submit submit_;
};

}  // namespace adapt
POLYMAC_END
