// SPDX-License-Identifier: MIT
#include "bandwidth.hpp"
#include "examples/common/timing.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace example {

namespace {

/// The sum of all words, in as many sums as fill eight registers of 64 bytes, which compilers make vector code of.
std::uint64_t sum_of(const std::uint64_t* from, std::size_t blocks) {
  constexpr std::size_t width = 64;
  std::array<std::uint64_t, width> sums{};
  for (std::size_t b = 0; b < blocks; ++b, from += width)
    for (std::size_t i = 0; i < width; ++i) sums[i] += from[i];
  std::uint64_t all = 0;
  for (const std::uint64_t s : sums) all += s;
  return all;
}

}  // namespace

double read_bandwidth(std::size_t bytes) {
  constexpr std::size_t block = 64 * sizeof(std::uint64_t);
  const std::size_t blocks = (bytes + block - 1) / block;
  const std::vector<std::uint64_t> memory(blocks * 64, 1);
  volatile std::uint64_t kept = 0;
  double best = 0;
  for (int trial = 0; trial < 50; ++trial) {
    constexpr int repeats = 20;
    stopwatch clock;
    for (int i = 0; i < repeats; ++i) kept = kept + sum_of(memory.data(), blocks);
    best = std::max(best, static_cast<double>(repeats) * static_cast<double>(blocks * block) / clock.lap());
  }
  return best;
}

}  // namespace example
