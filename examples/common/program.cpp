// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <algorithm>
#include <cstdio>

namespace example {

void command_line::text(std::string_view name, std::string& to, std::string expected) {
  value(name, [name, &to, expected = std::move(expected)](std::string_view given) {
    to = given;
    return given.empty() && !expected.empty() ? std::string(name) + ": " + expected : std::string();
  });
}

std::string command_line::complaint(std::string_view name, std::string_view expected, std::string_view given) const {
  std::string text = std::string(name) + ": " + std::string(expected);
  if (missing_.empty()) text += ", got " + std::string(given);
  return text;
}

std::string command_line::read(int argc, const char* const argv[]) const {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto is_it = [&](const auto& known) { return known.name == argument; };
    if (const auto f = std::find_if(flags_.begin(), flags_.end(), is_it); f != flags_.end()) {
      *f->given = true;
      continue;
    }
    const auto v = std::find_if(values_.begin(), values_.end(), is_it);
    if (v == values_.end()) {
      std::string text = "unknown argument";
      if (missing_.empty()) text.append(" ").append(argument);
      return text + " (--help lists the options)";
    }
    if (i + 1 == argc && !missing_.empty()) return missing_;
    if (i + 1 == argc) return std::string(argument) + " needs a value (--help lists the options)";
    if (std::string wrong = v->read(argv[++i]); !wrong.empty()) return wrong;
  }
  return {};
}

int program::complain(std::string_view what, int code) const {
  std::fprintf(stderr, "%s: %.*s\n", name, static_cast<int>(what.size()), what.data());
  return code;
}

int program::finish(bool good) {
  const bool printed = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  return good && printed ? success : failure;
}

int program::print_help() const { return std::fputs(help_text, stdout) < 0 || std::fflush(stdout) != 0; }

}  // namespace example
