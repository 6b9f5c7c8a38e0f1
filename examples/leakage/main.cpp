// SPDX-License-Identifier: MIT
// leakage: attacks on simulated power traces of a first layer, with every form of pixel pruning.
#include "examples/common/program.hpp"
#include "examples/common/progress.hpp"
#include "plot.hpp"

#include <string>
#include <string_view>

namespace example {

namespace {

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
constexpr program leakage{"leakage", help_text};

struct options {
  bool json = false, help = false;
  std::size_t traces = 20000;
  std::uint64_t seed = 1;
  std::string out;
};

/// Empty where all is well, else what is wrong.
std::string parse(int argc, char* argv[], options& o) {
  command_line line("--traces and --seed need a number, --out a folder");
  line.flag("--json", o.json);
  line.help(o.help);
  line.number("--traces", o.traces, "expected a number from 100 to 10000000",
              [](std::size_t n) { return n >= 100 && n <= 10'000'000; });
  line.number("--seed", o.seed, "expected a number from 0 to 2^64 - 1");
  line.text("--out", o.out, "expected a folder");
  return line.read(argc, argv);
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
  if (!s.ok()) return leakage.complain(s);
  if (o.json)
    print_json(*r);
  else
    print_tables(*r);
  return program::finish();
}

}  // namespace

}  // namespace example

int main(int argc, char* argv[]) {
  using namespace example;
  options o;
  const std::string wrong = parse(argc, argv, o);
  return leakage.run(wrong, o.help, [&] { return run(o); });
}
