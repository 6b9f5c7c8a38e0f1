// SPDX-License-Identifier: MIT
// A graph made into a network, in a translation unit of its own: every layer of every number type is compiled there,
// which takes a minute or two, and once for all who call it.
#pragma once

#include "polymac/model/network.hpp"

namespace example {

/// model::network::build.
polymac::result<polymac::model::network> build_network(const polymac::model::graph& graph,
                                                       const polymac::model::network_options& options = {});

}  // namespace example
