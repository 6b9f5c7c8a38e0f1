// SPDX-License-Identifier: MIT
// Linear and gated layers on real numbers in any arithmetic: operands are encoded for it, weights at construction, activations
// row by row when it runs.
//
//     x (floats) --coding<M>::encode_row--> operands of M, and a scale for the row where M has codes
//                                              |
//                              layer::linear<M>, layer::gated<M>
//                                              |
//                              times the scale of the row  --> y (floats)
#pragma once

#include "polymac/core/block.hpp"
#include "polymac/core/buffer.hpp"
#include "polymac/epilogue/dequantize.hpp"
#include "polymac/epilogue/scale.hpp"
#include "polymac/kernel/operands.hpp"
#include "polymac/kernel/scale_row.hpp"
#include "polymac/layer/gated.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/mac/bf16.hpp"
#include "polymac/mac/bit_weights.hpp"
#include "polymac/mac/dfp.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/fp16.hpp"
#include "polymac/mac/l_mul.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

POLYMAC_BEGIN
namespace layer {

/// How real numbers become operands of M. Where there is none, layer::encoded_linear does not run M.
///
///   code                                 one k of an activation
///   block                                k of an element of M
///   has_scale                            do encode_row and encode_weights give scales?
///   encode_row<I>(x, depth, to) -> float `depth` reals to as many codes; what a code is a multiple of. NaN or infinity in
///                                        a row makes the scale NaN
///   encode_weights(reals, to, scales)    columns x depth to columns x (depth / block); scales: one for each column
template <Mac M>
struct coding;

template <class M>
concept Encodable = Mac<M> && requires {
  typename coding<M>::code;
};

namespace detail {

/// Numbers that are converted one by one.
template <Mac M>
struct word_coding {
  using code = typename M::activation;
  static constexpr std::size_t block = 1;
  static constexpr bool has_scale = false;
  template <Isa I>
  static float encode_row(const float* x, std::size_t depth, code* to) noexcept {
    kernel::to_operands<I>(x, to, depth);
    return 1.0f;
  }
  static status encode_weights(matrix_view<const float> from, matrix_view<typename M::weight> to,
                               std::span<float>) noexcept {
    for (std::size_t c = 0; c < from.rows; ++c)
      for (std::size_t k = 0; k < from.columns; ++k) to(c, k) = static_cast<typename M::weight>(from(c, k));
    return {};
  }
};

/// Codes of 8 bits, symmetric, with a scale for the row: the largest magnitude is 127. To nearest, ties to even.
struct byte_rows {
  using code = std::int8_t;
  static constexpr bool has_scale = true;
  template <Isa I>
  static float encode_row(const float* x, std::size_t depth, std::int8_t* to) noexcept {
    const float most = kernel::largest_magnitude<I>(x, nullptr, depth);
    const float inverse = most >= 0x1p-120f ? 127.0f / most : 0.0f;  // of less and of NaN: codes of 0
    kernel::to_codes<I, true>(x, nullptr, &inverse, 127.0f, to, depth);
    return most / 127.0f;
  }
};

}  // namespace detail

template <>
struct coding<mac::float32> : detail::word_coding<mac::float32> {};
template <>
struct coding<mac::bf16> : detail::word_coding<mac::bf16> {};
template <>
struct coding<mac::fp16> : detail::word_coding<mac::fp16> {};

/// A scale for each column and each row.
template <>
struct coding<mac::int8> : detail::byte_rows {
  static constexpr std::size_t block = 1;
  static status encode_weights(matrix_view<const float> from, matrix_view<std::int8_t> to,
                               std::span<float> scales) noexcept {
    return mac::bit_weights<8>::encode(from, to, scales);
  }
};

/// A scale and (of more than three values) a zero point for each group of a column, a scale for each row.
template <int Bits, class Encoding, std::size_t Group>
requires(Group > 0) struct coding<mac::bit_weights<Bits, Encoding, Group>> : detail::byte_rows {
  using mac_type = mac::bit_weights<Bits, Encoding, Group>;
  static constexpr std::size_t block = Group;
  static status encode_weights(matrix_view<const float> from, matrix_view<typename mac_type::weight> to,
                               std::span<float> scales) noexcept {
    for (float& s : scales) s = 1.0f;
    return mac_type::encode(from, to, mac::code_range::asymmetric);
  }
};

/// An exponent for each row, and one for all weights.
template <int Shift>
struct coding<mac::dfp<std::int16_t, Shift>> {
  using mac_type = mac::dfp<std::int16_t, Shift>;
  using code = std::int16_t;
  static constexpr std::size_t block = 1;
  static constexpr bool has_scale = true;
  template <Isa I>
  static float encode_row(const float* x, std::size_t depth, code* to) noexcept {
    using format = typename mac_type::format;
    const float most = kernel::largest_magnitude<I>(x, nullptr, depth);
    const bool usable = most >= 0x1p-100f;  // of less and of NaN: codes of 0
    const int exponent = usable ? format::exponent_of(most) : 0;
    const float inverse = usable ? dynamic_fixed_point::product_scale(-exponent, 0) : 0.0f;
    kernel::to_codes<I, true>(x, nullptr, &inverse, static_cast<float>(format::limit), to, depth);
    return most == most ? dynamic_fixed_point::product_scale(exponent, 0) : most;
  }
  static status encode_weights(matrix_view<const float> from, matrix_view<code> to, std::span<float> scales) noexcept {
    const auto exponent = mac_type::encode({from.data, from.rows * from.columns}, {to.data, to.rows * to.columns});
    if (!exponent.ok()) return exponent.status();
    for (float& s : scales) s = dynamic_fixed_point::product_scale(*exponent, 0);
    return {};
  }
};

/// Floats, rounded to the bits of mantissa that a product reads: it would cut them off, and make every product too small.
template <int MantissaBits, int Offset, overflow Mode>
struct coding<mac::l_mul<MantissaBits, Offset, float, Mode>> {
  using code = float;
  static constexpr std::size_t block = 1;
  static constexpr bool has_scale = false;
  /// To nearest, ties away from zero; infinities and NaN stay what they are, the largest numbers become infinite.
  static float rounded(float x) noexcept {
    constexpr int cut = 23 - MantissaBits;
    if constexpr (cut == 0) return x;
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const bool special = (bits & 0x7F800000u) == 0x7F800000u;
    const std::uint32_t up = (bits + (std::uint32_t{1} << (cut > 0 ? cut - 1 : 0))) & ~((std::uint32_t{1} << cut) - 1);
    return std::bit_cast<float>(special ? bits : up);
  }
  template <Isa>
  static float encode_row(const float* x, std::size_t depth, float* to) noexcept {
    constexpr std::size_t together = 16;  // a loop of known length, which compilers make vector code of
    std::size_t k = 0;
    for (; k + together <= depth; k += together) {
      float held[together];
      for (std::size_t i = 0; i < together; ++i) held[i] = rounded(x[k + i]);
      for (std::size_t i = 0; i < together; ++i) to[k + i] = held[i];
    }
    for (; k < depth; ++k) to[k] = rounded(x[k]);
    return 1.0f;
  }
  static status encode_weights(matrix_view<const float> from, matrix_view<float> to, std::span<float>) noexcept {
    for (std::size_t c = 0; c < from.rows; ++c) encode_row<isa::scalar>(from.row(c), from.columns, to.row(c));
    return {};
  }
};

namespace detail {

/// Real weights as operands of M: joined matrices of outputs x depth, filled up to whole elements.
template <Encodable M>
class encoded_weights {
  using codes = coding<M>;

 public:
  using weight = typename M::weight;

  /// Refuses matrices of different depths and weights that M cannot encode.
  polymac::status encode(const char* who, std::span<const matrix_view<const float>> matrices) {
    if (matrices.empty() || matrices[0].columns == 0)
      return polymac::status::make(errc::shape, who, ": expected weights of at least 1 x 1");
    depth_ = matrices[0].columns;
    std::size_t columns = 0;
    for (const auto& m : matrices) {
      if (m.columns != depth_)
        return polymac::status::make(errc::shape, who, ": expected matrices of one depth, got ", depth_, " and ",
                                     m.columns);
      if (auto s = check_memory(who, m, m); !s.ok()) return s;
      columns += m.rows;
    }
    if (columns == 0) return polymac::status::make(errc::shape, who, ": expected weights of at least 1 x 1");
    const std::size_t filled = polymac::detail::round_up(depth_, codes::block);
    std::vector<float> joined(columns * filled, 0.0f);
    if (auto s = scales_.resize(codes::has_scale ? columns : 0); !s.ok()) return s;
    float* to = joined.data();
    for (const auto& m : matrices)
      for (std::size_t c = 0; c < m.rows; ++c, to += filled) std::copy_n(m.row(c), depth_, to);
    elements_.resize(columns * (filled / codes::block));
    columns_ = columns;
    return codes::encode_weights({joined.data(), columns, filled}, {elements_.data(), columns, filled / codes::block},
                                 {scales_.data(), scales_.size()});
  }
  std::size_t depth() const noexcept { return depth_; }
  /// columns x elements, of the columns [begin, end).
  matrix_view<const weight> view(std::size_t begin, std::size_t end) const noexcept {
    const std::size_t deep = elements_.size() / columns_;
    return {elements_.data() + begin * deep, end - begin, deep};
  }
  matrix_view<const weight> view() const noexcept { return view(0, columns_); }
  std::size_t columns() const noexcept { return columns_; }
  std::span<const float> scales() const noexcept { return {scales_.data(), scales_.size()}; }
  buffer<float>&& take_scales() noexcept { return std::move(scales_); }

 private:
  std::vector<weight> elements_;
  buffer<float> scales_;
  std::size_t depth_ = 0, columns_ = 0;
};

/// Rows of reals as operands of M, in a workspace.
template <Encodable M, Isa I>
class encoded_rows {
  using codes = coding<M>;
  using code = typename codes::code;
  static constexpr std::size_t alignment = 64;
  static_assert(codes::block == 1 || sizeof(typename M::activation) == codes::block * sizeof(code));

 public:
  /// Do rows need no encoding?
  static constexpr bool are_reals = std::is_same_v<M, mac::float32>;
  using element = typename M::activation;

  matrix_view<const element> elements;
  std::span<const float> scales;  ///< of the rows, where M has codes

  static std::size_t workspace_bytes(std::size_t rows, std::size_t depth) noexcept {
    return are_reals ? 0 : codes_bytes(rows, depth) + (codes::has_scale ? rows * sizeof(float) : 0) + alignment - 1;
  }
  polymac::status encode(const char* who, const matrix_view<const float>& x, std::size_t depth,
                         const workspace& ws) noexcept {
    if (x.columns != depth)
      return polymac::status::make(errc::shape, who, ": expected x of n x ", depth, ", got ", x.rows, " x ", x.columns);
    if (x.rows == 0) return {};
    if constexpr (are_reals) {
      elements = x;
    } else {
      if (auto s = check_memory(who, x, x); !s.ok()) return s;
      const std::size_t needed = workspace_bytes(x.rows, depth);
      if (ws.data == nullptr || ws.size < needed)
        return polymac::status::make(errc::short_buffer, who, ": expected a workspace of ", needed, " bytes, got ",
                                     ws.data == nullptr ? std::size_t{0} : ws.size);
      const std::size_t past = reinterpret_cast<std::uintptr_t>(ws.data) % alignment;
      std::byte* const at = ws.data + (past > 0 ? alignment - past : 0);
      // Trivial types: the bytes become objects by being written, before anything reads them.
      auto* const to = reinterpret_cast<code*>(at);
      auto* const row_scales = reinterpret_cast<float*>(at + codes_bytes(x.rows, depth));
      const std::size_t filled = polymac::detail::round_up(depth, codes::block);
      for (std::size_t r = 0; r < x.rows; ++r) {
        const float scale = codes::template encode_row<I>(x.row(r), depth, to + r * filled);
        if constexpr (codes::has_scale) row_scales[r] = scale;
        for (std::size_t k = depth; k < filled; ++k) to[r * filled + k] = code{};
      }
      elements = {reinterpret_cast<const element*>(to), x.rows, filled / codes::block};
      if constexpr (codes::has_scale) scales = {row_scales, x.rows};
    }
    return {};
  }

 private:
  static std::size_t codes_bytes(std::size_t rows, std::size_t depth) noexcept {
    return polymac::detail::round_up(rows * polymac::detail::round_up(depth, codes::block) * sizeof(code), alignment);
  }
};

}  // namespace detail

/// y = x w^T for real x, w and y, in the arithmetic M, by coding<M>.
///
/// Weights are given as matrices of outputs x depth, whose rows are joined: queries, keys and values of attention are one
/// product. Where elements of M are blocks, depths are filled up with zeros. Running is noexcept and allocates nothing.
template <Encodable M, Isa I = isa::native>
class encoded_linear {
  using codes = coding<M>;
  using rows = detail::encoded_rows<M, I>;
  using bias = std::conditional_t<mac_traits<M>::integer, std::int32_t, float>;
  using stage = std::conditional_t<codes::has_scale && mac_traits<M>::integer, epilogue::dequantize_stage<>,
                                   std::conditional_t<codes::has_scale, epilogue::scale_stage<>, epilogue::identity>>;

 public:
  using mac = M;
  using layer_type = linear<M, stage, I>;

  /// Matrices of equal depth, at least one. Throws polymac::error (or sets `status()` where exceptions are off) on shapes
  /// that do not fit and weights that M cannot encode: NaN and infinities of codes. O(weights), on the heap.
  explicit encoded_linear(std::span<const matrix_view<const float>> matrices) {
    status_ = construct(matrices);
    polymac::detail::raise_unless_ok(status_);
  }
  explicit encoded_linear(const matrix_view<const float>& weights)
      : encoded_linear(std::span<const matrix_view<const float>>(&weights, 1)) {}

  const polymac::status& status() const noexcept { return status_; }
  std::size_t columns() const noexcept { return layer_ ? layer_->columns() : 0; }
  /// Of x.
  std::size_t depth() const noexcept { return depth_; }
  /// Bytes of packed weights and their scales: what a call reads of them.
  std::size_t weight_bytes() const noexcept {
    return layer_ ? layer_->weight_bytes() + (codes::has_scale ? columns() * sizeof(float) : 0) : 0;
  }
  /// Bytes of workspace for so many rows, at any alignment.
  std::size_t workspace_bytes(std::size_t count) const noexcept { return rows::workspace_bytes(count, depth_); }
  /// Can weights be read back? Not where panels hold something else than elements of M, or elements are blocks.
  static constexpr bool reads_back = codes::block == 1 && !isa::encodes_weights<typename layer_type::atom>;
  /// Output `column` of the weights, as the reals that the codes stand for: depth() of them.
  void read(std::size_t column, float* to) const noexcept requires reads_back {
    const auto& packed = detail::insides::weights(*layer_);
    const float scale = codes::has_scale ? scales_[column] : 1.0f;
    for (std::size_t k = 0; k < depth_; ++k) to[k] = static_cast<float>(packed.read(0, column, k)) * scale;
  }
  /// The layer within, in words.
  text<511> explain() const noexcept {
    return layer_ ? layer_->explain() : text<511>::join("encoded_linear: no weights");
  }

  /// x: rows x depth, y: rows x columns; they do not overlap. `ws`: workspace_bytes(x.rows) bytes. Fails on views that do
  /// not fit and a short workspace, and then leaves y untouched. NaN or infinity in a row of x makes that row of y NaN
  /// where M has codes.
  polymac::status operator()(matrix_view<const float> x, matrix_view<float> y, workspace ws = {}) const noexcept {
    if (!status_.ok()) return status_;
    if constexpr (rows::are_reals) return (*layer_)(x, y);
    rows encoded;
    if (auto s = encoded.encode("encoded_linear", x, depth_, ws); !s.ok() || x.rows == 0) return s;
    if (auto s = (*layer_)(encoded.elements, y); !s.ok()) return s;
    if constexpr (codes::has_scale)
      for (std::size_t r = 0; r < y.rows; ++r) kernel::scale_row<I>(y.row(r), y.row(r), y.columns, encoded.scales[r]);
    return {};
  }

 private:
  polymac::status construct(std::span<const matrix_view<const float>> matrices) {
    detail::encoded_weights<M> w;
    if (auto s = w.encode("encoded_linear", matrices); !s.ok()) return s;
    depth_ = w.depth();
    if constexpr (std::is_same_v<stage, epilogue::identity>)
      layer_.emplace(w.view(), std::span<const bias>{});
    else
      layer_.emplace(w.view(), std::span<const bias>{}, stage(w.scales()));
    scales_ = w.take_scales();
    return layer_->status();
  }

  std::optional<layer_type> layer_;
  buffer<float> scales_;  ///< of the columns, where there are any
  std::size_t depth_ = 0;
  polymac::status status_;
};

/// y = activation(x gate^T) * (x up^T) for real x, weights and y, in the arithmetic M: layer::gated of operands that are
/// encoded by coding<M>. Running is noexcept and allocates nothing.
template <Encodable M, class Activation, Isa I = isa::native>
class encoded_gated {
  using codes = coding<M>;
  using rows = detail::encoded_rows<M, I>;

 public:
  using mac = M;
  using layer_type = gated<M, Activation, I, float, codes::has_scale>;

  /// Both: columns x depth. Throws as encoded_linear does.
  encoded_gated(const matrix_view<const float>& gate, const matrix_view<const float>& up) {
    status_ = construct(gate, up);
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  std::size_t columns() const noexcept { return layer_ ? layer_->columns() : 0; }
  std::size_t depth() const noexcept { return depth_; }
  /// Bytes of packed weights and their scales.
  std::size_t weight_bytes() const noexcept { return layer_ ? layer_->weight_bytes() : 0; }
  std::size_t workspace_bytes(std::size_t count) const noexcept { return rows::workspace_bytes(count, depth_); }

  /// As encoded_linear.
  polymac::status operator()(matrix_view<const float> x, matrix_view<float> y, workspace ws = {}) const noexcept {
    if (!status_.ok()) return status_;
    rows encoded;
    if (auto s = encoded.encode("encoded_gated", x, depth_, ws); !s.ok() || x.rows == 0) return s;
    if constexpr (codes::has_scale)
      return (*layer_)(encoded.elements, encoded.scales, y);
    else
      return (*layer_)(encoded.elements, y);
  }

 private:
  polymac::status construct(const matrix_view<const float>& gate, const matrix_view<const float>& up) {
    if (gate.rows != up.rows)
      return polymac::status::make(errc::shape, "encoded_gated: expected two matrices of one shape, got ", gate.rows,
                                   " x ", gate.columns, " and ", up.rows, " x ", up.columns);
    const matrix_view<const float> both[] = {up, gate};
    detail::encoded_weights<M> w;
    if (auto s = w.encode("encoded_gated", both); !s.ok()) return s;
    depth_ = w.depth();
    const std::size_t half = gate.rows;
    gated_parameters p;
    if constexpr (codes::has_scale) p.scales = w.scales().first(half), p.gate_scales = w.scales().last(half);
    layer_.emplace(w.view(0, half), w.view(half, 2 * half), p);
    return layer_->status();
  }

  std::optional<layer_type> layer_;
  std::size_t depth_ = 0;
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
