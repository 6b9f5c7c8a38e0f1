// SPDX-License-Identifier: MIT
// Outputs against references and labels.
#pragma once

#include "examples/common/files.hpp"
#include "report.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace example {

/// A float differs from its reference where it is farther away than this share of the reference's largest magnitude.
inline constexpr double float_tolerance = 1e-4;

/// Adds to `r` how many values of `actual` differ from `expected`; floats also how much. Both have the same size.
void count_mismatches(row& r, std::span<const std::byte> actual, std::span<const std::byte> expected,
                      polymac::model::element_type type);

/// How often the largest of the values of an inference (the first of equals) stands at the label.
std::size_t count_correct(std::span<const std::byte> values, const tensor& info, std::span<const std::byte> labels);

/// The reals that codes stand for (int8), or the floats themselves.
std::vector<float> reals(std::span<const std::byte> values, const tensor& info);

/// The bytes of floats.
bytes bytes_of(std::span<const float> values);

}  // namespace example
