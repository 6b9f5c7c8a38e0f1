// SPDX-License-Identifier: MIT
// Lists of the groups of k that take part: those that are not zero, or that differ from what they were.
//
//   AVX-512     vpcmpneqd k, zmm, zmm      16 groups of 4 bytes are compared at once,
//               vpcompressq zmm{k}, zmm    and the entries of those that differ stored side by side: some 6 cycles for 64
//                                          bytes on Zen 4, where a register of products takes 16 of them 16 cycles
//
// (Compressing goes to a register and is stored whole: to memory it is microcode on Zen 4.) Elsewhere, and for groups of
// other sizes, plain loops.
#pragma once

#include "polymac/core/config.hpp"
#include "polymac/isa/intrinsics.hpp"
#include "polymac/policy/live_group.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {

using policy::live_group;

/// Are groups compared 64 bytes at a time?
#if defined(__AVX512F__) && defined(__AVX512BW__)
inline constexpr bool lists_by_registers = true;
#else
inline constexpr bool lists_by_registers = false;
#endif

/// Entries behind a list, and bytes behind a row of differences, that may be written, too.
inline constexpr std::size_t list_slack = 8;
inline constexpr std::size_t difference_slack = 64;

namespace detail {

#if defined(__AVX512F__) && defined(__AVX512BW__)
/// Appends the entries of the groups whose bit is set.
template <std::size_t Lanes>
POLYMAC_INLINE live_group* append(live_group* to, std::uint32_t bits, __m512i entries, __m512i next) noexcept {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(bits), entries));
  to += std::popcount(bits & 0xFF);
  if constexpr (Lanes == 16) {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(bits >> 8), next));
    to += std::popcount(bits >> 8);
  }
  return to;
}
template <std::size_t GroupBytes>
POLYMAC_INLINE std::uint32_t groups_that_differ(__m512i a, __m512i b) noexcept {
  if constexpr (GroupBytes == 4)
    return _mm512_cmpneq_epi32_mask(a, b);
  else
    return _mm512_cmpneq_epi64_mask(a, b);
}
/// Calls f(offset, valid bytes as a mask, entries of the first 8 groups, of the next) for every 64 of some bytes.
template <std::size_t GroupBytes, class Function>
POLYMAC_INLINE void for_each_register(std::size_t bytes, const live_group& first, std::size_t group_depth,
                                      const Function& f) noexcept {
  const __m512i number = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
  const __m512i depth = _mm512_set1_epi64(static_cast<long long>(group_depth));
  std::uint64_t begin;
  std::memcpy(&begin, &first, sizeof(begin));
  __m512i entries = _mm512_add_epi64(_mm512_set1_epi64(static_cast<long long>(begin)),
                                     _mm512_or_si512(_mm512_mul_epu32(number, depth), _mm512_slli_epi64(number, 32)));
  const __m512i step = _mm512_set1_epi64(static_cast<long long>((std::uint64_t{8} << 32) + 8 * group_depth));
  const auto go_on = [&] {
    entries = _mm512_add_epi64(entries, step);
    if constexpr (GroupBytes == 4) entries = _mm512_add_epi64(entries, step);
  };
  std::size_t at = 0;
  for (; at + 64 <= bytes; at += 64, go_on()) f(at, ~std::uint64_t{0}, entries, _mm512_add_epi64(entries, step));
  if (at < bytes) f(at, (std::uint64_t{1} << (bytes - at)) - 1, entries, _mm512_add_epi64(entries, step));
}
#endif

/// The same for groups of any size. differs(first activation of the group).
template <class Differs>
constexpr live_group* list_groups(std::size_t groups, std::size_t group_depth, live_group first, live_group* to,
                                  const Differs& differs) noexcept {
  for (std::size_t g = 0; g < groups; ++g) {
    *to = {first.activation + static_cast<std::uint32_t>(g * group_depth), first.group + static_cast<std::uint32_t>(g)};
    to += differs(g * group_depth) ? 1 : 0;
  }
  return to;
}
/// NaN, -0, and types that do not compare: bits count.
template <class Activation>
constexpr bool same(const Activation& a, const Activation& b) noexcept {
  if constexpr (std::is_integral_v<Activation>)
    return a == b;
  else
    return std::memcmp(&a, &b, sizeof(a)) == 0;
}

/// The groups that are not what they were; null: not 0.
template <class Activation>
POLYMAC_INLINE live_group* list_differing(const Activation* row, const Activation* before, std::size_t groups,
                                          std::size_t group_depth, live_group first, live_group* to) noexcept {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  const std::size_t bytes = group_depth * sizeof(Activation);
  const auto all = [&](auto size) POLYMAC_INLINE_LAMBDA {
    for_each_register<size>(
        groups * size, first, group_depth,
        [&](std::size_t at, std::uint64_t valid, __m512i entries, __m512i next) POLYMAC_INLINE_LAMBDA {
          const __m512i a = _mm512_maskz_loadu_epi8(valid, reinterpret_cast<const char*>(row) + at);
          const __m512i b = before == nullptr
                                ? _mm512_setzero_si512()
                                : _mm512_maskz_loadu_epi8(valid, reinterpret_cast<const char*>(before) + at);
          const auto bits = groups_that_differ<size>(a, b);
          if (bits != 0) to = append<64 / size>(to, bits, entries, next);
        });
    return to;
  };
  if (bytes == 4) return all(std::integral_constant<std::size_t, 4>{});
  if (bytes == 8) return all(std::integral_constant<std::size_t, 8>{});
#endif
  return list_groups(groups, group_depth, first, to, [&](std::size_t k) {
    bool differs = false;
    for (std::size_t d = k; d < k + group_depth; ++d)
      differs |= !same(row[d], before == nullptr ? Activation{} : before[d]);
    return differs;
  });
}

}  // namespace detail

/// Appends the groups of a stretch that are not zero in all bits; returns the end of the list. The stretch has `groups`
/// groups of `group_depth` activations, the first of which has the entry `first`. `to` has room for all of them and
/// list_slack more. O(groups).
template <class Activation>
live_group* list_live(const Activation* row, std::size_t groups, std::size_t group_depth, live_group first,
                      live_group* to) noexcept {
  return detail::list_differing(row, static_cast<const Activation*>(nullptr), groups, group_depth, first, to);
}

/// The same for groups that are not what they were.
template <class Activation>
live_group* list_changed(const Activation* row, const Activation* before, std::size_t groups, std::size_t group_depth,
                         live_group first, live_group* to) noexcept {
  return detail::list_differing(row, before, groups, group_depth, first, to);
}

/// What a row of bytes has changed by, added up over its stretches: the sum, and whether all fits signed bytes.
class byte_differences {
 public:
  /// Appends the groups of a stretch that are not what they were. Their differences are written to `to_bytes`, as signed
  /// bytes, up to difference_slack more; of other groups nothing that counts. Null: before is 0, and the row is its own
  /// differences.
  template <class Byte>
  POLYMAC_INLINE live_group* list(const Byte* row, const Byte* before, std::size_t groups, std::size_t group_depth,
                                  live_group first, std::int8_t* to_bytes, live_group* to) noexcept {
    static_assert(sizeof(Byte) == 1);
#if defined(__AVX512F__) && defined(__AVX512BW__)
    const __m512i top_bits = _mm512_set1_epi8(std::is_signed_v<Byte> ? 0 : -128), ones = _mm512_set1_epi8(1),
                  words = _mm512_set1_epi16(1);
    const auto all = [&](auto size) POLYMAC_INLINE_LAMBDA {
      detail::for_each_register<size>(
          groups * size, first, group_depth,
          [&](std::size_t at, std::uint64_t valid, __m512i entries, __m512i next) POLYMAC_INLINE_LAMBDA {
            const __m512i a = _mm512_maskz_loadu_epi8(valid, row + at),
                          b = before == nullptr ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi8(valid, before + at);
            const auto bits = detail::groups_that_differ<size>(a, b);
            if (bits == 0) return;
            const __m512i d = _mm512_sub_epi8(a, b);
            sums_ = _mm512_add_epi32(sums_, _mm512_madd_epi16(_mm512_maddubs_epi16(ones, d), words));
            if (before != nullptr) {
              const __m512i saturated = _mm512_subs_epi8(_mm512_xor_si512(a, top_bits), _mm512_xor_si512(b, top_bits));
              too_large_ |= _mm512_cmpneq_epi8_mask(d, saturated);
              _mm512_storeu_si512(to_bytes + at, d);
            } else if constexpr (!std::is_signed_v<Byte>) {
              too_large_ |= _mm512_movepi8_mask(a);
            }
            to = detail::append<64 / size>(to, bits, entries, next);
          });
      return to;
    };
    if (group_depth == 4) return all(std::integral_constant<std::size_t, 4>{});
    if (group_depth == 8) return all(std::integral_constant<std::size_t, 8>{});
#endif
    return detail::list_groups(groups, group_depth, first, to, [&](std::size_t k) {
      bool differs = false;
      for (std::size_t d = k; d < k + group_depth; ++d) {
        const int difference = row[d] - (before != nullptr ? before[d] : 0);
        differs |= difference != 0;
        too_large_ |= difference < -128 || difference > 127 ? 1 : 0;
        if (before != nullptr) to_bytes[d] = static_cast<std::int8_t>(difference);
        sum_ += difference;
      }
      return differs;
    });
  }
  bool fit() const noexcept { return too_large_ == 0; }
  std::int32_t sum() const noexcept {
#if defined(__AVX512F__) && defined(__AVX512BW__)
    return sum_ + _mm512_reduce_add_epi32(sums_);
#else
    return sum_;
#endif
  }

 private:
#if defined(__AVX512F__) && defined(__AVX512BW__)
  __m512i sums_ = _mm512_setzero_si512();
#endif
  std::int32_t sum_ = 0;
  std::uint64_t too_large_ = 0;
};

/// Copies a list, `by` added to its entries; returns its end. Up to list_slack entries more are read and written.
POLYMAC_INLINE live_group* copy_list(const live_group* from, std::size_t count, live_group by,
                                     live_group* to) noexcept {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  std::uint64_t bits;
  std::memcpy(&bits, &by, sizeof(bits));
  const __m512i more = _mm512_set1_epi64(static_cast<long long>(bits));
  for (std::size_t i = 0; i < count; i += 8)
    _mm512_storeu_si512(to + i, _mm512_add_epi64(_mm512_loadu_si512(from + i), more));
#else
  for (std::size_t i = 0; i < count; ++i) to[i] = {from[i].activation + by.activation, from[i].group + by.group};
#endif
  return to + count;
}

/// A bit for each of four neighbours, where one of them has one.
constexpr std::uint64_t fours_of(std::uint64_t bits) noexcept {
  bits |= bits >> 1;
  bits |= bits >> 2;
  return (bits & 0x1111111111111111u) * 15;
}

/// Copies those of `count` bytes, at most 64, whose bit is set.
template <class Byte>
void replace_bytes(const Byte* from, Byte* to, std::size_t count, std::uint64_t bits) noexcept {
  static_assert(sizeof(Byte) == 1);
#if defined(__AVX512F__) && defined(__AVX512BW__)
  const std::uint64_t valid = count >= 64 ? bits : bits & ((std::uint64_t{1} << count) - 1);
  _mm512_mask_storeu_epi8(to, valid, _mm512_maskz_loadu_epi8(valid, from));
#else
  for (std::size_t i = 0; i < count; ++i)
    if ((bits >> i) & 1) to[i] = from[i];
#endif
}

/// One bit for each of `count` bytes, at most 64, that differ by more than the threshold.
template <class Byte>
std::uint64_t bytes_that_differ(const Byte* a, const Byte* b, std::size_t count, std::uint8_t threshold) noexcept {
  static_assert(sizeof(Byte) == 1);
#if defined(__AVX512F__) && defined(__AVX512BW__)
  const std::uint64_t valid = count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
  if (threshold == 0)
    return _mm512_cmpneq_epi8_mask(_mm512_maskz_loadu_epi8(valid, a), _mm512_maskz_loadu_epi8(valid, b));
  const __m512i top_bits = _mm512_set1_epi8(std::is_signed_v<Byte> ? -128 : 0);
  const __m512i x = _mm512_xor_si512(_mm512_maskz_loadu_epi8(valid, a), top_bits),
                y = _mm512_xor_si512(_mm512_maskz_loadu_epi8(valid, b), top_bits);
  const __m512i distance = _mm512_or_si512(_mm512_subs_epu8(x, y), _mm512_subs_epu8(y, x));
  return _mm512_cmpgt_epu8_mask(distance, _mm512_set1_epi8(static_cast<char>(threshold)));
#else
  std::uint64_t bits = 0;
  std::size_t i = 0;
#if defined(__AVX2__)
  const __m256i top_bits = _mm256_set1_epi8(std::is_signed_v<Byte> ? -128 : 0),
                limit = _mm256_set1_epi8(static_cast<char>(threshold));
  for (; i + 32 <= count; i += 32) {
    const __m256i x = _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + i)), top_bits),
                  y = _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + i)), top_bits);
    const __m256i distance = _mm256_or_si256(_mm256_subs_epu8(x, y), _mm256_subs_epu8(y, x));
    const __m256i within = _mm256_cmpeq_epi8(_mm256_max_epu8(distance, limit), limit);
    bits |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(~_mm256_movemask_epi8(within))) << i;
  }
#endif
  for (; i < count; ++i) {
    const int distance = a[i] - b[i];
    bits |= std::uint64_t{(distance < 0 ? -distance : distance) > threshold ? 1u : 0u} << i;
  }
  return bits;
#endif
}

}  // namespace isa
POLYMAC_END
