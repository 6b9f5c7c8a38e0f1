// SPDX-License-Identifier: MIT
// Two-dimensional convolution over NHWC images: any kernel, stride, dilation, groups and padding.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/int4.hpp"
#include "polymac/core/window.hpp"
#include "polymac/isa/policy_atom.hpp"
#include "polymac/kernel/contract.hpp"
#include "polymac/kernel/convolution_source.hpp"
#include "polymac/kernel/convolution_windows.hpp"
#include "polymac/kernel/image_tiles.hpp"
#include "polymac/kernel/line_windows.hpp"
#include "polymac/kernel/scratch.hpp"
#include "polymac/layer/columns_from.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/quantization.hpp"
#include "polymac/layer/tile_permission.hpp"
#include "polymac/layer/view_bounds.hpp"

#include <cstddef>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace layer {

/// How a convolution slides: height and width each.
struct convolution {
  extent2d kernel{0, 0};     ///< as the weights have it; 0 x 0 takes theirs
  extent2d stride{1, 1};     ///< at least 1
  extent2d dilation{1, 1};   ///< at least 1
  window_padding padding{};  ///< pixels {top, left, bottom, right}, `same`, `same_lower` or `valid`
  std::size_t groups = 1;    ///< divides the input and the output channels
};

namespace detail {

/// The window that convolution c slides over an image, its kernel taken from the weights where c leaves it open.
constexpr status resolve_window(const char* who, const convolution& given, std::size_t kernel_height,
                                std::size_t kernel_width, window& out) noexcept {
  const convolution& c = polymac::detail::as_in_memory(given);
  if (c.kernel != extent2d{0, 0} && c.kernel != extent2d{kernel_height, kernel_width})
    return status::make(errc::shape, who, ": the kernel is given as ", c.kernel.height, " x ", c.kernel.width,
                        ", but the weights have ", kernel_height, " x ", kernel_width);
  out = {{kernel_height, kernel_width}, c.stride, c.dilation, c.padding};
  return check(out);
}

/// Checks x and y where x is a part of an image: y says how many windows there are.
template <class X, class Y>
constexpr status check_part_of_image(const char* who, const window& w, const image_view<X>& x, const image_view<Y>& y,
                                     const padding2d& padding, std::size_t in_channels, std::size_t out_channels,
                                     window_geometry& geometry) noexcept {
  if (x.channels != in_channels || y.channels != out_channels || x.batch != y.batch)
    return status::make(errc::shape, who, ": expected x with ", in_channels, " channels and y with ", out_channels,
                        ", got ", x.batch, " images of ", x.channels, " and ", y.batch, " of ", y.channels);
  const status s = resolve_part(w, {x.height, x.width}, {y.height, y.width}, padding, geometry);
  return s.ok() && x.batch > 0 ? check_memory(who, x, y) : s;
}

/// Resolves the window on x and compares y with what comes out.
template <class X, class Y>
constexpr status check_images(const char* who, const window& w, const image_view<X>& x, const image_view<Y>& y,
                              std::size_t in_channels, std::size_t out_channels, window_geometry& geometry) noexcept {
  if (x.channels != in_channels)
    return status::make(errc::shape, who, ": expected x with ", in_channels, " channels, got ", x.channels);
  if (status s = resolve(w, {x.height, x.width}, geometry); !s.ok()) return s;
  if (y.batch != x.batch || y.height != geometry.output.height || y.width != geometry.output.width ||
      y.channels != out_channels)
    return status::make(errc::shape, who, ": expected y of ", x.batch, " x ", geometry.output.height, " x ",
                        geometry.output.width, " x ", out_channels, ", got ", y.batch, " x ", y.height, " x ", y.width,
                        " x ", y.channels);
  return x.batch == 0 ? status{} : check_memory(who, x, y);
}

}  // namespace detail

/// y[n][oy][ox][o] = epilogue(bias[o] + sum over ky, kx, c of
///                            (x[n][oy * sh + ky * dh - top][ox * sw + kx * dw - left][g * C + c] - zero_point) *
///                            w[o][ky][kx][c])
/// where g = o / (O / groups), C = input channels / groups, and pixels outside of x count as zero_point. With floats
/// they are left out, which differs where a weight is not finite.
///
///   M, E, I, P  as in layer::linear; groups of weights lie along the input channels of a tap
///   Shape    extents<output channels, kernel height, kernel width, input channels per group>, each static or dynamic
///
/// Activations are read line by line, in place or from a frame (kernel/line_windows.hpp), else copied window by window
/// (kernel/convolution_windows.hpp); floats leave padding out (kernel/convolution_source.hpp).
/// Weights are checked and packed once, at construction. Running is noexcept and allocates nothing; several threads may
/// run it at once, each with its own workspace, on different rows (output pixels, counted through the batch).
template <Mac M, epilogue::Stage E = epilogue::identity, Isa I = isa::native,
          class Shape = extents<dynamic, dynamic, dynamic, dynamic>, class Memory = kernel::owned_memory,
          policy::Policy P = policy::dense>
class conv2d {
 public:
  using mac = M;
  using atom = isa::policy_atom<M, I, P>;
  using activation = typename M::activation;
  using sum = typename mac_traits<M>::sum;
  using output = epilogue::output_of<E, sum>;

 private:
  static constexpr bool is_sparse = isa::detail::policy_choice<M, I, P>::sparse;
  using narrow = kernel::narrow_atom<atom>;
  using windows = kernel::convolution_windows<activation, atom::max_rows>;
  /// Channels of a tap in the packed weights: for tiles filled up to whole groups where a line of the kernel would not
  /// end with one, for a sparse kernel to whole groups of weights.
  static constexpr std::size_t filled_channels(std::size_t height, std::size_t width, std::size_t channels) noexcept {
    if (height * width == 1) return channels;
    if constexpr (is_sparse) return polymac::detail::round_up(channels, P::channel_group);
    const bool fits = !kernel::has_tiles<atom> || width * channels % atom::depth == 0;
    return fits ? channels : polymac::detail::round_up(channels, atom::depth);
  }
  /// Does a product with a pixel of padding add nothing? Integers may have a zero point, and atoms that shift them.
  static constexpr bool leaves_out_padding =
      M::linear && std::is_floating_point_v<activation> && atom::depth == 1 && !isa::is_listed<atom>;
  /// k of a line of the kernel in the packed weights. Filled up to whole groups with zeros, where that takes less time
  /// than to copy windows: then they are read in place from a frame, in groups that reach into the next pixel.
  constexpr std::size_t filled_line(std::size_t height, std::size_t width, std::size_t channels,
                                    std::size_t columns) const noexcept {
    const std::size_t line = width * filled_channels(height, width, channels);
    const bool near = window_.dilation.width == 1 || width == 1;
    if (!fills_lines || height == 1 || !near) return line;
    const bool is_narrow = kernel::prefers_narrow<atom>({groups_, columns});
    const std::size_t depth = is_narrow ? narrow::depth : atom::depth;
    const std::size_t filled = polymac::detail::round_up(line, depth);
    const std::size_t more = height * filled / depth - polymac::detail::divide_up(height * line, depth);
    const std::size_t panels = polymac::detail::divide_up(columns, is_narrow ? narrow::columns : atom::columns);
    return 2 * more * panels <= height * cycles_of_copy ? filled : line;
  }
  static constexpr std::size_t static_depth =
      Shape::at(1) != dynamic && Shape::at(2) != dynamic && Shape::at(3) != dynamic
          ? Shape::at(1) * Shape::at(2) * filled_channels(Shape::at(1), Shape::at(2), Shape::at(3))
          : dynamic;
  static constexpr bool fills_lines =
      static_depth == dynamic && mac_traits<M>::integer && kernel::detail::adds_up<M> && !kernel::has_tiles<atom>;
  /// Of a line of the kernel, for one output pixel.
  static constexpr std::size_t cycles_of_copy = 4;

 public:
  /// weights: OHWI (batch = output channels, channels = input channels per group), of any integer type for integer
  /// arithmetics (`image_view`, `int4_image_view`); bias: one for each output channel, or none.
  /// Throws polymac::error (or sets `status()` where exceptions are off) on what does not fit. O(weights).
  template <class Weights, class Bias>
  constexpr conv2d(const convolution& c, const Weights& weights, std::span<const Bias> bias, E stages = {},
                   const quantization<M>& q = {})
      : groups_(c.groups), zero_point_(q.activation_zero_point), epilogue_(std::move(stages)) {
    status_ = construct(c, weights, bias, q);
    polymac::detail::raise_unless_ok(status_);
  }

  constexpr const polymac::status& status() const noexcept { return status_; }
  constexpr std::size_t in_channels() const noexcept { return channels_ * groups_; }
  constexpr std::size_t out_channels() const noexcept { return weights_.shape().columns * groups_; }
  constexpr std::size_t weight_bytes() const noexcept { return weights_.bytes(); }
  /// Bytes of workspace a run needs, whatever the size of the image.
  constexpr std::size_t workspace_bytes() const noexcept { return scratch_needed().bytes(); }
  /// Bytes with which a run on dense images of that size is fastest: integers, and all that runs on tiles
  /// (isa::amx_int8, isa::amx_bf16), want the image copied once with its padding around it; none is where it can be read
  /// in place. At least workspace_bytes().
  constexpr std::size_t workspace_bytes(extent2d input) const noexcept {
    window_geometry geometry{};
    return resolve(window_, input, geometry).ok() ? workspace_bytes(input, geometry) : workspace_bytes();
  }
  /// The same for on_part().
  constexpr std::size_t workspace_bytes(extent2d part, extent2d outputs, const padding2d& padding) const noexcept {
    window_geometry geometry{};
    return resolve_part(window_, part, outputs, padding, geometry).ok() ? workspace_bytes(part, geometry)
                                                                        : workspace_bytes();
  }
  /// Height and width of the output for an input of that size; {0, 0} where the window does not fit.
  constexpr extent2d output_size(extent2d input) const noexcept { return output_extent(window_, input); }
  /// Multiply-accumulates for one image of that size, padding counted in (as the field counts).
  constexpr std::size_t macs(extent2d input) const noexcept {
    const extent2d o = output_size(input);
    return o.height * o.width * out_channels() * window_.kernel.height * window_.kernel.width * channels_;
  }

  /// Do so many rows (output pixels) of an image run on matrix registers?
  constexpr bool runs_on_tiles(std::size_t rows) const noexcept { return runs_on_tiles(rows, rows); }
  /// Output channels that are computed together.
  constexpr std::size_t column_alignment() const noexcept {
    return groups_ == 1 ? atom::max_panels * atom::columns : out_channels();
  }
  /// Some output channels as a layer of their own, as linear::part. A layer of several groups has no parts.
  constexpr auto part(column_range columns) const noexcept {
    using part_type =
        conv2d<M, detail::columns_from<E>, I, extents<dynamic, dynamic, dynamic, dynamic>, kernel::viewed_memory, P>;
    auto s = status_;
    if (s.ok()) s = detail::check_part("conv2d", columns, out_channels(), column_alignment());
    if (s.ok() && groups_ != 1)
      s = polymac::status::make(errc::unsupported, "conv2d: expected one group to take a part of, got ", groups_);
    return part_type(*this, s.ok() ? columns : column_range{0, 0}, {epilogue_, columns.begin}, s);
  }
  /// The same without its stages, as a layer of its own: raw sums. It refers to this layer, as parts do.
  constexpr auto raw_sums() const noexcept {
    using raw_type =
        conv2d<M, epilogue::identity, I, extents<dynamic, dynamic, dynamic, dynamic>, kernel::viewed_memory, P>;
    return raw_type(*this, {0, weights_.shape().columns}, {}, status_);
  }
  /// Tiles of rows (output pixels) in a run on x, and the row at which one of them begins: threads had better begin
  /// there.
  constexpr std::size_t row_tiles(const image_view<const activation>& x) const noexcept { return tiling(x).tiles(); }
  constexpr std::size_t row_of_tile(const image_view<const activation>& x, std::size_t tile) const noexcept {
    return tiling(x).row_of(tile);
  }

  /// Computes the output pixels of `rows` (all by default). x: n x h x w x in_channels; y: n x oh x ow x out_channels;
  /// they must not overlap. `ws` needs workspace_bytes(), and had better have workspace_bytes(size of x).
  constexpr polymac::status operator()(image_view<const activation> x, image_view<output> y, workspace ws = {},
                                       row_range rows = {}) const noexcept {
    if (!status_.ok()) return status_;
    window_geometry geometry{};
    if (auto s = detail::check_images("conv2d", window_, x, y, in_channels(), out_channels(), geometry); !s.ok())
      return s;
    return run(geometry, x, y, ws, rows);
  }
  /// The same for a part of an image, a tile, which has `padding` around it whatever the layer's own is: all windows of
  /// y, the first one in the corner of the padded x. A tile has the bits of the whole image, but for bf16 on tiles of
  /// matrix registers, which the size of y decides on.
  constexpr polymac::status on_part(image_view<const activation> x, image_view<output> y, const padding2d& padding,
                                    workspace ws = {}) const noexcept {
    if (!status_.ok()) return status_;
    window_geometry geometry{};
    if (auto s = detail::check_part_of_image("conv2d", window_, x, y, padding, in_channels(), out_channels(), geometry);
        !s.ok())
      return s;
    if (padding != padding2d{} && !leaves_out_padding && !copies())
      return polymac::status::make(errc::unsupported, "conv2d: a kernel of 1 x 1 without padding has none on a part");
    return run(geometry, x, y, ws, {});
  }

  /// Arithmetic, instruction set, tile and memory of this layer, in words.
  constexpr text<511> explain() const noexcept {
    return text<511>::join(
        "conv2d<", M::name, "> ", out_channels(), " x ", window_.kernel.height, " x ", window_.kernel.width, " x ",
        channels_, " in ", groups_, groups_ == 1 ? " group: " : " groups: ", atom::isa::name, " atom, tile ",
        weights_.tile_rows(), " rows x ", weights_.tile_columns(), " columns x ", weights_.group_depth(), " deep, ",
        isa::words_on_policy<M, I, P>(weights_.live_groups(), weights_.all_groups()).view(), weight_bytes(), " bytes",
        weights_.wide_sums() ? ", sums in 64 bits" : "", kernel::words_on_tiles<atom>(tiles_permitted_, weights_),
        ", workspace ", workspace_bytes(), " bytes", copies() ? ", windows are copied" : ", activations read in place");
  }

 private:
  template <Mac, epilogue::Stage, Isa, class, class, policy::Policy>
  friend class conv2d;
  friend struct detail::insides;

  template <class Whole>
  constexpr conv2d(const Whole& whole, column_range columns, E stages, const polymac::status& s) noexcept
      : window_(whole.window_),
        channels_(whole.channels_),
        zero_point_(whole.zero_point_),
        weights_(whole.weights_, columns),
        epilogue_(std::move(stages)),
        status_(s),
        tiles_permitted_(whole.tiles_permitted_) {}

  /// Computes windows that fit, of all groups.
  constexpr POLYMAC_INLINE polymac::status run(const window_geometry& geometry, const image_view<const activation>& x,
                                               const image_view<output>& y, workspace ws,
                                               row_range rows) const noexcept {
    return kernel::with_scratch<activation>("conv2d", scratch_needed(), ws, [&](kernel::scratch<activation> memory) {
      for (std::size_t g = 0; g < groups_; ++g) {
        image_view<const activation> group = x;
        group.data += g * channels_;
        group.channels = channels_;
        if constexpr (kernel::has_tiles<atom>)
          if (!std::is_constant_evaluated() && run_tiles(g, group, geometry, y, memory, rows)) continue;
        if (!std::is_constant_evaluated() && run_lines(g, group, geometry, y, memory, rows)) continue;
        if constexpr (leaves_out_padding) {
          const kernel::convolution_strips<activation> source{group, geometry.output, window_, geometry.padding.top,
                                                              geometry.padding.left};
          kernel::contract<atom>(weights_, g, source, epilogue_, kernel::image_rows<output>(y), memory, rows);
        } else {
          const windows source(group, window_, geometry, group_channels(), weights_.shape().depth, copied_rows(),
                               filled_depth(), zero_point_, memory.block, memory.block_elements);
          kernel::contract<atom>(weights_, g, source, epilogue_, kernel::image_rows<output>(y), memory, rows);
        }
      }
    });
  }

  /// Bytes with which windows on an image of that size are computed fastest.
  constexpr std::size_t workspace_bytes(extent2d input, const window_geometry& geometry) const noexcept {
    auto needed = scratch_needed();
    std::size_t elements = 0;
    if constexpr (frames) {
      const auto how =
          line_access(geometry, input, groups_ == 1 || window_.kernel.width == 1, group_channels() == channels_);
      if (how == access::framed) elements = frame_of(geometry, input).elements();
      if (how == access::none && copies())
        elements = windows::framed_elements(geometry, input, channels_, copied_rows(), filled_depth());
    }
    if constexpr (kernel::has_tiles<atom>)
      if (tiles_permitted_) {
        const bool dense = groups_ == 1 && group_channels() == channels_;
        const std::size_t of_tiles = layout(geometry, input, dense, static_cast<std::size_t>(-1)).elements;
        if (elements < of_tiles) elements = of_tiles;
      }
    if (elements > needed.block) needed.block = elements;
    return needed.bytes();
  }

  /// How windows are read line by line (kernel/line_windows.hpp), if they can be.
  enum class access { in_place, framed, none };
  /// Floats do without frames: what lies on padding is left out instead.
  static constexpr bool frames = !leaves_out_padding;
  /// contiguous: the pixels of the image lie side by side, or a window has one column of them; same_channels: they have
  /// the channels of the packed weights.
  constexpr access line_access(const window_geometry& geometry, extent2d image, bool contiguous,
                               bool same_channels) const noexcept {
    const std::size_t taps = window_.kernel.height * window_.kernel.width;
    const bool near = window_.dilation.width == 1 || window_.kernel.width == 1;
    const auto fits = [&](bool one_stretch, std::size_t channels) {
      const std::size_t stretch = one_stretch ? line_depth() : channels;
      return stretch % weights_.group_depth() == 0 || (one_stretch ? window_.kernel.height : taps) == 1;
    };
    const auto& p = geometry.padding;
    if (p.top == 0 && p.bottom == 0 && p.left == 0 && p.right == 0 && same_channels &&
        line_depth() == window_.kernel.width * channels_ && fits(near && contiguous, channels_))
      return access::in_place;
    if (!fits(near, group_channels()) || !kernel::is_worth_a_frame(geometry, image)) return access::none;
    return prefers_copies(geometry, image, near) ? access::none : access::framed;
  }
  /// Is it faster to copy windows, of which tiles are full whatever the width of the image, than to read lines from a
  /// frame? Cycles of a line of output, as measured on Zen 4; copies have their full depth even on padding.
  constexpr bool prefers_copies(const window_geometry& geometry, extent2d image, bool near) const noexcept {
    const std::size_t width = geometry.output.width, lines = geometry.output.height * window_.kernel.height;
    constexpr std::size_t most = atom::max_rows, of_tile = 120, of_segment = 30;
    if (width > 4 * most || (width % 4 == 0 && kernel::tiles_keep_fours<atom>)) return false;
    using heights = kernel::tile_heights<most, kernel::tile_cuts::lines>;
    const std::size_t panels = weights_.panels(), products = panels * weights_.groups();
    const std::size_t segments = near ? window_.kernel.height : window_.kernel.height * window_.kernel.width;
    const auto of_products = [&](std::size_t rows) {
      return ((rows < 2 ? 2 : rows) + (panels == 1 ? 2 : 0)) * products;
    };
    const auto tiles = [&](std::size_t rows) {
      return polymac::detail::divide_up(panels, rows > 4 ? atom::max_panels : 2 * atom::max_panels);
    };
    std::size_t in_lines = 0, beside = 0;
    for (std::size_t left = width; left > 0; left -= heights::next(left)) {
      in_lines += of_products(heights::next(left));
      beside += tiles(heights::next(left)) * (of_tile + of_segment * (segments - 1));
    }
    in_lines = in_lines * (lines - (weights_.lines() > 0 ? lines_on_padding(geometry, image) : 0)) / lines + beside;
    const std::size_t of_copies = of_products(most) + tiles(most) * of_tile + most * segments * cycles_of_copy;
    return of_copies * width < in_lines * most;
  }
  /// Lines of the kernel on padding, of all output lines.
  constexpr std::size_t lines_on_padding(const window_geometry& geometry, extent2d image) const noexcept {
    const std::size_t outputs = geometry.output.height, stride = window_.stride.height;
    std::size_t count = 0;
    for (std::size_t ky = 0; ky < window_.kernel.height; ++ky) {
      // The outputs before which, and from which on, this line lies above and below the image.
      const auto up_to = [&](std::size_t line) {
        const std::size_t at = ky * window_.dilation.height;
        return line > at ? polymac::detail::smaller(polymac::detail::divide_up(line - at, stride), outputs) : 0;
      };
      count += up_to(geometry.padding.top) + outputs - up_to(geometry.padding.top + image.height);
    }
    return count;
  }
  /// k of a line of the kernel in the packed weights.
  constexpr std::size_t line_depth() const noexcept { return weights_.shape().depth / window_.kernel.height; }
  constexpr kernel::image_frame frame_of(const window_geometry& geometry, extent2d image) const noexcept {
    return {geometry, image, group_channels(), line_depth() - window_.kernel.width * group_channels()};
  }
  /// Calls f(image of x, image of y, rows of it) for each image that has some of the rows.
  template <class Function>
  static void for_each_image(const image_view<const activation>& x, const image_view<output>& y,
                             const window_geometry& geometry, row_range rows, const Function& f) noexcept {
    const std::size_t pixels = geometry.output.height * geometry.output.width;
    const std::size_t last = polymac::detail::smaller(rows.end, x.batch * pixels);
    for (std::size_t n = rows.begin / pixels; n * pixels < last; ++n) {
      image_view<const activation> one = x;
      one.data += n * x.image_stride;
      one.batch = 1;
      image_view<output> out = y;
      out.data += n * y.image_stride;
      out.batch = 1;
      f(one, out,
        row_range{rows.begin > n * pixels ? rows.begin - n * pixels : 0,
                  polymac::detail::smaller(last - n * pixels, pixels)});
    }
  }
  /// Computes the rows of group g line by line, if there is memory for what that takes.
  bool run_lines(std::size_t g, const image_view<const activation>& x, const window_geometry& geometry,
                 const image_view<output>& y, const kernel::scratch<activation>& memory,
                 row_range rows) const noexcept {
    const bool near = window_.dilation.width == 1 || window_.kernel.width == 1;
    const bool contiguous = window_.kernel.width == 1 || x.pixel_stride == x.channels;
    const auto how = line_access(geometry, {x.height, x.width}, contiguous, group_channels() == x.channels);
    if (how == access::none || (how == access::framed && !frames)) return false;
    // Windows of one stretch need no lines.
    if (how == access::in_place && frames && window_.kernel.height == 1 && near && contiguous) return false;
    if (how == access::in_place) {
      const kernel::line_windows<activation> source{x,
                                                    geometry.output,
                                                    window_,
                                                    near && contiguous ? line_depth() : std::size_t{0},
                                                    kernel::tiles_keep_fours<atom>,
                                                    0,
                                                    x.height};
      kernel::contract<atom>(weights_, g, source, epilogue_, kernel::image_rows<output>(y), memory, rows);
      return true;
    }
    const auto frame = frame_of(geometry, {x.height, x.width});
    if (memory.block_elements < frame.elements()) return false;
    for_each_image(x, y, geometry, rows, [&](const auto& one, const auto& out, row_range part) {
      const auto framed = frame.fill(one, window_, geometry, zero_point_, memory.block, part.begin, part.end);
      const std::size_t above = weights_.lines() > 0 ? geometry.padding.top : 0;
      const kernel::line_windows<activation> source{framed,
                                                    geometry.output,
                                                    window_,
                                                    near ? line_depth() : std::size_t{0},
                                                    kernel::tiles_keep_fours<atom>,
                                                    above,
                                                    weights_.lines() > 0 ? above + x.height : framed.height};
      kernel::contract<atom>(weights_, g, source, epilogue_, kernel::image_rows<output>(out), memory, part);
    });
    return true;
  }
  /// Lines of the kernel that can be left out where they lie on padding.
  static constexpr std::size_t lines_left_out(std::size_t height) noexcept {
    return kernel::tiles_leave_lines_out<atom> && frames && static_depth == dynamic && height > 1 ? height : 0;
  }
  /// May a window be copied?
  constexpr bool copies() const noexcept {
    const bool pads = window_.padding.rule == padding_rule::given && window_.padding.pixels != padding2d{};
    return !leaves_out_padding && (window_.kernel != extent2d{1, 1} || pads);
  }
  /// k of a line of the kernel, `line` in the packed weights, or of one pixel where those lie apart; 0: a window is one
  /// stretch.
  constexpr std::size_t stretch(std::size_t line) const noexcept {
    const bool near = window_.dilation.width == 1 || window_.kernel.width == 1;
    if ((near ? 1 : window_.kernel.width) * window_.kernel.height == 1) return 0;
    return near ? line : group_channels();
  }
  /// Windows that are copied at a time.
  constexpr std::size_t copied_rows() const noexcept {
    if (weights_.is_narrow()) return isa::most_rows<narrow>;
    return weights_.panels() == 1 ? isa::most_rows<atom> : atom::max_rows;
  }
  /// The depth of the weights, filled up to whole groups.
  constexpr std::size_t filled_depth() const noexcept {
    return polymac::detail::round_up(weights_.shape().depth, weights_.group_depth());
  }
  constexpr std::size_t group_channels() const noexcept {
    return filled_channels(window_.kernel.height, window_.kernel.width, channels_);
  }
  /// Steps of the tiles such that each line of the kernel has whole ones; 0 where that is not to be had.
  constexpr std::size_t tile_steps(std::size_t terms) const noexcept {
    if constexpr (kernel::has_tiles<atom>) {
      const std::size_t line = window_.kernel.width * group_channels();
      const std::size_t groups = line / atom::depth;
      const std::size_t steps = polymac::detail::divide_up(groups, atom::tiles::max_groups);
      const bool whole = terms == 1 && line % atom::depth == 0 && groups % steps == 0;
      return whole ? steps * window_.kernel.height : 0;
    } else {
      return 0;
    }
  }
  constexpr kernel::scratch_extent<atom> scratch_needed() const noexcept {
    std::size_t block = copies() ? windows::block_elements(copied_rows(), filled_depth()) : 0;
    if constexpr (kernel::has_tiles<atom>)
      if (tiles_permitted_) {
        const std::size_t tiles = kernel::image_tiles<typename atom::tiles>::least_elements(weights_.shape().columns,
                                                                                            weights_.depth_of_tiles());
        if (block < tiles) block = tiles;
      }
    return {0, 0, false, block};
  }
  /// How the rows of a run fall on tiles: on matrix registers image by image, else all alike.
  struct row_tiling {
    std::size_t images = 1, rows_of_image = 0, tile_rows = atom::max_rows;
    kernel::image_layout layout{};
    window_geometry geometry{};

    constexpr std::size_t tiles_of_image() const noexcept {
      return polymac::detail::divide_up(rows_of_image, tile_rows);
    }
    constexpr std::size_t tiles() const noexcept { return images * tiles_of_image(); }
    constexpr std::size_t row_of(std::size_t tile) const noexcept {
      const std::size_t each = tiles_of_image();
      if (each == 0) return 0;
      return tile / each * geometry.output.height * geometry.output.width +
             layout.output_row(tile % each * tile_rows, geometry);
    }
  };
  constexpr row_tiling tiling(const image_view<const activation>& x) const noexcept {
    row_tiling t;
    if (!resolve(window_, {x.height, x.width}, t.geometry).ok()) return t;
    const std::size_t pixels = t.geometry.output.height * t.geometry.output.width;
    t.rows_of_image = x.batch * pixels;
    if constexpr (kernel::has_tiles<atom>)
      if (runs_on_tiles(pixels)) {
        t.images = x.batch;
        t.tile_rows = atom::tiles::rows;
        t.layout = layout(t.geometry, {x.height, x.width}, is_dense(x), static_cast<std::size_t>(-1));
        t.rows_of_image = t.layout.rows(t.geometry);
      }
    return t;
  }
  /// Do `rows` rows of an image of `pixels` rows run on tiles?
  constexpr bool runs_on_tiles(std::size_t rows, std::size_t pixels) const noexcept {
    return tiles_permitted_ && pixels >= 16 && kernel::prefers_tiles(weights_, rows, pixels);
  }
  /// Do the pixels that a group reads lie side by side, its channels filled up?
  constexpr bool is_dense(const image_view<const activation>& group) const noexcept {
    return group_channels() == group.channels && group.pixel_stride == group.channels &&
           group.line_stride == group.width * group.pixel_stride;
  }
  constexpr kernel::image_layout layout(const window_geometry& geometry, extent2d image, bool dense,
                                        std::size_t available) const noexcept {
    return kernel::image_tiles<typename atom::tiles>::layout(window_, geometry, image, group_channels(), dense,
                                                             weights_.shape().columns, weights_.steps(),
                                                             weights_.depth_of_tiles(), available);
  }
  /// Computes the rows of group g on tiles where they are faster, image by image.
  bool run_tiles(std::size_t g, const image_view<const activation>& x, const window_geometry& geometry,
                 const image_view<output>& y, const kernel::scratch<activation>& memory,
                 row_range rows) const noexcept {
    if constexpr (kernel::has_tiles<atom>) {
      const std::size_t pixels = geometry.output.height * geometry.output.width;
      const std::size_t last = polymac::detail::smaller(rows.end, x.batch * pixels);
      if (rows.begin >= last || !runs_on_tiles(polymac::detail::smaller(last - rows.begin, pixels), pixels))
        return false;
      const auto l = layout(geometry, {x.height, x.width}, is_dense(x), memory.block_elements);
      for_each_image(x, y, geometry, rows, [&](const auto& one, const auto& out, row_range part) {
        kernel::image_tiles<typename atom::tiles> source(one, window_, geometry, l, group_channels(),
                                                         weights_.depth_of_tiles(), zero_point_, memory.block,
                                                         part.begin, part.end);
        source.frame();
        kernel::contract_tiles<atom>(weights_, g, source, epilogue_, kernel::image_rows<output>(out), source.begin(),
                                     source.end());
      });
      return true;
    } else {
      return false;
    }
  }

  template <class Weights, class Bias>
  constexpr polymac::status construct(const convolution& c, const Weights& w, std::span<const Bias> bias,
                                      const quantization<M>& q) noexcept {
    auto s = Shape::check("conv2d", {w.batch, w.height, w.width, w.channels},
                          {"output channels", "kernel lines", "kernel columns", "input channels per group"});
    if (s.ok()) s = detail::resolve_window("conv2d", c, w.height, w.width, window_);
    if (s.ok() && w.channels > std::numeric_limits<std::size_t>::max() / w.height / w.width)
      s = polymac::status::make(errc::shape, "conv2d: weights of ", w.height, " x ", w.width, " x ", w.channels,
                                " exceed the address space");
    if (s.ok())
      s = detail::check_weights("conv2d", q, w.batch, w.height * w.width * w.channels, bias, detail::has_data(w.data));
    if (s.ok() && (groups_ == 0 || w.batch % groups_ != 0))
      s = polymac::status::make(errc::shape, "conv2d: expected groups that divide ", w.batch, " output channels, got ",
                                groups_);
    if (s.ok()) s = epilogue_.check(w.batch);
    channels_ = w.channels;
    if (!s.ok()) return s;

    const std::size_t columns = w.batch / groups_, line = w.width * w.channels, depth = w.height * line;
    const auto reader = detail::make_weight_reader<M>(
        [&](std::size_t o, std::size_t k) { return w(o, k / line, k % line / w.channels, k % w.channels); },
        q.weight_zero_points);
    std::size_t terms = 1;
    if (s = reader.count_terms("conv2d", w.batch, depth, terms); !s.ok()) return s;
    for (std::size_t g = 0; g < groups_ && s.ok(); ++g)
      s = P::check("conv2d", columns, depth, w.channels,
                   [&](std::size_t o, std::size_t k) { return reader.term_of(g * columns + o, 0, k); });
    if (!s.ok()) return s;
    const std::size_t filled = group_channels(), filled_row = filled_line(w.height, w.width, w.channels, columns);
    s = weights_.pack(
        {groups_, columns, w.height * filled_row, terms, tile_steps(terms), 0, stretch(filled_row),
         lines_left_out(w.height)},
        [&](std::size_t g, std::size_t o, std::size_t term, std::size_t k) {
          const std::size_t tap = k % filled_row / filled, channel = k % filled_row % filled;
          return tap < w.width && channel < w.channels
                     ? reader.term_of(g * columns + o, term, (k / filled_row * w.width + tap) * w.channels + channel)
                     : typename M::weight{};
        },
        [&](std::size_t g, std::size_t o) {
          using wide = typename mac_traits<M>::wide;
          return bias.empty() ? wide{} : static_cast<wide>(bias[g * columns + o]);
        },
        zero_point_,
        filled_row == line ? detail::plain_filters<M>(w, q.weight_zero_points)
                           : kernel::plain_weights<typename M::weight>{});
    tiles_permitted_ = s.ok() && detail::may_use_tiles<atom>(weights_, false);
    return s;
  }

  window window_{};
  std::size_t groups_ = 1;
  std::size_t channels_ = 0;
  activation zero_point_{};
  kernel::packed_weights<M, atom, Shape::at(0), static_depth, Memory> weights_;
  E epilogue_;
  polymac::status status_;
  bool tiles_permitted_ = false;
};

}  // namespace layer

/// Builds a layer::conv2d: `conv2d<mac::int8>({.stride = {2, 2}, .padding = same}, weights, bias, stages)`. See there.
template <Mac M, Isa I = isa::native, class Weights, class Bias, epilogue::Stage E = epilogue::identity>
constexpr auto conv2d(const layer::convolution& c, const Weights& weights, const Bias& bias, E stages = {},
                      const layer::quantization<M>& q = {}) {
  return layer::conv2d<M, E, I>(c, weights, std::span(std::data(bias), std::size(bias)), std::move(stages), q);
}
/// The same with a policy: `conv2d<mac::int8, policy::n_of_m<2, 4>>(...)`.
template <Mac M, policy::Policy P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
constexpr auto conv2d(const layer::convolution& c, const Weights& weights, const Bias& bias, E stages = {},
                      const layer::quantization<M>& q = {}) {
  return layer::conv2d<M, E, I, extents<dynamic, dynamic, dynamic, dynamic>, kernel::owned_memory, P>(
      c, weights, std::span(std::data(bias), std::size(bias)), std::move(stages), q);
}

POLYMAC_END
