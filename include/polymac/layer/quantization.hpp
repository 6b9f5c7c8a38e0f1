// SPDX-License-Identifier: MIT
// What the layers with weights share: zero points, and how weights of any integer type become those of the arithmetic.
#pragma once

#include "polymac/core/concepts.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/pack.hpp"

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

/// Are the weights of M numbers that zero points can be taken off, and its sums integers?
template <Mac M>
inline constexpr bool has_integer_weights = mac_traits<M>::integer&& std::is_integral_v<typename M::weight>;

/// Most terms that a weight is split into: 9 bits in terms of 8 need three, as 255 = 127 + 127 + 1.
inline constexpr std::size_t max_terms = 3;

constexpr bool all_zero(std::span<const std::int32_t> zero_points) noexcept {
  for (const std::int32_t z : zero_points)
    if (z != 0) return false;
  return true;
}

/// Fails with the first weight that M refuses (M::check_weight); weight_of(column, k).
template <Mac M, class WeightOf>
constexpr status check_codes(const char* who, std::size_t columns, std::size_t depth,
                             const WeightOf& weight_of) noexcept {
  using weight = typename M::weight;
  if constexpr (requires(const weight& w) { M::check_weight(w); })
    for (std::size_t c = 0; c < columns; ++c)
      for (std::size_t k = 0; k < depth; ++k) {
        const auto v = weight_of(c, k);
        if (M::check_weight(static_cast<weight>(v))) continue;
        auto s =
            status::make(errc::parameter, who, ": ", M::name, " has no such weight as that of column ", c, ", k ", k);
        if constexpr (std::is_integral_v<weight>) s.append(": "), s.append(v);
        return s;
      }
  return {};
}

/// Reads weights as those of arithmetic M: zero points taken off, and split into terms where they do not fit.
template <Mac M, class Read>
struct weight_reader {
  using weight = typename M::weight;
  Read read;  ///< (column, k) -> the stored weight
  std::span<const std::int32_t> zero_points;

  /// The stored weight less its zero point.
  constexpr auto value(std::size_t column, std::size_t k) const noexcept {
    if constexpr (has_integer_weights<M>) {
      using stored = std::remove_cvref_t<decltype(read(column, k))>;
      static_assert(std::is_integral_v<stored> && sizeof(stored) <= 4,
                    "polymac: give an arithmetic with integer sums weights of an integer type of at most 32 bits");
      const std::int64_t zero = zero_points.empty() ? 0 : zero_points[zero_points.size() == 1 ? 0 : column];
      return static_cast<std::int64_t>(read(column, k)) - zero;
    } else {
      return static_cast<weight>(read(column, k));
    }
  }

  /// Finds how many terms every weight of columns x depth can be written in; fails where these are too many, or more
  /// than one while M is not linear in its weights, and where M refuses a weight (M::check_weight).
  constexpr status count_terms(const char* who, std::size_t columns, std::size_t depth,
                               std::size_t& terms) const noexcept {
    terms = 1;
    if (status s = check_codes<M>(who, columns, depth, [&](std::size_t c, std::size_t k) { return value(c, k); });
        !s.ok())
      return s;
    if constexpr (has_integer_weights<M>) {
      using stored = std::remove_cvref_t<decltype(read(std::size_t{}, std::size_t{}))>;
      using range = std::numeric_limits<stored>;
      constexpr std::int64_t least = std::numeric_limits<weight>::min(), most = std::numeric_limits<weight>::max();
      if (std::int64_t{range::min()} >= least && std::int64_t{range::max()} <= most && all_zero(zero_points)) return {};
      std::int64_t low = 0, high = 0;
      for (std::size_t c = 0; c < columns; ++c)
        for (std::size_t k = 0; k < depth; ++k) {
          const std::int64_t v = value(c, k);
          low = v < low ? v : low;
          high = v > high ? v : high;
        }
      const std::int64_t up = (high + most - 1) / most, down = least < 0 ? (low + least + 1) / least : 0;
      const std::int64_t needed = up > down ? up : down;
      constexpr std::int64_t allowed = mac_traits<M>::weight_linear ? max_terms : 1;
      if (needed > allowed || (least == 0 && low < 0))
        return status::make(errc::parameter, who, ": expected weights less their zero points in [", allowed * least,
                            ", ", allowed * most, "] for ", M::name, ", got values in [", low, ", ", high, "]");
      if (needed > 1) terms = static_cast<std::size_t>(needed);
    }
    return {};
  }

  constexpr weight term_of(std::size_t column, std::size_t term, std::size_t k) const noexcept {
    if constexpr (has_integer_weights<M>) {
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

/// The weights of a matrix, columns x depth, as packing takes them whole; none where they must be changed first.
template <Mac M, class Weights>
constexpr kernel::plain_weights<typename M::weight> plain_columns(const Weights& weights,
                                                                  std::span<const std::int32_t> zero_points) noexcept {
  using weight = typename M::weight;
  if constexpr (std::is_same_v<Weights, matrix_view<weight>> || std::is_same_v<Weights, matrix_view<const weight>>) {
    return all_zero(zero_points) ? kernel::plain_weights<weight>{weights.data, weights.stride}
                                 : kernel::plain_weights<weight>{};
  } else {
    return {};
  }
}
/// The same for output channels x height x width x channels, of which every filter lies in one stretch.
template <Mac M, class Weights>
constexpr kernel::plain_weights<typename M::weight> plain_filters(const Weights& weights,
                                                                  std::span<const std::int32_t> zero_points) noexcept {
  using weight = typename M::weight;
  if constexpr (std::is_same_v<Weights, image_view<weight>> || std::is_same_v<Weights, image_view<const weight>>) {
    if ((weights.width > 1 && weights.pixel_stride != weights.channels) ||
        (weights.height > 1 && weights.line_stride != weights.width * weights.channels))
      return {};
    return plain_columns<M>(matrix_view<const weight>(weights.data, weights.batch, 0, weights.image_stride),
                            zero_points);
  } else {
    return {};
  }
}

/// Checks what every layer with weights checks. `who` begins the text.
template <Mac M, class Bias>
constexpr status check_weights(const char* who, const quantization<M>& q, std::size_t columns, std::size_t depth,
                               std::span<const Bias> bias, bool has_data) noexcept {
  static_assert(!mac_traits<M>::integer || (std::is_integral_v<Bias> && (std::is_signed_v<Bias> || sizeof(Bias) < 8)),
                "polymac: give an arithmetic with integer sums a bias of a signed integer type");
  if (columns == 0 || depth == 0)
    return status::make(errc::shape, who, ": expected weights of at least 1 x 1, got ", columns, " columns x ", depth,
                        " deep");
  if (!has_data) return status::make(errc::parameter, who, ": the view of the weights has no data");
  if (!bias.empty() && bias.size() != columns)
    return status::make(errc::shape, who, ": expected a bias for each of ", columns, " columns or none, got ",
                        bias.size());
  if constexpr (mac_traits<M>::integer && sizeof(Bias) == 8) {
    // Leaves room for the products in 64 bits.
    constexpr std::int64_t most = std::int64_t{1} << 62;
    for (const Bias b : bias)
      if (b < -most || b > most)
        return status::make(errc::parameter, who, ": expected a bias in [", -most, ", ", most, "], got ", b);
  }
  const std::size_t zeros = q.weight_zero_points.size();
  if (zeros > 1 && zeros != columns)
    return status::make(errc::shape, who, ": expected 0, 1 or ", columns, " weight zero points, got ", zeros);
  if constexpr (has_integer_weights<M>) {
    for (const std::int32_t z : q.weight_zero_points)
      if (z < -256 || z > 256)
        return status::make(errc::parameter, who, ": expected weight zero points in [-256, 256], got ", z);
  }
  if constexpr (!M::linear || !has_integer_weights<M> || !std::is_integral_v<typename M::activation>) {
    if (q.activation_zero_point != typename M::activation{} || zeros != 0)
      return status::make(errc::parameter, who, ": zero points need an integer arithmetic that is linear, ", M::name,
                          " is not");
  }
  return {};
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
