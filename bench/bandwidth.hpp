// SPDX-License-Identifier: MIT
// How fast this core reads a buffer of a given size again and again: the bound of a product with few rows, which needs
// every weight once. The cache level that holds the buffer decides.
#pragma once

#include "polymac/cpu/features.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace bench {
namespace detail {

constexpr std::size_t read_block = 512;  // bytes that the loops below read at a time from one place
constexpr std::size_t most_streams = 4;

/// Reads `bytes` in `streams` places at once: one after the other is not always the fastest order, since hardware
/// prefetches each place on its own.
using reader = void(const char* data, std::size_t bytes, std::size_t streams);

#define POLYMAC_BENCH_READER(name, attribute, block, ...)                                \
  attribute inline void name(const char* data, std::size_t bytes, std::size_t streams) { \
    const std::size_t length = bytes / streams;                                          \
    for (std::size_t i = 0; i < length; i += read_block)                                 \
      for (std::size_t s = 0; s < streams; ++s)                                          \
        __asm__ volatile(block : : "r"(data + s * length + i) : "memory", __VA_ARGS__);  \
  }

#if defined(__x86_64__)

POLYMAC_BENCH_READER(read_zmm, __attribute__((target("avx512f"))),
                     ".irp i,0,1,2,3,4,5,6,7\n\tvmovaps \\i*64(%0), %%zmm\\i\n\t.endr", "xmm0", "xmm1", "xmm2", "xmm3",
                     "xmm4", "xmm5", "xmm6", "xmm7")
POLYMAC_BENCH_READER(read_ymm, __attribute__((target("avx2"))),
                     ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\tvmovaps \\i*32(%0), %%ymm\\i\n\t.endr", "xmm0",
                     "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                     "xmm13", "xmm14", "xmm15")
inline reader* best_reader() {
  return polymac::cpu::runs("avx512") ? read_zmm : polymac::cpu::runs("avx2") ? read_ymm : nullptr;
}

#elif defined(__aarch64__)

POLYMAC_BENCH_READER(read_neon, , ".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\tldp q0, q1, [%0, #\\i*32]\n\t.endr",
                     "v0", "v1")
inline reader* best_reader() { return read_neon; }

#else

inline reader* best_reader() { return nullptr; }

#endif

#undef POLYMAC_BENCH_READER

/// Memory that was written once, in huge pages where the system gives them, so that the cache is measured and not the
/// address translation. One buffer for all sizes.
inline const void* read_buffer(std::size_t bytes) {
  struct release {
    void operator()(void* p) const { std::free(p); }
  };
  constexpr std::size_t page = std::size_t{2} << 20;
  static std::unique_ptr<void, release> memory;
  static std::size_t capacity = 0;
  if (bytes > capacity) {
    capacity = (bytes + page - 1) / page * page;
    memory.reset(std::aligned_alloc(page, capacity));
    if (!memory) std::abort();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise(memory.get(), capacity, MADV_HUGEPAGE);  // a refusal only makes the number smaller
#endif
    std::memset(memory.get(), 1, capacity);
  }
  return memory.get();
}

}  // namespace detail

/// 1e9 bytes per second that one core reads from a buffer of `bytes`, its second time and later; 0 where this is not
/// written for the processor. Reads 48 MiB, or the buffer seven times where that is more.
inline double read_bandwidth(std::size_t bytes) {
  using clock = std::chrono::steady_clock;
  detail::reader* const read = detail::best_reader();
  if (read == nullptr || bytes == 0) return 0.0;
  constexpr std::size_t unit = detail::read_block * detail::most_streams;
  bytes = std::max<std::size_t>(1, bytes / unit) * unit;
  const auto* const data = static_cast<const char*>(detail::read_buffer(bytes));
  const std::size_t passes = std::max<std::size_t>(1, (std::size_t{8} << 20) / bytes);
  read(data, bytes, 1);
  double best = 0.0;
  for (std::size_t streams = 1; streams <= detail::most_streams; streams *= 2)
    for (int run = 0; run < 2; ++run) {
      const auto begin = clock::now();
      for (std::size_t p = 0; p < passes; ++p) read(data, bytes, streams);
      const double seconds = std::chrono::duration<double>(clock::now() - begin).count();
      best = std::max(best, static_cast<double>(passes * bytes) / seconds * 1e-9);
    }
  return best;
}

/// Bytes of the data caches that one core reaches, nearest first; 0 where the system does not say.
struct cache_sizes {
  std::size_t l1 = 0, l2 = 0, l3 = 0;
};
inline cache_sizes find_cache_sizes() {
#if defined(__linux__) && defined(_SC_LEVEL1_DCACHE_SIZE)
  const auto ask = [](int name) { return static_cast<std::size_t>(std::max(0L, sysconf(name))); };
  return {ask(_SC_LEVEL1_DCACHE_SIZE), ask(_SC_LEVEL2_CACHE_SIZE), ask(_SC_LEVEL3_CACHE_SIZE)};
#else
  return {};
#endif
}

/// The nearest level that holds `bytes`.
inline const char* level_of(std::size_t bytes) {
  static const cache_sizes caches = find_cache_sizes();
  return bytes <= caches.l1 ? "L1" : bytes <= caches.l2 ? "L2" : bytes <= caches.l3 ? "L3" : "memory";
}

}  // namespace bench
