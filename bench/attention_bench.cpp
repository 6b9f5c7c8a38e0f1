// SPDX-License-Identifier: MIT
// Attention, one thread:
//
//   attention/<arithmetic>/<who>/H<heads>_q<queries>_kv<keys>_d<size>     keys and values as they come, packed on the way
//   attention_causal/...                                                  the same; MACs of all keys are counted, so
//                                                                         GMAC shows what is gained
//   attention_decode/<cache>/<who>/H<heads>[of<key heads>]_q1_kv<keys>_d<size>
//                                                                         one query, keys and values in a cache;
//                                                                         `bandwidth`: of what this core reads from as
//                                                                         many bytes as the cache has
#include "bench/attention_problem.hpp"
#include "bench/huge_pages.hpp"
#include "bench/peers.hpp"
#include "bench/report.hpp"
#if POLYMAC_PEER_ONEDNN
#include "bench/peer/onednn_attention.hpp"
#endif

#include "polymac/arithmetics.hpp"
#include "polymac/layer/attention.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace {

namespace pm = polymac;
using bench::arithmetic;
using bench::attention_case;
using bench::attention_problem;

template <class T>
pm::heads_view<T> by_head(T* data, std::size_t tokens, std::size_t heads, std::size_t size) {
  return pm::heads_view<T>::by_head(data, 1, tokens, heads, size);
}

template <class M>
class polymac_attention {
 public:
  static constexpr const char* name = "polymac";
  bench::lines<float> y;

  explicit polymac_attention(const attention_problem& p)
      : y(p.of.heads * p.of.queries * p.of.size),
        problem_(p),
        layer_({p.of.heads, p.of.key_heads, p.of.size, p.of.size},
               {.direction = p.of.causal ? pm::layer::causal::bottom_right : pm::layer::causal::none}),
        memory_(layer_.workspace_bytes(p.of.queries, p.of.keys)) {}
  void operator()() {
    const attention_case& c = problem_.of;
    const auto s = layer_(by_head(problem_.q.data(), c.queries, c.heads, c.size),
                          by_head(problem_.k.data(), c.keys, c.key_heads, c.size),
                          by_head(problem_.v.data(), c.keys, c.key_heads, c.size),
                          by_head(y.data(), c.queries, c.heads, c.size), pm::workspace(memory_));
    benchmark::DoNotOptimize(s.ok());
  }
  std::string label() const { return bench::what_runs(layer_.explain().c_str()); }

 private:
  const attention_problem& problem_;
  pm::layer::attention<M> layer_;
  std::vector<std::byte> memory_;
};

/// Queries over a cache that is full.
template <class M, class Cache>
class polymac_decode {
 public:
  static constexpr const char* name = "polymac";
  bench::lines<float> y;

  explicit polymac_decode(const attention_problem& p)
      : y(p.of.heads * p.of.queries * p.of.size),
        problem_(p),
        layer_({p.of.heads, p.of.key_heads, p.of.size, p.of.size}),
        cache_({p.of.key_heads, p.of.size, p.of.size, p.of.keys}),
        memory_(layer_.workspace_bytes(p.of.queries, cache_)) {
    const attention_case& c = p.of;
    const auto s = cache_.append(by_head(p.k.data(), c.keys, c.key_heads, c.size),
                                 by_head(p.v.data(), c.keys, c.key_heads, c.size));
    if (!s.ok()) throw std::invalid_argument(s.c_str());
  }
  void operator()() {
    const attention_case& c = problem_.of;
    const auto s = layer_(by_head(problem_.q.data(), c.queries, c.heads, c.size), cache_,
                          by_head(y.data(), c.queries, c.heads, c.size), pm::workspace(memory_));
    benchmark::DoNotOptimize(s.ok());
  }
  std::size_t bytes() const { return cache_.bytes_per_token() * cache_.size(); }
  std::string label() const { return bench::what_runs(layer_.explain().c_str()); }

 private:
  const attention_problem& problem_;
  pm::layer::attention<M> layer_;
  pm::layer::kv_cache<Cache> cache_;
  std::vector<std::byte> memory_;
};

template <class Who>
class subject {
 public:
  explicit subject(const attention_case& c, double most) : case_(c), most_(most) {}
  const std::string& error() {
    if (tried_) return error_;
    tried_ = true;
    try {
      who_ = std::make_unique<Who>(bench::attention_of(case_));
      (*who_)();
      if constexpr (requires { who_->fetch(); }) who_->fetch();
      const double e = bench::attention_error(bench::attention_of(case_), who_->y.data());
      if (!(e <= most_)) error_ = "wrong: squared error " + std::to_string(e);
    } catch (const std::exception& e) {
      error_ = e.what();
    }
    return error_;
  }
  Who& who() { return *who_; }
  const attention_case& of() const { return case_; }

 private:
  attention_case case_;
  double most_;
  bool tried_ = false;
  std::unique_ptr<Who> who_;
  std::string error_;
};

template <class Who>
void add(const std::string& group, const std::string& arithmetic_name, arithmetic a, const attention_case& c,
         std::size_t element_bytes, double most) {
  const auto held = std::make_shared<subject<Who>>(c, most);
  benchmark::RegisterBenchmark((group + "/" + arithmetic_name + "/" + Who::name + "/" + c.text()).c_str(),
                               [held, a, element_bytes](benchmark::State& state) {
                                 if (!held->error().empty()) return state.SkipWithError(held->error().c_str());
                                 const attention_case& of = held->of();
                                 std::size_t cache = 0;
                                 if constexpr (requires { held->who().bytes(); })
                                   cache = held->who().bytes();
                                 else if (of.queries == 1)
                                   cache = 2 * of.key_heads * of.keys * of.size * element_bytes;
                                 bench::run(state, {a, of.macs(), 0.0, cache}, held->who().label(), held->who());
                               });
}

constexpr double exact = 1e-9, rounded = 5e-4, coarse = 2e-2;

template <class Prefill>
void add_prefill(const std::string& name, arithmetic a, std::size_t bytes, double most, bool all) {
  for (const std::size_t length : {128, 512, 2048})
    for (const std::size_t size : {64, 128})
      if (all || size == 64) add<Prefill>("attention", name, a, {12, 12, length, length, size}, bytes, most);
}
template <class Decode>
void add_decode(const std::string& name, arithmetic a, std::size_t bytes, double most) {
  add<Decode>("attention_decode", name, a, {12, 12, 1, 2048, 64}, bytes, most);
  add<Decode>("attention_decode", name, a, {32, 4, 1, 2048, 64}, bytes, most);
}

}  // namespace

int main(int argc, char** argv) {
  namespace mac = pm::mac;
  add_prefill<polymac_attention<mac::float32>>("float32", arithmetic::float32, 4, exact, true);
  add<polymac_attention<mac::float32>>("attention_causal", "float32", arithmetic::float32,
                                       {12, 12, 2048, 2048, 64, true}, 4, exact);
  add_prefill<polymac_attention<mac::bf16>>("bf16", arithmetic::bfloat16, 2, rounded, true);
  add_prefill<polymac_attention<mac::int8>>("int8", arithmetic::int8, 1, coarse, true);
  add_prefill<polymac_attention<mac::fp16>>("fp16", arithmetic::float32, 2, rounded, false);
  add_prefill<polymac_attention<mac::dfp<std::int16_t>>>("dfp16", arithmetic::int16, 2, rounded, false);
  add_prefill<polymac_attention<mac::l_mul<4>>>("l_mul", arithmetic::l_mul, 4, coarse, false);
  add_decode<polymac_decode<mac::float32, mac::float32>>("float32", arithmetic::float32, 4, exact);
  add_decode<polymac_decode<mac::bf16, mac::bf16>>("bf16", arithmetic::bfloat16, 2, rounded);
  add_decode<polymac_decode<mac::int8, mac::int8>>("int8", arithmetic::int8, 1, coarse);
  add_decode<polymac_decode<mac::fp16, mac::fp16>>("fp16", arithmetic::float32, 2, rounded);
  add_decode<polymac_decode<mac::int8, mac::bit_weights<4>>>("w4", arithmetic::int8, 1, 0.1);
#if POLYMAC_PEER_ONEDNN && DNNL_VERSION_MAJOR >= 3
  namespace peer = bench::peer;
  add_prefill<peer::onednn_attention<float>>("float32", arithmetic::float32, 4, exact, true);
  add_prefill<peer::onednn_attention<pm::bfloat16>>("bf16", arithmetic::bfloat16, 2, rounded, true);
  add_decode<peer::onednn_attention<float>>("float32", arithmetic::float32, 4, exact);
  add_decode<peer::onednn_attention<pm::bfloat16>>("bf16", arithmetic::bfloat16, 2, rounded);
#if POLYMAC_BENCH_ONEDNN_GRAPH
  add_prefill<peer::onednn_attention_graph<float>>("float32", arithmetic::float32, 4, exact, true);
  add_prefill<peer::onednn_attention_graph<pm::bfloat16>>("bf16", arithmetic::bfloat16, 2, rounded, true);
#endif
#endif
  return bench::run_all(argc, argv);
}
