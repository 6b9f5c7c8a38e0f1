// SPDX-License-Identifier: MIT
// libxsmm 2: int8, bfloat16 and float32 products by batch-reduce kernels, weights in blocks of 64 columns laid out before.
//
// libxsmm generates kernels and leaves the loops over blocks to its user; these are ours, the plain ones: all depth
// blocks in one call, the order of the loops that keeps the smaller operand near, and the rows of a block chosen by
// trying some.
#pragma once

#include "bench/peak.hpp"
#include "bench/problem.hpp"
#include "polymac/core/bfloat16.hpp"

#include <libxsmm.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace bench::peer {

/// int8 without AMX: vpdpbusd wants unsigned activations; libxsmm is given x + 128 and start values of -128 * sum(w),
/// both made before, so the result is that of x. (Its own path for signed activations runs at half the rate.)
template <class X, class Y>
class libxsmm_gemm {
 public:
  static constexpr const char* name = "libxsmm";
  lines<Y> y;

  explicit libxsmm_gemm(const gemm_problem<X>& p) : y(p.shape.rows * p.shape.columns), problem_(p) {
    const auto& s = p.shape;
    for (depth_block_ = std::min(s.depth, most_depth); s.depth % depth_block_ != 0 || depth_block_ % group != 0;)
      if (--depth_block_ == 0) throw std::runtime_error("depth is no multiple of " + std::to_string(group));
    if constexpr (std::is_integral_v<X>) amx_ = bench::detail::matrix_peak(arithmetic::int8, operands::zero).gmac > 0;
    pack();
    if constexpr (std::is_integral_v<X>) {
      if (!amx_) {
        for (const X v : p.x) unsigned_.push_back(static_cast<std::uint8_t>(v + 128));
        starts_.resize(s.columns);
        for (std::size_t c = 0; c < s.columns; ++c)
          for (std::size_t k = 0; k < s.depth; ++k) starts_[c] -= 128 * p.w[c * s.depth + k];
      }
    }
    choose_row_block();
  }

  void operator()() {
    const auto& s = problem_.shape;
    if (s.rows <= s.columns)
      for (std::size_t c = 0; c < s.columns; c += block)
        for (std::size_t r = 0; r < s.rows; r += row_block_) multiply(r, c);
    else
      for (std::size_t r = 0; r < s.rows; r += row_block_)
        for (std::size_t c = 0; c < s.columns; c += block) multiply(r, c);
  }
  std::string label() const {
    return std::string("libxsmm " LIBXSMM_VERSION " ") + libxsmm_get_target_arch() +
           (std::is_integral_v<X> && !amx_ ? ", activations + 128" : "");
  }

 private:
  using weight = weight_for<X>;
  static constexpr std::size_t block = 64, most_depth = 576;
  static constexpr std::size_t group = 4 / sizeof(X);  // consecutive k of one column lie together

  libxsmm_gemmfunction make(std::size_t rows, std::size_t columns) const {
    const auto n = [](std::size_t v) { return static_cast<libxsmm_blasint>(v); };
    constexpr bool integers = std::is_integral_v<X>;
    constexpr auto floats = std::is_same_v<X, polymac::bfloat16> ? LIBXSMM_DATATYPE_BF16 : LIBXSMM_DATATYPE_F32;
    // libxsmm's matrices have columns together: its a is the weights, its b the activations.
    const libxsmm_gemm_shape shape = libxsmm_create_gemm_shape(
        n(columns), n(rows), n(depth_block_), n(columns), n(problem_.shape.depth), n(problem_.shape.columns),
        integers ? LIBXSMM_DATATYPE_I8 : floats,
        !integers ? floats
        : amx_    ? LIBXSMM_DATATYPE_I8
                  : LIBXSMM_DATATYPE_U8,
        integers ? LIBXSMM_DATATYPE_I32 : LIBXSMM_DATATYPE_F32, integers ? LIBXSMM_DATATYPE_I32 : LIBXSMM_DATATYPE_F32);
    libxsmm_gemm_batch_reduce_config reduce{};
    reduce.br_type = LIBXSMM_GEMM_BATCH_REDUCE_STRIDE;
    reduce.br_stride_a_hint = n(columns * depth_block_ * sizeof(X));
    reduce.br_stride_b_hint = n(depth_block_ * sizeof(X));
    const auto flags = static_cast<libxsmm_bitfield>((group > 1 ? LIBXSMM_GEMM_FLAG_VNNI_A : 0) |
                                                     (integers && !amx_ ? 0 : LIBXSMM_GEMM_FLAG_BETA_0));
    const auto f = libxsmm_dispatch_brgemm(shape, flags, LIBXSMM_GEMM_PREFETCH_NONE, reduce);
    if (f == nullptr)
      throw std::runtime_error("libxsmm has no kernel for " + std::to_string(rows) + "x" + std::to_string(columns));
    return f;
  }

  void set_row_block(std::size_t rows) {
    const auto& s = problem_.shape;
    row_block_ = rows;
    const std::size_t row_sizes[] = {rows, s.rows % rows},
                      column_sizes[] = {s.columns < block ? 0 : block, s.columns % block};
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j)
        if (row_sizes[i] != 0 && column_sizes[j] != 0) kernels_[i][j] = make(row_sizes[i], column_sizes[j]);
  }

  void choose_row_block() {
    using clock = std::chrono::steady_clock;
    const std::size_t all = problem_.shape.rows;
    std::size_t best = all;
    auto least = clock::duration::max();
    for (const std::size_t rows : {all, std::size_t{32}, std::size_t{64}, std::size_t{128}}) {
      if (rows > all) continue;
      set_row_block(rows);
      for (int run = 0; run < 4; ++run) {
        const auto begin = clock::now();
        (*this)();
        const auto time = clock::now() - begin;
        if (run == 0 || time >= least) continue;  // the first one brings the operands near
        least = time;
        best = rows;
      }
    }
    set_row_block(best);
  }

  /// Blocks of columns; in each, blocks of depth; in each, groups of k of all columns.
  void pack() {
    const auto& s = problem_.shape;
    packed_.resize(problem_.w.size());
    weight* to = packed_.data();
    for (std::size_t c0 = 0; c0 < s.columns; c0 += block)
      for (std::size_t k = 0; k < s.depth; k += group)
        for (std::size_t c = c0; c < std::min(c0 + block, s.columns); ++c)
          for (std::size_t i = 0; i < group; ++i) *to++ = problem_.w[c * s.depth + k + i];
  }

  void multiply(std::size_t r, std::size_t c) {
    const auto& s = problem_.shape;
    Y* const results = y.data() + r * s.columns + c;
    const void* activations = problem_.x.data() + r * s.depth;
    if constexpr (std::is_integral_v<X>) {
      if (!amx_) {
        activations = unsigned_.data() + r * s.depth;
        const std::size_t width = std::min(block, s.columns - c);
        for (std::size_t i = 0; i < std::min(row_block_, s.rows - r); ++i)
          std::copy_n(starts_.data() + c, width, results + i * s.columns);
      }
    }
    unsigned long long count = s.depth / depth_block_;
    libxsmm_gemm_param parameters{};
    parameters.op.tertiary = &count;
    parameters.a.primary = packed_.data() + c * s.depth;
    parameters.b.primary = const_cast<void*>(activations);
    parameters.c.primary = results;
    kernels_[s.rows - r < row_block_][s.columns - c < block](&parameters);
  }

  const gemm_problem<X>& problem_;
  std::size_t depth_block_ = 0, row_block_ = 0;
  bool amx_ = false;
  libxsmm_gemmfunction kernels_[2][2] = {};
  lines<weight> packed_;
  lines<std::uint8_t> unsigned_;
  lines<Y> starts_;
};

}  // namespace bench::peer
