// SPDX-License-Identifier: MIT
// The most that this core does of one instruction: independent accumulators, operands in registers, no memory.
//
// A kernel is compared with this number, measured in the same process right before and after the case, because the
// clock depends on the instructions in flight. What counts is the processor, not the flags of this build: the loops
// are chosen by asking the processor. They are written in assembler, since compilers move accumulators that intrinsics
// name through memory.
//
// The operands are noise, as those of the cases are. Data costs power, and power costs clock: on the Xeon of
// bench/machines/xeon_amx.md tdpbssd does 2240 GMAC/s on noise and 2550 to 2950 on zeros, for some milliseconds. A share says how
// many of the instruction's slots a kernel fills at the clock that its work leads to; `operands::zero` is the other
// measurement.
#pragma once

#include "polymac/cpu/features.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bench {

/// What the products of a case are made of.
enum class arithmetic {
  int8,
  int16,
  float32,
  bfloat16,
  l_mul,   ///< sums of words, added as floats
  binary,  ///< bits that two words have in common, counted
};

/// An instruction sequence and its rate here in 1e9 multiply-accumulates per second; 0: none is known here.
struct probe {
  const char* instruction = "none";
  double gmac = 0.0;
};

/// The fastest instruction of this processor for an arithmetic, and the fastest one without AMX.
struct peaks {
  probe best, vector;
};

/// What is multiplied.
enum class operands { zero, noise };

namespace detail {

using loop = void(std::size_t rounds, const void* data);

/// 1 KiB; the noise is small floats of both signs, in float32 as in bfloat16, and as integers bytes that toggle.
inline const void* operand_data(operands kind) {
  struct alignas(64) table {
    std::uint32_t words[2][256];
  };
  static const table both = [] {
    table t{};
    std::uint32_t state = 1;
    for (std::uint32_t& w : t.words[1]) {
      state = state * 1664525u + 1013904223u;
      w = (state & 0x807F807Fu) | 0x3E003E00u;
    }
    return t;
  }();
  return both.words[kind == operands::noise];
}

/// The best rate of several short runs; about 0.4 ms.
inline probe measure(operands kind, const char* instruction, loop* run, std::size_t rounds, double macs_per_round) {
  using clock = std::chrono::steady_clock;
  const void* const data = operand_data(kind);
  double best = 0.0;
  for (int i = 0; i < 8; ++i) {
    const auto begin = clock::now();
    run(rounds, data);
    const double seconds = std::chrono::duration<double>(clock::now() - begin).count();
    best = std::max(best, macs_per_round * static_cast<double>(rounds) / seconds * 1e-9);
  }
  return {instruction, best};
}

#if defined(__x86_64__)

// `body` once for each register number \r of `sums`; registers 0 and 1 hold the operands.
#define POLYMAC_BENCH_LOOP(name, features, wide, sums, body, ...)                                                      \
  __attribute__((target(features))) inline void name(std::size_t rounds, const void* data) {                           \
    __asm__ volatile("vmovups (%1), %%" wide "0\n\tvmovups 64(%1), %%" wide                                            \
                     "1\n\t"                                                                                           \
                     ".irp r," sums "\n\tvpsubd %%" wide "\\r, %%" wide "\\r, %%" wide                                 \
                     "\\r\n\t.endr\n\t"                                                                                \
                     "1:\n\t.irp r," sums "\n\t" body "\n\t.endr\n\tdec %0\n\tjnz 1b\n\tvzeroupper"                    \
                     : "+r"(rounds)                                                                                    \
                     : "r"(data)                                                                                       \
                     : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15" __VA_OPT__(, ) __VA_ARGS__);               \
  }
// 24 sums hide the longest latency (8 cycles of vdpbf16ps at two per cycle) on 32 registers, 12 on 16 registers.
#define POLYMAC_BENCH_ZMM(name, features, body)                                                                      \
  POLYMAC_BENCH_LOOP(name, features, "zmm", "8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31", \
                     body, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
                     "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31")
#define POLYMAC_BENCH_YMM(name, features, body) \
  POLYMAC_BENCH_LOOP(name, features, "ymm", "4,5,6,7,8,9,10,11,12,13,14,15", body)

POLYMAC_BENCH_ZMM(vpdpbusd_zmm, "avx512f,avx512vnni", "vpdpbusd %%zmm0, %%zmm1, %%zmm\\r")
POLYMAC_BENCH_ZMM(vpdpwssd_zmm, "avx512f,avx512vnni", "vpdpwssd %%zmm0, %%zmm1, %%zmm\\r")
POLYMAC_BENCH_ZMM(vdpbf16ps_zmm, "avx512f,avx512bf16", "vdpbf16ps %%zmm0, %%zmm1, %%zmm\\r")
POLYMAC_BENCH_ZMM(vfmadd_zmm, "avx512f", "vfmadd231ps %%zmm0, %%zmm1, %%zmm\\r")
POLYMAC_BENCH_ZMM(l_mul_zmm, "avx512f", "vpaddd %%zmm0, %%zmm1, %%zmm2\n\tvaddps %%zmm2, %%zmm\\r, %%zmm\\r")
POLYMAC_BENCH_ZMM(popcount_zmm, "avx512f,avx512vpopcntdq",
                  "vpandq %%zmm0, %%zmm1, %%zmm2\n\tvpopcntq %%zmm2, %%zmm3\n\tvpaddq %%zmm3, %%zmm\\r, %%zmm\\r")
POLYMAC_BENCH_ZMM(vpmaddwd_zmm, "avx512f,avx512bw",
                  "vpmaddwd %%zmm0, %%zmm1, %%zmm2\n\tvpaddd %%zmm2, %%zmm\\r, %%zmm\\r")
POLYMAC_BENCH_YMM(vpdpbusd_ymm, "avx2,avxvnni", "%{vex%} vpdpbusd %%ymm0, %%ymm1, %%ymm\\r")
POLYMAC_BENCH_YMM(vpdpwssd_ymm, "avx2,avxvnni", "%{vex%} vpdpwssd %%ymm0, %%ymm1, %%ymm\\r")
POLYMAC_BENCH_YMM(vfmadd_ymm, "avx2,fma", "vfmadd231ps %%ymm0, %%ymm1, %%ymm\\r")
POLYMAC_BENCH_YMM(l_mul_ymm, "avx2", "vpaddd %%ymm0, %%ymm1, %%ymm2\n\tvaddps %%ymm2, %%ymm\\r, %%ymm\\r")
POLYMAC_BENCH_YMM(vpmaddwd_ymm, "avx2", "vpmaddwd %%ymm0, %%ymm1, %%ymm2\n\tvpaddd %%ymm2, %%ymm\\r, %%ymm\\r")

#undef POLYMAC_BENCH_YMM
#undef POLYMAC_BENCH_ZMM
#undef POLYMAC_BENCH_LOOP

// Four tiles of sums, two of each operand: the block that a kernel would hold, without its loads.
#define POLYMAC_BENCH_TILES(name, features, op)                                                        \
  __attribute__((target(features))) inline void name(std::size_t rounds, const void* data) {           \
    struct alignas(64) {                                                                               \
      std::uint8_t palette, start_row, reserved[14];                                                   \
      std::uint16_t row_bytes[16];                                                                     \
      std::uint8_t rows[16];                                                                           \
    } shape{};                                                                                         \
    shape.palette = 1;                                                                                 \
    for (int i = 0; i < 8; ++i) shape.row_bytes[i] = 64, shape.rows[i] = 16;                           \
    __asm__ volatile(                                                                                  \
        "ldtilecfg %3\n\ttilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t" \
        "tileloadd (%1,%2,1), %%tmm4\n\ttileloadd (%1,%2,1), %%tmm5\n\t"                               \
        "tileloadd (%1,%2,1), %%tmm6\n\ttileloadd (%1,%2,1), %%tmm7\n\t"                               \
        "1:\n\t" op " %%tmm6, %%tmm4, %%tmm0\n\t" op " %%tmm7, %%tmm4, %%tmm1\n\t" op                  \
        " %%tmm6, %%tmm5, %%tmm2\n\t"                                                                  \
        "" op " %%tmm7, %%tmm5, %%tmm3\n\tdec %0\n\tjnz 1b\n\ttilerelease"                             \
        : "+r"(rounds)                                                                                 \
        : "r"(data), "r"(std::size_t{64}), "m"(shape)                                                  \
        : "cc", "memory");                                                                             \
  }

POLYMAC_BENCH_TILES(tdpbssd, "amx-tile,amx-int8", "tdpbssd")
POLYMAC_BENCH_TILES(tdpbf16ps, "amx-tile,amx-bf16", "tdpbf16ps")

#undef POLYMAC_BENCH_TILES

/// The kernel is asked here and not by cpu::permits_tiles(): POLYMAC_MAX_ISA shall limit polymac, and not its peak.
inline bool amx_int8() {
#if defined(__linux__)
  constexpr long request_permission = 0x1023, tile_data = 18;
  static const bool permitted =
      polymac::cpu::runs("amx_int8") && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return permitted;
#else
  return false;
#endif
}
inline bool amx_bf16() { return amx_int8() && polymac::cpu::runs("amx_bf16"); }

/// The fastest instruction of one instruction set.
inline probe isa_peak(std::string_view isa, arithmetic a, operands data) {
  const bool avx512_bf16 = isa == "avx512_bf16", avx512_vnni = avx512_bf16 || isa == "avx512_vnni",
             avx512 = avx512_vnni || isa == "avx512", avx_vnni = isa == "avx_vnni",
             avx2 = avx512 || avx_vnni || isa == "avx2";
  switch (a) {
    case arithmetic::int8:
      if (avx512_vnni) return measure(data, "vpdpbusd zmm", vpdpbusd_zmm, 10000, 24 * 64);
      if (avx_vnni) return measure(data, "vpdpbusd ymm", vpdpbusd_ymm, 20000, 12 * 32);
      [[fallthrough]];  // bytes widened to 16 bits: vpmaddubsw would saturate
    case arithmetic::int16:
      if (avx512_vnni) return measure(data, "vpdpwssd zmm", vpdpwssd_zmm, 10000, 24 * 32);
      if (avx512) return measure(data, "vpmaddwd, vpaddd zmm", vpmaddwd_zmm, 5000, 24 * 32);
      if (avx_vnni) return measure(data, "vpdpwssd ymm", vpdpwssd_ymm, 20000, 12 * 16);
      if (avx2) return measure(data, "vpmaddwd, vpaddd ymm", vpmaddwd_ymm, 10000, 12 * 16);
      return {};
    case arithmetic::bfloat16:
      // It may be slower than converting to float32 (Xeon); then the peak is that of float32.
      if (avx512_bf16) {
        const probe bf16 = measure(data, "vdpbf16ps zmm", vdpbf16ps_zmm, 5000, 24 * 32);
        const probe f32 = isa_peak(isa, arithmetic::float32, data);
        return bf16.gmac > f32.gmac ? bf16 : f32;
      }
      [[fallthrough]];
    case arithmetic::float32:
      if (avx512) return measure(data, "vfmadd231ps zmm", vfmadd_zmm, 10000, 24 * 16);
      if (avx2) return measure(data, "vfmadd231ps ymm", vfmadd_ymm, 20000, 12 * 8);
      return {};
    case arithmetic::l_mul:
      if (avx512) return measure(data, "vpaddd, vaddps zmm", l_mul_zmm, 5000, 24 * 16);
      if (avx2) return measure(data, "vpaddd, vaddps ymm", l_mul_ymm, 10000, 12 * 8);
      return {};
    case arithmetic::binary:
#if defined(__GNUC__)
      if (avx512 && __builtin_cpu_supports("avx512vpopcntdq"))
        return measure(data, "vpandq, vpopcntq, vpaddq zmm", popcount_zmm, 5000, 24 * 512);
#endif
      return {};
  }
  return {};
}

inline probe vector_peak(arithmetic a, operands data) {
  for (const char* isa : {"avx512_bf16", "avx512_vnni", "avx512", "avx_vnni", "avx2"})
    if (polymac::cpu::runs(isa)) return isa_peak(isa, a, data);
  return {};
}

inline probe matrix_peak(arithmetic a, operands data) {
  if (a == arithmetic::int8 && amx_int8()) return measure(data, "tdpbssd", tdpbssd, 2000, 4 * 16 * 16 * 64);
  if (a == arithmetic::bfloat16 && amx_bf16()) return measure(data, "tdpbf16ps", tdpbf16ps, 2000, 4 * 16 * 16 * 32);
  return {};
}

#elif defined(__aarch64__)

// `body` once for each register number \r; v0 and v1 hold the operands, v2 is free.
#define POLYMAC_BENCH_LOOP(name, body)                                                                                 \
  inline void name(std::size_t rounds, const void* data) {                                                             \
    __asm__ volatile(                                                                                                  \
        "ldp q0, q1, [%1]\n\t"                                                                                         \
        ".irp r,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\tmovi v\\r\\().4s, #0\n\t"     \
        ".endr\n\t"                                                                                                    \
        "1:\n\t.irp r,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t" body                  \
        "\n\t.endr\n"                                                                                                  \
        "\tsubs %0, %0, #1\n\tb.ne 1b"                                                                                 \
        : "+r"(rounds)                                                                                                 \
        : "r"(data)                                                                                                    \
        : "cc", "memory", "v0", "v1", "v2", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", \
          "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");                  \
  }
POLYMAC_BENCH_LOOP(fmla, "fmla v\\r\\().4s, v0.4s, v1.4s")
// sdot v.4s, v0.16b, v1.16b as a number: an assembler set to plain Armv8.0 does not know the word.
POLYMAC_BENCH_LOOP(sdot, ".inst 0x4e819400+\\r")
POLYMAC_BENCH_LOOP(smlal, "smlal v\\r\\().4s, v0.4h, v1.4h")
POLYMAC_BENCH_LOOP(smull_sadalp, "smull v2.8h, v0.8b, v1.8b\n\tsadalp v\\r\\().4s, v2.8h")
#undef POLYMAC_BENCH_LOOP

inline probe isa_peak(std::string_view isa, arithmetic a, operands data) {
  switch (a) {
    case arithmetic::int8:
      if (isa == "neon_dotprod") return measure(data, "sdot", sdot, 5000, 24 * 16);
      return measure(data, "smull, sadalp", smull_sadalp, 5000, 24 * 8);
    case arithmetic::int16:
      return measure(data, "smlal", smlal, 5000, 24 * 4);
    case arithmetic::float32:
    case arithmetic::bfloat16:
      return measure(data, "fmla", fmla, 5000, 24 * 4);
    case arithmetic::l_mul:
    case arithmetic::binary:
      break;
  }
  return {};
}
inline probe vector_peak(arithmetic a, operands data) {
  return isa_peak(polymac::cpu::runs("neon_dotprod") ? "neon_dotprod" : "neon", a, data);
}
inline probe matrix_peak(arithmetic, operands) { return {}; }

#else

inline probe isa_peak(std::string_view, arithmetic, operands) { return {}; }
inline probe vector_peak(arithmetic, operands) { return {}; }
inline probe matrix_peak(arithmetic, operands) { return {}; }

#endif

}  // namespace detail

/// Measures now; 2 ms or less.
inline peaks measure_peaks(arithmetic a, operands data = operands::noise) {
  const probe vector = detail::vector_peak(a, data), matrix = detail::matrix_peak(a, data);
  return {matrix.gmac > vector.gmac ? matrix : vector, vector};
}

}  // namespace bench
