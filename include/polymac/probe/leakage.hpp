// SPDX-License-Identifier: MIT
// A side channel as a model: what an attacker who measures a processor's power or field would see of a layer.
//
//     sample of a product = bits of the sum that are set, or that change (a register)    + N(0, sigma^2)
//
// One sample for each product that is executed, in their order: what is left out takes no time. Real traces are not of
// this kind alone: loads of operands, memories and busses leak as well, and what is not executed can be seen in time. That
// an attack fails on these traces says nothing; that it succeeds says something.
//
// Models: Kocher, Jaffe, Jun, "Differential power analysis", CRYPTO 1999; Brier, Clavier, Olivier, "Correlation power
// analysis with a leakage model", CHES 2004 (Hamming distance).
#pragma once

#include "polymac/core/config.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace probe {
namespace detail {

/// Bits of a value that are set, of any plain type.
template <class T>
constexpr int set_bits(const T& v) noexcept {
  static_assert(std::is_trivially_copyable_v<T>, "polymac: leakage is of plain values");
  if constexpr (std::is_integral_v<T>) {
    return std::popcount(static_cast<std::make_unsigned_t<T>>(v));
  } else {
    int n = 0;
    for (const unsigned char byte : std::bit_cast<std::array<unsigned char, sizeof(T)>>(v)) n += std::popcount(byte);
    return n;
  }
}
template <class T>
constexpr int changed_bits(const T& before, const T& after) noexcept {
  if constexpr (std::is_integral_v<T>) {
    using word = std::make_unsigned_t<T>;
    return std::popcount(static_cast<word>(static_cast<word>(before) ^ static_cast<word>(after)));
  } else {
    using bytes = std::array<unsigned char, sizeof(T)>;
    const bytes a = std::bit_cast<bytes>(before), b = std::bit_cast<bytes>(after);
    int n = 0;
    for (std::size_t i = 0; i < a.size(); ++i) n += std::popcount(static_cast<unsigned char>(a[i] ^ b[i]));
    return n;
  }
}

}  // namespace detail

/// Bits of the new sum that are set.
struct hamming_weight {
  template <class Sum>
  constexpr int operator()(const Sum&, const Sum& after) const noexcept {
    return detail::set_bits(after);
  }
};
/// Bits in which the new sum differs from the old one.
struct hamming_distance {
  template <class Sum>
  constexpr int operator()(const Sum& before, const Sum& after) const noexcept {
    return detail::changed_bits(before, after);
  }
};

/// Normally distributed numbers from a generator of uniform ones (the polar method: Marsaglia, Bray, 1964): the same on
/// every machine whose sqrt and log are, unlike std::normal_distribution. The generator is the caller's.
template <std::uniform_random_bit_generator Generator>
class gaussian {
 public:
  explicit gaussian(Generator& generator) noexcept : generator_(&generator) {}
  /// N(0, 1).
  double operator()() noexcept {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    double u = 0, v = 0, s = 0;
    do {
      u = uniform();
      v = uniform();
      s = u * u + v * v;
    } while (s >= 1 || s == 0);
    const double factor = std::sqrt(-2 * std::log(s) / s);
    spare_ = v * factor;
    has_spare_ = true;
    return u * factor;
  }

 private:
  /// In [-1, 1], of 32 bits or as many as one number of the generator has.
  double uniform() noexcept {
    constexpr double range = static_cast<double>(Generator::max() - Generator::min());
    return 2 * (static_cast<double>((*generator_)() - Generator::min()) / range) - 1;
  }

  Generator* generator_;
  double spare_ = 0;
  bool has_spare_ = false;
};

/// Writes a trace: for each product one sample, Model(sum before, sum after) + sigma * N(0, 1), into memory of the
/// caller. Products beyond its end are counted, not written.
template <class Model = hamming_weight, class Generator = std::mt19937_64>
class leakage {
 public:
  leakage(std::span<float> trace, double sigma, Generator& generator) noexcept
      : trace_(trace), sigma_(sigma), noise_(generator) {}

  template <class Sum, class Activation, class Weight>
  void operator()(const Sum& before, const Sum& after, const Activation&, const Weight&) noexcept {
    if (samples_ < trace_.size()) trace_[samples_] = static_cast<float>(Model{}(before, after) + sigma_ * noise_());
    ++samples_;
  }
  /// Products since the trace was begun.
  std::size_t samples() const noexcept { return samples_; }
  /// Noise to the end of the trace, where nothing was executed any more.
  void fill_up() noexcept {
    for (; samples_ < trace_.size(); ++samples_) trace_[samples_] = static_cast<float>(sigma_ * noise_());
  }
  /// Begins another trace.
  void restart(std::span<float> trace) noexcept {
    trace_ = trace;
    samples_ = 0;
  }

 private:
  std::span<float> trace_;
  std::size_t samples_ = 0;
  double sigma_;
  gaussian<Generator> noise_;
};

}  // namespace probe
POLYMAC_END
