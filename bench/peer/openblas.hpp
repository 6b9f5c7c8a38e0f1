// SPDX-License-Identifier: MIT
// OpenBLAS: sgemm and, for one row, sgemv. It packs in every call.
//
// It chooses its kernels by the processor's model; on models newer than itself it may fall to AVX2.
// OPENBLAS_CORETYPE=SkylakeX in the environment makes it use AVX-512. The label names what it took.
#pragma once

#include "bench/problem.hpp"

#include <cblas.h>

#include <string>

namespace bench::peer {

class openblas_gemm {
 public:
  static constexpr const char* name = "openblas";
  lines<float> y;
  explicit openblas_gemm(const gemm_problem<float>& p) : y(p.shape.rows * p.shape.columns), problem_(p) {
    openblas_set_num_threads(1);
  }
  void operator()() {
    const auto rows = static_cast<blasint>(problem_.shape.rows), columns = static_cast<blasint>(problem_.shape.columns),
               depth = static_cast<blasint>(problem_.shape.depth);
    if (rows == 1)
      cblas_sgemv(CblasRowMajor, CblasNoTrans, columns, depth, 1.f, problem_.w.data(), depth, problem_.x.data(), 1, 0.f,
                  y.data(), 1);
    else
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, columns, depth, 1.f, problem_.x.data(), depth,
                  problem_.w.data(), depth, 0.f, y.data(), columns);
  }
  std::string label() const { return std::string("OpenBLAS for ") + openblas_get_corename() + ", packs in every call"; }

 private:
  const gemm_problem<float>& problem_;
};

}  // namespace bench::peer
