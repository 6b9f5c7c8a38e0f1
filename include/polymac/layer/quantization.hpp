// SPDX-License-Identifier: MIT
// What the layers with weights share: zero points, and how weights of any integer type become those of the arithmetic.
#pragma once

#include "polymac/core/concepts.hpp"
#include "polymac/core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// Zero points of an affine quantised layer: real = scale * (code - zero_point). Both cost nothing when the layer runs:
/// they are folded into the bias when the weights are packed.
template <Mac M>
struct quantization {
  /// Code that stands for 0; what padding is filled with. Any value of the activation type. Needs a linear arithmetic.
  typename M::activation activation_zero_point{};
  /// None, one for all, or one for each output column. Weights less their zero point that leave the weight type are
  /// split into several terms, which multiplies the work.
  std::span<const std::int32_t> weight_zero_points{};
};

namespace detail {

/// Reads weights as those of arithmetic M: zero points taken off, and split into terms where they do not fit.
template <Mac M, class Read>
struct weight_reader {
  using weight = typename M::weight;
  Read read;  ///< (column, k) -> the stored weight
  std::span<const std::int32_t> zero_points;

  /// The stored weight less its zero point.
  constexpr auto value(std::size_t column, std::size_t k) const noexcept {
    if constexpr (mac_traits<M>::integer) {
      const std::int64_t zero = zero_points.empty() ? 0 : zero_points[zero_points.size() == 1 ? 0 : column];
      return static_cast<std::int64_t>(read(column, k)) - zero;
    } else {
      return static_cast<weight>(read(column, k));
    }
  }

  /// Terms that every weight of columns x depth can be written in.
  constexpr std::size_t terms(std::size_t columns, std::size_t depth) const noexcept {
    if constexpr (mac_traits<M>::integer) {
      std::int64_t low = 0, high = 0;
      for (std::size_t c = 0; c < columns; ++c)
        for (std::size_t k = 0; k < depth; ++k) {
          const std::int64_t v = value(c, k);
          low = v < low ? v : low;
          high = v > high ? v : high;
        }
      constexpr std::int64_t least = std::numeric_limits<weight>::min(), most = std::numeric_limits<weight>::max();
      const std::int64_t up = (high + most - 1) / most, down = least < 0 ? (low + least + 1) / least : 0;
      const std::int64_t terms = up > down ? up : down;
      return terms < 1 ? std::size_t{1} : static_cast<std::size_t>(terms);
    } else {
      return 1;
    }
  }

  constexpr weight term_of(std::size_t column, std::size_t term, std::size_t k) const noexcept {
    if constexpr (mac_traits<M>::integer) {
      std::int64_t left = value(column, k);
      constexpr std::int64_t least = std::numeric_limits<weight>::min(), most = std::numeric_limits<weight>::max();
      for (std::size_t t = 0;; ++t) {
        const std::int64_t part = left < least ? least : left > most ? most : left;
        if (t == term) return static_cast<weight>(part);
        left -= part;
      }
    } else {
      static_cast<void>(term);
      return value(column, k);
    }
  }
};

template <Mac M, class Read>
constexpr weight_reader<M, Read> make_weight_reader(Read read, std::span<const std::int32_t> zero_points) noexcept {
  return {read, zero_points};
}

/// Checks what every layer with weights checks. `who` begins the text.
template <Mac M>
constexpr status check_weights(const char* who, const quantization<M>& q, std::size_t columns, std::size_t depth,
                               std::size_t bias_size, bool has_data) noexcept {
  if (columns == 0 || depth == 0)
    return status::make(errc::shape, who, ": expected weights of at least 1 x 1, got ", columns, " columns x ", depth,
                        " deep");
  if (!has_data) return status::make(errc::parameter, who, ": the view of the weights has no data");
  if (bias_size != 0 && bias_size != columns)
    return status::make(errc::shape, who, ": expected a bias for each of ", columns, " columns or none, got ", bias_size);
  const std::size_t zeros = q.weight_zero_points.size();
  if (zeros > 1 && zeros != columns)
    return status::make(errc::shape, who, ": expected 0, 1 or ", columns, " weight zero points, got ", zeros);
  if constexpr (mac_traits<M>::integer) {
    // Bounds the number of terms: 8-bit weights less an 8-bit zero point need three at most.
    for (const std::int32_t z : q.weight_zero_points)
      if (z < -256 || z > 256)
        return status::make(errc::parameter, who, ": expected weight zero points in [-256, 256], got ", z);
  }
  if constexpr (!M::linear || !mac_traits<M>::integer) {
    if (q.activation_zero_point != typename M::activation{} || zeros != 0)
      return status::make(errc::parameter, who, ": zero points need an integer arithmetic that is linear, ", M::name,
                          " is not");
  }
  return {};
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
