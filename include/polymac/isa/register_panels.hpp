// SPDX-License-Identifier: MIT
// What tiles of one register for each row and panel have in common: how their sums begin, go on and are stored. The
// steps are their own.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace isa {
namespace detail {

template <class Vector, std::size_t Rows, std::size_t Panels>
struct register_sums {
  typename Vector::type sums[Rows][Panels];
};

/// Vector: `type` of a register, `lanes` in it, `load(const Sum*)` and `store(Sum*, type)` of as many sums.
template <class Vector, class Sum>
struct register_panels {
  using accumulator = Sum;
  static constexpr std::size_t columns = Vector::lanes;
  template <std::size_t Rows, std::size_t Panels>
  using tile = register_sums<Vector, Rows, Panels>;

  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void start(register_sums<Vector, Rows, Panels>& t, const Sum* starts,
                                   std::size_t stride) noexcept {
    POLYMAC_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) {
      const auto first = Vector::load(starts + p * stride);
      POLYMAC_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) t.sums[r][p] = first;
    }
  }
  /// Takes up sums that `store` has left.
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void resume(register_sums<Vector, Rows, Panels>& t, const Sum* sums,
                                    std::size_t stride = Panels * columns) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) t.sums[r][p] = Vector::load(sums + r * stride + p * columns);
    }
  }
  template <std::size_t Rows, std::size_t Panels>
  static POLYMAC_INLINE void store(const register_sums<Vector, Rows, Panels>& t, Sum* sums,
                                   std::size_t stride = Panels * columns) noexcept {
    POLYMAC_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      POLYMAC_UNROLL
      for (std::size_t p = 0; p < Panels; ++p) Vector::store(sums + r * stride + p * columns, t.sums[r][p]);
    }
  }
};

}  // namespace detail
}  // namespace isa
POLYMAC_END
