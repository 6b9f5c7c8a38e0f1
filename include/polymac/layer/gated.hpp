// SPDX-License-Identifier: MIT
// Gated linear units: y = (x w^T + b) * activation(x v^T + c).
#pragma once

#include "polymac/core/block.hpp"
#include "polymac/core/buffer.hpp"
#include "polymac/kernel/gate.hpp"
#include "polymac/layer/dynamic_range.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/view_bounds.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// What belongs to the two halves of a gated unit, one for each column; all of it is copied.
struct gated_parameters {
  std::span<const float> bias{};         ///< b, or none
  std::span<const float> gate_bias{};    ///< c, or none
  std::span<const float> scales{};       ///< of the codes w: one, or one for each column; of arithmetics on codes only
  std::span<const float> gate_scales{};  ///< of the codes v
};

namespace detail {

template <class T>
inline constexpr bool is_code = std::is_integral_v<T>;
template <class T, std::size_t N>
inline constexpr bool is_code<block_of<T, N>> = std::is_integral_v<T>;

/// Are the sums of M codes, which need scales to be reals?
template <Mac M>
inline constexpr bool sums_are_codes =
    std::is_integral_v<typename mac_traits<M>::sum> || is_code<typename M::activation>;

/// The rows of w and v in turns, as one matrix.
template <class W>
struct interleaved_rows {
  const W& w;
  const W& v;
  std::size_t rows = 2 * w.rows, columns = w.columns;
  decltype(w.data) data = w.data;
  constexpr auto operator()(std::size_t column, std::size_t k) const noexcept {
    return column % 2 == 0 ? w(column / 2, k) : v(column / 2, k);
  }
};

}  // namespace detail

/// y[rows][columns] = (x w^T + b) * activation(x v^T + c): GLU (activation::sigmoid), ReGLU (relu), GEGLU (gelu, or
/// gelu_tanh), SwiGLU (silu), bilinear (linear): Shazeer, GLU Variants Improve Transformer, 2020, arXiv 2002.05202.
///
///   M           the arithmetic of both products
///   Activation  a function of polymac::activation, or any other with a name that takes a float and a register of floats
///   I           the instruction set
///   Out         float, bfloat16 or float16 (rounded to nearest even), as the next product wants it
///   OnCodes     are the sums codes with scales? By default where activations of M are integers or blocks of them
///
/// One product of 2 columns x depth weights: those of w and v alternate in the panels, so an output is made of two sums
/// that lie side by side in a tile, and half as many columns are written as are added up (kernel/gate.hpp). The
/// sums themselves never leave L1.
///
/// Of codes, sums become reals first, with a scale for each column and one for each row of x, and the biases are added
/// to the reals; of 8-bit codes, the layer quantises rows of floats itself, as layer::dynamic_range does, and gives its
/// bits. Reals start from the biases, and have the bits of layer::linear on the same weights. Then activation and
/// product are taken in float: kernel/functions.hpp has the errors. NaN propagates.
///
/// Weights are checked and packed once, at construction; nothing given there needs to outlive it. Running is noexcept,
/// allocates nothing, and may be done by several threads at once on different rows.
template <Mac M, class Activation, Isa I = isa::native, class Out = float, bool OnCodes = detail::sums_are_codes<M>>
class gated {
  using product = linear<M, epilogue::identity, I>;
  using sum = typename mac_traits<M>::sum;
  static_assert(OnCodes || std::is_same_v<sum, float>,
                "polymac: gated needs sums that are reals, or codes with scales (OnCodes)");
  static_assert(
      std::is_same_v<Out, float> || std::is_same_v<Out, bfloat16> || std::is_same_v<Out, float16>,
      "polymac: gated gives float, bfloat16 or float16; codes are made of floats row by row, by the next layer");
  static_assert(
      requires(const Activation& f, float x) {
        { f(x) } -> std::convertible_to<float>;
        { Activation::name } -> std::convertible_to<const char*>;
      },
      "polymac: the activation of gated is a function of float with a name: activation::silu, activation::gelu ...");

 public:
  using mac = M;
  using atom = typename product::atom;
  using activation = typename M::activation;
  using output = Out;
  static_assert(atom::columns % 2 == 0 && kernel::narrow_atom<atom>::columns % 2 == 0,
                "polymac: gated needs an atom whose panels have an even number of columns, for pairs of them to stay "
                "together: not one of an arithmetic that is watched product by product (probed)");
  /// Are floats quantised here, row by row?
  static constexpr bool quantises = OnCodes && std::is_same_v<activation, std::int8_t>;

  /// w, v: columns x depth, k contiguous, of one type, as the weights of layer::linear. Throws polymac::error (or sets
  /// `status()` where exceptions are off) on shapes and parameters that do not fit. O(columns * depth).
  template <class Weights>
  gated(const Weights& w, const Weights& v, const gated_parameters& parameters = {}, const Activation& f = {})
      : activation_(f) {
    status_ = construct(w, v, parameters);
    polymac::detail::raise_unless_ok(status_);
  }

  /// Why the layer could not be built; ok where it can run.
  const polymac::status& status() const noexcept { return status_; }
  std::size_t columns() const noexcept { return product_ ? product_->columns() / 2 : 0; }
  std::size_t depth() const noexcept { return product_ ? product_->depth() : 0; }
  /// Rows that are computed together: threads had better begin at multiples of it.
  std::size_t row_alignment() const noexcept { return product_ ? product_->row_alignment() : 1; }
  /// Bytes of packed weights, start values, scales and biases.
  std::size_t weight_bytes() const noexcept {
    return (product_ ? product_->weight_bytes() : 0) + (scales_.size() + biases_.size()) * sizeof(float);
  }

  /// Reals: computes the rows of `rows` (all by default). x: rows x depth; y: rows x columns; they must not overlap.
  /// Fails on views that do not fit, and then leaves y untouched.
  polymac::status operator()(matrix_view<const activation> x, matrix_view<Out> y, row_range rows = {}) const noexcept
      requires(!OnCodes) {
    if (const auto s = check(x, y); !s.ok() || x.rows == 0) return s;
    multiply(x, kernel::gate<Activation, Out>(activation_), y, rows);
    return {};
  }
  /// Codes: the same, row r of x in units of row_scales[r] (no scales: of 1).
  polymac::status operator()(matrix_view<const activation> x, std::span<const float> row_scales, matrix_view<Out> y,
                             row_range rows = {}) const noexcept requires OnCodes {
    auto s = check(x, y);
    if (s.ok() && !row_scales.empty() && row_scales.size() != x.rows)
      s = polymac::status::make(errc::shape, "gated: expected a scale for each of ", x.rows, " rows or none, got ",
                                row_scales.size());
    if (!s.ok() || x.rows == 0) return s;
    multiply(x, stages(row_scales.empty() ? nullptr : row_scales.data()), y, rows);
    return {};
  }
  /// Floats that are quantised row by row, the largest magnitude of a row being 127 (layer::dynamic_range); a row with
  /// NaN or infinity gives NaN. `ws` needs workspace_bytes(of so many rows), at any alignment.
  polymac::status operator()(matrix_view<const float> x, matrix_view<Out> y, workspace ws,
                             row_range rows = {}) const noexcept requires quantises {
    if (const auto s = check(x, y); !s.ok() || x.rows == 0) return s;
    const std::size_t end = polymac::detail::smaller(rows.end, x.rows);
    if (rows.begin >= end) return {};
    const std::size_t count = end - rows.begin, needed = workspace_bytes(count);
    if (ws.data == nullptr || ws.size < needed)
      return polymac::status::make(errc::short_buffer, "gated: expected a workspace of ", needed, " bytes for ", count,
                                   " rows, got ", ws.data == nullptr ? std::size_t{0} : ws.size);
    const std::size_t skip = (alignment - reinterpret_cast<std::uintptr_t>(ws.data) % alignment) % alignment;
    // Trivial types: the bytes become objects by being written, before anything reads them.
    auto* const codes = reinterpret_cast<activation*>(ws.data + skip);
    auto* const scales = reinterpret_cast<float*>(ws.data + skip + code_bytes(count));
    for (std::size_t r = 0; r < count; ++r) scales[r] = quantise(x.row(rows.begin + r), codes + r * depth());
    // The codes as rows of x, of which only those of the range are there.
    const matrix_view<const activation> q(codes, count, depth());
    const matrix_view<Out> part(y.row(rows.begin), count, y.columns, y.stride);
    multiply(q, stages(scales), part, {});
    return {};
  }
  /// Bytes of workspace for so many rows of floats: a code for each element, and a scale for each row. The largest
  /// number where that exceeds the address space.
  std::size_t workspace_bytes(std::size_t rows) const noexcept requires quantises {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    if (rows > most / 8 / (depth() + alignment)) return most;
    return code_bytes(rows) + rows * sizeof(float) + alignment - 1;
  }

  /// The gate and the product, in words.
  text<639> explain() const noexcept {
    if (!status_.ok()) return text<639>::join(status_.text());
    return text<639>::join("gated by ", Activation::name, ", ", columns(), " columns of two sums each",
                           quantises ? ", floats quantised row by row" : "", ": ", product_->explain().view());
  }

 private:
  static constexpr std::size_t alignment = 64;
  std::size_t code_bytes(std::size_t rows) const noexcept {
    return (rows * depth() * sizeof(activation) + alignment - 1) / alignment * alignment;
  }
  kernel::scaled_gate<Activation, Out> stages(const float* row_scales) const noexcept {
    return {activation_, scales_.data(), biases_.data(), row_scales};
  }
  template <class Stages>
  void multiply(const matrix_view<const activation>& x, const Stages& stages, const matrix_view<Out>& y,
                row_range rows) const noexcept {
    detail::multiply_rows<atom>(detail::insides::weights(*product_), x, stages, y, rows,
                                detail::insides::tiles_permitted(*product_));
  }

  /// Writes the codes of a row; returns its scale.
  float quantise(const float* x, activation* codes) const noexcept {
    const float most = detail::largest_magnitude(image_view<const float>(x, 1, 1, 1, depth()), 0);
    const bool finite = polymac::detail::finite(most);
    const detail::symmetric_code code{most > 0.0f && finite ? 127.0f / most : 0.0f};
    for (std::size_t i = 0; i < depth(); ++i) codes[i] = code(x[i]);
    return finite ? most / 127.0f : std::numeric_limits<float>::quiet_NaN();
  }

  template <class X>
  polymac::status check(const X& x, const matrix_view<Out>& y) const noexcept {
    if (!status_.ok()) return status_;
    if (x.columns != depth() || y.columns != columns() || x.rows != y.rows)
      return polymac::status::make(errc::shape, "gated: expected x of n x ", depth(), " and y of n x ", columns(),
                                   ", got ", x.rows, " x ", x.columns, " and ", y.rows, " x ", y.columns);
    return x.rows == 0 ? polymac::status{} : detail::check_memory("gated", x, y);
  }

  /// Copies what the two halves have, in turns; `count`: expected of each, 1 or none are allowed where they are.
  static polymac::status interleave(const char* what, std::span<const float> first, std::span<const float> second,
                                    std::size_t count, bool needed, buffer<float>& to) noexcept {
    for (const auto& half : {first, second})
      if (half.size() != count && (needed ? half.size() != 1 : !half.empty()))
        return polymac::status::make(errc::shape, "gated: expected ", what, " for each of ", count, " columns or ",
                                     needed ? "one" : "none", ", got ", first.size(), " and ", second.size());
    auto s = to.resize(2 * count);
    for (std::size_t i = 0; s.ok() && i < 2 * count; ++i) {
      const auto& half = i % 2 == 0 ? first : second;
      to[i] = half.empty() ? 0.0f : half[half.size() == 1 ? 0 : i / 2];
    }
    return s;
  }

  template <class Weights>
  polymac::status construct(const Weights& w, const Weights& v, const gated_parameters& p) {
    if (w.rows != v.rows || w.columns != v.columns)
      return polymac::status::make(errc::shape, "gated: expected w and v of one shape, got ", w.rows, " x ", w.columns,
                                   " and ", v.rows, " x ", v.columns);
    if (w.rows == 0 || w.columns == 0 || w.rows > std::numeric_limits<std::size_t>::max() / 64)
      return polymac::status::make(errc::shape,
                                   "gated: expected weights of at least 1 x 1 that fit the address space, "
                                   "got ",
                                   w.rows, " columns x ", w.columns, " deep");
    if (!detail::has_data(w.data) || !detail::has_data(v.data))
      return polymac::status::make(errc::parameter, "gated: the view ", detail::has_data(w.data) ? "v" : "w",
                                   " has no data");
    auto s = interleave("a bias", p.bias, p.gate_bias, w.rows, false, biases_);
    if (!s.ok()) return s;
    if constexpr (OnCodes) {
      s = interleave("a scale", p.scales, p.gate_scales, w.rows, true, scales_);
      for (std::size_t i = 0; s.ok() && i < scales_.size(); ++i)
        if (!(scales_[i] > 0.0f) || !polymac::detail::finite(scales_[i]))
          s = polymac::status::make(errc::parameter, "gated: expected finite scales above 0, column ", i / 2, " of ",
                                    i % 2 == 0 ? "w" : "v");
    } else if (!p.scales.empty() || !p.gate_scales.empty()) {
      s = polymac::status::make(errc::parameter, "gated: expected no scales, for sums of ", M::name, " are reals");
    }
    if (!s.ok()) return s;
    const detail::interleaved_rows<Weights> both{w, v};
    if constexpr (OnCodes) {
      product_.emplace(both, std::span<const sum>{});
    } else {
      const bool none = p.bias.empty() && p.gate_bias.empty();
      product_.emplace(both, std::span<const float>(biases_.data(), none ? 0 : biases_.size()));
      biases_ = {};
    }
    return product_->status();
  }

  std::optional<product> product_;
  Activation activation_;
  buffer<float> scales_, biases_;  ///< of codes: of the columns of sums, in turns
  polymac::status status_;
};

}  // namespace layer

/// Builds a layer::gated: `auto unit = gated<mac::float32, activation::silu>(w, v)`. See there.
template <Mac M, class Activation, Isa I = isa::native, class Weights>
auto gated(const Weights& w, const Weights& v, const layer::gated_parameters& parameters = {},
           const Activation& f = {}) {
  return layer::gated<M, Activation, I>(w, v, parameters, f);
}

POLYMAC_END
