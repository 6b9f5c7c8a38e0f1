// SPDX-License-Identifier: MIT
// Runs a layer in memory that lies between unmapped pages, without allocation, and compares it with a run in plain
// memory.
#pragma once

#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/compare.hpp"
#include "support/guarded_buffer.hpp"

#include <polymac/core/error.hpp>
#include <polymac/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace polymac_test {

/// An input that cannot be written and whose neighbours cannot be read.
template <class T>
guarded_buffer<T> read_only(const std::vector<T>& values, placement where) {
  guarded_buffer<T> buffer(values, where);
  buffer.make_read_only();
  return buffer;
}

/// Runs `layer` as run(layer, x, y, workspace) in plain memory and between guards; everything must agree. The workspace
/// has no more bytes than asked for and holds garbage.
template <class Out, class In, class Layer, class Run>
void check_between_guards(const Layer& layer, const std::vector<In>& x, std::size_t outputs, const Run& run) {
  std::size_t bytes = 0;
  if constexpr (requires { layer.workspace_bytes(); }) bytes = layer.workspace_bytes();
  std::vector<Out> expected(outputs);
  std::vector<std::byte> memory(bytes);
  const auto plain = run(layer, x.data(), expected.data(), polymac::workspace(memory));
  REQUIRE(plain.text() == "");
  for (const placement where : both_placements) {
    CAPTURE(where == placement::before_guard);
    const auto input = read_only(x, where);
    guarded_buffer<Out> output(outputs, where);
    guarded_buffer<std::byte> scratch(bytes, where);
    std::fill(scratch.begin(), scratch.end(), std::byte{0xEE});
    polymac::status status;
    {
      const no_allocation trap;
      status = run(layer, input.data(), output.data(), polymac::workspace(scratch.data(), scratch.size()));
    }
    CHECK(status.text() == "");
    CHECK(difference(expected, output.values()) == "");
    CHECK(output.slack_untouched());
    CHECK(scratch.slack_untouched());
  }
}

}  // namespace polymac_test
