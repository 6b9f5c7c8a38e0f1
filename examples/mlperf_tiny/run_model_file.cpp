// SPDX-License-Identifier: MIT
// Any supported model on a file of inputs.
#include "modes.hpp"

#include <algorithm>
#include <system_error>

namespace example {

namespace fs = std::filesystem;
using polymac::errc;
using polymac::result;
using polymac::status;

namespace {

/// Writes all output tensors of the first inference, then of the second ...
status write_outputs(output_file& file, const loaded_net& net, const runs& results, std::size_t inferences) {
  for (std::size_t i = 0; i < inferences; ++i) {
    for (std::size_t k = 0; k < net.outputs().size(); ++k) {
      const std::size_t size = net.outputs()[k].bytes;
      if (status s = file.write(std::span(results.outputs[k]).subspan(i * size, size)); !s.ok()) return s;
    }
  }
  return file.commit();
}

result<row> run(const options& chosen) {
  std::error_code ignored;
  for (const std::string& source : {chosen.model, chosen.input})
    if (!chosen.output.empty() && fs::is_regular_file(source, ignored) &&
        fs::equivalent(source, chosen.output, ignored))
      return status::make(errc::parameter, "the output would overwrite what is read: ", source);
  const auto file = read_file(chosen.model);
  if (!file.ok()) return file.status();
  const auto net = loaded_net::load(*file, chosen.classic, false);
  if (!net.ok()) return net.status();
  const auto inputs = read_file(chosen.input);
  if (!inputs.ok()) return inputs.status();
  output_file output;
  if (!chosen.output.empty())
    if (status s = output.open(chosen.output); !s.ok()) return s;

  const std::string name = fs::path(chosen.model).stem().string();
  const auto results = net->run(*inputs, name);
  if (!results.ok()) return status::make(results.status().code(), results.status().text(), ": ", chosen.input);
  std::size_t record = 0;
  for (const tensor& t : net->inputs()) record += t.bytes;
  const std::size_t inferences = inputs->size() / record;
  if (!chosen.output.empty())
    if (status s = write_outputs(output, *net, *results, inferences); !s.ok()) return s;
  return make_row(name, *net, inferences, *results);
}

}  // namespace

outcome run_model_file(const options& chosen) {
  outcome all;
  auto r = run(chosen);
  if (r.ok())
    all.rows.push_back(std::move(*r));
  else
    complain(chosen.model, r.status());
  all.failed = !r.ok();
  return all;
}

}  // namespace example
