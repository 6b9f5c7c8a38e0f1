// SPDX-License-Identifier: MIT
// arithmetics: real nets in every arithmetic of the library.
#include "report.hpp"
#include "tasks.hpp"

#include <charconv>
#include <cstdio>
#include <limits>
#include <string_view>

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

constexpr int success = 0, failure = 1, usage = 2;

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

struct options {
  bool json = false, help = false;
  std::string data;
  std::size_t inputs = std::numeric_limits<std::size_t>::max();
};

/// Null where all is well, else what is wrong.
const char* parse(int argc, char* argv[], options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--json") {
      o.json = true;
    } else if (argument == "--help" || argument == "-h") {
      o.help = true;
    } else if (argument == "--data" || argument == "--inputs") {
      if (i + 1 == argc) return "--data needs a folder, --inputs a number";
      const std::string_view value = argv[++i];
      if (argument == "--data") {
        o.data = value;
        continue;
      }
      const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), o.inputs);
      if (problem != std::errc{} || end != value.data() + value.size() || o.inputs == 0)
        return "--inputs: expected a number above 0";
    } else {
      return "unknown argument (--help lists the options)";
    }
  }
  return nullptr;
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
  if (!tasks.ok()) return std::fprintf(stderr, "arithmetics: %s\n", tasks.status().c_str()), failure;
  std::vector<row> all;
  std::vector<order> all_known;
  bool good = true;
  for (const task& t : *tasks) {
    const auto rows = evaluate(t, o.inputs);
    if (!rows.ok()) {
      std::fprintf(stderr, "arithmetics: %s: %s\n", t.name.c_str(), rows.status().c_str());
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
  return good && std::fflush(stdout) == 0 && std::ferror(stdout) == 0 ? success : failure;
}

}  // namespace

}  // namespace example

int main(int argc, char* argv[]) {
  example::options o;
  if (const char* wrong = example::parse(argc, argv, o); wrong != nullptr) {
    std::fprintf(stderr, "arithmetics: %s\n", wrong);
    return example::usage;
  }
  if (o.help) return std::fputs(example::help_text, stdout) < 0 || std::fflush(stdout) != 0;
  return example::run(o);
}
