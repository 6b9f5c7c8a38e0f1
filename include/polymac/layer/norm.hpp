// SPDX-License-Identifier: MIT
// What the norms of rows share: parameters, checks, ranges of rows, and the addition before them.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/norm_rows.hpp"
#include "polymac/layer/view_bounds.hpp"

#include <cstddef>
#include <span>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Row: kernel::rms_norm_row or kernel::layer_norm_row.
template <class Row>
class norm {
 public:
  using activation = float;
  using output = float;

  /// Why the layer could not be built; ok where it can run.
  const polymac::status& status() const noexcept { return status_; }
  /// Elements of a row.
  std::size_t columns() const noexcept { return weight_.size(); }
  float epsilon() const noexcept { return epsilon_; }

  /// y = norm(x) for the rows of `rows` (all by default). x and y: rows x columns, may be the same view; else they do not
  /// overlap. O(elements). Fails on views that do not fit, and then leaves y untouched.
  polymac::status operator()(matrix_view<const float> x, matrix_view<float> y, row_range rows = {}) const noexcept {
    const auto s = check("y", x, y);
    if (s.ok()) run(x, y, rows, [](std::size_t) {});
    return s;
  }
  /// x += addend, y = norm(x) in one pass: a row is normalised while it is near. The residual of a transformer. Neither y
  /// nor addend overlaps x.
  polymac::status add(matrix_view<float> x, matrix_view<const float> addend, matrix_view<float> y,
                      row_range rows = {}) const noexcept {
    auto s = check("y", x, y);
    if (s.ok()) s = check("addend", x, addend);
    if (s.ok()) run(x, y, rows, [&](std::size_t r) { kernel::add_row(x.row(r), addend.row(r), columns()); });
    return s;
  }

 protected:
  norm(std::span<const float> weight, const float* bias, std::size_t biases, float epsilon) : epsilon_(epsilon) {
    status_ = construct(weight, bias, biases);
    polymac::detail::raise_unless_ok(status_);
  }

 private:
  template <class Before>
  void run(const matrix_view<const float>& x, const matrix_view<float>& y, row_range rows,
           const Before& before) const noexcept {
    const std::size_t end = polymac::detail::smaller(rows.end, x.rows);
    for (std::size_t r = rows.begin; r < end; ++r) {
      before(r);
      Row()(x.row(r), y.row(r), weight_.data(), bias_.data(), columns(), epsilon_);
    }
  }

  template <class Y>
  polymac::status check(const char* name, const matrix_view<const float>& x, const matrix_view<Y>& y) const noexcept {
    if (!status_.ok()) return status_;
    if (x.columns != columns() || y.columns != columns() || x.rows != y.rows)
      return polymac::status::make(errc::shape, Row::name, ": expected x and ", name, " of n x ", columns(), ", got ",
                                   x.rows, " x ", x.columns, " and ", y.rows, " x ", y.columns);
    if (x.rows > 0 && y.data == nullptr)
      return polymac::status::make(errc::parameter, Row::name, ": the view ", name, " has no data");
    return x.rows == 0 ? polymac::status{} : check_memory(Row::name, x, y);
  }

  polymac::status construct(std::span<const float> weight, const float* bias, std::size_t biases) noexcept {
    if (weight.empty())
      return polymac::status::make(errc::shape, Row::name, ": expected a weight for each column, got none");
    if (biases != 0 && biases != weight.size())
      return polymac::status::make(errc::shape, Row::name, ": expected a bias for each of ", weight.size(),
                                   " columns or none, got ", biases);
    if (!(epsilon_ >= 0.0f) || !(epsilon_ - epsilon_ == 0.0f))
      return polymac::status::make(errc::parameter, Row::name, ": expected a finite epsilon of at least 0");
    auto s = weight_.resize(weight.size());
    if (s.ok()) s = bias_.resize(weight.size());
    for (std::size_t i = 0; s.ok() && i < weight.size(); ++i) {
      weight_[i] = weight[i];
      bias_[i] = biases > 0 ? bias[i] : 0.0f;
    }
    return s;
  }

  buffer<float> weight_, bias_;
  float epsilon_;
  polymac::status status_;
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
