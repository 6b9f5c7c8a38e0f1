// SPDX-License-Identifier: MIT
// Whole networks of MLPerf Tiny, one thread: model/<net>/polymac.
//
// Models and real inputs come from the data folder (POLYMAC_DATA, else ../shared/data), prepared as
// examples/mlperf_tiny prepares them. A network whose files are not there is skipped, and its row says so.
//
//   --outputs=DIR   also writes DIR/<net>.input.bin and DIR/<net>.output.bin, all inferences one after the other, for
//                   bench/compare_nets.py
#include "examples/common/files.hpp"
#include "examples/mlperf_tiny/loaded_net.hpp"
#include "examples/mlperf_tiny/nets.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using polymac::errc;
using polymac::result;
using polymac::status;

/// A network with its inputs, for the life of the program.
struct subject {
  example::loaded_net net;
  example::bytes inputs;
  std::size_t record = 0;  ///< bytes of the inputs of one inference

  std::size_t count() const { return inputs.size() / record; }
};

result<subject> load(const example::net_entry& entry, const fs::path& data) {
  const auto file = example::read_file(data / "mlperf_tiny" / (std::string(entry.name) + ".tflite"));
  if (!file.ok()) return file.status();
  auto net = example::loaded_net::load(*file, false, false);
  if (!net.ok()) return net.status();
  const auto content = example::read_file(data / entry.input_file);
  if (!content.ok()) return content.status();
  auto inputs = entry.prepare(*content, *net, data);
  if (!inputs.ok()) return inputs.status();
  std::size_t record = 0;
  for (const example::tensor& t : net->inputs()) record += t.bytes;
  if (record == 0 || inputs->empty() || inputs->size() % record != 0)
    return status::make(errc::shape, "expected a positive multiple of ", record, " bytes of input, got ",
                        inputs->size());
  return subject{std::move(*net), std::move(*inputs), record};
}

status write(const fs::path& path, std::span<const std::byte> content) {
  example::output_file file;
  status s = file.open(path);
  if (s.ok()) s = file.write(content);
  return s.ok() ? file.commit() : s;
}

/// What the network answers to all of its inputs.
status write_answers(const char* name, const subject& s, const fs::path& folder) {
  example::inference one;
  if (status failure = one.prepare(s.net); !failure.ok()) return failure;
  example::bytes answers;
  for (std::size_t i = 0; i < s.count(); ++i) {
    one.set_inputs(s.inputs.data() + i * s.record);
    if (status failure = one.run(); !failure.ok()) return failure;
    for (const auto output : one.outputs()) answers.insert(answers.end(), output.begin(), output.end());
  }
  if (status failure = write(folder / (std::string(name) + ".input.bin"), s.inputs); !failure.ok()) return failure;
  return write(folder / (std::string(name) + ".output.bin"), answers);
}

/// Inferences in turn on the first inputs, which stay in the cache. Copying an input is counted.
void run(benchmark::State& state, const subject& s) {
  constexpr std::size_t most_inputs = 16;
  const std::size_t inputs = std::min(most_inputs, s.count());
  example::inference one;
  if (const status failure = one.prepare(s.net); !failure.ok()) return state.SkipWithError(failure.c_str());
  using clock = std::chrono::steady_clock;
  std::size_t next = 0;
  const auto begin = clock::now();
  for (auto _ : state) {
    one.set_inputs(s.inputs.data() + next * s.record);
    if (const status failure = one.run(); !failure.ok()) return state.SkipWithError(failure.c_str());
    next = next + 1 < inputs ? next + 1 : 0;
  }
  const double us = std::chrono::duration<double, std::micro>(clock::now() - begin).count();
  using counter = benchmark::Counter;
  state.counters["GMAC"] = counter(static_cast<double>(s.net.macs()) * 1e-9, counter::kIsIterationInvariantRate);
  state.counters["us"] = us / static_cast<double>(state.iterations());  // as a rate it would carry a unit of its own
  state.SetLabel(s.net.isa());
}

void skip(const std::string& row, const std::string& reason) {
  benchmark::RegisterBenchmark(row.c_str(), [reason](benchmark::State& state) { state.SkipWithError(reason.c_str()); });
}

/// Takes `--outputs=DIR` out of the arguments.
std::optional<fs::path> take_outputs(int& argc, char* argv[]) {
  constexpr std::string_view option = "--outputs=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.substr(0, option.size()) != option) continue;
    std::rotate(argv + i, argv + i + 1, argv + argc);
    --argc;
    return fs::path(argument.substr(option.size()));
  }
  return {};
}

}  // namespace

int main(int argc, char* argv[]) {
  const auto folder = take_outputs(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const auto data = example::find_data({});
  bool failed = false;
  std::vector<subject> subjects;
  subjects.reserve(example::net_entries().size());  // rows hold references
  for (const example::net_entry& entry : example::net_entries()) {
    const std::string row = std::string("model/") + entry.name + "/polymac";
    if (!data.ok() || !data->has_value()) {
      skip(row, "no data folder: neither POLYMAC_DATA nor ../shared/data is one");
      continue;
    }
    auto loaded = load(entry, **data);
    if (!loaded.ok()) {
      skip(row, loaded.status().c_str());
      continue;
    }
    const subject& s = subjects.emplace_back(std::move(*loaded));
    if (folder) {
      if (const status failure = write_answers(entry.name, s, *folder); !failure.ok()) {
        std::fprintf(stderr, "model_bench: %s: %s\n", entry.name, failure.c_str());
        failed = true;
      }
    }
    benchmark::RegisterBenchmark(row.c_str(), [&s](benchmark::State& state) {
      run(state, s);
    })->Unit(benchmark::kMicrosecond);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return failed ? 1 : 0;
}
