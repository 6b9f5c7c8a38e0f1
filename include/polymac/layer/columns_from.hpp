// SPDX-License-Identifier: MIT
// Some columns of a product by themselves: the stages as those columns need them.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/epilogue/epilogue.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Stages that see columns from `first` on as columns from 0 on.
template <class Stages>
struct columns_from_view {
  Stages stages;
  std::size_t first = 0;
  template <class Block>
  requires requires(const Stages& s, Block block, epilogue::place p) { s.lanes(block, p); }
  constexpr POLYMAC_INLINE auto lanes(const Block& block, epilogue::place p) const noexcept {
    return stages.lanes(block, {p.row, p.column + first});
  }
};
template <epilogue::Stage E>
struct columns_from : epilogue::stage {
  const E* stages = nullptr;
  std::size_t first = 0;
  constexpr columns_from(const E& s, std::size_t f) noexcept : stages(&s), first(f) {}
  constexpr status check(std::size_t columns) const noexcept { return stages->check(columns); }
  template <class V>
  constexpr auto operator()(V value, std::size_t row, std::size_t column) const noexcept {
    return (*stages)(value, row, column + first);
  }
  constexpr auto view() const noexcept requires requires(const E& e) { e.view(); }
  { return columns_from_view<decltype(stages->view())>{stages->view(), first}; }
};

/// Is that a part of a layer with `columns` columns whose panels have `panel` of them? Cuts its end to the layer's.
constexpr status check_part(const char* who, column_range& part, std::size_t columns, std::size_t panel) noexcept {
  if (part.end > columns) part.end = columns;
  if (part.begin < part.end && part.begin % panel == 0 && (part.end % panel == 0 || part.end == columns)) return {};
  return status::make(errc::parameter, who, ": expected a part of the ", columns,
                      " columns that is cut at multiples of ", panel, ", got ", part.begin, " to ", part.end);
}

}  // namespace detail
}  // namespace layer
POLYMAC_END
