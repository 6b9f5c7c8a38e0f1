// SPDX-License-Identifier: MIT
#include "options.hpp"

#include <string_view>
#include <utility>

namespace example {

using polymac::errc;
using polymac::status;

const char* const help_text =
    R"(mlperf_tiny: runs real int8 and float networks with polymac and compares them with references

  mlperf_tiny [--data DIR] [--rounding litert|classic] [--json]
      One table of all MLPerf Tiny networks there is data for. DIR is also looked for in the environment variable
      POLYMAC_DATA and at ../shared/data. Without data, a small network of polymac's own reads drawn digits.

  mlperf_tiny --model FILE.tflite --input FILE.bin [--output FILE.bin] [--rounding litert|classic] [--json]
      Runs any supported model. The input file holds the raw elements (little-endian) of one or more inferences: all
      input tensors of the first, then of the second ...; the output file gets all output tensors in the same order.

  --rounding   litert (default): as LiteRT's reference kernels; classic: as TensorFlow Lite Micro and CMSIS-NN
  --json       an array of objects instead of the table; nothing else is printed on the standard output
  --help       this text

Exit code: 0; 1 if something cannot be read or run, or differs from a reference; 2 for a wrong command line.
)";

namespace {

/// The text that a value option fills, or null.
std::string* destination(std::string_view name, options& o, std::string& rounding) {
  const std::pair<std::string_view, std::string*> known[] = {{"--data", &o.data},
                                                             {"--model", &o.model},
                                                             {"--input", &o.input},
                                                             {"--output", &o.output},
                                                             {"--rounding", &rounding}};
  for (const auto& [option, value] : known)
    if (option == name) return value;
  return nullptr;
}

status check(const options& o, std::string_view rounding) {
  if (!rounding.empty() && rounding != "litert" && rounding != "classic")
    return status::make(errc::parameter, "--rounding: expected litert or classic, got '", rounding, "'");
  if (o.model.empty() && !o.input.empty()) return status::make(errc::parameter, "--input needs --model FILE.tflite");
  if (o.model.empty() && !o.output.empty()) return status::make(errc::parameter, "--output needs --model FILE.tflite");
  if (!o.model.empty() && o.input.empty()) return status::make(errc::parameter, "--model needs --input FILE.bin");
  if (!o.model.empty() && !o.data.empty())
    return status::make(errc::parameter, "--model and --data contradict each other: one model, or the table of all");
  return {};
}

}  // namespace

polymac::result<options> parse_options(std::span<const char* const> arguments) {
  options o;
  std::string rounding;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    const std::size_t equals = argument.substr(0, 2) == "--" ? argument.find('=') : std::string_view::npos;
    const std::string_view name = argument.substr(0, equals);
    bool* flag = name == "--json" ? &o.json : name == "--help" || name == "-h" ? &o.help : nullptr;
    if (flag != nullptr) {
      if (equals != std::string_view::npos) return status::make(errc::parameter, name, " takes no value");
      *flag = true;
      continue;
    }
    std::string* value = destination(name, o, rounding);
    if (value == nullptr) return status::make(errc::parameter, "unknown argument '", argument, "'");
    if (!value->empty()) return status::make(errc::parameter, name, " was given twice");
    if (equals != std::string_view::npos)
      *value = argument.substr(equals + 1);
    else if (i + 1 < arguments.size() && std::string_view(arguments[i + 1]).substr(0, 2) != "--")
      *value = arguments[++i];
    if (value->empty()) return status::make(errc::parameter, name, " needs a value");
  }
  if (o.help) return o;
  if (status s = check(o, rounding); !s.ok()) return s;
  o.classic = rounding == "classic";
  return o;
}

}  // namespace example
