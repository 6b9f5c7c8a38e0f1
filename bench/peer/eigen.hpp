// SPDX-License-Identifier: MIT
// Eigen: float32 products. It packs in every call.
#pragma once

#include "bench/problem.hpp"

#include <Eigen/Core>

#include <string>

namespace bench::peer {

class eigen_gemm {
 public:
  static constexpr const char* name = "eigen";
  lines<float> y;
  explicit eigen_gemm(const gemm_problem<float>& p) : y(p.shape.rows * p.shape.columns), problem_(p) {}
  void operator()() {
    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const auto rows = static_cast<Eigen::Index>(problem_.shape.rows),
               columns = static_cast<Eigen::Index>(problem_.shape.columns),
               depth = static_cast<Eigen::Index>(problem_.shape.depth);
    const Eigen::Map<const matrix, Eigen::Aligned64> x(problem_.x.data(), rows, depth),
        w(problem_.w.data(), columns, depth);
    if (rows == 1)
      Eigen::Map<Eigen::VectorXf, Eigen::Aligned64>(y.data(), columns).noalias() =
          w * Eigen::Map<const Eigen::VectorXf, Eigen::Aligned64>(problem_.x.data(), depth);
    else
      Eigen::Map<matrix, Eigen::Aligned64>(y.data(), rows, columns).noalias() = x * w.transpose();
  }
  std::string label() const {
    return "Eigen " + std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
           std::to_string(EIGEN_MINOR_VERSION) + ", packs in every call";
  }

 private:
  const gemm_problem<float>& problem_;
};

}  // namespace bench::peer
