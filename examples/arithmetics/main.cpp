// SPDX-License-Identifier: MIT
// arithmetics: real nets in every arithmetic of the library.
#include "examples/common/program.hpp"
#include "report.hpp"
#include "tasks.hpp"

#include <cstdio>
#include <limits>
#include <string>

namespace example {

std::vector<arithmetic> all_arithmetics() {
  std::vector<arithmetic> list;
  add_floats(list);
  add_fixed_point(list);
  add_small_floats(list);
  add_logarithms(list);
  add_blocks(list);
  add_few_bits(list);
  return list;
}

namespace {

constexpr const char* help_text =
    R"(arithmetics: runs float32 nets in every arithmetic of polymac and tells what becomes of them

  arithmetics [--data DIR] [--inputs N] [--json]
      A table for each net: ResNet8 on CIFAR pictures, DS-CNN on keywords, an autoencoder on sounds (MLPerf Tiny). DIR is
      also looked for in the environment variable POLYMAC_DATA and at ../shared/data. Without data, a small network of
      polymac's own reads drawn digits.

  --inputs N   only the first N inputs of each net
  --json       an object instead of the tables, {"rows": [...], "orders": [...]}; nothing else is printed on the
               standard output
  --help       this text

Exit code: 0; 1 if something cannot be read or run; 2 for a wrong command line. The orders of arithmetics below a table
are findings, whichever way they come out.
)";
constexpr program arithmetics{"arithmetics", help_text};

struct options {
  bool json = false, help = false;
  std::string data;
  std::size_t inputs = std::numeric_limits<std::size_t>::max();
};

/// Empty where all is well, else what is wrong.
std::string parse(int argc, char* argv[], options& o) {
  command_line line("--data needs a folder, --inputs a number");
  line.flag("--json", o.json);
  line.help(o.help);
  line.text("--data", o.data);
  line.number("--inputs", o.inputs, "expected a number above 0", [](std::size_t n) { return n > 0; });
  return line.read(argc, argv);
}

polymac::result<std::vector<task>> find_tasks(const options& o) {
  const auto data = find_data(o.data);
  if (!data.ok()) return data.status();
  if (data->has_value()) {
    auto list = tasks_of(**data);
    if (!list.ok() || !list->empty()) return list;
    if (!o.data.empty())
      return polymac::status::make(polymac::errc::parameter, "found none of the nets in ", (*data)->c_str());
  }
  if (!o.json) std::puts("No data: a small network reads digits that are drawn now.\n");
  auto digits = digits_task();
  if (!digits.ok()) return digits.status();
  std::vector<task> list;
  list.push_back(std::move(*digits));
  return list;
}

int run(const options& o) {
  const auto tasks = find_tasks(o);
  if (!tasks.ok()) return arithmetics.complain(tasks.status());
  std::vector<row> all;
  std::vector<order> all_known;
  bool good = true;
  for (const task& t : *tasks) {
    const auto rows = evaluate(t, o.inputs);
    if (!rows.ok()) {
      arithmetics.complain(t.name + ": " + rows.status().c_str());
      good = false;
      continue;
    }
    const std::vector<order> known = orders(*rows);
    if (!o.json) print_table(*rows, known);
    std::fflush(stdout);
    all.insert(all.end(), rows->begin(), rows->end());
    all_known.insert(all_known.end(), known.begin(), known.end());
  }
  if (o.json)
    print_json(all, all_known);
  else if (!all.empty())
    explain();
  return program::finish(good);
}

}  // namespace

}  // namespace example

int main(int argc, char* argv[]) {
  using namespace example;
  options o;
  const std::string wrong = parse(argc, argv, o);
  return arithmetics.run(wrong, o.help, [&] { return run(o); });
}
