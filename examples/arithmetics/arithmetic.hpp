// SPDX-License-Identifier: MIT
// The arithmetics of the table, and layers that run in them.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "windows.hpp"

#include <memory>
#include <span>
#include <vector>

namespace example {

/// The weights of a layer in some arithmetic.
class encoded_layer {
 public:
  virtual ~encoded_layer() = default;
  /// Encodes a picture and multiplies its windows with the weights: sums[rows][columns], in real units, no bias. Adds to
  /// `seconds` what the multiplication took, encoding and gathering not counted.
  virtual polymac::status multiply(const windows& w, std::span<const float> picture, std::span<float> sums,
                                   double& seconds) = 0;
};

using encoded = polymac::result<std::unique_ptr<encoded_layer>>;

/// A line of the table.
struct arithmetic {
  const char* name;
  double weight_bits;      ///< of a weight, with its share of the scale of a block
  double activation_bits;  ///< of an activation, likewise
  double picojoules;       ///< of a multiply-accumulate (energy.hpp)
  encoded (*encode)(polymac::matrix_view<const float> weights);  ///< columns x depth
};

/// In the order of the table; float32 is the first.
std::vector<arithmetic> all_arithmetics();

// Those whose steps are the same are in one translation unit.
void add_floats(std::vector<arithmetic>& list);
void add_fixed_point(std::vector<arithmetic>& list);
void add_small_floats(std::vector<arithmetic>& list);
void add_blocks(std::vector<arithmetic>& list);
void add_few_bits(std::vector<arithmetic>& list);
void add_logarithms(std::vector<arithmetic>& list);

}  // namespace example
