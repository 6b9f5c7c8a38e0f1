// SPDX-License-Identifier: MIT
// A thread pool that cannot be. Compiled with and without exceptions.
#include "catch.hpp"

#include <polymac/adapt/threads.hpp>

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#if defined(__linux__)
#include <sys/resource.h>
#include <unistd.h>
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POLYMAC_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define POLYMAC_TEST_SANITIZED 1
#endif
#endif

namespace pm = polymac;
using polymac::adapt::thread_pool;

namespace {

/// What a pool of that many threads says at construction; empty where it is ready.
std::string refusal(std::size_t threads) {
#if POLYMAC_HAS_EXCEPTIONS
  try {
    const thread_pool pool(threads);
    return "";
  } catch (const pm::error& e) {
    return e.what();
  }
#else
  thread_pool pool(threads);
  // Without threads it works on the caller's.
  if (!pool.status().ok()) CHECK(pool.concurrency() == 1);
  std::atomic<int> runs{0};
  const auto count = [&](std::size_t) noexcept { ++runs; };
  pool.run(3, count);
  CHECK(runs == 3);
  return std::string(pool.status().text());
#endif
}

}  // namespace

TEST_CASE("a pool that cannot be is refused, and leaves no thread behind", "[threads]") {
  CHECK(refusal(1) == "");
  CHECK(refusal(2) == "");
  CHECK(refusal(0) == "thread_pool: expected 1 to 1024 threads, got 0");
  CHECK(refusal(1025) == "thread_pool: expected 1 to 1024 threads, got 1025");

#if defined(__linux__) && !defined(POLYMAC_TEST_SANITIZED)
  const auto threads_alive = [] {
    std::filesystem::directory_iterator tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  };
  const auto before = threads_alive();
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
  std::size_t pages = 0;
  REQUIRE(std::ifstream("/proc/self/statm") >> pages);
  // Room for a few stacks beside what is mapped: the pool fails with some of its threads started.
  rlimit narrow = limit;
  narrow.rlim_cur = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{64} << 20);
  REQUIRE(setrlimit(RLIMIT_AS, &narrow) == 0);
  const std::string why = refusal(500);
  REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
  CAPTURE(why);
  CHECK(why.find("thread_pool: expected 500 threads, but the system gave only ") == 0);
  CHECK(threads_alive() == before);
  CHECK(refusal(7) == "");
#endif
}
