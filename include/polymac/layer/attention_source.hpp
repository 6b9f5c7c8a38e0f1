// SPDX-License-Identifier: MIT
// Keys and values of one head, packed into a workspace from where they are.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/operands.hpp"
#include "polymac/layer/attention_panels.hpp"
#include "polymac/layer/attention_tile.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// The panels of all keys and values of a head, as floats or codes of the arithmetic. Costs a pass over both, once for
/// all queries of a head (two for codes, which need the largest element first).
template <class T>
class packed_head {
  using product = typename T::product;
  using key = typename T::key_panels::weight;
  using value = typename T::value_panels::weight;
  static constexpr bool has_scales = product::has_scales;
  static constexpr bool has_starts = T::score_atom::activation_offset != 0;
  static constexpr std::size_t columns = T::score_atom::columns;
  /// Tokens that are converted at a time.
  static constexpr std::size_t rows_at_once = columns % T::value_atom::depth == 0 ? columns : T::value_atom::depth;
  static constexpr bool copies_keys = !std::is_same_v<key, float>, copies_values = !std::is_same_v<value, float>;

 public:
  packed_head() noexcept = default;

  static packed_head place(const attention_shape& s, std::size_t keys, workspace_pieces& pieces) noexcept {
    const auto take = [&]<class X>(X*, std::size_t count) { return pieces.take<X>(count); };
    packed_head h;
    const std::size_t panels = T::key_panels::panels(keys);
    h.key_stride_ = T::key_panels::stride(T::held_key(s.key_size));
    h.value_stride_ = T::value_panels::stride(T::held_tokens(keys));
    h.keys_ = take(h.keys_, panels * h.key_stride_);
    h.values_ = take(h.values_, T::value_panels::panels(s.value_size) * h.value_stride_);
    if constexpr (has_starts) h.starts_ = take(h.starts_, panels * columns);
    if constexpr (has_scales) {
      h.key_scales_ = take(h.key_scales_, polymac::detail::divide_up(keys, T::block));
      h.mean_ = take(h.mean_, s.key_size);
      h.value_scales_ = take(h.value_scales_, s.value_size);
      h.inverses_ = take(h.inverses_, s.value_size);
    }
    if constexpr (copies_keys) h.key_rows_ = take(h.key_rows_, columns * s.key_size);
    if constexpr (copies_values) h.value_rows_ = take(h.value_rows_, rows_at_once * s.value_size);
    return h;
  }

  /// Packs the keys [first, last) of a head of batch n, as the keys from 0 on. k and v end with the last token that
  /// counts.
  void pack(const heads_view<const float>& k, const heads_view<const float>& v, std::size_t n, std::size_t head,
            std::size_t first, std::size_t last) noexcept {
    key_summary_ = {};
    value_summary_ = {};
    pack_keys(k, n, head, first, last);
    pack_values(v, n, head, first, last);
  }

  key_block<T> block(std::size_t begin, std::size_t) const noexcept {
    key_block<T> b;
    b.keys = keys_ + begin / columns * key_stride_;
    b.key_stride = key_stride_;
    if constexpr (has_starts) {
      b.key_starts = starts_ + begin;
      b.key_start_stride = columns;
    } else {
      b.key_starts = zero_starts<typename T::key_start, columns>;
    }
    b.values = values_ + begin / T::value_atom::depth * T::value_panels::group;
    b.value_stride = value_stride_;
    if constexpr (has_scales) b.key_scale = key_scales_[begin / T::block];
    return b;
  }
  static constexpr bool fetches_ahead = false;
  /// What all keys were packed less of, or none.
  const float* key_offset() const noexcept {
    if constexpr (requires { requires product::centres_keys; })
      return mean_;
    else
      return nullptr;
  }
  const auto& key_summary() const noexcept { return key_summary_; }
  const auto& value_summary() const noexcept { return value_summary_; }
  /// Of the elements of a value, or none.
  const float* value_scales() const noexcept { return value_scales_; }

 private:
  void pack_keys(const heads_view<const float>& k, std::size_t n, std::size_t head, std::size_t first,
                 std::size_t last) noexcept {
    if constexpr (has_scales) find_mean(k, n, head);
    for (std::size_t b = first; b < last; b += T::block) {
      const std::size_t end = polymac::detail::smaller(b + T::block, last);
      [[maybe_unused]] float inverse = 1.0f;
      if constexpr (has_scales) {
        const float scale = product::codes::scale_of(
            kernel::largest_magnitude<typename T::isa>(k.at(n, b, head), k.token_stride, end - b, mean_, k.size));
        key_scales_[(b - first) / T::block] = scale;
        inverse = product::codes::inverse_of(scale);
      }
      for (std::size_t j = b; j < end; j += columns) {
        const std::size_t count = polymac::detail::smaller(columns, end - j), p = (j - first) / columns;
        auto* const panel = keys_ + p * key_stride_;
        if constexpr (!copies_keys) {
          T::key_panels::write_columns(panel, k.at(n, j, head), k.token_stride, count, k.size, T::held_key(k.size),
                                       key_summary_);
        } else {
          for (std::size_t c = 0; c < count; ++c) {
            const float* const from = k.at(n, j + c, head);
            key* const to = key_rows_ + c * k.size;
            if constexpr (has_scales)
              kernel::to_codes<typename T::isa, true>(from, mean_, &inverse, product::codes::limit, to, k.size);
            else
              kernel::to_operands<typename T::isa>(from, to, k.size);
          }
          T::key_panels::write_columns(panel, key_rows_, k.size, count, k.size, T::held_key(k.size), key_summary_);
          if constexpr (has_starts) add_starts(panel, p, k.size);
        }
      }
    }
  }
  void add_starts(const typename T::key_panels::element* panel, std::size_t p, std::size_t size) noexcept {
    std::int64_t sums[columns]{};
    isa::add_up_columns<typename T::score_atom::isa, columns, T::score_atom::depth>(
        panel, polymac::detail::divide_up(size, T::score_atom::depth), sums);
    for (std::size_t c = 0; c < columns; ++c)
      starts_[p * columns + c] = static_cast<typename T::key_start>(-T::score_atom::activation_offset * sums[c]);
  }
  /// The mean of all keys of the head, whatever part of them is packed: parts of a call must agree on it. One that is a
  /// little off shifts scores by as much.
  void find_mean(const heads_view<const float>& k, std::size_t n, std::size_t head) noexcept {
    for (std::size_t i = 0; i < k.size; ++i) mean_[i] = 0.0f;
    if constexpr (requires { requires product::centres_keys; }) {
      const float share = 1.0f / static_cast<float>(k.tokens);
      kernel::fold_rows<typename T::isa>(k.at(n, 0, head), k.token_stride, k.tokens, mean_, k.size,
                                         [&]<class Lanes>(Lanes, const auto& sum, const auto& x) POLYMAC_INLINE_LAMBDA {
                                           return Lanes::multiply_add(x, Lanes::broadcast(share), sum);
                                         });
    }
  }
  void pack_values(const heads_view<const float>& v, std::size_t n, std::size_t head, std::size_t first,
                   std::size_t last) noexcept {
    if constexpr (has_scales) {
      for (std::size_t i = 0; i < v.size; ++i) value_scales_[i] = 0.0f;
      kernel::fold_rows<typename T::isa>(v.at(n, 0, head), v.token_stride, v.tokens, value_scales_, v.size,
                                         []<class Lanes>(Lanes, const auto& most, const auto& x)
                                             POLYMAC_INLINE_LAMBDA { return Lanes::larger_magnitude(most, x); });
      for (std::size_t i = 0; i < v.size; ++i) {
        value_scales_[i] = product::codes::scale_of(value_scales_[i]);
        inverses_[i] = product::codes::inverse_of(value_scales_[i]);
      }
    }
    const auto place = [&](std::size_t j) {
      return values_ + (j - first) / T::value_atom::depth * T::value_panels::group;
    };
    if constexpr (!copies_values) {
      T::value_panels::write_rows(values_, value_stride_, v.at(n, first, head), v.token_stride, last - first, v.size,
                                  value_summary_);
    } else {
      for (std::size_t j = first; j < last; j += rows_at_once) {
        const std::size_t count = polymac::detail::smaller(rows_at_once, last - j);
        for (std::size_t t = 0; t < count; ++t) {
          const float* const from = v.at(n, j + t, head);
          value* const to = value_rows_ + t * v.size;
          if constexpr (has_scales)
            kernel::to_codes<typename T::isa, false>(from, nullptr, inverses_, product::codes::limit, to, v.size);
          else
            kernel::to_operands<typename T::isa>(from, to, v.size);
        }
        T::value_panels::write_rows(place(j), value_stride_, value_rows_, v.size, count, v.size, value_summary_);
      }
    }
    if constexpr (T::has_tiles)
      for (std::size_t p = 0; p < T::value_panels::panels(v.size); ++p)
        T::value_panels::clear(values_ + p * value_stride_, last - first, T::held_tokens(last - first));
  }

  std::size_t key_stride_ = 0, value_stride_ = 0;
  typename T::key_panels::element* keys_ = nullptr;
  typename T::value_panels::element* values_ = nullptr;
  typename T::key_start* starts_ = nullptr;
  float* key_scales_ = nullptr;
  float* mean_ = nullptr;
  float* value_scales_ = nullptr;
  float* inverses_ = nullptr;
  key* key_rows_ = nullptr;
  value* value_rows_ = nullptr;
  typename T::key_panels::summary key_summary_{};
  typename T::value_panels::summary value_summary_{};
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
