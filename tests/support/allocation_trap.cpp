// SPDX-License-Identifier: MIT
// Replaces operator new and delete of the program, and hooks malloc. Define POLYMAC_TEST_NO_MALLOC_HOOK for a libc
// whose malloc cannot be replaced (static glibc).
#include "support/allocation_trap.hpp"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define POLYMAC_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POLYMAC_TEST_ASAN 1
#endif
#endif
#ifndef POLYMAC_TEST_ASAN
#define POLYMAC_TEST_ASAN 0
#endif

namespace {

std::atomic<std::size_t> allocation_count{0};

void count_one() noexcept { allocation_count.fetch_add(1, std::memory_order_relaxed); }

void* allocate(std::size_t size) noexcept {
  count_one();
  return std::malloc(size == 0 ? 1 : size);
}

void* allocate(std::size_t size, std::align_val_t alignment) noexcept {
  count_one();
  void* block = nullptr;
  std::size_t step = static_cast<std::size_t>(alignment);
  if (step < sizeof(void*)) step = sizeof(void*);
  return ::posix_memalign(&block, step, size == 0 ? 1 : size) == 0 ? block : nullptr;
}

void* or_throw(void* block) {
#if defined(__cpp_exceptions)
  if (block == nullptr) throw std::bad_alloc();
#else
  if (block == nullptr) std::abort();
#endif
  return block;
}

}  // namespace

namespace polymac_test {

std::size_t allocations() noexcept { return allocation_count.load(std::memory_order_relaxed); }

}  // namespace polymac_test

void* operator new(std::size_t n) { return or_throw(allocate(n)); }
void* operator new[](std::size_t n) { return or_throw(allocate(n)); }
void* operator new(std::size_t n, std::align_val_t a) { return or_throw(allocate(n, a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return or_throw(allocate(n, a)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept { return allocate(n, a); }
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept { return allocate(n, a); }

void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }

#if POLYMAC_TEST_ASAN

// AddressSanitizer owns malloc; it tells us of every call instead.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, std::size_t),
                                                         void (*on_free)(const volatile void*));
namespace {
void on_malloc(const volatile void*, std::size_t) { count_one(); }
void on_free(const volatile void*) {}
const bool hooks_installed = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) > 0;
}  // namespace

bool polymac_test::malloc_is_counted() noexcept { return hooks_installed; }

#elif defined(__GLIBC__) && !defined(POLYMAC_TEST_NO_MALLOC_HOOK)

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t n) noexcept {
  count_one();
  return __libc_malloc(n);
}
void* calloc(std::size_t count, std::size_t n) noexcept {
  count_one();
  return __libc_calloc(count, n);
}
void* realloc(void* p, std::size_t n) noexcept {
  count_one();
  return __libc_realloc(p, n);
}
void* memalign(std::size_t alignment, std::size_t n) noexcept {
  count_one();
  return __libc_memalign(alignment, n);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) noexcept {
  count_one();
  return __libc_memalign(alignment, n);
}
int posix_memalign(void** block, std::size_t alignment, std::size_t n) noexcept {
  count_one();
  *block = __libc_memalign(alignment, n);
  return *block == nullptr ? ENOMEM : 0;
}
}

bool polymac_test::malloc_is_counted() noexcept { return true; }

#else

bool polymac_test::malloc_is_counted() noexcept { return false; }

#endif
