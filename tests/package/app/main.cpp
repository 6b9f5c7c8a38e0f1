// SPDX-License-Identifier: MIT
// The program of a user: a layer of its own, and the variants of one that its build has made.
#include <polymac/polymac.hpp>

#include "kernels.hpp"

#include <cstdio>

int main() {
  const std::int8_t weights[2 * 4] = {1, -2, 3, -4, 5, -6, 7, -128};
  const std::int8_t input[4] = {127, -128, 1, 100};
  const std::int32_t expected[2] = {127 + 256 + 3 - 400, 635 + 768 + 7 - 12800};
  int mistakes = 0;

  const auto check = [&](const char* name, auto run) {
    std::int32_t output[2] = {};
    const polymac::status status = run({weights, 2, 4}, {input, 1, 4}, {output, 1, 2});
    const bool right = status.ok() && output[0] == expected[0] && output[1] == expected[1];
    std::printf("%-12s %d %d %s %s\n", name, output[0], output[1], right ? "right" : "wrong", status.c_str());
    if (!right) ++mistakes;
  };

  std::printf("polymac %d.%d.%d\n", POLYMAC_VERSION_MAJOR, POLYMAC_VERSION_MINOR, POLYMAC_VERSION_PATCH);
  check(polymac::isa::native::name,
        [](polymac::matrix_view<const std::int8_t> w, polymac::matrix_view<const std::int8_t> x,
           polymac::matrix_view<std::int32_t> y) {
          const std::int32_t bias[2] = {};
          return polymac::linear<polymac::mac::int8>(w, bias)(x, y);
        });
  // A real program asks the processor once which variant it may call; every processor has the weakest one.
#ifdef POLYMAC_VARIANT_scalar
  check("run_scalar", run_scalar);
#endif
#ifdef POLYMAC_VARIANT_neon
  check("run_neon", run_neon);
#endif
  return mistakes;
}
