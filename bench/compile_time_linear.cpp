// SPDX-License-Identifier: MIT
// The smallest program with a layer, all of whose shapes are constants: what bench/compile_time takes the size of. It
// reads 64 codes and prints 10.
#include <polymac/epilogue/clamp.hpp>
#include <polymac/epilogue/requantize.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/mac/int8.hpp>

#include <array>
#include <cstdint>
#include <cstdio>

namespace {

namespace pm = polymac;

constexpr auto weights = [] {
  std::array<std::int8_t, 10 * 64> w{};
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::int8_t>(i * 37 % 255);
  return w;
}();
constexpr std::array<std::int32_t, 10> bias{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

}  // namespace

int main() {
  const auto layer = pm::linear<pm::mac::int8>(pm::matrix_view<const std::int8_t>(weights.data(), 10, 64), bias,
                                               pm::requantize(0.001, 0) | pm::clamp(0, 127));
  std::int8_t x[64], y[10];
  if (std::fread(x, 1, sizeof x, stdin) != sizeof x) return 2;
  if (!layer(pm::matrix_view<const std::int8_t>(x, 1, 64), pm::matrix_view<std::int8_t>(y, 1, 10)).ok()) return 1;
  for (const int code : y) std::printf("%d\n", code);
}
