// SPDX-License-Identifier: MIT
// Random numbers that are the same everywhere.
#pragma once

#include <cstdint>
#include <limits>

namespace example {

/// splitmix64 (Steele, Lea and Flood, 2014).
class random {
 public:
  using result_type = std::uint64_t;
  explicit constexpr random(std::uint64_t seed) noexcept : state_(seed) {}
  static constexpr result_type min() noexcept { return 0; }
  static constexpr result_type max() noexcept { return std::numeric_limits<result_type>::max(); }
  constexpr result_type operator()() noexcept {
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
  /// In [-1, 1).
  constexpr float symmetric() noexcept { return static_cast<float>((*this)() >> 40) * 0x1p-23F - 1.0F; }

 private:
  std::uint64_t state_;
};

}  // namespace example
