// SPDX-License-Identifier: MIT
// leakage: attacks on simulated power traces of a first layer, with every form of pixel pruning.
#include "examples/mlperf_tiny/progress.hpp"
#include "plot.hpp"

#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>

namespace example {

namespace {

constexpr int success = 0, failure = 1, usage = 2;

constexpr const char* help_text =
    R"(leakage: what attacks on simulated power traces learn of the weights of a first layer

  leakage [--traces N] [--seed S] [--out DIR] [--json]
      A table of correlation attacks on a neuron of 16 weights: unprotected, and with each form of policy::pixel_pruning;
      a table of t-tests, fixed data against random data; and what is not protected.

  --traces N   traces of each attack and each t-test, 100 to 10000000 (20000)
  --seed S     of weights, inputs, noise and maps (1): the same seed gives the same numbers
  --out DIR    plots of correlation against the number of traces, DIR/correlation_w<weight>.svg
  --json       an object instead of the tables, {"traces", "seed", ..., "attacks": [...], "tests": [...]}; nothing else is
               printed on the standard output
  --help       this text

Exit code: 0, whatever the attacks find; 1 if something cannot be run or written; 2 for a wrong command line.
)";

struct options {
  bool json = false, help = false;
  std::size_t traces = 20000;
  std::uint64_t seed = 1;
  std::string out;
};

template <class Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  return problem == std::errc{} && end == text.data() + text.size();
}

/// Null where all is well, else what is wrong.
const char* parse(int argc, char* argv[], options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--json") {
      o.json = true;
    } else if (argument == "--help" || argument == "-h") {
      o.help = true;
    } else if (argument == "--traces" || argument == "--seed" || argument == "--out") {
      if (i + 1 == argc) return "--traces and --seed need a number, --out a folder";
      const std::string_view value = argv[++i];
      if (argument == "--traces") {
        if (!parse_number(value, o.traces) || o.traces < 100 || o.traces > 10'000'000)
          return "--traces: expected a number from 100 to 10000000";
      } else if (argument == "--seed") {
        if (!parse_number(value, o.seed)) return "--seed: expected a number from 0 to 2^64 - 1";
      } else {
        if (value.empty()) return "--out: expected a folder";
        o.out = value;
      }
    } else {
      return "unknown argument (--help lists the options)";
    }
  }
  return nullptr;
}

struct planned {
  form subject;
  knowledge known;
};
constexpr std::array plan{
    planned{form::unprotected, knowledge::nothing},      planned{form::branch_skip, knowledge::nothing},
    planned{form::important_pixels, knowledge::nothing}, planned{form::zero_fixed, knowledge::nothing},
    planned{form::list_compact, knowledge::nothing},     planned{form::list_shuffled, knowledge::nothing},
    planned{form::branch_skip, knowledge::active_set},   planned{form::zero_fixed, knowledge::active_set},
    planned{form::list_compact, knowledge::active_set}};

polymac::result<results> run_all(const options& o) {
  results r{.traces = o.traces, .seed = o.seed, .attacks = {}, .tests = {}};
  progress_bar bar("leakage", all_forms.size() + plan.size() * targets.size() + 2 * all_forms.size() + 1);
  std::size_t done = 0;
  r.attacks.resize(plan.size());
  for (const form f : all_forms) {
    const auto c = record(f, o.traces, o.seed);
    if (!c.ok()) return c.status();
    bar.show(++done);
    for (std::size_t i = 0; i < plan.size(); ++i) {
      if (plan[i].subject != f) continue;
      r.attacks[i] = {f, plan[i].known, {}};
      for (const std::size_t w : targets) {
        r.attacks[i].findings.push_back(attack(*c, w, plan[i].known));
        bar.show(++done);
      }
    }
  }
  const auto test = [&](form f, varied what) {
    auto row = compare(f, what, o.traces, o.seed);
    if (!row.ok()) return row.status();
    r.tests.push_back(*row);
    bar.show(++done);
    return polymac::status{};
  };
  for (const varied what : {varied::input, varied::weights})
    for (const form f : all_forms)
      if (const auto s = test(f, what); !s.ok()) return s;
  if (const auto s = test(form::unprotected, varied::nothing); !s.ok()) return s;
  return r;
}

int run(const options& o) {
  const auto r = run_all(o);
  polymac::status s = r.status();
  if (s.ok() && !o.out.empty()) s = write_plots(*r, o.out);
  if (!s.ok()) return std::fprintf(stderr, "leakage: %s\n", s.c_str()), failure;
  if (o.json)
    print_json(*r);
  else
    print_tables(*r);
  return std::fflush(stdout) == 0 && std::ferror(stdout) == 0 ? success : failure;
}

}  // namespace

}  // namespace example

int main(int argc, char* argv[]) {
  example::options o;
  if (const char* wrong = example::parse(argc, argv, o); wrong != nullptr) {
    std::fprintf(stderr, "leakage: %s\n", wrong);
    return example::usage;
  }
  if (o.help) return std::fputs(example::help_text, stdout) < 0 || std::fflush(stdout) != 0;
  return example::run(o);
}
