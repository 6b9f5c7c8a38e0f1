// SPDX-License-Identifier: MIT
// The arithmetics that layers are tested with: those of the library, one as a user would write it, and some that are
// awkward on purpose; and the product of types that test bodies run over.
#pragma once

#include <polymac/core/concepts.hpp>
#include <polymac/isa/all.hpp>
#include <polymac/mac/bf16.hpp>
#include <polymac/mac/float32.hpp>
#include <polymac/mac/int16x8.hpp>
#include <polymac/mac/int8.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>

namespace polymac_test {

/// A user's own arithmetic: weight w stands for sign(w) 2^(|w| - 1), and 0 for none. |w| <= 8.
struct power_of_two {
  using activation = std::int8_t;
  using weight = std::int8_t;
  using accumulator = std::int32_t;
  static constexpr auto name = "power_of_two";
  static constexpr bool linear = true, exact = true;
  static constexpr int max_depth = 1 << 16;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return w > 0 ? c + (a << (w - 1)) : w < 0 ? c - (a << (-w - 1)) : c;
  }
};

/// The plain product with a max_depth of 10: chunks begin and end inside segments, groups and terms.
struct shallow {
  using activation = std::int8_t;
  using weight = std::int8_t;
  using accumulator = std::int32_t;
  static constexpr auto name = "shallow";
  static constexpr bool linear = true, exact = true, weight_linear = true;
  static constexpr int max_depth = 10;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept { return c + a * w; }
};

/// Sums of 16 bits, which a single product can nearly fill: every product is a chunk of its own.
struct short_sums {
  using activation = std::int8_t;
  using weight = std::int8_t;
  using accumulator = std::int16_t;
  static constexpr auto name = "short_sums";
  static constexpr bool linear = true, exact = true, weight_linear = true;
  static constexpr int max_depth = 1;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return static_cast<accumulator>(c + a * w);
  }
};

/// An approximate product, not linear: the low bits are cut off. Knows no zero points.
struct truncated {
  using activation = std::int8_t;
  using weight = std::int8_t;
  using accumulator = std::int32_t;
  static constexpr auto name = "truncated";
  static constexpr bool linear = false, exact = true;
  static constexpr int max_depth = 200'000;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept { return c + a * w / 8; }
};

/// Unsigned on both sides, sums of 64 bits and no max_depth.
struct unsigned_bytes {
  using activation = std::uint8_t;
  using weight = std::uint8_t;
  using accumulator = std::int64_t;
  static constexpr auto name = "unsigned_bytes";
  static constexpr bool linear = true, exact = true, weight_linear = true;
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept { return c + a * w; }
};

/// Codes that are no numbers: sign and exponent of a small power of two, as a struct. Knows no zero points.
struct code {
  std::uint8_t bits = 0;
  friend constexpr bool operator==(code, code) = default;
  constexpr int value() const noexcept { return bits == 0 ? 0 : (bits & 128u ? -1 : 1) * (1 << (bits & 3u)); }
};
template <class Sum>
struct coded {
  using activation = code;
  using weight = code;
  using accumulator = Sum;
  static constexpr auto name = "coded";
  static constexpr bool linear = true, exact = true;
  static constexpr int max_depth = 1 << 18;  // 24 bits of a float
  static constexpr accumulator multiply_add(accumulator c, activation a, weight w) noexcept {
    return c + static_cast<accumulator>(a.value() * w.value());
  }
};

/// One cell of the product of types that a test body runs over.
template <class M, class I>
struct pairing {
  using mac = M;
  using isa = I;
};

/// The instruction sets that a program tests. Where it is built once for each (POLYMAC_TEST_ISA_ONLY), the strongest
/// one is its own, and the baseline's program has the baseline's two; else all that the flags allow.
#if defined(POLYMAC_TEST_ISA_ONLY)
using tested_isas = std::conditional_t<(std::tuple_size_v<polymac::isa::compiled> > 2),
                                       std::tuple<polymac::isa::native>, polymac::isa::compiled>;
#else
using tested_isas = polymac::isa::compiled;
#endif

namespace detail {
template <class M, class Isas>
struct row;
/// bf16 only where a set has an atom of its own: the programs of other sets would run the same code once more.
template <class M, class I>
inline constexpr bool is_tested =
    !std::is_same_v<M, polymac::mac::bf16> || std::is_same_v<typename polymac::isa::best_atom<M, I>::isa, I>;
template <class M, class... I>
struct row<M, std::tuple<I...>> {
  using type =
      decltype(std::tuple_cat(std::conditional_t<is_tested<M, I>, std::tuple<pairing<M, I>>, std::tuple<>>{}...));
};
template <class Macs>
struct cells;
template <class... M>
struct cells<std::tuple<M...>> {
  using type = decltype(std::tuple_cat(typename row<M, tested_isas>::type{}...));
};
}  // namespace detail

/// The library's arithmetics on each of them. The others have the generic atom alone, which a stronger instruction set
/// finds along its chain of bases.
using library_arithmetics = std::tuple<polymac::mac::int8, polymac::mac::uint8, polymac::mac::int16x8,
                                       polymac::mac::float32, polymac::mac::bf16>;
using other_cells =
    std::tuple<pairing<power_of_two, polymac::isa::native>, pairing<shallow, polymac::isa::scalar>,
               pairing<short_sums, polymac::isa::native>, pairing<truncated, polymac::isa::scalar>,
               pairing<unsigned_bytes, polymac::isa::scalar>, pairing<coded<float>, polymac::isa::native>,
               pairing<coded<std::int32_t>, polymac::isa::scalar>>;
/// Programs for one instruction set beyond the baseline leave them to the baseline's: they would compile the same code
/// once more, for longer than all they have of their own.
#if defined(POLYMAC_TEST_ISA_ONLY)
using tested_others = std::conditional_t<(std::tuple_size_v<polymac::isa::compiled> > 2), std::tuple<>, other_cells>;
#else
using tested_others = other_cells;
#endif
using all_cells = decltype(std::tuple_cat(detail::cells<library_arithmetics>::type{}, tested_others{}));

/// May the weights of M be shifted by zero points and split?
template <class M>
inline constexpr bool is_product = polymac::mac_traits<M>::weight_linear&& std::is_integral_v<typename M::weight>;

}  // namespace polymac_test
