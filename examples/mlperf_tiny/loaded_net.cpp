// SPDX-License-Identifier: MIT
#include "loaded_net.hpp"

#include "build_network.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/model/network.hpp"
#include "read_graph.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace example {

using polymac::errc;
using polymac::result;
using polymac::status;
namespace model = polymac::model;

struct loaded_net::implementation {
  model::network network;
};

namespace {

/// A tensor inside of a network can be seen: it only has to stand in the list of outputs.
bool expose_logits(model::graph& g) {
  if (g.operations.empty() || g.outputs.size() != 1) return false;
  const model::operation& last = g.operations.back();
  if (last.kind != model::operation_kind::softmax || last.outputs[0] != g.outputs[0]) return false;
  g.outputs.insert(g.outputs.begin(), last.inputs[0]);
  return true;
}

template <class M>
const char* atom_isa() {
  return polymac::isa::best_atom<M, polymac::isa::native>::isa::name;
}

/// The instruction sets that multiply: one for each arithmetic, most networks have one.
std::string isa_of(const model::graph& g) {
  std::vector<std::string> names;
  for (const model::operation& op : g.operations) {
    if (model::multiply_accumulates(g, op) == 0) continue;
    const model::element_type type = g.input_of(op, 0)->type;
    names.emplace_back(type == model::element_type::float32 ? atom_isa<polymac::mac::float32>()
                       : type == model::element_type::int16 ? atom_isa<polymac::mac::int16x8>()
                                                            : atom_isa<polymac::mac::int8>());
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  if (names.empty()) return polymac::isa::native::name;
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : "+") + name;
  return text;
}

std::vector<tensor> tensors_of(const std::vector<model::port>& ports) {
  std::vector<tensor> list;
  for (const model::port& p : ports) list.push_back({p.type, p.quantized, p.bytes});
  return list;
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

loaded_net::loaded_net(std::unique_ptr<implementation> made)
    : implementation_(std::move(made)),
      inputs_(tensors_of(implementation_->network.inputs())),
      outputs_(tensors_of(implementation_->network.outputs())) {}
loaded_net::loaded_net(loaded_net&&) noexcept = default;
loaded_net::~loaded_net() = default;

std::uint64_t loaded_net::macs() const noexcept { return implementation_->network.macs(); }
std::size_t loaded_net::arena_bytes() const noexcept { return implementation_->network.arena_bytes(); }
std::size_t loaded_net::arena_lower_bound_bytes() const noexcept {
  return implementation_->network.arena_lower_bound_bytes();
}

result<loaded_net> loaded_net::load(std::span<const std::byte> file, bool classic_rounding, bool with_logits) {
  auto graph = read_graph(file);
  if (!graph.ok()) return graph.status();
  const bool has_logits = with_logits && expose_logits(*graph);
  const auto rounding = classic_rounding ? model::rounding_profile::classic : model::rounding_profile::litert;
  auto network = build_network(*graph, {rounding});
  if (!network.ok()) return network.status();
  loaded_net made(std::make_unique<implementation>(implementation{std::move(*network)}));
  made.isa_ = isa_of(*graph);
  made.has_logits_ = has_logits;
  return made;
}

status inference::prepare(const loaded_net& net) {
  net_ = &net;
  const model::network& n = net.implementation_->network;
  if (status s = arena_.resize(n.arena_bytes() + n.arena_alignment); !s.ok()) return s;
  for (const bool input : {true, false}) {
    for (const model::port& p : input ? n.inputs() : n.outputs()) {
      polymac::buffer<std::byte> b;
      if (status s = b.resize(p.bytes); !s.ok()) return s;
      (input ? inputs_ : outputs_).push_back(std::move(b));
    }
  }
  for (const auto& b : inputs_) input_spans_.emplace_back(b.data(), b.size());
  for (auto& b : outputs_) output_spans_.emplace_back(b.data(), b.size());
  return {};
}

void inference::set_inputs(const std::byte* record) {
  for (auto& b : inputs_) {
    std::memcpy(b.data(), record, b.size());
    record += b.size();
  }
}

status inference::run() {
  return net_->implementation_->network.run(std::span<const std::span<const std::byte>>(input_spans_),
                                            std::span<const std::span<std::byte>>(output_spans_),
                                            polymac::workspace(arena_));
}

result<runs> loaded_net::run(std::span<const std::byte> all_inputs, const std::string& name) const {
  std::size_t record = 0;
  for (const tensor& t : inputs_) record += t.bytes;
  if (record == 0) return status::make(errc::unsupported, "the network has no input");
  if (all_inputs.empty() || all_inputs.size() % record != 0)
    return status::make(errc::shape, "expected a positive multiple of ", record, " bytes of input, got ",
                        all_inputs.size());

  inference one;
  if (status s = one.prepare(*this); !s.ok()) return s;
  const std::size_t count = all_inputs.size() / record;
  runs results;
  for (const tensor& t : outputs_) results.outputs.emplace_back(count * t.bytes);

  using clock = std::chrono::steady_clock;
  using microseconds = std::chrono::duration<double, std::micro>;
  constexpr std::size_t enough_runs = 200;
  constexpr double enough_us = 200e3;
  std::vector<double> times;
  double total_us = 0;
  progress_bar bar(name, count);
  for (std::size_t i = 0; i < count || (i < enough_runs && total_us < enough_us); ++i) {
    one.set_inputs(all_inputs.data() + i % count * record);
    const auto start = clock::now();
    const status s = one.run();
    times.push_back(microseconds(clock::now() - start).count());
    total_us += times.back();
    if (!s.ok()) return s;
    if (i >= count) continue;
    for (std::size_t k = 0; k < results.outputs.size(); ++k)
      std::memcpy(results.outputs[k].data() + i * outputs_[k].bytes, one.outputs()[k].data(), outputs_[k].bytes);
    bar.show(i + 1);
  }
  results.median_us = median(times);
  return results;
}

}  // namespace example
