// SPDX-License-Identifier: MIT
// The command line.
#pragma once

#include "polymac/core/error.hpp"

#include <span>
#include <string>

namespace example {

/// What the user asked for. Empty texts were not given.
struct options {
  bool help = false;
  bool json = false;
  bool classic = false;  ///< rounding profile; else litert
  std::string data;      ///< folder of models, inputs and references
  std::string model;     ///< a .tflite file to run instead of the table
  std::string input;     ///< its inputs
  std::string output;    ///< where its outputs go
};

/// Reads the arguments behind the program's name. `--option VALUE` and `--option=VALUE` are the same. Errors
/// (errc::parameter) name the argument: an unknown or repeated one, a missing value, options that contradict each
/// other.
polymac::result<options> parse_options(std::span<const char* const> arguments);

/// The text of --help.
extern const char* const help_text;

}  // namespace example
