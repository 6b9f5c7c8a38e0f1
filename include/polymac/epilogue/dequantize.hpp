// SPDX-License-Identifier: MIT
// Dequantisation: integer sum -> float.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/epilogue/epilogue.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <span>

POLYMAC_BEGIN
namespace epilogue {

/// y = float(sum) * scale[column]; two roundings to nearest even. The scale of a contraction is S_x * S_w[column]:
/// finite and at least 0. `Columns` is 1 (one scale for every column), a static number, or `dynamic` (one scale per
/// column).
template <std::size_t Columns = dynamic>
class dequantize_stage : public stage {
 public:
  constexpr explicit dequantize_stage(std::span<const float> scales) {
    const status s = scales_.resize(scales.size());
    polymac::detail::raise_unless_ok(s);
    for (std::size_t i = 0; i < scales_.size(); ++i) scales_[i] = scales[i];
  }

  constexpr status check(std::size_t columns) const noexcept {
    if (scales_.size() != columns && (Columns != 1 || scales_.size() != 1))
      return status::make(errc::shape, "dequantize: expected ", columns, " scales, one per column, got ",
                          scales_.size());
    for (std::size_t i = 0; i < scales_.size(); ++i)
      if (!(scales_[i] >= 0.0f && scales_[i] - scales_[i] == 0.0f))
        return status::make(errc::parameter, "dequantize: expected a finite scale of at least 0, channel ", i);
    return {};
  }
  template <std::signed_integral Sum>
  constexpr float operator()(Sum sum, std::size_t, std::size_t column) const noexcept {
    return static_cast<float>(sum) * scales_[Columns == 1 ? 0 : column];
  }
  /// The stage on blocks of sums, see epilogue.hpp.
  struct view_type {
    const float* scales;
    template <class Block>
    requires requires(Block block) { block.to_float(); }
    POLYMAC_INLINE auto lanes(const Block& block, place p) const noexcept {
      auto values = block.to_float();
      values.template multiply<Columns == 1>(scales + (Columns == 1 ? 0 : p.column));
      return values;
    }
  };
  constexpr view_type view() const noexcept { return {scales_.data()}; }

 private:
  padded_buffer<float, Columns> scales_;
};

/// One scale for every column.
constexpr auto dequantize(float scale) { return dequantize_stage<1>(std::span<const float>(&scale, 1)); }
/// One scale per column.
constexpr auto dequantize(std::span<const float> scales) { return dequantize_stage<>(scales); }
/// One scale per column, their number known at compile time.
template <std::size_t N>
constexpr auto dequantize(const std::array<float, N>& scales) {
  return dequantize_stage<N>(std::span<const float>(scales));
}

}  // namespace epilogue

using epilogue::dequantize;

POLYMAC_END
