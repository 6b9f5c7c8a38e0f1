// SPDX-License-Identifier: MIT
// The golden model of the layers with weights: plain loops over M::multiply_add, one product at a time, gathered in
// sums that cannot overflow. Zero points are taken off product by product, padding is decided where it is read.
#pragma once

#include "support/arithmetics.hpp"

#include <polymac/core/concepts.hpp>
#include <polymac/core/view.hpp>
#include <polymac/core/window.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace polymac_test {

/// A sum, and for inexact arithmetics the sum of magnitudes and the number of products.
template <class M>
struct golden_sum {
  using traits = polymac::mac_traits<M>;
  using wide = std::conditional_t<traits::integer, std::int64_t, double>;
  wide value{};
  double magnitude = 0.0;
  std::size_t products = 0;

  void start(typename traits::wide bias) {
    value = static_cast<wide>(bias);
    magnitude = std::abs(static_cast<double>(bias));
  }
  /// Adds f(a - zero, w - weight_zero).
  template <class Weight>
  void add(typename M::activation a, typename M::activation zero, Weight w, std::int32_t weight_zero) {
    ++products;
    if constexpr (std::is_integral_v<typename M::weight>) {
      const std::int64_t v = static_cast<std::int64_t>(w) - weight_zero;
      if (is_weight(v))
        value += one_product(a, v) - one_product(zero, v);
      else
        value += product(a, v) - product(zero, v);
    } else if constexpr (requires { M::error_bound(products, magnitude); }) {
      const double p = static_cast<double>(a) * static_cast<double>(w);
      value += p;
      magnitude += std::abs(p);
    } else {
      value += static_cast<wide>(M::multiply_add(typename M::accumulator{}, a, w));
    }
  }
  /// What the layer hands to its epilogue must be this.
  bool agrees(typename traits::sum actual) const {
    if constexpr (traits::integer) {
      using limit = std::numeric_limits<typename traits::sum>;
      const wide low = limit::min(), high = limit::max();
      return (value < low ? low : value > high ? high : value) == static_cast<wide>(actual);
    } else if constexpr (requires { M::error_bound(products, magnitude); }) {
      return std::abs(static_cast<double>(actual) - value) <= M::error_bound(products, magnitude);
    } else {
      return value == static_cast<double>(actual);
    }
  }

 private:
  static bool is_weight(std::int64_t w) {
    using limit = std::numeric_limits<typename M::weight>;
    return w >= limit::min() && w <= limit::max();
  }
  static wide one_product(typename M::activation a, std::int64_t w) {
    return static_cast<wide>(M::multiply_add(typename M::accumulator{}, a, static_cast<typename M::weight>(w)));
  }
  /// A weight that is no weight of M is the sum of two halves. Not inlined: recursion makes much code of it.
  POLYMAC_NOINLINE static wide product(typename M::activation a, std::int64_t w) {
    if (is_weight(w)) return one_product(a, w);
    return product(a, w / 2) + product(a, w - w / 2);
  }
};

/// Everything about the weights but their shape.
template <class M>
struct golden_terms {
  std::span<const typename polymac::mac_traits<M>::wide> bias{};
  typename M::activation zero{};
  std::span<const std::int32_t> weight_zeros{};

  golden_sum<M> begin(std::size_t column) const {
    golden_sum<M> sum;
    if (!bias.empty()) sum.start(bias[column]);
    return sum;
  }
  std::int32_t weight_zero(std::size_t column) const {
    return weight_zeros.empty() ? 0 : weight_zeros[weight_zeros.size() == 1 ? 0 : column];
  }
};

/// [rows][columns] of x[rows][depth], w[columns][depth].
template <class M, class Weights>
std::vector<golden_sum<M>> golden_linear(polymac::matrix_view<const typename M::activation> x, const Weights& w,
                                         const golden_terms<M>& terms) {
  std::vector<golden_sum<M>> y;
  y.reserve(x.rows * w.rows);
  for (std::size_t r = 0; r < x.rows; ++r)
    for (std::size_t c = 0; c < w.rows; ++c) {
      auto sum = terms.begin(c);
      for (std::size_t k = 0; k < x.columns; ++k) sum.add(x(r, k), terms.zero, w(c, k), terms.weight_zero(c));
      y.push_back(sum);
    }
  return y;
}

/// The sums of one window: `channels` input channels from `first` on, weight_of(ky, kx, channel).
template <class M, class WeightOf>
void add_window(golden_sum<M>& sum, polymac::image_view<const typename M::activation> x, const polymac::window& w,
                polymac::padding2d pads, std::size_t n, std::size_t oy, std::size_t ox, std::size_t first,
                std::size_t channels, const golden_terms<M>& terms, std::int32_t weight_zero,
                const WeightOf& weight_of) {
  for (std::size_t ky = 0; ky < w.kernel.height; ++ky)
    for (std::size_t kx = 0; kx < w.kernel.width; ++kx) {
      const auto iy = static_cast<std::ptrdiff_t>(oy * w.stride.height + ky * w.dilation.height) -
                      static_cast<std::ptrdiff_t>(pads.top);
      const auto ix = static_cast<std::ptrdiff_t>(ox * w.stride.width + kx * w.dilation.width) -
                      static_cast<std::ptrdiff_t>(pads.left);
      const bool inside =
          iy >= 0 && ix >= 0 && iy < static_cast<std::ptrdiff_t>(x.height) && ix < static_cast<std::ptrdiff_t>(x.width);
      if (!inside) continue;
      for (std::size_t c = 0; c < channels; ++c)
        sum.add(x(n, static_cast<std::size_t>(iy), static_cast<std::size_t>(ix), first + c), terms.zero,
                weight_of(ky, kx, c), weight_zero);
    }
}

/// [n][oy][ox][o]; weights OHWI.
template <class M, class Weights>
std::vector<golden_sum<M>> golden_conv2d(polymac::image_view<const typename M::activation> x, const Weights& weights,
                                         const polymac::window& w, polymac::padding2d pads, polymac::extent2d output,
                                         std::size_t groups, const golden_terms<M>& terms) {
  std::vector<golden_sum<M>> y;
  const std::size_t columns = weights.batch / groups;
  for (std::size_t n = 0; n < x.batch; ++n)
    for (std::size_t oy = 0; oy < output.height; ++oy)
      for (std::size_t ox = 0; ox < output.width; ++ox)
        for (std::size_t o = 0; o < weights.batch; ++o) {
          auto sum = terms.begin(o);
          add_window(sum, x, w, pads, n, oy, ox, o / columns * weights.channels, weights.channels, terms,
                     terms.weight_zero(o),
                     [&](std::size_t ky, std::size_t kx, std::size_t c) { return weights(o, ky, kx, c); });
          y.push_back(sum);
        }
  return y;
}

/// [n][oy][ox][o]; weights 1 x height x width x output channels.
template <class M, class Weights>
std::vector<golden_sum<M>> golden_depthwise(polymac::image_view<const typename M::activation> x, const Weights& weights,
                                            const polymac::window& w, polymac::padding2d pads, polymac::extent2d output,
                                            std::size_t multiplier, const golden_terms<M>& terms) {
  std::vector<golden_sum<M>> y;
  for (std::size_t n = 0; n < x.batch; ++n)
    for (std::size_t oy = 0; oy < output.height; ++oy)
      for (std::size_t ox = 0; ox < output.width; ++ox)
        for (std::size_t o = 0; o < weights.channels; ++o) {
          auto sum = terms.begin(o);
          add_window(sum, x, w, pads, n, oy, ox, o / multiplier, 1, terms, terms.weight_zero(o),
                     [&](std::size_t ky, std::size_t kx, std::size_t) { return weights(0, ky, kx, o); });
          y.push_back(sum);
        }
  return y;
}

/// Empty where every value agrees; else how many do not and the first one. `actual(i)` is value i.
template <class M, class Actual>
std::string disagreement(const std::vector<golden_sum<M>>& expected, const Actual& actual) {
  std::size_t count = 0, first = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (!expected[i].agrees(actual(i)) && count++ == 0) first = i;
  if (count == 0) return {};
  std::ostringstream text;
  text << M::name << ": " << count << " of " << expected.size() << " sums are wrong, the first at " << first
       << ": expected " << expected[first].value << ", got " << +actual(first);
  return text.str();
}

}  // namespace polymac_test
