// SPDX-License-Identifier: MIT
// Packing and the loop nest alone, with an atom whose extents fit nothing and an arithmetic whose sums end after 10
// products: groups, terms, segments and chunks all begin and end at different places.
#include "catch.hpp"
#include "support/arithmetic_data.hpp"
#include "support/arithmetics.hpp"

#include <polymac/kernel/contract.hpp>
#include <polymac/kernel/scratch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

using namespace polymac_test;

namespace {

/// 3 rows x 2 panels of 5 columns, 3 deep; takes every activation for 7 more than it is. Sums are modulo 2^32, as those
/// of vpdpbusd are. One row has tiles of more panels. Inverted: the activations have been inverted before.
template <class M, bool Inverted = false>
struct awkward_atom {
  using mac = M;
  using isa = polymac::isa::scalar;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using accumulator = typename M::accumulator;
  static constexpr std::size_t columns = 5, depth = 3, max_rows = 3, max_panels = 2;
  static constexpr int activation_offset = 7;
  static constexpr std::size_t panels_for(std::size_t rows) noexcept { return rows == 1 ? 4 : max_panels; }

  template <std::size_t Rows, std::size_t Panels>
  struct tile {
    static_assert(Rows <= max_rows && Panels <= panels_for(Rows));
    std::uint32_t sums[Rows][Panels * columns];
  };
  template <std::size_t Rows, std::size_t Panels>
  static constexpr void start(tile<Rows, Panels>& t, const accumulator* starts, std::size_t stride) noexcept {
    for (auto& row : t.sums)
      for (std::size_t c = 0; c < Panels * columns; ++c)
        row[c] = static_cast<std::uint32_t>(starts[c / columns * stride + c % columns]);
  }
  template <std::size_t Rows, std::size_t Panels>
  static constexpr void resume(tile<Rows, Panels>& t, const accumulator* sums, std::size_t stride) noexcept {
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < Panels * columns; ++c)
        t.sums[r][c] = static_cast<std::uint32_t>(sums[r * stride + c]);
  }
  template <std::size_t Rows, std::size_t Panels, class Places>
  static constexpr void step(tile<Rows, Panels>& t, const Places& rows, std::size_t offset, const weight* weights,
                             std::size_t stride) noexcept {
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < Panels * columns; ++c)
        for (std::size_t d = 0; d < depth; ++d) {
          const weight w = weights[c / columns * stride + c % columns * depth + d];
          const activation a = rows[r][offset + d];
          t.sums[r][c] +=
              static_cast<std::uint32_t>(M::multiply_add(0, Inverted ? static_cast<activation>(~a) : a, w)) +
              static_cast<std::uint32_t>(M::multiply_add(0, activation_offset, w));
        }
  }
  template <std::size_t Rows, std::size_t Panels>
  static constexpr void store(const tile<Rows, Panels>& t, accumulator* sums, std::size_t stride) noexcept {
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < Panels * columns; ++c) sums[r * stride + c] = static_cast<accumulator>(t.sums[r][c]);
  }
};

/// The same with activations that are inverted first, and written in whole groups of 64.
template <class M>
struct inverting_atom : awkward_atom<M> {
  using prepared = awkward_atom<M, true>;
  using typename awkward_atom<M>::activation;
  template <class Rows>
  static void prepare(const Rows& rows, std::size_t row_count, std::size_t offset, std::size_t count, activation* to,
                      std::size_t stride) noexcept {
    for (std::size_t r = 0; r < row_count; ++r)
      for (std::size_t k = 0; k < (count + 63) / 64 * 64; ++k)
        to[r * stride + k] = k < count ? static_cast<activation>(~rows[r][offset + k]) : activation{99};
  }
};

/// Rows that lie in stretches here and there. How a tile is read depends on its first row.
struct scattered_source {
  std::size_t row_count = 0, depth = 0,
              segments = 1;  // segments > 1: depth / segments is a multiple of the atom's depth
  std::vector<std::int8_t> memory;
  std::vector<std::size_t> at;  // [row][segment]: where it begins
  int readings = 3;             // 1: in place; 2: copied; 3: now this, now that

  std::size_t stretch() const { return depth / segments; }
  std::int8_t value(std::size_t row, std::size_t k) const {
    return memory[at[row * segments + k / stretch()] + k % stretch()];
  }
  std::size_t rows() const noexcept { return row_count; }
  polymac::kernel::row_access access(std::size_t row, std::size_t) const noexcept {
    if (readings == 2 || (readings == 3 && row % 2 == 1)) return {};
    return {segments, stretch()};
  }
  void pointers(std::size_t row, std::size_t count, polymac::kernel::row_access access,
                const std::int8_t** table) const noexcept {
    for (std::size_t s = 0; s < access.segments; ++s)
      for (std::size_t r = 0; r < count; ++r) table[s * count + r] = memory.data() + at[(row + r) * segments + s];
  }
  void gather(std::size_t row, std::size_t count, std::int8_t* block, std::size_t stride) const noexcept {
    for (std::size_t r = 0; r < count; ++r)
      for (std::size_t k = 0; k < depth; ++k) block[r * stride + k] = value(row + r, k);
  }
};

struct product {
  polymac::kernel::product_shape shape{};
  std::size_t rows = 1, segments = 1;
  int readings = 3;
  std::int8_t zero_point = 0;
  std::int64_t bias = 0;
};

/// Runs one product; the number of wrong sums.
template <class M, class Atom, std::size_t Columns = polymac::dynamic, std::size_t Depth = polymac::dynamic>
std::size_t wrong_sums(random_source& random, const product& p) {
  const auto& shape = p.shape;
  const auto weights = uniform<std::int8_t>(random, shape.sets * shape.columns * shape.terms * shape.depth);
  const auto weight_of = [&](std::size_t set, std::size_t c, std::size_t term, std::size_t k) {
    return weights[((set * shape.columns + c) * shape.terms + term) * shape.depth + k];
  };
  const auto bias_of = [&](std::size_t set, std::size_t c) {
    return p.bias + static_cast<std::int64_t>(set * 100 + c);
  };
  polymac::kernel::packed_weights<M, Atom, Columns, Depth> packed;
  REQUIRE(packed.pack(shape, weight_of, bias_of, p.zero_point).ok());

  scattered_source source;
  source.row_count = p.rows;
  source.depth = shape.depth;
  source.segments = p.segments;
  source.readings = p.readings;
  source.memory = uniform<std::int8_t>(random, p.rows * shape.depth);
  // The stretches in an order of their own; the last one ends with the memory, so that a sanitizer sees a read too far.
  std::vector<std::size_t> order(p.rows * p.segments);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(i) - 1))]);
  for (const std::size_t i : order) source.at.push_back(i * source.stretch());

  const std::size_t width = shape.sets * shape.columns;
  std::vector<std::int32_t> y(p.rows * width);
  const polymac::kernel::scratch_extent<Atom> extent(p.segments, shape.depth, p.readings != 1);
  std::vector<const std::int8_t*> table(extent.pointers);
  std::vector<std::int8_t> block(extent.block);
  for (std::size_t set = 0; set < shape.sets; ++set)
    polymac::kernel::contract<Atom>(packed, set, source, polymac::epilogue::identity{},
                                    polymac::matrix_view<std::int32_t>(y.data(), p.rows, width),
                                    {table.data(), block.data()}, polymac::row_range{});

  std::size_t wrong = 0;
  for (std::size_t r = 0; r < p.rows; ++r)
    for (std::size_t set = 0; set < shape.sets; ++set)
      for (std::size_t c = 0; c < shape.columns; ++c) {
        std::int64_t sum = bias_of(set, c);
        for (std::size_t term = 0; term < shape.terms; ++term)
          for (std::size_t k = 0; k < shape.depth; ++k)
            sum += M::multiply_add(0, source.value(r, k), weight_of(set, c, term, k)) -
                   M::multiply_add(0, p.zero_point, weight_of(set, c, term, k));
        using limit = std::numeric_limits<std::int32_t>;
        sum = std::clamp<std::int64_t>(sum, limit::min(), limit::max());
        if (y[r * width + set * shape.columns + c] != sum) ++wrong;
      }
  return wrong;
}

/// As `shallow`, with room for all: one chunk, start values that hold the bias.
struct roomy : shallow {
  static constexpr auto name = "roomy";
  static constexpr int max_depth = 131071;
};

}  // namespace

TEMPLATE_TEST_CASE("an atom of awkward extents computes every product", "[contract]", awkward_atom<shallow>,
                   awkward_atom<roomy>, inverting_atom<shallow>, inverting_atom<roomy>) {
  using atom = TestType;
  using arithmetic = typename atom::mac;
  POLYMAC_RANDOM(random, 31);
  std::size_t chunks = 0;
  for (std::size_t depth = 1; depth <= 40; ++depth)
    for (std::size_t segments = 1; segments <= 4; ++segments) {
      if (segments > 1 && depth % (3 * segments) != 0) continue;  // whole groups in every stretch
      for (std::size_t terms = 1; terms <= 3; ++terms)
        for (const int readings : {1, 2, 3}) {
          product p;
          p.shape = {static_cast<std::size_t>(random.integer(1, 3)), static_cast<std::size_t>(random.integer(1, 23)),
                     depth, terms};
          p.rows = static_cast<std::size_t>(random.integer(1, 8));
          p.segments = segments;
          p.readings = readings;
          p.zero_point = static_cast<std::int8_t>(random.integer(-128, 127));
          switch (random.integer(0, 4)) {
            case 0:
              p.bias = std::numeric_limits<std::int32_t>::max() - 20'000;
              break;
            case 1:
              p.bias = std::numeric_limits<std::int32_t>::min() + 20'000;
              break;
            default:
              p.bias = random.integer(-5000, 5000);
          }
          INFO(arithmetic::name << ": " << p.rows << " rows, " << p.shape.sets << " sets of " << p.shape.columns
                                << " columns, " << depth << " deep in " << segments << " segments, " << terms
                                << " terms, readings " << readings << ", bias " << p.bias);
          CHECK(wrong_sums<arithmetic, atom>(random, p) == 0);
          chunks = std::max(chunks, (depth + 2) / 3 * terms / 3);
        }
    }
  CHECK(chunks > 10);
}

// 3 prepared rows of 1088 elements, or one of 3264, are all that is held at a time: deeper rows come in pieces, and the
// sums of eight panels wait in between.
TEST_CASE("rows that are deeper than the block of prepared activations", "[contract]") {
  using atom = inverting_atom<roomy>;
  POLYMAC_RANDOM(random, 33);
  for (const std::size_t depth : {1020u, 1023u, 1024u, 1026u, 2046u, 2500u, 3132u, 3200u, 3204u, 4000u})
    for (const std::size_t segments : {1u, 2u, 4u})
      for (const std::size_t terms : {1u, 2u}) {
        if (segments > 1 && depth % (3 * segments) != 0) continue;
        product p;
        p.shape = {1, static_cast<std::size_t>(random.integer(1, 60)), depth, terms};
        p.rows = static_cast<std::size_t>(random.integer(1, 8));
        p.segments = segments;
        p.zero_point = static_cast<std::int8_t>(random.integer(-128, 127));
        INFO(p.rows << " rows, " << p.shape.columns << " columns, " << depth << " deep in " << segments << " segments, "
                    << terms << " terms");
        CHECK(wrong_sums<roomy, atom>(random, p) == 0);
      }
}

// Every number of rows up to two tiles, every number of panels up to two of the widest: which tiles they are cut into
// is not seen from outside.
TEST_CASE("rows and panels of every number", "[contract]") {
  using atom = awkward_atom<roomy>;
  POLYMAC_RANDOM(random, 34);
  for (std::size_t rows = 1; rows <= 8; ++rows)
    for (std::size_t panels = 1; panels <= 9; ++panels) {
      product p;
      p.shape = {1, panels * 5 - static_cast<std::size_t>(random.integer(0, 4)), 11, 1};
      p.rows = rows;
      INFO(rows << " rows, " << p.shape.columns << " columns");
      CHECK(wrong_sums<roomy, atom>(random, p) == 0);
    }
}

TEST_CASE("fours of neighbours stay whole where tiles go on in the next line", "[contract]") {
  using polymac::kernel::tile_cuts;
  using polymac::kernel::tile_heights;
  using fours = tile_heights<12, tile_cuts::lines, 24>;
  STATIC_REQUIRE(fours::keeps_fours);
  STATIC_REQUIRE_FALSE(tile_heights<6, tile_cuts::lines>::keeps_fours);
  for (std::size_t left = 4; left < 200; left += 4) {
    CAPTURE(left);
    CHECK(fours::next(left) % 4 == 0);
    CHECK(fours::next_tall(left) % 4 == 0);
    CHECK(fours::next(left) <= left);
    CHECK(fours::next_tall(left) <= left);
  }
}

TEST_CASE("packed weights of static extents hold the same", "[contract]") {
  using atom = awkward_atom<shallow>;
  POLYMAC_RANDOM(random, 32);
  product p;
  p.shape = {1, 7, 20, 1};
  p.rows = 5;
  p.zero_point = -128;
  CHECK(wrong_sums<shallow, atom, 7, 20>(random, p) == 0);

  // What does not fit into the static extents is refused: a second set, a second term.
  polymac::kernel::packed_weights<shallow, atom, 7, 20> packed;
  const auto weight_of = [](std::size_t, std::size_t, std::size_t, std::size_t) { return std::int8_t{1}; };
  const auto bias_of = [](std::size_t, std::size_t) { return std::int64_t{0}; };
  CHECK_FALSE(packed.pack({1, 7, 20, 2}, weight_of, bias_of, 0).ok());
  CHECK_FALSE(packed.pack({2, 7, 20, 1}, weight_of, bias_of, 0).ok());
}

TEST_CASE("what is packed: columns of a group side by side, zeros behind the last, start values", "[contract]") {
  using atom = awkward_atom<roomy>;
  const auto weight_of = [](std::size_t, std::size_t c, std::size_t, std::size_t k) {
    return static_cast<std::int8_t>(10 * c + k + 1);
  };
  polymac::kernel::packed_weights<roomy, atom> packed;
  REQUIRE(packed
              .pack(
                  {1, 6, 4, 1}, weight_of, [](std::size_t, std::size_t c) { return std::int64_t(1000 * c); }, 2)
              .ok());
  CHECK(packed.panels() == 2);
  CHECK(packed.groups() == 2);
  CHECK(packed.panel_stride() == 2 * 5 * 3);
  CHECK_FALSE(packed.wide_sums());
  const std::int8_t* first = packed.panel(0, 0);
  CHECK((first[0] == 1 && first[1] == 2 && first[2] == 3 && first[3] == 11 && first[12] == 41));
  CHECK((first[15] == 4 && first[16] == 0 && first[17] == 0 && first[18] == 14));
  const std::int8_t* second = packed.panel(0, 1);
  CHECK((second[0] == 51 && second[2] == 53 && second[3] == 0 && second[15] == 54 && second[18] == 0));
  // Column 0 has the weights 1 2 3 4: 0 - 2 * 10 for the zero point, less 7 * 10 for the offset of the atom.
  CHECK(packed.starts(0, 0, 0)[0] == -20 - 70);
  CHECK(packed.starts(0, 1, 0)[0] == 5000 - 9 * (51 + 52 + 53 + 54));
  CHECK(packed.starts(0, 1, 0)[1] == 0);
}

TEST_CASE("absurd extents are refused before anything is allocated", "[contract]") {
  using atom = awkward_atom<roomy>;
  const auto weight_of = [](std::size_t, std::size_t, std::size_t, std::size_t) { return std::int8_t{1}; };
  const auto bias_of = [](std::size_t, std::size_t) { return std::int64_t{0}; };
  const std::size_t most = std::numeric_limits<std::size_t>::max();
  for (const polymac::kernel::product_shape& shape : {polymac::kernel::product_shape{1, 1, most, 1},
                                                      {1, most, 1, 1},
                                                      {1, most / 4, most / 4, 1},
                                                      {most, 1, 1, 1},
                                                      {most / 2, 2, 2, 1},
                                                      {1, std::size_t{1} << 40, std::size_t{1} << 40, 1},
                                                      {std::size_t{1} << 62, 8, 8, 1}}) {
    polymac::kernel::packed_weights<roomy, atom> packed;
    const auto s = packed.pack(shape, weight_of, bias_of, 0);
    INFO(s.text());
    CHECK(s.code() == polymac::errc::shape);
    CHECK(s.text().find("exceed the address space") != std::string_view::npos);
  }
}

TEST_CASE("a workspace serves at every alignment, and one byte less is refused", "[contract]") {
  const polymac::kernel::scratch_extent<awkward_atom<roomy>> extent(4, 50, true);
  std::vector<std::byte> memory(extent.bytes() + 128);
  for (std::size_t offset = 0; offset <= 64; ++offset) {
    bool inside = false;
    const auto run = [&](polymac::kernel::scratch<std::int8_t> s) {
      const auto* table = reinterpret_cast<const std::byte*>(s.pointers);
      const auto* block = reinterpret_cast<const std::byte*>(s.block);
      const std::byte* begin = memory.data() + offset;
      inside = reinterpret_cast<std::uintptr_t>(table) % alignof(void*) == 0 && table >= begin &&
               block >= table + extent.pointers * sizeof(void*) && block + extent.block <= begin + extent.bytes();
    };
    CHECK(
        polymac::kernel::with_scratch<std::int8_t>("test", extent, {memory.data() + offset, extent.bytes()}, run).ok());
    CHECK(inside);
    const auto s =
        polymac::kernel::with_scratch<std::int8_t>("test", extent, {memory.data() + offset, extent.bytes() - 1}, run);
    CHECK(s.code() == polymac::errc::short_buffer);
  }
  CHECK_FALSE(polymac::kernel::with_scratch<std::int8_t>("test", extent, {}, [](auto) {}).ok());
}
