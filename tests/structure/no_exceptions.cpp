// SPDX-License-Identifier: MIT
// The program of an embedded user: no exceptions, no RTTI, no heap of its own. A refused layer says so by its status.
#include <polymac/polymac.hpp>

#include <array>
#include <cstdint>
#include <cstdio>

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this program is to be compiled with -fno-exceptions -fno-rtti"
#endif

namespace pm = polymac;

static_assert(!POLYMAC_HAS_EXCEPTIONS);

int main() {
  int failures = 0;
  const auto expect = [&failures](bool holds, const char* what) {
    if (holds) return;
    std::printf("failed: %s\n", what);
    ++failures;
  };

  const std::array<std::int8_t, 8> weights{1, -2, 3, -4, 5, -6, 7, -128};
  const std::array<std::int8_t, 4> input{127, -128, 1, 100};
  const std::array<std::int32_t, 2> bias{10, -20};
  const pm::matrix_view<const std::int8_t> w(weights.data(), 2, 4);
  const pm::matrix_view<const std::int8_t> x(input.data(), 1, 4);
  std::array<std::int32_t, 2> output{};
  const pm::matrix_view<std::int32_t> y(output.data(), 1, 2);

  const auto layer = pm::linear<pm::mac::int8>(w, bias);
  expect(layer.status().ok(), "a layer that fits has status ok");
  expect(layer(x, y).ok(), "a layer that fits runs");
  expect(output[0] == 127 + 256 + 3 - 400 + 10, "the first column is right");
  expect(output[1] == 635 + 768 + 7 - 12800 - 20, "the second column is right");

  const std::array<std::int32_t, 3> too_many{};
  const auto refused = pm::linear<pm::mac::int8>(w, too_many);
  std::printf("%s\n", refused.status().c_str());
  expect(refused.status().code() == pm::errc::shape, "three biases for two columns are refused");
  output = {};
  expect(!refused(x, y).ok() && output[0] == 0 && output[1] == 0, "a refused layer does not run");
  return failures;
}
