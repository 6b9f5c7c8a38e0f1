// SPDX-License-Identifier: MIT
// One program, one function, several instruction sets: every translation unit must have kept its own copy.
#include "shared.hpp"

#include <cstdio>
#include <cstring>

// POLYMAC_VARIANT_<isa> is set for each variant that polymac_add_isa_variants() has built.
#define ODR_FOR_EACH(X) \
  X(scalar) X(avx2) X(avx512) X(avx_vnni) X(avx512_vnni) X(avx512_bf16) X(amx_int8) X(amx_bf16) X(neon) X(neon_dotprod)
#define ODR_DECLARE(isa) extern const variant variant_##isa [[gnu::weak]];
ODR_FOR_EACH(ODR_DECLARE)

int main() {
  const variant* variants[] = {
#define ODR_ADDRESS(isa) &variant_##isa,
      ODR_FOR_EACH(ODR_ADDRESS)};
  int built = 0;
  int mistakes = 0;
  for (const variant* a : variants) {
    if (a == nullptr) continue;
    ++built;
    std::printf("%-14s %p\n", a->isa, reinterpret_cast<const void*>(a->function));
    for (const variant* b : variants) {
      if (b == nullptr || b == a) continue;
      if (a->function == b->function || std::strcmp(a->isa, b->isa) == 0) {
        std::printf("%s and %s share one copy of the function\n", a->isa, b->isa);
        ++mistakes;
      }
    }
  }
  if (built < 2) std::printf("expected two variants or more, %d are linked\n", built);
  return mistakes == 0 && built >= 2 ? 0 : 1;
}
