// SPDX-License-Identifier: MIT
// What the processor and the operating system run, asked at run time, and the choice among variants of a function.
//
// Never included by kernels: the choice is made once, by the caller, above them. Include this from code that is
// compiled for the baseline; a translation unit compiled for AVX-512 may not run far enough to ask.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

POLYMAC_BEGIN
namespace cpu {

namespace detail {

#if defined(__x86_64__)
struct registers {
  std::uint32_t eax, ebx, ecx, edx;
};
inline registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) noexcept {
  registers r{leaf, 0, subleaf, 0};
  __asm__ volatile("cpuid" : "+a"(r.eax), "=b"(r.ebx), "+c"(r.ecx), "=d"(r.edx));
  return r;
}
/// Register state that the operating system saves (XCR0); 0 where it does not say.
inline std::uint64_t saved_state() noexcept {
  if ((cpuid(1, 0).ecx >> 27 & 1) == 0) return 0;  // OSXSAVE
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}
#endif

constexpr bool all(std::uint64_t value, std::uint64_t bits) noexcept { return (value & bits) == bits; }

}  // namespace detail

/// May code compiled for the instruction set of that name (`isa::...::name`, and the names of
/// polymac_add_isa_variants) be run here? Asks for the instructions and for the operating system's support of their
/// registers. Unknown names: false.
inline bool runs(std::string_view name) noexcept {
  if (name == "scalar") return true;
#if defined(__x86_64__)
  using detail::all;
  const auto one = detail::cpuid(1, 0);
  const bool has_seven = detail::cpuid(0, 0).eax >= 7;
  const auto seven = has_seven ? detail::cpuid(7, 0) : detail::registers{};
  const std::uint64_t state = detail::saved_state();
  const bool ymm = all(state, 0x6), zmm = all(state, 0xE6);
  // FMA, MOVBE not needed; F16C is bit 29, AVX bit 28 of leaf 1 ecx; AVX2 bit 5, BMI2 bit 8 of leaf 7 ebx.
  const bool avx2 = ymm && all(one.ecx, 1u << 12 | 1u << 28 | 1u << 29) && all(seven.ebx, 1u << 5 | 1u << 8);
  // F 16, DQ 17, BW 30, VL 31 of leaf 7 ebx.
  const bool avx512 = avx2 && zmm && all(seven.ebx, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31);
  if (name == "sse2") return true;  // part of x86-64
  if (name == "avx2") return avx2;
  if (name == "avx512") return avx512;
  if (name == "avx512_vnni") return avx512 && all(seven.ecx, 1u << 11);
  const auto seven_one = seven.eax >= 1 ? detail::cpuid(7, 1) : detail::registers{};
  if (name == "avx512_bf16") return avx512 && all(seven.ecx, 1u << 11) && all(seven_one.eax, 1u << 5);
  // Tile configuration and tile data, bits 17 and 18; AMX-BF16 is bit 22, AMX-TILE bit 24, AMX-INT8 bit 25 of leaf 7
  // edx. Code for tiles of bf16 is compiled for those of bytes, too, and for AVX-512 BF16, which all such processors
  // have.
  const bool tiles = avx512 && all(seven.ecx, 1u << 11) && all(state, 0x60000) && all(seven.edx, 1u << 24 | 1u << 25);
  if (name == "amx_int8") return tiles;
  if (name == "amx_bf16") return tiles && all(seven.edx, 1u << 22) && all(seven_one.eax, 1u << 5);
  if (name == "avx_vnni") return avx2 && all(seven_one.eax, 1u << 4);
#elif defined(__aarch64__)
  if (name == "neon") return true;                        // part of AArch64
#if defined(__linux__)
  constexpr unsigned long asimd_dot_product = 1ul << 20;  // HWCAP_ASIMDDP
  if (name == "neon_dotprod") return (getauxval(AT_HWCAP) & asimd_dot_product) != 0;
#elif defined(__APPLE__)
  if (name == "neon_dotprod") return true;  // every Apple M processor
#endif
#endif
  return false;
}

/// One function compiled for one instruction set.
template <class Function>
struct variant {
  std::string_view isa;
  Function* function;
};

/// The last variant that runs here, of a list that begins with the weakest; null if none does. The environment variable
/// POLYMAC_MAX_ISA ends the list at that name (for tests and bug reports); a name that is not in the list is ignored.
template <class Function>
Function* best(std::span<const variant<Function>> weakest_first) noexcept {
  const char* const limit = std::getenv("POLYMAC_MAX_ISA");
  std::size_t end = weakest_first.size();
  for (std::size_t i = 0; limit != nullptr && i < weakest_first.size(); ++i)
    if (weakest_first[i].isa == limit) end = i + 1;
  for (std::size_t i = end; i > 0; --i)
    if (runs(weakest_first[i - 1].isa)) return weakest_first[i - 1].function;
  return nullptr;
}
template <class Function, std::size_t N>
Function* best(const variant<Function> (&weakest_first)[N]) noexcept {
  return best(std::span<const variant<Function>>(weakest_first));
}

}  // namespace cpu
POLYMAC_END
