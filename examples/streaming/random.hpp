// SPDX-License-Identifier: MIT
// Random numbers that are the same everywhere.
#pragma once

#include <cstdint>

namespace example {

/// splitmix64 (Steele, Lea and Flood, 2014).
class random {
 public:
  explicit constexpr random(std::uint64_t seed) noexcept : state_(seed) {}
  constexpr std::uint64_t operator()() noexcept {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  /// In [0, count).
  constexpr int below(int count) noexcept { return static_cast<int>((*this)() % static_cast<std::uint64_t>(count)); }
  /// In [least, most].
  constexpr int within(int least, int most) noexcept { return least + below(most - least + 1); }

 private:
  std::uint64_t state_;
};

}  // namespace example
