// SPDX-License-Identifier: MIT
#include "report.hpp"

#include "examples/common/table.hpp"

#include <vector>

namespace example {

namespace {

/// 1234567 as 1,234,567.
std::string grouped(std::uint64_t value) {
  const std::string digits = std::to_string(value);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string result_text(const row& r) {
  if (r.correct) return format("%zu/%zu = %.1f %%", *r.correct, r.inputs, 100 * *r.accuracy());
  if (r.score) return format("mse %.4f", *r.score);
  return "-";
}

std::string mismatch_text(const row& r) {
  if (!r.mismatches) return "-";
  return std::to_string(*r.mismatches) + (r.difference ? format(" (%.1e)", *r.difference) : "");
}

cells cells_of(const row& r) {
  const double gmacs = r.median_us > 0 ? static_cast<double>(r.macs) / r.median_us * 1e-3 : 0;
  return {r.net,
          std::to_string(r.inputs),
          result_text(r),
          r.target.empty() ? "-" : r.target,
          mismatch_text(r),
          grouped(r.macs),
          grouped(r.arena_bytes),
          grouped(r.arena_lower_bound_bytes),
          format("%.1f", r.median_us),
          format("%.2f", gmacs),
          r.isa};
}

}  // namespace

std::optional<double> row::accuracy() const {
  if (!correct || inputs == 0) return std::nullopt;
  return static_cast<double>(*correct) / static_cast<double>(inputs);
}

row make_row(const std::string& name, const loaded_net& net, std::size_t inputs, const runs& results) {
  row r;
  r.net = name;
  r.inputs = inputs;
  r.macs = net.macs();
  r.arena_bytes = net.arena_bytes();
  r.arena_lower_bound_bytes = net.arena_lower_bound_bytes();
  r.median_us = results.median_us;
  r.isa = net.isa();
  return r;
}

void print_table(std::span<const row> rows) {
  std::vector<cells> lines{{"net", "inputs", "accuracy or score", "target", "mismatches", "MACs", "arena bytes",
                            "at least", "median us", "GMAC/s", "ISA"}};
  for (const row& r : rows) lines.push_back(cells_of(r));
  print_lines(lines, {0, lines[0].size() - 1});
}

}  // namespace example
