// SPDX-License-Identifier: MIT
// Mean over any set of axes.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/fixed_point.hpp"
#include "polymac/kernel/elementwise.hpp"
#include "polymac/layer/view_check.hpp"

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// Which axes a reduction runs over.
struct axes {
  bool batch = false;
  bool height = false;
  bool width = false;
  bool channels = false;
};

/// y = mean of x over the chosen axes; those have extent 1 in y.
///
///   float       sum / count, summed in the order batch, height, width, channels
///   int8, int16 TFLite's rule: the sum less the zero points, scaled by S_x / S_y / count as one multiplier (cut to 31
///               bits), gemmlowp rounding; input and output may have different quantisations
///
/// x and y must not overlap. Source: TFLite's reference MEAN.
template <class T>
class mean {
  static constexpr bool integer = std::integral<T>;
  static_assert(sizeof(T) <= 2 || !integer, "polymac: mean takes codes of 8 or 16 bits, or floats");

 public:
  using activation = T;
  using output = T;

  constexpr mean(const axes& over, const affine& x, const affine& y)
    requires std::integral<T>
      : over_(over), input_(x), output_(y) {
    status_ = polymac::detail::check<T>("mean", "input", x);
    if (status_.ok()) status_ = polymac::detail::check<T>("mean", "output", y);
    polymac::detail::raise_unless_ok(status_);
  }
  constexpr explicit mean(const axes& over)
    requires std::floating_point<T>
      : over_(over) {}
  constexpr const polymac::status& status() const noexcept { return status_; }

  /// O(elements of x). Fails on views that do not fit, and then leaves y untouched.
  constexpr polymac::status operator()(image_view<const T> x, image_view<T> y) const noexcept {
    if (!status_.ok()) return status_;
    auto s = detail::check_view("mean", "input", x);
    if (s.ok())
      s = detail::expect_extents("mean", "output", y, over_.batch ? 1 : x.batch, over_.height ? 1 : x.height,
                                 over_.width ? 1 : x.width, over_.channels ? 1 : x.channels);
    if (!s.ok()) return s;
    const kernel::nest_extents count{over_.batch ? x.batch : 1, over_.height ? x.height : 1,
                                     over_.width ? x.width : 1, over_.channels ? x.channels : 1};
    std::size_t total = 1;
    for (const std::size_t c : count) {
      // 2^31 codes of 16 bits stay far inside a 64-bit sum.
      if (c == 0 || c > most_elements / total)
        return polymac::status::make(errc::shape, "mean: expected a mean over 1 to ", most_elements,
                                     " elements, got an axis of ", c);
      total *= c;
    }
    const finish last = finish_for(total);
    for (std::size_t n = 0; n < y.batch; ++n)
      for (std::size_t h = 0; h < y.height; ++h)
        for (std::size_t w = 0; w < y.width; ++w)
          reduce(x.pixel(n, h, w), x, count, last, y.pixel(n, h, w), y.channels);
    return {};
  }

 private:
  static constexpr std::size_t most_elements = std::size_t{1} << 31;
  using accumulator = std::conditional_t<integer, std::int64_t, T>;

  /// What depends on the number of elements.
  struct finish {
    accumulator count{};
    fixed_point::factor factor{};
  };

  constexpr finish finish_for(std::size_t total) const noexcept {
    finish f{static_cast<accumulator>(total), {}};
    if constexpr (integer) {
      const auto real =
          fixed_point::quantize_multiplier(static_cast<double>(input_.scale) / static_cast<double>(output_.scale));
      // 1 / count joins the multiplier: as many bits as its shift can give back.
      std::int32_t bits = 63 - std::countl_zero(static_cast<std::uint64_t>(total));
      bits = bits < 31 + real.shift ? bits : 31 + real.shift;
      f.factor = {static_cast<std::int32_t>((std::int64_t{real.multiplier} << bits) / f.count), real.shift - bits};
    }
    return f;
  }

  /// One output pixel: blocks of channels are summed side by side, or one channel over the channels of x.
  constexpr void reduce(const T* from, const image_view<const T>& x, const kernel::nest_extents& count,
                        const finish& last, T* to, std::size_t channels) const noexcept {
    constexpr std::size_t block = 64;
    accumulator sum[block]{};
    for (std::size_t c = 0; c < channels; c += block) {
      const std::size_t width = channels - c < block ? channels - c : block;
      for (std::size_t i = 0; i < width; ++i) sum[i] = accumulator{};
      for (std::size_t n = 0; n < count[0]; ++n)
        for (std::size_t h = 0; h < count[1]; ++h)
          for (std::size_t w = 0; w < count[2]; ++w) {
            const T* p = from + n * x.image_stride + h * x.line_stride + w * x.pixel_stride + c;
            for (std::size_t k = 0; k < count[3]; ++k)
              for (std::size_t i = 0; i < width; ++i) sum[i] += static_cast<accumulator>(p[k + i]);
          }
      for (std::size_t i = 0; i < width; ++i) to[c + i] = finished(sum[i], last);
    }
  }

  constexpr T finished(accumulator sum, const finish& last) const noexcept {
    if constexpr (integer) {
      const std::int64_t centred = sum - last.count * input_.zero_point;
      const std::int32_t scaled = fixed_point::multiply_by_quantized_multiplier(
          fixed_point::saturate_cast<std::int32_t>(centred), last.factor.multiplier, last.factor.shift);
      return fixed_point::saturate_cast<T>(std::int64_t{scaled} + output_.zero_point);
    } else {
      return sum / last.count;
    }
  }

  axes over_;
  affine input_{};
  affine output_{};
  polymac::status status_{};
};

}  // namespace layer
POLYMAC_END
