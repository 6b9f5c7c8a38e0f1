// SPDX-License-Identifier: MIT
#include "build_network.hpp"

namespace example {

polymac::result<polymac::model::network> build_network(const polymac::model::graph& graph,
                                                       const polymac::model::network_options& options) {
  return polymac::model::network::build(graph, options);
}

}  // namespace example
