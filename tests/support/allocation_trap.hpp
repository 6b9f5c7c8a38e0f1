// SPDX-License-Identifier: MIT
// Counts every allocation of the program, so that a test can demand that a kernel makes none.
#pragma once

#include "catch.hpp"

#include <cstddef>

namespace polymac_test {

/// Calls of operator new (all forms), and of malloc and its kin where they can be seen, since the program began.
/// Link allocation_trap.cpp into every program that includes this header.
std::size_t allocations() noexcept;

/// Are calls of malloc itself counted (glibc, or any libc under AddressSanitizer)? operator new always is.
bool malloc_is_counted() noexcept;

/// While an object of this type lives, nothing may be allocated by any thread; its destructor fails the test otherwise.
/// Put no REQUIRE or CHECK inside its scope: Catch2 allocates.
class no_allocation {
 public:
  no_allocation() noexcept : before_(allocations()) {}
  no_allocation(const no_allocation&) = delete;
  no_allocation& operator=(const no_allocation&) = delete;
  ~no_allocation() {
    const std::size_t allocated = count();
    CHECK(allocated == 0);
  }
  /// Allocations since the scope was entered.
  std::size_t count() const noexcept { return allocations() - before_; }

 private:
  std::size_t before_;
};

}  // namespace polymac_test
