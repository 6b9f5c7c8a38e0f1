// SPDX-License-Identifier: MIT
// Eigen matrices and maps as views.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/float16.hpp"
#include "polymac/core/view.hpp"

// Before Eigen, which includes the same header of the compiler without its false warnings being silenced.
#include "polymac/isa/intrinsics.hpp"

#include <Eigen/Core>

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace adapt {

namespace detail {

template <class Derived>
constexpr void require_rows() {
  static_assert((Derived::Flags & Eigen::DirectAccessBit) != 0,
                "polymac: an Eigen expression has no memory of its own; evaluate it into a matrix first");
  static_assert(
      Derived::IsRowMajor || Derived::IsVectorAtCompileTime,
      "polymac: views hold rows, and Eigen's default is column-major; use Eigen::RowMajor, or pass .transpose()");
  static_assert(Derived::InnerStrideAtCompileTime == 1, "polymac: the elements of a row must be contiguous");
}

/// Eigen::bfloat16 and Eigen::half are seen as polymac's, whose bytes are the same.
template <class T>
using element = std::conditional_t<std::is_same_v<T, Eigen::bfloat16>, bfloat16,
                                   std::conditional_t<std::is_same_v<T, Eigen::half>, float16, T>>;
static_assert(sizeof(Eigen::bfloat16) == sizeof(bfloat16) && std::is_trivially_copyable_v<Eigen::bfloat16>);
static_assert(sizeof(Eigen::half) == sizeof(float16) && std::is_trivially_copyable_v<Eigen::half>);

template <class Derived>
auto* data_of(Derived& m) {
  using stored = std::remove_pointer_t<decltype(m.data())>;
  using seen = element<std::remove_const_t<stored>>;
  if constexpr (std::is_same_v<seen, std::remove_const_t<stored>>) {
    return m.data();
  } else {
    // What was written as Eigen's type is read as polymac's from here on: compilers may not take them for different memory.
    auto* data = reinterpret_cast<std::conditional_t<std::is_const_v<stored>, const seen, seen>*>(m.data());
#if defined(__GNUC__)
    asm volatile("" : "+r"(data) : : "memory");
#endif
    return data;
  }
}

template <class Derived>
std::size_t row_stride(const Derived& m) {
  // A column vector is stored along its only column: one element to a row.
  return static_cast<std::size_t>(Derived::IsRowMajor ? m.outerStride() : m.innerStride());
}

}  // namespace detail

/// A row-major Eigen matrix, block or Map, or a vector (rows x 1 or 1 x columns), as a view. The matrix must outlive
/// the view. Elements are those of the matrix; Eigen::bfloat16 and Eigen::half become polymac::bfloat16 and
/// polymac::float16. Eigen's types may be aligned differently in translation units of different flags: the view does not
/// care.
template <class Derived>
matrix_view<detail::element<typename Derived::Scalar>> view(Eigen::DenseBase<Derived>& m) {
  detail::require_rows<Derived>();
  Derived& d = m.derived();
  return {detail::data_of(d), static_cast<std::size_t>(d.rows()), static_cast<std::size_t>(d.cols()),
          detail::row_stride(d)};
}
template <class Derived>
matrix_view<const detail::element<typename Derived::Scalar>> view(const Eigen::DenseBase<Derived>& m) {
  detail::require_rows<Derived>();
  const Derived& d = m.derived();
  return {detail::data_of(d), static_cast<std::size_t>(d.rows()), static_cast<std::size_t>(d.cols()),
          detail::row_stride(d)};
}

}  // namespace adapt
POLYMAC_END
