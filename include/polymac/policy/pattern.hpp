// SPDX-License-Identifier: MIT
// Patterns of taps: of a 3 x 3 kernel four taps are kept, and which four is one of a few patterns (PatDNN, Niu et al.,
// ASPLOS 2020).
//
//     x x .     . x .     . x x
//     . x x     x x x     . x .      the centre is in every pattern
//     . . .     . . .     . . x
//
// PatDNN has a pattern for each pair of filter and input channel, which suits kernels that hold a line of an image in a
// register. Here filters of a register tile and four input channels share theirs: then a tap that is left out is a block of
// zeros, and the kernel is that of block_list, without a selection. 4 of 9 taps are multiplied: 2.25 times as fast.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/text.hpp"
#include "polymac/core/view.hpp"
#include "polymac/policy/block_list.hpp"
#include "polymac/policy/policy.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

POLYMAC_BEGIN
namespace policy {

/// Taps of a 3 x 3 kernel, line by line: bit t is tap t, bit 4 the centre.
using tap_pattern = std::uint16_t;

/// 3 x 3 convolutions whose kernels have at most `Kept` taps, the centre among them, in at most `Patterns` patterns;
/// `Channels` filters and four input channels share one. A kernel of zeros (connectivity pruning) needs none.
template <std::size_t Kept = 4, std::size_t Patterns = 8, std::size_t Channels = 16>
struct pattern : policy {
  static_assert(Kept > 0 && Kept < 9 && Patterns > 0 && (Channels == 16 || Channels == 32),
                "polymac: pattern<Kept, Patterns, Channels> keeps 1 to 8 taps, for 16 or 32 filters that share them");
  using atoms = block_list_atoms;
  using weaker = void;
  static constexpr std::size_t kept_taps = Kept, patterns = Patterns, channels = Channels;
  static constexpr std::size_t quad = 4, taps = 9;
  static constexpr std::size_t channel_group = quad;
  static constexpr tap_pattern centre = 1 << 4;

 private:
  static constexpr auto text_ = text<47>::join("pattern<", Kept, ", ", Patterns, ", ", Channels, ">");

 public:
  static constexpr const char* name = text_.c_str();

  /// Fails where kernels are not 3 x 3, with the first kernel that has too many taps or not the centre, and where there are
  /// too many patterns. `run`: input channels.
  template <class WeightOf>
  static constexpr status check(const char* who, std::size_t columns, std::size_t depth, std::size_t run,
                                const WeightOf& weight_of) noexcept {
    if (depth != taps * run)
      return status::make(errc::shape, who, ": ", name, " expects kernels of 3 x 3, got ", run > 0 ? depth / run : 0,
                          " taps");
    std::array<tap_pattern, Patterns> seen{};
    std::size_t count = 0;
    for (std::size_t c = 0; c < columns; c += Channels)
      for (std::size_t i = 0; i < run; i += quad) {
        const tap_pattern p = support(c, columns, i, run, weight_of);
        if (p == 0) continue;
        const auto size = static_cast<std::size_t>(std::popcount(p));
        if (size > Kept || (p & centre) == 0)
          return status::make(errc::parameter, who, ": ", name, " expects at most ", Kept,
                              " taps with the centre among them, got ", size, " for filters from ", c,
                              " and input channels from ", i, (p & centre) == 0 ? ", without the centre" : "");
        // A pattern that is part of another one is no new one.
        bool known = false;
        for (std::size_t s = 0; s < count && !known; ++s) {
          const auto both = static_cast<tap_pattern>(seen[s] | p);
          known = static_cast<std::size_t>(std::popcount(both)) <= Kept;
          if (known) seen[s] = both;
        }
        if (known) continue;
        if (count == Patterns)
          return status::make(errc::parameter, who, ": ", name, " expects at most ", Patterns, " patterns, got more");
        seen[count++] = p;
      }
    return {};
  }

 private:
  template <class WeightOf>
  static constexpr tap_pattern support(std::size_t first, std::size_t columns, std::size_t channel, std::size_t run,
                                       const WeightOf& weight_of) noexcept {
    unsigned p = 0;
    for (std::size_t t = 0; t < taps; ++t)
      for (std::size_t c = first; c < polymac::detail::smaller(first + Channels, columns); ++c)
        for (std::size_t i = channel; i < polymac::detail::smaller(channel + quad, run); ++i)
          if (const auto w = weight_of(c, t * run + i); !(w == std::remove_cvref_t<decltype(w)>{})) p |= 1u << t;
    return static_cast<tap_pattern>(p);
  }
};

namespace detail {

template <class P>
concept Pattern = requires {
  P::kept_taps + P::patterns;
};

/// The largest sums of squares of `scores` with the centre.
template <class P>
constexpr tap_pattern natural_pattern(const std::array<double, P::taps>& scores) noexcept {
  tap_pattern p = P::centre;
  for (std::size_t n = 1; n < P::kept_taps; ++n) {
    std::size_t best = P::taps;
    for (std::size_t t = 0; t < P::taps; ++t)
      if ((p >> t & 1) == 0 && (best == P::taps || scores[t] > scores[best])) best = t;
    p = static_cast<tap_pattern>(p | 1u << best);
  }
  return p;
}
template <class P>
constexpr double kept_by(tap_pattern p, const std::array<double, P::taps>& scores) noexcept {
  double sum = 0;
  for (std::size_t t = 0; t < P::taps; ++t) sum += (p >> t & 1) != 0 ? scores[t] : 0.0;
  return sum;
}

}  // namespace detail

/// Prunes the weights of a 3 x 3 convolution (output channels x 3 x 3 x input channels, of one group) to P's patterns, in
/// place. The patterns are those that are most often the best of a kernel (its largest sums of squares, the centre
/// included); each kernel then takes the one that keeps most of it. Of the kernels, the share `kept` with the largest sums
/// stays (connectivity pruning). Returns the patterns, most frequent first; none where the kernels are not 3 x 3, and then
/// nothing is changed. O(weights x patterns).
template <detail::Pattern P, class W>
std::vector<tap_pattern> prune(image_view<W> weights, double kept = 1.0) {
  if (weights.height != 3 || weights.width != 3) return {};
  struct kernel {
    std::size_t filter, channel;
    std::array<double, P::taps> scores{};
    double sum = 0;
  };
  const auto for_each = [&](const kernel& k, const auto& f) {
    for (std::size_t t = 0; t < P::taps; ++t)
      for (std::size_t o = k.filter; o < polymac::detail::smaller(k.filter + P::channels, weights.batch); ++o)
        for (std::size_t i = k.channel; i < polymac::detail::smaller(k.channel + P::quad, weights.channels); ++i)
          f(t, weights(o, t / 3, t % 3, i));
  };
  std::vector<kernel> kernels;
  std::vector<std::size_t> counts(std::size_t{1} << P::taps);
  for (std::size_t o = 0; o < weights.batch; o += P::channels)
    for (std::size_t i = 0; i < weights.channels; i += P::quad) {
      kernel k{o, i};
      for_each(k, [&](std::size_t t, W& w) { k.scores[t] += static_cast<double>(w) * static_cast<double>(w); });
      ++counts[detail::natural_pattern<P>(k.scores)];
      kernels.push_back(k);
    }
  std::vector<tap_pattern> set;
  for (std::size_t p = 0; p < counts.size(); ++p)
    if (counts[p] > 0) set.push_back(static_cast<tap_pattern>(p));
  std::stable_sort(set.begin(), set.end(), [&](tap_pattern a, tap_pattern b) { return counts[a] > counts[b]; });
  if (set.size() > P::patterns) set.resize(P::patterns);
  for (kernel& k : kernels) {
    tap_pattern best = set.front();
    for (const tap_pattern p : set)
      if (detail::kept_by<P>(p, k.scores) > detail::kept_by<P>(best, k.scores)) best = p;
    k.sum = detail::kept_by<P>(best, k.scores);
    for_each(k, [&](std::size_t t, W& w) {
      if ((best >> t & 1) == 0) w = W{};
    });
  }
  std::stable_sort(kernels.begin(), kernels.end(), [](const kernel& a, const kernel& b) { return a.sum > b.sum; });
  const auto most = static_cast<std::size_t>(kept * static_cast<double>(kernels.size()) + 0.5);
  for (std::size_t n = most; n < kernels.size(); ++n) for_each(kernels[n], [](std::size_t, W& w) { w = W{}; });
  return set;
}

}  // namespace policy
POLYMAC_END
