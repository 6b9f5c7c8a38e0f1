// SPDX-License-Identifier: MIT
// A function as every header of polymac defines them. It is not inlined, so that the linker has to choose.
#pragma once

#include <polymac/isa/isa.hpp>

POLYMAC_BEGIN
namespace odr {

[[gnu::noinline]] inline const char* same_name(int value) { return value < 0 ? "" : isa::native::name; }

}  // namespace odr
POLYMAC_END

/// What one translation unit has to tell. Plain data: reading it runs no code that was compiled for another processor.
struct variant {
  const char* isa;
  const char* (*function)(int);
};
