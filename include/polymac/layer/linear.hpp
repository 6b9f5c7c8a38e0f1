// SPDX-License-Identifier: MIT
// Fully connected layer and matrix product: y = epilogue(x * w^T + bias).
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/int4.hpp"
#include "polymac/isa/policy_atom.hpp"
#include "polymac/layer/columns_from.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/matrix_rows.hpp"
#include "polymac/layer/quantization.hpp"
#include "polymac/layer/tile_permission.hpp"
#include "polymac/layer/view_bounds.hpp"

#include <cstddef>
#include <span>

POLYMAC_BEGIN
namespace layer {

/// y[rows][columns] = epilogue(sum over k of x[rows][k] * w[columns][k] + bias[columns]).
///
///   M       the arithmetic; x holds M::activation, the epilogue takes mac_traits<M>::sum
///   E       the epilogue; its result type is the type of y. epilogue::identity gives the raw sums
///   I       the instruction set; the strongest that the compiler flags allow if left out
///   Shape   extents<columns, depth>, each static or dynamic. With both static the packed weights live inside the
///   object
///           and a layer on isa::scalar can be constructed and run in a constant expression
///   P       the policy: which weights are left out. policy::dense: none; policy::n_of_m needs polymac/sparsity.hpp
///
/// Weights are checked and packed once, at construction; nothing given there needs to outlive it. Running is noexcept,
/// allocates nothing, and may be done by several threads at once on different rows.
template <Mac M, epilogue::Stage E = epilogue::identity, Isa I = isa::native, class Shape = extents<dynamic, dynamic>,
          class Memory = kernel::owned_memory, policy::Policy P = policy::dense>
class linear {
 public:
  using mac = M;
  using atom = isa::policy_atom<M, I, P>;
  using activation = typename M::activation;
  using sum = typename mac_traits<M>::sum;
  using output = epilogue::output_of<E, sum>;

  /// weights: columns x depth, k contiguous, of any integer type for integer arithmetics (`matrix_view`,
  /// `int4_matrix_view`, or any type with rows, columns, data and operator()(column, k)); bias: one for each column, or
  /// none, in units of the sum. Throws polymac::error (or sets `status()` where exceptions are off) on shapes and
  /// parameters that do not fit. O(columns * depth).
  template <class Weights, class Bias>
  constexpr linear(const Weights& weights, std::span<const Bias> bias, E stages = {}, const quantization<M>& q = {})
      : epilogue_(std::move(stages)) {
    status_ = construct(weights, bias, q);
    polymac::detail::raise_unless_ok(status_);
  }

  /// Why the layer could not be built; ok where it can run.
  constexpr const polymac::status& status() const noexcept { return status_; }
  constexpr std::size_t columns() const noexcept { return weights_.shape().columns; }
  constexpr std::size_t depth() const noexcept { return weights_.shape().depth; }
  /// Do so many rows run on matrix registers?
  constexpr bool runs_on_tiles(std::size_t rows) const noexcept {
    return tiles_permitted_ && kernel::prefers_tiles(weights_, rows, rows);
  }
  /// Rows that are computed together: threads had better begin at multiples of it.
  constexpr std::size_t row_alignment() const noexcept {
    if constexpr (kernel::has_tiles<atom>)
      if (tiles_permitted_) return atom::tiles::rows;
    return atom::max_rows;
  }
  /// Columns that are computed together.
  static constexpr std::size_t column_alignment() noexcept { return atom::max_panels * atom::columns; }
  /// Some columns as a layer of their own, for threads that share few rows: its y are those columns. It refers to this
  /// layer, which must stay where it is, and costs no more than a copy of some numbers. Columns are cut at multiples of
  /// column_alignment(); else the part's status() says so, and its calls return it.
  constexpr auto part(column_range columns) const noexcept {
    using part_type = linear<M, detail::columns_from<E>, I, extents<dynamic, dynamic>, kernel::viewed_memory, P>;
    auto s = status_;
    if (s.ok()) s = detail::check_part("linear", columns, this->columns(), column_alignment());
    return part_type(weights_, s.ok() ? columns : column_range{0, 0}, {epilogue_, columns.begin}, s, tiles_permitted_);
  }
  /// The same without its stages, as a layer of its own: raw sums. It refers to this layer, as parts do.
  constexpr auto raw_sums() const noexcept {
    using raw_type = linear<M, epilogue::identity, I, extents<dynamic, dynamic>, kernel::viewed_memory, P>;
    return raw_type(weights_, column_range{0, columns()}, {}, status_, tiles_permitted_);
  }
  /// Bytes of packed weights and start values.
  constexpr std::size_t weight_bytes() const noexcept { return weights_.bytes(); }

  /// Computes the rows of `rows` (all by default). x: rows x depth; y: rows x columns; they must not overlap.
  constexpr polymac::status operator()(matrix_view<const activation> x, matrix_view<output> y,
                                       row_range rows = {}) const noexcept {
    if (!status_.ok() || x.columns != depth() || y.columns != columns() || x.rows != y.rows ||
        !detail::plainly_fit(x, y))
      if (const auto s = check_call(x, y); !s.ok() || x.rows == 0) return s;
    detail::multiply_rows<atom>(weights_, x, epilogue_, y, rows, tiles_permitted_);
    return {};
  }

  /// Arithmetic, instruction set, tile and memory of this layer, in words.
  constexpr text<511> explain() const noexcept {
    return text<511>::join("linear<", M::name, "> ", columns(), " x ", depth(), ": ", atom::isa::name, " atom, tile ",
                           weights_.tile_rows(), " rows x ", weights_.tile_columns(), " columns x ",
                           weights_.group_depth(), " deep, ",
                           isa::words_on_policy<M, I, P>(weights_.live_groups(), weights_.all_groups()).view(),
                           weight_bytes(), " bytes", weights_.wide_sums() ? ", sums in 64 bits" : "",
                           kernel::words_on_tiles<atom>(tiles_permitted_, weights_), ", no workspace");
  }

 private:
  template <Mac, epilogue::Stage, Isa, class, class, policy::Policy>
  friend class linear;
  friend struct detail::insides;

  template <class Packed>
  constexpr linear(const Packed& weights, column_range columns, E stages, const polymac::status& s, bool tiles) noexcept
      : weights_(weights, columns), epilogue_(std::move(stages)), status_(s), tiles_permitted_(tiles) {}

  /// Says what is wrong with a call. Not in the way of those that are right: what makes texts fills many registers.
  POLYMAC_NOINLINE constexpr polymac::status check_call(const matrix_view<const activation>& x,
                                                        const matrix_view<output>& y) const noexcept {
    if (!status_.ok()) return status_;
    if (x.columns != depth() || y.columns != columns() || x.rows != y.rows)
      return polymac::status::make(errc::shape, "linear: expected x of n x ", depth(), " and y of n x ", columns(),
                                   ", got ", x.rows, " x ", x.columns, " and ", y.rows, " x ", y.columns);
    return x.rows == 0 ? polymac::status{} : detail::check_memory("linear", x, y);
  }

  template <class Weights, class Bias>
  constexpr polymac::status construct(const Weights& weights, std::span<const Bias> bias,
                                      const quantization<M>& q) noexcept {
    auto s = Shape::check("linear", {weights.rows, weights.columns}, {"columns", "deep"});
    if (s.ok())
      s = detail::check_weights("linear", q, weights.rows, weights.columns, bias, detail::has_data(weights.data));
    if (s.ok()) s = epilogue_.check(weights.rows);
    if (!s.ok()) return s;
    const auto reader = detail::make_weight_reader<M>([&](std::size_t c, std::size_t k) { return weights(c, k); },
                                                      q.weight_zero_points);
    std::size_t terms = 1;
    if (s = reader.count_terms("linear", weights.rows, weights.columns, terms); !s.ok()) return s;
    s = P::check("linear", weights.rows, weights.columns, weights.columns,
                 [&](std::size_t c, std::size_t k) { return reader.term_of(c, 0, k); });
    if (!s.ok()) return s;
    s = weights_.pack(
        {1, weights.rows, weights.columns, terms},
        [&](std::size_t, std::size_t c, std::size_t term, std::size_t k) { return reader.term_of(c, term, k); },
        [&](std::size_t, std::size_t c) {
          return bias.empty() ? typename mac_traits<M>::wide{} : static_cast<typename mac_traits<M>::wide>(bias[c]);
        },
        q.activation_zero_point, detail::plain_columns<M>(weights, q.weight_zero_points));
    zero_point_ = q.activation_zero_point;
    tiles_permitted_ = s.ok() && detail::may_use_tiles<atom>(weights_, true);
    return s;
  }

  kernel::packed_weights<M, atom, Shape::at(0), Shape::at(1), Memory> weights_;
  E epilogue_;
  polymac::status status_;
  activation zero_point_{};
  bool tiles_permitted_ = false;
};

}  // namespace layer

/// Builds a layer::linear: `auto fc = linear<mac::int8>(weights, bias, stages)`. See there.
template <Mac M, Isa I = isa::native, class Weights, class Bias, epilogue::Stage E = epilogue::identity>
constexpr auto linear(const Weights& weights, const Bias& bias, E stages = {}, const layer::quantization<M>& q = {}) {
  return layer::linear<M, E, I>(weights, std::span(std::data(bias), std::size(bias)), std::move(stages), q);
}
/// The same with a policy: `linear<mac::int8, policy::n_of_m<2, 4>>(weights, bias, stages)`.
template <Mac M, policy::Policy P, Isa I = isa::native, class Weights, class Bias,
          epilogue::Stage E = epilogue::identity>
constexpr auto linear(const Weights& weights, const Bias& bias, E stages = {}, const layer::quantization<M>& q = {}) {
  return layer::linear<M, E, I, extents<dynamic, dynamic>, kernel::owned_memory, P>(
      weights, std::span(std::data(bias), std::size(bias)), std::move(stages), q);
}

POLYMAC_END
