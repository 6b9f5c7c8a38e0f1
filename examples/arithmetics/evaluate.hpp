// SPDX-License-Identifier: MIT
// A net in every arithmetic.
#pragma once

#include "float_net.hpp"

#include <optional>
#include <string>
#include <vector>

namespace example {

/// A net and what it shall be run on.
struct task {
  std::string name;
  float_net net;
  std::vector<float> inputs;     ///< one after the other
  std::vector<float> reference;  ///< logits of another implementation of float32, or none
  bytes labels;                  ///< one for each input, or none
  bool reconstructs = false;     ///< the output repeats the input: a score instead of classes
};

/// What a net does in an arithmetic.
struct row {
  std::string net, arithmetic;
  double weight_bits = 0, activation_bits = 0;
  std::size_t inputs = 0;
  std::optional<double> accuracy;  ///< share of the labels
  std::optional<double> score;     ///< mean squared error of the reconstruction
  double agreement = 0;            ///< share of inputs with the class of float32, or a score within 1 % of its score
  double sqnr_db = 0;              ///< of the logits against those of float32; infinite where all are equal
  double speed = 0;                ///< time of float32 / time, of the multiplications
  double microjoules = 0;          ///< of an inference
};

/// Rows in the order of the arithmetics, float32 first. At most `most` inputs. Errors: what a layer refuses; a float32
/// net that is not its reference.
polymac::result<std::vector<row>> evaluate(const task& t, std::size_t most);

/// An order of the rows of a net that the arithmetics' authors, or their tables of errors, lead to expect.
struct order {
  std::string net, text;
  double difference = 0;  ///< what is compared with the limit
  const char* unit = "";
  bool holds = false;
};
/// Of the rows of one net.
std::vector<order> orders(const std::vector<row>& rows);

}  // namespace example
