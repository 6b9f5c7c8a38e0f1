// SPDX-License-Identifier: MIT
// Shows drawn digits as text, side by side.
#pragma once

#include "draw_digit.hpp"

#include <cstddef>
#include <cstdio>
#include <span>

namespace digits {

/// Prints pictures side by side, 16 columns and 8 lines each (two rows of pixels are one line, as characters are twice
/// as high as wide), with the answer below and, where it is wrong, the label. `answers` has one entry per picture.
inline void show_digits(std::FILE* out, std::span<const picture> pictures, std::span<const int> answers) {
  constexpr char shades[] = " .:-=+*#%@";
  for (int y = 0; y < side; y += 2) {
    for (const picture& p : pictures) {
      for (int x = 0; x < side; ++x) {
        const auto at = static_cast<std::size_t>(y * side + x);
        const int level = (p.pixels[at] + p.pixels[at + side]) / 2;
        std::fputc(shades[level * 10 / 256], out);
      }
      std::fputs("  ", out);
    }
    std::fputc('\n', out);
  }
  for (std::size_t i = 0; i < pictures.size() && i < answers.size(); ++i) {
    const int label = pictures[i].label;
    if (answers[i] == label)
      std::fprintf(out, "%-*s%d%*s", 7, "", label, 10, "");
    else
      std::fprintf(out, "%-*s%d, not %d%*s", 4, "", label, answers[i], 6, "");
  }
  std::fputc('\n', out);
}

}  // namespace digits
