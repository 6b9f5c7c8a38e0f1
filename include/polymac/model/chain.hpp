// SPDX-License-Identifier: MIT
// Layers in a row that run tile by tile (policy::patch) or strip by strip (policy::line_buffer): what lies between them
// is never there as a whole.
#pragma once

#include "polymac/layer/insides.hpp"
#include "polymac/layer/view_bounds.hpp"
#include "polymac/model/tile_plan.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// In a chain: `layer` (a layer::add, or another of two operands) adds tensor number `tensor` to what the layer before
/// it made. 0 is the input of the chain, i the output of its i-th layer.
template <class Layer>
struct residual {
  const Layer* layer;
  std::size_t tensor;
};
/// `chain<policy::patch<4>>({56, 56}, expand, depthwise, project, add_tensor(sum, 0))`.
template <class Layer>
residual<Layer> add_tensor(const Layer& layer, std::size_t tensor) noexcept {
  return {&layer, tensor};
}
template <class Layer>
residual<Layer> add_tensor(const Layer&&, std::size_t) = delete;  // the layer must outlive the chain

/// What a run of a chain did; add the work of several threads up, and take the largest peak_bytes.
struct tile_work {
  std::size_t tiles = 0;
  std::size_t macs = 0;
  std::size_t peak_bytes = 0;  ///< of tensors between input and output that were alive at once
};

namespace chain_detail {

template <class Link>
struct traits {
  static constexpr bool is_residual = false;
  using layer = Link;
  static const Link& layer_of(const Link* link) noexcept { return *link; }
  static constexpr std::size_t added(const Link*) noexcept { return chain_step::none; }
};
template <class Layer>
struct traits<residual<Layer>> {
  static constexpr bool is_residual = true;
  using layer = Layer;
  static const Layer& layer_of(const residual<Layer>& link) noexcept { return *link.layer; }
  static constexpr std::size_t added(const residual<Layer>& link) noexcept { return link.tensor; }
};
/// How a chain keeps a link: layers by their address, for they stay where they are.
template <class Link>
using kept = std::conditional_t<traits<Link>::is_residual, Link, const Link*>;
template <class Link>
kept<Link> keep(const Link& link) noexcept {
  if constexpr (traits<Link>::is_residual)
    return link;
  else
    return &link;
}

template <class Layer>
concept has_weights = requires(const Layer& l) {
  l.in_channels();
  l.out_channels();
  l.macs(extent2d{});
};
template <class Layer>
concept has_window = requires(const Layer& l) {
  { l.window() } -> std::convertible_to<polymac::window>;
};

/// A layer as far as shapes go. `channels`: those of its input.
template <class Layer>
chain_step step_of(const Layer& l, std::size_t channels, std::size_t added) noexcept {
  chain_step s;
  s.channels = channels;
  s.element_bytes = sizeof(typename Layer::output);
  s.added = added;
  if constexpr (has_weights<Layer>) {
    s.taps = layer::detail::insides::taps(l);
    s.channels = l.out_channels();
    // An image that a window covers has output pixels, whatever the padding.
    const extent2d image{effective_kernel(s.taps.kernel.height, s.taps.dilation.height),
                         effective_kernel(s.taps.kernel.width, s.taps.dilation.width)};
    const extent2d outputs = l.output_size(image);
    if (outputs != extent2d{0, 0}) s.macs = l.macs(image) / (outputs.height * outputs.width);
  } else if constexpr (has_window<Layer>) {
    s.taps = l.window();
  }
  return s;
}
/// Channels that a layer expects; 0: any.
template <class Layer>
std::size_t expected_channels(const Layer& l) noexcept {
  if constexpr (has_weights<Layer>)
    return l.in_channels();
  else
    return 0;
}

}  // namespace chain_detail

/// Layers one after the other, each with the output of the one before as its input, cut by P: policy::patch or
/// policy::line_buffer. The output is, bit for bit, that of running the layers one by one (floats too, but for bf16 on
/// matrix registers).
///
///   Links   layer::conv2d, layer::depthwise_conv2d, max_pool2d, average_pool2d; layers that work pixel by pixel (maps,
///           quantize); and add_tensor(sum, i) for residuals. One of them has weights, which says how many channels
///           there are
///
/// The layers must outlive the chain, which plans for one size of image at construction: what each tile needs, where it
/// lies in the workspace. Running is noexcept and allocates nothing. Several threads may run ranges of tiles at once,
/// each with its own workspace.
template <policy::TilingPolicy P, class... Links>
class chain {
  static_assert(sizeof...(Links) > 0, "polymac: chain: expected at least one layer");
  static constexpr std::size_t count = sizeof...(Links);
  template <std::size_t I>
  using link = std::tuple_element_t<I, std::tuple<Links...>>;
  template <std::size_t I>
  using layer_at = typename chain_detail::traits<link<I>>::layer;
  template <std::size_t... I>
  static constexpr bool types_fit(std::index_sequence<I...>) {
    return (std::is_same_v<typename layer_at<I>::output, typename layer_at<I + 1>::activation> && ...);
  }
  static_assert(types_fit(std::make_index_sequence<count - 1>{}),
                "polymac: chain: each layer must take the type that the one before it gives (its last stage decides)");

 public:
  using activation = typename layer_at<0>::activation;
  using output = typename layer_at<count - 1>::output;

  /// Throws polymac::error (or sets `status()` where exceptions are off) on layers that do not fit each other or the
  /// image. O(tiles * layers).
  explicit chain(extent2d input, const Links&... links) : links_(chain_detail::keep(links)...) {
    status_ = construct(input, std::make_index_sequence<count>{});
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  /// Memory and work, tile by tile and layer by layer.
  const tile_plan& plan() const noexcept { return plan_; }
  std::size_t tiles() const noexcept { return plan_.tiles(); }
  /// Tensors that are alive at once at most, and the output.
  std::size_t peak_bytes() const noexcept { return plan_.peak_bytes(); }
  std::size_t macs() const noexcept { return plan_.macs(); }
  /// Bytes of workspace of a run: the tensors between input and output, aligned, and what the layers want besides.
  std::size_t workspace_bytes() const noexcept { return plan_.arena_bytes() + tile_plan::alignment - 1; }

  /// x: n x height x width x channels; y: n x the last layer's output; they must not overlap. `ws` needs
  /// workspace_bytes(). `tiles`: a range of the tiles of every image; strips in the middle of an image compute anew
  /// what they would have kept. `work`, if there, gets what was done. Fails on what does not fit.
  polymac::status operator()(image_view<const activation> x, image_view<output> y, workspace ws = {},
                             row_range tiles = {}, tile_work* work = nullptr) const noexcept {
    if (!status_.ok()) return status_;
    const extent2d in = plan_.extent(0), out = plan_.extent(count);
    if (x.height != in.height || x.width != in.width || x.channels != plan_.channels(0) || y.batch != x.batch ||
        y.height != out.height || y.width != out.width || y.channels != plan_.channels(count))
      return polymac::status::make(errc::shape, "chain: expected x of n x ", in.height, " x ", in.width, " x ",
                                   plan_.channels(0), " and y of n x ", out.height, " x ", out.width, " x ",
                                   plan_.channels(count), ", got ", x.batch, " x ", x.height, " x ", x.width, " x ",
                                   x.channels, " and ", y.batch, " x ", y.height, " x ", y.width, " x ", y.channels);
    if (x.batch > 0)
      if (const auto s = layer::detail::check_memory("chain", x, y); !s.ok()) return s;
    if (ws.size < workspace_bytes() || ws.data == nullptr)
      return polymac::status::make(errc::short_buffer, "chain: expected a workspace of ", workspace_bytes(),
                                   " bytes, got ", ws.data == nullptr ? std::size_t{0} : ws.size);
    const std::size_t a = tile_plan::alignment;
    run_type r{*this, x, y, ws.data + (a - reinterpret_cast<std::uintptr_t>(ws.data) % a) % a, {}, {}, {}};
    const std::size_t last = tiles.end < plan_.tiles() ? tiles.end : plan_.tiles();
    for (r.image = 0; r.image < x.batch; ++r.image)
      for (std::size_t t = tiles.begin; t < last; ++t) {
        const auto before = r.parts;
        const bool goes_on = plan_.keeps_lines() && t > tiles.begin;
        plan_.parts_of(t, goes_on ? before.data() : nullptr, r.parts.data());
        if (goes_on) keep_lines(r, before);
        if (const auto s = run_steps(r, std::make_index_sequence<count>{}); !s.ok()) return s;
        ++r.work.tiles;
      }
    if (work != nullptr) *work = r.work;
    return {};
  }

  /// Tiles, memory and work, in words.
  text<511> explain() const noexcept {
    if (!status_.ok()) return text<511>::join(status_.text());
    const std::size_t permille = plan_.macs_by_layer() > 0 ? plan_.macs() * 1000 / plan_.macs_by_layer() : 1000;
    return text<511>::join("chain<", P::name, "> ", count, " layers, ", tiles(),
                           plan_.keeps_lines() ? " strips: " : " tiles: ", plan_.map_bytes(), " bytes of tensors and ",
                           plan_.output_bytes(), " of output (layer by layer ", plan_.map_bytes_by_layer(), " and ",
                           plan_.output_bytes(), "), ", plan_.macs(), " multiply-accumulates, ", permille / 1000, ".",
                           permille / 100 % 10, permille / 10 % 10, permille % 10,
                           " times those layer by layer, workspace ", workspace_bytes(), " bytes");
  }

 private:
  using all_parts = std::array<tensor_part, count + 1>;
  struct run_type {
    const chain& self;
    image_view<const activation> x;
    image_view<output> y;
    std::byte* arena;
    all_parts parts;
    tile_work work;
    std::size_t image;
  };

  template <std::size_t I>
  const layer_at<I>& layer_of() const noexcept {
    return chain_detail::traits<link<I>>::layer_of(std::get<I>(links_));
  }

  template <std::size_t... I>
  polymac::status construct(extent2d input, std::index_sequence<I...>) {
    std::size_t channels = 0;
    ((channels = channels > 0 ? channels : chain_detail::expected_channels(layer_of<I>())), ...);
    if (channels == 0)
      return polymac::status::make(errc::parameter,
                                   "chain: expected a layer with weights, which says how many channels there are");
    // Layers before the first one with weights keep the channels.
    const std::size_t input_channels = channels;
    std::vector<chain_step> steps;
    polymac::status s;
    (add_step<I>(steps, channels, s), ...);
    if (!s.ok()) return s;
    plan_ = tile_plan(std::move(steps), input, input_channels, P::grid);
    if (!plan_.status().ok()) return plan_.status();
    // What a layer wants for its largest tile.
    std::array<std::size_t, count> scratch{};
    all_parts parts{}, before{};
    for (std::size_t t = 0; t < plan_.tiles(); ++t) {
      plan_.parts_of(t, plan_.keeps_lines() && t > 0 ? before.data() : nullptr, parts.data());
      ((scratch[I] = std::max(scratch[I], scratch_of<I>(parts[I + 1]))), ...);
      before = parts;
    }
    return plan_.place(scratch);
  }
  template <std::size_t I>
  void add_step(std::vector<chain_step>& steps, std::size_t& channels, polymac::status& s) const {
    const auto& l = layer_of<I>();
    if (!s.ok()) return;
    const std::size_t expected = chain_detail::expected_channels(l);
    if (!l.status().ok())
      s = l.status();
    else if (expected > 0 && expected != channels)
      s = polymac::status::make(errc::shape, "chain: layer ", I + 1, " takes ", expected, " channels, but gets ",
                                channels);
    if (!s.ok()) return;
    steps.push_back(chain_detail::step_of(l, channels, chain_detail::traits<link<I>>::added(std::get<I>(links_))));
    channels = steps.back().channels;
  }
  template <std::size_t I>
  std::size_t scratch_of(const tensor_part& p) const noexcept {
    const auto& l = layer_of<I>();
    if (!p.is_made()) return 0;
    const auto in = plan_.input_of(I + 1, {p.first_new, p.lines.end}, p.columns);
    const extent2d part{in.lines.size(), in.columns.size()}, out{p.lines.end - p.first_new, p.columns.size()};
    if constexpr (requires { l.workspace_bytes(part, out, in.padding); })
      return l.workspace_bytes(part, out, in.padding);
    else if constexpr (requires { l.workspace_bytes(); })
      return l.workspace_bytes();
    else
      return 0;
  }

  /// Tensor I of the tile: the input, the output, or what is between in the arena.
  template <std::size_t I>
  static auto tensor(const run_type& r) noexcept {
    const tensor_part& p = r.parts[I];
    if constexpr (I == 0) {
      auto v = r.x;
      v.data = r.x.pixel(r.image, p.lines.begin, p.columns.begin);
      v.batch = 1;
      return v;
    } else if constexpr (I == count) {
      auto v = r.y;
      v.data = r.y.pixel(r.image, p.lines.begin, p.columns.begin);
      v.batch = 1;
      return v;
    } else {
      using element = typename layer_at<I - 1>::output;
      auto* const data = reinterpret_cast<element*>(r.arena + r.self.plan_.offset_of(I));
      return image_view<element>(data, 1, p.lines.size(), p.columns.size(), r.self.plan_.channels(I));
    }
  }
  /// Those lines and columns of a tensor of which `whole` is there.
  template <class T>
  static image_view<T> cut(image_view<T> v, const tensor_part& whole, policy::pixel_range lines,
                           policy::pixel_range columns) noexcept {
    v.data +=
        (lines.begin - whole.lines.begin) * v.line_stride + (columns.begin - whole.columns.begin) * v.pixel_stride;
    v.height = lines.size();
    v.width = columns.size();
    return v;
  }

  template <std::size_t... I>
  polymac::status run_steps(run_type& r, std::index_sequence<I...>) const noexcept {
    polymac::status s;
    static_cast<void>(((s = run_step<I>(r), s.ok()) && ...));
    return s;
  }
  template <std::size_t I>
  polymac::status run_step(run_type& r) const noexcept {
    const tensor_part& p = r.parts[I + 1];
    count_alive(r, I + 1);
    if (!p.is_made()) return {};
    const auto& l = layer_of<I>();
    const policy::pixel_range lines{p.first_new, p.lines.end};
    const auto in = plan_.input_of(I + 1, lines, p.columns);
    const image_view<const typename layer_at<I>::activation> x = cut(tensor<I>(r), r.parts[I], in.lines, in.columns);
    const auto y = cut(tensor<I + 1>(r), p, lines, p.columns);
    const workspace ws = plan_.scratch_of(I + 1, r.arena);
    r.work.macs += lines.size() * p.columns.size() * plan_.steps()[I].macs;
    if constexpr (chain_detail::traits<link<I>>::is_residual)
      return add<I, 0>(r, x, y, std::get<I>(links_).tensor);
    else if constexpr (requires { l.on_part(x, y, in.padding, ws); })
      return l.on_part(x, y, in.padding, ws);
    else if constexpr (requires { l.on_part(x, y, in.padding); })
      return l.on_part(x, y, in.padding);
    else
      return l(x, y);
  }
  /// Adds tensor number `number`, which is T or one behind it.
  template <std::size_t I, std::size_t T, class X, class Y>
  polymac::status add(run_type& r, const X& x, const Y& y, std::size_t number) const noexcept {
    if (number == T) {
      const tensor_part& p = r.parts[I + 1];
      if constexpr (std::is_convertible_v<decltype(tensor<T>(r)), X>) {
        const X other = cut(tensor<T>(r), r.parts[T], {p.first_new, p.lines.end}, p.columns);
        return layer_of<I>()(other, x, y);
      } else {
        return polymac::status::make(errc::parameter, "chain: layer ", I + 1, " adds tensor ", T, " of another type");
      }
    }
    if constexpr (T < I)
      return add<I, T + 1>(r, x, y, number);
    else
      return {};
  }

  /// Moves the lines that are read again to the front of their tensors.
  void keep_lines(const run_type& r, const all_parts& before) const noexcept {
    for (std::size_t i = 1; i < count; ++i) {
      const tensor_part &p = r.parts[i], &old = before[i];
      if (p.first_new <= p.lines.begin || p.lines.begin == old.lines.begin) continue;
      const std::size_t line = p.columns.size() * plan_.channels(i) * plan_.steps()[i - 1].element_bytes;
      std::byte* const data = r.arena + plan_.offset_of(i);
      std::memmove(data, data + (p.lines.begin - old.lines.begin) * line, (p.first_new - p.lines.begin) * line);
    }
  }
  void count_alive(run_type& r, std::size_t step) const noexcept {
    std::size_t bytes = 0;
    for (std::size_t i = 1; i < count; ++i)
      if (plan_.is_alive(i, step)) bytes += plan_.bytes_of(i, r.parts[i]);
    if (bytes > r.work.peak_bytes) r.work.peak_bytes = bytes;
  }

  std::tuple<chain_detail::kept<Links>...> links_;
  tile_plan plan_;
  polymac::status status_;
};

}  // namespace model

/// Builds a model::chain: `chain<policy::patch<4>>({56, 56}, expand, depthwise, project, add_tensor(sum, 0))`.
template <policy::TilingPolicy P, class... Links>
auto chain(extent2d input, Links&&... links) {
  static_assert(
      ((std::is_lvalue_reference_v<Links> || model::chain_detail::traits<std::remove_cvref_t<Links>>::is_residual) &&
       ...),
      "polymac: chain: it refers to its layers, which must outlive it: give each a name");
  return model::chain<P, std::remove_cvref_t<Links>...>(input, links...);
}
using model::add_tensor;

POLYMAC_END
