// SPDX-License-Identifier: MIT
// The only macros of polymac, and the name of the inline namespace that all code lives in.
//
// A header-only SIMD library is compiled into many translation units, perhaps with different flags. If two of them
// emitted the same symbol, the linker would keep either copy, and a program could execute AVX-512 code on the path it
// had checked for SSE. So every flag that changes what a function does is part of its name.
#pragma once

#if __cplusplus < 202002L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 202002L)
#error "polymac: C++20 is needed (g++ 12, clang 14 or newer, -std=c++20)"
#endif

#define POLYMAC_VERSION_MAJOR 0
#define POLYMAC_VERSION_MINOR 1
#define POLYMAC_VERSION_PATCH 0

#define POLYMAC_DETAIL_JOIN2(a, b) a##b
#define POLYMAC_DETAIL_JOIN(a, b) POLYMAC_DETAIL_JOIN2(a, b)

// -- the widest vector unit the flags allow -------------------------------------------------------------------------
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define POLYMAC_DETAIL_VECTOR avx512
#elif defined(__AVX2__)
#define POLYMAC_DETAIL_VECTOR avx2
#elif defined(__AVX__)
#define POLYMAC_DETAIL_VECTOR avx
#elif defined(__SSE4_1__)
#define POLYMAC_DETAIL_VECTOR sse41
#elif defined(__SSE2__)
#define POLYMAC_DETAIL_VECTOR sse2
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define POLYMAC_DETAIL_VECTOR neon
#else
#define POLYMAC_DETAIL_VECTOR scalar
#endif

// -- what else changes the code of a function -----------------------------------------------------------------------
#if defined(__FMA__)
#define POLYMAC_DETAIL_FMA _fma
#else
#define POLYMAC_DETAIL_FMA
#endif
#if defined(__AVX512VNNI__)
#define POLYMAC_DETAIL_VNNI _vnni
#else
#define POLYMAC_DETAIL_VNNI
#endif
#if defined(__AVXVNNI__)
#define POLYMAC_DETAIL_AVXVNNI _avxvnni
#else
#define POLYMAC_DETAIL_AVXVNNI
#endif
#if defined(__AVX512BF16__)
#define POLYMAC_DETAIL_BF16 _bf16
#else
#define POLYMAC_DETAIL_BF16
#endif
// Extensions that are no instruction set of ours: counts of bits, permuted bytes, halves to floats, halves as numbers.
#if defined(__AVX512VPOPCNTDQ__)
#define POLYMAC_DETAIL_POPCOUNT _popcount
#else
#define POLYMAC_DETAIL_POPCOUNT
#endif
#if defined(__AVX512VBMI__)
#define POLYMAC_DETAIL_VBMI _vbmi
#else
#define POLYMAC_DETAIL_VBMI
#endif
#if defined(__AVX512VBMI2__)
#define POLYMAC_DETAIL_VBMI2 _vbmi2
#else
#define POLYMAC_DETAIL_VBMI2
#endif
#if defined(__AVX512FP16__) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define POLYMAC_DETAIL_FP16 _fp16
#else
#define POLYMAC_DETAIL_FP16
#endif
#if defined(__F16C__)
#define POLYMAC_DETAIL_F16C _f16c
#else
#define POLYMAC_DETAIL_F16C
#endif
// Matrix registers; clang++ 14 spells their macros in its own way. polymac's own tests run their code without them, on a
// model of the registers: there, and only there, POLYMAC_EMULATE_TILES names the header that holds it
// (tests/support/emulated_tiles.hpp, which is not installed).
#if defined(POLYMAC_EMULATE_TILES)
#define POLYMAC_HAS_AMX_INT8 1
#define POLYMAC_HAS_AMX_BF16 1
#define POLYMAC_DETAIL_AMX _emulated_tiles
#elif (defined(__AMX_TILE__) || defined(__AMXTILE__)) && (defined(__AMX_INT8__) || defined(__AMXINT8__))
#define POLYMAC_HAS_AMX_INT8 1
#if defined(__AMX_BF16__) || defined(__AMXBF16__)
#define POLYMAC_HAS_AMX_BF16 1
#define POLYMAC_DETAIL_AMX _amx_amxbf16
#else
#define POLYMAC_HAS_AMX_BF16 0
#define POLYMAC_DETAIL_AMX _amx
#endif
#else
#define POLYMAC_HAS_AMX_INT8 0
#define POLYMAC_HAS_AMX_BF16 0
#define POLYMAC_DETAIL_AMX
#endif
#if defined(__ARM_FEATURE_DOTPROD)
#define POLYMAC_DETAIL_DOT _dotprod
#else
#define POLYMAC_DETAIL_DOT
#endif
// AMD's Zen has ports to spare where Intel has none: some tiles are made otherwise (isa/dot_product.hpp). g++ 12 takes
// later Zens for Zen 3.
#if defined(__znver1__) || defined(__znver2__) || defined(__znver3__) || defined(__znver4__) || defined(__znver5__)
#define POLYMAC_IS_ZEN 1
#define POLYMAC_DETAIL_ZEN _zen
#else
#define POLYMAC_IS_ZEN 0
#define POLYMAC_DETAIL_ZEN
#endif
#if defined(__cpp_exceptions) || defined(__EXCEPTIONS)
#define POLYMAC_HAS_EXCEPTIONS 1
#define POLYMAC_DETAIL_EXCEPTIONS
#else
#define POLYMAC_HAS_EXCEPTIONS 0
#define POLYMAC_DETAIL_EXCEPTIONS _status
#endif

// xsimd serves the generic float atom and exp. An embedded user may be without it.
#if !defined(POLYMAC_NO_XSIMD) && __has_include(<xsimd/xsimd.hpp>)
#define POLYMAC_HAS_XSIMD 1
#define POLYMAC_DETAIL_XSIMD
#else
#define POLYMAC_HAS_XSIMD 0
#define POLYMAC_DETAIL_XSIMD _plain
#endif

#define POLYMAC_DETAIL_TAG1 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_VECTOR, POLYMAC_DETAIL_FMA)
#define POLYMAC_DETAIL_TAG2 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG1, POLYMAC_DETAIL_VNNI)
#define POLYMAC_DETAIL_TAG3 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG2, POLYMAC_DETAIL_AVXVNNI)
#define POLYMAC_DETAIL_TAG4 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG3, POLYMAC_DETAIL_AMX)
#define POLYMAC_DETAIL_TAG5 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG4, POLYMAC_DETAIL_DOT)
#define POLYMAC_DETAIL_TAG6 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG5, POLYMAC_DETAIL_ZEN)
#define POLYMAC_DETAIL_TAG7 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG6, POLYMAC_DETAIL_EXCEPTIONS)
#define POLYMAC_DETAIL_TAG8 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG7, POLYMAC_DETAIL_XSIMD)
#define POLYMAC_DETAIL_TAG9 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG8, POLYMAC_DETAIL_BF16)
#define POLYMAC_DETAIL_TAG10 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG9, POLYMAC_DETAIL_POPCOUNT)
#define POLYMAC_DETAIL_TAG11 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG10, POLYMAC_DETAIL_F16C)
#define POLYMAC_DETAIL_TAG12 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG11, POLYMAC_DETAIL_VBMI)
#define POLYMAC_DETAIL_TAG13 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG12, POLYMAC_DETAIL_FP16)
#define POLYMAC_DETAIL_TAG14 POLYMAC_DETAIL_JOIN(POLYMAC_DETAIL_TAG13, POLYMAC_DETAIL_VBMI2)

/// Name of the inline namespace, for example `v0_1_avx512_fma_vnni`.
#define POLYMAC_ABI POLYMAC_DETAIL_JOIN(v0_1_, POLYMAC_DETAIL_TAG14)

/// Opens and closes `namespace polymac` with the tagged inline namespace inside. Plain views and statuses, which may
/// cross translation units, stay outside of it.
#define POLYMAC_BEGIN \
  namespace polymac { \
  inline namespace POLYMAC_ABI {
#define POLYMAC_END \
  }                 \
  }

#if defined(_MSC_VER) && !defined(__clang__)
#define POLYMAC_INLINE __forceinline
#define POLYMAC_NOINLINE __declspec(noinline)
#define POLYMAC_INLINE_LAMBDA
#define POLYMAC_UNROLL
#else
#if defined(POLYMAC_INLINE_AS_CALLS)
// Only for polymac's own tests at -O0, where copies of a function in all its callers are most of what g++ does. They are
// one program with the flags of one instruction set, so untagged functions may be symbols there.
#define POLYMAC_INLINE inline
#define POLYMAC_INLINE_LAMBDA
#else
/// Inlines always: register tiles must not pass through memory, and untagged functions must not become symbols.
#define POLYMAC_INLINE inline __attribute__((always_inline))
/// The same for a lambda, behind its parameters.
#define POLYMAC_INLINE_LAMBDA __attribute__((always_inline))
#endif
/// Inlines never: a tile has the registers for itself, and what surrounds it cannot push its pointers to the stack.
#define POLYMAC_NOINLINE __attribute__((noinline))
#if defined(__clang__)
#define POLYMAC_UNROLL _Pragma("clang loop unroll(full)")
#else
/// Unrolls the next loop fully; its bound is a small constant (rows or registers of a tile).
#define POLYMAC_UNROLL _Pragma("GCC unroll 64")
#endif
#endif
