// SPDX-License-Identifier: MIT
// What the main of every example does: reads its options, complains, and says at its end whether all went well.
#pragma once

#include "polymac/core/error.hpp"

#include <charconv>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace example {

/// Exit codes.
constexpr int success = 0, failure = 1, usage = 2;

/// Is all of the text a number? Then `number` becomes it.
template <class Number>
bool read_number(std::string_view text, Number& number) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  return problem == std::errc{} && end == text.data() + text.size();
}

/// The options of a program: `--name`, and `--name VALUE`.
class command_line {
 public:
  /// What is wrong with a value; empty where nothing is.
  using reader = std::function<std::string(std::string_view value)>;

  /// Complaints name the argument and its value.
  command_line() = default;
  /// Complaints do not; `missing` is the one about a value that is not there.
  explicit command_line(std::string missing) : missing_(std::move(missing)) {}

  /// `given` becomes true.
  void flag(std::string_view name, bool& given) { flags_.push_back({name, &given}); }
  /// `--help` and `-h`.
  void help(bool& asked) {
    flag("--help", asked);
    flag("-h", asked);
  }
  /// `read` gets the value.
  void value(std::string_view name, reader read) { values_.push_back({name, std::move(read)}); }
  /// Any text, but for an empty one where something is expected.
  void text(std::string_view name, std::string& to, std::string expected = {});
  /// A number that is_right(number); `expected` says which are.
  template <class Number, class IsRight>
  void number(std::string_view name, Number& to, std::string expected, IsRight is_right) {
    value(name, [this, name, &to, expected = std::move(expected), is_right](std::string_view given) {
      return read_number(given, to) && is_right(to) ? std::string() : complaint(name, expected, given);
    });
  }
  template <class Number>
  void number(std::string_view name, Number& to, std::string expected) {
    number(name, to, std::move(expected), [](Number) { return true; });
  }

  /// "name: expected ..., got ..."
  std::string complaint(std::string_view name, std::string_view expected, std::string_view given) const;
  /// Reads the arguments behind the program's name. What is wrong; empty where nothing is.
  std::string read(int argc, const char* const argv[]) const;

 private:
  struct flag_type {
    std::string_view name;
    bool* given;
  };
  struct value_type {
    std::string_view name;
    reader read;
  };
  std::string missing_;
  std::vector<flag_type> flags_;
  std::vector<value_type> values_;
};

/// A program by its name and the text of --help.
struct program {
  const char* name;
  const char* help_text;

  /// Prints "name: what" to the standard error; the exit code.
  int complain(std::string_view what, int code = failure) const;
  int complain(const polymac::status& why) const { return complain(why.c_str()); }
  /// The exit code: of what was printed all must have been written.
  static int finish(bool good = true);

  /// The exit code of main: `wrong` is what the command line's reader says, and run() what is left to do.
  template <class Run>
  int run(const std::string& wrong, bool help, const Run& run) const {
    if (!wrong.empty()) return complain(wrong, usage);
    return help ? print_help() : run();
  }

 private:
  int print_help() const;
};

}  // namespace example
