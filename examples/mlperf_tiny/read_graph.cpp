// SPDX-License-Identifier: MIT
#include "read_graph.hpp"

#include "polymac/io/tflite.hpp"

namespace example {

polymac::result<polymac::model::graph> read_graph(std::span<const std::byte> file) {
  return polymac::io::tflite::parse(file);
}

}  // namespace example
