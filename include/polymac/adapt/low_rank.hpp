// SPDX-License-Identifier: MIT
// The factors of weights that are nearest to a product of two thin matrices, by Eigen.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"

// Before Eigen, see adapt/eigen.hpp.
#include "polymac/isa/intrinsics.hpp"

#include <Eigen/Eigenvalues>

#include <algorithm>
#include <cmath>
#include <cstddef>

POLYMAC_BEGIN
namespace adapt {

/// Finds v (R x depth) and u (columns x R) whose product is nearest to w (columns x depth) by the sum of squares: the
/// first R singular values and vectors (Eckart, Young 1936), each with the root of its singular value on both sides, so
/// that both factors use their codes alike when they are quantised. `error`, if there, gets ||w - u v|| / ||w||.
/// Singular vectors come from the eigenvectors V of w' w, or of w w' where that is smaller, in double; u v is w V V',
/// so that an error of V counts with its square only. (Eigen's BDCSVD takes twice as long to compile.) Ranks beyond the
/// rank of w are zeros. Allocates. O(columns * depth * min(columns, depth)).
template <std::size_t R>
status factorize(const matrix_view<const float>& w, const matrix_view<float>& v, const matrix_view<float>& u,
                 double* error = nullptr) {
  static_assert(R > 0, "polymac: factorize: expected a rank of at least 1");
  if (w.rows == 0 || w.columns == 0 || v.rows != R || v.columns != w.columns || u.rows != w.rows || u.columns != R)
    return status::make(errc::shape, "factorize: expected v of ", R, " x ", w.columns, " and u of ", w.rows, " x ", R,
                        " for w of ", w.rows, " x ", w.columns, ", got ", v.rows, " x ", v.columns, " and ", u.rows,
                        " x ", u.columns);
  using index = Eigen::Index;
  Eigen::MatrixXd m(static_cast<index>(w.rows), static_cast<index>(w.columns));
  for (std::size_t r = 0; r < w.rows; ++r)
    for (std::size_t c = 0; c < w.columns; ++c) {
      if (!std::isfinite(w(r, c)))
        return status::make(errc::parameter, "factorize: the weight of column ", r, ", k ", c, " is not finite");
      m(static_cast<index>(r), static_cast<index>(c)) = static_cast<double>(w(r, c));
    }
  // Over the shorter side; else the roles of u and v change.
  const bool wide = w.columns > w.rows;
  if (wide) m.transposeInPlace();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(m.transpose() * m);  // ascending
  const index n = m.cols();
  const double largest = std::sqrt(std::max(solver.eigenvalues()[n - 1], 0.0));
  Eigen::MatrixXd left = m;
  for (std::size_t i = 0; i < R; ++i) {
    Eigen::VectorXd near = Eigen::VectorXd::Zero(n), far = Eigen::VectorXd::Zero(m.rows());
    if (static_cast<index>(i) < n) {
      near = solver.eigenvectors().col(n - 1 - static_cast<index>(i));
      far = m * near;
      const double value = far.norm();
      left -= far * near.transpose();
      // Of what is below the rounding of the eigenvalues nothing is known.
      const double root = value > 1e-12 * largest ? std::sqrt(value) : 0.0;
      near *= root;
      far *= root > 0 ? 1.0 / root : 0.0;
    }
    const Eigen::VectorXd &of_v = wide ? far : near, &of_u = wide ? near : far;
    for (std::size_t c = 0; c < w.columns; ++c) v(i, c) = static_cast<float>(of_v[static_cast<index>(c)]);
    for (std::size_t r = 0; r < w.rows; ++r) u(r, i) = static_cast<float>(of_u[static_cast<index>(r)]);
  }
  if (error != nullptr) {
    const double all = m.norm();
    *error = all > 0 ? left.norm() / all : 0.0;
  }
  return {};
}
/// The same for filters of a convolution, output channels x height x width x channels side by side (OHWI): v are the R
/// filters of the first convolution.
template <std::size_t R>
status factorize(const image_view<const float>& w, const matrix_view<float>& v, const matrix_view<float>& u,
                 double* error = nullptr) {
  if ((w.width > 1 && w.pixel_stride != w.channels) || (w.height > 1 && w.line_stride != w.width * w.channels))
    return status::make(errc::shape, "factorize: expected filters whose pixels lie side by side");
  return factorize<R>(matrix_view<const float>(w.data, w.batch, w.height * w.width * w.channels, w.image_stride), v, u,
                      error);
}

}  // namespace adapt
POLYMAC_END
