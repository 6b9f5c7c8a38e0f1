// SPDX-License-Identifier: MIT
// An arithmetic of one's own in a convolution with a policy: weights that are signed powers of two, so that products are
// shifts, of which 2:4 sparsity leaves out half.
//
// All of it is at most 40 lines, without blank lines, comments and includes: the arithmetic, a convolution that runs it
// with an epilogue, and a check of every output. It runs on every instruction set, as the library's own do.
#include "polymac/sparsity.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

using namespace polymac;

/// Weight w stands for 0, or for sign(w) 2^(|w| - 1), |w| <= 8: five bits. A product is a shift.
struct power_of_two {
  using activation = std::int8_t;
  using weight = std::int8_t;
  using accumulator = std::int32_t;
  static constexpr const char* name = "power_of_two";
  static constexpr bool linear = true, exact = true;
  static constexpr std::size_t max_depth = (1 << 17) - 1;  // |a| 2^7 <= 2^14
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return w > 0 ? c + a * (1 << (w - 1)) : w < 0 ? c - a * (1 << (-w - 1)) : c;
  }
};

/// A 3 x 3 convolution of a picture of 12 x 12 x 8 with 16 filters, in any arithmetic, with any policy.
template <policy::Policy P = policy::dense>
std::vector<float> convolve(Mac auto m, const auto& x, const auto& w, const epilogue::Stage auto& scale) {
  const image_view picture(x.data(), 1, 12, 12, 8), weights(w.data(), 16, 3, 3, 8);
  auto layer = conv2d<decltype(m), P>({.padding = same}, weights, std::vector<int>(16, 9), scale | epilogue::relu);
  std::vector<std::byte> memory(layer.workspace_bytes({12, 12}));
  std::vector<float> y(12 * 12 * 16);
  // NAN is equal to nothing, should the layer refuse.
  return layer(picture, image_view<float>(y.data(), 1, 12, 12, 16), workspace(memory)).ok() ? y : std::vector{NAN};
}

/// A line of the table. The outputs must be those of float32, which is exact here, on the values of the codes, with none
/// left out.
bool compare(Mac auto m, int bits, const std::vector<float>& x, const std::vector<float>& w, auto encode) {
  std::vector<std::int8_t> pixels(x.begin(), x.end()), codes;
  for (const float v : w) codes.push_back(static_cast<std::int8_t>(v == 0 ? 0 : encode(v)));
  std::vector<float> values, real = convolve(mac::float32{}, x, w, epilogue::scale(0x1p-7F));
  for (const auto code : codes) values.push_back(static_cast<float>(m.multiply_add(0, 1, code)));
  const auto y = convolve<policy::always<policy::n_of_m<2, 4>>>(m, pixels, codes, epilogue::dequantize(0x1p-7F));
  const bool right = y == convolve(mac::float32{}, x, values, epilogue::scale(0x1p-7F));
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < y.size(); ++i) signal += std::pow(real[i], 2), noise += std::pow(real[i] - y[i], 2);
  std::printf("%-12s  %4d  %10.1f  %s\n", m.name, bits, 10 * std::log10(signal / noise), right ? "yes" : "NO");
  return right;
}

int main() {
  std::vector<float> x(12 * 12 * 8), w(16 * 3 * 3 * 8);
  for (std::size_t i = 0; i < w.size(); ++i) x[i] = float(i * i % 127), w[i] = 127 * std::sin(float(i * i % 1009));
  policy::prune<policy::n_of_m<2, 4>>(image_view(w.data(), 16, 3, 3, 8));
  std::puts("arithmetic    bits  SQNR in dB  sums as defined");
  const auto power = [](float v) { return std::copysign(std::round(std::log2(std::max(1.0F, std::abs(v)))) + 1, v); };
  return compare(power_of_two{}, 5, x, w, power) && compare(mac::int8{}, 8, x, w, roundf) ? 0 : 1;
}
