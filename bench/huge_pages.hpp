// SPDX-License-Identifier: MIT
// Large aligned memory in huge pages, for a whole program: what an application does that reads megabytes again and again.
// To be included in one translation unit. Without it every 64th line of a cache of keys is in another page of 4 KiB,
// and hardware does not fetch ahead beyond its end.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bench {
inline void* aligned_memory(std::size_t bytes, std::size_t alignment) noexcept {
  constexpr std::size_t page = std::size_t{2} << 20;
  const bool large = bytes >= page;
  if (large) alignment = page;
  const std::size_t held = (bytes + alignment - 1) / alignment * alignment;
  void* const memory = std::aligned_alloc(alignment, held == 0 ? alignment : held);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (large && memory != nullptr) madvise(memory, held, MADV_HUGEPAGE);  // a refusal only makes it slower
#endif
  return memory;
}
}  // namespace bench

void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return bench::aligned_memory(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  if (void* const memory = bench::aligned_memory(bytes, static_cast<std::size_t>(alignment))) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept { std::free(memory); }
