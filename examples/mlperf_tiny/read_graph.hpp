// SPDX-License-Identifier: MIT
// A .tflite file read into a graph, in a translation unit of its own, as build_network.hpp.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/model/graph.hpp"

#include <cstddef>
#include <span>

namespace example {

/// io::tflite::parse.
polymac::result<polymac::model::graph> read_graph(std::span<const std::byte> file);

}  // namespace example
