// SPDX-License-Identifier: MIT
// What is known about a network after its runs, as a table for people and as JSON for programs.
#pragma once

#include "loaded_net.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace example {

/// One network. What does not apply, or cannot be known from the data, is empty.
struct row {
  std::string net;
  std::size_t inputs = 0;
  std::optional<std::size_t> correct;     ///< of the labelled inputs
  std::optional<double> score;            ///< mean squared error of the reconstruction
  std::string target;                     ///< what the answers are to be measured by, in words
  std::optional<std::size_t> mismatches;  ///< values that differ from a reference
  std::optional<double> difference;       ///< of floats: the largest, relative to the reference's largest magnitude
  std::uint64_t macs = 0;
  std::size_t arena_bytes = 0;
  std::size_t arena_lower_bound_bytes = 0;
  double median_us = 0;
  std::string isa;

  /// Correct answers as a share of 1.
  std::optional<double> accuracy() const;
};

/// A row with everything that follows from the network and its runs alone.
row make_row(const std::string& name, const loaded_net& net, std::size_t inputs, const runs& results);

/// The table, to the standard output.
void print_table(std::span<const row> rows);

/// An array of objects, to the standard output.
void print_json(std::span<const row> rows);

}  // namespace example
