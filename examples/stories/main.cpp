// SPDX-License-Identifier: MIT
// stories: a language model of 260 k parameters that writes, in every arithmetic of the library.
#include "compare.hpp"
#include "examples/common/json.hpp"
#include "examples/common/program.hpp"
#include "examples/common/timing.hpp"
#include "generate.hpp"

#include <cmath>
#include <cstdio>
#include <optional>
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
    R"(stories: a language model of 260 k parameters writes a story, in any arithmetic of polymac

  stories [--prompt TEXT] [--tokens N] [--arithmetic NAME] [--temperature T] [--top-p P] [--seed N]
          [--tokens-out FILE] [--data DIR] [--json]
  stories --compare [--data DIR] [--passes N] [--json]
      Reads DIR/stories260K: stories260K.bin and tok512.bin of karpathy's tinyllamas. DIR is also looked for in the
      environment variable POLYMAC_DATA and at ../shared/data. Without them, a net of the same shape with seeded weights
      runs: its text is noise.

  --prompt TEXT       what the story begins with, in UTF-8
  --tokens N          at most so many tokens are written (200); the net may end its story before
  --arithmetic NAME   of the weights: float32 (where nothing is said), bf16, fp16, int8, dfp16, l_mul<4>, w4, w2, ternary
  --temperature T     0 (where nothing is said): always the most likely token; 1: as likely as the net says
  --top-p P           only the most likely tokens that together have probability P (0.9); 1: all. Needs a temperature
  --seed N            of the random numbers (1)
  --tokens-out FILE   the ids of the tokens that are written, int32, little-endian
  --compare           a table of all arithmetics: bytes, what becomes of the text, speed
  --passes N          times of the table are medians of N passes (21)
  --json              an object instead of the text or the table; nothing else is printed on the standard output
  --help              this text

Exit code: 0; 1 if something cannot be read, run or written; 2 for a wrong command line.
)";
constexpr program stories{"stories", help_text};

struct options {
  bool json = false, help = false, compare = false;
  std::string data, tokens_out, arithmetic = "float32";
  std::size_t passes = 21;
  request what;
  options() { what.how = {0.0F, 0.9F}; }
};

/// Empty where all is well, else what is wrong.
std::string parse(int argc, char* argv[], options& o) {
  command_line line;
  line.flag("--json", o.json);
  line.flag("--compare", o.compare);
  line.help(o.help);
  line.value("--prompt", [&](std::string_view value) {
    o.what.prompt = value;
    const std::size_t wrong = polymac::io::find_invalid_utf8(value);
    return wrong == std::string_view::npos
               ? std::string()
               : "--prompt: expected UTF-8, which byte " + std::to_string(wrong) + " is not";
  });
  line.number("--tokens", o.what.tokens, "expected a number of at least 0");
  line.value("--arithmetic", [&](std::string_view value) {
    o.arithmetic = value;
    if (find_arithmetic(value) != nullptr) return std::string();
    std::string names;
    for (const arithmetic& a : all_arithmetics()) names += (names.empty() ? "" : ", ") + std::string(a.name);
    return line.complaint("--arithmetic", "expected one of " + names, value);
  });
  line.number("--temperature", o.what.how.temperature, "expected a number of at least 0",
              [](float t) { return t >= 0 && std::isfinite(t); });
  line.number("--top-p", o.what.how.top_p, "expected a number above 0, at most 1",
              [](float p) { return p > 0 && p <= 1; });
  line.number("--seed", o.what.seed, "expected a number from 0 to 2^64 - 1");
  line.text("--tokens-out", o.tokens_out, "expected a file");
  line.text("--data", o.data);
  line.number("--passes", o.passes, "expected a number from 1 to 1000",
              [](std::size_t n) { return n > 0 && n <= 1000; });
  return line.read(argc, argv);
}

result<story> find_story(const options& o) {
  std::error_code ignored;
  if (!o.data.empty() && !fs::is_directory(o.data, ignored))
    return status::make(errc::parameter, "--data: expected a folder that holds stories260K, got: ", o.data);
  const auto data = find_data(o.data);
  if (!data.ok()) return data.status();
  if (data->has_value()) {
    const fs::path folder = **data / "stories260K";
    if (fs::exists(folder / "stories260K.bin", ignored) || fs::exists(folder / "tok512.bin", ignored))
      return read_story(**data);
    if (!o.data.empty())
      return status::make(errc::parameter, "found neither stories260K/stories260K.bin nor stories260K/tok512.bin in ",
                          o.data);
  }
  std::fputs(data_text, stderr);
  return noise_story();
}

void print_json(const generated& g, const options& o, bool noise) {
  std::printf("{\"source\": \"%s\", \"arithmetic\": \"%s\", \"prompt\": %s, \"text\": %s, \"prompt_tokens\": [",
              noise ? "noise" : "stories260K", o.arithmetic.c_str(), json_text(o.what.prompt).c_str(),
              json_text(g.text).c_str());
  for (std::size_t i = 0; i < g.prompt.size(); ++i) std::printf("%s%d", i > 0 ? ", " : "", g.prompt[i]);
  std::fputs("], \"tokens\": [", stdout);
  for (std::size_t i = 0; i < g.tokens.size(); ++i) std::printf("%s%d", i > 0 ? ", " : "", g.tokens[i]);
  std::printf("], \"ended\": %s, \"seconds\": %.6g}\n", g.ended ? "true" : "false", g.seconds);
}

status write_tokens(output_file& file, const std::vector<std::int32_t>& tokens) {
  bytes content;
  for (const std::int32_t token : tokens)
    for (unsigned i = 0; i < 4; ++i)
      content.push_back(static_cast<std::byte>(static_cast<std::uint32_t>(token) >> (8 * i) & 0xFFU));
  if (status s = file.write(content); !s.ok()) return s;
  return file.commit();
}

status write_story(const options& o, const story& s) {
  output_file file;
  if (!o.tokens_out.empty())  // before the text is there, not after
    if (status opened = file.open(o.tokens_out); !opened.ok()) return opened;
  auto model = find_arithmetic(o.arithmetic)->make(s.weights);
  if (!model.ok()) return model.status();
  bool begun = false;
  const auto show = [&](std::string_view text) {
    if (o.json) return;
    if (!begun) std::fputs(printable(o.what.prompt).c_str(), stdout);
    begun = true;
    std::fputs(printable(text).c_str(), stdout);
    std::fflush(stdout);
  };
  const auto g = generate(**model, s.vocabulary, o.what, show);
  if (!g.ok()) return g.status();
  if (!o.tokens_out.empty())
    if (status written = write_tokens(file, g->tokens); !written.ok()) return written;
  if (o.json) {
    print_json(*g, o, s.is_noise);
    return {};
  }
  if (!begun) std::fputs(printable(o.what.prompt).c_str(), stdout);
  std::fputs("\n", stdout);
  const auto count = static_cast<double>(g->tokens.size());
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %zu tokens%s, %.0f a second\n", o.arithmetic.c_str(), g->tokens.size(),
               g->ended ? ", then the end" : "", g->seconds > 0 ? count / g->seconds : 0.0);
  return {};
}

status run(const options& o) {
  const auto s = find_story(o);
  if (!s.ok()) return s.status();
  if (!o.compare) return write_story(o, *s);
  stay_on_this_processor();
  const auto c = compare(*s, o.passes);
  if (!c.ok()) return c.status();
  o.json ? print_json(*c, *s) : print_table(*c, *s);
  return {};
}

}  // namespace

}  // namespace example

int main(int argc, char* argv[]) {
  using namespace example;
  options o;
  const std::string wrong = parse(argc, argv, o);
  return stories.run(wrong, o.help, [&] {
    const auto s = run(o);
    return s.ok() ? program::finish() : stories.complain(s);
  });
}
