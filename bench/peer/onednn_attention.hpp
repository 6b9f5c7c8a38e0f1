// SPDX-License-Identifier: MIT
// Attention by oneDNN: two matmul primitives and a softmax between them, or (where the version has it) the partition
// that its graph interface makes of the same. Keys and values as they come: nothing is packed before.
#pragma once

#include "bench/attention_problem.hpp"
#include "bench/peer/onednn.hpp"

#if __has_include(<oneapi/dnnl/dnnl_graph.hpp>)
#include <oneapi/dnnl/dnnl_graph.hpp>
#define POLYMAC_BENCH_ONEDNN_GRAPH 1
#endif

#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace bench::peer {

/// X: float or bfloat16, operands and scores; results are floats.
template <class X>
class onednn_attention {
 public:
  static constexpr const char* name = "onednn";
  lines<float> y;

  explicit onednn_attention(const attention_problem& p)
      : y(p.of.heads * p.of.queries * p.of.size), q_(p.q.begin(), p.q.end()), k_(convert(p.k)), v_(convert(p.v)) {
    if constexpr (!std::is_same_v<X, float>) q_ = convert(p.q);
    if (p.of.causal) throw std::invalid_argument("three primitives have no causal form");
    using namespace detail;
    const auto d = [](std::size_t n) { return static_cast<dnnl_dim_t>(n); };
    const auto heads = d(p.of.heads), groups = d(p.of.heads / p.of.key_heads), key_heads = d(p.of.key_heads),
               queries = d(p.of.queries), keys = d(p.of.keys), size = d(p.of.size);
    scores_.resize(p.of.heads * p.of.queries * p.of.keys);
    // Groups of query heads are more rows of the same product.
    const dnnl::memory::desc qd({key_heads, groups * queries, size}, onednn_type<X>(), tag::abc),
        kd({key_heads, size, keys}, onednn_type<X>(), tag::acb),
        sd({key_heads, groups * queries, keys}, onednn_type<X>(), tag::abc),
        vd({key_heads, keys, size}, onednn_type<X>(), tag::abc),
        yd({key_heads, groups * queries, size}, onednn_type<float>(), tag::abc);
    static_cast<void>(heads);
    dnnl::primitive_attr scaled;
    dnnl::post_ops after;
    after.append_eltwise(dnnl::algorithm::eltwise_linear, 1.0f / std::sqrt(static_cast<float>(size)), 0.0f);
    scaled.set_post_ops(after);
    const dnnl::matmul::primitive_desc first(onednn_engine(), qd, kd, sd, scaled);
    const dnnl::softmax_forward::primitive_desc middle(onednn_engine(), dnnl::prop_kind::forward_inference,
                                                       dnnl::algorithm::softmax_accurate, sd, sd, 2);
    const dnnl::matmul::primitive_desc last(onednn_engine(), sd, vd, yd);
    label_ = std::string("oneDNN ") + std::to_string(dnnl_version()->major) + "." +
             std::to_string(dnnl_version()->minor) + " " + first.impl_info_str() + ", " + middle.impl_info_str() +
             ", " + last.impl_info_str();
    const dnnl::memory s = onednn_view(sd, scores_.data());
    add(dnnl::matmul(first), {{DNNL_ARG_SRC, onednn_view(qd, q_.data())},
                              {DNNL_ARG_WEIGHTS, onednn_view(kd, k_.data())},
                              {DNNL_ARG_DST, s}});
    add(dnnl::softmax_forward(middle), {{DNNL_ARG_SRC, s}, {DNNL_ARG_DST, s}});
    add(dnnl::matmul(last),
        {{DNNL_ARG_SRC, s}, {DNNL_ARG_WEIGHTS, onednn_view(vd, v_.data())}, {DNNL_ARG_DST, onednn_view(yd, y.data())}});
  }
  void operator()() const {
    for (const auto& c : calls_)
      dnnl_primitive_execute(c.primitive.get(), detail::onednn_stream().get(), static_cast<int>(c.arguments.size()),
                             c.arguments.data());
  }
  std::string label() const { return label_; }

 private:
  struct call {
    dnnl::primitive primitive;
    std::vector<dnnl::memory> memories;
    std::vector<dnnl_exec_arg_t> arguments;
  };
  static lines<X> convert(const lines<float>& from) {
    lines<X> to(from.size());
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<X>(from[i]);
    return to;
  }
  void add(dnnl::primitive primitive, std::initializer_list<std::pair<int, dnnl::memory>> arguments) {
    call c{std::move(primitive), {}, {}};
    for (const auto& [argument, memory] : arguments) {
      c.arguments.push_back({argument, memory.get()});
      c.memories.push_back(memory);
    }
    calls_.push_back(std::move(c));
  }

  lines<X> q_, k_, v_, scores_;
  std::vector<call> calls_;
  std::string label_;
};

#if POLYMAC_BENCH_ONEDNN_GRAPH
/// The same as a graph: scores, scale, softmax, values, compiled as one partition.
template <class X>
class onednn_attention_graph {
 public:
  static constexpr const char* name = "onednn_graph";
  lines<float> y;

  explicit onednn_attention_graph(const attention_problem& p)
      : y(p.of.heads * p.of.queries * p.of.size),
        q_(p.q.begin(), p.q.end()),
        k_(p.k.begin(), p.k.end()),
        v_(p.v.begin(), p.v.end()),
        out_(y.size()) {
    if (p.of.causal || p.of.heads != p.of.key_heads) throw std::invalid_argument("not written as a graph");
    using namespace dnnl::graph;
    const auto d = [](std::size_t n) { return static_cast<std::int64_t>(n); };
    const auto heads = d(p.of.heads), queries = d(p.of.queries), keys = d(p.of.keys), size = d(p.of.size);
    using type = logical_tensor::data_type;
    constexpr type x = std::is_same_v<X, float> ? type::f32 : type::bf16;
    using layout = logical_tensor::layout_type;
    const auto tensor = [](std::size_t id, type t, logical_tensor::dims dims) {
      return logical_tensor(id, t, dims, layout::strided);
    };
    const logical_tensor q = tensor(0, x, {1, heads, queries, size}), k = tensor(1, x, {1, heads, keys, size}),
                         s = tensor(2, type::f32, {1, heads, queries, keys}), c = tensor(3, x, {1, 1, 1, 1}),
                         t = tensor(4, type::f32, {1, heads, queries, keys}),
                         w = tensor(5, x, {1, heads, queries, keys}), v = tensor(6, x, {1, heads, keys, size}),
                         o = tensor(7, x, {1, heads, queries, size});
    op first(0, op::kind::MatMul, {q, k}, {s}, "scores");
    first.set_attr<bool>(op::attr::transpose_b, true);
    op scale(1, op::kind::Multiply, {s, c}, {t}, "scale");
    op middle(2, op::kind::SoftMax, {t}, {w}, "softmax");
    middle.set_attr<std::int64_t>(op::attr::axis, -1);
    op last(3, op::kind::MatMul, {w, v}, {o}, "values");
    graph g(dnnl::engine::kind::cpu);
    g.add_op(first);
    g.add_op(scale);
    g.add_op(middle);
    g.add_op(last);
    g.finalize();
    const auto partitions = g.get_partitions();
    if (partitions.size() != 1 || !partitions[0].is_supported())
      throw std::invalid_argument("oneDNN makes " + std::to_string(partitions.size()) + " partitions of it");
    compiled_ = partitions[0].compile({q, k, c, v}, {o}, detail::onednn_engine());
    factor_[0] = static_cast<X>(1.0f / std::sqrt(static_cast<float>(size)));
    const auto of = [&](const logical_tensor& l, X* data) {
      return dnnl::graph::tensor(l, detail::onednn_engine(), data);
    };
    for (const auto& port : partitions[0].get_input_ports())
      inputs_.push_back(port.get_id() == 0   ? of(q, q_.data())
                        : port.get_id() == 1 ? of(k, k_.data())
                        : port.get_id() == 3 ? of(c, factor_.data())
                                             : of(v, v_.data()));
    outputs_.push_back(of(o, out_.data()));
    for (const auto& each : inputs_) input_handles_.push_back(each.get());
    for (const auto& each : outputs_) output_handles_.push_back(each.get());
  }
  void operator()() {
    // The C function: what the C++ one calls differs from version to version.
    dnnl_graph_compiled_partition_execute(compiled_.get(), detail::onednn_stream().get(), inputs_.size(),
                                          input_handles_.data(), outputs_.size(), output_handles_.data());
  }
  /// What it left, as floats.
  void fetch() {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<float>(out_[i]);
  }
  std::string label() const {
    return std::string("oneDNN ") + std::to_string(dnnl_version()->major) + "." +
           std::to_string(dnnl_version()->minor) + " graph, one partition";
  }

 private:
  lines<X> q_, k_, v_, out_;
  lines<X> factor_ = lines<X>(1);
  dnnl::graph::compiled_partition compiled_;
  std::vector<dnnl::graph::tensor> inputs_, outputs_;
  std::vector<const_dnnl_graph_tensor_t> input_handles_, output_handles_;
};
#endif

}  // namespace bench::peer
