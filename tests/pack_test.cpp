// SPDX-License-Identifier: MIT
// Packing by whole blocks against the plain definition of a panel and against packing one by one: every edge of columns
// and depth, both orders of weights, zero points, sets, biases at the edge of 32 bits; and products that pack on the
// way against layers that packed before. Weights and workspaces end at unmapped pages.
#include "catch.hpp"
#include "polymac/epilogue/clamp.hpp"
#include "polymac/epilogue/requantize.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/product.hpp"
#include "support/arithmetics.hpp"
#include "support/between_guards.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace pm = polymac;
using polymac_test::both_placements;
using polymac_test::guarded_buffer;
using polymac_test::random_source;
using polymac_test::read_only;
using polymac_test::uniform;

namespace {

template <class T>
bool equal(const T* a, const T* b, std::size_t count) {
  return std::equal(a, a + count, b);
}

/// Panels, start values and biases of two packed weights.
template <class Packed>
bool same(const Packed& a, const Packed& b, std::size_t sets) {
  if (a.panels() != b.panels() || a.wide_sums() != b.wide_sums() || a.panel_stride() != b.panel_stride()) return false;
  for (std::size_t set = 0; set < sets; ++set)
    for (std::size_t p = 0; p < a.panels(); ++p) {
      const std::size_t columns = a.start_stride() / a.chunks();
      if (!equal(a.panel(set, p), b.panel(set, p), a.panel_stride())) return false;
      if (!equal(a.bias(set, p), b.bias(set, p), columns)) return false;
      for (std::size_t chunk = 0; chunk < a.chunks(); ++chunk)
        if (!equal(a.starts(set, p, chunk), b.starts(set, p, chunk), columns)) return false;
    }
  return true;
}

template <class M, class I>
void check_packing(random_source& random, pm::kernel::product_shape shape, bool by_depth, std::size_t gap) {
  using weight = typename M::weight;
  using activation = typename M::activation;
  using atom = pm::isa::best_atom<M, I>;
  using wide = typename pm::mac_traits<M>::wide;
  const std::size_t panel_columns =
      pm::kernel::prefers_narrow<atom>(shape) ? pm::kernel::narrow_atom<atom>::columns : atom::columns;
  CAPTURE(M::name, I::name, shape.sets, shape.columns, shape.depth, by_depth, gap);
  const std::size_t columns = shape.sets * shape.columns;
  const std::size_t lines = by_depth ? shape.depth : columns, length = by_depth ? columns : shape.depth;
  const std::size_t stride = length + gap;
  const auto zero_point = pm::mac_traits<M>::integer ? uniform<activation>(random, 1)[0] : activation{};
  const auto memory = read_only(uniform<weight>(random, (lines - 1) * stride + length),
                                gap % 2 == 0 ? both_placements[0] : both_placements[1]);
  const pm::kernel::plain_weights<weight> plain{memory.data(), stride, by_depth};
  const auto weight_of = [&](std::size_t set, std::size_t c, std::size_t, std::size_t k) {
    return plain(set * shape.columns + c, k);
  };
  const auto bias_of = [&](std::size_t set, std::size_t c) { return static_cast<wide>(100 * set + 3 * c) - wide{7}; };
  pm::kernel::packed_weights<M, atom> one_by_one, whole;
  REQUIRE(one_by_one.pack(shape, weight_of, bias_of, zero_point).ok());
  REQUIRE(whole.pack(shape, weight_of, bias_of, zero_point, plain).ok());
  CHECK(same(one_by_one, whole, shape.sets));
  CHECK(whole.panel_columns() == panel_columns);

  std::size_t wrong = 0;
  for (std::size_t set = 0; set < shape.sets; ++set)
    for (std::size_t p = 0; p < whole.panels(); ++p)
      for (std::size_t i = 0; i < whole.panel_stride(); ++i) {
        const std::size_t group_depth = whole.group_depth(), group_size = panel_columns * group_depth;
        const std::size_t group = i / group_size, in = i % group_size;
        const std::size_t c = p * panel_columns + in / group_depth, k = group * group_depth + in % group_depth;
        const bool there = c < shape.columns && k < shape.depth;
        wrong += !(whole.panel(set, p)[i] == (there ? weight_of(set, c, 0, k) : weight{}));
      }
  CHECK(wrong == 0);
}

template <class M, class I>
void check_product(random_source& random, std::size_t rows, std::size_t columns, std::size_t depth) {
  using weight = typename M::weight;
  using activation = typename M::activation;
  using sum = typename pm::mac_traits<M>::sum;
  CAPTURE(M::name, I::name, rows, columns, depth);
  const auto w = uniform<weight>(random, columns * depth);
  std::vector<weight> turned(w.size());
  for (std::size_t c = 0; c < columns; ++c)
    for (std::size_t k = 0; k < depth; ++k) turned[k * columns + c] = w[c * depth + k];
  const auto x = uniform<activation>(random, rows * depth);
  const pm::layer::linear<M, pm::epilogue::identity, I> layer(pm::matrix_view<const weight>(w.data(), columns, depth),
                                                              std::span<const sum>());
  std::vector<sum> expected(rows * columns);
  REQUIRE(layer(pm::matrix_view<const activation>(x.data(), rows, depth),
                pm::matrix_view<sum>(expected.data(), rows, columns))
              .ok());
  const std::size_t bytes = pm::product_workspace_bytes<M, I>(columns, depth);
  for (const auto where : both_placements) {
    const auto from = read_only(x, where);
    const auto by_columns = read_only(w, where), by_depth = read_only(turned, where);
    guarded_buffer<std::byte> scratch(bytes, where);
    for (const bool exchanged : {false, true}) {
      guarded_buffer<sum> y(rows * columns, where);
      const pm::matrix_view<const activation> xv(from.data(), rows, depth);
      const pm::matrix_view<sum> yv(y.data(), rows, columns);
      const pm::workspace ws(scratch.data(), scratch.size());
      // As two threads would: the rows in two ranges.
      for (const pm::row_range range : {pm::row_range{0, rows / 3}, pm::row_range{rows / 3}}) {
        pm::status status;
        {
          const polymac_test::no_allocation trap;
          status = exchanged ? pm::product<M, I>(
                                   xv, pm::transposed(pm::matrix_view<const weight>(by_depth.data(), depth, columns)),
                                   yv, ws, pm::epilogue::identity{}, range)
                             : pm::product<M, I>(xv, pm::matrix_view<const weight>(by_columns.data(), columns, depth),
                                                 yv, ws, pm::epilogue::identity{}, range);
        }
        CHECK(status.text() == "");
      }
      CHECK(y.values() == expected);
      CHECK(y.slack_untouched());
      CHECK(scratch.slack_untouched());
    }
  }
}

template <class M, class Body>
void for_each_isa(const Body& body) {
  [&]<class... I>(std::tuple<I...>) { (body.template operator()<M, I>(), ...); }(polymac_test::tested_isas{});
}

}  // namespace

TEMPLATE_TEST_CASE("whole blocks are packed as the definition says", "[pack]", pm::mac::int8, pm::mac::uint8,
                   pm::mac::int16x8, pm::mac::float32, polymac_test::shallow, polymac_test::unsigned_bytes) {
  random_source random(901);
  for_each_isa<TestType>([&]<class M, class I>() {
    for (const std::size_t columns : {1u, 7u, 8u, 15u, 16u, 17u, 31u, 64u, 83u})
      for (const std::size_t depth : {1u, 2u, 3u, 4u, 5u, 15u, 16u, 17u, 31u, 33u, 63u, 64u, 67u, 130u})
        for (const bool by_depth : {false, true}) check_packing<M, I>(random, {1, columns, depth}, by_depth, depth % 4);
    for (const bool by_depth : {false, true}) check_packing<M, I>(random, {3, 18, 70}, by_depth, 1);
    check_packing<M, I>(random, {1, 20, 1100}, false, 0);
  });
}

TEST_CASE("sums that only these weights keep within 32 bits need no 64", "[pack]") {
  using M = pm::mac::int8;
  using atom = pm::isa::best_atom<M, pm::isa::native>;
  constexpr std::size_t columns = 18, depth = 96;
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  // All weights 1: sums reach 128 * 96 from the bias, while weights of -128 would take them 128 times as far.
  const std::vector<std::int8_t> w(columns * depth, 1);
  const pm::kernel::plain_weights<std::int8_t> plain{w.data(), depth};
  const auto is_wide = [&](std::int64_t bias, std::int8_t zero_point, bool whole) {
    pm::kernel::packed_weights<M, atom> packed;
    REQUIRE(packed
                .pack(
                    {1, columns, depth},
                    [&](std::size_t, std::size_t c, std::size_t, std::size_t k) { return plain(c, k); },
                    [&](std::size_t, std::size_t c) { return c == 17 ? bias : 0; }, zero_point,
                    whole ? plain : pm::kernel::plain_weights<std::int8_t>{})
                .ok());
    return packed.wide_sums();
  };
  for (const bool whole : {false, true}) {
    CAPTURE(whole);
    for (const std::int64_t sign : {1, -1}) {
      CHECK_FALSE(is_wide(sign * (most - 128 * 96), 0, whole));
      CHECK(is_wide(sign * (most - 128 * 96 + 1), 0, whole));
      // The zero point moves the bias by 96.
      CHECK_FALSE(is_wide(sign * (most - 128 * 96 - 96), static_cast<std::int8_t>(-sign), whole));
      CHECK(is_wide(sign * (most - 128 * 96 - 95), static_cast<std::int8_t>(-sign), whole));
      CHECK(is_wide(sign * (most + 1), 0, whole));
    }
  }
}

TEST_CASE("weight zero points of zero change nothing, others go one by one", "[pack]") {
  using M = pm::mac::int8;
  random_source random(902);
  constexpr std::size_t rows = 9, columns = 21, depth = 37;
  const auto w = uniform<std::int8_t>(random, columns * depth), x = uniform<std::int8_t>(random, rows * depth);
  std::vector<std::int32_t> zeros(columns);
  for (const std::int32_t z : {0, 3}) {
    std::fill(zeros.begin(), zeros.end(), 0);
    zeros[20] = z;
    const auto layer = pm::linear<M>(pm::matrix_view<const std::int8_t>(w.data(), columns, depth),
                                     std::vector<std::int32_t>{}, pm::epilogue::identity{}, {5, zeros});
    std::vector<std::int32_t> y(rows * columns);
    REQUIRE(layer(pm::matrix_view<const std::int8_t>(x.data(), rows, depth),
                  pm::matrix_view<std::int32_t>(y.data(), rows, columns))
                .ok());
    std::size_t wrong = 0;
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < columns; ++c) {
        std::int32_t sum = 0;
        for (std::size_t k = 0; k < depth; ++k) sum += (x[r * depth + k] - 5) * (w[c * depth + k] - zeros[c]);
        wrong += y[r * columns + c] != sum;
      }
    CHECK(wrong == 0);
  }
}

TEST_CASE("filters with gaps between lines or pixels are packed like dense ones", "[pack]") {
  using M = pm::mac::int8;
  random_source random(903);
  constexpr std::size_t out = 20, height = 3, width = 2, channels = 8, side = 6;
  const auto dense = uniform<std::int8_t>(random, out * height * width * channels);
  const auto x = uniform<std::int8_t>(random, side * side * channels);
  const auto run = [&](const pm::image_view<const std::int8_t>& w) {
    const auto layer = pm::conv2d<M>({.padding = pm::same}, w, std::vector<std::int32_t>{});
    std::vector<std::int32_t> y(side * side * out);
    std::vector<std::byte> memory(layer.workspace_bytes());
    REQUIRE(layer(pm::image_view<const std::int8_t>(x.data(), 1, side, side, channels),
                  pm::image_view<std::int32_t>(y.data(), 1, side, side, out), pm::workspace(memory))
                .ok());
    return y;
  };
  const auto expected = run({dense.data(), out, height, width, channels});
  struct gaps {
    std::size_t pixel, line, image;
  };
  for (const gaps g : {gaps{8, 16, 48}, gaps{8, 16, 50}, gaps{8, 19, 60}, gaps{11, 22, 66}}) {
    CAPTURE(g.pixel, g.line, g.image);
    std::vector<std::int8_t> apart(out * g.image, 77);
    for (std::size_t i = 0; i < dense.size(); ++i)
      apart[i / 48 * g.image + i / 16 % 3 * g.line + i / 8 % 2 * g.pixel + i % 8] = dense[i];
    CHECK(run({apart.data(), out, height, width, channels, g.pixel, g.line, g.image}) == expected);
  }
}

TEMPLATE_TEST_CASE("a product that packs on the way gives the bits of a layer", "[pack]", pm::mac::int8, pm::mac::uint8,
                   pm::mac::int16x8, pm::mac::float32) {
  random_source random(904);
  for_each_isa<TestType>([&]<class M, class I>() {
    for (const std::size_t rows : {1u, 13u, 50u})
      for (const std::size_t columns : {1u, 16u, 33u, 70u})
        for (const std::size_t depth : {1u, 31u, 64u, 75u}) check_product<M, I>(random, rows, columns, depth);
    check_product<M, I>(random, 33, 300, 2500);  // several blocks of columns
  });
}

TEST_CASE("stages of a product see its columns, whatever the block", "[pack]") {
  using M = pm::mac::int8;
  random_source random(905);
  constexpr std::size_t rows = 37, columns = 530, depth = 1500;
  const auto w = uniform<std::int8_t>(random, columns * depth), x = uniform<std::int8_t>(random, rows * depth);
  std::vector<double> scales(columns);
  for (std::size_t c = 0; c < columns; ++c) scales[c] = 1e-6 * static_cast<double>(1 + c);
  const auto stages = pm::requantize(std::span<const double>(scales), 3) | pm::clamp(-90, 100);
  const pm::matrix_view<const std::int8_t> wv(w.data(), columns, depth), xv(x.data(), rows, depth);
  std::vector<std::int8_t> expected(rows * columns), y(rows * columns);
  const auto layer = pm::linear<M>(wv, std::vector<std::int32_t>{}, stages);
  REQUIRE(layer(xv, pm::matrix_view<std::int8_t>(expected.data(), rows, columns)).ok());
  std::vector<std::byte> memory(pm::product_workspace_bytes<M>(columns, depth));
  REQUIRE(memory.size() < columns * depth);
  REQUIRE(pm::product<M>(xv, wv, pm::matrix_view<std::int8_t>(y.data(), rows, columns), pm::workspace(memory), stages)
              .ok());
  CHECK(y == expected);
}

TEST_CASE("a product says what it expected", "[pack]") {
  using M = pm::mac::float32;
  std::vector<float> x(6), w(12), y(8, 5.0f);
  std::vector<std::byte> memory(pm::product_workspace_bytes<M>(4, 3));
  const pm::matrix_view<const float> xv(x.data(), 2, 3), wv(w.data(), 4, 3);
  const pm::matrix_view<float> yv(y.data(), 2, 4);
  const pm::workspace ws(memory);
  CHECK(pm::product<M>(xv, wv, yv, ws).ok());
  const auto untouched = y;
  CHECK(pm::product<M>(xv, pm::matrix_view<const float>(w.data(), 3, 4), yv, ws).text() ==
        "product: expected x of n x k, w of m x k and y of n x m, k at least 1, got 2 x 3, 3 x 4 and 2 x 4");
  CHECK(pm::product<M>(xv, pm::transposed(wv), yv, ws).text() ==
        "product: expected x of n x k, w of k x m and y of n x m, k at least 1, got 2 x 3, 4 x 3 and 2 x 4");
  CHECK(
      pm::product<M>(pm::matrix_view<const float>(x.data(), 2, 0), pm::matrix_view<const float>(w.data(), 4, 0), yv, ws)
          .code() == pm::errc::shape);
  CHECK(pm::product<M>(xv, pm::matrix_view<const float>(nullptr, 4, 3), yv, ws).text() ==
        "product: the view w has no data");
  CHECK(pm::product<M>(xv, pm::matrix_view<const float>(w.data(), 4, 3, 2), yv, ws).code() == pm::errc::shape);
  CHECK(pm::product<M>(xv, wv, yv, pm::workspace(memory.data(), memory.size() - 1)).text() ==
        "product: expected a workspace of " + std::to_string(memory.size()) + " bytes, got " +
            std::to_string(memory.size() - 1));
  CHECK(pm::product<M>(xv, wv, yv, pm::workspace()).code() == pm::errc::short_buffer);
  CHECK(y == untouched);
  // Nothing to do is no mistake.
  CHECK(pm::product<M>(pm::matrix_view<const float>(x.data(), 0, 3), wv, pm::matrix_view<float>(y.data(), 0, 4), ws)
            .ok());
}
