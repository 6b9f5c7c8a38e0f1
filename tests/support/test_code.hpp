// SPDX-License-Identifier: MIT
// The last include of tests whose bodies, one for each type, would take longer to optimise than the kernels that they
// call: g++ compiles what follows at -O1. What was included before, the kernels above all, keeps the program's level,
// also where it is instantiated later; only POLYMAC_INLINE code that a body itself calls goes along with the body (so
// not for tests of atoms and lanes). Other compilers have one level for all.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O1")
#endif
