// SPDX-License-Identifier: MIT
#include "report.hpp"

#include "examples/common/json.hpp"
#include "examples/common/table.hpp"

#include <cmath>
#include <cstdio>

namespace example {

namespace {

/// A table and a line that is empty.
void print_table(const std::vector<cells>& lines, std::initializer_list<std::size_t> words) {
  print_lines(lines, words);
  std::printf("\n");
}

/// An attacker tries so many.
constexpr std::size_t few_guesses = 8;

const char* verdict(std::size_t leaking) { return leaking > 0 ? "FAIL" : "pass"; }

/// "w0 (from 32); w1 among 4": the weights that were found, from how many traces on, and those of which few guesses are
/// left.
std::string found(const attack_row& row) {
  std::string text;
  for (const finding& f : row.findings) {
    const point& p = f.curve.back();
    if (is_recovered(f))
      text += (text.empty() ? "" : ", ") + format("w%zu (from %zu)", f.weight, *f.disclosure);
    else if (p.rank <= few_guesses && p.right > 2 * noise_floor(p.traces))
      text += (text.empty() ? "" : ", ") + format("w%zu among %zu", f.weight, p.rank);
  }
  return text.empty() ? "none" : text;
}

std::string number(double v) { return json_number(v, "%.6g"); }

constexpr const char* explanation =
    R"(rho         largest |correlation| of the right guess with a sample of the traces, over all samples
rank        of the right one among 127 guesses; with rho at the noise floor a low rank is chance
attacker    naive: knows the inputs and all weights before the one he is after, and predicts sums as if all pixels took
            part; knows the maps: also which pixels took part in each trace
found       rank 1 from so many traces on; "among": a rank of 2 to 8 far above the noise, which leaves that many to try
first, second  largest |t| of order 1 (means) and 2 (spreads) in two runs; FAIL: a sample is above the threshold in both.
            The last line is the control: nothing differs there

branch_skip and list_compact execute the same products in the same order, hence the same numbers; they differ in what
their time tells, which is not in these traces.

What is not protected:
- The first weights of a neuron, in every form. A sum is guessed right if no earlier pixel was left out: 1/2 for each
  pixel that may be, which is little for the first few. list_shuffled puts the first product first in one trace of 16:
  its rho is a sixteenth, not 0. Later weights are hidden behind more traces (1 / rho^2), not from more traces.
- Important pixels: they are in every sum. The weights up to the first pixel that may be left out are not protected.
- Every weight, from whoever knows the maps. branch_skip shows them: important, executed and skipped products take
  different times, and Double Strike (arXiv 2601.08698) reads the maps from each trace. That form is there to reproduce
  the attack, not to be used. The others have no such branch; their maps are as secret as the generator and the drawing.
- That inputs or weights differ: given traces enough the t-tests fail in every form. A pass is no proof of anything.

What was not tried: attacks that guess weights and maps together or try the best few guesses, of second order, with
profiles of the device, on real traces. A real device leaks loads of operands, memory and busses as well, which no form
hides: a product that is executed loads its weight. This is a simulation; no attack that fails in it proves security.
)";

}  // namespace

double noise_floor(std::size_t traces) { return 4 / std::sqrt(static_cast<double>(traces)); }

bool is_recovered(const finding& f) {
  return f.disclosure.has_value() && f.curve.back().right > noise_floor(f.curve.back().traces);
}

const char* name_of(knowledge k) { return k == knowledge::nothing ? "naive" : "knows the maps"; }

void print_tables(const results& r) {
  std::printf(
      "Correlation analysis: a neuron of %zu weights, %zu traces, sample = bits of the sum + N(0, %g^2), seed %llu\n"
      "rho / rank of the right weight; the noise floor is %.3f\n\n",
      depth, r.traces, sigma, static_cast<unsigned long long>(r.seed), noise_floor(r.traces));
  std::vector<cells> lines{{"form", "attacker"}};
  for (const std::size_t w : targets) lines[0].push_back(format("w%zu", w));
  for (const attack_row& row : r.attacks) {
    cells l{name_of(row.subject), name_of(row.known)};
    for (const finding& f : row.findings) l.push_back(format("%.3f / %3zu", f.curve.back().right, f.curve.back().rank));
    lines.push_back(l);
  }
  print_table(lines, {0, 1});

  lines = {{"form", "attacker", "weights that were found, and the traces that it took"}};
  for (const attack_row& row : r.attacks) lines.push_back({name_of(row.subject), name_of(row.known), found(row)});
  print_table(lines, {0, 1, 2});

  if (!r.tests.empty())
    std::printf("Can two groups of traces be told apart? Welch's t-test, two runs of %zu traces, threshold %.2f\n\n",
                r.tests[0].traces, r.tests[0].threshold);
  lines = {{"form", "groups", "first", "", "", "second", "", ""}};
  for (const difference_row& t : r.tests)
    lines.push_back({t.subject, t.groups, format("%.1f", t.first[0]), format("%.1f", t.first[1]),
                     verdict(t.leaking_first), format("%.1f", t.second[0]), format("%.1f", t.second[1]),
                     verdict(t.leaking_second)});
  print_table(lines, {0, 1});
  std::fputs(explanation, stdout);
}

void print_json(const results& r) {
  std::printf("{\"traces\": %zu, \"seed\": %llu, \"depth\": %zu, \"sigma\": %s, \"noise_floor\": %s, \"attacks\": [",
              r.traces, static_cast<unsigned long long>(r.seed), depth, number(sigma).c_str(),
              number(noise_floor(r.traces)).c_str());
  row_separator separator;
  for (const attack_row& row : r.attacks)
    for (const finding& f : row.findings) {
      const point& p = f.curve.back();
      std::printf(
          "%s  {\"form\": \"%s\", \"attacker\": \"%s\", \"weight\": %zu, \"rho\": %s, \"rank\": %zu, \"best_wrong\": "
          "%s, "
          "\"recovered\": %s, \"traces_to_disclosure\": %s}",
          separator.next(), name_of(row.subject), name_of(row.known), f.weight, number(p.right).c_str(), p.rank,
          number(p.wrong).c_str(), is_recovered(f) ? "true" : "false",
          f.disclosure ? format("%zu", *f.disclosure).c_str() : "null");
    }
  std::fputs("\n], \"tests\": [", stdout);
  separator = {};
  for (const difference_row& t : r.tests) {
    std::printf(
        "%s  {\"form\": \"%s\", \"groups\": \"%s\", \"threshold\": %s, \"largest_t\": [%s, %s], "
        "\"largest_t_second_order\": [%s, %s], \"passes\": %s, \"passes_second_order\": %s}",
        separator.next(), t.subject, t.groups, number(t.threshold).c_str(), number(t.first[0]).c_str(),
        number(t.first[1]).c_str(), number(t.second[0]).c_str(), number(t.second[1]).c_str(),
        t.leaking_first == 0 ? "true" : "false", t.leaking_second == 0 ? "true" : "false");
  }
  std::fputs("\n]}\n", stdout);
}

}  // namespace example
