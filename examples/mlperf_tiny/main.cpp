// SPDX-License-Identifier: MIT
// mlperf_tiny: real networks, end to end, bit for bit.
#include "examples/common/program.hpp"
#include "modes.hpp"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace example {

namespace {

const program mlperf_tiny{"mlperf_tiny", help_text};

}  // namespace

void complain(std::string_view about, const polymac::status& why) {
  mlperf_tiny.complain(std::string(about) + ": " + why.c_str());
}

namespace {

/// Prints what came out; the exit code.
int report(const outcome& all, const options& chosen, void (*explain)(const options&)) {
  if (chosen.json) {
    print_json(all.rows);
  } else if (!all.rows.empty()) {
    print_table(all.rows);
    if (explain != nullptr) explain(chosen);
  }
  const bool written = program::finish() == success;
  if (!written) mlperf_tiny.complain("cannot write to the standard output");
  bool equal = true;
  for (const row& r : all.rows) {
    if (r.mismatches.value_or(0) == 0) continue;
    equal = false;
    mlperf_tiny.complain(r.net + ": " + std::to_string(*r.mismatches) + " values differ from the reference");
  }
  return all.failed || !written || !equal ? failure : success;
}

int run(const options& chosen) {
  if (!chosen.model.empty()) return report(run_model_file(chosen), chosen, nullptr);
  const auto data = find_data(chosen.data);
  if (!data.ok()) return mlperf_tiny.complain(data.status().c_str(), usage);
  if (data->has_value()) {
    const outcome all = run_nets(**data, chosen);
    if (all.failed || !all.rows.empty()) return report(all, chosen, explain_nets);
    mlperf_tiny.complain("expected networks and inputs such as mlperf_tiny/ic_resnet8_int8.tflite, found none in: " +
                         (*data)->string());
    if (!chosen.data.empty()) return failure;
  }
  if (!chosen.json) std::puts("No data: a small network reads digits that are drawn now.\n");
  return report(run_digits(chosen), chosen, [](const options&) { explain_digits(); });
}

}  // namespace

}  // namespace example

int main(int argc, char* argv[]) {
  using namespace example;
  const std::vector<const char*> arguments(argv + std::min(argc, 1), argv + argc);
  const auto chosen = parse_options(arguments);
  const std::string wrong = chosen.ok() ? "" : std::string(chosen.status().c_str()) + " (--help lists the options)";
  return mlperf_tiny.run(wrong, chosen.ok() && chosen->help, [&] { return run(*chosen); });
}
