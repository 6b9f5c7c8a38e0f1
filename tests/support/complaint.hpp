// SPDX-License-Identifier: MIT
// What a constructor says of its arguments.
#pragma once

#include <polymac/core/error.hpp>

#include <string>

namespace polymac_test {

/// The text of the polymac::error that make() throws; empty where it throws none.
template <class Make>
std::string complaint(const Make& make) {
  try {
    make();
  } catch (const polymac::error& e) {
    return e.what();
  }
  return "";
}

}  // namespace polymac_test
