// SPDX-License-Identifier: MIT
// Real sums times a scale: what arithmetics on codes with a scale (dynamic fixed point, bit weights, block formats)
// hand on is in units of it.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/epilogue/epilogue.hpp"

#include <concepts>
#include <cstddef>
#include <span>

POLYMAC_BEGIN
namespace epilogue {

/// y = sum * scale[column] of a float sum, rounded to nearest even; powers of two are exact. Scales are finite and
/// above 0. `Columns` is 1 (one scale for every column) or `dynamic` (one scale per column). Integer sums:
/// epilogue::dequantize.
template <std::size_t Columns = dynamic>
class scale_stage : public stage {
 public:
  constexpr explicit scale_stage(std::span<const float> scales) {
    const status s = scales_.resize(scales.size());
    polymac::detail::raise_unless_ok(s);
    for (std::size_t i = 0; i < scales_.size(); ++i) scales_[i] = scales[i];
  }

  constexpr status check(std::size_t columns) const noexcept {
    if (scales_.size() != columns && (Columns != 1 || scales_.size() != 1))
      return status::make(errc::shape, "scale: expected ", columns, " scales, one per column, got ", scales_.size());
    for (std::size_t i = 0; i < scales_.size(); ++i)
      if (!(scales_[i] > 0.0f && scales_[i] - scales_[i] == 0.0f))
        return status::make(errc::parameter, "scale: expected a finite scale above 0, channel ", i, " has ",
                            scales_[i] != scales_[i] ? "NaN"
                            : scales_[i] == 0.0f     ? "0"
                            : scales_[i] < 0.0f      ? "a negative one"
                                                     : "an infinite one");
    return {};
  }
  template <std::floating_point Sum>
  constexpr Sum operator()(Sum sum, std::size_t, std::size_t column) const noexcept {
    return sum * static_cast<Sum>(scales_[Columns == 1 ? 0 : column]);
  }
  /// The stage on blocks of sums, see epilogue.hpp.
  struct view_type {
    const float* scales;
    template <class Block>
    requires std::same_as<typename Block::value, float> POLYMAC_INLINE Block lanes(Block block, place p)
    const noexcept {
      block.template multiply<Columns == 1>(scales + (Columns == 1 ? 0 : p.column));
      return block;
    }
  };
  constexpr view_type view() const noexcept { return {scales_.data()}; }

 private:
  padded_buffer<float, Columns> scales_;
};

/// One scale for every column.
constexpr auto scale(float value) { return scale_stage<1>(std::span<const float>(&value, 1)); }
/// One scale per column.
constexpr auto scale(std::span<const float> values) { return scale_stage<>(values); }

}  // namespace epilogue
POLYMAC_END
