// SPDX-License-Identifier: MIT
// Layers touch the memory they were given, and nothing else: every input, weight, bias, output and workspace lies
// between unmapped pages (once at their end, once at their beginning), inputs are read-only, and no run allocates.
#include "catch.hpp"
#include "examples/mlperf_tiny/build_network.hpp"
#include "support/between_guards.hpp"
#include "support/convolution_problems.hpp"
#include "support/random.hpp"

#include <polymac/core/int4.hpp>
#include <polymac/epilogue/activation.hpp>
#include <polymac/epilogue/clamp.hpp>
#include <polymac/epilogue/requantize.hpp>
#include <polymac/layer/add.hpp>
#include <polymac/layer/concatenate.hpp>
#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/layer/map.hpp>
#include <polymac/layer/mean.hpp>
#include <polymac/layer/mul.hpp>
#include <polymac/layer/pad.hpp>
#include <polymac/layer/pool.hpp>
#include <polymac/layer/quantize.hpp>
#include <polymac/layer/reshape.hpp>
#include <polymac/layer/softmax.hpp>
#include <polymac/mac/float32.hpp>
#include <polymac/mac/int16x8.hpp>
#include <polymac/mac/int8.hpp>
#include <polymac/model/network.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <vector>

using namespace polymac_test;
namespace mac = polymac::mac;

namespace {

using arithmetics = std::tuple<mac::int8, mac::uint8, mac::int16x8, mac::float32>;

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

namespace {

/// Channels around the widths of registers and of the layers' blocks.
constexpr std::size_t channel_counts[] = {1, 3, 4, 15, 16, 17, 33, 64, 65};

/// A layer from one image to another, without workspace.
template <class Layer>
void check_image_layer(const Layer& layer, const std::vector<typename Layer::activation>& x, const image_shape& in,
                       const image_shape& out) {
  using In = typename Layer::activation;
  using Out = typename Layer::output;
  check_between_guards<Out>(layer, x, out.count(), [&](const Layer& l, const In* from, Out* to, polymac::workspace) {
    return l(view_of(from, in), view_of(to, out));
  });
}

}  // namespace

TEMPLATE_TEST_CASE("pooling, mean, pad, reshape and concatenate keep to their memory", "[memory]", std::int8_t,
                   std::uint8_t, std::int16_t, float) {
  using T = TestType;
  POLYMAC_RANDOM(random, 6);
  for (const std::size_t channels : channel_counts) {
    CAPTURE(channels);
    const image_shape in{2, 5, 6, channels};
    const auto x = uniform<T>(random, in.count());
    polymac::window w;
    w.kernel = {3, 2};
    w.stride = {2, 3};
    w.padding = {1, 1, 2, 0};
    const auto size = polymac::output_extent(w, {in.height, in.width});
    const image_shape out{in.batch, size.height, size.width, channels};
    check_image_layer(polymac::layer::average_pool2d<T>(w), x, in, out);
    check_image_layer(polymac::layer::max_pool2d<T>(w), x, in, out);
    const polymac::layer::axes plane{false, true, true, false};
    if constexpr (std::is_floating_point_v<T>)
      check_image_layer(polymac::layer::mean<T>(plane), x, in, {2, 1, 1, channels});
    else
      check_image_layer(polymac::layer::mean<T>(plane, {0.5f, 3}, {0.25f, 1}), x, in, {2, 1, 1, channels});
    check_image_layer(polymac::layer::pad<T>({{0, 1, 2, 1}, {1, 0, 1, 2}}, T{5}), x, in, {3, 6, 9, channels + 3});
    check_image_layer(polymac::layer::reshape<T>(), x, in, {1, 4, 15 * channels, 1});
    check_between_guards<T>(
        polymac::layer::concatenate<T>(polymac::layer::axis::width), x, 2 * in.count(),
        [&](const auto& l, const T* from, T* to, polymac::workspace) {
          const polymac::image_view<const T> both[] = {view_of(from, in), view_of(from, in)};
          return l(std::span<const polymac::image_view<const T>>(both), view_of(to, image_shape{2, 5, 12, channels}));
        });
  }
}

TEMPLATE_TEST_CASE("add and mul keep to their memory", "[memory]", std::int8_t, std::int16_t, float) {
  using T = TestType;
  POLYMAC_RANDOM(random, 7);
  for (const std::size_t channels : channel_counts) {
    CAPTURE(channels);
    const image_shape shape{2, 3, 3, channels};
    const auto x = uniform<T>(random, shape.count());
    for (const image_shape& second : {shape, image_shape{1, 1, 1, channels}, image_shape{2, 3, 3, 1}}) {
      const auto b = uniform<T>(random, second.count());
      const auto check = [&](const auto& layer) {
        for (const placement where : both_placements) {
          const auto guarded_b = read_only(b, where);
          check_between_guards<T>(layer, x, shape.count(), [&](const auto& l, const T* a, T* y, polymac::workspace) {
            return l(view_of(a, shape), view_of(guarded_b.data(), second), view_of(y, shape));
          });
        }
      };
      if constexpr (std::is_floating_point_v<T>) {
        check(polymac::layer::add<T>());
        check(polymac::layer::mul<T>());
      } else {
        const polymac::affine a{0.5f, 0}, y{0.75f, 0};
        check(polymac::layer::add<T>(a, a, y));
        check(polymac::layer::mul<T>(a, a, y));
      }
    }
  }
}

TEST_CASE("softmax, quantisation and activations keep to their memory", "[memory]") {
  POLYMAC_RANDOM(random, 8);
  for (const std::size_t channels : channel_counts) {
    CAPTURE(channels);
    const image_shape shape{1, 2, 3, channels};
    const auto reals = uniform<float>(random, shape.count());
    const auto bytes = uniform<std::int8_t>(random, shape.count());
    const auto words = uniform<std::int16_t>(random, shape.count());
    const polymac::affine q{0.05f, 0};
    check_image_layer(polymac::layer::softmax<float>(), reals, shape, shape);
    check_image_layer(polymac::layer::softmax<std::int8_t>(q), bytes, shape, shape);
    check_image_layer(polymac::layer::softmax<std::int8_t, std::int16_t>(q), bytes, shape, shape);
    check_image_layer(polymac::layer::softmax<std::int16_t>(q), words, shape, shape);
    check_image_layer(polymac::layer::quantize<std::int8_t>(q), reals, shape, shape);
    check_image_layer(polymac::layer::dequantize<std::int8_t>(q), bytes, shape, shape);
    check_image_layer(polymac::layer::rescale<std::int16_t, std::int8_t>(q, {0.5f, 4}), words, shape, shape);
    check_image_layer(polymac::layer::make_map<float>(polymac::relu6), reals, shape, shape);
  }
}

namespace {

using polymac::model::element_type;
using polymac::model::operation_kind;
using polymac::model::tensor_info;
using polymac::model::tensor_shape;

tensor_info tensor(const char* name, tensor_shape shape, float scale, std::span<const std::byte> data = {},
                   element_type type = element_type::int8) {
  return {name, type, shape, {{scale}, {0}, 0}, data};
}

}  // namespace

TEST_CASE("a network keeps to its arena, its inputs and its outputs", "[memory]") {
  POLYMAC_RANDOM(random, 9);
  const auto filters = uniform<std::int8_t>(random, 5 * 3 * 3 * 3), matrix = uniform<std::int8_t>(random, 7 * 5);
  polymac::model::graph g;
  g.tensors = {tensor("x", tensor_shape(1, 9, 8, 3), 0.1f),
               tensor("filters", tensor_shape(5, 3, 3, 3), 0.02f, std::as_bytes(std::span(filters))),
               tensor("features", tensor_shape(1, 5, 4, 5), 0.2f),
               tensor("pooled", tensor_shape(1, 1, 1, 5), 0.2f),
               tensor("matrix", tensor_shape(7, 5), 0.03f, std::as_bytes(std::span(matrix))),
               tensor("y", tensor_shape(1, 7), 0.3f)};
  const auto operation = [&](operation_kind kind, std::vector<std::int32_t> inputs, std::int32_t output) {
    polymac::model::operation op;
    op.kind = kind;
    op.inputs = std::move(inputs);
    op.outputs = {output};
    return op;
  };
  auto convolution = operation(operation_kind::conv2d, {0, 1, -1}, 2);
  convolution.window = {{3, 3}, {2, 2}, {1, 1}, polymac::model::padding::same, 1, 1};
  auto pool = operation(operation_kind::average_pool2d, {2}, 3);
  pool.window = {{5, 4}, {1, 1}, {1, 1}, polymac::model::padding::valid, 1, 1};
  g.operations = {convolution, pool, operation(operation_kind::fully_connected, {3, 4, -1}, 5)};
  g.inputs = {0};
  g.outputs = {5};
  auto built = example::build_network(g);
  INFO(built.status().text());
  REQUIRE(built.ok());
  const auto& net = *built;
  const auto x = uniform<std::int8_t>(random, 9 * 8 * 3);
  // With a size that is a multiple of the alignment, both ends can touch a guard.
  const std::size_t arena = polymac::detail::round_up(net.arena_bytes(), polymac::model::network::arena_alignment);
  REQUIRE(arena > 0);
  std::vector<std::int8_t> first;
  for (const placement where : both_placements) {
    const auto in = read_only(x, where);
    guarded_buffer<std::int8_t> out(7, where);
    guarded_buffer<std::byte> memory(arena, where);
    std::fill(memory.begin(), memory.end(), std::byte{0xEE});
    polymac::status status;
    {
      const no_allocation trap;
      status =
          net.run(std::span<const std::int8_t>(in.data(), in.size()), std::span<std::int8_t>(out.data(), out.size()),
                  polymac::workspace(memory.data(), memory.size()));
    }
    CHECK(status.text() == "");
    CHECK(out.slack_untouched());
    CHECK(memory.slack_untouched());
    if (first.empty()) first = out.values();
    CHECK(first == out.values());
  }
}
