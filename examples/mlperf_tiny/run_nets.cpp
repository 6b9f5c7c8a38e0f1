// SPDX-License-Identifier: MIT
// The table of all networks that there is data for.
#include "compare.hpp"
#include "modes.hpp"
#include "nets.hpp"

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

/// One file of reference values, and the output tensor it belongs to.
struct reference {
  fs::path file;
  std::size_t output;
};

/// The references of a network in a rounding profile. Floats are not rounded: theirs hold in both profiles.
std::vector<reference> references_of(const net_entry& entry, const loaded_net& net, bool classic) {
  const std::size_t last = net.outputs().size() - 1;
  if (classic && std::string_view(entry.values).substr(0, 3) != "f32") {
    if (entry.classic == nullptr) return {};
    return {{entry.classic, 0}};
  }
  const auto file = [&entry](const char* what) {
    return fs::path("mlperf_tiny/litert_ref") / (std::string(entry.name) + what + entry.values + ".bin");
  };
  std::vector<reference> list{{file("_output_"), last}};
  if (net.has_logits()) list.push_back({file("_logits_"), 0});
  return list;
}

status compare_with_references(row& r, const net_entry& entry, const loaded_net& net, const runs& results,
                               const fs::path& data, bool classic) {
  for (const reference& ref : references_of(entry, net, classic)) {
    std::error_code ignored;
    if (!fs::exists(data / ref.file, ignored)) {
      std::fprintf(stderr, "mlperf_tiny: %s: not compared, there is no %s\n", entry.name, ref.file.c_str());
      continue;
    }
    const bytes& actual = results.outputs[ref.output];
    const auto expected = read_file(data / ref.file, actual.size());
    if (!expected.ok()) return expected.status();
    count_mismatches(r, actual, *expected, net.outputs()[ref.output].type);
  }
  return {};
}

double mean_squared_error(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
  return sum / static_cast<double>(a.size());
}

status judge(row& r, const net_entry& entry, const loaded_net& net, const bytes& inputs, const runs& results,
             const fs::path& data) {
  if (entry.labels != nullptr) {
    const auto labels = read_file(data / entry.labels, r.inputs);
    if (!labels.ok()) return labels.status();
    r.correct = count_correct(results.outputs[0], net.outputs()[0], *labels);
  }
  if (entry.reconstructs) {
    const auto x = reals(inputs, net.inputs()[0]), y = reals(results.outputs[0], net.outputs()[0]);
    if (x.size() != y.size())
      return status::make(errc::shape, "expected as many outputs as inputs, ", x.size(), ", got ", y.size());
    r.score = mean_squared_error(x, y);
  }
  return {};
}

result<row> run_net(const net_entry& entry, const fs::path& data, bool classic) {
  const auto file = read_file(data / "mlperf_tiny" / (std::string(entry.name) + ".tflite"));
  if (!file.ok()) return file.status();
  const auto net = loaded_net::load(*file, classic, true);
  if (!net.ok()) return net.status();
  if (net->inputs().size() != 1)
    return status::make(errc::shape, "expected a network with 1 input, got ", net->inputs().size());
  const auto content = read_file(data / entry.input_file);
  if (!content.ok()) return content.status();
  const auto inputs = entry.prepare(*content, *net, data);
  if (!inputs.ok()) return inputs.status();
  const auto results = net->run(*inputs, entry.name);
  if (!results.ok()) return results.status();
  row r = make_row(entry.name, *net, inputs->size() / net->inputs()[0].bytes, *results);
  r.target = entry.target;
  if (status s = judge(r, entry, *net, *inputs, *results, data); !s.ok()) return s;
  if (status s = compare_with_references(r, entry, *net, *results, data, classic); !s.ok()) return s;
  return r;
}

}  // namespace

outcome run_nets(const fs::path& data, const options& chosen) {
  outcome all;
  std::string left_out;
  for (const net_entry& entry : net_entries()) {
    std::error_code ignored;
    const bool here = fs::exists(data / "mlperf_tiny" / (std::string(entry.name) + ".tflite"), ignored) &&
                      fs::exists(data / entry.input_file, ignored);
    if (!here) {
      left_out += std::string(" ") + entry.name;
      continue;
    }
    auto r = run_net(entry, data, chosen.classic);
    if (r.ok())
      all.rows.push_back(std::move(*r));
    else
      complain(entry.name, r.status());
    all.failed = all.failed || !r.ok();
  }
  if (!all.rows.empty() && !left_out.empty())
    std::fprintf(stderr, "mlperf_tiny: not run, model or inputs are not in the data folder:%s\n", left_out.c_str());
  return all;
}

void explain_nets(const options& chosen) {
  std::printf(R"(
mismatches  values that differ from the references in data/, logits and final outputs together, in rounding profile %s;
            "-": no reference in this profile. Floats differ where they are more than %.0e of the tensor's largest
            magnitude away; in brackets the largest such distance.
accuracy    IC: the first 1000 images of the CIFAR-10 test batch; sww: 45 labelled spectrograms. KWS and VWW: the inputs
            here have no labels, so only the values are compared.
score       AD: mean squared error of the reconstruction, on 196 windows of a normal recording (published: fp32 9.7071).
target      of MLPerf Tiny's closed division, on its own test sets. AD's is an area under the ROC curve: it needs
            anomalous recordings, which are not here. sww has none in data/.
at least    no plan of the arena can be smaller. Inputs and outputs are the caller's and not counted.
median us   of one inference on one thread. Absolute times on a shared machine cannot be compared; bench/ gives ratios.
)",
              chosen.classic ? "classic" : "litert", float_tolerance);
}

}  // namespace example
