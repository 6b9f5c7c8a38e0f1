// SPDX-License-Identifier: MIT
// XNNPACK, as of 2022 (Debian 12) and of 2024 and later: fully connected and NHWC convolution, int8 and float32, one
// thread. The older has no fully connected operator with a scale for each channel; there the int8 products are done by
// a 1x1 convolution, which runs the same kernels.
#pragma once

#include "bench/problem.hpp"

#include <xnnpack.h>

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace bench::peer {
namespace detail {

/// An operator, and what the two generations of the interface do not share.
class xnnpack_operator {
 public:
  xnnpack_operator() {
    static const xnn_status ready = xnn_initialize(nullptr);
    require(ready, "xnn_initialize");
  }
  xnnpack_operator(const xnnpack_operator&) = delete;
  xnnpack_operator& operator=(const xnnpack_operator&) = delete;
  ~xnnpack_operator() { xnn_delete_operator(operator_); }
  void operator()() const { require(xnn_run_operator(operator_, nullptr), "xnn_run_operator"); }

 protected:
  static void require(xnn_status s, const char* what) {
    if (s != xnn_status_success)
      throw std::runtime_error(std::string(what) + " gave status " + std::to_string(static_cast<int>(s)));
  }
  /// Makes the operator again; the arguments are those of the older interface.
  template <class Create, class... Arguments>
  void create(Create* f, Arguments... arguments) {
    if (operator_ != nullptr) xnn_delete_operator(operator_);
#if POLYMAC_PEER_XNNPACK_RESHAPES
    require(f(arguments..., nullptr, &operator_), "creating the operator");
#else
    require(f(arguments..., &operator_), "creating the operator");
#endif
  }

  xnn_operator_t operator_ = nullptr;
  lines<char> workspace_;
};

/// The scales as XNNPACK wants them, for activations and results of scale 1.
inline std::vector<float> xnnpack_scales(const std::vector<double>& scales) { return {scales.begin(), scales.end()}; }

constexpr const char* xnnpack_label = POLYMAC_PEER_XNNPACK_RESHAPES ? "XNNPACK" : "XNNPACK of 2022 or before";
constexpr float no_limit = std::numeric_limits<float>::infinity();

}  // namespace detail

template <class X, class Y>
class xnnpack_gemm : public detail::xnnpack_operator {
 public:
  static constexpr const char* name = "xnnpack";
  lines<Y> y;

  explicit xnnpack_gemm(const gemm_problem<X>& p) : y(p.shape.rows * p.shape.columns), problem_(p) { pack(); }
  /// Makes the operator again, which packs the weights; what it computes is set again too.
  void pack() {
    using detail::no_limit;
    const auto& p = problem_;
    const std::size_t depth = p.shape.depth, columns = p.shape.columns;
    if constexpr (std::is_same_v<X, float>)
      create(xnn_create_fully_connected_nc_f32, depth, columns, depth, columns, p.w.data(),
             static_cast<const float*>(nullptr), -no_limit, no_limit, 0u);
#if POLYMAC_PEER_XNNPACK_RESHAPES
    else
      create(xnn_create_fully_connected_nc_qs8_qc8w, depth, columns, depth, columns, std::int8_t{0}, 1.f,
             detail::xnnpack_scales(p.out.scales).data(), p.w.data(), p.out.bias.data(), std::int8_t{0}, 1.f,
             std::int8_t{-128}, std::int8_t{127}, 0u);
#else
    else
      create(xnn_create_convolution2d_nhwc_qc8, 0u, 0u, 0u, 0u, 1u, 1u, 1u, 1u, 1u, 1u, 1u, depth, columns, depth,
             columns, std::int8_t{0}, 1.f, detail::xnnpack_scales(p.out.scales).data(), p.w.data(), p.out.bias.data(),
             std::int8_t{0}, 1.f, std::int8_t{-128}, std::int8_t{127}, 0u);
#endif
    set_up();
  }
  std::string label() const { return detail::xnnpack_label; }

 private:
  void set_up() {
    const auto& p = problem_;
    const std::size_t rows = p.shape.rows;
#if POLYMAC_PEER_XNNPACK_RESHAPES
    if constexpr (std::is_same_v<X, float>) {
      require(xnn_reshape_fully_connected_nc_f32(operator_, rows, nullptr), "reshape");
      require(xnn_setup_fully_connected_nc_f32(operator_, p.x.data(), y.data()), "setup");
    } else {
      require(xnn_reshape_fully_connected_nc_qs8_qc8w(operator_, rows, nullptr), "reshape");
      require(xnn_setup_fully_connected_nc_qs8_qc8w(operator_, p.x.data(), y.data()), "setup");
    }
#else
    if constexpr (std::is_same_v<X, float>)
      require(xnn_setup_fully_connected_nc_f32(operator_, rows, p.x.data(), y.data(), nullptr), "setup");
    else
      require(xnn_setup_convolution2d_nhwc_qc8(operator_, 1, 1, rows, p.x.data(), y.data(), nullptr), "setup");
#endif
  }

  const gemm_problem<X>& problem_;
};

template <class X, class Y>
class xnnpack_conv : public detail::xnnpack_operator {
 public:
  static constexpr const char* name = "xnnpack";
  lines<Y> y;

  explicit xnnpack_conv(const conv_problem<X>& p) : y(p.shape.out_height() * p.shape.out_width() * p.shape.outputs) {
    using detail::no_limit;
    const conv_shape& s = p.shape;
    const auto u = [](std::size_t v) { return static_cast<std::uint32_t>(v); };
    const std::size_t groups = s.depthwise ? s.inputs : 1;
    const std::uint32_t flags = s.depthwise ? XNN_FLAG_DEPTHWISE_CONVOLUTION : 0;
    const auto create_with = [&](auto* f, auto... rest) {
      create(f, u(s.top), u(s.right), u(s.bottom), u(s.left), u(s.kernel_height), u(s.kernel_width), u(s.stride),
             u(s.stride), 1u, 1u, u(groups), s.inputs / groups, s.outputs / groups, s.inputs, s.outputs, rest...,
             flags);
    };
    if constexpr (std::is_same_v<X, float>)
      create_with(xnn_create_convolution2d_nhwc_f32, p.w.data(), p.out.bias.data(), 0.f, no_limit);
    else
#if POLYMAC_PEER_XNNPACK_RESHAPES
      create_with(xnn_create_convolution2d_nhwc_qs8_qc8w, std::int8_t{0}, 1.f,
                  detail::xnnpack_scales(p.out.scales).data(), p.w.data(), p.out.bias.data(), std::int8_t{0}, 1.f,
                  std::int8_t{0}, std::int8_t{127});
    std::size_t workspace = 0, height = 0, width = 0;
    if constexpr (std::is_same_v<X, float>) {
      require(xnn_reshape_convolution2d_nhwc_f32(operator_, 1, s.height, s.width, &workspace, &height, &width, nullptr),
              "reshape");
      workspace_.resize(workspace);
      require(xnn_setup_convolution2d_nhwc_f32(operator_, workspace_.data(), p.x.data(), y.data()), "setup");
    } else {
      require(xnn_reshape_convolution2d_nhwc_qs8_qc8w(operator_, 1, s.height, s.width, &workspace, &height, &width,
                                                      nullptr),
              "reshape");
      workspace_.resize(workspace);
      require(xnn_setup_convolution2d_nhwc_qs8_qc8w(operator_, workspace_.data(), p.x.data(), y.data()), "setup");
    }
#else
      create_with(xnn_create_convolution2d_nhwc_qc8, std::int8_t{0}, 1.f, detail::xnnpack_scales(p.out.scales).data(),
                  p.w.data(), p.out.bias.data(), std::int8_t{0}, 1.f, std::int8_t{0}, std::int8_t{127});
    if constexpr (std::is_same_v<X, float>)
      require(xnn_setup_convolution2d_nhwc_f32(operator_, 1, s.height, s.width, p.x.data(), y.data(), nullptr),
              "setup");
    else
      require(xnn_setup_convolution2d_nhwc_qc8(operator_, 1, s.height, s.width, p.x.data(), y.data(), nullptr),
              "setup");
#endif
  }
  std::string label() const { return detail::xnnpack_label; }
};

}  // namespace bench::peer
