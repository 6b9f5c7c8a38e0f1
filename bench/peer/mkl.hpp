// SPDX-License-Identifier: MIT
// MKL: packed sgemm and packed gemm_s8u8s32, one thread.
//
// Loaded by name at run time and kept to itself: MKL and OpenBLAS export the same names, and one of them would get all
// the calls. POLYMAC_PEER_MKL is the path of libmkl_rt.
#pragma once

#include "bench/problem.hpp"

#include <dlfcn.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace bench::peer {
namespace detail {

/// The functions that are called, with 32-bit sizes. The numbers are those of mkl_cblas.h and mkl_service.h.
struct mkl_functions {
  static constexpr int row_major = 101, as_is = 111, transposed = 112, packed = 151, b_matrix = 162, row_offset = 171;

  std::size_t (*sgemm_size)(int, int, int, int);
  void (*sgemm_pack)(int, int, int, int, int, int, float, const float*, int, float*);
  void (*sgemm)(int, int, int, int, int, int, const float*, int, const float*, int, float, float*, int);
  std::size_t (*int8_size)(int, int, int, int);
  void (*int8_pack)(int, int, int, int, int, int, const void*, int, void*);
  void (*int8)(int, int, int, int, int, int, int, float, const void*, int, std::int8_t, const void*, int, std::int8_t,
               float, std::int32_t*, int, const std::int32_t*);
  std::string version;

  static const mkl_functions& get() {
    static const mkl_functions all;
    return all;
  }

 private:
  mkl_functions() {
    void* const library = dlopen(POLYMAC_PEER_MKL, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (library == nullptr) throw std::runtime_error(dlerror());
    const auto find = [&](auto& function, const char* name) {
      void* const symbol = dlsym(library, name);
      if (symbol == nullptr) throw std::runtime_error(std::string(POLYMAC_PEER_MKL) + " has no " + name);
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
    };
    int (*set_threading)(int), (*set_interface)(int);
    void (*get_version)(char*, int);
    find(set_interface, "MKL_Set_Interface_Layer");
    find(set_threading, "MKL_Set_Threading_Layer");
    find(get_version, "MKL_Get_Version_String");
    set_interface(0);  // 32-bit sizes
    set_threading(1);  // one thread
    find(sgemm_size, "cblas_sgemm_pack_get_size");
    find(sgemm_pack, "cblas_sgemm_pack");
    find(sgemm, "cblas_sgemm_compute");
    find(int8_size, "cblas_gemm_s8u8s32_pack_get_size");
    find(int8_pack, "cblas_gemm_s8u8s32_pack");
    find(int8, "cblas_gemm_s8u8s32_compute");
    char text[200] = {};
    get_version(text, sizeof(text) - 1);
    version = text;
    if (const auto begin = version.find("Version "); begin != version.npos) version.erase(0, begin + 8);
    version.erase(std::min(version.size(), version.find(' ')));
  }
};

}  // namespace detail

/// int8: MKL's activations are unsigned, so it is given x + 128, made before, and -128 * sum(w) as what it adds to
/// every column; the result is that of x.
template <class X, class Y>
class mkl_gemm {
 public:
  static constexpr const char* name = "mkl";
  lines<Y> y;

  explicit mkl_gemm(const gemm_problem<X>& p)
      : y(p.shape.rows * p.shape.columns),
        problem_(p),
        rows_(static_cast<int>(p.shape.rows)),
        columns_(static_cast<int>(p.shape.columns)),
        depth_(static_cast<int>(p.shape.depth)) {
    using f = detail::mkl_functions;
    if constexpr (std::is_integral_v<X>) {
      packed_.resize(f::get().int8_size(f::b_matrix, rows_, columns_, depth_));
      for (const std::int8_t v : p.x) unsigned_.push_back(static_cast<std::uint8_t>(v + 128));
      offsets_.resize(p.shape.columns);
      for (std::size_t c = 0; c < p.shape.columns; ++c)
        for (std::size_t k = 0; k < p.shape.depth; ++k) offsets_[c] -= 128 * p.w[c * p.shape.depth + k];
    } else {
      packed_.resize(f::get().sgemm_size(f::b_matrix, rows_, columns_, depth_));
    }
    pack();
  }
  void pack() {
    using f = detail::mkl_functions;
    if constexpr (std::is_integral_v<X>)
      f::get().int8_pack(f::row_major, f::b_matrix, f::transposed, rows_, columns_, depth_, problem_.w.data(), depth_,
                         packed_.data());
    else
      f::get().sgemm_pack(f::row_major, f::b_matrix, f::transposed, rows_, columns_, depth_, 1.f, problem_.w.data(),
                          depth_, reinterpret_cast<float*>(packed_.data()));
  }
  void operator()() {
    using f = detail::mkl_functions;
    if constexpr (std::is_integral_v<X>)
      f::get().int8(f::row_major, f::as_is, f::packed, f::row_offset, rows_, columns_, depth_, 1.f, unsigned_.data(),
                    depth_, 0, packed_.data(), depth_, 0, 0.f, y.data(), columns_, offsets_.data());
    else
      f::get().sgemm(f::row_major, f::as_is, f::packed, rows_, columns_, depth_, problem_.x.data(), depth_,
                     reinterpret_cast<const float*>(packed_.data()), depth_, 0.f, y.data(), columns_);
  }
  std::string label() const {
    return "MKL " + detail::mkl_functions::get().version + (std::is_integral_v<X> ? ", activations + 128" : "");
  }

 private:
  const gemm_problem<X>& problem_;
  int rows_, columns_, depth_;
  lines<char> packed_;
  lines<std::uint8_t> unsigned_;
  lines<std::int32_t> offsets_;
};

}  // namespace bench::peer
