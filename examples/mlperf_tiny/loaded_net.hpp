// SPDX-License-Identifier: MIT
// A model file as a network that is ready to run, and many runs of it with their time.
#pragma once

#include "examples/common/files.hpp"
#include "examples/common/progress.hpp"
#include "polymac/core/affine.hpp"
#include "polymac/core/buffer.hpp"
#include "polymac/model/tensor.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace example {

/// A tensor that a network takes or gives.
struct tensor {
  polymac::model::element_type type = polymac::model::element_type::float32;
  polymac::affine quantized;
  std::size_t bytes = 0;
};

/// What many runs gave.
struct runs {
  std::vector<bytes> outputs;  ///< for each output tensor: that of all inferences, one after the other
  double median_us = 0;        ///< of the time of one inference
};

class inference;

class loaded_net {
 public:
  /// Reads a .tflite file. `with_logits`: if the network ends in a softmax, its input becomes an output too, the first.
  static polymac::result<loaded_net> load(std::span<const std::byte> file, bool classic_rounding, bool with_logits);

  loaded_net(loaded_net&&) noexcept;
  ~loaded_net();

  const std::vector<tensor>& inputs() const noexcept { return inputs_; }
  const std::vector<tensor>& outputs() const noexcept { return outputs_; }
  bool has_logits() const noexcept { return has_logits_; }
  std::uint64_t macs() const noexcept;
  std::size_t arena_bytes() const noexcept;
  std::size_t arena_lower_bound_bytes() const noexcept;
  /// Instruction sets of the atoms that multiply, for example "avx512_vnni".
  const std::string& isa() const noexcept { return isa_; }

  /// Runs `all_inputs`: for each inference in turn the bytes of all input tensors. Errors: no whole number of
  /// inferences, or none; the file that they came from is the caller's to name. A short series is repeated
  /// for the median.
  polymac::result<runs> run(std::span<const std::byte> all_inputs, const std::string& name) const;

 private:
  friend class inference;
  struct implementation;
  explicit loaded_net(std::unique_ptr<implementation> made);

  std::unique_ptr<implementation> implementation_;
  std::vector<tensor> inputs_, outputs_;
  std::string isa_;
  bool has_logits_ = false;
};

/// One inference after another, for callers with a clock of their own: an arena, and inputs and outputs that are
/// aligned whatever the file's layout is.
class inference {
 public:
  /// Gets the memory. The network must outlive the object.
  polymac::status prepare(const loaded_net& net);
  /// Copies the inputs of the next run. `record`: the bytes of all input tensors.
  void set_inputs(const std::byte* record);
  polymac::status run();
  std::span<const std::span<std::byte>> outputs() const { return output_spans_; }

 private:
  const loaded_net* net_ = nullptr;
  polymac::buffer<std::byte> arena_;
  std::vector<polymac::buffer<std::byte>> inputs_, outputs_;
  std::vector<std::span<const std::byte>> input_spans_;
  std::vector<std::span<std::byte>> output_spans_;
};

}  // namespace example
