// SPDX-License-Identifier: MIT
// The networks of MLPerf Tiny, and how the data folder holds their inputs, labels and references.
#pragma once

#include "examples/common/files.hpp"
#include "loaded_net.hpp"

#include <filesystem>
#include <span>

namespace example {

/// Everything about one network that its file does not say. Paths are relative to the data folder.
struct net_entry {
  const char* name;        ///< mlperf_tiny/NAME.tflite
  const char* input_file;  ///< what `prepare` reads
  /// From the content of the input file to input tensors.
  polymac::result<bytes> (*prepare)(const bytes& content, const loaded_net& net, const std::filesystem::path& data);
  const char* values;   ///< type and shape as the names of the references in mlperf_tiny/litert_ref end
  const char* classic;  ///< reference logits in the profile classic, or null
  const char* labels;   ///< one byte per input, or null
  bool reconstructs;    ///< the score is how well the output repeats the input
  const char* target;   ///< of MLPerf Tiny's closed division
};

/// All of them, in the order of the table.
std::span<const net_entry> net_entries();

}  // namespace example
