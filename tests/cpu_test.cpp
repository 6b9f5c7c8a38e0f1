// SPDX-License-Identifier: MIT
// What the processor runs, and the choice among variants.
#include "polymac/cpu/features.hpp"
#include "polymac/isa/isa.hpp"

#include "catch.hpp"

#include <cstdlib>

namespace cpu = polymac::cpu;

namespace {
int one() { return 1; }
int two() { return 2; }
int three() { return 3; }
}  // namespace

TEMPLATE_LIST_TEST_CASE("every instruction set of this program runs here", "[cpu]", polymac::isa::compiled) {
  CHECK(cpu::runs(TestType::name));
}

TEST_CASE("no other name runs", "[cpu]") {
  CHECK_FALSE(cpu::runs("pentium"));
  CHECK_FALSE(cpu::runs(""));
}

TEST_CASE("a stronger set implies the weaker ones", "[cpu]") {
  if (cpu::runs("avx512_vnni")) CHECK(cpu::runs("avx512"));
  if (cpu::runs("avx512_bf16")) CHECK(cpu::runs("avx512_vnni"));
  if (cpu::runs("amx_int8")) CHECK(cpu::runs("avx512_vnni"));
  if (cpu::runs("amx_bf16")) CHECK((cpu::runs("amx_int8") && cpu::runs("avx512_bf16")));
  if (cpu::runs("avx512")) CHECK(cpu::runs("avx2"));
  if (cpu::runs("avx_vnni")) CHECK(cpu::runs("avx2"));
}

TEST_CASE("the strongest variant that runs is chosen", "[cpu]") {
  unsetenv("POLYMAC_MAX_ISA");
  const cpu::variant<int()> table[] = {
      {"scalar", one}, {polymac::isa::native::name, two}, {"none of this world", three}};
  CHECK(cpu::best(table)() == 2);
  setenv("POLYMAC_MAX_ISA", "scalar", 1);
  CHECK(cpu::best(table)() == 1);
  setenv("POLYMAC_MAX_ISA", "a name that is not in the list", 1);
  CHECK(cpu::best(table)() == 2);
  unsetenv("POLYMAC_MAX_ISA");
  const cpu::variant<int()> none[] = {{"none of this world", three}};
  CHECK(cpu::best(none) == nullptr);
}
