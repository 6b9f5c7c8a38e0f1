// SPDX-License-Identifier: MIT
// Product of two matrices that both change from call to call, as training and attention have them.
//
//     for each block of columns that fits L2 beside the rows
//       pack its weights into the workspace               at the speed of memory: isa/panels.hpp
//       for all rows: the loop nest of every layer        kernel/contract.hpp, kernel/contract_tiles.hpp
//
// Every weight is packed once and used by all rows while it is in L2. From a few dozen rows on packing is lost beside
// the products; for a few rows it is most of the work: weights that stay the same belong into layer::linear.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/kernel/pack.hpp"
#include "polymac/layer/columns_from.hpp"
#include "polymac/layer/matrix_rows.hpp"
#include "polymac/layer/quantization.hpp"
#include "polymac/layer/tile_permission.hpp"
#include "polymac/layer/view_bounds.hpp"

#include <cstddef>
#include <cstdint>

POLYMAC_BEGIN
namespace layer {

/// A matrix with its rows and columns exchanged, nothing moved: weights of `product` that are given depth x columns.
template <class T>
struct transposed {
  matrix_view<T> matrix;
  constexpr explicit transposed(matrix_view<T> m) noexcept : matrix(m) {}
};

namespace detail {

/// How a product of `columns` columns over `depth` k is cut into blocks of columns, and the workspace of one block.
template <Mac M, Isa I>
class product_plan {
 public:
  using atom = isa::best_atom<M, I>;
  using packed = kernel::packed_weights<M, atom, dynamic, dynamic, kernel::lent_memory>;

  constexpr product_plan(std::size_t columns, std::size_t depth) noexcept : depth_(depth) {
    const std::size_t panels = polymac::detail::divide_up(columns, atom::columns);
    std::size_t most = block_bytes / atom::columns / sizeof(typename M::weight) / (depth > 0 ? depth : 1);
    most = most < least_panels ? least_panels : most;
    // Blocks of about the same size, of whole tiles.
    const std::size_t blocks = panels > most ? polymac::detail::divide_up(panels, most) : 1;
    const std::size_t each = polymac::detail::round_up(polymac::detail::divide_up(panels, blocks), atom::max_panels);
    columns_ = polymac::detail::smaller(each * atom::columns, columns);
    status_ = packed::measure({1, columns_, depth}, size_);
  }
  /// Columns of a block.
  constexpr std::size_t columns() const noexcept { return columns_; }
  constexpr const polymac::status& status() const noexcept { return status_; }
  constexpr std::size_t bytes() const noexcept {
    return bytes_of<typename packed::panel_element>(size_.weights) +
           bytes_of<typename packed::accumulator>(size_.starts) + bytes_of<typename packed::wide>(size_.bias) +
           bytes_of<typename packed::accumulator>(size_.tile_starts) + line;
  }
  /// Weights without contents in a workspace of bytes().
  packed place(workspace ws) const noexcept {
    std::byte* at = ws.data + (line - reinterpret_cast<std::uintptr_t>(ws.data) % line) % line;
    const auto take = [&at]<class T>(T*, std::size_t count) {
      // Trivial types: the bytes become objects by being written, which packing does before anybody reads them.
      lent_buffer<T> taken(reinterpret_cast<T*>(at), count);
      at += bytes_of<T>(count);
      return taken;
    };
    using weight = typename packed::panel_element;
    using accumulator = typename packed::accumulator;
    using wide = typename packed::wide;
    const auto weights = take(static_cast<weight*>(nullptr), size_.weights);
    const auto starts = take(static_cast<accumulator*>(nullptr), size_.starts);
    const auto bias = take(static_cast<wide*>(nullptr), size_.bias);
    return packed(weights, starts, bias, take(static_cast<accumulator*>(nullptr), size_.tile_starts));
  }

 private:
  static constexpr std::size_t line = 64;
  /// Weights of a block: with rows of x and y they stay in L2. Tiles are on processors with 2 MiB of it.
  static constexpr std::size_t block_bytes = std::size_t{kernel::has_tiles<atom> ? 512 : 256} * 1024;
  static constexpr std::size_t least_panels = atom::max_panels;

  template <class T>
  static constexpr std::size_t bytes_of(std::size_t count) noexcept {
    return polymac::detail::round_up(count * sizeof(T), line);
  }

  std::size_t depth_ = 0, columns_ = 0;
  typename packed::extent size_{};
  polymac::status status_;
};

template <Mac M, Isa I, class E>
status run_product(matrix_view<const typename M::activation> x, kernel::plain_weights<typename M::weight> w,
                   matrix_view<epilogue::output_of<E, typename mac_traits<M>::sum>> y, workspace ws, const E& stages,
                   row_range rows) noexcept {
  using plan = product_plan<M, I>;
  using wide = typename mac_traits<M>::wide;
  const std::size_t columns = y.columns, depth = x.columns;
  const plan blocks(columns, depth);
  if (!blocks.status().ok()) return blocks.status();
  if (ws.data == nullptr || ws.size < blocks.bytes())
    return status::make(errc::short_buffer, "product: expected a workspace of ", blocks.bytes(), " bytes, got ",
                        ws.data == nullptr ? std::size_t{0} : ws.size);
  auto packed = blocks.place(ws);
  for (std::size_t c = 0; c < columns; c += blocks.columns()) {
    const std::size_t count = polymac::detail::smaller(blocks.columns(), columns - c);
    auto part = w;
    part.data = w.at(c, 0);
    const auto s = packed.pack(
        {1, count, depth, 1, 0, columns},
        [&](std::size_t, std::size_t column, std::size_t, std::size_t k) { return part(column, k); },
        [](std::size_t, std::size_t) { return wide{}; }, typename M::activation{}, part);
    if (!s.ok()) return s;
    auto out = y;
    out.data += c;
    out.columns = count;
    multiply_rows<typename plan::atom>(packed, x, columns_from<E>(stages, c), out, rows,
                                       may_use_tiles<typename plan::atom>(packed, true));
  }
  return {};
}

template <Mac M, Isa I, class E>
status check_product(const matrix_view<const typename M::activation>& x, const matrix_view<const typename M::weight>& w,
                     bool by_depth, const matrix_view<epilogue::output_of<E, typename mac_traits<M>::sum>>& y,
                     const E& stages, const char* order) noexcept {
  const std::size_t columns = by_depth ? w.columns : w.rows, depth = by_depth ? w.rows : w.columns;
  if (depth == 0 || x.columns != depth || y.columns != columns || x.rows != y.rows)
    return status::make(errc::shape, "product: expected x of n x k, ", order, " and y of n x m, k at least 1, got ",
                        x.rows, " x ", x.columns, ", ", w.rows, " x ", w.columns, " and ", y.rows, " x ", y.columns);
  if (x.rows == 0 || columns == 0) return {};
  if (status s = check_memory("product", x, y); !s.ok()) return s;
  if (!has_data(w.data)) return status::make(errc::parameter, "product: the view w has no data");
  if (!strides_fit(w))
    return status::make(errc::shape,
                        "product: the stride of w is smaller than its extents, or leads out of the "
                        "address space");
  const kernel::plain_weights<typename M::weight> weights{w.data, w.stride, by_depth};
  if (status s = check_codes<M>("product", columns, depth, weights); !s.ok()) return s;
  return stages.check(columns);
}

}  // namespace detail

/// Bytes of workspace that `product` needs for so many columns and so much depth.
template <Mac M, Isa I = isa::native>
constexpr std::size_t product_workspace_bytes(std::size_t columns, std::size_t depth) noexcept {
  return detail::product_plan<M, I>(columns, depth).bytes();
}

}  // namespace layer

using layer::product_workspace_bytes;
using layer::transposed;

/// y[rows][columns] = epilogue(sum over k of x[rows][k] * w[columns][k]), both operands as they are at the call.
///
///   x, w     of the arithmetic's own types, any row stride. `transposed(w)` takes w as depth x columns
///   ws       product_workspace_bytes<M, I>(columns, depth) bytes
///   stages   the epilogue, as of a layer: none gives the raw sums. No bias and no zero points: those are stages, and
///            properties of weights that stay (layer::linear)
///   rows     what to compute (all by default). Threads each need a workspace of their own and pack for themselves;
///            where rows are few, cut w and y by columns instead
///
/// Weights that the arithmetic does not have (codes of a few bits) are refused. x, w and y must not overlap. noexcept, no heap; on tiles (isa::amx_int8, isa::amx_bf16) the first call of the process asks for
/// permission to use them. The sums are those of layer::linear, bit by bit. Returns what does not fit, with nothing
/// written. Cost: packing columns x depth, and the products.
template <Mac M, Isa I = isa::native, epilogue::Stage E = epilogue::identity>
status product(matrix_view<const typename M::activation> x, matrix_view<const typename M::weight> w,
               matrix_view<epilogue::output_of<E, typename mac_traits<M>::sum>> y, workspace ws, const E& stages = {},
               row_range rows = {}) noexcept {
  const status s = layer::detail::check_product<M, I, E>(x, w, false, y, stages, "w of m x k");
  if (!s.ok() || x.rows == 0 || w.rows == 0) return s;
  return layer::detail::run_product<M, I, E>(x, {w.data, w.stride, false}, y, ws, stages, rows);
}
template <Mac M, Isa I = isa::native, epilogue::Stage E = epilogue::identity, class W>
requires(std::is_same_v<std::remove_const_t<W>, typename M::weight>) status
    product(matrix_view<const typename M::activation> x, transposed<W> w,
            matrix_view<epilogue::output_of<E, typename mac_traits<M>::sum>> y, workspace ws, const E& stages = {},
            row_range rows = {})
noexcept {
  const matrix_view<const typename M::weight> m = w.matrix;
  const status s = layer::detail::check_product<M, I, E>(x, m, true, y, stages, "w of k x m");
  if (!s.ok() || x.rows == 0 || m.columns == 0) return s;
  return layer::detail::run_product<M, I, E>(x, {m.data, m.stride, true}, y, ws, stages, rows);
}

POLYMAC_END
