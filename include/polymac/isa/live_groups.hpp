// SPDX-License-Identifier: MIT
// Lists of the groups of k that take part: those of a row that are not zero, or that differ from the row before.
//
//   AVX-512     vpcmpneqd k, zmm, zmm      16 groups of 4 bytes are compared at once,
//               vpcompressq zmm{k}, zmm    and the entries of those that differ stored side by side: some 6 cycles for 64
//                                          bytes on Zen 4, where a register of products takes 16 of them 16 cycles
//
// (Compressing goes to a register and is stored whole: to memory it is microcode on Zen 4.) Elsewhere, and for groups of
// other sizes, loops that compare 8 bytes at a time.
#pragma once

#include "polymac/isa/intrinsics.hpp"
#include "polymac/policy/live_group.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {

using policy::live_group;

/// Entries behind a list that may be written, too.
inline constexpr std::size_t list_slack = 8;

namespace detail {

#if defined(__AVX512F__) && defined(__AVX512BW__)
inline constexpr bool lists_by_registers = true;

/// Appends the entries of the groups whose bit is set. GroupDepth: activations of a group, of Lanes groups in a register.
template <std::size_t Lanes>
POLYMAC_INLINE live_group* append(live_group* to, std::uint32_t bits, __m512i entries, __m512i next) noexcept {
  const auto low = static_cast<__mmask8>(bits);
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(low, entries));
  to += __builtin_popcount(bits & 0xFF);
  if constexpr (Lanes == 16) {
    const auto high = static_cast<__mmask8>(bits >> 8);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(high, next));
    to += __builtin_popcount(bits >> 8);
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
/// Calls f(offset in bytes, valid bytes as a mask, is it all 64) for `bytes` bytes.
template <class Function>
POLYMAC_INLINE void for_each_register(std::size_t bytes, const Function& f) noexcept {
  std::size_t at = 0;
  for (; at + 64 <= bytes; at += 64) f(at, ~std::uint64_t{0});
  if (at < bytes) f(at, (std::uint64_t{1} << (bytes - at)) - 1);
}
/// The entries of the first groups, and how far those of the next register are.
struct entry_counter {
  __m512i entries, step;
  std::uint32_t lanes;
  POLYMAC_INLINE entry_counter(std::size_t group_depth, std::uint32_t lanes_) noexcept : lanes(lanes_) {
    const __m512i number = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i factor = _mm512_set1_epi64(static_cast<long long>(group_depth));
    entries = _mm512_or_si512(_mm512_mul_epu32(number, factor), _mm512_slli_epi64(number, 32));
    step = _mm512_set1_epi64(static_cast<long long>((std::uint64_t{8} << 32) + 8 * group_depth));
  }
  POLYMAC_INLINE __m512i next() const noexcept { return _mm512_add_epi64(entries, step); }
  POLYMAC_INLINE void advance() noexcept {
    entries = next();
    if (lanes == 16) entries = next();
  }
};
template <std::size_t GroupBytes, class Activation, class Other>
POLYMAC_INLINE std::uint32_t list_differing(const Activation* row, const Other& other, std::size_t groups,
                                            live_group* to) noexcept {
  constexpr std::size_t lanes = 64 / GroupBytes;
  entry_counter at(GroupBytes / sizeof(Activation), lanes);
  live_group* end = to;
  for_each_register(groups * GroupBytes, [&](std::size_t offset, std::uint64_t valid) POLYMAC_INLINE_LAMBDA {
    const __m512i a = _mm512_maskz_loadu_epi8(valid, reinterpret_cast<const char*>(row) + offset);
    const auto bits = groups_that_differ<GroupBytes>(a, other(offset, valid));
    if (bits != 0) end = append<lanes>(end, bits, at.entries, at.next());
    at.advance();
  });
  return static_cast<std::uint32_t>(end - to);
}
#else
inline constexpr bool lists_by_registers = false;
#endif

/// The same for groups of any size. differs(first activation of the group).
template <class Differs>
constexpr std::uint32_t list_groups(std::size_t groups, std::size_t group_depth, live_group* to,
                                    const Differs& differs) noexcept {
  std::uint32_t count = 0;
  for (std::size_t g = 0; g < groups; ++g) {
    to[count] = {static_cast<std::uint32_t>(g * group_depth), static_cast<std::uint32_t>(g)};
    count += differs(g * group_depth) ? 1 : 0;
  }
  return count;
}
template <class Activation>
constexpr bool same(const Activation& a, const Activation& b) noexcept {
  if constexpr (std::is_integral_v<Activation>)
    return a == b;
  else if (std::is_constant_evaluated())
    return a == b;
  else
    return std::memcmp(&a, &b, sizeof(a)) == 0;  // NaN, -0, and types that do not compare
}

}  // namespace detail

/// Writes the groups of `group_depth` activations, of which a row has `groups`, that are not `zero` throughout; returns
/// how many. `to` holds `groups` + list_slack entries. O(groups).
template <class Activation>
constexpr std::uint32_t list_live(const Activation* row, const Activation& zero, std::size_t groups,
                                  std::size_t group_depth, live_group* to) noexcept {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  if constexpr (std::is_integral_v<Activation> || std::is_floating_point_v<Activation>) {
    const std::size_t bytes = group_depth * sizeof(Activation);
    if (!std::is_constant_evaluated() && (bytes == 4 || bytes == 8)) {
      __m512i zeros;
      if constexpr (sizeof(Activation) == 1)
        zeros = _mm512_set1_epi8(static_cast<char>(zero));
      else if constexpr (sizeof(Activation) == 2)
        zeros = _mm512_set1_epi16(static_cast<short>(zero));
      else {
        std::int32_t word = 0;
        std::memcpy(&word, &zero, 4);
        zeros = _mm512_set1_epi32(word);
      }
      if constexpr (sizeof(Activation) <= 4) {
        const auto other = [&](std::size_t, std::uint64_t valid)
                               POLYMAC_INLINE_LAMBDA { return _mm512_maskz_mov_epi8(valid, zeros); };
        return bytes == 4 ? detail::list_differing<4>(row, other, groups, to)
                          : detail::list_differing<8>(row, other, groups, to);
      }
    }
  }
#endif
  return detail::list_groups(groups, group_depth, to, [&](std::size_t k) {
    bool differs = false;
    for (std::size_t d = 0; d < group_depth; ++d) differs |= !detail::same(row[k + d], zero);
    return differs;
  });
}

/// The same for groups that are not what they were.
template <class Activation>
constexpr std::uint32_t list_changed(const Activation* row, const Activation* before, std::size_t groups,
                                     std::size_t group_depth, live_group* to) noexcept {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  const std::size_t bytes = group_depth * sizeof(Activation);
  if (!std::is_constant_evaluated() && (bytes == 4 || bytes == 8)) {
    const auto other = [&](std::size_t offset, std::uint64_t valid) POLYMAC_INLINE_LAMBDA {
      return _mm512_maskz_loadu_epi8(valid, reinterpret_cast<const char*>(before) + offset);
    };
    return bytes == 4 ? detail::list_differing<4>(row, other, groups, to)
                      : detail::list_differing<8>(row, other, groups, to);
  }
#endif
  return detail::list_groups(groups, group_depth, to, [&](std::size_t k) {
    bool differs = false;
    for (std::size_t d = 0; d < group_depth; ++d) differs |= !detail::same(row[k + d], before[k + d]);
    return differs;
  });
}

/// Differences of two rows of bytes: their list, their sum, and whether all fit a signed byte.
struct byte_differences {
  std::uint32_t count = 0;
  std::int32_t sum = 0;
  bool fit = true;
};

/// Writes row - before as signed bytes to `differences` (of groups that are not in the list nothing that counts), up to
/// 63 bytes more, and the groups that are not 0 to `to`.
template <class Byte>
requires(sizeof(Byte) == 1) constexpr byte_differences
    list_differences(const Byte* row, const Byte* before, std::size_t groups, std::size_t group_depth,
                     std::int8_t* differences, live_group* to) noexcept {
  byte_differences result;
#if defined(__AVX512F__) && defined(__AVX512BW__)
  if (!std::is_constant_evaluated() && (group_depth == 4 || group_depth == 8)) {
    const __m512i top_bits = _mm512_set1_epi8(std::is_signed_v<Byte> ? 0 : -128), ones = _mm512_set1_epi8(1),
                  words = _mm512_set1_epi16(1);
    __m512i sums = _mm512_setzero_si512();
    std::uint64_t too_large = 0;
    const auto all = [&](auto bytes) POLYMAC_INLINE_LAMBDA {
      constexpr std::size_t lanes = 64 / bytes;
      detail::entry_counter at(bytes, lanes);
      live_group* end = to;
      detail::for_each_register(groups * bytes, [&](std::size_t offset, std::uint64_t valid) POLYMAC_INLINE_LAMBDA {
        const __m512i a = _mm512_maskz_loadu_epi8(valid, row + offset),
                      b = _mm512_maskz_loadu_epi8(valid, before + offset);
        const auto bits = detail::groups_that_differ<bytes>(a, b);
        if (bits != 0) {
          const __m512i d = _mm512_sub_epi8(a, b),
                        saturated = _mm512_subs_epi8(_mm512_xor_si512(a, top_bits), _mm512_xor_si512(b, top_bits));
          too_large |= _mm512_cmpneq_epi8_mask(d, saturated);
          sums = _mm512_add_epi32(sums, _mm512_madd_epi16(_mm512_maddubs_epi16(ones, d), words));
          _mm512_storeu_si512(differences + offset, d);
          end = detail::append<lanes>(end, bits, at.entries, at.next());
        }
        at.advance();
      });
      result.count = static_cast<std::uint32_t>(end - to);
    };
    if (group_depth == 4)
      all(std::integral_constant<std::size_t, 4>{});
    else
      all(std::integral_constant<std::size_t, 8>{});
    result.fit = too_large == 0;
    result.sum = _mm512_reduce_add_epi32(sums);
    return result;
  }
#endif
  result.count = detail::list_groups(groups, group_depth, to, [&](std::size_t k) {
    bool differs = false;
    for (std::size_t d = k; d < k + group_depth; ++d) {
      const int difference = row[d] - before[d];
      differs |= difference != 0;
      result.fit = result.fit && difference >= -128 && difference <= 127;
      differences[d] = static_cast<std::int8_t>(difference);
      result.sum += difference;
    }
    return differs;
  });
  return result;
}

}  // namespace isa
POLYMAC_END
