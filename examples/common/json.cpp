// SPDX-License-Identifier: MIT
#include "json.hpp"

#include "polymac/io/tokenizer.hpp"
#include "table.hpp"

#include <cmath>

namespace example {

std::string json_text(std::string_view text) {
  std::string json = "\"";
  while (!text.empty()) {
    const std::size_t wrong = polymac::io::find_invalid_utf8(text);
    for (const char c : text.substr(0, wrong)) {
      if (c == '"' || c == '\\') {
        json += '\\';
        json += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        json += format("\\u%04x", static_cast<unsigned>(c));
      } else {
        json += c;
      }
    }
    if (wrong == std::string_view::npos) break;
    json += "\\ufffd";
    text.remove_prefix(wrong + 1);
  }
  return json + '"';
}

std::string json_number(std::optional<double> value, const char* pattern) {
  return value && std::isfinite(*value) ? format(pattern, *value) : "null";
}

}  // namespace example
