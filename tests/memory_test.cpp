// SPDX-License-Identifier: MIT
// Layers touch the memory they were given, and nothing else: every input, weight, bias, output and workspace lies between
// unmapped pages (once at their end, once at their beginning), inputs are read-only, and no run allocates.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/compare.hpp"
#include "support/convolution_problems.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <polymac/core/int4.hpp>
#include <polymac/epilogue/clamp.hpp>
#include <polymac/epilogue/requantize.hpp>
#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/mac/float32.hpp>
#include <polymac/mac/int16x8.hpp>
#include <polymac/mac/int8.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

using namespace polymac_test;
namespace mac = polymac::mac;

namespace {

using arithmetics = std::tuple<mac::int8, mac::uint8, mac::int16x8, mac::float32>;

/// An input that cannot be written and whose neighbours cannot be read.
template <class T>
guarded_buffer<T> read_only(const std::vector<T>& values, placement where) {
  guarded_buffer<T> buffer(values, where);
  buffer.make_read_only();
  return buffer;
}

/// Runs `layer` as run(layer, x, y, workspace) in plain memory and between guards; everything must agree. The workspace
/// has no more bytes than asked for and holds garbage.
template <class Out, class In, class Layer, class Run>
void check_between_guards(const Layer& layer, const std::vector<In>& x, std::size_t outputs, const Run& run) {
  std::size_t bytes = 0;
  if constexpr (requires { layer.workspace_bytes(); }) bytes = layer.workspace_bytes();
  std::vector<Out> expected(outputs);
  std::vector<std::byte> memory(bytes);
  const auto plain = run(layer, x.data(), expected.data(), polymac::workspace(memory));
  REQUIRE(plain.text() == "");
  for (const placement where : both_placements) {
    CAPTURE(where == placement::before_guard);
    const auto input = read_only(x, where);
    guarded_buffer<Out> output(outputs, where);
    guarded_buffer<std::byte> scratch(bytes, where);
    std::fill(scratch.begin(), scratch.end(), std::byte{0xEE});
    polymac::status status;
    {
      const no_allocation trap;
      status = run(layer, input.data(), output.data(), polymac::workspace(scratch.data(), scratch.size()));
    }
    CHECK(status.text() == "");
    CHECK(difference(expected, output.values()) == "");
    CHECK(output.slack_untouched());
    CHECK(scratch.slack_untouched());
  }
}

/// Stages that make codes of 8 bits where the arithmetic is 8-bit, and raw sums elsewhere.
template <class M>
auto stages_of(std::size_t columns) {
  if constexpr (std::is_same_v<M, mac::int8>) {
    const std::vector<double> scales(columns, 0.01);
    return polymac::requantize(std::span<const double>(scales), 3) | polymac::clamp(-100, 100);
  } else {
    static_cast<void>(columns);
    return polymac::epilogue::identity{};
  }
}

template <class M>
polymac::layer::quantization<M> zero_point_of() {
  if constexpr (polymac::mac_traits<M>::integer)
    return {7, {}};
  else
    return {};
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("linear keeps to its memory", "[memory]", arithmetics) {
  using M = TestType;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using sum = typename polymac::mac_traits<M>::sum;
  POLYMAC_RANDOM(random, 1);
  for (const std::size_t rows : {1u, 3u, 13u, 25u})
    for (const std::size_t columns : {1u, 7u, 16u, 33u, 48u})
      for (const std::size_t depth : {1u, 3u, 4u, 31u, 32u, 65u}) {
        CAPTURE(rows, columns, depth);
        const auto x = uniform<activation>(random, rows * depth);
        const auto w = uniform<weight>(random, columns * depth);
        const auto bias = small_integers<sum>(random, columns, -99, 99);
        for (const placement where : both_placements) {
          // The operands of the constructor are gone when the layer runs.
          const auto layer = [&] {
            const auto weights = read_only(w, where);
            const auto biases = read_only(bias, where);
            return polymac::linear<M>(polymac::matrix_view(weights.data(), columns, depth), biases,
                                      stages_of<M>(columns), zero_point_of<M>());
          }();
          using output = typename decltype(layer)::output;
          check_between_guards<output>(
              layer, x, rows * columns, [&](const auto& l, const activation* in, output* out, polymac::workspace) {
                return l(polymac::matrix_view(in, rows, depth), polymac::matrix_view(out, rows, columns));
              });
        }
        // Rows that lie apart: the last one ends at its last element, not after the stride.
        const std::size_t x_stride = depth + 3, y_stride = columns + 5;
        const auto layer = polymac::linear<M>(polymac::matrix_view(w.data(), columns, depth), bias,
                                              stages_of<M>(columns), zero_point_of<M>());
        using output = typename decltype(layer)::output;
        const auto wide = uniform<activation>(random, (rows - 1) * x_stride + depth);
        check_between_guards<output>(layer, wide, (rows - 1) * y_stride + columns,
                                     [&](const auto& l, const activation* in, output* out, polymac::workspace) {
                                       return l(polymac::matrix_view(in, rows, depth, x_stride),
                                                polymac::matrix_view(out, rows, columns, y_stride));
                                     });
      }
}

TEMPLATE_LIST_TEST_CASE("conv2d keeps to its memory", "[memory]", arithmetics) {
  using M = TestType;
  using activation = typename M::activation;
  using sum = typename polymac::mac_traits<M>::sum;
  POLYMAC_RANDOM(random, 2);
  for (const problem& p : problems()) {
    CAPTURE(p);
    const auto x = uniform<activation>(random, p.in.count());
    const auto w = uniform<typename M::weight>(random, p.weights());
    const auto bias = small_integers<sum>(random, p.out_channels, -99, 99);
    for (const placement where : both_placements) {
      const auto layer = [&] {
        const auto weights = read_only(w, where);
        const auto biases = read_only(bias, where);
        return polymac::conv2d<M>(p.convolution(), p.weight_view(weights.data()), biases, stages_of<M>(p.out_channels),
                                  zero_point_of<M>());
      }();
      using output = typename decltype(layer)::output;
      check_between_guards<output>(layer, x, p.out().count(),
                                   [&](const auto& l, const activation* in, output* out, polymac::workspace ws) {
                                     return l(view_of(in, p.in), view_of(out, p.out()), ws);
                                   });
      // A row in the middle of the output, alone.
      const image_shape o = p.out();
      const std::size_t rows = o.batch * o.height * o.width;
      check_between_guards<output>(layer, x, o.count(),
                                   [&](const auto& l, const activation* in, output* out, polymac::workspace ws) {
                                     return l(view_of(in, p.in), view_of(out, o), ws, {rows / 2, rows / 2 + 1});
                                   });
    }
  }
}

TEMPLATE_LIST_TEST_CASE("conv2d keeps to its memory where pixels, lines and images lie apart", "[memory]",
                        arithmetics) {
  using M = TestType;
  using activation = typename M::activation;
  POLYMAC_RANDOM(random, 3);
  const auto apart = [](auto* data, const image_shape& s) {
    const std::size_t pixel = s.channels + 1, line = s.width * pixel + 2, image = s.height * line + 3;
    return polymac::image_view(data, s.batch, s.height, s.width, s.channels, pixel, line, image);
  };
  const auto elements = [&](const image_shape& s) {
    const auto v = apart(static_cast<char*>(nullptr), s);
    return (s.batch - 1) * v.image_stride + (s.height - 1) * v.line_stride + (s.width - 1) * v.pixel_stride +
           s.channels;
  };
  for (const problem& p : problems()) {
    CAPTURE(p);
    const auto x = uniform<activation>(random, elements(p.in));
    const auto w = uniform<typename M::weight>(random, p.weights());
    const auto layer = polymac::conv2d<M>(p.convolution(), p.weight_view(w.data()),
                                          std::vector<typename polymac::mac_traits<M>::sum>{},
                                          stages_of<M>(p.out_channels), zero_point_of<M>());
    using output = typename decltype(layer)::output;
    check_between_guards<output>(layer, x, elements(p.out()),
                                 [&](const auto& l, const activation* in, output* out, polymac::workspace ws) {
                                   return l(apart(in, p.in), apart(out, p.out()), ws);
                                 });
  }
}

TEMPLATE_LIST_TEST_CASE("depthwise_conv2d keeps to its memory", "[memory]", arithmetics) {
  using M = TestType;
  using activation = typename M::activation;
  using sum = typename polymac::mac_traits<M>::sum;
  POLYMAC_RANDOM(random, 4);
  for (problem p : problems())
    for (const std::size_t multiplier : {1u, 3u}) {
      p.out_channels = p.in.channels * multiplier;
      CAPTURE(p);
      const auto x = uniform<activation>(random, p.in.count());
      const auto w = uniform<typename M::weight>(random, p.taps() * p.out_channels);
      const auto bias = small_integers<sum>(random, p.out_channels, -99, 99);
      for (const placement where : both_placements) {
        const auto layer = [&] {
          const auto weights = read_only(w, where);
          const auto biases = read_only(bias, where);
          return polymac::depthwise_conv2d<M>(p.depthwise(multiplier), p.depthwise_weight_view(weights.data()), biases,
                                              stages_of<M>(p.out_channels), zero_point_of<M>());
        }();
        using output = typename decltype(layer)::output;
        check_between_guards<output>(layer, x, p.out().count(),
                                     [&](const auto& l, const activation* in, output* out, polymac::workspace ws) {
                                       return l(view_of(in, p.in), view_of(out, p.out()), ws);
                                     });
      }
    }
}

TEST_CASE("int4 weights are read no further than their last nibble", "[memory]") {
  POLYMAC_RANDOM(random, 5);
  const std::size_t rows = 3;
  for (const std::size_t columns : {1u, 3u, 17u})
    for (const std::size_t depth : {1u, 5u, 8u, 33u}) {
      CAPTURE(columns, depth);
      const auto nibbles = uniform<std::uint8_t>(random, (columns * depth + 1) / 2);
      const auto x = uniform<std::int8_t>(random, rows * depth);
      for (const placement where : both_placements) {
        const auto weights = read_only(nibbles, where);
        const auto layer = polymac::linear<mac::int8>(polymac::int4_matrix_view{weights.data(), columns, depth},
                                                      std::vector<std::int32_t>{});
        check_between_guards<std::int32_t>(
            layer, x, rows * columns, [&](const auto& l, const std::int8_t* in, std::int32_t* out, polymac::workspace) {
              return l(polymac::matrix_view(in, rows, depth), polymac::matrix_view(out, rows, columns));
            });
      }
    }
}

TEST_CASE("a workspace that is one byte short is refused and not touched", "[memory]") {
  const problem p{{1, 6, 5, 3}, 4, make_window(3, 3, 1, 1, 1, 1, 1, 1, 1, 1)};
  const std::vector<std::int8_t> x(p.in.count(), 1), w(p.weights(), 1);
  const auto layer = polymac::conv2d<mac::int8>(p.convolution(), p.weight_view(w.data()), std::vector<std::int32_t>{});
  REQUIRE(layer.workspace_bytes() > 0);
  std::vector<std::int32_t> y(p.out().count(), 77);
  for (const placement where : both_placements) {
    guarded_buffer<std::byte> scratch(layer.workspace_bytes() - 1, where);
    const auto status =
        layer(view_of(x.data(), p.in), view_of(y.data(), p.out()), polymac::workspace(scratch.data(), scratch.size()));
    CHECK(status.code() == polymac::errc::short_buffer);
    CHECK(std::all_of(scratch.begin(), scratch.end(), [](std::byte b) { return b == std::byte{0}; }));
    CHECK(scratch.slack_untouched());
  }
  CHECK(std::count(y.begin(), y.end(), 77) == static_cast<std::ptrdiff_t>(y.size()));
}
