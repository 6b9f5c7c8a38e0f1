// SPDX-License-Identifier: MIT
// A graph turned into layers that run in one planned arena.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/model/arena.hpp"
#include "polymac/model/contraction_steps.hpp"
#include "polymac/model/elementwise_steps.hpp"
#include "polymac/model/validate.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// What a user can choose when a network is built.
struct network_options {
  rounding_profile rounding = rounding_profile::litert;
};

/// A tensor at the border of a network.
struct port {
  std::string name;
  element_type type = element_type::float32;
  tensor_shape shape;
  affine quantized;  ///< scale 1 and zero point 0 where the tensor is not quantised
  std::size_t bytes = 0;
};

/// A network that is ready to run. It owns packed weights and nothing of its surroundings: neither the graph nor the
/// file it came from needs to outlive it. `run` is const, noexcept and allocates nothing; several threads may run one
/// network at once, each with its own arena, inputs and outputs.
class network {
 public:
  /// Validates the graph and builds a layer for each operation. Errors name the operation or tensor.
  static result<network> build(const graph& g, const network_options& options = {}) noexcept {
#if POLYMAC_HAS_EXCEPTIONS
    try {
      return build_checked(g, options);
    } catch (const error& e) {
      return e.status();
    } catch (const std::bad_alloc&) {
      return status::make(errc::short_buffer, "network: no memory for the weights");
    } catch (...) {
      return status::make(errc::corrupt, "network: a container refused its size");
    }
#else
    return build_checked(g, options);
#endif
  }

  const std::vector<port>& inputs() const noexcept { return inputs_; }
  const std::vector<port>& outputs() const noexcept { return outputs_; }
  /// Size of the arena that `run` needs, and the most bytes that live at one step: no plan can be smaller.
  std::size_t arena_bytes() const noexcept { return plan_.peak_bytes; }
  std::size_t arena_lower_bound_bytes() const noexcept { return plan_.lower_bound_bytes; }
  /// The arena begins here: memory that is less aligned needs up to arena_alignment - 1 bytes more.
  static constexpr std::size_t arena_alignment = 64;
  /// Multiply-accumulates of one run (convolutions and fully connected layers, padding counted).
  std::uint64_t macs() const noexcept { return macs_; }
  std::size_t operations() const noexcept { return steps_.size(); }
  /// What operation i does and how, in words.
  std::string explain(std::size_t i) const { return std::string(names_[i]) + ": " + steps_[i]->explain().c_str(); }

  /// Runs the network: inputs and outputs in the order of inputs() and outputs(), each of exactly `port::bytes` bytes,
  /// aligned for its element type; none of them overlap.
  status run(std::span<const std::span<const std::byte>> in, std::span<const std::span<std::byte>> out,
             workspace arena) const noexcept {
    if (status s = check_ports("input", inputs_, in); !s.ok()) return s;
    if (status s = check_ports("output", outputs_, out); !s.ok()) return s;
    const auto address = reinterpret_cast<std::uintptr_t>(arena.data);
    const std::size_t skip = (arena_alignment - address % arena_alignment) % arena_alignment;
    if (plan_.peak_bytes > 0 && (arena.data == nullptr || arena.size < skip || arena.size - skip < plan_.peak_bytes))
      return status::make(errc::short_buffer, "network: expected an arena of ", plan_.peak_bytes,
                          " bytes on a multiple of ", arena_alignment, ", got ", arena.size, " bytes, ", skip,
                          " before the first multiple");
    memory m{locations_, plan_.peak_bytes > 0 ? arena.data + skip : nullptr, in, out, {}};
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      m.scratch = {plan_.peak_bytes > 0 ? m.arena + scratch_[i].offset : nullptr, scratch_[i].bytes};
      if (status s = steps_[i]->run(m); !s.ok()) return s;
    }
    return {};
  }

  /// The same for a network of one input and one output.
  template <class In, class Out>
  status run(std::span<const In> in, std::span<Out> out, workspace arena) const noexcept {
    const std::span<const std::byte> inputs[] = {std::as_bytes(in)};
    const std::span<std::byte> outputs[] = {std::as_writable_bytes(out)};
    return run(std::span<const std::span<const std::byte>>(inputs), std::span<const std::span<std::byte>>(outputs),
               arena);
  }

 private:
  struct scratch_region {
    std::size_t offset = 0;
    std::size_t bytes = 0;
  };

  network() = default;

  static std::size_t alignment_of(element_type type) noexcept {
    return bits(type) > 8 ? static_cast<std::size_t>(bits(type) / 8) : 1;
  }

  template <class Byte>
  static status check_ports(const char* what, const std::vector<port>& ports,
                            std::span<const std::span<Byte>> given) noexcept {
    if (given.size() != ports.size())
      return status::make(errc::shape, "network: expected ", ports.size(), " ", what, "s, got ", given.size());
    for (std::size_t i = 0; i < ports.size(); ++i) {
      if (given[i].size() != ports[i].bytes)
        return status::make(errc::short_buffer, "network: expected ", ports[i].bytes, " bytes for ", what, " ", i, " (",
                            name(ports[i].type), " ", shape_text(ports[i].shape), "), got ", given[i].size());
      if (reinterpret_cast<std::uintptr_t>(given[i].data()) % alignment_of(ports[i].type) != 0)
        return status::make(errc::parameter, "network: expected ", what, " ", i, " on a multiple of ",
                            alignment_of(ports[i].type), " bytes");
    }
    return {};
  }

  static port port_of(const tensor_info& t) {
    return {t.name, t.type, t.shape, affine_of(t), static_cast<std::size_t>(bytes_of(t.type, t.shape.elements()))};
  }

  static result<network> build_checked(const graph& g, const network_options& options) {
    if (status s = validate(g); !s.ok()) return s;
    network n;
    n.macs_ = multiply_accumulates(g);
    for (const std::int32_t i : g.inputs) n.inputs_.push_back(port_of(*g.tensor(i)));
    for (const std::int32_t i : g.outputs) n.outputs_.push_back(port_of(*g.tensor(i)));
    if (status s = n.place_ports(g); !s.ok()) return s;
    n.find_roots(g);
    if (status s = n.make_steps(g, options); !s.ok()) return s;
    if (status s = n.place_tensors(g); !s.ok()) return s;
    return n;
  }

  /// Inputs and outputs stay where the caller has them.
  status place_ports(const graph& g) {
    locations_.resize(g.tensors.size());
    for (std::size_t i = 0; i < g.inputs.size(); ++i)
      locations_[static_cast<std::size_t>(g.inputs[i])] = {tensor_location::place::input, i, nullptr};
    for (std::size_t i = 0; i < g.outputs.size(); ++i) {
      tensor_location& l = locations_[static_cast<std::size_t>(g.outputs[i])];
      if (l.where != tensor_location::place::nowhere)
        return status::make(errc::unsupported, "network: tensor ", g.outputs[i], " is listed as an output twice");
      l = {tensor_location::place::output, i, nullptr};
    }
    return {};
  }

  /// A reshape inside the network is another name for the same memory: no step.
  bool is_alias(const operation& op) const noexcept {
    return op.kind == operation_kind::reshape &&
           locations_[static_cast<std::size_t>(op.outputs[0])].where == tensor_location::place::nowhere;
  }

  /// The step of one operation; what a layer's constructor throws becomes a status, to which the caller adds the name.
  static step_result make_one(const graph& g, const operation& op, bool weights, const network_options& options) {
    const auto make = [&] {
      return weights ? make_contraction_step(g, op, options.rounding) : make_elementwise_step(g, op);
    };
#if POLYMAC_HAS_EXCEPTIONS
    try {
      return make();
    } catch (const error& e) {
      return e.status();
    }
#else
    return make();
#endif
  }

  /// Every operation packs weights of its own, but a small file can let thousands share one tensor. This much is
  /// packed at most: generous for recurrent nets that were unrolled, and bounded by the file.
  static std::size_t most_packed_bytes(const graph& g) noexcept {
    std::size_t constants = 0;
    for (const tensor_info& t : g.tensors) constants += t.data.size();
    return (std::size_t{64} << 20) + 16 * constants;
  }

  status make_steps(const graph& g, const network_options& options) {
    const std::size_t most_packed = most_packed_bytes(g);
    std::size_t packed = 0;
    for (std::size_t i = 0; i < g.operations.size(); ++i) {
      const operation& op = g.operations[i];
      if (is_alias(op)) continue;
      const bool weights = op.kind == operation_kind::conv2d || op.kind == operation_kind::depthwise_conv2d ||
                           op.kind == operation_kind::fully_connected;
      if (weights && (packed += g.input_of(op, 1)->data.size()) > most_packed)
        return status::make(errc::unsupported, "operation ", i, " (", name(op.kind), "): expected at most ",
                            most_packed, " bytes of weights over all operations that share them, got ", packed);
      auto made = make_one(g, op, weights, options);
      if (!made.ok())
        return status::make(made.status().code(), "operation ", i, " (", name(op.kind), "): ", made.status().text());
      if (status s = keep_constants(g, op, weights); !s.ok()) return s;
      steps_.push_back(std::move(*made));
      step_operation_.push_back(i);
      names_.emplace_back(name(op.kind));
    }
    return {};
  }

  /// Copies constants that a step reads when it runs (an operand of add, say): aligned, and free of the file.
  status keep_constants(const graph& g, const operation& op, bool weights) {
    const bool all =
        op.kind == operation_kind::add || op.kind == operation_kind::multiply || op.kind == operation_kind::concatenate;
    for (std::size_t k = 0; k < (all ? op.inputs.size() : 1); ++k) {
      if (op.inputs[k] < 0) continue;
      const std::int32_t root = root_[static_cast<std::size_t>(op.inputs[k])];  // a reshape of a constant is one
      const tensor_info* t = g.tensor(root);
      if (!t->is_constant()) continue;
      tensor_location& l = locations_[static_cast<std::size_t>(root)];
      if (l.where != tensor_location::place::nowhere) continue;
      if (weights && t->type == element_type::int4)
        return status::make(errc::unsupported, "network: int4 activations in tensor ", op.inputs[k]);
      buffer<std::byte> copy;
      if (status s = copy.resize(t->data.size()); !s.ok()) return s;
      std::memcpy(copy.data(), t->data.data(), t->data.size());
      l = {tensor_location::place::constant, 0, copy.data()};
      constants_.push_back(std::move(copy));
    }
    return {};
  }

  /// Follows reshapes to the tensor whose memory is used.
  void find_roots(const graph& g) {
    root_.resize(g.tensors.size());
    for (std::size_t i = 0; i < root_.size(); ++i) root_[i] = static_cast<std::int32_t>(i);
    for (const operation& op : g.operations)
      if (is_alias(op)) root_[static_cast<std::size_t>(op.outputs[0])] = root_[static_cast<std::size_t>(op.inputs[0])];
  }

  status place_tensors(const graph& g) {
    std::vector<arena_request> requests;
    std::vector<std::size_t> request_of(g.tensors.size(), 0);  // index + 1
    const auto touch = [&](std::int32_t tensor, std::size_t step) {
      if (tensor < 0) return;
      const auto at = static_cast<std::size_t>(root_[static_cast<std::size_t>(tensor)]);
      if (request_of[at] == 0) return;
      arena_request& r = requests[request_of[at] - 1];
      r.last = r.last < step ? step : r.last;
    };
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      const operation& op = g.operations[step_operation_[s]];
      const auto out = static_cast<std::size_t>(op.outputs[0]);
      if (locations_[out].where == tensor_location::place::nowhere) {
        const tensor_info& t = g.tensors[out];
        requests.push_back({static_cast<std::size_t>(bytes_of(t.type, t.shape.elements())), s, s});
        request_of[out] = requests.size();
      }
      for (const std::int32_t i : op.inputs) touch(i, s);
    }
    const std::size_t tensors = requests.size();
    for (std::size_t s = 0; s < steps_.size(); ++s) requests.push_back({steps_[s]->workspace_bytes(), s, s});
    auto plan = plan_arena(requests, arena_alignment);
    if (!plan.ok()) return plan.status();
    plan_ = std::move(*plan);
    for (std::size_t s = 0; s < steps_.size(); ++s)
      scratch_.push_back({plan_.offsets[tensors + s], steps_[s]->workspace_bytes()});
    for (std::size_t i = 0; i < g.tensors.size(); ++i)
      if (request_of[i] > 0) locations_[i] = {tensor_location::place::arena, plan_.offsets[request_of[i] - 1], nullptr};
    for (std::size_t i = 0; i < g.tensors.size(); ++i)
      if (root_[i] != static_cast<std::int32_t>(i)) locations_[i] = locations_[static_cast<std::size_t>(root_[i])];
    plan_.offsets.clear();
    root_.clear();
    return {};
  }

  std::vector<port> inputs_, outputs_;
  std::vector<tensor_location> locations_;
  std::vector<std::int32_t> root_;  ///< of each tensor, while the network is built
  std::vector<std::unique_ptr<step>> steps_;
  std::vector<std::size_t> step_operation_;
  std::vector<std::string_view> names_;
  std::vector<scratch_region> scratch_;
  std::vector<buffer<std::byte>> constants_;
  arena_plan plan_;
  std::uint64_t macs_ = 0;
};

}  // namespace model
POLYMAC_END
