// SPDX-License-Identifier: MIT
// First layers of which pixels are left out at random: policy::pixel_pruning around linear and conv2d.
//
//     auto conv = conv2d<mac::uint8, policy::pixel_pruning<policy::pruning::list_compact>>(
//         layer::first_layer, {.padding = same}, weights, bias, stages, q,
//         {important, policy::keep_share{0.5}});
//     auto state = conv.make_state(policy::chacha20(seed));
//     conv(x, y, state, workspace);
//
// The outputs are, bit for bit, those of the dense layer on the image in which inactive pixels hold the zero point: for
// every form, with arithmetics that are exact. (Floats are summed in another order where a list is shuffled; products
// with zero points are left out, which differs where a weight is not finite.)
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/kernel/active_pixels.hpp"
#include "polymac/kernel/active_windows.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/pixel_engine.hpp"
#include "polymac/policy/both.hpp"
#include "polymac/policy/pixel_pruning.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// Says that a layer is the first of its network, the one whose input an attacker knows. What is left out of another
/// layer are no pixels.
struct first_layer_t {
  explicit first_layer_t() = default;
};
inline constexpr first_layer_t first_layer{};

namespace detail {

template <class>
inline constexpr bool never = false;

/// Sums by atoms, where a layer has them.
struct no_windows {
  struct memory {};
  static constexpr std::size_t bytes() noexcept { return 0; }
};
template <bool, Mac M, class Atom>
struct windows_of {
  using type = no_windows;
};
template <Mac M, class Atom>
struct windows_of<true, M, Atom> {
  using type = kernel::active_windows<M, Atom>;
};

/// The layer inside.
template <Mac M, epilogue::Stage E, Isa I, policy::PixelPruning P, policy::Policy W>
using conv2d_of_pixels = conv2d<M, typename pixel_engine<M, E, I, P>::inner_stages, I,
                                extents<dynamic, dynamic, dynamic, dynamic>, kernel::owned_memory, W>;
template <Mac M, epilogue::Stage E, Isa I, policy::PixelPruning P, policy::Policy W>
using linear_of_pixels =
    linear<M, typename pixel_engine<M, E, I, P>::inner_stages, I, extents<dynamic, dynamic>, kernel::owned_memory, W>;

}  // namespace detail

/// conv2d on an image of which, for each inference, all important pixels and so many of the others take part, drawn
/// anew for each image (MACPruning). A pixel that does not counts as the zero point in every product that reads it.
///
///   M, E, I  as in layer::conv2d; P: policy::pixel_pruning
///   W        a policy of weights, which the weights have to obey: its kernel runs behind zero_fixed, lists multiply dense
///
/// Images have the size of the importance map. rescale::unbiased: outputs are
/// epilogue(bias + sum over important + round(sum over drawn * droppable / kept)), the sums as a layer gives them.
/// Running is noexcept and allocates nothing; it changes the state, so one state is for one thread.
template <Mac M, epilogue::Stage E, Isa I, policy::PixelPruning P, policy::Policy W = policy::dense>
class pixel_pruned_conv2d : public detail::pixel_pruned_layer<M, E, I, P, detail::conv2d_of_pixels<M, E, I, P, W>> {
  using base = detail::pixel_pruned_layer<M, E, I, P, detail::conv2d_of_pixels<M, E, I, P, W>>;
  using base::engine_, base::inner_, base::status_, base::words, base::check_workspace;
  using typename base::engine;
  using insides = detail::insides;
  static constexpr bool lists = engine::has_lists && P::form == policy::pruning::list_compact;
  using windows = typename detail::windows_of<lists, M, typename engine::atom>::type;

 public:
  using typename base::activation, typename base::output, typename base::state, typename base::sum;

  /// As conv2d, and the map. Throws polymac::error (or sets `status()` where exceptions are off) on what does not fit.
  template <class Weights, class Bias>
  pixel_pruned_conv2d(const convolution& c, const Weights& weights, std::span<const Bias> bias, E stages,
                      const quantization<M>& q, const policy::importance_map& map)
      : base(bias, std::move(stages), q, c, weights) {
    status_ = construct(weights, bias, q, map);
    polymac::detail::raise_unless_ok(status_);
  }

  std::size_t in_channels() const noexcept { return inner_.in_channels(); }
  std::size_t out_channels() const noexcept { return inner_.out_channels(); }
  /// Height and width of images, and of the output.
  extent2d input_size() const noexcept { return engine_.choice.extent(); }
  extent2d output_size() const noexcept { return geometry_.output; }
  std::size_t weight_bytes() const noexcept {
    return inner_.weight_bytes() + engine_.neurons.bytes() + windows_.bytes() + engine_.choice.bytes();
  }
  /// Bytes of workspace a run needs.
  std::size_t workspace_bytes() const noexcept { return status_.ok() ? cut({}).all : 0; }

  /// The policy, the work that is left, what is predicted of its time, and the dense layer inside, in words. Nothing is
  /// chosen by that: another form has another protection. (Predictions: a model of Zen 4, maps included; see
  /// policy/README.md.)
  text<767> explain() const noexcept {
    double cycles = 0, dense = 1;
    if constexpr (lists)
      if (by_atoms_) {
        const auto panels = static_cast<double>(windows_.held_columns() / engine::atom::columns);
        const auto taps = static_cast<double>(windows_.tap_products());
        const double share =
            static_cast<double>(engine_.choice.active()) / static_cast<double>(engine_.choice.pixels());
        const double outputs = static_cast<double>(geometry_.output.height * geometry_.output.width);
        cycles = 10 + 3 * static_cast<double>(engine_.choice.pixels()) / outputs + panels * (1.3 * taps * share + 1.5);
        dense = 3 + panels * 1.15 * taps;
      }
    return words(cycles, dense, workspace_bytes());
  }

  /// Computes all output pixels of x: n x height x width x in_channels, as the map has them; y: n x oh x ow x
  /// out_channels; they must not overlap. Each image gets a map of its own.
  polymac::status operator()(image_view<const activation> x, image_view<output> y, state& s,
                             workspace ws = {}) const noexcept {
    if (!status_.ok()) return status_;
    if (auto bad = engine_.check_state("conv2d", s); !bad.ok()) return bad;
    if (x.height != input_size().height || x.width != input_size().width)
      return polymac::status::make(errc::shape, "conv2d: expected x of ", input_size().height, " x ",
                                   input_size().width, " pixels, as the importance map has, got ", x.height, " x ",
                                   x.width);
    window_geometry geometry{};
    if (auto bad = detail::check_images("conv2d", insides::taps(inner_), x, y, in_channels(), out_channels(), geometry);
        !bad.ok())
      return bad;
    if (auto bad = check_workspace("conv2d", ws, workspace_bytes()); !bad.ok()) return bad;
    const parts memory = cut(ws);
    for (std::size_t n = 0; n < x.batch; ++n) {
      s.draw(engine_.choice);
      image_view<const activation> one = x;
      one.data += n * x.image_stride;
      one.batch = 1;
      image_view<output> out = y;
      out.data += n * y.image_stride;
      out.batch = 1;
      if constexpr (engine::masks)
        if (auto bad = run_masked(one, out, s, memory); !bad.ok()) return bad;
      if constexpr (lists) {
        if (by_atoms_)
          run_lists(one, out, s, memory);
        else
          run_neurons(one, out, s, memory);
      } else if constexpr (!engine::masks) {
        run_neurons(one, out, s, memory);
      }
    }
    return {};
  }

 private:
  struct parts {
    activation* image = nullptr;  ///< with zero points
    sum *sums = nullptr, *drawn = nullptr;
    kernel::listed_tap<activation>* list = nullptr;
    typename windows::memory of_windows{};
    workspace rest{};
    std::size_t all = 0;  ///< bytes
  };
  parts cut(workspace ws) const noexcept {
    kernel::workspace_parts memory(ws);
    parts p;
    const auto& window = insides::taps(inner_);
    if constexpr (engine::masks) {
      const std::size_t pixels = geometry_.output.height * geometry_.output.width;
      p.image = memory.take<activation>(engine_.choice.pixels() * in_channels());
      if constexpr (engine::scales) {
        p.sums = memory.take<sum>(pixels * out_channels() + isa::lane_columns);
        p.drawn = memory.take<sum>(pixels * out_channels());
      }
      const std::size_t inside = inner_.workspace_bytes(input_size());
      p.rest = ws.data == nullptr ? workspace{} : workspace(memory.rest(), inside);
      p.all = memory.bytes() + inside;
      return p;
    }
    if constexpr (lists) {
      if (!by_atoms_) return cut_neurons(memory, window);
      p.of_windows = windows_.cut(memory);
      if constexpr (engine::scales) {
        const std::size_t elements = geometry_.output.height * geometry_.output.width * windows_.held_columns();
        p.sums = memory.take<sum>(elements + isa::lane_columns);
        p.drawn = memory.take<sum>(elements);
      }
      p.all = memory.bytes();
      return p;
    } else {
      return cut_neurons(memory, window);
    }
  }
  parts cut_neurons(kernel::workspace_parts& memory, const window& window) const noexcept {
    parts p;
    {
      p.sums = memory.take<sum>(polymac::detail::round_up(insides::weights(inner_).shape().columns, isa::lane_columns));
      p.list =
          memory.take<kernel::listed_tap<activation>>(engine::list_entries(window.kernel.height * window.kernel.width));
      p.all = memory.bytes();
    }
    return p;
  }

  /// Through the layer inside, on the image with zero points.
  polymac::status run_masked(const image_view<const activation>& x, const image_view<output>& y, state& s,
                             const parts& memory) const noexcept {
    const std::size_t pixels = geometry_.output.height * geometry_.output.width;
    const image_view<const activation> masked(memory.image, 1, x.height, x.width, in_channels());
    if constexpr (!engine::scales) {
      blend(x, memory.image, [&](std::size_t line) { return s.active().row(line); });
      return inner_(masked, y, memory.rest);
    } else {
      for (const bool important : {true, false}) {
        const image_view<sum> sums(important ? memory.sums : memory.drawn, 1, y.height, y.width, y.channels);
        blend(x, memory.image, [&](std::size_t line) {
          return important ? engine_.choice.important_bytes(line) : s.drawn_bytes(engine_.choice, line);
        });
        if (auto bad = inner_(masked, sums, memory.rest); !bad.ok()) return bad;
      }
      engine_.scale_rows(memory.sums, memory.drawn, pixels, out_channels(), 0, out_channels());
      kernel::finish<I>(engine_.stages, kernel::image_rows<output>(y), memory.sums, out_channels(),
                        {0, pixels, 0, out_channels(), 0});
      return {};
    }
  }
  template <class LineOf>
  void blend(const image_view<const activation>& x, activation* to, const LineOf& active) const noexcept {
    const std::size_t channels = in_channels();
    for (std::size_t line = 0; line < x.height; ++line, to += x.width * channels) {
      const std::uint8_t* const mask = active(line);
      if (x.pixel_stride == channels) {
        kernel::blend_pixels(to, x.pixel(0, line, 0), mask, engine_.zero_pixel.data(), channels, x.width);
      } else {
        for (std::size_t i = 0; i < x.width; ++i)
          kernel::blend_pixels(to + i * channels, x.pixel(0, line, i), mask + i, engine_.zero_pixel.data(), channels,
                               1);
      }
    }
  }
  /// By the atoms of the dense layer, output by output.
  void run_lists(const image_view<const activation>& x, const image_view<output>& y, state& s,
                 const parts& memory) const noexcept requires(lists) {
    const std::size_t groups = insides::groups(inner_), columns = insides::weights(inner_).shape().columns;
    const std::size_t pixels = y.height * y.width, held = windows_.held_columns();
    const kernel::image_rows<output> rows(y);
    auto group = x;
    group.channels = insides::channels(inner_);
    if constexpr (!engine::scales)
      windows_.mark(memory.of_windows, [&](std::size_t line) { return s.active().row(line); });
    for (std::size_t g = 0; g < groups; ++g, group.data += group.channels) {
      windows_.copy(memory.of_windows, group);
      if constexpr (engine::scales) {
        const auto no = [](auto...) {};
        windows_.mark(memory.of_windows, [&](std::size_t line) { return engine_.choice.important_bytes(line); });
        windows_.run(g, memory.of_windows, memory.sums, held, no);
        windows_.mark(memory.of_windows, [&](std::size_t line) { return s.drawn_bytes(engine_.choice, line); });
        windows_.run(g, memory.of_windows, memory.drawn, held, no);
        engine_.scale_rows(memory.sums, memory.drawn, pixels, held, g * columns, columns);
        kernel::finish<I>(engine_.stages, rows, memory.sums, held, {0, pixels, 0, columns, g * columns});
      } else {
        sum* whole = nullptr;
        if constexpr (std::is_same_v<E, epilogue::identity>)
          if (rows.regular && held == columns) whole = y.data + g * columns;
        windows_.run(g, memory.of_windows, whole, y.pixel_stride,
                     [&](std::size_t first, std::size_t count, const sum* sums, std::size_t stride) {
                       kernel::finish<I>(engine_.stages, rows, sums, stride, {first, count, 0, columns, g * columns});
                     });
      }
    }
  }
  /// Neuron by neuron.
  void run_neurons(const image_view<const activation>& x, const image_view<output>& y, state& s,
                   const parts& memory) const noexcept {
    const auto& window = insides::taps(inner_);
    const std::size_t groups = insides::groups(inner_), columns = insides::weights(inner_).shape().columns;
    const kernel::image_rows<output> rows(y);
    for (std::size_t row = 0; row < y.height * y.width; ++row) {
      kernel::window_taps<activation> taps{x, window, row / y.width * window.stride.height - geometry_.padding.top,
                                           row % y.width * window.stride.width - geometry_.padding.left};
      for (std::size_t g = 0; g < groups; ++g, taps.x.data += insides::channels(inner_)) {
        engine_.row_of(g, taps, s, memory.list, memory.sums);
        kernel::finish<I>(engine_.stages, rows, memory.sums, columns, {row, 1, 0, columns, g * columns});
      }
    }
  }

  template <class Weights, class Bias>
  polymac::status construct(const Weights& w, std::span<const Bias> bias, const quantization<M>& q,
                            const policy::importance_map& map) noexcept {
    detail::require_generator<M, P>();
    if (!inner_.status().ok()) return inner_.status();
    auto s = detail::check_weights("conv2d", q, w.batch, w.height * w.width * w.channels, bias, true);
    if (s.ok()) s = engine_.construct("conv2d", map, w.batch, bias, in_channels(), q.activation_zero_point);
    if (s.ok()) s = resolve(insides::taps(inner_), input_size(), geometry_);
    if constexpr (!engine::masks) {
      if (!s.ok()) return s;
      const std::size_t groups = insides::groups(inner_), columns = w.batch / groups, taps = w.height * w.width;
      const auto reader = detail::make_weight_reader<M>(
          [&](std::size_t o, std::size_t k) {
            return w(o, k / w.channels / w.width, k / w.channels % w.width, k % w.channels);
          },
          q.weight_zero_points);
      std::size_t terms = 1;
      if (s = reader.count_terms("conv2d", w.batch, taps * w.channels, terms); !s.ok()) return s;
      const auto weight_of = [&](std::size_t g, std::size_t o, std::size_t term, std::size_t tap, std::size_t c) {
        return reader.term_of(g * columns + o, term, tap * w.channels + c);
      };
      using wide = typename mac_traits<M>::wide;
      const auto bias_of = [&](std::size_t g, std::size_t o) {
        return bias.empty() ? wide{} : static_cast<wide>(bias[g * columns + o]);
      };
      if constexpr (lists) {
        by_atoms_ = windows::fits(insides::taps(inner_)) && !insides::weights(inner_).wide_sums();
        if (by_atoms_)
          return windows_.construct(
              insides::taps(inner_), geometry_, input_size(), groups, columns, w.channels, terms, weight_of,
              [&](std::size_t g, std::size_t o) { return engine::scales ? wide{} : bias_of(g, o); },
              q.activation_zero_point);
      }
      s = engine_.neurons.pack(groups, columns, taps, w.channels, terms, weight_of, bias_of, q.activation_zero_point,
                               insides::weights(inner_).wide_sums());
    }
    return s;
  }

  [[no_unique_address]] windows windows_;
  bool by_atoms_ = false;
  window_geometry geometry_{{0, 0}, {}};
};

/// linear on rows of which, for each one, all important pixels and so many of the others take part, drawn anew for each
/// row. A row is the importance map's pixels, line by line, of depth / pixels elements each. Else as
/// pixel_pruned_conv2d.
template <Mac M, epilogue::Stage E, Isa I, policy::PixelPruning P, policy::Policy W = policy::dense>
class pixel_pruned_linear : public detail::pixel_pruned_layer<M, E, I, P, detail::linear_of_pixels<M, E, I, P, W>> {
  using base = detail::pixel_pruned_layer<M, E, I, P, detail::linear_of_pixels<M, E, I, P, W>>;
  using base::engine_, base::inner_, base::status_, base::words, base::check_workspace;
  using typename base::engine;
  using insides = detail::insides;

 public:
  using typename base::activation, typename base::output, typename base::state, typename base::sum;

  /// As linear, and the map.
  template <class Weights, class Bias>
  pixel_pruned_linear(const Weights& weights, std::span<const Bias> bias, E stages, const quantization<M>& q,
                      const policy::importance_map& map)
      : base(bias, std::move(stages), q, weights) {
    status_ = construct(weights, bias, q, map);
    polymac::detail::raise_unless_ok(status_);
  }

  std::size_t columns() const noexcept { return inner_.columns(); }
  std::size_t depth() const noexcept { return inner_.depth(); }
  std::size_t weight_bytes() const noexcept {
    return inner_.weight_bytes() + engine_.neurons.bytes() + engine_.choice.bytes();
  }
  std::size_t workspace_bytes() const noexcept { return status_.ok() ? cut({}).all : 0; }
  /// As of pixel_pruned_conv2d.
  text<767> explain() const noexcept { return words(0, 1, workspace_bytes()); }
  /// x: rows x depth; y: rows x columns; they must not overlap.
  polymac::status operator()(matrix_view<const activation> x, matrix_view<output> y, state& s,
                             workspace ws = {}) const noexcept {
    if (!status_.ok()) return status_;
    if (auto bad = engine_.check_state("linear", s); !bad.ok()) return bad;
    if (x.columns != depth() || y.columns != columns() || x.rows != y.rows)
      return polymac::status::make(errc::shape, "linear: expected x of n x ", depth(), " and y of n x ", columns(),
                                   ", got ", x.rows, " x ", x.columns, " and ", y.rows, " x ", y.columns);
    if (x.rows == 0) return {};
    if (auto bad = detail::check_memory("linear", x, y); !bad.ok()) return bad;
    if (auto bad = check_workspace("linear", ws, workspace_bytes()); !bad.ok()) return bad;
    const parts memory = cut(ws);
    if constexpr (engine::masks) {
      for (std::size_t row = 0; row < x.rows; row += rows_at_once()) {
        const std::size_t count = polymac::detail::smaller(rows_at_once(), x.rows - row);
        if (auto bad = run_masked(x, y, row, count, s, memory); !bad.ok()) return bad;
      }
    } else {
      for (std::size_t row = 0; row < x.rows; ++row) {
        s.draw(engine_.choice);
        const kernel::row_taps<activation> taps{x.row(row), engine_.choice.extent(), channels()};
        engine_.row_of(0, taps, s, memory.list, memory.sums);
        kernel::finish<I>(engine_.stages, y, memory.sums, columns(), {row, 1, 0, columns(), 0});
      }
    }
    return {};
  }

 private:
  std::size_t channels() const noexcept { return depth() / engine_.choice.pixels(); }
  std::size_t rows_at_once() const noexcept { return inner_.row_alignment(); }
  struct parts {
    activation *rows = nullptr, *drawn_rows = nullptr;
    sum *sums = nullptr, *drawn = nullptr;
    kernel::listed_tap<activation>* list = nullptr;
    std::size_t all = 0;
  };
  parts cut(workspace ws) const noexcept {
    kernel::workspace_parts memory(ws);
    parts p;
    if constexpr (engine::masks) {
      p.rows = memory.take<activation>(rows_at_once() * depth());
      if constexpr (engine::scales) {
        p.drawn_rows = memory.take<activation>(rows_at_once() * depth());
        p.sums = memory.take<sum>(rows_at_once() * columns() + isa::lane_columns);
        p.drawn = memory.take<sum>(rows_at_once() * columns());
      }
    } else {
      p.sums = memory.take<sum>(polymac::detail::round_up(columns(), isa::lane_columns));
      p.list = memory.take<kernel::listed_tap<activation>>(engine::list_entries(engine_.choice.pixels()));
    }
    p.all = memory.bytes();
    return p;
  }
  polymac::status run_masked(const matrix_view<const activation>& x, const matrix_view<output>& y, std::size_t first,
                             std::size_t count, state& s, const parts& memory) const noexcept {
    const extent2d extent = engine_.choice.extent();
    const matrix_view<output> out(y.row(first), count, y.columns, y.stride);
    const auto blend = [&](std::size_t row, activation* to, const auto& active) {
      for (std::size_t line = 0; line < extent.height; ++line)
        kernel::blend_pixels(to + (row * extent.height + line) * extent.width * channels(),
                             x.row(first + row) + line * extent.width * channels(), active(line),
                             engine_.zero_pixel.data(), channels(), extent.width);
    };
    for (std::size_t row = 0; row < count; ++row) {
      s.draw(engine_.choice);
      if constexpr (engine::scales) {
        blend(row, memory.rows, [&](std::size_t line) { return engine_.choice.important_bytes(line); });
        blend(row, memory.drawn_rows, [&](std::size_t line) { return s.drawn_bytes(engine_.choice, line); });
      } else {
        blend(row, memory.rows, [&](std::size_t line) { return s.active().row(line); });
      }
    }
    const matrix_view<const activation> masked(memory.rows, count, depth());
    if constexpr (!engine::scales) {
      return inner_(masked, out);
    } else {
      if (auto bad = inner_(masked, {memory.sums, count, columns()}); !bad.ok()) return bad;
      if (auto bad = inner_({memory.drawn_rows, count, depth()}, {memory.drawn, count, columns()}); !bad.ok())
        return bad;
      engine_.scale_rows(memory.sums, memory.drawn, count, columns(), 0, columns());
      kernel::finish<I>(engine_.stages, y, memory.sums, columns(), {first, count, 0, columns(), 0});
      return {};
    }
  }

  template <class Weights, class Bias>
  polymac::status construct(const Weights& weights, std::span<const Bias> bias, const quantization<M>& q,
                            const policy::importance_map& map) noexcept {
    detail::require_generator<M, P>();
    if (!inner_.status().ok()) return inner_.status();
    auto s = detail::check_weights("linear", q, weights.rows, weights.columns, bias, true);
    const std::size_t pixels = map.important.rows * map.important.columns;
    if (s.ok() && pixels > 0 && depth() % pixels != 0)
      s = polymac::status::make(errc::shape, "linear: expected an importance map whose pixels divide the depth ",
                                depth(), ", got ", map.important.rows, " x ", map.important.columns);
    if (s.ok())
      s = engine_.construct("linear", map, columns(), bias, pixels > 0 ? depth() / pixels : 1, q.activation_zero_point);
    if constexpr (!engine::masks) {
      if (!s.ok()) return s;
      const auto reader = detail::make_weight_reader<M>([&](std::size_t c, std::size_t k) { return weights(c, k); },
                                                        q.weight_zero_points);
      std::size_t terms = 1;
      if (s = reader.count_terms("linear", columns(), depth(), terms); !s.ok()) return s;
      s = engine_.neurons.pack(
          1, columns(), pixels, channels(), terms,
          [&](std::size_t, std::size_t o, std::size_t term, std::size_t tap, std::size_t c) {
            return reader.term_of(o, term, tap * channels() + c);
          },
          [&](std::size_t, std::size_t o) {
            using wide = typename mac_traits<M>::wide;
            return bias.empty() ? wide{} : static_cast<wide>(bias[o]);
          },
          q.activation_zero_point, insides::weights(inner_).wide_sums());
    }
    return s;
  }
};

}  // namespace layer

namespace layer {
namespace detail {
/// policy::pixel_pruning, alone or policy::both of it and a policy of weights.
template <class P>
concept DrawsPixels = policy::PixelPruning<typename policy::detail::parts_of<P>::pixels>;
template <class P>
using pixels_of = typename policy::detail::parts_of<P>::pixels;
}  // namespace detail
}  // namespace layer

/// Builds a layer::pixel_pruned_conv2d. See there. P: policy::pixel_pruning, or policy::both of it and a policy of weights.
template <Mac M, layer::detail::DrawsPixels P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto conv2d(layer::first_layer_t, const layer::convolution& c, const Weights& weights, const Bias& bias, E stages,
            const layer::quantization<M>& q, const policy::importance_map& map) {
  using drawn = layer::detail::pixels_of<P>;
  layer::detail::require_generator<M, drawn>();
  return layer::pixel_pruned_conv2d<M, E, I, drawn, policy::detail::weights_of<P>>(
      c, weights, std::span(std::data(bias), std::size(bias)), std::move(stages), q, map);
}
/// Builds a layer::pixel_pruned_linear. See there.
template <Mac M, layer::detail::DrawsPixels P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto linear(layer::first_layer_t, const Weights& weights, const Bias& bias, E stages, const layer::quantization<M>& q,
            const policy::importance_map& map) {
  using drawn = layer::detail::pixels_of<P>;
  layer::detail::require_generator<M, drawn>();
  return layer::pixel_pruned_linear<M, E, I, drawn, policy::detail::weights_of<P>>(
      weights, std::span(std::data(bias), std::size(bias)), std::move(stages), q, map);
}

namespace layer {
namespace detail {
template <class P>
constexpr void require_first_layer() {
  static_assert(never<P>,
                "polymac: pixel_pruning is for the first layer of a network only, whose input are pixels: if this is "
                "it, say so by layer::first_layer as the first argument");
}
}  // namespace detail
}  // namespace layer

/// Refused: pixels are the input of the first layer.
template <Mac M, policy::PixelPruning P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto conv2d(const layer::convolution&, const Weights&, const Bias&, E = {}, const layer::quantization<M>& = {}) {
  return layer::detail::require_first_layer<P>();
}
template <Mac M, policy::PixelPruning P, Isa I = isa::native, class Weights, class Bias, epilogue::Stage E>
auto conv2d(const layer::convolution&, const Weights&, const Bias&, E, const layer::quantization<M>&,
            const policy::importance_map&) {
  return layer::detail::require_first_layer<P>();
}
template <Mac M, policy::PixelPruning P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
auto linear(const Weights&, const Bias&, E = {}, const layer::quantization<M>& = {}) {
  return layer::detail::require_first_layer<P>();
}
template <Mac M, policy::PixelPruning P, Isa I = isa::native, class Weights, class Bias, epilogue::Stage E>
auto linear(const Weights&, const Bias&, E, const layer::quantization<M>&, const policy::importance_map&) {
  return layer::detail::require_first_layer<P>();
}

POLYMAC_END
