// SPDX-License-Identifier: MIT
// Keys and values of one head, as attention reads them from a cache.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/isa/halves.hpp"
#include "polymac/kernel/fetch.hpp"
#include "polymac/layer/attention_tile.hpp"
#include "polymac/layer/cache_format.hpp"
#include "polymac/layer/heads_bounds.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// The panels of one head of a kv_cache for attention with types T: where they are, or widened into a workspace, block by
/// block.
template <class Cache, class T>
class cache_reader {
  using key_panels = typename Cache::key_panels;
  using value_panels = typename Cache::value_panels;
  using element = typename Cache::element;
  static constexpr std::size_t columns = key_panels::columns;
  static constexpr bool has_scales = Cache::has_scales, has_starts = Cache::has_starts, packs = Cache::packs;
  using target_keys = typename T::key_panels;
  using target_values = typename T::value_panels;
  using target = typename target_keys::element;
  /// Are elements read where they are?
  static constexpr bool in_place = std::is_same_v<element, target>;
  /// Or can they become what is read?
  static constexpr bool widens = std::is_same_v<target, typename key_panels::element>;
  static constexpr bool same_panels =
      target_keys::columns == key_panels::columns && target_keys::depth == key_panels::depth &&
      target_values::columns == value_panels::columns && target_values::depth == value_panels::depth;
  static_assert(same_panels && (in_place || widens) && T::product::has_scales == has_scales &&
                    std::is_same_v<typename target_values::element, target> &&
                    !isa::has_summary<typename T::score_atom>,
                "polymac: attention over a cache reads what the cache keeps: attention<mac::float32> over "
                "mac::float32 or mac::fp16, attention<mac::fp16> the same, attention<mac::bf16> over mac::bf16, "
                "attention<mac::int8> over mac::int8 or mac::bit_weights<4>");

 public:
  static cache_reader place(const Cache& cache, workspace_pieces& pieces) noexcept {
    const auto take = [&]<class X>(X*, std::size_t count) { return pieces.take<X>(count); };
    cache_reader r;
    r.cache_ = &cache;
    const auto& s = cache.shape_;
    const std::size_t width = tile_width(s.capacity);
    if constexpr (!in_place) {
      r.keys_ = take(r.keys_, (width / columns + 1) * target_keys::stride(T::held_key(s.key_size)));
      r.values_ = take(r.values_, target_values::panels(s.value_size) * target_values::stride(width + T::granularity));
    }
    return r;
  }
  void select(std::size_t head) noexcept { head_ = head; }

  key_block<T> block(std::size_t begin, std::size_t count) const noexcept {
    const Cache& c = *cache_;
    key_block<T> b;
    const element* const values = c.values_.data() + head_ * c.value_panels_ * c.value_stride_ +
                                  Cache::stored(begin / value_panels::depth * value_panels::group);
    const element* const keys = c.keys_.data() + (head_ * c.key_panels_ + begin / columns) * c.key_stride_;
    if constexpr (in_place) {
      b.keys = keys;
      b.key_stride = c.key_stride_;
      b.values = values;
      b.value_stride = c.value_stride_;
    } else {
      b.key_stride = target_keys::stride(T::held_key(c.shape_.key_size));
      widen(keys, values, count, b.key_stride);
      b.keys = keys_;
      b.values = values_;
      b.value_stride = target_values::stride(tile_width(c.shape_.capacity) + T::granularity);
    }
    if constexpr (has_starts) {
      b.key_starts = c.starts_.data() + head_ * c.scale_stride_ + begin;
      b.key_start_stride = columns;
    } else {
      b.key_starts = zero_starts<typename T::key_start, columns>;
    }
    if constexpr (has_scales) {
      b.key_scales = c.key_scales_.data() + head_ * c.scale_stride_ + begin;
      b.value_scales = c.value_scales_.data() + head_ * c.scale_stride_ + begin;
      b.value_scale = c.largest_scales_[head_];
    }
    return b;
  }
  /// Keys and values of so many tokens fill an L1 of 32 KiB, widened: one row takes them from there.
  std::size_t near_keys() const noexcept requires(!in_place) {
    const std::size_t bytes = (cache_->shape_.key_size + cache_->shape_.value_size) * sizeof(*keys_);
    const std::size_t keys = std::size_t{32} * 1024 / bytes / T::granularity * T::granularity;
    return keys < T::granularity ? T::granularity : keys;
  }
  static constexpr bool fetches_ahead = in_place;
  /// Asks for the keys, or the values, of the tokens [begin, end), as far as there are places for them.
  void fetch_keys(std::size_t begin, std::size_t end) const noexcept {
    const Cache& c = *cache_;
    end = polymac::detail::smaller(end, c.places_);
    if (begin >= end) return;
    const std::size_t first = begin / columns, last = polymac::detail::divide_up(end, columns);
    kernel::fetch(c.keys_.data() + (head_ * c.key_panels_ + first) * c.key_stride_, (last - first) * c.key_stride_);
  }
  void fetch_values(std::size_t begin, std::size_t end) const noexcept {
    const Cache& c = *cache_;
    for (std::size_t p = 0; p < c.value_panels_; ++p)
      kernel::fetch(c.values_.data() + (head_ * c.value_panels_ + p) * c.value_stride_ + begin * value_panels::columns,
                    (end - begin) * value_panels::columns);
  }
  const float* key_offset() const noexcept {
    return has_scales ? cache_->offset_.data() + head_ * cache_->shape_.key_size : nullptr;
  }
  typename target_keys::summary key_summary() const noexcept { return {}; }
  typename target_values::summary value_summary() const noexcept { return {}; }

 private:
  static constexpr std::size_t tile_width(std::size_t keys) noexcept { return tile_memory<T>::block_width(keys); }
  void widen(const element* keys, const element* values, std::size_t count, std::size_t key_stride) const noexcept {
    const Cache& c = *cache_;
    const std::size_t group_keys = T::held_key(c.shape_.key_size) / key_panels::depth * key_panels::group;
    for (std::size_t p = 0; p < polymac::detail::divide_up(count, columns); ++p)
      widen_run(keys + p * c.key_stride_, keys_ + p * key_stride, group_keys);
    const std::size_t groups = T::held_tokens(count) / value_panels::depth * value_panels::group;
    const std::size_t value_stride = target_values::stride(tile_width(c.shape_.capacity) + T::granularity);
    for (std::size_t p = 0; p < c.value_panels_; ++p)
      widen_run(values + p * c.value_stride_, values_ + p * value_stride, groups);
  }
  template <class To>
  static void widen_run(const element* from, To* to, std::size_t count) noexcept {
    if constexpr (packs)
      packed_codes::unpack(from, to, polymac::detail::round_up(count, packed_codes::run));
    else
      isa::detail::half_conversion<typename T::isa>::convert(from, to, count);
  }

  const Cache* cache_ = nullptr;
  std::size_t head_ = 0;
  target* keys_ = nullptr;
  target* values_ = nullptr;
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
