// SPDX-License-Identifier: MIT
// Layers whose weights are a product of two thin matrices: two contractions, with what lies between them kept in L1.
//
//     x rows x depth   --V (R x depth)-->   R   --U (columns x R)-->   y rows x columns
//                                        a block of rows at a time
//
// A block is 16 KiB of what lies between: half of an L1 data cache of 32 KiB; the other half is for the panel of weights
// and the rows that stream through. It is as large as that because each block reads both matrices of weights once. On
// Zen 4 blocks of 8 to 32 KiB take the same time, and as long as two whole layers whose result between them fits L2
// (784 x 512 x 512 at rank 64: 0.263 ms and 0.263): what a block saves is memory, and time only beyond L2.
#pragma once

#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/view_check.hpp"
#include "polymac/policy/low_rank.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Bytes of what lies between that are kept at a time.
inline constexpr std::size_t low_rank_block_bytes = 16384;
inline constexpr std::size_t low_rank_alignment = 64;

/// Rows of a block: as many as fit, in whole tiles, and one tile at least.
constexpr std::size_t low_rank_rows(std::size_t row_bytes, std::size_t tile_rows) noexcept {
  const std::size_t fit = low_rank_block_bytes / row_bytes / tile_rows * tile_rows;
  return fit > 0 ? fit : tile_rows;
}

/// May V and U be multiplied out without another result than that of roundings? Floats without a stage between them.
template <Mac M, class Middle>
inline constexpr bool can_fold = std::is_same_v<typename M::activation, float>&&
    std::is_same_v<typename M::weight, float>&& M::linear&& std::is_same_v<Middle, epilogue::identity>;

/// How many times (in thousandths) two thin layers are as fast as a dense one: a model of products, whose columns and
/// depths are filled up to tiles, and of what an output takes besides: 20 products of bytes, for requantisation (as
/// measured on Zen 4), none of floats.
template <class Atom, class Activation>
constexpr std::size_t low_rank_permille(std::size_t columns, std::size_t rank, std::size_t depth) noexcept {
  constexpr std::size_t of_output = sizeof(Activation) == 1 ? 20 : 0;
  const auto cost = [](std::size_t c, std::size_t k) {
    return polymac::detail::round_up(c, Atom::columns) * (polymac::detail::round_up(k, Atom::depth) + of_output);
  };
  return 1000 * cost(columns, depth) / (cost(rank, depth) + cost(columns, rank));
}

/// The workspace as a block of `elements` and what is left.
template <class T>
status cut_block(const char* who, workspace& ws, std::size_t bytes, T*& block) noexcept {
  if (ws.data == nullptr || ws.size < bytes + low_rank_alignment - 1)
    return status::make(errc::short_buffer, who, ": expected a workspace of ", bytes + low_rank_alignment - 1,
                        " bytes, got ", ws.data == nullptr ? std::size_t{0} : ws.size);
  const std::size_t past = reinterpret_cast<std::uintptr_t>(ws.data) % low_rank_alignment;
  const std::size_t skipped = past > 0 ? low_rank_alignment - past : 0;
  block = reinterpret_cast<T*>(ws.data + skipped);
  ws = {ws.data + skipped + bytes, ws.size - skipped - bytes};
  return {};
}

/// Checks the shapes of V and U.
constexpr status check_factors(const char* who, std::size_t rank, std::size_t v_rows, std::size_t u_columns) noexcept {
  if (v_rows == rank && u_columns == rank) return {};
  return status::make(errc::shape, who, ": expected V of ", rank, " x depth and U of columns x ", rank, ", got V of ",
                      v_rows, " rows and U of ", u_columns, " columns");
}

/// Says what the factors save.
template <class Atom, class Activation>
constexpr text<255> words_on_factors(std::size_t rank, std::size_t columns, std::size_t depth, bool folded) noexcept {
  const std::size_t percent = (columns + depth) * rank * 100 / (columns * depth);
  const std::size_t permille = low_rank_permille<Atom, Activation>(columns, rank, depth);
  auto t = text<255>::join("low_rank<", rank, "> of ", columns, " x ", depth, ": ", percent, " % of the products");
  if (folded)
    t.append(", multiplied out: one dense layer takes fewer; ");
  else if (policy::is_worth_folding(columns, rank, depth))
    t.append(", slower than a dense layer of U V; ");
  else
    for (const auto& piece :
         {text<31>::join(", predicted ", permille / 1000, ".", permille / 100 % 10, permille / 10 % 10),
          text<31>::join(" times as fast as dense; ")})
      t.append(piece.view());
  return t;
}

/// What a layer of two factors is, whatever it slides over: the two layers, or one of both multiplied out.
///
///   M, R, Middle  as in low_rank_linear
///   First, Last   the layers of V and of U
template <Mac M, std::size_t R, class Middle, class First, class Last>
class two_factors {
 public:
  using mac = M;
  using first_layer = First;
  using last_layer = Last;
  using activation = typename M::activation;
  using output = typename last_layer::output;
  static_assert(
      std::is_same_v<typename first_layer::output, activation>,
      "polymac: low_rank: the middle stages must give activations of the arithmetic: end them with requantize");

  const polymac::status& status() const noexcept { return status_; }
  /// One dense layer of U V?
  bool is_folded() const noexcept { return status_.ok() && !first_.has_value(); }
  std::size_t weight_bytes() const noexcept {
    return (first_ ? first_->weight_bytes() : 0) + (last_ ? last_->weight_bytes() : 0);
  }

 protected:
  static constexpr std::size_t row_bytes = R * sizeof(activation);

  /// `depth`: k of an output. Throws polymac::error, if it is not ok.
  two_factors(const polymac::status& checked, std::size_t depth) : status_(checked), depth_(depth) {
    polymac::detail::raise_unless_ok(status_);
  }
  /// Makes the layers: folded(weights) makes the one of columns x depth floats, both() the two. v_at(r, k): weights of V.
  template <class U, class At, class Folded, class Both>
  void make(const U& u, const At& v_at, const Folded& folded, const Both& both) {
    if (!status_.ok()) return;
    if constexpr (can_fold<M, Middle>)
      if (policy::is_worth_folding(u.rows, R, depth_)) {
        std::vector<float> w(u.rows * depth_);
        for (std::size_t o = 0; o < u.rows; ++o)
          for (std::size_t k = 0; k < depth_; ++k) {
            double sum = 0;
            for (std::size_t r = 0; r < R; ++r) sum += static_cast<double>(u(o, r)) * static_cast<double>(v_at(r, k));
            w[o * depth_ + k] = static_cast<float>(sum);
          }
        folded(w.data());
        status_ = last_->status();
        return;
      }
    both();
    status_ = first_->status().ok() ? last_->status() : first_->status();
  }
  /// In words; of so many columns, in blocks of `rows`, whose name is `unit`.
  text<1279> words(std::size_t columns, std::size_t rows, const char* unit, std::size_t workspace) const noexcept {
    if (!status_.ok()) return text<1279>::join(status_.text());
    const auto factors = words_on_factors<typename last_layer::atom, activation>(R, columns, depth_, is_folded());
    if (is_folded()) return text<1279>::join(factors.view(), last_->explain().view());
    return text<1279>::join(factors.view(), "blocks of ", rows, unit, ", workspace ", workspace, " bytes; first ",
                            first_->explain().view(), "; then ", last_->explain().view());
  }

  polymac::status status_;
  std::size_t depth_;
  std::optional<first_layer> first_;
  std::optional<last_layer> last_;
};

}  // namespace detail

/// y = epilogue(middle(x V^T) U^T + bias): layer::linear with weights U V.
///
///   M, E, I  as in layer::linear
///   Middle   what is made of the sums of the first contraction: it gives activations. Floats need none
///            (epilogue::identity: the sums themselves); integers are requantised there, to codes whose zero point is
///            that of q_middle
///   R        the rank
///
/// Floats without a stage between are multiplied out at construction where two contractions would be no fewer products
/// than one (policy::is_worth_folding): that rounds in other places, U V once and not the R sums. `is_folded()` tells.
template <Mac M, std::size_t R, epilogue::Stage Middle = epilogue::identity, epilogue::Stage E = epilogue::identity,
          Isa I = isa::native>
class low_rank_linear : public detail::two_factors<M, R, Middle, linear<M, Middle, I>, linear<M, E, I>> {
  using factors = detail::two_factors<M, R, Middle, linear<M, Middle, I>, linear<M, E, I>>;
  using factors::depth_, factors::first_, factors::last_, factors::row_bytes, factors::status_;

 public:
  using factors::is_folded;
  using typename factors::activation, typename factors::output, typename factors::first_layer;

  /// v: R x depth, u: columns x R, as the weights of layer::linear; bias: of the columns; q, q_middle: zero points of x
  /// and v, and of what lies between and u. Throws polymac::error (or sets `status()`) on what does not fit.
  template <class V, class U, class Bias>
  low_rank_linear(const V& v, const U& u, std::span<const Bias> bias, Middle middle = {}, E stages = {},
                  const quantization<M>& q = {}, const quantization<M>& q_middle = {})
      : factors(detail::check_factors("low_rank", R, v.rows, u.columns), v.columns) {
    this->make(
        u, [&](std::size_t r, std::size_t k) { return v(r, k); },
        [&](const auto* w) {
          last_.emplace(matrix_view<const float>(w, u.rows, v.columns), bias, std::move(stages), q);
        },
        [&] {
          first_.emplace(v, std::span<const std::int32_t>{}, std::move(middle), q);
          last_.emplace(u, bias, std::move(stages), q_middle);
        });
  }

  std::size_t columns() const noexcept { return last_ ? last_->columns() : 0; }
  std::size_t depth() const noexcept { return depth_; }
  /// Products of a row.
  std::size_t macs() const noexcept { return is_folded() ? columns() * depth_ : (columns() + depth_) * R; }
  /// Bytes of workspace for so many rows: a block of what lies between.
  std::size_t workspace_bytes(std::size_t rows) const noexcept {
    if (!status_.ok() || is_folded()) return 0;
    return polymac::detail::smaller(rows, block_rows()) * row_bytes + detail::low_rank_alignment - 1;
  }
  std::size_t workspace_bytes() const noexcept { return workspace_bytes(block_rows()); }

  /// x: rows x depth; y: rows x columns; they must not overlap; `rows`: those to compute, all by default.
  polymac::status operator()(matrix_view<const activation> x, matrix_view<output> y, workspace ws = {},
                             row_range rows = {}) const noexcept {
    if (!status_.ok()) return status_;
    if (is_folded()) return (*last_)(x, y, rows);
    if (x.columns != depth_ || y.columns != columns() || x.rows != y.rows)
      return polymac::status::make(errc::shape, "low_rank: expected x of n x ", depth_, " and y of n x ", columns(),
                                   ", got ", x.rows, " x ", x.columns, " and ", y.rows, " x ", y.columns);
    if (x.rows > 0)
      if (const auto s = detail::check_memory("low_rank", x, y); !s.ok()) return s;
    const std::size_t last = polymac::detail::smaller(rows.end, x.rows);
    if (rows.begin >= last) return {};
    const std::size_t count = polymac::detail::smaller(last - rows.begin, block_rows());
    activation* block = nullptr;
    if (const auto s = detail::cut_block("low_rank", ws, count * row_bytes, block); !s.ok()) return s;
    for (std::size_t row = rows.begin; row < last; row += count) {
      const std::size_t n = polymac::detail::smaller(count, last - row);
      const matrix_view<activation> between(block, n, R);
      auto s = (*first_)(matrix_view<const activation>(x.row(row), n, x.columns, x.stride), between);
      if (s.ok()) s = (*last_)(between, matrix_view<output>(y.row(row), n, y.columns, y.stride));
      if (!s.ok()) return s;
    }
    return {};
  }

  /// What the rank saves, and both layers, in words.
  text<1279> explain() const noexcept { return this->words(columns(), block_rows(), " rows", workspace_bytes()); }

 private:
  std::size_t block_rows() const noexcept {
    return first_ ? detail::low_rank_rows(row_bytes, first_->row_alignment()) : 0;
  }
};

/// layer::conv2d with weights U V: V is a convolution to R channels, U one of 1 x 1. Blocks are lines of output pixels,
/// or parts of one line where that is longer than a block. The rest as in low_rank_linear.
template <Mac M, std::size_t R, epilogue::Stage Middle = epilogue::identity, epilogue::Stage E = epilogue::identity,
          Isa I = isa::native>
class low_rank_conv2d : public detail::two_factors<M, R, Middle, conv2d<M, Middle, I>, conv2d<M, E, I>> {
  using factors = detail::two_factors<M, R, Middle, conv2d<M, Middle, I>, conv2d<M, E, I>>;
  using factors::depth_, factors::first_, factors::last_, factors::row_bytes, factors::status_;

 public:
  using factors::is_folded;
  using typename factors::activation, typename factors::output, typename factors::first_layer;

  /// v: R x height x width x channels (OHWI), u: output channels x R; one group, padding of fewer pixels than a window.
  template <class V, class U, class Bias>
  low_rank_conv2d(const convolution& c, const V& v, const matrix_view<U>& u, std::span<const Bias> bias,
                  Middle middle = {}, E stages = {}, const quantization<M>& q = {},
                  const quantization<M>& q_middle = {})
      : factors(check(c, v, u.columns), v.height * v.width * v.channels) {
    this->make(
        u,
        [&](std::size_t r, std::size_t k) {
          return v(r, k / v.channels / v.width, k / v.channels % v.width, k % v.channels);
        },
        [&](const auto* w) {
          last_.emplace(c, image_view<const float>(w, u.rows, v.height, v.width, v.channels), bias, std::move(stages),
                        q);
        },
        [&] {
          first_.emplace(c, v, std::span<const std::int32_t>{}, std::move(middle), q);
          last_.emplace(convolution{}, as_image(matrix_view<const U>(u.data, u.rows, u.columns, u.stride)), bias,
                        std::move(stages), q_middle);
        });
  }

  std::size_t in_channels() const noexcept { return first_ ? first_->in_channels() : last_ ? last_->in_channels() : 0; }
  std::size_t out_channels() const noexcept { return last_ ? last_->out_channels() : 0; }
  extent2d output_size(extent2d input) const noexcept {
    return first_ ? first_->output_size(input) : last_ ? last_->output_size(input) : extent2d{0, 0};
  }
  std::size_t macs(extent2d input) const noexcept {
    if (!status_.ok()) return 0;
    return first_ ? first_->macs(input) + last_->macs(output_size(input)) : last_->macs(input);
  }
  /// Bytes of workspace that serve any image.
  std::size_t workspace_bytes() const noexcept {
    if (!status_.ok()) return 0;
    if (is_folded()) return last_->workspace_bytes();
    return block_pixels() * row_bytes + detail::low_rank_alignment - 1 +
           polymac::detail::greater(first_->workspace_bytes(), last_->workspace_bytes());
  }
  /// Those with which an image of that size takes the least time.
  std::size_t workspace_bytes(extent2d input) const noexcept {
    if (!status_.ok()) return 0;
    if (is_folded()) return last_->workspace_bytes(input);
    std::size_t most = workspace_bytes();
    window_geometry g{};
    if (!resolve(taps(), input, g).ok()) return most;
    const std::size_t fixed = block_pixels() * row_bytes + detail::low_rank_alignment - 1;
    for_each_block(g.output, {}, 1, [&](std::size_t, std::size_t y, std::size_t x, extent2d size) {
      const part p = part_of(g, input, y, x, size);
      most = polymac::detail::greater(most, fixed + first_->workspace_bytes(p.extent, size, p.padding));
      return true;
    });
    return most;
  }

  /// x: n x height x width x channels; y: n x output height x output width x output channels; `rows`: output pixels.
  polymac::status operator()(image_view<const activation> x, image_view<output> y, workspace ws = {},
                             row_range rows = {}) const noexcept {
    if (!status_.ok()) return status_;
    if (is_folded()) return (*last_)(x, y, ws, rows);
    window_geometry g{};
    auto s = detail::check_images("low_rank", taps(), x, y, in_channels(), out_channels(), g);
    if (!s.ok()) return s;
    if (ws.data == nullptr || ws.size < workspace_bytes())
      return polymac::status::make(errc::short_buffer, "low_rank: expected a workspace of ", workspace_bytes(),
                                   " bytes, got ", ws.data == nullptr ? std::size_t{0} : ws.size);
    activation* block = nullptr;
    if (s = detail::cut_block("low_rank", ws, block_pixels() * row_bytes, block); !s.ok()) return s;
    for_each_block(g.output, rows, x.batch, [&](std::size_t n, std::size_t oy, std::size_t ox, extent2d size) {
      const part p = part_of(g, {x.height, x.width}, oy, ox, size);
      auto from = x;
      from.data = x.pixel(n, p.y, p.x);
      from.batch = 1, from.height = p.extent.height, from.width = p.extent.width;
      auto to = y;
      to.data = y.pixel(n, oy, ox);
      to.batch = 1, to.height = size.height, to.width = size.width;
      const image_view<activation> between(block, 1, size.height, size.width, R);
      s = first_->on_part(from, between, p.padding, ws);
      if (s.ok()) s = (*last_)(between, to, ws);
      return s.ok();
    });
    return s;
  }

  text<1279> explain() const noexcept {
    return this->words(out_channels(), block_pixels(), " pixels", workspace_bytes());
  }

 private:
  struct part {
    std::size_t y, x;
    extent2d extent;
    padding2d padding;
  };

  template <class V>
  static polymac::status check(const convolution& c, const V& v, std::size_t u_columns) noexcept {
    auto s = detail::check_factors("low_rank", R, v.batch, u_columns);
    if (s.ok() && c.groups != 1)
      s = polymac::status::make(errc::unsupported, "low_rank: expected one group, got ", c.groups);
    const std::size_t down = effective_kernel(v.height, c.dilation.height),
                      across = effective_kernel(v.width, c.dilation.width);
    const padding2d& p = c.padding.pixels;
    if (s.ok() && (p.top >= down || p.bottom >= down || p.left >= across || p.right >= across) && p != padding2d{})
      s = polymac::status::make(errc::unsupported, "low_rank: expected padding of fewer pixels than the ", down, " x ",
                                across, " of a window");
    return s;
  }
  const window& taps() const noexcept { return detail::insides::taps(*first_); }
  /// Output pixels of a block: one tile at least.
  std::size_t block_pixels() const noexcept { return detail::low_rank_rows(row_bytes, first_layer::atom::max_rows); }
  part part_of(const window_geometry& g, extent2d input, std::size_t oy, std::size_t ox, extent2d size) const noexcept {
    const window& w = taps();
    const axis_part y = part_of_axis(oy, oy + size.height, w.kernel.height, w.stride.height, w.dilation.height,
                                     g.padding.top, g.padding.bottom, input.height);
    const axis_part x = part_of_axis(ox, ox + size.width, w.kernel.width, w.stride.width, w.dilation.width,
                                     g.padding.left, g.padding.right, input.width);
    return {y.begin, x.begin, {y.end - y.begin, x.end - x.begin}, {y.before, x.before, y.after, x.after}};
  }
  /// f(image, first line, first column, extent) for blocks of the output pixels of `rows`, until it gives false.
  template <class Function>
  void for_each_block(extent2d outputs, row_range rows, std::size_t batch, const Function& f) const noexcept {
    const std::size_t pixels = outputs.height * outputs.width, most = block_pixels();
    const std::size_t last = polymac::detail::smaller(rows.end, batch * pixels);
    for (std::size_t row = rows.begin; row < last;) {
      const std::size_t y = row % pixels / outputs.width, x = row % outputs.width;
      extent2d size{1, polymac::detail::smaller(polymac::detail::smaller(most, last - row), outputs.width - x)};
      if (size.width == outputs.width) {
        const std::size_t lines = polymac::detail::smaller(most, last - row) / outputs.width;
        size.height = polymac::detail::smaller(lines, outputs.height - y);
      }
      if (!f(row / pixels, y, x, size)) return;
      row += size.height * size.width;
    }
  }
};

}  // namespace layer

/// Builds a layer::low_rank_linear: `linear<mac::int8, policy::low_rank<16>>(v, u, bias, requantize(...),
/// requantize(...))`. See there.
template <Mac M, policy::LowRank P, Isa I = isa::native, class V, class U, class Bias,
          epilogue::Stage Middle = epilogue::identity, epilogue::Stage E = epilogue::identity>
auto linear(const V& v, const U& u, const Bias& bias, Middle middle = {}, E stages = {},
            const layer::quantization<M>& q = {}, const layer::quantization<M>& q_middle = {}) {
  return layer::low_rank_linear<M, P::rank, Middle, E, I>(v, u, std::span(std::data(bias), std::size(bias)),
                                                          std::move(middle), std::move(stages), q, q_middle);
}
/// Builds a layer::low_rank_conv2d: `conv2d<mac::int8, policy::low_rank<16>>({.padding = same}, v, u, bias, ...)`.
template <Mac M, policy::LowRank P, Isa I = isa::native, class V, class U, class Bias,
          epilogue::Stage Middle = epilogue::identity, epilogue::Stage E = epilogue::identity>
auto conv2d(const layer::convolution& c, const V& v, const matrix_view<U>& u, const Bias& bias, Middle middle = {},
            E stages = {}, const layer::quantization<M>& q = {}, const layer::quantization<M>& q_middle = {}) {
  return layer::low_rank_conv2d<M, P::rank, Middle, E, I>(c, v, u, std::span(std::data(bias), std::size(bias)),
                                                          std::move(middle), std::move(stages), q, q_middle);
}

POLYMAC_END
