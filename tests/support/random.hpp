// SPDX-License-Identifier: MIT
// Seeded random data: the same numbers on every machine, and a failing test says which seed it ran with.
#pragma once

#include "catch.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace polymac_test {

/// The seed of this run: the environment variable POLYMAC_TEST_SEED (decimal or 0x...), else a constant.
inline std::uint64_t run_seed() {
  const char* chosen = std::getenv("POLYMAC_TEST_SEED");
  if (chosen == nullptr || *chosen == '\0') return 20240607;
  char* end = nullptr;
  const unsigned long long seed = std::strtoull(chosen, &end, 0);
  if (*end != '\0') throw std::runtime_error(std::string("POLYMAC_TEST_SEED: expected a number, got ") + chosen);
  return seed;
}

inline std::string seed_note() { return "rerun with POLYMAC_TEST_SEED=" + std::to_string(run_seed()); }

/// A stream of random numbers (SplitMix64: Steele, Lea, Flood 2014). Streams with different salts are independent.
class random_source {
 public:
  explicit random_source(std::uint64_t salt = 0) : state_(run_seed() * 0x9E3779B97F4A7C15u + salt) {}

  std::uint64_t bits() noexcept {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  /// A number in [low, high], both included. The bias of the remainder is below 2^-32 for ranges of 32 bits.
  std::int64_t integer(std::int64_t low, std::int64_t high) noexcept {
    const std::uint64_t width = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) + 1;
    const std::uint64_t offset = width == 0 ? bits() : bits() % width;
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + offset);
  }
  /// A number in [0, 1) with 24 random bits.
  float unit() noexcept { return static_cast<float>(bits() >> 40) * 0x1p-24f; }

 private:
  std::uint64_t state_;
};

/// A whole number in any arithmetic's type.
template <class T>
constexpr T whole(std::int64_t v) {
  if constexpr (std::is_class_v<T>)
    return T(static_cast<float>(v));
  else
    return static_cast<T>(v);
}

/// Small integers: any arithmetic of at least 8 bits sums a few hundred of their products without rounding.
template <class T>
std::vector<T> small_integers(random_source& random, std::size_t count, int low = -3, int high = 3) {
  std::vector<T> values(count);
  for (T& v : values) v = whole<T>(random.integer(low, high));
  return values;
}

/// Every value of an integer type with the same probability; floats in [-1, 1), bfloat16 rounded from them.
template <class T>
std::vector<T> uniform(random_source& random, std::size_t count) {
  std::vector<T> values(count);
  for (T& v : values) {
    if constexpr (!std::is_integral_v<T>)
      v = static_cast<T>(2.0f * random.unit() - 1.0f);
    else
      v = static_cast<T>(random.bits());
  }
  return values;
}

/// The values where saturation and sign mistakes show: the smallest, the largest, their neighbours, -1, 0, 1.
template <std::integral T>
std::vector<T> extremes(random_source& random, std::size_t count) {
  using limit = std::numeric_limits<T>;
  const std::array<T, 7> choice = {limit::min(),
                                   static_cast<T>(limit::min() + 1),
                                   limit::max(),
                                   static_cast<T>(limit::max() - 1),
                                   static_cast<T>(-1),
                                   T{0},
                                   T{1}};
  std::vector<T> values(count);
  for (T& v : values) v = choice[static_cast<std::size_t>(random.integer(0, 6))];
  return values;
}

/// One value everywhere (-128 x -128 and the like).
template <class T>
std::vector<T> constant(std::size_t count, T value) {
  return std::vector<T>(count, value);
}

}  // namespace polymac_test

/// Declares a random source `name`; every assertion that fails in its scope prints the seed of the run.
#define POLYMAC_RANDOM(name, salt)   \
  INFO(::polymac_test::seed_note()); \
  ::polymac_test::random_source name(salt)
