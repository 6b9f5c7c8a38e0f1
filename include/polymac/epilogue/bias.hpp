// SPDX-License-Identifier: MIT
// A real bias that is added last.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/epilogue/epilogue.hpp"

#include <concepts>
#include <cstddef>
#include <span>

POLYMAC_BEGIN
namespace epilogue {

/// y = sum + bias[column]. Layers take a bias at construction and start their sums from it; this stage adds it at the
/// end, for whoever needs the rounding of that order (TFLite's float kernels) or a bias behind another stage.
class bias_stage : public stage {
 public:
  constexpr explicit bias_stage(std::span<const float> bias) {
    const status s = bias_.resize(bias.size());
    polymac::detail::raise_unless_ok(s);
    for (std::size_t i = 0; i < bias_.size(); ++i) bias_[i] = bias[i];
  }

  constexpr status check(std::size_t columns) const noexcept {
    if (bias_.size() == columns) return {};
    return status::make(errc::shape, "bias: expected ", columns, " values, one per column, got ", bias_.size());
  }
  constexpr float operator()(float sum, std::size_t, std::size_t column) const noexcept { return sum + bias_[column]; }
  /// The stage on blocks of sums, see epilogue.hpp.
  struct view_type {
    const float* bias;
    template <class Block>
    requires std::same_as<typename Block::value, float> POLYMAC_INLINE Block lanes(Block block, place p)
    const noexcept {
      block.template add<false>(bias + p.column);
      return block;
    }
  };
  constexpr view_type view() const noexcept { return {bias_.data()}; }

 private:
  padded_buffer<float> bias_;
};

/// One value per column.
constexpr auto bias(std::span<const float> values) { return bias_stage(values); }

}  // namespace epilogue
POLYMAC_END
