// SPDX-License-Identifier: MIT
// A bar on the terminal; nothing where the standard error is no terminal.
#pragma once

#include <unistd.h>
#include <cstddef>
#include <cstdio>
#include <string>
#include <utility>

namespace example {

/// Shows how far one piece of work is; erases itself at its end.
class progress_bar {
 public:
  progress_bar(std::string name, std::size_t total) : name_(std::move(name)), total_(total), shown_(isatty(2) != 0) {}
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar() {
    if (drawn_ != none) std::fprintf(stderr, "\r%*s\r", static_cast<int>(name_width + cells + 10), "");
  }

  /// `done` of `total` are done. Writes only if the picture changes.
  void show(std::size_t done) {
    const std::size_t percent = total_ == 0 ? 100 : done * 100 / total_;
    if (!shown_ || percent == drawn_) return;
    drawn_ = percent;
    std::string bar(cells, '.');
    bar.replace(0, percent * cells / 100, percent * cells / 100, '#');
    std::fprintf(stderr, "\r%-*.*s [%s] %3zu %%", name_width, name_width, name_.c_str(), bar.c_str(), percent);
  }

 private:
  static constexpr std::size_t none = static_cast<std::size_t>(-1), cells = 40;
  static constexpr int name_width = 22;

  std::string name_;
  std::size_t total_;
  bool shown_;
  std::size_t drawn_ = none;
};

}  // namespace example
