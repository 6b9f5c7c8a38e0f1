// SPDX-License-Identifier: MIT
// Places buffers that live at different times into one piece of memory.
#pragma once

#include "polymac/core/error.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// A buffer of `bytes` bytes that is written at step `first` and read for the last time at step `last`, both included.
struct arena_request {
  std::size_t bytes = 0;
  std::size_t first = 0;
  std::size_t last = 0;

  constexpr bool lives_with(const arena_request& other) const noexcept {
    return first <= other.last && other.first <= last;
  }
};

/// Where the buffers lie. Sizes are counted in whole blocks of the alignment.
struct arena_plan {
  std::vector<std::size_t> offsets;   ///< one per request, in bytes, a multiple of the alignment
  std::size_t peak_bytes = 0;         ///< size of the arena
  std::size_t lower_bound_bytes = 0;  ///< most bytes alive at one step: no plan can be smaller
};

namespace arena_detail {

/// Bytes alive at the first step of each request. The maximum over all steps is among them, because the sum grows only
/// where a buffer begins. O(n log n).
inline std::vector<std::size_t> live_bytes(std::span<const arena_request> requests,
                                           std::span<const std::size_t> bytes) {
  const std::size_t n = requests.size();
  std::vector<std::size_t> by_first(n), by_last(n), live(n);
  std::iota(by_first.begin(), by_first.end(), std::size_t{0});
  by_last = by_first;
  std::sort(by_first.begin(), by_first.end(),
            [&](std::size_t a, std::size_t b) { return requests[a].first < requests[b].first; });
  std::sort(by_last.begin(), by_last.end(),
            [&](std::size_t a, std::size_t b) { return requests[a].last < requests[b].last; });
  std::size_t sum = 0;
  for (std::size_t begin = 0, ended = 0; begin < n;) {
    const std::size_t step = requests[by_first[begin]].first;
    std::size_t end = begin;
    for (; end < n && requests[by_first[end]].first == step; ++end) sum += bytes[by_first[end]];
    for (; ended < n && requests[by_last[ended]].last < step; ++ended) sum -= bytes[by_last[ended]];
    for (; begin < end; ++begin) live[by_first[begin]] = sum;
  }
  return live;
}

/// Puts the buffers down in the given order, each into the smallest gap that holds it among the buffers that live with
/// it, else behind them. Returns the peak. O(n^2).
inline std::size_t place_in_order(std::span<const arena_request> requests, std::span<const std::size_t> bytes,
                                  std::span<const std::size_t> order, std::vector<std::size_t>& offsets) {
  std::vector<std::size_t> placed;  // ascending offsets
  placed.reserve(order.size());
  std::size_t peak = 0;
  for (const std::size_t i : order) {
    std::size_t gap_begin = 0;
    std::size_t best = static_cast<std::size_t>(-1);
    std::size_t best_gap = static_cast<std::size_t>(-1);
    for (const std::size_t other : placed) {
      if (!requests[other].lives_with(requests[i])) continue;
      if (offsets[other] > gap_begin) {
        const std::size_t gap = offsets[other] - gap_begin;
        if (gap >= bytes[i] && gap < best_gap) {
          best_gap = gap;
          best = gap_begin;
        }
      }
      gap_begin = std::max(gap_begin, offsets[other] + bytes[other]);
    }
    offsets[i] = best_gap == static_cast<std::size_t>(-1) ? gap_begin : best;
    peak = std::max(peak, offsets[i] + bytes[i]);
    const auto behind = std::upper_bound(placed.begin(), placed.end(), i,
                                         [&](std::size_t a, std::size_t b) { return offsets[a] < offsets[b]; });
    placed.insert(behind, i);
  }
  return peak;
}

}  // namespace arena_detail

/// Plans an arena. Two greedy orders are tried and the smaller result is kept: largest buffers first, and buffers of
/// the step with most live bytes first (Pisarchyk, Lee: Efficient Memory Management for Deep Neural Net Inference,
/// 2020: "greedy by size" and "greedy by breadth"). O(n^2) time, O(n) memory; the same input gives the same plan.
/// `alignment` is a power of two. Errors: a life that ends before it begins, sizes that exceed the address space.
inline result<arena_plan> plan_arena(std::span<const arena_request> requests, std::size_t alignment = 64) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0)
    return status::make(errc::parameter, "arena: expected an alignment that is a power of two, got ", alignment);
  const std::size_t n = requests.size();
  constexpr std::size_t limit = static_cast<std::size_t>(-1) / 2;
  std::vector<std::size_t> bytes(n);
  std::size_t total = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const arena_request& r = requests[i];
    if (r.last < r.first)
      return status::make(errc::parameter, "arena: buffer ", i, ": expected a last step of at least ", r.first,
                          ", got ", r.last);
    if (r.bytes > limit - alignment || (bytes[i] = (r.bytes + alignment - 1) & ~(alignment - 1)) > limit - total)
      return status::make(errc::shape, "arena: buffer ", i, " of ", r.bytes, " bytes: the sum of all buffers exceeds ",
                          limit, " bytes");
    total += bytes[i];
  }

  arena_plan plan;
  const std::vector<std::size_t> live = arena_detail::live_bytes(requests, bytes);
  for (const std::size_t sum : live) plan.lower_bound_bytes = std::max(plan.lower_bound_bytes, sum);

  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto longer = [&](std::size_t a, std::size_t b) {
    if (bytes[a] != bytes[b]) return bytes[a] > bytes[b];
    return requests[a].last - requests[a].first > requests[b].last - requests[b].first;
  };
  std::stable_sort(order.begin(), order.end(), longer);
  plan.offsets.resize(n);
  plan.peak_bytes = arena_detail::place_in_order(requests, bytes, order, plan.offsets);
  if (plan.peak_bytes == plan.lower_bound_bytes) return plan;

  // Breadth of a buffer: the most bytes that live at any step of its life.
  std::vector<std::size_t> breadth(n, 0);
  std::vector<std::size_t> starts(n);
  std::iota(starts.begin(), starts.end(), std::size_t{0});
  std::sort(starts.begin(), starts.end(),
            [&](std::size_t a, std::size_t b) { return requests[a].first < requests[b].first; });
  for (std::size_t i = 0; i < n; ++i) {
    const auto begin = std::lower_bound(starts.begin(), starts.end(), requests[i].first,
                                        [&](std::size_t a, std::size_t step) { return requests[a].first < step; });
    for (auto at = begin; at != starts.end() && requests[*at].first <= requests[i].last; ++at)
      breadth[i] = std::max(breadth[i], live[*at]);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return breadth[a] > breadth[b]; });
  std::vector<std::size_t> offsets(n);
  const std::size_t peak = arena_detail::place_in_order(requests, bytes, order, offsets);
  if (peak < plan.peak_bytes) {
    plan.peak_bytes = peak;
    plan.offsets = std::move(offsets);
  }
  return plan;
}

}  // namespace model
POLYMAC_END
