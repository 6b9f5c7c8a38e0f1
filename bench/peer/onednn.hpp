// SPDX-License-Identifier: MIT
// oneDNN 2 and 3: matmul and convolution, weights reordered once into the layout that it asks for, one thread.
#pragma once

#include "bench/problem.hpp"

#include "polymac/core/bfloat16.hpp"

#include <dlfcn.h>
#include <dnnl.hpp>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace bench::peer {
namespace detail {

using dims = dnnl::memory::dims;
using tag = dnnl::memory::format_tag;

/// One thread: oneDNN takes as many as OpenMP gives.
inline const dnnl::engine& onednn_engine() {
  static const dnnl::engine engine = [] {
    if (void* const f = dlsym(RTLD_DEFAULT, "omp_set_num_threads")) reinterpret_cast<void (*)(int)>(f)(1);
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return engine;
}
inline dnnl::stream& onednn_stream() {
  static dnnl::stream stream(onednn_engine());
  return stream;
}

template <class T>
constexpr dnnl::memory::data_type onednn_type() {
  if constexpr (std::is_same_v<T, std::int8_t>) return dnnl::memory::data_type::s8;
  if constexpr (std::is_same_v<T, std::int32_t>) return dnnl::memory::data_type::s32;
  if constexpr (std::is_same_v<T, polymac::bfloat16>) return dnnl::memory::data_type::bf16;
  return dnnl::memory::data_type::f32;
}

/// Not changed by oneDNN, which asks for void*.
template <class T>
dnnl::memory onednn_view(const dnnl::memory::desc& d, const T* data) {
  return dnnl::memory(d, onednn_engine(), const_cast<T*>(data));
}

/// One primitive with its arguments. Executed through the C functions: the C++ ones allocate in every call.
class onednn_call {
 public:
  std::string label() const { return label_; }
  void operator()() const {
    dnnl_primitive_execute(primitive_.get(), onednn_stream().get(), static_cast<int>(arguments_.size()),
                           arguments_.data());
  }
  /// Reorders the weights once more.
  void pack() { reorder_.execute(onednn_stream(), plain_, packed_); }

 protected:
  /// Keeps `memory` alive beside the call.
  void add(int argument, dnnl::memory memory) {
    arguments_.push_back({argument, memory.get()});
    memories_.push_back(std::move(memory));
  }
  template <class Descriptor>
  void add_weights(const Descriptor& chosen, dnnl::memory plain) {
    plain_ = std::move(plain);
    packed_ = dnnl::memory(chosen.weights_desc(), onednn_engine());
    reorder_ = dnnl::reorder(plain_, packed_);
    pack();
    add(DNNL_ARG_WEIGHTS, packed_);
    label_ = std::string("oneDNN ") + std::to_string(dnnl_version()->major) + "." +
             std::to_string(dnnl_version()->minor) + " " + chosen.impl_info_str();
  }
  /// Scales for each output channel, `mask` in the weights (oneDNN 3) or in the result (2).
  void add_scales(dnnl::primitive_attr& attributes, const std::vector<double>& scales, int weights_mask,
                  int result_mask) {
    scales_.assign(scales.begin(), scales.end());
#if DNNL_VERSION_MAJOR >= 3
    static_cast<void>(result_mask);
    attributes.set_scales_mask(DNNL_ARG_WEIGHTS, weights_mask);
    add(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS,
        onednn_view(dnnl::memory::desc({static_cast<dnnl_dim_t>(scales.size())}, onednn_type<float>(), tag::a),
                    scales_.data()));
#else
    static_cast<void>(weights_mask);
    attributes.set_output_scales(result_mask, scales_);
#endif
  }
  /// The bias in the type that it needs: oneDNN 3 adds it after scaling.
  template <class X>
  dnnl::memory::desc add_bias(const channels<X>& out, const dims& shape, tag layout, bool scaled) {
    if (std::is_integral_v<X> && scaled && DNNL_VERSION_MAJOR >= 3) {
      for (std::size_t c = 0; c < out.bias.size(); ++c)
        bias_.push_back(static_cast<float>(static_cast<double>(out.bias[c]) * out.scales[c]));
      const dnnl::memory::desc d(shape, onednn_type<float>(), layout);
      add(DNNL_ARG_BIAS, onednn_view(d, bias_.data()));
      return d;
    }
    const dnnl::memory::desc d(shape, onednn_type<bias_for<X>>(), layout);
    add(DNNL_ARG_BIAS, onednn_view(d, out.bias.data()));
    return d;
  }

  dnnl::primitive primitive_;

 private:
  std::vector<dnnl_exec_arg_t> arguments_;
  std::vector<dnnl::memory> memories_;
  dnnl::memory plain_, packed_;
  dnnl::reorder reorder_;
  std::vector<float> scales_, bias_;
  std::string label_;
};

}  // namespace detail

/// X: int8, bfloat16 or float; Y: the sums' type, or int8 for requantised results.
template <class X, class Y>
class onednn_gemm : public detail::onednn_call {
 public:
  static constexpr const char* name = "onednn";
  lines<Y> y;

  explicit onednn_gemm(const gemm_problem<X>& p) : y(p.shape.rows * p.shape.columns) {
    using namespace detail;
    const auto rows = static_cast<dnnl_dim_t>(p.shape.rows), columns = static_cast<dnnl_dim_t>(p.shape.columns),
               depth = static_cast<dnnl_dim_t>(p.shape.depth);
    const dnnl::memory::desc xd({rows, depth}, onednn_type<X>(), tag::ab),
        yd({rows, columns}, onednn_type<Y>(), tag::ab), any({depth, columns}, onednn_type<X>(), tag::any),
        plain({depth, columns}, onednn_type<X>(), tag::ba);
    constexpr bool requantised = std::is_same_v<Y, std::int8_t>;
    dnnl::primitive_attr attributes;
    dnnl::memory::desc bias;
    if (requantised) {
      add_scales(attributes, p.out.scales, 1 << 1, 1 << 1);
      bias = add_bias(p.out, {1, columns}, tag::ab, true);
    }
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc chosen =
        requantised ? dnnl::matmul::primitive_desc(onednn_engine(), xd, any, bias, yd, attributes)
                    : dnnl::matmul::primitive_desc(onednn_engine(), xd, any, yd, attributes);
#else
    const dnnl::matmul::primitive_desc chosen(
        requantised ? dnnl::matmul::desc(xd, any, bias, yd) : dnnl::matmul::desc(xd, any, yd), attributes,
        onednn_engine());
#endif
    add_weights(chosen, onednn_view(plain, p.w.data()));
    add(DNNL_ARG_SRC, onednn_view(xd, p.x.data()));
    add(DNNL_ARG_DST, onednn_view(yd, y.data()));
    primitive_ = dnnl::matmul(chosen);
  }
};

/// NHWC, bias and relu.
template <class X, class Y>
class onednn_conv : public detail::onednn_call {
 public:
  static constexpr const char* name = "onednn";
  lines<Y> y;

  explicit onednn_conv(const conv_problem<X>& p) : y(p.shape.out_height() * p.shape.out_width() * p.shape.outputs) {
    using namespace detail;
    const conv_shape& s = p.shape;
    const auto d = [](std::size_t v) { return static_cast<dnnl_dim_t>(v); };
    const dims in{1, d(s.inputs), d(s.height), d(s.width)}, out{1, d(s.outputs), d(s.out_height()), d(s.out_width())},
        kernel = s.depthwise ? dims{d(s.outputs), 1, 1, d(s.kernel_height), d(s.kernel_width)}
                             : dims{d(s.outputs), d(s.inputs), d(s.kernel_height), d(s.kernel_width)},
        strides{d(s.stride), d(s.stride)}, before{d(s.top), d(s.left)}, after{d(s.bottom), d(s.right)};
    const dnnl::memory::desc xd(in, onednn_type<X>(), tag::nhwc), yd(out, onednn_type<Y>(), tag::nhwc),
        any(kernel, onednn_type<X>(), tag::any), plain(kernel, onednn_type<X>(), s.depthwise ? tag::hwigo : tag::ohwi);
    constexpr bool requantised = std::is_same_v<Y, std::int8_t>;
    dnnl::primitive_attr attributes;
    if (requantised) add_scales(attributes, p.out.scales, s.depthwise ? 3 : 1, 1 << 1);
    const dnnl::memory::desc bias = add_bias(p.out, {d(s.outputs)}, tag::a, requantised);
    dnnl::post_ops after_sum;
#if DNNL_VERSION_MAJOR >= 3
    after_sum.append_eltwise(dnnl::algorithm::eltwise_relu, 0.f, 0.f);
    attributes.set_post_ops(after_sum);
    const dnnl::convolution_forward::primitive_desc chosen(onednn_engine(), dnnl::prop_kind::forward_inference,
                                                           dnnl::algorithm::convolution_direct, xd, any, bias, yd,
                                                           strides, before, after, attributes);
#else
    after_sum.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
    attributes.set_post_ops(after_sum);
    const dnnl::convolution_forward::primitive_desc chosen(
        dnnl::convolution_forward::desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, xd,
                                        any, bias, yd, strides, before, after),
        attributes, onednn_engine());
#endif
    add_weights(chosen, onednn_view(plain, p.w.data()));
    add(DNNL_ARG_SRC, onednn_view(xd, p.x.data()));
    add(DNNL_ARG_DST, onednn_view(yd, y.data()));
    primitive_ = dnnl::convolution_forward(chosen);
  }
};

}  // namespace bench::peer
