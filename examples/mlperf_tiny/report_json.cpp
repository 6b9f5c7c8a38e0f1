// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

namespace example {

namespace {

/// Length of the valid UTF-8 character at the start of `text`, 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  const std::size_t length = first < 0x80   ? 1
                             : first < 0xC2 ? 0
                             : first < 0xE0 ? 2
                             : first < 0xF0 ? 3
                             : first < 0xF5 ? 4
                                            : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if (byte(i) >> 6 != 2) return 0;
  // Overlong forms, surrogates, and what lies above U+10FFFF.
  if (length > 2) {
    const unsigned second = byte(1);
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
    if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
  }
  return length;
}

std::string json_text(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const char c = text[0];
    if (length == 0) {
      out += "\\ufffd";
    } else if (length == 1 && static_cast<unsigned char>(c) < 0x20) {
      std::array<char, 8> escape;
      std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(c));
      out += escape.data();
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out + '"';
}

std::string real(std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return "null";
  std::array<char, 40> text;
  std::snprintf(text.data(), text.size(), "%.9g", *value);
  return text.data();
}

std::string count(std::optional<std::size_t> value) { return value ? std::to_string(*value) : "null"; }

}  // namespace

void print_json(std::span<const row> rows) {
  std::fputs("[", stdout);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const row& r = rows[i];
    std::printf("%s\n  {\"net\": %s, \"inputs\": %zu, \"correct\": %s, \"accuracy\": %s, \"score\": %s, ",
                i > 0 ? "," : "", json_text(r.net).c_str(), r.inputs, count(r.correct).c_str(),
                real(r.accuracy()).c_str(), real(r.score).c_str());
    std::printf("\"reference_mismatches\": %s, \"macs\": %llu, \"arena_bytes\": %zu, \"median_us\": %s, \"isa\": %s}",
                count(r.mismatches).c_str(), static_cast<unsigned long long>(r.macs), r.arena_bytes,
                real(r.median_us).c_str(), json_text(r.isa).c_str());
  }
  std::fputs(rows.empty() ? "]\n" : "\n]\n", stdout);
}

}  // namespace example
