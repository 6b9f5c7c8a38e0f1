// SPDX-License-Identifier: MIT
// The next token from logits: the most likely one, or one that is drawn.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <span>

POLYMAC_BEGIN
namespace model {

/// How a token is chosen. temperature 0: the largest logit, the first of several. Above: softmax(logits / temperature)
/// is drawn from; of it, with top_p below 1, the nucleus only: the fewest tokens whose probabilities sum to top_p or
/// more (Holtzman et al., The curious case of neural text degeneration, 2020).
struct sampling {
  float temperature = 0.0f;
  float top_p = 1.0f;
};

/// The largest logit, the first of several; refuses NaN and no logits at all.
inline result<std::int32_t> most_likely(std::span<const float> logits) noexcept {
  if (logits.empty() || logits.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    return status::make(errc::shape, "sampling: expected 1 to 2^31 - 1 logits, got ", logits.size());
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) return status::make(errc::parameter, "sampling: expected numbers, logit ", i, " is NaN");
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<std::int32_t>(best);
}

/// Chooses tokens. Allocates at construction alone.
class sampler {
 public:
  /// Throws polymac::error (or sets `status()`) on a temperature that is not finite or below 0, and a top_p outside of
  /// (0, 1].
  sampler(std::size_t vocabulary, const sampling& how) : how_(how) {
    status_ = construct(vocabulary);
    polymac::detail::raise_unless_ok(status_);
  }
  const polymac::status& status() const noexcept { return status_; }

  /// One for each token of the vocabulary. generator: a uniform random bit generator (std::mt19937); one draw of 24 bits
  /// is taken from it, none at temperature 0. O(n log n) where there is a nucleus, else O(n).
  template <std::uniform_random_bit_generator Generator>
  result<std::int32_t> operator()(std::span<const float> logits, Generator& generator) noexcept(noexcept(generator())) {
    if (!status_.ok()) return status_;
    if (logits.size() != order_.size())
      return polymac::status::make(errc::shape, "sampling: expected ", order_.size(), " logits, got ", logits.size());
    auto best = most_likely(logits);
    if (!best.ok() || how_.temperature == 0.0f) return best;
    static_assert(Generator::max() - Generator::min() >= 0xFFFFFFu,
                  "polymac: sampling needs a generator of at least 24 random bits");
    const auto bits = static_cast<std::uint32_t>((generator() - Generator::min()) & 0xFFFFFFu);
    return draw(logits, logits[static_cast<std::size_t>(*best)], static_cast<double>(bits) * 0x1p-24);
  }

 private:
  polymac::status construct(std::size_t vocabulary) noexcept {
    if (!(how_.temperature >= 0.0f) || !std::isfinite(how_.temperature))
      return polymac::status::make(errc::parameter, "sampling: expected a temperature of at least 0");
    if (!(how_.top_p > 0.0f && how_.top_p <= 1.0f))
      return polymac::status::make(errc::parameter, "sampling: expected a top_p above 0 and at most 1");
    if (auto s = probabilities_.resize(vocabulary); !s.ok()) return s;
    return order_.resize(vocabulary);
  }

  /// coin: uniform in [0, 1).
  std::int32_t draw(std::span<const float> logits, float most, double coin) noexcept {
    const std::size_t count = logits.size();
    double sum = 0.0;
    for (std::size_t i = 0; i < count; ++i) {
      // The largest one is 1 also where it is infinite.
      const double below = logits[i] == most ? 0.0 : static_cast<double>(logits[i]) - static_cast<double>(most);
      probabilities_[i] = std::exp(below / static_cast<double>(how_.temperature));
      sum += probabilities_[i];
      order_[i] = static_cast<std::int32_t>(i);
    }
    std::size_t kept = count;
    if (how_.top_p < 1.0f) {
      // Those that no nucleus has: if one below (1 - top_p) / (count - 1) of the sum were in it, the more likely ones
      // would sum to top_p without it (llama2.c's cut). The most likely one has 1.
      const double rest = (1.0 - static_cast<double>(how_.top_p)) * sum;
      const double cut = count > 1 ? std::min(rest / static_cast<double>(count - 1), 1.0) : 0.0;
      const auto likely = [&](std::int32_t i) { return of(i) >= cut; };
      std::int32_t* const end = std::partition(order_.data(), order_.data() + count, likely);
      std::sort(order_.data(), end,
                [&](std::int32_t a, std::int32_t b) { return of(a) > of(b) || (of(a) == of(b) && a < b); });
      const auto found = static_cast<std::size_t>(end - order_.data());
      const double enough = static_cast<double>(how_.top_p) * sum;
      double nucleus = 0.0;
      for (kept = 0; kept < found && nucleus < enough; ++kept) nucleus += of(order_[kept]);
      sum = nucleus;
    }
    const double target = coin * sum;
    double passed = 0.0;
    for (std::size_t i = 0; i < kept; ++i) {
      passed += of(order_[i]);
      if (target < passed) return order_[i];
    }
    return order_[kept - 1];  // roundings
  }
  double of(std::int32_t token) const noexcept { return probabilities_[static_cast<std::size_t>(token)]; }

  sampling how_;
  polymac::status status_;
  buffer<double> probabilities_;  ///< not divided by their sum
  buffer<std::int32_t> order_;
};

}  // namespace model
POLYMAC_END
