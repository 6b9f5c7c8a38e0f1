// SPDX-License-Identifier: MIT
// The most that this core does of one instruction: independent accumulators, operands in registers, no memory.
//
// A kernel is compared with this number, measured in the same process around the case, and never with itself. The
// loops are written in assembler, because compilers move accumulators that intrinsics name through memory.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace bench {

/// An instruction sequence, what it is for, and its rate here in 1e9 multiply-accumulates per second (0: not in this
/// build).
struct peak {
  const char* instruction = "none";
  double gmac = 0.0;
};

namespace detail {

/// Best rate of several short runs of `loop(iterations)`, which does `macs` per iteration.
template <class Loop>
double best_rate(double macs, const Loop& loop) {
  using clock = std::chrono::steady_clock;
  constexpr std::size_t iterations = 20000;
  double best = 0.0;
  for (int run = 0; run < 15; ++run) {
    const auto begin = clock::now();
    loop(iterations);
    const double seconds = std::chrono::duration<double>(clock::now() - begin).count();
    best = std::max(best, macs * iterations / seconds * 1e-9);
  }
  return best;
}

}  // namespace detail

#if defined(__x86_64__) && defined(__AVX512F__)

// Twenty-four accumulators: registers 8 to 31.
#define POLYMAC_BENCH_ZMM(op)                                                                              \
  op " %%zmm0, %%zmm1, %%zmm8\n\t" op " %%zmm0, %%zmm1, %%zmm9\n\t" op " %%zmm0, %%zmm1, %%zmm10\n\t" op   \
     " %%zmm0, %%zmm1, %%zmm11\n\t" op " %%zmm0, %%zmm1, %%zmm12\n\t" op " %%zmm0, %%zmm1, %%zmm13\n\t" op \
     " %%zmm0, %%zmm1, %%zmm14\n\t" op " %%zmm0, %%zmm1, %%zmm15\n\t" op " %%zmm0, %%zmm1, %%zmm16\n\t" op \
     " %%zmm0, %%zmm1, %%zmm17\n\t" op " %%zmm0, %%zmm1, %%zmm18\n\t" op " %%zmm0, %%zmm1, %%zmm19\n\t" op \
     " %%zmm0, %%zmm1, %%zmm20\n\t" op " %%zmm0, %%zmm1, %%zmm21\n\t" op " %%zmm0, %%zmm1, %%zmm22\n\t" op \
     " %%zmm0, %%zmm1, %%zmm23\n\t" op " %%zmm0, %%zmm1, %%zmm24\n\t" op " %%zmm0, %%zmm1, %%zmm25\n\t" op \
     " %%zmm0, %%zmm1, %%zmm26\n\t" op " %%zmm0, %%zmm1, %%zmm27\n\t" op " %%zmm0, %%zmm1, %%zmm28\n\t" op \
     " %%zmm0, %%zmm1, %%zmm29\n\t" op " %%zmm0, %%zmm1, %%zmm30\n\t" op " %%zmm0, %%zmm1, %%zmm31\n\t"
#define POLYMAC_BENCH_ZMM_LOOP(op)                                                                                    \
  [](std::size_t n) {                                                                                                 \
    __asm__ volatile(                                                                                                 \
        "vpxord %%zmm0, %%zmm0, %%zmm0\n\tvpxord %%zmm1, %%zmm1, %%zmm1\n\t"                                          \
        "1:\n\t" POLYMAC_BENCH_ZMM(op) "dec %0\n\tjnz 1b\n\t"                                                         \
        : "+r"(n)                                                                                                     \
        :                                                                                                             \
        : "cc", "xmm0", "xmm1", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",        \
          "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", \
          "xmm29", "xmm30", "xmm31");                                                                                 \
  }

inline peak float32_peak() {
  return {"vfmadd231ps zmm", detail::best_rate(24 * 16, POLYMAC_BENCH_ZMM_LOOP("vfmadd231ps"))};
}
#if defined(__AVX512VNNI__)
inline peak int8_peak() { return {"vpdpbusd zmm", detail::best_rate(24 * 64, POLYMAC_BENCH_ZMM_LOOP("vpdpbusd"))}; }
inline peak int16_peak() { return {"vpdpwssd zmm", detail::best_rate(24 * 32, POLYMAC_BENCH_ZMM_LOOP("vpdpwssd"))}; }
#else
inline peak int8_peak() { return {}; }
inline peak int16_peak() { return {}; }
#endif

#else

inline peak float32_peak() { return {}; }
inline peak int8_peak() { return {}; }
inline peak int16_peak() { return {}; }

#endif

}  // namespace bench
