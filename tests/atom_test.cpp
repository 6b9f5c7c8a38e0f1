// SPDX-License-Identifier: MIT
// Every atom against the golden model of its arithmetic: all tile sizes, random and
// extreme operands, sums from border to border of the accumulator, panels and start values with gaps between them.
// Each row, the panels, the start values and the sums lie in memory that ends (or begins) exactly where the contract
// of the atom does, beside an unmapped page.
#include "catch.hpp"
#include "polymac/isa/all.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace mac = polymac::mac;
namespace isa = polymac::isa;
using polymac_test::guarded_buffer;
using polymac_test::placement;
using polymac_test::random_source;

namespace {

/// A user's arithmetic: weights are signed powers of two. It runs on the generic atom.
struct power_of_two {
  using activation = std::int8_t;
  using weight = std::int8_t;
  using accumulator = std::int32_t;
  static constexpr const char* name = "power_of_two";
  static constexpr bool linear = true;
  static constexpr bool exact = true;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    const int exponent = (w < 0 ? -w : w) % 9;
    return exponent == 0 ? c : w > 0 ? c + a * (1 << (exponent - 1)) : c - a * (1 << (exponent - 1));
  }
};

using arithmetics = std::tuple<mac::int8, mac::uint8, mac::int16x8, mac::float32, mac::bf16, power_of_two>;

// -- the list of all atoms: those that were written for the very instruction set -------------------------------------

/// An atom, and its own one for few columns.
template <class A>
struct with_narrow {
  using type = std::tuple<A>;
};
template <class A>
requires requires { typename A::narrow; }
struct with_narrow<A> {
  using type = std::tuple<A, typename A::narrow>;
};
template <class M, class I>
using atom_if_written = std::conditional_t<std::is_same_v<typename isa::best_atom<M, I>::isa, I>,
                                           typename with_narrow<isa::best_atom<M, I>>::type, std::tuple<>>;
template <class I, class Macs>
struct atoms_of_isa;
template <class I, class... Ms>
struct atoms_of_isa<I, std::tuple<Ms...>> {
  using type = decltype(std::tuple_cat(std::declval<atom_if_written<Ms, I>>()...));
};
template <class Isas>
struct atoms_of;
template <class... Is>
struct atoms_of<std::tuple<Is...>> {
  using type = decltype(std::tuple_cat(std::declval<typename atoms_of_isa<Is, arithmetics>::type>()...));
};
// avx512_bf16 has a program for its one atom; the others are those of avx512_vnni's.
#if defined(POLYMAC_TEST_ISA_ONLY) && defined(__AVX512BF16__)
using atoms = atoms_of<std::tuple<isa::native>>::type;
#else
using atoms = atoms_of<isa::compiled>::type;
#endif

// -- one product -----------------------------------------------------------------------------------------------------

/// Operands of a tile, in the plainest layout: activations [row][k], weights [column][k], start values [column].
template <class A>
struct problem {
  std::size_t rows, panels, groups;
  std::vector<typename A::activation> activations;
  std::vector<typename A::weight> weights;
  std::vector<typename A::accumulator> starts;

  std::size_t columns() const { return panels * A::columns; }
  std::size_t depth() const { return groups * A::depth; }
};

/// What packing hands to the atom: the start value without the surplus of the activation offset, modulo 2^32.
template <class A>
typename A::accumulator start_of_column(const problem<A>& p, std::size_t column) {
  if constexpr (A::activation_offset == 0) {
    return p.starts[column];
  } else {
    auto start = static_cast<std::uint32_t>(p.starts[column]);
    for (std::size_t k = 0; k < p.depth(); ++k)
      start -= static_cast<std::uint32_t>(A::activation_offset * p.weights[column * p.depth() + k]);
    return static_cast<std::int32_t>(start);
  }
}

template <class A>
typename A::accumulator golden(const problem<A>& p, std::size_t row, std::size_t column) {
  auto sum = p.starts[column];
  for (std::size_t k = 0; k < p.depth(); ++k)
    sum = A::mac::multiply_add(sum, p.activations[row * p.depth() + k], p.weights[column * p.depth() + k]);
  return sum;
}

/// The operands where a kernel would have them.
template <class A>
struct operands {
  const typename A::activation* const* rows;
  const typename A::weight* weights;
  std::size_t weight_stride;
  const typename A::accumulator* starts;
  std::size_t start_stride;
  typename A::accumulator* sums;
  std::size_t groups;
};

template <class A>
inline constexpr bool has_prepared = requires {
  typename A::prepared;
};

template <class A, std::size_t Rows, std::size_t Panels>
void run_tile(const operands<A>& o) {
  typename A::template tile<Rows, Panels> tile;
  A::template start<Rows, Panels>(tile, o.starts, o.start_stride);
  for (std::size_t g = 0; g < o.groups; ++g)
    A::template step<Rows, Panels>(tile, o.rows, g * A::depth, o.weights + g * A::columns * A::depth, o.weight_stride);
  A::template store<Rows, Panels>(tile, o.sums);
}

/// The same with rows that the atom has prepared, in two pieces of the depth: the second one takes up the sums of the
/// first.
template <class A, std::size_t Rows, std::size_t Panels>
void run_prepared_tile(const operands<A>& o) {
  using P = typename A::prepared;
  std::size_t group = 0;
  for (const std::size_t end : {o.groups / 3, o.groups}) {
    const std::size_t depth = (end - group) * A::depth, stride = depth + 64;
    std::vector<typename A::activation> block(Rows * stride, 77);
    A::prepare(o.rows, Rows, group * A::depth, depth, block.data(), stride);
    const typename A::activation* rows[Rows];
    for (std::size_t r = 0; r < Rows; ++r) rows[r] = block.data() + r * stride;
    typename P::template tile<Rows, Panels> tile;
    if (group == 0)
      P::template start<Rows, Panels>(tile, o.starts, o.start_stride);
    else
      P::template resume<Rows, Panels>(tile, o.sums);
    for (std::size_t offset = 0; group < end; ++group, offset += A::depth)
      P::template step<Rows, Panels>(tile, rows, offset, o.weights + group * A::columns * A::depth, o.weight_stride);
    P::template store<Rows, Panels>(tile, o.sums);
  }
}

template <class A>
inline constexpr bool finishes_tiles = requires {
  requires A::finishes_tiles;
};

/// The same with the last two steps and the store in one, to rows that are farther apart; then the sums but for the last
/// few columns once more.
template <class A, std::size_t Rows, std::size_t Panels>
void run_finished_tile(const operands<A>& o) {
  constexpr std::size_t width = Panels * A::columns, stride = width + 5, left_out = A::columns / 2 + 1;
  const auto weights = [&](std::size_t group) { return o.weights + group * A::columns * A::depth; };
  const auto finish = [&](auto last, std::size_t columns) {
    typename A::template tile<Rows, Panels> tile;
    A::template start<Rows, Panels>(tile, o.starts, o.start_stride);
    for (std::size_t g = 0; g + 2 < o.groups; ++g)
      A::template step<Rows, Panels>(tile, o.rows, g * A::depth, weights(g), o.weight_stride);
    typename A::accumulator apart[Rows * stride];
    for (auto& sum : apart) sum = 77;
    A::template finish<Rows, Panels>(tile, o.rows, (o.groups - 2) * A::depth, weights(o.groups - 2), o.weight_stride,
                                     apart, stride, last);
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < stride; ++c) {
        if (c < columns)
          o.sums[r * width + c] = apart[r * stride + c];
        else if (apart[r * stride + c] != 77)
          FAIL("the tile wrote between its rows");
      }
  };
  finish(polymac::isa::detail::all_lanes{}, width);
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t c = 0; c + left_out < width; ++c) o.sums[r * width + c] = 0;
  finish(A::columns - left_out, width - left_out);
}

/// One size of tile that the atom offers.
template <class A>
struct tile_size {
  std::size_t rows, panels;
  void (*run)(const operands<A>&);
  void (*run_prepared)(const operands<A>&) = nullptr;
  void (*run_finished)(const operands<A>&) = nullptr;
};

/// All of them, the largest ones last: as many panels as the atom wants beside so many rows, and fewer.
template <class A>
const auto& tile_sizes() {
  static const auto all = [] {
    std::vector<tile_size<A>> sizes;
    const auto add = [&]<std::size_t Rows, std::size_t Panels>() {
      tile_size<A> size{Rows, Panels, run_tile<A, Rows, Panels>};
      if constexpr (has_prepared<A>) size.run_prepared = run_prepared_tile<A, Rows, Panels>;
      if constexpr (finishes_tiles<A>) size.run_finished = run_finished_tile<A, Rows, Panels>;
      sizes.push_back(size);
    };
    const auto add_rows = [&]<std::size_t Rows>() {
      constexpr std::size_t most = [] {
        if constexpr (requires { A::panels_for(Rows); })
          return A::panels_for(Rows);
        else
          return A::max_panels;
      }();
      static_assert(most >= A::max_panels);
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        (
            [&] {
              if constexpr (I < A::max_panels || ((I + 1) & I) == 0) add.template operator()<Rows, I + 1>();
            }(),
            ...);
      }
      (std::make_index_sequence<most>{});
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) { (add_rows.template operator()<I + 1>(), ...); }
    (std::make_index_sequence<A::max_rows>{});
    return sizes;
  }();
  return all;
}

/// Runs the tile as a kernel does and returns sums [row][column]; memory is guarded at the given side.
template <class A>
std::vector<typename A::accumulator> run(const tile_size<A>& size, const problem<A>& p, placement where) {
  constexpr std::size_t weight_gap = 7, start_gap = 3;
  const std::size_t panel_size = p.groups * A::columns * A::depth;
  const std::size_t panel_stride = panel_size + weight_gap;
  const std::size_t start_stride = A::columns + start_gap;

  std::vector<guarded_buffer<typename A::activation>> rows;
  std::vector<const typename A::activation*> row_pointers;
  for (std::size_t r = 0; r < size.rows; ++r) {
    guarded_buffer<typename A::activation>& row = rows.emplace_back(p.depth(), where);
    std::copy_n(p.activations.begin() + static_cast<std::ptrdiff_t>(r * p.depth()), p.depth(), row.begin());
    row_pointers.push_back(row.data());
  }
  guarded_buffer<typename A::weight> weights((size.panels - 1) * panel_stride + panel_size, where);
  guarded_buffer<typename A::accumulator> starts((size.panels - 1) * start_stride + A::columns, where);
  std::fill(weights.begin(), weights.end(),
            polymac_test::whole<typename A::weight>(99));  // what lies in the gaps must not count
  std::fill(starts.begin(), starts.end(), static_cast<typename A::accumulator>(9999));
  for (std::size_t panel = 0; panel < size.panels; ++panel)
    for (std::size_t c = 0; c < A::columns; ++c) {
      const std::size_t column = panel * A::columns + c;
      starts[panel * start_stride + c] = start_of_column(p, column);
      for (std::size_t k = 0; k < p.depth(); ++k)
        weights[panel * panel_stride + (k / A::depth * A::columns + c) * A::depth + k % A::depth] =
            p.weights[column * p.depth() + k];
    }
  weights.make_read_only();
  starts.make_read_only();

  guarded_buffer<typename A::accumulator> sums(size.rows * size.panels * A::columns, where);
  const operands<A> all{row_pointers.data(), weights.data(), panel_stride, starts.data(),
                        start_stride,        sums.data(),    p.groups};
  if (size.run_prepared != nullptr) {
    size.run_prepared(all);
    const guarded_buffer<typename A::accumulator> prepared(sums.values(), where);
    size.run(all);
    if (!std::equal(prepared.begin(), prepared.end(), sums.begin())) FAIL("prepared activations give other sums");
  } else {
    size.run(all);
  }
  if (size.run_finished != nullptr && p.groups >= 2) {
    const guarded_buffer<typename A::accumulator> stored(sums.values(), where);
    size.run_finished(all);
    if (!std::equal(stored.begin(), stored.end(), sums.begin()))
      FAIL("sums differ where the last steps and the store are one");
  }
  if (!sums.slack_untouched()) FAIL("the tile wrote beside its sums");
  return sums.values();
}

/// Empty, or where the first wrong sum is.
template <class A>
std::string first_mistake(const problem<A>& p, const std::vector<typename A::accumulator>& sums) {
  for (std::size_t r = 0; r < p.rows; ++r)
    for (std::size_t c = 0; c < p.columns(); ++c) {
      const auto got = sums[r * p.columns() + c];
      std::string expected;
      if constexpr (A::mac::exact) {
        const auto want = golden(p, r, c);
        if (got == want) continue;
        expected = std::to_string(want);
      } else {
        double want = static_cast<double>(p.starts[c]), magnitudes = std::abs(want);
        for (std::size_t k = 0; k < p.depth(); ++k) {
          const double product =
              static_cast<double>(p.activations[r * p.depth() + k]) * static_cast<double>(p.weights[c * p.depth() + k]);
          want += product;
          magnitudes += std::abs(product);
        }
        if (std::abs(static_cast<double>(got) - want) <= A::mac::error_bound(p.depth(), magnitudes)) continue;
        expected = std::to_string(want) + " within the bound";
      }
      return "row " + std::to_string(r) + " column " + std::to_string(c) + ": expected " + expected + ", got " +
             std::to_string(got);
    }
  return "";
}

template <class A>
void check(const tile_size<A>& size, const problem<A>& p) {
  for (const placement where : polymac_test::both_placements) {
    INFO("rows " << size.rows << ", panels " << size.panels << ", groups " << p.groups << ", guard "
                 << (where == placement::before_guard ? "behind" : "ahead"));
    const std::string mistake = first_mistake(p, run(size, p, where));
    REQUIRE(mistake == "");
  }
}

constexpr std::size_t group_counts[] = {0, 1, 2, 17};

template <class A>
problem<A> empty_problem(const tile_size<A>& size, std::size_t groups) {
  problem<A> p{size.rows, size.panels, groups, {}, {}, {}};
  p.activations.resize(p.rows * p.depth());
  p.weights.resize(p.columns() * p.depth());
  p.starts.resize(p.columns());
  return p;
}

template <class A>
void start_small(problem<A>& p, random_source& random) {
  for (auto& s : p.starts) s = static_cast<typename A::accumulator>(random.integer(-1'000'000, 1'000'000));
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("An atom equals the golden model on random operands", "[atom]", atoms) {
  using A = TestType;
  INFO(A::mac::name << " on " << A::isa::name);
  POLYMAC_RANDOM(random, 1);
  for (const auto& size : tile_sizes<A>()) {
    for (const std::size_t groups : group_counts) {
      auto p = empty_problem<A>(size, groups);
      p.activations = polymac_test::uniform<typename A::activation>(random, p.activations.size());
      p.weights = polymac_test::uniform<typename A::weight>(random, p.weights.size());
      start_small(p, random);
      check(size, p);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("An atom equals the golden model where instructions saturate or change sign", "[atom]", atoms) {
  using A = TestType;
  INFO(A::mac::name << " on " << A::isa::name);
  POLYMAC_RANDOM(random, 2);
  if constexpr (polymac::mac_traits<typename A::mac>::integer) {
    using activation = std::numeric_limits<typename A::activation>;
    using weight = std::numeric_limits<typename A::weight>;
    for (const auto& size : tile_sizes<A>()) {
      for (const std::size_t groups : group_counts) {
        auto p = empty_problem<A>(size, groups);
        start_small(p, random);
        p.activations = polymac_test::extremes<typename A::activation>(random, p.activations.size());
        p.weights = polymac_test::extremes<typename A::weight>(random, p.weights.size());
        check(size, p);
        for (const auto a : {activation::min(), activation::max()})
          for (const auto w : {weight::min(), weight::max()}) {
            INFO("all activations " << +a << ", all weights " << +w);
            p.activations.assign(p.activations.size(), a);
            p.weights.assign(p.weights.size(), w);
            check(size, p);
          }
      }
    }
  } else {  // one huge product beside small ones: the order of summation is that of k, or the bound breaks
    for (const auto& size : tile_sizes<A>()) {
      auto p = empty_problem<A>(size, 17);
      p.activations = polymac_test::uniform<typename A::activation>(random, p.activations.size());
      p.weights = polymac_test::uniform<typename A::weight>(random, p.weights.size());
      for (std::size_t r = 0; r < size.rows; ++r)
        p.activations[r * p.depth() + r % p.depth()] = static_cast<typename A::activation>(1e9f);
      start_small(p, random);
      check(size, p);
    }
  }
}

// Activations are all alike and the weights of a column have one sign, so the sums run monotonically. They end at
// exactly the border of the accumulator, or they begin at the far one: then the surplus of an activation offset takes
// the start value across it, and an addition that saturates cannot find the way back.
TEMPLATE_LIST_TEST_CASE("Sums reach from border to border of the accumulator", "[atom]", atoms) {
  using A = TestType;
  if constexpr (polymac::mac_traits<typename A::mac>::integer) {
    using activation = std::numeric_limits<typename A::activation>;
    using limit = std::numeric_limits<typename A::accumulator>;
    INFO(A::mac::name << " on " << A::isa::name);
    POLYMAC_RANDOM(random, 3);
    for (const auto& size : tile_sizes<A>()) {
      auto p = empty_problem<A>(size, 17);
      for (const auto a : {activation::min(), activation::max()}) {
        p.activations.assign(p.activations.size(), a);
        for (std::size_t i = 0; i < p.weights.size(); ++i) {
          const bool negative = i / p.depth() % 2 == 1;
          p.weights[i] = static_cast<typename A::weight>(negative ? random.integer(-128, -1) : random.integer(1, 127));
        }
        std::fill(p.starts.begin(), p.starts.end(), 0);
        std::vector<typename A::accumulator> sums;
        for (std::size_t c = 0; c < p.columns(); ++c) sums.push_back(golden(p, 0, c));
        for (std::size_t c = 0; c < p.columns(); ++c)
          p.starts[c] = sums[c] > 0 ? limit::max() - sums[c] : limit::min() - sums[c];
        check(size, p);
        for (std::size_t c = 0; c < p.columns(); ++c) p.starts[c] = sums[c] > 0 ? limit::min() : limit::max();
        if (a != 0) check(size, p);
      }
    }
  } else {
    SUCCEED("floating point has no border");
  }
}

TEMPLATE_LIST_TEST_CASE("A sum does not depend on the tile it was computed in", "[atom]", atoms) {
  using A = TestType;
  INFO(A::mac::name << " on " << A::isa::name);
  POLYMAC_RANDOM(random, 4);
  // The reference is not one tile: the largest number of rows and of panels may not exist together.
  tile_size<A> tallest = tile_sizes<A>().back(), widest = tallest;
  for (const auto& size : tile_sizes<A>())
    if (size.panels > widest.panels) widest = size;
  auto all = empty_problem<A>({tallest.rows, widest.panels, nullptr}, 17);
  all.activations = polymac_test::uniform<typename A::activation>(random, all.activations.size());
  all.weights = polymac_test::uniform<typename A::weight>(random, all.weights.size());
  start_small(all, random);
  std::vector<typename A::accumulator> expected(all.rows * all.columns());
  for (std::size_t row = 0; row < all.rows; row += widest.rows) {
    auto p = all;
    p.rows = widest.rows;
    const std::size_t first = std::min(row, all.rows - widest.rows);
    p.activations.erase(p.activations.begin(), p.activations.begin() + static_cast<std::ptrdiff_t>(first * p.depth()));
    const auto sums = run(widest, p, placement::before_guard);
    std::copy(sums.begin(), sums.end(), expected.begin() + static_cast<std::ptrdiff_t>(first * all.columns()));
  }
  std::size_t different = 0;
  for (const auto& size : tile_sizes<A>()) {
    auto p = all;
    p.rows = size.rows;
    p.panels = size.panels;
    const auto sums = run(size, p, placement::before_guard);
    for (std::size_t r = 0; r < size.rows; ++r)
      for (std::size_t c = 0; c < p.columns(); ++c)
        different += std::bit_cast<std::uint32_t>(sums[r * p.columns() + c]) !=
                     std::bit_cast<std::uint32_t>(expected[r * all.columns() + c]);
  }
  REQUIRE(different == 0);
}
