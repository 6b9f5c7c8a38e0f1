// SPDX-License-Identifier: MIT
// An epilogue of the example's own: y = clip(floor((sum * mul + add) / divisor), 0, top).
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/epilogue/epilogue.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace example {

/// Exact: with u = sum * sign(mul), y is the number of steps T(1) ... T(top) that are not above u, where
/// T(q) = ceil((q * divisor - add) / |mul|) is found in integers. Where the instruction set has blocks of sums, it is
/// the floor of a line in float, which is compared with the steps on both sides of each; neither function falls
/// where u rises, so then they are equal everywhere.
class clipped_line : public polymac::epilogue::stage {
 public:
  static constexpr std::int32_t top = 3;

  clipped_line(std::span<const std::int32_t> mul, std::span<const std::int32_t> add, std::int64_t divisor) {
    columns_ = mul.size();
    const std::size_t filled = columns_ + 64;  // blocks read beyond the last column
    sign_.assign(filled, 1);
    for (auto& step : steps_) step.assign(filled, 0);
    for (auto* v : {&high_, &low_, &offset_}) v->assign(filled, 0.0F);
    for (std::size_t c = 0; c < columns_ && c < add.size(); ++c) find(c, mul[c], add[c], divisor);
  }

  polymac::status check(std::size_t columns) const noexcept {
    using polymac::errc;
    if (columns != columns_)
      return polymac::status::make(errc::shape, "clipped_line: expected ", columns, " columns, got ", columns_);
    if (unproved_ < columns_)
      return polymac::status::make(errc::unsupported, "clipped_line: no line in float for column ", unproved_);
    return {};
  }
  template <std::signed_integral Sum>
  std::int8_t operator()(Sum sum, std::size_t, std::size_t column) const noexcept {
    const Sum u = sum * static_cast<Sum>(sign_[column]);
    int y = 0;
    for (const auto& step : steps_) y += u >= step[column] ? 1 : 0;
    return static_cast<std::int8_t>(y);
  }
  struct view_type {
    const float *high, *low, *offset;
    template <class Block>
    requires requires(Block b, const float* f) { b.template scale_in_float<false, false>(f, f, f); }
    POLYMAC_INLINE auto lanes(const Block& sums, polymac::epilogue::place p) const noexcept {
      auto y = sums.template scale_in_float<false, false>(high + p.column, low + p.column, offset + p.column)
                   .template narrow<std::int8_t>(0);
      y.clamp(0, top);
      return y;
    }
  };
  view_type view() const noexcept { return {high_.data(), low_.data(), offset_.data()}; }

 private:
  static std::int64_t divide_up(std::int64_t a, std::int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }

  void find(std::size_t c, std::int32_t mul, std::int32_t add, std::int64_t divisor) {
    const std::int64_t slope = mul < 0 ? -std::int64_t{mul} : std::int64_t{mul};
    sign_[c] = mul < 0 ? -1 : 1;
    const double real = static_cast<double>(slope) / static_cast<double>(divisor);
    high_[c] = static_cast<float>(real);
    low_[c] = static_cast<float>(real - static_cast<double>(high_[c]));
    const double held = static_cast<double>(high_[c]) + static_cast<double>(low_[c]);
    double lower = -std::numeric_limits<double>::infinity(), upper = -lower;
    for (std::int64_t q = 1; q <= top; ++q) {
      constexpr std::int64_t reach = std::int64_t{1} << 23;  // sums beyond it do not happen: 2^20 inputs of at most 7
      const std::int64_t rest = q * divisor - add;
      std::int64_t step = slope > 0 ? divide_up(rest, slope) : rest <= 0 ? -reach : reach;
      step = step < -reach ? -reach : step > reach ? reach : step;
      steps_[static_cast<std::size_t>(q - 1)][c] = static_cast<std::int32_t>(step);
      const double at = held * static_cast<double>(step), before = held * static_cast<double>(step - 1);
      const auto target = static_cast<double>(q);
      if (step > -reach) upper = upper < target - before ? upper : target - before;
      if (step < reach) lower = lower > target - at ? lower : target - at;
    }
    if (lower == -std::numeric_limits<double>::infinity()) lower = upper - 1.0;
    if (upper == std::numeric_limits<double>::infinity()) upper = lower + 1.0;
    offset_[c] = static_cast<float>((lower + upper) / 2);
    // sum * low + offset is rounded to a float, at most 2^-24 of it away.
    const auto offset = static_cast<double>(offset_[c]);
    const double margin = (offset < 0 ? -offset : offset) * 0x1p-22 + 0x1p-22;
    if (!(lower + margin <= offset && offset <= upper - margin) && unproved_ > c) unproved_ = c;
    if (mul < 0) high_[c] = -high_[c], low_[c] = -low_[c];
  }

  std::size_t columns_ = 0, unproved_ = std::numeric_limits<std::size_t>::max();
  std::vector<std::int32_t> sign_;
  std::vector<std::int32_t> steps_[top];
  std::vector<float> high_, low_, offset_;
};

}  // namespace example
