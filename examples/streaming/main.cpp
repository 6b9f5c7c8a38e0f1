// SPDX-License-Identifier: MIT
// streaming: nets over sequences whose frames are much alike.
#include "examples/common/files.hpp"
#include "examples/common/program.hpp"
#include "examples/common/timing.hpp"
#include "report.hpp"

#include <cstdio>
#include <string>
#include <string_view>
#include <system_error>

namespace example {

namespace fs = std::filesystem;
using polymac::errc;
using polymac::result;
using polymac::status;

namespace {

constexpr const char* help_text =
    R"(streaming: runs nets over sequences and leaves out what is 0 and what has not changed

  streaming [--data DIR] [--out FILE] [--passes N] [--json]
      A ternary net over 9 windows of an event camera (DIR/dvs_cnn), and a small net of its own over 51 frames of a
      fixed camera (DIR/video). DIR is also looked for in the environment variable POLYMAC_DATA and at ../shared/data.
      What is not there is drawn by the example itself.

  --out FILE   a picture (PNG) of some frames and of what reads a change; streaming.png where nothing is said, none
               with --json
  --passes N   times are medians of N passes over a sequence (11)
  --json       an object instead of the tables, {"events": {...}, "video": {...}, "bars": [...]}; nothing else is
               printed on the standard output
  --help       this text

Exit code: 0; 1 if something cannot be read or run, or an output is not what it must be; 2 for a wrong command line. The
speed-ups below the tables are findings, whichever way they come out.
)";
constexpr program streaming{"streaming", help_text};

constexpr const char* data_text =
    R"(Sequences that are drawn now stand in for what is missing. Real ones:
  dvs_cnn/  https://github.com/pulp-platform/dory_examples, Quantlab_examples/DVS_CNN_9inputs
  video/    https://github.com/andrewssobral/bgslibrary, frames of its example
examples/streaming/README.md says how the files have to look; --data DIR takes them.

)";

struct options {
  bool json = false, help = false;
  std::string data, out;
  std::size_t passes = 11;
};

/// Empty where all is well, else what is wrong.
std::string parse(int argc, char* argv[], options& o) {
  command_line line("--data needs a folder, --out a file, --passes a number");
  line.flag("--json", o.json);
  line.help(o.help);
  line.text("--data", o.data);
  line.text("--out", o.out);
  line.number("--passes", o.passes, "expected a number from 1 to 1000",
              [](std::size_t n) { return n > 0 && n <= 1000; });
  return line.read(argc, argv);
}

/// From the data folder, or drawn; `missing` becomes true where it is drawn.
result<event_sequence> find_events(const fs::path* data, bool& missing) {
  std::error_code ignored;
  const fs::path text = data != nullptr ? *data / "dvs_cnn" / "DVS_CNN_9inputs.txt" : fs::path();
  if (data != nullptr && fs::exists(text, ignored)) return read_events(text, fs::path(text).replace_extension(".bin"));
  missing = true;
  return draw_events();
}
result<video> find_video(const fs::path* data, bool& missing) {
  std::error_code ignored;
  const fs::path path = data != nullptr ? *data / "video" / "frames_gray_u8_51x240x320.bin" : fs::path();
  if (data != nullptr && fs::exists(path, ignored)) return read_video(path);
  missing = true;
  return draw_video();
}

status run(const options& o, report& r) {
  std::error_code ignored;
  if (!o.data.empty() && !fs::is_directory(o.data, ignored))
    return status::make(errc::parameter, "--data: expected a folder that holds dvs_cnn and video, got: ", o.data);
  const auto data = find_data(o.data);
  if (!data.ok()) return data.status();
  const fs::path* folder = data->has_value() ? &**data : nullptr;
  bool no_events = false, no_video = false;
  const auto events = find_events(folder, no_events);
  if (!events.ok()) return events.status();
  const auto frames = find_video(folder, no_video);
  if (!frames.ok()) return frames.status();
  if (no_events && no_video && !o.data.empty())
    return status::make(errc::parameter,
                        "found neither dvs_cnn/DVS_CNN_9inputs.txt nor "
                        "video/frames_gray_u8_51x240x320.bin in ",
                        o.data);
  if ((no_events || no_video) && !o.json) std::fputs(data_text, stdout);

  stay_on_this_processor();
  r.events = events->name, r.windows = events->windows.size();
  r.video = frames->name, r.frames = frames->frames.size();
  auto event_rows = run_events(*events, o.passes);
  if (!event_rows.ok()) return event_rows.status();
  r.event_rows = std::move(*event_rows);
  const std::string out = o.out.empty() && !o.json ? "streaming.png" : o.out;
  picture sheet;
  auto video_rows = run_video(*frames, o.passes, out.empty() ? nullptr : &sheet);
  if (!video_rows.ok()) return video_rows.status();
  r.video_rows = std::move(*video_rows);
  if (out.empty()) return {};
  if (status s = sheet.write(out); !s.ok()) return s;
  if (!o.json)
    std::printf(
        "%s: frames as they are, then with T = 0, 4, 16. What is tinted reads a pixel that had changed: red in the\n"
        "first layer already, yellow from the second on, blue in the third alone.\n\n",
        out.c_str());
  return {};
}

}  // namespace

}  // namespace example

int main(int argc, char* argv[]) {
  using namespace example;
  options o;
  const std::string wrong = parse(argc, argv, o);
  return streaming.run(wrong, o.help, [&] {
    report r;
    if (const auto s = run(o, r); !s.ok()) return streaming.complain(s);
    o.json ? print_json(r) : print_tables(r);
    const int code = program::finish(is_exact(r));
    if (!is_exact(r)) streaming.complain("outputs differ from what they must be");
    return code;
  });
}
