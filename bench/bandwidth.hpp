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

constexpr std::size_t read_block = 1024;  // bytes of one round of the loops below

using reader = void(const void* data, std::size_t blocks);

#if defined(__x86_64__)

__attribute__((target("avx512f"))) inline void read_zmm(const void* data, std::size_t blocks) {
  __asm__ volatile(
      "1:\n\t.irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\tvmovaps \\i*64(%0), %%zmm\\i\n\t.endr\n\t"
      "add $1024, %0\n\tdec %1\n\tjnz 1b\n\tvzeroupper"
      : "+r"(data), "+r"(blocks)
      :
      : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}
__attribute__((target("avx2"))) inline void read_ymm(const void* data, std::size_t blocks) {
  __asm__ volatile(
      "1:\n\t.irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\tvmovaps \\i*32(%0), %%ymm\\i\n\t"
      "vmovaps 512+\\i*32(%0), %%ymm\\i\n\t.endr\n\tadd $1024, %0\n\tdec %1\n\tjnz 1b\n\tvzeroupper"
      : "+r"(data), "+r"(blocks)
      :
      : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}
inline reader* best_reader() {
  return polymac::cpu::runs("avx512") ? read_zmm : polymac::cpu::runs("avx2") ? read_ymm : nullptr;
}

#elif defined(__aarch64__)

inline void read_neon(const void* data, std::size_t blocks) {
  __asm__ volatile(
      "1:\n\t.irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\tldp q0, q1, [%0, #\\i*64]\n\t"
      "ldp q2, q3, [%0, #\\i*64+32]\n\t.endr\n\tadd %0, %0, #1024\n\tsubs %1, %1, #1\n\tb.ne 1b"
      : "+r"(data), "+r"(blocks)
      :
      : "cc", "memory", "v0", "v1", "v2", "v3");
}
inline reader* best_reader() { return read_neon; }

#else

inline reader* best_reader() { return nullptr; }

#endif

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
/// written for the processor. Reads 32 MiB, or four times, or the buffer four times where that is
/// more.
inline double read_bandwidth(std::size_t bytes) {
  using clock = std::chrono::steady_clock;
  detail::reader* const read = detail::best_reader();
  const std::size_t blocks = std::max<std::size_t>(1, bytes / detail::read_block);
  if (read == nullptr || bytes == 0) return 0.0;
  const void* const data = detail::read_buffer(blocks * detail::read_block);
  const std::size_t passes = std::max<std::size_t>(1, (std::size_t{8} << 20) / (blocks * detail::read_block));
  read(data, blocks);
  double best = 0.0;
  for (int i = 0; i < 3; ++i) {
    const auto begin = clock::now();
    for (std::size_t p = 0; p < passes; ++p) read(data, blocks);
    const double seconds = std::chrono::duration<double>(clock::now() - begin).count();
    best = std::max(best, static_cast<double>(passes * blocks * detail::read_block) / seconds * 1e-9);
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
