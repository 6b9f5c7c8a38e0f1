// SPDX-License-Identifier: MIT
// A net of real numbers, whose convolutions and fully connected layers may run in any arithmetic.
#pragma once

#include "arithmetic.hpp"
#include "examples/common/files.hpp"
#include "polymac/model/graph.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace example {

/// Convolutions (of one group, not dilated) and fully connected layers are what an arithmetic takes over. Depthwise
/// convolutions, additions, mean pools, biases and activation functions are float32 whatever the arithmetic.
class float_net {
 public:
  /// Its layers in one arithmetic, in the order of the net.
  using layers = std::vector<std::unique_ptr<encoded_layer>>;

  /// From a .tflite file. Weights that are codes become the reals they stand for, and codes of activations are left out.
  static polymac::result<float_net> load(bytes file);

  std::size_t inputs() const { return elements(graph_.inputs[0]); }
  std::size_t outputs() const { return elements(logits_); }
  /// Multiply-accumulates of an inference, in the arithmetic and besides.
  std::uint64_t macs() const { return macs_; }
  std::uint64_t float_macs() const { return float_macs_; }

  polymac::result<layers> encode(const arithmetic& a) const;
  /// One inference. `logits`: what a softmax at the end would take, else the output. Adds to `seconds` what the
  /// multiplications of `in` took.
  polymac::status run(const layers& in, std::span<const float> input, std::span<float> logits, double& seconds) const;

 private:
  struct contraction;
  using values = std::vector<std::vector<float>>;

  polymac::status prepare();
  polymac::status prepare(const polymac::model::operation& op);
  void depthwise(const contraction& c, std::span<const float> x, std::span<float> y) const;
  std::size_t elements(std::int32_t tensor) const {
    return static_cast<std::size_t>(graph_.tensor(tensor)->shape.elements());
  }

  /// A convolution, depthwise convolution or fully connected layer, or the windows of a pool.
  struct contraction {
    windows where;
    std::size_t columns = 0;
    std::vector<float> weights, bias;  ///< columns x depth, or taps x channels; one for each column
  };
  bytes file_;  ///< graph_ points into it
  polymac::model::graph graph_;
  std::vector<contraction> steps_;  ///< one for each operation; empty where it has no windows
  std::int32_t logits_ = -1;
  std::uint64_t macs_ = 0, float_macs_ = 0;
};

}  // namespace example
