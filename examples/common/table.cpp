// SPDX-License-Identifier: MIT
#include "table.hpp"

#include <algorithm>
#include <numeric>

namespace example {

void print_lines(const std::vector<cells>& lines, std::initializer_list<std::size_t> words) {
  std::vector<std::size_t> widths(lines[0].size());
  for (const cells& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  for (std::size_t l = 0; l < lines.size(); ++l) {
    std::string text;
    for (std::size_t c = 0; c < lines[l].size(); ++c) {
      const std::string space(widths[c] - lines[l][c].size(), ' ');
      const bool left = std::find(words.begin(), words.end(), c) != words.end();
      text += (c == 0 ? "" : "  ") + (left ? lines[l][c] + space : space + lines[l][c]);
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    std::printf("%s\n", text.c_str());
    const std::size_t all = std::accumulate(widths.begin(), widths.end(), 2 * (widths.size() - 1));
    if (l == 0) std::printf("%s\n", std::string(all, '-').c_str());
  }
}

}  // namespace example
