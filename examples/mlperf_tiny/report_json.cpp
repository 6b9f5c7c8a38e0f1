// SPDX-License-Identifier: MIT
#include "report.hpp"

#include "examples/common/json.hpp"

#include <cstdio>

namespace example {

namespace {

std::string count(std::optional<std::size_t> value) { return value ? std::to_string(*value) : "null"; }

}  // namespace

void print_json(std::span<const row> rows) {
  std::fputs("[", stdout);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const row& r = rows[i];
    std::printf("%s\n  {\"net\": %s, \"inputs\": %zu, \"correct\": %s, \"accuracy\": %s, \"score\": %s, ",
                i > 0 ? "," : "", json_text(r.net).c_str(), r.inputs, count(r.correct).c_str(),
                json_number(r.accuracy()).c_str(), json_number(r.score).c_str());
    std::printf("\"reference_mismatches\": %s, \"macs\": %llu, \"arena_bytes\": %zu, \"median_us\": %s, \"isa\": %s}",
                count(r.mismatches).c_str(), static_cast<unsigned long long>(r.macs), r.arena_bytes,
                json_number(r.median_us).c_str(), json_text(r.isa).c_str());
  }
  std::fputs(rows.empty() ? "]\n" : "\n]\n", stdout);
}

}  // namespace example
