// SPDX-License-Identifier: MIT
// mlperf_tiny: real networks, end to end, bit for bit.
#include "modes.hpp"

#include <algorithm>
#include <cstdio>
#include <optional>

namespace example {

void complain(std::string_view about, const polymac::status& why) {
  std::fprintf(stderr, "mlperf_tiny: %.*s: %s\n", static_cast<int>(about.size()), about.data(), why.c_str());
}

namespace {

constexpr int success = 0, failure = 1, usage = 2;

/// Prints what came out; the exit code.
int report(const outcome& all, const options& chosen, void (*explain)(const options&)) {
  if (chosen.json) {
    print_json(all.rows);
  } else if (!all.rows.empty()) {
    print_table(all.rows);
    if (explain != nullptr) explain(chosen);
  }
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (!written) std::fputs("mlperf_tiny: cannot write to the standard output\n", stderr);
  bool equal = true;
  for (const row& r : all.rows) {
    if (r.mismatches.value_or(0) == 0) continue;
    equal = false;
    std::fprintf(stderr, "mlperf_tiny: %s: %zu values differ from the reference\n", r.net.c_str(), *r.mismatches);
  }
  return all.failed || !written || !equal ? failure : success;
}

int run(const options& chosen) {
  if (!chosen.model.empty()) return report(run_model_file(chosen), chosen, nullptr);
  const auto data = find_data(chosen.data);
  if (!data.ok()) return std::fprintf(stderr, "mlperf_tiny: %s\n", data.status().c_str()), usage;
  if (data->has_value()) {
    const outcome all = run_nets(**data, chosen);
    if (all.failed || !all.rows.empty()) return report(all, chosen, explain_nets);
    std::fprintf(
        stderr,
        "mlperf_tiny: expected networks and inputs such as mlperf_tiny/ic_resnet8_int8.tflite, found none in: %s\n",
        (*data)->c_str());
    if (!chosen.data.empty()) return failure;
  }
  if (!chosen.json) std::puts("No data: a small network reads digits that are drawn now.\n");
  return report(run_digits(chosen), chosen, [](const options&) { explain_digits(); });
}

}  // namespace

}  // namespace example

int main(int argc, char* argv[]) {
  const std::vector<const char*> arguments(argv + std::min(argc, 1), argv + argc);
  const auto chosen = example::parse_options(arguments);
  if (!chosen.ok()) {
    std::fprintf(stderr, "mlperf_tiny: %s (--help lists the options)\n", chosen.status().c_str());
    return example::usage;
  }
  if (chosen->help) return std::fputs(example::help_text, stdout) < 0 || std::fflush(stdout) != 0;
  return example::run(*chosen);
}
