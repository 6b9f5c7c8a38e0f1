// SPDX-License-Identifier: MIT
// The arena planner: buffers alive at the same time never share a byte, and the plan is close to its bound.
#include "polymac/model/arena.hpp"
#include "catch.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using polymac::model::arena_plan;
using polymac::model::arena_request;
using polymac::model::plan_arena;

std::size_t rounded(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// The bound by its definition: the most bytes alive over all steps.
std::size_t most_alive(const std::vector<arena_request>& requests, std::size_t alignment) {
  std::size_t most = 0;
  for (const arena_request& at : requests) {
    for (const std::size_t step : {at.first, at.last}) {
      std::size_t sum = 0;
      for (const arena_request& r : requests)
        if (r.first <= step && step <= r.last) sum += rounded(r.bytes, alignment);
      most = std::max(most, sum);
    }
  }
  return most;
}

// True where every promise of a plan holds.
bool sound(const std::vector<arena_request>& requests, const arena_plan& plan, std::size_t alignment) {
  if (plan.offsets.size() != requests.size() || plan.lower_bound_bytes != most_alive(requests, alignment)) return false;
  std::size_t end = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (plan.offsets[i] % alignment != 0) return false;
    end = std::max(end, plan.offsets[i] + rounded(requests[i].bytes, alignment));
    for (std::size_t j = 0; j < i; ++j) {
      const bool together = requests[i].first <= requests[j].last && requests[j].first <= requests[i].last;
      const bool apart = plan.offsets[i] + requests[i].bytes <= plan.offsets[j] ||
                         plan.offsets[j] + requests[j].bytes <= plan.offsets[i];
      if (together && !apart && requests[i].bytes > 0 && requests[j].bytes > 0) return false;
    }
  }
  return end == plan.peak_bytes && plan.peak_bytes >= plan.lower_bound_bytes;
}

}  // namespace

TEST_CASE("A chain of buffers needs the largest pair", "[arena]") {
  // Each result lives until the next operation has read it.
  const std::vector<arena_request> chain{{1024, 0, 1}, {4096, 1, 2}, {2048, 2, 3}, {64, 3, 4}};
  const auto plan = plan_arena(chain);
  REQUIRE(plan.ok());
  REQUIRE(sound(chain, *plan, 64));
  REQUIRE(plan->lower_bound_bytes == 4096 + 2048);
  REQUIRE(plan->peak_bytes == plan->lower_bound_bytes);
}

TEST_CASE("A residual keeps its branch alive", "[arena]") {
  const std::vector<arena_request> residual{{100, 0, 3}, {100, 1, 2}, {100, 2, 3}, {100, 3, 4}};
  const auto plan = plan_arena(residual);
  REQUIRE(plan.ok());
  REQUIRE(sound(residual, *plan, 64));
  REQUIRE(plan->peak_bytes == 3 * 128);
}

TEST_CASE("A gap is used by the buffer that fits it best", "[arena]") {
  // Three of 1024 leave gaps when the outer ones die; later small ones must fall into them.
  const std::vector<arena_request> gaps{{1024, 0, 9}, {512, 0, 3}, {1024, 0, 9}, {256, 0, 3}, {512, 4, 9}, {256, 4, 9}};
  const auto plan = plan_arena(gaps);
  REQUIRE(plan.ok());
  REQUIRE(sound(gaps, *plan, 64));
  REQUIRE(plan->peak_bytes == plan->lower_bound_bytes);
}

TEST_CASE("No buffers, and buffers without bytes", "[arena]") {
  const auto none = plan_arena({});
  REQUIRE(none.ok());
  REQUIRE(none->peak_bytes == 0);
  const std::vector<arena_request> empty{{0, 0, 5}, {64, 0, 5}, {0, 2, 3}};
  const auto plan = plan_arena(empty);
  REQUIRE(plan.ok());
  REQUIRE(sound(empty, *plan, 64));
  REQUIRE(plan->peak_bytes == 64);
}

TEST_CASE("Every set of four small buffers is planned soundly", "[arena]") {
  // All lives inside four steps and two sizes for each of four buffers: 20^4 cases.
  std::vector<arena_request> kinds;
  for (std::size_t first = 0; first < 4; ++first)
    for (std::size_t last = first; last < 4; ++last)
      for (const std::size_t bytes : {std::size_t{64}, std::size_t{192}}) kinds.push_back({bytes, first, last});
  std::size_t unsound = 0;
  std::size_t above_bound = 0;
  for (const auto& a : kinds)
    for (const auto& b : kinds)
      for (const auto& c : kinds)
        for (const auto& d : kinds) {
          const std::vector<arena_request> requests{a, b, c, d};
          const auto plan = plan_arena(requests);
          unsound += !plan.ok() || !sound(requests, *plan, 64);
          above_bound += plan.ok() && plan->peak_bytes > plan->lower_bound_bytes;
        }
  REQUIRE(unsound == 0);
  REQUIRE(above_bound * 20 < kinds.size() * kinds.size() * kinds.size() * kinds.size());  // rarely not optimal
}

TEST_CASE("Random networks are planned soundly", "[arena]") {
  INFO(polymac_test::seed_note());
  polymac_test::random_source random(17);
  std::size_t unsound = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::size_t alignment = std::size_t{1} << random.integer(0, 7);
    std::vector<arena_request> requests(static_cast<std::size_t>(random.integer(1, 40)));
    for (arena_request& r : requests) {
      r.bytes = static_cast<std::size_t>(random.integer(0, 5000));
      r.first = static_cast<std::size_t>(random.integer(0, 30));
      r.last = r.first + static_cast<std::size_t>(random.integer(0, 6));
    }
    const auto plan = plan_arena(requests, alignment);
    unsound += !plan.ok() || !sound(requests, *plan, alignment);
  }
  REQUIRE(unsound == 0);
}

TEST_CASE("Steps may be any numbers", "[arena]") {
  constexpr std::size_t far = static_cast<std::size_t>(-1);
  const std::vector<arena_request> requests{{64, 0, far}, {64, far - 1, far}, {64, far, far}, {64, 5, 6}};
  const auto plan = plan_arena(requests);
  REQUIRE(plan.ok());
  REQUIRE(sound(requests, *plan, 64));
  REQUIRE(plan->peak_bytes == 192);
}

TEST_CASE("Impossible requests are refused with the buffer and the reason", "[arena]") {
  const std::vector<arena_request> backwards{{64, 0, 1}, {64, 5, 4}};
  const auto a = plan_arena(backwards);
  REQUIRE(!a.ok());
  REQUIRE(a.status().code() == polymac::errc::parameter);
  REQUIRE(a.status().text() == "arena: buffer 1: expected a last step of at least 5, got 4");

  constexpr std::size_t half = static_cast<std::size_t>(-1) / 2;
  for (const std::vector<arena_request>& huge :
       {std::vector<arena_request>{{1, 0, 0}, {half, 0, 0}}, std::vector<arena_request>{{1, 0, 0}, {half - 63, 0, 0}},
        std::vector<arena_request>{{64, 0, 0}, {half - 191, 0, 0}, {1, 2, 2}, {65, 3, 3}}}) {
    const auto b = plan_arena(huge);
    REQUIRE(!b.ok());
    REQUIRE(b.status().code() == polymac::errc::shape);
    REQUIRE(b.status().text().find("exceeds") != std::string_view::npos);
  }

  const auto c = plan_arena({}, 48);
  REQUIRE(!c.ok());
  REQUIRE(c.status().text() == "arena: expected an alignment that is a power of two, got 48");
}
