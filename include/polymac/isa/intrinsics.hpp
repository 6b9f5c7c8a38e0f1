// SPDX-License-Identifier: MIT
// The compiler's intrinsics for x86, and nothing else.
#pragma once

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
// g++ 12 calls the undefined operands of its own AVX-512 intrinsics uninitialised (GCC bug 105593). The warning belongs
// to lines of that header, so it is silenced there and nowhere else.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#endif
