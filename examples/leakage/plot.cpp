// SPDX-License-Identifier: MIT
#include "plot.hpp"

#include "examples/common/table.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <system_error>

namespace example {

namespace {

constexpr const char* ink = "#7d8590";
constexpr const char* faint = "stroke-opacity=\"0.25\" ";
constexpr const char* right_colour = "#2f81f7";
constexpr const char* wrong_colour = "#d9822b";

// Of a panel, in pixels; its curves are within the margins.
constexpr double panel_width = 310, panel_height = 215, left = 44, right = 12, top = 40, bottom = 38, heading = 64;
constexpr std::size_t panels_in_line = 3;

std::string words(double x, double y, const char* anchor, double size, const char* colour, const std::string& text) {
  return format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%g\" fill=\"%s\">", x, y, anchor, size,
                colour) +
         text + "</text>\n";
}
std::string stroke(double x1, double y1, double x2, double y2, const char* colour, const char* more = "") {
  return format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" %s/>\n", x1, y1, x2, y2, colour,
                more);
}

/// "100", "1k", "1M"
std::string short_number(double n) {
  if (n >= 1e6) return format("%gM", n / 1e6);
  return n >= 1e3 ? format("%gk", n / 1e3) : format("%g", n);
}

/// The axes of a panel whose upper left corner is at (x, y).
class axes {
 public:
  axes(double x, double y, std::size_t first, std::size_t last)
      : x_(x), y_(y), low_(std::log10(static_cast<double>(first))), high_(std::log10(static_cast<double>(last))) {
    if (high_ <= low_) high_ = low_ + 1;
  }
  double across(double traces) const {
    return x_ + left + (std::log10(traces) - low_) / (high_ - low_) * (panel_width - left - right);
  }
  double up(double rho) const { return y_ + top + (1 - std::clamp(rho, 0.0, 1.0)) * (panel_height - top - bottom); }
  std::string draw() const {
    std::string svg;
    const double x0 = x_ + left, x1 = x_ + panel_width - right, y0 = up(0), y1 = up(1);
    for (int i = 0; i <= 4; ++i) {
      const double rho = 0.25 * i;
      svg += stroke(x0, up(rho), x1, up(rho), ink, i == 0 ? "" : faint);
      svg += words(x0 - 6, up(rho) + 4, "end", 11, ink, format("%.2f", rho));
    }
    for (double power = std::ceil(low_ - 1e-9); power <= high_ + 1e-9; ++power) {
      const double n = std::pow(10.0, power);
      svg += stroke(across(n), y0, across(n), y1, ink, faint);
      svg += words(across(n), y0 + 15, "middle", 11, ink, short_number(n));
    }
    svg += stroke(x0, y0, x0, y1, ink);
    svg += words((x0 + x1) / 2, y0 + 31, "middle", 11, ink, "traces");
    return svg;
  }
  template <class Value>
  std::string curve(const std::vector<point>& points, const char* style, const Value& value) const {
    std::string svg = "<polyline fill=\"none\" ";
    svg += style;
    svg += " points=\"";
    for (const point& p : points) svg += format("%.1f,%.1f ", across(static_cast<double>(p.traces)), up(value(p)));
    return svg + "\"/>\n";
  }

 private:
  double x_, y_, low_, high_;
};

std::string legend(double x, double y, const char* style, const char* text) {
  return format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x, y - 4, x + 26, y - 4, style) +
         words(x + 32, y, "start", 12, ink, text);
}

}  // namespace

std::string plot(const results& r, std::size_t target) {
  const std::string right_style = format("stroke=\"%s\" stroke-width=\"2\"", right_colour);
  const std::string wrong_style = format("stroke=\"%s\" stroke-width=\"1.3\"", wrong_colour);
  const std::string floor_style = format("stroke=\"%s\" stroke-width=\"1.3\" stroke-dasharray=\"5 4\"", ink);
  const std::size_t lines = (r.attacks.size() + panels_in_line - 1) / panels_in_line;
  const double width = panels_in_line * panel_width, height = heading + static_cast<double>(lines) * panel_height;
  std::string svg = format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
      "font-family=\"sans-serif\">\n",
      width, height, width, height);
  const std::string what = format(
      "Weight %zu: correlation of guesses with the traces, %zu traces of %zu products, noise "
      "of %g bits",
      targets[target], r.traces, depth, sigma);
  svg += "<title>" + what + "</title>\n" + words(12, 24, "start", 15, ink, what);
  svg += legend(12, 48, right_style.c_str(), "|rho| of the right guess");
  svg += legend(210, 48, wrong_style.c_str(), "of the best of 126 others");
  svg += legend(418, 48, floor_style.c_str(), "noise floor, 4 / sqrt(traces)");
  for (std::size_t i = 0; i < r.attacks.size(); ++i) {
    const attack_row& row = r.attacks[i];
    const std::vector<point>& points = row.findings[target].curve;
    const double x = static_cast<double>(i % panels_in_line) * panel_width;
    const double y = heading + static_cast<double>(i / panels_in_line) * panel_height;
    const axes a(x, y, points.front().traces, points.back().traces);
    const point& last = points.back();
    svg += a.draw();
    svg += words(x + left, y + 16, "start", 13, ink, std::string(name_of(row.subject)));
    svg += words(x + left, y + 31, "start", 11, ink,
                 format("attacker: %s; rho %.3f, rank %zu", name_of(row.known), last.right, last.rank));
    svg += a.curve(points, floor_style.c_str(), [](const point& p) { return noise_floor(p.traces); });
    svg += a.curve(points, wrong_style.c_str(), [](const point& p) { return p.wrong; });
    svg += a.curve(points, right_style.c_str(), [](const point& p) { return p.right; });
  }
  return svg + "</svg>\n";
}

polymac::status write_plots(const results& r, const std::string& folder) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem)
    return polymac::status::make(polymac::errc::parameter, "cannot make the folder ", folder.c_str(), ": ",
                                 problem.message().c_str());
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const std::string name = (std::filesystem::path(folder) / format("correlation_w%zu.svg", targets[t])).string();
    const std::string svg = plot(r, t);
    std::FILE* const file = std::fopen(name.c_str(), "wb");
    bool good = file != nullptr && std::fwrite(svg.data(), 1, svg.size(), file) == svg.size();
    if (file != nullptr) good = std::fclose(file) == 0 && good;
    if (!good) return polymac::status::make(polymac::errc::parameter, "cannot write ", name.c_str());
  }
  return {};
}

}  // namespace example
