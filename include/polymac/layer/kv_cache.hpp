// SPDX-License-Identifier: MIT
// Keys and values of one sequence, kept in the panels that attention reads.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/operands.hpp"
#include "polymac/layer/attention_tile.hpp"
#include "polymac/layer/cache_format.hpp"
#include "polymac/layer/cache_reader.hpp"
#include "polymac/layer/heads_bounds.hpp"
#include "polymac/layer/signature.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// What happens when a cache is full.
enum class cache_form : std::uint8_t {
  growing,  ///< tokens that do not fit are refused
  ring,     ///< each new token takes the place of the oldest one: sliding windows
};

/// Heads of keys and values, the sizes of their vectors, and how many tokens are kept.
struct kv_cache_shape {
  std::size_t heads = 0;
  std::size_t key_size = 0;
  std::size_t value_size = 0;
  std::size_t capacity = 0;
  cache_form form = cache_form::growing;
};

/// Keys and values of one sequence, appended token by token or many at a time and packed once, into the panels that
/// attention reads (layer/attention_panels.hpp). Memory for all tokens is reserved at construction, and no token moves.
///
///   M   what is kept:   mac::float32         floats
///                       mac::bf16            bfloat16, read in place by attention<mac::bf16>
///                       mac::fp16            float16, read in place by attention<mac::fp16> where panels hold halves
///                                            (isa/halves.hpp), else widened block by block, as for <mac::float32>
///                       mac::int8            codes with a scale for each token and head, read in place by
///                                            attention<mac::int8>
///                       mac::bit_weights<4>  codes in [-7, 7], the same, widened block by block
///
/// Codes of keys are taken of keys less an offset that never changes: the mean of the first tokens, where the first call
/// brings at least 16 (all scores of a query shift by the same, which softmax does not see).
///
/// A ring keeps the last `capacity` tokens. Of several tokens that are appended at once the first ones may find their
/// windows overwritten by the last: with a window of w tokens append at most capacity - w + 1 at a time.
/// Positions count all tokens that were ever appended.
///
/// append() and the rest are noexcept and allocate nothing; copying allocates. One thread appends at a time; any number
/// may read meanwhile what was there before, but not while a ring overwrites it.
template <Mac M, Isa I = isa::native>
class kv_cache {
  using format = detail::cache_format<M>;
  static_assert(format::exists,
                "polymac: a cache of keys and values holds mac::float32, mac::bf16, mac::fp16, mac::int8 or "
                "mac::bit_weights<4>");
  using types = detail::attention_types<typename format::computed_as, I>;
  using key_panels = typename types::key_panels;
  using value_panels = typename types::value_panels;
  static constexpr bool has_scales = format::has_scales, packs = format::packs;
  static constexpr std::size_t columns = key_panels::columns;
  static constexpr bool has_starts = has_scales && types::score_atom::activation_offset != 0;
  static constexpr std::size_t least_mean = 16;

 public:
  using mac = M;
  using element = typename format::element;

  /// Throws polymac::error (or sets `status()` where exceptions are off) where the shape makes no sense or there is no
  /// memory.
  explicit kv_cache(const kv_cache_shape& shape) : shape_(shape) {
    status_ = construct();
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  const kv_cache_shape& shape() const noexcept { return shape_; }
  std::size_t capacity() const noexcept { return shape_.capacity; }
  /// Tokens that are held.
  std::size_t size() const noexcept { return held_; }
  /// The position of the oldest of them; the next token has position first() + size().
  std::size_t first() const noexcept { return total_ - size(); }
  /// Bytes of keys, values and scales that one token takes, and attention reads for each query.
  std::size_t bytes_per_token() const noexcept { return bytes_per_token(shape_); }
  static constexpr std::size_t bytes_per_token(const kv_cache_shape& s) noexcept {
    const std::size_t elements = s.key_size + s.value_size;
    const std::size_t of_head = packs ? (elements + 1) / 2 : elements * sizeof(element);
    return s.heads * (of_head + (has_scales ? 2 * sizeof(float) : 0) + (has_starts ? sizeof(std::int32_t) : 0));
  }
  /// Bytes of memory that the cache holds.
  std::size_t bytes() const noexcept {
    return (keys_.size() + values_.size()) * sizeof(element) + starts_.size() * sizeof(std::int32_t) +
           (key_scales_.size() + value_scales_.size() + offset_.size() + row_.size()) * sizeof(float);
  }

  /// Takes in the next tokens: keys of 1 x tokens x heads x key size, values of 1 x tokens x heads x value size. All or
  /// none: what does not fit a growing cache is refused and changes nothing. O(tokens x heads x sizes).
  polymac::status append(heads_view<const float> keys, heads_view<const float> values) noexcept {
    return append(keys, values, no_rotation{});
  }
  /// The same with keys that are turned on their way into the panel: rotation.rotate(position, from, to) for every key
  /// (layer/rope.hpp).
  template <class Rotation>
  polymac::status append(heads_view<const float> keys, heads_view<const float> values,
                         const Rotation& rotation) noexcept {
    if (auto s = check_append(keys, values); !s.ok()) return s;
    if constexpr (has_scales)
      if (total_ == 0 && keys.tokens >= least_mean) find_offset(keys, rotation);
    for (std::size_t t = 0; t < keys.tokens; ++t) {
      const std::size_t place = place_of(total_);
      for (std::size_t h = 0; h < shape_.heads; ++h) {
        const float* key = keys.at(0, t, h);
        if constexpr (!std::is_same_v<Rotation, no_rotation>) {
          rotation.rotate(total_, key, row_.data());
          key = row_.data();
        }
        put_key(h, place, key);
        put_value(h, place, values.at(0, t, h));
      }
      count_token();
    }
    return {};
  }

  /// Empties it.
  void clear() noexcept {
    total_ = held_ = 0;
    for (std::size_t i = 0; i < offset_.size(); ++i) offset_[i] = 0.0f;
    for (std::size_t i = 0; i < largest_scales_.size(); ++i) largest_scales_[i] = 0.0f;
    clear_values();
  }
  /// Keeps the first `tokens` tokens of a growing cache and forgets the others: another continuation of a prompt.
  polymac::status truncate(std::size_t tokens) noexcept {
    if (shape_.form == cache_form::ring)
      return polymac::status::make(errc::unsupported, "kv_cache: a ring forgets its oldest tokens only");
    if (tokens > total_)
      return polymac::status::make(errc::parameter, "kv_cache: expected to keep at most ", total_, " tokens, got ",
                                   tokens);
    if (tokens == 0) {
      clear();
      return {};
    }
    // The rest of a step may be multiplied by 0; tokens behind it are written before they are read.
    for (std::size_t t = tokens; t < total_ && t % types::token_step != 0; ++t)
      for (std::size_t h = 0; h < shape_.heads; ++h) erase_value(h, t);
    total_ = held_ = tokens;
    if constexpr (has_scales) find_largest_scales();
    return {};
  }

  /// Bytes of a saved cache: a header and what is kept of every token, in the order of tokens, whatever the instruction
  /// set; numbers as this machine has them.
  std::size_t saved_bytes() const noexcept { return saved_bytes(size()); }
  /// Writes it to `to`, which holds saved_bytes() at least.
  polymac::status save(std::span<std::byte> to) const noexcept {
    if (!status_.ok()) return status_;
    if (to.size() < saved_bytes())
      return polymac::status::make(errc::short_buffer, "kv_cache: expected ", saved_bytes(), " bytes to save to, got ",
                                   to.size());
    byte_writer out{to.data() + sizeof(header)};
    for (std::size_t i = 0; i < offset_.size(); ++i) out.put(offset_[i]);
    for (std::size_t t = first(); t < total_; ++t)
      for (std::size_t h = 0; h < shape_.heads; ++h) {
        const std::size_t place = place_of(t);
        for (std::size_t k = 0; k < shape_.key_size; ++k) out.put(key_at(h, place, k));
        for (std::size_t k = 0; k < shape_.value_size; ++k) out.put(value_at(h, place, k));
        if constexpr (has_scales) {
          out.put(key_scales_[h * scale_stride_ + place]);
          out.put(value_scales_[h * scale_stride_ + place]);
        }
      }
    const header h = make_header(size(), total_, to.data() + sizeof(header));
    std::memcpy(to.data(), &h, sizeof(h));
    return {};
  }
  /// Takes up a saved cache of the same arithmetic and shape (but for the capacity, which must suffice); else it stays
  /// as it is, and an error says what differs.
  polymac::status restore(std::span<const std::byte> from) noexcept {
    if (!status_.ok()) return status_;
    header h;
    if (from.size() < sizeof(h))
      return polymac::status::make(errc::short_buffer, "kv_cache: expected at least ", sizeof(h), " saved bytes, got ",
                                   from.size());
    std::memcpy(&h, from.data(), sizeof(h));
    if (h.magic != header{}.magic)
      return polymac::status::make(errc::corrupt,
                                   "kv_cache: these bytes are no saved cache of this version of polymac");
    if (h.shape != shape_signature())
      return polymac::status::make(errc::parameter, "kv_cache: expected a saved cache of ", M::name, ", ", shape_.heads,
                                   " heads, sizes ", shape_.key_size, " and ", shape_.value_size,
                                   ", got one of something else");
    if (h.tokens > h.total || h.tokens > shape_.capacity || (shape_.form == cache_form::growing && h.tokens != h.total))
      return polymac::status::make(errc::shape, "kv_cache: expected at most ", shape_.capacity,
                                   " saved tokens, from the first one on unless the cache is a ring, got ", h.tokens,
                                   " of ", h.total);
    const auto tokens = static_cast<std::size_t>(h.tokens);
    if (from.size() != saved_bytes(tokens))
      return polymac::status::make(errc::short_buffer, "kv_cache: expected ", saved_bytes(tokens), " saved bytes, got ",
                                   from.size());
    if (h.sum != make_header(tokens, static_cast<std::size_t>(h.total), from.data() + sizeof(header)).sum)
      return polymac::status::make(errc::corrupt, "kv_cache: the saved bytes are damaged: their check sum differs");
    clear();
    byte_reader in{from.data() + sizeof(header)};
    for (std::size_t i = 0; i < offset_.size(); ++i) in.get(offset_[i]);
    total_ = static_cast<std::size_t>(h.total) - tokens;
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::size_t place = place_of(total_);
      for (std::size_t head = 0; head < shape_.heads; ++head) restore_token(head, place, in);
      count_token();
    }
    return {};
  }

  /// Calls f(place, end, number) for the stretches of places that hold the tokens [begin, end) of those that are held:
  /// one, or two where a ring goes on from its beginning.
  template <class Function>
  void for_each_stretch(std::size_t begin, std::size_t end, const Function& f) const noexcept {
    if (begin >= end) return;
    const std::size_t place = place_of(first() + begin), room = places_ - place, count = end - begin;
    f(place, place + polymac::detail::smaller(count, room), begin);
    if (count > room) f(std::size_t{0}, count - room, begin + room);
  }

  /// The panels of one head for attention with types T.
  template <class T>
  using reader = detail::cache_reader<kv_cache, T>;

 private:
  template <class Cache, class T>
  friend class detail::cache_reader;

  struct no_rotation {};
  struct header {
    std::uint64_t magic = 0x31564B43414D504Full;  // version 1
    std::uint64_t shape = 0, tokens = 0, total = 0, sum = 0;
  };
  struct byte_writer {
    std::byte* at;
    template <class X>
    void put(X value) noexcept {
      std::memcpy(at, &value, sizeof(X));
      at += sizeof(X);
    }
  };
  struct byte_reader {
    const std::byte* at;
    template <class X>
    void get(X& value) noexcept {
      std::memcpy(&value, at, sizeof(X));
      at += sizeof(X);
    }
  };
  /// What is saved of an element: a code of 4 bits takes a byte.
  using saved_element = std::conditional_t<packs, std::int8_t, element>;

  /// Elements of storage for so many elements of panels.
  static constexpr std::size_t stored(std::size_t elements) noexcept { return packs ? elements / 2 : elements; }

  polymac::status construct() noexcept {
    const kv_cache_shape& s = shape_;
    constexpr std::size_t most = std::size_t{1} << 31;
    if (s.heads == 0 || s.key_size == 0 || s.value_size == 0 || s.capacity == 0 || s.heads > most ||
        s.key_size > most || s.value_size > most || s.capacity > most)
      return polymac::status::make(errc::shape, "kv_cache: expected heads, sizes and capacity in [1, ", most, "], got ",
                                   s.heads, " heads, sizes ", s.key_size, " and ", s.value_size, ", capacity ",
                                   s.capacity);
    // Whole runs of codes, too.
    places_ = polymac::detail::round_up(s.capacity, types::granularity);
    key_panels_ = places_ / columns;
    value_panels_ = value_panels::panels(s.value_size);
    key_stride_ = stride_of<key_panels>(types::held_key(s.key_size));
    value_stride_ = stride_of<value_panels>(places_);
    scale_stride_ = places_ + types::weighed;
    const auto fits = [](std::size_t a, std::size_t b, std::size_t c) {
      constexpr std::size_t limit = std::numeric_limits<std::size_t>::max() / 64;
      return b == 0 || c == 0 || a <= limit / b / c;
    };
    if (!fits(s.heads, key_panels_, key_stride_) || !fits(s.heads, value_panels_, value_stride_))
      return polymac::status::make(errc::shape, "kv_cache: ", s.capacity, " tokens of ", s.heads, " heads, sizes ",
                                   s.key_size, " and ", s.value_size, ", exceed the address space");
    if (auto e = keys_.resize(s.heads * key_panels_ * key_stride_); !e.ok()) return e;
    if (auto e = values_.resize(s.heads * value_panels_ * value_stride_); !e.ok()) return e;
    if (auto e = row_.resize(s.key_size); !e.ok()) return e;
    if (auto e = codes_.resize(has_scales ? polymac::detail::greater(s.key_size, s.value_size) : 0); !e.ok()) return e;
    if constexpr (has_scales) {
      if (auto e = key_scales_.resize(s.heads * scale_stride_); !e.ok()) return e;
      if (auto e = value_scales_.resize(s.heads * scale_stride_); !e.ok()) return e;
      if (auto e = offset_.resize(s.heads * s.key_size); !e.ok()) return e;
    }
    if constexpr (has_scales)
      if (auto e = largest_scales_.resize(s.heads); !e.ok()) return e;
    if constexpr (has_starts)
      if (auto e = starts_.resize(s.heads * scale_stride_); !e.ok()) return e;
    clear_values();
    return {};
  }
  template <class Panels>
  static constexpr std::size_t stride_of(std::size_t k) noexcept {
    if constexpr (packs)
      return polymac::detail::round_up(Panels::stride(k), detail::packed_codes::run) / 2;
    else
      return Panels::stride(k);
  }
  /// Values that are not there may be multiplied by 0.
  void clear_values() noexcept {
    const element zero = [] {
      if constexpr (packs)
        return element{0x88};
      else
        return element{};
    }();
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = zero;
  }

  std::size_t place_of(std::size_t token) const noexcept {
    return shape_.form == cache_form::ring ? token % places_ : token;
  }

  polymac::status check_append(const heads_view<const float>& k, const heads_view<const float>& v) const noexcept {
    if (!status_.ok()) return status_;
    const kv_cache_shape& s = shape_;
    if (k.batch != 1 || v.batch != 1 || k.tokens != v.tokens || k.heads != s.heads || v.heads != s.heads ||
        k.size != s.key_size || v.size != s.value_size)
      return polymac::status::make(errc::shape, "kv_cache: expected keys of 1 x tokens x ", s.heads, " x ", s.key_size,
                                   " and values of 1 x tokens x ", s.heads, " x ", s.value_size, ", got ", k.batch,
                                   " x ", k.tokens, " x ", k.heads, " x ", k.size, " and ", v.batch, " x ", v.tokens,
                                   " x ", v.heads, " x ", v.size);
    if (auto e = detail::expect_head_vectors("kv_cache", "keys", k, 1, k.tokens, k.heads, k.size, false); !e.ok())
      return e;
    if (auto e = detail::expect_head_vectors("kv_cache", "values", v, 1, v.tokens, v.heads, v.size, false); !e.ok())
      return e;
    if (s.form == cache_form::growing && k.tokens > s.capacity - total_)
      return polymac::status::make(errc::short_buffer, "kv_cache: expected at most ", s.capacity - total_,
                                   " more tokens (capacity ", s.capacity, ", ", total_, " held), got ", k.tokens);
    return {};
  }

  template <class Rotation>
  void find_offset(const heads_view<const float>& keys, const Rotation& rotation) noexcept {
    if constexpr (requires { requires types::product::centres_keys; }) {
      // In two halves of a double each float would be exact; a mean that is a little off shifts scores by as much.
      for (std::size_t h = 0; h < shape_.heads; ++h) {
        float* const mean = offset_.data() + h * shape_.key_size;
        const float share = 1.0f / static_cast<float>(keys.tokens);
        for (std::size_t t = 0; t < keys.tokens; ++t) {
          const float* key = keys.at(0, t, h);
          if constexpr (!std::is_same_v<Rotation, no_rotation>) {
            rotation.rotate(t, key, row_.data());
            key = row_.data();
          }
          for (std::size_t k = 0; k < shape_.key_size; ++k) mean[k] += key[k] * share;
        }
        for (std::size_t k = 0; k < shape_.key_size; ++k)
          if (!(mean[k] - mean[k] == 0.0f)) mean[k] = 0.0f;  // NaN and infinities stay with their keys
      }
    }
  }

  /// Where element k of a key stands in its panel.
  static constexpr std::size_t key_index(std::size_t place, std::size_t k) noexcept {
    constexpr std::size_t depth = key_panels::depth;
    return (k / depth * columns + place % columns) * depth + k % depth;
  }
  element* key_panel(std::size_t head, std::size_t place) noexcept {
    return keys_.data() + (head * key_panels_ + place / columns) * key_stride_;
  }
  element* value_panel(std::size_t head, std::size_t k) noexcept {
    return values_.data() + (head * value_panels_ + k / value_panels::columns) * value_stride_;
  }
  static constexpr std::size_t value_index(std::size_t place, std::size_t k) noexcept {
    constexpr std::size_t depth = value_panels::depth;
    return place / depth * value_panels::columns * depth + k % value_panels::columns * depth + place % depth;
  }
  saved_element key_at(std::size_t head, std::size_t place, std::size_t k) const noexcept {
    const element* const panel = const_cast<kv_cache*>(this)->key_panel(head, place);
    if constexpr (packs)
      return detail::packed_codes::get(panel, key_index(place, k));
    else
      return panel[key_index(place, k)];
  }
  saved_element value_at(std::size_t head, std::size_t place, std::size_t k) const noexcept {
    const element* const panel = const_cast<kv_cache*>(this)->value_panel(head, k);
    if constexpr (packs)
      return detail::packed_codes::get(panel, value_index(place, k));
    else
      return panel[value_index(place, k)];
  }
  void set_key(std::size_t head, std::size_t place, std::size_t k, saved_element e) noexcept {
    if constexpr (packs)
      detail::packed_codes::put(key_panel(head, place), key_index(place, k), e);
    else
      key_panel(head, place)[key_index(place, k)] = e;
  }
  void set_value(std::size_t head, std::size_t place, std::size_t k, saved_element e) noexcept {
    if constexpr (packs)
      detail::packed_codes::put(value_panel(head, k), value_index(place, k), e);
    else
      value_panel(head, k)[value_index(place, k)] = e;
  }
  void erase_value(std::size_t head, std::size_t place) noexcept {
    for (std::size_t k = 0; k < shape_.value_size; ++k) set_value(head, place, k, saved_element{});
  }
  /// The next token is there. A place of a ring that is neither of a token that is held nor written by the next one
  /// holds zeros.
  void count_token() noexcept {
    const bool drops = held_ == shape_.capacity;
    if (drops && places_ != shape_.capacity)
      for (std::size_t h = 0; h < shape_.heads; ++h) erase_value(h, place_of(total_ - shape_.capacity));
    ++total_;
    if (!drops) ++held_;
    if constexpr (has_scales) {
      // NaN leaves with the token that brought it.
      bool all_real = true;
      for (std::size_t h = 0; h < shape_.heads; ++h) all_real = all_real && largest_scales_[h] == largest_scales_[h];
      if (drops && !all_real) find_largest_scales();
    }
  }
  void find_largest_scales() noexcept {
    for (std::size_t h = 0; h < shape_.heads; ++h) {
      largest_scales_[h] = 0.0f;
      for (std::size_t t = first(); t < total_; ++t)
        set_value_scale(h, place_of(t), value_scales_[h * scale_stride_ + place_of(t)]);
    }
  }

  void put_key(std::size_t head, std::size_t place, const float* key) noexcept {
    if constexpr (has_scales) {
      using codes = typename format::codes;
      const float* const offset = offset_.data() + head * shape_.key_size;
      const float most = kernel::largest_magnitude<I>(key, offset, shape_.key_size);
      const float scale = codes::scale_of(most), inverse = codes::inverse_of(scale);
      std::int32_t sum = 0;
      kernel::to_codes<I, true>(key, offset, &inverse, codes::limit, codes_.data(), shape_.key_size);
      for (std::size_t k = 0; k < shape_.key_size; ++k) {
        sum += codes_[k];
        set_key(head, place, k, codes_[k]);
      }
      key_scales_[head * scale_stride_ + place] = scale;
      set_start(head, place, sum);
    } else {
      for (std::size_t k = 0; k < shape_.key_size; ++k) set_key(head, place, k, static_cast<element>(key[k]));
    }
  }
  void set_start(std::size_t head, std::size_t place, std::int32_t sum) noexcept {
    if constexpr (has_starts)
      starts_[head * scale_stride_ + place] = -types::score_atom::activation_offset * sum;
    else
      static_cast<void>(head), static_cast<void>(place), static_cast<void>(sum);
  }
  void put_value(std::size_t head, std::size_t place, const float* value) noexcept {
    if constexpr (has_scales) {
      using codes = typename format::codes;
      const float most = kernel::largest_magnitude<I>(value, nullptr, shape_.value_size);
      const float scale = codes::scale_of(most), inverse = codes::inverse_of(scale);
      kernel::to_codes<I, true>(value, nullptr, &inverse, codes::limit, codes_.data(), shape_.value_size);
      for (std::size_t k = 0; k < shape_.value_size; ++k) set_value(head, place, k, codes_[k]);
      set_value_scale(head, place, scale);
    } else {
      for (std::size_t k = 0; k < shape_.value_size; ++k) set_value(head, place, k, static_cast<element>(value[k]));
    }
  }
  /// Weights are rounded relative to the largest scale that the head has had. NaN stays.
  void set_value_scale(std::size_t head, std::size_t place, float scale) noexcept {
    value_scales_[head * scale_stride_ + place] = scale;
    largest_scales_[head] = isa::float_lanes<isa::scalar>::larger_magnitude(largest_scales_[head], scale);
  }
  void restore_token(std::size_t head, std::size_t place, byte_reader& in) noexcept {
    std::int32_t sum = 0;
    saved_element e;
    for (std::size_t k = 0; k < shape_.key_size; ++k) {
      in.get(e);
      set_key(head, place, k, e);
      if constexpr (has_scales) sum += e;
    }
    for (std::size_t k = 0; k < shape_.value_size; ++k) {
      in.get(e);
      set_value(head, place, k, e);
    }
    if constexpr (has_scales) {
      in.get(key_scales_[head * scale_stride_ + place]);
      float scale;
      in.get(scale);
      set_value_scale(head, place, scale);
      set_start(head, place, sum);
    }
  }

  std::size_t saved_bytes(std::size_t tokens) const noexcept {
    return sizeof(header) + offset_.size() * sizeof(float) +
           tokens * shape_.heads *
               ((shape_.key_size + shape_.value_size) * sizeof(saved_element) + (has_scales ? 2 * sizeof(float) : 0));
  }
  std::uint64_t shape_signature() const noexcept {
    detail::signature s;
    s.add_text(M::name);
    s.add(shape_.heads);
    s.add(shape_.key_size);
    s.add(shape_.value_size);
    return s.value();
  }
  header make_header(std::size_t tokens, std::size_t total, const std::byte* bytes) const noexcept {
    header h;
    h.shape = shape_signature();
    h.tokens = tokens;
    h.total = total;
    detail::signature s;
    s.add(h.shape);
    s.add(h.tokens);
    s.add(h.total);
    s.add_bytes(bytes, saved_bytes(tokens) - sizeof(header));
    h.sum = s.value();
    return h;
  }

  kv_cache_shape shape_;
  polymac::status status_;
  std::size_t total_ = 0;   ///< tokens that were ever appended
  std::size_t held_ = 0;    ///< the last of them
  std::size_t places_ = 0;  ///< of tokens: the capacity, up to whole panels
  std::size_t key_panels_ = 0, value_panels_ = 0, key_stride_ = 0, value_stride_ = 0, scale_stride_ = 0;
  buffer<element> keys_, values_;
  buffer<std::int8_t> codes_;  ///< of one key or value
  buffer<std::int32_t> starts_;
  buffer<float> key_scales_, value_scales_, largest_scales_, offset_, row_;
};

}  // namespace layer
POLYMAC_END
