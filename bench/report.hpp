// SPDX-License-Identifier: MIT
// How every benchmark of polymac is timed and what it reports, and the main function of all of them.
#pragma once

#include "bench/bandwidth.hpp"
#include "bench/peak.hpp"
#include "polymac/isa/isa.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <string>
#include <string_view>

namespace bench {

/// One call of a case.
struct work {
  arithmetic kind = arithmetic::int8;
  double macs = 0.0;             ///< multiply-accumulates that are needed (taps on padding do not count)
  double bytes = 0.0;            ///< least traffic: activations, weights and results once each
  std::size_t weight_bytes = 0;  ///< not 0: bound by memory; the weights' bytes, all of them read in every call
};

/// The machine right before or after a case.
struct machine {
  peaks rate;
  double bandwidth = 0.0;  ///< 1e9 bytes per second
  explicit machine(const work& w) : rate(measure_peaks(w.kind)), bandwidth(read_bandwidth(w.weight_bytes)) {}
};

/// Times `call()` and reports the counters
///
///   GMAC         1e9 multiply-accumulates per second
///   peak         share of the register-only rate of this processor's fastest instruction for the arithmetic
///   vector_peak  the same without AMX
///   bytes/s      work::bytes per second
///   bandwidth    only where work::weight_bytes is given: their bytes per second as a share of what this core reads
///                from a buffer of that size
///
/// each against the mean of two measurements, before and after. `label`: what ran; the fastest instruction is added.
template <class Call>
void run(benchmark::State& state, const work& w, const std::string& label, Call&& call) {
  using benchmark::Counter;
  const machine before(w);
  call();  // after the probes the caches hold something else
  for (auto _ : state) {
    call();
    benchmark::ClobberMemory();
  }
  const machine after(w);
  const auto rate = [](double each) { return Counter(each, Counter::kIsIterationInvariantRate); };
  const auto share = [&](const char* name, double of_call, double a, double b) {
    if (a > 0 && b > 0) state.counters[name] = rate(of_call * 1e-9 / ((a + b) / 2));
  };
  state.counters["GMAC"] = rate(w.macs * 1e-9);
  share("peak", w.macs, before.rate.best.gmac, after.rate.best.gmac);
  share("vector_peak", w.macs, before.rate.vector.gmac, after.rate.vector.gmac);
  if (w.bytes > 0) state.counters["bytes/s"] = rate(w.bytes);
  share("bandwidth", static_cast<double>(w.weight_bytes), before.bandwidth, after.bandwidth);
  state.SetLabel(label + "; of " + before.rate.best.instruction +
                 (w.weight_bytes != 0 ? std::string("; weights in ") + level_of(w.weight_bytes) : ""));
}

/// What a layer says of itself in explain(), without shape and memory.
inline std::string what_runs(std::string_view explained) {
  if (const auto begin = explained.find(": "); begin != explained.npos) explained.remove_prefix(begin + 2);
  std::string text;
  while (!explained.empty()) {
    const auto end = explained.find(", ");
    const std::string_view part = explained.substr(0, end);
    if (part.find("weights") == part.npos && part.find("workspace") == part.npos)
      text.append(text.empty() ? "" : ", ").append(part);
    explained.remove_prefix(end == explained.npos ? explained.size() : end + 2);
  }
  return text;
}

namespace detail {

/// The processor's name, as Linux has it; with family and model on x86, where the name may say little.
inline std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line, name, family, model;
  const auto value = [&](std::string_view key, std::string& to) {  // key, tabs, colon, space, value
    const auto end = line.find_first_of("\t:"), colon = line.find(": ");
    if (to.empty() && colon != line.npos && line.substr(0, end) == key) to = line.substr(colon + 2);
  };
  while (std::getline(file, line)) {
    value("model name", name);
    value("cpu family", family);
    value("model", model);
  }
  if (name.empty()) return "unknown processor";
  return family.empty() ? name : name + " family " + family + " model " + model;
}

/// The roofs of a roofline picture and the kind of machine, for bench/compare.py.
inline void describe_machine() {
  const auto add = [](const std::string& name, double value) {
    if (value > 0) benchmark::AddCustomContext(name, std::to_string(value));
  };
  const struct {
    const char* name;
    arithmetic kind;
  } kinds[] = {{"int8", arithmetic::int8},
               {"int16", arithmetic::int16},
               {"float32", arithmetic::float32},
               {"bfloat16", arithmetic::bfloat16}};
  bool amx = false;
  for (const auto& k : kinds) {
    const peaks p = measure_peaks(k.kind);
    benchmark::AddCustomContext(std::string("peak_instruction_") + k.name, p.best.instruction);
    benchmark::AddCustomContext(std::string("vector_peak_instruction_") + k.name, p.vector.instruction);
    add(std::string("peak_") + k.name, p.best.gmac);
    add(std::string("peak_of_zeros_") + k.name, measure_peaks(k.kind, operands::zero).best.gmac);
    add(std::string("vector_peak_") + k.name, p.vector.gmac);
    amx = amx || p.best.instruction != p.vector.instruction;
  }
  const cache_sizes caches = find_cache_sizes();
  if (caches.l1 != 0) add("bandwidth_L1", read_bandwidth(caches.l1 * 2 / 3));
  if (caches.l2 != 0) add("bandwidth_L2", read_bandwidth(caches.l2 / 2));
  if (caches.l3 > caches.l2 * 2) add("bandwidth_L3", read_bandwidth(std::min(caches.l3 / 2, std::size_t{16} << 20)));
  add("bandwidth_memory", read_bandwidth(std::max(caches.l3 * 2, std::size_t{128} << 20)));
  using polymac::cpu::runs;
  benchmark::AddCustomContext("machine", amx                    ? "amx"
                                         : runs("avx512_vnni")  ? "avx512_vnni"
                                         : runs("avx512")       ? "avx512"
                                         : runs("avx_vnni")     ? "avx_vnni"
                                         : runs("avx2")         ? "avx2"
                                         : runs("neon_dotprod") ? "neon_dotprod"
                                         : runs("neon")         ? "neon"
                                                                : "scalar");
  benchmark::AddCustomContext("cpu", cpu_name());
  benchmark::AddCustomContext("isa", polymac::isa::native::name);
#if defined(__clang__)
  benchmark::AddCustomContext("compiler", std::string("clang++ ") + __clang_version__);
#elif defined(__GNUC__)
  benchmark::AddCustomContext("compiler", std::string("g++ ") + __VERSION__);
#endif
}

}  // namespace detail

/// main() of a benchmark program, after its cases were registered.
inline int run_all(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  detail::describe_machine();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
