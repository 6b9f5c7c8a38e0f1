// SPDX-License-Identifier: MIT
// The atoms by themselves: the largest tile of an arithmetic on an instruction set takes step after step, operands in
// L1, nothing is started or stored in between.
//
//   mac/<arithmetic>/<instruction set>
//
// What a kernel loses beyond these rates it loses around the atom. isa_peak is the share of the register-only rate of
// that instruction set's own fastest instruction. An instruction set without an atom of its own runs that of a weaker
// one, and has no row.
#include "bench/problem.hpp"
#include "bench/report.hpp"

#include "polymac/isa/all.hpp"
#include "polymac/kernel/tile_rows.hpp"
#include "polymac/kernel/tile_sums.hpp"
#include "polymac/mac/bf16.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/int16x8.hpp"
#include "polymac/mac/int8.hpp"
#include "polymac/policy/k_source.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace {

namespace pm = polymac;

constexpr std::size_t groups = 64;  // of depth: with all rows and panels less than 16 KiB
constexpr std::size_t passes = 16;  // over them in one call

/// Small whole numbers: 16 x 64 groups of any atom stay far from overflow, also where an atom adds 128 to an
/// activation, and are exact in float32.
template <class T>
bench::lines<T> operands(std::size_t count, std::uint64_t seed) {
  const auto codes = bench::noise<std::int8_t>(count, 0, 15, seed);  // uint8 too
  bench::lines<T> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<T>(codes[i]);
  return values;
}

template <class Atom>
constexpr std::size_t tile_rows() {
  if constexpr (requires { typename Atom::tiles; })
    return 2 * Atom::tiles::rows;
  else
    return Atom::max_rows;
}
template <class Atom>
constexpr std::size_t tile_panels() {
  if constexpr (requires { typename Atom::tiles; })
    return 2;
  else
    return Atom::max_panels;
}

/// Tiles take signed and unsigned activations as they are.
template <class Atom>
constexpr int activation_offset() {
  if constexpr (requires { typename Atom::tiles; })
    return 0;
  else
    return Atom::activation_offset;
}

/// The sum that the golden model gives for row r and column c of the tile.
template <class Atom, class A, class W>
auto golden(const A& activations, const W& weights, std::size_t r, std::size_t c) {
  using M = typename Atom::mac;
  const std::size_t depth = groups * Atom::depth, panel = c / Atom::columns, column = c % Atom::columns;
  typename Atom::accumulator sum{};
  for (std::size_t pass = 0; pass < passes; ++pass)
    for (std::size_t k = 0; k < depth; ++k) {
      const auto w = weights[panel * depth * Atom::columns + (k / Atom::depth * Atom::columns + column) * Atom::depth +
                             k % Atom::depth];
      sum = M::multiply_add(sum, activations[r * depth + k], w);
      if constexpr (std::is_integral_v<typename M::weight>)
        sum += static_cast<typename Atom::accumulator>(activation_offset<Atom>() * w);
    }
  return sum;
}

template <class Atom, class A, class W>
void run_steps(const A* const* rows, const W* weights, const typename Atom::accumulator* starts,
               typename Atom::accumulator* sums) {
  constexpr std::size_t row_count = tile_rows<Atom>(), panels = tile_panels<Atom>();
  constexpr std::size_t panel = groups * Atom::columns * Atom::depth, depth = groups * Atom::depth;
  if constexpr (requires { typename Atom::tiles; }) {
    using tiles = typename Atom::tiles;
    static constexpr auto shapes = tiles::configuration(tiles::max_groups);
    tiles::configure(shapes);  // which sets all tiles to zero
    for (std::size_t pass = 0; pass < passes; ++pass)
      for (std::size_t k = 0; k < depth; k += tiles::max_groups * Atom::depth) {
        const A* const from[] = {rows[0] + k, rows[tiles::rows] + k};
        tiles::template step<2, panels>(from, depth, weights + k * Atom::columns, panel, [] {});
      }
    typename tiles::places where;
    tiles::template place<2, panels>(where, sums, panels * Atom::columns);
    tiles::store_all(where);
    tiles::release();
  } else {
    // The kernel's own loop over k, once for each pass; from the second on with the sums that are there.
    using even_rows = pm::kernel::detail::even_rows<Atom>;
    using tile_sums = pm::kernel::detail::tile_sums<Atom, even_rows, pm::policy::dense_k>;
    even_rows from;
    from.first = rows[0];
    from.distance = static_cast<std::ptrdiff_t>(depth);
    from.segment_groups = from.whole_groups = groups;
    const pm::kernel::detail::tile_operands<Atom> of{weights, panel, starts, Atom::columns, groups};
    constexpr std::size_t width = panels * Atom::columns;
    if constexpr (requires(typename Atom::template tile<1, 1> t) { Atom::resume(t, sums, width); }) {
      tile_sums::template run<row_count, panels>(from, of, {}, sums, width);
      for (std::size_t pass = 1; pass < passes; ++pass)
        tile_sums::template go_on<row_count, panels>(from, of, {}, sums, width);
    } else {
      typename Atom::template tile<row_count, panels> tile;
      Atom::start(tile, starts, Atom::columns);
      for (std::size_t pass = 0; pass < passes; ++pass) {
        const A* pointers[row_count];
        for (std::size_t r = 0; r < row_count; ++r) pointers[r] = rows[r];
        for (std::size_t g = 0; g < groups; ++g)
          Atom::step(tile, pointers, g * Atom::depth, weights + g * Atom::columns * Atom::depth, panel);
      }
      Atom::store(tile, sums);
    }
  }
}

template <class Atom>
void run(benchmark::State& state, bench::arithmetic kind) {
  using activation = typename Atom::activation;
  using weight = typename Atom::weight;
  constexpr std::size_t row_count = tile_rows<Atom>(), columns = tile_panels<Atom>() * Atom::columns;
  constexpr std::size_t depth = groups * Atom::depth;
  constexpr bool on_tiles = requires { typename Atom::tiles; };
  if (on_tiles ? !(bench::detail::amx_int8() && pm::cpu::runs(Atom::isa::name)) : !pm::cpu::runs(Atom::isa::name))
    return state.SkipWithError("this processor or system lacks the instruction set");
  const auto activations = operands<activation>(row_count * depth, 1);
  const auto weights = operands<weight>(columns * depth, 2);
  std::vector<typename Atom::accumulator> starts(columns), sums(row_count * columns);
  std::vector<const activation*> rows;
  for (std::size_t r = 0; r < row_count; ++r) rows.push_back(activations.data() + r * depth);

  const auto call = [&] { run_steps<Atom>(rows.data(), weights.data(), starts.data(), sums.data()); };
  call();
  for (std::size_t i = 0; i < sums.size(); ++i)  // floats too: such small integers are exact
    if (sums[i] != golden<Atom>(activations, weights, i / columns, i % columns))
      return state.SkipWithError("the atom and the golden model differ");

  const auto isa_peak = [&] {
    const auto data = bench::operands::noise;
    return (on_tiles ? bench::detail::matrix_peak(kind, data) : bench::detail::isa_peak(Atom::isa::name, kind, data))
        .gmac;
  };
  const double macs = static_cast<double>(passes * depth * row_count * columns);
  const double before = isa_peak();
  bench::run(state, {kind, macs, static_cast<double>(sizeof(activation) * activations.size() + weights.size())},
             std::string(Atom::isa::name) + " tile " + std::to_string(row_count) + " rows x " +
                 std::to_string(columns) + " columns x " + std::to_string(Atom::depth) + " deep",
             call);
  if (const double after = isa_peak(); before > 0 && after > 0)
    state.counters["isa_peak"] =
        benchmark::Counter(macs * 1e-9 / ((before + after) / 2), benchmark::Counter::kIsIterationInvariantRate);
}

template <class M, class I>
void add_atom(bench::arithmetic kind) {
  using atom = pm::isa::best_atom<M, I>;
  if constexpr (std::is_same_v<typename atom::isa, I>)
    benchmark::RegisterBenchmark((std::string("mac/") + M::name + "/" + I::name).c_str(),
                                 [kind](benchmark::State& state) { run<atom>(state, kind); });
}

template <class M, class... Is>
void add(bench::arithmetic kind, std::tuple<Is...>) {
  (add_atom<M, Is>(kind), ...);
}

}  // namespace

int main(int argc, char** argv) {
  using bench::arithmetic;
  constexpr pm::isa::compiled sets{};
  add<pm::mac::int8>(arithmetic::int8, sets);
  add<pm::mac::uint8>(arithmetic::int8, sets);
  add<pm::mac::int16x8>(arithmetic::int16, sets);
  add<pm::mac::float32>(arithmetic::float32, sets);
  add<pm::mac::bf16>(arithmetic::bfloat16, sets);
  return bench::run_all(argc, argv);
}
