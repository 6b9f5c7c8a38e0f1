// SPDX-License-Identifier: MIT
// stories: a language model of 260 k parameters that writes, in every arithmetic of the library.
#include "compare.hpp"
#include "examples/streaming/timing.hpp"
#include "generate.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
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

constexpr int success = 0, failure = 1, usage = 2;

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

struct options {
  bool json = false, help = false, compare = false;
  std::string data, tokens_out, arithmetic = "float32";
  std::size_t passes = 21;
  request what;
  options() { what.how = {0.0F, 0.9F}; }
};

template <class Number>
bool read_number(std::string_view text, Number& number) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  return problem == std::errc{} && end == text.data() + text.size();
}

/// Empty where all is well, else what is wrong.
std::string parse(int argc, char* argv[], options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--json") {
      o.json = true;
    } else if (argument == "--compare") {
      o.compare = true;
    } else if (argument == "--help" || argument == "-h") {
      o.help = true;
    } else {
      constexpr std::array<std::string_view, 9> with_value{"--prompt",      "--tokens", "--arithmetic",
                                                           "--temperature", "--top-p",  "--seed",
                                                           "--tokens-out",  "--data",   "--passes"};
      if (std::find(with_value.begin(), with_value.end(), argument) == with_value.end())
        return "unknown argument " + std::string(argument) + " (--help lists the options)";
      if (i + 1 == argc) return std::string(argument) + " needs a value (--help lists the options)";
      const std::string_view value = argv[++i];
      const std::string got = ", got " + std::string(value);
      if (argument == "--prompt") {
        o.what.prompt = value;
        if (const std::size_t at = polymac::io::find_invalid_utf8(value); at != std::string_view::npos)
          return "--prompt: expected UTF-8, which byte " + std::to_string(at) + " is not";
      } else if (argument == "--tokens") {
        if (!read_number(value, o.what.tokens)) return "--tokens: expected a number of at least 0" + got;
      } else if (argument == "--arithmetic") {
        o.arithmetic = value;
        if (find_arithmetic(value) == nullptr) {
          std::string names;
          for (const arithmetic& a : all_arithmetics()) names += (names.empty() ? "" : ", ") + std::string(a.name);
          return "--arithmetic: expected one of " + names + got;
        }
      } else if (argument == "--temperature") {
        float& t = o.what.how.temperature;
        if (!read_number(value, t) || !(t >= 0) || !std::isfinite(t))
          return "--temperature: expected a number of at least 0" + got;
      } else if (argument == "--top-p") {
        float& p = o.what.how.top_p;
        if (!read_number(value, p) || !(p > 0 && p <= 1)) return "--top-p: expected a number above 0, at most 1" + got;
      } else if (argument == "--seed") {
        if (!read_number(value, o.what.seed)) return "--seed: expected a number from 0 to 2^64 - 1" + got;
      } else if (argument == "--tokens-out") {
        if (value.empty()) return "--tokens-out: expected a file";
        o.tokens_out = value;
      } else if (argument == "--data") {
        o.data = value;
      } else if (!read_number(value, o.passes) || o.passes == 0 || o.passes > 1000) {
        return "--passes: expected a number from 1 to 1000" + got;
      }
    }
  }
  return {};
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

/// A string of JSON. Bytes that are no UTF-8 become U+FFFD.
std::string json_text(std::string_view text) {
  std::string json = "\"";
  while (!text.empty()) {
    const std::size_t wrong = polymac::io::find_invalid_utf8(text);
    for (const char c : text.substr(0, wrong)) {
      if (c == '"' || c == '\\') {
        json += '\\';
        json += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        std::array<char, 8> escaped;
        std::snprintf(escaped.data(), escaped.size(), "\\u%04x", static_cast<unsigned>(c));
        json += escaped.data();
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
  if (const std::string wrong = parse(argc, argv, o); !wrong.empty())
    return std::fprintf(stderr, "stories: %s\n", wrong.c_str()), usage;
  if (o.help) return std::fputs(help_text, stdout) < 0 || std::fflush(stdout) != 0;
  if (const auto s = run(o); !s.ok()) return std::fprintf(stderr, "stories: %s\n", s.c_str()), failure;
  return std::fflush(stdout) == 0 && std::ferror(stdout) == 0 ? success : failure;
}
