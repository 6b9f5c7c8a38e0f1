// SPDX-License-Identifier: MIT
// Requantisation: integer sum -> scaled, rounded, shifted by the output zero point, saturated to the output type.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/fixed_point.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/epilogue/float_form.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace epilogue {

/// Types that hold quantised activations.
template <class T>
concept QuantizedType = std::same_as<T, std::int8_t> || std::same_as<T, std::uint8_t> || std::same_as<T, std::int16_t>;

namespace detail {

/// The float forms of all columns, see float_form.hpp.
template <std::size_t Columns>
struct float_forms {
  padded_buffer<float, Columns> high, low, offset;
  bool proved = false;  ///< for every column

  /// A column that is not proved, or memory that is not there, leaves the integers in charge.
  template <rounding Mode, class Factors>
  constexpr void find(const Factors& factors, std::int32_t least, std::int32_t most) noexcept {
    proved = false;
    const std::size_t count = factors.size();
    if (!high.resize(count).ok() || !low.resize(count).ok() || !offset.resize(count).ok()) return;
    for (std::size_t i = 0; i < count; ++i) {
      float_form form;
      if (!find_float_form<Mode>({factors.multiplier[i], factors.left[i] - factors.right[i]}, least, most, form))
        return;
      high[i] = form.high;
      low[i] = form.low;
      offset[i] = form.offset;
    }
    proved = true;
  }
};

/// The factors of a stage, one array per component so that a loop over columns vectorises. A static count of 1 serves
/// every column; which of the two it is, is a type, so that the inner loop has no branch, no stride.
template <rounding Mode, std::size_t Columns>
struct factors {
  padded_buffer<std::int32_t, Columns> multiplier;  ///< at least 0
  padded_buffer<std::int32_t, Columns> left;        ///< the shift where it is positive
  padded_buffer<std::int32_t, Columns> right;       ///< its negative where it is not
  float_forms<Columns> in_float;                    ///< the same functions in float, where all are proved

  constexpr status resize(std::size_t count) noexcept {
    status s = multiplier.resize(count);
    if (s.ok()) s = left.resize(count);
    return s.ok() ? right.resize(count) : s;
  }
  constexpr std::size_t size() const noexcept { return right.size(); }
  constexpr void set(std::size_t i, fixed_point::factor f) noexcept {
    // One rounding depends on the product of both only: bring the multiplier into [2^30, 2^31), which round_once needs.
    // Two roundings depend on each, and stay as they are.
    if constexpr (Mode != rounding::gemmlowp)
      for (; f.multiplier > 0 && f.multiplier < (1 << 30) && f.shift > fixed_point::min_shift; --f.shift)
        f.multiplier *= 2;
    multiplier[i] = f.multiplier;
    left[i] = f.shift > 0 ? f.shift : 0;
    right[i] = f.shift > 0 ? 0 : -f.shift;
  }
  constexpr void set_real(std::size_t i, double real) noexcept { set(i, fixed_point::encode<Mode>(real)); }
  constexpr void set_fixed(std::size_t i, fixed_point::factor f) noexcept {
    if constexpr (Mode == rounding::rndnu)
      set_real(i, fixed_point::decode(f));
    else
      set(i, f);
  }

  /// sum * scale, rounded, in [low, high]. For 32-bit sums without branches and without 64-bit shifts by a variable,
  /// which few vector units have.
  template <std::signed_integral Sum>
  constexpr std::int32_t apply(Sum sum, std::size_t i, std::int32_t low, std::int32_t high) const noexcept {
    std::int32_t y = 0;
    if constexpr (sizeof(Sum) > 4)
      y = fixed_point::multiply_by_quantized_multiplier<Mode>(std::int64_t{sum}, multiplier[i], left[i] - right[i]);
    else if constexpr (Mode == rounding::gemmlowp)
      y = fixed_point::rounding_divide_by_power_of_two(
          doubling_high(fixed_point::wrapping_shift_left(sum, left[i]), multiplier[i], 1 << 30), right[i]);
    else
      y = round_once(sum, multiplier[i], left[i], right[i]);
    const std::int32_t raised = y < low ? low : y;
    return raised > high ? high : raised;
  }

  /// Readies the float forms for results in [low, high] of 8 bits.
  constexpr void finish(std::int32_t low, std::int32_t high) noexcept {
    if constexpr (has_directed_rounding) in_float.template find<Mode>(*this, low, high);
  }
  /// What a block of sums is scaled with: values, so that nothing that is stored can change them.
  struct view {
    const std::int32_t *multiplier, *left, *right;
    const float *high, *low, *offset;
    bool in_float;
    /// The scaled sums of a block from column i on, not yet saturated; the last argument as `high` of apply().
    template <class Block>
    POLYMAC_INLINE Block scale(const Block& sums, std::size_t i, std::int32_t) const noexcept {
      constexpr bool uniform = Columns == 1;
      if constexpr (has_directed_rounding)
        if (in_float)
          return sums.template scale_in_float<uniform, Mode == rounding::gemmlowp>(high + i, low + i, offset + i);
      if constexpr (Mode == rounding::gemmlowp)
        return sums.template scale_rounding_twice<uniform>(multiplier + i, left + i, right + i);
      else
        return sums.template scale_rounding_once<uniform>(multiplier + i, left + i, right + i);
    }
  };
  constexpr view values() const noexcept {
    return {multiplier.data(),      left.data(),    right.data(), in_float.high.data(), in_float.low.data(),
            in_float.offset.data(), in_float.proved};
  }

 private:
  /// floor((a * b + nudge) / 2^31), b >= 0: it fits 32 bits, so the low half of a logical shift is it.
  static constexpr std::int32_t doubling_high(std::int32_t a, std::int32_t b, std::int32_t nudge) noexcept {
    const std::int64_t product = static_cast<std::int64_t>(a) * b + nudge;
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint64_t>(product) >> 31));
  }
  /// floor(x * m * 2^(left - right - 31) + 1/2). A right shift rounds in two floors, of which the first drops the bits
  /// below 2^31: floor(floor(p / 2^31) / 2^r + 1/2), whose half is the bit under the last one kept. A left shift
  /// saturates: what it saturates is beyond 2^30 after the product, outside of every output type.
  static constexpr std::int32_t round_once(std::int32_t x, std::int32_t m, std::int32_t left,
                                           std::int32_t right) noexcept {
    const std::int32_t least = std::numeric_limits<std::int32_t>::min() >> left;
    const std::int32_t most = std::numeric_limits<std::int32_t>::max() >> left;
    const std::int32_t saturated = x < least ? least : x > most ? most : x;
    const std::int32_t rounds = right > 0 ? 1 : 0;
    const std::int32_t h = doubling_high(fixed_point::wrapping_shift_left(saturated, left), m, (1 - rounds) << 30);
    return (h >> right) + ((h >> (right - rounds)) & rounds);
  }
};

template <std::size_t Columns>
struct factors<rounding::fp32_nearest_even, Columns> {
  padded_buffer<float, Columns> real_scale;
  /// Must products be bounded before they are converted to integers? Not where all scales are below 1.
  bool bounded = true;

  constexpr status resize(std::size_t count) noexcept { return real_scale.resize(count); }
  constexpr std::size_t size() const noexcept { return real_scale.size(); }
  constexpr void set_real(std::size_t i, double real) noexcept { real_scale[i] = static_cast<float>(real); }
  constexpr void set_fixed(std::size_t i, fixed_point::factor f) noexcept { set_real(i, fixed_point::decode(f)); }
  /// As above. Clamped before it is rounded, as XNNPACK does: the bounds are integers, so the result is the same.
  template <std::signed_integral Sum>
  constexpr std::int32_t apply(Sum sum, std::size_t i, std::int32_t low, std::int32_t high) const noexcept {
    const float least = static_cast<float>(low);
    const float most = static_cast<float>(high);
    const float y = static_cast<float>(sum) * real_scale[i];
    const float raised = y < least ? least : y;
    return fixed_point::round_small_to_nearest_even(raised > most ? most : raised);
  }
  constexpr void finish(std::int32_t, std::int32_t) noexcept {
    bounded = false;
    for (std::size_t i = 0; i < size(); ++i) bounded = bounded || !(real_scale[i] < 1.0f);
  }
  struct view {
    const float* scales;
    bool bounded;
    template <class Block>
    POLYMAC_INLINE Block scale(const Block& sums, std::size_t i, std::int32_t high) const noexcept {
      if (bounded) return sums.template scale_to_nearest_even<Columns == 1, true>(scales + i, static_cast<float>(high));
      return sums.template scale_to_nearest_even<Columns == 1, false>(scales + i, 0.0f);
    }
  };
  constexpr view values() const noexcept { return {real_scale.data(), bounded}; }
};

}  // namespace detail

/// y = saturate(round(sum * scale[column]) + zero_point) to the range of `Out`.
///
/// The scale of a contraction is S_x * S_w[column] / S_y: finite, at least 0 (0 gives the zero point: a dead channel)
/// and below 2^30. 32-bit sums follow `Mode`; so do 64-bit sums (int16 activations) in mode half_up, in the other
/// integer modes they follow TFLite's rule of the 16-bit multiplier. `Columns` is 1 (one scale for every column), a
/// static number of columns, or `dynamic` (one scale per column, owned on the heap). A mistake in the parameters is
/// reported by `check`, which every layer calls once. Source: TFLite's quantisation specification; gemmlowp, ruy,
/// XNNPACK for the modes.
template <rounding Mode = rounding::gemmlowp, std::size_t Columns = dynamic, QuantizedType Out = std::int8_t>
class requantize_stage : public stage {
 public:
  static constexpr rounding mode = Mode;
  using output = Out;

  /// From real scales. One scale may stand for `columns` ones.
  template <std::floating_point Real>
  static constexpr requantize_stage from_scales(std::span<const Real> scales, std::int32_t zero_point,
                                                std::size_t columns = Columns == dynamic ? 0 : Columns) {
    requantize_stage made(zero_point, scales.size(), columns);
    for (std::size_t i = 0; i < made.factors_.size(); ++i) {
      const Real scale = scales[scales.size() == 1 ? 0 : i];
      if (scale >= Real{0} && scale < Real{1 << fixed_point::max_shift})  // false for NaN
        made.factors_.set_real(i, static_cast<double>(scale));
      else
        made.blame("expected a finite scale in [0, 2^30)", i);
    }
    made.finish();
    return made;
  }

  /// From multipliers in [0, 2^31) and shifts in [-31, 30]: scale = multiplier * 2^(shift - 31). One pair may stand for
  /// `columns` ones.
  static constexpr requantize_stage from_fixed_point(std::span<const std::int32_t> multipliers,
                                                     std::span<const std::int32_t> shifts, std::int32_t zero_point,
                                                     std::size_t columns = Columns == dynamic ? 0 : Columns) {
    if (shifts.size() != multipliers.size()) {
      requantize_stage none(zero_point, 0, 0);
      none.blame("expected as many shifts as multipliers", multipliers.size());
      return none;
    }
    requantize_stage made(zero_point, multipliers.size(), columns);
    for (std::size_t i = 0; i < made.factors_.size(); ++i) {
      const std::size_t from = multipliers.size() == 1 ? 0 : i;
      if (multipliers[from] < 0)
        made.blame("expected a multiplier in [0, 2^31)", i);
      else if (shifts[from] < fixed_point::min_shift || shifts[from] > fixed_point::max_shift)
        made.blame("expected a shift in [-31, 30]", i);
      else
        made.factors_.set_fixed(i, {multipliers[from], shifts[from]});
    }
    made.finish();
    return made;
  }

  /// Number of scales held.
  constexpr std::size_t size() const noexcept { return factors_.size(); }
  constexpr std::int32_t zero_point() const noexcept { return zero_point_; }

  constexpr status check(std::size_t columns) const noexcept {
    if (fault_ != nullptr) return status::make(errc::parameter, "requantize: ", fault_, ", channel ", fault_channel_);
    if (size() != columns && (Columns != 1 || size() != 1))
      return status::make(errc::shape, "requantize: expected ", columns, " scales, one per column, got ", size());
    if (zero_point_ < lowest || zero_point_ > highest)
      return status::make(errc::parameter, "requantize: expected an output zero point in [", lowest, ", ", highest,
                          "], got ", zero_point_);
    return {};
  }

  template <std::signed_integral Sum>
  constexpr Out operator()(Sum sum, std::size_t, std::size_t column) const noexcept {
    // Saturates before the zero point is added: no sum can wrap around.
    const std::int32_t scaled =
        factors_.apply(sum, Columns == 1 ? 0 : column, lowest - zero_point_, highest - zero_point_);
    return static_cast<Out>(scaled + zero_point_);
  }
  /// The stage on blocks of sums, see epilogue.hpp.
  struct view_type {
    typename detail::factors<Mode, Columns>::view factors;
    std::int32_t zero_point;
    template <class Block>
    requires requires(const Block& block) { block.template narrow<Out>(0); }
    POLYMAC_INLINE auto lanes(const Block& sums, place p) const noexcept {
      return factors.scale(sums, Columns == 1 ? 0 : p.column, highest - zero_point).template narrow<Out>(zero_point);
    }
  };
  constexpr view_type view() const noexcept { return {factors_.values(), zero_point_}; }

 private:
  static constexpr std::int32_t lowest = std::numeric_limits<Out>::min();
  static constexpr std::int32_t highest = std::numeric_limits<Out>::max();

  constexpr requantize_stage(std::int32_t zero_point, std::size_t given, std::size_t columns)
      : zero_point_(zero_point) {
    const std::size_t count = given == 1 && columns != 0 ? columns : given;
    if (columns != 0 && count != columns)
      blame("expected one scale, or one per column, got another number of them", given);
    else
      polymac::detail::raise_unless_ok(factors_.resize(count));
  }
  constexpr void finish() noexcept {
    if constexpr (sizeof(Out) == 1)
      if (fault_ == nullptr && zero_point_ >= lowest && zero_point_ <= highest)
        factors_.finish(lowest - zero_point_, highest - zero_point_);
  }
  constexpr void blame(const char* fault, std::size_t channel) noexcept {
    if (fault_ != nullptr) return;  // the first one counts
    fault_ = fault;
    fault_channel_ = channel;
  }

  detail::factors<Mode, Columns> factors_;
  std::int32_t zero_point_ = 0;
  const char* fault_ = nullptr;
  std::size_t fault_channel_ = 0;
};

/// One scale for every column.
template <rounding Mode = rounding::gemmlowp, QuantizedType Out = std::int8_t>
constexpr auto requantize(double scale, std::int32_t zero_point) {
  return requantize_stage<Mode, 1, Out>::from_scales(std::span<const double>(&scale, 1), zero_point);
}

/// One scale per column.
template <rounding Mode = rounding::gemmlowp, QuantizedType Out = std::int8_t>
constexpr auto requantize(std::span<const double> scales, std::int32_t zero_point) {
  return requantize_stage<Mode, dynamic, Out>::from_scales(scales, zero_point);
}
template <rounding Mode = rounding::gemmlowp, QuantizedType Out = std::int8_t>
constexpr auto requantize(std::span<const float> scales, std::int32_t zero_point) {
  return requantize_stage<Mode, dynamic, Out>::from_scales(scales, zero_point);
}

/// One scale per column, their number known at compile time: kept inside the stage, no heap.
template <rounding Mode = rounding::gemmlowp, QuantizedType Out = std::int8_t, std::floating_point Real, std::size_t N>
constexpr auto requantize(const std::array<Real, N>& scales, std::int32_t zero_point) {
  return requantize_stage<Mode, N, Out>::from_scales(std::span<const Real>(scales), zero_point);
}

/// One multiplier and shift per column.
template <rounding Mode = rounding::gemmlowp, QuantizedType Out = std::int8_t>
constexpr auto requantize(std::span<const std::int32_t> multipliers, std::span<const std::int32_t> shifts,
                          std::int32_t zero_point) {
  return requantize_stage<Mode, dynamic, Out>::from_fixed_point(multipliers, shifts, zero_point);
}

}  // namespace epilogue

using epilogue::requantize;

POLYMAC_END
