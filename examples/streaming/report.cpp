// SPDX-License-Identifier: MIT
#include "report.hpp"

#include "examples/common/json.hpp"
#include "examples/common/table.hpp"

#include <algorithm>
#include <cstdio>

namespace example {

namespace {

const char* name_of(mode how) {
  switch (how) {
    case mode::dense:
      return "dense";
    case mode::zero_skip:
      return "zero_skip";
    case mode::delta:
      return "delta";
    case mode::both:
      return "both";
  }
  return "";
}
std::string name_of(std::optional<unsigned> threshold) { return threshold ? format("T = %u", *threshold) : "dense"; }

std::string percent(double share) { return format("%.1f %%", 100 * share); }
std::string times(double factor) { return format("%.2f x", factor); }

/// Skipped products and speed-up of each layer, a line for each mode of an arithmetic.
template <class Rows, class Name>
void print_layers(const Rows& rows, const Name& name) {
  std::vector<cells> lines{{"skipped, speed-up"}};
  for (const auto& r : rows) {
    if (r.layer == 0)
      lines.push_back({name(r)});
    else
      lines.back().push_back(percent(r.done.skipped()) + format("%7.2f x", r.speed_up));
  }
  for (std::size_t layer = 1; layer < lines.back().size(); ++layer) lines[0].push_back(format("layer %zu", layer));
  print_lines(lines);
  std::printf("\n");
}

void print_events(const report& r) {
  std::printf("%s, %zu windows of 16 x 64 x 64 events, weights -1, 0, 1\n", r.events.c_str(), r.windows);
  std::vector<cells> lines{
      {"arithmetic", "mode", "skipped", "us a window", "speed-up", "after the first", "goldens", "mismatches"}};
  for (const event_row& e : r.event_rows)
    if (e.layer == 0)
      lines.push_back({e.arithmetic, name_of(e.how), percent(e.done.skipped()),
                       format("%.1f", 1e6 * e.seconds / static_cast<double>(r.windows)), times(e.speed_up),
                       times(e.later_speed_up), format("%zu", e.values), format("%zu", e.mismatches)});
  print_lines(lines);
  std::printf("\n");
  print_layers(r.event_rows, [](const event_row& e) { return e.arithmetic + " " + name_of(e.how); });
}

void print_video(const report& r) {
  std::printf("%s, %zu frames of 240 x 320, three convolutions 3 x 3, 1 -> 16 -> 32 -> 32 channels\n", r.video.c_str(),
              r.frames);
  std::vector<cells> lines{{"threshold", "skipped", "us a frame", "speed-up", "largest error", "mean error"}};
  for (const video_row& v : r.video_rows)
    if (v.layer == 0)
      lines.push_back({name_of(v.threshold), percent(v.done.skipped()),
                       format("%.1f", 1e6 * v.seconds / static_cast<double>(r.frames)), times(v.speed_up),
                       v.threshold ? format("%u", v.largest_error) : "-",
                       v.threshold ? format("%.4f", v.mean_error) : "-"});
  print_lines(lines);
  std::printf("\n");
  print_layers(r.video_rows, [](const video_row& v) { return name_of(v.threshold); });
}

}  // namespace

std::vector<bar> bars_of(const report& r) {
  bar events{"best mode over all windows, net of " + r.events, 0, 4}, camera{"T = 4, net over " + r.video, 0, 3};
  for (const event_row& e : r.event_rows)
    if (e.layer == 0 && e.how != mode::dense) events.value = std::max(events.value, e.speed_up);
  for (const video_row& v : r.video_rows)
    if (v.layer == 0 && v.threshold == 4U) camera.value = v.speed_up;
  return {events, camera};
}

bool is_exact(const report& r) {
  return std::all_of(r.event_rows.begin(), r.event_rows.end(), [](const event_row& e) { return e.mismatches == 0; }) &&
         std::all_of(r.video_rows.begin(), r.video_rows.end(),
                     [](const video_row& v) { return v.threshold.value_or(0) > 0 || v.largest_error == 0; });
}

void print_tables(const report& r) {
  print_events(r);
  print_video(r);
  for (const bar& b : bars_of(r))
    std::printf("%s  %s: %.2f x, expected at least %g x\n", b.value >= b.least ? "yes" : "NO ", b.text.c_str(), b.value,
                b.least);
  std::fputs(R"(
skipped          products of the dense net that were not computed, over all windows or frames; layers know nothing of the
                 first one, which counts
us a window      with the maxima behind each convolution, which are always dense; median over the passes
speed-up         time of the dense net in the same arithmetic / this time, in passes that follow each other
after the first  the same without the first window
goldens          outputs of all layers, over all windows, compared with those that came with the net (own sequence: that a
                 plain loop gives)
threshold        a pixel counts as changed where one of its channels moved by more than T since it was last looked at
error            of the last layer's outputs against those of the dense net, in codes of 8 bits
)",
             stdout);
}

void print_json(const report& r) {
  std::printf("{\"events\": {\"source\": \"%s\", \"windows\": %zu, \"rows\": [", r.events.c_str(), r.windows);
  row_separator separator;
  for (const event_row& e : r.event_rows) {
    std::printf(
        "%s  {\"arithmetic\": \"%s\", \"mode\": \"%s\", \"layer\": %s, \"macs\": %.0f, \"skipped\": %.6f, \"us\": "
        "%.3f, "
        "\"speed_up\": %.4f, \"speed_up_after_the_first\": %.4f, \"values\": %zu, \"mismatches\": %zu}",
        separator.next(), e.arithmetic.c_str(), name_of(e.how), e.layer == 0 ? "null" : format("%zu", e.layer).c_str(),
        e.done.of_macs, e.done.skipped(), 1e6 * e.seconds, e.speed_up, e.later_speed_up, e.values, e.mismatches);
  }
  std::printf("\n]}, \"video\": {\"source\": \"%s\", \"frames\": %zu, \"rows\": [", r.video.c_str(), r.frames);
  separator = {};
  for (const video_row& v : r.video_rows) {
    std::printf(
        "%s  {\"threshold\": %s, \"layer\": %s, \"macs\": %.0f, \"skipped\": %.6f, \"us\": %.3f, \"speed_up\": %.4f, "
        "\"largest_error\": %u, \"mean_error\": %.6f}",
        separator.next(), v.threshold ? format("%u", *v.threshold).c_str() : "null",
        v.layer == 0 ? "null" : format("%zu", v.layer).c_str(), v.done.of_macs, v.done.skipped(), 1e6 * v.seconds,
        v.speed_up, v.largest_error, v.mean_error);
  }
  std::fputs("\n]}, \"bars\": [", stdout);
  separator = {};
  for (const bar& b : bars_of(r)) {
    std::printf("%s  {\"bar\": \"%s\", \"speed_up\": %.4f, \"expected\": %g, \"holds\": %s}", separator.next(),
                b.text.c_str(), b.value, b.least, b.value >= b.least ? "true" : "false");
  }
  std::fputs("\n]}\n", stdout);
}

}  // namespace example
