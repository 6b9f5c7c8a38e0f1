// SPDX-License-Identifier: MIT
// May this process use the tile registers of AMX? Linux saves their 8 KiB only for processes that have asked.
//
// Asked once, when the first layer that could use tiles is built; never by a kernel. The answer holds for all threads
// that start later and for those that run. A refusal is normal (older kernels, some containers and virtual machines):
// layers then run on the vector atom, and explain() says so. The environment variable POLYMAC_MAX_ISA with a name other
// than amx_int8 or amx_bf16 refuses too.
#pragma once

#include "polymac/cpu/features.hpp"

#include <cstdlib>
#include <string_view>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

POLYMAC_BEGIN
namespace cpu {

namespace detail {

inline bool ask_for_tiles() noexcept {
#if defined(POLYMAC_EMULATE_TILES)
  return true;  // polymac's own tests, see core/config.hpp
#elif defined(__linux__) && defined(__x86_64__)
  if (const char* const limit = std::getenv("POLYMAC_MAX_ISA"))
    if (const std::string_view name = limit; !name.starts_with("amx")) return false;
  if (!runs("amx_int8")) return false;
  constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long tile_data = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

}  // namespace detail

/// Asks the processor and the operating system the first time, remembers the answer. Thread-safe.
inline bool permits_tiles() noexcept {
  static const bool permitted = detail::ask_for_tiles();
  return permitted;
}

}  // namespace cpu
POLYMAC_END
